/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token.h"

#include "base/log.h"
#include "pkcs11/pin_refusals.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SLOT_TRIES = 4,
    SLOTS_MAX = 4096,
    MECHANISMS_MAX = 4096,
    LOGIN_WAIT_MS = 2000 /* for another process's login */
};

const char *token_text(const unsigned char *field, size_t width, char *out, size_t size)
{
    while (width && (field[width - 1] == ' ' || field[width - 1] == '\0'))
        width--;
    return bytes_escape((struct bytes){field, width}, out, size);
}

enum leafd_err token_slots(struct token_module *module, CK_SLOT_ID **ret, size_t *ret_count,
                           struct why *why)
{
    CK_SLOT_ID *slots = NULL;
    CK_ULONG count = 0;
    CK_ULONG room = 0;
    CK_RV rv = CKR_BUFFER_TOO_SMALL;

    /* A token may appear between the two calls. */
    for (int i = 0; i < SLOT_TRIES && rv == CKR_BUFFER_TOO_SMALL; i++) {
        free(slots);
        slots = NULL;
        rv = TOKEN_CALL(module, C_GetSlotList, CK_TRUE, NULL, &count);
        if (rv != CKR_OK)
            break;
        if (count > SLOTS_MAX)
            return fail(why, LEAFD_TOKEN_UNAVAILABLE, "the module claims to have %lu slots", count);
        room = count;
        slots = calloc(room + 1, sizeof(*slots));
        if (!slots)
            return LEAFD_NOMEM;
        rv = TOKEN_CALL(module, C_GetSlotList, CK_TRUE, slots, &count);
    }
    if (rv == CKR_OK && count > room) {
        free(slots);
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "C_GetSlotList: the module gives %lu slots where there is room for %lu", count,
                    room);
    }
    if (rv != CKR_OK) {
        free(slots);
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "C_GetSlotList: %s", ckr_name(rv));
    }
    *ret = slots;
    *ret_count = count;
    return LEAFD_OK;
}

bool token_may_come(struct token_module *module)
{
    CK_ULONG all = 0, filled = 0;

    return TOKEN_CALL(module, C_GetSlotList, CK_FALSE, NULL, &all) == CKR_OK &&
           TOKEN_CALL(module, C_GetSlotList, CK_TRUE, NULL, &filled) == CKR_OK && filled < all;
}

/* ---- which slot ---- */

/* The labels that are there, for a message about the one that is not. */
struct labels {
    char text[100];
    size_t len;
};

static void labels_add(struct labels *labels, const CK_TOKEN_INFO *info)
{
    char label[80];
    int len;

    token_text(info->label, sizeof(info->label), label, sizeof(label));
    len = snprintf(labels->text + labels->len, sizeof(labels->text) - labels->len, "%s\"%s\"",
                   labels->len ? ", " : "", label);
    if (len > 0 && (size_t)len < sizeof(labels->text) - labels->len)
        labels->len += (size_t)len;
    else
        labels->text[labels->len] = '\0';
}

enum leafd_err token_find_slot(struct token_module *module, const struct token_uri *uri,
                               CK_SLOT_ID *ret, struct why *why)
{
    struct labels labels = {0};
    CK_SLOT_ID *slots;
    CK_SLOT_ID found = 0;
    size_t count;
    size_t matches = 0;
    CK_SLOT_ID second = 0;
    enum leafd_err err = token_slots(module, &slots, &count, why);

    if (err != LEAFD_OK)
        return err;
    for (size_t i = 0; i < count; i++) {
        CK_SLOT_INFO slot_info = {0};
        CK_TOKEN_INFO info = {0};

        /* A slot that does not answer now has no token for us. */
        if (TOKEN_CALL(module, C_GetSlotInfo, slots[i], &slot_info) != CKR_OK ||
            TOKEN_CALL(module, C_GetTokenInfo, slots[i], &info) != CKR_OK ||
            !(info.flags & CKF_TOKEN_INITIALIZED))
            continue;
        labels_add(&labels, &info);
        if (!token_uri_matches(uri, &module->info, slots[i], &slot_info, &info))
            continue;
        if (matches++ == 0)
            found = slots[i];
        else
            second = slots[i];
    }
    free(slots);
    if (matches == 0)
        return fail(why, LEAFD_ABSENT, "no token answers to %s; the module has %s",
                    token_uri_text(uri), labels.len ? labels.text : "none that is initialised");
    if (matches > 1)
        return fail(why, LEAFD_CONFIG,
                    "%zu tokens answer to %s, in slots %lu and %lu: add serial= to the URI",
                    matches, token_uri_text(uri), (unsigned long)found, (unsigned long)second);
    *ret = found;
    return LEAFD_OK;
}

/* ---- one token ---- */

static bool is_known(CK_ULONG sessions)
{
    return sessions != CK_EFFECTIVELY_INFINITE && sessions != CK_UNAVAILABLE_INFORMATION;
}

enum leafd_err token_new(struct token_module *module, CK_SLOT_ID slot, CK_FLAGS flags,
                         unsigned sessions, struct token **ret, struct why *why)
{
    struct token *token = calloc(1, sizeof(*token));
    CK_ULONG most;
    CK_RV rv;
    enum leafd_err err;

    if (!token)
        return LEAFD_NOMEM;
    token->module = module;
    token->slot = slot;
    rv = TOKEN_CALL(module, C_GetTokenInfo, slot, &token->info);
    if (rv != CKR_OK) {
        err = fail(why, LEAFD_TOKEN_UNAVAILABLE, "C_GetTokenInfo: %s", ckr_name(rv));
        goto out;
    }
    token_text(token->info.label, sizeof(token->info.label), token->label, sizeof(token->label));
    most = token->info.ulMaxSessionCount;
    if (is_known(most) && most < sessions)
        sessions = (unsigned)most;
    most = token->info.ulMaxRwSessionCount;
    if ((flags & CKF_RW_SESSION) && is_known(most) && most < sessions)
        sessions = (unsigned)most;
    if (module->one_lane)
        sessions = 1;
    err = session_pool_new(module, slot, flags, sessions, &token->pool);
    if (err != LEAFD_OK)
        goto out;

    *ret = token;
    token = NULL;
out:
    token_free(token);
    return err;
}

void token_free(struct token *token)
{
    if (!token)
        return;
    session_pool_free(token->pool);
    secret_clear(&token->pin);
    free(token);
}

/* False also when the module gives no list: then C_GetMechanismInfo has the last word. */
static bool is_left_out(struct token_module *module, CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism)
{
    CK_MECHANISM_TYPE *list;
    CK_ULONG count = 0;
    CK_ULONG room;
    bool found = false;

    if (TOKEN_CALL(module, C_GetMechanismList, slot, NULL, &count) != CKR_OK || !count ||
        count > MECHANISMS_MAX)
        return false;
    room = count;
    list = calloc(room + 1, sizeof(*list)); /* p11-kit 0.24 looks behind the last one */
    if (!list || TOKEN_CALL(module, C_GetMechanismList, slot, list, &count) != CKR_OK ||
        count > room)
        found = true;
    for (CK_ULONG i = 0; i < count && !found; i++)
        found = list[i] == mechanism;
    free(list);
    return !found;
}

bool token_can(struct token_module *module, CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism,
               CK_FLAGS flag)
{
    CK_MECHANISM_INFO info = {0};

    /* SoftHSM knows all about mechanisms that its configuration has taken away. */
    return TOKEN_CALL(module, C_GetMechanismInfo, slot, mechanism, &info) == CKR_OK &&
           (info.flags & flag) && !is_left_out(module, slot, mechanism);
}

enum leafd_err token_check(struct token *token, struct why *why)
{
    CK_TOKEN_INFO info = {0};
    CK_RV rv = TOKEN_CALL(token->module, C_GetTokenInfo, token->slot, &info);

    if (rv != CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\" is gone: C_GetTokenInfo: %s",
                    token->label, ckr_name(rv));
    /* Another one in the same slot is not ours, whatever handles it honours. */
    if (memcmp(info.serialNumber, token->info.serialNumber, sizeof(info.serialNumber)) != 0 ||
        memcmp(info.label, token->info.label, sizeof(info.label)) != 0)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "another token is in the slot of \"%s\"",
                    token->label);
    return LEAFD_OK;
}

/* ---- login ---- */

/* Nothing that would burn a try that the operator may need. */
static enum leafd_err check_flags(const struct token *token, CK_FLAGS flags, struct why *why)
{
    if (flags & CKF_USER_PIN_LOCKED)
        return fail(why, LEAFD_PIN,
                    "the user PIN of token \"%s\" is locked: unlock it with the vendor's tool and "
                    "the SO PIN",
                    token->label);
    if (flags & CKF_USER_PIN_FINAL_TRY)
        return fail(why, LEAFD_PIN,
                    "token \"%s\" has one PIN try left, which leafd leaves to you: log in once "
                    "with the vendor's tool, then start leafd again",
                    token->label);
    if (!(flags & CKF_USER_PIN_INITIALIZED))
        return fail(why, LEAFD_PIN, "token \"%s\" has no user PIN yet: set one with the SO PIN",
                    token->label);
    if (flags & CKF_USER_PIN_COUNT_LOW)
        log_event(LOG_LEVEL_WARNING, "pin-count-low",
                  "token=\"%s\" reason=\"a wrong PIN was tried since the last login\"",
                  token->label);
    return LEAFD_OK;
}

static enum leafd_err login_error(const struct token *token, CK_RV rv, struct why *why)
{
    switch (rv) {
    case CKR_PIN_INCORRECT:
    case CKR_PIN_INVALID:
    case CKR_PIN_LEN_RANGE:
        return fail(
            why, LEAFD_PIN,
            "token \"%s\" refuses the PIN (%s); it was tried once and will not be again: "
            "correct it where token.pin_file, token.pin_env or the URI says, or start again "
            "where it is asked for",
            token->label, ckr_name(rv));
    case CKR_PIN_LOCKED:
    case CKR_PIN_EXPIRED:
    case CKR_USER_PIN_NOT_INITIALIZED:
        return fail(why, LEAFD_PIN, "token \"%s\" lets nobody in: %s", token->label, ckr_name(rv));
    default:
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\": C_Login: %s", token->label,
                    ckr_name(rv));
    }
}

/* What tells this token from others, for those who remember refused PINs. */
static struct bytes identity(const struct token *token, uint8_t *out)
{
    const CK_TOKEN_INFO *info = &token->info;

    memcpy(out, info->serialNumber, sizeof(info->serialNumber));
    memcpy(out + sizeof(info->serialNumber), info->label, sizeof(info->label));
    return (struct bytes){out, sizeof(info->serialNumber) + sizeof(info->label)};
}

/* While no other process tries. */
static enum leafd_err try_login(struct token *token, const struct secret *pin, bool on_device,
                                struct why *why)
{
    struct session session;
    CK_TOKEN_INFO info = {0};
    enum leafd_err err;
    CK_RV rv = TOKEN_CALL(token->module, C_GetTokenInfo, token->slot, &info);

    if (rv != CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "C_GetTokenInfo: %s", ckr_name(rv));
    err = check_flags(token, info.flags, why);
    if (err != LEAFD_OK)
        return err;
    err = session_pool_take(token->pool, 0, &session, why);
    if (err != LEAFD_OK)
        return err;
    atomic_fetch_add(&token->logins, 1);
    rv = on_device ? TOKEN_CALL(token->module, C_Login, session.handle, CKU_USER, NULL, 0)
                   : TOKEN_CALL(token->module, C_Login, session.handle, CKU_USER, pin->data,
                                (CK_ULONG)pin->len);
    session_pool_give(token->pool, session);
    if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN)
        return LEAFD_OK;
    err = login_error(token, rv, why);
    if (err != LEAFD_PIN)
        atomic_fetch_add(&token->logins_failed, 1);
    return err;
}

static enum leafd_err login_with(struct token *token, const struct secret *pin, bool on_device,
                                 struct why *why)
{
    uint8_t text[sizeof(token->info.serialNumber) + sizeof(token->info.label)];
    struct bytes id = identity(token, text);
    uint64_t tries = atomic_load(&token->logins);
    enum leafd_err err = pin_try_begin(id, pin, LOGIN_WAIT_MS, why);

    if (err != LEAFD_OK)
        return err;
    err = try_login(token, pin, on_device, why);
    pin_try_end(id, pin, err == LEAFD_PIN && atomic_load(&token->logins) != tries);
    return err;
}

enum leafd_err token_login(struct token *token, const struct token_uri *uri,
                           const struct secret *pin, struct why *why)
{
    bool on_device = token->info.flags & CKF_PROTECTED_AUTHENTICATION_PATH;
    struct secret own = SECRET_EMPTY;
    enum leafd_err err = LEAFD_OK;

    if (!pin || !pin->len) {
        err = token_uri_pin(uri, &own, why);
        pin = &own;
    }
    if (err == LEAFD_ABSENT) {
        if (!(token->info.flags & CKF_LOGIN_REQUIRED))
            return LEAFD_OK;
        if (!on_device)
            return fail(why, LEAFD_PIN,
                        "token \"%s\" wants a PIN and none is given: set token.pin_file or "
                        "token.pin_env, or start from a terminal, where it is asked for",
                        token->label);
        err = LEAFD_OK;
    }
    if (err == LEAFD_OK)
        err = login_with(token, pin, on_device, why);
    if (err == LEAFD_OK && pin->len && !on_device)
        err = secret_set(&token->pin, (struct bytes){pin->data, pin->len});
    secret_clear(&own);
    return err;
}

CK_RV token_login_for_operation(struct token *token, CK_SESSION_HANDLE session)
{
    uint8_t text[sizeof(token->info.serialNumber) + sizeof(token->info.label)];
    struct bytes id = identity(token, text);
    CK_RV rv;

    if (pin_try_begin(id, &token->pin, LOGIN_WAIT_MS, NULL) != LEAFD_OK)
        return CKR_USER_NOT_LOGGED_IN;
    rv = TOKEN_CALL(token->module, C_Login, session, CKU_CONTEXT_SPECIFIC, token->pin.data,
                    (CK_ULONG)token->pin.len);
    pin_try_end(id, &token->pin, rv != CKR_OK && login_error(token, rv, NULL) == LEAFD_PIN);
    return rv;
}
