/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ca_certificate.h"

#include "base/clock.h"
#include "pkcs11/provider.h"

#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

enum { DAY_SEC = 86400, NOT_BEFORE_DAYS = 2, SERIAL_OCTETS = 20, CN_MAX = 64 };

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;
    bool ok;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    ok = extension && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

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
static bool set_subject(X509 *cert, const struct ca_certificate_options *options)
{
    X509_NAME *name = X509_get_subject_name(cert);
    uint8_t hash[EVP_MAX_MD_SIZE];
    unsigned hash_len;
    char hex[9];
    char cn[CN_MAX + 1];
    const char *text = options->cn;

    if (!text) {
        if (X509_pubkey_digest(cert, EVP_sha1(), hash, &hash_len) != 1)
            return false;
        bytes_hex((struct bytes){hash, 4}, hex);
        snprintf(cn, sizeof(cn), "%s %s", options->cn_prefix, hex);
        text = cn;
    }
    return X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                      (const unsigned char *)text, -1, -1, 0) == 1 &&
           X509_set_issuer_name(cert, name) == 1;
}

enum leafd_err ca_certificate_make(const struct ca_certificate_options *options, X509 **ret,
                                   struct why *why)
{
    X509 *cert = X509_new_ex(options->libctx, options->properties);
    EVP_MD *md = options->digest ? EVP_MD_fetch(NULL, options->digest, NULL) : NULL;
    enum leafd_err err;

    if (!cert || (options->digest && !md) || X509_set_version(cert, X509_VERSION_3) != 1 ||
        !set_serial(cert) || !set_dates(cert, options->days) ||
        X509_set_pubkey(cert, options->public_key) != 1 || !set_subject(cert, options) ||
        !add_extension(cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(cert, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(cert, NID_subject_key_identifier, "hash") ||
        !add_extension(cert, NID_authority_key_identifier, "keyid:always")) {
        err = fail(why, LEAFD_INTERNAL, "OpenSSL does not make the CA certificate: %s",
                   ERR_reason_error_string(ERR_peek_last_error()));
        goto out;
    }
    if (X509_sign(cert, options->signing_key, md) <= 0) {
        err = provider_sign_failed(why);
        if (err == LEAFD_OK)
            err = fail(why, LEAFD_INTERNAL, "OpenSSL does not sign the CA certificate: %s",
                       ERR_reason_error_string(ERR_peek_last_error()));
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

enum leafd_err ca_certificate_pem(X509 *cert, struct bytes *ret)
{
    BIO *bio = BIO_new(BIO_s_mem());
    enum leafd_err err = LEAFD_NOMEM;
    char *data;
    long len;

    if (bio && PEM_write_bio_X509(bio, cert) == 1) {
        len = BIO_get_mem_data(bio, &data);
        *ret = bytes_copy((struct bytes){(uint8_t *)data, (size_t)len});
        err = ret->data ? LEAFD_OK : LEAFD_NOMEM;
    }
    BIO_free(bio);
    return err;
}
