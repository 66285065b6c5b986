/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates made by OpenSSL for tests: CAs, and upstream leaves with anything wrong that a test
 * wants. Failing to make one ends the test program.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

#include <openssl/evp.h>

struct make_cert {
    const char *cn;                  /* NULL: empty subject */
    const char *issuer;              /* CN; NULL: self-signed */
    EVP_PKEY *key;                   /* the subject's; NULL: a new P-256 */
    EVP_PKEY *signer;                /* NULL: the subject's own for self-signed, else a new P-256 */
    const char *san, *ku, *eku, *bc; /* as in openssl.cnf; NULL: none */
    const char *constraints;         /* nameConstraints */
    const char *ski;                 /* "hash" */
    const char *critical_oid;        /* an extension that nobody knows */
    int64_t not_before, not_after;
    long serial; /* 0: 4711 */
    bool v1;
    bool sha1;
};

/* A new key: "P-256" or another curve that starts so, "RSA:2048", "ED25519", "ED448", "SM2". */
EVP_PKEY *make_key(const char *what);
/* The DER; free(data). */
struct bytes make_cert(const struct make_cert *cert);
/* A CA (CA:TRUE, keyCertSign) of this key: its DER, 10 years. */
struct bytes make_ca(const char *cn, EVP_PKEY *key, int64_t now_sec);
