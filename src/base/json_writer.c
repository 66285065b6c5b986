/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json_writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct json *json, const char *text, size_t len)
{
    if (json->failed)
        return;
    if (json->len + len + 1 > json->room) {
        size_t room = 2 * json->room + len + 256;
        char *more = realloc(json->text, room);

        if (!more) {
            json->failed = true;
            return;
        }
        json->text = more;
        json->room = room;
    }
    memcpy(json->text + json->len, text, len);
    json->len += len;
    json->text[json->len] = '\0';
}

static void put_text(struct json *json, const char *text)
{
    put(json, text, strlen(text));
}

static void begin_member(struct json *json, const char *key)
{
    if (json->comma)
        put_text(json, ",");
    json->comma = true;
    if (key) {
        put_text(json, "\"");
        put_text(json, key);
        put_text(json, "\":");
    }
}

static void open_with(struct json *json, const char *key, const char *bracket)
{
    begin_member(json, key);
    put_text(json, bracket);
    json->comma = false;
}

static void close_with(struct json *json, const char *bracket)
{
    put_text(json, bracket);
    json->comma = true;
}

void json_object_begin(struct json *json, const char *key)
{
    open_with(json, key, "{");
}

void json_object_end(struct json *json)
{
    close_with(json, "}");
}

void json_array_begin(struct json *json, const char *key)
{
    open_with(json, key, "[");
}

void json_array_end(struct json *json)
{
    close_with(json, "]");
}

void json_bytes(struct json *json, const char *key, struct bytes value)
{
    begin_member(json, key);
    put_text(json, "\"");
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.data[i];
        char escape[8];

        if (c == '"' || c == '\\')
            snprintf(escape, sizeof(escape), "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            snprintf(escape, sizeof(escape), "\\u%04x", c);
        else
            snprintf(escape, sizeof(escape), "%c", c);
        put_text(json, escape);
    }
    put_text(json, "\"");
}

void json_string(struct json *json, const char *key, const char *value)
{
    json_bytes(json, key, bytes_of(value));
}

void json_int(struct json *json, const char *key, int64_t value)
{
    char text[24];

    begin_member(json, key);
    snprintf(text, sizeof(text), "%" PRId64, value);
    put_text(json, text);
}

void json_uint(struct json *json, const char *key, uint64_t value)
{
    char text[24];

    begin_member(json, key);
    snprintf(text, sizeof(text), "%" PRIu64, value);
    put_text(json, text);
}

void json_bool(struct json *json, const char *key, bool value)
{
    begin_member(json, key);
    put_text(json, value ? "true" : "false");
}

char *json_take(struct json *json)
{
    char *text;

    put_text(json, "\n");
    text = json->text;
    if (json->failed) {
        free(text);
        text = NULL;
    }
    *json = JSON_EMPTY;
    return text;
}
