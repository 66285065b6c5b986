/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one JSON document (RFC 8259) of bounded size and depth, for what a running leafd answers.
 *
 * Threads: one owner. */
#pragma once

#include "base/bytes.h"

enum { CTL_JSON_VALUES_MAX = 4096, CTL_JSON_DEPTH_MAX = 8 };

enum ctl_json_kind {
    CTL_JSON_OBJECT,
    CTL_JSON_ARRAY,
    CTL_JSON_TEXT,
    CTL_JSON_NUMBER,
    CTL_JSON_WORD
};

/* A value, in the order of the document. */
struct ctl_json_value {
    enum ctl_json_kind kind;
    struct bytes key;  /* empty in arrays; both as they stand in the document */
    struct bytes text; /* between the quotes; the number's digits; true, false or null */
    size_t next;       /* the index of its next brother, or of what comes after its parent */
};

struct ctl_json {
    struct ctl_json_value *value; /* [0] is the document itself */
    size_t count;
};

/* Borrows `text` for the life of *ret. LEAFD_MALFORMED, LEAFD_TOO_LARGE; *ret is untouched then.
 * The caller ends it with ctl_json_clear(). */
LEAFD_CHECKED enum leafd_err ctl_json_read(struct bytes text, struct ctl_json *ret);
void ctl_json_clear(struct ctl_json *json);

/* The member of object number `object`, or NULL. */
const struct ctl_json_value *ctl_json_get(const struct ctl_json *json, size_t object,
                                          const char *key);
