/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_conf.h"

#include <stdlib.h>
#include <unistd.h>

enum { CA_FILE_MAX = 1 << 20 };

static enum leafd_err load(const struct ctl *ctl, struct bytes text, const char *file,
                           const char *dir, struct conf **ret, struct why *why)
{
    struct conf *conf;
    enum leafd_err err =
        conf_load(text, file, dir, ctl->overrides, ctl->override_count, &conf, why);

    if (err != LEAFD_OK)
        return err;
    if (conf->token_access == CONF_ACCESS_FILE && !ctl->insecure_file_key) {
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
    bool named = ctl->config || (variable && *variable) || ctl->override_count > 0;

    if (!named && access(SYSCONFDIR "/leafd/leafd.yaml", R_OK) == -1)
        return fail(why, LEAFD_ABSENT, "no configuration");
    return ctl_conf_load(ctl, ret, why);
}

static enum leafd_err ca_of_file(const struct conf *conf, const struct conf_ca *from, uint16_t id,
                                 struct ca **ret, struct why *why)
{
    struct bytes file;
    enum leafd_err err = bytes_read_file(from->certificate, CA_FILE_MAX, &file, why);

    if (err == LEAFD_NOMEM)
        return err;
    if (err != LEAFD_OK && access(from->certificate, F_OK) == -1)
        return fail(why, LEAFD_CONFIG,
                    "ca.certificate: %s is not there; leafctl ca init makes a CA in the token, or "
                    "put the certificate of one there that it has",
                    from->certificate);
    if (err != LEAFD_OK)
        return fail_in(why, LEAFD_CONFIG, "ca.certificate");
    err = ca_read(file, id, conf->ca_append_root, ret, why);
    free((void *)(uintptr_t)file.data);
    return err == LEAFD_OK ? LEAFD_OK : fail_in(why, err, "%s", from->certificate);
}

enum leafd_err ctl_cas_read(const struct conf *conf, struct ca_set **ret, struct why *why)
{
    const struct ca *cas[CONF_CA_MAX] = {NULL};
    struct ca *untrusted = NULL;
    struct ca_set *set = NULL;
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; err == LEAFD_OK && i < conf->ca_count; i++) {
        struct ca *ca = NULL;

        err = ca_of_file(conf, &conf->ca[i], (uint16_t)i, &ca, why);
        cas[i] = ca;
    }
    if (err == LEAFD_OK && conf->untrusted == CONF_UNTRUSTED_FILE)
        err = ca_of_file(conf, &conf->untrusted_ca, CA_ID_UNTRUSTED, &untrusted, why);
    if (err == LEAFD_OK) {
        set = ca_set_new(cas, conf->ca_count, untrusted);
        err = set ? LEAFD_OK : LEAFD_NOMEM;
    }
    for (size_t i = 0; i < conf->ca_count; i++)
        ca_unref(cas[i]);
    ca_unref(untrusted);
    if (err == LEAFD_OK)
        *ret = set;
    return err;
}
