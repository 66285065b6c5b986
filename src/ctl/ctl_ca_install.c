/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca install: the certificate that an outside root has signed for the key in the token. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "base/digest.h"
#include "ctl/ctl_ca_text.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_file.h"
#include "ctl/ctl_output.h"
#include "pkcs11/backend.h"
#include "policy/ca_files.h"
#include "policy/cert_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What was given: for the child, and what it is called in messages. */
struct given {
    struct bytes text;
    const char *name;
};

/* ---- in the child ---- */

static enum leafd_err check_dates(const struct ca *ca, struct why *why)
{
    int64_t now = clock_wall_sec();
    bool is_own = now > ca->not_after ? ca->not_after == ca->own_not_after
                                      : ca->not_before == ca->own_not_before;
    const char *whose = is_own ? "the CA" : "an issuer of the CA";
    char time[CLOCK_TEXT_SIZE];

    if (now > ca->not_after)
        return fail(why, LEAFD_CONFIG, "%s has expired on %s: have it signed anew", whose,
                    clock_text(ca->not_after, time));
    if (now < ca->not_before)
        return fail(why, LEAFD_CONFIG,
                    "%s is not valid before %s: wait until then, or correct the clock here or "
                    "where it was signed",
                    whose, clock_text(ca->not_before, time));
    return LEAFD_OK;
}

/* Their PEM, in order. */
static enum leafd_err sort(struct bytes text, struct bytes *ret_pem, struct why *why)
{
    struct cert_list list;
    enum leafd_err err = cert_list_read(text, &list, why);

    if (err != LEAFD_OK)
        return err;
    err = cert_list_sort(&list, why);
    if (err == LEAFD_OK)
        err = cert_list_pem(&list, 0, list.count, ret_pem);
    cert_list_clear(&list);
    return err;
}

/* Signs and verifies a challenge with the one key that ca.key names. */
static enum leafd_err prove(const struct ctl_child *child, const struct ca *ca, const char *name,
                            struct why *why)
{
    struct conf conf = *child->conf; /* with what was given in the place of ca.certificate */
    struct ca_set *cas = ca_set_new(&ca, 1, NULL);
    struct backend *backend = NULL;
    enum leafd_err err;

    if (!cas)
        return LEAFD_NOMEM;
    conf.ca_count = 1;
    conf.ca[0].certificate = (char *)(uintptr_t)name;
    conf.untrusted = CONF_UNTRUSTED_NONE;
    err = backend_open(&conf, 0, cas, &child->pin, &backend, why);
    backend_close(backend);
    ca_set_unref(cas);
    return err;
}

static enum leafd_err check_in_child(const struct ctl_child *child, const void *arg,
                                     struct bytes *ret_result, struct why *why)
{
    const struct given *given = arg;
    struct bytes pem = {NULL, 0};
    struct ca *ca = NULL;
    enum leafd_err err = sort(given->text, &pem, why);

    if (err == LEAFD_OK)
        err = ca_of_text(child->conf, pem, 0, &ca, why);
    if (err == LEAFD_OK)
        err = check_dates(ca, why);
    if (err != LEAFD_OK)
        err = fail_in(why, err, "%s", given->name);
    else
        err = prove(child, ca, given->name, why);
    ca_unref(ca);
    if (err == LEAFD_OK)
        *ret_result = pem;
    else
        free((void *)(uintptr_t)pem.data);
    return err;
}

/* ---- the file ---- */

/* Of the same key, as when a certificate is renewed? */
static bool is_for_same_key(struct bytes former, struct bytes pem)
{
    struct cert_list a, b;
    bool same = false;

    if (cert_list_read(former, &a, NULL) != LEAFD_OK)
        return false;
    if (cert_list_read(pem, &b, NULL) == LEAFD_OK) {
        EVP_PKEY *key_a = X509_get0_pubkey(a.cert[0]), *key_b = X509_get0_pubkey(b.cert[0]);

        same = key_a && key_b && EVP_PKEY_eq(key_a, key_b) == 1;
        cert_list_clear(&b);
    }
    cert_list_clear(&a);
    return same;
}

/* The former file under a name that follows from its content: a second try makes no second copy. */
static enum leafd_err back_up(const char *path, struct bytes former, char **ret_backup,
                              struct why *why)
{
    uint8_t digest[DIGEST_LEN];
    char hex[9];
    char *backup;

    if (digest_sha256(former, digest) != LEAFD_OK)
        return LEAFD_INTERNAL;
    bytes_hex((struct bytes){digest, 4}, hex);
    if (asprintf(&backup, "%s.%s.old", path, hex) == -1)
        return LEAFD_NOMEM;
    if (link(path, backup) == -1 && errno != EEXIST) {
        enum leafd_err err = fail(why, LEAFD_IO, "cannot keep the former certificate as %s: %s",
                                  backup, strerror(errno));

        free(backup);
        return err;
    }
    *ret_backup = backup;
    return LEAFD_OK;
}

struct done {
    bool was_there; /* nothing had to be written */
    char *backup;   /* or NULL */
};

static enum leafd_err replace(const struct ctl *ctl, const char *path, const struct new_file *file,
                              struct bytes former, struct bytes pem, struct done *ret,
                              struct why *why)
{
    enum leafd_err err;

    if (bytes_equal(former, pem)) {
        ret->was_there = true;
        return LEAFD_OK;
    }
    if (!ctl->force && !is_for_same_key(former, pem))
        return fail(why, LEAFD_CONFIG,
                    "%s has the certificate of another key, or none: --force replaces it all the "
                    "same and keeps a copy; or name another ca.certificate",
                    path);
    err = back_up(path, former, &ret->backup, why);
    return err == LEAFD_OK ? new_file_replace(file, pem, path, why) : err;
}

static enum leafd_err place(const struct ctl *ctl, const char *path, const struct new_file *file,
                            struct bytes pem, struct done *ret, struct why *why)
{
    struct bytes former = {NULL, 0};
    enum leafd_err err;

    if (access(path, F_OK) == -1)
        return new_file_keep(file, pem, path, why);
    err = bytes_read_file(path, CERT_LIST_FILE_MAX, &former, why);
    if (err == LEAFD_OK)
        err = replace(ctl, path, file, former, pem, ret, why);
    free((void *)(uintptr_t)former.data);
    return err;
}

/* ---- all of it ---- */

static int tell(const struct ctl *ctl, const struct conf *conf, struct bytes pem,
                const struct done *done)
{
    const char *path = conf->ca[0].certificate;
    struct json json = JSON_EMPTY;
    struct why why = {""};
    struct ca *ca = NULL;

    if (ca_of_text(conf, pem, 0, &ca, &why) != LEAFD_OK)
        return ctl_failed(&why);
    if (ctl->json)
        ctl_ca_write(ca, path, &json);
    else
        ctl_ca_print(ca, path);
    if (done->was_there)
        ctl_note("%s was like this already; nothing was written", path);
    if (done->backup)
        ctl_note("the former certificate is kept as %s", done->backup);
    if (ca->chain_count > 0 && ca->root_not_after == INT64_MAX)
        ctl_note("the root is not among them: clients must have it, and its name constraints, if "
                 "it has any, are not known here");
    if (!done->was_there)
        ctl_note("leafd takes it when it starts again: systemctl restart leafd");
    ca_unref(ca);
    return ctl->json ? ctl_print_json(&json) : ctl_flushed(CTL_OK);
}

static enum leafd_err given_read(const char *file, struct given *ret, struct why *why)
{
    bool is_stdin = strcmp(file, "-") == 0;

    ret->name = is_stdin ? "standard input" : file;
    return is_stdin ? bytes_read_fd(STDIN_FILENO, ret->name, CERT_LIST_FILE_MAX, &ret->text, why)
                    : bytes_read_file(file, CERT_LIST_FILE_MAX, &ret->text, why);
}

static enum leafd_err install(const struct ctl *ctl, const struct conf *conf, struct bytes *ret_pem,
                              struct done *ret, struct why *why)
{
    const char *path = conf->ca[0].certificate;
    struct new_file file = NEW_FILE_EMPTY;
    struct given given = {.name = NULL};
    enum leafd_err err = given_read(ctl->file, &given, why);

    if (err == LEAFD_OK)
        err = new_file_open(path, &file, why);
    if (err == LEAFD_OK)
        err = ctl_child_run(conf, CTL_CHILD_PIN, check_in_child, &given, ret_pem, why);
    if (err == LEAFD_OK)
        err = place(ctl, path, &file, *ret_pem, ret, why);
    new_file_clear(&file);
    free((void *)(uintptr_t)given.text.data);
    return err;
}

int ctl_ca_install(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct conf at;
    struct bytes pem = {NULL, 0};
    struct done done = {false, NULL};
    struct why why = {""};
    size_t token = 0;
    enum leafd_err err;
    int code = ctl_conf_token_number(ctl, &token);

    if (code != CTL_OK)
        return code;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err == LEAFD_OK)
        err = ctl_conf_at_token(conf, token, &at, &why);
    if (err == LEAFD_OK)
        err = install(ctl, &at, &pem, &done, &why);
    code = err == LEAFD_OK ? tell(ctl, conf, pem, &done) : ctl_failed(&why);
    free((void *)(uintptr_t)pem.data);
    free(done.backup);
    conf_free(conf);
    return code;
}
