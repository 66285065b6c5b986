/* SPDX-License-Identifier: Apache-2.0 */
/* A process that the supervisor started: what front and signer have in common, from exec to the
 * moment where each begins its own work.
 *
 * Threads: the role's first thread alone; no other runs before role_main hands over. */
#pragma once

#include "conf/conf.h"
#include "policy/ca.h"
#include "run/role_msg.h"

#include <sysexits.h>

enum role { ROLE_FRONT, ROLE_SIGNER, ROLE_COUNT };

const char *role_name(enum role role); /* "front", "signer" */

/* Exit codes, of roles and of leafd as a whole (leafd(8)). */
enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CONFIG = EX_CONFIG };

/* The code for an error: EXIT_CONFIG for what the operator has to mend. */
int exit_code_of(enum leafd_err err);

/* What a role was given, sandboxed already. Descriptors are the role's to close, or -1; whoever
 * takes one puts -1 in its place. */
struct role_start {
    int channel;
    bool first; /* see struct role_boot */
    unsigned token, process;
    struct conf *conf;
    struct ca_set *cas; /* the configured CAs */
    int listen[CONF_LISTEN_MAX];
    int control;
    int admin_unix;
    int admin_tcp;
    int pin;
    int pin_refusals;
};

/* The next message, once it is there. Log levels are obeyed here and never returned; the
 * supervisor's end counts as ROLE_MSG_STOP. */
void role_wait(const struct role_start *start, struct role_msg *ret, int *ret_fd);
/* As role_wait, for what has arrived already: false when there is nothing. */
bool role_poll(const struct role_start *start, struct role_msg *ret, int *ret_fd);
/* Tells the supervisor, from any thread; one that is gone is noticed by role_wait. */
void role_say(const struct role_start *start, enum role_msg_kind kind, uint32_t value);

/* One line with the error's word and its sentence. */
void role_log_failure(const char *event, enum leafd_err err, const struct why *why);

/* Lives as `name` ("front", "signer") on `channel` until told to stop; the process's exit code. */
int role_main(const char *name, int channel);
