/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/openssl_fields.h"

#include "der/der_reader.h"
#include "der/spki.h"
#include "tests/fuzz/fuzz.h"

#include <openssl/evp.h>
#include <openssl/objects.h>
#include <string.h>
#include <time.h>

static bool is_encoded_as(struct bytes ours, int len, const unsigned char *encoded)
{
    return len >= 0 && bytes_equal(ours, (struct bytes){encoded, (size_t)len});
}

static void check_serial(const struct cert_fields *fields, const X509 *cert)
{
    uint8_t room[CERT_SIZE_MAX + 16], *at = room;
    int len = i2d_ASN1_INTEGER(X509_get0_serialNumber(cert), NULL);
    struct der der;

    must(len > 0 && len <= (int)sizeof(room));
    i2d_ASN1_INTEGER(X509_get0_serialNumber(cert), &at);
    der = der_of((struct bytes){room, (size_t)len});
    must(bytes_equal(der_read(&der, DER_INTEGER), fields->serial));
}

/* OpenSSL writes BIT STRINGs without what stood in their padding: `ours` like that, in elements
 * down to `depth`. */
static struct bytes without_padding(struct bytes ours, int depth)
{
    static uint8_t copy[CERT_SIZE_MAX];
    struct der list[3] = {der_of((struct bytes){copy, ours.len})};
    int at = 0;

    memcpy(copy, ours.data, ours.len);
    while (at >= 0) {
        uint8_t tag;
        struct bytes content;

        if (!der_peek(&list[at]) || !der_read_any(&list[at], &tag, &content, NULL))
            at--;
        else if (tag == DER_SEQUENCE && at < depth)
            list[++at] = der_of(content);
        else if (tag == DER_BIT_STRING && content.len > 1)
            copy[content.data + content.len - 1 - copy] &= (uint8_t)(0xff << content.data[0]);
    }
    return (struct bytes){copy, ours.len};
}

static void check_algorithm(struct bytes ours, const X509_ALGOR *theirs)
{
    unsigned char *encoded = NULL;
    int len = i2d_X509_ALGOR(theirs, &encoded);

    must(is_encoded_as(without_padding(ours, 1), len, encoded));
    OPENSSL_free(encoded);
}

static void check_name(struct bytes ours, const X509_NAME *theirs)
{
    const unsigned char *encoded;
    size_t len;

    must(X509_NAME_get0_der(theirs, &encoded, &len) == 1);
    must(bytes_equal(ours, (struct bytes){encoded, len}));
}

static void check_time(int64_t ours, const ASN1_TIME *theirs)
{
    struct tm tm;

    must(ASN1_TIME_to_tm(theirs, &tm) == 1);
    must(timegm(&tm) == ours);
}

static void check_extension(const struct cert_extension *ours, X509_EXTENSION *theirs)
{
    const ASN1_OBJECT *oid = X509_EXTENSION_get_object(theirs);
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(theirs);

    must(is_encoded_as(ours->oid, (int)OBJ_length(oid), OBJ_get0_data(oid)));
    must(is_encoded_as(ours->value, ASN1_STRING_length(value), ASN1_STRING_get0_data(value)));
    must(ours->critical == (X509_EXTENSION_get_critical(theirs) == 1));
}

static void check_signature(const struct cert_fields *fields, const X509 *cert)
{
    struct bytes whole = {fields->signature.data - 1, fields->signature.len + 1};
    const ASN1_BIT_STRING *signature;
    const X509_ALGOR *algorithm;
    uint8_t padding = (uint8_t)((1 << whole.data[0]) - 1); /* which OpenSSL clears */
    size_t last = whole.len - 2;

    X509_get0_signature(&signature, &algorithm, cert);
    check_algorithm(fields->outer_algorithm, algorithm);
    must((size_t)signature->length == fields->signature.len);
    for (size_t i = 0; i < fields->signature.len; i++)
        must(signature->data[i] == (fields->signature.data[i] & ~(i == last ? padding : 0)));
}

/* ---- the key ---- */

static enum key_type type_of_ec(const EVP_PKEY *key)
{
    static const struct {
        const char *group;
        enum key_type type;
    } groups[] = {
        {SN_X9_62_prime256v1, KEY_TYPE_P256},    {SN_secp384r1, KEY_TYPE_P384},
        {SN_secp521r1, KEY_TYPE_P521},           {SN_sm2, KEY_TYPE_SM2},
        {SN_secp224r1, KEY_TYPE_OTHER_EC},       {SN_secp256k1, KEY_TYPE_OTHER_EC},
        {SN_brainpoolP256r1, KEY_TYPE_OTHER_EC}, {SN_brainpoolP320r1, KEY_TYPE_OTHER_EC},
        {SN_brainpoolP384r1, KEY_TYPE_OTHER_EC}, {SN_brainpoolP512r1, KEY_TYPE_OTHER_EC},
    };
    char group[64];

    if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1)
        for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
            if (strcmp(group, groups[i].group) == 0)
                return groups[i].type;
    return KEY_TYPE_NONE;
}

static bool is_explicit_ec(struct bytes whole)
{
    struct der der = der_of(whole), spki = der_enter(&der, DER_SEQUENCE);
    struct der algorithm = der_enter(&spki, DER_SEQUENCE);

    (void)der_read(&algorithm, DER_OID);
    return !der_next_is(&algorithm, DER_OID);
}

/* OpenSSL builds the key, which ours never does: where it cannot, nothing is compared. */
static void check_key(const struct cert_fields *fields, const X509 *cert)
{
    const EVP_PKEY *key = X509_get0_pubkey(cert);
    struct spki spki;

    must(spki_read(fields->spki, &spki) == LEAFD_OK);
    if (!key)
        return;
    if (EVP_PKEY_is_a(key, "RSA") || EVP_PKEY_is_a(key, "RSA-PSS")) {
        must(spki.type == KEY_TYPE_RSA);
        /* 0 is the stricter reading: octets behind the key, which OpenSSL lets pass */
        must(spki.bits == 0 || spki.bits == (unsigned)EVP_PKEY_get_bits(key));
    } else if (EVP_PKEY_is_a(key, "EC") || EVP_PKEY_is_a(key, "SM2")) {
        must(spki.type == (is_explicit_ec(fields->spki) ? KEY_TYPE_NONE : type_of_ec(key)));
        must(spki.type == KEY_TYPE_NONE || spki.bits == (unsigned)EVP_PKEY_get_bits(key));
    } else {
        must(spki.type == (EVP_PKEY_is_a(key, "DSA")       ? KEY_TYPE_DSA
                           : EVP_PKEY_is_a(key, "ED25519") ? KEY_TYPE_ED25519
                           : EVP_PKEY_is_a(key, "ED448")   ? KEY_TYPE_ED448
                                                           : KEY_TYPE_NONE));
    }
}

static void check_spki(const struct cert_fields *fields, const X509 *cert)
{
    unsigned char *encoded = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &encoded);

    must(is_encoded_as(without_padding(fields->spki, 2), len, encoded));
    OPENSSL_free(encoded);
    check_key(fields, cert);
}

void openssl_must_agree(const struct cert_fields *fields, const X509 *cert)
{
    must(X509_get_version(cert) + 1 == fields->version);
    check_serial(fields, cert);
    check_algorithm(fields->algorithm, X509_get0_tbs_sigalg(cert));
    check_name(fields->issuer, X509_get_issuer_name(cert));
    check_time(fields->not_before, X509_get0_notBefore(cert));
    check_time(fields->not_after, X509_get0_notAfter(cert));
    check_name(fields->subject, X509_get_subject_name(cert));
    check_spki(fields, cert);
    check_signature(fields, cert);
    must(X509_get_ext_count(cert) == (int)fields->extension_count);
    for (size_t i = 0; i < fields->extension_count; i++)
        check_extension(&fields->extension[i], X509_get_ext(cert, (int)i));
}
