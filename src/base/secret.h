/* SPDX-License-Identifier: Apache-2.0 */
/* A PIN or a private key: in memory that is locked (where the limit allows), kept out of core dumps
 * and of children, and cleansed when cleared. Never formatted, never logged.
 *
 * Threads: one owner at a time. */
#pragma once

#include "base/bytes.h"

struct secret {
    uint8_t *data; /* NULL when empty; one NUL stands behind the content, for C strings */
    size_t len;
    size_t room; /* what was mapped or allocated */
};

#define SECRET_EMPTY ((struct secret){NULL, 0, 0})

/* Zeroed room for `len` bytes in the place of what was there before. LEAFD_NOMEM: *secret is empty.
 */
LEAFD_CHECKED enum leafd_err secret_init(struct secret *secret, size_t len);
/* Takes a copy of `from` in the place of what was there before; the caller still has to cleanse its
 * own. LEAFD_NOMEM: *secret is empty. */
LEAFD_CHECKED enum leafd_err secret_set(struct secret *secret, struct bytes from);
/* Reads at most `max` bytes to the end of file; the descriptor stays open. What has a beginning is
 * read from there, without its position, which other processes may share and move meanwhile.
 * LEAFD_IO, LEAFD_TOO_LARGE. */
LEAFD_CHECKED enum leafd_err secret_read_fd(struct secret *secret, int fd, size_t max);
/* Cleanses and gives back. An empty secret is fine. */
void secret_clear(struct secret *secret);
