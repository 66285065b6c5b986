/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/ca_recipe.h"
#include "tests/lib/unit.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

static void assert_equals_der(struct bytes got, X509 *cert)
{
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);

    assert_true(bytes_equal(got, (struct bytes){der, (size_t)len}));
    OPENSSL_free(der);
}

static void fields_are_right(void **state)
{
    X509 *cert = recipe_cert(&(struct recipe){.key = recipe_key});
    const ASN1_OCTET_STRING *key_id = X509_get0_subject_key_id(cert);
    unsigned char *name = NULL;
    int name_len = i2d_X509_NAME(X509_get_subject_name(cert), &name);
    struct ca *ca = NULL;
    struct tm tm;

    (void)state;
    assert_int_equal(recipe_read(&cert, 1, false, &ca, NULL), LEAFD_OK);
    assert_int_equal(ca->id, 3);
    assert_equals_der(ca->der, cert);
    assert_true(bytes_equal(ca->subject, (struct bytes){name, (size_t)name_len}));
    assert_int_equal(ca->key_type, KEY_TYPE_P256);
    assert_int_equal(ca->algorithm, SIG_ECDSA_SHA256);
    assert_false(ca->key_id_was_missing);
    assert_true(bytes_equal(ca->key_id, (struct bytes){ASN1_STRING_get0_data(key_id),
                                                       (size_t)ASN1_STRING_length(key_id)}));
    assert_int_equal(ASN1_TIME_to_tm(X509_get0_notAfter(cert), &tm), 1);
    assert_int_equal(ca->not_after, timegm(&tm));
    assert_true(ca_is_valid_at(ca, ca->not_before));
    assert_false(ca_is_valid_at(ca, ca->not_before - 1));
    assert_true(ca_is_valid_at(ca, ca->not_after));
    assert_false(ca_is_valid_at(ca, ca->not_after + 1));
    assert_int_equal(EVP_PKEY_eq(ca->public_key, recipe_key), 1);
    assert_true(ca->generation != 0);
    assert_int_equal(ca->chain_count, 0); /* a root is not sent */
    assert_int_equal(ca->chain_pem.len, 0);
    ca_unref(ca_ref(ca));
    ca_unref(ca);
    ca_unref(NULL);
    OPENSSL_free(name);
    X509_free(cert);
}

static void der_input(void **state)
{
    X509 *cert = recipe_cert(&(struct recipe){.key = recipe_key});
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    struct ca *ca = NULL;
    uint8_t *longer = malloc((size_t)len + 1);

    (void)state;
    assert_int_equal(ca_read((struct bytes){der, (size_t)len}, 0, true, &ca, NULL), LEAFD_OK);
    assert_int_equal(ca->chain_count, 1);
    assert_equals_der(ca->chain_der[0], cert);
    ca_unref(ca);
    memcpy(longer, der, (size_t)len);
    longer[len] = '\n';
    assert_int_equal(ca_read((struct bytes){longer, (size_t)len + 1}, 0, true, &ca, NULL),
                     LEAFD_CONFIG);
    for (int cut = 0; cut < len; cut += 7)
        assert_int_equal(ca_read((struct bytes){der, (size_t)cut}, 0, true, &ca, NULL),
                         LEAFD_CONFIG);
    free(longer);
    OPENSSL_free(der);
    X509_free(cert);
}

static void texts_are_refused(void **state)
{
    static const char *const text[] = {
        "hello",
        "-----BEGIN CERTIFICATE-----\n",
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    };
    struct ca *ca = NULL;
    struct why why;

    (void)state;
    for (size_t i = 0; i < sizeof(text) / sizeof(text[0]); i++) {
        assert_int_equal(ca_read(bytes_of(text[i]), 0, false, &ca, &why), LEAFD_CONFIG);
        assert_true(why.text[0] != '\0');
    }
    assert_null(ca);
}

/* Words and other blocks around the certificate do not matter. */
static void other_blocks(void **state)
{
    X509 *cert = recipe_cert(&(struct recipe){.key = recipe_key});
    struct bytes pem = recipe_pem(&cert, 1, "0 words\n-----BEGIN X-----\nAAAA\n-----END X-----\n");
    struct ca *ca = NULL;

    (void)state;
    assert_int_equal(ca_read(pem, 0, false, &ca, NULL), LEAFD_OK);
    assert_equals_der(ca->der, cert);
    ca_unref(ca);
    free((void *)pem.data);
    X509_free(cert);
}

static void key_types(void **state)
{
    static const struct {
        const char *type;
        const char *curve;
        unsigned bits;
        enum key_type key_type; /* NONE: refused */
        enum sig_algorithm algorithm;
        int nid;
    } row[] = {
        {"RSA", NULL, 1024, KEY_TYPE_NONE, 0, 0},
        {"RSA", NULL, 2048, KEY_TYPE_RSA, SIG_RSA_SHA256, NID_sha256WithRSAEncryption},
        {"EC", "P-256", 0, KEY_TYPE_P256, SIG_ECDSA_SHA256, NID_ecdsa_with_SHA256},
        {"EC", "P-384", 0, KEY_TYPE_P384, SIG_ECDSA_SHA384, NID_ecdsa_with_SHA384},
        {"EC", "P-521", 0, KEY_TYPE_NONE, 0, 0},
        {"EC", "secp256k1", 0, KEY_TYPE_NONE, 0, 0},
        {"ED25519", NULL, 0, KEY_TYPE_ED25519, SIG_ED25519, NID_ED25519},
        {"ED448", NULL, 0, KEY_TYPE_NONE, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        EVP_PKEY *key = row[i].bits    ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)row[i].bits)
                        : row[i].curve ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", row[i].curve)
                                       : EVP_PKEY_Q_keygen(NULL, NULL, row[i].type);
        struct recipe recipe = {.key = key};

        assert_non_null(key);
        if (row[i].key_type == KEY_TYPE_NONE) {
            recipe_refused(&recipe, "key");
        } else {
            struct ca *ca = recipe_ca(&recipe);
            const uint8_t *at = ca->algorithm_der.data;
            X509_ALGOR *algorithm = d2i_X509_ALGOR(NULL, &at, (long)ca->algorithm_der.len);
            int parameters;

            assert_int_equal(ca->key_type, row[i].key_type);
            assert_int_equal(ca->algorithm, row[i].algorithm);
            assert_non_null(algorithm);
            X509_ALGOR_get0(NULL, &parameters, NULL, algorithm);
            assert_int_equal(OBJ_obj2nid(algorithm->algorithm), row[i].nid);
            assert_int_equal(parameters, row[i].bits ? V_ASN1_NULL : V_ASN1_UNDEF);
            X509_ALGOR_free(algorithm);
            ca_unref(ca);
        }
        EVP_PKEY_free(key);
    }
}

/* A key of id-RSASSA-PSS, bound to hash, MGF1's hash and salt; NULL: to nothing. */
static EVP_PKEY *pss_key(const char *hash, const char *mask_hash, int salt)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    EVP_PKEY *key = NULL;

    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, 2048), 1);
    if (hash) {
        EVP_PKEY_CTX_set_rsa_pss_keygen_md_name(ctx, hash, NULL);
        EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md_name(ctx, mask_hash);
        EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(ctx, salt);
    }
    assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* The AlgorithmIdentifier that OpenSSL writes for RSASSA-PSS as we use it. */
static struct bytes openssl_pss_algorithm(EVP_PKEY *key)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_ctx = NULL;
    X509 *cert = recipe_cert(&(struct recipe){.key = key});
    const X509_ALGOR *algorithm;
    unsigned char *der = NULL;
    int len;

    assert_int_equal(EVP_DigestSignInit(ctx, &key_ctx, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(key_ctx, RSA_PKCS1_PSS_PADDING), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(key_ctx, 32), 1);
    assert_true(X509_sign_ctx(cert, ctx) > 0);
    X509_get0_signature(NULL, &algorithm, cert);
    len = i2d_X509_ALGOR(algorithm, &der);
    X509_free(cert);
    EVP_MD_CTX_free(ctx);
    assert_true(len > 0);
    return (struct bytes){der, (size_t)len};
}

static void rsa_padding(void **state)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    struct ca *ca = recipe_ca(&(struct recipe){.key = key});
    struct ca *other = recipe_ca(&(struct recipe){.key = recipe_key});
    struct bytes wanted = openssl_pss_algorithm(key);
    uint64_t generation = ca->generation;
    struct why why = {{0}};

    (void)state;
    assert_int_equal(ca_use_pss(ca, &why), LEAFD_OK);
    assert_int_equal(ca->algorithm, SIG_RSA_PSS_SHA256);
    assert_true(bytes_equal(ca->algorithm_der, wanted));
    assert_int_equal(ca->key_type, KEY_TYPE_RSA);
    assert_true(ca->generation != generation); /* other leaves than before */
    generation = ca->generation;
    assert_int_equal(ca_use_pss(ca, &why), LEAFD_OK);
    assert_true(ca->generation == generation);
    generation = other->generation;
    assert_int_equal(ca_use_pss(other, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "ca.rsa_padding: pss is for RSA keys"));
    assert_non_null(strstr(why.text, "ec-p256"));
    assert_int_equal(other->algorithm, SIG_ECDSA_SHA256);
    assert_true(other->generation == generation);
    ca_unref(ca);
    ca_unref(other);
    OPENSSL_free((void *)(uintptr_t)wanted.data);
    EVP_PKEY_free(key);
}

/* What a key of id-RSASSA-PSS is bound to is honoured, or refused by name. */
static void pss_keys(void **state)
{
    static const struct {
        const char *hash, *mask_hash;
        int salt;
        const char *refusal; /* NULL: taken */
    } row[] = {
        {NULL, NULL, 0, NULL},
        {"SHA256", "SHA256", 32, NULL},
        {"SHA256", "SHA256", 20, NULL},
        {"SHA256", "SHA256", 0, NULL},
        {"SHA256", "SHA256", 33, "a salt longer than the 32 octets"},
        {"SHA256", "SHA256", 200, "a salt longer than the 32 octets"},
        {"SHA384", "SHA384", 32, "bound to SHA-384, with MGF1 of SHA-384"},
        {"SHA256", "SHA512", 32, "bound to SHA-256, with MGF1 of SHA-512"},
        {"SHA1", "SHA1", 20, "bound to SHA-1, with MGF1 of SHA-1"},
        {"SHA512-224", "SHA512-224", 20, "bound to a hash that leafd does not know"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        EVP_PKEY *key = pss_key(row[i].hash, row[i].mask_hash, row[i].salt);
        X509 *cert = recipe_unsigned(&(struct recipe){.key = key});
        struct ca *ca = NULL;
        struct why why = {{0}};
        enum leafd_err err;

        /* By another's key: OpenSSL signs not with every one of these. */
        assert_true(X509_sign(cert, recipe_key, EVP_sha256()) > 0);
        err = recipe_read(&cert, 1, false, &ca, &why);
        if (row[i].refusal) {
            assert_int_equal(err, LEAFD_CONFIG);
            if (!strstr(why.text, row[i].refusal))
                fail_msg("\"%s\" does not speak of \"%s\"", why.text, row[i].refusal);
        } else {
            if (err != LEAFD_OK)
                fail_msg("%s", why.text);
            assert_int_equal(ca->algorithm, SIG_RSA_PSS_SHA256);
            assert_int_equal(ca->key_type, KEY_TYPE_RSA);
            assert_int_equal(ca->key_bits, 2048);
            assert_non_null(ca->public_key);
            ca_unref(ca);
        }
        X509_free(cert);
        EVP_PKEY_free(key);
    }
}

/* id-RSASSA-PSS with these parameters (hex), before `key`. */
static struct bytes pss_spki(const char *parameters, struct bytes key, uint8_t out[400])
{
    static const uint8_t oid[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a};
    size_t parameters_len = strlen(parameters) / 2;
    size_t algorithm_len = sizeof(oid) + parameters_len;
    size_t bits_len = key.len + 1;
    size_t at = 4;

    assert_true(algorithm_len < 128 && algorithm_len + bits_len + 10 < 400);
    out[at++] = 0x30;
    out[at++] = (uint8_t)algorithm_len;
    memcpy(out + at, oid, sizeof(oid));
    at += sizeof(oid);
    for (size_t i = 0; i < parameters_len; i++) {
        unsigned octet;

        assert_int_equal(sscanf(parameters + 2 * i, "%2x", &octet), 1);
        out[at++] = (uint8_t)octet;
    }
    out[at++] = 0x03;
    out[at++] = 0x82;
    out[at++] = (uint8_t)(bits_len >> 8);
    out[at++] = (uint8_t)bits_len;
    out[at++] = 0;
    memcpy(out + at, key.data, key.len);
    at += key.len;
    memcpy(out, (uint8_t[]){0x30, 0x82, (uint8_t)((at - 4) >> 8), (uint8_t)(at - 4)}, 4);
    return (struct bytes){out, at};
}

#define SHA256_ID "300d06096086480165030402010500"
#define SHA256_ID_BARE "300b0609608648016503040201"
#define MGF1 "06092a864886f70d010108"

static void pss_parameters(void **state)
{
    static const struct {
        const char *der;
        bool good;
    } row[] = {
        {"", true},
        {"3030a00d" SHA256_ID_BARE "a11a3018" MGF1 SHA256_ID_BARE "a203020120", true},
        {"3034a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a203020120", true},
        {"3039a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a203020120a303020101", true},
        {"302fa00f" SHA256_ID "a11c301a" MGF1 SHA256_ID, true}, /* 20 */
        {"3039a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a203020120a303020102",
         false}, /* trailer */
        {"0500", false},
        {"3000", false},               /* SHA-1 */
        {"3011a00f" SHA256_ID, false}, /* with MGF1 of SHA-1 */
        {"3034a11c301a" MGF1 SHA256_ID "a00f" SHA256_ID "a203020120", false},     /* out of order */
        {"3034a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a2030201ff", false},     /* negative */
        {"3033a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a2020200", false},       /* empty */
        {"3034a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a2030401", false},       /* cut */
        {"3036a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a2030201200500", false}, /* more */
        {"3034a00f" SHA256_ID "a11c301a06092a864886f70d010109" SHA256_ID "a203020120", false},
        {"3034a00f" SHA256_ID "a11c301a" MGF1 SHA256_ID "a2030201200500", false}, /* behind */
    };
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    unsigned char *rsa = NULL;
    int len = i2d_PublicKey(key, &rsa);
    uint8_t room[400];
    enum sig_algorithm algorithm;
    struct why why;

    (void)state;
    assert_true(len > 0);
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct bytes spki = pss_spki(row[i].der, (struct bytes){rsa, (size_t)len}, room);
        enum leafd_err err = sig_algorithm_of_key(spki, &algorithm, &why);

        if ((err == LEAFD_OK) != row[i].good)
            fail_msg("row %zu: %s", i, err == LEAFD_OK ? "taken" : why.text);
        assert_int_equal(err, row[i].good ? LEAFD_OK : LEAFD_CONFIG);
    }
    rsa[8] |= 0x80; /* the modulus' sign octet: negative */
    assert_int_equal(sig_algorithm_of_key(pss_spki("", (struct bytes){rsa, (size_t)len}, room),
                                          &algorithm, &why),
                     LEAFD_CONFIG);
    assert_int_equal(sig_algorithm_of_key(bytes_of("x"), &algorithm, &why), LEAFD_CONFIG);
    OPENSSL_free(rsa);
    EVP_PKEY_free(key);
}

static void algorithms(void **state)
{
    (void)state;
    assert_int_equal(sig_algorithm_max_len(SIG_RSA_SHA256, 2048), 256);
    assert_int_equal(sig_algorithm_max_len(SIG_RSA_PSS_SHA256, 2049), 257);
    assert_int_equal(sig_algorithm_max_len(SIG_ECDSA_SHA256, 256), 72);
    assert_int_equal(sig_algorithm_max_len(SIG_ECDSA_SHA384, 384), 104);
    assert_int_equal(sig_algorithm_max_len(SIG_ED25519, 0), 64);
    assert_string_equal(sig_algorithm_name(SIG_RSA_PSS_SHA256), "rsa-pss-sha256");
    assert_null(sig_algorithm_digest(SIG_ED25519));
}

static void no_cas(void **state)
{
    EVP_PKEY *key = recipe_key;

    (void)state;
    recipe_refused(&(struct recipe){.key = key, .basic = ""}, "none of a CA");
    recipe_refused(&(struct recipe){.key = key, .basic = "critical,CA:FALSE"}, "none of a CA");
    recipe_refused(&(struct recipe){.key = key, .usage = ""}, "no key usage");
    recipe_refused(&(struct recipe){.key = key, .usage = "critical,digitalSignature"},
                   "keyCertSign");
    recipe_refused(&(struct recipe){.key = key, .version = 1}, "version 3");
    recipe_refused(&(struct recipe){.key = key, .no_subject = true}, "subject is empty");
    recipe_refused(&(struct recipe){.key = key, .cn_type = V_ASN1_BIT_STRING}, "no string");
    recipe_refused(&(struct recipe){.key = key, .first_sec = 7200, .last_sec = 60}, "validity");
    recipe_refused(&(struct recipe){.key = key, .more = {{"extendedKeyUsage", "clientAuth"}}},
                   "serverAuth");
    recipe_refused(&(struct recipe){.key = key, .more = {{"1.2.3.4", "critical,DER:0500"}}},
                   "critical extension that leafd does not evaluate (OID in DER: 2a0304)");
    recipe_refused(
        &(struct recipe){.key = key,
                         .more = {{"policyConstraints", "critical,requireExplicitPolicy:0"}}},
        "critical extension");
    recipe_refused(&(struct recipe){.key = key,
                                    .more = {{"extendedKeyUsage", "serverAuth"},
                                             {"extendedKeyUsage", "serverAuth"}}},
                   "twice");
    recipe_refused(&(struct recipe){.key = key, .key_id = "", .more = {{"2.5.29.14", "DER:0400"}}},
                   "subject key identifier");
    recipe_refused(&(struct recipe){.key = key, .basic = "", .more = {{"2.5.29.19", "DER:0500"}}},
                   "basic constraints");
}

static void good_cas(void **state)
{
    EVP_PKEY *key = recipe_key;

    (void)state;
    ca_unref(recipe_ca(&(struct recipe){.key = key, .basic = "critical,CA:TRUE,pathlen:0"}));
    ca_unref(recipe_ca(&(struct recipe){.key = key, .basic = "CA:TRUE"}));
    ca_unref(recipe_ca(
        &(struct recipe){.key = key, .more = {{"extendedKeyUsage", "clientAuth,serverAuth"}}}));
    ca_unref(recipe_ca(&(struct recipe){.key = key, .more = {{"1.2.3.4", "DER:0500"}}}));
    ca_unref(recipe_ca(
        &(struct recipe){.key = key, .more = {{"2.5.29.32", "critical,DER:3007300506032a0304"}}}));
    ca_unref(
        recipe_ca(&(struct recipe){.key = key, .cn = "A & B", .cn_type = V_ASN1_PRINTABLESTRING}));
    /* expiry is told by ca_is_valid_at */
    ca_unref(recipe_ca(&(struct recipe){.key = key, .first_sec = -7200, .last_sec = -3600}));
}

static void missing_key_id(void **state)
{
    X509 *cert = recipe_cert(&(struct recipe){.key = recipe_key, .key_id = ""});
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    struct ca *ca = NULL;

    (void)state;
    assert_int_equal(X509_pubkey_digest(cert, EVP_sha1(), digest, &len), 1);
    assert_int_equal(recipe_read(&cert, 1, false, &ca, NULL), LEAFD_OK);
    assert_true(ca->key_id_was_missing);
    assert_true(bytes_equal(ca->key_id, (struct bytes){digest, len}));
    ca_unref(ca);
    X509_free(cert);
}

static void chains(void **state)
{
    struct recipe root_recipe = {.cn = "Root", .key = recipe_key};
    X509 *root = recipe_cert(&root_recipe);
    X509 *ca_cert = recipe_cert(&(struct recipe){
        .cn = "Inner", .key = recipe_other_key, .issuer = root, .issuer_key = recipe_key});
    X509 *list[3] = {ca_cert, root, root};
    X509 *reversed[2] = {root, ca_cert};
    X509 *forged = recipe_cert(&(struct recipe){
        .cn = "Inner", .key = recipe_other_key, .issuer = root, .issuer_key = recipe_other_key});
    X509 *with_forged[2] = {forged, root};
    struct ca *ca = NULL;
    struct bytes pem;
    struct why why;

    (void)state;
    assert_int_equal(recipe_read(list, 1, false, &ca, NULL), LEAFD_OK);
    assert_int_equal(ca->chain_count, 1);
    ca_unref(ca);

    assert_int_equal(recipe_read(list, 2, false, &ca, NULL), LEAFD_OK);
    assert_int_equal(ca->chain_count, 1);
    assert_equals_der(ca->chain_der[0], ca_cert);
    pem = recipe_pem(list, 1, "");
    assert_true(bytes_equal(ca->chain_pem, pem));
    free((void *)pem.data);
    ca_unref(ca);

    assert_int_equal(recipe_read(list, 2, true, &ca, NULL), LEAFD_OK);
    assert_int_equal(ca->chain_count, 2);
    assert_equals_der(ca->chain_der[1], root);
    pem = recipe_pem(list, 2, "");
    assert_true(bytes_equal(ca->chain_pem, pem));
    free((void *)pem.data);
    ca_unref(ca);

    ca = NULL;
    assert_int_equal(recipe_read(list, 3, true, &ca, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "certificate 2 of the CA's file is a root"));
    assert_int_equal(recipe_read(reversed, 2, true, &ca, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "certificate 1 of the CA's file is a root"));
    assert_int_equal(recipe_read(with_forged, 2, true, &ca, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "certificate 2 of the CA's file has not issued number 1"));
    assert_null(ca);
    X509_free(forged);
    X509_free(ca_cert);
    X509_free(root);
}

static void too_many(void **state)
{
    X509 *cert = recipe_cert(&(struct recipe){.key = recipe_key});
    X509 *list[CA_CHAIN_MAX + 2];
    struct ca *ca = NULL;
    struct why why;

    (void)state;
    for (size_t i = 0; i < CA_CHAIN_MAX + 2; i++)
        list[i] = cert;
    assert_int_equal(recipe_read(list, CA_CHAIN_MAX + 2, true, &ca, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "more than"));
    X509_free(cert);
}

static struct ca *constrained(const char *constraints)
{
    return recipe_ca(
        &(struct recipe){.key = recipe_key, .more = {{"nameConstraints", constraints}}});
}

static void name_constraints(void **state)
{
    struct ca *ca = constrained("critical,permitted;DNS:example.org,excluded;DNS:bad.example.org");

    (void)state;
    assert_true(recipe_allows(ca, "example.org"));
    assert_true(recipe_allows(ca, "a.example.org"));
    assert_true(recipe_allows(ca, "*.a.example.org"));
    assert_false(recipe_allows(ca, "*.example.org")); /* would also name bad.example.org */
    assert_false(recipe_allows(ca, "bad.example.org"));
    assert_false(recipe_allows(ca, "x.bad.example.org"));
    assert_false(recipe_allows(ca, "example.com"));
    assert_true(recipe_allows(ca, "192.0.2.1")); /* nothing is said about addresses */
    ca_unref(ca);

    ca = constrained("permitted;IP:10.0.0.0/255.0.0.0,excluded;IP:10.1.2.3/255.255.255.255,"
                     "excluded;DNS:.example.org,"
                     "excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0");
    assert_true(recipe_allows(ca, "10.9.9.9"));
    assert_false(recipe_allows(ca, "10.1.2.3"));
    assert_false(recipe_allows(ca, "11.0.0.1"));
    assert_false(recipe_allows(ca, "::1"));
    assert_true(recipe_allows(ca, "example.org"));
    assert_false(recipe_allows(ca, "a.example.org"));
    ca_unref(ca);

    ca = constrained("critical,DER:3006a10430028200"); /* the empty domain is every domain */
    assert_false(recipe_allows(ca, "example.org"));
    assert_true(recipe_allows(ca, "10.0.0.1"));
    ca_unref(ca);

    ca = constrained("critical,permitted;email:example.org,permitted;URI:example.org");
    assert_true(recipe_allows(ca, "example.com"));
    assert_false(ca_constrains(ca, NAME_DNS));
    assert_false(ca_constrains_subject(ca));
    ca_unref(ca);

    ca = constrained("critical,DER:3008a0063004a4023000"); /* a directoryName, below every one */
    assert_true(recipe_allows(ca, "example.com"));
    assert_true(ca_constrains_subject(ca));
    assert_false(ca_constrains(ca, NAME_DNS));
    ca_unref(ca);
}

static void bad_name_constraints(void **state)
{
    static const char *const bad[] = {
        "DER:0500",
        "DER:3000FF",
        "DER:3002a000",                         /* no subtree */
        "DER:3006a004300282",                   /* cut */
        "DER:3008a00630048202612a",             /* "a*" */
        "DER:300ea00c300a870800000000ff00ff00", /* no prefix */
        "DER:300aa0083006870400000000",         /* no mask */
        "DER:3009a00730058200800100",           /* minimum */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        recipe_refused(&(struct recipe){.key = recipe_key, .more = {{"2.5.29.30", bad[i]}}},
                       "name constraint");
}

static void sets(void **state)
{
    struct ca *a = recipe_ca(&(struct recipe){.key = recipe_key});
    struct ca *b = recipe_ca(&(struct recipe){.key = recipe_other_key});
    const struct ca *list[9] = {a, a, a, a, a, a, a, a, a};
    struct ca_set *set;

    (void)state;
    b->id = CA_ID_UNTRUSTED;
    assert_true(a->generation != b->generation);
    set = ca_set_new(list, 1, b);
    assert_non_null(set);
    assert_null(ca_set_new(list, 9, NULL));
    ca_unref(a);
    ca_unref(b);
    assert_ptr_equal(ca_set_find(set, 3), a);
    assert_ptr_equal(ca_set_find(set, CA_ID_UNTRUSTED), b);
    assert_null(ca_set_find(set, 0));
    ca_set_unref(ca_set_ref(set));
    ca_set_unref(set);
    ca_set_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_are_right),
        cmocka_unit_test(der_input),
        cmocka_unit_test(texts_are_refused),
        cmocka_unit_test(other_blocks),
        cmocka_unit_test(key_types),
        cmocka_unit_test(rsa_padding),
        cmocka_unit_test(pss_keys),
        cmocka_unit_test(pss_parameters),
        cmocka_unit_test(algorithms),
        cmocka_unit_test(no_cas),
        cmocka_unit_test(good_cas),
        cmocka_unit_test(missing_key_id),
        cmocka_unit_test(chains),
        cmocka_unit_test(too_many),
        cmocka_unit_test(name_constraints),
        cmocka_unit_test(bad_name_constraints),
        cmocka_unit_test(sets),
    };

    return cmocka_run_group_tests(tests, recipe_keys_new, recipe_keys_free);
}
