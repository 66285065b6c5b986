/* SPDX-License-Identifier: Apache-2.0 */
/* The backend for tokens: our own session pools over the vendor's PKCS#11 module, seen by OpenSSL
 * as the provider "leafd". Here is the order of the start; the steps are in token_module, token,
 * token_key and provider. */
#include "base/log.h"
#include "pkcs11/backend_ops.h"
#include "pkcs11/provider.h"
#include "pkcs11/token_report.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct native {
    struct token_module *module;
    struct provider *provider;
    size_t token_count;
    struct token *token[BACKEND_KEYS_MAX]; /* each once, however many CAs it holds */
    struct token_uri *uri[BACKEND_KEYS_MAX];
    struct token_key *key[BACKEND_KEYS_MAX];
    bool lacks_key; /* the last opening failed at a key, in a token that is there */
};

static unsigned sessions_wanted(const struct conf_token *token)
{
    return token->sessions ? token->sessions : 1;
}

/* The token of CA number `index`, logged in: found once and shared with the CAs before. */
static enum leafd_err use_token(struct backend *backend, size_t index, const struct secret *pin,
                                struct token **ret, struct why *why)
{
    struct native *native = backend->impl;
    const struct token_uri *uri = native->uri[index];
    struct token *token;
    CK_SLOT_ID slot;
    enum leafd_err err = token_find_slot(native->module, uri, &slot, why);

    if (err != LEAFD_OK)
        return err;
    for (size_t i = 0; i < native->token_count; i++) {
        if (native->token[i]->slot == slot) {
            *ret = native->token[i];
            return LEAFD_OK;
        }
    }
    err = token_new(native->module, slot, 0, sessions_wanted(backend->token), &token, why);
    if (err != LEAFD_OK)
        return err;
    token->wait_ms = backend->token->timeout_ms;
    native->token[native->token_count++] = token;
    err = token_login(token, uri, pin, why);
    if (err == LEAFD_OK)
        *ret = token;
    return err;
}

static void warn_about(const struct token_key *key)
{
    if (key->extractable == 1 || key->sensitive == 0)
        log_event(LOG_LEVEL_WARNING, "key-extractable",
                  "token=\"%s\" key=\"%s\" reason=\"the token gives this CA key to anyone with the "
                  "PIN\"",
                  key->token->label, key->label);
}

static enum leafd_err use_key(struct backend *backend, size_t index, const struct secret *pin,
                              struct why *why)
{
    struct native *native = backend->impl;
    const struct ca *ca = backend_ca(backend, index);
    struct token *token;
    enum leafd_err err = use_token(backend, index, pin, &token, why);

    native->lacks_key = err == LEAFD_OK;
    if (err != LEAFD_OK)
        return err;
    token_key_free(native->key[index]); /* of the opening before, which kept the token */
    native->key[index] = NULL;
    err = token_key_find(token, native->uri[index], ca, &native->key[index], why);
    if (err != LEAFD_OK)
        return err;
    err = token_key_compare(native->key[index], ca->public_key,
                            backend_conf_ca(backend, index)->certificate,
                            &backend->key_known[index], why);
    if (err != LEAFD_OK)
        return err;
    warn_about(native->key[index]);
    return provider_key(native->provider, native->key[index], &backend->key[index], why);
}

/* Opens the sessions of all lanes, so that a limit nobody told us of is known before the lanes are
 * counted: lanes that had to share would wait for each other. */
static enum leafd_err open_sessions(struct backend *backend, struct why *why)
{
    struct native *native = backend->impl;
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; i < native->token_count; i++)
        for (unsigned n = 0; n < sessions_wanted(backend->token) && err == LEAFD_OK; n++)
            err = session_pool_grow(native->token[i]->pool, why);
    return err;
}

/* What is needed before the token is touched; what the operator wrote wrong is said first. */
static enum leafd_err prepare(struct backend *backend, struct why *why)
{
    struct native *native = backend->impl;
    enum leafd_err err;

    for (size_t i = 0; i < backend->key_count; i++) {
        err = token_uri_parse(backend_key_place(backend, i), &native->uri[i], why);
        if (err != LEAFD_OK)
            return fail_in(why, err, "ca.key");
    }
    err = provider_new(&native->provider, why);
    if (err != LEAFD_OK)
        return err;
    backend->libctx = provider_libctx(native->provider);
    backend->properties = PROVIDER_PROPERTIES;
    return LEAFD_OK;
}

static enum leafd_err native_open(struct backend *backend, const struct secret *pin,
                                  struct why *why)
{
    struct native *native = backend->impl;
    enum leafd_err err = LEAFD_OK;

    if (!native) {
        native = backend->impl = calloc(1, sizeof(*native));
        if (!native)
            return LEAFD_NOMEM;
        err = prepare(backend, why);
    }
    if (err == LEAFD_OK && !native->module)
        err = token_module_open(backend->token, &native->module, why);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = use_key(backend, i, pin, why);
    return err == LEAFD_OK ? open_sessions(backend, why) : err;
}

static void free_tokens(struct native *native)
{
    for (size_t i = 0; i < BACKEND_KEYS_MAX; i++) {
        token_key_free(native->key[i]);
        native->key[i] = NULL;
    }
    for (size_t i = 0; i < native->token_count; i++)
        token_free(native->token[i]);
    native->token_count = 0;
}

static void native_close(struct backend *backend)
{
    struct native *native = backend->impl;

    if (!native)
        return;
    provider_free(native->provider);
    free_tokens(native);
    for (size_t i = 0; i < BACKEND_KEYS_MAX; i++)
        token_uri_free(native->uri[i]);
    token_module_close(native->module);
    free(native);
    backend->impl = NULL;
}

/* One call ends all sessions and the login, and takes lost sessions along that we cannot name. */
static void native_close_token(struct backend *backend)
{
    struct native *native = backend->impl;
    bool module_is_lost = false;

    if (!native)
        return;
    for (size_t i = 0; i < native->token_count; i++) {
        module_is_lost |= atomic_load(&native->token[i]->module_is_lost);
        session_pool_close_all(native->token[i]->pool);
    }
    free_tokens(native);
    if (module_is_lost || !native->provider)
        native_close(backend);
}

static unsigned native_lanes(const struct backend *backend)
{
    const struct native *native = backend->impl;
    unsigned lanes = sessions_wanted(backend->token);

    for (size_t i = 0; i < native->token_count; i++) {
        unsigned limit = session_pool_limit(native->token[i]->pool);

        lanes = limit < lanes ? limit : lanes;
    }
    return lanes;
}

static enum leafd_err native_check(struct backend *backend, struct why *why)
{
    struct native *native = backend->impl;

    for (size_t i = 0; i < native->token_count; i++) {
        enum leafd_err err = token_check(native->token[i], why);

        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

/* A key is looked for with the login that there is. A token may come into a slot that is empty;
 * where none is, only a module that begins anew may have one for it, as p11-kit's client when its
 * server was gone, and SoftHSM. */
static enum rung native_least_rung(struct backend *backend)
{
    struct native *native = backend->impl;

    if (!native || !native->module || (!native->lacks_key && !token_may_come(native->module)))
        return RUNG_MODULE;
    return native_check(backend, NULL) == LEAFD_OK ? RUNG_SESSION : RUNG_TOKEN;
}

static void native_keep_alive(struct backend *backend)
{
    struct native *native = backend->impl;

    for (size_t i = 0; i < native->token_count; i++)
        session_pool_keep_alive(native->token[i]->pool);
}

static void native_count(struct backend *backend, struct backend_counters *ret)
{
    struct native *native = backend->impl;

    for (size_t i = 0; native && i < native->token_count; i++) {
        ret->logins_failed += atomic_load(&native->token[i]->logins_failed);
        ret->logins += atomic_load(&native->token[i]->logins);
        ret->retries += atomic_load(&native->token[i]->retries);
        ret->sessions += session_pool_open_count(native->token[i]->pool);
    }
}

static enum token_answer answer(int value)
{
    return value < 0 ? TOKEN_UNKNOWN : value ? TOKEN_YES : TOKEN_NO;
}

static void native_report(struct backend *backend, size_t index, struct token_key_report *ret)
{
    const struct native *native = backend->impl;
    const struct token_key *key = native->key[index];

    ret->slot = key->token->slot;
    snprintf(ret->token, sizeof(ret->token), "%s", key->token->label);
    snprintf(ret->label, sizeof(ret->label), "%s", key->label);
    bytes_hex((struct bytes){key->id, key->id_len}, ret->id);
    snprintf(ret->mechanism, sizeof(ret->mechanism), "%s", ckm_name(key->mechanism.type));
    ret->extractable = answer(key->extractable);
    ret->sensitive = answer(key->sensitive);
    ret->never_extractable = answer(key->never_extractable);
    ret->always_sensitive = answer(key->always_sensitive);
}

const struct backend_ops backend_native_ops = {
    .name = "native",
    .open = native_open,
    .close = native_close,
    .close_token = native_close_token,
    .least_rung = native_least_rung,
    .lanes = native_lanes,
    .sign_failed = provider_sign_failed,
    .check = native_check,
    .keep_alive = native_keep_alive,
    .count = native_count,
    .report = native_report,
};
