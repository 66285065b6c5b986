/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_token_report.h"

#include "ctl/ctl_output.h"
#include "pkcs11/token_advice.h"
#include "pkcs11/token_key.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

__attribute__((format(printf, 2, 3))) static void print_row(const char *name, const char *format,
                                                            ...)
{
    char text[400];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    ctl_print_row(name, text);
}

/* ---- any token ---- */

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

void ctl_token_print(const struct token_description *token)
{
    ctl_print_row("Token", token->label[0] ? token->label : "(no label)");
    print_row("  slot", "%" PRIu64, token->slot);
    ctl_print_row("  manufacturer", token->manufacturer);
    ctl_print_row("  model", token->model);
    ctl_print_row("  serial", token->serial);
    ctl_print_row("  PIN", pin_state(token));
    ctl_print_row("  needs login", yes_no(token->login_required));
    if (token->protected_path)
        ctl_print_row("  PIN pad", "yes");
    if (token->max_sessions)
        print_row("  max sessions", "%" PRIu64, token->max_sessions);
    else
        ctl_print_row("  max sessions", "not told");
}

void ctl_token_write(const struct token_description *token, struct json *json)
{
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
}

/* ---- what a token says of itself ---- */

static void print_module(const struct token_module_facts *module, const char *file)
{
    ctl_print_row("Module", file);
    print_row("  library", "%s %u.%u, by %s", module->description, module->library_version[0],
              module->library_version[1], module->manufacturer);
    print_row("  PKCS#11", "%u.%u", module->cryptoki_version[0], module->cryptoki_version[1]);
    ctl_print_row("  threads", module->locks ? "several at once (CKF_OS_LOCKING_OK)"
                                             : "one at a time (CKR_CANT_LOCK)");
}

static void print_sessions(const struct token_probe *probe)
{
    const struct token_facts *facts = &probe->facts;

    if (facts->session_refusal[0])
        print_row("  opened", "%u at once, then %s", facts->sessions_opened,
                  facts->session_refusal);
    else
        print_row("  opened", "%u at once, and no more were tried", facts->sessions_opened);
    if (probe->logins && facts->token.login_required)
        ctl_print_row("  one login", probe->login_is_shared == TOKEN_YES ? "for all sessions"
                                     : probe->login_is_shared == TOKEN_NO
                                         ? "for one session alone: leafd cannot use this token"
                                         : "not known whether for all sessions");
}

static void print_mechanisms(const struct token_facts *facts)
{
    printf("\n%-30s%-12s%-20s%s\n", "Mechanism", "use", "key sizes", "in hardware");
    for (size_t i = 0; i < facts->mechanism_count; i++) {
        const struct token_mechanism_facts *row = &facts->mechanism[i];
        char sizes[48] = "not told";

        if (row->min || row->max)
            snprintf(sizes, sizeof(sizes), "%lu to %lu", row->min, row->max);
        printf("%-30s%-12s%-20s%s\n", ckm_name(row->type),
               row->usable ? token_use_name(row->use) : "none", sizes, yes_no(row->in_hardware));
    }
    printf("(the ones that leafd knows, of %zu)\n\n", facts->mechanisms_told);
}

static void print_choices(const struct token_facts *facts)
{
    puts("leafd would sign");
    for (size_t i = 0; i < SIG_COUNT; i++) {
        const struct token_signing *row = &facts->algorithm[i];

        printf("  %-16s %s%s\n", sig_algorithm_name(row->algorithm),
               row->mechanism[0] ? "with " : "not: the token ",
               row->mechanism[0] ? row->mechanism : row->missing);
    }
    if (facts->can_seal)
        printf("and seal with %s\n", ckm_name(facts->seal));
    else
        puts("and can seal nothing: there is neither AES-GCM, AES key wrapping nor RSA-OAEP");
}

static void print_facts(const struct token_probe *probe, const char *module)
{
    const struct token_facts *facts = &probe->facts;

    print_module(&facts->module, module);
    ctl_token_print(&facts->token);
    print_row("  firmware", "%u.%u", facts->firmware_version[0], facts->firmware_version[1]);
    print_sessions(probe);
    print_mechanisms(facts);
    print_choices(facts);
}

/* ---- what its keys did ---- */

static void print_rates(const struct token_probe_key *key)
{
    printf("\n  %8s %11s %11s %9s %9s %9s\n", "sessions", "signatures", "per second", "median ms",
           "p99 ms", "failures");
    for (size_t i = 0; i < key->rate_count; i++) {
        const struct sign_rate *rate = &key->rate[i];

        printf("  %8u %11" PRIu64 " %11.1f %9.3f %9.3f %9" PRIu64 "\n", rate->lanes,
               rate->signatures, rate->per_second, rate->median_us / 1000.0, rate->p99_us / 1000.0,
               rate->failures);
    }
}

static const char *extractable_text(const struct token_key_report *key)
{
    if (key->extractable != TOKEN_NO)
        return key->extractable == TOKEN_YES ? "YES" : "not told";
    return key->never_extractable == TOKEN_YES  ? "no, and never was"
           : key->never_extractable == TOKEN_NO ? "no, but once was"
                                                : "no";
}

static const char *sensitive_text(const struct token_key_report *key)
{
    if (key->sensitive != TOKEN_YES)
        return key->sensitive == TOKEN_NO ? "NO" : "not told";
    return key->always_sensitive == TOKEN_YES  ? "yes, and always was"
           : key->always_sensitive == TOKEN_NO ? "yes, but once was not"
                                               : "yes";
}

static void print_key(const struct token_probe_key *probed)
{
    const struct token_key_report *key = &probed->key;

    putchar('\n');
    if (probed->made)
        print_row("Session key", "%s, made in %" PRIu32 " ms", probed->type, probed->made_ms);
    else if (probed->is_ca)
        print_row("Key", "%s, of CA %zu", probed->type, key->ca_index);
    else
        ctl_print_row("Key", probed->type);
    if (key->token[0] && !probed->made) {
        ctl_print_row("  label", key->label);
        ctl_print_row("  id", key->id);
    }
    if (key->token[0]) {
        ctl_print_row("  signs with", key->mechanism);
        ctl_print_row("  extractable", extractable_text(key));
        ctl_print_row("  sensitive", sensitive_text(key));
        if (key->always_authenticate)
            ctl_print_row("  wants PIN", "before each signature");
    }
    if (probed->failure[0])
        ctl_print_row("  FAILED", probed->failure);
    if (probed->rate_count)
        print_rates(probed);
}

/* In lines of a terminal, those behind the first one further in. */
static void print_wrapped(const char *text)
{
    enum { WIDTH = 78 };
    size_t column = 0;

    while (*text) {
        size_t len = strcspn(text, " ");

        if (column == 0)
            column = (size_t)printf("  ");
        else if (column + 1 + len > WIDTH)
            column = (size_t)printf("\n    ") - 1;
        else
            column += (size_t)printf(" ");
        column += (size_t)printf("%.*s", (int)len, text);
        text += len + (text[len] == ' ');
    }
    putchar('\n');
}

static void print_advice(const struct token_probe *probe)
{
    struct token_advice advice[TOKEN_ADVICE_MAX];
    size_t count = token_advice_find(probe, advice);

    if (count)
        puts("\nAdvice");
    for (size_t i = 0; i < count; i++) {
        char text[sizeof(advice[0].text) + 16];

        snprintf(text, sizeof(text), "%s%s", advice[i].is_warning ? "WARNING: " : "",
                 advice[i].text);
        print_wrapped(text);
    }
}

void ctl_probe_print(const struct token_probe *probe, const char *module)
{
    if (probe->has_facts)
        print_facts(probe, module);
    for (size_t i = 0; i < probe->key_count; i++)
        print_key(&probe->key[i]);
    if (probe->lanes)
        printf("\n%u sessions can sign at once. Logins: %" PRIu64 ".\n", probe->lanes,
               probe->logins);
    print_advice(probe);
}

/* ---- the same as JSON ---- */

static void write_version(const char *name, const unsigned version[2], struct json *json)
{
    char text[24];

    snprintf(text, sizeof(text), "%u.%u", version[0], version[1]);
    json_string(json, name, text);
}

static void write_facts(const struct token_facts *facts, struct json *json)
{
    json_object_begin(json, "library");
    json_string(json, "description", facts->module.description);
    json_string(json, "manufacturer", facts->module.manufacturer);
    write_version("version", facts->module.library_version, json);
    write_version("pkcs11_version", facts->module.cryptoki_version, json);
    json_bool(json, "locks", facts->module.locks);
    json_object_end(json);
    ctl_token_write(&facts->token, json);
    write_version("hardware_version", facts->hardware_version, json);
    write_version("firmware_version", facts->firmware_version, json);
    json_bool(json, "write_protected", facts->write_protected);
    json_uint(json, "sessions_tried", facts->sessions_tried);
    json_uint(json, "sessions_opened", facts->sessions_opened);
    json_string(json, "session_refusal", facts->session_refusal);
    json_array_begin(json, "mechanisms");
    for (size_t i = 0; i < facts->mechanism_count; i++) {
        const struct token_mechanism_facts *row = &facts->mechanism[i];

        json_object_begin(json, NULL);
        json_string(json, "mechanism", ckm_name(row->type));
        json_string(json, "use", token_use_name(row->use));
        json_bool(json, "usable", row->usable);
        json_bool(json, "in_hardware", row->in_hardware);
        json_uint(json, "min", row->min);
        json_uint(json, "max", row->max);
        json_object_end(json);
    }
    json_array_end(json);
    json_uint(json, "mechanisms_told", facts->mechanisms_told);
    json_array_begin(json, "algorithms");
    for (size_t i = 0; i < SIG_COUNT; i++) {
        json_object_begin(json, NULL);
        json_string(json, "signs_with", sig_algorithm_name(facts->algorithm[i].algorithm));
        json_bool(json, "can_sign", facts->algorithm[i].mechanism[0]);
        json_string(json, "mechanism", facts->algorithm[i].mechanism);
        json_string(json, "missing", facts->algorithm[i].missing);
        json_object_end(json);
    }
    json_array_end(json);
    json_string(json, "seals_with", facts->can_seal ? ckm_name(facts->seal) : "");
}

static void write_key(const struct token_probe_key *probed, struct json *json)
{
    const struct token_key_report *key = &probed->key;

    json_object_begin(json, NULL);
    if (probed->is_ca)
        json_uint(json, "ca", key->ca_index);
    json_string(json, "type", probed->type);
    json_bool(json, "made", probed->made);
    if (probed->made)
        json_uint(json, "made_ms", probed->made_ms);
    json_string(json, "token", key->token);
    json_uint(json, "slot", key->slot);
    json_string(json, "label", key->label);
    json_string(json, "id", key->id);
    json_string(json, "mechanism", key->mechanism);
    json_string(json, "extractable", token_answer_name(key->extractable));
    json_string(json, "sensitive", token_answer_name(key->sensitive));
    json_string(json, "never_extractable", token_answer_name(key->never_extractable));
    json_string(json, "always_sensitive", token_answer_name(key->always_sensitive));
    json_bool(json, "always_authenticate", key->always_authenticate);
    json_string(json, "failure", probed->failure);
    json_array_begin(json, "rates");
    for (size_t i = 0; i < probed->rate_count; i++) {
        const struct sign_rate *rate = &probed->rate[i];

        json_object_begin(json, NULL);
        json_uint(json, "sessions", rate->lanes);
        json_uint(json, "signatures", rate->signatures);
        json_uint(json, "failures", rate->failures);
        json_uint(json, "per_second", (uint64_t)rate->per_second);
        json_uint(json, "median_us", rate->median_us);
        json_uint(json, "p99_us", rate->p99_us);
        json_uint(json, "cpu_us", rate->cpu_us);
        json_object_end(json);
    }
    json_array_end(json);
    json_object_end(json);
}

void ctl_probe_write(const struct token_probe *probe, struct json *json)
{
    struct token_advice advice[TOKEN_ADVICE_MAX];
    size_t count = token_advice_find(probe, advice);

    if (probe->has_facts)
        write_facts(&probe->facts, json);
    json_array_begin(json, "keys");
    for (size_t i = 0; i < probe->key_count; i++)
        write_key(&probe->key[i], json);
    json_array_end(json);
    json_uint(json, "lanes", probe->lanes);
    json_uint(json, "logins", probe->logins);
    json_string(json, "login_is_shared", token_answer_name(probe->login_is_shared));
    json_array_begin(json, "advice");
    for (size_t i = 0; i < count; i++) {
        json_object_begin(json, NULL);
        json_bool(json, "warning", advice[i].is_warning);
        json_string(json, "text", advice[i].text);
        json_object_end(json);
    }
    json_array_end(json);
}
