/* SPDX-License-Identifier: Apache-2.0 */
/* A token opened to make a CA's things in it: logged in, with sessions that may write, and its keys
 * as OpenSSL's. Who only signs with the configured CAs takes pkcs11/backend.
 *
 * Threads: from one thread; it loads the PKCS#11 module, so one at a time, and never in the front.
 */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "pkcs11/key_pair.h"

struct ca_token {
    struct token_uri *uri;
    struct token_module *module;
    struct token *token;
    struct provider *provider;
    struct token_key *key; /* ca_token_sign_with()'s */
};
#define CA_TOKEN_EMPTY ((struct ca_token){NULL, NULL, NULL, NULL, NULL})

/* The token of `uri` (NULL: of conf->ca[0].key). `pin` may be NULL or empty (then the URI's own).
 * LEAFD_CONFIG: module or URI; LEAFD_PIN, LEAFD_ABSENT, LEAFD_TOKEN_UNAVAILABLE as backend_open.
 * The caller ends it with ca_token_close(), which takes an empty one too. */
LEAFD_CHECKED enum leafd_err ca_token_open(const struct conf *conf, const struct secret *pin,
                                           const char *uri, struct ca_token *ret, struct why *why);
void ca_token_close(struct ca_token *token);

/* The private half, fit to sign. Once per token; the caller frees the EVP_PKEY before the token. Of
 * one that is `is_new` nothing less is taken than what it was to be: LEAFD_TOKEN_UNAVAILABLE when
 * it can be taken out of the token. */
LEAFD_CHECKED enum leafd_err ca_token_sign_with(struct ca_token *token, const struct key_pair *pair,
                                                bool is_new, EVP_PKEY **ret, struct why *why);
