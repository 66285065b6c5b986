/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h" /* memmem */

#include "policy/upstream.h"
#include "policy/upstream_subject.h"

#include "der/cert_fields.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GOOD_SAN                                                                                   \
    {                                                                                              \
        "subjectAltName", "DNS:www.example.org"                                                    \
    }

enum { MORE_MAX = 4, SUBJECT_TEST_MAX = 80 };

/* One attribute of a subject; `type` is a string type of ASN.1. */
struct attribute {
    const char *oid;
    int type;
    const char *value;
    int len;       /* 0: as strlen says */
    bool same_rdn; /* in one RDN with the attribute before it */
};

/* A leaf to be made; members left out have the value of a good one without names. */
struct recipe {
    const struct attribute *subject;
    size_t subject_count;
    const char *more[MORE_MAX][2]; /* extensions: name and value */
    EVP_PKEY *key;
    const EVP_MD *digest;
    bool pss;
    bool v1;
    bool self_issued;
    long serial;
    bool serial_given;
    long first_sec;
};

static EVP_PKEY *p256_key;
static EVP_PKEY *rsa_key;

static void add_extension(X509 *cert, const char *name, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf(NULL, &context, name, value);
    if (!extension)
        fail_msg("OpenSSL does not take %s = %s", name, value);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void add_attribute(X509_NAME *name, const struct attribute *attribute)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(attribute->oid, 0);
    int len = attribute->len ? attribute->len : (int)strlen(attribute->value);

    assert_int_equal(X509_NAME_add_entry_by_OBJ(name, oid, attribute->type,
                                                (const unsigned char *)attribute->value, len, -1,
                                                attribute->same_rdn ? -1 : 0),
                     1);
    ASN1_OBJECT_free(oid);
}

static void sign_cert(X509 *cert, const struct recipe *recipe)
{
    EVP_PKEY *key = recipe->pss || (recipe->digest && !recipe->key) ? rsa_key : p256_key;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_context;

    assert_int_equal(EVP_DigestSignInit(context, &key_context,
                                        recipe->digest ? recipe->digest : EVP_sha256(), NULL, key),
                     1);
    if (recipe->pss)
        assert_true(EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING) > 0);
    assert_true(X509_sign_ctx(cert, context) > 0);
    EVP_MD_CTX_free(context);
}

/* The caller frees data with free(). */
static struct bytes make_leaf(const struct recipe *recipe)
{
    X509 *cert = X509_new();
    X509_NAME *subject = X509_get_subject_name(cert);
    unsigned char *der = NULL;
    struct bytes copy;
    int len;

    assert_int_equal(X509_set_version(cert, 2), 1);
    ASN1_INTEGER_set_int64(X509_get_serialNumber(cert),
                           recipe->serial_given ? recipe->serial : 4711);
    for (size_t i = 0; i < recipe->subject_count; i++)
        add_attribute(subject, &recipe->subject[i]);
    if (recipe->self_issued)
        X509_set_issuer_name(cert, subject);
    else
        X509_NAME_add_entry_by_txt(X509_get_issuer_name(cert), "CN", MBSTRING_UTF8,
                                   (const unsigned char *)"Issuer", -1, -1, 0);
    X509_gmtime_adj(X509_getm_notBefore(cert), recipe->first_sec);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    assert_int_equal(X509_set_pubkey(cert, recipe->key ? recipe->key : p256_key), 1);
    for (size_t i = 0; i < MORE_MAX && recipe->more[i][0]; i++)
        add_extension(cert, recipe->more[i][0], recipe->more[i][1]);
    sign_cert(cert, recipe);
    if (recipe->v1) /* not before: from OpenSSL 3.5 on signing makes v3 of what has extensions */
        assert_int_equal(X509_set_version(cert, 0), 1);
    len = i2d_X509(cert, &der);
    assert_true(len > 0);
    copy = bytes_copy((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    X509_free(cert);
    return copy;
}

static struct upstream *read_leaf(const struct recipe *recipe)
{
    struct bytes der = make_leaf(recipe);
    struct upstream *upstream = NULL;
    struct why why = {{0}};

    if (upstream_read(der, &upstream, &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    free((void *)der.data);
    return upstream;
}

static void assert_flags(const struct recipe *recipe, unsigned flags)
{
    struct upstream *upstream = read_leaf(recipe);

    if (upstream->flags != flags)
        fail_msg("flags are %#x, not %#x", upstream->flags, flags);
    upstream_unref(upstream);
}

static void good_leaf(void **state)
{
    struct bytes der = make_leaf(&(struct recipe){
        .more = {{"subjectAltName", "DNS:WWW.example.org,IP:192.0.2.1,DNS:*.example.org,IP:::1"},
                 {"keyUsage", "critical,digitalSignature"},
                 {"extendedKeyUsage", "serverAuth,clientAuth"},
                 {"basicConstraints", "critical,CA:FALSE"}}});
    uint8_t *longer = malloc(der.len + 1);
    struct upstream *upstream = NULL;
    uint8_t digest[32];
    char text[256];
    struct name host;

    (void)state;
    /* what stands behind the leaf changes nothing */
    memcpy(longer, der.data, der.len);
    longer[der.len] = 0x42;
    assert_int_equal(upstream_read((struct bytes){longer, der.len + 1}, &upstream, NULL), LEAFD_OK);
    SHA256(der.data, der.len, digest);
    assert_memory_equal(upstream->sha256, digest, 32);
    assert_int_equal(upstream->flags, 0);
    assert_int_equal(upstream->key_type, KEY_TYPE_P256);
    assert_int_equal(upstream->not_after - upstream->not_before, 86400);
    assert_true(bytes_equal(upstream->subject, (struct bytes){(const uint8_t *)"\x30\x00", 2}));
    assert_int_equal(upstream->name_count, 4);
    assert_string_equal(name_text(&upstream->names[0], text, sizeof(text)), "www.example.org");
    assert_string_equal(name_text(&upstream->names[1], text, sizeof(text)), "192.0.2.1");
    assert_string_equal(name_text(&upstream->names[2], text, sizeof(text)), "*.example.org");
    assert_string_equal(name_text(&upstream->names[3], text, sizeof(text)), "::1");
    assert_int_equal(name_of_host(bytes_of("a.example.org"), false, &host, NULL), LEAFD_OK);
    assert_true(upstream_names_host(upstream, &host));
    assert_int_equal(name_of_host(bytes_of("a.b.example.org"), false, &host, NULL), LEAFD_OK);
    assert_false(upstream_names_host(upstream, &host));
    upstream_unref(upstream_ref(upstream));
    upstream_unref(upstream);
    upstream_unref(NULL);
    free(longer);
    free((void *)der.data);
}

static void no_certificates(void **state)
{
    struct bytes der = make_leaf(&(struct recipe){.more = {GOOD_SAN}});
    struct upstream *upstream = NULL;
    struct why why = {{0}};

    (void)state;
    for (size_t cut = 0; cut < der.len; cut++) {
        assert_int_equal(upstream_read((struct bytes){der.data, cut}, &upstream, &why),
                         LEAFD_UNSUPPORTED);
        assert_true(why.text[0] != '\0');
    }
    assert_int_equal(upstream_read(bytes_of("-----BEGIN CERTIFICATE-----"), &upstream, NULL),
                     LEAFD_UNSUPPORTED);
    assert_null(upstream);
    free((void *)der.data);
}

static void flags_of_extensions(void **state)
{
    static const struct {
        const char *name;
        const char *value;
        unsigned flags;
    } row[] = {
        {"keyUsage", "digitalSignature", 0},
        {"keyUsage", "keyEncipherment", 0},
        {"keyUsage", "keyAgreement,decipherOnly", 0},
        {"keyUsage", "nonRepudiation,keyCertSign", UPSTREAM_KU_FOREIGN},
        {"keyUsage", "DER:030100", UPSTREAM_KU_FOREIGN},
        {"keyUsage", "DER:03020780", 0},
        {"keyUsage", "DER:030207ff", UPSTREAM_ODD_FORMS},                       /* padding bits */
        {"keyUsage", "DER:0302077f", UPSTREAM_KU_FOREIGN | UPSTREAM_ODD_FORMS}, /* nothing else */
        {"keyUsage", "DER:03020620", UPSTREAM_KU_FOREIGN | UPSTREAM_ODD_FORMS},
        {"keyUsage", "DER:0303078000", 0},
        {"keyUsage", "DER:030307a07f", UPSTREAM_ODD_FORMS},
        {"keyUsage", "DER:0500", UPSTREAM_UNKNOWN_CRITICAL},
        {"keyUsage", "DER:030103", UPSTREAM_UNKNOWN_CRITICAL}, /* unused bits of no octet */
        {"keyUsage", "DER:0302078005", UPSTREAM_UNKNOWN_CRITICAL},
        {"extendedKeyUsage", "serverAuth", 0},
        {"extendedKeyUsage", "anyExtendedKeyUsage", 0},
        {"extendedKeyUsage", "clientAuth,OCSPSigning", UPSTREAM_EKU_FOREIGN},
        {"extendedKeyUsage", "DER:3000", UPSTREAM_EKU_FOREIGN},
        {"extendedKeyUsage", "DER:3001", UPSTREAM_UNKNOWN_CRITICAL},
        {"extendedKeyUsage", "DER:300e06082b0601050507030106028001", UPSTREAM_UNKNOWN_CRITICAL},
        {"basicConstraints", "CA:TRUE", UPSTREAM_CA_TRUE},
        {"basicConstraints", "critical,CA:TRUE,pathlen:0", UPSTREAM_CA_TRUE},
        {"basicConstraints", "DER:3000", 0},
        {"basicConstraints", "DER:3003010100", UPSTREAM_ODD_FORMS},
        {"basicConstraints", "DER:3003010101", UPSTREAM_CA_TRUE | UPSTREAM_ODD_FORMS},
        {"basicConstraints", "DER:30050101ff0500", UPSTREAM_CA_TRUE | UPSTREAM_UNKNOWN_CRITICAL},
        {"basicConstraints", "DER:30060101ff0201ff", UPSTREAM_CA_TRUE | UPSTREAM_UNKNOWN_CRITICAL},
        {"basicConstraints", "DER:30050101ff0200", UPSTREAM_CA_TRUE | UPSTREAM_UNKNOWN_CRITICAL},
        {"basicConstraints", "DER:3003020100", UPSTREAM_ODD_FORMS},
        {"basicConstraints", "DER:0101ff", UPSTREAM_UNKNOWN_CRITICAL},
        {"basicConstraints", "DER:30050101ff0200", UPSTREAM_CA_TRUE | UPSTREAM_UNKNOWN_CRITICAL},
        {"basicConstraints", "DER:30070101ff02020001", UPSTREAM_CA_TRUE | UPSTREAM_ODD_FORMS},
        {"1.2.3.4", "DER:0500", 0},
        {"1.2.3.4", "critical,DER:0500", UPSTREAM_UNKNOWN_CRITICAL},
        {"nsCertType", "critical,server", UPSTREAM_UNKNOWN_CRITICAL},
        {"tlsfeature", "critical,status_request", 0},
        {"2.5.29.32", "critical,DER:3007300506032a0304", 0},
        {"2.5.29.31", "critical,DER:3000", 0},
        {"2.5.29.30", "critical,DER:3000", 0},
        {"2.5.29.30", "critical,DER:0500", UPSTREAM_UNKNOWN_CRITICAL},
        {"2.5.29.31", "critical,DER:30000500", UPSTREAM_UNKNOWN_CRITICAL},
        {"2.5.29.33", "critical,DER:3000", UPSTREAM_UNKNOWN_CRITICAL},
        {"2.5.29.36", "critical,DER:3000", UPSTREAM_UNKNOWN_CRITICAL},
        {"2.5.29.54", "critical,DER:020100", UPSTREAM_UNKNOWN_CRITICAL},
        {"2.5.29.14", "DER:040141", 0},
        {"2.5.29.14", "critical,DER:040141", UPSTREAM_UNKNOWN_CRITICAL},
        {"2.5.29.35", "critical,DER:3000", UPSTREAM_UNKNOWN_CRITICAL},
        {"authorityInfoAccess", "critical,OCSP;URI:http://o.example/", UPSTREAM_UNKNOWN_CRITICAL},
        {"1.3.6.1.4.1.11129.2.4.3", "critical,DER:0500", UPSTREAM_CT_POISON},
        {"1.3.6.1.4.1.11129.2.4.3", "DER:0500", UPSTREAM_CT_POISON},
        {"keyUsage", "critical,digitalSignature", 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct upstream *upstream =
            read_leaf(&(struct recipe){.more = {GOOD_SAN, {row[i].name, row[i].value}}});

        if (upstream->flags != row[i].flags)
            fail_msg("%s = %s gives %#x", row[i].name, row[i].value, upstream->flags);
        upstream_unref(upstream);
    }
}

static void duplicated_extensions(void **state)
{
    static const char *const twice[][2] = {
        {"keyUsage", "digitalSignature"},
        {"extendedKeyUsage", "serverAuth"},
        {"basicConstraints", "CA:FALSE"},
        {"subjectAltName", "DNS:b.example"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(twice); i++)
        assert_flags(&(struct recipe){.more = {{"subjectAltName", "DNS:a.example"},
                                               {twice[i][0], twice[i][1]},
                                               {i == 3 ? "1.2.3.4" : twice[i][0],
                                                i == 3 ? "DER:0500" : twice[i][1]}}},
                     UPSTREAM_DUPLICATED);
    assert_flags(&(struct recipe){.more = {GOOD_SAN, {"1.2.3.4", "DER:00"}, {"1.2.3.4", "DER:00"}}},
                 UPSTREAM_DUPLICATED);
    assert_flags(&(struct recipe){.more = {GOOD_SAN, {"1.2.3.4", "DER:00"}, {"1.2.3.5", "DER:00"}}},
                 0);
}

static void flags_of_fields(void **state)
{
    static const struct attribute cn[] = {{"CN", V_ASN1_UTF8STRING, "Some One", 0, false}};
    static const struct attribute issuer[] = {{"CN", V_ASN1_PRINTABLESTRING, " ISSUER", 0, false}};

    (void)state;
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .subject = issuer, .subject_count = 1},
                 UPSTREAM_SELF_SIGNED); /* the issuer's name, for everybody who compares */
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .serial = 0, .serial_given = true},
                 UPSTREAM_ODD_SERIAL);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .serial = -5, .serial_given = true},
                 UPSTREAM_ODD_SERIAL);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .serial = 128, .serial_given = true}, 0);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .first_sec = 86401}, UPSTREAM_INVERTED_DATES);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .self_issued = true}, UPSTREAM_SELF_SIGNED);
    assert_flags(
        &(struct recipe){
            .more = {GOOD_SAN}, .subject = cn, .subject_count = 1, .self_issued = true},
        UPSTREAM_SELF_SIGNED);
    assert_flags(&(struct recipe){.v1 = true}, UPSTREAM_V1 | UPSTREAM_NO_NAMES);
    assert_flags(&(struct recipe){.v1 = true, .more = {GOOD_SAN}},
                 UPSTREAM_V1 | UPSTREAM_ODD_FORMS);
}

static void weak_signatures(void **state)
{
    (void)state;
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .digest = EVP_md5()},
                 UPSTREAM_SIGNATURE_WEAK);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .digest = EVP_sha1()},
                 UPSTREAM_SIGNATURE_WEAK);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .digest = EVP_sha1(), .key = p256_key},
                 UPSTREAM_SIGNATURE_WEAK);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .digest = EVP_sha256()}, 0);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .digest = EVP_sha1(), .pss = true},
                 UPSTREAM_SIGNATURE_WEAK);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .digest = EVP_sha256(), .pss = true}, 0);
}

/* Inner and outer algorithm differ: the last octet of ecdsa-with-SHA256 becomes that of SHA384. */
static void two_algorithms(void **state)
{
    static const uint8_t oid[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
    struct bytes der = make_leaf(&(struct recipe){.more = {GOOD_SAN}});
    uint8_t *found = memmem(der.data, der.len, oid, sizeof(oid));
    struct upstream *upstream = NULL;

    (void)state;
    assert_non_null(found);
    found[sizeof(oid) - 1] = 3;
    assert_int_equal(upstream_read(der, &upstream, NULL), LEAFD_OK);
    assert_int_equal(upstream->flags, UPSTREAM_SIGNATURE_WEAK);
    upstream_unref(upstream);
    free((void *)der.data);
}

static void keys(void **state)
{
    static const struct {
        const char *type;
        const char *curve;
        size_t bits;
        unsigned flags;
        enum key_type key_type;
    } row[] = {
        {"RSA", NULL, 1023, UPSTREAM_KEY_WEAK, KEY_TYPE_RSA},
        {"RSA", NULL, 1024, UPSTREAM_RSA_SHORT, KEY_TYPE_RSA},
        {"RSA", NULL, 2047, UPSTREAM_RSA_SHORT, KEY_TYPE_RSA},
        {"RSA", NULL, 2048, 0, KEY_TYPE_RSA},
        {"EC", "P-521", 0, 0, KEY_TYPE_P521},
        {"EC", "P-224", 0, 0, KEY_TYPE_OTHER_EC},
        {"EC", "brainpoolP256r1", 0, 0, KEY_TYPE_OTHER_EC},
        {"EC", "P-192", 0, UPSTREAM_KEY_WEAK, KEY_TYPE_NONE},
        {"SM2", NULL, 0, 0, KEY_TYPE_SM2},
        {"ED25519", NULL, 0, 0, KEY_TYPE_ED25519},
        {"X25519", NULL, 0, 0, KEY_TYPE_NONE},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        EVP_PKEY *key = row[i].bits    ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", row[i].bits)
                        : row[i].curve ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", row[i].curve)
                                       : EVP_PKEY_Q_keygen(NULL, NULL, row[i].type);
        struct upstream *upstream = read_leaf(&(struct recipe){.more = {GOOD_SAN}, .key = key});

        if (upstream->flags != row[i].flags || upstream->key_type != row[i].key_type)
            fail_msg("row %zu: %#x, %s", i, upstream->flags, key_type_name(upstream->key_type));
        upstream_unref(upstream);
        EVP_PKEY_free(key);
    }
}

static void explicit_curve(void **state)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");

    (void)state;
    assert_int_equal(EVP_PKEY_set_utf8_string_param(key, "encoding", "explicit"), 1);
    assert_flags(&(struct recipe){.more = {GOOD_SAN}, .key = key}, UPSTREAM_KEY_WEAK);
    EVP_PKEY_free(key);
}

/* ---- names ---- */

/* The names as one text, for comparing. */
static const char *all_names(const struct upstream *upstream)
{
    static char out[2048];
    char text[256];

    out[0] = '\0';
    for (size_t i = 0; i < upstream->name_count; i++) {
        if (i)
            strcat(out, ",");
        strcat(out, name_text(&upstream->names[i], text, sizeof(text)));
    }
    return out;
}

static void san_names(void **state)
{
    static const struct {
        const char *san;
        const char *names;
        unsigned flags;
    } row[] = {
        {"DNS:a.example,DNS:b.example,DNS:A.Example,IP:192.0.2.1,IP:192.0.2.1,DNS:b.example",
         "a.example,b.example,192.0.2.1", 0},
        {"DNS:*.example.org,DNS:f*.example.org,DNS:*.*.example.org,DNS:*,DNS:*.com,DNS:*.github.io",
         "*.example.org,*.github.io", 0},
        {"email:a@example.org,URI:https://example.org/,DNS:a.example,RID:1.2.3.4", "a.example", 0},
        {"DNS:a b.example,DNS:a.example.,DNS:1.2.3.4,DNS:.,DNS:a..b,DNS:_a.example", "_a.example",
         0},
        {"email:a@example.org", "", UPSTREAM_NO_NAMES},
        {"DNS:*.co.uk", "", UPSTREAM_NO_NAMES},
        {"DER:3000", "", UPSTREAM_NO_NAMES},
        {"DER:3008820261008202612e", "", UPSTREAM_NO_NAMES}, /* "a\0" and "a." */
        {"DER:30098703010203870401020304", NULL, 0},         /* longer than it says */
        {"DER:300b8703010203870401020304", "1.2.3.4", 0},    /* three octets are none */
        {"DER:300587030a0000", "", UPSTREAM_NO_NAMES},
        {"DER:300482020000", "", UPSTREAM_NO_NAMES},
        {"DER:3003820161", "a", 0},
        {"DER:300320820161", NULL, 0},
        {"DER:3003a20161", NULL, 0}, /* constructed dNSName */
        {"DER:3003890161", NULL, 0}, /* no such choice */
        {"DER:30030c0161", NULL, 0},
        {"DER:30038202", NULL, 0},
        {"DER:30038201610500", NULL, 0},
        {"DER:3080820161", NULL, 0},
        /* kinds of names that nobody copies have to be in their form all the same */
        {"DER:300da00806022a03a0020500820161", "a", 0},  /* otherName */
        {"DER:300da00806022a03a0020501820161", NULL, 0}, /* its NULL says something */
        {"DER:3009a00406022a03820161", NULL, 0},         /* no value */
        {"DER:3007a4023000820161", "a", 0},              /* directoryName */
        {"DER:3007a4023100820161", NULL, 0},
        {"DER:3005a300820161", "a", 0},           /* x400Address */
        {"DER:300aa505a1030c0162820161", "a", 0}, /* ediPartyName */
        {"DER:300fa50aa0030c0161a1030c0162820161", "a", 0},
        {"DER:300aa505a0030c0161820161", NULL, 0}, /* without partyName */
        {"DER:300aa505a103160162820161", NULL, 0},
        {"DER:3006880180820161", NULL, 0}, /* registeredID */
        {"DER:0403820161", NULL, 0},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        static const struct attribute cn[] = {{"CN", V_ASN1_UTF8STRING, "cn.example", 0, false}};
        struct bytes der = make_leaf(&(struct recipe){
            .subject = cn, .subject_count = 1, .more = {{"subjectAltName", row[i].san}}});
        struct upstream *upstream = NULL;
        struct why why = {{0}};
        enum leafd_err err = upstream_read(der, &upstream, &why);

        if (err != (row[i].names ? LEAFD_OK : LEAFD_UNSUPPORTED))
            fail_msg("%s: %s", row[i].san, err_name(err));
        if (row[i].names) {
            assert_string_equal(all_names(upstream), row[i].names);
            if (upstream->flags != row[i].flags)
                fail_msg("%s: flags %#x", row[i].san, upstream->flags);
        } else {
            assert_non_null(strstr(why.text, "unreadable"));
        }
        upstream_unref(upstream);
        free((void *)der.data);
    }
}

static void dropped_names_are_remembered(void **state)
{
    static const struct {
        const char *san;
        bool has_dns_names;
    } row[] = {
        {"DNS:a.example", true},
        {"DNS:*.co.uk,IP:192.0.2.1", true},
        {"IP:192.0.2.1,email:a@example.org", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct bytes der = make_leaf(&(struct recipe){.more = {{"subjectAltName", row[i].san}}});
        struct upstream *upstream = NULL;

        assert_int_equal(upstream_read(der, &upstream, NULL), LEAFD_OK);
        assert_int_equal(upstream->name_count, 1);
        assert_int_equal(upstream->has_dns_names, row[i].has_dns_names);
        upstream_unref(upstream);
        free((void *)der.data);
    }
}

static struct bytes san_of_count(unsigned count, unsigned differing)
{
    char *text = malloc(count * 16 + 32);
    char *at = text;
    struct bytes der;

    for (unsigned i = 0; i < count; i++)
        at += sprintf(at, "%sDNS:n%u", i ? "," : "", i % differing);
    der = make_leaf(&(struct recipe){.more = {{"subjectAltName", text}}});
    free(text);
    return der;
}

static void many_names(void **state)
{
    struct upstream *upstream = NULL;
    struct bytes der = san_of_count(4000, 2500);
    struct why why;

    (void)state;
    assert_int_equal(upstream_read(der, &upstream, NULL), LEAFD_OK);
    assert_int_equal(upstream->name_count, 2500);
    for (unsigned i = 0; i < 2500; i++) {
        char text[16];

        snprintf(text, sizeof(text), "n%u", i);
        assert_true(bytes_equal(name_bytes(&upstream->names[i]), bytes_of(text)));
    }
    upstream_unref(upstream);
    free((void *)der.data);
    der = san_of_count(UPSTREAM_NAMES_MAX + 1, 10);
    upstream = NULL;
    assert_int_equal(upstream_read(der, &upstream, &why), LEAFD_UNSUPPORTED);
    assert_non_null(strstr(why.text, "more than 4096 names"));
    assert_null(upstream);
    free((void *)der.data);
}

static void common_names(void **state)
{
    static const struct {
        struct attribute subject[2];
        size_t count;
        const char *names; /* NULL: none */
    } row[] = {
        {{{"CN", V_ASN1_UTF8STRING, "WWW.Example.org", 0, false}}, 1, "www.example.org"},
        {{{"CN", V_ASN1_PRINTABLESTRING, "www.example.org", 0, false}}, 1, "www.example.org"},
        {{{"CN", V_ASN1_UTF8STRING, "*.example.org", 0, false}}, 1, "*.example.org"},
        {{{"CN", V_ASN1_UTF8STRING, "192.0.2.1", 0, false}}, 1, "192.0.2.1"},
        {{{"CN", V_ASN1_UTF8STRING, "2001:DB8::1", 0, false}}, 1, "2001:db8::1"},
        {{{"O", V_ASN1_UTF8STRING, "Org", 0, false}, {"CN", V_ASN1_UTF8STRING, "a.b", 0, true}},
         2,
         "a.b"},
        {{{"CN", V_ASN1_UTF8STRING, "[::1]", 0, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "192.0.2.1.", 0, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "example.org.", 0, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "Some One", 0, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "bücher.example", 0, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "*.com", 0, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "a.example\0.b", 12, false}}, 1, NULL},
        {{{"CN", V_ASN1_UTF8STRING, "a.example", 0, false},
          {"CN", V_ASN1_UTF8STRING, "b.example", 0, false}},
         2,
         NULL},
        {{{"CN", V_ASN1_UTF8STRING, "a.example", 0, false},
          {"CN", V_ASN1_UTF8STRING, "a.example", 0, false}},
         2,
         NULL},
        {{{"CN", V_ASN1_UTF8STRING, "a.example", 0, false},
          {"CN", V_ASN1_UTF8STRING, "Some One", 0, true}},
         2,
         NULL},
        {{{"O", V_ASN1_UTF8STRING, "a.example", 0, false}}, 1, NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct upstream *upstream =
            read_leaf(&(struct recipe){.subject = row[i].subject, .subject_count = row[i].count});

        if (strcmp(all_names(upstream), row[i].names ? row[i].names : "") != 0 ||
            upstream->flags != (row[i].names ? UPSTREAM_CN_ONLY : UPSTREAM_NO_NAMES))
            fail_msg("row %zu: \"%s\", %#x", i, all_names(upstream), upstream->flags);
        upstream_unref(upstream);
    }
}

/* ---- subjects ---- */

/* The rewritten subject as "CN=12:text+O=…/…", the number being the string type's tag. */
static const char *subject_text(const struct upstream *upstream)
{
    static char out[4096];
    const uint8_t *at = upstream->subject.data;
    X509_NAME *name = d2i_X509_NAME(NULL, &at, (long)upstream->subject.len);
    char *end = out;
    int set = 0;

    assert_non_null(name);
    assert_ptr_equal(at, upstream->subject.data + upstream->subject.len);
    assert_true(cert_name_is_strict(upstream->subject));
    *end = '\0';
    for (int i = 0; i < X509_NAME_entry_count(name); i++) {
        X509_NAME_ENTRY *entry = X509_NAME_get_entry(name, i);
        const ASN1_STRING *value = X509_NAME_ENTRY_get_data(entry);

        end += sprintf(end, "%s%s=%d:%.*s",
                       i == 0                              ? ""
                       : X509_NAME_ENTRY_set(entry) == set ? "+"
                                                           : "/",
                       OBJ_nid2sn(OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry))),
                       ASN1_STRING_type(value), ASN1_STRING_length(value),
                       (const char *)ASN1_STRING_get0_data(value));
        set = X509_NAME_ENTRY_set(entry);
    }
    X509_NAME_free(name);
    return out;
}

static void subjects(void **state)
{
    static const struct {
        struct attribute subject[3];
        size_t count;
        const char *text;
        unsigned flags;
    } row[] = {
        {{{"C", V_ASN1_PRINTABLESTRING, "DE", 0, false},
          {"O", V_ASN1_PRINTABLESTRING, "Org", 0, false},
          {"CN", V_ASN1_IA5STRING, "a.example", 0, false}},
         3,
         "C=19:DE/O=12:Org/CN=12:a.example",
         0},
        {{{"C", V_ASN1_UTF8STRING, "DE", 0, false},
          {"serialNumber", V_ASN1_UTF8STRING, "HRB 1", 0, false}},
         2,
         "C=19:DE/serialNumber=19:HRB 1",
         0},
        {{{"C", V_ASN1_UTF8STRING, "D_", 0, false},
          {"serialNumber", V_ASN1_UTF8STRING, "\xc3\xbc", 0, false}},
         2,
         "",
         0},
        {{{"O", V_ASN1_UTF8STRING, "Zoë ✓ 😀", 0, false}}, 1, "O=12:Zoë ✓ 😀", 0},
        {{{"O", V_ASN1_T61STRING, "Plain", 0, false}}, 1, "O=12:Plain", UPSTREAM_ODD_FORMS},
        {{{"O", V_ASN1_T61STRING, "M\xfcller", 0, false}}, 1, "", UPSTREAM_ODD_FORMS},
        {{{"O", V_ASN1_BMPSTRING, "\0M\0\xfc\x20\xac", 6, false}},
         1,
         "O=12:Mü€",
         UPSTREAM_ODD_FORMS},
        {{{"O", V_ASN1_UNIVERSALSTRING, "\0\0\0M\0\1\xf6\0", 8, false}},
         1,
         "O=12:M😀",
         UPSTREAM_ODD_FORMS},
        {{{"O", V_ASN1_BMPSTRING, "\0M\0\0", 4, false}}, 1, "", UPSTREAM_ODD_FORMS},
        {{{"O", V_ASN1_UTF8STRING, "a\0b", 3, false}}, 1, "", 0},
        {{{"O", V_ASN1_UTF8STRING, "a\nb", 0, false}}, 1, "", 0},
        {{{"O", V_ASN1_UTF8STRING, "a\x7f", 0, false}}, 1, "", 0},
        {{{"O", V_ASN1_UTF8STRING, "a\xc2\x85", 0, false}}, 1, "", 0}, /* C1 control */
        {{{"O", V_ASN1_NUMERICSTRING, "12 3", 0, false}}, 1, "O=12:12 3", 0},
        {{{"emailAddress", V_ASN1_IA5STRING, "a@example.org", 0, false},
          {"O", V_ASN1_UTF8STRING, "Org", 0, true}},
         2,
         "O=12:Org",
         0},
        {{{"emailAddress", V_ASN1_IA5STRING, "a@example.org", 0, false}}, 1, "", 0},
        /* one RDN is sorted as it will be written */
        {{{"OU", V_ASN1_UTF8STRING, "Unit", 0, false},
          {"CN", V_ASN1_UTF8STRING, "Longer than it", 0, true},
          {"O", V_ASN1_UTF8STRING, "Org", 0, false}},
         3,
         "OU=12:Unit+CN=12:Longer than it/O=12:Org",
         0},
        {{{"O", V_ASN1_BIT_STRING, "bits", 0, false}}, 1, "", UPSTREAM_ODD_FORMS},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct upstream *upstream = read_leaf(&(struct recipe){
            .subject = row[i].subject, .subject_count = row[i].count, .more = {GOOD_SAN}});

        if (strcmp(subject_text(upstream), row[i].text) != 0 || upstream->flags != row[i].flags)
            fail_msg("row %zu: \"%s\", %#x", i, subject_text(upstream), upstream->flags);
        upstream_unref(upstream);
    }
}

/* Strings that OpenSSL would not write: the octets of O=aaaa are replaced in the finished leaf. */
static void malformed_strings(void **state)
{
    static const struct attribute subject[] = {{"O", V_ASN1_UTF8STRING, "aaaa", 0, false}};
    static const char *const value[] = {
        "\x0c\x04\xc0\xaf..",       /* over-long */
        "\x0c\x04...\xc3",          /* cut */
        "\x0c\x04.\xed\xa0\x80",    /* a surrogate */
        "\x0c\x04\xf4\x90\x80\x80", /* above U+10FFFF */
        "\x0c\x04\x80...",          "\x0c\x04\xff...", "\x13\x04...\x80",
    };
    struct bytes der =
        make_leaf(&(struct recipe){.subject = subject, .subject_count = 1, .more = {GOOD_SAN}});
    uint8_t *found = memmem(der.data, der.len,
                            "\x0c\x04"
                            "aaaa",
                            6);

    (void)state;
    assert_non_null(found);
    for (size_t i = 0; i < COUNT(value); i++) {
        struct upstream *upstream = NULL;

        memcpy(found, value[i], 6);
        assert_int_equal(upstream_read(der, &upstream, NULL), LEAFD_OK);
        assert_string_equal(subject_text(upstream), "");
        assert_int_equal(upstream->flags, UPSTREAM_ODD_FORMS);
        upstream_unref(upstream);
    }
    free((void *)der.data);
}

static void subject_bounds(void **state)
{
    struct attribute subject[SUBJECT_TEST_MAX];
    char value[514];
    struct upstream *upstream;

    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';

    /* 512 octets are good, 513 are not, and then nothing is left */
    for (int len = 512; len <= 513; len++) {
        subject[0] = (struct attribute){"O", V_ASN1_UTF8STRING, "Org", 0, false};
        subject[1] = (struct attribute){"OU", V_ASN1_UTF8STRING, value, len, false};
        upstream =
            read_leaf(&(struct recipe){.subject = subject, .subject_count = 2, .more = {GOOD_SAN}});
        assert_int_equal(upstream->subject.len > 512, len == 512);
        assert_int_equal(upstream->subject.len == 2, len == 513);
        upstream_unref(upstream);
    }
    /* 32 RDNs, and 33 */
    for (size_t count = 32; count <= 33; count++) {
        for (size_t i = 0; i < count; i++)
            subject[i] = (struct attribute){"OU", V_ASN1_UTF8STRING, "u", 0, false};
        upstream = read_leaf(
            &(struct recipe){.subject = subject, .subject_count = count, .more = {GOOD_SAN}});
        assert_int_equal(upstream->subject.len == 2, count == 33);
        upstream_unref(upstream);
    }
    /* in all: 4 of 490 octets with their heads are under 2 KiB, 5 are not */
    for (size_t count = 4; count <= 5; count++) {
        for (size_t i = 0; i < count; i++)
            subject[i] = (struct attribute){"OU", V_ASN1_UTF8STRING, value, 490, false};
        upstream = read_leaf(
            &(struct recipe){.subject = subject, .subject_count = count, .more = {GOOD_SAN}});
        assert_int_equal(upstream->subject.len == 2, count == 5);
        assert_true(upstream->subject.len <= UPSTREAM_SUBJECT_MAX);
        upstream_unref(upstream);
    }
    /* many attributes of one RDN */
    for (size_t i = 0; i < SUBJECT_TEST_MAX; i++)
        subject[i] = (struct attribute){"OU", V_ASN1_UTF8STRING, value, (int)i + 1, i > 0};
    upstream = read_leaf(&(struct recipe){
        .subject = subject, .subject_count = SUBJECT_TEST_MAX, .more = {GOOD_SAN}});
    assert_int_equal(upstream->subject.len, 2);
    upstream_unref(upstream);
    upstream =
        read_leaf(&(struct recipe){.subject = subject, .subject_count = 40, .more = {GOOD_SAN}});
    assert_true(upstream->subject.len > 2);
    assert_true(cert_name_is_strict(upstream->subject));
    upstream_unref(upstream);
}

static int make_keys(void **state)
{
    (void)state;
    p256_key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    rsa_key = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    return p256_key && rsa_key ? 0 : -1;
}

static int free_keys(void **state)
{
    (void)state;
    EVP_PKEY_free(p256_key);
    EVP_PKEY_free(rsa_key);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_leaf),
        cmocka_unit_test(no_certificates),
        cmocka_unit_test(flags_of_extensions),
        cmocka_unit_test(duplicated_extensions),
        cmocka_unit_test(flags_of_fields),
        cmocka_unit_test(weak_signatures),
        cmocka_unit_test(two_algorithms),
        cmocka_unit_test(keys),
        cmocka_unit_test(explicit_curve),
        cmocka_unit_test(san_names),
        cmocka_unit_test(dropped_names_are_remembered),
        cmocka_unit_test(many_names),
        cmocka_unit_test(common_names),
        cmocka_unit_test(subjects),
        cmocka_unit_test(malformed_strings),
        cmocka_unit_test(subject_bounds),
    };

    return cmocka_run_group_tests(tests, make_keys, free_keys);
}
