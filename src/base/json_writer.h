/* SPDX-License-Identifier: Apache-2.0 */
/* Writes one JSON document (RFC 8259) into the heap. No memory sticks; look once, at json_take().
 *
 * Threads: one owner. */
#pragma once

#include "base/bytes.h"

struct json {
    char *text;
    size_t len;
    size_t room;
    bool failed;
    bool comma; /* something stands before the next member */
};

#define JSON_EMPTY ((struct json){NULL, 0, 0, false, false})

/* `key` is NULL inside arrays and for the document itself; else it is a plain word of our own. */
void json_object_begin(struct json *json, const char *key);
void json_object_end(struct json *json);
void json_array_begin(struct json *json, const char *key);
void json_array_end(struct json *json);
/* Any octets: what is not printable ASCII comes out as \u00HH, one for each octet. */
void json_bytes(struct json *json, const char *key, struct bytes value);
void json_string(struct json *json, const char *key, const char *value);
void json_int(struct json *json, const char *key, int64_t value);
void json_uint(struct json *json, const char *key, uint64_t value);
void json_bool(struct json *json, const char *key, bool value);
/* The document with a newline and a NUL behind it, free()d by the caller; NULL when memory ran out.
 */
char *json_take(struct json *json);
