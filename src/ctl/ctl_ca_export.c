/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca export: what clients have to be given, in the forms that they take. */
#include "config.h"

#include "ctl/ctl.h"

#include "ctl/ctl_ca_howto.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_file.h"
#include "ctl/ctl_mobileconfig.h"
#include "ctl/ctl_output.h"
#include "policy/ca_files.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum form { FORM_PEM, FORM_DER, FORM_MOBILECONFIG, FORM_TEXT, FORM_COUNT };

/* The CA's file, read and checked. */
struct from {
    struct ca *ca;
    struct cert_list list;
};

/* CTL_OK or CTL_USAGE. */
static int form_of(const struct ctl *ctl, enum form *ret)
{
    static const char *const words[FORM_COUNT] = {"pem", "der", "mobileconfig", "text"};
    const char *word = ctl->format ? ctl->format : "pem";
    unsigned form = 0;

    while (form < FORM_COUNT && strcmp(words[form], word) != 0)
        form++;
    if (form == FORM_COUNT)
        return ctl_wrong_usage("--format must be pem, der, mobileconfig or text, not \"%s\"", word);
    if (ctl->root && ctl->chain)
        return ctl_wrong_usage("--root and --chain are two different things to export");
    if (form == FORM_TEXT && ctl->chain)
        return ctl_wrong_usage("--format text is about the root; it has no --chain");
    if (ctl->json)
        return ctl_wrong_usage("ca export writes files for other programs; it has no --json");
    if (form == FORM_DER && !ctl->out && isatty(STDOUT_FILENO))
        return ctl_wrong_usage("DER is nothing for a terminal: give --out FILE");
    *ret = (enum form)form;
    return CTL_OK;
}

static enum leafd_err from_read(const struct conf *conf, struct from *ret, struct why *why)
{
    const char *path = conf->ca[0].certificate;
    struct bytes text;
    enum leafd_err err = ca_file_text(path, &text, why);

    if (err != LEAFD_OK)
        return err;
    err = ca_read(text, 0, false, &ret->ca, why);
    if (err == LEAFD_OK) {
        err = cert_list_read(text, &ret->list, why);
        if (err != LEAFD_OK)
            ca_unref(ret->ca);
    }
    free((void *)(uintptr_t)text.data);
    return err == LEAFD_OK ? err : fail_in(why, err, "%s", path);
}

/* Which of its certificates: all, or the root alone. */
static enum leafd_err choose(const struct from *from, bool chain, size_t *ret_first,
                             size_t *ret_count, struct why *why)
{
    *ret_first = chain ? 0 : from->list.count - 1;
    *ret_count = from->list.count - *ret_first;
    if (chain || cert_list_is_root(&from->list, *ret_first))
        return LEAFD_OK;
    return fail(why, LEAFD_ABSENT,
                "the CA is an intermediate; clients need the root above it, which is not in "
                "ca.certificate: leafctl ca install takes it along. --chain exports what is there");
}

static enum leafd_err make(const struct ctl *ctl, const struct from *from, enum form form,
                           struct bytes *ret, struct why *why)
{
    char words[CTL_CONF_WORDS_SIZE];
    size_t first = 0, count = 0;
    enum leafd_err err = choose(from, ctl->chain, &first, &count, why);

    if (err != LEAFD_OK)
        return err;
    switch (form) {
    case FORM_DER:
        if (count != 1)
            return fail(why, LEAFD_CONFIG,
                        "a DER file holds one certificate, and these are %zu: take --root, or PEM",
                        count);
        *ret = bytes_copy(from->list.der[first]);
        return ret->data ? LEAFD_OK : LEAFD_NOMEM;
    case FORM_MOBILECONFIG:
        return mobileconfig_make(&from->list, first, count, ret, why);
    case FORM_TEXT:
        return ca_howto_make(from->ca, &from->list, ctl_conf_words(ctl, words), ret, why);
    default:
        return cert_list_pem(&from->list, first, count, ret);
    }
}

static enum leafd_err put(const char *path, struct bytes content, struct why *why)
{
    struct new_file file = NEW_FILE_EMPTY;
    enum leafd_err err = LEAFD_OK;

    if (path && strcmp(path, "-") != 0) {
        err = new_file_open(path, &file, why);
        if (err == LEAFD_OK)
            err = new_file_replace(&file, content, path, why);
        new_file_clear(&file);
    } else if (fwrite(content.data, 1, content.len, stdout) != content.len) {
        err = fail(why, LEAFD_IO, "cannot write to standard output");
    }
    return err;
}

/* What of it concerns whoever installs it. */
static void tell(const struct from *from, enum form form, bool chain)
{
    char subject[200];

    if (from->list.count == 1 || form == FORM_TEXT)
        return;
    (void)cert_list_subject(&from->list, 0, subject, sizeof(subject));
    if (chain)
        ctl_note("clients have to trust the root alone; leafd sends \"%s\" with its leaves",
                 subject);
    else
        ctl_note(
            "this is the root, which clients have to trust; leafd sends \"%s\" with its leaves",
            subject);
}

static enum leafd_err export_to(const struct ctl *ctl, enum form form, const struct conf *conf,
                                struct why *why)
{
    struct from from = {.ca = NULL};
    struct bytes content = {NULL, 0};
    enum leafd_err err = from_read(conf, &from, why);

    if (err != LEAFD_OK)
        return err;
    err = make(ctl, &from, form, &content, why);
    if (err == LEAFD_OK)
        err = put(ctl->out, content, why);
    if (err == LEAFD_OK)
        tell(&from, form, ctl->chain);
    free((void *)(uintptr_t)content.data);
    cert_list_clear(&from.list);
    ca_unref(from.ca);
    return err;
}

int ctl_ca_export(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct why why = {""};
    enum form form = FORM_PEM;
    enum leafd_err err;
    int code = form_of(ctl, &form);

    if (code != CTL_OK)
        return code;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err == LEAFD_OK)
        err = export_to(ctl, form, conf, &why);
    code = err == LEAFD_OK ? ctl_flushed(CTL_OK) : ctl_failed(&why);
    conf_free(conf);
    return code;
}
