/* SPDX-License-Identifier: Apache-2.0 */
/* What of the tokens is no single value: the variables for a module, and `more_tokens`, whose maps
 * take over from `token` what they leave out.
 *
 * Errors as in conf/reader. Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "conf/reader.h"

/* The map of variables at `setting` into `token`. */
LEAFD_CHECKED enum leafd_err token_env_read(const struct reader *reader,
                                            const struct setting *setting, const char *key,
                                            struct conf_token *token);
/* Fills conf->token[1] and those behind it, and token_count. Once the settings are collected. */
LEAFD_CHECKED enum leafd_err more_tokens_read(struct reader *reader);
