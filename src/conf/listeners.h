/* SPDX-License-Identifier: Apache-2.0 */
/* `listen`: the list of listeners, with the defaults and rules of each.
 *
 * Errors as in conf/reader. Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "conf/reader.h"

/* Fills the reader's conf->listen from the list at `setting`. */
LEAFD_CHECKED enum leafd_err listeners_read(const struct reader *reader,
                                            const struct setting *setting);
/* The same when nothing is said. */
LEAFD_CHECKED enum leafd_err listeners_default(struct conf *conf);
