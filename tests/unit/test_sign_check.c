/* SPDX-License-Identifier: Apache-2.0 */
/* One good TBSCertificate, and one thing wrong with it at a time. */
#include "der/der_reader.h"
#include "der/der_time.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "pkcs11/sign_check.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DAY = 86400, BUFFER = 65536, EXTENSIONS = 9 };

#define BYTES(...)                                                                                 \
    ((struct bytes){(const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__})})

struct extension {
    struct bytes oid;
    bool critical;
    struct bytes value;
};

/* What a TBS is written from; every test spoils one member. */
struct draft {
    struct bytes version; /* the whole [0] */
    struct bytes serial;
    struct bytes algorithm;
    struct bytes issuer;
    int64_t not_before, not_after;
    struct bytes subject;
    struct bytes spki;
    struct bytes unique_id; /* whole element, usually nothing */
    struct extension extension[EXTENSIONS];
    size_t extension_count;
    uint8_t room[16][BUFFER / 8];
    size_t rooms;
};

static struct ca *ca, *other_ca, *untrusted_ca;
static struct ca_set *cas;
static struct conf conf;
static EVP_PKEY *ca_key, *other_ca_key, *untrusted_key, *leaf_p256;

static struct bytes keep(struct draft *draft, struct bytes bytes)
{
    uint8_t *room = draft->room[draft->rooms++];

    assert_true(draft->rooms <= 16 && bytes.len <= sizeof(draft->room[0]));
    memcpy(room, bytes.data, bytes.len);
    return (struct bytes){room, bytes.len};
}

static struct bytes spki_of(struct draft *draft, EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    struct bytes kept = keep(draft, (struct bytes){der, (size_t)len});

    OPENSSL_free(der);
    return kept;
}

static struct bytes element(struct draft *draft, uint8_t tag, struct bytes content)
{
    static uint8_t buffer[BUFFER];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));

    der_put_element(&writer, tag, content);
    assert_false(writer.failed);
    return keep(draft, der_written(&writer));
}

static struct bytes cn(struct draft *draft, const char *text)
{
    uint8_t buffer[512];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *mark = der_mark(&writer);

    der_put_element(&writer, DER_UTF8_STRING, bytes_of(text));
    der_put_element(&writer, DER_OID, oid_common_name);
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_wrap(&writer, DER_SET, mark);
    der_wrap(&writer, DER_SEQUENCE, mark);
    return keep(draft, der_written(&writer));
}

/* GeneralNames of dNSNames; a name that starts with '@' stands for 192.0.2.1. */
static struct bytes alt_names(struct draft *draft, const char *const *names, size_t count)
{
    static uint8_t buffer[BUFFER];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *mark = der_mark(&writer);

    while (count-- > 0) {
        if (names[count][0] == '@')
            der_put_element(&writer, DER_CONTEXT(7), BYTES(192, 0, 2, 1));
        else
            der_put_element(&writer, DER_CONTEXT(2), bytes_of(names[count]));
    }
    der_wrap(&writer, DER_SEQUENCE, mark);
    return keep(draft, der_written(&writer));
}

static struct bytes subject_key_id(struct draft *draft, struct bytes spki_der)
{
    struct spki spki;
    uint8_t digest[SHA256_DIGEST_LENGTH];

    assert_int_equal(spki_read(spki_der, &spki), LEAFD_OK);
    SHA256(spki.key.data, spki.key.len, digest);
    return element(draft, DER_OCTET_STRING, (struct bytes){digest, 20});
}

static void add(struct draft *draft, struct bytes oid, bool critical, struct bytes value)
{
    assert_true(draft->extension_count < EXTENSIONS);
    draft->extension[draft->extension_count++] = (struct extension){oid, critical, value};
}

enum { KU, EKU, BC, SAN, SKI, AKI };

static void set_key(struct draft *draft, EVP_PKEY *key)
{
    struct bytes rsa = BYTES(0x03, 0x02, 0x05, 0xa0);
    struct bytes ec = BYTES(0x03, 0x02, 0x07, 0x80);

    draft->spki = spki_of(draft, key);
    draft->extension[KU].value = keep(draft, EVP_PKEY_is_a(key, "RSA") ? rsa : ec);
    draft->extension[SKI].value = subject_key_id(draft, draft->spki);
}

static struct draft *good(void)
{
    static const char *const names[] = {"www.example.org", "*.example.org", "@"};
    struct draft *draft = calloc(1, sizeof(*draft));
    uint8_t serial[20];
    struct bytes aki;

    assert_non_null(draft);
    assert_int_equal(RAND_bytes(serial, sizeof(serial)), 1);
    serial[0] = (serial[0] & 0x3f) | 0x40;
    draft->version = BYTES(0xa0, 0x03, 0x02, 0x01, 0x02);
    draft->version = keep(draft, draft->version);
    draft->serial = keep(draft, (struct bytes){serial, sizeof(serial)});
    draft->algorithm = ca->algorithm_der;
    draft->issuer = ca->subject;
    draft->not_before = time(NULL) - DAY;
    draft->not_after = draft->not_before + 90 * DAY;
    draft->subject = cn(draft, "www.example.org");
    add(draft, oid_key_usage, true, BYTES(0));
    add(draft, oid_ext_key_usage, false,
        keep(draft, BYTES(0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01)));
    add(draft, oid_basic_constraints, true, keep(draft, BYTES(0x30, 0x00)));
    add(draft, oid_subject_alt_name, false, alt_names(draft, names, 3));
    add(draft, oid_subject_key_id, false, BYTES(0));
    aki = element(draft, DER_CONTEXT(0), ca->key_id);
    add(draft, oid_authority_key_id, false, element(draft, DER_SEQUENCE, aki));
    set_key(draft, leaf_p256);
    return draft;
}

static void put_extensions(struct der_writer *writer, const struct draft *draft)
{
    const uint8_t *all = der_mark(writer);

    for (size_t i = draft->extension_count; i-- > 0;) {
        const uint8_t *mark = der_mark(writer);

        der_put_element(writer, DER_OCTET_STRING, draft->extension[i].value);
        if (draft->extension[i].critical)
            der_put_element(writer, DER_BOOLEAN, BYTES(0xff));
        der_put_element(writer, DER_OID, draft->extension[i].oid);
        der_wrap(writer, DER_SEQUENCE, mark);
    }
    der_wrap(writer, DER_SEQUENCE, all);
    der_wrap(writer, DER_CONTEXT_CONSTRUCTED(3), all);
}

static struct bytes written(const struct draft *draft)
{
    static uint8_t buffer[2 * BUFFER];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *mark = der_mark(&writer);
    const uint8_t *validity;

    put_extensions(&writer, draft);
    der_put(&writer, draft->unique_id);
    der_put(&writer, draft->spki);
    der_put(&writer, draft->subject);
    validity = der_mark(&writer);
    der_put_time(&writer, draft->not_after);
    der_put_time(&writer, draft->not_before);
    der_wrap(&writer, DER_SEQUENCE, validity);
    der_put(&writer, draft->issuer);
    der_put(&writer, draft->algorithm);
    der_put_element(&writer, DER_INTEGER, draft->serial);
    der_put(&writer, draft->version);
    der_wrap(&writer, DER_SEQUENCE, mark);
    assert_false(writer.failed);
    return der_written(&writer);
}

static struct sign_check *checker(void)
{
    struct sign_check *check = NULL;
    struct why why = {""};

    assert_int_equal(sign_check_new(&conf, cas, &check, &why), LEAFD_OK);
    return check;
}

/* Ends the draft: accepted, or refused with a sentence that has `rule` in it. */
static void expect(struct draft *draft, const char *rule)
{
    struct sign_check *check = checker();
    struct why why = {""};
    enum leafd_err err = sign_check_tbs(check, ca, written(draft), &why);

    if (rule) {
        assert_int_equal(err, LEAFD_REFUSED);
        if (!strstr(why.text, rule))
            fail_msg("refused by \"%s\", not by \"%s\"", why.text, rule);
    } else if (err != LEAFD_OK) {
        fail_msg("refused: %s", why.text);
    }
    sign_check_free(check);
    free(draft);
}

/* Takes the key. */
static void expect_key(EVP_PKEY *key, const char *rule)
{
    struct draft *draft = good();

    set_key(draft, key);
    expect(draft, rule);
    EVP_PKEY_free(key);
}

static void every_leaf_key_is_accepted(void **state)
{
    static const char *const keys[] = {"P-256", "P-384",    "P-521",    "ED25519", "ED448",
                                       "SM2",   "RSA:2048", "RSA:3072", "RSA:4096"};

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        expect_key(make_key(keys[i]), NULL);
}

static void every_usage_is_accepted(void **state)
{
    static const char *const keys[] = {"P-256", "ED25519", "SM2"};

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const struct bytes values[] = {
            BYTES(0x03, 0x02, 0x03, 0x88), /* + keyAgreement */
            BYTES(0x03, 0x02, 0x06, 0xc0), /* TLCP signature */
            BYTES(0x03, 0x02, 0x03, 0x38), /* TLCP encryption */
        };
        EVP_PKEY *key = make_key(keys[i]);

        for (size_t j = 0; j < sizeof(values) / sizeof(values[0]); j++) {
            struct draft *draft = good();

            set_key(draft, key);
            draft->extension[KU].value = values[j];
            expect(draft, NULL);
        }
        EVP_PKEY_free(key);
    }
}

static void the_same_tbs_is_signed_once(void **state)
{
    struct sign_check *check = checker();
    struct draft *draft = good();
    struct why why = {""};

    (void)state;
    assert_int_equal(sign_check_tbs(check, ca, written(draft), &why), LEAFD_OK);
    assert_int_equal(sign_check_tbs(check, ca, written(draft), &why), LEAFD_REFUSED);
    assert_non_null(strstr(why.text, "serial"));
    /* another leaf with that serial is no better */
    draft->not_after += DAY;
    assert_int_equal(sign_check_tbs(check, ca, written(draft), &why), LEAFD_REFUSED);
    sign_check_free(check);
    free(draft);
}

static void a_refused_tbs_does_not_use_its_serial(void **state)
{
    struct sign_check *check = checker();
    struct draft *draft = good();

    (void)state;
    draft->extension[BC].value = BYTES(0x30, 0x03, 0x01, 0x01, 0xff);
    assert_int_equal(sign_check_tbs(check, ca, written(draft), NULL), LEAFD_REFUSED);
    draft->extension[BC].value = BYTES(0x30, 0x00);
    assert_int_equal(sign_check_tbs(check, ca, written(draft), NULL), LEAFD_OK);
    sign_check_free(check);
    free(draft);
}

static void the_head_is_checked(void **state)
{
    struct draft *draft;

    (void)state;
    draft = good();
    draft->version = BYTES(0xa0, 0x03, 0x02, 0x01, 0x01);
    expect(draft, "TBSCertificate"); /* extensions are for version 3 alone */
    draft = good();
    draft->serial.len--;
    expect(draft, "serial");
    draft = good();
    ((uint8_t *)draft->serial.data)[0] = 0x3f;
    expect(draft, "serial");
    draft = good();
    ((uint8_t *)draft->serial.data)[0] |= 0x80; /* negative */
    expect(draft, "serial");
    draft = good();
    draft->algorithm =
        BYTES(0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03);
    expect(draft, "algorithm");
    draft = good();
    draft->issuer = cn(draft, "somebody else");
    expect(draft, "issuer");
    draft = good();
    draft->unique_id = BYTES(0x81, 0x02, 0x00, 0xff);
    expect(draft, "uniqueID");
}

static void dates_stay_inside(void **state)
{
    struct draft *draft;

    (void)state;
    draft = good();
    draft->not_after = draft->not_before - 1;
    expect(draft, "validity");
    draft = good();
    draft->not_after = draft->not_before;
    expect(draft, NULL);
    draft = good();
    draft->not_after = ca->not_after + 1;
    draft->not_before = draft->not_after - DAY;
    expect(draft, "outlives");
    draft = good();
    draft->not_after = ca->not_after;
    draft->not_before = draft->not_after - DAY;
    expect(draft, NULL);
    draft = good();
    draft->not_after = draft->not_before + 825 * DAY;
    expect(draft, NULL);
    draft = good();
    draft->not_after = draft->not_before + 825 * DAY + 1;
    expect(draft, "825");
}

static void the_subject_is_nobodys_ca(void **state)
{
    struct draft *draft;

    (void)state;
    draft = good();
    draft->subject = ca->subject;
    expect(draft, "subject");
    draft = good();
    draft->subject = cn(draft, "test  CA"); /* the CA's, as clients compare names */
    expect(draft, "subject");
    draft = good();
    draft->subject = cn(draft, "other ca"); /* nor that of a CA that does not sign here */
    expect(draft, "subject: a CA's own");
    draft = good();
    draft->subject = BYTES(0x30, 0x00); /* then the SAN has to be critical */
    expect(draft, "criticality");
    draft = good();
    draft->subject = BYTES(0x30, 0x00);
    draft->extension[SAN].critical = true;
    expect(draft, NULL);
}

/* A client holds the subject against constraints on directory names. */
static void the_subject_may_have_to_be_empty(void **state)
{
    struct ca *narrow = (struct ca *)(uintptr_t)ca; /* nobody else has it now */
    struct draft *draft = good();

    (void)state;
    narrow->constraints[0] = (struct name_constraints){.on_subject = true};
    narrow->constraints_count = 1;
    expect(draft, "only an empty one");
    draft = good();
    draft->subject = BYTES(0x30, 0x00);
    draft->extension[SAN].critical = true;
    expect(draft, NULL);
    narrow->constraints_count = 0;
}

/* So many RDNs of one CN each, with a text of so many octets. */
static struct bytes rdns(struct draft *draft, size_t count, size_t text_len)
{
    static uint8_t text[512], buffer[BUFFER];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *all = der_mark(&writer);

    memset(text, 'a', text_len);
    while (count-- > 0) {
        const uint8_t *mark = der_mark(&writer);

        der_put_element(&writer, DER_UTF8_STRING, (struct bytes){text, text_len});
        der_put_element(&writer, DER_OID, oid_common_name);
        der_wrap(&writer, DER_SEQUENCE, mark);
        der_wrap(&writer, DER_SET, mark);
    }
    der_wrap(&writer, DER_SEQUENCE, all);
    return keep(draft, der_written(&writer));
}

static void the_subject_has_bounds(void **state)
{
    static const struct {
        size_t rdns, text_len;
        const char *rule;
    } rows[] = {
        {32, 100, NULL},
        {33, 100, "RDNs"},
        {9, 430, NULL},
        {10, 430, "too large"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct draft *draft = good();

        draft->subject = rdns(draft, rows[i].rdns, rows[i].text_len);
        expect(draft, rows[i].rule);
    }
}

static EVP_PKEY *rsa_of(unsigned bits, unsigned long exponent)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *e = BN_new();
    EVP_PKEY *key = NULL;

    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    BN_set_word(e, exponent);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, (int)bits), 1);
    assert_int_equal(EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, e), 1);
    assert_int_equal(EVP_PKEY_generate(ctx, &key), 1);
    BN_free(e);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static void the_key_is_sound_and_nobodys_ca(void **state)
{
    struct draft *draft;

    (void)state;
    expect_key(rsa_of(1024, 65537), "subject key");
    expect_key(rsa_of(2048, 3), "subject key");
    expect_key(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-224"), "subject key");
    expect_key(EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1"), "subject key");
    expect_key(EVP_PKEY_Q_keygen(NULL, NULL, "X25519"), "subject key");
    EVP_PKEY_up_ref(ca_key);
    expect_key(ca_key, "a CA's");
    EVP_PKEY_up_ref(other_ca_key);
    expect_key(other_ca_key, "a CA's");
    EVP_PKEY_up_ref(untrusted_key);
    expect_key(untrusted_key, "a CA's");
    expect_key(make_key("X448"), "subject key");
    draft = good(); /* an Edwards key of another length */
    draft->spki = BYTES(0x30, 0x0b, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x02, 0, 1);
    expect(draft, "strict form");
    draft = good();
    draft->spki = BYTES(0x30, 0x00);
    expect(draft, "");
}

/* No key at all, only its numbers: a modulus of `bits` bits that ends in `last`. */
static void expect_rsa_numbers(size_t bits, uint8_t last, const char *rule)
{
    struct draft *draft = good();
    uint8_t modulus[1 + 4104 / 8] = {0};
    size_t len = 1 + (bits + 7) / 8, skip = bits % 8 ? 1 : 0; /* no 00 before a clear top bit */
    uint8_t buffer[1024];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *all = der_mark(&writer), *mark = all;

    assert_true(len <= sizeof(modulus));
    memset(modulus + 1, 0xa5, len - 1);
    modulus[1] = (uint8_t)(1u << (bits + 7) % 8);
    modulus[len - 1] = last;
    der_put_element(&writer, DER_INTEGER, BYTES(1, 0, 1));
    der_put_element(&writer, DER_INTEGER, (struct bytes){modulus + skip, len - skip});
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_put_octet(&writer, 0);
    der_wrap(&writer, DER_BIT_STRING, mark);
    mark = der_mark(&writer);
    der_put_element(&writer, DER_NULL, (struct bytes){NULL, 0});
    der_put_element(&writer, DER_OID, oid_rsa);
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_wrap(&writer, DER_SEQUENCE, all);
    draft->spki = keep(draft, der_written(&writer));
    draft->extension[KU].value = BYTES(0x03, 0x02, 0x05, 0xa0);
    draft->extension[SKI].value = subject_key_id(draft, draft->spki);
    expect(draft, rule);
}

static void rsa_numbers_stay_inside(void **state)
{
    (void)state;
    expect_rsa_numbers(2047, 0x01, "subject key");
    expect_rsa_numbers(2048, 0x01, NULL);
    expect_rsa_numbers(2048, 0x02, "subject key"); /* even */
    expect_rsa_numbers(4096, 0xff, NULL);
    expect_rsa_numbers(4097, 0x01, "subject key");
}

/* Lanes check side by side: of many with one serial, one gets through. */
struct racer {
    struct sign_check *check;
    struct bytes tbs;
    bool accepted;
    pthread_t thread;
};

static void *race(void *arg)
{
    struct racer *racer = arg;

    racer->accepted = sign_check_tbs(racer->check, ca, racer->tbs, NULL) == LEAFD_OK;
    return NULL;
}

static void one_of_many_lanes_signs_a_serial(void **state)
{
    struct sign_check *check = checker();

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct draft *draft = good();
        uint8_t serial[20] = {0x40, (uint8_t)round};
        struct racer racer[8];
        struct bytes tbs;
        int accepted = 0;

        draft->serial = keep(draft, (struct bytes){serial, sizeof(serial)});
        tbs = written(draft);
        for (int i = 0; i < 8; i++) {
            racer[i] = (struct racer){.check = check, .tbs = tbs};
            assert_int_equal(pthread_create(&racer[i].thread, NULL, race, &racer[i]), 0);
        }
        for (int i = 0; i < 8; i++) {
            pthread_join(racer[i].thread, NULL);
            accepted += racer[i].accepted;
        }
        assert_int_equal(accepted, 1);
        free(draft);
    }
    sign_check_free(check);
}

static void extensions_are_the_template(void **state)
{
    struct draft *draft;
    struct extension moved;

    (void)state;
    for (int i = KU; i <= AKI; i++) { /* one missing */
        draft = good();
        memmove(&draft->extension[i], &draft->extension[i + 1],
                sizeof(draft->extension[0]) * (size_t)(AKI - i));
        draft->extension_count--;
        expect(draft, "extensions");
    }
    for (int i = KU; i <= AKI; i++) { /* the wrong criticality */
        draft = good();
        draft->extension[i].critical = !draft->extension[i].critical;
        expect(draft, "criticality");
    }
    draft = good(); /* out of order */
    moved = draft->extension[SKI];
    draft->extension[SKI] = draft->extension[AKI];
    draft->extension[AKI] = moved;
    expect(draft, "extensions");
    draft = good(); /* one more */
    add(draft, oid_tls_feature, false, BYTES(0x30, 0x03, 0x02, 0x01, 0x05));
    expect(draft, "extensions");
    draft = good(); /* one twice */
    add(draft, oid_authority_key_id, false, draft->extension[AKI].value);
    expect(draft, "");
}

static void values_are_the_leafs_own(void **state)
{
    struct draft *draft;

    (void)state;
    draft = good();
    draft->extension[KU].value = BYTES(0x03, 0x02, 0x02, 0x84); /* keyCertSign */
    expect(draft, "keyUsage");
    draft = good();
    draft->extension[KU].value = BYTES(0x03, 0x02, 0x05, 0xa0); /* an EC key encrypts no keys */
    expect(draft, "keyUsage");
    draft = good();
    draft->extension[KU].value = BYTES(0x03, 0x02, 0x06, 0x80); /* not minimal */
    expect(draft, "keyUsage");
    draft = good();
    draft->extension[KU].value = BYTES(0x03, 0x02, 0x08, 0x80);
    expect(draft, "keyUsage");
    draft = good(); /* OCSPSigning */
    draft->extension[EKU].value =
        BYTES(0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x09);
    expect(draft, "extKeyUsage");
    draft = good(); /* serverAuth and clientAuth */
    draft->extension[EKU].value =
        BYTES(0x30, 0x14, 0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01, 0x06, 0x08,
              0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02);
    expect(draft, "extKeyUsage");
    draft = good(); /* CA:TRUE */
    draft->extension[BC].value = BYTES(0x30, 0x03, 0x01, 0x01, 0xff);
    expect(draft, "basicConstraints");
    draft = good(); /* CA:FALSE spelt out */
    draft->extension[BC].value = BYTES(0x30, 0x03, 0x01, 0x01, 0x00);
    expect(draft, "basicConstraints");
    draft = good();
    draft->extension[SKI].value = subject_key_id(draft, ca->spki);
    expect(draft, "subjectKeyIdentifier");
    draft = good();
    draft->extension[AKI].value = BYTES(0x30, 0x03, 0x80, 0x01, 0x00);
    expect(draft, "authorityKeyIdentifier");
}

static void expect_names(const char *const *names, size_t count, const char *rule)
{
    struct draft *draft = good();

    draft->extension[SAN].value = alt_names(draft, names, count);
    expect(draft, rule);
}

static void names_are_strict_and_allowed(void **state)
{
    static const char *const bad[] = {
        "WWW.example.org",       "a b.example.org", "",     "*",   "*.*.example.org",
        "f*.example.org",        "*.co.uk",         "a..b", "a/b", "192.0.2.1",
        "secret.denied.example",
    };
    struct draft *draft;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_names(&bad[i], 1, "subjectAltName");
    expect_names(NULL, 0, "subjectAltName");
    expect_names((const char *const[]){"*.denied.example"}, 1, "subjectAltName");
    expect_names((const char *const[]){"*.github.io"}, 1, NULL);
    draft = good(); /* rfc822Name */
    draft->extension[SAN].value = BYTES(0x30, 0x05, 0x81, 0x03, 'a', '@', 'b');
    expect(draft, "subjectAltName");
    draft = good(); /* an address of five octets */
    draft->extension[SAN].value = BYTES(0x30, 0x07, 0x87, 0x05, 1, 2, 3, 4, 5);
    expect(draft, "subjectAltName");
    draft = good(); /* something behind the names */
    draft->extension[SAN].value = BYTES(0x30, 0x03, 0x82, 0x01, 'a', 0x05, 0x00);
    expect(draft, "subjectAltName");
}

static void a_thousand_names_and_no_more(void **state)
{
    static char text[1001][16];
    const char *names[1001];

    (void)state;
    for (int i = 0; i < 1001; i++) {
        snprintf(text[i], sizeof(text[i]), "n%d", i);
        names[i] = text[i];
    }
    expect_names(names, 1000, NULL);
    expect_names(names, 1001, "1000");
}

static void a_crl_point_is_the_configured_one_or_none(void **state)
{
    struct bytes other =
        BYTES(0x30, 0x0d, 0x30, 0x0b, 0xa0, 0x09, 0xa0, 0x07, 0x86, 0x05, 'h', ':', '/', '/', 'y');
    struct bytes ours =
        BYTES(0x30, 0x0d, 0x30, 0x0b, 0xa0, 0x09, 0xa0, 0x07, 0x86, 0x05, 'h', ':', '/', '/', 'x');
    struct draft *draft = good();

    (void)state;
    add(draft, oid_crl_points, false, ours);
    expect(draft, "extensions"); /* none is configured */
    conf.ca_crl_url = (char *)"h://x";
    expect(good(), "extensions");
    draft = good();
    add(draft, oid_crl_points, false, other);
    expect(draft, "cRLDistributionPoints");
    draft = good();
    add(draft, oid_crl_points, false, ours);
    expect(draft, NULL);
    conf.ca_crl_url = NULL;
}

static void no_cut_and_no_flipped_octet_crashes(void **state)
{
    struct draft *draft = good();
    struct bytes tbs = written(draft);
    uint8_t *copy = malloc(tbs.len);
    struct sign_check *check = checker();
    size_t accepted = 0;

    (void)state;
    assert_non_null(copy);
    for (size_t len = 0; len < tbs.len; len++) {
        uint8_t *cut = malloc(len ? len : 1); /* of its own size, for the sanitizer */

        assert_non_null(cut);
        memcpy(cut, tbs.data, len);
        assert_int_equal(sign_check_tbs(check, ca, (struct bytes){cut, len}, NULL), LEAFD_REFUSED);
        free(cut);
    }
    for (size_t at = 0; at < tbs.len; at++) {
        memcpy(copy, tbs.data, tbs.len);
        copy[at] ^= 0x5a;
        accepted += sign_check_tbs(check, ca, (struct bytes){copy, tbs.len}, NULL) == LEAFD_OK;
    }
    assert_true(accepted < 60); /* octets of the serial, of texts and of digits of a date */
    free(copy);
    sign_check_free(check);
    free(draft);
}

static void a_bad_deny_rule_is_the_operators_error(void **state)
{
    char *rules[] = {(char *)"not a name"};
    struct conf bad = {.deny = rules, .deny_count = 1};
    struct sign_check *check = NULL;
    struct why why = {""};

    (void)state;
    assert_int_equal(sign_check_new(&bad, cas, &check, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "policy.deny"));
    assert_null(check);
}

static void a_crl_address_has_a_bound(void **state)
{
    char url[4096] = "http://";
    struct conf bad = {.ca_crl_url = url};
    struct sign_check *check = NULL;

    (void)state;
    memset(url + 7, 'a', sizeof(url) - 8);
    assert_int_equal(sign_check_new(&bad, cas, &check, NULL), LEAFD_TOO_LARGE);
    assert_null(check);
}

static void x509_add(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *ext;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(ext);
    assert_int_equal(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

/* A CA of this key, from two days ago for ten years. */
static struct ca *new_ca(const char *cn_text, EVP_PKEY *key, uint16_t id)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    struct ca *made = NULL;
    struct why why = {""};
    uint8_t *der = NULL;
    int len;

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -2 * DAY);
    X509_time_adj_ex(X509_getm_notAfter(cert), 3650, 0, NULL);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)cn_text, -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    x509_add(cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    x509_add(cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    x509_add(cert, NID_subject_key_identifier, "hash");
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    len = i2d_X509(cert, &der);
    if (ca_read((struct bytes){der, (size_t)len}, id, false, &made, &why) != LEAFD_OK)
        print_error("%s\n", why.text);
    OPENSSL_free(der);
    X509_free(cert);
    return made;
}

static int make_cas(void **state)
{
    static char *deny[] = {(char *)"denied.example"};
    const struct ca *both[2];

    (void)state;
    ca_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    other_ca_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    leaf_p256 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    untrusted_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    ca = new_ca("Test CA", ca_key, 0);
    other_ca = new_ca("Other CA", other_ca_key, 1);
    untrusted_ca = new_ca("Untrusted CA", untrusted_key, CA_ID_UNTRUSTED);
    if (!ca || !other_ca || !untrusted_ca)
        return -1;
    both[0] = ca;
    both[1] = other_ca;
    cas = ca_set_new(both, 2, untrusted_ca);
    conf = (struct conf){.deny = deny, .deny_count = 1};
    return cas ? 0 : -1;
}

static int free_cas(void **state)
{
    (void)state;
    ca_set_unref(cas);
    ca_unref(ca);
    ca_unref(other_ca);
    ca_unref(untrusted_ca);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(other_ca_key);
    EVP_PKEY_free(leaf_p256);
    EVP_PKEY_free(untrusted_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_leaf_key_is_accepted),
        cmocka_unit_test(every_usage_is_accepted),
        cmocka_unit_test(the_same_tbs_is_signed_once),
        cmocka_unit_test(a_refused_tbs_does_not_use_its_serial),
        cmocka_unit_test(the_head_is_checked),
        cmocka_unit_test(dates_stay_inside),
        cmocka_unit_test(the_subject_is_nobodys_ca),
        cmocka_unit_test(the_subject_may_have_to_be_empty),
        cmocka_unit_test(the_subject_has_bounds),
        cmocka_unit_test(the_key_is_sound_and_nobodys_ca),
        cmocka_unit_test(rsa_numbers_stay_inside),
        cmocka_unit_test(one_of_many_lanes_signs_a_serial),
        cmocka_unit_test(extensions_are_the_template),
        cmocka_unit_test(values_are_the_leafs_own),
        cmocka_unit_test(names_are_strict_and_allowed),
        cmocka_unit_test(a_thousand_names_and_no_more),
        cmocka_unit_test(a_crl_point_is_the_configured_one_or_none),
        cmocka_unit_test(no_cut_and_no_flipped_octet_crashes),
        cmocka_unit_test(a_bad_deny_rule_is_the_operators_error),
        cmocka_unit_test(a_crl_address_has_a_bound),
    };

    return cmocka_run_group_tests(tests, make_cas, free_cas);
}
