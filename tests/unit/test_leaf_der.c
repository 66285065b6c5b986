/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves as they are written: byte for byte against tests/golden/, and by OpenSSL's judgement. With
 * LEAFD_WRITE_GOLDEN set in the environment the golden files are written and not compared. */
#include "base/clock.h"
#include "base/digest.h"
#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "der/pem.h"
#include "issue/issued.h"
#include "issue/leaf_der.h"
#include "issue/mimic.h"
#include "pkcs11/sign_check.h"
#include "policy/deny_list.h"
#include "policy/leaf_type.h"
#include "tests/lib/fake_signer.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 86400 };
static const int64_t THEN = 1790000000; /* 2026-09-21T14:13:20Z */

static struct name name_of(const char *text)
{
    struct name name;

    if (!name_of_dns(bytes_of(text), &name))
        assert_int_equal(name_of_host(bytes_of(text), true, &name, NULL), LEAFD_OK);
    return name;
}

/* ---- golden files: nothing in them is left to chance ---- */

static const uint8_t fixed_serial[LEAF_SERIAL_LEN] = {0x40, 1,  2,  3,  4,  5,  6,  7,  8,  9,
                                                      10,   11, 12, 13, 14, 15, 16, 17, 18, 0xff};

/* The public key of RFC 6979, A.2.5. */
static const uint8_t p256_spki[] = {
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04, 0x60, 0xfe, 0xd4, 0xba, 0x25,
    0x5a, 0x9d, 0x31, 0xc9, 0x61, 0xeb, 0x74, 0xc6, 0x35, 0x6d, 0x68, 0xc0, 0x49, 0xb8, 0x92, 0x3b,
    0x61, 0xfa, 0x6c, 0xe6, 0x69, 0x62, 0x2e, 0x60, 0xf2, 0x9f, 0xb6, 0x79, 0x03, 0xfe, 0x10, 0x08,
    0xb8, 0xbc, 0x99, 0xa4, 0x1a, 0xe9, 0xe9, 0x56, 0x28, 0xbc, 0x64, 0xf2, 0xf1, 0xb2, 0x0c, 0x2d,
    0x7e, 0x9f, 0x51, 0x77, 0xa3, 0xc2, 0x94, 0xd4, 0x46, 0x22, 0x99};

/* The public keys of RFC 6979 A.2.6 and A.2.7, RFC 8032 sections 7.1 and 7.4 (the first of each),
 * and of GB/T 32918.5, in the form that OpenSSL writes. */
static const char p384_spki[] =
    "3076301006072a8648ce3d020106052b8104002203620004ec3a4e415b4e19a4568618029f42"
    "7fa5da9a8bc4ae92e02e06aae5286b300c64def8f0ea9055866064a254515480bc138015d9b7"
    "2d7d57244ea8ef9ac0c621896708a59367f9dfb9f54ca84b3f1c9db1288b231c3ae0d4fe7344"
    "fd2533264720";
static const char p521_spki[] =
    "30819b301006072a8648ce3d020106052b81040023038186000401894550d0785932e00eaa23"
    "b694f213f8c3121f86dc97a04e5a7167db4e5bcd371123d46e45db6b5d5370a7f20fb633155d"
    "38ffa16d2bd761dcac474b9a2f5023a400493101c962cd4d2fddf782285e64584139c2f91b47"
    "f87ff82354d6630f746a28a0db25741b5b34a828008b22acc23f924faafbd4d33f81ea66956d"
    "feaa2bfdfcf5";
static const char ed25519_spki[] =
    "302a300506032b6570032100d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af02"
    "1a68f707511a";
static const char ed448_spki[] =
    "3043300506032b6571033a005fd7449b59b461fd2ce787ec616ad46a1da1342485a70e1f8a0e"
    "a75d80e96778edf124769b46c7061bd6783df1e50f6cd1fa1abeafe8256180";
static const char sm2_spki[] =
    "3059301306072a8648ce3d020106082a811ccf5501822d0342000409f9df311e5421a150dd7d"
    "161e4bc5c672179fad1833fc076bb08ff356f35020ccea490ce26775a52dc6ea718cc1aa600a"
    "ed05fbf35e084a6632f6072da9ad13";

/* An SPKI as hex digits; the RSA one is made up, since its numbers are only carried. */
static struct bytes spki_of_hex(const char *hex, uint8_t *room)
{
    size_t len = strlen(hex) / 2;

    for (size_t i = 0; i < len; i++) {
        unsigned octet;

        assert_int_equal(sscanf(hex + 2 * i, "%2x", &octet), 1);
        room[i] = (uint8_t)octet;
    }
    return (struct bytes){room, len};
}

static struct bytes spki_of_rsa(size_t bits, uint8_t *room, size_t size)
{
    uint8_t modulus[1 + 512] = {0};
    struct der_writer writer = der_writer_of(room, size);
    const uint8_t *all = der_mark(&writer), *mark = all;

    for (size_t i = 1; i <= bits / 8; i++)
        modulus[i] = (uint8_t)(0x7f + 2 * i);
    modulus[1] |= 0x80;
    der_put_element(&writer, DER_INTEGER, (struct bytes){(const uint8_t *)"\x01\x00\x01", 3});
    der_put_element(&writer, DER_INTEGER, (struct bytes){modulus, 1 + bits / 8});
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_put_octet(&writer, 0);
    der_wrap(&writer, DER_BIT_STRING, mark);
    mark = der_mark(&writer);
    der_put_element(&writer, DER_NULL, (struct bytes){NULL, 0});
    der_put_element(&writer, DER_OID, oid_rsa);
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_wrap(&writer, DER_SEQUENCE, all);
    return der_written(&writer);
}

/* CN=Golden CA */
static const uint8_t ca_subject[] = {0x30, 0x14, 0x31, 0x12, 0x30, 0x10, 0x06, 0x03,
                                     0x55, 0x04, 0x03, 0x0c, 0x09, 'G',  'o',  'l',
                                     'd',  'e',  'n',  ' ',  'C',  'A'};
/* ecdsa-with-SHA256 */
static const uint8_t ca_algorithm[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                       0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
/* C=DE, O=Grün AG, CN=www.example.org */
static const uint8_t upstream_subject[] = {
    0x30, 0x3a, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02, 'D',  'E',
    0x31, 0x11, 0x30, 0x0f, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x08, 'G',  'r',  0xc3, 0xbc,
    'n',  ' ',  'A',  'G',  0x31, 0x18, 0x30, 0x16, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x0f,
    'w',  'w',  'w',  '.',  'e',  'x',  'a',  'm',  'p',  'l',  'e',  '.',  'o',  'r',  'g'};

struct golden {
    struct conf conf;
    uint8_t ca_key_id[20];
    struct ca ca;
    struct leaf_key key;
    struct name names[4];
    struct upstream upstream;
    struct plan plan;
};

static void golden_init(struct golden *golden)
{
    memset(golden, 0, sizeof(*golden));
    memset(golden->ca_key_id, 0xca, sizeof(golden->ca_key_id));
    golden->ca = (struct ca){
        .refs = 1000,
        .subject = {ca_subject, sizeof(ca_subject)},
        .algorithm_der = {ca_algorithm, sizeof(ca_algorithm)},
        .key_id = {golden->ca_key_id, sizeof(golden->ca_key_id)},
        .not_before = 0,
        .not_after = INT64_C(7258118400), /* 2200 */
    };
    golden->key = (struct leaf_key){
        .refs = 1000, .type = KEY_TYPE_P256, .spki = {p256_spki, sizeof(p256_spki)}};
    for (size_t i = 0; i < sizeof(golden->key.key_id); i++)
        golden->key.key_id[i] = (uint8_t)(0xa0 + i);
    golden->names[0] = name_of("www.example.org");
    golden->names[1] = name_of("*.example.org");
    golden->names[2] = name_of("192.0.2.7");
    golden->names[3] = name_of("2001:db8::7");
    golden->upstream = (struct upstream){
        .refs = 1000,
        .not_before = INT64_C(2524608000) - DAY, /* 2049-12-31: UTCTime */
        .not_after = INT64_C(2524608000),        /* 2050-01-01: GeneralizedTime */
        .subject = {upstream_subject, sizeof(upstream_subject)},
        .name_count = 4,
        .names = golden->names,
    };
    golden->plan = (struct plan){.ca = &golden->ca, .key_type = KEY_TYPE_P256};
}

static void compare_golden(const struct golden *golden, const char *name)
{
    const char *top = getenv("top_srcdir");
    uint8_t buffer[4096];
    struct bytes tbs, expected;
    struct cert_fields fields;
    char path[1024];
    struct why why = {""};

    assert_int_equal(leaf_tbs_write(&golden->plan, &golden->conf, &golden->key, fixed_serial,
                                    buffer, sizeof(buffer), &tbs),
                     LEAFD_OK);
    assert_int_equal(tbs_read(tbs, DER_FORM_STRICT, &fields, &why), LEAFD_OK);
    snprintf(path, sizeof(path), "%s/tests/golden/%s.der", top ? top : ".", name);
    if (getenv("LEAFD_WRITE_GOLDEN")) {
        FILE *file = fopen(path, "wb");

        assert_non_null(file);
        assert_int_equal(fwrite(tbs.data, 1, tbs.len, file), tbs.len);
        fclose(file);
        return;
    }
    if (bytes_read_file(path, sizeof(buffer), &expected, &why))
        print_error("%s\n", why.text);
    assert_true(bytes_equal(tbs, expected));
    free((void *)expected.data);
}

static void golden_fresh(void **state)
{
    struct golden golden;

    (void)state;
    golden_init(&golden);
    golden.plan.profile = PROFILE_FRESH;
    golden.plan.host_only = true;
    golden.plan.host = name_of("www.example.org");
    plan_set_dates(&golden.plan, 90 * DAY, THEN);
    compare_golden(&golden, "tbs-fresh");
}

static void golden_mimic(void **state)
{
    struct golden golden;

    (void)state;
    golden_init(&golden);
    golden.plan.profile = PROFILE_MIMIC;
    golden.plan.host = name_of("elsewhere.example.net");
    golden.plan.upstream = &golden.upstream;
    golden.plan.verdict.not_yet = true;
    plan_set_dates(&golden.plan, 90 * DAY, THEN);
    compare_golden(&golden, "tbs-mimic");
}

static void golden_minimal(void **state)
{
    struct golden golden;
    char host[] = "a-host-that-is-too-long-to-be-a-common-name.because-that-ends-at-64.example.org";

    (void)state;
    golden_init(&golden);
    golden.conf.ca_crl_url = (char *)(uintptr_t) "http://crl.example.org/ca.crl";
    golden.plan.profile = PROFILE_MINIMAL;
    golden.plan.host_only = true;
    golden.plan.host = name_of(host);
    golden.plan.upstream = &golden.upstream;
    golden.plan.usage = USAGE_TLCP_ENCRYPTION;
    golden.plan.verdict.not_yet = true;
    plan_set_dates(&golden.plan, 90 * DAY, THEN);
    compare_golden(&golden, "tbs-minimal-empty-subject");
}

/* Every key that a leaf may have, and what each usage makes of it. */
static void golden_keys_and_usages(void **state)
{
    static const struct {
        const char *name;
        enum key_type type;
        const char *spki; /* NULL: RSA-3072 */
        enum usage usage;
        enum profile profile;
    } rows[] = {
        {"tbs-fresh-p384", KEY_TYPE_P384, p384_spki, USAGE_TLS_SERVER, PROFILE_FRESH},
        {"tbs-mimic-p521", KEY_TYPE_P521, p521_spki, USAGE_TLS_SERVER, PROFILE_MIMIC},
        {"tbs-fresh-ed25519", KEY_TYPE_ED25519, ed25519_spki, USAGE_TLS_SERVER, PROFILE_FRESH},
        {"tbs-mimic-ed448", KEY_TYPE_ED448, ed448_spki, USAGE_TLS_SERVER_TONGSUO, PROFILE_MIMIC},
        {"tbs-mimic-sm2", KEY_TYPE_SM2, sm2_spki, USAGE_TLS_SERVER, PROFILE_MIMIC},
        {"tbs-fresh-sm2-tongsuo", KEY_TYPE_SM2, sm2_spki, USAGE_TLS_SERVER_TONGSUO, PROFILE_FRESH},
        {"tbs-fresh-sm2-signature", KEY_TYPE_SM2, sm2_spki, USAGE_TLCP_SIGNATURE, PROFILE_FRESH},
        {"tbs-fresh-sm2-encryption", KEY_TYPE_SM2, sm2_spki, USAGE_TLCP_ENCRYPTION, PROFILE_FRESH},
        {"tbs-mimic-rsa-3072", KEY_TYPE_RSA, NULL, USAGE_TLS_SERVER, PROFILE_MIMIC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct golden golden;
        uint8_t room[600], digest[DIGEST_LEN];
        struct spki spki;

        golden_init(&golden);
        golden.key.type = golden.plan.key_type = rows[i].type;
        golden.key.spki =
            rows[i].spki ? spki_of_hex(rows[i].spki, room) : spki_of_rsa(3072, room, sizeof(room));
        assert_int_equal(spki_read(golden.key.spki, &spki), LEAFD_OK);
        assert_true(spki.well_formed && spki.type == rows[i].type);
        assert_int_equal(digest_sha256(spki.key, digest), LEAFD_OK);
        memcpy(golden.key.key_id, digest, sizeof(golden.key.key_id));
        golden.plan.usage = rows[i].usage;
        golden.plan.profile = rows[i].profile;
        golden.plan.host = name_of("www.example.org");
        golden.plan.host_only = rows[i].profile == PROFILE_FRESH;
        golden.plan.upstream = rows[i].profile == PROFILE_FRESH ? NULL : &golden.upstream;
        golden.plan.verdict.not_yet = rows[i].profile != PROFILE_FRESH;
        plan_set_dates(&golden.plan, 90 * DAY, THEN);
        compare_golden(&golden, rows[i].name);
    }
}

/* ---- what may not be ---- */

static void the_issuers_name_is_never_the_subject(void **state)
{
    static const uint8_t printable[] = {0x30, 0x17, 0x31, 0x15, 0x30, 0x13, 0x06, 0x03, 0x55,
                                        0x04, 0x03, 0x13, 0x0c, ' ',  'g',  'O',  'l',  'd',
                                        'e',  'n',  ' ',  ' ',  'c',  'A',  ' '};
    struct golden golden;
    uint8_t room[MIMIC_SUBJECT_ROOM];
    struct bytes subject;

    (void)state;
    golden_init(&golden);
    golden.plan.profile = PROFILE_MIMIC;
    golden.plan.upstream = &golden.upstream;
    subject = mimic_subject(&golden.plan, room);
    assert_int_equal(subject.len, sizeof(upstream_subject));
    golden.upstream.subject = golden.ca.subject;
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.upstream.subject = (struct bytes){printable, sizeof(printable)};
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.upstream.subject = (struct bytes){(const uint8_t *)"\x30\x00", 2};
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
}

/* A CN is held against a CA's constraints on domains wherever no dNSName stands beside it. */
static void a_constrained_ca_gets_no_cn_without_a_domain(void **state)
{
    struct golden golden;
    uint8_t room[MIMIC_SUBJECT_ROOM];
    struct name_rule permitted[] = {{.kind = NAME_IP, .base = name_of("192.0.2.7"), .prefix = 32}};
    struct name_rule excluded[] = {{.kind = NAME_DNS, .base = name_of("example.com")}};
    char *rule = (char *)"example.org";
    struct deny_list *deny = NULL;

    (void)state;
    golden_init(&golden);
    golden.plan.profile = PROFILE_MIMIC;
    golden.plan.upstream = &golden.upstream;
    golden.ca.constraints[0] = (struct name_constraints){permitted, 1, excluded, 0, false};
    golden.ca.constraints_count = 1;
    golden.upstream.name_count = 1;
    golden.upstream.names = &golden.names[2]; /* an address alone */
    assert_int_equal(mimic_subject(&golden.plan, room).len, sizeof(upstream_subject));
    golden.ca.constraints[0].excluded_count = 1;
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    permitted[0] = (struct name_rule){.kind = NAME_DNS, .base = name_of("example.org")};
    golden.ca.constraints[0].excluded_count = 0;
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.upstream.name_count = 3;
    golden.upstream.names = golden.names; /* and domains */
    assert_int_equal(mimic_subject(&golden.plan, room).len, sizeof(upstream_subject));
    golden.ca.constraints[0].on_subject = true; /* of subjects an empty one alone is allowed */
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.ca.constraints[0].on_subject = false;

    /* all names denied: nothing is left to be beside it */
    assert_int_equal(deny_list_new(&rule, 1, &deny, NULL), LEAFD_OK);
    golden.plan.deny = deny;
    golden.upstream.name_count = 2;
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    deny_list_free(deny);
}

/* A CN is taken for a name wherever no dNSName stands beside it. */
static void no_cn_stands_in_for_names_that_were_dropped(void **state)
{
    struct golden golden;
    uint8_t room[MIMIC_SUBJECT_ROOM];
    char *rule = (char *)"denied.example";
    struct deny_list *deny = NULL;

    (void)state;
    golden_init(&golden);
    golden.plan.profile = PROFILE_MIMIC;
    golden.plan.upstream = &golden.upstream;
    golden.upstream.name_count = 1;
    golden.upstream.names = &golden.names[2]; /* an address alone, as in the upstream */
    assert_int_equal(mimic_subject(&golden.plan, room).len, sizeof(upstream_subject));
    golden.upstream.has_dns_names = true; /* one that no leaf gets stood beside it */
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.upstream.name_count = 3;
    golden.upstream.names = golden.names; /* and others that leaves get */
    assert_int_equal(mimic_subject(&golden.plan, room).len, sizeof(upstream_subject));

    /* the host alone, as an address, but with the upstream's subject */
    golden.plan.host_only = true;
    golden.plan.host = golden.names[2];
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.plan.host_only = false;

    /* what is denied may stand in the CN too */
    assert_int_equal(deny_list_new(&rule, 1, &deny, NULL), LEAFD_OK);
    golden.plan.deny = deny;
    golden.upstream.has_dns_names = false;
    assert_int_equal(mimic_subject(&golden.plan, room).len, sizeof(upstream_subject));
    golden.upstream.name_count = 1;
    golden.upstream.names = &golden.names[2];
    assert_int_equal(mimic_subject(&golden.plan, room).len, MIMIC_EMPTY_LEN);
    golden.plan.profile = PROFILE_MINIMAL; /* its CN is the host */
    golden.plan.host_only = true;
    assert_true(mimic_subject(&golden.plan, room).len > MIMIC_EMPTY_LEN);
    deny_list_free(deny);
}

static void names_may_run_out(void **state)
{
    struct golden golden;
    char *rule = (char *)"example.org";
    struct deny_list *deny = NULL;
    uint8_t buffer[2048];
    struct bytes tbs;

    (void)state;
    golden_init(&golden);
    assert_int_equal(deny_list_new(&rule, 1, &deny, NULL), LEAFD_OK);
    golden.upstream.name_count = 2;
    golden.plan.profile = PROFILE_MIMIC;
    golden.plan.upstream = &golden.upstream;
    golden.plan.deny = deny;
    assert_int_equal(leaf_tbs_write(&golden.plan, &golden.conf, &golden.key, fixed_serial, buffer,
                                    sizeof(buffer), &tbs),
                     LEAFD_UNSUPPORTED);
    deny_list_free(deny);
}

static void too_little_room_is_told(void **state)
{
    struct golden golden;
    uint8_t buffer[2048], serial[LEAF_SERIAL_LEN];
    struct bytes tbs = {NULL, 0}, cert;
    size_t size = 0;

    (void)state;
    golden_init(&golden);
    golden.plan.profile = PROFILE_MIMIC;
    golden.plan.upstream = &golden.upstream;
    while (leaf_tbs_write(&golden.plan, &golden.conf, &golden.key, fixed_serial, buffer, size,
                          &tbs) == LEAFD_TOO_LARGE)
        size++;
    assert_int_equal(tbs.len, size);
    assert_int_equal(
        leaf_cert_write(&golden.ca, tbs, bytes_of("signature"), serial, sizeof(serial), &cert),
        LEAFD_TOO_LARGE);
}

static void serials_are_long_positive_and_new(void **state)
{
    uint8_t serial[2][LEAF_SERIAL_LEN];

    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(leaf_serial(serial[i & 1]), LEAFD_OK);
        assert_true(serial[i & 1][0] >= 0x40 && serial[i & 1][0] <= 0x7f);
        if (i > 0)
            assert_memory_not_equal(serial[0], serial[1], LEAF_SERIAL_LEN);
    }
}

/* ---- keys ---- */

static EVP_PKEY *read_private(const struct leaf_key *key)
{
    const uint8_t *at = key->private_der.data;
    EVP_PKEY *pair = d2i_AutoPrivateKey(NULL, &at, (long)key->private_der.len);

    assert_non_null(pair);
    assert_ptr_equal(at, key->private_der.data + key->private_der.len);
    return pair;
}

/* RFC 7093 method 1, of what OpenSSL calls the public key. */
static void check_key_id(const struct leaf_key *key)
{
    const uint8_t *at = key->spki.data, *bits;
    X509_PUBKEY *public_key = d2i_X509_PUBKEY(NULL, &at, (long)key->spki.len);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    int len;

    assert_int_equal(X509_PUBKEY_get0_param(NULL, &bits, &len, NULL, public_key), 1);
    SHA256(bits, (size_t)len, digest);
    assert_memory_equal(key->key_id, digest, sizeof(key->key_id));
    X509_PUBKEY_free(public_key);
}

static EVP_PKEY *read_private_pem(const struct leaf_key *key, size_t pkcs8_len)
{
    uint8_t room[LEAF_KEY_PEM_MAX];
    struct bytes pem;
    EVP_PKEY *pair;
    BIO *bio;

    assert_int_equal(leaf_key_pem(key, room, sizeof(room), &pem), LEAFD_OK);
    assert_true(pem.len <= pem_size("PRIVATE KEY", pkcs8_len));
    assert_memory_equal(pem.data, "-----BEGIN PRIVATE KEY-----\n", 28);
    bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    pair = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    assert_non_null(pair);
    BIO_free(bio);
    assert_int_equal(leaf_key_pem(key, room, pem.len - 1, &pem), LEAFD_TOO_LARGE);
    return pair;
}

static void keys_are_what_openssl_would_write(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        const struct leaf_type *leaf = &leaf_types[i];
        struct leaf_key *key = NULL;
        EVP_PKEY *pair, *from_pem;
        uint8_t *spki = NULL, *private_der = NULL;
        int spki_len, private_len;

        assert_int_equal(leaf_key_make(leaf->type, leaf->bits, &key), LEAFD_OK);
        assert_int_equal(key->type, leaf->type);
        assert_int_equal(key->bits, leaf->bits);
        assert_int_equal(key->spki.len, leaf->spki_len);
        assert_in_range(key->private_der.len, leaf->private_len - (leaf->bits ? 20 : 0),
                        leaf->private_len);
        check_key_id(key);
        pair = read_private(key);
        from_pem = read_private_pem(key, leaf->pkcs8_len);
        assert_int_equal(EVP_PKEY_eq(pair, from_pem), 1);
        spki_len = i2d_PUBKEY(pair, &spki);
        assert_true(bytes_equal(key->spki, (struct bytes){spki, (size_t)spki_len}));
        private_len = i2d_PrivateKey(pair, &private_der);
        assert_true(
            bytes_equal(key->private_der, (struct bytes){private_der, (size_t)private_len}));
        OPENSSL_free(spki);
        OPENSSL_free(private_der);
        EVP_PKEY_free(pair);
        EVP_PKEY_free(from_pem);
        leaf_key_unref(key);
    }
}

static void keys_that_nobody_makes_are_refused(void **state)
{
    struct leaf_key *key = NULL;

    (void)state;
    assert_int_equal(leaf_key_make(KEY_TYPE_DSA, 0, &key), LEAFD_UNSUPPORTED);
    assert_int_equal(leaf_key_make(KEY_TYPE_NONE, 0, &key), LEAFD_UNSUPPORTED);
    assert_int_equal(leaf_key_make(KEY_TYPE_RSA, 1024, &key), LEAFD_UNSUPPORTED);
    assert_int_equal(leaf_key_make(KEY_TYPE_RSA, 16384, &key), LEAFD_UNSUPPORTED);
    assert_null(key);
    leaf_key_unref(NULL);
}

/* ---- whole leaves, by OpenSSL and by the signer's own check ---- */

static X509 *sign_leaf(const struct ca *ca, EVP_PKEY *ca_key, struct bytes tbs, struct bytes *ret)
{
    static uint8_t buffer[LEAF_DER_MAX];
    uint8_t signature[SIGN_SIGNATURE_MAX];
    size_t len = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    const char *md = ca->algorithm == SIG_ED25519        ? NULL
                     : ca->algorithm == SIG_ECDSA_SHA384 ? "SHA384"
                                                         : "SHA256";
    const uint8_t *at;
    X509 *leaf;

    assert_int_equal(EVP_DigestSignInit_ex(context, NULL, md, NULL, NULL, ca_key, NULL), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &len, tbs.data, tbs.len), 1);
    EVP_MD_CTX_free(context);
    assert_int_equal(
        leaf_cert_write(ca, tbs, (struct bytes){signature, len}, buffer, sizeof(buffer), ret),
        LEAFD_OK);
    at = ret->data;
    leaf = d2i_X509(NULL, &at, (long)ret->len);
    assert_non_null(leaf);
    return leaf;
}

/* As `openssl verify -x509_strict -purpose sslserver`. */
static void check_chain(const struct ca *ca, X509 *leaf, int64_t now_sec)
{
    const uint8_t *at = ca->der.data;
    X509 *root = d2i_X509(NULL, &at, (long)ca->der.len);
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *context = X509_STORE_CTX_new();

    X509_STORE_add_cert(store, root);
    X509_STORE_CTX_init(context, store, leaf, NULL);
    X509_STORE_CTX_set_flags(context, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
    X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_SERVER);
    X509_STORE_CTX_set_time(context, 0, (time_t)now_sec);
    if (X509_verify_cert(context) != 1)
        print_error("%s\n", X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    assert_int_equal(X509_STORE_CTX_get_error(context), X509_V_OK);
    assert_int_equal(X509_check_ca(leaf), 0);
    X509_STORE_CTX_free(context);
    X509_STORE_free(store);
    X509_free(root);
}

static void check_extensions(const struct plan *plan, struct bytes tbs, bool empty_subject)
{
    const struct bytes *order[] = {&oid_key_usage,         &oid_ext_key_usage,
                                   &oid_basic_constraints, &oid_subject_alt_name,
                                   &oid_subject_key_id,    &oid_authority_key_id};
    struct cert_fields fields;

    assert_int_equal(tbs_read(tbs, DER_FORM_STRICT, &fields, NULL), LEAFD_OK);
    assert_int_equal(fields.version, 3);
    assert_int_equal(fields.serial.len, LEAF_SERIAL_LEN);
    assert_int_equal(fields.not_before, plan->not_before);
    assert_int_equal(fields.not_after, plan->not_after);
    assert_int_equal(fields.extension_count, 6);
    for (size_t i = 0; i < fields.extension_count; i++) {
        assert_true(bytes_equal(fields.extension[i].oid, *order[i]));
        assert_int_equal(fields.extension[i].critical,
                         i == 0 || i == 2 || (i == 3 && empty_subject));
    }
}

static void check_leaf(const struct conf *conf, const struct ca *ca, EVP_PKEY *ca_key,
                       const struct plan *plan, struct leaf_key *key, bool empty_subject)
{
    uint8_t buffer[LEAF_DER_MAX], serial[LEAF_SERIAL_LEN], room[LEAF_DER_MAX];
    struct bytes tbs, der, again;
    struct ca_set *cas = ca_set_new(&ca, 1, NULL);
    struct sign_check *check = NULL;
    struct issued *issued = NULL;
    struct why why = {""};
    EVP_PKEY *pair = read_private(key), *public_key;
    X509 *leaf;

    assert_int_equal(leaf_serial(serial), LEAFD_OK);
    assert_int_equal(leaf_tbs_write(plan, conf, key, serial, buffer, sizeof(buffer), &tbs),
                     LEAFD_OK);
    check_extensions(plan, tbs, empty_subject);
    assert_int_equal(sign_check_new(conf, cas, &check, NULL), LEAFD_OK);
    if (sign_check_tbs(check, ca, tbs, &why))
        print_error("the signer would refuse: %s\n", why.text);
    assert_string_equal(why.text, "");
    sign_check_free(check);
    ca_set_unref(cas);

    leaf = sign_leaf(ca, ca_key, tbs, &der);
    check_chain(ca, leaf, clock_wall_sec());
    public_key = X509_get_pubkey(leaf);
    assert_int_equal(EVP_PKEY_eq(public_key, pair), 1);
    EVP_PKEY_free(public_key);
    EVP_PKEY_free(pair);
    assert_int_equal(X509_check_host(leaf, "www.example.org", 0, 0, NULL), 1);
    if (!plan->host_only) {
        assert_int_equal(X509_check_host(leaf, "any.wild.example.org", 0, 0, NULL), 1);
        assert_int_equal(X509_check_ip_asc(leaf, "192.0.2.7", 0), 1);
        assert_int_equal(X509_check_ip_asc(leaf, "2001:db8::7", 0), 1);
    }
    assert_int_equal(X509_check_host(leaf, "example.net", 0, 0, NULL), 0);

    assert_int_equal(issued_new(der, key, ca, plan->not_after, plan->usable_until, &issued),
                     LEAFD_OK);
    assert_int_equal(issued_der(issued, room, sizeof(room), &again), LEAFD_OK);
    assert_true(bytes_equal(der, again));
    assert_int_equal(issued_der(issued, room, der.len - 1, &again), LEAFD_TOO_LARGE);
    assert_true(issued_size(issued) > der.len);
    issued_unref(issued_ref(issued));
    issued_unref(issued);
    X509_free(leaf);
}

static struct upstream *read_upstream(const char *cn)
{
    struct make_cert spec = {
        .cn = cn,
        .issuer = "Some CA",
        .san = "DNS:WWW.example.org,DNS:*.wild.example.org,IP:192.0.2.7,IP:2001:db8::7",
        .not_before = clock_wall_sec() - 5 * DAY,
        .not_after = clock_wall_sec() + 50 * DAY,
    };
    struct bytes der = make_cert(&spec);
    struct upstream *upstream = NULL;

    assert_int_equal(upstream_read(der, &upstream, NULL), LEAFD_OK);
    free((void *)der.data);
    return upstream;
}

static void leaves_stand_before_openssl_and_the_signer(void **state)
{
    static const char *const ca_keys[] = {"P-256", "P-384", "2048", "ED25519"};
    static const enum usage usages[] = {USAGE_TLS_SERVER, USAGE_TLS_SERVER_TONGSUO,
                                        USAGE_TLCP_SIGNATURE, USAGE_TLCP_ENCRYPTION};
    struct conf conf = {.leaf_lifetime_sec = 90 * DAY};
    struct upstream *named = read_upstream("www.example.org"), *bare = read_upstream(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(ca_keys) / sizeof(ca_keys[0]); i++)
        for (size_t j = 0; j < LEAF_TYPE_COUNT; j++) {
            struct fake_ca_options options = {.key = ca_keys[i],
                                              .not_after = clock_wall_sec() + 3650 * (int64_t)DAY};
            struct leaf_key *key = NULL;
            struct ca *ca = NULL;
            EVP_PKEY *ca_key = NULL;

            if (leaf_types[j].bits > LEAF_RSA_BITS_MIN && i > 0)
                continue; /* takes seconds to make */
            fake_ca_make(&options, &ca, &ca_key);
            assert_int_equal(leaf_key_make(leaf_types[j].type, leaf_types[j].bits, &key), LEAFD_OK);
            for (size_t k = 0; k < sizeof(usages) / sizeof(usages[0]); k++) {
                struct plan plan = {.ca = ca,
                                    .usage = usages[k],
                                    .host = name_of("www.example.org"),
                                    .key_type = key->type};

                plan.host_only = true;
                plan_set_dates(&plan, conf.leaf_lifetime_sec, clock_wall_sec());
                check_leaf(&conf, ca, ca_key, &plan, key, false);
                plan.host_only = false;
                plan.profile = PROFILE_MIMIC;
                plan.upstream = k & 1 ? bare : named;
                plan_set_dates(&plan, conf.leaf_lifetime_sec, clock_wall_sec());
                check_leaf(&conf, ca, ca_key, &plan, key, plan.upstream == bare);
            }
            leaf_key_unref(key);
            ca_unref(ca);
            EVP_PKEY_free(ca_key);
        }
    upstream_unref(named);
    upstream_unref(bare);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_fresh),
        cmocka_unit_test(golden_mimic),
        cmocka_unit_test(golden_minimal),
        cmocka_unit_test(golden_keys_and_usages),
        cmocka_unit_test(the_issuers_name_is_never_the_subject),
        cmocka_unit_test(a_constrained_ca_gets_no_cn_without_a_domain),
        cmocka_unit_test(no_cn_stands_in_for_names_that_were_dropped),
        cmocka_unit_test(names_may_run_out),
        cmocka_unit_test(too_little_room_is_told),
        cmocka_unit_test(serials_are_long_positive_and_new),
        cmocka_unit_test(keys_are_what_openssl_would_write),
        cmocka_unit_test(keys_that_nobody_makes_are_refused),
        cmocka_unit_test(leaves_stand_before_openssl_and_the_signer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
