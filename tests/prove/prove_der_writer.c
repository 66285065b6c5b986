/* SPDX-License-Identifier: Apache-2.0 */
/* The writer stays in its buffer, and what was read and is written again is what it was. */
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "tests/prove/prove.h"

/* What every writer is like. */
static bool is_sound(const struct der_writer *writer, struct bytes room)
{
    return is_inside((struct bytes){writer->start, 0}, room) &&
           is_inside((struct bytes){writer->at, 0}, room) &&
           is_inside((struct bytes){writer->end, 0}, room) && writer->start <= writer->at &&
           writer->at <= writer->end;
}

static struct der_writer any_writer(struct bytes room)
{
    struct der_writer writer = der_writer_of((uint8_t *)(uintptr_t)room.data, room.len);
    size_t used = nondet_size();

    ASSUME(used <= room.len);
    writer.at -= used;
    writer.failed = nondet_bool();
    return writer;
}

static void prove_written(const struct der_writer *writer, const struct der_writer *before,
                          struct bytes room)
{
    struct bytes written = der_written(writer);

    PROVE(is_sound(writer, room));
    PROVE(writer->start == before->start && writer->end == before->end);
    PROVE(writer->at == before->at || writer->at < before->at);
    PROVE(!before->failed || writer->failed);
    PROVE(is_inside(written, room));
    PROVE(writer->failed == !written.data);
}

void prove_put(void)
{
    struct bytes room = any_input(), raw = any_input();
    struct der_writer writer, before;
    size_t at = nondet_size();

    ASSUME(room.data);
    before = writer = any_writer(room);
    der_put(&writer, raw);
    prove_written(&writer, &before, room);
    if (!writer.failed) {
        PROVE((size_t)(before.at - writer.at) == raw.len);
        PROVE(at >= raw.len || writer.at[at] == raw.data[at]);
    }
}

void prove_wrap(void)
{
    struct bytes room = any_input();
    struct der_writer writer, before;
    const uint8_t *mark;
    size_t len = nondet_size();
    uint8_t tag = nondet_octet();

    ASSUME(room.data);
    before = writer = any_writer(room);
    ASSUME(len <= (size_t)(writer.end - writer.at));
    mark = writer.at + len;
    der_wrap(&writer, tag, mark);
    prove_written(&writer, &before, room);
}

/* One element, read and written. */
void prove_round(void)
{
    struct bytes input = any_input(), whole, content, written;
    struct der der = der_of(input);
    struct der_writer writer;
    uint8_t *room, tag;
    size_t at = nondet_size();

    ASSUME(der_read_any(&der, &tag, &content, &whole));
    room = malloc(whole.len);
    ASSUME(room);
    writer = der_writer_of(room, whole.len);
    der_put_element(&writer, tag, content);
    written = der_written(&writer);
    PROVE(!writer.failed && written.len == whole.len && written.data == room);
    PROVE(at >= whole.len || written.data[at] == whole.data[at]);
}
