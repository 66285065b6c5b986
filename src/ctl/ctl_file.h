/* SPDX-License-Identifier: Apache-2.0 */
/* Files that leafctl writes: whole or not at all.
 *
 * Threads: one. */
#pragma once

#include "base/bytes.h"

/* A file beside its target's place, made before the work whose result it is to hold: a folder that
 * cannot be written must not be found out when the token has a key already. */
struct new_file {
    char *path; /* NULL: none */
    int fd;
    bool has_name; /* `path` is there; else nothing is, until it is kept */
};
#define NEW_FILE_EMPTY ((struct new_file){NULL, -1, false})

/* The caller ends it with new_file_clear(), which leaves nothing of it that was not kept. LEAFD_IO
 * also where the target is a folder, a device or a pipe: they stay what they are. */
LEAFD_CHECKED enum leafd_err new_file_open(const char *target, struct new_file *ret,
                                           struct why *why);
/* Gives it its content and its place, never over another file. */
LEAFD_CHECKED enum leafd_err new_file_keep(const struct new_file *file, struct bytes content,
                                           const char *target, struct why *why);
/* The same over whatever is there: who opens the target sees the old one or the new one, whole. */
LEAFD_CHECKED enum leafd_err new_file_replace(const struct new_file *file, struct bytes content,
                                              const char *target, struct why *why);
void new_file_clear(struct new_file *file);
