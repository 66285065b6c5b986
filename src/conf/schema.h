/* SPDX-License-Identifier: Apache-2.0 */
/* The options of leafd.yaml, one row each: what the parser, `-o key=value`, the sample and
 * leafd.yaml(5) all follow. A new option is a new row, and a field in struct conf.
 *
 * Threads: constant. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the text of a value is read, and what the field at `offset` is. */
enum schema_type {
    SCHEMA_BOOL,          /* bool */
    SCHEMA_COUNT,         /* unsigned */
    SCHEMA_RATE,          /* double */
    SCHEMA_SIZE,          /* int64_t, octets */
    SCHEMA_DURATION_MS,   /* int64_t */
    SCHEMA_DURATION_SEC,  /* int64_t; limits are in milliseconds all the same */
    SCHEMA_WORD,          /* an enum or an unsigned: the value beside the word */
    SCHEMA_TEXT,          /* char *; never empty */
    SCHEMA_TEXT_OR_NONE,  /* char *; NULL for "" */
    SCHEMA_PATH,          /* char *; absolute once read; never empty */
    SCHEMA_PATH_OR_NONE,  /* char *; NULL for "" */
    SCHEMA_UDP_ADDRESS,   /* of a struct conf_listen */
    SCHEMA_UNIX_ADDRESS,  /* of a struct conf_listen */
    SCHEMA_NETS,          /* of a struct conf_listen: allow_from */
    SCHEMA_UIDS,          /* of a struct conf_listen: allow_uid */
    SCHEMA_ADMIN_ADDRESS, /* of a struct conf: admin_address and its length */
    SCHEMA_CA_KEY,        /* char *: a URI, or a path when token.access is file */
    SCHEMA_LEAF_KEY,      /* of a struct conf: leaf_key and leaf_key_type */
    SCHEMA_UNTRUSTED_CA,  /* of a struct conf: untrusted and untrusted_ca */
    SCHEMA_LISTENERS,     /* of a struct conf: listen and its count */
    SCHEMA_TOKENS,        /* of a struct conf: token[1] and those behind it */
    SCHEMA_ENV,           /* of a struct conf_token: env and its count */
    SCHEMA_NAMES          /* of a struct conf: deny and its count */
};

struct schema_word {
    const char *word; /* NULL ends the list */
    int value;
};

struct schema_row {
    const char *name; /* dotted: "token.timeout"; in a listener: "listen[].udp" */
    enum schema_type type;
    size_t offset;
    int64_t min;
    int64_t max;
    const struct schema_word *words;
    const char *fallback; /* the default as it would be written; NULL: none */
    const char *sample;   /* what the sample shows when there is no default; NULL: nothing */
    bool required;
    bool live; /* a reload puts it in force; else a restart does */
    const char *help;
};

extern const struct schema_row schema_rows[]; /* options of the file, in the order of the sample */
extern const size_t schema_row_count;
extern const struct schema_row schema_listen_rows[]; /* options of one listener */
extern const size_t schema_listen_row_count;

enum { SCHEMA_ROWS_MAX = 80 };

/* The row with this dotted name, or NULL. */
const struct schema_row *schema_find(const char *name);
/* Is it the name of a section ("token"), or the beginning of one? */
bool schema_is_section(const char *name);
/* Is a value of it more than a single scalar? */
bool schema_is_structured(const struct schema_row *row);
/* The known name that `name` was most likely meant to be, or NULL when none is near. */
const char *schema_nearest(const char *name);
/* "duration, 100ms to 1m", "pem or der", "yes or no": what a value of the row may be. */
const char *schema_form(const struct schema_row *row, char *out, size_t size);
