/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/upstream_algorithms.h"

#include "der/der_reader.h"
#include "der/oid.h"
#include "policy/upstream.h"

#include <string.h>

enum { RSA_WEAK_BELOW = 1024, RSA_SHORT_BELOW = 2048, EXPONENT_MIN = 3 };

/* ---- keys ---- */

/* Content of an INTEGER, as RFC 8017 wants its numbers: above zero, odd. */
static bool is_odd_number(struct bytes integer, uint8_t least)
{
    size_t zeros = 0;

    while (zeros < integer.len && integer.data[zeros] == 0)
        zeros++;
    if (zeros == integer.len || !(integer.data[integer.len - 1] & 1))
        return false;
    return integer.len - zeros > 1 || integer.data[zeros] >= least;
}

static bool is_negative(struct bytes integer)
{
    return integer.len > 0 && integer.data[0] & 0x80;
}

/* With an exponent of 1 everybody can sign, and with an even number nobody. A modulus that lacks
 * the zero octet of its sign is an old mistake, which everybody reads as it was meant. */
static unsigned rsa_flags(const struct spki *spki)
{
    struct der der = der_of(spki->key);
    struct der rsa = der_enter(&der, DER_SEQUENCE);
    struct bytes modulus = der_read(&rsa, DER_INTEGER);
    struct bytes exponent = der_read(&rsa, DER_INTEGER);
    unsigned flags = 0;

    if (spki->bits < RSA_WEAK_BELOW || is_negative(exponent) ||
        !is_odd_number(modulus, EXPONENT_MIN) || !is_odd_number(exponent, EXPONENT_MIN))
        return UPSTREAM_KEY_WEAK;
    if (is_negative(modulus) || !der_integer_is_minimal(modulus) ||
        !der_integer_is_minimal(exponent))
        flags |= UPSTREAM_ODD_FORMS;
    if (spki->bits < RSA_SHORT_BELOW)
        flags |= UPSTREAM_RSA_SHORT;
    return flags;
}

/* A point, compressed or not (RFC 5480 section 2.2, which has no hybrid form). */
static bool is_point(const struct spki *spki)
{
    enum { EVEN = 0x02, ODD = 0x03, UNCOMPRESSED = 0x04 };
    size_t field = (spki->bits + 7) / 8;
    uint8_t form = spki->key.len ? spki->key.data[0] : 0;

    if (form == UNCOMPRESSED)
        return spki->key.len == 1 + 2 * field;
    return (form == EVEN || form == ODD) && spki->key.len == 1 + field;
}

/* No key is a part of an octet. */
static bool is_of_octets(struct bytes whole)
{
    struct der der = der_of(whole);
    struct der content = der_enter(&der, DER_SEQUENCE);
    struct bytes bits;

    (void)der_read(&content, DER_SEQUENCE);
    bits = der_read(&content, DER_BIT_STRING);
    return bits.len > 0 && bits.data[0] == 0;
}

static bool is_of_unknown_curve(struct bytes whole)
{
    struct der der = der_of(whole);
    struct der content = der_enter(&der, DER_SEQUENCE);
    struct der algorithm = der_enter(&content, DER_SEQUENCE);

    return bytes_equal(der_read(&algorithm, DER_OID), oid_ec_public_key);
}

unsigned upstream_key_flags(struct bytes whole, struct spki *ret)
{
    if (spki_read(whole, ret) != LEAFD_OK) {
        *ret = (struct spki){.type = KEY_TYPE_NONE};
        return UPSTREAM_KEY_WEAK;
    }
    switch (ret->type) {
    case KEY_TYPE_NONE: /* a curve that is spelt out or unknown; new algorithms are not weak */
        return is_of_unknown_curve(whole) ? UPSTREAM_KEY_WEAK : 0;
    case KEY_TYPE_RSA:
        return is_of_octets(whole) ? rsa_flags(ret) : UPSTREAM_KEY_WEAK;
    case KEY_TYPE_ED25519:
    case KEY_TYPE_ED448:
        return ret->well_formed ? 0 : UPSTREAM_KEY_WEAK;
    case KEY_TYPE_P256:
    case KEY_TYPE_P384:
    case KEY_TYPE_P521:
    case KEY_TYPE_SM2:
    case KEY_TYPE_OTHER_EC:
        return is_of_octets(whole) && is_point(ret) ? 0 : UPSTREAM_KEY_WEAK;
    default:
        return UPSTREAM_KEY_WEAK;
    }
}

/* ---- signature algorithms ---- */

static bool is_weak_hash(struct bytes oid)
{
    return bytes_equal(oid, oid_sha1) || bytes_equal(oid, oid_md2) || bytes_equal(oid, oid_md4) ||
           bytes_equal(oid, oid_md5);
}

/* RSASSA-PSS names its hash in the parameters (RFC 4055 section 3.1); unnamed, it is SHA-1. */
static bool pss_is_weak(struct der *algorithm)
{
    struct der parameters = der_enter(algorithm, DER_SEQUENCE);
    struct der holder = der_enter(&parameters, DER_CONTEXT_CONSTRUCTED(0));
    struct der hash = der_enter(&holder, DER_SEQUENCE);
    struct bytes oid = der_read(&hash, DER_OID);

    return hash.failed || is_weak_hash(oid);
}

/* So does ecdsa-with-Specified (X9.62). */
static bool specified_is_weak(struct der *algorithm)
{
    struct der hash = der_enter(algorithm, DER_SEQUENCE);
    struct bytes oid = der_read(&hash, DER_OID);

    return hash.failed || is_weak_hash(oid);
}

/* All of the OIW's algorithms are of the time of DES, MD5 and SHA-1. */
static bool is_of_oiw(struct bytes oid)
{
    return oid.len > oid_oiw_algorithms.len &&
           memcmp(oid.data, oid_oiw_algorithms.data, oid_oiw_algorithms.len) == 0;
}

static bool algorithm_is_weak(struct bytes whole)
{
    static const struct bytes *const weak[] = {
        &oid_rsa_md2,  &oid_rsa_md4,    &oid_rsa_md5,          &oid_rsa_sha1,
        &oid_dsa_sha1, &oid_ecdsa_sha1, &oid_ecdsa_plain_sha1,
    };
    struct der der = der_of(whole);
    struct der algorithm = der_enter(&der, DER_SEQUENCE);
    struct bytes oid = der_read(&algorithm, DER_OID);

    if (bytes_equal(oid, oid_rsa_pss))
        return pss_is_weak(&algorithm);
    if (bytes_equal(oid, oid_ecdsa_specified))
        return specified_is_weak(&algorithm);
    for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++)
        if (bytes_equal(oid, *weak[i]))
            return true;
    return is_of_oiw(oid);
}

/* Two algorithms in one certificate count as a weak one, since the signature then vouches for
 * neither. */
unsigned upstream_signature_flags(struct bytes inner, struct bytes outer)
{
    return algorithm_is_weak(inner) || !bytes_equal(inner, outer) ? UPSTREAM_SIGNATURE_WEAK : 0;
}
