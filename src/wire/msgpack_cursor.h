/* SPDX-License-Identifier: Apache-2.0 */
/* Reads MessagePack from hostile bytes in place: no tree, no allocation, no recursion. A library
 * that builds a tree first would reserve gigabytes for a map header of five octets.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

enum { MSGPACK_DEPTH_MAX = 32 };

enum msgpack_kind {
    MSGPACK_NIL,
    MSGPACK_BOOL,
    MSGPACK_UINT,     /* any encoding of an integer that is not negative */
    MSGPACK_NEGATIVE, /* its value is not kept: nothing of ours is negative */
    MSGPACK_FLOAT,
    MSGPACK_STR,
    MSGPACK_BIN,
    MSGPACK_ARRAY, /* `number` elements follow */
    MSGPACK_MAP,   /* `number` pairs follow */
    MSGPACK_EXT
};

struct msgpack_value {
    enum msgpack_kind kind;
    uint64_t number;    /* UINT, BOOL, ARRAY, MAP */
    struct bytes bytes; /* STR, BIN, EXT: borrowed */
};

/* Once `bad` is set (octets missing, an impossible header, too deep) every read fails. */
struct msgpack_cursor {
    const uint8_t *at;
    const uint8_t *end;
    bool bad;
};

void msgpack_cursor_init(struct msgpack_cursor *cursor, struct bytes input);
/* The next value; of an array or a map its header alone. False when there is none: *ret is
 * untouched. */
LEAFD_CHECKED bool msgpack_read(struct msgpack_cursor *cursor, struct msgpack_value *ret);
/* Steps over what belongs to `value`, which was read last: nothing, or the elements of an array or
 * a map down to MSGPACK_DEPTH_MAX. */
LEAFD_CHECKED bool msgpack_skip_inside(struct msgpack_cursor *cursor,
                                       const struct msgpack_value *value);
