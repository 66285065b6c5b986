/* SPDX-License-Identifier: Apache-2.0 */
/* Our reader of certificates beside OpenSSL's. What must hold: whatever ours takes OpenSSL takes
 * too, and both see the same version, serial, algorithms, names, dates, key and extensions; each
 * name that an upstream leaf is read to have stands in the certificate as OpenSSL lists it, and no
 * plain name is missed. The differences that are meant stand in a table, each with its reason. */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/openssl_fields.h"

#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/oid.h"
#include "policy/upstream.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

/* ---- what OpenSSL does not take, and leafd does ---- */

static bool is_padded(struct bytes integer)
{
    return integer.len > 1 && !der_integer_is_minimal(integer);
}

static bool has_padded_integer(const struct cert_fields *fields)
{
    struct der der = der_of(fields->tbs), tbs = der_enter(&der, DER_SEQUENCE);
    struct der version = tbs;

    if (der_next_is(&tbs, DER_CONTEXT_CONSTRUCTED(0)))
        version = der_enter(&tbs, DER_CONTEXT_CONSTRUCTED(0));
    return is_padded(der_read(&version, DER_INTEGER)) || is_padded(fields->serial);
}

static bool is_name_to_openssl(struct bytes whole)
{
    const unsigned char *at = whole.data;
    X509_NAME *name = d2i_X509_NAME(NULL, &at, (long)whole.len);

    X509_NAME_free(name);
    return name != NULL;
}

static bool has_odd_name(const struct cert_fields *fields)
{
    return !is_name_to_openssl(fields->issuer) || !is_name_to_openssl(fields->subject);
}

static bool has_padded_path_len(const struct cert_fields *fields)
{
    for (size_t i = 0; i < fields->extension_count; i++) {
        struct der der = der_of(fields->extension[i].value);
        struct der constraints = der_enter(&der, DER_SEQUENCE);

        if (!bytes_equal(fields->extension[i].oid, oid_basic_constraints))
            continue;
        if (der_next_is(&constraints, DER_BOOLEAN))
            (void)der_read(&constraints, DER_BOOLEAN);
        if (is_padded(der_read(&constraints, DER_INTEGER)))
            return true;
    }
    return false;
}

enum what { A_CERTIFICATE, BASIC_CONSTRAINTS_OF_ONE };
static const struct difference {
    enum what what; /* that OpenSSL does not take */
    bool (*applies)(const struct cert_fields *fields);
} differences[] = {
    /* Serial numbers and versions with an octet too many. Certificates with them are about, and
     * other clients take them. */
    {A_CERTIFICATE, has_padded_integer},
    /* Attribute values that are no text: of a type that is no string, or BMPString, UniversalString
     * or UTF8String with octets that are no characters. OpenSSL compares names as UTF-8 and gives
     * up; a mimic does not get such a value, which is all that becomes of it. */
    {A_CERTIFICATE, has_odd_name},
    /* A path length with an octet too many, as with serial numbers: nothing is read from it. */
    {BASIC_CONSTRAINTS_OF_ONE, has_padded_path_len},
};

static bool is_known_difference(enum what what, const struct cert_fields *fields)
{
    for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++)
        if (differences[i].what == what && differences[i].applies(fields))
            return true;
    return false;
}

/* ---- the names ---- */

static bool same_general_name(const struct name *ours, const GENERAL_NAME *theirs)
{
    int type;
    const ASN1_STRING *text = GENERAL_NAME_get0_value(theirs, &type);
    struct bytes content;

    if (type != (ours->kind == NAME_DNS ? GEN_DNS : GEN_IPADD))
        return false;
    content = (struct bytes){ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text)};
    return ours->kind == NAME_DNS ? bytes_equal_nocase(name_bytes(ours), content)
                                  : bytes_equal(name_bytes(ours), content);
}

static bool stands_among(const struct name *ours, const GENERAL_NAMES *theirs)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(theirs); i++)
        if (same_general_name(ours, sk_GENERAL_NAME_value(theirs, i)))
            return true;
    return false;
}

/* A name that no rule of ours takes away: letters, digits and hyphens in two labels or more, the
 * last one of letters. */
static bool is_plain(const GENERAL_NAME *general)
{
    int type;
    const ASN1_STRING *string = GENERAL_NAME_get0_value(general, &type);
    const uint8_t *text = ASN1_STRING_get0_data(string);
    int len = ASN1_STRING_length(string), label = 0, labels = 1;
    bool letters = true;

    if (type == GEN_IPADD)
        return len == 4 || len == 16;
    if (type != GEN_DNS || len > 253)
        return false;
    for (int i = 0; i < len; i++) {
        bool letter = (text[i] | 0x20) >= 'a' && (text[i] | 0x20) <= 'z';

        if (text[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
            labels++;
            letters = true;
            continue;
        }
        if (!letter && !(text[i] >= '0' && text[i] <= '9') && text[i] != '-')
            return false;
        letters &= letter;
        if (++label > 63)
            return false;
    }
    return label > 0 && labels > 1 && letters;
}

static bool is_kept(const struct upstream *upstream, const GENERAL_NAME *theirs)
{
    for (size_t i = 0; i < upstream->name_count; i++)
        if (same_general_name(&upstream->names[i], theirs))
            return true;
    return false;
}

/* The one common name, as text or as an address. */
static void check_common_name(const struct upstream *upstream, const X509 *cert)
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    const struct name *name = &upstream->names[0];
    unsigned char *text = NULL;
    uint8_t address[16];
    int len;

    must(upstream->name_count == 1 && at >= 0);
    must(X509_NAME_get_index_by_NID(subject, NID_commonName, at) == -1);
    len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    must(len > 0);
    if (name->kind == NAME_DNS)
        must(bytes_equal_nocase(name_bytes(name), (struct bytes){text, (size_t)len}));
    else if (inet_pton(name->len == 4 ? AF_INET : AF_INET6, (char *)text, address) == 1)
        must(memcmp(address, name->data, name->len) == 0);
    else /* ::ffff:192.0.2.1 */
        must(name->len == 4 && inet_pton(AF_INET6, (char *)text, address) == 1 &&
             memcmp(address + 12, name->data, 4) == 0);
    OPENSSL_free(text);
}

static void check_alt_names(const struct upstream *upstream, GENERAL_NAMES *const *lists,
                            size_t count)
{
    for (size_t i = 0; i < upstream->name_count; i++) {
        bool found = false;

        for (size_t k = 0; k < count && !found; k++)
            found = stands_among(&upstream->names[i], lists[k]);
        must(found);
    }
    for (size_t k = 0; k < count; k++)
        for (int i = 0; i < sk_GENERAL_NAME_num(lists[k]); i++)
            must(!is_plain(sk_GENERAL_NAME_value(lists[k], i)) ||
                 is_kept(upstream, sk_GENERAL_NAME_value(lists[k], i)));
}

static void check_names(const struct upstream *upstream, const X509 *cert)
{
    GENERAL_NAMES *lists[CERT_EXTENSIONS_MAX];
    size_t count = 0;

    for (int at = -1; (at = X509_get_ext_by_NID(cert, NID_subject_alt_name, at)) >= 0;) {
        lists[count] = X509V3_EXT_d2i(X509_get_ext(cert, at));
        must(lists[count++] != NULL);
    }
    must(!(upstream->flags & UPSTREAM_CN_ONLY) || count == 0);
    if (upstream->flags & UPSTREAM_CN_ONLY)
        check_common_name(upstream, cert);
    else
        check_alt_names(upstream, lists, count);
    while (count)
        GENERAL_NAMES_free(lists[--count]);
}

/* ---- what the other extensions say ---- */

/* As what it is, or as unreadable: either way nobody is to trust the leaf. */
static bool is_told(const struct upstream *upstream, unsigned flag)
{
    return upstream->flags & (flag | UPSTREAM_UNKNOWN_CRITICAL);
}

/* One that OpenSSL cannot read is told as such. */
static void check_basic_constraints(const struct upstream *upstream, X509_EXTENSION *extension,
                                    const struct cert_fields *fields)
{
    BASIC_CONSTRAINTS *constraints = X509V3_EXT_d2i(extension);

    if (constraints)
        must(!constraints->ca || is_told(upstream, UPSTREAM_CA_TRUE));
    else
        must(is_told(upstream, 0) || is_known_difference(BASIC_CONSTRAINTS_OF_ONE, fields));
    BASIC_CONSTRAINTS_free(constraints);
}

static void check_usages(const struct upstream *upstream, const X509 *cert)
{
    for (int at = -1; (at = X509_get_ext_by_NID(cert, NID_key_usage, at)) >= 0;) {
        ASN1_BIT_STRING *usage = X509V3_EXT_d2i(X509_get_ext(cert, at));
        bool for_tls = ASN1_BIT_STRING_get_bit(usage, 0) || ASN1_BIT_STRING_get_bit(usage, 2) ||
                       ASN1_BIT_STRING_get_bit(usage, 4);

        must(for_tls || is_told(upstream, usage ? UPSTREAM_KU_FOREIGN : 0));
        ASN1_BIT_STRING_free(usage);
    }
    for (int at = -1; (at = X509_get_ext_by_NID(cert, NID_ext_key_usage, at)) >= 0;) {
        EXTENDED_KEY_USAGE *usage = X509V3_EXT_d2i(X509_get_ext(cert, at));
        bool for_tls = false;

        for (int i = 0; i < sk_ASN1_OBJECT_num(usage); i++) {
            int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(usage, i));

            for_tls |= nid == NID_server_auth || nid == NID_anyExtendedKeyUsage;
        }
        must(for_tls || is_told(upstream, usage ? UPSTREAM_EKU_FOREIGN : 0));
        EXTENDED_KEY_USAGE_free(usage);
    }
}

static void check_upstream(const struct upstream *upstream, const struct cert_fields *fields,
                           const X509 *cert)
{
    check_names(upstream, cert);
    check_usages(upstream, cert);
    for (int at = -1; (at = X509_get_ext_by_NID(cert, NID_basic_constraints, at)) >= 0;)
        check_basic_constraints(upstream, X509_get_ext(cert, at), fields);
}

/* ---- all of it ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cert_fields fields, strict;
    struct bytes input = {data, size};
    const unsigned char *at = data;
    struct upstream *upstream = NULL;
    X509 *cert;

    if (cert_read(input, DER_FORM_LEGACY, &fields, NULL) != LEAFD_OK) {
        must(cert_read(input, DER_FORM_STRICT, &strict, NULL) != LEAFD_OK);
        must(upstream_read(input, &upstream, NULL) != LEAFD_OK);
        return 0;
    }
    cert = d2i_X509(NULL, &at, (long)size);
    if (cert) {
        must(at == data + fields.size);
        openssl_must_agree(&fields, cert);
        if (upstream_read(input, &upstream, NULL) == LEAFD_OK)
            check_upstream(upstream, &fields, cert);
    } else {
        must(is_known_difference(A_CERTIFICATE, &fields));
        must(cert_read(input, DER_FORM_STRICT, &strict, NULL) != LEAFD_OK);
    }
    upstream_unref(upstream);
    X509_free(cert);
    ERR_clear_error();
    return 0;
}
