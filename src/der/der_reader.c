/* SPDX-License-Identifier: Apache-2.0 */
#include "der/der_reader.h"

struct der der_of(struct bytes input)
{
    return (struct der){input.data, input.data ? input.data + input.len : NULL, false};
}

static size_t left(const struct der *der)
{
    return der->at ? (size_t)(der->end - der->at) : 0;
}

void der_fail(struct der *der)
{
    der->failed = true;
    der->at = der->end;
}

uint8_t der_peek(const struct der *der)
{
    return der->failed || left(der) == 0 ? 0 : *der->at;
}

bool der_next_is(const struct der *der, uint8_t tag)
{
    return tag != 0 && der_peek(der) == tag;
}

bool der_done(const struct der *der)
{
    return !der->failed && left(der) == 0;
}

/* The length octets at `at`: definite, minimal, and what they count is there. Gives the number of
 * octets they take, 0 for a bad form. */
static size_t read_length(const uint8_t *at, size_t room, size_t *ret_len)
{
    size_t octets;
    size_t len = 0;

    if (room == 0)
        return 0;
    if (at[0] < 0x80) {
        *ret_len = at[0];
        return room - 1 >= *ret_len ? 1 : 0;
    }
    octets = at[0] & 0x7f;
    if (octets == 0 || octets > 4 || room - 1 < octets || at[1] == 0)
        return 0;
    for (size_t i = 1; i <= octets; i++)
        len = len << 8 | at[i];
    if (len < 0x80 || len > room - 1 - octets)
        return 0;
    *ret_len = len;
    return 1 + octets;
}

/* Tag number 31 announces the long form, octet 0 is the end of contents of BER. Of the universal
 * types SEQUENCE and SET are constructed; a string in pieces is BER. (EXTERNAL, EMBEDDED PDV and
 * CHARACTER STRING, which are constructed too, stand in no certificate.) */
static bool is_der_tag(uint8_t tag)
{
    if (tag == 0 || (tag & 0x1f) == 0x1f)
        return false;
    if (tag & 0xc0)
        return true;
    return tag == DER_SEQUENCE || tag == DER_SET || (tag < 0x20 && tag != 0x10 && tag != 0x11);
}

bool der_read_any(struct der *der, uint8_t *ret_tag, struct bytes *ret_content,
                  struct bytes *ret_whole)
{
    size_t room = left(der);
    const uint8_t *at = der->at;
    size_t head;
    size_t len;

    if (der->failed)
        return false;
    if (room < 2 || !is_der_tag(at[0]))
        goto bad;
    head = read_length(at + 1, room - 1, &len);
    if (head == 0)
        goto bad;
    head++;
    *ret_tag = at[0];
    *ret_content = (struct bytes){at + head, len};
    if (ret_whole)
        *ret_whole = (struct bytes){at, head + len};
    der->at = at + head + len;
    return true;
bad:
    der_fail(der);
    return false;
}

/* Reads the next element if its tag octet is `tag`; else the cursor fails. */
static bool read_tagged(struct der *der, uint8_t tag, struct bytes *ret_content,
                        struct bytes *ret_whole)
{
    uint8_t found;

    if (!der_next_is(der, tag)) {
        der_fail(der);
        return false;
    }
    return der_read_any(der, &found, ret_content, ret_whole);
}

struct bytes der_read(struct der *der, uint8_t tag)
{
    struct bytes content;

    return read_tagged(der, tag, &content, NULL) ? content : (struct bytes){NULL, 0};
}

struct bytes der_read_whole(struct der *der, uint8_t tag)
{
    struct bytes content;
    struct bytes whole;

    return read_tagged(der, tag, &content, &whole) ? whole : (struct bytes){NULL, 0};
}

struct der der_enter(struct der *der, uint8_t tag)
{
    struct der inner = der_of(der_read(der, tag));

    inner.failed = der->failed;
    return inner;
}

bool der_oid_is_good(struct bytes oid)
{
    bool starts = true;

    for (size_t i = 0; i < oid.len; i++) {
        if (starts && oid.data[i] == 0x80)
            return false;
        starts = !(oid.data[i] & 0x80);
    }
    return oid.len > 0 && starts;
}

bool der_integer_is_minimal(struct bytes integer)
{
    if (integer.len < 2)
        return integer.len == 1;
    if (integer.data[0] == 0x00)
        return integer.data[1] & 0x80;
    return integer.data[0] != 0xff || !(integer.data[1] & 0x80);
}
