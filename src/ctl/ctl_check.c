/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl check: what a start would find wrong, before it is tried. The token itself is not asked;
 * leafctl token test does that. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "base/sandbox.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "policy/ca_files.h"
#include "policy/crl.h"
#include "policy/policy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FINDINGS_MAX = 64, FINDING_SIZE = 320 };

struct finding {
    bool is_error; /* else a warning: leafd would start all the same */
    char text[FINDING_SIZE];
};

struct findings {
    struct finding of[FINDINGS_MAX];
    size_t count;
    size_t errors;
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
    char section[40] = "token"; /* a place has at most 20 digits */
    char row[64];
    struct stat status;

    if (index > 0)
        snprintf(section, sizeof(section), "more_tokens[%zu]", index - 1);
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

static int tell(const struct conf *conf, const struct findings *findings)
{
    ctl_print_row("Configuration", conf->file);
    for (size_t i = 0; i < conf->listen_count; i++)
        ctl_print_row(i == 0 ? "Listens at" : "", conf->listen[i].text);
    ctl_print_row("CA certificate", conf->ca[0].certificate);
    print_key(conf);
    if (conf->token[0].module)
        ctl_print_row("Token module", conf->token[0].module);
    if (geteuid() == 0) {
        ctl_print_row("Front runs as", conf->user_front);
        ctl_print_row("Signer runs as", conf->user_signer);
    }
    for (size_t i = 0; i < findings->count; i++)
        ctl_print_row(findings->of[i].is_error ? "ERROR" : "Warning", findings->of[i].text);
    if (findings->errors == 0)
        puts("leafd would start with this. The token was not asked; leafctl token test does that.");
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
    for (size_t i = 0; i < conf->token_count; i++)
        find_token(findings, conf, i);
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
