/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/sig_algorithm.h"

#include "der/der_reader.h"
#include "der/oid.h"

static const uint8_t rsa_sha256_der[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                         0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00};
/* RFC 4055 section 3.1: hash and MGF1's hash with NULL parameters, the trailer left to its default
 */
/* clang-format off */
static const uint8_t rsa_pss_sha256_der[] = {
    0x30, 0x41, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, /* RSASSA-PSS */
    0x30, 0x34,
    0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, /* hash: SHA-256 */
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08,
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, /* mask: MGF1 of SHA-256 */
    0xa2, 0x03, 0x02, 0x01, SIG_PSS_SALT,
};
/* clang-format on */
static const uint8_t ecdsa_sha256_der[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                           0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
static const uint8_t ecdsa_sha384_der[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                           0x48, 0xce, 0x3d, 0x04, 0x03, 0x03};
static const uint8_t ed25519_der[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};

static const struct row {
    const char *name;
    const char *digest;
    struct bytes der;
} rows[SIG_COUNT] = {
    [SIG_RSA_SHA256] = {"rsa-sha256", "SHA256", {rsa_sha256_der, sizeof(rsa_sha256_der)}},
    [SIG_RSA_PSS_SHA256] = {"rsa-pss-sha256",
                            "SHA256",
                            {rsa_pss_sha256_der, sizeof(rsa_pss_sha256_der)}},
    [SIG_ECDSA_SHA256] = {"ecdsa-sha256", "SHA256", {ecdsa_sha256_der, sizeof(ecdsa_sha256_der)}},
    [SIG_ECDSA_SHA384] = {"ecdsa-sha384", "SHA384", {ecdsa_sha384_der, sizeof(ecdsa_sha384_der)}},
    [SIG_ED25519] = {"ed25519", NULL, {ed25519_der, sizeof(ed25519_der)}},
};

struct bytes sig_algorithm_der(enum sig_algorithm algorithm)
{
    return rows[algorithm].der;
}

const char *sig_algorithm_name(enum sig_algorithm algorithm)
{
    return rows[algorithm].name;
}

const char *sig_algorithm_digest(enum sig_algorithm algorithm)
{
    return rows[algorithm].digest;
}

bool sig_algorithm_is_rsa(enum sig_algorithm algorithm)
{
    return algorithm == SIG_RSA_SHA256 || algorithm == SIG_RSA_PSS_SHA256;
}

size_t sig_algorithm_max_len(enum sig_algorithm algorithm, unsigned key_bits)
{
    size_t octets = (key_bits + 7) / 8;

    if (algorithm == SIG_ED25519)
        return 64;
    if (sig_algorithm_is_rsa(algorithm))
        return octets;
    return 2 + 2 * (2 + octets + 1); /* a SEQUENCE of two INTEGERs with a sign octet each */
}

/* ---- keys of id-RSASSA-PSS ---- */

static const char *hash_name(struct bytes oid)
{
    static const struct {
        const struct bytes *oid;
        const char *name;
    } hashes[] = {{&oid_sha1, "SHA-1"},
                  {&oid_sha256, "SHA-256"},
                  {&oid_sha384, "SHA-384"},
                  {&oid_sha512, "SHA-512"}};

    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++)
        if (bytes_equal(oid, *hashes[i].oid))
            return hashes[i].name;
    return "a hash that leafd does not know";
}

/* An AlgorithmIdentifier of a hash: without parameters, or with NULL. */
static struct bytes read_hash(struct der *der)
{
    struct der algorithm = der_enter(der, DER_SEQUENCE);
    struct bytes oid = der_read(&algorithm, DER_OID);

    if (der_next_is(&algorithm, DER_NULL))
        der_read(&algorithm, DER_NULL);
    if (!der_done(&algorithm))
        der_fail(der);
    return oid;
}

static struct bytes read_mask(struct der *der)
{
    struct der algorithm = der_enter(der, DER_SEQUENCE);
    struct bytes oid = der_read(&algorithm, DER_OID);
    struct bytes hash = read_hash(&algorithm);

    if (!der_done(&algorithm) || !bytes_equal(oid, oid_mgf1))
        der_fail(der);
    return hash;
}

/* RSASSA-PSS-params in a key: what it may be used with, the salt at least as long. */
struct pss_limits {
    struct bytes hash;
    struct bytes mask_hash;
    struct bytes salt; /* INTEGER's content */
};

static bool read_limits(struct der *outer, struct pss_limits *ret)
{
    static const uint8_t salt_default = 20;
    static const uint8_t trailer_default = 1;
    struct der der = der_enter(outer, DER_SEQUENCE);
    struct bytes trailer = {&trailer_default, 1};

    *ret = (struct pss_limits){oid_sha1, oid_sha1, {&salt_default, 1}};
    for (unsigned tag = 0; tag <= 3; tag++) {
        struct der field;

        if (!der_next_is(&der, (uint8_t)DER_CONTEXT_CONSTRUCTED(tag)))
            continue;
        field = der_enter(&der, (uint8_t)DER_CONTEXT_CONSTRUCTED(tag));
        if (tag == 0)
            ret->hash = read_hash(&field);
        else if (tag == 1)
            ret->mask_hash = read_mask(&field);
        else
            *(tag == 2 ? &ret->salt : &trailer) = der_read(&field, DER_INTEGER);
        if (!der_done(&field))
            return false;
    }
    return der_done(&der) && ret->salt.len > 0 && !(ret->salt.data[0] & 0x80) &&
           bytes_equal(trailer, (struct bytes){&trailer_default, 1});
}

static enum leafd_err check_limits(struct der *algorithm, struct why *why)
{
    struct pss_limits limits;

    if (der_done(algorithm)) /* without parameters it may be used with any */
        return LEAFD_OK;
    if (!read_limits(algorithm, &limits) || !der_done(algorithm))
        return fail(why, LEAFD_CONFIG, "the parameters of the CA's RSA-PSS key cannot be read");
    if (!bytes_equal(limits.hash, oid_sha256) || !bytes_equal(limits.mask_hash, oid_sha256))
        return fail(why, LEAFD_CONFIG,
                    "the CA's RSA-PSS key is bound to %s, with MGF1 of %s; leafd signs with "
                    "SHA-256 in both",
                    hash_name(limits.hash), hash_name(limits.mask_hash));
    if (limits.salt.len > 1 || limits.salt.data[0] > SIG_PSS_SALT)
        return fail(why, LEAFD_CONFIG,
                    "the CA's RSA-PSS key wants a salt longer than the %d octets that leafd takes",
                    SIG_PSS_SALT);
    return LEAFD_OK;
}

/* The RSAPublicKey: two positive INTEGERs. */
static bool is_rsa_key(struct bytes key)
{
    struct der der = der_of(key);
    struct der rsa = der_enter(&der, DER_SEQUENCE);

    for (int i = 0; i < 2; i++) {
        struct bytes number = der_read(&rsa, DER_INTEGER);

        if (number.len == 0 || number.data[0] & 0x80)
            return false;
    }
    return der_done(&rsa) && der_done(&der);
}

/* Is the key an id-RSASSA-PSS one? A cursor at the algorithm's parameters in *ret if so. */
static bool is_pss_key(struct bytes whole_spki, struct der *ret)
{
    struct der der = der_of(whole_spki);
    struct der spki = der_enter(&der, DER_SEQUENCE);

    *ret = der_enter(&spki, DER_SEQUENCE);
    return bytes_equal(der_read(ret, DER_OID), oid_rsa_pss);
}

/* ---- of a key ---- */

enum leafd_err sig_algorithm_of_key(struct bytes whole_spki, enum sig_algorithm *ret,
                                    struct why *why)
{
    struct spki spki;
    struct der parameters;
    enum sig_algorithm algorithm = SIG_COUNT;

    if (spki_read(whole_spki, &spki) != LEAFD_OK)
        return fail(why, LEAFD_CONFIG, "the CA's public key cannot be read");
    if (spki.type == KEY_TYPE_RSA && is_pss_key(whole_spki, &parameters)) {
        enum leafd_err err = check_limits(&parameters, why);

        if (err != LEAFD_OK)
            return err;
        spki.well_formed = is_rsa_key(spki.key);
        algorithm = SIG_RSA_PSS_SHA256;
    } else if (spki.type == KEY_TYPE_RSA) {
        algorithm = SIG_RSA_SHA256;
    } else if (spki.type == KEY_TYPE_P256) {
        algorithm = SIG_ECDSA_SHA256;
    } else if (spki.type == KEY_TYPE_P384) {
        algorithm = SIG_ECDSA_SHA384;
    } else if (spki.type == KEY_TYPE_ED25519) {
        algorithm = SIG_ED25519;
    }
    if (algorithm == SIG_COUNT || !spki.well_formed)
        return fail(why, LEAFD_CONFIG,
                    "the CA's key is of type %s; leafd takes RSA, P-256, P-384 and Ed25519 in "
                    "their usual form",
                    key_type_name(spki.type));
    *ret = algorithm;
    return LEAFD_OK;
}
