/* SPDX-License-Identifier: Apache-2.0 */
/* The CAs that the configuration names, from their certificates' files: the same for every role and
 * for leafctl.
 *
 * Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "policy/ca.h"

/* The untrusted one too when it is configured by file. The caller ends it with ca_set_unref().
 * LEAFD_CONFIG with a sentence; *ret is untouched. */
LEAFD_CHECKED enum leafd_err ca_files_read(const struct conf *conf, struct ca_set **ret,
                                           struct why *why);
