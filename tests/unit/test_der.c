/* SPDX-License-Identifier: Apache-2.0 */
#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/der_time.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "der/spki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BYTES(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

/* ---- reader ---- */

static void elements_are_read(void **state)
{
    struct der der = der_of(BYTES("\x30\x07\x02\x01\x05\x04\x02hi\x05\x00"));
    struct der inner;
    struct bytes content;
    struct bytes whole;
    uint8_t tag;

    (void)state;
    assert_int_equal(der_peek(&der), DER_SEQUENCE);
    assert_true(der_next_is(&der, DER_SEQUENCE));
    assert_false(der_next_is(&der, DER_SET));
    inner = der_enter(&der, DER_SEQUENCE);
    assert_true(bytes_equal(der_read(&inner, DER_INTEGER), BYTES("\x05")));
    assert_false(der_done(&inner));
    assert_true(bytes_equal(der_read_whole(&inner, DER_OCTET_STRING), BYTES("\x04\x02hi")));
    assert_true(der_done(&inner));
    assert_int_equal(der_peek(&inner), 0);
    assert_false(der_next_is(&inner, 0));
    assert_true(der_read_any(&der, &tag, &content, &whole));
    assert_int_equal(tag, DER_NULL);
    assert_int_equal(content.len, 0);
    assert_int_equal(whole.len, 2);
    assert_true(der_done(&der));
    assert_false(der_read_any(&der, &tag, &content, NULL));
    assert_false(der_done(&der));
}

static void bad_elements(void **state)
{
    static const struct bytes bad[] = {
        BYTES("\x30"),                     /* no length */
        BYTES("\x04\x01"),                 /* content missing */
        BYTES("\x04\x80\x00\x00"),         /* indefinite */
        BYTES("\x04\x81\x7f"),             /* not minimal, and missing */
        BYTES("\x04\x81\x01\x61"),         /* not minimal */
        BYTES("\x04\x82\x00\x81"),         /* leading zero */
        BYTES("\x04\x84\xff\xff\xff\xff"), /* four gigabytes */
        BYTES("\x04\x85\x01\x00\x00\x00\x00"),
        BYTES("\x04\x88\xff\xff\xff\xff\xff\xff\xff\xff"),
        BYTES("\x04\xff"),
        BYTES("\x04\x82\x01"),     /* length cut */
        BYTES("\x1f\x01\x00"),     /* long tag number */
        BYTES("\xbf\x81\x01\x00"), /* long tag number, context */
        BYTES("\x00\x00"),         /* end of contents */
        BYTES("\x24\x00"),         /* an OCTET STRING in pieces */
        BYTES("\x10\x00"),         /* a SEQUENCE that is not constructed */
        BYTES("\x11\x00"),
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct der der = der_of(bad[i]);
        uint8_t tag;
        struct bytes content;

        if (der_read_any(&der, &tag, &content, NULL))
            fail_msg("bad element %zu is read", i);
        assert_true(der.failed);
        assert_int_equal(der_peek(&der), 0);
        assert_false(der_done(&der));
    }
}

static void lengths_at_their_borders(void **state)
{
    static const size_t len[] = {0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000};
    static uint8_t content[0x10000];
    static uint8_t buffer[0x10000 + 8];

    (void)state;
    for (size_t i = 0; i < COUNT(len); i++) {
        struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
        struct bytes whole;
        struct der der;

        der_put_element(&writer, DER_OCTET_STRING, (struct bytes){content, len[i]});
        whole = der_written(&writer);
        assert_non_null(whole.data);
        der = der_of(whole);
        assert_int_equal(der_read(&der, DER_OCTET_STRING).len, len[i]);
        assert_true(der_done(&der));
        if (len[i]) {
            der = der_of((struct bytes){whole.data, whole.len - 1});
            assert_null(der_read(&der, DER_OCTET_STRING).data);
            assert_true(der.failed);
        }
    }
}

static void faults_stick(void **state)
{
    struct der der = der_of(BYTES("\x02\x01\x05\x02\x01\x06"));
    struct der inner;

    (void)state;
    assert_null(der_read(&der, DER_OCTET_STRING).data);
    assert_null(der_read(&der, DER_INTEGER).data);
    inner = der_enter(&der, DER_INTEGER);
    assert_true(inner.failed);
    assert_false(der_done(&inner));
    assert_null(der_read_whole(&inner, DER_INTEGER).data);

    der = der_of((struct bytes){NULL, 0});
    assert_true(der_done(&der));
    assert_null(der_read(&der, DER_INTEGER).data);
    assert_false(der_done(&der));

    der = der_of(BYTES("\x05\x00"));
    der_fail(&der);
    assert_int_equal(der_peek(&der), 0);
}

/* ---- writer ---- */

static void writing_backwards(void **state)
{
    uint8_t buffer[32];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *outer = der_mark(&writer);

    (void)state;
    der_put(&writer, BYTES("\x05\x00"));
    der_put_element(&writer, DER_INTEGER, BYTES("\x07"));
    der_wrap(&writer, DER_SEQUENCE, outer);
    assert_true(bytes_equal(der_written(&writer), BYTES("\x30\x05\x02\x01\x07\x05\x00")));
}

static void little_room(void **state)
{
    uint8_t buffer[8];

    (void)state;
    for (size_t size = 0; size < 7; size++) {
        struct der_writer writer = der_writer_of(buffer, size);
        const uint8_t *mark = der_mark(&writer);

        der_put_element(&writer, DER_OCTET_STRING, BYTES("abc"));
        der_wrap(&writer, DER_SEQUENCE, mark);
        assert_null(der_written(&writer).data);
        der_put_octet(&writer, 0); /* once failed, always failed */
        assert_true(writer.failed);
    }
}

/* ---- times ---- */

static int64_t read_time(uint8_t tag, const char *text, bool *odd, bool *ok)
{
    uint8_t buffer[64];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    struct der der;
    int64_t sec;

    der_put_element(&writer, tag, bytes_of(text));
    der = der_of(der_written(&writer));
    sec = der_read_time(&der, odd);
    *ok = der_done(&der);
    return sec;
}

static void times_are_read(void **state)
{
    static const struct {
        uint8_t tag;
        const char *text;
        int64_t sec;
        bool odd;
    } row[] = {
        {DER_UTC_TIME, "700101000000Z", 0, false},
        {DER_UTC_TIME, "500101000000Z", -631152000, false},
        {DER_UTC_TIME, "691231235959Z", -1, false},
        {DER_UTC_TIME, "491231235959Z", 2524607999, false},
        {DER_UTC_TIME, "000229120000Z", 951825600, false},
        {DER_UTC_TIME, "240229235959Z", 1709251199, false},
        {DER_GENERALIZED_TIME, "20500101000000Z", 2524608000, false},
        {DER_GENERALIZED_TIME, "20491231235959Z", 2524607999, true},
        {DER_GENERALIZED_TIME, "19500101000000Z", -631152000, true},
        {DER_GENERALIZED_TIME, "21000228235959Z", 4107542399, false},
        {DER_GENERALIZED_TIME, "24000229000000Z", 13574563200, false},
        {DER_GENERALIZED_TIME, "99991231235959Z", 253402300799, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        bool odd = false;
        bool ok;

        assert_int_equal(read_time(row[i].tag, row[i].text, &odd, &ok), row[i].sec);
        assert_true(ok);
        assert_int_equal(odd, row[i].odd);
    }
}

static void bad_times(void **state)
{
    static const struct {
        uint8_t tag;
        const char *text;
    } row[] = {
        {DER_UTC_TIME, ""},
        {DER_UTC_TIME, "7001010000Z"},  /* no seconds */
        {DER_UTC_TIME, "700101000000"}, /* no Z */
        {DER_UTC_TIME, "700101000000z"},
        {DER_UTC_TIME, "700101000000+0000"},
        {DER_UTC_TIME, "700001000000Z"}, /* month 0 */
        {DER_UTC_TIME, "701301000000Z"},
        {DER_UTC_TIME, "700100000000Z"}, /* day 0 */
        {DER_UTC_TIME, "700132000000Z"},
        {DER_UTC_TIME, "700431000000Z"},
        {DER_UTC_TIME, "230229000000Z"}, /* no leap year */
        {DER_UTC_TIME, "700101240000Z"},
        {DER_UTC_TIME, "700101006000Z"},
        {DER_UTC_TIME, "700101000060Z"}, /* a leap second */
        {DER_UTC_TIME, "70 101000000Z"},
        {DER_UTC_TIME, "7001010000-1Z"},
        {DER_UTC_TIME, "19700101000000Z"}, /* the other type's form */
        {DER_GENERALIZED_TIME, "700101000000Z"},
        {DER_GENERALIZED_TIME, "20500101000000.5Z"},
        {DER_GENERALIZED_TIME, "2050010100000Z0"},
        {DER_GENERALIZED_TIME, "19491231235959Z"},
        {DER_GENERALIZED_TIME, "00000101000000Z"},
        {DER_GENERALIZED_TIME, "21000229000000Z"}, /* a century without leap day */
        {DER_GENERALIZED_TIME, "2050010100000\xb2Z"},
        {DER_OCTET_STRING, "700101000000Z"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        bool ok;

        assert_int_equal(read_time(row[i].tag, row[i].text, NULL, &ok), 0);
        if (ok)
            fail_msg("\"%s\" is read", row[i].text);
    }
}

/* Every day of 400 years and the ends of all, against the C library. */
static void times_go_round(void **state)
{
    uint8_t buffer[32];

    (void)state;
    for (int64_t day = -7305; day < 2932897; day += day < 140000 ? 1 : 97) {
        int64_t sec = day * 86400 + (day % 86400 + 86400) % 86400;
        time_t wanted = (time_t)sec;
        struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
        char text[32];
        struct tm tm;
        struct der der;

        der_put_time(&writer, sec);
        der = der_of(der_written(&writer));
        gmtime_r(&wanted, &tm);
        /* UTCTime is the same without the century */
        strftime(text, sizeof(text), "\x18\x0f%Y%m%d%H%M%SZ", &tm);
        if (tm.tm_year < 150) {
            memmove(text + 2, text + 4, strlen(text + 4) + 1);
            memcpy(text, "\x17\x0d", 2);
        }
        if (!bytes_equal(der_written(&writer), bytes_of(text)))
            fail_msg("%s", text);
        if (der_read_time(&der, NULL) != sec)
            fail_msg("%s is read otherwise", text);
    }
}

static void expect_round(int64_t sec)
{
    uint8_t buffer[32];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    struct der der;

    der_put_time(&writer, sec);
    der = der_of(der_written(&writer));
    if (writer.failed || der_read_time(&der, NULL) != sec || !der_done(&der))
        fail_msg("%lld is read otherwise", (long long)sec);
}

/* Date and time of day are taken apart before either is written, so these are all there are. */
static void every_day_and_every_second_go_round(void **state)
{
    (void)state;
    for (int64_t day = -7305; day < 2932897; day++)
        expect_round(day * 86400);
    for (int64_t second = 0; second < 86400; second++)
        expect_round(second);
}

static void times_out_of_range(void **state)
{
    static const int64_t sec[] = {-631152001, 253402300800, INT64_MIN, INT64_MAX};
    uint8_t buffer[32];

    (void)state;
    for (size_t i = 0; i < COUNT(sec); i++) {
        struct der_writer writer = der_writer_of(buffer, sizeof(buffer));

        der_put_time(&writer, sec[i]);
        assert_true(writer.failed);
    }
}

/* ---- object identifiers ---- */

static void oids_are_right(void **state)
{
    static const struct {
        const struct bytes *oid;
        const char *dotted;
    } row[] = {
        {&oid_subject_directory, "2.5.29.9"},
        {&oid_subject_key_id, "2.5.29.14"},
        {&oid_key_usage, "2.5.29.15"},
        {&oid_subject_alt_name, "2.5.29.17"},
        {&oid_issuer_alt_name, "2.5.29.18"},
        {&oid_basic_constraints, "2.5.29.19"},
        {&oid_crl_number, "2.5.29.20"},
        {&oid_name_constraints, "2.5.29.30"},
        {&oid_crl_points, "2.5.29.31"},
        {&oid_certificate_policies, "2.5.29.32"},
        {&oid_policy_mappings, "2.5.29.33"},
        {&oid_authority_key_id, "2.5.29.35"},
        {&oid_ext_key_usage, "2.5.29.37"},
        {&oid_freshest_crl, "2.5.29.46"},
        {&oid_inhibit_any_policy, "2.5.29.54"},
        {&oid_authority_info, "1.3.6.1.5.5.7.1.1"},
        {&oid_subject_info, "1.3.6.1.5.5.7.1.11"},
        {&oid_tls_feature, "1.3.6.1.5.5.7.1.24"},
        {&oid_ct_poison, "1.3.6.1.4.1.11129.2.4.3"},
        {&oid_server_auth, "1.3.6.1.5.5.7.3.1"},
        {&oid_any_usage, "2.5.29.37.0"},
        {&oid_common_name, "2.5.4.3"},
        {&oid_serial_number, "2.5.4.5"},
        {&oid_country, "2.5.4.6"},
        {&oid_email_address, "1.2.840.113549.1.9.1"},
        {&oid_rsa, "1.2.840.113549.1.1.1"},
        {&oid_rsa_md2, "1.2.840.113549.1.1.2"},
        {&oid_rsa_md4, "1.2.840.113549.1.1.3"},
        {&oid_rsa_md5, "1.2.840.113549.1.1.4"},
        {&oid_rsa_sha1, "1.2.840.113549.1.1.5"},
        {&oid_rsa_pss, "1.2.840.113549.1.1.10"},
        {&oid_rsa_sha256, "1.2.840.113549.1.1.11"},
        {&oid_rsa_sha384, "1.2.840.113549.1.1.12"},
        {&oid_rsa_sha512, "1.2.840.113549.1.1.13"},
        {&oid_oiw_algorithms, "1.3.14.3.2"},
        {&oid_ecdsa_specified, "1.2.840.10045.4.3"},
        {&oid_ecdsa_plain_sha1, "0.4.0.127.0.7.1.1.4.1.1"},
        {&oid_sha1, "1.3.14.3.2.26"},
        {&oid_sha256, "2.16.840.1.101.3.4.2.1"},
        {&oid_sha384, "2.16.840.1.101.3.4.2.2"},
        {&oid_sha512, "2.16.840.1.101.3.4.2.3"},
        {&oid_mgf1, "1.2.840.113549.1.1.8"},
        {&oid_md5, "1.2.840.113549.2.5"},
        {&oid_dsa_sha1, "1.2.840.10040.4.3"},
        {&oid_dsa, "1.2.840.10040.4.1"},
        {&oid_ecdsa_sha1, "1.2.840.10045.4.1"},
        {&oid_ecdsa_sha256, "1.2.840.10045.4.3.2"},
        {&oid_ecdsa_sha384, "1.2.840.10045.4.3.3"},
        {&oid_ecdsa_sha512, "1.2.840.10045.4.3.4"},
        {&oid_ec_public_key, "1.2.840.10045.2.1"},
        {&oid_ed25519, "1.3.101.112"},
        {&oid_ed448, "1.3.101.113"},
        {&oid_p224, "1.3.132.0.33"},
        {&oid_p256, "1.2.840.10045.3.1.7"},
        {&oid_p384, "1.3.132.0.34"},
        {&oid_p521, "1.3.132.0.35"},
        {&oid_secp256k1, "1.3.132.0.10"},
        {&oid_sm2, "1.2.156.10197.1.301"},
        {&oid_brainpool256, "1.3.36.3.3.2.8.1.1.7"},
        {&oid_brainpool320, "1.3.36.3.3.2.8.1.1.9"},
        {&oid_brainpool384, "1.3.36.3.3.2.8.1.1.11"},
        {&oid_brainpool512, "1.3.36.3.3.2.8.1.1.13"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        ASN1_OBJECT *object = OBJ_txt2obj(row[i].dotted, 1);

        assert_non_null(object);
        if (!bytes_equal(*row[i].oid, (struct bytes){OBJ_get0_data(object), OBJ_length(object)}))
            fail_msg("%s is written otherwise", row[i].dotted);
        ASN1_OBJECT_free(object);
    }
}

/* ---- public keys ---- */

static struct bytes spki_of(EVP_PKEY *key)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    struct bytes copy = bytes_copy((struct bytes){der, (size_t)len});

    assert_true(len > 0);
    OPENSSL_free(der);
    return copy;
}

static void keys_of_openssl(void **state)
{
    static const struct {
        const char *type;
        const char *curve;
        size_t bits;
        enum key_type key_type;
        unsigned ret_bits;
    } row[] = {
        {"RSA", NULL, 1024, KEY_TYPE_RSA, 1024},
        {"RSA", NULL, 2047, KEY_TYPE_RSA, 2047},
        {"EC", "P-256", 0, KEY_TYPE_P256, 256},
        {"EC", "P-384", 0, KEY_TYPE_P384, 384},
        {"EC", "P-521", 0, KEY_TYPE_P521, 521},
        {"EC", "P-224", 0, KEY_TYPE_OTHER_EC, 224},
        {"EC", "secp256k1", 0, KEY_TYPE_OTHER_EC, 256},
        {"EC", "brainpoolP320r1", 0, KEY_TYPE_OTHER_EC, 320},
        {"EC", "brainpoolP512r1", 0, KEY_TYPE_OTHER_EC, 512},
        {"EC", "P-192", 0, KEY_TYPE_NONE, 0},
        {"SM2", NULL, 0, KEY_TYPE_SM2, 256},
        {"ED25519", NULL, 0, KEY_TYPE_ED25519, 0},
        {"ED448", NULL, 0, KEY_TYPE_ED448, 0},
        {"X25519", NULL, 0, KEY_TYPE_NONE, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        EVP_PKEY *key = row[i].bits    ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", row[i].bits)
                        : row[i].curve ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", row[i].curve)
                                       : EVP_PKEY_Q_keygen(NULL, NULL, row[i].type);
        struct bytes whole = spki_of(key);
        struct spki spki;

        assert_int_equal(spki_read(whole, &spki), LEAFD_OK);
        if (spki.type != row[i].key_type || spki.bits != row[i].ret_bits ||
            spki.well_formed != (row[i].key_type != KEY_TYPE_NONE))
            fail_msg("row %zu: %s, %u bits", i, key_type_name(spki.type), spki.bits);
        for (size_t cut = 0; cut < whole.len; cut++)
            assert_int_equal(spki_read((struct bytes){whole.data, cut}, &spki), LEAFD_MALFORMED);
        free((void *)whole.data);
        EVP_PKEY_free(key);
    }
}

/* P-256 keys that are no points: only the form is looked at. */
static void odd_keys(void **state)
{
#define EC_HEAD "\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"
#define RSA_HEAD "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
    static const struct {
        struct bytes whole;
        enum leafd_err err;
        enum key_type type;
        unsigned bits;
        bool well_formed;
    } row[] = {
        /* compressed point, cut to three octets; explicit parameters; none */
        {BYTES("\x30\x1b\x30\x13" EC_HEAD "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x04\x00\x02"
               "ab"),
         LEAFD_OK, KEY_TYPE_P256, 256, false},
        {BYTES("\x30\x0f\x30\x0b" EC_HEAD "\x30\x00\x03\x00"), LEAFD_MALFORMED, 0, 0, false},
        {BYTES("\x30\x10\x30\x0b" EC_HEAD "\x30\x00\x03\x01\x00"), LEAFD_OK, KEY_TYPE_NONE, 0,
         false},
        {BYTES("\x30\x0e\x30\x09" EC_HEAD "\x03\x01\x00"), LEAFD_OK, KEY_TYPE_NONE, 0, false},
        /* RSA: 9 bits; with a leading zero too many; without sign octet; negative exponent; no key
         */
        {BYTES("\x30\x1b" RSA_HEAD "\x03\x0a\x00\x30\x07\x02\x02\x01\x01\x02\x01\x03"), LEAFD_OK,
         KEY_TYPE_RSA, 9, true},
        {BYTES("\x30\x1b" RSA_HEAD "\x03\x0a\x00\x30\x07\x02\x02\x00\x71\x02\x01\x03"), LEAFD_OK,
         KEY_TYPE_RSA, 7, false},
        {BYTES("\x30\x1a" RSA_HEAD "\x03\x09\x00\x30\x06\x02\x01\x81\x02\x01\x03"), LEAFD_OK,
         KEY_TYPE_RSA, 8, false},
        {BYTES("\x30\x1b" RSA_HEAD "\x03\x0a\x00\x30\x07\x02\x02\x01\x01\x02\x01\x83"), LEAFD_OK,
         KEY_TYPE_RSA, 9, false},
        {BYTES("\x30\x13" RSA_HEAD "\x03\x02\x00\x05"), LEAFD_OK, KEY_TYPE_RSA, 0, false},
        /* eight unused bits; something behind; no algorithm */
        {BYTES("\x30\x13" RSA_HEAD "\x03\x02\x08\x05"), LEAFD_MALFORMED, 0, 0, false},
        {BYTES("\x30\x15" RSA_HEAD "\x03\x02\x00\x05\x05\x00"), LEAFD_MALFORMED, 0, 0, false},
        {BYTES("\x30\x06\x30\x00\x03\x02\x00\x05"), LEAFD_MALFORMED, 0, 0, false},
        {BYTES("\x30\x08\x30\x02\x06\x00\x03\x02\x00\x05"), LEAFD_MALFORMED, 0, 0, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct spki spki = {0};

        if (spki_read(row[i].whole, &spki) != row[i].err || spki.type != row[i].type ||
            spki.bits != row[i].bits || spki.well_formed != row[i].well_formed)
            fail_msg("row %zu: %s, %u bits", i, key_type_name(spki.type), spki.bits);
    }
    assert_string_equal(key_type_name(KEY_TYPE_COUNT), "none");
}

/* ---- certificates: a small TBSCertificate in parts, each to be replaced ---- */

enum part {
    VERSION,
    SERIAL,
    ALGORITHM,
    ISSUER,
    VALIDITY,
    SUBJECT,
    SPKI,
    UNIQUE,
    EXTENSIONS,
    PARTS
};

#define UTC                                                                                        \
    "\x17\x0d"                                                                                     \
    "260101000000Z"
#define ED_ALGORITHM "\x30\x05\x06\x03\x2b\x65\x70"
#define NAME_A "\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01\x41"

static const struct bytes good_parts[PARTS] = {
    [VERSION] = BYTES("\xa0\x03\x02\x01\x02"),
    [SERIAL] = BYTES("\x02\x01\x05"),
    [ALGORITHM] = BYTES(ED_ALGORITHM),
    [ISSUER] = BYTES(NAME_A),
    [VALIDITY] = BYTES("\x30\x1e" UTC UTC),
    [SUBJECT] = BYTES("\x30\x00"),
    [SPKI] = BYTES("\x30\x0b\x30\x05\x06\x03\x2b\x65\x70\x03\x02\x00\x41"),
    [UNIQUE] = BYTES(""),
    [EXTENSIONS] = BYTES("\xa3\x0e\x30\x0c\x30\x0a\x06\x03\x55\x1d\x0e\x04\x03\x04\x01\x41"),
};

static uint8_t cert_buffer[8192];

static struct bytes make_tbs(const struct bytes parts[static PARTS])
{
    static uint8_t tbs_buffer[4096];
    struct der_writer writer = der_writer_of(tbs_buffer, sizeof(tbs_buffer));
    const uint8_t *mark = der_mark(&writer);

    for (int part = PARTS; part-- > 0;)
        der_put(&writer, parts[part]);
    der_wrap(&writer, DER_SEQUENCE, mark);
    return der_written(&writer);
}

static struct bytes make_cert(const struct bytes parts[static PARTS], struct bytes signature)
{
    struct der_writer writer = der_writer_of(cert_buffer, sizeof(cert_buffer));
    const uint8_t *mark = der_mark(&writer);

    der_put(&writer, signature);
    der_put(&writer, BYTES(ED_ALGORITHM));
    der_put(&writer, make_tbs(parts));
    der_wrap(&writer, DER_SEQUENCE, mark);
    return der_written(&writer);
}

static struct bytes make_with(enum part part, struct bytes other)
{
    struct bytes parts[PARTS];

    memcpy(parts, good_parts, sizeof(parts));
    parts[part] = other;
    return make_cert(parts, BYTES("\x03\x02\x00\x53"));
}

static struct cert_fields fields;

static void good_certificate(void **state)
{
    struct bytes cert = make_cert(good_parts, BYTES("\x03\x02\x00\x53"));
    struct bytes tbs = make_tbs(good_parts);

    (void)state;
    assert_int_equal(cert_read(cert, DER_FORM_STRICT, &fields, NULL), LEAFD_OK);
    assert_int_equal(fields.version, 3);
    assert_true(bytes_equal(fields.tbs, tbs));
    assert_true(bytes_equal(fields.serial, BYTES("\x05")));
    assert_true(bytes_equal(fields.algorithm, BYTES(ED_ALGORITHM)));
    assert_true(bytes_equal(fields.outer_algorithm, BYTES(ED_ALGORITHM)));
    assert_true(bytes_equal(fields.issuer, BYTES(NAME_A)));
    assert_true(bytes_equal(fields.subject, BYTES("\x30\x00")));
    assert_true(bytes_equal(fields.spki, good_parts[SPKI]));
    assert_true(bytes_equal(fields.signature, BYTES("\x53")));
    assert_int_equal(fields.not_before, 1767225600);
    assert_int_equal(fields.extension_count, 1);
    assert_true(bytes_equal(fields.extension[0].oid, oid_subject_key_id));
    assert_true(bytes_equal(fields.extension[0].value, BYTES("\x04\x01\x41")));
    assert_false(fields.extension[0].critical);
    assert_false(fields.legacy);
    assert_int_equal(fields.size, cert.len);

    assert_int_equal(tbs_read(tbs, DER_FORM_STRICT, &fields, NULL), LEAFD_OK);
    assert_int_equal(fields.size, tbs.len);
    assert_int_equal(fields.signature.len, 0);
    assert_int_equal(fields.outer_algorithm.len, 0);
    assert_int_equal(tbs_read(cert, DER_FORM_LEGACY, &fields, NULL), LEAFD_MALFORMED);
}

/* Cut anywhere, it is none; with something behind, only the tolerant reader takes it. */
static void cut_and_longer(void **state)
{
    struct bytes cert = make_cert(good_parts, BYTES("\x03\x02\x00\x53"));
    uint8_t longer[256];
    struct why why;

    (void)state;
    for (size_t cut = 0; cut < cert.len; cut++) {
        uint8_t *copy = malloc(cut + 1); /* on the heap, so that a sanitizer sees an overrun */

        memcpy(copy, cert.data, cut);
        assert_int_equal(cert_read((struct bytes){copy, cut}, DER_FORM_LEGACY, &fields, &why),
                         LEAFD_MALFORMED);
        free(copy);
    }
    memcpy(longer, cert.data, cert.len);
    longer[cert.len] = 0x30;
    assert_int_equal(
        cert_read((struct bytes){longer, cert.len + 1}, DER_FORM_LEGACY, &fields, NULL), LEAFD_OK);
    assert_int_equal(fields.size, cert.len);
    assert_false(fields.legacy);
    assert_int_equal(
        cert_read((struct bytes){longer, cert.len + 1}, DER_FORM_STRICT, &fields, &why),
        LEAFD_MALFORMED);
    longer[cert.len] = 0;
    assert_int_equal(tbs_read((struct bytes){longer + 2, make_tbs(good_parts).len + 1},
                              DER_FORM_LEGACY, &fields, NULL),
                     LEAFD_MALFORMED);
}

#define EXTENSION_OF(length_list, length_seq, length_ext, critical)                                \
    "\xa3" length_list "\x30" length_seq "\x30" length_ext "\x06\x03\x55\x1d\x0e" critical         \
    "\x04\x03\x04\x01\x41"

static void forms(void **state)
{
    static const struct {
        enum part part;
        struct bytes other;
        enum leafd_err strict;
        enum leafd_err legacy;
    } row[] = {
        /* versions */
        {VERSION, BYTES("\xa0\x03\x02\x01\x03"), LEAFD_OK, LEAFD_OK}, /* 4 */
        {VERSION, BYTES("\xa0\x04\x02\x02\x00\x02"), LEAFD_MALFORMED, LEAFD_OK},
        {VERSION, BYTES("\xa0\x03\x02\x01\x80"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VERSION, BYTES("\xa0\x02\x02\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VERSION, BYTES("\xa0\x06\x02\x04\x7f\xff\xff\xff"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VERSION, BYTES("\xa0\x05\x02\x01\x02\x05\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VERSION, BYTES("\xa0\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VERSION, BYTES(""), LEAFD_MALFORMED, LEAFD_OK}, /* version 1 with extensions */
        /* serials */
        {SERIAL, BYTES("\x02\x01\x80"), LEAFD_OK, LEAFD_OK}, /* negative: the caller's business */
        {SERIAL, BYTES("\x02\x02\x00\x05"), LEAFD_MALFORMED, LEAFD_OK},
        {SERIAL, BYTES("\x02\x02\xff\x85"), LEAFD_MALFORMED, LEAFD_OK},
        {SERIAL, BYTES("\x02\x02\x00\x85"), LEAFD_OK, LEAFD_OK},
        {SERIAL, BYTES("\x02\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {SERIAL, BYTES("\x02\x81\x01\x05"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {SERIAL, BYTES(""), LEAFD_MALFORMED, LEAFD_MALFORMED},
        /* algorithms */
        {ALGORITHM, BYTES("\x30\x04\x06\x02\x80\x01"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x03\x06\x01\x81"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x02\x06\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x07\x06\x03\x2b\x65\x70\x05\x00"), LEAFD_OK, LEAFD_OK},
        {ALGORITHM, BYTES("\x30\x08\x06\x03\x2b\x65\x70\x05\x01\x00"), LEAFD_MALFORMED,
         LEAFD_MALFORMED}, /* a NULL that says something */
        {ALGORITHM, BYTES("\x30\x08\x06\x03\x2b\x65\x70\x01\x01\x01"), LEAFD_MALFORMED, LEAFD_OK},
        {ALGORITHM, BYTES("\x30\x07\x06\x03\x2b\x65\x70\x01\x00"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x09\x06\x03\x2b\x65\x70\x03\x02\x01\x41"), LEAFD_MALFORMED,
         LEAFD_OK}, /* a padding bit is set */
        {ALGORITHM, BYTES("\x30\x09\x06\x03\x2b\x65\x70\x03\x02\x08\x41"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x09\x06\x03\x2b\x65\x70\x02\x02\x00\x01"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x08\x06\x03\x2b\x65\x70\x06\x01\x80"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x08\x06\x03\x2b\x65\x70\x0c\x01\xff"), LEAFD_MALFORMED, LEAFD_OK},
        {ALGORITHM, BYTES("\x30\x08\x06\x03\x2b\x65\x70\x1e\x01\x41"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x08\x06\x03\x2b\x65\x70\x1c\x01\x41"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {ALGORITHM, BYTES("\x30\x09\x06\x03\x2b\x65\x70\x05\x00\x05\x00"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        /* names */
        {ISSUER, BYTES("\x30\x02\x31\x00"), LEAFD_MALFORMED, LEAFD_OK},
        {ISSUER, BYTES("\x30\x02\x30\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {ISSUER, BYTES("\x30\x09\x31\x07\x30\x05\x06\x03\x55\x04\x03"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        /* an issuer may have what a subject may not: '*' in a PrintableString; but no bad UTF-8 */
        {ISSUER, BYTES("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x13\x01*"), LEAFD_OK,
         LEAFD_OK},
        {ISSUER, BYTES("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01\xff"), LEAFD_MALFORMED,
         LEAFD_OK},
        {SUBJECT, BYTES("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01\xff"),
         LEAFD_MALFORMED, LEAFD_OK}, /* not UTF-8 */
        {SUBJECT, BYTES("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x13\x01*"), LEAFD_MALFORMED,
         LEAFD_OK}, /* not printable */
        {SUBJECT, BYTES("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x1e\x01*"), LEAFD_MALFORMED,
         LEAFD_OK}, /* half a BMP character */
        {SUBJECT,
         BYTES("\x30\x16\x31\x14\x30\x08\x06\x03\x55\x04\x03\x0c\x01\x41"
               "\x30\x08\x06\x03\x55\x04\x06\x0c\x01\x41"),
         LEAFD_OK, LEAFD_OK},
        {SUBJECT,
         BYTES("\x30\x16\x31\x14\x30\x08\x06\x03\x55\x04\x06\x0c\x01\x41"
               "\x30\x08\x06\x03\x55\x04\x03\x0c\x01\x41"),
         LEAFD_MALFORMED, LEAFD_OK},
        {SUBJECT,
         BYTES("\x30\x16\x31\x14\x30\x08\x06\x03\x55\x04\x03\x0c\x01\x41"
               "\x30\x08\x06\x03\x55\x04\x03\x0c\x01\x41"),
         LEAFD_MALFORMED, LEAFD_OK},
        {SUBJECT, BYTES("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x06\x01\x41"),
         LEAFD_MALFORMED, LEAFD_OK}, /* no string */
        {SUBJECT, BYTES("\x30\x0e\x31\x0c\x30\x0a\x06\x03\x55\x04\x03\x2c\x03\x0c\x01\x41"),
         LEAFD_MALFORMED, LEAFD_MALFORMED}, /* a string in pieces */
        {SUBJECT, BYTES("\x30\x0b\x31\x09\x30\x07\x06\x03\x55\x04\x03\x10\x00"), LEAFD_MALFORMED,
         LEAFD_MALFORMED}, /* a SEQUENCE that is not constructed */
        {SUBJECT, BYTES("\x31\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        /* validity */
        {VALIDITY, BYTES("\x30\x0f" UTC), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VALIDITY, BYTES("\x30\x20" UTC UTC "\x05\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {VALIDITY,
         BYTES("\x30\x20" UTC "\x18\x0f"
               "20260101000000Z"),
         LEAFD_MALFORMED, LEAFD_OK},
        {VALIDITY,
         BYTES("\x30\x20" UTC "\x18\x0f"
               "20600101000000Z"),
         LEAFD_OK, LEAFD_OK},
        {VALIDITY,
         BYTES("\x30\x1c" UTC "\x17\x0b"
               "2601010000Z"),
         LEAFD_MALFORMED, LEAFD_MALFORMED},
        /* keys */
        {SPKI, BYTES("\x30\x0b\x30\x05\x06\x03\x2b\x65\x70\x03\x02\x01\x41"), LEAFD_MALFORMED,
         LEAFD_OK}, /* a padding bit is set */
        {SPKI, BYTES("\x30\x0b\x30\x05\x06\x03\x2b\x65\x70\x03\x02\x08\x41"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {SPKI, BYTES("\x30\x0a\x30\x05\x06\x03\x2b\x65\x70\x03\x01\x01"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {SPKI, BYTES("\x30\x07\x30\x05\x06\x03\x2b\x65\x70"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        /* unique identifiers */
        {UNIQUE, BYTES("\x81\x02\x00\x41\x82\x02\x00\x41"), LEAFD_OK, LEAFD_OK},
        {UNIQUE, BYTES("\x82\x02\x00\x41\x81\x02\x00\x41"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {UNIQUE, BYTES("\x81\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {UNIQUE, BYTES("\xa1\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        /* extensions */
        {EXTENSIONS, BYTES(""), LEAFD_OK, LEAFD_OK},
        {EXTENSIONS, BYTES("\xa3\x02\x30\x00"), LEAFD_MALFORMED, LEAFD_OK},
        {EXTENSIONS, BYTES("\xa3\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {EXTENSIONS, BYTES(EXTENSION_OF("\x11", "\x0f", "\x0d", "\x01\x01\xff")), LEAFD_OK,
         LEAFD_OK},
        {EXTENSIONS, BYTES(EXTENSION_OF("\x11", "\x0f", "\x0d", "\x01\x01\x01")), LEAFD_MALFORMED,
         LEAFD_OK},
        {EXTENSIONS, BYTES(EXTENSION_OF("\x11", "\x0f", "\x0d", "\x01\x01\x00")), LEAFD_MALFORMED,
         LEAFD_OK},
        {EXTENSIONS, BYTES(EXTENSION_OF("\x10", "\x0e", "\x0c", "\x01\x00")), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {EXTENSIONS, BYTES(EXTENSION_OF("\x12", "\x10", "\x0e", "\x01\x02\xff\xff")),
         LEAFD_MALFORMED, LEAFD_MALFORMED},
        {EXTENSIONS, BYTES("\xa3\x09\x30\x07\x30\x05\x06\x03\x55\x1d\x0e"), LEAFD_MALFORMED,
         LEAFD_MALFORMED},
        {EXTENSIONS, BYTES("\xa4\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct bytes cert = make_with(row[i].part, row[i].other);
        enum leafd_err strict = cert_read(cert, DER_FORM_STRICT, &fields, NULL);
        enum leafd_err legacy = cert_read(cert, DER_FORM_LEGACY, &fields, NULL);

        if (strict != row[i].strict || legacy != row[i].legacy)
            fail_msg("row %zu: strict %s, legacy %s", i, err_name(strict), err_name(legacy));
        if (legacy == LEAFD_OK && fields.legacy != (strict != LEAFD_OK))
            fail_msg("row %zu: legacy is not told", i);
    }
}

static void versions(void **state)
{
    struct bytes parts[PARTS];

    (void)state;
    memcpy(parts, good_parts, sizeof(parts));
    parts[EXTENSIONS] = parts[VERSION] = BYTES("");
    assert_int_equal(
        cert_read(make_cert(parts, BYTES("\x03\x01\x00")), DER_FORM_STRICT, &fields, NULL),
        LEAFD_OK);
    assert_int_equal(fields.version, 1);
    assert_int_equal(fields.extension_count, 0);
    parts[VERSION] = BYTES("\xa0\x03\x02\x01\x00"); /* the default, written */
    assert_int_equal(
        cert_read(make_cert(parts, BYTES("\x03\x01\x00")), DER_FORM_STRICT, &fields, NULL),
        LEAFD_MALFORMED);
    assert_int_equal(
        cert_read(make_cert(parts, BYTES("\x03\x01\x00")), DER_FORM_LEGACY, &fields, NULL),
        LEAFD_OK);
    assert_int_equal(fields.version, 1);
    assert_true(fields.legacy);
    parts[VERSION] = BYTES("\xa0\x03\x02\x01\x01");
    assert_int_equal(
        cert_read(make_cert(parts, BYTES("\x03\x01\x00")), DER_FORM_STRICT, &fields, NULL),
        LEAFD_OK);
    assert_int_equal(fields.version, 2);
    parts[VERSION] = BYTES("\xa0\x03\x02\x01\x07");
    assert_int_equal(
        cert_read(make_cert(parts, BYTES("\x03\x01\x00")), DER_FORM_STRICT, &fields, NULL),
        LEAFD_OK);
    assert_int_equal(fields.version, 8);
}

static void signatures(void **state)
{
    static const struct {
        struct bytes signature;
        enum leafd_err strict;
        enum leafd_err legacy;
    } row[] = {
        {BYTES("\x03\x01\x00"), LEAFD_OK, LEAFD_OK},
        {BYTES("\x03\x02\x01\x53"), LEAFD_MALFORMED, LEAFD_OK},
        {BYTES("\x03\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {BYTES("\x04\x02\x00\x53"), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {BYTES(""), LEAFD_MALFORMED, LEAFD_MALFORMED},
        {BYTES("\x03\x02\x00\x53\x05\x00"), LEAFD_MALFORMED, LEAFD_MALFORMED},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct bytes cert = make_cert(good_parts, row[i].signature);

        assert_int_equal(cert_read(cert, DER_FORM_STRICT, &fields, NULL), row[i].strict);
        assert_int_equal(cert_read(cert, DER_FORM_LEGACY, &fields, NULL), row[i].legacy);
    }
}

static void many_extensions(void **state)
{
    uint8_t buffer[2048];

    (void)state;
    for (size_t count = CERT_EXTENSIONS_MAX; count <= CERT_EXTENSIONS_MAX + 1; count++) {
        struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
        const uint8_t *mark = der_mark(&writer);
        bool fits = count <= CERT_EXTENSIONS_MAX;

        for (size_t i = 0; i < count; i++)
            der_put(&writer, BYTES("\x30\x08\x06\x03\x55\x1d\x0e\x04\x01\x41"));
        der_wrap(&writer, DER_SEQUENCE, mark);
        der_wrap(&writer, DER_CONTEXT_CONSTRUCTED(3), mark);
        assert_int_equal(
            cert_read(make_with(EXTENSIONS, der_written(&writer)), DER_FORM_LEGACY, &fields, NULL),
            fits ? LEAFD_OK : LEAFD_MALFORMED);
        if (fits)
            assert_int_equal(fields.extension_count, count);
    }
}

static void huge_certificate(void **state)
{
    uint8_t *cert = calloc(1, CERT_SIZE_MAX + 16);

    (void)state;
    memcpy(cert, "\x30\x83\x01\x00\x05\x30\x83\x01\x00\x00", 10);
    assert_int_equal(
        cert_read((struct bytes){cert, CERT_SIZE_MAX + 10}, DER_FORM_LEGACY, &fields, NULL),
        LEAFD_MALFORMED);
    free(cert);
}

static void names_alone(void **state)
{
    (void)state;
    assert_true(cert_name_is_strict(BYTES("\x30\x00")));
    assert_true(cert_name_is_strict(BYTES(NAME_A)));
    assert_false(cert_name_is_strict(BYTES("\x30\x02\x31\x00")));
    assert_false(cert_name_is_strict(BYTES("\x30\x00\x05\x00")));
    assert_false(cert_name_is_strict(BYTES("")));
    assert_true(cert_issuer_is_strict(BYTES(NAME_A)));
    assert_false(cert_issuer_is_strict(BYTES("\x30\x02\x31\x00")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_read),
        cmocka_unit_test(bad_elements),
        cmocka_unit_test(lengths_at_their_borders),
        cmocka_unit_test(faults_stick),
        cmocka_unit_test(writing_backwards),
        cmocka_unit_test(little_room),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(bad_times),
        cmocka_unit_test(times_go_round),
        cmocka_unit_test(every_day_and_every_second_go_round),
        cmocka_unit_test(times_out_of_range),
        cmocka_unit_test(oids_are_right),
        cmocka_unit_test(keys_of_openssl),
        cmocka_unit_test(odd_keys),
        cmocka_unit_test(good_certificate),
        cmocka_unit_test(cut_and_longer),
        cmocka_unit_test(forms),
        cmocka_unit_test(versions),
        cmocka_unit_test(signatures),
        cmocka_unit_test(many_extensions),
        cmocka_unit_test(huge_certificate),
        cmocka_unit_test(names_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
