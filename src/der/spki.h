/* SPDX-License-Identifier: Apache-2.0 */
/* Types of public keys, read from a SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) without ever
 * building the key.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

enum key_type {
    KEY_TYPE_NONE = 0, /* unknown algorithm, explicit or unknown curve */
    KEY_TYPE_RSA,      /* rsaEncryption or id-RSASSA-PSS */
    KEY_TYPE_P256,
    KEY_TYPE_P384,
    KEY_TYPE_P521,
    KEY_TYPE_ED25519,
    KEY_TYPE_ED448,
    KEY_TYPE_SM2,
    KEY_TYPE_OTHER_EC, /* a known named curve nobody issues for: P-224, secp256k1, brainpool r1 */
    KEY_TYPE_DSA,
    KEY_TYPE_COUNT
};

struct spki {
    enum key_type type;
    unsigned bits;    /* RSA: modulus length; EC: field size; else 0 */
    bool well_formed; /* the strict form leafd itself writes (section 6: named curve, uncompressed;
                         rsaEncryption with NULL) */
    struct bytes key; /* content of the BIT STRING without its unused-bits octet, borrowed */
};

/* Reads the whole SubjectPublicKeyInfo element. LEAFD_MALFORMED: not one; *ret is untouched. An
 * unknown algorithm is no error: type is KEY_TYPE_NONE. */
LEAFD_CHECKED enum leafd_err spki_read(struct bytes whole, struct spki *ret);
/* "rsa", "ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448", "sm2", "other-ec", "dsa", "none". */
const char *key_type_name(enum key_type type);
