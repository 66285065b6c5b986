/* SPDX-License-Identifier: Apache-2.0 */
/* A CA's key pair in a token: made there, or found there with nothing known of it but its URI.
 *
 * Threads: from one thread at a time. */
#pragma once

#include "pkcs11/token.h"
#include "policy/sig_algorithm.h"

#include <openssl/evp.h>

enum ca_key {
    CA_KEY_P256,
    CA_KEY_P384,
    CA_KEY_RSA_2048,
    CA_KEY_RSA_3072,
    CA_KEY_RSA_4096,
    CA_KEY_ED25519,
    CA_KEY_COUNT
};
/* The words for them, in their order; ./quickstart and the shell's completion know them from here.
 */
#define CA_KEY_WORDS "ec-p256, ec-p384, rsa-2048, rsa-3072, rsa-4096 or ed25519"
/* A word to its value; false for another word. */
bool ca_key_of(const char *word, enum ca_key *ret);
const char *ca_key_word(enum ca_key key);
bool ca_key_is_rsa(enum ca_key key);

struct key_pair {
    CK_OBJECT_HANDLE private_object;
    CK_OBJECT_HANDLE public_object; /* CK_INVALID_HANDLE: not looked for */
    enum sig_algorithm algorithm;
    unsigned bits;
    EVP_PKEY *public_key; /* default library context */
};
#define KEY_PAIR_EMPTY ((struct key_pair){CK_INVALID_HANDLE, CK_INVALID_HANDLE, SIG_COUNT, 0, NULL})

/* Generates one: the private part sensitive, not extractable, for signing alone. `uri` gives the
 * label, and the id if it has one. The caller ends it with key_pair_clear(). LEAFD_CONFIG: the URI
 * has no label, or a key with this label or id is there already. */
LEAFD_CHECKED enum leafd_err key_pair_make(struct token *token, enum ca_key key,
                                           const struct token_uri *uri, struct key_pair *ret,
                                           struct why *why);
/* The same, but gone from the token with the session that made it, and under a name that nobody
 * looks for. */
LEAFD_CHECKED enum leafd_err key_pair_make_in_session(struct token *token, enum ca_key key,
                                                      struct key_pair *ret, struct why *why);
/* The one that the URI names. LEAFD_ABSENT: none; LEAFD_CONFIG: several, one of a type that leafd
 * does not take, or one whose public half the token does not give. */
LEAFD_CHECKED enum leafd_err key_pair_find(struct token *token, const struct token_uri *uri,
                                           struct key_pair *ret, struct why *why);
/* Takes it out of the token. */
void key_pair_destroy(struct token *token, const struct key_pair *pair);
/* Ends what is in memory here. */
void key_pair_clear(struct key_pair *pair);
