/* SPDX-License-Identifier: Apache-2.0 */
/* Token work in a process of its own: as the signer's user when we are root, so that the token's
 * files keep one owner, and with nobody else in it when a vendor's module crashes.
 *
 * Threads: one; ctl_child_run() forks, so no thread and no OpenSSL call may have been before. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "policy/ca.h"

/* What the child is to have besides the configuration. */
enum ctl_child_needs { CTL_CHILD_NOTHING = 0, CTL_CHILD_CAS = 1 << 0, CTL_CHILD_PIN = 1 << 1 };

struct ctl_child {
    const struct conf *conf;
    const struct ca_set *cas; /* the configured ones; NULL when not asked for */
    struct secret pin;        /* empty when not asked for, or when no source is configured */
};

/* What the child does: `*ret_result` is malloc()ed and is what the parent gets. */
typedef enum leafd_err (*ctl_child_fn)(const struct ctl_child *child, const void *arg,
                                       struct bytes *ret_result, struct why *why);

/* Runs `fn` in the child, with the PIN and the variables of conf->token[0], and waits for it. The
 * PIN may have been asked for on the terminal before. Errors are its own, or LEAFD_CONFIG and
 * LEAFD_IO with a sentence; free(ret_result->data). */
LEAFD_CHECKED enum leafd_err ctl_child_run(const struct conf *conf, unsigned needs, ctl_child_fn fn,
                                           const void *arg, struct bytes *ret_result,
                                           struct why *why);
