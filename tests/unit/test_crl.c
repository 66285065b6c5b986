/* SPDX-License-Identifier: Apache-2.0 */
/* CRLs: the one we write, and what is not taken for one of ours. */
#include "config.h"

#include "base/clock.h"
#include "pkcs11/ca_crl.h"
#include "policy/crl.h"

#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DAY_SEC = 86400 };

static const int64_t now = 1795000000; /* 2026-11-18 */

static struct bytes copied(struct bytes from)
{
    struct bytes copy = bytes_copy(from);

    assert_non_null(copy.data);
    return copy;
}

static void drop(struct bytes what)
{
    free((void *)(uintptr_t)what.data);
}

static struct ca *ca_of(const char *cn, EVP_PKEY *key)
{
    struct bytes der = make_ca(cn, key, now);
    struct ca *ca = NULL;
    struct why why = {""};

    if (ca_read(der, 0, false, &ca, &why) != LEAFD_OK)
        fail_msg("%s", why.text);
    drop(der);
    return ca;
}

/* As ca_crl_make does it, with a key of ours. */
static struct bytes written(const struct ca *ca, EVP_PKEY *key, const struct crl *crl)
{
    size_t size = crl_size(ca);
    uint8_t *tbs_room = malloc(size);
    uint8_t *room = malloc(size);
    uint8_t signature[1024];
    size_t len = sizeof(signature);
    const char *md = EVP_PKEY_is_a(key, "ED25519")   ? NULL
                     : EVP_PKEY_get_bits(key) == 384 ? "SHA384"
                                                     : "SHA256";
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct der_writer writer = der_writer_of(tbs_room, size);
    struct bytes tbs;
    struct bytes der;

    crl_put_tbs(&writer, ca, crl);
    tbs = der_written(&writer);
    assert_non_null(tbs.data);
    assert_int_equal(EVP_DigestSignInit_ex(ctx, NULL, md, NULL, NULL, key, NULL), 1);
    assert_int_equal(EVP_DigestSign(ctx, signature, &len, tbs.data, tbs.len), 1);
    writer = der_writer_of(room, size);
    crl_put(&writer, ca, tbs, (struct bytes){signature, len});
    der = der_written(&writer);
    assert_non_null(der.data);
    der = copied(der);
    EVP_MD_CTX_free(ctx);
    free(tbs_room);
    free(room);
    return der;
}

static X509_CRL *parsed(struct bytes der)
{
    const uint8_t *at = der.data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)der.len);

    assert_non_null(crl);
    assert_ptr_equal(at, der.data + der.len);
    return crl;
}

static void assert_taken(struct bytes der, const struct ca *ca, struct crl *ret)
{
    struct why why = {""};

    if (crl_read(der, ca, ret, &why) != LEAFD_OK)
        fail_msg("not taken: %s", why.text);
}

static void assert_not_taken(struct bytes der, const struct ca *ca, enum leafd_err err,
                             const char *part)
{
    struct crl crl = {.number = 77};
    struct why why = {""};

    assert_int_equal(crl_read(der, ca, &crl, &why), err);
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not hold \"%s\"", why.text, part);
    assert_int_equal(crl.number, 77);
    assert_int_equal(crl_read(der, ca, &crl, NULL), err);
}

/* ---- the one we write ---- */

static void what_is_written_is_what_openssl_reads(void **state)
{
    static const char *const keys[] = {"P-256", "P-384", "RSA:2048", "ED25519"};

    (void)state;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        EVP_PKEY *key = make_key(keys[i]);
        struct ca *ca = ca_of("Test CA", key);
        struct crl fields = {now - 3600, now + 90 * DAY_SEC, 1795000000123, 0};
        struct bytes der = written(ca, key, &fields);
        X509_CRL *crl = parsed(der);
        const uint8_t *at = ca->der.data;
        X509 *cert = d2i_X509(NULL, &at, (long)ca->der.len);
        AUTHORITY_KEYID *akid = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, NULL, NULL);
        struct crl read;
        const uint8_t *name;
        size_t name_len;

        assert_int_equal(X509_CRL_get_version(crl), 1); /* v2 */
        assert_int_equal(X509_CRL_verify(crl, key), 1);
        assert_int_equal(
            X509_NAME_get0_der(X509_CRL_get_issuer(crl), (const unsigned char **)&name, &name_len),
            1);
        assert_true(bytes_equal((struct bytes){name, name_len}, ca->subject));
        assert_null(X509_CRL_get_REVOKED(crl));
        assert_int_equal(X509_CRL_get_ext_count(crl), 2);
        for (int e = 0; e < 2; e++)
            assert_false(X509_EXTENSION_get_critical(X509_CRL_get_ext(crl, e)));
        assert_non_null(akid);
        assert_int_equal(ASN1_STRING_cmp(akid->keyid, X509_get0_subject_key_id(cert)), 0);
        assert_null(akid->issuer);
        assert_null(akid->serial);
        assert_taken(der, ca, &read);
        assert_memory_equal(&read, &fields, sizeof(read));
        AUTHORITY_KEYID_free(akid);
        X509_free(cert);
        X509_CRL_free(crl);
        drop(der);
        ca_unref(ca);
        EVP_PKEY_free(key);
    }
}

static void numbers_and_dates_have_their_form(void **state)
{
    static const uint64_t numbers[] = {
        1, 0x7f, 0x80, 0xff, 0x100, 0x8000, 123456, (uint64_t)1 << 63, UINT64_MAX};
    EVP_PKEY *key = make_key("P-256");
    struct ca *ca = ca_of("Test CA", key);

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        /* the second date is behind 2049: a GeneralizedTime */
        struct crl fields = {now, 2540000000 + (int64_t)i, numbers[i], 0};
        struct bytes der = written(ca, key, &fields);
        X509_CRL *crl = parsed(der);
        ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
        uint64_t value = 0;
        struct crl read;

        assert_int_equal(ASN1_INTEGER_get_uint64(&value, number), 1);
        assert_true(value == numbers[i]);
        assert_int_equal(X509_CRL_get0_lastUpdate(crl)->type, V_ASN1_UTCTIME);
        assert_int_equal(X509_CRL_get0_nextUpdate(crl)->type, V_ASN1_GENERALIZEDTIME);
        assert_taken(der, ca, &read);
        assert_memory_equal(&read, &fields, sizeof(read));
        ASN1_INTEGER_free(number);
        X509_CRL_free(crl);
        drop(der);
    }
    ca_unref(ca);
    EVP_PKEY_free(key);
}

static void without_a_key_id_it_has_the_computed_one(void **state)
{
    EVP_PKEY *key = make_key("P-256");
    struct make_cert recipe = {.cn = "Old CA",
                               .key = key,
                               .ku = "critical,keyCertSign",
                               .bc = "critical,CA:TRUE",
                               .not_before = now - DAY_SEC,
                               .not_after = now + DAY_SEC};
    struct bytes cert = make_cert(&recipe);
    struct crl fields = {now, now + 1, 5, 0};
    struct ca *ca = NULL;
    struct bytes der;
    struct crl read;

    (void)state;
    assert_int_equal(ca_read(cert, 0, false, &ca, NULL), LEAFD_OK);
    assert_true(ca->key_id_was_missing);
    assert_false(ca->crl_sign);
    der = written(ca, key, &fields);
    assert_non_null(memmem(der.data, der.len, ca->key_id.data, ca->key_id.len));
    assert_taken(der, ca, &read);
    drop(der);
    ca_unref(ca);
    ca = ca_of("Test CA", key);
    assert_true(ca->crl_sign);
    ca_unref(ca);
    drop(cert);
    EVP_PKEY_free(key);
}

/* ---- made with a CA's key, here one in a file ---- */

static void made_with_the_cas_key(void **state)
{
    char path[] = "/tmp/leafd-test-crl-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    EVP_PKEY *key = make_key("P-256");
    struct bytes cert = make_ca("Test CA", key, clock_wall_sec());
    struct conf conf = {.ca = {{.certificate = (char *)"ca.pem", .key = path}},
                        .ca_count = 1,
                        .token[0].access = CONF_ACCESS_FILE,
                        .insecure_file_key = true};
    struct ca_crl_options options = {0};
    struct bytes first;
    struct bytes second;
    struct crl before = {clock_wall_sec(), clock_wall_sec() + 1, UINT64_MAX - 1, 0};
    struct crl crl;
    struct ca *ca = NULL;
    struct ca_set *cas;

    (void)state;
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    assert_int_equal(ca_read(cert, 0, false, &ca, NULL), LEAFD_OK);
    cas = ca_set_new((const struct ca *const *)&ca, 1, NULL);
    assert_int_equal(ca_crl_make(&conf, cas, NULL, &options, &first, NULL), LEAFD_OK);
    assert_taken(first, ca, &crl);
    assert_true(crl.number / 1000 >= (uint64_t)before.this_update);
    assert_true(crl.this_update <= before.this_update - 3599);
    assert_true(crl.next_update >= before.this_update + (int64_t)CA_CRL_DAYS_DEFAULT * DAY_SEC);
    drop(first);
    /* one with a number from the future is overtaken; what is none of ours is as if absent */
    options = (struct ca_crl_options){.days = 9999, .before = written(ca, key, &before)};
    assert_int_equal(ca_crl_make(&conf, cas, NULL, &options, &second, NULL), LEAFD_OK);
    assert_taken(second, ca, &crl);
    assert_true(crl.number == UINT64_MAX);
    assert_int_equal(crl.next_update, ca->not_after);
    drop(options.before);
    drop(second);
    options = (struct ca_crl_options){.before = bytes_of("rubbish")};
    assert_int_equal(ca_crl_make(&conf, cas, NULL, &options, &first, NULL), LEAFD_OK);
    assert_taken(first, ca, &crl);
    drop(first);
    unlink(path);
    assert_int_equal(ca_crl_make(&conf, cas, NULL, &options, &first, NULL), LEAFD_CONFIG);
    ca_set_unref(cas);
    ca_unref(ca);
    drop(cert);
    EVP_PKEY_free(key);
}

static void not_made_by_a_ca_that_may_not(void **state)
{
    EVP_PKEY *key = make_key("P-256");
    struct make_cert recipe = {.cn = "CA",
                               .key = key,
                               .ku = "critical,keyCertSign",
                               .bc = "critical,CA:TRUE",
                               .not_before = clock_wall_sec() - 10 * DAY_SEC,
                               .not_after = clock_wall_sec() + DAY_SEC};
    struct conf conf = {.ca_count = 1};
    struct ca_crl_options options = {0};
    struct bytes der;

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct bytes cert = make_cert(&recipe);
        struct ca *ca = NULL;
        struct ca_set *cas;
        struct why why = {""};

        assert_int_equal(ca_read(cert, 0, false, &ca, NULL), LEAFD_OK);
        cas = ca_set_new((const struct ca *const *)&ca, 1, NULL);
        assert_int_equal(ca_crl_make(&conf, cas, NULL, &options, &der, &why), LEAFD_CONFIG);
        assert_non_null(strstr(why.text, i == 0 ? "cRLSign" : "expired"));
        ca_set_unref(cas);
        ca_unref(ca);
        drop(cert);
        recipe.ku = "critical,keyCertSign,cRLSign";
        recipe.not_before += i == 1 ? 20 * DAY_SEC : 0;
        recipe.not_after += i == 0 ? -2 * DAY_SEC : 50 * DAY_SEC;
    }
    EVP_PKEY_free(key);
}

/* ---- what is not taken ---- */

/* A CRL that OpenSSL makes, with what the test adds. */
static X509_CRL *openssl_crl(const struct ca *ca, int64_t first, int64_t last)
{
    X509_CRL *crl = X509_CRL_new();
    const uint8_t *at = ca->subject.data;
    X509_NAME *name = d2i_X509_NAME(NULL, &at, (long)ca->subject.len);
    ASN1_TIME *time = ASN1_TIME_set(NULL, first);

    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, name);
    X509_CRL_set1_lastUpdate(crl, time);
    if (last) {
        ASN1_TIME_set(time, last);
        X509_CRL_set1_nextUpdate(crl, time);
    }
    ASN1_TIME_free(time);
    X509_NAME_free(name);
    return crl;
}

static struct bytes signed_by(X509_CRL *crl, EVP_PKEY *key)
{
    unsigned char *der = NULL;
    struct bytes copy;
    int len;

    assert_true(X509_CRL_sign(crl, key, EVP_sha256()) > 0);
    len = i2d_X509_CRL(crl, &der);
    assert_true(len > 0);
    copy = copied((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    X509_CRL_free(crl);
    return copy;
}

static void add_revoked(X509_CRL *crl, long serial)
{
    X509_REVOKED *revoked = X509_REVOKED_new();
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    ASN1_TIME *time = ASN1_TIME_set(NULL, now);

    ASN1_INTEGER_set(number, serial);
    X509_REVOKED_set_serialNumber(revoked, number);
    X509_REVOKED_set_revocationDate(revoked, time);
    X509_CRL_add0_revoked(crl, revoked);
    ASN1_INTEGER_free(number);
    ASN1_TIME_free(time);
}

static void one_made_elsewhere_with_the_cas_key_is_taken(void **state)
{
    EVP_PKEY *key = make_key("RSA:2048");
    struct ca *ca = ca_of("Test CA", key);
    X509_CRL *crl = openssl_crl(ca, now, now + DAY_SEC);
    struct bytes der;
    struct crl read;

    (void)state;
    add_revoked(crl, 1);
    add_revoked(crl, 2);
    der = signed_by(crl, key);
    assert_taken(der, ca, &read);
    assert_int_equal(read.revoked, 2);
    assert_int_equal(read.number, 0);
    assert_int_equal(read.next_update, now + DAY_SEC);
    drop(der);
    ca_unref(ca);
    EVP_PKEY_free(key);
}

static void others_are_refused(void **state)
{
    EVP_PKEY *key = make_key("P-256");
    EVP_PKEY *other_key = make_key("P-256");
    struct ca *ca = ca_of("Test CA", key);
    struct ca *namesake = ca_of("Test CA", other_key);
    struct ca *sibling = ca_of("Other CA", key);
    struct crl fields = {now, now + DAY_SEC, 1, 0};
    ASN1_INTEGER *base = ASN1_INTEGER_new();
    X509_CRL *crl = openssl_crl(ca, now, now + DAY_SEC);
    struct bytes der;

    (void)state;
    der = written(namesake, other_key, &fields);
    assert_not_taken(der, ca, LEAFD_REFUSED, "does not verify");
    drop(der);
    der = written(sibling, key, &fields);
    assert_not_taken(der, ca, LEAFD_REFUSED, "another issuer");
    drop(der);
    ASN1_INTEGER_set(base, 1);
    assert_int_equal(X509_CRL_add1_ext_i2d(crl, NID_delta_crl, base, 1, 0), 1);
    der = signed_by(crl, key);
    assert_not_taken(der, ca, LEAFD_REFUSED, "delta");
    drop(der);
    der = signed_by(openssl_crl(ca, now, 0), key);
    assert_not_taken(der, ca, LEAFD_MALFORMED, "nextUpdate");
    drop(der);
    ASN1_INTEGER_free(base);
    ca_unref(ca);
    ca_unref(namesake);
    ca_unref(sibling);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
}

static void what_is_no_crl_is_refused(void **state)
{
    EVP_PKEY *key = make_key("P-256");
    struct ca *ca = ca_of("Test CA", key);
    struct crl fields = {now, now + DAY_SEC, 1, 0};
    struct bytes der = written(ca, key, &fields);
    size_t large = CRL_SIZE_MAX + 1;
    uint8_t *room = calloc(1, large);
    struct why why;

    (void)state;
    assert_non_null(room);
    assert_not_taken((struct bytes){NULL, 0}, ca, LEAFD_MALFORMED, "not a CRL");
    assert_not_taken(bytes_of("<html>"), ca, LEAFD_MALFORMED, "not a CRL");
    assert_not_taken(bytes_of("-----BEGIN X509 CRL-----\n"), ca, LEAFD_MALFORMED, "PEM");
    assert_not_taken(ca->der, ca, LEAFD_MALFORMED, "not a CRL");
    assert_not_taken((struct bytes){room, large}, ca, LEAFD_TOO_LARGE, "larger");
    memcpy(room, der.data, der.len); /* one octet behind it */
    assert_not_taken((struct bytes){room, der.len + 1}, ca, LEAFD_MALFORMED, "alone");
    /* BER: the length of the outermost element in more octets than it needs */
    assert_int_equal(der.data[1], 0x81);
    memcpy(room + 1, der.data, der.len);
    room[0] = 0x30;
    room[1] = 0x82;
    room[2] = 0;
    memcpy(room + 3, der.data + 2, der.len - 2);
    assert_not_taken((struct bytes){room, 4}, ca, LEAFD_MALFORMED, "not a CRL");
    room[3] = der.data[2];
    memmove(room + 4, der.data + 3, der.len - 3);
    assert_not_taken((struct bytes){room, der.len + 1}, ca, LEAFD_MALFORMED, "DER");
    /* any cut, any octet changed */
    for (size_t len = 0; len < der.len; len++)
        assert_int_equal(crl_read((struct bytes){der.data, len}, ca, &fields, &why),
                         LEAFD_MALFORMED);
    for (size_t i = 0; i < der.len; i++) {
        memcpy(room, der.data, der.len);
        room[i] ^= 0x41;
        assert_true(crl_read((struct bytes){room, der.len}, ca, &fields, &why) != LEAFD_OK);
    }
    free(room);
    drop(der);
    ca_unref(ca);
    EVP_PKEY_free(key);
}

/* ---- when it has to be renewed ---- */

static void care_is_asked_for_in_time(void **state)
{
    struct crl crl = {now, now + 90 * DAY_SEC, 1, 0};
    struct crl of_a_day = {now, now + DAY_SEC, 1, 0};
    struct why why = {""};

    (void)state;
    assert_false(crl_needs_care(&crl, now, &why));
    assert_false(crl_needs_care(&crl, now + 83 * DAY_SEC - 1, &why));
    assert_true(crl_needs_care(&crl, now + 83 * DAY_SEC, &why));
    assert_non_null(strstr(why.text, "expires on 2027-02-16 "));
    assert_true(crl_needs_care(&crl, now + 90 * DAY_SEC + 1, &why));
    assert_non_null(strstr(why.text, "has expired on 2027-02-16 "));
    assert_true(crl_needs_care(&crl, now - 1, &why));
    assert_non_null(strstr(why.text, "not valid before 2026-11-18 "));
    assert_false(crl_needs_care(&of_a_day, now + 17 * 3600, NULL));
    assert_true(crl_needs_care(&of_a_day, now + 18 * 3600, NULL));
}

static void an_address_without_a_list_is_told(void **state)
{
    EVP_PKEY *key = make_key("P-256");
    struct make_cert recipe = {.cn = "CA",
                               .key = key,
                               .ku = "critical,keyCertSign",
                               .bc = "critical,CA:TRUE",
                               .not_before = now,
                               .not_after = now + DAY_SEC};
    struct bytes cert = make_cert(&recipe);
    struct ca *good = ca_of("Test CA", key);
    struct ca *without = NULL;
    struct conf conf = {.ca_crl_file = (char *)"/ca.crl"};
    struct why why = {""};

    (void)state;
    assert_int_equal(ca_read(cert, 0, false, &without, NULL), LEAFD_OK);
    assert_false(crl_conf_needs_care(&conf, good, &why));
    assert_false(crl_conf_needs_care(&conf, without, &why)); /* no leaf names it */
    conf.ca_crl_url = (char *)"http://crl.example/ca.crl";
    assert_false(crl_conf_needs_care(&conf, good, &why));
    assert_true(crl_conf_needs_care(&conf, without, &why));
    assert_non_null(strstr(why.text, "cRLSign"));
    conf.ca_crl_file = NULL;
    assert_true(crl_conf_needs_care(&conf, good, &why));
    assert_non_null(strstr(why.text, "ca.crl_file names none"));
    ca_unref(good);
    ca_unref(without);
    drop(cert);
    EVP_PKEY_free(key);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_what_openssl_reads),
        cmocka_unit_test(numbers_and_dates_have_their_form),
        cmocka_unit_test(without_a_key_id_it_has_the_computed_one),
        cmocka_unit_test(made_with_the_cas_key),
        cmocka_unit_test(not_made_by_a_ca_that_may_not),
        cmocka_unit_test(one_made_elsewhere_with_the_cas_key_is_taken),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(what_is_no_crl_is_refused),
        cmocka_unit_test(care_is_asked_for_in_time),
        cmocka_unit_test(an_address_without_a_list_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
