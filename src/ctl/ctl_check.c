/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl check: what a start would find wrong, before it is tried; the tokens are asked for their
 * keys too. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "base/sandbox.h"
#include "base/terminal.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "pkcs11/token_report.h"
#include "policy/ca_files.h"
#include "policy/crl.h"
#include "policy/policy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FINDINGS_MAX = 64, FINDING_SIZE = 320, TOKEN_PATIENCE_SEC = 30 };

struct finding {
    bool is_error; /* else a warning: leafd would start all the same */
    char text[FINDING_SIZE];
};

struct findings {
    struct finding of[FINDINGS_MAX];
    size_t count;
    size_t errors;
    bool has_key[CONF_TOKEN_MAX]; /* of each CA: this token was asked, and has them */
    size_t tokens_asked;
};

__attribute__((format(printf, 3, 4))) static void find(struct findings *to, bool is_error,
                                                       const char *format, ...)
{
    va_list args;

    to->errors += is_error;
    if (to->count == FINDINGS_MAX)
        return;
    to->of[to->count].is_error = is_error;
    va_start(args, format);
    vsnprintf(to->of[to->count].text, FINDING_SIZE, format, args);
    va_end(args);
    to->count++;
}

/* ---- files ---- */

/* True when it is a file; what is wrong otherwise is told. Who is not root cannot see what leafd,
 * started as root, would. */
static bool find_file(struct findings *to, const char *option, const char *path,
                      struct stat *ret_status)
{
    if (stat(path, ret_status) == -1) {
        find(to, errno != EACCES || geteuid() == 0, "%s: %s: %s", option, path, strerror(errno));
        return false;
    }
    if (S_ISDIR(ret_status->st_mode)) {
        find(to, true, "%s: %s is a folder", option, path);
        return false;
    }
    return true;
}

/* Secrets are for their owner alone. */
static void find_secret(struct findings *to, const char *option, const char *path)
{
    struct stat status;

    if (!find_file(to, option, path, &status))
        return;
    if (status.st_mode & 077)
        find(to, false, "%s: %s can be read by others than its owner; chmod 600 it", option, path);
    if (status.st_size == 0 && S_ISREG(status.st_mode))
        find(to, true, "%s: %s is empty", option, path);
}

/* Sockets are made by the supervisor, the last folder of their path too. */
static void find_folder(struct findings *to, const char *option, const char *path)
{
    char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    struct stat status;

    if (slash && slash != folder) {
        *slash = '\0';
        if (stat(folder, &status) == -1) {
            slash = strrchr(folder, '/');
            if (slash && slash != folder)
                *slash = '\0';
        }
        if (stat(folder, &status) == -1)
            find(to, true, "%s: %s: %s", option, folder, strerror(errno));
        else if (access(folder, W_OK) == -1)
            find(to, geteuid() == 0, "%s: cannot write to %s: %s; leafd has to be started as root",
                 option, folder, strerror(errno));
    }
    free(folder);
}

static void find_token(struct findings *to, const struct conf *conf, size_t index)
{
    const struct conf_token *token = &conf->token[index];
    char section[CONF_SECTION_SIZE];
    char row[64];
    struct stat status;

    conf_token_section(index, section);
    if (token->access == CONF_ACCESS_FILE) {
        for (size_t i = 0; i < conf->ca_count && index == 0; i++)
            find_secret(to, "ca.key", conf->ca[i].key);
        if (token->key)
            find_secret(to, "more_tokens[].key", token->key);
        return;
    }
    snprintf(row, sizeof(row), "%s.module", section);
    (void)find_file(to, row, token->module, &status);
    snprintf(row, sizeof(row), "%s.pin_file", section);
    if (token->pin_file)
        find_secret(to, row, token->pin_file);
    if (token->pin_env && (!getenv(token->pin_env) || !*getenv(token->pin_env)))
        find(to, false, "%s.pin_env: the variable %s is not set here", section, token->pin_env);
    snprintf(row, sizeof(row), "%s.env: SOFTHSM2_CONF", section);
    for (size_t i = 0; i < token->env_count; i++) {
        if (strcmp(token->env[i].name, "SOFTHSM2_CONF") == 0)
            (void)find_file(to, row, token->env[i].value, &status);
    }
}

static enum leafd_err try_in_child(const struct ctl_child *child, const void *arg,
                                   struct bytes *ret_result, struct why *why)
{
    (void)arg;
    (void)ret_result;
    alarm(TOKEN_PATIENCE_SEC);
    return token_try_keys(child->conf, child->cas, &child->pin, why);
}

static bool can_ask(void)
{
    int terminal = terminal_open();

    if (terminal == -1)
        return false;
    close(terminal);
    return true;
}

/* Is the PIN to be had here, and still there for leafd afterwards? Why not is told, but for a
 * variable that is not set, which has been told. */
static bool can_read_pin(struct findings *to, const char *section, const struct conf_token *token)
{
    struct stat status;

    if (token->pin_env)
        return getenv(token->pin_env) && *getenv(token->pin_env);
    if (token->pin_prompt == CONF_PIN_PROMPT_YES && token->access != CONF_ACCESS_FILE &&
        !can_ask()) {
        find(to, false, "%s.pin_prompt: not asked for the CA's key: there is no terminal here",
             section);
        return false;
    }
    if (!token->pin_file || token->access == CONF_ACCESS_FILE)
        return true;
    if (access(token->pin_file, R_OK) == -1)
        find(to, false, "%s: not asked for the CA's key: %s: %s", section, token->pin_file,
             strerror(errno));
    else if (stat(token->pin_file, &status) == -1 || !S_ISREG(status.st_mode))
        find(to, false, "%s: not asked for the CA's key: %s is no file, and may be read once alone",
             section, token->pin_file);
    else
        return true;
    return false;
}

/* What keeps leafd from starting is an error, what it waits for a warning. */
static void find_key(struct findings *to, const struct conf *conf, size_t index)
{
    char section[CONF_SECTION_SIZE];
    struct bytes result = {NULL, 0};
    struct why why = {""};
    struct conf at;
    enum leafd_err err = ctl_conf_at_token(conf, index, &at, &why);

    conf_token_section(index, section);
    if (err == LEAFD_OK && !can_read_pin(to, section, &at.token[0]))
        return;
    if (err == LEAFD_OK)
        err = ctl_child_run(&at, CTL_CHILD_CAS | CTL_CHILD_PIN, try_in_child, NULL, &result, &why);
    free((void *)(uintptr_t)result.data);
    to->tokens_asked++;
    to->has_key[index] = err == LEAFD_OK;
    if (err != LEAFD_OK)
        find(to, err == LEAFD_CONFIG || err == LEAFD_PIN, "%s: %s", section, why.text);
}

/* Each by itself; one whose files are wrong has been told of. */
static void find_tokens(struct findings *to, const struct conf *conf, bool ask)
{
    size_t errors_before = to->errors;

    for (size_t i = 0; i < conf->token_count; i++) {
        size_t errors = to->errors;

        find_token(to, conf, i);
        if (ask && errors_before == 0 && to->errors == errors)
            find_key(to, conf, i);
    }
}

static void find_sockets(struct findings *to, const struct conf *conf)
{
    for (size_t i = 0; i < conf->listen_count; i++) {
        if (conf->listen[i].is_unix)
            find_folder(to, "listen[].unix", conf->listen[i].path);
    }
    find_folder(to, "control.socket", conf->control_socket);
    if (conf->admin_unix)
        find_folder(to, "admin.unix", conf->admin_unix);
}

/* ---- users, policy, CAs ---- */

static void find_users(struct findings *to, const struct conf *conf)
{
    struct sandbox_user front;
    struct sandbox_user signer;
    struct why why;

    if (geteuid() != 0)
        return; /* all roles stay who we are */
    if (sandbox_user_of(conf->user_front, &front, &why) != LEAFD_OK)
        find(to, true, "user.front: %s", why.text);
    else if (sandbox_user_of(conf->user_signer, &signer, &why) != LEAFD_OK)
        find(to, true, "user.signer: %s", why.text);
    else if (front.uid == signer.uid)
        find(to, false,
             "user.front and user.signer are the same: a front that is taken over may "
             "reach the token");
}

static void find_policy(struct findings *to, const struct conf *conf)
{
    for (size_t i = 0; i < conf->deny_count; i++) {
        struct name_rule rule;
        struct why why;

        if (name_rule_of(conf->deny[i], &rule, &why) != LEAFD_OK)
            find(to, true, "policy.deny: %s", why.text);
    }
}

static void find_in_ca(struct findings *to, const struct ca *ca, const char *file)
{
    int64_t now = clock_wall_sec();
    bool by_issuer = now > ca->not_after    ? ca->not_after < ca->own_not_after
                     : now < ca->not_before ? ca->not_before > ca->own_not_before
                                            : ca->not_after < ca->own_not_after;
    const char *whose = by_issuer ? "has an issuer that " : "";
    char time[CLOCK_TEXT_SIZE];

    if (now > ca->not_after)
        find(to, false, "%s %shas expired on %s: leafd would start and refuse to issue", file,
             whose, clock_text(ca->not_after, time));
    else if (now < ca->not_before)
        find(to, false, "%s %sis not valid before %s: leafd would start and refuse to issue", file,
             whose, clock_text(ca->not_before, time));
    else if (ca->not_after - now < (int64_t)30 * 86400)
        find(to, false, "%s %sexpires on %s: no leaf is valid for longer", file, whose,
             clock_text(ca->not_after, time));
    if (now > ca->root_not_after)
        find(to, false,
             "%s: the root in it has expired on %s; clients with a newer one do not mind", file,
             clock_text(ca->root_not_after, time));
    if (ca->key_id_was_missing)
        find(to, false, "%s has no subject key identifier", file);
    if (ca->key_type == KEY_TYPE_ED25519)
        find(to, false, "%s has an Ed25519 key: no browser takes what it signs", file);
}

/* What the front finds at its start. Who is root can read what the front cannot. */
static void find_crl(struct findings *to, const struct conf *conf, const struct ca *ca)
{
    const char *path = conf->ca_crl_file;
    struct bytes der = {NULL, 0};
    struct stat status;
    struct crl crl;
    struct why why = {""};

    if (crl_conf_needs_care(conf, ca, &why))
        find(to, false, "%s", why.text);
    if (!path)
        return;
    if (stat(path, &status) == -1)
        find(to, false, "ca.crl_file: %s: %s%s", path, strerror(errno),
             errno == ENOENT ? "; leafctl ca crl makes it" : "");
    else if (!S_ISREG(status.st_mode))
        find(to, false, "ca.crl_file: %s is no file", path);
    else if (bytes_read_file(path, CRL_SIZE_MAX, &der, &why) != LEAFD_OK)
        find(to, false, "ca.crl_file: %s", why.text);
    else if (crl_read(der, ca, &crl, &why) != LEAFD_OK ||
             crl_needs_care(&crl, clock_wall_sec(), &why))
        find(to, false, "ca.crl_file: %s: %s", path, why.text);
    else if (geteuid() == 0 && !(status.st_mode & S_IROTH))
        find(to, false, "ca.crl_file: %s must be readable for the user of the front; chmod 644 it",
             path);
    free((void *)(uintptr_t)der.data);
}

static void find_cas(struct findings *to, const struct conf *conf)
{
    struct ca_set *cas = NULL;
    struct why why = {""};

    if (ca_files_read(conf, &cas, &why) != LEAFD_OK) {
        find(to, true, "%s", why.text);
        return;
    }
    for (size_t i = 0; i < cas->count; i++)
        find_in_ca(to, cas->ca[i], conf->ca[i].certificate);
    find_crl(to, conf, cas->ca[0]);
    ca_set_unref(cas);
}

/* ---- output ---- */

static void write_findings(const struct findings *findings, bool errors, const char *name,
                           struct json *json)
{
    json_array_begin(json, name);
    for (size_t i = 0; i < findings->count; i++) {
        if (findings->of[i].is_error == errors)
            json_string(json, NULL, findings->of[i].text);
    }
    json_array_end(json);
}

static int tell_json(const struct conf *conf, const struct findings *findings)
{
    struct json json = JSON_EMPTY;
    int code;

    json_object_begin(&json, NULL);
    json_bool(&json, "good", findings->errors == 0);
    json_string(&json, "configuration", conf->file);
    json_array_begin(&json, "listen");
    for (size_t i = 0; i < conf->listen_count; i++)
        json_string(&json, NULL, conf->listen[i].text);
    json_array_end(&json);
    json_array_begin(&json, "tokens");
    for (size_t i = 0; i < conf->token_count; i++) {
        char section[CONF_SECTION_SIZE];

        json_object_begin(&json, NULL);
        json_string(&json, "configured", conf_token_section(i, section));
        json_bool(&json, "has_key", findings->has_key[i]);
        json_object_end(&json);
    }
    json_array_end(&json);
    write_findings(findings, true, "errors", &json);
    write_findings(findings, false, "warnings", &json);
    json_object_end(&json);
    code = ctl_print_json(&json);
    return findings->errors ? CTL_FAILED : code;
}

/* The key's URI without what may be secret in it (pin-value). */
static void print_key(const struct conf *conf)
{
    char text[300];

    snprintf(text, sizeof(text), "%.*s", (int)strcspn(conf->ca[0].key, "?"), conf->ca[0].key);
    ctl_print_row("CA key", text);
}

static void print_tokens(const struct conf *conf, const struct findings *findings)
{
    for (size_t i = 0; i < conf->token_count; i++) {
        char section[CONF_SECTION_SIZE];

        if (conf->token[i].module)
            ctl_print_row("Token module", conf->token[i].module);
        if (findings->has_key[i])
            ctl_print_row(conf_token_section(i, section), "has the CA's key");
    }
}

static int tell(const struct conf *conf, const struct findings *findings)
{
    ctl_print_row("Configuration", conf->file);
    for (size_t i = 0; i < conf->listen_count; i++)
        ctl_print_row(i == 0 ? "Listens at" : "", conf->listen[i].text);
    ctl_print_row("CA certificate", conf->ca[0].certificate);
    print_key(conf);
    print_tokens(conf, findings);
    if (geteuid() == 0) {
        ctl_print_row("Front runs as", conf->user_front);
        ctl_print_row("Signer runs as", conf->user_signer);
    }
    for (size_t i = 0; i < findings->count; i++)
        ctl_print_row(findings->of[i].is_error ? "ERROR" : "Warning", findings->of[i].text);
    if (findings->errors == 0)
        puts(findings->tokens_asked ? "leafd would start with this."
                                    : "leafd would start with this. No token was asked.");
    if (ctl_flushed(CTL_OK) != CTL_OK)
        return CTL_FAILED;
    if (findings->errors == 0)
        return CTL_OK;
    return ctl_failed(&(struct why){"leafd would not start with this"});
}

static int check(const struct ctl *ctl, const struct conf *conf)
{
    struct findings *findings = calloc(1, sizeof(*findings));
    struct why why = {""};
    int code;

    if (!findings)
        return ctl_failed(&why);
    find_users(findings, conf);
    find_cas(findings, conf);
    find_tokens(findings, conf, !ctl->no_token);
    find_policy(findings, conf);
    find_sockets(findings, conf);
    code = ctl->json ? tell_json(conf, findings) : tell(conf, findings);
    free(findings);
    return code;
}

int ctl_check(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct why why = {""};
    int code;

    if (ctl->sample) {
        conf_print_sample(STDOUT_FILENO);
        return CTL_OK;
    }
    if (ctl_conf_load(ctl, &conf, &why) != LEAFD_OK)
        return ctl_failed(&why);
    code = check(ctl, conf);
    conf_free(conf);
    return code;
}
