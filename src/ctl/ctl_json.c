/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_json.h"

#include <stdlib.h>
#include <string.h>

struct reader {
    struct bytes text;
    size_t at;
    struct ctl_json_value *value;
    size_t count;
};

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->text.len && reader->text.data[reader->at] &&
           strchr(" \t\r\n", reader->text.data[reader->at]))
        reader->at++;
}

/* The next character that is no white space; 0 at the end. Stays before it. */
static uint8_t peek(struct reader *reader)
{
    skip_space(reader);
    return reader->at < reader->text.len ? reader->text.data[reader->at] : 0;
}

static bool take(struct reader *reader, uint8_t c)
{
    if (peek(reader) != c)
        return false;
    reader->at++;
    return true;
}

/* What stands between the quotes. Escapes are stepped over, not resolved. */
static bool read_text(struct reader *reader, struct bytes *ret)
{
    size_t from;

    if (!take(reader, '"'))
        return false;
    for (from = reader->at; reader->at < reader->text.len; reader->at++) {
        uint8_t c = reader->text.data[reader->at];

        if (c == '"') {
            *ret = (struct bytes){reader->text.data + from, reader->at - from};
            reader->at++;
            return true;
        }
        if (c < 0x20)
            return false;
        if (c == '\\')
            reader->at++;
    }
    return false;
}

static bool read_run(struct reader *reader, const char *of, struct bytes *ret)
{
    size_t from = reader->at;

    while (reader->at < reader->text.len && reader->text.data[reader->at] &&
           strchr(of, reader->text.data[reader->at]))
        reader->at++;
    *ret = (struct bytes){reader->text.data + from, reader->at - from};
    return reader->at > from;
}

static bool is_word(struct bytes text)
{
    return bytes_equal(text, bytes_of("true")) || bytes_equal(text, bytes_of("false")) ||
           bytes_equal(text, bytes_of("null"));
}

static bool read_value(struct reader *reader, struct bytes key, int depth);

/* The members of an object or the entries of an array, up to its closing bracket. */
static bool read_members(struct reader *reader, bool object, int depth)
{
    uint8_t close = object ? '}' : ']';

    if (take(reader, close))
        return true;
    do {
        struct bytes key = {NULL, 0};

        if (object && (!read_text(reader, &key) || !take(reader, ':')))
            return false;
        if (!read_value(reader, key, depth + 1))
            return false;
    } while (take(reader, ','));
    return take(reader, close);
}

static bool read_value(struct reader *reader, struct bytes key, int depth)
{
    struct ctl_json_value value = {.key = key};
    uint8_t first = peek(reader);
    size_t index = reader->count;
    bool good;

    if (depth > CTL_JSON_DEPTH_MAX || reader->count == CTL_JSON_VALUES_MAX)
        return false;
    reader->count++;
    if (first == '{' || first == '[') {
        value.kind = first == '{' ? CTL_JSON_OBJECT : CTL_JSON_ARRAY;
        reader->at++;
        good = read_members(reader, first == '{', depth);
    } else if (first == '"') {
        value.kind = CTL_JSON_TEXT;
        good = read_text(reader, &value.text);
    } else if (first == '-' || (first >= '0' && first <= '9')) {
        value.kind = CTL_JSON_NUMBER;
        good = read_run(reader, "0123456789+-.eE", &value.text);
    } else {
        value.kind = CTL_JSON_WORD;
        good = read_run(reader, "abcdefghijklmnopqrstuvwxyz", &value.text) && is_word(value.text);
    }
    value.next = reader->count;
    reader->value[index] = value;
    return good;
}

enum leafd_err ctl_json_read(struct bytes text, struct ctl_json *ret)
{
    struct reader reader = {.text = text};

    reader.value = calloc(CTL_JSON_VALUES_MAX, sizeof(*reader.value));
    if (!reader.value)
        return LEAFD_NOMEM;
    if (!read_value(&reader, (struct bytes){NULL, 0}, 0) || peek(&reader) != 0 ||
        reader.at != text.len) {
        free(reader.value);
        return LEAFD_MALFORMED;
    }
    *ret = (struct ctl_json){reader.value, reader.count};
    return LEAFD_OK;
}

void ctl_json_clear(struct ctl_json *json)
{
    free(json->value);
    *json = (struct ctl_json){NULL, 0};
}

const struct ctl_json_value *ctl_json_get(const struct ctl_json *json, size_t object,
                                          const char *key)
{
    const struct ctl_json_value *parent = &json->value[object];

    if (parent->kind != CTL_JSON_OBJECT)
        return NULL;
    for (size_t i = object + 1; i < parent->next; i = json->value[i].next) {
        if (bytes_equal(json->value[i].key, bytes_of(key)))
            return &json->value[i];
    }
    return NULL;
}
