/* SPDX-License-Identifier: Apache-2.0 */
/* The backends that sign with somebody's library, each over the fake module
 * (tests/lib/fake_pkcs11.c) and over a SoftHSM token, when there is SoftHSM. Each test runs once
 * for each way to the keys that this build has and this machine can load. */
#include "config.h"

#include "pkcs11/backend.h"
#include "pkcs11/ca_make.h"
#include "pkcs11/pin.h"
#include "policy/ca_files.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum key { KEY_P256, KEY_P256_OTHER, KEY_P384, KEY_RSA, KEY_ED25519, KEYS };

static const char *const key_words[KEYS] = {"P-256", "P-256", "P-384", "RSA:2048", "ED25519"};

/* What a way can do. */
struct way {
    const char *name;
    enum conf_access access;
    bool built;       /* into this leafd */
    bool once;        /* a process opens it once */
    bool tries_twice; /* by itself, so that we need not */
    bool edwards;     /* signs with Ed25519 */
    unsigned spare;   /* sessions that a token needs beside those of the lanes */
    unsigned lanes_max;
    const char *mechanisms; /* a line for the module */
};

#ifdef HAVE_LIBP11
#define HAS_LIBP11 true
#else
#define HAS_LIBP11 false
#endif
#ifdef HAVE_ENGINE
#define HAS_ENGINE true
#else
#define HAS_ENGINE false
#endif

static const struct way ways[] = {
    /* It hashes in the token where it can, in calls that the fake module does not have. */
    {"provider", CONF_ACCESS_PROVIDER, true, false, false, true, 3, 0,
     "no_mechanism = CKM_ECDSA_SHA256 CKM_ECDSA_SHA384 CKM_SHA256_RSA_PKCS"},
    {"libp11", CONF_ACCESS_LIBP11, HAS_LIBP11, false, false, false, 1, 16, ""},
    {"engine", CONF_ACCESS_ENGINE, HAS_ENGINE, true, true, false, 1, 16, ""},
};

static const struct way *way; /* under test */

static char dir[] = "/tmp/test_backend_ways.XXXXXX";
static char key_path[KEYS][96];
static struct ca *ca[KEYS];
static char control_path[96];
static char counters_path[96];
static char module_path[512];

struct fixture {
    struct conf conf;
    struct conf_env env;
    struct ca_set *cas;
    struct secret pin;
    struct backend *backend;
    struct why why;
    char uri[128];
};

/* ---- keys and certificates, made once ---- */

static void make_one(enum key index)
{
    EVP_PKEY *key = make_key(key_words[index]);
    struct bytes der = make_ca("test CA", key, (int64_t)time(NULL));
    struct why why = {""};
    FILE *file;

    snprintf(key_path[index], sizeof(key_path[index]), "%s/key%d.pem", dir, (int)index);
    file = fopen(key_path[index], "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    if (ca_read(der, 0, false, &ca[index], &why) != LEAFD_OK)
        fail_msg("%s", why.text);
    free((void *)(uintptr_t)der.data);
    EVP_PKEY_free(key);
}

static void make_all(void)
{
    const char *build = getenv("top_builddir");

    assert_non_null(mkdtemp(dir));
    snprintf(control_path, sizeof(control_path), "%s/control", dir);
    snprintf(module_path, sizeof(module_path), "%s/tests/lib/fake_pkcs11.so", build ? build : ".");
    for (int i = 0; i < KEYS; i++)
        make_one((enum key)i);
}

static void remove_all(void)
{
    char command[128];

    for (int i = 0; i < KEYS; i++)
        ca_unref(ca[i]);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    assert_int_equal(system(command), 0);
}

/* ---- fixtures ---- */

static int fixture_new(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(counters_path, sizeof(counters_path), "%s/counters.%d", dir, (int)getpid());
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=ca;type=private");
    fixture->env = (struct conf_env){(char *)"FAKE_PKCS11_CONTROL", control_path};
    fixture->conf = (struct conf){
        .ca_count = 1,
        .ca = {{(char *)"ca.pem", fixture->uri}},
        .token[0].access = way->access,
        .token[0].module = module_path,
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

static void set_ca(struct fixture *fixture, const struct ca *one)
{
    ca_set_unref(fixture->cas);
    fixture->cas = ca_set_new(&one, 1, NULL);
    assert_non_null(fixture->cas);
}

static void set_pin(struct fixture *fixture, const char *pin)
{
    secret_clear(&fixture->pin);
    assert_int_equal(secret_set(&fixture->pin, bytes_of(pin)), LEAFD_OK);
}

/* Writes the control file: one key labelled "ca", what is given, and where the counters go. */
static void control(enum key key, const char *more)
{
    char next[128];
    FILE *file;

    snprintf(next, sizeof(next), "%s.next", control_path);
    file = fopen(next, "w");
    assert_non_null(file);
    fprintf(file, "key = label=ca id=01 file=%s\n%s\n%s\ncounters = %s\n", key_path[key],
            way->mechanisms, more, counters_path);
    fclose(file);
    assert_int_equal(rename(next, control_path), 0);
}

static unsigned long counter(const char *name)
{
    FILE *file = fopen(counters_path, "r");
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

/* A good token and configuration, with something more for the module. */
static void prepare(struct fixture *fixture, enum key key, const char *more)
{
    set_ca(fixture, ca[key]);
    set_pin(fixture, "1234");
    control(key, more);
}

static enum leafd_err open_backend(struct fixture *fixture)
{
    fixture->why.text[0] = '\0';
    return backend_open(&fixture->conf, 0, fixture->cas, &fixture->pin, &fixture->backend,
                        &fixture->why);
}

static void must_open(struct fixture *fixture)
{
    enum leafd_err err = open_backend(fixture);

    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
}

static void must_fail(struct fixture *fixture, enum leafd_err wanted, const char *text)
{
    enum leafd_err err = open_backend(fixture);

    if (err != wanted || !strstr(fixture->why.text, text))
        fail_msg("%s: %s; wanted %s with \"%s\"", err_name(err), fixture->why.text,
                 err_name(wanted), text);
    assert_null(fixture->backend);
}

static void close_backend(struct fixture *fixture)
{
    backend_close(fixture->backend);
    fixture->backend = NULL;
}

static void must_renew(struct fixture *fixture, enum rung rung)
{
    enum leafd_err err = backend_renew(fixture->backend, rung, &fixture->why);

    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
}

/* ---- signing ---- */

/* backend_lane_sign() has verified what it gives. */
static enum leafd_err sign(struct backend_lane *lane, struct why *why)
{
    static _Atomic unsigned number;
    uint8_t signature[1024];
    char tbs[700];
    size_t len = 0;

    memset(tbs, 'x', sizeof(tbs));
    snprintf(tbs, sizeof(tbs), "message %u", number++);
    return backend_lane_sign(lane, 0, (struct bytes){(uint8_t *)tbs, sizeof(tbs)}, signature,
                             sizeof(signature), &len, why);
}

static enum leafd_err sign_times(struct fixture *fixture, unsigned times)
{
    struct backend_lane *lane = NULL;
    enum leafd_err err = backend_lane_open(fixture->backend, &lane, &fixture->why);

    for (unsigned i = 0; i < times && err == LEAFD_OK; i++)
        err = sign(lane, &fixture->why);
    backend_lane_close(lane);
    return err;
}

static void must_sign(struct fixture *fixture, unsigned times)
{
    enum leafd_err err = sign_times(fixture, times);

    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
}

static void *sign_in_crowd(void *ctx)
{
    struct fixture *fixture = ctx;
    struct backend_lane *lane;
    struct why why;
    uintptr_t failures = 0;

    if (backend_lane_open(fixture->backend, &lane, &why) != LEAFD_OK)
        return (void *)1;
    for (unsigned i = 0; i < 20; i++)
        failures += sign(lane, &why) != LEAFD_OK;
    backend_lane_close(lane);
    return (void *)failures;
}

/* As many lanes as there are, at once. */
static void must_sign_together(struct fixture *fixture)
{
    unsigned lanes = backend_lanes(fixture->backend);
    pthread_t thread[32];

    assert_true(lanes <= 32);
    for (unsigned i = 0; i < lanes; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, sign_in_crowd, fixture), 0);
    for (unsigned i = 0; i < lanes; i++) {
        void *failures;

        pthread_join(thread[i], &failures);
        assert_null(failures);
    }
}

static struct backend_counters count(struct fixture *fixture)
{
    struct backend_counters counters;

    backend_count(fixture->backend, &counters);
    return counters;
}

/* ---- it signs ---- */

static void sign_with(struct fixture *fixture, enum key key)
{
    prepare(fixture, key, "");
    must_open(fixture);
    must_sign(fixture, 3);
    must_sign_together(fixture);
    assert_int_equal(backend_check(fixture->backend, &fixture->why), LEAFD_OK);
    backend_keep_alive(fixture->backend);
    assert_int_equal(backend_prove(fixture->backend, &fixture->why), LEAFD_OK);
    assert_int_equal(count(fixture).logins, 1);
    assert_int_equal(count(fixture).retries, 0);
    close_backend(fixture);
    assert_int_equal(counter("login"), 1); /* the library has not logged in beside us */
    assert_int_equal(counter("sessions_open"), 0);
    assert_int_equal(counter("race"), 0);
}

static void test_p256(void **state)
{
    sign_with(*state, KEY_P256);
}

static void test_p384(void **state)
{
    sign_with(*state, KEY_P384);
}

static void test_rsa(void **state)
{
    if (way->access == CONF_ACCESS_PROVIDER) {
        print_message("skipped: pkcs11-provider wants C_SignUpdate for RSA, which the fake module "
                      "does not have\n");
        skip();
    }
    sign_with(*state, KEY_RSA);
}

static void test_ed25519(void **state)
{
    struct fixture *fixture = *state;
    char more[160];

    prepare(fixture, KEY_ED25519, "");
    if (way->edwards) {
        must_open(fixture);
        must_sign(fixture, 3);
        return;
    }
    must_fail(fixture, LEAFD_CONFIG, "Ed25519 key of ca.pem: use native");
    assert_int_equal(access(counters_path, F_OK), -1); /* not even loaded */
    /* A stranger's key in the same token. */
    snprintf(more, sizeof(more), "key = label=other id=02 file=%s", key_path[KEY_ED25519]);
    prepare(fixture, KEY_P256, more);
    must_fail(fixture, LEAFD_CONFIG, "has an Ed25519 or Ed448 key");
}

static void test_lanes(void **state)
{
    struct fixture *fixture = *state;

    prepare(fixture, KEY_P256, "");
    fixture->conf.token[0].sessions = 32;
    must_open(fixture);
    assert_int_equal(backend_lanes(fixture->backend), way->lanes_max ? way->lanes_max : 32);
    assert_false(backend_is_full(fixture->backend));
    must_sign_together(fixture);
}

/* As many lanes as the token's sessions allow, whether it tells their number or not. */
static void sign_with_few(struct fixture *fixture, const char *row, unsigned lanes)
{
    char more[64];

    snprintf(more, sizeof(more), "%s = %u", row, way->spare + lanes);
    prepare(fixture, KEY_P256, more);
    must_open(fixture);
    assert_int_equal(backend_lanes(fixture->backend), lanes);
    assert_true(backend_is_full(fixture->backend));
    must_sign_together(fixture);
    assert_int_equal(backend_prove(fixture->backend, &fixture->why), LEAFD_OK);
}

static void test_few_sessions(void **state)
{
    sign_with_few(*state, "session_limit", 2);
}

static void test_fewest_sessions(void **state)
{
    sign_with_few(*state, "max_sessions", 1);
}

/* ---- it is refused ---- */

static void test_wrong_pin(void **state)
{
    struct fixture *fixture = *state;

    prepare(fixture, KEY_P256, "");
    set_pin(fixture, "4321");
    must_fail(fixture, LEAFD_PIN, "CKR_PIN_INCORRECT");
    assert_int_equal(counter("login"), 1);
    must_fail(fixture, LEAFD_PIN, "refused");
    assert_int_equal(counter("login"), 1);
    set_pin(fixture, "1234");
    must_open(fixture);
    must_sign(fixture, 1);
}

static void test_wrong_key(void **state)
{
    struct fixture *fixture = *state;
    char more[160];

    prepare(fixture, KEY_P256, "");
    control(KEY_P256_OTHER, "");
    must_fail(fixture, LEAFD_CONFIG, "ca.pem");
    /* Two of one name. */
    snprintf(more, sizeof(more), "key = label=ca id=02 file=%s", key_path[KEY_P256_OTHER]);
    control(KEY_P256, more);
    must_fail(fixture, LEAFD_CONFIG, "2 private keys answer");
    /* Told apart by the id alone. */
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;id=%%01;type=private");
    must_open(fixture);
    must_sign(fixture, 1);
}

static void test_what_it_cannot_do(void **state)
{
    struct fixture *fixture = *state;
    char more[200];

    prepare(fixture, KEY_P256, "cannot_lock = yes");
    must_fail(fixture, LEAFD_CONFIG, "cannot lock");
    snprintf(more, sizeof(more), "max_sessions = %u", way->spare);
    prepare(fixture, KEY_P256, more);
    must_fail(fixture, LEAFD_TOKEN_UNAVAILABLE, "use native");
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=each;type=private");
    snprintf(more, sizeof(more), "key = label=each id=02 file=%s flags=always-authenticate",
             key_path[KEY_P256]);
    prepare(fixture, KEY_P256, more);
    must_fail(fixture, LEAFD_CONFIG, "wants the PIN for each signature");
}

static void test_absent(void **state)
{
    struct fixture *fixture = *state;

    prepare(fixture, KEY_P256, "present = no");
    assert_int_equal(backend_new(&fixture->conf, 0, fixture->cas, &fixture->pin, &fixture->backend,
                                 &fixture->why),
                     LEAFD_OK);
    assert_int_equal(backend_renew(fixture->backend, RUNG_MODULE, &fixture->why), LEAFD_ABSENT);
    assert_int_equal(backend_renew(fixture->backend, RUNG_MODULE, &fixture->why), LEAFD_ABSENT);
    assert_false(backend_is_spent(fixture->backend));
    control(KEY_P256, "");
    must_renew(fixture, RUNG_MODULE);
    must_sign(fixture, 1);
    assert_int_equal(counter("login"), 1);
}

/* ---- it fails and is mended ---- */

static void test_one_error(void **state)
{
    static const char *const lines[] = {"fail.C_Sign = CKR_DEVICE_ERROR 1",
                                        "fail.C_SignInit = CKR_GENERAL_ERROR 1"};
    struct fixture *fixture = *state;

    prepare(fixture, KEY_P256, "");
    must_open(fixture);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        control(KEY_P256, lines[i]);
        must_sign(fixture, 1);
    }
    assert_int_equal(count(fixture).retries > 0, !way->tries_twice);
    assert_int_equal(counter("login"), 1);
    /* What no session would sign is no reason to look at the token. */
    control(KEY_P256, "fail.C_Sign = CKR_DATA_INVALID 2");
    assert_int_equal(sign_times(fixture, 1), LEAFD_UNSUPPORTED);
    control(KEY_P256, "");
    must_sign(fixture, 1);
}

/* After `line` nothing signs, until it is opened anew, where a process can. */
static void lose_and_renew(struct fixture *fixture, const char *line, enum rung rung)
{
    prepare(fixture, KEY_P256, "");
    must_open(fixture);
    must_sign(fixture, 1);
    control(KEY_P256, line);
    assert_int_equal(sign_times(fixture, 1), LEAFD_TOKEN_UNAVAILABLE);
    assert_int_equal(backend_is_spent(fixture->backend), way->once);
    if (way->once) {
        assert_int_equal(backend_renew(fixture->backend, rung, &fixture->why),
                         LEAFD_TOKEN_UNAVAILABLE);
        assert_non_null(strstr(fixture->why.text, "another one takes over"));
    } else {
        must_renew(fixture, rung);
        must_sign_together(fixture);
    }
    close_backend(fixture);
    assert_int_equal(counter("sessions_open"), 0);
    assert_int_equal(counter("race"), 0);
}

static void test_sessions_lost(void **state)
{
    lose_and_renew(*state, "session_epoch = 1", RUNG_TOKEN);
}

static void test_logged_out(void **state)
{
    lose_and_renew(*state, "login_epoch = 1", RUNG_TOKEN);
}

static void test_slots_renumbered(void **state)
{
    lose_and_renew(*state, "first_slot = 5", RUNG_MODULE);
}

static void test_gone_and_back(void **state)
{
    struct fixture *fixture = *state;

    if (way->once)
        skip();
    prepare(fixture, KEY_P256, "");
    must_open(fixture);
    control(KEY_P256, "present = no");
    assert_int_equal(sign_times(fixture, 1), LEAFD_TOKEN_UNAVAILABLE);
    assert_int_equal(backend_renew(fixture->backend, RUNG_TOKEN, &fixture->why), LEAFD_ABSENT);
    assert_int_equal(backend_renew(fixture->backend, RUNG_MODULE, &fixture->why), LEAFD_ABSENT);
    control(KEY_P256, "");
    must_renew(fixture, RUNG_MODULE);
    must_sign_together(fixture);
    /* Another key under the same name and id is found out. */
    control(KEY_P256_OTHER, "session_epoch = 1");
    assert_int_not_equal(sign_times(fixture, 1), LEAFD_OK);
    assert_int_equal(backend_renew(fixture->backend, RUNG_TOKEN, &fixture->why), LEAFD_CONFIG);
}

/* ---- SoftHSM ---- */

static bool softhsm_conf(struct fixture *fixture, char *softhsm_file, size_t size)
{
    const char *module = getenv("SOFTHSM_MODULE");
    const char *source = getenv("top_srcdir");
    char text[512];
    int fd;

    if (!module || access(module, R_OK) == -1 ||
        system("command -v softhsm2-util >/dev/null 2>&1") != 0) {
        print_message("skipped: SOFTHSM_MODULE and softhsm2-util are not both there; on Debian: "
                      "apt-get install softhsm2\n");
        return false;
    }
    snprintf(text, sizeof(text), "%s/softhsm-setup/softhsm-setup %s/softhsm >/dev/null",
             source ? source : ".", dir);
    assert_int_equal(system(text), 0);
    snprintf(softhsm_file, size, "%s/softhsm/softhsm2.conf", dir);
    fixture->env = (struct conf_env){(char *)"SOFTHSM2_CONF", softhsm_file};
    fixture->conf.token[0].module = (char *)(uintptr_t)module;
    snprintf(text, sizeof(text), "%s/softhsm/pin", dir);
    fd = open(text, O_RDONLY);
    assert_true(fd != -1);
    assert_int_equal(pin_read(fd, &fixture->pin, &fixture->why), LEAFD_OK);
    close(fd);
    return true;
}

static void softhsm_sign(struct fixture *fixture, const char *word)
{
    struct ca_make_options options = {.cn = NULL};
    char softhsm_file[96];
    struct bytes pem;
    struct ca *one;
    enum leafd_err err;

    if (!softhsm_conf(fixture, softhsm_file, sizeof(softhsm_file)))
        skip();
    assert_true(ca_key_of(word, &options.key));
    snprintf(fixture->uri, sizeof(fixture->uri), "pkcs11:token=leafd;object=%s-%s%s;type=private",
             way->name, word, fixture->conf.ca_rsa_padding == CONF_RSA_PSS ? "-pss" : "");
    err = ca_make(&fixture->conf, &fixture->pin, &options, &pem, &fixture->why);
    if (err == LEAFD_OK)
        err = ca_of_text(&fixture->conf, pem, 0, &one, &fixture->why);
    if (err != LEAFD_OK)
        fail_msg("%s: %s", err_name(err), fixture->why.text);
    free((void *)(uintptr_t)pem.data);
    set_ca(fixture, one);
    ca_unref(one);
    must_open(fixture);
    must_sign_together(fixture);
    assert_int_equal(count(fixture).logins, 1);
    close_backend(fixture);
}

static void test_softhsm_p256(void **state)
{
    softhsm_sign(*state, "ec-p256");
}

static void test_softhsm_p384(void **state)
{
    softhsm_sign(*state, "ec-p384");
}

static void test_softhsm_rsa(void **state)
{
    softhsm_sign(*state, "rsa-2048");
}

static void test_softhsm_pss(void **state)
{
    struct fixture *fixture = *state;

    fixture->conf.ca_rsa_padding = CONF_RSA_PSS;
    softhsm_sign(fixture, "rsa-2048");
}

/* ---- a way that is not in this build ---- */

static void test_not_built(void **state)
{
    struct fixture *fixture = *state;

    prepare(fixture, KEY_P256, "");
    must_fail(fixture, LEAFD_CONFIG, "is not in this leafd: use native, or build");
}

/* ---- each in a process of its own ---- */

enum { PATIENCE_SEC = 120 }; /* with what hangs */

static int run(const struct CMUnitTest *test)
{
    pid_t pid;
    int status;

    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        alarm(PATIENCE_SEC);
        exit(_cmocka_run_group_tests(way->name, test, 1, NULL, NULL));
    }
    if (pid == -1 || waitpid(pid, &status, 0) != pid)
        return 1;
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* pkcs11-provider loads the module with RTLD_DEEPBIND, which sanitizers do not bear. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#endif
#ifdef __has_feature /* clang */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED true
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED false
#endif

static bool is_usable(void)
{
    char path[256];

    if (way->access != CONF_ACCESS_PROVIDER)
        return true;
    if (IS_SANITIZED)
        return false;
    snprintf(path, sizeof(path), "%s/pkcs11.so", OPENSSL_info(OPENSSL_INFO_MODULES_DIR));
    return access(path, R_OK) == 0;
}

static void test_not_installed(void **state)
{
    struct fixture *fixture = *state;

    prepare(fixture, KEY_P256, "");
    fixture->conf.token[0].provider = (char *)"no-such-provider";
    must_fail(fixture, LEAFD_CONFIG, "OpenSSL does not load \"no-such-provider\": install it");
    fixture->conf.token[0].provider = (char *)"/nowhere/provider.so";
    must_fail(fixture, LEAFD_CONFIG, "OpenSSL does not load \"/nowhere/provider.so\"");
    fixture->conf.token[0].provider = (char *)"pkcs11 = x";
    must_fail(fixture, LEAFD_CONFIG, "nor an absolute path");
    if (!is_usable()) {
        print_message("skipped: there is no OpenSSL provider \"pkcs11\" (on Debian 13: apt-get "
                      "install pkcs11-provider), or this is a sanitizer's build\n");
        skip();
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_p256),
        TEST(test_p384),
        TEST(test_rsa),
        TEST(test_ed25519),
        TEST(test_lanes),
        TEST(test_few_sessions),
        TEST(test_fewest_sessions),
        TEST(test_wrong_pin),
        TEST(test_wrong_key),
        TEST(test_what_it_cannot_do),
        TEST(test_absent),
        TEST(test_one_error),
        TEST(test_sessions_lost),
        TEST(test_logged_out),
        TEST(test_slots_renumbered),
        TEST(test_gone_and_back),
        TEST(test_softhsm_p256),
        TEST(test_softhsm_p384),
        TEST(test_softhsm_rsa),
        TEST(test_softhsm_pss),
    };
    const struct CMUnitTest not_built = TEST(test_not_built);
    const struct CMUnitTest not_installed = TEST(test_not_installed);
    int failed = 0;

    make_all();
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        way = &ways[i];
        if (!way->built)
            failed += run(&not_built);
        if (way->access == CONF_ACCESS_PROVIDER)
            failed += run(&not_installed);
        for (size_t n = 0; way->built && is_usable() && n < sizeof(tests) / sizeof(tests[0]); n++)
            failed += run(&tests[n]);
    }
    remove_all();
    return failed;
}
