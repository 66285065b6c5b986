/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/upstream_subject.h"

#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "der/utf8.h"

#include <string.h>

enum {
    RDNS_MAX = 32,
    ATTRIBUTES_MAX = 64,
    VALUE_MAX = 512, /* octets of an attribute's value, as written */
    OID_MAX = 64
};

/* ---- strings: every type that is read becomes UTF-8 ---- */

enum text_state { TEXT_GOOD, TEXT_BAD, TEXT_LONG };

/* A string's value as UTF-8. */
struct text {
    uint8_t data[VALUE_MAX];
    size_t len;
};

static bool is_odd_string(uint8_t tag)
{
    return tag == DER_T61_STRING || tag == DER_BMP_STRING || tag == DER_UNIVERSAL_STRING;
}

/* Octets of one character of the type; 0 where that varies (UTF-8), -1 for what is no string. */
static int string_width(uint8_t tag)
{
    enum { VISIBLE_STRING = 0x1a };

    switch (tag) {
    case DER_UTF8_STRING:
        return 0;
    case DER_NUMERIC_STRING:
    case DER_PRINTABLE_STRING:
    case DER_T61_STRING: /* its ASCII part; what else it means nobody agrees on */
    case DER_IA5_STRING:
    case VISIBLE_STRING:
        return 1;
    case DER_BMP_STRING:
        return 2;
    case DER_UNIVERSAL_STRING:
        return 4;
    default:
        return -1;
    }
}

static int utf8_width(uint8_t first)
{
    return first < 0x80   ? 1
           : first < 0xc2 ? -1
           : first < 0xe0 ? 2
           : first < 0xf0 ? 3
           : first < 0xf5 ? 4
                          : -1;
}

/* Takes one character off the string. False for a cut, over-long or out-of-range one. */
static bool next_character(int width, struct bytes *rest, uint32_t *ret)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    bool utf8 = width == 0;
    int octets = utf8 ? utf8_width(rest->data[0]) : width;
    uint32_t c = rest->data[0];

    if (octets < 0 || rest->len < (size_t)octets)
        return false;
    if (utf8 && octets > 1)
        c &= 0x7fU >> octets;
    for (int i = 1; i < octets; i++) {
        uint8_t octet = rest->data[i];

        if (utf8 && (octet & 0xc0) != 0x80)
            return false;
        c = utf8 ? c << 6 | (octet & 0x3f) : c << 8 | octet;
    }
    if ((utf8 && c < smallest[octets]) || (width == 1 && c > 0x7f))
        return false;
    rest->data += octets;
    rest->len -= (size_t)octets;
    *ret = c;
    return true;
}

/* Characters that may stand in a subject: no control characters, no surrogates. */
static bool is_text_character(uint32_t c)
{
    return c >= 0x20 && !(c >= 0x7f && c < 0xa0) && !(c >= 0xd800 && c < 0xe000) && c <= 0x10ffff;
}

static enum text_state read_text(uint8_t tag, struct bytes content, struct text *ret)
{
    int width = string_width(tag);

    ret->len = 0;
    if (width < 0 || content.len == 0)
        return TEXT_BAD;
    while (content.len) {
        uint8_t encoded[4];
        uint32_t c;
        size_t len;

        if (!next_character(width, &content, &c) || !is_text_character(c))
            return TEXT_BAD;
        len = utf8_put(c, encoded);
        if (ret->len + len > sizeof(ret->data))
            return TEXT_LONG;
        memcpy(ret->data + ret->len, encoded, len);
        ret->len += len;
    }
    return TEXT_GOOD;
}

static bool is_printable_string(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        uint8_t small = c | 0x20;

        if (!(small >= 'a' && small <= 'z') && !(c >= '0' && c <= '9') &&
            (c == 0 || !strchr(" '()+,-./:=?", c)))
            return false;
    }
    return true;
}

/* ---- the subject, rewritten ---- */

/* Attributes as they will be written, RDN by RDN. */
struct subject {
    struct bytes attribute[ATTRIBUTES_MAX]; /* whole, in `room` */
    size_t rdn_start[RDNS_MAX + 1];         /* the first attribute of each */
    size_t rdn_count;
    size_t attribute_count;
    uint8_t room[UPSTREAM_SUBJECT_MAX];
    size_t used;
    bool over; /* a bound is crossed: the subject will be empty */
    bool has_odd_strings;
    size_t cn_count;
    struct name cn; /* what the last common name says */
    bool cn_is_name;
};

/* A common name as a host name or an address; brackets and a last dot are for requests alone. */
static bool name_of_cn(struct bytes text, struct name *ret)
{
    if (name_of_dns(text, ret))
        return true;
    return text.data[0] != '[' && text.data[text.len - 1] != '.' &&
           name_of_host(text, false, ret, NULL) == LEAFD_OK && ret->kind == NAME_IP;
}

/* Puts one attribute into its place among those of its RDN (DER sorts a SET OF); twins merge. */
static void keep_attribute(struct subject *subject, struct bytes whole)
{
    size_t place = subject->attribute_count;
    size_t start = subject->rdn_start[subject->rdn_count];

    if (subject->rdn_count == RDNS_MAX || place == ATTRIBUTES_MAX ||
        whole.len > sizeof(subject->room) - subject->used) {
        subject->over = true;
        return;
    }
    while (place > start) {
        int order = bytes_compare(subject->attribute[place - 1], whole);

        if (order == 0)
            return;
        if (order < 0)
            break;
        place--;
    }
    memmove(&subject->attribute[place + 1], &subject->attribute[place],
            (subject->attribute_count - place) * sizeof(subject->attribute[0]));
    memcpy(subject->room + subject->used, whole.data, whole.len);
    subject->attribute[place] = (struct bytes){subject->room + subject->used, whole.len};
    subject->attribute_count++;
    subject->used += whole.len;
}

static void write_attribute(struct subject *subject, struct bytes oid, struct bytes value)
{
    uint8_t buffer[VALUE_MAX + OID_MAX + 16];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *mark = der_mark(&writer);
    uint8_t tag = DER_UTF8_STRING;

    if (bytes_equal(oid, oid_country) || bytes_equal(oid, oid_serial_number)) {
        if (!is_printable_string(value))
            return;
        tag = DER_PRINTABLE_STRING;
    }
    der_put_element(&writer, tag, value);
    der_put_element(&writer, DER_OID, oid);
    der_wrap(&writer, DER_SEQUENCE, mark);
    if (writer.failed)
        subject->over = true;
    else
        keep_attribute(subject, der_written(&writer));
}

static void read_attribute(struct subject *subject, struct der *rdn)
{
    struct der attribute = der_enter(rdn, DER_SEQUENCE);
    struct bytes oid = der_read(&attribute, DER_OID);
    uint8_t tag;
    struct bytes content;
    struct text text;
    enum text_state state;
    struct bytes value;

    if (!der_read_any(&attribute, &tag, &content, NULL))
        return; /* cert_read has seen to that */
    if (is_odd_string(tag))
        subject->has_odd_strings = true;
    state = read_text(tag, content, &text);
    value = (struct bytes){text.data, text.len};
    if (bytes_equal(oid, oid_common_name)) {
        subject->cn_count++;
        subject->cn_is_name = state == TEXT_GOOD && name_of_cn(value, &subject->cn);
    }
    if (bytes_equal(oid, oid_email_address) || oid.len > OID_MAX || state == TEXT_BAD)
        return;
    if (state == TEXT_LONG)
        subject->over = true;
    else
        write_attribute(subject, oid, value);
}

static void read_name(struct subject *subject, struct bytes whole)
{
    struct der der = der_of(whole);
    struct der name = der_enter(&der, DER_SEQUENCE);

    while (der_peek(&name)) {
        struct der rdn = der_enter(&name, DER_SET);

        subject->rdn_start[subject->rdn_count] = subject->attribute_count;
        while (der_peek(&rdn))
            read_attribute(subject, &rdn);
        if (subject->attribute_count > subject->rdn_start[subject->rdn_count])
            subject->rdn_count++;
    }
}

/* The Name made of what was kept; an empty one when a bound is crossed. */
static enum leafd_err subject_write(const struct subject *subject, struct bytes *ret)
{
    uint8_t buffer[UPSTREAM_SUBJECT_MAX];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *whole = der_mark(&writer);
    size_t end = subject->attribute_count;
    struct bytes copy;

    for (size_t i = subject->over ? 0 : subject->rdn_count; i-- > 0;) {
        const uint8_t *rdn = der_mark(&writer);

        while (end > subject->rdn_start[i])
            der_put(&writer, subject->attribute[--end]);
        der_wrap(&writer, DER_SET, rdn);
    }
    der_wrap(&writer, DER_SEQUENCE, whole);
    if (writer.failed) {
        writer = der_writer_of(buffer, sizeof(buffer));
        der_put_element(&writer, DER_SEQUENCE, (struct bytes){NULL, 0});
    }
    copy = bytes_copy(der_written(&writer));
    if (!copy.data)
        return LEAFD_NOMEM;
    *ret = copy;
    return LEAFD_OK;
}

enum leafd_err upstream_subject_read(struct bytes whole, struct upstream_subject *ret)
{
    struct subject subject; /* its arrays as they are: there are kilobytes of them */
    struct bytes name;
    enum leafd_err err;

    subject.rdn_count = subject.attribute_count = subject.used = subject.cn_count = 0;
    subject.over = subject.has_odd_strings = subject.cn_is_name = false;
    read_name(&subject, whole);
    err = subject_write(&subject, &name);
    if (err)
        return err;
    *ret = (struct upstream_subject){.name = name, .has_odd_strings = subject.has_odd_strings};
    ret->cn_is_name = subject.cn_count == 1 && subject.cn_is_name;
    if (ret->cn_is_name)
        ret->cn = subject.cn;
    return LEAFD_OK;
}
