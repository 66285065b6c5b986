/* SPDX-License-Identifier: Apache-2.0 */
/* The backend for tokens: our own session pools over the vendor's PKCS#11 module, seen by OpenSSL
 * as the provider "leafd". Here is the order of the start; the steps are in backend_tokens and
 * provider. */
#include "pkcs11/backend_tokens.h"
#include "pkcs11/provider.h"

/* What is needed before the token is touched; what the operator wrote wrong is said first. */
static enum leafd_err prepare(struct backend *backend, struct why *why)
{
    struct provider *provider;
    enum leafd_err err = backend_tokens_read(backend, why);

    if (err != LEAFD_OK)
        return err;
    err = provider_new(&provider, why);
    if (err != LEAFD_OK)
        return err;
    backend->impl = provider;
    backend->libctx = provider_libctx(provider);
    backend->properties = PROVIDER_PROPERTIES;
    return LEAFD_OK;
}

static enum leafd_err native_open(struct backend *backend, const struct secret *pin,
                                  struct why *why)
{
    enum leafd_err err = backend->impl ? LEAFD_OK : prepare(backend, why);

    if (err == LEAFD_OK)
        err = backend_tokens_open(backend, pin, backend_lanes_wanted(backend), why);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = provider_key(backend->impl, backend->tokens.key[i], &backend->key[i], why);
    return err;
}

static void native_close(struct backend *backend)
{
    provider_free(backend->impl);
    backend->impl = NULL;
    backend_tokens_close(backend);
}

static void native_close_token(struct backend *backend)
{
    if (!backend_tokens_close_sessions(backend))
        native_close(backend);
}

static unsigned native_lanes(const struct backend *backend)
{
    return backend_tokens_sessions(backend, backend_lanes_wanted(backend));
}

const struct backend_ops backend_native_ops = {
    .name = "native",
    .open = native_open,
    .close = native_close,
    .close_token = native_close_token,
    .least_rung = backend_tokens_least_rung,
    .lanes = native_lanes,
    .sign_failed = provider_sign_failed,
    .check = backend_tokens_check,
    .keep_alive = backend_tokens_keep_alive,
    .count = backend_tokens_count,
    .report = backend_tokens_report,
};
