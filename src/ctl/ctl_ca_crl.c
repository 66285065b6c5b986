/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca crl: the CA's revocation list, signed in the token. */
#include "config.h"

#include "ctl/ctl.h"

#include "conf/values.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_file.h"
#include "ctl/ctl_output.h"
#include "der/pem.h"
#include "pkcs11/ca_crl.h"
#include "policy/ca_files.h"
#include "policy/crl.h"

#include <inttypes.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

/* What the command line asks for. */
struct wish {
    struct ca_crl_options options;
    const char *out; /* NULL: ca.crl_file; "-": standard output */
    bool pem;
};

static bool to_stdout(const struct wish *wish)
{
    return wish->out && strcmp(wish->out, "-") == 0;
}

/* CTL_OK or CTL_USAGE. */
static int wish_of(const struct ctl *ctl, struct wish *ret)
{
    struct wish wish = {.out = ctl->out};
    int64_t days = 0;
    struct why why;

    if (ctl->days && value_count(ctl->days, 1, CA_CRL_DAYS_MAX, &days, &why) != LEAFD_OK)
        return ctl_wrong_usage("--days %s", why.text);
    wish.options.days = (unsigned)days;
    wish.pem = ctl->format && strcmp(ctl->format, "pem") == 0;
    if (ctl->format && !wish.pem && strcmp(ctl->format, "der") != 0)
        return ctl_wrong_usage("--format must be pem or der, not \"%s\"", ctl->format);
    if (wish.pem && !wish.out)
        return ctl_wrong_usage("--format pem needs --out: ca.crl_file is what clients get, DER");
    if (to_stdout(&wish) && ctl->json)
        return ctl_wrong_usage("--out - and --json would both write to standard output");
    *ret = wish;
    return CTL_OK;
}

static enum leafd_err make_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    return ca_crl_make(child->conf, child->cas, &child->pin, arg, ret_result, why);
}

/* ---- the file ---- */

/* `file` is that of `path`, or none for standard output. */
static enum leafd_err keep(const struct wish *wish, const struct new_file *file, const char *path,
                           struct bytes der, struct why *why)
{
    struct bytes pem = {NULL, 0};
    enum leafd_err err = wish->pem ? pem_new(PEM_STRING_X509_CRL, der, &pem) : LEAFD_OK;
    struct bytes content = wish->pem ? pem : der;

    if (err == LEAFD_OK && file->path)
        err = new_file_replace(file, content, path, why);
    else if (err == LEAFD_OK && fwrite(content.data, 1, content.len, stdout) != content.len)
        err = fail(why, LEAFD_IO, "cannot write to standard output");
    free((void *)(uintptr_t)pem.data);
    return err;
}

/* ---- what is told ---- */

static int tell(const struct ctl *ctl, const char *path, const struct crl *crl)
{
    struct json json = JSON_EMPTY;
    char text[CLOCK_TEXT_SIZE];

    if (!ctl->json) {
        ctl_print_row("CRL", path);
        ctl_print_row("  this update", clock_text(crl->this_update, text));
        ctl_print_row("  next update", clock_text(crl->next_update, text));
        snprintf(text, sizeof(text), "%" PRIu64, crl->number);
        ctl_print_row("  number", text);
        return ctl_flushed(CTL_OK);
    }
    json_object_begin(&json, NULL);
    json_string(&json, "crl", path);
    json_string(&json, "this_update", ctl_time_json(crl->this_update, text));
    json_string(&json, "next_update", ctl_time_json(crl->next_update, text));
    json_uint(&json, "number", crl->number);
    json_object_end(&json);
    return ctl_print_json(&json);
}

/* The child's word is checked once more, with the certificate as it is here. */
static enum leafd_err check(const struct conf *conf, struct bytes der, struct crl *ret,
                            struct why *why)
{
    struct ca_set *cas = NULL;
    enum leafd_err err = ca_files_read(conf, &cas, why);

    if (err == LEAFD_OK)
        err = crl_read(der, cas->ca[0], ret, why);
    ca_set_unref(cas);
    return err;
}

static enum leafd_err make(const struct conf *conf, struct wish *wish, const char *path,
                           struct crl *ret, struct why *why)
{
    struct new_file file = NEW_FILE_EMPTY;
    struct bytes before = {NULL, 0};
    struct bytes der = {NULL, 0};
    enum leafd_err err = to_stdout(wish) ? LEAFD_OK : new_file_open(path, &file, why);

    if (file.path && bytes_read_file(path, CRL_SIZE_MAX, &before, NULL) == LEAFD_OK)
        wish->options.before = before;
    if (err == LEAFD_OK)
        err = ctl_child_run(conf, CTL_CHILD_CAS | CTL_CHILD_PIN, make_in_child, &wish->options,
                            &der, why);
    if (err == LEAFD_OK)
        err = check(conf, der, ret, why);
    if (err == LEAFD_OK)
        err = keep(wish, &file, path, der, why);
    new_file_clear(&file);
    free((void *)(uintptr_t)der.data);
    free((void *)(uintptr_t)before.data);
    return err;
}

int ctl_ca_crl(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct conf at;
    struct wish wish;
    size_t token = 0;
    struct crl crl;
    const char *path;
    struct why why = {""};
    enum leafd_err err;
    int code = wish_of(ctl, &wish);

    if (code == CTL_OK)
        code = ctl_conf_token_number(ctl, &token);
    if (code != CTL_OK)
        return code;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err != LEAFD_OK)
        return ctl_failed(&why);
    err = ctl_conf_at_token(conf, token, &at, &why);
    path = wish.out ? wish.out : conf->ca_crl_file;
    if (err == LEAFD_OK && !path)
        err = fail(&why, LEAFD_CONFIG, "where to? Set ca.crl_file, or give --out FILE");
    else if (err == LEAFD_OK)
        err = make(&at, &wish, path, &crl, &why);
    if (err != LEAFD_OK)
        code = ctl_failed(&why);
    else
        code = to_stdout(&wish) ? ctl_flushed(CTL_OK) : tell(ctl, path, &crl);
    conf_free(conf);
    return code;
}
