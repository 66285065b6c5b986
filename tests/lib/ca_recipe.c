/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/ca_recipe.h"

#include "tests/lib/unit.h"

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

EVP_PKEY *recipe_key;
EVP_PKEY *recipe_other_key;

static void add_extension(X509 *cert, X509 *issuer, const char *name, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    if (!value[0])
        return;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf(NULL, &context, name, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

X509 *recipe_unsigned(const struct recipe *recipe)
{
    X509 *cert = X509_new();
    X509 *issuer = recipe->issuer ? recipe->issuer : cert;
    const char *cn = recipe->cn ? recipe->cn : "Test CA";

    assert_int_equal(X509_set_version(cert, (recipe->version ? recipe->version : 3) - 1), 1);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 4711);
    if (!recipe->no_subject)
        X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN",
                                   recipe->cn_type ? recipe->cn_type : MBSTRING_UTF8,
                                   (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer));
    X509_gmtime_adj(X509_getm_notBefore(cert), recipe->first_sec ? recipe->first_sec : -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), recipe->last_sec ? recipe->last_sec : 86400);
    assert_int_equal(X509_set_pubkey(cert, recipe->key), 1);
    if (!recipe->version) {
        add_extension(cert, issuer, "basicConstraints",
                      recipe->basic ? recipe->basic : "critical,CA:TRUE");
        add_extension(cert, issuer, "keyUsage",
                      recipe->usage ? recipe->usage : "critical,keyCertSign,cRLSign");
        add_extension(cert, issuer, "subjectKeyIdentifier",
                      recipe->key_id ? recipe->key_id : "hash");
    }
    for (int i = 0; i < 3 && recipe->more[i][0]; i++)
        add_extension(cert, issuer, recipe->more[i][0], recipe->more[i][1]);
    return cert;
}

X509 *recipe_cert(const struct recipe *recipe)
{
    X509 *cert = recipe_unsigned(recipe);
    EVP_PKEY *issuer_key = recipe->issuer ? recipe->issuer_key : recipe->key;
    bool pure = EVP_PKEY_is_a(issuer_key, "ED25519") || EVP_PKEY_is_a(issuer_key, "ED448");

    assert_true(X509_sign(cert, issuer_key,
                          pure           ? NULL
                          : recipe->weak ? EVP_sha1()
                                         : EVP_sha256()) > 0);
    return cert;
}

struct bytes recipe_pem(X509 *const *cert, size_t count, const char *before)
{
    BIO *bio = BIO_new(BIO_s_mem());
    struct bytes text;
    char *data;
    long len;

    BIO_puts(bio, before);
    for (size_t i = 0; i < count; i++)
        PEM_write_bio_X509(bio, cert[i]);
    len = BIO_get_mem_data(bio, &data);
    text = bytes_copy((struct bytes){(uint8_t *)data, (size_t)len});
    BIO_free(bio);
    return text;
}

enum leafd_err recipe_read(X509 *const *cert, size_t count, bool append_root, struct ca **ret,
                           struct why *why)
{
    struct bytes pem = recipe_pem(cert, count, "");
    enum leafd_err err = ca_read(pem, 3, append_root, ret, why);

    free((void *)pem.data);
    return err;
}

struct ca *recipe_ca(const struct recipe *recipe)
{
    X509 *cert = recipe_cert(recipe);
    struct ca *ca = NULL;
    struct why why = {{0}};

    if (recipe_read(&cert, 1, false, &ca, &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    X509_free(cert);
    return ca;
}

void recipe_refused(const struct recipe *recipe, const char *part)
{
    X509 *cert = recipe_cert(recipe);
    struct ca *ca = NULL;
    struct why why = {{0}};

    assert_int_equal(recipe_read(&cert, 1, false, &ca, &why), LEAFD_CONFIG);
    assert_null(ca);
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not speak of \"%s\"", why.text, part);
    X509_free(cert);
}

bool recipe_allows(const struct ca *ca, const char *host)
{
    struct name name;

    assert_int_equal(name_of_host(bytes_of(host), false, &name, NULL), LEAFD_OK);
    return ca_allows_name(ca, &name);
}

int recipe_keys_new(void **state)
{
    (void)state;
    recipe_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    recipe_other_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    return recipe_key && recipe_other_key ? 0 : -1;
}

int recipe_keys_free(void **state)
{
    (void)state;
    EVP_PKEY_free(recipe_key);
    EVP_PKEY_free(recipe_other_key);
    return 0;
}
