/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that leaves have: one row for each type and size, which all follow that choose, make,
 * stock, count, check or name them.
 *
 * Threads: constants. */
#pragma once

#include "der/spki.h"

#include <stddef.h>

enum { LEAF_TYPE_COUNT = 9, LEAF_RSA_BITS_MIN = 2048, LEAF_RSA_BITS_MAX = 4096 };

struct leaf_type {
    const char *name; /* "ec-p256", "rsa-3072" */
    enum key_type type;
    unsigned bits;      /* RSA alone */
    size_t spki_len;    /* octets of the SubjectPublicKeyInfo */
    size_t private_len; /* of the private key as SEC1, PKCS#1, else PKCS#8; an RSA key may be a few
                           shorter */
    size_t pkcs8_len;   /* of the same as PKCS#8 */
};

/* Those that are quickly made come first. */
extern const struct leaf_type leaf_types[LEAF_TYPE_COUNT];

/* The row of this type and (RSA alone) size, or NULL: no leaf has such a key. */
const struct leaf_type *leaf_type_find(enum key_type type, unsigned bits);
/* The size of the RSA keys we make that is nearest to an upstream's modulus without being larger,
 * and 2048 for the smaller ones. */
unsigned leaf_type_rsa_bits(unsigned upstream_bits);
