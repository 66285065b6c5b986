/* SPDX-License-Identifier: Apache-2.0 */
/* Climbs the ladder of recovery on a real token, where nothing has failed: what a signer does when
 * a token comes back must work with every module, and few of them fail on command. tests/system/
 * test_conformance.py runs it.
 *
 *     tests/lib/climb_ladder LEAFD.YAML
 *
 * Prints a line for each time that the token was opened anew and has signed a challenge; ends with
 * 1 and a sentence when it did not. */
#include "config.h"

#include "base/log.h"
#include "pkcs11/backend.h"
#include "pkcs11/pin.h"
#include "policy/ca_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct {
    enum rung rung;
    const char *name;
} climbs[] = {
    {RUNG_TOKEN, "sessions, login and key"},
    {RUNG_TOKEN, "the same again"},
    {RUNG_MODULE, "the module"},
    {RUNG_MODULE, "the same again"},
    {RUNG_TOKEN, "sessions, login and key"},
};

static enum leafd_err load(const char *path, struct conf **ret_conf, struct ca_set **ret_cas,
                           struct secret *ret_pin, struct why *why)
{
    struct bytes text = {NULL, 0};
    char *file = NULL;
    char *dir = NULL;
    int fd = -1;
    enum leafd_err err = conf_find(path, &text, &file, &dir, why);

    if (err == LEAFD_OK)
        err = conf_load(text, file, dir, NULL, 0, ret_conf, why);
    if (err == LEAFD_OK)
        err = ca_files_read(*ret_conf, ret_cas, why);
    if (err == LEAFD_OK)
        err = pin_open(&(*ret_conf)->token[0], &fd, why);
    if (err == LEAFD_OK && fd != -1)
        err = pin_read(fd, ret_pin, why);
    if (fd != -1)
        close(fd);
    free((void *)(uintptr_t)text.data);
    free(file);
    free(dir);
    return err;
}

static enum leafd_err climb(struct backend *backend, struct why *why)
{
    enum leafd_err err = backend_prove(backend, why);

    for (size_t i = 0; i < sizeof(climbs) / sizeof(climbs[0]) && err == LEAFD_OK; i++) {
        struct backend_counters counters = {0};

        err = backend_renew(backend, climbs[i].rung, why);
        if (err == LEAFD_OK)
            err = backend_prove(backend, why);
        if (err != LEAFD_OK)
            break;
        backend_keep_alive(backend);
        backend_count(backend, &counters);
        printf("%s: %llu sessions\n", climbs[i].name, (unsigned long long)counters.sessions);
    }
    return err;
}

int main(int argc, char **argv)
{
    struct why why = {""};
    struct conf *conf = NULL;
    struct ca_set *cas = NULL;
    struct secret pin = SECRET_EMPTY;
    struct backend *backend = NULL;
    enum leafd_err err;

    if (argc != 2)
        return 2;
    log_init("climb_ladder", LOG_LEVEL_WARNING);
    err = load(argv[1], &conf, &cas, &pin, &why);
    if (err == LEAFD_OK)
        err = backend_open(conf, 0, cas, &pin, &backend, &why);
    if (err == LEAFD_OK)
        err = climb(backend, &why);
    if (err != LEAFD_OK)
        fprintf(stderr, "%s: %s\n", err_name(err), why.text);
    backend_close(backend);
    secret_clear(&pin);
    ca_set_unref(cas);
    conf_free(conf);
    return err == LEAFD_OK ? 0 : 1;
}
