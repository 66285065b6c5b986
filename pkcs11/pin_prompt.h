/* SPDX-License-Identifier: Apache-2.0 */
/* A PIN that somebody types: asked for on the terminal, once for each token that needs it
 * (leafd.yaml(5), token.pin_prompt).
 *
 * Threads: before any is started, as base/terminal. */
#pragma once

#include "conf/conf.h"

/* Is the PIN of token number `token` one that is asked for? */
bool pin_prompt_wanted(const struct conf *conf, size_t token);

/* Asks, naming the token, with two more questions where the answer can be no PIN: a sealed memfd as
 * of pin_open(). LEAFD_CONFIG with a sentence: there is no terminal, or no answer. LEAFD_ABSENT
 * with a sentence: a signal came instead that the caller has blocked; it is pending. LEAFD_IO. */
LEAFD_CHECKED enum leafd_err pin_prompt(const struct conf *conf, size_t token, int *ret_fd,
                                        struct why *why);

/* pin_prompt() where it is wanted, else pin_open(). */
LEAFD_CHECKED enum leafd_err pin_obtain(const struct conf *conf, size_t token, int *ret_fd,
                                        struct why *why);
