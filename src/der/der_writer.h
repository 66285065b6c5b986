/* SPDX-License-Identifier: Apache-2.0 */
/* Writes DER from the back to the front of a buffer, so that every length is known when it is
 * written. The last element goes in first. Too little room sticks (`failed`); look once at the end.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

struct der_writer {
    uint8_t *start;
    uint8_t *at; /* first octet written so far */
    uint8_t *end;
    bool failed;
};

struct der_writer der_writer_of(uint8_t *buffer, size_t size);
void der_put(struct der_writer *writer, struct bytes raw);
void der_put_octet(struct der_writer *writer, uint8_t octet);
/* A mark of where the content that follows (written before it) ends. */
const uint8_t *der_mark(const struct der_writer *writer);
/* Tag and length before everything written since `mark`. */
void der_wrap(struct der_writer *writer, uint8_t tag, const uint8_t *mark);
/* Tag, length and content in one. */
void der_put_element(struct der_writer *writer, uint8_t tag, struct bytes content);
/* What was written, at the back of the buffer; NULL data after a fault. */
struct bytes der_written(const struct der_writer *writer);
