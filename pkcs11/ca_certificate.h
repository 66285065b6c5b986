/* SPDX-License-Identifier: Apache-2.0 */
/* A CA's own certificate, or the request for one: what it says (RFC 5280 section 4.2.1) and the
 * signature under it, with whatever key OpenSSL can sign with, one in a token included.
 *
 * Threads: every function from any thread. */
#pragma once

#include "policy/name_constraints.h"

#include <openssl/x509.h>

struct ca_certificate_options {
    EVP_PKEY *public_key; /* default library context */
    EVP_PKEY *signing_key;
    OSSL_LIB_CTX *libctx; /* the signing key's */
    const char *properties;
    const char *digest; /* NULL: Ed25519 hashes by itself */
    const char *cn;     /* NULL: prefix and a short key id */
    const char *cn_prefix;
    unsigned days;
    const struct name_constraints *constraints; /* NULL: none */
};

/* A self-signed certificate of a CA that issues leaves alone (pathlen 0), valid from two days ago
 * for `days`; its signature is verified. The caller frees it. LEAFD_TOKEN_UNAVAILABLE: the token
 * did not sign, or not well. */
LEAFD_CHECKED enum leafd_err ca_certificate_make(const struct ca_certificate_options *options,
                                                 X509 **ret, struct why *why);
/* A request (RFC 2986) for such a certificate; its `days` are not asked for. */
LEAFD_CHECKED enum leafd_err ca_certificate_request(const struct ca_certificate_options *options,
                                                    X509_REQ **ret, struct why *why);
/* LEAFD_CONFIG: `cn` (NULL is fine) cannot be a CA's name: 1 to 64 characters of UTF-8. */
LEAFD_CHECKED enum leafd_err ca_certificate_check_cn(const char *cn, struct why *why);
/* As one PEM block; *ret is the caller's to free(). */
LEAFD_CHECKED enum leafd_err ca_certificate_pem(X509 *cert, struct bytes *ret);
LEAFD_CHECKED enum leafd_err ca_certificate_request_pem(X509_REQ *request, struct bytes *ret);
