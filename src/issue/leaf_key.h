/* SPDX-License-Identifier: Apache-2.0 */
/* A leaf's key pair in the forms that leaves and replies need, made once; PEM alone is made when it
 * is asked for, since it would take more memory than the rest. Immutable, counted, cleansed
 * with its last reference.
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
    struct bytes private_der; /* SEC1 ECPrivateKey (SM2 too), PKCS#1 RSAPrivateKey, else PKCS#8 */
};
enum { LEAF_KEY_PEM_MAX = 4096 };

/* Makes a new pair with OpenSSL. LEAFD_UNSUPPORTED for what is no row of leaf_types; *ret is
 * untouched. */
LEAFD_CHECKED enum leafd_err leaf_key_make(enum key_type type, unsigned bits,
                                           struct leaf_key **ret);
/* The same; gives up with LEAFD_INTERNAL soon after *stop becomes true. */
LEAFD_CHECKED enum leafd_err leaf_key_make_unless(const _Atomic bool *stop, enum key_type type,
                                                  unsigned bits, struct leaf_key **ret);
struct leaf_key *leaf_key_ref(struct leaf_key *key);
void leaf_key_unref(struct leaf_key *key); /* NULL is fine */
/* The private key as PKCS#8 PEM, written into `out`, which the caller cleanses; LEAF_KEY_PEM_MAX
 * octets are always enough. LEAFD_TOO_LARGE: *ret is untouched. */
LEAFD_CHECKED enum leafd_err leaf_key_pem(const struct leaf_key *key, uint8_t *out, size_t size,
                                          struct bytes *ret);
