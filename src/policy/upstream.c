/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/upstream.h"

#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "der/x501_name.h"
#include "policy/upstream_algorithms.h"

#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUBJECT_RDNS_MAX = 32,
    SUBJECT_ATTRIBUTES_MAX = 64,
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

static size_t put_utf8(uint8_t out[4], uint32_t c)
{
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = 0x80 | (c & 0x3f);
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = 0x80 | (c >> 6 & 0x3f);
        out[2] = 0x80 | (c & 0x3f);
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = 0x80 | (c >> 12 & 0x3f);
    out[2] = 0x80 | (c >> 6 & 0x3f);
    out[3] = 0x80 | (c & 0x3f);
    return 4;
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
        len = put_utf8(encoded, c);
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
    struct bytes attribute[SUBJECT_ATTRIBUTES_MAX]; /* whole, in `room` */
    size_t rdn_start[SUBJECT_RDNS_MAX + 1];         /* the first attribute of each */
    size_t rdn_count;
    size_t attribute_count;
    uint8_t room[UPSTREAM_SUBJECT_MAX];
    size_t used;
    bool over;      /* a bound is crossed: the subject will be empty */
    unsigned flags; /* UPSTREAM_ODD_FORMS */
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

    if (subject->rdn_count == SUBJECT_RDNS_MAX || place == SUBJECT_ATTRIBUTES_MAX ||
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
        subject->flags |= UPSTREAM_ODD_FORMS;
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

static void read_subject(struct subject *subject, struct bytes whole)
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

/* ---- names ---- */

static int compare_names(const void *a, const void *b)
{
    const struct name *x = *(const struct name *const *)a;
    const struct name *y = *(const struct name *const *)b;
    int order = x->kind != y->kind ? (int)x->kind - (int)y->kind
                                   : bytes_compare(name_bytes(x), name_bytes(y));

    return order ? order : (x > y) - (x < y); /* twins stay in their order */
}

/* Sorted, so that a leaf with thousands of names costs no square of them. */
static enum leafd_err drop_twins(struct name *names, size_t *count)
{
    const struct name **sorted;
    uint8_t *twin; /* by place in `names` */
    size_t kept = 0;

    if (*count < 2)
        return LEAFD_OK;
    sorted = malloc(*count * sizeof(struct name *));
    twin = calloc(*count, 1);
    if (!sorted || !twin) {
        free(sorted);
        free(twin);
        return LEAFD_NOMEM;
    }
    for (size_t i = 0; i < *count; i++)
        sorted[i] = &names[i];
    qsort(sorted, *count, sizeof(struct name *), compare_names);
    for (size_t i = 1; i < *count; i++)
        if (name_equal(sorted[i - 1], sorted[i]))
            twin[sorted[i] - names] = 1;
    for (size_t i = 0; i < *count; i++)
        if (!twin[i] && kept++ != i)
            names[kept - 1] = names[i];
    *count = kept;
    free(sorted);
    free(twin);
    return LEAFD_OK;
}

static bool is_wanted_name(uint8_t tag)
{
    return tag == DER_CONTEXT(2) || tag == DER_CONTEXT(7);
}

/* How many names of ours there may be at most; -1 when the list cannot be read. */
static long count_names(struct bytes value)
{
    struct der der = der_of(value);
    struct der list = der_enter(&der, DER_SEQUENCE);
    uint8_t tag;
    struct bytes content;
    long count = 0;

    while (der_peek(&list)) {
        if (!der_read_any(&list, &tag, &content, NULL) || !cert_general_name_is_good(tag, content))
            return -1;
        count += is_wanted_name(tag);
    }
    return der_done(&list) && der_done(&der) ? count : -1;
}

/* Adds the good names of a SubjectAltName that count_names has read. */
static enum leafd_err read_san(struct upstream *upstream, struct bytes value, struct why *why)
{
    struct der der = der_of(value);
    struct der list = der_enter(&der, DER_SEQUENCE);
    long count = count_names(value);
    struct name *names;
    uint8_t tag;
    struct bytes content;

    if (count < 0)
        return fail(why, LEAFD_UNSUPPORTED, "the names of the upstream certificate are unreadable");
    if (upstream->name_count + (size_t)count > UPSTREAM_NAMES_MAX)
        return fail(why, LEAFD_UNSUPPORTED, "the upstream certificate has more than %d names",
                    UPSTREAM_NAMES_MAX);
    if (count == 0)
        return LEAFD_OK;
    names = realloc(upstream->names, (upstream->name_count + (size_t)count) * sizeof(*names));
    if (!names)
        return LEAFD_NOMEM;
    upstream->names = names;
    while (der_read_any(&list, &tag, &content, NULL)) {
        struct name *next = &names[upstream->name_count];

        upstream->has_dns_names |= tag == DER_CONTEXT(2);
        if ((tag == DER_CONTEXT(2) && name_of_dns(content, next)) ||
            (tag == DER_CONTEXT(7) && name_of_ip(content, next)))
            upstream->name_count++;
    }
    return LEAFD_OK;
}

/* After all names are read: each once, in no more memory than they need. */
static enum leafd_err settle_names(struct upstream *upstream)
{
    struct name *smaller;

    if (drop_twins(upstream->names, &upstream->name_count) != LEAFD_OK)
        return LEAFD_NOMEM;
    if (upstream->name_count == 0) {
        upstream->flags |= UPSTREAM_NO_NAMES;
        free(upstream->names);
        upstream->names = NULL;
        return LEAFD_OK;
    }
    smaller = realloc(upstream->names, upstream->name_count * sizeof(*smaller));
    if (smaller)
        upstream->names = smaller;
    return LEAFD_OK;
}

static enum leafd_err take_cn(struct upstream *upstream, const struct subject *subject)
{
    if (subject->cn_count != 1 || !subject->cn_is_name)
        return LEAFD_OK;
    upstream->names = malloc(sizeof(*upstream->names));
    if (!upstream->names)
        return LEAFD_NOMEM;
    upstream->names[0] = subject->cn;
    upstream->name_count = 1;
    upstream->flags |= UPSTREAM_CN_ONLY;
    return LEAFD_OK;
}

/* ---- extensions: each look gives flags. One that cannot be read is as bad as an unknown critical
 * one: whoever evaluates it will not take the certificate. ---- */

static unsigned look_at_basic_constraints(struct bytes value)
{
    struct der der = der_of(value);
    struct der constraints = der_enter(&der, DER_SEQUENCE);
    unsigned flags = 0;

    if (der_next_is(&constraints, DER_BOOLEAN)) {
        struct bytes is_ca = der_read(&constraints, DER_BOOLEAN);

        if (is_ca.len != 1)
            return UPSTREAM_UNKNOWN_CRITICAL;
        flags = is_ca.data[0] ? UPSTREAM_CA_TRUE : 0;
        if (is_ca.data[0] != 0xff)
            flags |= UPSTREAM_ODD_FORMS;
    }
    if (der_next_is(&constraints, DER_INTEGER)) {
        struct bytes path_len = der_read(&constraints, DER_INTEGER);

        if (path_len.len == 0 || path_len.data[0] & 0x80)
            return flags | UPSTREAM_UNKNOWN_CRITICAL;
        if (!der_integer_is_minimal(path_len) || !(flags & UPSTREAM_CA_TRUE))
            flags |= UPSTREAM_ODD_FORMS; /* it is for a CA alone (RFC 5280 section 4.2.1.9) */
    }
    return der_done(&constraints) && der_done(&der) ? flags : flags | UPSTREAM_UNKNOWN_CRITICAL;
}

static unsigned look_at_key_usage(struct bytes value)
{
    enum { FOR_TLS = 0x80 | 0x20 | 0x08 }; /* digitalSignature, keyEncipherment, keyAgreement */
    struct der der = der_of(value);
    struct bytes bits = der_read(&der, DER_BIT_STRING);
    unsigned padding, usage = 0;

    if (!der_done(&der) || bits.len == 0 || bits.data[0] > 7 || (bits.len == 1 && bits.data[0]))
        return UPSTREAM_UNKNOWN_CRITICAL;
    padding = (1u << bits.data[0]) - 1; /* what stands there says nothing */
    if (bits.len > 1)
        usage = bits.len == 2 ? bits.data[1] & ~padding : bits.data[1];
    return (usage & FOR_TLS ? 0 : UPSTREAM_KU_FOREIGN) |
           (bits.len > 1 && bits.data[bits.len - 1] & padding ? UPSTREAM_ODD_FORMS : 0u);
}

static unsigned look_at_ext_key_usage(struct bytes value)
{
    struct der der = der_of(value);
    struct der list = der_enter(&der, DER_SEQUENCE);
    bool for_tls = false;

    while (der_peek(&list)) {
        struct bytes oid = der_read(&list, DER_OID);

        if (!der_oid_is_good(oid))
            return UPSTREAM_UNKNOWN_CRITICAL;
        for_tls |= bytes_equal(oid, oid_server_auth) || bytes_equal(oid, oid_any_usage);
    }
    if (!der_done(&list) || !der_done(&der))
        return UPSTREAM_UNKNOWN_CRITICAL;
    return for_tls ? 0 : UPSTREAM_EKU_FOREIGN;
}

/* Extensions that may be critical in a leaf though nothing is read from them here: all of them are
 * lists. The others of RFC 5280 never are (key identifiers, access to information ...), or belong
 * into a CA's certificate (policies but for their names): one client or another that meets them
 * critical does not take the leaf. Name constraints belong there too, yet every client passes them
 * over in a leaf. */
static bool is_known(const struct cert_extension *extension)
{
    static const struct bytes *const known[] = {
        &oid_name_constraints,
        &oid_crl_points,
        &oid_certificate_policies,
        &oid_tls_feature,
    };
    struct der der = der_of(extension->value);

    (void)der_read(&der, DER_SEQUENCE);
    if (!der_done(&der))
        return false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (bytes_equal(extension->oid, *known[i]))
            return true;
    return false;
}

static enum leafd_err look_at_extension(struct upstream *upstream,
                                        const struct cert_extension *extension, bool *has_san,
                                        struct why *why)
{
    if (bytes_equal(extension->oid, oid_subject_alt_name)) {
        *has_san = true;
        return read_san(upstream, extension->value, why);
    }
    if (bytes_equal(extension->oid, oid_key_usage)) {
        upstream->flags |= look_at_key_usage(extension->value);
    } else if (bytes_equal(extension->oid, oid_ext_key_usage)) {
        upstream->flags |= look_at_ext_key_usage(extension->value);
    } else if (bytes_equal(extension->oid, oid_basic_constraints)) {
        upstream->flags |= look_at_basic_constraints(extension->value);
    } else if (bytes_equal(extension->oid, oid_ct_poison)) {
        upstream->flags |= UPSTREAM_CT_POISON;
    } else if (extension->critical && !is_known(extension)) {
        upstream->flags |= UPSTREAM_UNKNOWN_CRITICAL;
    }
    return LEAFD_OK;
}

/* Which of two counts, nobody says (RFC 5280 section 4.2), and some clients take neither. */
static bool has_twins(const struct cert_fields *fields)
{
    for (size_t i = 1; i < fields->extension_count; i++)
        for (size_t k = 0; k < i; k++)
            if (bytes_equal(fields->extension[i].oid, fields->extension[k].oid))
                return true;
    return false;
}

/* ---- all of it ---- */

static bool is_odd_serial(struct bytes serial)
{
    if (serial.data[0] & 0x80)
        return true;
    for (size_t i = 0; i < serial.len; i++)
        if (serial.data[i])
            return false;
    return true;
}

/* What the plain fields say. */
static unsigned look_at_fields(const struct cert_fields *fields)
{
    unsigned flags = 0;

    if (fields->version < 3)
        flags |= UPSTREAM_V1;
    if (fields->legacy || fields->version > 3)
        flags |= UPSTREAM_ODD_FORMS;
    if (is_odd_serial(fields->serial))
        flags |= UPSTREAM_ODD_SERIAL;
    if (bytes_equal(fields->issuer, fields->subject) ||
        x501_name_equal(fields->issuer, fields->subject)) /* as clients compare them */
        flags |= UPSTREAM_SELF_SIGNED;
    if (fields->not_before > fields->not_after)
        flags |= UPSTREAM_INVERTED_DATES;
    return flags | upstream_signature_flags(fields->algorithm, fields->outer_algorithm);
}

static enum leafd_err look(struct upstream *upstream, const struct cert_fields *fields,
                           struct why *why)
{
    struct subject subject;
    struct spki key;
    enum leafd_err err = LEAFD_OK;
    bool has_san = false;

    subject.rdn_count = subject.attribute_count = subject.used = subject.cn_count = 0;
    subject.over = subject.cn_is_name = false;
    subject.flags = 0;

    upstream->not_before = fields->not_before;
    upstream->not_after = fields->not_after;
    upstream->flags = look_at_fields(fields) | upstream_key_flags(fields->spki, &key);
    upstream->key_type = key.type;
    upstream->key_bits = key.bits;
    for (size_t i = 0; i < fields->extension_count && !err; i++)
        err = look_at_extension(upstream, &fields->extension[i], &has_san, why);
    if (err)
        return err;

    read_subject(&subject, fields->subject);
    upstream->flags |= subject.flags;
    if (has_twins(fields))
        upstream->flags |= UPSTREAM_DUPLICATED;
    if (!has_san)
        err = take_cn(upstream, &subject);
    if (!err)
        err = settle_names(upstream);
    return err ? err : subject_write(&subject, &upstream->subject);
}

enum leafd_err upstream_read(struct bytes der, struct upstream **ret, struct why *why)
{
    struct upstream *upstream = NULL;
    struct cert_fields fields;
    enum leafd_err err;

    if (cert_read(der, DER_FORM_LEGACY, &fields, why) != LEAFD_OK)
        return LEAFD_UNSUPPORTED;
    upstream = calloc(1, sizeof(*upstream));
    if (!upstream)
        return LEAFD_NOMEM;
    atomic_init(&upstream->refs, 1);
    SHA256(der.data, fields.size, upstream->sha256);
    err = look(upstream, &fields, why);
    if (err) {
        upstream_unref(upstream);
        return err;
    }
    *ret = upstream;
    return LEAFD_OK;
}

struct upstream *upstream_ref(struct upstream *upstream)
{
    atomic_fetch_add_explicit(&upstream->refs, 1, memory_order_relaxed);
    return upstream;
}

void upstream_unref(struct upstream *upstream)
{
    if (!upstream || atomic_fetch_sub_explicit(&upstream->refs, 1, memory_order_acq_rel) != 1)
        return;
    free(upstream->names);
    free((void *)upstream->subject.data);
    free(upstream);
}

bool upstream_names_host(const struct upstream *upstream, const struct name *host)
{
    for (size_t i = 0; i < upstream->name_count; i++)
        if (name_matches(&upstream->names[i], host))
            return true;
    return false;
}
