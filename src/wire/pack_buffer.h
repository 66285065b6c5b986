/* SPDX-License-Identifier: Apache-2.0 */
/* A msgpack-c packer that writes into memory the caller has and never beyond it.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

#include <msgpack/pack.h>
#include <string.h>

struct pack_buffer {
    uint8_t *out;
    size_t size;
    size_t used;
    bool full; /* something did not fit; `used` means nothing then */
};

static inline int pack_buffer_write(void *data, const char *from, size_t len)
{
    struct pack_buffer *buffer = data;

    if (buffer->full || len > buffer->size - buffer->used) {
        buffer->full = true;
        return -1;
    }
    memcpy(buffer->out + buffer->used, from, len);
    buffer->used += len;
    return 0;
}

static inline void pack_buffer_init(struct pack_buffer *buffer, msgpack_packer *packer,
                                    uint8_t *out, size_t size)
{
    *buffer = (struct pack_buffer){.out = out, .size = size};
    msgpack_packer_init(packer, buffer, pack_buffer_write);
}

/* Octets written, 0 when they did not all fit. */
static inline size_t pack_buffer_len(const struct pack_buffer *buffer)
{
    return buffer->full ? 0 : buffer->used;
}

static inline void pack_str(msgpack_packer *packer, struct bytes text)
{
    msgpack_pack_str(packer, text.len);
    if (text.len)
        msgpack_pack_str_body(packer, text.data, text.len);
}

static inline void pack_bin(msgpack_packer *packer, struct bytes raw)
{
    msgpack_pack_bin(packer, raw.len);
    if (raw.len)
        msgpack_pack_bin_body(packer, raw.data, raw.len);
}

/* A key of the protocol: by its id, or by its name. */
static inline void pack_key(msgpack_packer *packer, bool by_name, uint8_t id, const char *name)
{
    if (by_name)
        pack_str(packer, bytes_of(name));
    else
        msgpack_pack_uint8(packer, id);
}
