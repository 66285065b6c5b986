/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/make_cert.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "make_cert: cannot make %s\n", what);
    abort();
}

/* What EVP_PKEY_Q_keygen does not know everywhere (ED448). */
static EVP_PKEY *keygen(const char *what)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, what, NULL);
    EVP_PKEY *key = NULL;

    if (!context || EVP_PKEY_keygen_init(context) != 1 || EVP_PKEY_generate(context, &key) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    return key;
}

EVP_PKEY *make_key(const char *what)
{
    EVP_PKEY *key;

    if (strncmp(what, "RSA:", 4) == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)atoi(what + 4));
    else if (strncmp(what, "P-", 2) == 0)
        key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", what);
    else
        key = keygen(what);
    must(key != NULL, what);
    return key;
}

static void set_cn(X509_NAME *name, const char *cn)
{
    if (cn)
        must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0),
             "a name");
}

static void add_extension(X509 *x509, X509V3_CTX *context, int nid, const char *value)
{
    X509_EXTENSION *extension;

    if (!value)
        return;
    extension = X509V3_EXT_nconf_nid(NULL, context, nid, value);
    must(extension && X509_add_ext(x509, extension, -1), value);
    X509_EXTENSION_free(extension);
}

static void add_critical(X509 *x509, const char *oid)
{
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    ASN1_OBJECT *object = OBJ_txt2obj(oid, 1);
    X509_EXTENSION *extension = NULL;

    ASN1_OCTET_STRING_set(value, (const uint8_t *)"\x05\x00", 2);
    extension = X509_EXTENSION_create_by_OBJ(NULL, object, 1, value);
    must(extension && X509_add_ext(x509, extension, -1), oid);
    X509_EXTENSION_free(extension);
    ASN1_OBJECT_free(object);
    ASN1_OCTET_STRING_free(value);
}

static void add_extensions(X509 *x509, const struct make_cert *cert)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, x509, x509, NULL, NULL, 0);
    add_extension(x509, &context, NID_key_usage, cert->ku);
    add_extension(x509, &context, NID_ext_key_usage, cert->eku);
    add_extension(x509, &context, NID_basic_constraints, cert->bc);
    add_extension(x509, &context, NID_subject_alt_name, cert->san);
    add_extension(x509, &context, NID_name_constraints, cert->constraints);
    add_extension(x509, &context, NID_subject_key_identifier, cert->ski);
    if (cert->critical_oid)
        add_critical(x509, cert->critical_oid);
}

struct bytes make_cert(const struct make_cert *cert)
{
    X509 *x509 = X509_new();
    EVP_PKEY *key = cert->key ? cert->key : make_key("P-256");
    EVP_PKEY *signer = cert->signer ? cert->signer : cert->issuer ? make_key("P-256") : key;
    bool is_ed = EVP_PKEY_is_a(signer, "ED25519");
    uint8_t *der = NULL;
    struct bytes copy;
    int len;

    X509_set_version(x509, cert->v1 ? 0 : 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), cert->serial ? cert->serial : 4711);
    set_cn(X509_get_subject_name(x509), cert->cn);
    set_cn(X509_get_issuer_name(x509), cert->issuer ? cert->issuer : cert->cn);
    ASN1_TIME_set(X509_getm_notBefore(x509), cert->not_before);
    ASN1_TIME_set(X509_getm_notAfter(x509), cert->not_after);
    X509_set_pubkey(x509, key);
    add_extensions(x509, cert);
    must(X509_sign(x509, signer,
                   is_ed        ? NULL
                   : cert->sha1 ? EVP_sha1()
                                : EVP_sha256()) > 0,
         "a signature");
    len = i2d_X509(x509, &der);
    must(len > 0, "a certificate");
    copy = bytes_copy((struct bytes){der, (size_t)len});
    must(copy.data != NULL, "a copy");
    OPENSSL_free(der);
    X509_free(x509);
    if (signer != cert->signer && signer != key)
        EVP_PKEY_free(signer);
    if (key != cert->key)
        EVP_PKEY_free(key);
    return copy;
}

struct bytes make_ca(const char *cn, EVP_PKEY *key, int64_t now_sec)
{
    struct make_cert cert = {
        .cn = cn,
        .key = key,
        .ku = "critical,keyCertSign,cRLSign",
        .bc = "critical,CA:TRUE,pathlen:0",
        .ski = "hash",
        .not_before = now_sec - 2 * 86400,
        .not_after = now_sec + 3650 * (int64_t)86400,
    };

    return make_cert(&cert);
}
