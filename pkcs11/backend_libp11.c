/* SPDX-License-Identifier: Apache-2.0 */
/* The backend that signs with libp11: one PKCS11_CTX, and from it an EVP_PKEY for each CA.
 *
 * What libp11 0.4.12 and 0.4.13 do that decides how it is used here: 16 sessions at most; a session
 * that fails goes back to the others, so nothing but a new PKCS11_CTX helps once they are lost;
 * C_OpenSession that fails while none is open makes them wait for ever, so sessions are known to be
 * free before it is asked, and the token to be there before each signature, since 0.4.13 throws
 * lost sessions away and opens new ones (if it hangs all the same, the process is replaced); one
 * Ed25519 key makes them fail to list any. */
#include "pkcs11/backend_library.h"
#include "pkcs11/backend_tokens.h"

#include <libp11.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

enum { LIBP11_SESSIONS = 16, SPARE = 0 };

struct libp11 {
    PKCS11_CTX *ctx;
    bool loaded;
    PKCS11_SLOT *slots;
    unsigned slot_count;
};

/* ---- which key ---- */

static PKCS11_SLOT *find_slot(const struct libp11 *libp11, CK_SLOT_ID id)
{
    for (unsigned i = 0; i < libp11->slot_count; i++)
        if (PKCS11_get_slotid_from_slot(&libp11->slots[i]) == id && libp11->slots[i].token)
            return &libp11->slots[i];
    return NULL;
}

/* The key that we have found ourselves: the id is the same, and the label where the URI has one. */
static bool is_key(const PKCS11_KEY *candidate, const struct token_key *key, struct bytes label)
{
    struct bytes id = {candidate->id, candidate->id_len};

    if (!bytes_equal(id, (struct bytes){key->id, key->id_len}))
        return false;
    return !label.len || (candidate->label && bytes_equal(bytes_of(candidate->label), label));
}

static enum leafd_err use_key(struct backend *backend, size_t index, struct why *why)
{
    const struct token_key *key = backend->tokens.key[index];
    struct bytes label = token_uri_label(backend->tokens.uri[index]);
    PKCS11_SLOT *slot = find_slot(backend->impl, key->token->slot);
    PKCS11_KEY *keys = NULL;
    PKCS11_KEY *found = NULL;
    unsigned count = 0;

    if (!slot)
        return fail(why, LEAFD_ABSENT, "libp11 does not see token \"%s\"", key->token->label);
    if (PKCS11_enumerate_keys(slot->token, &keys, &count) != 0)
        return backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE,
                                    "libp11 cannot list the keys of the token");
    for (unsigned i = 0; i < count; i++) {
        if (!is_key(&keys[i], key, label))
            continue;
        if (found)
            return fail(why, LEAFD_CONFIG,
                        "libp11 finds two keys with the id of \"%s\" in token \"%s\": use native",
                        key->label, key->token->label);
        found = &keys[i];
    }
    if (!found)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "libp11 does not find the key \"%s\" in token \"%s\"", key->label,
                    key->token->label);
    backend->key[index] = PKCS11_get_private_key(found);
    if (!backend->key[index])
        return backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE, "libp11 gives no EVP_PKEY");
    return LEAFD_OK;
}

/* ---- open and close ---- */

static enum leafd_err load(struct backend *backend, struct why *why)
{
    struct libp11 *libp11 = backend->impl;

    libp11->ctx = PKCS11_CTX_new();
    if (!libp11->ctx)
        return LEAFD_NOMEM;
    if (PKCS11_CTX_load(libp11->ctx, backend->token->module) != 0)
        return backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE,
                                    "libp11 does not load the module");
    libp11->loaded = true;
    if (PKCS11_enumerate_slots(libp11->ctx, &libp11->slots, &libp11->slot_count) != 0)
        return backend_library_fail(why, LEAFD_TOKEN_UNAVAILABLE, "libp11 cannot list the slots");
    return LEAFD_OK;
}

static enum leafd_err libp11_open(struct backend *backend, const struct secret *pin,
                                  struct why *why)
{
    enum leafd_err err = backend_library_open_libp11(backend, pin, SPARE, why);

    if (err != LEAFD_OK)
        return err;
    backend->impl = calloc(1, sizeof(struct libp11));
    if (!backend->impl)
        return LEAFD_NOMEM;
    err = load(backend, why);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = use_key(backend, i, why);
    ERR_clear_error();
    return err;
}

/* libp11 finalises the module when it unloads it, so our sessions are closed before that. */
static void libp11_close(struct backend *backend)
{
    struct libp11 *libp11 = backend->impl;

    (void)backend_tokens_close_sessions(backend);
    if (libp11 && libp11->slots)
        PKCS11_release_all_slots(libp11->ctx, libp11->slots, libp11->slot_count);
    if (libp11 && libp11->loaded)
        PKCS11_CTX_unload(libp11->ctx);
    if (libp11 && libp11->ctx)
        PKCS11_CTX_free(libp11->ctx);
    free(libp11);
    backend->impl = NULL;
    backend_tokens_close(backend);
    ERR_clear_error();
}

/* What libp11 has made is of no use after a failure; what it has not seen yet may be kept. */
static void libp11_close_token(struct backend *backend)
{
    if (backend->impl || !backend_tokens_close_sessions(backend))
        libp11_close(backend);
}

static unsigned libp11_lanes(const struct backend *backend)
{
    return backend_library_lanes(backend, SPARE);
}

const struct backend_ops backend_libp11_ops = {
    .name = "libp11",
    .lanes_max = LIBP11_SESSIONS,
    .open = libp11_open,
    .close = libp11_close,
    .close_token = libp11_close_token,
    .least_rung = backend_library_least_rung,
    .lanes = libp11_lanes,
    .may_sign = backend_tokens_check,
    .sign_failed = backend_library_sign_failed,
    .check = backend_tokens_check,
    .keep_alive = backend_tokens_keep_alive,
    .count = backend_tokens_count,
    .report = backend_tokens_report,
};
