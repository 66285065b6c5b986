/* SPDX-License-Identifier: Apache-2.0 */
/* One process that the supervisor has started, from before its birth until it was waited for.
 *
 * Threads: the supervisor's only one. */
#pragma once

#include "run/role.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CHILD_NEVER_MS INT64_MAX

struct child {
    enum role role;
    unsigned token, process; /* a signer's: the how manieth process of which token */
    pid_t pid;               /* 0: does not run */
    int channel;             /* -1: does not run, or has closed its end */
    bool first;              /* what is wrong with its configuration ends leafd */
    bool pin_blocked;        /* it has said so */
    bool told_to_stop;
    int64_t started_ms;
    int64_t kill_ms; /* when it has to be gone; CHILD_NEVER_MS: no such moment */
};

/* Writes what a role needs between BOOT and GO into its channel. */
typedef enum leafd_err (*child_give_fn)(void *ctx, const struct child *child, int channel,
                                        struct why *why);

void child_init(struct child *child, enum role role, unsigned token, unsigned process);

/* Starts ourselves anew as `program` in the child's role; all it needs waits in its channel before
 * it is born. `boot` lacks only what the child itself says: first, token and process. On an error
 * nothing runs. */
LEAFD_CHECKED enum leafd_err child_start(struct child *child, const char *program,
                                         const struct role_boot *boot, child_give_fn give,
                                         void *ctx, struct why *why);
/* As role_msg_send, with a sentence. */
LEAFD_CHECKED enum leafd_err child_say(int channel, enum role_msg_kind kind, uint32_t value, int fd,
                                       struct why *why);
void child_kill(const struct child *child); /* SIGKILL; one that does not run is fine */
/* Tells it to stop, once. One that does not listen is ending by itself, or is killed later. */
void child_stop(struct child *child);
/* It was waited for, with `status`: logs that and makes its place free. */
void child_ended(struct child *child, int status, bool expected);
