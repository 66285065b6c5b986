/* SPDX-License-Identifier: Apache-2.0 */
#include "der/der_writer.h"

#include <string.h>

struct der_writer der_writer_of(uint8_t *buffer, size_t size)
{
    return (struct der_writer){buffer, buffer + size, buffer + size, false};
}

void der_put(struct der_writer *writer, struct bytes raw)
{
    if (writer->failed)
        return;
    if ((size_t)(writer->at - writer->start) < raw.len) {
        writer->failed = true;
        return;
    }
    writer->at -= raw.len;
    if (raw.len)
        memcpy(writer->at, raw.data, raw.len);
}

void der_put_octet(struct der_writer *writer, uint8_t octet)
{
    der_put(writer, (struct bytes){&octet, 1});
}

const uint8_t *der_mark(const struct der_writer *writer)
{
    return writer->at;
}

void der_wrap(struct der_writer *writer, uint8_t tag, const uint8_t *mark)
{
    size_t len = (size_t)(mark - writer->at);

    if (len < 0x80) {
        der_put_octet(writer, (uint8_t)len);
    } else {
        uint8_t octets = 0;

        for (; len; len >>= 8, octets++)
            der_put_octet(writer, (uint8_t)(len & 0xff));
        der_put_octet(writer, 0x80 | octets);
    }
    der_put_octet(writer, tag);
}

void der_put_element(struct der_writer *writer, uint8_t tag, struct bytes content)
{
    const uint8_t *mark = der_mark(writer);

    der_put(writer, content);
    der_wrap(writer, tag, mark);
}

struct bytes der_written(const struct der_writer *writer)
{
    if (writer->failed)
        return (struct bytes){NULL, 0};
    return (struct bytes){writer->at, (size_t)(writer->end - writer->at)};
}
