/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_conf.h"

#include "ctl/ctl_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum leafd_err load(const struct ctl *ctl, struct bytes text, const char *file,
                           const char *dir, struct conf **ret, struct why *why)
{
    struct conf *conf;
    enum leafd_err err =
        conf_load(text, file, dir, ctl->overrides.text, ctl->overrides.count, &conf, why);

    if (err != LEAFD_OK)
        return err;
    if (conf->token[0].access == CONF_ACCESS_FILE && !ctl->insecure_file_key) {
        conf_free(conf);
        return fail(why, LEAFD_CONFIG,
                    "token.access: file keeps the CA key in a file; only --insecure-file-key on "
                    "the command line allows that, for tests");
    }
    conf->insecure_file_key = ctl->insecure_file_key;
    *ret = conf;
    return LEAFD_OK;
}

enum leafd_err ctl_conf_load(const struct ctl *ctl, struct conf **ret, struct why *why)
{
    struct bytes text;
    char *file;
    char *dir;
    enum leafd_err err = conf_find(ctl->config, &text, &file, &dir, why);

    if (err != LEAFD_OK)
        return err;
    err = load(ctl, text, file, dir, ret, why);
    free((void *)(uintptr_t)text.data);
    free(file);
    free(dir);
    return err;
}

enum leafd_err ctl_conf_load_if_any(const struct ctl *ctl, struct conf **ret, struct why *why)
{
    const char *variable = getenv("LEAFD_CONFIG");
    bool named = ctl->config || (variable && *variable) || ctl->overrides.count > 0;

    if (!named && access(SYSCONFDIR "/leafd/leafd.yaml", R_OK) == -1)
        return fail(why, LEAFD_ABSENT, "no configuration");
    return ctl_conf_load(ctl, ret, why);
}

int ctl_conf_token_number(const struct ctl *ctl, size_t *ret)
{
    const char *text = ctl->token_number;

    if (text && (text[0] < '0' || text[0] > '9' || text[1]))
        return ctl_wrong_usage("--token is a number, as leafctl status shows it: 0 is token, 1 the "
                               "first of more_tokens");
    *ret = text ? (size_t)(text[0] - '0') : 0;
    return CTL_OK;
}

enum leafd_err ctl_conf_at_token(const struct conf *conf, size_t token, struct conf *ret,
                                 struct why *why)
{
    if (token >= conf->token_count)
        return fail(why, LEAFD_CONFIG,
                    "there is no token %zu: the configuration has %zu, from 0 (token) on", token,
                    conf->token_count);
    *ret = *conf;
    ret->token_count = 1;
    ret->token[0] = conf->token[token];
    if (ret->token[0].key)
        ret->ca[0].key = ret->token[0].key;
    return LEAFD_OK;
}

static void append(char out[static CTL_CONF_WORDS_SIZE], const char *text, size_t len)
{
    size_t at = strlen(out);

    snprintf(out + at, CTL_CONF_WORDS_SIZE - at, "%.*s", (int)len, text);
}

const char *ctl_conf_words(const struct ctl *ctl, char out[static CTL_CONF_WORDS_SIZE])
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "/._-+=:,@%";
    bool is_plain;

    out[0] = '\0';
    if (!ctl->config)
        return out;
    is_plain = *ctl->config && ctl->config[strspn(ctl->config, plain)] == '\0';
    append(out, is_plain ? " -c " : " -c '", 5);
    for (const char *at = ctl->config; *at; at++)
        append(out, *at == '\'' ? "'\\''" : at, *at == '\'' ? 4 : 1);
    append(out, is_plain ? "" : "'", 1);
    return out;
}
