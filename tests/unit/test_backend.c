/* SPDX-License-Identifier: Apache-2.0 */
/* Backends: key files; the native one over the fake module (tests/lib/fake_pkcs11.c), where each
 * failure can be made; and over a real SoftHSM token, when there is SoftHSM. */
#include "config.h"

#include "pkcs11/backend.h"
#include "pkcs11/ca_make.h"
#include "pkcs11/ca_request.h"
#include "pkcs11/pin.h"
#include "pkcs11/token_probe.h"
#include "pkcs11/verify_rule.h"
#include "policy/ca_files.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum key {
    KEY_P256,
    KEY_P256_OTHER,
    KEY_P384,
    KEY_RSA,
    KEY_RSA_OTHER,
    KEY_RSA_PSS, /* rsaEncryption, used with ca.rsa_padding: pss */
    KEY_PSS,     /* id-RSASSA-PSS */
    KEY_ED25519,
    KEY_ED25519_OTHER,
    KEYS
};

/* Made once: keys, their files, and a CA certificate for each. */
static char dir[] = "/tmp/test_backend.XXXXXX";
static struct {
    char key_path[KEYS][96];
    struct ca *ca[KEYS];
    char control[96];
    char counters[96];
    char module[512];
} all;

/* One test's configuration. */
struct fixture {
    struct conf conf;
    struct conf_env env;
    struct ca_set *cas;
    struct secret pin;
    struct backend *backend;
    struct why why;
    char uri[128];
};

/* ---- keys and certificates ---- */

static EVP_PKEY *make_pss_key(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
    EVP_PKEY *key = NULL;

    assert_int_equal(EVP_PKEY_keygen_init(ctx), 1);
    assert_int_equal(EVP_PKEY_keygen(ctx, &key), 1);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *make_key(enum key key)
{
    switch (key) {
    case KEY_P256:
    case KEY_P256_OTHER:
        return EVP_EC_gen("P-256");
    case KEY_P384:
        return EVP_EC_gen("P-384");
    case KEY_RSA:
    case KEY_RSA_OTHER:
    case KEY_RSA_PSS:
        return EVP_RSA_gen(2048);
    case KEY_PSS:
        return make_pss_key();
    default:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    }
}

static X509 *make_certificate(EVP_PKEY *key, EVP_PKEY *signer, const EVP_MD *md)
{
    X509 *cert = X509_new();
    X509_NAME *name = X509_get_subject_name(cert);
    X509V3_CTX ctx;
    static const struct {
        int nid;
        const char *value;
    } rows[] = {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                {NID_key_usage, "critical,keyCertSign,cRLSign"},
                {NID_subject_key_identifier, "hash"}};

    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 17);
    X509_gmtime_adj(X509_getm_notBefore(cert), -86400);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)"test CA", -1, -1,
                               0);
    X509_set_issuer_name(cert, name);
    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, rows[i].nid, rows[i].value);

        assert_int_equal(X509_add_ext(cert, extension, -1), 1);
        X509_EXTENSION_free(extension);
    }
    assert_true(X509_sign(cert, signer, md) > 0);
    return cert;
}

static struct ca *make_ca(EVP_PKEY *key, const EVP_MD *md)
{
    X509 *cert = make_certificate(key, key, md);
    unsigned char *der = NULL;
    int len = i2d_X509(cert, &der);
    struct ca *ca;
    struct why why = {""};

    if (ca_read((struct bytes){der, (size_t)len}, 0, false, &ca, &why) != LEAFD_OK)
        fail_msg("%s", why.text);
    OPENSSL_free(der);
    X509_free(cert);
    return ca;
}

static void write_key(const char *path, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
}

static int make_all(void **state)
{
    const char *build = getenv("top_builddir");

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(all.control, sizeof(all.control), "%s/control", dir);
    snprintf(all.module, sizeof(all.module), "%s/tests/lib/fake_pkcs11.so", build ? build : ".");
    for (int i = 0; i < KEYS; i++) {
        EVP_PKEY *key = make_key((enum key)i);

        snprintf(all.key_path[i], sizeof(all.key_path[i]), "%s/key%d.pem", dir, i);
        write_key(all.key_path[i], key);
        all.ca[i] = make_ca(key, i == KEY_P384                   ? EVP_sha384()
                                 : EVP_PKEY_is_a(key, "ED25519") ? NULL
                                                                 : EVP_sha256());
        if (i == KEY_RSA_PSS)
            assert_int_equal(ca_use_pss(all.ca[i], NULL), LEAFD_OK);
        EVP_PKEY_free(key);
    }
    return 0;
}

static int remove_all(void **state)
{
    char command[128];

    (void)state;
    for (int i = 0; i < KEYS; i++)
        ca_unref(all.ca[i]);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* ---- fixtures ---- */

static int fixture_new(void **state)
{
    static unsigned number;
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(all.counters, sizeof(all.counters), "%s/counters.%u", dir, number++);
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=ca;type=private");
    fixture->env = (struct conf_env){(char *)"FAKE_PKCS11_CONTROL", all.control};
    fixture->conf = (struct conf){
        .ca_count = 1,
        .ca = {{(char *)"ca.pem", fixture->uri}},
        .token_count = 1,
        .token[0].module = all.module,
        .token[0].env = &fixture->env,
        .token[0].env_count = 1,
        .token[0].sessions = 4,
        .token[0].timeout_ms = 5000,
    };
    *state = fixture;
    return 0;
}

static int fixture_free(void **state)
{
    struct fixture *fixture = *state;

    backend_close(fixture->backend);
    ca_set_unref(fixture->cas);
    secret_clear(&fixture->pin);
    free(fixture);
    return 0;
}

static void set_ca(struct fixture *fixture, enum key key)
{
    const struct ca *list[] = {all.ca[key]};

    ca_set_unref(fixture->cas);
    fixture->cas = ca_set_new(list, 1, NULL);
    assert_non_null(fixture->cas);
}

static void set_pin(struct fixture *fixture, const char *pin)
{
    assert_int_equal(secret_set(&fixture->pin, bytes_of(pin)), LEAFD_OK);
}

/* Writes the control file: what is given, and where the counters go. */
__attribute__((format(printf, 1, 2))) static void control(const char *format, ...)
{
    char next[128];
    va_list args;
    FILE *file;

    snprintf(next, sizeof(next), "%s.next", all.control);
    file = fopen(next, "w");
    assert_non_null(file);
    va_start(args, format);
    vfprintf(file, format, args);
    va_end(args);
    fprintf(file, "\ncounters = %s\n", all.counters);
    fclose(file);
    assert_int_equal(rename(next, all.control), 0);
}

static unsigned long counter(const char *name)
{
    FILE *file = fopen(all.counters, "r");
    char line[64];
    char found[32];
    unsigned long value;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%31s %lu", found, &value) == 2 && strcmp(found, name) == 0) {
            fclose(file);
            return value;
        }
    }
    fclose(file);
    fail_msg("no counter %s", name);
    return 0;
}

static enum leafd_err open_backend(struct fixture *fixture)
{
    fixture->why.text[0] = '\0';
    return backend_open(&fixture->conf, 0, fixture->cas, &fixture->pin, &fixture->backend,
                        &fixture->why);
}

/* Good, or the test ends with the reason. */
static void must_open(struct fixture *fixture)
{
    enum leafd_err err = open_backend(fixture);

    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
}

/* It must fail so, with a sentence that has `text`. */
static void must_fail(struct fixture *fixture, enum leafd_err wanted, const char *text)
{
    enum leafd_err err = open_backend(fixture);

    if (err != wanted || !strstr(fixture->why.text, text))
        fail_msg("%s: %s; wanted %s with \"%s\"", err_name(err), fixture->why.text,
                 err_name(wanted), text);
    assert_null(fixture->backend);
}

/* The standard start: one key on one token, PIN 1234. With a backend open (which borrows CA and
 * PIN) only the module gets to know of it. */
static void simple(struct fixture *fixture, enum key key, const char *more)
{
    if (!fixture->backend) {
        set_ca(fixture, key);
        set_pin(fixture, "1234");
    }
    control("key = label=ca id=01 file=%s\n%s", all.key_path[key], more);
}

/* The CAs' keys are probed, each number of lanes for so long. */
static void must_probe(struct fixture *fixture, unsigned each_ms, struct token_probe *ret)
{
    struct token_probe_options options = {.each_ms = each_ms, .sessions = 4};

    if (token_probe(&fixture->conf, fixture->cas, &fixture->pin, &options, ret, &fixture->why) !=
        LEAFD_OK)
        fail_msg("%s", fixture->why.text);
    if (ret->err != LEAFD_OK)
        fail_msg("%s", ret->why.text);
}

/* ---- signing ---- */

static bool verifies(const struct ca *ca, struct bytes tbs, struct bytes signature)
{
    const char *md = ca->algorithm == SIG_ED25519        ? NULL
                     : ca->algorithm == SIG_ECDSA_SHA384 ? "SHA384"
                                                         : "SHA256";
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_ctx = NULL;
    bool ok = EVP_DigestVerifyInit_ex(ctx, &key_ctx, md, NULL, NULL, ca->public_key, NULL) == 1;

    if (ok && ca->algorithm == SIG_RSA_PSS_SHA256)
        ok = EVP_PKEY_CTX_set_rsa_padding(key_ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_mgf1_md(key_ctx, EVP_sha256()) == 1 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(key_ctx, 32) == 1;
    ok = ok && EVP_DigestVerify(ctx, signature.data, signature.len, tbs.data, tbs.len) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

static enum leafd_err sign(struct backend_lane *lane, size_t index, const struct ca *ca,
                           struct why *why)
{
    static _Atomic unsigned number;
    uint8_t signature[1024];
    char tbs[700];
    size_t len = 0;
    enum leafd_err err;

    memset(tbs, 'x', sizeof(tbs));
    snprintf(tbs, sizeof(tbs), "message %u", number++);
    err = backend_lane_sign(lane, index, (struct bytes){(uint8_t *)tbs, sizeof(tbs)}, signature,
                            sizeof(signature), &len, why);
    if (err == LEAFD_OK &&
        !verifies(ca, (struct bytes){(uint8_t *)tbs, sizeof(tbs)}, (struct bytes){signature, len}))
        return LEAFD_MALFORMED;
    return err;
}

static struct backend_lane *lane_of(struct fixture *fixture)
{
    struct backend_lane *lane;
    enum leafd_err err = backend_lane_open(fixture->backend, &lane, &fixture->why);

    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
    return lane;
}

static void must_sign(struct fixture *fixture, unsigned times)
{
    struct backend_lane *lane = lane_of(fixture);

    for (unsigned i = 0; i < times; i++) {
        enum leafd_err err = sign(lane, 0, fixture->cas->ca[0], &fixture->why);

        if (err != LEAFD_OK)
            fail_msg("signature %u: %s: %s", i, err_name(err), fixture->why.text);
    }
    backend_lane_close(lane);
}

struct crowd {
    struct fixture *fixture;
    unsigned times;
    _Atomic unsigned failures;
};

static void *sign_in_crowd(void *ctx)
{
    struct crowd *crowd = ctx;
    struct backend_lane *lane;

    if (backend_lane_open(crowd->fixture->backend, &lane, NULL) != LEAFD_OK) {
        crowd->failures++;
        return NULL;
    }
    for (unsigned i = 0; i < crowd->times; i++)
        if (sign(lane, 0, crowd->fixture->cas->ca[0], NULL) != LEAFD_OK)
            crowd->failures++;
    backend_lane_close(lane);
    return NULL;
}

/* `threads` lanes at once; returns how many signatures failed. */
static unsigned sign_together(struct fixture *fixture, unsigned threads, unsigned times)
{
    struct crowd crowd = {.fixture = fixture, .times = times};
    pthread_t thread[16];

    assert_true(threads <= 16);
    for (unsigned i = 0; i < threads; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, sign_in_crowd, &crowd), 0);
    for (unsigned i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    return crowd.failures;
}

static struct backend_counters count(struct fixture *fixture)
{
    struct backend_counters counters;

    backend_count(fixture->backend, &counters);
    return counters;
}

/* ---- key files ---- */

static void file_conf(struct fixture *fixture, enum key key, enum key ca)
{
    set_ca(fixture, ca);
    fixture->conf.token[0].access = CONF_ACCESS_FILE;
    fixture->conf.insecure_file_key = true;
    fixture->conf.ca[0].key = all.key_path[key];
}

static void test_file_signs(void **state)
{
    struct fixture *fixture = *state;

    for (int i = 0; i < KEYS; i++) {
        file_conf(fixture, (enum key)i, (enum key)i);
        must_open(fixture);
        assert_int_equal(backend_lanes(fixture->backend), 4);
        must_sign(fixture, 5);
        assert_int_equal(sign_together(fixture, 4, 5), 0);
        assert_int_equal(backend_check(fixture->backend, NULL), LEAFD_OK);
        backend_close(fixture->backend);
        fixture->backend = NULL;
    }
}

static void test_file_is_refused_by_default(void **state)
{
    struct fixture *fixture = *state;

    file_conf(fixture, KEY_P256, KEY_P256);
    fixture->conf.insecure_file_key = false;
    must_fail(fixture, LEAFD_CONFIG, "--insecure-file-key");
}

static void test_file_refusals(void **state)
{
    struct fixture *fixture = *state;
    char path[96];
    FILE *file;

    file_conf(fixture, KEY_P256_OTHER, KEY_P256);
    must_fail(fixture, LEAFD_CONFIG, "not the key of the CA certificate");
    file_conf(fixture, KEY_RSA, KEY_P256);
    must_fail(fixture, LEAFD_CONFIG, "not the key of the CA certificate");
    fixture->conf.ca[0].key = (char *)"/nonexistent/key.pem";
    must_fail(fixture, LEAFD_CONFIG, "/nonexistent/key.pem");
    snprintf(path, sizeof(path), "%s/empty", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    fixture->conf.ca[0].key = path;
    must_fail(fixture, LEAFD_CONFIG, "not an unencrypted PEM private key");
}

static void test_lane_bounds(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;
    uint8_t out[8];
    size_t len;

    file_conf(fixture, KEY_P256, KEY_P256);
    must_open(fixture);
    lane = lane_of(fixture);
    assert_int_equal(backend_lane_sign(lane, 1, bytes_of("x"), out, sizeof(out), &len, NULL),
                     LEAFD_INTERNAL);
    assert_int_equal(backend_lane_sign(lane, 0, bytes_of("x"), out, sizeof(out), &len, NULL),
                     LEAFD_TOO_LARGE);
    backend_lane_close(lane);
}

/* ---- the native backend: starts that succeed ---- */

static void test_native_signs(void **state)
{
    static const enum key keys[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_RSA_PSS, KEY_PSS, KEY_ED25519};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        simple(fixture, keys[i], "");
        must_open(fixture);
        assert_int_equal(backend_lanes(fixture->backend), 4);
        must_sign(fixture, 20);
        assert_int_equal(sign_together(fixture, 4, 20), 0);
        assert_int_equal(count(fixture).logins, 1);
        assert_int_equal(count(fixture).retries, 0);
        assert_int_equal(backend_check(fixture->backend, NULL), LEAFD_OK);
        backend_close(fixture->backend);
        fixture->backend = NULL;
        assert_int_equal(counter("login"), i + 1);
        assert_int_equal(counter("sessions_open"), 0);
        assert_int_equal(counter("race"), 0);
    }
}

static void close_it(struct fixture *fixture)
{
    backend_close(fixture->backend);
    fixture->backend = NULL;
}

/* The digest goes to the token where it can be, else the message. */
static void test_native_mechanisms(void **state)
{
    static const struct {
        enum key key;
        const char *gone;
        const char *mechanism; /* what signs; without CKM_ at its front the refusal's words */
    } row[] = {
        {KEY_RSA, "", "CKM_RSA_PKCS"},
        {KEY_RSA, "CKM_RSA_PKCS", "CKM_SHA256_RSA_PKCS"},
        {KEY_RSA, "CKM_RSA_PKCS CKM_SHA256_RSA_PKCS",
         "neither CKM_RSA_PKCS nor CKM_SHA256_RSA_PKCS"},
        {KEY_RSA_PSS, "CKM_RSA_PKCS CKM_SHA256_RSA_PKCS", "CKM_RSA_PKCS_PSS"},
        {KEY_RSA_PSS, "CKM_RSA_PKCS_PSS", "CKM_SHA256_RSA_PKCS_PSS"},
        {KEY_PSS, "CKM_RSA_PKCS_PSS", "CKM_SHA256_RSA_PKCS_PSS"},
        {KEY_RSA_PSS, "CKM_RSA_PKCS_PSS CKM_SHA256_RSA_PKCS_PSS",
         "neither CKM_RSA_PKCS_PSS nor CKM_SHA256_RSA_PKCS_PSS"},
        {KEY_P256, "CKM_ECDSA", "CKM_ECDSA_SHA256"},
        {KEY_P384, "CKM_ECDSA", "CKM_ECDSA_SHA384"},
        {KEY_P384, "CKM_ECDSA CKM_ECDSA_SHA384", "neither CKM_ECDSA nor CKM_ECDSA_SHA384"},
        {KEY_ED25519, "CKM_ECDSA", "CKM_EDDSA"},
        {KEY_ED25519, "CKM_EDDSA", "does not sign with CKM_EDDSA"},
    };
    struct fixture *fixture = *state;
    struct token_probe report;

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        char line[128];

        snprintf(line, sizeof(line), "no_mechanism = %s", row[i].gone);
        simple(fixture, row[i].key, line);
        if (strncmp(row[i].mechanism, "CKM_", 4) != 0) {
            must_fail(fixture, LEAFD_CONFIG, row[i].mechanism);
            continue;
        }
        must_open(fixture);
        must_sign(fixture, 3);
        close_it(fixture);
        must_probe(fixture, 1, &report);
        assert_string_equal(report.key[0].key.mechanism, row[i].mechanism);
    }
}

static void test_native_makes_certificates(void **state)
{
    static const enum key keys[] = {KEY_P256, KEY_RSA, KEY_RSA_PSS, KEY_ED25519};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const struct ca *ca = all.ca[keys[i]];
        const X509_ALGOR *algorithm;
        unsigned char *der = NULL;
        EVP_PKEY *key;
        X509 *cert;
        int len;

        simple(fixture, keys[i], "");
        must_open(fixture);
        key = backend_key(fixture->backend, 0);
        assert_non_null(key);
        assert_null(backend_key(fixture->backend, 1));
        cert = make_certificate(ca->public_key, key, keys[i] == KEY_ED25519 ? NULL : EVP_sha256());
        assert_int_equal(X509_verify(cert, ca->public_key), 1);
        X509_get0_signature(NULL, &algorithm, cert);
        len = i2d_X509_ALGOR(algorithm, &der);
        assert_true(bytes_equal((struct bytes){der, (size_t)len}, ca->algorithm_der));
        OPENSSL_free(der);
        X509_free(cert);
        EVP_PKEY_free(key);
        close_it(fixture);
    }
}

/* By name and by number alike. */
static bool takes_padding(EVP_PKEY_CTX *ctx, const char *name, int number)
{
    OSSL_PARAM by_name[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, (char *)(uintptr_t)name, 0),
        OSSL_PARAM_construct_end()};
    OSSL_PARAM by_number[] = {OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PAD_MODE, &number),
                              OSSL_PARAM_construct_end()};
    bool taken = EVP_PKEY_CTX_set_params(ctx, by_name) == 1;

    assert_int_equal(EVP_PKEY_CTX_set_params(ctx, by_number) == 1, taken);
    return taken;
}

static bool takes_salt(EVP_PKEY_CTX *ctx, int salt)
{
    OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt),
                           OSSL_PARAM_construct_end()};

    return EVP_PKEY_CTX_set_params(ctx, params) == 1;
}

/* Padding and salt come with the key, and nobody gets another by asking. */
static void test_native_padding_is_the_keys(void **state)
{
    struct fixture *fixture = *state;
    EVP_PKEY_CTX *ctx;
    EVP_MD_CTX *md_ctx;
    EVP_PKEY *key;

    for (int i = 0; i < 2; i++) {
        bool is_pss = i == 1;

        simple(fixture, is_pss ? KEY_RSA_PSS : KEY_RSA, "");
        must_open(fixture);
        key = backend_key(fixture->backend, 0);
        md_ctx = EVP_MD_CTX_new();
        assert_int_equal(EVP_DigestSignInit(md_ctx, &ctx, EVP_sha256(), NULL, key), 1);
        assert_int_equal(takes_padding(ctx, "pss", RSA_PKCS1_PSS_PADDING), is_pss);
        assert_int_equal(takes_padding(ctx, "pkcs1", RSA_PKCS1_PADDING), !is_pss);
        assert_false(takes_padding(ctx, "none", RSA_NO_PADDING));
        assert_int_equal(takes_salt(ctx, 32), is_pss);
        assert_false(takes_salt(ctx, 20));
        assert_false(takes_salt(ctx, RSA_PSS_SALTLEN_MAX));
        EVP_MD_CTX_free(md_ctx);
        md_ctx = EVP_MD_CTX_new();
        assert_int_not_equal(EVP_DigestSignInit(md_ctx, NULL, EVP_sha384(), NULL, key), 1);
        EVP_MD_CTX_free(md_ctx);
        EVP_PKEY_free(key);
        close_it(fixture);
    }
}

/* CKA_EC_POINT in each of its forms. */
static void test_point_forms(void **state)
{
    static const char *const flags[] = {"extractable", "bare-point", "bits-point"};
    static const enum key keys[][2] = {{KEY_ED25519, KEY_ED25519_OTHER},
                                       {KEY_P256, KEY_P256_OTHER}};
    struct fixture *fixture = *state;

    set_pin(fixture, "1234");
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < 3; i++) {
            set_ca(fixture, keys[k][0]);
            control("key = label=ca id=01 file=%s flags=%s", all.key_path[keys[k][0]], flags[i]);
            must_open(fixture);
            must_sign(fixture, 1);
            close_it(fixture);
            control("key = label=ca id=01 file=%s flags=%s", all.key_path[keys[k][1]], flags[i]);
            must_fail(fixture, LEAFD_CONFIG, "is not the key of the CA certificate ca.pem");
        }
    }
}

/* What leafd has no use for may lie beside the CA's key, under its id too. */
static void test_other_keys_beside(void **state)
{
    static const enum key keys[] = {KEY_P256, KEY_RSA, KEY_RSA_PSS, KEY_ED25519};
    struct fixture *fixture = *state;

    set_pin(fixture, "1234");
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        set_ca(fixture, keys[i]);
        control("key = label=ed id=01 file=%s\nkey = label=ca id=02 file=%s\n"
                "key = label=rsa id=03 file=%s\n",
                all.key_path[KEY_ED25519_OTHER], all.key_path[keys[i]],
                all.key_path[KEY_RSA_OTHER]);
        must_open(fixture);
        must_sign(fixture, 2);
        close_it(fixture);
    }
}

static void test_signatures_of_wrong_length(void **state)
{
    static const struct {
        enum key key;
        int longer;
        const char *text;
    } row[] = {
        {KEY_RSA, 1, "a signature of 257 octets where this key gives 256"},
        {KEY_RSA, -1, "a signature of 255 octets"},
        {KEY_RSA_PSS, 1, "a signature of 257 octets"},
        {KEY_RSA_PSS, -256, "a signature of 0 octets"},
        {KEY_ED25519, 1, "C_Sign: CKR_BUFFER_TOO_SMALL"},
        {KEY_ED25519, -1, "a signature of 63 octets"},
        {KEY_ED25519, -64, "a signature of 0 octets"},
        {KEY_P256, -1, "63 octets are no ECDSA signature"},
        {KEY_P256, -64, "0 octets are no ECDSA signature"},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        char line[32];

        snprintf(line, sizeof(line), "longer = %d", row[i].longer);
        simple(fixture, row[i].key, line);
        must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, row[i].text);
    }
}

static void test_native_several_cas(void **state)
{
    struct fixture *fixture = *state;
    const struct ca *list[] = {all.ca[KEY_P256], all.ca[KEY_RSA]};
    struct backend_lane *lane;

    fixture->cas = ca_set_new(list, 2, all.ca[KEY_P384]);
    set_pin(fixture, "1234");
    fixture->conf.ca_count = 2;
    fixture->conf.ca[1] =
        (struct conf_ca){(char *)"two.pem", (char *)"pkcs11:token=second;object=two"};
    fixture->conf.untrusted = CONF_UNTRUSTED_FILE;
    fixture->conf.untrusted_ca =
        (struct conf_ca){(char *)"bad.pem", (char *)"pkcs11:token=leafd;id=%07"};
    control("tokens = leafd second\n"
            "key = label=ca id=01 file=%s\nkey = label=bad id=07 file=%s\n"
            "key = token=1 label=two id=01 file=%s\n",
            all.key_path[KEY_P256], all.key_path[KEY_P384], all.key_path[KEY_RSA]);
    must_open(fixture);
    lane = lane_of(fixture);
    assert_int_equal(sign(lane, 0, all.ca[KEY_P256], NULL), LEAFD_OK);
    assert_int_equal(sign(lane, 1, all.ca[KEY_RSA], NULL), LEAFD_OK);
    assert_int_equal(sign(lane, 2, all.ca[KEY_P384], NULL), LEAFD_OK);
    assert_int_equal(sign(lane, 3, all.ca[KEY_P384], NULL), LEAFD_INTERNAL);
    backend_lane_close(lane);
    assert_int_equal(count(fixture).logins, 2); /* one per token */
}

static void test_native_without_login(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "login_required = no");
    secret_clear(&fixture->pin);
    must_open(fixture);
    must_sign(fixture, 2);
    assert_int_equal(counter("login"), 0);
}

/* ---- starts that fail ---- */

static void test_module_errors(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "");
    fixture->conf.token[0].module = NULL;
    must_fail(fixture, LEAFD_CONFIG, "token.module");
    fixture->conf.token[0].module = (char *)"/nonexistent/module.so";
    must_fail(fixture, LEAFD_CONFIG, "/nonexistent/module.so");
    fixture->conf.token[0].module = all.control;
    must_fail(fixture, LEAFD_CONFIG, "cannot load");
    fixture->conf.token[0].module = (char *)"libcmocka.so.0";
    must_fail(fixture, LEAFD_CONFIG, "libcmocka.so.0");
    fixture->conf.token[0].module = all.module;
    simple(fixture, KEY_P256, "fail.C_Initialize = CKR_GENERAL_ERROR");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "C_Initialize: CKR_GENERAL_ERROR");
    simple(fixture, KEY_P256, "fail.C_GetSlotList = CKR_DEVICE_ERROR");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "C_GetSlotList: CKR_DEVICE_ERROR");
    simple(fixture, KEY_P256, "fail.C_OpenSession = 0x80000001");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "C_OpenSession: CKR 0x80000001");
    simple(fixture, KEY_P256, "fail.C_FindObjects = CKR_DEVICE_ERROR");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "CKR_DEVICE_ERROR");
    simple(fixture, KEY_P256, "fail.C_Sign = CKR_DEVICE_ERROR");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "C_Sign: CKR_DEVICE_ERROR");
    assert_int_equal(counter("sessions_open"), 0);
}

static void test_token_errors(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "tokens = other");
    must_fail(fixture, LEAFD_ABSENT, "the module has \"other\"");
    simple(fixture, KEY_P256, "present = no");
    must_fail(fixture, LEAFD_ABSENT, "no token");
    simple(fixture, KEY_P256, "tokens = leafd leafd");
    must_fail(fixture, LEAFD_CONFIG, "add serial=");
    snprintf(fixture->uri, sizeof(fixture->uri),
             "pkcs11:token=leafd;serial=0000000000000001;object=ca");
    must_open(fixture);
}

static void test_key_errors(void **state)
{
    struct fixture *fixture = *state;

    set_ca(fixture, KEY_P256);
    set_pin(fixture, "1234");
    control("key = label=other id=01 file=%s", all.key_path[KEY_P256]);
    must_fail(fixture, LEAFD_ABSENT, "no private key");
    control("key = label=ca id=01 file=%s\nkey = label=ca id=02ab file=%s", all.key_path[KEY_P256],
            all.key_path[KEY_P256_OTHER]);
    must_fail(fixture, LEAFD_CONFIG, "\"02ab\"");
    control("key = label=ca id=01 file=%s flags=no-sign", all.key_path[KEY_P256]);
    must_fail(fixture, LEAFD_CONFIG, "CKA_SIGN");
    simple(fixture, KEY_P256, "no_mechanism = CKM_ECDSA CKM_ECDSA_SHA256");
    must_fail(fixture, LEAFD_CONFIG, "CKM_ECDSA");
}

static void test_pin_for_each_signature_is_missing(void **state)
{
    struct fixture *fixture = *state;

    set_ca(fixture, KEY_P256);
    control("login_required = no\nkey = label=ca id=01 file=%s flags=always-authenticate",
            all.key_path[KEY_P256]);
    must_fail(fixture, LEAFD_CONFIG, "CKA_ALWAYS_AUTHENTICATE");
}

static void test_key_is_not_the_certificates(void **state)
{
    struct fixture *fixture = *state;

    set_ca(fixture, KEY_P256);
    set_pin(fixture, "1234");
    control("key = label=ca id=01 file=%s", all.key_path[KEY_P256_OTHER]);
    must_fail(fixture, LEAFD_CONFIG, "is not the key of the CA certificate ca.pem");
    control("key = label=ca id=01 file=%s", all.key_path[KEY_RSA]);
    must_fail(fixture, LEAFD_CONFIG, "not the CA certificate's");
    /* nothing to compare: the challenge tells */
    control("key = label=ca id=01 file=%s flags=no-public", all.key_path[KEY_P256_OTHER]);
    must_fail(fixture, LEAFD_CONFIG, "a challenge it signed does not verify");
    control("key = label=ca id=01 file=%s flags=no-public", all.key_path[KEY_P384]);
    must_fail(fixture, LEAFD_CONFIG, "a challenge it signed does not verify");
    /* the public object of one, the private key of another */
    control("key = label=ca id=01 file=%s public=%s", all.key_path[KEY_P256_OTHER],
            all.key_path[KEY_P256]);
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "does not verify");
    for (int i = 0; i < 2; i++) {
        set_ca(fixture, i ? KEY_RSA_PSS : KEY_RSA);
        control("key = label=ca id=01 file=%s", all.key_path[KEY_RSA_OTHER]);
        must_fail(fixture, LEAFD_CONFIG, "is not the key of the CA certificate ca.pem");
    }
    set_ca(fixture, KEY_RSA);
    control("key = label=ca id=01 file=%s flags=no-modulus,no-public", all.key_path[KEY_RSA_OTHER]);
    must_fail(fixture, LEAFD_CONFIG, "a challenge it signed does not verify");
}

static void test_uri_errors_come_first(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "");
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=ca;object=ca");
    fixture->conf.token[0].module = (char *)"/nonexistent/module.so";
    must_fail(fixture, LEAFD_CONFIG, "twice");
}

/* ---- the PIN ---- */

static void test_wrong_pin_is_tried_once(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "");
    set_pin(fixture, "4711-wrong");
    must_fail(fixture, LEAFD_PIN, "CKR_PIN_INCORRECT");
    assert_null(strstr(fixture->why.text, "4711"));
    assert_int_equal(counter("login"), 1);
    for (int i = 0; i < 3; i++) {
        must_fail(fixture, LEAFD_PIN, "not tried again");
        assert_null(strstr(fixture->why.text, "4711"));
    }
    assert_int_equal(counter("login"), 1);
    set_pin(fixture, "1234"); /* the operator has corrected it */
    must_open(fixture);
    assert_int_equal(counter("login"), 2);
}

static void test_pin_flags(void **state)
{
    static const struct {
        const char *flags;
        const char *text;
    } rows[] = {{"locked", "locked"}, {"final-try", "one PIN try left"}, {"no-pin", "no user PIN"}};
    struct fixture *fixture = *state;
    char line[64];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(line, sizeof(line), "pin_flags = %s", rows[i].flags);
        simple(fixture, KEY_P256, line);
        must_fail(fixture, LEAFD_PIN, rows[i].text);
    }
    assert_int_equal(counter("login"), 0);
    simple(fixture, KEY_P256, "pin_flags = count-low"); /* a warning only */
    must_open(fixture);
}

static void test_pin_errors_of_the_token(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "pin = 0815\nfail.C_Login = CKR_PIN_LOCKED");
    set_pin(fixture, "0815");
    must_fail(fixture, LEAFD_PIN, "CKR_PIN_LOCKED");
    simple(fixture, KEY_P256, "pin = 0816\nfail.C_Login = CKR_PIN_EXPIRED");
    set_pin(fixture, "0816");
    must_fail(fixture, LEAFD_PIN, "CKR_PIN_EXPIRED");
    /* not the PIN's fault: the same one may be sent again */
    simple(fixture, KEY_P256, "pin = 0817\nfail.C_Login = CKR_DEVICE_ERROR 1");
    set_pin(fixture, "0817");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "C_Login: CKR_DEVICE_ERROR");
    must_open(fixture);
}

static void test_pin_of_the_uri(void **state)
{
    struct fixture *fixture = *state;
    char path[80];
    FILE *file;

    simple(fixture, KEY_P256, "");
    secret_clear(&fixture->pin);
    must_fail(fixture, LEAFD_PIN, "token.pin_file");
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=ca?pin-value=1234");
    must_open(fixture);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    snprintf(path, sizeof(path), "%s/uri-pin", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("1234\n", file);
    fclose(file);
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=ca?pin-source=file:%s",
             path);
    must_open(fixture);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    /* a configured source goes before it */
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=ca?pin-value=9999");
    set_pin(fixture, "1234");
    must_open(fixture);
    assert_int_equal(counter("login_bad"), 0);
}

/* ---- sessions ---- */

static void test_one_bad_session_costs_nothing(void **state)
{
    static const char *const errors[] = {
        "CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED", "CKR_OPERATION_ACTIVE",
        "CKR_DEVICE_ERROR",           "CKR_GENERAL_ERROR",  "CKR_FUNCTION_FAILED",
        "CKR_DEVICE_MEMORY",          "CKR_HOST_MEMORY",    "0x80000005",
    };
    static const char *const calls[] = {"C_SignInit", "C_Sign"};
    struct fixture *fixture = *state;
    char line[80];
    unsigned retries = 0;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        for (size_t j = 0; j < 2; j++) {
            snprintf(line, sizeof(line), "fail.%s = %s 1", calls[j], errors[i]);
            simple(fixture, KEY_P256, line);
            must_sign(fixture, 3);
            assert_int_equal(count(fixture).retries, ++retries);
        }
    }
    assert_int_equal(count(fixture).logins, 1);
    assert_int_equal(sign_together(fixture, 4, 10), 0);
    assert_true(count(fixture).sessions <= 4);
    assert_int_equal(counter("race"), 0);
}

static void test_what_a_session_cannot_mend(void **state)
{
    static const char *const lines[] = {
        "fail.C_Sign = CKR_SESSION_HANDLE_INVALID 2", "fail.C_SignInit = CKR_DEVICE_ERROR 2",
        "fail.C_SignInit = CKR_USER_NOT_LOGGED_IN 1", "fail.C_SignInit = CKR_KEY_HANDLE_INVALID 1",
        "fail.C_Sign = CKR_DEVICE_REMOVED 1",
    };
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        simple(fixture, KEY_P256, lines[i]);
        assert_int_equal(sign(lane, 0, all.ca[KEY_P256], &fixture->why), LEAFD_TOKEN_UNAVAILABLE);
        assert_non_null(strstr(fixture->why.text, "CKR_"));
        assert_int_equal(sign(lane, 0, all.ca[KEY_P256], &fixture->why), LEAFD_OK);
    }
    backend_lane_close(lane);
    assert_int_equal(count(fixture).logins, 1);
}

static void test_all_sessions_lost(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    simple(fixture, KEY_P256, "session_epoch = 1");
    /* a new session is not logged in: this is for the process that follows */
    assert_int_equal(sign(lane, 0, all.ca[KEY_P256], &fixture->why), LEAFD_TOKEN_UNAVAILABLE);
    backend_lane_close(lane);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    must_open(fixture);
    must_sign(fixture, 2);
    simple(fixture, KEY_P256, "present = no\nsession_epoch = 1");
    assert_int_equal(backend_check(fixture->backend, &fixture->why), LEAFD_TOKEN_UNAVAILABLE);
    assert_non_null(strstr(fixture->why.text, "CKR_TOKEN_NOT_PRESENT"));
}

static void test_session_caps(void **state)
{
    struct fixture *fixture = *state;
    char line[80];

    for (unsigned limit = 1; limit <= 2; limit++) {
        /* the token does not tell: learned from CKR_SESSION_COUNT */
        snprintf(line, sizeof(line), "session_limit = %u\nlatency.C_Sign = 500", limit);
        simple(fixture, KEY_P256, line);
        must_open(fixture);
        assert_int_equal(sign_together(fixture, 8, 10), 0);
        assert_int_equal(backend_lanes(fixture->backend), limit);
        assert_int_equal(count(fixture).sessions, limit);
        backend_close(fixture->backend);
        fixture->backend = NULL;
        /* the token tells */
        snprintf(line, sizeof(line), "session_limit = %u\nmax_sessions = %u", limit, limit);
        simple(fixture, KEY_P256, line);
        must_open(fixture);
        assert_int_equal(backend_lanes(fixture->backend), limit);
        assert_int_equal(sign_together(fixture, 8, 10), 0);
        backend_close(fixture->backend);
        fixture->backend = NULL;
        assert_int_equal(counter("sessions_peak"), limit);
        assert_int_equal(counter("race"), 0);
    }
}

/* The only session holds the login: it is tried again, not closed. */
static void test_only_session_fails_once(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "session_limit = 1");
    must_open(fixture);
    simple(fixture, KEY_P256, "session_limit = 1\nfail.C_Sign = CKR_DEVICE_ERROR 1");
    must_sign(fixture, 2);
    assert_int_equal(count(fixture).retries, 1);
    assert_int_equal(count(fixture).logins, 1);
}

static void test_crowd_with_bad_sessions(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    simple(fixture, KEY_P256,
           "latency.C_Sign = 200\nfail.C_Sign = CKR_SESSION_HANDLE_INVALID 1 40");
    assert_int_equal(sign_together(fixture, 8, 20), 0);
    assert_int_equal(count(fixture).logins, 1);
    assert_int_equal(counter("race"), 0);
}

static void test_module_that_cannot_lock(void **state)
{
    struct fixture *fixture = *state;

    simple(fixture, KEY_P256, "cannot_lock = yes");
    must_open(fixture);
    assert_int_equal(backend_lanes(fixture->backend), 1);
    assert_int_equal(sign_together(fixture, 4, 10), 0);
    assert_int_equal(counter("race"), 0);
    assert_int_equal(counter("sessions_peak"), 1);
}

static void test_text_for_c_initialize(void **state)
{
    struct fixture *fixture = *state;
    char text[] = "configdir='sql:/nowhere' flags=readOnly";

    simple(fixture, KEY_P256, "init_args = configdir='sql:/nowhere' flags=readOnly");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "token.init_args");
    fixture->conf.token[0].init_args = text;
    must_open(fixture);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    simple(fixture, KEY_P256,
           "cannot_lock = yes\ninit_args = configdir='sql:/nowhere' flags=readOnly");
    must_open(fixture);
    assert_int_equal(backend_lanes(fixture->backend), 1);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    simple(fixture, KEY_P256, "");
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "CKR_ARGUMENTS_BAD");
    fixture->conf.token[0].init_args = NULL;
}

static void test_wrong_signature_is_not_released(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    static const enum key keys[] = {KEY_P256, KEY_RSA, KEY_RSA_PSS, KEY_ED25519};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        enum key key = keys[i];

        simple(fixture, key, "");
        must_open(fixture);
        lane = lane_of(fixture);
        simple(fixture, key, "corrupt = 1");
        assert_int_equal(sign(lane, 0, all.ca[key], &fixture->why), LEAFD_INTERNAL);
        assert_int_equal(sign(lane, 0, all.ca[key], &fixture->why), LEAFD_OK);
        backend_lane_close(lane);
        backend_close(fixture->backend);
        fixture->backend = NULL;
    }
}

/* ---- what is not verified at once ---- */

static void must_sign_in_batch(struct fixture *fixture, struct backend_lane *lane, uint64_t batch)
{
    assert_int_equal(sign(lane, 0, all.ca[KEY_P256], &fixture->why), LEAFD_OK);
    assert_int_equal(backend_lane_batch(lane), batch);
    assert_int_equal(backend_lane_is_in_doubt(lane), batch != 0);
}

static void must_disown(struct backend_lane *lane, uint64_t batch, unsigned signatures)
{
    uint64_t disowned;
    unsigned count;

    assert_true(backend_lane_disown(lane, &disowned, &count));
    assert_int_equal(disowned, batch);
    assert_int_equal(count, signatures);
    assert_false(backend_lane_disown(lane, &disowned, &count));
    assert_false(backend_lane_is_in_doubt(lane));
}

static void test_unverified(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane, *other;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    for (int i = 0; i < VERIFY_FIRST; i++)
        must_sign_in_batch(fixture, lane, 0);
    for (int i = 1; i < VERIFY_EACH; i++)
        must_sign_in_batch(fixture, lane, 1);
    must_sign_in_batch(fixture, lane, 0); /* which vouches for those before */

    must_sign_in_batch(fixture, lane, 2);
    assert_int_equal(backend_lane_settle(lane, &fixture->why), LEAFD_OK);
    assert_false(backend_lane_is_in_doubt(lane));
    must_sign_in_batch(fixture, lane, 3);

    other = lane_of(fixture); /* has its own */
    for (int i = 0; i < VERIFY_FIRST; i++)
        must_sign_in_batch(fixture, other, 0);
    must_sign_in_batch(fixture, other, 4);

    simple(fixture, KEY_P256, "corrupt = 1");
    assert_int_equal(sign(lane, 0, all.ca[KEY_P256], &fixture->why), LEAFD_MALFORMED);
    assert_int_equal(backend_lane_batch(lane), 3);
    assert_int_equal(backend_lane_settle(lane, &fixture->why), LEAFD_INTERNAL);
    must_disown(lane, 3, 2);
    assert_int_equal(backend_lane_settle(other, &fixture->why), LEAFD_OK);
    backend_lane_close(other);
    backend_lane_close(lane);
}

static void test_wrong_ones_are_found_in_time(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;
    unsigned wrong = 0;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    for (int i = 0; i < VERIFY_FIRST; i++)
        must_sign_in_batch(fixture, lane, 0);
    simple(fixture, KEY_P256, "corrupt = 100");
    while (sign(lane, 0, all.ca[KEY_P256], &fixture->why) == LEAFD_MALFORMED)
        wrong++;
    assert_int_equal(wrong, VERIFY_EACH - 1);
    assert_non_null(strstr(fixture->why.text, "does not verify"));
    must_disown(lane, 1, wrong);
    backend_lane_close(lane);
}

static void test_a_new_session_is_verified(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    for (int i = 0; i < VERIFY_FIRST; i++)
        must_sign_in_batch(fixture, lane, 0);
    must_sign_in_batch(fixture, lane, 1);
    simple(fixture, KEY_P256, "fail.C_Sign = CKR_DEVICE_ERROR 1");
    for (int i = 0; i < VERIFY_FIRST; i++)
        must_sign_in_batch(fixture, lane, 0);
    must_sign_in_batch(fixture, lane, 2);
    backend_lane_close(lane);
}

static void test_all_are_verified(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    fixture->conf.token[0].verify = CONF_VERIFY_ALWAYS;
    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    for (int i = 0; i < 2 * (VERIFY_FIRST + VERIFY_EACH); i++)
        must_sign_in_batch(fixture, lane, 0);
    backend_lane_close(lane);
    backend_close(fixture->backend);
    fixture->backend = NULL;

    fixture->conf.token[0].verify = CONF_VERIFY_AUTO;
    simple(fixture, KEY_RSA, "");
    must_open(fixture);
    lane = lane_of(fixture);
    for (int i = 0; i < VERIFY_FIRST + VERIFY_EACH; i++) {
        assert_int_equal(sign(lane, 0, all.ca[KEY_RSA], &fixture->why), LEAFD_OK);
        assert_int_equal(backend_lane_batch(lane), 0);
    }
    backend_lane_close(lane);
}

/* ---- what only the fake module can do ---- */

static void test_renumbered_slots(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    simple(fixture, KEY_P256, "first_slot = 7\nobject_offset = 100");
    assert_int_equal(backend_check(fixture->backend, &fixture->why), LEAFD_TOKEN_UNAVAILABLE);
    assert_int_equal(sign(lane, 0, all.ca[KEY_P256], NULL), LEAFD_TOKEN_UNAVAILABLE);
    backend_lane_close(lane);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    must_open(fixture);
    must_sign(fixture, 2);
}

/* The PIN is shown for each signature, also after a recovery; once it is wrong it is shown once. */
static void test_pin_for_each_signature(void **state)
{
    struct fixture *fixture = *state;
    unsigned long bad;

    set_ca(fixture, KEY_P256);
    set_pin(fixture, "1234");
    control("key = label=ca id=01 file=%s flags=always-authenticate", all.key_path[KEY_P256]);
    must_open(fixture);
    assert_int_equal(counter("login_again"), 1); /* the challenge */
    must_sign(fixture, 3);
    assert_int_equal(sign_together(fixture, 4, 5), 0);
    assert_int_equal(counter("login_again"), 24);
    assert_int_equal(counter("login"), 1);
    assert_int_equal(backend_renew(fixture->backend, RUNG_TOKEN, &fixture->why), LEAFD_OK);
    must_sign(fixture, 1);
    assert_int_equal(counter("login"), 2);

    bad = counter("login_bad");
    control("pin = 77\nkey = label=ca id=01 file=%s flags=always-authenticate",
            all.key_path[KEY_P256]);
    assert_int_equal(sign_together(fixture, 4, 5), 20);
    assert_int_equal(counter("login_bad"), bad + 1);
    assert_int_equal(backend_renew(fixture->backend, RUNG_TOKEN, &fixture->why), LEAFD_PIN);
    assert_int_equal(counter("login_bad"), bad + 1);
    assert_int_equal(counter("login_after_bad"), 0);
}

/* The handle that was the CA's names another key now: the verification tells. */
static void test_handle_of_another_key(void **state)
{
    struct fixture *fixture = *state;
    struct backend_lane *lane;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    lane = lane_of(fixture);
    control("key = label=ca id=01 file=%s", all.key_path[KEY_P256_OTHER]);
    assert_int_equal(sign(lane, 0, all.ca[KEY_P256], &fixture->why), LEAFD_INTERNAL);
    backend_lane_close(lane);
}

static void test_hanging_call(void **state)
{
    struct fixture *fixture = *state;
    struct crowd crowd = {.fixture = fixture, .times = 1};
    unsigned long before;
    pthread_t thread;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    simple(fixture, KEY_P256, "hang.C_Sign = 1");
    before = counter("C_Sign");
    assert_int_equal(pthread_create(&thread, NULL, sign_in_crowd, &crowd), 0);
    while (counter("C_Sign") == before) /* make check has a deadline for all of us */
        usleep(1000);
    must_sign(fixture, 3); /* one lane hangs, the others do not */
    simple(fixture, KEY_P256, "");
    pthread_join(thread, NULL);
    assert_int_equal(crowd.failures, 0);
}

static void test_crash_and_fork(void **state)
{
    struct fixture *fixture = *state;
    int status;
    pid_t pid;

    simple(fixture, KEY_P256, "");
    must_open(fixture);
    pid = fork();
    if (pid == 0) /* the parent's module is of no use here */
        _exit(backend_check(fixture->backend, NULL) == LEAFD_TOKEN_UNAVAILABLE ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(counter("fork_use"), 1);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    simple(fixture, KEY_P256, "crash.C_Login = 1");
    pid = fork();
    if (pid == 0)
        _exit((int)open_backend(fixture));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

/* ---- what leafctl shows ---- */

static void test_token_list(void **state)
{
    struct fixture *fixture = *state;
    struct token_description *list;
    size_t found;

    simple(fixture, KEY_P256, "tokens = leafd second\nfirst_slot = 5\nmax_sessions = 7");
    assert_int_equal(token_list(&fixture->conf, 0, fixture->cas, &list, &found, &fixture->why),
                     LEAFD_OK);
    assert_int_equal(found, 2);
    assert_string_equal(list[0].label, "leafd");
    assert_string_equal(list[1].label, "second");
    assert_string_equal(list[1].serial, "0000000000000002");
    assert_int_equal(list[1].slot, 6);
    assert_int_equal(list[1].max_sessions, 7);
    assert_true(list[0].initialized && list[0].has_user_pin && !list[0].pin_locked);
    assert_non_null(strstr(list[0].mechanisms, "ECDSA"));
    assert_non_null(strstr(list[0].mechanisms, "EC-EDWARDS-KEY-PAIR-GEN"));
    assert_int_equal(list[0].signing_count, 1);
    assert_string_equal(list[0].signing[0].mechanism, "CKM_ECDSA");
    assert_int_equal(list[1].signing_count, 0); /* ca.key names the other one */
    assert_int_equal(list[0].configured, 1);
    assert_int_equal(list[1].configured, 0);
    free(list);
    simple(fixture, KEY_RSA_PSS, "no_mechanism = CKM_RSA_PKCS_PSS CKM_SHA256_RSA_PKCS_PSS");
    assert_int_equal(token_list(&fixture->conf, 0, fixture->cas, &list, &found, &fixture->why),
                     LEAFD_OK);
    assert_int_equal(list[0].signing[0].algorithm, SIG_RSA_PSS_SHA256);
    assert_string_equal(list[0].signing[0].mechanism, "");
    assert_string_equal(list[0].signing[0].missing,
                        "signs with neither CKM_RSA_PKCS_PSS nor CKM_SHA256_RSA_PKCS_PSS");
    free(list);
    assert_int_equal(token_list(&fixture->conf, 0, NULL, &list, &found, &fixture->why), LEAFD_OK);
    assert_int_equal(list[0].signing_count, 0);
    free(list);
    simple(fixture, KEY_P256, "present = no");
    assert_int_equal(token_list(&fixture->conf, 0, fixture->cas, &list, &found, &fixture->why),
                     LEAFD_OK);
    assert_int_equal(found, 0);
    assert_null(list);
}

static void test_token_probe(void **state)
{
    struct fixture *fixture = *state;
    const struct token_probe_key *key;
    struct token_probe report;

    set_ca(fixture, KEY_P256);
    set_pin(fixture, "1234");
    control("key = label=ca id=01ff file=%s flags=extractable", all.key_path[KEY_P256]);
    must_probe(fixture, 20, &report);
    assert_int_equal(report.key_count, 1);
    key = &report.key[0];
    assert_true(key->is_ca && !key->made);
    assert_string_equal(key->type, "ec-p256");
    assert_string_equal(key->key.token, "leafd");
    assert_string_equal(key->key.id, "01ff");
    assert_string_equal(key->key.mechanism, "CKM_ECDSA");
    assert_int_equal(key->key.extractable, TOKEN_YES);
    assert_int_equal(key->key.sensitive, TOKEN_NO);
    assert_int_equal(key->rate_count, 3); /* 1, 2 and 4 lanes */
    assert_int_equal(key->rate[2].lanes, 4);
    for (size_t i = 0; i < 3; i++) {
        assert_true(key->rate[i].signatures > 0);
        assert_true(key->rate[i].p99_us >= key->rate[i].median_us);
        assert_int_equal(key->rate[i].failures, 0);
    }
    assert_int_equal(report.lanes, 4);
    assert_int_equal(report.logins, 1);
    assert_int_equal(counter("login"), 1);
    assert_int_equal(report.login_is_shared, TOKEN_YES);
}

/* What leafctl check asks: never so often that a token locks. */
static void test_token_try_keys(void **state)
{
    static const struct {
        const char *more;
        enum leafd_err err;
        const char *words;
        unsigned long logins;
    } rows[] = {
        {"", LEAFD_OK, "", 1},
        {"pin_flags = count-low", LEAFD_BUSY, "none was tried here", 0},
        {"pin_flags = final-try", LEAFD_PIN, "one PIN try left", 0},
        {"pin_flags = locked", LEAFD_PIN, "is locked", 0},
        {"present = no", LEAFD_ABSENT, "no token answers", 0},
        {"session_limit = 1", LEAFD_OK, "", 1},
        {"pin = 77", LEAFD_PIN, "refuses the PIN", 1},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(all.counters, sizeof(all.counters), "%s/try.%zu", dir, i);
        simple(fixture, KEY_P256, rows[i].more);
        set_pin(fixture, i + 1 < sizeof(rows) / sizeof(rows[0]) ? "1234" : "not seen before");
        assert_int_equal(token_try_keys(&fixture->conf, fixture->cas, &fixture->pin, &fixture->why),
                         rows[i].err);
        if (rows[i].err != LEAFD_OK)
            assert_non_null(strstr(fixture->why.text, rows[i].words));
        assert_int_equal(counter("login"), rows[i].logins);
    }
    simple(fixture, KEY_P256, "");
    set_ca(fixture, KEY_P256_OTHER);
    assert_int_equal(token_try_keys(&fixture->conf, fixture->cas, &fixture->pin, &fixture->why),
                     LEAFD_CONFIG);
    assert_non_null(strstr(fixture->why.text, "is not the key of the CA certificate"));
    control("tokens = leafd");
    assert_int_equal(token_try_keys(&fixture->conf, fixture->cas, &fixture->pin, &fixture->why),
                     LEAFD_ABSENT);
    assert_non_null(strstr(fixture->why.text, "\"leafd\" has no private key"));
}

static void test_ephemeral_ca(void **state)
{
    struct ca *ca;
    EVP_PKEY *key;
    struct why why = {""};

    (void)state;
    if (ca_make_ephemeral(&ca, &key, &why) != LEAFD_OK)
        fail_msg("%s", why.text);
    assert_int_equal(ca->id, CA_ID_UNTRUSTED);
    assert_int_equal(ca->key_type, KEY_TYPE_P256);
    assert_int_equal(EVP_PKEY_eq(ca->public_key, key), 1);
    assert_non_null(memmem(ca->subject.data, ca->subject.len, "leafd untrusted CA ", 19));
    assert_true(ca->not_after - ca->not_before > 3649LL * 86400);
    EVP_PKEY_free(key);
    ca_unref(ca);
}

/* The request, or NULL when it is refused with a sentence that holds `part`. */
static X509_REQ *request_of(struct fixture *fixture, const struct ca_request_options *options,
                            enum leafd_err wanted, const char *part, bool *ret_made)
{
    struct bytes pem = {NULL, 0};
    X509_REQ *request = NULL;
    BIO *bio;
    enum leafd_err err =
        ca_request_make(&fixture->conf, &fixture->pin, options, &pem, ret_made, &fixture->why);

    if (err != wanted)
        fail_msg("%d, not %d: %s", err, wanted, fixture->why.text);
    if (err != LEAFD_OK) {
        if (!strstr(fixture->why.text, part))
            fail_msg("\"%s\" does not speak of \"%s\"", fixture->why.text, part);
        return NULL;
    }
    bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    assert_non_null(request);
    BIO_free(bio);
    free((void *)(uintptr_t)pem.data);
    return request;
}

static void assert_requested(struct fixture *fixture, const struct ca_request_options *options,
                             bool wanted_made)
{
    bool made = !wanted_made;
    X509_REQ *request = request_of(fixture, options, LEAFD_OK, "", &made);

    assert_int_equal(made, wanted_made);
    assert_int_equal(X509_REQ_verify(request, X509_REQ_get0_pubkey(request)), 1);
    X509_REQ_free(request);
}

/* A key in the token is used whatever its type; one is made where there is none. */
static void test_ca_request(void **state)
{
    struct fixture *fixture = *state;
    struct ca_request_options options = {.existing = true};
    static const int keys[] = {KEY_P256, KEY_P384, KEY_RSA, KEY_ED25519};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        simple(fixture, keys[i], "");
        assert_requested(fixture, &options, false);
    }
    options.existing = false;
    options.ca.uri = "pkcs11:token=leafd;object=new";
    assert_requested(fixture, &options, true);
    options.ca.uri = NULL;
    fixture->conf.ca_rsa_padding = CONF_RSA_PSS;
    simple(fixture, KEY_RSA, "");
    assert_requested(fixture, &options, false);
}

static void test_ca_request_refusals(void **state)
{
    struct fixture *fixture = *state;
    struct ca_request_options options = {.key_given = true};

    simple(fixture, KEY_P256, "");
    (void)request_of(fixture, &options, LEAFD_CONFIG, "leave --key out", NULL);
    options.key_given = false;
    fixture->conf.ca_rsa_padding = CONF_RSA_PSS;
    (void)request_of(fixture, &options, LEAFD_CONFIG, "ca.rsa_padding: pss is for RSA keys", NULL);
    options.ca.uri = "pkcs11:token=leafd;object=new";
    (void)request_of(fixture, &options, LEAFD_CONFIG, "ca.rsa_padding: pss is for RSA keys", NULL);
    fixture->conf.ca_rsa_padding = CONF_RSA_PKCS1;
    options.existing = true;
    (void)request_of(fixture, &options, LEAFD_ABSENT, "no private key that answers", NULL);
    options.existing = false;
    options.ca.cn = "";
    (void)request_of(fixture, &options, LEAFD_CONFIG, "0 characters", NULL);
    options.ca.cn = NULL;
    options.ca.uri = "pkcs11:token=leafd;id=%09";
    (void)request_of(fixture, &options, LEAFD_CONFIG, "object=", NULL);
    options.ca.uri = "pkcs11:token=other;object=ca";
    (void)request_of(fixture, &options, LEAFD_ABSENT, "token", NULL);
    options.ca.uri = NULL;
    control("key = label=ca id=01 file=%s flags=no-public\n", all.key_path[KEY_P256]);
    (void)request_of(fixture, &options, LEAFD_CONFIG, "put its public key object beside it", NULL);
    simple(fixture, KEY_P256, "fail.C_Sign = CKR_DEVICE_ERROR\n");
    (void)request_of(fixture, &options, LEAFD_TOKEN_UNAVAILABLE, "", NULL);
    simple(fixture, KEY_P256, "corrupt = 1\n");
    (void)request_of(fixture, &options, LEAFD_TOKEN_UNAVAILABLE, "does not verify", NULL);
    fixture->conf.token[0].access = CONF_ACCESS_FILE;
    (void)request_of(fixture, &options, LEAFD_CONFIG, "token.access: file", NULL);
}

static void test_ca_make_refusals(void **state)
{
    struct fixture *fixture = *state;
    struct ca_make_options options = {.key = CA_KEY_P256};
    struct bytes pem;

    simple(fixture, KEY_P256, "");
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    assert_non_null(strstr(fixture->why.text, "private key with the label \"ca\" already"));
    options.uri = "pkcs11:token=leafd;object=new;id=%01";
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    assert_non_null(strstr(fixture->why.text, "private key with the id \"01\" already"));
    options.uri = "pkcs11:token=leafd;id=%02";
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    assert_non_null(strstr(fixture->why.text, "object="));
    options.uri = NULL;
    options.cn = "";
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    options.cn = NULL;
    options.days = CA_DAYS_MAX + 1;
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    options.days = 0;
    fixture->conf.ca_rsa_padding = CONF_RSA_PSS;
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    assert_non_null(strstr(fixture->why.text, "ca.rsa_padding: pss is for RSA keys"));
}

/* Each word of the list stands for one key type, in their order. */
static void test_ca_key_words(void **state)
{
    char words[] = CA_KEY_WORDS;
    unsigned found = 0;
    char *next;
    enum ca_key key;

    (void)state;
    for (char *word = strtok_r(words, ", ", &next); word; word = strtok_r(NULL, ", ", &next)) {
        if (strcmp(word, "or") == 0)
            continue;
        assert_true(ca_key_of(word, &key));
        assert_int_equal(key, found++);
    }
    assert_int_equal(found, CA_KEY_COUNT);
    assert_false(ca_key_of("rsa-1024", &key));
}

/* Makes a CA in the fake token and reads its certificate; or fails with `text`. */
static struct ca *make_in_fake(struct fixture *fixture, enum ca_key key, const char *lines,
                               const char *text)
{
    struct ca_make_options options = {.key = key};
    struct ca *ca = NULL;
    struct bytes pem;
    enum leafd_err err;

    set_pin(fixture, "1234");
    control("%s", lines);
    err = ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why);
    if (text) {
        assert_int_equal(err, LEAFD_TOKEN_UNAVAILABLE);
        if (!strstr(fixture->why.text, text))
            fail_msg("\"%s\" does not speak of \"%s\"", fixture->why.text, text);
        return NULL;
    }
    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
    err = ca_of_text(&fixture->conf, pem, 0, &ca, &fixture->why);
    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
    free((void *)(uintptr_t)pem.data);
    return ca;
}

static void test_ca_make(void **state)
{
    static const struct {
        enum ca_key key;
        enum conf_rsa_padding padding;
        const char *lines;
        enum sig_algorithm algorithm;
    } row[] = {
        {CA_KEY_P256, CONF_RSA_PKCS1, "", SIG_ECDSA_SHA256},
        {CA_KEY_RSA_2048, CONF_RSA_PKCS1, "", SIG_RSA_SHA256},
        {CA_KEY_RSA_2048, CONF_RSA_PSS, "", SIG_RSA_PSS_SHA256},
        {CA_KEY_RSA_2048, CONF_RSA_PSS, "no_mechanism = CKM_RSA_PKCS_PSS", SIG_RSA_PSS_SHA256},
        {CA_KEY_ED25519, CONF_RSA_PKCS1, "", SIG_ED25519},
        {CA_KEY_ED25519, CONF_RSA_PKCS1, "edwards_by_name = yes", SIG_ED25519},
        {CA_KEY_RSA_2048, CONF_RSA_PKCS1, "own_usage = yes", SIG_RSA_SHA256},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct ca *ca;
        const uint8_t *at;
        X509 *cert;
        const X509_ALGOR *algorithm;
        unsigned char *der = NULL;
        int len;

        fixture->conf.ca_rsa_padding = row[i].padding;
        ca = make_in_fake(fixture, row[i].key, row[i].lines, NULL);
        assert_int_equal(ca->algorithm, row[i].algorithm);
        at = ca->der.data;
        cert = d2i_X509(NULL, &at, (long)ca->der.len);
        assert_int_equal(X509_verify(cert, ca->public_key), 1);
        X509_get0_signature(NULL, &algorithm, cert);
        len = i2d_X509_ALGOR(algorithm, &der);
        assert_true(bytes_equal((struct bytes){der, (size_t)len}, ca->algorithm_der));
        OPENSSL_free(der);
        X509_free(cert);
        ca_unref(ca);
    }
}

/* No key stays behind that has no certificate. */
static void test_ca_make_undone(void **state)
{
    struct fixture *fixture = *state;
    unsigned long destroyed = 0;

    make_in_fake(fixture, CA_KEY_ED25519, "made_extractable = yes", "can be taken out of it");
    assert_true(counter("C_DestroyObject") > destroyed);
    destroyed = counter("C_DestroyObject");
    make_in_fake(fixture, CA_KEY_ED25519, "fail.C_Sign = CKR_DEVICE_ERROR", "CKR_DEVICE_ERROR");
    assert_true(counter("C_DestroyObject") > destroyed);
    destroyed = counter("C_DestroyObject");
    make_in_fake(fixture, CA_KEY_ED25519, "longer = -1", "a signature of 63 octets");
    assert_true(counter("C_DestroyObject") > destroyed);
    destroyed = counter("C_DestroyObject");
    make_in_fake(fixture, CA_KEY_RSA_2048, "corrupt = 1", "does not verify");
    assert_true(counter("C_DestroyObject") > destroyed);
    destroyed = counter("C_DestroyObject");
    make_in_fake(fixture, CA_KEY_P384, "", "makes no ec-p384 key");
    make_in_fake(fixture, CA_KEY_ED25519, "no_mechanism = CKM_EC_EDWARDS_KEY_PAIR_GEN",
                 "makes no ed25519 key");
    assert_int_equal(counter("C_DestroyObject"), destroyed);
}

/* ---- SoftHSM ---- */

static bool softhsm_conf(struct fixture *fixture, char *softhsm_file, size_t size)
{
    const char *module = getenv("SOFTHSM_MODULE");
    const char *source = getenv("top_srcdir");
    char command[512];
    int fd;

    if (!module || access(module, R_OK) == -1 ||
        system("command -v softhsm2-util >/dev/null 2>&1") != 0) {
        print_message("skipped: SOFTHSM_MODULE and softhsm2-util are not both there; on Debian: "
                      "apt-get install softhsm2\n");
        return false;
    }
    snprintf(command, sizeof(command), "%s/softhsm-setup/softhsm-setup %s/softhsm >/dev/null",
             source ? source : ".", dir);
    assert_int_equal(system(command), 0);
    assert_int_equal(system(command), 0); /* again: changes nothing */
    snprintf(softhsm_file, size, "%s/softhsm/softhsm2.conf", dir);
    fixture->env = (struct conf_env){(char *)"SOFTHSM2_CONF", softhsm_file};
    fixture->conf.token[0].module = (char *)(uintptr_t)module;
    snprintf(command, sizeof(command), "%s/softhsm/pin", dir);
    fd = open(command, O_RDONLY);
    assert_true(fd != -1);
    assert_int_equal(pin_read(fd, &fixture->pin, &fixture->why), LEAFD_OK);
    close(fd);
    return true;
}

static void softhsm_make_and_sign(struct fixture *fixture, const char *word, const char *label)
{
    struct ca_make_options options = {.cn = NULL};
    struct token_probe report;
    const struct ca *list[1];
    struct bytes pem;
    struct ca *ca;
    enum leafd_err err;

    assert_true(ca_key_of(word, &options.key));
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=%s;type=private",
             label);
    err = ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why);
    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
    err = ca_of_text(&fixture->conf, pem, 0, &ca, &fixture->why);
    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
    free((void *)(uintptr_t)pem.data);
    assert_non_null(memmem(ca->subject.data, ca->subject.len, "leafd CA ", 9));
    assert_int_equal(ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why),
                     LEAFD_CONFIG);
    list[0] = ca;
    ca_set_unref(fixture->cas);
    fixture->cas = ca_set_new(list, 1, NULL);
    must_open(fixture);
    must_sign(fixture, 3);
    assert_int_equal(sign_together(fixture, 4, 5), 0);
    assert_int_equal(count(fixture).logins, 1);
    backend_close(fixture->backend);
    fixture->backend = NULL;
    must_probe(fixture, 10, &report);
    assert_int_equal(report.key[0].key.extractable, TOKEN_NO);
    assert_int_equal(report.key[0].key.sensitive, TOKEN_YES);
    assert_int_equal(report.key[0].key.never_extractable, TOKEN_YES);
    assert_true(report.facts.can_seal);
    assert_true(report.facts.module.locks);
    ca_unref(ca);
}

static void test_softhsm(void **state)
{
    static const char *const words[] = {"ec-p256",  "ec-p384",  "ed25519",
                                        "rsa-2048", "rsa-3072", "rsa-4096"};
    struct fixture *fixture = *state;
    struct secret good = SECRET_EMPTY;
    char softhsm_file[96];

    if (!softhsm_conf(fixture, softhsm_file, sizeof(softhsm_file)))
        skip();
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        softhsm_make_and_sign(fixture, words[i], words[i]);
    fixture->conf.ca_rsa_padding = CONF_RSA_PSS;
    softhsm_make_and_sign(fixture, "rsa-2048", "pss");
    good = fixture->pin;
    fixture->pin = SECRET_EMPTY;
    set_pin(fixture, "not the PIN");
    must_fail(fixture, LEAFD_PIN, "CKR_PIN_INCORRECT");
    secret_clear(&fixture->pin);
    fixture->pin = good;
    must_open(fixture);
    must_sign(fixture, 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_file_signs),
        TEST(test_file_is_refused_by_default),
        TEST(test_file_refusals),
        TEST(test_lane_bounds),
        TEST(test_native_signs),
        TEST(test_native_mechanisms),
        TEST(test_native_makes_certificates),
        TEST(test_native_padding_is_the_keys),
        TEST(test_point_forms),
        TEST(test_other_keys_beside),
        TEST(test_signatures_of_wrong_length),
        TEST(test_native_several_cas),
        TEST(test_native_without_login),
        TEST(test_module_errors),
        TEST(test_token_errors),
        TEST(test_key_errors),
        TEST(test_pin_for_each_signature_is_missing),
        TEST(test_key_is_not_the_certificates),
        TEST(test_uri_errors_come_first),
        TEST(test_wrong_pin_is_tried_once),
        TEST(test_pin_flags),
        TEST(test_pin_errors_of_the_token),
        TEST(test_pin_of_the_uri),
        TEST(test_one_bad_session_costs_nothing),
        TEST(test_what_a_session_cannot_mend),
        TEST(test_all_sessions_lost),
        TEST(test_session_caps),
        TEST(test_only_session_fails_once),
        TEST(test_crowd_with_bad_sessions),
        TEST(test_module_that_cannot_lock),
        TEST(test_text_for_c_initialize),
        TEST(test_wrong_signature_is_not_released),
        TEST(test_unverified),
        TEST(test_wrong_ones_are_found_in_time),
        TEST(test_a_new_session_is_verified),
        TEST(test_all_are_verified),
        TEST(test_renumbered_slots),
        TEST(test_handle_of_another_key),
        TEST(test_hanging_call),
        TEST(test_crash_and_fork),
        TEST(test_token_list),
        TEST(test_token_probe),
        TEST(test_token_try_keys),
        TEST(test_ephemeral_ca),
        TEST(test_ca_key_words),
        TEST(test_ca_make_refusals),
        TEST(test_ca_request),
        TEST(test_ca_request_refusals),
        TEST(test_ca_make),
        TEST(test_ca_make_undone),
        TEST(test_softhsm),
        TEST(test_pin_for_each_signature), /* the last: this process never sends that PIN again */
    };

    log_init("test", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
