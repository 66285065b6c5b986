/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/ca_files.h"

#include <stdlib.h>
#include <unistd.h>

enum { CA_FILE_MAX = 1 << 20 };

enum leafd_err ca_of_text(const struct conf *conf, struct bytes text, uint16_t id, struct ca **ret,
                          struct why *why)
{
    struct ca *ca;
    enum leafd_err err = ca_read(text, id, conf->ca_append_root, &ca, why);

    if (err == LEAFD_OK && id != CA_ID_UNTRUSTED && conf->ca_rsa_padding == CONF_RSA_PSS) {
        err = ca_use_pss(ca, why);
        if (err != LEAFD_OK)
            ca_unref(ca);
    }
    if (err == LEAFD_OK)
        *ret = ca;
    return err;
}

/* What is wrong here is in the operator's hands, at the start as much as later: LEAFD_CONFIG. */
static enum leafd_err ca_of_file(const struct conf *conf, const struct conf_ca *from, uint16_t id,
                                 const struct ca **ret, struct why *why)
{
    struct bytes file;
    struct ca *ca;
    enum leafd_err err = bytes_read_file(from->certificate, CA_FILE_MAX, &file, why);

    if (err == LEAFD_NOMEM)
        return err;
    if (err != LEAFD_OK && access(from->certificate, F_OK) == -1)
        return fail(why, LEAFD_CONFIG,
                    "ca.certificate: %s is not there; leafctl ca init makes a CA in the token, and "
                    "leafctl ca install takes the certificate of one that it has",
                    from->certificate);
    if (err != LEAFD_OK)
        return fail_in(why, LEAFD_CONFIG, "ca.certificate");
    err = ca_of_text(conf, file, id, &ca, why);
    free((void *)(uintptr_t)file.data);
    if (err != LEAFD_OK)
        return fail_in(why, err, "%s", from->certificate);
    *ret = ca;
    return LEAFD_OK;
}

enum leafd_err ca_files_read(const struct conf *conf, struct ca_set **ret, struct why *why)
{
    const struct ca *cas[CONF_CA_MAX] = {NULL};
    const struct ca *untrusted = NULL;
    struct ca_set *set = NULL;
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; err == LEAFD_OK && i < conf->ca_count; i++)
        err = ca_of_file(conf, &conf->ca[i], (uint16_t)i, &cas[i], why);
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
