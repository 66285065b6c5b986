/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/upstream.h"

#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/oid.h"
#include "der/x501_name.h"
#include "policy/upstream_algorithms.h"
#include "policy/upstream_subject.h"

#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

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

static enum leafd_err take_cn(struct upstream *upstream, const struct upstream_subject *subject)
{
    if (!subject->cn_is_name)
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
    struct upstream_subject subject;
    struct spki key;
    enum leafd_err err = LEAFD_OK;
    bool has_san = false;

    upstream->not_before = fields->not_before;
    upstream->not_after = fields->not_after;
    upstream->flags = look_at_fields(fields) | upstream_key_flags(fields->spki, &key);
    upstream->key_type = key.type;
    upstream->key_bits = key.bits;
    if (has_twins(fields))
        upstream->flags |= UPSTREAM_DUPLICATED;
    for (size_t i = 0; i < fields->extension_count && !err; i++)
        err = look_at_extension(upstream, &fields->extension[i], &has_san, why);
    if (!err)
        err = upstream_subject_read(fields->subject, &subject);
    if (err)
        return err;

    upstream->subject = subject.name;
    if (subject.has_odd_strings)
        upstream->flags |= UPSTREAM_ODD_FORMS;
    if (!has_san)
        err = take_cn(upstream, &subject);
    return err ? err : settle_names(upstream);
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
