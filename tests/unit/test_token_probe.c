/* SPDX-License-Identifier: Apache-2.0 */
/* What leafctl token test finds out of a token that is in no configuration, and what it advises:
 * over the fake module (tests/lib/fake_pkcs11.c). With the CAs' keys: test_backend. */
#include "config.h"

#include "base/log.h"
#include "pkcs11/token_advice.h"
#include "pkcs11/token_key.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/test_token_probe.XXXXXX";
static char control_path[96], counters_path[96], key_path[96], module_path[512];

/* One test's token and its report. */
struct fixture {
    struct conf conf;
    struct conf_env env;
    struct secret pin;
    struct token_probe_options options;
    struct token_probe report;
    struct why why;
};

static int make_all(void **state)
{
    const char *build = getenv("top_builddir");
    EVP_PKEY *key = make_key("P-256");
    FILE *file;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(control_path, sizeof(control_path), "%s/control", dir);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", dir);
    snprintf(module_path, sizeof(module_path), "%s/tests/lib/fake_pkcs11.so", build ? build : ".");
    file = fopen(key_path, "w");
    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    EVP_PKEY_free(key);
    return 0;
}

static int remove_all(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static int fixture_new(void **state)
{
    static unsigned number;
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(counters_path, sizeof(counters_path), "%s/counters.%u", dir, number++);
    fixture->env = (struct conf_env){(char *)"FAKE_PKCS11_CONTROL", control_path};
    fixture->conf = (struct conf){
        .token_count = 1,
        .token[0] = {.module = module_path,
                     .env = &fixture->env,
                     .env_count = 1,
                     .sessions = 4,
                     .timeout_ms = 5000},
    };
    fixture->options = (struct token_probe_options){.uri = "pkcs11:token=leafd", .each_ms = 5};
    assert_int_equal(secret_set(&fixture->pin, bytes_of("1234")), LEAFD_OK);
    *state = fixture;
    return 0;
}

static int fixture_free(void **state)
{
    struct fixture *fixture = *state;

    secret_clear(&fixture->pin);
    free(fixture);
    return 0;
}

static void control(const char *lines)
{
    char next[128];
    FILE *file;

    snprintf(next, sizeof(next), "%s.next", control_path);
    file = fopen(next, "w");
    assert_non_null(file);
    fprintf(file, "key = label=ca id=01 file=%s\n%s\ncounters = %s\n", key_path, lines,
            counters_path);
    fclose(file);
    assert_int_equal(rename(next, control_path), 0);
}

static unsigned long counter(const char *name)
{
    FILE *file = fopen(counters_path, "r");
    char found[32];
    unsigned long value = 0;

    assert_non_null(file);
    while (fscanf(file, "%31s %lu", found, &value) == 2 && strcmp(found, name) != 0)
        ;
    assert_string_equal(found, name);
    fclose(file);
    return value;
}

/* There is something to report on, whatever the keys did. */
static const struct token_probe *probe(struct fixture *fixture, const char *lines)
{
    control(lines);
    if (token_probe(&fixture->conf, NULL, &fixture->pin, &fixture->options, &fixture->report,
                    &fixture->why) != LEAFD_OK)
        fail_msg("%s", fixture->why.text);
    assert_true(fixture->report.has_facts);
    return &fixture->report;
}

static const struct token_mechanism_facts *mechanism_of(const struct token_facts *facts,
                                                        unsigned long type)
{
    for (size_t i = 0; i < facts->mechanism_count; i++)
        if (facts->mechanism[i].type == type)
            return &facts->mechanism[i];
    return NULL;
}

/* ---- what it says of itself ---- */

static void mechanisms_are_told_and_chosen(void **state)
{
    struct fixture *fixture = *state;
    const struct token_facts *facts =
        &probe(fixture, "no_mechanism = CKM_EDDSA CKM_ECDSA\nfirst_slot = 5")->facts;
    const struct token_mechanism_facts *row = mechanism_of(facts, CKM_RSA_PKCS);

    assert_string_equal(facts->module.description, "fake module");
    assert_int_equal(facts->module.cryptoki_version[0], 2);
    assert_int_equal(facts->module.cryptoki_version[1], 40);
    assert_true(facts->module.locks);
    assert_int_equal(facts->token.slot, 5);
    assert_string_equal(facts->token.serial, "0000000000000001");
    assert_non_null(row);
    assert_true(row->usable && row->in_hardware && row->use == TOKEN_USE_SIGN);
    assert_int_equal(row->min, 1024);
    assert_int_equal(row->max, 4096);
    assert_null(mechanism_of(facts, CKM_EDDSA));
    assert_int_equal(facts->mechanisms_told, 9);
    assert_string_equal(facts->algorithm[SIG_RSA_SHA256].mechanism, "CKM_RSA_PKCS");
    assert_string_equal(facts->algorithm[SIG_ECDSA_SHA256].mechanism, "CKM_ECDSA_SHA256");
    assert_string_equal(facts->algorithm[SIG_ED25519].mechanism, "");
    assert_string_equal(facts->algorithm[SIG_ED25519].missing, "does not sign with CKM_EDDSA");
}

/* In the order in which leafd would take them, and only with what makes their keys. */
static void what_seals(void **state)
{
    static const struct {
        const char *lines;
        unsigned long seal; /* 0: nothing */
    } rows[] = {
        {"", 0},
        {"more_mechanisms = CKM_AES_GCM CKM_AES_KEY_WRAP_PAD", 0},
        {"more_mechanisms = CKM_AES_KEY_WRAP_PAD CKM_AES_GCM CKM_AES_KEY_GEN", CKM_AES_GCM},
        {"more_mechanisms = CKM_RSA_PKCS_OAEP CKM_AES_KEY_WRAP_PAD CKM_AES_KEY_GEN",
         CKM_AES_KEY_WRAP_PAD},
        {"more_mechanisms = CKM_AES_KEY_WRAP_PAD 0x210b CKM_AES_KEY_GEN", CKM_AES_KEY_WRAP_KWP},
        {"more_mechanisms = CKM_RSA_PKCS_OAEP", CKM_RSA_PKCS_OAEP},
        {"more_mechanisms = CKM_RSA_PKCS_OAEP\nno_mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN", 0},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct token_facts *facts = &probe(fixture, rows[i].lines)->facts;

        if (facts->can_seal != (rows[i].seal != 0) ||
            (facts->can_seal && facts->seal != rows[i].seal))
            fail_msg("row %zu: %s", i, facts->can_seal ? ckm_name(facts->seal) : "nothing");
    }
}

static void sessions_are_counted(void **state)
{
    struct fixture *fixture = *state;
    const struct token_facts *facts = &probe(fixture, "max_sessions = 9\nsession_limit = 7")->facts;

    assert_int_equal(facts->token.max_sessions, 9);
    assert_int_equal(facts->sessions_tried, TOKEN_SESSIONS_TRIED);
    assert_int_equal(facts->sessions_opened, 7);
    assert_string_equal(facts->session_refusal, "CKR_SESSION_COUNT");
    assert_int_equal(counter("sessions_open"), 0);
    fixture->options.sessions = 5;
    facts = &probe(fixture, "session_limit = 7")->facts;
    assert_int_equal(facts->sessions_opened, 5);
    assert_string_equal(facts->session_refusal, "");
    facts = &probe(fixture, "fail.C_OpenSession = CKR_DEVICE_ERROR")->facts;
    assert_int_equal(facts->sessions_opened, 0);
    assert_string_equal(facts->session_refusal, "CKR_DEVICE_ERROR");
    assert_false(probe(fixture, "cannot_lock = yes")->facts.module.locks);
}

static void without_a_token_there_is_no_report(void **state)
{
    struct fixture *fixture = *state;

    control("");
    fixture->options.uri = "pkcs11:token=other";
    assert_int_equal(token_probe(&fixture->conf, NULL, &fixture->pin, &fixture->options,
                                 &fixture->report, &fixture->why),
                     LEAFD_ABSENT);
    assert_non_null(strstr(fixture->why.text, "the module has \"leafd\""));
    fixture->options.uri = "pkcs11:token=leafd;colour=red";
    assert_int_equal(token_probe(&fixture->conf, NULL, &fixture->pin, &fixture->options,
                                 &fixture->report, &fixture->why),
                     LEAFD_CONFIG);
    fixture->conf.token[0].module = (char *)"/nonexistent.so";
    fixture->options.uri = "pkcs11:token=leafd";
    assert_int_equal(token_probe(&fixture->conf, NULL, &fixture->pin, &fixture->options,
                                 &fixture->report, &fixture->why),
                     LEAFD_CONFIG);
}

/* ---- its keys ---- */

static void keys_in_the_token_are_left_alone(void **state)
{
    const struct token_probe *report = probe(*state, "");

    assert_int_equal(report->err, LEAFD_OK);
    assert_int_equal(report->key_count, 0);
    assert_int_equal(counter("login"), 0);
    assert_int_equal(counter("C_SignInit"), 0);
}

/* Of each type that it makes; nothing stays. */
static void keys_are_made_for_the_test(void **state)
{
    struct fixture *fixture = *state;
    const struct token_probe *report;

    fixture->options.make_keys = true;
    report = probe(fixture, "no_mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN");
    assert_int_equal(report->err, LEAFD_OK);
    assert_int_equal(report->key_count, CA_KEY_COUNT);
    for (size_t i = 0; i < report->key_count; i++) {
        const struct token_probe_key *key = &report->key[i];
        bool works = i == CA_KEY_P256 || i == CA_KEY_ED25519;

        assert_string_equal(key->type, ca_key_word((enum ca_key)i));
        assert_true(key->made && !key->is_ca);
        if (works && key->failure[0])
            fail_msg("%s: %s", key->type, key->failure);
        assert_int_equal(key->rate_count, works ? 3 : 0);
        if (!works)
            assert_non_null(strstr(key->failure, i == CA_KEY_P384 ? "CKR_CURVE_NOT_SUPPORTED"
                                                                  : "CKR_MECHANISM_INVALID"));
    }
    assert_string_equal(report->key[CA_KEY_P256].key.mechanism, "CKM_ECDSA");
    assert_int_equal(report->key[CA_KEY_P256].key.extractable, TOKEN_NO);
    assert_int_equal(report->lanes, 4);
    assert_int_equal(report->logins, 1);
    assert_int_equal(report->login_is_shared, TOKEN_YES);
    assert_int_equal(counter("login"), 1);
    assert_int_equal(counter("made_in_token"), 0);
    assert_int_equal(counter("C_GenerateKeyPair"), CA_KEY_COUNT);
    assert_int_equal(counter("sessions_open"), 0);
}

static void one_type_alone_is_made(void **state)
{
    static const enum ca_key only = CA_KEY_ED25519;
    struct fixture *fixture = *state;
    const struct token_probe *report;

    fixture->options.make_keys = true;
    fixture->options.only = &only;
    fixture->options.sessions = 2;
    report = probe(fixture, "made_extractable = yes\nedwards_by_name = yes");
    assert_int_equal(report->key_count, 1);
    assert_string_equal(report->key[0].type, "ed25519");
    assert_string_equal(report->key[0].failure, "");
    assert_int_equal(report->key[0].key.extractable, TOKEN_YES);
    assert_int_equal(report->key[0].rate_count, 2);
}

static void a_key_that_is_named_signs(void **state)
{
    struct fixture *fixture = *state;
    const struct token_probe *report;

    fixture->options.uri = "pkcs11:token=leafd;object=ca";
    report = probe(fixture, "session_limit = 2");
    assert_int_equal(report->err, LEAFD_OK);
    assert_int_equal(report->key_count, 1);
    assert_string_equal(report->key[0].type, "ec-p256");
    assert_string_equal(report->key[0].key.label, "ca");
    assert_int_equal(report->key[0].rate_count, 2);
    assert_int_equal(report->lanes, 2);
    assert_int_equal(report->sessions_wanted, 4);
    assert_int_equal(counter("made_in_token"), 0);
    report = probe(fixture, "corrupt = 100000");
    assert_non_null(strstr(report->key[0].failure, "does not verify"));
    report = probe(fixture, "fail.C_Sign = CKR_FUNCTION_FAILED 0 2");
    assert_non_null(strstr(report->key[0].failure, "CKR_FUNCTION_FAILED"));
    fixture->options.uri = "pkcs11:token=leafd;object=none";
    report = probe(fixture, "");
    assert_int_equal(report->err, LEAFD_ABSENT);
    assert_int_equal(report->key_count, 0);
}

static void no_pin_is_wasted(void **state)
{
    static const struct {
        const char *lines;
        const char *pin_uri;
        const char *words;
        unsigned long logins;
    } rows[] = {
        {"pin_flags = final-try", NULL, "one PIN try left", 0},
        {"pin_flags = locked", NULL, "is locked", 0},
        {"pin_flags = no-pin", NULL, "no user PIN yet", 0},
        {"tokens = leafd other", "pkcs11:token=other;object=ca", "none is given", 0},
        {"pin = 77", NULL, "refuses the PIN", 1},
    };
    struct fixture *fixture = *state;

    fixture->options.uri = "pkcs11:token=leafd;object=ca";
    secret_clear(&fixture->pin);
    assert_int_equal(secret_set(&fixture->pin, bytes_of("wrong one")), LEAFD_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct token_probe *report;

        snprintf(counters_path, sizeof(counters_path), "%s/wasted.%zu", dir, i);
        fixture->options.pin_uri = rows[i].pin_uri;
        report = probe(fixture, rows[i].lines);
        assert_int_equal(report->err, LEAFD_PIN);
        if (!strstr(report->why.text, rows[i].words))
            fail_msg("row %zu: %s", i, report->why.text);
        assert_int_equal(counter("login"), rows[i].logins);
        assert_int_equal(report->key_count, 0);
    }
}

static void the_pin_is_for_its_own_token(void **state)
{
    struct fixture *fixture = *state;

    fixture->options.uri = "pkcs11:token=leafd;object=ca";
    fixture->options.pin_uri = "pkcs11:token=leafd;object=another";
    assert_int_equal(probe(fixture, "tokens = leafd other")->err, LEAFD_OK);
}

/* ---- advice ---- */

static const struct token_probe good = {
    .has_facts = true,
    .facts = {.module.locks = true,
              .token = {.initialized = true, .has_user_pin = true, .login_required = true},
              .algorithm[SIG_ECDSA_SHA256].mechanism = "CKM_ECDSA",
              .sessions_tried = 64,
              .sessions_opened = 64},
    .sessions_wanted = 4,
    .key = {{.key = {.label = "ca",
                     .mechanism = "CKM_ECDSA",
                     .extractable = TOKEN_NO,
                     .sensitive = TOKEN_YES},
             .type = "ec-p256",
             .rate_count = 3,
             .rate = {{.lanes = 1, .per_second = 100, .median_us = 10000, .cpu_us = 50},
                      {.lanes = 2, .per_second = 200, .median_us = 10000, .cpu_us = 50},
                      {.lanes = 4, .per_second = 205, .median_us = 19000, .cpu_us = 50}}}},
    .key_count = 1,
    .lanes = 4,
};

/* There is such a line, a warning or not. */
static void assert_advised(const struct token_probe *report, bool is_warning, const char *words)
{
    struct token_advice advice[TOKEN_ADVICE_MAX];
    size_t count = token_advice_find(report, advice);

    for (size_t i = 0; i < count; i++)
        if (advice[i].is_warning == is_warning && strstr(advice[i].text, words))
            return;
    for (size_t i = 0; i < count; i++)
        print_message("%s\n", advice[i].text);
    fail_msg("\"%s\" is not said", words);
}

static void the_rates_tell_what_to_set(void **state)
{
    struct token_probe report = good;

    (void)state;
    assert_advised(&report, false, "token.sessions: 2 (200 signatures per second");
    assert_advised(&report, false, "token.processes: 1; in one process");
    assert_advised(&report, false, "token.verify: auto; it verifies every signature here");
    report.key[0].rate[0].median_us = 60;
    assert_advised(&report, false, "1 in 16 of such fast signatures");
    report.key[0].rate[0].median_us = 10000;
    report.key[0].rate[2].per_second = 390;
    assert_advised(&report, false, "token.sessions: 4 or more");
    assert_advised(&report, false, "--sessions 8");
    report.facts.sessions_opened = 4;
    assert_advised(&report, false, "token.sessions: 4 (390");
    assert_advised(&report, false, "more sessions bring no more");
    report.sessions_wanted = 16;
    assert_advised(&report, false, "all that the token opens");
    report.key[0].rate[1].per_second = report.key[0].rate[2].per_second = 101;
    assert_advised(&report, false, "token.sessions: 1 (");
    assert_advised(&report, false, "token.processes: 2 or more, to be tried");
    report.key[0].rate[0].cpu_us = 9000;
    assert_advised(&report, false, "on this machine's processors");
    report.facts.module.locks = false;
    report.key[0].rate_count = 1;
    assert_advised(&report, false, "token.sessions: 1, all that there is");
    assert_advised(&report, false, "one call at a time");
}

static void what_is_wrong_is_said(void **state)
{
    struct token_probe report = good;
    struct token_advice advice[TOKEN_ADVICE_MAX];

    (void)state;
    assert_int_equal(token_advice_find(&report, advice), 3);
    report.key[0].key = (struct token_key_report){.token = ""}; /* one that could not be made */
    assert_int_equal(token_advice_find(&report, advice), 3);
    report = good;
    report.key[0].key.extractable = TOKEN_YES;
    assert_advised(&report, true, "\"ca\" can be taken out");
    report.key[0].made = true;
    assert_advised(&report, true, "although told not to");
    report.key[0].key.extractable = TOKEN_NO;
    report.key[0].key.sensitive = TOKEN_NO;
    assert_advised(&report, true, "can be read");
    report.key[0].key.always_authenticate = true;
    assert_advised(&report, false, "wants the PIN before each signature");
    report = good;
    report.facts.token.pin_count_low = true;
    assert_advised(&report, true, "a wrong PIN was tried");
    report.facts.token.pin_final_try = true;
    assert_advised(&report, true, "one PIN try is left");
    report.facts.token.pin_locked = true;
    assert_advised(&report, true, "is locked");
    report.facts.token.has_user_pin = false;
    assert_advised(&report, true, "no user PIN yet");
    report.facts.token.initialized = false;
    assert_advised(&report, true, "not initialised");
    report.facts.token.protected_path = true;
    assert_advised(&report, true, "typed on the device");
    report.facts.write_protected = true;
    assert_advised(&report, false, "write-protected");
    report.facts.algorithm[SIG_ECDSA_SHA256].mechanism[0] = '\0';
    assert_advised(&report, true, "no mechanism that leafd signs with");
    report.facts.token.max_sessions = 100;
    strcpy(report.facts.session_refusal, "CKR_SESSION_COUNT");
    assert_advised(&report, true, "says it has 100 sessions, and opened 64");
    report.facts.sessions_opened = 0;
    assert_advised(&report, true, "opened no session (CKR_SESSION_COUNT)");
    strcpy(report.key[0].failure, "CKR_DEVICE_ERROR");
    assert_advised(&report, true, "did not give every signature");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fixture_new, fixture_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(mechanisms_are_told_and_chosen),
        TEST(what_seals),
        TEST(sessions_are_counted),
        TEST(without_a_token_there_is_no_report),
        TEST(keys_in_the_token_are_left_alone),
        TEST(keys_are_made_for_the_test),
        TEST(one_type_alone_is_made),
        TEST(a_key_that_is_named_signs),
        TEST(no_pin_is_wasted),
        TEST(the_pin_is_for_its_own_token),
        cmocka_unit_test(the_rates_tell_what_to_set),
        cmocka_unit_test(what_is_wrong_is_said),
    };

    log_init("test", LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
