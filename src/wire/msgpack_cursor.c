/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/msgpack_cursor.h"

void msgpack_cursor_init(struct msgpack_cursor *cursor, struct bytes input)
{
    static const uint8_t nothing;
    const uint8_t *data = input.data ? input.data : &nothing;

    *cursor = (struct msgpack_cursor){.at = data, .end = data + input.len};
}

static bool turn_bad(struct msgpack_cursor *cursor)
{
    cursor->bad = true;
    return false;
}

static size_t left(const struct msgpack_cursor *cursor)
{
    return (size_t)(cursor->end - cursor->at);
}

/* A big-endian number of `octets` octets. */
static bool take_number(struct msgpack_cursor *cursor, unsigned octets, uint64_t *ret)
{
    uint64_t number = 0;

    if (left(cursor) < octets)
        return turn_bad(cursor);
    while (octets-- > 0)
        number = number << 8 | *cursor->at++;
    *ret = number;
    return true;
}

static bool take_bytes(struct msgpack_cursor *cursor, uint64_t len, struct bytes *ret)
{
    if (len > left(cursor))
        return turn_bad(cursor);
    *ret = (struct bytes){cursor->at, (size_t)len};
    cursor->at += len;
    return true;
}

/* A header that holds a length of `octets` octets; `more` octets stand before the content (ext
 * types). */
static bool take_sized(struct msgpack_cursor *cursor, enum msgpack_kind kind, unsigned octets,
                       unsigned more, struct msgpack_value *value)
{
    uint64_t len;

    value->kind = kind;
    return take_number(cursor, octets, &len) && take_bytes(cursor, len + more, &value->bytes);
}

static bool take_signed(struct msgpack_cursor *cursor, unsigned octets, struct msgpack_value *value)
{
    if (!take_number(cursor, octets, &value->number))
        return false;
    value->kind = value->number >> (8 * octets - 1) ? MSGPACK_NEGATIVE : MSGPACK_UINT;
    return true;
}

/* A count is not compared with what is left: whoever believes it comes to the end soon enough, and
 * what was read on the way (a host) is of use. */
static bool take_counted(struct msgpack_cursor *cursor, enum msgpack_kind kind, unsigned octets,
                         struct msgpack_value *value)
{
    value->kind = kind;
    return take_number(cursor, octets, &value->number);
}

static bool take_skipped(struct msgpack_cursor *cursor, enum msgpack_kind kind, unsigned octets,
                         struct msgpack_value *value)
{
    value->kind = kind;
    return take_bytes(cursor, octets, &value->bytes);
}

/* What the marker 0xc0 to 0xdf announces. */
static bool take_marked(struct msgpack_cursor *cursor, uint8_t marker, struct msgpack_value *value)
{
    switch (marker) {
    case 0xc0:
        value->kind = MSGPACK_NIL;
        return true;
    case 0xc2:
    case 0xc3:
        value->kind = MSGPACK_BOOL;
        value->number = marker & 1;
        return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
        return take_sized(cursor, MSGPACK_BIN, 1u << (marker - 0xc4), 0, value);
    case 0xc7:
    case 0xc8:
    case 0xc9:
        return take_sized(cursor, MSGPACK_EXT, 1u << (marker - 0xc7), 1, value);
    case 0xca:
        return take_skipped(cursor, MSGPACK_FLOAT, 4, value);
    case 0xcb:
        return take_skipped(cursor, MSGPACK_FLOAT, 8, value);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
        value->kind = MSGPACK_UINT;
        return take_number(cursor, 1u << (marker - 0xcc), &value->number);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3:
        return take_signed(cursor, 1u << (marker - 0xd0), value);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8:
        return take_skipped(cursor, MSGPACK_EXT, 1 + (1u << (marker - 0xd4)), value);
    case 0xd9:
    case 0xda:
    case 0xdb:
        return take_sized(cursor, MSGPACK_STR, 1u << (marker - 0xd9), 0, value);
    case 0xdc:
    case 0xdd:
        return take_counted(cursor, MSGPACK_ARRAY, 2u << (marker - 0xdc), value);
    case 0xde:
    case 0xdf:
        return take_counted(cursor, MSGPACK_MAP, 2u << (marker - 0xde), value);
    default: /* 0xc1 is never used */
        return turn_bad(cursor);
    }
}

bool msgpack_read(struct msgpack_cursor *cursor, struct msgpack_value *ret)
{
    struct msgpack_value value = {.kind = MSGPACK_NIL};
    bool good = true;
    uint8_t marker;

    if (cursor->bad || left(cursor) == 0)
        return turn_bad(cursor);
    marker = *cursor->at++;
    if (marker < 0x80) {
        value.kind = MSGPACK_UINT;
        value.number = marker;
    } else if (marker < 0xa0) {
        value.kind = marker < 0x90 ? MSGPACK_MAP : MSGPACK_ARRAY;
        value.number = marker & 0x0f;
    } else if (marker < 0xc0) {
        value.kind = MSGPACK_STR;
        good = take_bytes(cursor, marker & 0x1f, &value.bytes);
    } else if (marker < 0xe0) {
        good = take_marked(cursor, marker, &value);
    } else {
        value.kind = MSGPACK_NEGATIVE;
    }
    if (good)
        *ret = value;
    return good;
}

static uint64_t elements(const struct msgpack_value *value)
{
    if (value->kind == MSGPACK_ARRAY)
        return value->number;
    return value->kind == MSGPACK_MAP ? 2 * value->number : 0;
}

bool msgpack_skip_inside(struct msgpack_cursor *cursor, const struct msgpack_value *value)
{
    uint64_t owed[MSGPACK_DEPTH_MAX]; /* elements still to come, per level */
    unsigned depth = 0;

    owed[0] = elements(value);
    for (;;) {
        struct msgpack_value inner;

        while (owed[depth] == 0) {
            if (depth == 0)
                return true;
            depth--;
        }
        owed[depth]--;
        if (!msgpack_read(cursor, &inner))
            return false;
        if (elements(&inner) > 0) {
            if (++depth == MSGPACK_DEPTH_MAX)
                return turn_bad(cursor);
            owed[depth] = elements(&inner);
        }
    }
}
