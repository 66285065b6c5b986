/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/leaf_type.h"

const struct leaf_type leaf_types[LEAF_TYPE_COUNT] = {
    {"ec-p256", KEY_TYPE_P256, 0, 91, 121, 138},
    {"ed25519", KEY_TYPE_ED25519, 0, 44, 48, 48},
    {"ed448", KEY_TYPE_ED448, 0, 69, 73, 73},
    {"sm2", KEY_TYPE_SM2, 0, 91, 121, 138},
    {"ec-p384", KEY_TYPE_P384, 0, 120, 167, 185},
    {"ec-p521", KEY_TYPE_P521, 0, 158, 223, 241},
    {"rsa-2048", KEY_TYPE_RSA, 2048, 294, 1194, 1220},
    {"rsa-3072", KEY_TYPE_RSA, 3072, 422, 1770, 1796},
    {"rsa-4096", KEY_TYPE_RSA, 4096, 550, 2351, 2377},
};

const struct leaf_type *leaf_type_find(enum key_type type, unsigned bits)
{
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        if (leaf_types[i].type == type && (type != KEY_TYPE_RSA || leaf_types[i].bits == bits))
            return &leaf_types[i];
    return NULL;
}

unsigned leaf_type_rsa_bits(unsigned upstream_bits)
{
    unsigned bits = LEAF_RSA_BITS_MIN;

    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        if (leaf_types[i].bits <= upstream_bits && leaf_types[i].bits > bits)
            bits = leaf_types[i].bits;
    return bits;
}
