/* SPDX-License-Identifier: Apache-2.0 */
/* What a role gives up before it meets anything hostile: privileges, core dumps, new privileges,
 * resources it does not need. (System-call filters come later.)
 *
 * Threads: before threads are started. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct sandbox_user {
    bool change; /* false: we are not root, stay who we are */
    uid_t uid;
    gid_t gid;
};

/* A name or a number (then the same number is the group) to ids. As non-root: change is false and
 * the name is not looked at. LEAFD_CONFIG with the remedy when there is no such user, or when it or
 * its group is root. */
LEAFD_CHECKED enum leafd_err sandbox_user_of(const char *name, struct sandbox_user *ret,
                                             struct why *why);

struct sandbox_limits {
    unsigned long open_files;
    unsigned long locked_memory; /* octets */
};
/* In this order: limits, supplementary groups, gid, uid, every capability, no new privileges, no
 * dumps, umask 077, and die with the parent: last, because the kernel forgets that on a change of
 * user; checked against `parent`, which may have died before. LEAFD_IO with a sentence. */
LEAFD_CHECKED enum leafd_err sandbox_enter(const struct sandbox_user *user,
                                           const struct sandbox_limits *limits, pid_t parent,
                                           struct why *why);
/* No core dump and no debugger of our own user: a part of sandbox_enter, alone for the supervisor,
 * which keeps its privileges. */
LEAFD_CHECKED enum leafd_err sandbox_no_dumps(struct why *why);
