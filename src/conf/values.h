/* SPDX-License-Identifier: Apache-2.0 */
/* The forms that a single value of the configuration can have, and how they are written back for
 * people.
 *
 * Every reader takes a NUL-terminated text that somebody else wrote, returns LEAFD_CONFIG with a
 * sentence that says what would have been right (fit to follow "key: "), and leaves *ret untouched
 * then.
 *
 * Threads: no shared state. */
#pragma once

#include "conf/conf.h"

/* yes, no, true, false. */
LEAFD_CHECKED enum leafd_err value_bool(const char *text, bool *ret, struct why *why);
/* A whole number in decimal digits. */
LEAFD_CHECKED enum leafd_err value_count(const char *text, int64_t min, int64_t max, int64_t *ret,
                                         struct why *why);
/* A number of 0 to `max`, with at most three decimals. */
LEAFD_CHECKED enum leafd_err value_rate(const char *text, int64_t max, double *ret,
                                        struct why *why);
/* Octets: a whole number, alone or followed by KiB, MiB or GiB. */
LEAFD_CHECKED enum leafd_err value_size(const char *text, int64_t min, int64_t max, int64_t *ret,
                                        struct why *why);
/* A whole number followed by ms, s, m, h or d, in milliseconds. */
LEAFD_CHECKED enum leafd_err value_duration(const char *text, int64_t min_ms, int64_t max_ms,
                                            int64_t *ret_ms, struct why *why);
/* ADDRESS:PORT or [ADDRESS]:PORT, no names. */
LEAFD_CHECKED enum leafd_err value_address(const char *text, struct sockaddr_storage *ret,
                                           socklen_t *ret_len, struct why *why);
/* ADDRESS/PREFIX, or ADDRESS for itself alone. */
LEAFD_CHECKED enum leafd_err value_net(const char *text, struct conf_net *ret, struct why *why);
/* What policy.deny takes, as far as it can be told without IDNA: a domain, perhaps with a leading
 * dot, or a network. */
LEAFD_CHECKED enum leafd_err value_denied(const char *text, struct why *why);
/* Base64 (RFC 4648 section 4) to the letter; line breaks are skipped. free(ret->data). */
LEAFD_CHECKED enum leafd_err value_base64(struct bytes text, struct bytes *ret, struct why *why);

/* A path, or NULL, that fits into the address of a Unix socket. */
LEAFD_CHECKED enum leafd_err value_socket_path(const char *path, struct why *why);
/* A name of an environment variable, as the shell takes it? */
bool value_is_variable(const char *name);

bool address_is_loopback(const struct sockaddr_storage *address);

/* "4MiB", "1500"; "90d", "2s", "250ms": the largest unit that leaves a whole number. Returns
 * `out`. */
const char *size_text(int64_t octets, char *out, size_t size);
const char *duration_text(int64_t ms, char *out, size_t size);
