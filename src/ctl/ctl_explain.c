/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl explain: the plan that a running leafd would make for a request, and why. It runs the
 * same policy on the same configuration, without daemon and without token. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "ctl/ctl_upstream.h"
#include "ctl/ctl_usage.h"
#include "pkcs11/ca_make.h"
#include "policy/ca_files.h"
#include "policy/leaf_type.h"
#include "policy/policy.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { SENTENCES_MAX = 32, SENTENCE_SIZE = 200, NAME_SIZE = 256 };

struct sentences {
    char line[SENTENCES_MAX][SENTENCE_SIZE];
    size_t count;
};

__attribute__((format(printf, 2, 3))) static void say(struct sentences *to, const char *format, ...)
{
    va_list args;

    if (to->count == SENTENCES_MAX)
        return;
    va_start(args, format);
    vsnprintf(to->line[to->count++], SENTENCE_SIZE, format, args);
    va_end(args);
}

/* ---- the plan in words ---- */

static const struct {
    unsigned flag;
    const char *sentence;
} reasons[] = {
    {UPSTREAM_V1, "the upstream is not of version 3: legacy, mimicked all the same"},
    {UPSTREAM_CN_ONLY,
     "the upstream has no subject alternative names; its one CN is the name: legacy"},
    {UPSTREAM_CA_TRUE, "the upstream says CA:TRUE: legacy; the leaf never does"},
    {UPSTREAM_ODD_FORMS,
     "the upstream's DER has forms that are tolerated but never copied: legacy"},
    {UPSTREAM_ODD_SERIAL, "the upstream's serial number is zero or negative: legacy"},
    {UPSTREAM_RSA_SHORT, "the upstream's RSA key is shorter than 2048 bits: legacy"},
    {UPSTREAM_INVERTED_DATES, "the upstream's notAfter is before its notBefore"},
    {UPSTREAM_SELF_SIGNED, "the upstream is self-signed (mimic.self_signed)"},
    {UPSTREAM_EKU_FOREIGN,
     "the upstream's extended key usage is not that of a TLS server: untrusted"},
    {UPSTREAM_KU_FOREIGN, "the upstream's key usage is not that of a TLS server: untrusted"},
    {UPSTREAM_UNKNOWN_CRITICAL,
     "the upstream has a critical extension that nobody here knows, or one that cannot be read: "
     "untrusted"},
    {UPSTREAM_CT_POISON, "the upstream is a precertificate (CT poison): untrusted"},
    {UPSTREAM_DUPLICATED, "the upstream has an extension twice: untrusted"},
    {UPSTREAM_KEY_WEAK, "the upstream's key is DSA, RSA below 1024 bits, on an unknown curve or no "
                        "proper key: untrusted"},
    {UPSTREAM_SIGNATURE_WEAK, "the upstream's signature uses MD2, MD4, MD5 or SHA-1, or two "
                              "algorithms are named: untrusted"},
    {UPSTREAM_NO_NAMES, "the upstream has no name that may stand in a leaf"},
};

static void say_verdict(const struct verdict *verdict, struct sentences *to)
{
    if (verdict->kind == VERDICT_NO_UPSTREAM)
        return;
    if (verdict->kind == VERDICT_UNREADABLE && !verdict->reasons)
        say(to, "the upstream certificate cannot be read (mimic.fallback)");
    else if (verdict->kind == VERDICT_GOOD)
        say(to, "nothing is wrong with the upstream");
    if (!verdict->names_host && verdict->kind != VERDICT_UNREADABLE)
        say(to, "the upstream does not name the host: the leaf does not either, and the client "
                "sees it");
    if (verdict->expired)
        say(to, "the upstream has expired: the leaf has its dates, and the client sees it");
    if (verdict->not_yet)
        say(to, "the upstream is not valid yet: the leaf has its dates, and the client sees it");
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (verdict->reasons & reasons[i].flag)
            say(to, "%s", reasons[i].sentence);
    }
    if (verdict->untrusted)
        say(to, "so the untrusted CA is to sign, which no client trusts (untrusted_ca)");
}

static void say_profile(const struct plan *plan, const struct conf *conf, struct sentences *to)
{
    switch (plan->profile) {
    case PROFILE_FRESH:
        say(to, plan->verdict.kind == VERDICT_NO_UPSTREAM
                    ? "no upstream certificate was given: the leaf is made from the host alone"
                    : "mimic.fallback is fresh: the leaf is made from the host alone");
        break;
    case PROFILE_MINIMAL:
        say(to, "the whole would not fit into a reply: the leaf names the host alone, with dates "
                "within the upstream's");
        break;
    case PROFILE_MIMIC:
        if (plan->host_only && !conf->mimic_upstream_verified)
            say(to, "mimic.upstream_verified is no: of the names the leaf has the host alone");
        break;
    }
}

static void say_dates(const struct plan *plan, struct sentences *to)
{
    switch (plan->date_rule) {
    case DATES_FRESH:
        say(to, "the dates are a day ago to leaf.lifetime from now");
        break;
    case DATES_UPSTREAM:
        say(to, "the dates are the upstream's");
        break;
    case DATES_CUT_VALID:
        say(to, "the upstream is valid for more than 824 days: the leaf for 397 at most");
        break;
    case DATES_CUT_EXPIRED:
        say(to, "the upstream was valid for more than 824 days: the leaf has its last 397");
        break;
    case DATES_CUT_NOT_YET:
        say(to, "the upstream is to be valid for more than 824 days: the leaf has its first 397");
        break;
    }
    if (plan->not_after == plan->ca->not_after)
        say(to, "notAfter is cut to the CA's");
}

static void say_key(const struct plan *plan, const struct conf *conf, struct sentences *to)
{
    if (conf->leaf_key == CONF_LEAF_KEY_TYPE)
        say(to, "leaf.key names the key's type");
    else if (!plan->upstream && plan->key_type == KEY_TYPE_SM2)
        say(to, "a leaf from the host alone for a TLCP usage has an SM2 key");
    else if (!plan->upstream)
        say(to, "a leaf from the host alone has a P-256 key");
    else if (plan->key_type != plan->upstream->key_type)
        say(to, "the upstream's key is %s, which becomes %s",
            key_type_name(plan->upstream->key_type), key_type_name(plan->key_type));
    else
        say(to, "the key is of the upstream's type");
    if (plan->rsa_bits > LEAF_RSA_BITS_MIN && conf->keys_rsa_match == CONF_RSA_MATCH_BEST_EFFORT)
        say(to, "while there is no such key, one of 2048 bits takes its place for a few seconds "
                "(keys.rsa_match)");
}

static void say_plan(const struct plan *plan, const struct conf *conf, size_t name_count,
                     struct sentences *to)
{
    say_profile(plan, conf, to);
    say_verdict(&plan->verdict, to);
    if (plan->upstream && !plan->host_only && name_count < plan->upstream->name_count)
        say(to, "%zu of the upstream's names are taken away by policy.deny or the CA's constraints",
            plan->upstream->name_count - name_count);
    say_dates(plan, to);
    say_key(plan, conf, to);
}

/* ---- output ---- */

static void print_sentences(const struct sentences *sentences)
{
    for (size_t i = 0; i < sentences->count; i++)
        ctl_print_row(i == 0 ? "Why" : "", sentences->line[i]);
}

static void write_sentences(const struct sentences *sentences, struct json *json)
{
    json_array_begin(json, "why");
    for (size_t i = 0; i < sentences->count; i++)
        json_string(json, NULL, sentences->line[i]);
    json_array_end(json);
}

/* Every plan has a row. */
static const char *key_text(const struct plan *plan)
{
    return leaf_type_find(plan->key_type, plan->rsa_bits)->name;
}

static const char *ca_text(const struct plan *plan)
{
    return plan->ca->id == CA_ID_UNTRUSTED ? "untrusted" : "default";
}

static const char *verdict_text(const struct verdict *verdict, char *out, size_t size)
{
    char words[256];

    verdict_reasons(verdict->reasons, words, sizeof(words));
    if (strcmp(words, verdict_name(verdict->kind)) == 0)
        words[0] = '\0';
    snprintf(out, size, "%s%s%s%s", verdict_name(verdict->kind), words[0] ? " (" : "", words,
             words[0] ? ")" : "");
    return out;
}

static int print_plan(const struct ctl *ctl, const struct plan *plan,
                      const struct plan_names *names, const struct sentences *sentences)
{
    char text[512];
    char name[NAME_SIZE];
    char time[CLOCK_TEXT_SIZE];

    ctl_print_row_bytes("Host", bytes_of(ctl->host));
    ctl_print_row("Verdict", verdict_text(&plan->verdict, text, sizeof(text)));
    ctl_print_row("Profile", profile_name(plan->profile));
    ctl_print_row("CA", ca_text(plan));
    ctl_print_row("Key type", key_text(plan));
    ctl_print_row("Not before", clock_text(plan->not_before, time));
    ctl_print_row("Not after", clock_text(plan->not_after, time));
    for (size_t i = 0; i < names->count; i++)
        ctl_print_row(i == 0 ? "Names" : "", name_text(names->name[i], name, sizeof(name)));
    print_sentences(sentences);
    return ctl_flushed(CTL_OK);
}

static void write_verdict(const struct verdict *verdict, struct json *json)
{
    char words[256];

    json_string(json, "verdict", verdict_name(verdict->kind));
    json_string(json, "reasons", verdict_reasons(verdict->reasons, words, sizeof(words)));
    json_bool(json, "names_host", verdict->names_host);
    json_bool(json, "expired", verdict->expired);
    json_bool(json, "not_yet_valid", verdict->not_yet);
    json_bool(json, "untrusted", verdict->untrusted);
}

static int write_plan(const struct ctl *ctl, const struct plan *plan,
                      const struct plan_names *names, const struct sentences *sentences)
{
    struct json json = JSON_EMPTY;
    char name[NAME_SIZE];
    char time[CLOCK_TEXT_SIZE];

    json_object_begin(&json, NULL);
    json_string(&json, "host", ctl->host);
    json_string(&json, "answer", "leaf");
    write_verdict(&plan->verdict, &json);
    json_string(&json, "profile", profile_name(plan->profile));
    json_string(&json, "ca", ca_text(plan));
    json_string(&json, "key_type", key_text(plan));
    json_string(&json, "not_before", ctl_time_json(plan->not_before, time));
    json_string(&json, "not_after", ctl_time_json(plan->not_after, time));
    json_array_begin(&json, "names");
    for (size_t i = 0; i < names->count; i++)
        json_string(&json, NULL, name_text(names->name[i], name, sizeof(name)));
    json_array_end(&json);
    write_sentences(sentences, &json);
    json_object_end(&json);
    return ctl_print_json(&json);
}

/* No leaf: which error reply, and why. */
static int tell_refusal(const struct ctl *ctl, const struct plan *plan, enum leafd_err answer,
                        const struct why *why)
{
    struct sentences sentences = {.count = 0};
    struct json json = JSON_EMPTY;
    char text[512];

    say(&sentences, "%.190s", why->text);
    say_verdict(&plan->verdict, &sentences);
    if (!ctl->json) {
        ctl_print_row_bytes("Host", bytes_of(ctl->host));
        ctl_print_row("Verdict", verdict_text(&plan->verdict, text, sizeof(text)));
        snprintf(text, sizeof(text), "the error reply \"%s\"", err_name(answer));
        ctl_print_row("Answer", text);
        print_sentences(&sentences);
        return ctl_flushed(CTL_FAILED);
    }
    json_object_begin(&json, NULL);
    json_string(&json, "host", ctl->host);
    json_string(&json, "answer", err_name(answer));
    write_verdict(&plan->verdict, &json);
    write_sentences(&sentences, &json);
    json_object_end(&json);
    (void)ctl_print_json(&json);
    return CTL_FAILED;
}

static int tell_plan(const struct ctl *ctl, const struct conf *conf, struct plan *plan)
{
    struct sentences sentences = {.count = 0};
    struct plan_names names = {NULL, 0};
    struct why why = {""};
    enum leafd_err err = plan_names(plan, &names);
    int code;

    if (err != LEAFD_OK) {
        (void)fail(&why, err, "no name is left that the leaf may have");
        return tell_refusal(ctl, plan, err, &why);
    }
    say_plan(plan, conf, names.count, &sentences);
    code = ctl->json ? write_plan(ctl, plan, &names, &sentences)
                     : print_plan(ctl, plan, &names, &sentences);
    free(names.name);
    return code;
}

/* ---- the command ---- */

/* The configured CAs, and one like the untrusted CA that each signer makes. */
static enum leafd_err cas_complete(const struct conf *conf, struct ca_set **ret, struct why *why)
{
    struct ca_set *configured = NULL;
    EVP_PKEY *key = NULL;
    enum leafd_err err = ca_files_read(conf, &configured, why);

    if (err == LEAFD_OK)
        err = ca_make_set(conf, configured, ret, &key, why);
    EVP_PKEY_free(key);
    ca_set_unref(configured);
    return err;
}

/* As one that leafd would answer with an error reply, not a fault of ours. */
static bool is_answer(enum leafd_err err)
{
    return err == LEAFD_REFUSED || err == LEAFD_UNSUPPORTED || err == LEAFD_TOO_LARGE;
}

static int explain(const struct ctl *ctl, const struct conf *conf, const struct ca_set *cas,
                   const struct request *request)
{
    struct policy *policy = NULL;
    struct plan plan = {.ca = NULL};
    struct why why = {""};
    enum leafd_err err = policy_new(conf, &policy);
    int code;

    if (err != LEAFD_OK) {
        (void)fail(&why, err, "%.120s: policy.deny cannot be read", conf->file);
        return ctl_failed(&why);
    }
    err = policy_plan(policy, request, cas, clock_wall_sec(), &plan, &why);
    if (err == LEAFD_OK) {
        code = tell_plan(ctl, conf, &plan);
        plan_clear(&plan);
    } else {
        code = is_answer(err) ? tell_refusal(ctl, &plan, err, &why) : ctl_failed(&why);
    }
    policy_free(policy);
    return code;
}

int ctl_explain(const struct ctl *ctl)
{
    struct request request = {.dialect = DIALECT_IDS, .host = bytes_of(ctl->host)};
    struct bytes upstream = {NULL, 0};
    struct conf *conf = NULL;
    struct ca_set *cas = NULL;
    struct why why = {""};
    enum leafd_err err;
    int code = ctl_usage_take(ctl, &request);

    if (code != CTL_OK)
        return code;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err == LEAFD_OK)
        err = cas_complete(conf, &cas, &why);
    if (err == LEAFD_OK && ctl->like)
        err = ctl_upstream_read(ctl->like, &upstream, &request.cert_form, &why);
    request.cert = upstream;
    code = err == LEAFD_OK ? explain(ctl, conf, cas, &request) : ctl_failed(&why);
    free((void *)(uintptr_t)upstream.data);
    ca_set_unref(cas);
    conf_free(conf);
    return code;
}
