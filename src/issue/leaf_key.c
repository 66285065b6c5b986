/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/leaf_key.h"

#include "base/digest.h"
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "der/pem.h"
#include "policy/leaf_type.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { SCALAR_MAX = 66, KEY_DER_MAX = 512 };

/* The quick keys; a new one is a row here and one in leaf_types. */
static const struct maker {
    enum key_type type;
    const char *algorithm;   /* OpenSSL's */
    const char *group;       /* NULL: an Edwards curve, whose keys are mere octets (RFC 8410) */
    const struct bytes *oid; /* of the curve, or of the algorithm where that says all */
    size_t octets;           /* of the private key, and of one coordinate */
} makers[] = {
    {KEY_TYPE_P256, "EC", "P-256", &oid_p256, 32},
    {KEY_TYPE_P384, "EC", "P-384", &oid_p384, 48},
    {KEY_TYPE_P521, "EC", "P-521", &oid_p521, 66},
    {KEY_TYPE_SM2, "SM2", "SM2", &oid_sm2, 32},
    {KEY_TYPE_ED25519, "ED25519", NULL, &oid_ed25519, 32},
    {KEY_TYPE_ED448, "ED448", NULL, &oid_ed448, 57},
};
enum { MAKER_COUNT = sizeof(makers) / sizeof(makers[0]) };

/* A prepared context per type and thread, made when it is first needed: a P-256 key then takes
 * 12 us and not 25. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t ending;
static _Thread_local EVP_PKEY_CTX *context[MAKER_COUNT];

static void thread_ends(void *arg)
{
    EVP_PKEY_CTX **contexts = arg;

    for (size_t i = 0; i < MAKER_COUNT; i++) {
        EVP_PKEY_CTX_free(contexts[i]);
        contexts[i] = NULL;
    }
}

static void set_up(void)
{
    pthread_key_create(&ending, thread_ends);
}

static EVP_PKEY_CTX *maker_context(const struct maker *maker)
{
    EVP_PKEY_CTX **mine = &context[maker - makers];

    if (*mine)
        return *mine;
    *mine = EVP_PKEY_CTX_new_from_name(NULL, maker->algorithm, NULL);
    if (*mine && (EVP_PKEY_keygen_init(*mine) != 1 ||
                  (maker->group && EVP_PKEY_CTX_set_group_name(*mine, maker->group) != 1))) {
        EVP_PKEY_CTX_free(*mine);
        *mine = NULL;
    }
    pthread_once(&once, set_up);
    pthread_setspecific(ending, context);
    return *mine;
}

/* One block: the struct, then the SPKI, then the private key. */
static enum leafd_err assemble(enum key_type type, unsigned bits, struct bytes spki,
                               struct bytes private_der, struct leaf_key **ret)
{
    struct leaf_key *key;
    uint8_t *room, digest[DIGEST_LEN];
    struct spki read;
    enum leafd_err err = spki_read(spki, &read);

    if (!err)
        err = digest_sha256(read.key, digest);
    if (err)
        return LEAFD_INTERNAL;
    key = malloc(sizeof(*key) + spki.len + private_der.len);
    if (!key)
        return LEAFD_NOMEM;
    room = (uint8_t *)(key + 1);
    *key = (struct leaf_key){
        .refs = 1,
        .type = type,
        .bits = bits,
        .spki = {memcpy(room, spki.data, spki.len), spki.len},
        .private_der = {memcpy(room + spki.len, private_der.data, private_der.len),
                        private_der.len},
    };
    memcpy(key->key_id, digest, sizeof(key->key_id));
    *ret = key;
    return LEAFD_OK;
}

/* BIT STRING of whole octets. */
static void put_bits(struct der_writer *writer, struct bytes content)
{
    const uint8_t *mark = der_mark(writer);

    der_put(writer, content);
    der_put_octet(writer, 0);
    der_wrap(writer, DER_BIT_STRING, mark);
}

/* ECPrivateKey (RFC 5915), with the curve's name unless something around it says that. */
static void put_ec_private(struct der_writer *writer, struct bytes scalar, struct bytes point,
                           const struct bytes *curve_oid)
{
    const uint8_t *mark = der_mark(writer), *inner = mark;

    put_bits(writer, point);
    der_wrap(writer, DER_CONTEXT_CONSTRUCTED(1), inner);
    if (curve_oid) {
        inner = der_mark(writer);
        der_put_element(writer, DER_OID, *curve_oid);
        der_wrap(writer, DER_CONTEXT_CONSTRUCTED(0), inner);
    }
    der_put_element(writer, DER_OCTET_STRING, scalar);
    der_put(writer, (struct bytes){(const uint8_t *)"\x02\x01\x01", 3});
    der_wrap(writer, DER_SEQUENCE, mark);
}

static void put_ec_spki(struct der_writer *writer, const struct maker *curve, struct bytes point)
{
    const uint8_t *mark = der_mark(writer), *algorithm;

    put_bits(writer, point);
    algorithm = der_mark(writer);
    der_put_element(writer, DER_OID, *curve->oid);
    der_put_element(writer, DER_OID, oid_ec_public_key);
    der_wrap(writer, DER_SEQUENCE, algorithm);
    der_wrap(writer, DER_SEQUENCE, mark);
}

/* The pair's numbers, each of its full length. */
static bool ec_numbers(EVP_PKEY *pair, const struct maker *curve, uint8_t scalar[static SCALAR_MAX],
                       uint8_t point[static 2 * SCALAR_MAX + 1], size_t *ret_point_len)
{
    BIGNUM *number = NULL;
    bool good = EVP_PKEY_get_bn_param(pair, OSSL_PKEY_PARAM_PRIV_KEY, &number) == 1 &&
                BN_bn2binpad(number, scalar, (int)curve->octets) == (int)curve->octets &&
                EVP_PKEY_get_octet_string_param(pair, OSSL_PKEY_PARAM_PUB_KEY, point,
                                                2 * SCALAR_MAX + 1, ret_point_len) == 1 &&
                *ret_point_len == 2 * curve->octets + 1 && point[0] == 0x04;

    BN_clear_free(number);
    return good;
}

static enum leafd_err make_ec(const struct maker *curve, struct leaf_key **ret)
{
    enum leafd_err err = LEAFD_INTERNAL;
    EVP_PKEY_CTX *maker = maker_context(curve);
    EVP_PKEY *pair = NULL;
    uint8_t scalar[SCALAR_MAX], point[2 * SCALAR_MAX + 1];
    uint8_t private_room[KEY_DER_MAX], spki_room[KEY_DER_MAX];
    struct der_writer private_writer = der_writer_of(private_room, sizeof(private_room));
    struct der_writer spki_writer = der_writer_of(spki_room, sizeof(spki_room));
    size_t point_len = 0;

    if (!maker || EVP_PKEY_generate(maker, &pair) != 1 ||
        !ec_numbers(pair, curve, scalar, point, &point_len))
        goto out;
    put_ec_private(&private_writer, (struct bytes){scalar, curve->octets},
                   (struct bytes){point, point_len}, curve->oid);
    put_ec_spki(&spki_writer, curve, (struct bytes){point, point_len});
    if (private_writer.failed || spki_writer.failed)
        goto out;
    err = assemble(curve->type, 0, der_written(&spki_writer), der_written(&private_writer), ret);
out:
    OPENSSL_cleanse(scalar, sizeof(scalar));
    OPENSSL_cleanse(private_room, sizeof(private_room));
    EVP_PKEY_free(pair);
    return err;
}

/* AlgorithmIdentifier of an Edwards curve: its OID without parameters. */
static void put_edwards_algorithm(struct der_writer *writer, const struct maker *curve)
{
    const uint8_t *mark = der_mark(writer);

    der_put_element(writer, DER_OID, *curve->oid);
    der_wrap(writer, DER_SEQUENCE, mark);
}

static void put_edwards_spki(struct der_writer *writer, const struct maker *curve,
                             struct bytes public_key)
{
    const uint8_t *mark = der_mark(writer);

    put_bits(writer, public_key);
    put_edwards_algorithm(writer, curve);
    der_wrap(writer, DER_SEQUENCE, mark);
}

/* PrivateKeyInfo; the key is an OCTET STRING in an OCTET STRING (RFC 8410 section 7). */
static void put_edwards_private(struct der_writer *writer, const struct maker *curve,
                                struct bytes private_key)
{
    const uint8_t *mark = der_mark(writer), *inner = mark;

    der_put_element(writer, DER_OCTET_STRING, private_key);
    der_wrap(writer, DER_OCTET_STRING, inner);
    put_edwards_algorithm(writer, curve);
    der_put(writer, (struct bytes){(const uint8_t *)"\x02\x01\x00", 3});
    der_wrap(writer, DER_SEQUENCE, mark);
}

static enum leafd_err make_edwards(const struct maker *curve, struct leaf_key **ret)
{
    enum leafd_err err = LEAFD_INTERNAL;
    EVP_PKEY_CTX *maker = maker_context(curve);
    EVP_PKEY *pair = NULL;
    uint8_t private_key[SCALAR_MAX], public_key[SCALAR_MAX];
    size_t private_len = sizeof(private_key), public_len = sizeof(public_key);
    uint8_t private_room[KEY_DER_MAX], spki_room[KEY_DER_MAX];
    struct der_writer private_writer = der_writer_of(private_room, sizeof(private_room));
    struct der_writer spki_writer = der_writer_of(spki_room, sizeof(spki_room));

    if (!maker || EVP_PKEY_generate(maker, &pair) != 1 ||
        EVP_PKEY_get_raw_private_key(pair, private_key, &private_len) != 1 ||
        EVP_PKEY_get_raw_public_key(pair, public_key, &public_len) != 1 ||
        private_len != curve->octets || public_len != curve->octets)
        goto out;
    put_edwards_private(&private_writer, curve, (struct bytes){private_key, private_len});
    put_edwards_spki(&spki_writer, curve, (struct bytes){public_key, public_len});
    if (private_writer.failed || spki_writer.failed)
        goto out;
    err = assemble(curve->type, 0, der_written(&spki_writer), der_written(&private_writer), ret);
out:
    OPENSSL_cleanse(private_key, sizeof(private_key));
    OPENSSL_cleanse(private_room, sizeof(private_room));
    EVP_PKEY_free(pair);
    return err;
}

/* Called by OpenSSL for every candidate; 0 ends the search. */
static int go_on(EVP_PKEY_CTX *maker)
{
    const _Atomic bool *stop = EVP_PKEY_CTX_get_app_data(maker);

    return !atomic_load(stop);
}

static enum leafd_err make_rsa(const _Atomic bool *stop, unsigned bits, struct leaf_key **ret)
{
    enum leafd_err err = LEAFD_INTERNAL;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *pair = NULL;
    uint8_t *private_der = NULL, *spki = NULL;
    int private_len = 0, spki_len;

    if (!maker || EVP_PKEY_keygen_init(maker) != 1 ||
        EVP_PKEY_CTX_set_rsa_keygen_bits(maker, (int)bits) != 1)
        goto out;
    EVP_PKEY_CTX_set_app_data(maker, (void *)(uintptr_t)stop);
    EVP_PKEY_CTX_set_cb(maker, go_on);
    if (EVP_PKEY_generate(maker, &pair) != 1)
        goto out;
    private_len = i2d_PrivateKey(pair, &private_der); /* PKCS#1 */
    spki_len = i2d_PUBKEY(pair, &spki);
    if (private_len <= 0 || spki_len <= 0)
        goto out;
    err = assemble(KEY_TYPE_RSA, bits, (struct bytes){spki, (size_t)spki_len},
                   (struct bytes){private_der, (size_t)private_len}, ret);
out:
    if (private_der)
        OPENSSL_clear_free(private_der, private_len > 0 ? (size_t)private_len : 0);
    OPENSSL_free(spki);
    EVP_PKEY_free(pair);
    EVP_PKEY_CTX_free(maker);
    return err;
}

enum leafd_err leaf_key_make(enum key_type type, unsigned bits, struct leaf_key **ret)
{
    static const _Atomic bool never;

    return leaf_key_make_unless(&never, type, bits, ret);
}

enum leafd_err leaf_key_make_unless(const _Atomic bool *stop, enum key_type type, unsigned bits,
                                    struct leaf_key **ret)
{
    if (type == KEY_TYPE_RSA)
        return leaf_type_find(type, bits) ? make_rsa(stop, bits, ret) : LEAFD_UNSUPPORTED;
    for (size_t i = 0; i < MAKER_COUNT; i++)
        if (makers[i].type == type)
            return makers[i].group ? make_ec(&makers[i], ret) : make_edwards(&makers[i], ret);
    return LEAFD_UNSUPPORTED;
}

struct leaf_key *leaf_key_ref(struct leaf_key *key)
{
    atomic_fetch_add_explicit(&key->refs, 1, memory_order_relaxed);
    return key;
}

void leaf_key_unref(struct leaf_key *key)
{
    if (!key || atomic_fetch_sub_explicit(&key->refs, 1, memory_order_acq_rel) != 1)
        return;
    OPENSSL_cleanse((uint8_t *)key->private_der.data, key->private_der.len);
    free(key);
}

/* What PKCS#8 wraps: the private key as it stands, but an ECPrivateKey without its curve. */
static void put_wrapped(struct der_writer *writer, const struct leaf_key *key)
{
    struct der der = der_of(key->private_der), inner, public_key;
    struct bytes scalar, bits;

    if (key->type == KEY_TYPE_RSA) {
        der_put(writer, key->private_der);
        return;
    }
    inner = der_enter(&der, DER_SEQUENCE);
    der_read(&inner, DER_INTEGER);
    scalar = der_read(&inner, DER_OCTET_STRING);
    der_read(&inner, DER_CONTEXT_CONSTRUCTED(0));
    public_key = der_enter(&inner, DER_CONTEXT_CONSTRUCTED(1));
    bits = der_read(&public_key, DER_BIT_STRING);
    if (inner.failed || public_key.failed || bits.len < 1) {
        writer->failed = true;
        return;
    }
    put_ec_private(writer, scalar, (struct bytes){bits.data + 1, bits.len - 1}, NULL);
}

/* PrivateKeyInfo (RFC 5208); its AlgorithmIdentifier is that of the public key. */
static void put_pkcs8(struct der_writer *writer, const struct leaf_key *key)
{
    struct der der = der_of(key->spki), inner = der_enter(&der, DER_SEQUENCE);
    struct bytes algorithm = der_read_whole(&inner, DER_SEQUENCE);
    const uint8_t *mark = der_mark(writer);

    if (key->type == KEY_TYPE_ED25519 || key->type == KEY_TYPE_ED448) {
        der_put(writer, key->private_der); /* is one */
        return;
    }
    put_wrapped(writer, key);
    der_wrap(writer, DER_OCTET_STRING, mark);
    der_put(writer, algorithm);
    der_put(writer, (struct bytes){(const uint8_t *)"\x02\x01\x00", 3});
    der_wrap(writer, DER_SEQUENCE, mark);
}

enum leafd_err leaf_key_pem(const struct leaf_key *key, uint8_t *out, size_t size,
                            struct bytes *ret)
{
    static const char label[] = "PRIVATE KEY";
    enum leafd_err err = LEAFD_TOO_LARGE;
    uint8_t room[LEAF_KEY_PEM_MAX];
    struct der_writer writer = der_writer_of(room, sizeof(room));
    struct bytes pkcs8;

    put_pkcs8(&writer, key);
    pkcs8 = der_written(&writer);
    if (!writer.failed && pem_size(label, pkcs8.len) + 1 <= size) {
        *ret = (struct bytes){out, pem_write(label, pkcs8, out)};
        err = LEAFD_OK;
    }
    OPENSSL_cleanse(room, sizeof(room));
    return err;
}
