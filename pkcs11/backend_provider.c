/* SPDX-License-Identifier: Apache-2.0 */
/* The backend that signs with somebody's OpenSSL provider for PKCS#11: pkcs11-provider, or another
 * that takes pkcs11: URIs in OSSL_STORE. It lives in a library context of its own, so no leaf key
 * is ever made in the token.
 *
 * What pkcs11-provider does that decides how it is used here: it has a session for its login beside
 * those that sign, and returns an error where the token has no session left, so those are counted
 * before; it would copy the key into a session (then a key that was deleted signs on), and hash in
 * the token, both of which its configuration forbids; and a login that is lost makes it ask for a
 * PIN on the terminal, where nobody answers. A key loaded again from its URI mends what does not
 * need another slot table; that takes a new library context. */
#include "config.h"

#include "pkcs11/backend_library.h"
#include "pkcs11/backend_tokens.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/store.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Its login, and a challenge beside the lanes. */
enum { SPARE = 2 };

#define DEFAULT_PROVIDER "pkcs11"

struct provided {
    OSSL_LIB_CTX *libctx;
};

/* ---- its configuration ---- */

static const char *provider_of(const struct backend *backend)
{
    return backend->token->provider ? backend->token->provider : DEFAULT_PROVIDER;
}

static bool is_path(const char *provider)
{
    return *provider == '/';
}

/* What OpenSSL knows it by. */
static const char *name_of(const struct backend *backend)
{
    return is_path(provider_of(backend)) ? DEFAULT_PROVIDER : provider_of(backend);
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
}

static enum leafd_err check_provider(const struct backend *backend, struct why *why)
{
    const char *name = name_of(backend);

    for (; *name; name++)
        if (!is_plain(*name))
            return fail(why, LEAFD_CONFIG,
                        "token.provider: neither the name of a provider nor an absolute path");
    return LEAFD_OK;
}

/* In an OpenSSL configuration other characters may mean something. */
static void write_path(FILE *file, const char *name, const char *path)
{
    fprintf(file, "%s = ", name);
    for (; *path; path++)
        fprintf(file, is_plain(*path) || *path == '/' ? "%c" : "\\%c", *path);
    fputc('\n', file);
}

static void write_configuration(FILE *file, const struct backend *backend)
{
    fprintf(file,
            "openssl_conf = init\n"
            "[init]\n"
            "providers = providers\n"
            "[providers]\n"
            "default = stock\n"
            "%s = token\n"
            "[stock]\n"
            "activate = 1\n"
            "[token]\n",
            name_of(backend));
    if (is_path(provider_of(backend)))
        write_path(file, "module", provider_of(backend));
    write_path(file, "pkcs11-module-path", backend->token->module);
    fprintf(file,
            "pkcs11-module-cache-keys = false\n"
            "pkcs11-module-cache-pins = no\n"
            "pkcs11-module-block-operations = digest\n"
            "pkcs11-module-cache-sessions = %u\n",
            backend_library_lanes(backend, SPARE) + 1);
    write_path(file, "pkcs11_module", backend->token->module); /* libp11's pkcs11prov */
    fputs("activate = 1\n", file);
}

/* In memory: no file of ours for others to change. */
static enum leafd_err configure(const struct backend *backend, OSSL_LIB_CTX *libctx,
                                struct why *why)
{
    int fd = memfd_create("openssl.cnf", MFD_CLOEXEC);
    FILE *file = fd == -1 ? NULL : fdopen(fd, "w");
    char path[40];
    bool loaded = false;
    int error = errno;

    if (file) {
        write_configuration(file, backend);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (fflush(file) == 0)
            loaded = OSSL_LIB_CTX_load_config(libctx, path) == 1;
        fclose(file);
    } else if (fd != -1) {
        close(fd);
    }
    if (!file)
        return fail(why, LEAFD_IO, "no memory file for the provider's configuration: %s",
                    strerror(error));
    if (!loaded || OSSL_PROVIDER_available(libctx, name_of(backend)) != 1) {
        ERR_clear_error();
        return fail(why, LEAFD_CONFIG,
                    "token.provider: OpenSSL does not load \"%s\": install it (on Debian 13: "
                    "apt-get install pkcs11-provider), or give its path",
                    provider_of(backend));
    }
    return LEAFD_OK;
}

/* ---- keys ---- */

/* The one private key that the store gives. */
static enum leafd_err take_key(struct backend *backend, size_t index, OSSL_STORE_CTX *store,
                               struct why *why)
{
    while (!OSSL_STORE_eof(store)) {
        OSSL_STORE_INFO *info = OSSL_STORE_load(store);
        EVP_PKEY *key = NULL;

        if (!info && OSSL_STORE_error(store))
            break;
        if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
            key = OSSL_STORE_INFO_get1_PKEY(info);
        OSSL_STORE_INFO_free(info);
        if (key && backend->key[index]) {
            EVP_PKEY_free(key);
            return fail(why, LEAFD_CONFIG,
                        "the provider finds two keys with the id of \"%s\" in token \"%s\": use "
                        "native",
                        backend->tokens.key[index]->label,
                        backend->tokens.key[index]->token->label);
        }
        if (key)
            backend->key[index] = key;
    }
    return backend->key[index]
               ? LEAFD_OK
               : backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE, "the provider finds no key");
}

static enum leafd_err use_key(struct backend *backend, size_t index, struct why *why)
{
    const struct provided *provided = backend->impl;
    char uri[BACKEND_LIBRARY_URI_MAX];
    OSSL_STORE_CTX *store;
    enum leafd_err err = backend_library_uri(backend, index, uri, why);

    if (err != LEAFD_OK)
        return err;
    store = OSSL_STORE_open_ex(uri, provided->libctx, NULL, backend_library_nobody(), NULL, NULL,
                               NULL, NULL);
    if (!store || OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY) != 1)
        err = backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE, "the provider does not look");
    else
        err = take_key(backend, index, store, why);
    OSSL_STORE_close(store);
    ERR_clear_error();
    return err;
}

/* ---- open and close ---- */

static enum leafd_err load(struct backend *backend, struct why *why)
{
    struct provided *provided = backend->impl = calloc(1, sizeof(*provided));

    if (!provided)
        return LEAFD_NOMEM;
    provided->libctx = OSSL_LIB_CTX_new();
    if (!provided->libctx)
        return LEAFD_NOMEM;
    backend->libctx = provided->libctx;
    return configure(backend, provided->libctx, why);
}

/* pkcs11-provider hashes for it by itself. */
static enum leafd_err check_pss(const struct backend *backend, struct why *why)
{
    for (size_t i = 0; i < backend->key_count; i++) {
        const struct token_key *key = backend->tokens.key[i];

        if (key->algorithm == SIG_RSA_PSS_SHA256 && key->mechanism.hashes)
            return fail(why, LEAFD_CONFIG,
                        "token \"%s\" has no CKM_RSA_PKCS_PSS, which token.access: provider needs "
                        "for RSASSA-PSS: use native",
                        key->token->label);
    }
    return LEAFD_OK;
}

static enum leafd_err provided_open(struct backend *backend, const struct secret *pin,
                                    struct why *why)
{
    enum leafd_err err = check_provider(backend, why);

    if (err == LEAFD_OK)
        err = backend_library_open(backend, pin, SPARE, why);
    if (err == LEAFD_OK)
        err = check_pss(backend, why);
    if (err == LEAFD_OK && !backend_library_nobody())
        err = LEAFD_NOMEM;
    if (err == LEAFD_OK && !backend->impl)
        err = load(backend, why);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = use_key(backend, i, why);
    return err;
}

/* The provider finalises the module when its context goes, so our sessions are closed before. */
static void provided_close(struct backend *backend)
{
    struct provided *provided = backend->impl;

    (void)backend_tokens_close_sessions(backend);
    if (provided)
        OSSL_LIB_CTX_free(provided->libctx);
    free(provided);
    backend->impl = NULL;
    backend->libctx = NULL;
    backend_tokens_close(backend);
    ERR_clear_error();
}

static void provided_close_token(struct backend *backend)
{
    if (!backend_tokens_close_sessions(backend))
        provided_close(backend);
}

static unsigned provided_lanes(const struct backend *backend)
{
    return backend_library_lanes(backend, SPARE);
}

const struct backend_ops backend_provider_ops = {
    .name = "provider",
    .open = provided_open,
    .close = provided_close,
    .close_token = provided_close_token,
    .least_rung = backend_tokens_least_rung,
    .lanes = provided_lanes,
    .sign_failed = backend_library_sign_failed,
    .check = backend_tokens_check,
    .keep_alive = backend_tokens_keep_alive,
    .count = backend_tokens_count,
    .report = backend_tokens_report,
};
