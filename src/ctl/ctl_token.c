/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl token list, token test: what the tokens are, and what the CA's one can do. */
#include "config.h"

#include "ctl/ctl.h"

#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "pkcs11/token_report.h"
#include "policy/ca_files.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TEST_EACH_MS = 500 };

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

/* ---- token list ---- */

static enum leafd_err list_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    struct token_description *tokens = NULL;
    size_t count = 0;
    enum leafd_err err = token_list(child->conf, arg, &tokens, &count, why);

    if (err == LEAFD_OK)
        *ret_result = (struct bytes){(const uint8_t *)tokens, count * sizeof(*tokens)};
    return err;
}

/* The flags that an operator should act on. */
static const char *pin_state(const struct token_description *token)
{
    if (!token->initialized)
        return "token not initialised";
    if (!token->has_user_pin)
        return "no user PIN yet";
    if (token->pin_locked)
        return "LOCKED";
    if (token->pin_final_try)
        return "one try left";
    return token->pin_count_low ? "wrong PINs were tried" : "good";
}

static void token_print(const struct token_description *token)
{
    char number[32];

    ctl_print_row("Token", token->label[0] ? token->label : "(no label)");
    snprintf(number, sizeof(number), "%" PRIu64, token->slot);
    ctl_print_row("  slot", number);
    ctl_print_row("  manufacturer", token->manufacturer);
    ctl_print_row("  model", token->model);
    ctl_print_row("  serial", token->serial);
    ctl_print_row("  PIN", pin_state(token));
    ctl_print_row("  needs login", yes_no(token->login_required));
    if (token->protected_path)
        ctl_print_row("  PIN pad", "yes");
    snprintf(number, sizeof(number), "%" PRIu64, token->max_sessions);
    ctl_print_row("  max sessions", token->max_sessions ? number : "not told");
    ctl_print_row("  mechanisms", token->mechanisms[0] ? token->mechanisms : "none leafd uses");
    for (size_t i = 0; i < token->signing_count; i++) {
        const struct token_signing *signing = &token->signing[i];
        char name[32];
        char text[160];

        snprintf(name, sizeof(name), "  for CA %zu", signing->ca_index);
        if (signing->mechanism[0])
            snprintf(text, sizeof(text), "%s, with %s", sig_algorithm_name(signing->algorithm),
                     signing->mechanism);
        else
            snprintf(text, sizeof(text), "%s is not possible: it %s",
                     sig_algorithm_name(signing->algorithm), signing->missing);
        ctl_print_row(name, text);
    }
}

static void token_write(const struct token_description *token, struct json *json)
{
    json_object_begin(json, NULL);
    json_string(json, "label", token->label);
    json_uint(json, "slot", token->slot);
    json_string(json, "manufacturer", token->manufacturer);
    json_string(json, "model", token->model);
    json_string(json, "serial", token->serial);
    json_bool(json, "initialized", token->initialized);
    json_bool(json, "has_user_pin", token->has_user_pin);
    json_bool(json, "login_required", token->login_required);
    json_bool(json, "protected_path", token->protected_path);
    json_bool(json, "pin_count_low", token->pin_count_low);
    json_bool(json, "pin_final_try", token->pin_final_try);
    json_bool(json, "pin_locked", token->pin_locked);
    json_uint(json, "max_sessions", token->max_sessions);
    json_string(json, "mechanisms", token->mechanisms);
    json_array_begin(json, "cas");
    for (size_t i = 0; i < token->signing_count; i++) {
        json_object_begin(json, NULL);
        json_uint(json, "ca", token->signing[i].ca_index);
        json_string(json, "signs_with", sig_algorithm_name(token->signing[i].algorithm));
        json_bool(json, "can_sign", token->signing[i].mechanism[0]);
        json_string(json, "mechanism", token->signing[i].mechanism);
        json_object_end(json);
    }
    json_array_end(json);
    json_object_end(json);
}

static int list_print(const struct ctl *ctl, struct bytes result)
{
    size_t count = result.len / sizeof(struct token_description);
    struct json json = JSON_EMPTY;

    if (ctl->json)
        json_array_begin(&json, NULL);
    for (size_t i = 0; i < count; i++) {
        struct token_description token;

        memcpy(&token, result.data + i * sizeof(token), sizeof(token));
        if (ctl->json)
            token_write(&token, &json);
        else
            token_print(&token);
    }
    if (ctl->json) {
        json_array_end(&json);
        return ctl_print_json(&json);
    }
    if (count == 0)
        puts("The module knows no token.");
    return ctl_flushed(CTL_OK);
}

/* Needs a module; says so for a configuration with a key file. */
static enum leafd_err check_access(const struct conf *conf, struct why *why)
{
    if (conf->token[0].access == CONF_ACCESS_FILE)
        return fail(why, LEAFD_CONFIG, "token.access is file: there is no token");
    return LEAFD_OK;
}

int ctl_token_list(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct bytes result = {NULL, 0};
    struct ca_set *cas = NULL;
    struct why why = {""};
    enum leafd_err err = ctl_conf_load(ctl, &conf, &why);
    int code;

    if (err == LEAFD_OK)
        err = check_access(conf, &why);
    if (err == LEAFD_OK && ca_files_read(conf, &cas, NULL) != LEAFD_OK)
        cas = NULL; /* before ca init there are none */
    if (err == LEAFD_OK)
        err = ctl_child_run(conf, CTL_CHILD_NOTHING, list_in_child, cas, &result, &why);
    code = err == LEAFD_OK ? list_print(ctl, result) : ctl_failed(&why);
    ca_set_unref(cas);
    free((void *)(uintptr_t)result.data);
    conf_free(conf);
    return code;
}

/* ---- token test ---- */

static void tell_progress(void *ctx, unsigned lanes)
{
    (void)ctx;
    ctl_progress("signing with %u %s at once ...", lanes, lanes == 1 ? "session" : "sessions");
}

static enum leafd_err test_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    struct token_test_report *report = calloc(1, sizeof(*report));
    enum leafd_err err;

    (void)arg;
    if (!report)
        return LEAFD_NOMEM;
    err = token_test(child->conf, child->cas, &child->pin, TEST_EACH_MS, tell_progress, NULL,
                     report, why);
    if (err == LEAFD_OK)
        *ret_result = (struct bytes){(const uint8_t *)report, sizeof(*report)};
    else
        free(report);
    return err;
}

static void key_print(const struct token_key_report *key)
{
    char number[32];

    if (!key->token[0]) /* token.access: file */
        return;
    snprintf(number, sizeof(number), "%zu", key->ca_index);
    ctl_print_row("CA", number);
    ctl_print_row("  token", key->token);
    ctl_print_row("  key label", key->label);
    ctl_print_row("  key id", key->id);
    ctl_print_row("  signs with", key->mechanism);
    ctl_print_row("  extractable", token_answer_name(key->extractable));
    ctl_print_row("  sensitive", token_answer_name(key->sensitive));
    ctl_print_row("  never extr.", token_answer_name(key->never_extractable));
    ctl_print_row("  always sens.", token_answer_name(key->always_sensitive));
    if (key->extractable == TOKEN_YES)
        puts("  WARNING: the key can be taken out of the token.");
}

static void test_print(const struct token_test_report *report)
{
    for (size_t i = 0; i < report->key_count; i++)
        key_print(&report->key[i]);
    printf("\n%8s %12s %10s %14s\n", "sessions", "signatures", "failures", "per second");
    for (size_t i = 0; i < report->rate_count; i++) {
        const struct token_rate *rate = &report->rate[i];

        printf("%8u %12" PRIu64 " %10" PRIu64 " %14.1f\n", rate->lanes, rate->signatures,
               rate->failures, rate->per_second);
    }
    printf("\n%u sessions can sign at once; every signature was verified. Logins: %" PRIu64 ".\n",
           report->lanes, report->logins);
}

static void key_write(const struct token_key_report *key, struct json *json)
{
    json_object_begin(json, NULL);
    json_uint(json, "ca", key->ca_index);
    json_string(json, "token", key->token);
    json_uint(json, "slot", key->slot);
    json_string(json, "label", key->label);
    json_string(json, "id", key->id);
    json_string(json, "mechanism", key->mechanism);
    json_string(json, "extractable", token_answer_name(key->extractable));
    json_string(json, "sensitive", token_answer_name(key->sensitive));
    json_string(json, "never_extractable", token_answer_name(key->never_extractable));
    json_string(json, "always_sensitive", token_answer_name(key->always_sensitive));
    json_object_end(json);
}

static int test_print_json(const struct token_test_report *report)
{
    struct json json = JSON_EMPTY;

    json_object_begin(&json, NULL);
    json_array_begin(&json, "keys");
    for (size_t i = 0; i < report->key_count; i++)
        key_write(&report->key[i], &json);
    json_array_end(&json);
    json_array_begin(&json, "rates");
    for (size_t i = 0; i < report->rate_count; i++) {
        json_object_begin(&json, NULL);
        json_uint(&json, "sessions", report->rate[i].lanes);
        json_uint(&json, "signatures", report->rate[i].signatures);
        json_uint(&json, "failures", report->rate[i].failures);
        json_uint(&json, "per_second", (uint64_t)report->rate[i].per_second);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_uint(&json, "sessions", report->lanes);
    json_uint(&json, "logins", report->logins);
    json_object_end(&json);
    return ctl_print_json(&json);
}

static int test_tell(const struct ctl *ctl, struct bytes result)
{
    struct token_test_report report;
    uint64_t failures = 0;
    int code;

    if (result.len != sizeof(report))
        return ctl_failed(&(struct why){"the test's result is not of the right size"});
    memcpy(&report, result.data, sizeof(report));
    for (size_t i = 0; i < report.rate_count; i++)
        failures += report.rate[i].failures;
    if (ctl->json) {
        code = test_print_json(&report);
    } else {
        test_print(&report);
        code = ctl_flushed(CTL_OK);
    }
    return failures ? ctl_failed(&(struct why){"the token did not give every signature"}) : code;
}

int ctl_token_test(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct bytes result = {NULL, 0};
    struct why why = {""};
    enum leafd_err err = ctl_conf_load(ctl, &conf, &why);
    int code;

    if (err == LEAFD_OK)
        err =
            ctl_child_run(conf, CTL_CHILD_CAS | CTL_CHILD_PIN, test_in_child, NULL, &result, &why);
    code = err == LEAFD_OK ? test_tell(ctl, result) : ctl_failed(&why);
    free((void *)(uintptr_t)result.data);
    conf_free(conf);
    return code;
}
