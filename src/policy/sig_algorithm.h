/* SPDX-License-Identifier: Apache-2.0 */
/* How a CA signs: the algorithms that leafd knows, as certificates name them.
 *
 * Threads: no shared state. */
#pragma once

#include "der/spki.h"

enum sig_algorithm {
    SIG_RSA_SHA256,     /* RSASSA-PKCS1-v1_5 */
    SIG_RSA_PSS_SHA256, /* with MGF1 of SHA-256 and a salt of SIG_PSS_SALT octets */
    SIG_ECDSA_SHA256,
    SIG_ECDSA_SHA384,
    SIG_ED25519,
    SIG_COUNT
};
enum { SIG_PSS_SALT = 32 };

/* The whole AlgorithmIdentifier (RFC 4055, 5758, 8410), a constant. */
struct bytes sig_algorithm_der(enum sig_algorithm algorithm);
/* "rsa-sha256", "rsa-pss-sha256", "ecdsa-sha256", "ecdsa-sha384", "ed25519". */
const char *sig_algorithm_name(enum sig_algorithm algorithm);
/* OpenSSL's name of the hash; NULL for Ed25519, which takes the message itself. */
const char *sig_algorithm_digest(enum sig_algorithm algorithm);
bool sig_algorithm_is_rsa(enum sig_algorithm algorithm);
/* Octets of the longest signature as it stands in a certificate, by a key of `key_bits` bits (EC:
 * of the field). */
size_t sig_algorithm_max_len(enum sig_algorithm algorithm, unsigned key_bits);

/* What a CA with this key signs with when nothing else is said: PSS for an id-RSASSA-PSS key
 * (RFC 4055 section 3.1), else PKCS #1 v1.5 for RSA. LEAFD_CONFIG with a sentence about the key: of
 * a type or form that leafd does not sign with, or one whose own parameters forbid what leafd does.
 */
LEAFD_CHECKED enum leafd_err sig_algorithm_of_key(struct bytes whole_spki, enum sig_algorithm *ret,
                                                  struct why *why);
