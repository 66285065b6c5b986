/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_report.h"

#include "pkcs11/backend.h"
#include "pkcs11/token.h"
#include "pkcs11/token_key.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- token list ---- */

static void describe_mechanisms(struct token_module *module, CK_SLOT_ID slot, char *out,
                                size_t size)
{
    static const struct {
        CK_MECHANISM_TYPE mechanism;
        CK_FLAGS flag;
        const char *name;
    } rows[] = {
        {CKM_RSA_PKCS, CKF_SIGN, "RSA-PKCS"},
        {CKM_SHA256_RSA_PKCS, CKF_SIGN, "SHA256-RSA-PKCS"},
        {CKM_RSA_PKCS_PSS, CKF_SIGN, "RSA-PKCS-PSS"},
        {CKM_SHA256_RSA_PKCS_PSS, CKF_SIGN, "SHA256-RSA-PKCS-PSS"},
        {CKM_ECDSA, CKF_SIGN, "ECDSA"},
        {CKM_ECDSA_SHA256, CKF_SIGN, "ECDSA-SHA256"},
        {CKM_ECDSA_SHA384, CKF_SIGN, "ECDSA-SHA384"},
        {CKM_EDDSA, CKF_SIGN, "EDDSA"},
        {CKM_RSA_PKCS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, "RSA-KEY-PAIR-GEN"},
        {CKM_EC_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, "EC-KEY-PAIR-GEN"},
        {CKM_EC_EDWARDS_KEY_PAIR_GEN, CKF_GENERATE_KEY_PAIR, "EC-EDWARDS-KEY-PAIR-GEN"},
    };
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!token_can(module, slot, rows[i].mechanism, rows[i].flag))
            continue;
        len += (size_t)snprintf(out + len, size - len, "%s%s", len ? " " : "", rows[i].name);
        if (len >= size)
            return;
    }
}

void token_describe(struct token_module *module, unsigned long slot, const void *told,
                    struct token_description *ret)
{
    const CK_TOKEN_INFO *info = told;
    CK_ULONG most = info->ulMaxSessionCount;

    *ret = (struct token_description){
        .slot = slot,
        .initialized = info->flags & CKF_TOKEN_INITIALIZED,
        .has_user_pin = info->flags & CKF_USER_PIN_INITIALIZED,
        .login_required = info->flags & CKF_LOGIN_REQUIRED,
        .protected_path = info->flags & CKF_PROTECTED_AUTHENTICATION_PATH,
        .pin_count_low = info->flags & CKF_USER_PIN_COUNT_LOW,
        .pin_final_try = info->flags & CKF_USER_PIN_FINAL_TRY,
        .pin_locked = info->flags & CKF_USER_PIN_LOCKED,
        .max_sessions = most == CK_UNAVAILABLE_INFORMATION ? 0 : most,
    };
    token_text(info->label, sizeof(info->label), ret->label, sizeof(ret->label));
    token_text(info->manufacturerID, sizeof(info->manufacturerID), ret->manufacturer,
               sizeof(ret->manufacturer));
    token_text(info->model, sizeof(info->model), ret->model, sizeof(ret->model));
    token_text(info->serialNumber, sizeof(info->serialNumber), ret->serial, sizeof(ret->serial));
    describe_mechanisms(module, slot, ret->mechanisms, sizeof(ret->mechanisms));
}

static bool is_token_of(struct token_module *module, CK_SLOT_ID slot, CK_TOKEN_INFO *info,
                        const char *key)
{
    struct token_uri *uri;
    CK_SLOT_INFO slot_info = {0};
    bool matches;

    if (token_uri_parse(key, &uri, NULL) != LEAFD_OK)
        return false;
    matches = TOKEN_CALL(module, C_GetSlotInfo, slot, &slot_info) == CKR_OK &&
              token_uri_matches(uri, &module->info, slot, &slot_info, info);
    token_uri_free(uri);
    return matches;
}

static void describe_signing(struct token_module *module, CK_SLOT_ID slot, size_t ca_index,
                             const struct ca *ca, struct token_signing *ret)
{
    struct token_mechanism mechanism;
    struct why missing;

    *ret = (struct token_signing){.ca_index = ca_index, .algorithm = ca->algorithm};
    if (token_mechanism_choose(module, slot, ca->algorithm, &mechanism, &missing) == LEAFD_OK)
        snprintf(ret->mechanism, sizeof(ret->mechanism), "%s", ckm_name(mechanism.type));
    else
        snprintf(ret->missing, sizeof(ret->missing), "%.79s", missing.text);
}

/* Which of the configured tokens behind this module it is, and what it signs with for them. */
static void describe_use(struct token_module *module, const struct conf *conf, size_t token,
                         const struct ca_set *cas, CK_TOKEN_INFO *info,
                         struct token_description *ret)
{
    bool signs[CONF_CA_MAX] = {false};

    for (size_t i = 0; i < conf->token_count; i++) {
        if (!token_module_is_same(&conf->token[token], &conf->token[i]))
            continue;
        for (size_t k = 0; k < conf->ca_count; k++) {
            if (!is_token_of(module, ret->slot, info, conf_token_key(conf, i, k)))
                continue;
            ret->configured |= 1u << i;
            signs[k] = true;
        }
    }
    for (size_t k = 0; cas && k < cas->count; k++)
        if (signs[k])
            describe_signing(module, ret->slot, k, cas->ca[k], &ret->signing[ret->signing_count++]);
}

enum leafd_err token_list(const struct conf *conf, size_t token, const struct ca_set *cas,
                          struct token_description **ret, size_t *ret_count, struct why *why)
{
    struct token_module *module = NULL;
    struct token_description *list = NULL;
    CK_SLOT_ID *slots = NULL;
    size_t slot_count = 0;
    size_t count = 0;
    enum leafd_err err = token_module_open(&conf->token[token], &module, why);

    if (err != LEAFD_OK)
        goto out;
    err = token_slots(module, &slots, &slot_count, why);
    if (err != LEAFD_OK)
        goto out;
    err = LEAFD_NOMEM;
    list = slot_count ? calloc(slot_count, sizeof(*list)) : NULL;
    if (slot_count && !list)
        goto out;
    for (size_t i = 0; i < slot_count; i++) {
        CK_TOKEN_INFO info = {0};

        if (TOKEN_CALL(module, C_GetTokenInfo, slots[i], &info) != CKR_OK)
            continue;
        token_describe(module, slots[i], &info, &list[count]);
        describe_use(module, conf, token, cas, &info, &list[count]);
        count++;
    }

    *ret = list;
    *ret_count = count;
    list = NULL;
    err = LEAFD_OK;
out:
    free(list);
    free(slots);
    token_module_close(module);
    return err;
}

/* ---- are the keys there? ---- */

static enum leafd_err check_tries(const struct conf *conf, struct why *why)
{
    struct token_module *module = NULL;
    struct token_uri *uri = NULL;
    CK_TOKEN_INFO info = {0};
    CK_SLOT_ID slot;
    enum leafd_err err = token_uri_parse(conf_token_key(conf, 0, 0), &uri, why);

    if (err == LEAFD_OK)
        err = token_module_open(&conf->token[0], &module, why);
    if (err == LEAFD_OK)
        err = token_find_slot(module, uri, &slot, why);
    if (err == LEAFD_OK && TOKEN_CALL(module, C_GetTokenInfo, slot, &info) == CKR_OK &&
        (info.flags & CKF_USER_PIN_COUNT_LOW) &&
        !(info.flags & (CKF_USER_PIN_LOCKED | CKF_USER_PIN_FINAL_TRY)))
        err = fail(why, LEAFD_BUSY,
                   "a wrong PIN was tried since the last login, so none was tried here; put it "
                   "right, and leafctl token test tries it");
    token_module_close(module);
    token_uri_free(uri);
    return err;
}

enum leafd_err token_try_keys(const struct conf *conf, const struct ca_set *cas,
                              const struct secret *pin, struct why *why)
{
    struct conf one = *conf;
    struct backend *backend = NULL;
    enum leafd_err err =
        conf->token[0].access == CONF_ACCESS_FILE ? LEAFD_OK : check_tries(conf, why);

    one.token[0].sessions = 1;
    if (err == LEAFD_OK)
        err = backend_open(&one, 0, cas, pin, &backend, why);
    backend_close(backend);
    return err;
}

/* ---- one key ---- */

const char *token_answer_name(enum token_answer answer)
{
    return answer == TOKEN_YES ? "yes" : answer == TOKEN_NO ? "no" : "unknown";
}

static enum token_answer answer(int value)
{
    return value < 0 ? TOKEN_UNKNOWN : value ? TOKEN_YES : TOKEN_NO;
}

void token_key_describe(const struct token_key *key, struct token_key_report *ret)
{
    ret->slot = key->token->slot;
    snprintf(ret->token, sizeof(ret->token), "%s", key->token->label);
    snprintf(ret->label, sizeof(ret->label), "%s", key->label);
    bytes_hex((struct bytes){key->id, key->id_len}, ret->id);
    snprintf(ret->mechanism, sizeof(ret->mechanism), "%s", ckm_name(key->mechanism.type));
    ret->extractable = answer(key->extractable);
    ret->sensitive = answer(key->sensitive);
    ret->never_extractable = answer(key->never_extractable);
    ret->always_sensitive = answer(key->always_sensitive);
    ret->always_authenticate = key->always_authenticate;
}
