/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as leafctl sees it: the same one, found and read in the same way as by leafd.
 *
 * Threads: one. */
#pragma once

#include "conf/conf.h"
#include "ctl/ctl.h"

/* The caller ends it with conf_free(). LEAFD_CONFIG with a sentence. */
LEAFD_CHECKED enum leafd_err ctl_conf_load(const struct ctl *ctl, struct conf **ret,
                                           struct why *why);
/* The same, but LEAFD_ABSENT when none was named and the default file cannot be opened: for
 * commands that can do without. */
LEAFD_CHECKED enum leafd_err ctl_conf_load_if_any(const struct ctl *ctl, struct conf **ret,
                                                  struct why *why);

/* --token N, as leafctl status numbers them; 0 without it. CTL_OK, or CTL_USAGE after a sentence.
 */
int ctl_conf_token_number(const struct ctl *ctl, size_t *ret);
/* The configuration as if token number `token` were its only one: a copy that borrows all from
 * `conf`, never to be freed. LEAFD_CONFIG: there is no such token. */
LEAFD_CHECKED enum leafd_err ctl_conf_at_token(const struct conf *conf, size_t token,
                                               struct conf *ret, struct why *why);

enum { CTL_CONF_WORDS_SIZE = 4096 };
/* What a command that follows this one has to carry: " -c FILE", fit for a shell, or "" when none
 * was given. Returns `out`. */
const char *ctl_conf_words(const struct ctl *ctl, char out[static CTL_CONF_WORDS_SIZE]);
