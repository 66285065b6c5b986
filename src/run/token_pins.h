/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens' PINs as far as the supervisor has to do with them: where they are read from, and the
 * memory of those that were refused, which outlives the signers.
 *
 * Threads: the supervisor's only one. */
#pragma once

#include "conf/conf.h"

struct token_pins {
    const struct conf *conf;
    int kept[CONF_TOKEN_MAX];     /* a source that can be opened only once; -1: opened each time */
    int refusals[CONF_TOKEN_MAX]; /* pin_refusals_make() */
};

#define TOKEN_PINS_EMPTY ((struct token_pins){.conf = NULL})

/* Reads the variables and pipes, before anybody is started who would inherit them, and asks on the
 * terminal for the PINs that come from there. LEAFD_CONFIG or LEAFD_IO with a sentence;
 * LEAFD_ABSENT: a signal came instead of an answer, and is pending. token_pins_clear() is due in
 * each case. `conf` is borrowed. */
LEAFD_CHECKED enum leafd_err token_pins_init(struct token_pins *pins, const struct conf *conf,
                                             struct why *why);
void token_pins_clear(struct token_pins *pins);

/* The PIN source for one more signer of `token`, opened anew if it can be, so that a changed PIN is
 * seen; -1: none. The caller closes it if *ret_close. */
LEAFD_CHECKED enum leafd_err token_pins_open(const struct token_pins *pins, size_t token,
                                             int *ret_fd, bool *ret_close, struct why *why);
/* What it has refused may be tried once more. */
void token_pins_unblock(const struct token_pins *pins, size_t token);
