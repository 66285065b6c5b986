/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/backend_library.h"

#include "pkcs11/backend_tokens.h"
#include "pkcs11/ladder.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

/* Beside those of the lanes: ours, which holds the login. */
enum { OWN_SESSIONS = 1 };

static enum leafd_err check_key(const struct backend *backend, const struct token_key *key,
                                struct why *why)
{
    const char *name = backend->ops->name;

    if (key->always_authenticate)
        return fail(why, LEAFD_CONFIG,
                    "the key \"%s\" in token \"%s\" wants the PIN for each signature, which "
                    "token.access: %s cannot give: use native",
                    key->label, key->token->label, name);
    return LEAFD_OK;
}

static enum leafd_err check_sessions(const struct backend *backend, unsigned spare, struct why *why)
{
    unsigned most = backend_tokens_sessions(backend, OWN_SESSIONS + spare + 1);

    if (most > OWN_SESSIONS + spare)
        return LEAFD_OK;
    return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                "the token gives %u %s, and token.access: %s needs %u: use native, or end what "
                "else uses the token",
                most, most == 1 ? "session" : "sessions", backend->ops->name,
                OWN_SESSIONS + spare + 1);
}

enum leafd_err backend_library_open(struct backend *backend, const struct secret *pin,
                                    unsigned spare, struct why *why)
{
    struct backend_tokens *tokens = &backend->tokens;
    enum leafd_err err = backend_tokens_read(backend, why);

    if (err == LEAFD_OK)
        err = backend_tokens_open(backend, pin,
                                  backend_lanes_wanted(backend) + OWN_SESSIONS + spare, why);
    if (err != LEAFD_OK)
        return err;
    if (tokens->module->one_lane)
        return fail(why, LEAFD_CONFIG,
                    "the module cannot lock (CKR_CANT_LOCK), which token.access: %s needs: use "
                    "native",
                    backend->ops->name);
    if (token_module_has_instances(tokens->module))
        return fail(why, LEAFD_CONFIG,
                    "the module gives token.access: %s an instance of its own, where nobody has "
                    "logged in (as p11-kit remoting does): use native",
                    backend->ops->name);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = check_key(backend, tokens->key[i], why);
    if (err == LEAFD_OK)
        err = check_sessions(backend, spare, why);
    for (size_t i = 0; i < tokens->count && err == LEAFD_OK; i++)
        session_pool_keep_one(tokens->token[i]->pool);
    return err;
}

unsigned backend_library_lanes(const struct backend *backend, unsigned spare)
{
    unsigned beside = OWN_SESSIONS + spare;
    unsigned most = backend_tokens_sessions(backend, backend_lanes_wanted(backend) + beside);

    return most > beside ? most - beside : 1;
}

/* ---- what it must not do ---- */

static int refuse(UI *ui, UI_STRING *string)
{
    (void)ui;
    (void)string;
    return 0;
}

UI_METHOD *backend_library_nobody(void)
{
    static UI_METHOD *nobody;

    if (!nobody) {
        nobody = UI_create_method("leafd: no PIN");
        if (!nobody)
            return NULL;
        UI_method_set_reader(nobody, refuse);
        UI_set_default_method(nobody);
    }
    return nobody;
}

enum rung backend_library_least_rung(struct backend *backend)
{
    return backend->impl ? RUNG_MODULE : backend_tokens_least_rung(backend);
}

static enum leafd_err refuse_hashing(const struct backend *backend, struct why *why)
{
    for (size_t i = 0; i < backend->key_count; i++) {
        const struct token_key *key = backend->tokens.key[i];

        if (key->mechanism.hashes && key->algorithm != SIG_ED25519)
            return fail(why, LEAFD_CONFIG,
                        "token \"%s\" signs whole messages alone (%s), and token.access: %s "
                        "digests: use native",
                        key->token->label, ckm_name(key->mechanism.type), backend->ops->name);
    }
    return LEAFD_OK;
}

static enum leafd_err refuse_edwards(const struct backend *backend, struct why *why)
{
    for (size_t i = 0; i < backend->key_count; i++) {
        bool found = false;
        enum leafd_err err = LEAFD_OK;

        if (backend_ca(backend, i)->algorithm == SIG_ED25519)
            return fail(why, LEAFD_CONFIG,
                        "token.access: %s cannot sign with the Ed25519 key of %s: use native",
                        backend->ops->name, backend_conf_ca(backend, i)->certificate);
        if (backend->tokens.key[i])
            err = token_has_edwards_key(backend->tokens.key[i]->token, &found, why);
        if (err != LEAFD_OK)
            return err;
        if (found)
            return fail(
                why, LEAFD_CONFIG,
                "token \"%s\" has an Ed25519 or Ed448 key, with which libp11 (and its "
                "engine) finds no key at all in it: use native, or move that key to another token",
                backend->tokens.key[i]->token->label);
    }
    return LEAFD_OK;
}

enum leafd_err backend_library_open_libp11(struct backend *backend, const struct secret *pin,
                                           unsigned spare, struct why *why)
{
    enum leafd_err err = refuse_edwards(backend, why); /* before the PIN is used */

    if (err == LEAFD_OK)
        err = backend_library_open(backend, pin, spare, why);
    if (err == LEAFD_OK)
        err = refuse_edwards(backend, why);
    return err == LEAFD_OK ? refuse_hashing(backend, why) : err;
}

/* ---- URIs ---- */

struct text {
    char *out; /* BACKEND_LIBRARY_URI_MAX */
    size_t len;
    bool full;
};

static void add_bytes(struct text *text, const char *bytes, size_t len)
{
    if (text->full || len >= BACKEND_LIBRARY_URI_MAX - text->len) {
        text->full = true;
        return;
    }
    memcpy(text->out + text->len, bytes, len);
    text->len += len;
    text->out[text->len] = '\0';
}

/* Nothing when there is no value; each octet that is not a letter or digit as %XX. */
static void add_attribute(struct text *text, const char *name, struct bytes value)
{
    if (!value.len)
        return;
    add_bytes(text, name, strlen(name));
    for (size_t i = 0; i < value.len; i++) {
        uint8_t octet = value.data[i];
        char code[4];

        snprintf(code, sizeof(code), "%%%02X", octet);
        if ((octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z') ||
            (octet >= '0' && octet <= '9'))
            add_bytes(text, (const char *)&octet, 1);
        else
            add_bytes(text, code, 3);
    }
    add_bytes(text, ";", 1);
}

static struct bytes unpadded(const unsigned char *field, size_t width)
{
    while (width && (field[width - 1] == ' ' || field[width - 1] == '\0'))
        width--;
    return (struct bytes){field, width};
}

enum leafd_err backend_library_uri(const struct backend *backend, size_t index,
                                   char out[static BACKEND_LIBRARY_URI_MAX], struct why *why)
{
    const struct token_key *key = backend->tokens.key[index];
    const CK_TOKEN_INFO *info = &key->token->info;
    struct text text = {.out = out};

    add_bytes(&text, "pkcs11:", 7);
    add_attribute(&text, "token=", unpadded(info->label, sizeof(info->label)));
    add_attribute(&text,
                  "manufacturer=", unpadded(info->manufacturerID, sizeof(info->manufacturerID)));
    add_attribute(&text, "model=", unpadded(info->model, sizeof(info->model)));
    add_attribute(&text, "serial=", unpadded(info->serialNumber, sizeof(info->serialNumber)));
    add_attribute(&text, "object=", token_uri_label(backend->tokens.uri[index]));
    add_attribute(&text, "id=", (struct bytes){key->id, key->id_len});
    add_bytes(&text, "type=private", 12);
    return text.full ? fail(why, LEAFD_CONFIG, "the label of key \"%s\" is too long", key->label)
                     : LEAFD_OK;
}

/* ---- errors ---- */

/* libp11 and its engine give the CKR as the reason of a library with this name, pkcs11-provider of
 * one with the provider's. */
static bool is_pkcs11(unsigned long code)
{
    const char *library = ERR_lib_error_string(code);

    return library && (strcmp(library, "PKCS#11 module") == 0 || strcmp(library, "pkcs11") == 0);
}

static CK_RV last_ckr(void)
{
    CK_RV found = CKR_OK;
    unsigned long code;

    while ((code = ERR_get_error()) != 0)
        if (is_pkcs11(code))
            found = (CK_RV)ERR_GET_REASON(code);
    return found;
}

enum leafd_err backend_library_sign_failed(struct why *why)
{
    unsigned long first = ERR_peek_error();
    const char *reason = first ? ERR_reason_error_string(first) : NULL;
    CK_RV rv = last_ckr();

    if (rv == CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "the library did not sign: %s",
                    reason ? reason : "it does not say why");
    switch (ladder_rung(rv)) {
    case RUNG_NONE:
        return fail(why, LEAFD_UNSUPPORTED, "the library did not sign: %s", ckr_name(rv));
    case RUNG_SESSION:
        return fail(why, LEAFD_AGAIN, "the library did not sign: %s", ckr_name(rv));
    default:
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "the library did not sign: %s", ckr_name(rv));
    }
}

enum leafd_err backend_library_fail(struct why *why, enum leafd_err err, const char *what)
{
    unsigned long first = ERR_peek_error();
    const char *reason = first ? ERR_reason_error_string(first) : NULL;
    CK_RV rv = last_ckr();

    if (rv != CKR_OK)
        reason = ckr_name(rv);
    return fail(why, err, "%s: %s", what, reason ? reason : "it does not say why");
}
