/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl token test: what a token can do. Either of the configured tokens, through the keys of the
 * CAs, or of one that a URI names. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/log.h"
#include "conf/values.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "ctl/ctl_token_report.h"
#include "pkcs11/pin_prompt.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEST_EACH_MS = 500, TEST_MADE_EACH_MS = 200 };

/* ---- in the child ---- */

static void tell_progress(const char *text)
{
    ctl_progress("%s", text);
}

static enum leafd_err test_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    struct token_probe *report = calloc(1, sizeof(*report));
    enum leafd_err err;

    if (!report)
        return LEAFD_NOMEM;
    log_init("leafctl", LOG_LEVEL_ERROR); /* what would be warned of stands in the report */
    err = token_probe(child->conf, child->cas, &child->pin, arg, report, why);
    if (err == LEAFD_OK)
        *ret_result = (struct bytes){(const uint8_t *)report, sizeof(*report)};
    else
        free(report);
    return err;
}

/* ---- one token ---- */

/* What is asked of one token, and what came of it. */
struct test {
    const struct conf *conf; /* with this token as its only one */
    const struct token_probe_options *options;
    unsigned needs;
    const char *section; /* where it is configured; NULL: it is the one of a URI */
    bool is_one_of_several;
    struct token_probe report;
};

/* LEAFD_OK with all that was found; the sentence says why a key did not sign. */
static enum leafd_err run(struct test *test, struct why *why)
{
    struct bytes result = {NULL, 0};
    enum leafd_err err =
        ctl_child_run(test->conf, test->needs, test_in_child, test->options, &result, why);

    if (err == LEAFD_OK && result.len != sizeof(test->report))
        err = fail(why, LEAFD_INTERNAL, "the test's result is not of the right size");
    if (err == LEAFD_OK)
        memcpy(&test->report, result.data, sizeof(test->report));
    free((void *)(uintptr_t)result.data);
    return err;
}

/* Did each key sign as often as it was asked? Where the token makes keys of one type, it may not
 * know another. */
static bool is_good(const struct token_probe *report, struct why *why)
{
    size_t signed_with = 0;

    if (report->err != LEAFD_OK) {
        *why = report->why;
        return false;
    }
    for (size_t i = 0; i < report->key_count; i++) {
        const struct token_probe_key *key = &report->key[i];

        if (key->failure[0] && (!key->made || key->rate_count > 0)) {
            (void)fail(why, LEAFD_TOKEN_UNAVAILABLE, "the token did not give every signature: %s",
                       key->failure);
            return false;
        }
        signed_with += key->rate_count > 0;
    }
    if (report->key_count > 0 && signed_with == 0) {
        (void)fail(why, LEAFD_TOKEN_UNAVAILABLE, "%s", report->key[0].failure);
        return false;
    }
    return true;
}

static void print_what_was_left_out(const struct test *test)
{
    const struct token_probe *report = &test->report;

    if (report->err != LEAFD_OK || report->key_count > 0)
        return;
    if (!test->options->uri)
        puts("\nNothing was signed: ca.certificate is not there yet. Give a URI and --make-key to "
             "see\nhow fast the token signs.");
    else
        puts("\nNothing was signed and nobody logged in: the URI names no key. Keys that are in "
             "the token\nare left alone; --make-key makes some for the test.");
}

static int tell(struct test *test, struct json *json)
{
    enum leafd_err err;
    struct why why = {""};
    bool good;

    fflush(stdout);
    err = run(test, &why);
    good = err == LEAFD_OK && is_good(&test->report, &why);
    if (json) {
        json_object_begin(json, NULL);
        json_string(json, "configured", test->section ? test->section : "");
        json_string(json, "module", test->conf->token[0].module ? test->conf->token[0].module : "");
        json_bool(json, "good", good);
        json_string(json, "error", why.text);
        if (err == LEAFD_OK)
            ctl_probe_write(&test->report, json);
        json_object_end(json);
    } else if (err == LEAFD_OK) {
        if (test->is_one_of_several)
            printf("==== %s ====\n", test->section);
        ctl_probe_print(&test->report, test->conf->token[0].module);
        print_what_was_left_out(test);
    }
    if (good)
        return CTL_OK;
    if (test->is_one_of_several)
        (void)fail_in(&why, err, "%s", test->section);
    fflush(stdout);
    return ctl_failed(&why);
}

/* ---- the command line ---- */

static int check_words(const struct ctl *ctl)
{
    if (!ctl->uri && (ctl->module || ctl->pin_file || ctl->env.count || ctl->make_key || ctl->key))
        return ctl_wrong_usage("--module, --pin-file, --env and --make-key are for the token of a "
                               "URI, such as pkcs11:token=LABEL");
    if (ctl->module && ctl->config)
        return ctl_wrong_usage("--module and -c name two modules: leave one out");
    if (ctl->module && ctl->token_number)
        return ctl_wrong_usage("--token is one of a configuration, which --module does without");
    if (ctl->env.count && !ctl->module)
        return ctl_wrong_usage("--env goes with --module; a configuration has token.env");
    if (ctl->key && !ctl->make_key)
        return ctl_wrong_usage("--key says which key --make-key makes");
    for (size_t i = 0; i < ctl->env.count; i++) {
        const char *equals = strchr(ctl->env.text[i], '=');

        if (!equals || equals == ctl->env.text[i])
            return ctl_wrong_usage("--env must be NAME=VALUE, not \"%s\"", ctl->env.text[i]);
    }
    return CTL_OK;
}

static bool names_key(const char *uri)
{
    return strstr(uri, "object=") || strstr(uri, ";id=") || strstr(uri, ":id=");
}

/* CTL_OK or CTL_USAGE. */
static int options_of(const struct ctl *ctl, struct token_probe_options *ret, enum ca_key *ret_key)
{
    struct token_probe_options options = {.uri = ctl->uri,
                                          .make_keys = ctl->make_key,
                                          .each_ms =
                                              ctl->make_key ? TEST_MADE_EACH_MS : TEST_EACH_MS,
                                          .progress = tell_progress};
    int64_t sessions = 0;
    struct why why;
    int code = check_words(ctl);

    if (code != CTL_OK)
        return code;
    if (ctl->make_key && names_key(ctl->uri))
        return ctl_wrong_usage("--make-key is for the URI of a token, and this one names a key: "
                               "leave object= and id= out, or --make-key");
    if (ctl->sessions &&
        value_count(ctl->sessions, 1, TOKEN_SESSIONS_TRIED_MAX, &sessions, &why) != LEAFD_OK)
        return ctl_wrong_usage("--sessions %s", why.text);
    options.sessions = (unsigned)sessions;
    if (ctl->key && !ca_key_of(ctl->key, ret_key))
        return ctl_wrong_usage("--key must be " CA_KEY_WORDS ", not \"%s\"", ctl->key);
    options.only = ctl->key ? ret_key : NULL;
    *ret = options;
    return CTL_OK;
}

/* ---- a configuration made of the command line ---- */

/* As a YAML scalar. */
static void put_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text; text++)
        fputs(*text == '\'' ? "''" : (char[]){*text, '\0'}, out);
    fputc('\'', out);
}

static void put_conf(FILE *out, const struct ctl *ctl)
{
    fputs("ca:\n  certificate: /nonexistent\n  key: ", out);
    put_text(out, ctl->uri);
    fputs("\ntoken:\n  module: ", out);
    put_text(out, ctl->module);
    if (ctl->pin_file) {
        fputs("\n  pin_file: ", out);
        put_text(out, ctl->pin_file);
    }
    fputs(ctl->env.count ? "\n  env:" : "", out);
    for (size_t i = 0; i < ctl->env.count; i++) {
        const char *equals = strchr(ctl->env.text[i], '=');

        fprintf(out, "\n    %.*s: ", (int)(equals - ctl->env.text[i]), ctl->env.text[i]);
        put_text(out, equals + 1);
    }
    fputc('\n', out);
}

static enum leafd_err conf_of_words(const struct ctl *ctl, struct conf **ret, struct why *why)
{
    char dir[PATH_MAX];
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    enum leafd_err err;

    if (!out)
        return LEAFD_NOMEM;
    put_conf(out, ctl);
    if (fclose(out) != 0) {
        free(text);
        return LEAFD_NOMEM;
    }
    err = conf_load((struct bytes){(const uint8_t *)text, len}, "the command line",
                    getcwd(dir, sizeof(dir)) ? dir : NULL, ctl->overrides.text,
                    ctl->overrides.count, ret, why);
    free(text);
    return err;
}

/* ---- which tokens ---- */

static int test_uri(const struct ctl *ctl, const struct conf *conf, size_t token,
                    struct token_probe_options *options, struct json *json)
{
    bool logs_in = ctl->make_key || names_key(ctl->uri);
    struct test test = {.options = options, .needs = logs_in ? CTL_CHILD_PIN : CTL_CHILD_NOTHING};
    struct why why = {""};
    struct conf at;

    if (ctl_conf_at_token(conf, token, &at, &why) != LEAFD_OK)
        return ctl_failed(&why);
    if (at.token[0].access == CONF_ACCESS_FILE)
        return ctl_failed(&(struct why){"token.access is file: give --module"});
    at.token[0].access = CONF_ACCESS_NATIVE;
    if (!ctl->module && !ctl->pin_file)
        options->pin_uri = at.ca[0].key;
    else if (!ctl->module)
        at.token[0].pin_file = (char *)(uintptr_t)ctl->pin_file;
    at.ca[0].key = (char *)(uintptr_t)ctl->uri;
    at.token[0].key = NULL;
    if (pin_prompt_wanted(&at, 0)) /* then it is the PIN of the URI's token that somebody types */
        options->pin_uri = NULL;
    test.conf = &at;
    return tell(&test, json);
}

static int test_token(const struct conf *conf, size_t token, bool is_one_of_several,
                      const struct token_probe_options *options, struct json *json)
{
    struct test test = {
        .options = options, .needs = CTL_CHILD_NOTHING, .is_one_of_several = is_one_of_several};
    char section[CONF_SECTION_SIZE];
    struct why why = {""};
    struct conf at;

    if (ctl_conf_at_token(conf, token, &at, &why) != LEAFD_OK)
        return ctl_failed(&why);
    if (access(at.ca[0].certificate, F_OK) == 0)
        test.needs = CTL_CHILD_PIN | CTL_CHILD_CAS;
    test.conf = &at;
    test.section = conf_token_section(token, section);
    return tell(&test, json);
}

static int test_tokens(const struct ctl *ctl, const struct conf *conf, size_t token,
                       const struct token_probe_options *options, struct json *json)
{
    int code = CTL_OK;

    if (ctl->token_number)
        return test_token(conf, token, false, options, json);
    for (size_t i = 0; i < conf->token_count; i++) {
        if (i > 0 && !json)
            putchar('\n');
        if (test_token(conf, i, conf->token_count > 1, options, json) != CTL_OK)
            code = CTL_FAILED;
    }
    return code;
}

int ctl_token_test(const struct ctl *ctl)
{
    struct token_probe_options options;
    struct json json = JSON_EMPTY;
    struct json *to = ctl->json ? &json : NULL;
    struct conf *conf = NULL;
    struct why why = {""};
    enum ca_key key;
    size_t token = 0;
    int code = options_of(ctl, &options, &key);

    if (code == CTL_OK)
        code = ctl_conf_token_number(ctl, &token);
    if (code != CTL_OK)
        return code;
    if ((ctl->module ? conf_of_words(ctl, &conf, &why) : ctl_conf_load(ctl, &conf, &why)) !=
        LEAFD_OK) {
        code = ctl_failed(&why);
        if (ctl->uri && !ctl->module)
            ctl_note("no configuration is needed with --module FILE, the token's PKCS#11 module");
        return code;
    }
    if (to) {
        json_object_begin(to, NULL);
        json_array_begin(to, "tokens");
    }
    code = ctl->uri ? test_uri(ctl, conf, token, &options, to)
                    : test_tokens(ctl, conf, token, &options, to);
    conf_free(conf);
    if (!to)
        return ctl_flushed(code);
    json_array_end(to);
    json_bool(to, "good", code == CTL_OK);
    json_object_end(to);
    return ctl_print_json(to) == CTL_OK ? code : CTL_FAILED;
}
