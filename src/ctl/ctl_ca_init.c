/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca init: a CA whose key is made in the token. */
#include "config.h"

#include "ctl/ctl.h"

#include "conf/values.h"
#include "ctl/ctl_ca_options.h"
#include "ctl/ctl_ca_text.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_file.h"
#include "ctl/ctl_output.h"
#include "pkcs11/ca_make.h"
#include "policy/ca_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static enum leafd_err init_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    return ca_make(child->conf, &child->pin, arg, ret_result, why);
}

static int init_tell(const struct ctl *ctl, const struct conf *conf, struct bytes pem)
{
    struct json json = JSON_EMPTY;
    struct why why = {""};
    struct ca *ca;

    if (ca_of_text(conf, pem, 0, &ca, &why) != LEAFD_OK)
        return ctl_failed(&why);
    if (ctl->json)
        ctl_ca_write(ca, conf->ca[0].certificate, &json);
    else
        ctl_ca_print(ca, conf->ca[0].certificate);
    ca_unref(ca);
    return ctl->json ? ctl_print_json(&json) : ctl_flushed(CTL_OK);
}

static enum leafd_err init(const struct conf *conf, const struct ca_make_options *options,
                           struct bytes *ret_pem, struct why *why)
{
    const char *target = conf->ca[0].certificate;
    struct new_file file = NEW_FILE_EMPTY;
    struct bytes pem = {NULL, 0};
    struct stat status;
    enum leafd_err err;

    if (conf->token[0].access == CONF_ACCESS_FILE)
        return fail(why, LEAFD_CONFIG, "token.access is file: ca init makes keys in tokens");
    if (lstat(target, &status) == 0)
        return fail(why, LEAFD_CONFIG,
                    "%s is there already; move it away, or name another ca.certificate", target);
    err = new_file_open(target, &file, why);
    if (err != LEAFD_OK)
        return err;
    err = ctl_child_run(conf, CTL_CHILD_PIN, init_in_child, options, &pem, why);
    if (err != LEAFD_OK)
        goto out;
    err = new_file_keep(&file, pem, target, why);
    if (err != LEAFD_OK) { /* the key is in the token now: do not lose what belongs to it */
        fwrite(pem.data, 1, pem.len, stdout);
        err = fail_in(why, err, "the key was made, and its certificate is printed here");
        goto out;
    }
    *ret_pem = pem;
    pem.data = NULL;
out:
    free((void *)(uintptr_t)pem.data);
    new_file_clear(&file);
    return err;
}

/* --days; CTL_OK or CTL_USAGE. */
static int days_of(const struct ctl *ctl, unsigned *ret)
{
    int64_t days = 0;
    struct why why;

    if (ctl->days && value_count(ctl->days, 1, CA_DAYS_MAX, &days, &why) != LEAFD_OK)
        return ctl_wrong_usage("--days %s", why.text);
    *ret = (unsigned)days;
    return CTL_OK;
}

int ctl_ca_init(const struct ctl *ctl)
{
    struct name_constraints constraints = {.on_subject = false};
    struct ca_make_options options;
    struct conf *conf = NULL;
    struct conf at;
    struct bytes pem = {NULL, 0};
    struct why why = {""};
    size_t token = 0;
    enum leafd_err err;
    int code = ctl_ca_options(ctl, &options, &constraints);

    if (code == CTL_OK)
        code = days_of(ctl, &options.days);
    if (code == CTL_OK)
        code = ctl_conf_token_number(ctl, &token);
    if (code != CTL_OK)
        goto out;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err == LEAFD_OK)
        err = ctl_conf_at_token(conf, token, &at, &why);
    if (err == LEAFD_OK) {
        if (options.key >= CA_KEY_RSA_2048 && options.key <= CA_KEY_RSA_4096)
            ctl_progress("making an RSA key in the token; this can take a minute ...");
        err = init(&at, &options, &pem, &why);
    }
    code = err == LEAFD_OK ? init_tell(ctl, conf, pem) : ctl_failed(&why);
out:
    free((void *)(uintptr_t)pem.data);
    name_constraints_clear(&constraints);
    conf_free(conf);
    return code;
}
