/* SPDX-License-Identifier: Apache-2.0 */
#include "der/spki.h"

#include "der/der_reader.h"
#include "der/oid.h"

struct curve {
    const struct bytes *oid;
    enum key_type type;
    unsigned bits;
};

static const struct curve curves[] = {
    {&oid_p256, KEY_TYPE_P256, 256},
    {&oid_p384, KEY_TYPE_P384, 384},
    {&oid_p521, KEY_TYPE_P521, 521},
    {&oid_sm2, KEY_TYPE_SM2, 256},
    {&oid_p224, KEY_TYPE_OTHER_EC, 224},
    {&oid_secp256k1, KEY_TYPE_OTHER_EC, 256},
    {&oid_brainpool256, KEY_TYPE_OTHER_EC, 256},
    {&oid_brainpool320, KEY_TYPE_OTHER_EC, 320},
    {&oid_brainpool384, KEY_TYPE_OTHER_EC, 384},
    {&oid_brainpool512, KEY_TYPE_OTHER_EC, 512},
};

/* What stands in the element, before anybody asks what it means. */
struct spki_parts {
    struct bytes algorithm;  /* OID */
    struct bytes parameters; /* whole element; len 0 when absent */
    struct bytes key;
    bool octet_aligned; /* no unused bits in the BIT STRING */
};

static bool read_parts(struct bytes whole, struct spki_parts *ret)
{
    struct der der = der_of(whole);
    struct der spki = der_enter(&der, DER_SEQUENCE);
    struct der algorithm = der_enter(&spki, DER_SEQUENCE);
    struct bytes bits = der_read(&spki, DER_BIT_STRING);
    uint8_t tag;
    struct bytes content;

    *ret = (struct spki_parts){.algorithm = der_read(&algorithm, DER_OID)};
    if (!algorithm.failed && !der_done(&algorithm))
        der_read_any(&algorithm, &tag, &content, &ret->parameters);
    if (!der_done(&der) || !der_done(&spki) || !der_done(&algorithm))
        return false;
    if (ret->algorithm.len == 0 || bits.len < 1 || bits.data[0] > 7)
        return false;
    ret->octet_aligned = bits.data[0] == 0;
    ret->key = (struct bytes){bits.data + 1, bits.len - 1};
    return true;
}

/* Bits of an unsigned number in big-endian octets, leading zeros aside. */
static unsigned bit_length(struct bytes number)
{
    unsigned bits;

    while (number.len && number.data[0] == 0) {
        number.data++;
        number.len--;
    }
    if (number.len == 0)
        return 0;
    bits = (unsigned)(number.len - 1) * 8;
    for (uint8_t top = number.data[0]; top; top >>= 1)
        bits++;
    return bits;
}

/* A minimal INTEGER above zero. */
static bool is_positive(struct bytes integer)
{
    if (integer.len == 0 || integer.data[0] & 0x80)
        return false;
    if (integer.data[0] == 0)
        return integer.len > 1 && integer.data[1] & 0x80;
    return true;
}

/* The modulus is counted as it stands, without its sign: some old certificates miss the leading
 * zero. A key that is no RSAPublicKey has 0 bits, which is too short for every purpose. */
static void look_at_rsa(const struct spki_parts *parts, struct spki *spki)
{
    static const uint8_t null[] = {DER_NULL, 0};
    struct der der = der_of(parts->key);
    struct der rsa = der_enter(&der, DER_SEQUENCE);
    struct bytes modulus = der_read(&rsa, DER_INTEGER);
    struct bytes exponent = der_read(&rsa, DER_INTEGER);

    spki->type = KEY_TYPE_RSA;
    if (!der_done(&rsa) || !der_done(&der))
        return;
    spki->bits = bit_length(modulus);
    spki->well_formed = parts->octet_aligned && is_positive(modulus) && is_positive(exponent) &&
                        bytes_equal(parts->algorithm, oid_rsa) &&
                        bytes_equal(parts->parameters, (struct bytes){null, sizeof(null)});
}

static void look_at_ec(const struct spki_parts *parts, struct spki *spki)
{
    struct der der = der_of(parts->parameters);
    struct bytes oid;

    if (!der_next_is(&der, DER_OID))
        return; /* explicit parameters, or none */
    oid = der_read(&der, DER_OID);
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
        size_t field = (curves[i].bits + 7) / 8;

        if (!bytes_equal(oid, *curves[i].oid))
            continue;
        spki->type = curves[i].type;
        spki->bits = curves[i].bits;
        spki->well_formed =
            parts->octet_aligned && parts->key.len == 1 + 2 * field && parts->key.data[0] == 0x04;
        return;
    }
}

static void look_at_edwards(const struct spki_parts *parts, enum key_type type, size_t key_len,
                            struct spki *spki)
{
    spki->type = type;
    spki->well_formed =
        parts->octet_aligned && parts->parameters.len == 0 && parts->key.len == key_len;
}

enum leafd_err spki_read(struct bytes whole, struct spki *ret)
{
    struct spki_parts parts;
    struct spki spki = {.type = KEY_TYPE_NONE};

    if (!read_parts(whole, &parts))
        return LEAFD_MALFORMED;
    spki.key = parts.key;
    if (bytes_equal(parts.algorithm, oid_rsa) || bytes_equal(parts.algorithm, oid_rsa_pss))
        look_at_rsa(&parts, &spki);
    else if (bytes_equal(parts.algorithm, oid_ec_public_key))
        look_at_ec(&parts, &spki);
    else if (bytes_equal(parts.algorithm, oid_ed25519))
        look_at_edwards(&parts, KEY_TYPE_ED25519, 32, &spki);
    else if (bytes_equal(parts.algorithm, oid_ed448))
        look_at_edwards(&parts, KEY_TYPE_ED448, 57, &spki);
    else if (bytes_equal(parts.algorithm, oid_dsa))
        spki.type = KEY_TYPE_DSA;
    *ret = spki;
    return LEAFD_OK;
}

const char *key_type_name(enum key_type type)
{
    static const char *const names[KEY_TYPE_COUNT] = {
        [KEY_TYPE_NONE] = "none",    [KEY_TYPE_RSA] = "rsa",      [KEY_TYPE_P256] = "ec-p256",
        [KEY_TYPE_P384] = "ec-p384", [KEY_TYPE_P521] = "ec-p521", [KEY_TYPE_ED25519] = "ed25519",
        [KEY_TYPE_ED448] = "ed448",  [KEY_TYPE_SM2] = "sm2",      [KEY_TYPE_OTHER_EC] = "other-ec",
        [KEY_TYPE_DSA] = "dsa",
    };

    return (unsigned)type < KEY_TYPE_COUNT ? names[type] : "none";
}
