/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/openssl_view.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>
#include <time.h>

enum { RSA_BITS_MIN = 1024 };

static bool read_time(const ASN1_TIME *time, int64_t *ret)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(time, &tm) != 1)
        return false;
    *ret = timegm(&tm);
    return true;
}

static void read_alt_names(struct openssl_view *view)
{
    for (int at = -1; (at = X509_get_ext_by_NID(view->cert, NID_subject_alt_name, at)) >= 0;) {
        GENERAL_NAMES *more = X509V3_EXT_d2i(X509_get_ext(view->cert, at));

        view->has_alt_names = true;
        if (!view->names)
            view->names = sk_GENERAL_NAME_new_null();
        while (sk_GENERAL_NAME_num(more) > 0)
            sk_GENERAL_NAME_push(view->names, sk_GENERAL_NAME_shift(more));
        GENERAL_NAMES_free(more);
    }
}

bool openssl_view_init(struct openssl_view *view, struct bytes der)
{
    const unsigned char *at = der.data;

    *view = (struct openssl_view){.cert = d2i_X509(NULL, &at, (long)der.len)};
    if (!view->cert || !read_time(X509_get0_notBefore(view->cert), &view->not_before) ||
        !read_time(X509_get0_notAfter(view->cert), &view->not_after)) {
        openssl_view_clear(view);
        return false;
    }
    read_alt_names(view);
    view->self_signed =
        X509_NAME_cmp(X509_get_subject_name(view->cert), X509_get_issuer_name(view->cert)) == 0;
    return true;
}

void openssl_view_clear(struct openssl_view *view)
{
    GENERAL_NAMES_free(view->names);
    X509_free(view->cert);
    *view = (struct openssl_view){0};
    ERR_clear_error();
}

bool openssl_view_is_valid_at(const struct openssl_view *view, int64_t sec)
{
    return view->not_before <= sec && sec <= view->not_after;
}

/* ---- faults ---- */

static bool stands_twice(const X509 *cert, int nid)
{
    int at = X509_get_ext_by_NID(cert, nid, -1);

    return at >= 0 && X509_get_ext_by_NID(cert, nid, at) >= 0;
}

static const char *fault_of_key_usage(const X509 *cert)
{
    int at = X509_get_ext_by_NID(cert, NID_key_usage, -1);
    ASN1_BIT_STRING *usage;
    bool good;

    if (at < 0)
        return NULL;
    usage = X509V3_EXT_d2i(X509_get_ext(cert, at));
    good = usage && (ASN1_BIT_STRING_get_bit(usage, 0) || ASN1_BIT_STRING_get_bit(usage, 2) ||
                     ASN1_BIT_STRING_get_bit(usage, 4));
    ASN1_BIT_STRING_free(usage);
    return good ? NULL : "key usage";
}

static const char *fault_of_purposes(const X509 *cert)
{
    int at = X509_get_ext_by_NID(cert, NID_ext_key_usage, -1);
    EXTENDED_KEY_USAGE *purposes;
    bool good = false;

    if (at < 0)
        return NULL;
    purposes = X509V3_EXT_d2i(X509_get_ext(cert, at));
    for (int i = 0; i < sk_ASN1_OBJECT_num(purposes); i++) {
        int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(purposes, i));

        good |= nid == NID_server_auth || nid == NID_anyExtendedKeyUsage;
    }
    EXTENDED_KEY_USAGE_free(purposes);
    return good ? NULL : "extended key usage";
}

/* Critical, and neither evaluated by OpenSSL nor one of those that leaves may have all the same. */
static bool is_unknown_critical(X509_EXTENSION *extension)
{
    static const int known[] = {
        NID_authority_key_identifier,
        NID_subject_key_identifier,
        NID_issuer_alt_name,
        NID_freshest_crl,
        NID_info_access,
        NID_sinfo_access,
        NID_tlsfeature,
        NID_subject_directory_attributes,
    };
    int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));

    if (!X509_EXTENSION_get_critical(extension) || X509_supported_extension(extension))
        return false;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (nid == known[i])
            return false;
    return true;
}

static const char *fault_of_extensions(const X509 *cert)
{
    static const int once[] = {NID_subject_alt_name, NID_key_usage, NID_ext_key_usage,
                               NID_basic_constraints};

    for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++)
        if (stands_twice(cert, once[i]))
            return "an extension twice";
    if (X509_get_ext_by_NID(cert, NID_ct_precert_poison, -1) >= 0)
        return "CT poison";
    for (int i = 0; i < X509_get_ext_count(cert); i++)
        if (is_unknown_critical(X509_get_ext(cert, i)))
            return "unknown critical extension";
    return NULL;
}

static const char *fault_of_curve(const X509_ALGOR *algorithm)
{
    static const int known[] = {
        NID_X9_62_prime256v1, NID_secp384r1,       NID_secp521r1,       NID_sm2,
        NID_secp224r1,        NID_secp256k1,       NID_brainpoolP256r1, NID_brainpoolP320r1,
        NID_brainpoolP384r1,  NID_brainpoolP512r1,
    };
    const void *value;
    int type;

    X509_ALGOR_get0(NULL, &type, &value, algorithm);
    for (size_t i = 0; type == V_ASN1_OBJECT && i < sizeof(known) / sizeof(known[0]); i++)
        if (OBJ_obj2nid(value) == known[i])
            return NULL;
    return "curve";
}

static const char *fault_of_key(const X509 *cert)
{
    const EVP_PKEY *key = X509_get0_pubkey(cert);
    X509_ALGOR *algorithm;
    ASN1_OBJECT *oid;

    X509_PUBKEY_get0_param(&oid, NULL, NULL, &algorithm, X509_get_X509_PUBKEY(cert));
    switch (OBJ_obj2nid(oid)) {
    case NID_dsa:
        return "DSA";
    case NID_X9_62_id_ecPublicKey:
        return fault_of_curve(algorithm);
    case NID_rsaEncryption:
    case NID_rsassaPss:
        return key && EVP_PKEY_get_bits(key) < RSA_BITS_MIN ? "short RSA" : NULL;
    default:
        return NULL;
    }
}

static const char *fault_of_signature(X509 *cert)
{
    static const int weak[] = {NID_md2, NID_md4, NID_md5, NID_sha, NID_sha1, NID_md5_sha1};
    const X509_ALGOR *outer;
    int digest;

    X509_get0_signature(NULL, &outer, cert);
    if (X509_ALGOR_cmp(outer, X509_get0_tbs_sigalg(cert)) != 0)
        return "two signature algorithms";
    if (X509_get_signature_info(cert, &digest, NULL, NULL, NULL) == 1)
        for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++)
            if (digest == weak[i])
                return "digest of the signature";
    return NULL;
}

const char *openssl_view_fault(const struct openssl_view *view)
{
    const char *fault = fault_of_extensions(view->cert);

    if (!fault)
        fault = fault_of_key_usage(view->cert);
    if (!fault)
        fault = fault_of_purposes(view->cert);
    if (!fault)
        fault = fault_of_key(view->cert);
    if (!fault)
        fault = fault_of_signature(view->cert);
    ERR_clear_error();
    return fault;
}

/* ---- names ---- */

static struct bytes bytes_of_string(const ASN1_STRING *string)
{
    return (struct bytes){ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string)};
}

/* Wildcards of one label that OpenSSL does not match and browsers do: right above a top-level
 * domain, and over labels with '_' or with a '-' at an end. */
static bool is_matched_by(struct bytes pattern, struct bytes host)
{
    const uint8_t *dot = host.len ? memchr(host.data, '.', host.len) : NULL;
    struct bytes parent;

    if (bytes_equal_nocase(pattern, host))
        return true;
    if (!dot || pattern.len < 3 || memcmp(pattern.data, "*.", 2) != 0)
        return false;
    parent = (struct bytes){dot, (size_t)(host.data + host.len - dot)};
    return bytes_equal_nocase((struct bytes){pattern.data + 1, pattern.len - 1}, parent);
}

/* The address that a common name may be, as octets in `room`; else the text. */
static struct bytes common_name(const struct openssl_view *view, bool as_ip, unsigned char **text,
                                uint8_t room[16])
{
    const X509_NAME *subject = X509_get_subject_name(view->cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    int len =
        at < 0
            ? -1
            : ASN1_STRING_to_UTF8(text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));

    if (len < 0)
        return (struct bytes){NULL, 0};
    if (!as_ip)
        return (struct bytes){*text, (size_t)len};
    if (inet_pton(AF_INET, (char *)*text, room) == 1)
        return (struct bytes){room, 4};
    if (inet_pton(AF_INET6, (char *)*text, room) != 1)
        return (struct bytes){NULL, 0};
    return memcmp(room, mapped, sizeof(mapped)) == 0 ? (struct bytes){room + 12, 4}
                                                     : (struct bytes){room, 16};
}

static bool common_name_is(const struct openssl_view *view, bool is_ip, struct bytes wanted,
                           bool as_pattern)
{
    unsigned char *text = NULL;
    uint8_t room[16];
    struct bytes found = common_name(view, is_ip, &text, room);
    bool same = found.len && (is_ip        ? bytes_equal(found, wanted)
                              : as_pattern ? is_matched_by(found, wanted)
                                           : bytes_equal_nocase(found, wanted));

    OPENSSL_free(text);
    return same;
}

bool openssl_view_names_host(const struct openssl_view *view, bool is_ip, struct bytes host)
{
    if (is_ip ? X509_check_ip(view->cert, host.data, host.len, 0) == 1
              : X509_check_host(view->cert, (const char *)host.data, host.len,
                                X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1)
        return true;
    if (!view->has_alt_names)
        return common_name_is(view, is_ip, host, true);
    for (int i = 0; i < sk_GENERAL_NAME_num(view->names); i++) {
        int type;
        const ASN1_STRING *name =
            GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(view->names, i), &type);

        if (is_ip ? type == GEN_IPADD && bytes_equal(bytes_of_string(name), host)
                  : type == GEN_DNS && is_matched_by(bytes_of_string(name), host))
            return true;
    }
    return false;
}

bool openssl_view_has_name(const struct openssl_view *view, const GENERAL_NAME *name)
{
    int type, other_type;
    struct bytes wanted = bytes_of_string(GENERAL_NAME_get0_value(name, &type));

    if (!view->has_alt_names)
        return common_name_is(view, type == GEN_IPADD, wanted, false);
    for (int i = 0; i < sk_GENERAL_NAME_num(view->names); i++) {
        const ASN1_STRING *other =
            GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(view->names, i), &other_type);

        if (type == other_type && (type == GEN_DNS || type == GEN_IPADD) &&
            (type == GEN_DNS ? bytes_equal_nocase(bytes_of_string(other), wanted)
                             : bytes_equal(bytes_of_string(other), wanted)))
            return true;
    }
    return false;
}
