/* SPDX-License-Identifier: Apache-2.0 */
/* A leaf's key pair in the forms that leaves and replies need, each made once. Immutable, counted,
 * cleansed with its last reference.
 *
 * Threads: every function from any thread. */
#pragma once

#include "base/bytes.h"
#include "der/spki.h"

struct leaf_key {
    _Atomic unsigned refs;
    enum key_type type;
    unsigned bits;            /* RSA alone */
    struct bytes spki;        /* whole SubjectPublicKeyInfo */
    uint8_t key_id[20];       /* RFC 7093 method 1: leftmost 160 bits of SHA-256 of the key bits */
    struct bytes private_der; /* SEC1 ECPrivateKey, PKCS#1 RSAPrivateKey, else PKCS#8 */
    struct bytes private_pem; /* PKCS#8 PEM */
};

/* Makes a new pair with OpenSSL. LEAFD_UNSUPPORTED for a type nobody makes; *ret is untouched. */
LEAFD_CHECKED enum leafd_err leaf_key_make(enum key_type type, unsigned bits, struct leaf_key **ret);
struct leaf_key *leaf_key_ref(struct leaf_key *key);
void leaf_key_unref(struct leaf_key *key); /* NULL is fine */
