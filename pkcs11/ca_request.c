/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ca_request.h"

#include "pkcs11/ca_certificate.h"
#include "pkcs11/ca_token.h"
#include "pkcs11/provider.h"

/* The key that is there, or a new one. */
static enum leafd_err find_or_make(const struct conf *conf, struct ca_token *token,
                                   const struct ca_request_options *options, struct key_pair *ret,
                                   bool *ret_made, struct why *why)
{
    enum leafd_err err = key_pair_find(token->token, token->uri, ret, why);

    if (err == LEAFD_ABSENT && !options->existing) {
        err = ca_make_check(conf, &options->ca, false, why);
        if (err == LEAFD_OK)
            err = key_pair_make(token->token, options->ca.key, token->uri, ret, why);
        *ret_made = err == LEAFD_OK;
        return err;
    }
    if (err == LEAFD_OK && options->key_given) {
        key_pair_clear(ret);
        return fail(why, LEAFD_CONFIG,
                    "the token has a key that answers to %s already: leave --key out to use it, or "
                    "name another one in ca.key",
                    token_uri_text(token->uri));
    }
    return err;
}

static enum leafd_err use_padding(const struct conf *conf, struct key_pair *pair, struct why *why)
{
    if (conf->ca_rsa_padding != CONF_RSA_PSS)
        return LEAFD_OK;
    if (!sig_algorithm_is_rsa(pair->algorithm))
        return fail(why, LEAFD_CONFIG,
                    "ca.rsa_padding: pss is for RSA keys, and the key in the token is none");
    pair->algorithm = SIG_RSA_PSS_SHA256;
    return LEAFD_OK;
}

static enum leafd_err request(struct ca_token *token, const struct key_pair *pair, bool is_new,
                              const struct ca_make_options *options, struct bytes *ret_pem,
                              struct why *why)
{
    EVP_PKEY *signing_key = NULL;
    X509_REQ *request = NULL;
    struct ca_certificate_options cert_options = {
        .public_key = pair->public_key,
        .properties = PROVIDER_PROPERTIES,
        .digest = sig_algorithm_digest(pair->algorithm),
        .cn = options->cn,
        .cn_prefix = "leafd CA",
        .constraints = options->constraints,
    };
    enum leafd_err err = ca_token_sign_with(token, pair, is_new, &signing_key, why);

    if (err != LEAFD_OK)
        goto out;
    cert_options.signing_key = signing_key;
    cert_options.libctx = provider_libctx(token->provider);
    err = ca_certificate_request(&cert_options, &request, why);
    if (err != LEAFD_OK)
        goto out;
    err = ca_certificate_request_pem(request, ret_pem);
out:
    X509_REQ_free(request);
    EVP_PKEY_free(signing_key);
    return err;
}

enum leafd_err ca_request_make(const struct conf *conf, const struct secret *pin,
                               const struct ca_request_options *options, struct bytes *ret_pem,
                               bool *ret_made, struct why *why)
{
    struct ca_token token = CA_TOKEN_EMPTY;
    struct key_pair pair = KEY_PAIR_EMPTY;
    bool made = false;
    enum leafd_err err = ca_make_check(conf, &options->ca, true, why);

    if (err == LEAFD_OK)
        err = ca_token_open(conf, pin, options->ca.uri, &token, why);
    if (err != LEAFD_OK)
        goto out;
    err = find_or_make(conf, &token, options, &pair, &made, why);
    if (err != LEAFD_OK)
        goto out;
    err = use_padding(conf, &pair, why);
    if (err == LEAFD_OK)
        err = request(&token, &pair, made, &options->ca, ret_pem, why);
    if (err != LEAFD_OK && made)
        key_pair_destroy(token.token, &pair);
    if (err == LEAFD_OK)
        *ret_made = made;
out:
    key_pair_clear(&pair);
    ca_token_close(&token);
    return err;
}
