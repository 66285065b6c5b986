/* SPDX-License-Identifier: Apache-2.0 */
/* Single values into the fields of a struct conf, or of one of the structs in it, as the type of
 * their row has it. What has several values is read elsewhere: conf/listeners, conf/tokens.
 *
 * `base` is the struct that the row's offset is relative to. LEAFD_CONFIG: `why` gets the bare
 * reason, fit to follow "key: ". LEAFD_NOMEM: nothing is said.
 *
 * Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "conf/reader.h"

/* A copy takes the place of what *field had. */
LEAFD_CHECKED enum leafd_err field_set_text(char **field, const char *text);
/* The same for a path, made absolute by the reader's folder. */
LEAFD_CHECKED enum leafd_err field_set_path(const struct reader *reader, char **field,
                                            const char *text, struct why *why);
LEAFD_CHECKED enum leafd_err field_set_udp(struct conf_listen *listen, const char *text,
                                           struct why *why);
/* The value beside one of the row's words. */
LEAFD_CHECKED enum leafd_err field_word(const struct schema_row *row, const char *text, int *ret,
                                        struct why *why);

/* Any single value. */
LEAFD_CHECKED enum leafd_err field_set(const struct reader *reader, void *base,
                                       const struct schema_row *row, const char *text,
                                       struct why *why);
/* The row's default, where it has one. */
LEAFD_CHECKED enum leafd_err field_set_fallback(const struct reader *reader, void *base,
                                                const struct schema_row *row);
/* What was said; LEAFD_CONFIG with place and key in the reader's `why`. */
LEAFD_CHECKED enum leafd_err field_read(const struct reader *reader, void *base,
                                        const struct schema_row *row, const struct setting *setting,
                                        const char *key);
