/* SPDX-License-Identifier: Apache-2.0 */
/* Where the PIN comes from (leafd.yaml(5), token.pin_*): opened by the supervisor, read by the
 * signer alone. One trailing newline is stripped. A PIN that somebody types is in pin_prompt.
 *
 * Threads: pin_open before any is started, since it writes to our environment. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"

enum { PIN_MAX = 255 };

/* A descriptor on the PIN source, close-on-exec: the file opened anew, or a sealed memfd with what
 * can be read only once (a pipe, or the variable, which is overwritten in our environment). -1 when
 * no source is configured (a URI's own pin-source or pin-value, or a token without a PIN).
 * LEAFD_CONFIG with a sentence when the source cannot be opened. */
LEAFD_CHECKED enum leafd_err pin_open(const struct conf_token *token, int *ret_fd, struct why *why);
/* The same for one whose source was a file that could be opened anew, or none: never waits for
 * anybody, so a pipe in its place is LEAFD_CONFIG. */
LEAFD_CHECKED enum leafd_err pin_open_again(const struct conf_token *token, int *ret_fd,
                                            struct why *why);
/* May these bytes be a PIN? LEAFD_CONFIG: empty, too long, or with a NUL. */
LEAFD_CHECKED enum leafd_err pin_check(struct bytes pin, struct why *why);
/* The PIN in memory that cannot be written any more, close-on-exec, for whoever inherits the
 * descriptor; `row` says in messages where it comes from. LEAFD_IO with a sentence. */
LEAFD_CHECKED enum leafd_err pin_seal(struct bytes pin, const char *row, int *ret_fd,
                                      struct why *why);
/* Reads it. LEAFD_CONFIG: empty, too long, or with a NUL. */
LEAFD_CHECKED enum leafd_err pin_read(int fd, struct secret *ret, struct why *why);
