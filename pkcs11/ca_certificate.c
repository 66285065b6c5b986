/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ca_certificate.h"

#include "base/clock.h"
#include "der/pem.h"
#include "pkcs11/provider.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DAY_SEC = 86400,
    NOT_BEFORE_DAYS = 2,
    SERIAL_OCTETS = 20,
    CN_MAX = 64,
    CONSTRAINTS_ROOM = 2 * NAME_CONSTRAINTS_MAX * (NAME_DNS_MAX + 16) + 64
};

/* ---- extensions ---- */

/* In its own DER: OpenSSL's text form is none for names that come from a command line. */
static X509_EXTENSION *constraints_extension(const struct name_constraints *constraints)
{
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;
    uint8_t *room = malloc(CONSTRAINTS_ROOM);
    struct der_writer writer = der_writer_of(room, room ? CONSTRAINTS_ROOM : 0);
    struct bytes der;

    name_constraints_put(&writer, constraints);
    der = der_written(&writer);
    if (value && der.data && ASN1_OCTET_STRING_set(value, der.data, (int)der.len) == 1)
        extension = X509_EXTENSION_create_by_NID(NULL, NID_name_constraints, 1, value);
    ASN1_OCTET_STRING_free(value);
    free(room);
    return extension;
}

/* Takes the extension; false without one. */
static bool push(STACK_OF(X509_EXTENSION) * to, X509_EXTENSION *extension)
{
    if (extension && sk_X509_EXTENSION_push(to, extension) > 0)
        return true;
    X509_EXTENSION_free(extension);
    return false;
}

/* What both a certificate and a request have; `ctx` knows the subject's key. NULL when OpenSSL does
 * not make them. */
static STACK_OF(X509_EXTENSION) *
    extensions_of(X509V3_CTX *ctx, const struct name_constraints *constraints)
{
    static const struct {
        int nid;
        const char *value;
    } rows[] = {
        {NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
        {NID_key_usage, "critical,keyCertSign,cRLSign"},
        {NID_subject_key_identifier, "hash"},
    };
    STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
    bool good = list != NULL;

    for (size_t i = 0; good && i < sizeof(rows) / sizeof(rows[0]); i++)
        good = push(list, X509V3_EXT_conf_nid(NULL, ctx, rows[i].nid, rows[i].value));
    if (good && constraints)
        good = push(list, constraints_extension(constraints));
    if (good)
        return list;
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return NULL;
}

static bool add_extensions(X509 *cert, const struct name_constraints *constraints)
{
    STACK_OF(X509_EXTENSION) * list;
    X509_EXTENSION *key_id = NULL;
    X509V3_CTX ctx;
    bool good;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    list = extensions_of(&ctx, constraints);
    good = list != NULL;
    for (int i = 0; good && i < sk_X509_EXTENSION_num(list); i++)
        good = X509_add_ext(cert, sk_X509_EXTENSION_value(list, i), -1) == 1;
    /* the last one: it copies the subject's, which has to be there */
    if (good)
        key_id = X509V3_EXT_conf_nid(NULL, &ctx, NID_authority_key_identifier, "keyid:always");
    good = key_id && X509_add_ext(cert, key_id, -1) == 1;
    X509_EXTENSION_free(key_id);
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return good;
}

static bool request_extensions(X509_REQ *request, const struct name_constraints *constraints)
{
    STACK_OF(X509_EXTENSION) * list;
    X509V3_CTX ctx;
    bool good;

    X509V3_set_ctx(&ctx, NULL, NULL, request, NULL, 0);
    list = extensions_of(&ctx, constraints);
    good = list && X509_REQ_add_extensions(request, list) == 1;
    sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
    return good;
}

/* ---- the other fields ---- */

static bool set_serial(X509 *cert)
{
    uint8_t octets[SERIAL_OCTETS];
    BIGNUM *number = NULL;
    bool ok = RAND_bytes(octets, sizeof(octets)) == 1;

    octets[0] = (uint8_t)(0x40 | (octets[0] & 0x3f)); /* positive, and always 20 octets */
    ok = ok && (number = BN_bin2bn(octets, sizeof(octets), NULL)) != NULL &&
         BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

static bool set_dates(X509 *cert, unsigned days)
{
    int64_t now = clock_wall_sec();

    return ASN1_TIME_set(X509_getm_notBefore(cert), now - (int64_t)NOT_BEFORE_DAYS * DAY_SEC) &&
           ASN1_TIME_set(X509_getm_notAfter(cert), now + (int64_t)days * DAY_SEC);
}

/* Two CAs of one operator must not have the same name: clients choose issuers by it. */
static bool set_subject(X509_NAME *name, X509_PUBKEY *key,
                        const struct ca_certificate_options *options)
{
    const unsigned char *bits;
    int bits_len;
    uint8_t hash[EVP_MAX_MD_SIZE];
    char hex[9];
    char cn[CN_MAX + 1];
    const char *text = options->cn;

    if (!text) {
        if (X509_PUBKEY_get0_param(NULL, &bits, &bits_len, NULL, key) != 1 ||
            EVP_Digest(bits, (size_t)bits_len, hash, NULL, EVP_sha1(), NULL) != 1)
            return false;
        bytes_hex((struct bytes){hash, 4}, hex);
        snprintf(cn, sizeof(cn), "%s %s", options->cn_prefix, hex);
        text = cn;
    }
    return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)text, -1, -1, 0) == 1;
}

/* ---- all of it ---- */

static enum leafd_err not_made(const char *what, struct why *why)
{
    return fail(why, LEAFD_INTERNAL, "OpenSSL does not make the CA %s: %s", what,
                ERR_reason_error_string(ERR_peek_last_error()));
}

static enum leafd_err not_signed(const char *what, struct why *why)
{
    enum leafd_err err = provider_sign_failed(why);

    if (err == LEAFD_OK)
        err = fail(why, LEAFD_INTERNAL, "OpenSSL does not sign the CA %s: %s", what,
                   ERR_reason_error_string(ERR_peek_last_error()));
    return err;
}

enum leafd_err ca_certificate_make(const struct ca_certificate_options *options, X509 **ret,
                                   struct why *why)
{
    X509 *cert = X509_new_ex(options->libctx, options->properties);
    EVP_MD *md = options->digest ? EVP_MD_fetch(NULL, options->digest, NULL) : NULL;
    enum leafd_err err;

    if (!cert || (options->digest && !md) || X509_set_version(cert, X509_VERSION_3) != 1 ||
        !set_serial(cert) || !set_dates(cert, options->days) ||
        X509_set_pubkey(cert, options->public_key) != 1 ||
        !set_subject(X509_get_subject_name(cert), X509_get_X509_PUBKEY(cert), options) ||
        X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 ||
        !add_extensions(cert, options->constraints)) {
        err = not_made("certificate", why);
        goto out;
    }
    if (X509_sign(cert, options->signing_key, md) <= 0) {
        err = not_signed("certificate", why);
        goto out;
    }
    if (X509_verify(cert, options->public_key) != 1) {
        err = fail(why, LEAFD_TOKEN_UNAVAILABLE,
                   "the token's signature under the new CA certificate does not verify");
        goto out;
    }

    *ret = cert;
    cert = NULL;
    err = LEAFD_OK;
out:
    ERR_clear_error();
    EVP_MD_free(md);
    X509_free(cert);
    return err;
}

enum leafd_err ca_certificate_request(const struct ca_certificate_options *options, X509_REQ **ret,
                                      struct why *why)
{
    X509_REQ *request = X509_REQ_new_ex(options->libctx, options->properties);
    EVP_MD *md = options->digest ? EVP_MD_fetch(NULL, options->digest, NULL) : NULL;
    enum leafd_err err;

    if (!request || (options->digest && !md) ||
        X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        X509_REQ_set_pubkey(request, options->public_key) != 1 ||
        !set_subject(X509_REQ_get_subject_name(request), X509_REQ_get_X509_PUBKEY(request),
                     options) ||
        !request_extensions(request, options->constraints)) {
        err = not_made("request", why);
        goto out;
    }
    if (X509_REQ_sign(request, options->signing_key, md) <= 0) {
        err = not_signed("request", why);
        goto out;
    }
    if (X509_REQ_verify(request, options->public_key) != 1) {
        err = fail(why, LEAFD_TOKEN_UNAVAILABLE,
                   "the token's signature under the CA request does not verify");
        goto out;
    }

    *ret = request;
    request = NULL;
    err = LEAFD_OK;
out:
    ERR_clear_error();
    EVP_MD_free(md);
    X509_REQ_free(request);
    return err;
}

enum leafd_err ca_certificate_check_cn(const char *cn, struct why *why)
{
    size_t characters = 0;

    for (const char *at = cn; cn && *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return fail(why, LEAFD_CONFIG, "the CA's name has a control character");
        characters += ((unsigned char)*at & 0xc0) != 0x80;
    }
    if (cn && (characters < 1 || characters > CN_MAX))
        return fail(why, LEAFD_CONFIG, "the CA's name has %zu characters; 1 to %d are possible",
                    characters, CN_MAX);
    return LEAFD_OK;
}

/* Takes the DER that OpenSSL has written, `len` octets; less than 1: it could not. */
static enum leafd_err pem_take(const char *label, unsigned char *der, int len, struct bytes *ret)
{
    enum leafd_err err =
        len > 0 ? pem_new(label, (struct bytes){der, (size_t)len}, ret) : LEAFD_NOMEM;

    OPENSSL_free(der);
    return err;
}

enum leafd_err ca_certificate_pem(X509 *cert, struct bytes *ret)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    return pem_take(PEM_STRING_X509, der, len, ret);
}

enum leafd_err ca_certificate_request_pem(X509_REQ *request, struct bytes *ret)
{
    unsigned char *der = NULL;
    int len = i2d_X509_REQ(request, &der);

    return pem_take(PEM_STRING_X509_REQ, der, len, ret);
}
