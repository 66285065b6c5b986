/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration with the text it was read from, which is what roles are started with.
 *
 * Threads: the supervisor's only one. */
#pragma once

#include "conf/conf.h"
#include "run/supervisor.h"

struct conf_source {
    struct bytes text;
    char *file; /* its name */
    char *dir;  /* what relative paths are relative to, or NULL */
    struct conf *conf;
};

/* Finds, reads and checks it. LEAFD_CONFIG or LEAFD_IO with a sentence; *ret is untouched then. */
LEAFD_CHECKED enum leafd_err conf_source_read(const struct supervisor_options *options,
                                              struct conf_source *ret, struct why *why);
void conf_source_clear(struct conf_source *source); /* one with nothing in it is fine */
