/* SPDX-License-Identifier: Apache-2.0 */
/* One reading of a configuration: which value of the file and of the `-o` belongs to which row of
 * the schema, and what is said, with file, line and key, where one is no good.
 *
 * Nothing is read into the struct conf here: see conf/fields. Every enum leafd_err is LEAFD_OK, or
 * LEAFD_CONFIG with the sentence in the reader's `why`, or LEAFD_NOMEM.
 *
 * Threads: no shared state. */
#pragma once

#include "conf/schema.h"
#include "conf/yaml_text.h"

struct conf;

enum {
    READER_NAME_ROOM = 128, /* of a dotted name */
    READER_LIST_MAX = 4096  /* entries of one list */
};

/* Where the value of one row stands: a node of the file or of a `-o`, or a `-o`'s bare text. */
struct setting {
    yaml_document_t *document; /* NULL: `text` alone, or nothing at all */
    yaml_node_t *node;
    const char *text;
    const char *place; /* "-o" for what the command line says; NULL: the file */
};

struct settings {
    struct setting of[SCHEMA_ROWS_MAX];
};

struct reader {
    const char *file; /* its name for messages */
    const char *dir;  /* what relative paths are relative to, or NULL */
    struct conf *conf;
    struct settings settings; /* by the index in schema_rows */
    struct why *why;
};

/* "FILE:LINE: key: reason" into `why`; always LEAFD_CONFIG. `place` as in a setting, `line` 0 and
 * `key` NULL: left out. The reason's foreign parts are escaped already. */
__attribute__((format(printf, 5, 6))) enum leafd_err reader_fault(const struct reader *reader,
                                                                  const char *place, size_t line,
                                                                  const char *key,
                                                                  const char *format, ...);
enum leafd_err setting_fault(const struct reader *reader, const struct setting *setting,
                             const char *key, const char *reason);

/* On LEAFD_OK the caller ends it with yaml_document_delete(). */
LEAFD_CHECKED enum leafd_err reader_load(const struct reader *reader, struct bytes text,
                                         const char *place, yaml_document_t *ret);

/* Remembers in `ret` where the rows below one mapping have their values; sections of schema_rows
 * are walked into. `prefix` is the mapping's own name. */
LEAFD_CHECKED enum leafd_err reader_collect(const struct reader *reader, yaml_document_t *document,
                                            yaml_node_t *map, const char *place, const char *prefix,
                                            const struct schema_row *rows, size_t count,
                                            struct settings *ret);
/* The same for the whole file, into the reader's settings. */
LEAFD_CHECKED enum leafd_err reader_collect_file(struct reader *reader, yaml_document_t *document);
/* One `key=value` of the command line, over what the file says; `*ret_used` when `document` was
 * loaded. */
LEAFD_CHECKED enum leafd_err reader_collect_override(struct reader *reader, const char *override,
                                                     yaml_document_t *document, bool *ret_used);

/* The setting of the row with this name, which there is. */
const struct setting *reader_setting(const struct reader *reader, const char *name);

/* How many entries a list or a map has; LEAFD_CONFIG when it is not of this type or has more than
 * `max`. */
LEAFD_CHECKED enum leafd_err setting_entries(const struct reader *reader,
                                             const struct setting *setting, const char *key,
                                             yaml_node_type_t type, size_t max, size_t *ret_count);
/* Entry number `i` of a list as a setting of its own, for its line. */
struct setting setting_entry(const struct setting *setting, size_t i);
/* The text of a scalar; borrowed. */
LEAFD_CHECKED enum leafd_err setting_text(const struct reader *reader,
                                          const struct setting *setting, const char *key,
                                          const char **ret);
