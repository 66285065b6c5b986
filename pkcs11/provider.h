/* SPDX-License-Identifier: Apache-2.0 */
/* Token keys as EVP_PKEYs: an OpenSSL provider "leafd" inside this process, in a library context of
 * its own, so that EVP_DigestSign and X509_sign work with them and nothing else ever goes to the
 * token.
 *
 * Threads: provider_new, _key and _free from one thread; the keys and their contexts as OpenSSL's.
 */
#pragma once

#include "pkcs11/token_key.h"

struct provider;

LEAFD_CHECKED enum leafd_err provider_new(struct provider **ret, struct why *why);
void provider_free(struct provider *provider); /* after all its keys; NULL is fine */

OSSL_LIB_CTX *provider_libctx(struct provider *provider);
/* The property query for contexts that sign: our keys from our provider, digests from any. */
#define PROVIDER_PROPERTIES "?provider=leafd"

/* `key` must live longer than the EVP_PKEY, which the caller frees. */
LEAFD_CHECKED enum leafd_err provider_key(struct provider *provider, struct token_key *key,
                                          EVP_PKEY **ret, struct why *why);

/* Why the last signature that this thread made through the provider failed; LEAFD_OK when it did
 * not. */
enum leafd_err provider_sign_failed(struct why *why);
