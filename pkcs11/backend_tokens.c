/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/backend_tokens.h"

#include "base/log.h"
#include "pkcs11/token_report.h"

#include <stdatomic.h>
#include <string.h>

/* ---- opening ---- */

enum leafd_err backend_tokens_read(struct backend *backend, struct why *why)
{
    struct backend_tokens *tokens = &backend->tokens;

    for (size_t i = 0; i < backend->key_count; i++) {
        enum leafd_err err = LEAFD_OK;

        if (!tokens->uri[i])
            err = token_uri_parse(backend_key_place(backend, i), &tokens->uri[i], why);
        if (err != LEAFD_OK)
            return fail_in(why, err, "ca.key");
    }
    return LEAFD_OK;
}

/* The token of CA number `index`, logged in: found once and shared with the CAs before. */
static enum leafd_err use_token(struct backend *backend, size_t index, const struct secret *pin,
                                unsigned sessions, struct token **ret, struct why *why)
{
    struct backend_tokens *tokens = &backend->tokens;
    const struct token_uri *uri = tokens->uri[index];
    struct token *token;
    CK_SLOT_ID slot;
    enum leafd_err err = token_find_slot(tokens->module, uri, &slot, why);

    if (err != LEAFD_OK)
        return err;
    for (size_t i = 0; i < tokens->count; i++) {
        if (tokens->token[i]->slot == slot) {
            *ret = tokens->token[i];
            return LEAFD_OK;
        }
    }
    err = token_new(tokens->module, slot, 0, sessions, &token, why);
    if (err != LEAFD_OK)
        return err;
    token->wait_ms = backend->token->timeout_ms;
    tokens->token[tokens->count++] = token;
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
                              unsigned sessions, struct why *why)
{
    struct backend_tokens *tokens = &backend->tokens;
    const struct ca *ca = backend_ca(backend, index);
    struct token *token;
    enum leafd_err err = use_token(backend, index, pin, sessions, &token, why);

    tokens->lacks_key = err == LEAFD_OK;
    if (err != LEAFD_OK)
        return err;
    token_key_free(tokens->key[index]); /* of the opening before, which kept the token */
    tokens->key[index] = NULL;
    err = token_key_find(token, tokens->uri[index], ca, &tokens->key[index], why);
    if (err != LEAFD_OK)
        return err;
    err = token_key_compare(tokens->key[index], ca->public_key,
                            backend_conf_ca(backend, index)->certificate,
                            &backend->key_known[index], why);
    if (err == LEAFD_OK)
        warn_about(tokens->key[index]);
    return err;
}

enum leafd_err backend_tokens_open(struct backend *backend, const struct secret *pin,
                                   unsigned sessions, struct why *why)
{
    struct backend_tokens *tokens = &backend->tokens;
    enum leafd_err err = LEAFD_OK;

    if (!tokens->module)
        err = token_module_open(backend->token, &tokens->module, why);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = use_key(backend, i, pin, sessions, why);
    for (size_t i = 0; i < tokens->count; i++)
        for (unsigned n = 0; n < sessions && err == LEAFD_OK; n++)
            err = session_pool_grow(tokens->token[i]->pool, why);
    return err;
}

/* ---- closing ---- */

static void free_tokens(struct backend_tokens *tokens)
{
    for (size_t i = 0; i < BACKEND_KEYS_MAX; i++) {
        token_key_free(tokens->key[i]);
        tokens->key[i] = NULL;
    }
    for (size_t i = 0; i < tokens->count; i++)
        token_free(tokens->token[i]);
    tokens->count = 0;
}

/* One call ends all sessions and the login, and takes lost sessions along that we cannot name. */
bool backend_tokens_close_sessions(struct backend *backend)
{
    struct backend_tokens *tokens = &backend->tokens;
    bool module_is_lost = false;

    for (size_t i = 0; i < tokens->count; i++) {
        module_is_lost |= atomic_load(&tokens->token[i]->module_is_lost);
        session_pool_close_all(tokens->token[i]->pool);
    }
    free_tokens(tokens);
    return !module_is_lost;
}

void backend_tokens_close(struct backend *backend)
{
    struct backend_tokens *tokens = &backend->tokens;

    free_tokens(tokens);
    for (size_t i = 0; i < BACKEND_KEYS_MAX; i++)
        token_uri_free(tokens->uri[i]);
    token_module_close(tokens->module);
    memset(tokens, 0, sizeof(*tokens));
}

/* A key is looked for with the login that there is. A token may come into a slot that is empty;
 * where none is, only a module that begins anew may have one for it, as p11-kit's client when its
 * server was gone, and SoftHSM. */
enum rung backend_tokens_least_rung(struct backend *backend)
{
    struct backend_tokens *tokens = &backend->tokens;

    if (!tokens->module || (!tokens->lacks_key && !token_may_come(tokens->module)))
        return RUNG_MODULE;
    return backend_tokens_check(backend, NULL) == LEAFD_OK ? RUNG_SESSION : RUNG_TOKEN;
}

/* ---- while it is open ---- */

unsigned backend_tokens_sessions(const struct backend *backend, unsigned wanted)
{
    const struct backend_tokens *tokens = &backend->tokens;

    for (size_t i = 0; i < tokens->count; i++) {
        unsigned limit = session_pool_limit(tokens->token[i]->pool);

        wanted = limit < wanted ? limit : wanted;
    }
    return wanted;
}

enum leafd_err backend_tokens_check(struct backend *backend, struct why *why)
{
    const struct backend_tokens *tokens = &backend->tokens;

    for (size_t i = 0; i < tokens->count; i++) {
        enum leafd_err err = token_check(tokens->token[i], why);

        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

void backend_tokens_keep_alive(struct backend *backend)
{
    for (size_t i = 0; i < backend->tokens.count; i++)
        session_pool_keep_alive(backend->tokens.token[i]->pool);
}

void backend_tokens_count(struct backend *backend, struct backend_counters *ret)
{
    for (size_t i = 0; i < backend->tokens.count; i++) {
        const struct token *token = backend->tokens.token[i];

        ret->logins_failed += atomic_load(&token->logins_failed);
        ret->logins += atomic_load(&token->logins);
        ret->retries += atomic_load(&token->retries);
        ret->sessions += session_pool_open_count(token->pool);
    }
}

void backend_tokens_report(struct backend *backend, size_t index, struct token_key_report *ret)
{
    token_key_describe(backend->tokens.key[index], ret);
}
