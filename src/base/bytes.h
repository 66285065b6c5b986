/* SPDX-License-Identifier: Apache-2.0 */
/* Borrowed bytes: a pointer and a length, never owning, never NUL-terminated.
 *
 * Threads: no shared state. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    const uint8_t *data; /* may be NULL only where len is 0 */
    size_t len;
};

/* The bytes of a NUL-terminated string without its NUL; borrowed from it. */
struct bytes bytes_of(const char *text);
bool bytes_equal(struct bytes a, struct bytes b);
/* As bytes_equal, with A-Z and a-z taken for the same. */
bool bytes_equal_nocase(struct bytes a, struct bytes b);
/* A total order: by content, then by length. */
int bytes_compare(struct bytes a, struct bytes b);

/* Foreign bytes made fit for a log line or a message: printable ASCII as it is, `"` and `\` behind
 * a backslash, everything else as \xHH; cut (with "…" as "...") to fit `size` bytes with the NUL.
 * Returns `out`. */
const char *bytes_escape(struct bytes text, char *out, size_t size);

/* Lower-case hexadecimal of `raw` into `out`, which has room for 2 * len + 1 characters. */
void bytes_hex(struct bytes raw, char *out);

/* A heap copy (one spare byte behind it, NUL); the caller frees data with free(). NULL data on no
 * memory. */
struct bytes bytes_copy(struct bytes from);

/* Reads the whole file behind `path`, at most `max` bytes of it, into the heap; free(ret->data).
 * LEAFD_IO or LEAFD_TOO_LARGE with a sentence naming the path; *ret is untouched then. */
LEAFD_CHECKED enum leafd_err bytes_read_file(const char *path, size_t max, struct bytes *ret,
                                             struct why *why);
/* The same from an open descriptor, which stays open and is called `name` in messages. */
LEAFD_CHECKED enum leafd_err bytes_read_fd(int fd, const char *name, size_t max, struct bytes *ret,
                                           struct why *why);
/* Writes all of it, however many calls that takes. False with errno when one fails. */
LEAFD_CHECKED bool bytes_write_fd(int fd, struct bytes from);
