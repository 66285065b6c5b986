/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ca_make.h"

#include "pkcs11/ca_certificate.h"
#include "pkcs11/ca_token.h"
#include "pkcs11/provider.h"

#include <openssl/ec.h>
#include <openssl/err.h>

/* ---- in the token ---- */

enum leafd_err ca_make_check(const struct conf *conf, const struct ca_make_options *options,
                             bool existing, struct why *why)
{
    if ((unsigned)options->key >= CA_KEY_COUNT)
        return fail(why, LEAFD_INTERNAL, "unknown key type");
    if (!existing && conf->ca_rsa_padding == CONF_RSA_PSS && !ca_key_is_rsa(options->key))
        return fail(why, LEAFD_CONFIG,
                    "ca.rsa_padding: pss is for RSA keys, not for %s: take it out, or make an RSA "
                    "key",
                    ca_key_word(options->key));
    if (options->days > CA_DAYS_MAX)
        return fail(why, LEAFD_CONFIG, "a CA for %u days: %d are the most", options->days,
                    CA_DAYS_MAX);
    return ca_certificate_check_cn(options->cn, why);
}

/* The pair exists; a certificate for it, signed by it. */
static enum leafd_err certify(struct ca_token *token, const struct key_pair *pair,
                              const struct ca_make_options *options, struct bytes *ret_pem,
                              struct why *why)
{
    EVP_PKEY *signing_key = NULL;
    X509 *cert = NULL;
    struct ca_certificate_options cert_options = {
        .public_key = pair->public_key,
        .properties = PROVIDER_PROPERTIES,
        .digest = sig_algorithm_digest(pair->algorithm),
        .cn = options->cn,
        .cn_prefix = "leafd CA",
        .days = options->days ? options->days : CA_DAYS_DEFAULT,
        .constraints = options->constraints,
    };
    enum leafd_err err = ca_token_sign_with(token, pair, true, &signing_key, why);

    if (err != LEAFD_OK)
        goto out;
    cert_options.signing_key = signing_key;
    cert_options.libctx = provider_libctx(token->provider);
    err = ca_certificate_make(&cert_options, &cert, why);
    if (err != LEAFD_OK)
        goto out;
    err = ca_certificate_pem(cert, ret_pem);
out:
    X509_free(cert);
    EVP_PKEY_free(signing_key);
    return err;
}

enum leafd_err ca_make(const struct conf *conf, const struct secret *pin,
                       const struct ca_make_options *options, struct bytes *ret_pem,
                       struct why *why)
{
    struct ca_token token = CA_TOKEN_EMPTY;
    struct key_pair pair = KEY_PAIR_EMPTY;
    enum leafd_err err = ca_make_check(conf, options, false, why);

    if (err == LEAFD_OK)
        err = ca_token_open(conf, pin, options->uri, &token, why);
    if (err != LEAFD_OK)
        goto out;
    err = key_pair_make(token.token, options->key, token.uri, &pair, why);
    if (err != LEAFD_OK)
        goto out;
    if (conf->ca_rsa_padding == CONF_RSA_PSS)
        pair.algorithm = SIG_RSA_PSS_SHA256;
    err = certify(&token, &pair, options, ret_pem, why);
    if (err != LEAFD_OK)
        key_pair_destroy(token.token, &pair);
out:
    key_pair_clear(&pair);
    ca_token_close(&token);
    return err;
}

/* ---- in memory ---- */

enum leafd_err ca_make_ephemeral(struct ca **ret_ca, EVP_PKEY **ret_key, struct why *why)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct ca_certificate_options options = {
        .public_key = key,
        .signing_key = key,
        .digest = "SHA256",
        .cn_prefix = "leafd untrusted CA",
        .days = CA_DAYS_DEFAULT,
    };
    X509 *cert = NULL;
    unsigned char *der = NULL;
    int len;
    enum leafd_err err;

    if (!key) {
        ERR_clear_error();
        return fail(why, LEAFD_INTERNAL, "OpenSSL makes no P-256 key");
    }
    err = ca_certificate_make(&options, &cert, why);
    if (err != LEAFD_OK)
        goto out;
    len = i2d_X509(cert, &der);
    if (len <= 0) {
        err = LEAFD_NOMEM;
        goto out;
    }
    err = ca_read((struct bytes){der, (size_t)len}, CA_ID_UNTRUSTED, false, ret_ca, why);
    if (err != LEAFD_OK)
        goto out;

    *ret_key = key;
    key = NULL;
out:
    OPENSSL_free(der);
    X509_free(cert);
    EVP_PKEY_free(key);
    return err;
}

enum leafd_err ca_make_set(const struct conf *conf, struct ca_set *cas, struct ca_set **ret,
                           EVP_PKEY **ret_key, struct why *why)
{
    struct ca *untrusted = NULL;
    EVP_PKEY *key = NULL;
    struct ca_set *set;
    enum leafd_err err;

    if (conf->untrusted != CONF_UNTRUSTED_AUTO) {
        *ret = ca_set_ref(cas);
        return LEAFD_OK;
    }
    err = ca_make_ephemeral(&untrusted, &key, why);
    if (err != LEAFD_OK)
        return err;
    set = ca_set_new(cas->ca, cas->count, untrusted);
    ca_unref(untrusted);
    if (!set) {
        EVP_PKEY_free(key);
        return LEAFD_NOMEM;
    }
    *ret = set;
    *ret_key = key;
    return LEAFD_OK;
}
