/* SPDX-License-Identifier: Apache-2.0 */
/* One private key in a token: found by URI, compared with its CA certificate, and what signs.
 *
 * Threads: token_key_sign from any thread; all else from one. */
#pragma once

#include "pkcs11/token.h"
#include "policy/ca.h"

#include <openssl/evp.h>

struct token_mechanism {
    CK_MECHANISM_TYPE type;
    bool hashes; /* it takes the message, not its digest */
};

/* What a token signs with for this algorithm, as C_GetMechanismInfo tells: on the digest where it
 * can, else on the message. LEAFD_CONFIG: it cannot; the sentence lacks its subject ("signs with
 * neither CKM_ECDSA nor CKM_ECDSA_SHA256"). */
LEAFD_CHECKED enum leafd_err token_mechanism_choose(struct token_module *module, CK_SLOT_ID slot,
                                                    enum sig_algorithm algorithm,
                                                    struct token_mechanism *ret, struct why *why);

struct token_key {
    struct token *token;
    CK_OBJECT_HANDLE handle;
    enum sig_algorithm algorithm;
    unsigned bits;
    size_t signature_max; /* octets */
    struct token_mechanism mechanism;
    bool always_authenticate; /* it wants the PIN before each signature */
    EVP_MD *md;               /* NULL for Ed25519 */
    char label[132];          /* escaped, for messages */
    uint8_t id[64];
    size_t id_len;
    /* 0, 1, or -1 when the token does not tell */
    int extractable, sensitive, never_extractable, always_sensitive;
};

/* The handle and type of the one private key that the URI names. LEAFD_ABSENT: none; LEAFD_CONFIG:
 * more than one. */
LEAFD_CHECKED enum leafd_err token_key_handle(struct token *token, CK_SESSION_HANDLE session,
                                              const struct token_uri *uri, CK_OBJECT_HANDLE *ret,
                                              CK_KEY_TYPE *ret_type, struct why *why);
/* The one private key that the URI names. LEAFD_ABSENT: none; LEAFD_CONFIG: more than one, of
 * another type than `ca`'s, or one that leafd cannot use. The caller ends it with token_key_free().
 */
LEAFD_CHECKED enum leafd_err token_key_find(struct token *token, const struct token_uri *uri,
                                            const struct ca *ca, struct token_key **ret,
                                            struct why *why);
/* A key known by its handle (just generated). */
LEAFD_CHECKED enum leafd_err token_key_of_handle(struct token *token, CK_OBJECT_HANDLE handle,
                                                 enum sig_algorithm algorithm, unsigned bits,
                                                 struct token_key **ret, struct why *why);
void token_key_free(struct token_key *key); /* NULL is fine */

/* Is there a private or public key on an Edwards curve, ours or not? LEAFD_TOKEN_UNAVAILABLE. */
LEAFD_CHECKED enum leafd_err token_has_edwards_key(struct token *token, bool *ret, struct why *why);

/* Compares the public half with `public_key`: modulus, or point. True in *ret_known when the token
 * could tell and they are equal; LEAFD_CONFIG when they differ. */
LEAFD_CHECKED enum leafd_err token_key_compare(struct token_key *key, EVP_PKEY *public_key,
                                               const char *certificate, bool *ret_known,
                                               struct why *why);

/* The point of `len` octets in a CKA_EC_POINT, borrowed: in an OCTET STRING (PKCS#11 2.20), in a
 * BIT STRING (PKCS#11 3.0, for Edwards curves) or bare, as modules have it. False: none of them. */
bool token_key_point(struct bytes attribute, size_t len, struct bytes *ret);

/* The signature of `message` as it stands in a certificate. A session that fails is replaced and
 * the signature tried once more. `size` at least signature_max. LEAFD_TOKEN_UNAVAILABLE;
 * LEAFD_UNSUPPORTED: the token will not sign this message, on whatever session. */
LEAFD_CHECKED enum leafd_err token_key_sign(struct token_key *key, struct bytes message,
                                            uint8_t *out, size_t size, size_t *ret_len,
                                            struct why *why);

#ifndef CKM_AES_KEY_WRAP_KWP /* PKCS#11 3.0; p11-kit's header does not have it yet */
#define CKM_AES_KEY_WRAP_KWP 0x210bUL
#endif
/* "CKM_ECDSA" */
const char *ckm_name(CK_MECHANISM_TYPE mechanism);
