/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl token list: the tokens that the configured modules know. */
#include "config.h"

#include "ctl/ctl.h"

#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "ctl/ctl_token_report.h"
#include "pkcs11/token_module.h"
#include "policy/ca_files.h"

#include <stdlib.h>
#include <string.h>

/* For the child, whose own configuration begins with the token whose module is asked. */
struct asked {
    const struct conf *conf;
    size_t token;
    const struct ca_set *cas; /* or NULL */
};

static enum leafd_err list_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    const struct asked *asked = arg;
    struct token_description *tokens = NULL;
    size_t count = 0;
    enum leafd_err err = token_list(asked->conf, asked->token, asked->cas, &tokens, &count, why);

    (void)child;
    if (err == LEAFD_OK)
        *ret_result = (struct bytes){(const uint8_t *)tokens, count * sizeof(*tokens)};
    return err;
}

/* ---- output ---- */

static void print_configured(const struct token_description *token, size_t count)
{
    char text[CONF_SECTION_SIZE * CONF_TOKEN_MAX] = "";
    size_t len = 0;

    for (size_t i = 0; i < count; i++) {
        char section[CONF_SECTION_SIZE];

        if (token->configured & 1u << i)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? ", " : "",
                                    conf_token_section(i, section));
    }
    ctl_print_row("  configured", len ? text : "no");
}

static void print_token(const struct token_description *token, const struct conf *conf)
{
    ctl_token_print(token);
    ctl_print_row("  mechanisms", token->mechanisms[0] ? token->mechanisms : "none leafd uses");
    print_configured(token, conf->token_count);
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

static void write_token(const struct token_description *token, const char *module,
                        struct json *json)
{
    json_object_begin(json, NULL);
    json_string(json, "module", module);
    ctl_token_write(token, json);
    json_string(json, "mechanisms", token->mechanisms);
    json_array_begin(json, "configured");
    for (unsigned i = 0; i < CONF_TOKEN_MAX; i++)
        if (token->configured & 1u << i)
            json_uint(json, NULL, i);
    json_array_end(json);
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

/* Of one module. `json`: NULL for people. */
static void tell(const struct conf *conf, const char *module, struct bytes result,
                 struct json *json)
{
    size_t count = result.len / sizeof(struct token_description);

    if (!json)
        ctl_print_row("Module", module);
    if (!json && count == 0)
        puts("  The module knows no token.");
    for (size_t i = 0; i < count; i++) {
        struct token_description token;

        memcpy(&token, result.data + i * sizeof(token), sizeof(token));
        if (json)
            write_token(&token, module, json);
        else
            print_token(&token, conf);
    }
}

/* ---- modules ---- */

/* Is this the first token that its module is named for? */
static bool is_new_module(const struct conf *conf, size_t token)
{
    if (conf->token[token].access == CONF_ACCESS_FILE)
        return false;
    for (size_t i = 0; i < token; i++)
        if (token_module_is_same(&conf->token[i], &conf->token[token]))
            return false;
    return true;
}

static enum leafd_err list_module(struct asked *asked, struct json *json, struct why *why)
{
    const char *module = asked->conf->token[asked->token].module;
    struct bytes result = {NULL, 0};
    struct conf at;
    enum leafd_err err = ctl_conf_at_token(asked->conf, asked->token, &at, why);

    if (err == LEAFD_OK)
        err = ctl_child_run(&at, CTL_CHILD_NOTHING, list_in_child, asked, &result, why);
    if (err == LEAFD_OK)
        tell(asked->conf, module, result, json);
    free((void *)(uintptr_t)result.data);
    return err;
}

/* One that fails does not hide the others. */
static int list(const struct ctl *ctl, const struct conf *conf, const struct ca_set *cas)
{
    struct asked asked = {.conf = conf, .cas = cas};
    struct json json = JSON_EMPTY;
    struct why why = {"token.access is file: there is no token"};
    size_t modules = 0;
    int code = CTL_OK;

    if (ctl->json)
        json_array_begin(&json, NULL);
    for (asked.token = 0; asked.token < conf->token_count; asked.token++) {
        if (!is_new_module(conf, asked.token))
            continue;
        if (modules++ > 0 && !ctl->json)
            putchar('\n');
        fflush(stdout);
        if (list_module(&asked, ctl->json ? &json : NULL, &why) != LEAFD_OK)
            code = ctl_failed(&why);
    }
    if (ctl->json) {
        json_array_end(&json);
        if (ctl_print_json(&json) != CTL_OK)
            code = CTL_FAILED;
    }
    if (modules == 0)
        return ctl_failed(&why);
    return ctl_flushed(code);
}

int ctl_token_list(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct ca_set *cas = NULL;
    struct why why = {""};
    int code;

    if (ctl_conf_load(ctl, &conf, &why) != LEAFD_OK)
        return ctl_failed(&why);
    if (ca_files_read(conf, &cas, NULL) != LEAFD_OK)
        cas = NULL; /* before ca init there are none */
    code = list(ctl, conf, cas);
    ca_set_unref(cas);
    conf_free(conf);
    return code;
}
