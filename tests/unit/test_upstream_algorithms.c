/* SPDX-License-Identifier: Apache-2.0 */
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "policy/upstream.h"
#include "policy/upstream_algorithms.h"
#include "tests/lib/unit.h"

#include <string.h>

enum { ROOM = 1024, MODULUS_LEN = 256 };

static const uint8_t null[] = {DER_NULL, 0};

/* A SubjectPublicKeyInfo; `parameters` is a whole element or nothing. */
static struct bytes spki_of(struct bytes oid, struct bytes parameters, struct bytes key,
                            uint8_t unused, uint8_t room[static ROOM])
{
    struct der_writer writer = der_writer_of(room, ROOM);
    const uint8_t *all = der_mark(&writer);
    const uint8_t *mark;

    der_put(&writer, key);
    der_put_octet(&writer, unused);
    der_wrap(&writer, DER_BIT_STRING, all);
    mark = der_mark(&writer);
    der_put(&writer, parameters);
    der_put_element(&writer, DER_OID, oid);
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_wrap(&writer, DER_SEQUENCE, all);
    assert_false(writer.failed);
    return der_written(&writer);
}

static unsigned flags_of_rsa(struct bytes modulus, struct bytes exponent, uint8_t unused)
{
    uint8_t key_room[ROOM], room[ROOM];
    struct der_writer writer = der_writer_of(key_room, sizeof(key_room));
    const uint8_t *mark = der_mark(&writer);
    struct spki spki;

    der_put_element(&writer, DER_INTEGER, exponent);
    der_put_element(&writer, DER_INTEGER, modulus);
    der_wrap(&writer, DER_SEQUENCE, mark);
    return upstream_key_flags(
        spki_of(oid_rsa, (struct bytes){null, sizeof(null)}, der_written(&writer), unused, room),
        &spki);
}

static void rsa_numbers(void **state)
{
    static const struct {
        const char *exponent;
        size_t len;
        unsigned flags;
    } exponents[] = {
        {"\x01\x00\x01", 3, 0},
        {"\x03", 1, 0},
        {"\x00\x81", 2, 0},
        {"\x01", 1, UPSTREAM_KEY_WEAK},
        {"\x00", 1, UPSTREAM_KEY_WEAK},
        {"", 0, UPSTREAM_KEY_WEAK},
        {"\x01\x00\x00", 3, UPSTREAM_KEY_WEAK},
        {"\x81", 1, UPSTREAM_KEY_WEAK},
        {"\x00\x03", 2, UPSTREAM_ODD_FORMS},
        {"\x00\x01", 2, UPSTREAM_KEY_WEAK},
    };
    static const struct bytes f4 = {(const uint8_t *)"\x01\x00\x01", 3};
    uint8_t number[2 + MODULUS_LEN];
    const struct bytes modulus = {number + 1, MODULUS_LEN + 1};

    (void)state;
    memset(number, 0x81, sizeof(number));
    number[0] = number[1] = 0;
    for (size_t i = 0; i < sizeof(exponents) / sizeof(exponents[0]); i++) {
        const struct bytes exponent = {(const uint8_t *)exponents[i].exponent, exponents[i].len};

        if (flags_of_rsa(modulus, exponent, 0) != exponents[i].flags)
            fail_msg("exponent %zu", i);
    }
    assert_int_equal(flags_of_rsa(modulus, f4, 1), UPSTREAM_KEY_WEAK); /* unused bits */
    assert_int_equal(flags_of_rsa((struct bytes){number + 2, MODULUS_LEN}, f4, 0),
                     UPSTREAM_ODD_FORMS); /* without its sign */
    assert_int_equal(flags_of_rsa((struct bytes){number, sizeof(number)}, f4, 0),
                     UPSTREAM_ODD_FORMS); /* two zero octets */
    assert_int_equal(flags_of_rsa((struct bytes){number + 2, MODULUS_LEN / 2}, f4, 0),
                     UPSTREAM_ODD_FORMS | UPSTREAM_RSA_SHORT);
    assert_int_equal(flags_of_rsa((struct bytes){number + 1, MODULUS_LEN / 2}, f4, 0),
                     UPSTREAM_KEY_WEAK);
    number[sizeof(number) - 1] = 0x80;
    assert_int_equal(flags_of_rsa(modulus, f4, 0), UPSTREAM_KEY_WEAK); /* even */
    assert_int_equal(flags_of_rsa((struct bytes){number, 1}, f4, 0), UPSTREAM_KEY_WEAK);
}

static void points_and_other_keys(void **state)
{
    static const uint8_t p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    static const uint8_t p521[] = {6, 5, 0x2b, 0x81, 4, 0, 0x23};
#define WHOLE(array)                                                                               \
    {                                                                                              \
        array, sizeof(array)                                                                       \
    }
    static const struct {
        const struct bytes *oid;
        struct bytes parameters;
        uint8_t form; /* the key's first octet */
        size_t len;
        unsigned flags;
        enum key_type type;
    } rows[] = {
        {&oid_ec_public_key, WHOLE(p256), 0x04, 65, 0, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x02, 33, 0, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x03, 33, 0, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p521), 0x04, 133, 0, KEY_TYPE_P521},
        {&oid_ec_public_key, WHOLE(p521), 0x03, 67, 0, KEY_TYPE_P521},
        {&oid_ec_public_key, WHOLE(p256), 0x06, 65, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x07, 65, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x00, 1, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x04, 64, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x04, 33, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x02, 65, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(p256), 0x04, 0, UPSTREAM_KEY_WEAK, KEY_TYPE_P256},
        {&oid_ec_public_key, WHOLE(null), 0x04, 65, UPSTREAM_KEY_WEAK, KEY_TYPE_NONE},
        {&oid_ec_public_key, {NULL, 0}, 0x04, 65, UPSTREAM_KEY_WEAK, KEY_TYPE_NONE},
        {&oid_ed25519, {NULL, 0}, 0x55, 32, 0, KEY_TYPE_ED25519},
        {&oid_ed25519, {NULL, 0}, 0x55, 31, UPSTREAM_KEY_WEAK, KEY_TYPE_ED25519},
        {&oid_ed25519, WHOLE(null), 0x55, 32, UPSTREAM_KEY_WEAK, KEY_TYPE_ED25519},
        {&oid_ed448, {NULL, 0}, 0x55, 57, 0, KEY_TYPE_ED448},
        {&oid_ed448, {NULL, 0}, 0x55, 58, UPSTREAM_KEY_WEAK, KEY_TYPE_ED448},
        {&oid_rsa, WHOLE(null), 0x55, 270, UPSTREAM_KEY_WEAK, KEY_TYPE_RSA},
        {&oid_dsa, {NULL, 0}, 0x02, 100, UPSTREAM_KEY_WEAK, KEY_TYPE_DSA},
        {&oid_sha1, {NULL, 0}, 0x55, 100, 0, KEY_TYPE_NONE}, /* an algorithm nobody knows */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t key[ROOM / 2], room[ROOM];
        struct spki spki;

        memset(key, 0x55, sizeof(key));
        key[0] = rows[i].form;
        if (upstream_key_flags(spki_of(*rows[i].oid, rows[i].parameters,
                                       (struct bytes){key, rows[i].len}, 0, room),
                               &spki) != rows[i].flags ||
            spki.type != rows[i].type)
            fail_msg("row %zu", i);
    }
}

static void part_of_an_octet(void **state)
{
    static const uint8_t p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
    uint8_t key[65] = {0x04}, room[ROOM];
    struct spki spki;

    (void)state;
    assert_int_equal(upstream_key_flags(spki_of(oid_ec_public_key, (struct bytes)WHOLE(p256),
                                                (struct bytes){key, sizeof(key)}, 4, room),
                                        &spki),
                     UPSTREAM_KEY_WEAK);
    assert_int_equal(upstream_key_flags((struct bytes){null, sizeof(null)}, &spki),
                     UPSTREAM_KEY_WEAK);
    assert_int_equal(spki.type, KEY_TYPE_NONE);
}

/* An AlgorithmIdentifier of this object identifier, whose parameters name a hash as RSASSA-PSS does
 * (`tagged`) or as ecdsa-with-Specified does. */
static struct bytes algorithm_of(struct bytes oid, const struct bytes *hash, bool tagged,
                                 uint8_t room[static ROOM])
{
    struct der_writer writer = der_writer_of(room, ROOM);
    const uint8_t *mark = der_mark(&writer);

    if (hash) {
        der_put_element(&writer, DER_OID, *hash);
        der_wrap(&writer, DER_SEQUENCE, mark);
        if (tagged) {
            der_wrap(&writer, DER_CONTEXT_CONSTRUCTED(0), mark);
            der_wrap(&writer, DER_SEQUENCE, mark);
        }
    }
    der_put_element(&writer, DER_OID, oid);
    der_wrap(&writer, DER_SEQUENCE, mark);
    return der_written(&writer);
}

static void signatures(void **state)
{
    static const struct bytes oiw_md4 = {(const uint8_t *)"\x2b\x0e\x03\x02\x02", 5};
    static const struct bytes oiw = {(const uint8_t *)"\x2b\x0e\x03\x02", 4};
    static const struct bytes not_oiw = {(const uint8_t *)"\x2b\x0e\x03\x03\x02", 5};
    const struct {
        struct bytes oid;
        const struct bytes *hash;
        bool tagged;
        bool weak;
    } rows[] = {
        {oid_rsa_sha256, NULL, false, false},
        {oid_ecdsa_sha384, NULL, false, false},
        {oid_rsa_md2, NULL, false, true},
        {oid_rsa_md4, NULL, false, true},
        {oid_rsa_md5, NULL, false, true},
        {oid_rsa_sha1, NULL, false, true},
        {oid_dsa_sha1, NULL, false, true},
        {oid_ecdsa_sha1, NULL, false, true},
        {oiw_md4, NULL, false, true},
        {oiw, NULL, false, false},
        {not_oiw, NULL, false, false},
        {oid_ecdsa_plain_sha1, NULL, false, true},
        {oid_rsa_pss, NULL, true, true},
        {oid_rsa_pss, &oid_sha1, true, true},
        {oid_rsa_pss, &oid_md2, true, true},
        {oid_rsa_pss, &oid_md4, true, true},
        {oid_rsa_pss, &oid_md5, true, true},
        {oid_rsa_pss, &oid_rsa_sha256, true, false},
        {oid_rsa_pss, &oid_md5, false, true},
        {oid_ecdsa_specified, NULL, false, true},
        {oid_ecdsa_specified, &oid_sha1, false, true},
        {oid_ecdsa_specified, &oid_rsa_sha256, false, false},
    };
    uint8_t room[ROOM], other_room[ROOM];
    struct bytes sha256 = algorithm_of(oid_rsa_sha256, NULL, false, other_room);

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bytes whole = algorithm_of(rows[i].oid, rows[i].hash, rows[i].tagged, room);

        if (upstream_signature_flags(whole, whole) != (rows[i].weak ? UPSTREAM_SIGNATURE_WEAK : 0u))
            fail_msg("row %zu", i);
    }
    assert_int_equal(
        upstream_signature_flags(sha256, algorithm_of(oid_ecdsa_sha384, NULL, false, room)),
        UPSTREAM_SIGNATURE_WEAK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rsa_numbers),
        cmocka_unit_test(points_and_other_keys),
        cmocka_unit_test(part_of_an_octet),
        cmocka_unit_test(signatures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
