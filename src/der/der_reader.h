/* SPDX-License-Identifier: Apache-2.0 */
/* A strict cursor over DER (X.690): definite, minimal lengths, low tag numbers, strings in one
 * piece, bounds. The first fault sticks: every later read gives nothing, and the caller looks once
 * at the end.
 *
 * Threads: no shared state. Everything read is borrowed from the input. */
#pragma once

#include "base/bytes.h"

enum der_tag {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_BIT_STRING = 0x03,
    DER_OCTET_STRING = 0x04,
    DER_NULL = 0x05,
    DER_OID = 0x06,
    DER_ENUMERATED = 0x0a,
    DER_UTF8_STRING = 0x0c,
    DER_NUMERIC_STRING = 0x12,
    DER_PRINTABLE_STRING = 0x13,
    DER_T61_STRING = 0x14,
    DER_IA5_STRING = 0x16,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_UNIVERSAL_STRING = 0x1c,
    DER_BMP_STRING = 0x1e,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
};
/* [n] of context class: primitive (IMPLICIT string) and constructed (EXPLICIT). */
#define DER_CONTEXT(n) (0x80 | (n))
#define DER_CONTEXT_CONSTRUCTED(n) (0xa0 | (n))

struct der {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

struct der der_of(struct bytes input);
/* The tag octet of the next element; 0 at the end or after a fault. Moves nothing. */
uint8_t der_peek(const struct der *der);
/* Any element: its tag octet, its content, and (whole, may be NULL) tag, length and content. */
bool der_read_any(struct der *der, uint8_t *ret_tag, struct bytes *ret_content,
                  struct bytes *ret_whole);
/* The next element's content if its tag octet is `tag`; otherwise the cursor fails. */
struct bytes der_read(struct der *der, uint8_t tag);
/* The same, whole: tag, length and content. */
struct bytes der_read_whole(struct der *der, uint8_t tag);
/* A cursor over the content of the next element, which must have this tag; it fails with `der`. */
struct der der_enter(struct der *der, uint8_t tag);
/* True if the next element has this tag; otherwise nothing moves and nothing fails. */
bool der_next_is(const struct der *der, uint8_t tag);
/* No fault, and nothing left over. */
bool der_done(const struct der *der);
/* Marks a fault of the caller's finding. */
void der_fail(struct der *der);

/* What content has to be, for types that many readers meet. */

/* Groups of seven bits, each number in as few octets as it needs (X.690 section 8.19). */
bool der_oid_is_good(struct bytes oid);
/* In as few octets as it needs, and at least one (section 8.3). */
bool der_integer_is_minimal(struct bytes integer);
