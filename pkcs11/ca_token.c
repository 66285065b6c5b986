/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ca_token.h"

#include "pkcs11/provider.h"
#include "pkcs11/token_key.h"

enum leafd_err ca_token_open(const struct conf *conf, const struct secret *pin, const char *uri,
                             struct ca_token *ret, struct why *why)
{
    struct ca_token token = CA_TOKEN_EMPTY;
    CK_SLOT_ID slot;
    enum leafd_err err;

    if (conf->token[0].access == CONF_ACCESS_FILE)
        return fail(why, LEAFD_CONFIG, "token.access: file has no token to make a key in");
    err = token_uri_parse(uri ? uri : conf->ca[0].key, &token.uri, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_module_open(&conf->token[0], &token.module, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_find_slot(token.module, token.uri, &slot, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_new(token.module, slot, CKF_RW_SESSION, 1, &token.token, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_login(token.token, token.uri, pin, why);
    if (err != LEAFD_OK)
        goto out;
    err = provider_new(&token.provider, why);
    if (err != LEAFD_OK)
        goto out;

    *ret = token;
    token = CA_TOKEN_EMPTY;
    err = LEAFD_OK;
out:
    ca_token_close(&token);
    return err;
}

void ca_token_close(struct ca_token *token)
{
    provider_free(token->provider);
    token_key_free(token->key);
    token_free(token->token);
    token_module_close(token->module);
    token_uri_free(token->uri);
    *token = CA_TOKEN_EMPTY;
}

enum leafd_err ca_token_sign_with(struct ca_token *token, const struct key_pair *pair, bool is_new,
                                  EVP_PKEY **ret, struct why *why)
{
    enum leafd_err err = token_key_of_handle(token->token, pair->private_object, pair->algorithm,
                                             pair->bits, &token->key, why);

    if (err != LEAFD_OK)
        return err;
    if (is_new && (token->key->extractable == 1 || token->key->sensitive == 0))
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "token \"%s\" made a key that can be taken out of it although it was told not "
                    "to; the key was destroyed",
                    token->token->label);
    return provider_key(token->provider, token->key, ret, why);
}
