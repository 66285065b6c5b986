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

enum { CTL_CONF_WORDS_SIZE = 4096 };
/* What a command that follows this one has to carry: " -c FILE", fit for a shell, or "" when none
 * was given. Returns `out`. */
const char *ctl_conf_words(const struct ctl *ctl, char out[static CTL_CONF_WORDS_SIZE]);
