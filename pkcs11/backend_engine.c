/* SPDX-License-Identifier: Apache-2.0 */
/* The backend that signs with the OpenSSL engine "pkcs11" (libp11's, from OpenSSL's folder of
 * engines).
 *
 * What the engine 0.4.12 does that decides how it is used here: nothing opens it again in the same
 * process (a new enumeration of the slots crashes; each key it gave holds the engine and is held by
 * it, so it never ends), so a process opens it once and is replaced when it fails. It looks for a
 * key without logging in first, and our login is the whole process's; should it come to ask for a
 * PIN all the same, it gets none. A PIN with the newline of its file can so never reach it.
 * Sessions and keys are libp11's, with the same bounds (pkcs11/backend_libp11.c). */

/* ENGINE is deprecated from OpenSSL 3.0 and gone in 4.0; this file alone uses it. */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "pkcs11/backend_library.h"
#include "pkcs11/backend_tokens.h"

#include <openssl/engine.h>
#include <openssl/err.h>
#include <stdlib.h>

enum { ENGINE_SESSIONS = 16, SPARE = 0 };

struct engine {
    ENGINE *engine;
    bool initialized;
};

static enum leafd_err load(struct backend *backend, struct why *why)
{
    static bool was_loaded;
    struct engine *engine = backend->impl;

    if (was_loaded) {
        backend->spent = true;
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "the engine was open in this process before");
    }
    OPENSSL_init_crypto(OPENSSL_INIT_ENGINE_DYNAMIC, NULL);
    if (!backend_library_nobody())
        return LEAFD_NOMEM;
    engine->engine = ENGINE_by_id("pkcs11");
    if (!engine->engine)
        return backend_library_fail(why, LEAFD_CONFIG,
                                    "there is no OpenSSL engine \"pkcs11\" (on Debian: apt-get "
                                    "install libengine-pkcs11-openssl)");
    was_loaded = backend->spent = true;
    if (ENGINE_ctrl_cmd_string(engine->engine, "QUIET", NULL, 0) != 1 ||
        ENGINE_ctrl_cmd_string(engine->engine, "MODULE_PATH", backend->token->module, 0) != 1 ||
        ENGINE_init(engine->engine) != 1)
        return backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE, "the engine does not start");
    engine->initialized = true;
    return LEAFD_OK;
}

static enum leafd_err use_key(struct backend *backend, size_t index, struct why *why)
{
    struct engine *engine = backend->impl;
    char uri[BACKEND_LIBRARY_URI_MAX];
    enum leafd_err err = backend_library_uri(backend, index, uri, why);

    if (err != LEAFD_OK)
        return err;
    backend->key[index] =
        ENGINE_load_private_key(engine->engine, uri, backend_library_nobody(), NULL);
    if (!backend->key[index])
        return backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE, "the engine finds no key");
    return LEAFD_OK;
}

static enum leafd_err engine_open(struct backend *backend, const struct secret *pin,
                                  struct why *why)
{
    enum leafd_err err = backend_library_open_libp11(backend, pin, SPARE, why);

    if (err != LEAFD_OK)
        return err;
    backend->impl = calloc(1, sizeof(struct engine));
    if (!backend->impl)
        return LEAFD_NOMEM;
    err = load(backend, why);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = use_key(backend, i, why);
    ERR_clear_error();
    return err;
}

/* The engine finalises the module when it is finished, so our sessions are closed before that. */
static void engine_close(struct backend *backend)
{
    struct engine *engine = backend->impl;

    (void)backend_tokens_close_sessions(backend);
    if (engine && engine->initialized)
        ENGINE_finish(engine->engine);
    if (engine)
        ENGINE_free(engine->engine);
    free(engine);
    backend->impl = NULL;
    backend_tokens_close(backend);
    ERR_clear_error();
}

/* Once the engine has come into play it is not opened again. */
static void engine_close_token(struct backend *backend)
{
    if (backend->impl || !backend_tokens_close_sessions(backend))
        engine_close(backend);
}

static unsigned engine_lanes(const struct backend *backend)
{
    return backend_library_lanes(backend, SPARE);
}

const struct backend_ops backend_engine_ops = {
    .name = "engine",
    .lanes_max = ENGINE_SESSIONS,
    .open = engine_open,
    .close = engine_close,
    .close_token = engine_close_token,
    .least_rung = backend_library_least_rung,
    .lanes = engine_lanes,
    .may_sign = backend_tokens_check,
    .sign_failed = backend_library_sign_failed,
    .check = backend_tokens_check,
    .keep_alive = backend_tokens_keep_alive,
    .count = backend_tokens_count,
    .report = backend_tokens_report,
};
