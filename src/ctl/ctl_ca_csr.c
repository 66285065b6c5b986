/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca csr: a request for an outside root to sign. */
#include "config.h"

#include "ctl/ctl.h"

#include "ctl/ctl_ca_options.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_file.h"
#include "ctl/ctl_output.h"
#include "pkcs11/ca_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The child's answer: whether the key is new, then the PEM. */
enum { MADE = 'm', EXISTING = 'e' };

static enum leafd_err request_in_child(const struct ctl_child *child, const void *arg,
                                       struct bytes *ret_result, struct why *why)
{
    struct bytes pem = {NULL, 0};
    bool made = false;
    uint8_t *result;
    enum leafd_err err = ca_request_make(child->conf, &child->pin, arg, &pem, &made, why);

    if (err != LEAFD_OK)
        return err;
    result = malloc(1 + pem.len);
    if (result) {
        result[0] = made ? MADE : EXISTING;
        for (size_t i = 0; i < pem.len; i++)
            result[1 + i] = pem.data[i];
        *ret_result = (struct bytes){result, 1 + pem.len};
    }
    free((void *)(uintptr_t)pem.data);
    return result ? LEAFD_OK : LEAFD_NOMEM;
}

static enum leafd_err put(const struct new_file *file, const char *path, struct bytes pem,
                          struct why *why)
{
    if (file->path && new_file_replace(file, pem, path, why) == LEAFD_OK)
        return LEAFD_OK;
    if (fwrite(pem.data, 1, pem.len, stdout) != pem.len)
        return fail(why, LEAFD_IO, "cannot write to standard output");
    return file->path ? fail_in(why, LEAFD_IO, "the request was made, and is printed here")
                      : LEAFD_OK;
}

static void tell(const struct ctl *ctl, const char *path, bool made)
{
    char words[CTL_CONF_WORDS_SIZE];

    ctl_note(made ? "the key was made in the token" : "the key is the one that was in the token");
    ctl_note("now have the request signed; with OpenSSL 3 where the root's key is:");
    fprintf(stderr,
            "  printf 'authorityKeyIdentifier = keyid:always\\n' > aki.cnf\n"
            "  openssl x509 -req -in %s -copy_extensions copyall -extfile aki.cnf -sha256 \\\n"
            "    -CA root.pem -CAkey root.key -CAcreateserial -days 1825 -out leafd-ca.pem\n",
            path ? path : "leafd.csr");
    ctl_note("then give leafd the answer together with the root:");
    fprintf(stderr, "  cat leafd-ca.pem root.pem | leafctl%s ca install -\n",
            ctl_conf_words(ctl, words));
}

static enum leafd_err request(const struct ctl *ctl, const struct conf *conf,
                              const struct ca_request_options *options, struct why *why)
{
    struct new_file file = NEW_FILE_EMPTY;
    struct bytes result = {NULL, 0};
    const char *path = ctl->out && strcmp(ctl->out, "-") != 0 ? ctl->out : NULL;
    enum leafd_err err = path ? new_file_open(path, &file, why) : LEAFD_OK;

    if (err == LEAFD_OK)
        err = ctl_child_run(conf, CTL_CHILD_PIN, request_in_child, options, &result, why);
    if (err == LEAFD_OK && result.len < 1)
        err = LEAFD_INTERNAL;
    if (err == LEAFD_OK)
        err = put(&file, path, (struct bytes){result.data + 1, result.len - 1}, why);
    if (err == LEAFD_OK)
        tell(ctl, path, result.data[0] == MADE);
    new_file_clear(&file);
    free((void *)(uintptr_t)result.data);
    return err;
}

int ctl_ca_csr(const struct ctl *ctl)
{
    struct name_constraints constraints = {.on_subject = false};
    struct ca_request_options options = {.key_given = ctl->key, .existing = ctl->existing};
    struct conf *conf = NULL;
    struct conf at;
    struct why why = {""};
    size_t token = 0;
    enum leafd_err err;
    int code = ctl_conf_token_number(ctl, &token);

    if (code != CTL_OK)
        return code;
    if (ctl->key && ctl->existing)
        return ctl_wrong_usage("--key is for a new key, and --existing for one that is there");
    if (ctl->json)
        return ctl_wrong_usage("ca csr writes a request for other programs; it has no --json");
    code = ctl_ca_options(ctl, &options.ca, &constraints);
    if (code != CTL_OK)
        return code;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err == LEAFD_OK)
        err = ctl_conf_at_token(conf, token, &at, &why);
    if (err == LEAFD_OK)
        err = request(ctl, &at, &options, &why);
    code = err == LEAFD_OK ? ctl_flushed(CTL_OK) : ctl_failed(&why);
    name_constraints_clear(&constraints);
    conf_free(conf);
    return code;
}
