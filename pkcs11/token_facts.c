/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_facts.h"

#include "pkcs11/token_key.h"

#include <stdio.h>
#include <stdlib.h>

/* By use, and for TOKEN_USE_SEAL in the order in which leafd prefers them. One of `flags` is
 * enough; each is needed whole. */
static const struct mechanism_row {
    CK_MECHANISM_TYPE type;
    enum token_use use;
    CK_FLAGS flags[2];
    CK_MECHANISM_TYPE made_with; /* TOKEN_USE_SEAL: what makes its key */
} rows[] = {
    {CKM_RSA_PKCS, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_SHA256_RSA_PKCS, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_RSA_PKCS_PSS, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_SHA256_RSA_PKCS_PSS, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_ECDSA, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_ECDSA_SHA256, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_ECDSA_SHA384, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_EDDSA, TOKEN_USE_SIGN, {CKF_SIGN, 0}, 0},
    {CKM_RSA_PKCS_KEY_PAIR_GEN, TOKEN_USE_MAKE_KEYS, {CKF_GENERATE_KEY_PAIR, 0}, 0},
    {CKM_EC_KEY_PAIR_GEN, TOKEN_USE_MAKE_KEYS, {CKF_GENERATE_KEY_PAIR, 0}, 0},
    {CKM_EC_EDWARDS_KEY_PAIR_GEN, TOKEN_USE_MAKE_KEYS, {CKF_GENERATE_KEY_PAIR, 0}, 0},
    {CKM_AES_KEY_GEN, TOKEN_USE_MAKE_KEYS, {CKF_GENERATE, 0}, 0},
    {CKM_AES_GCM,
     TOKEN_USE_SEAL,
     {CKF_ENCRYPT | CKF_DECRYPT, CKF_WRAP | CKF_UNWRAP},
     CKM_AES_KEY_GEN},
    {CKM_AES_KEY_WRAP_KWP,
     TOKEN_USE_SEAL,
     {CKF_WRAP | CKF_UNWRAP, CKF_ENCRYPT | CKF_DECRYPT},
     CKM_AES_KEY_GEN},
    {CKM_AES_KEY_WRAP_PAD,
     TOKEN_USE_SEAL,
     {CKF_WRAP | CKF_UNWRAP, CKF_ENCRYPT | CKF_DECRYPT},
     CKM_AES_KEY_GEN},
    {CKM_RSA_PKCS_OAEP,
     TOKEN_USE_SEAL,
     {CKF_ENCRYPT | CKF_DECRYPT, CKF_WRAP | CKF_UNWRAP},
     CKM_RSA_PKCS_KEY_PAIR_GEN},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
_Static_assert((int)ROWS <= (int)TOKEN_MECHANISMS_MAX, "a report has room for all rows");

const char *token_use_name(enum token_use use)
{
    return use == TOKEN_USE_SIGN ? "sign" : use == TOKEN_USE_MAKE_KEYS ? "make keys" : "seal";
}

static void read_version(const CK_VERSION *from, unsigned ret[static 2])
{
    ret[0] = from->major;
    ret[1] = from->minor;
}

static void read_module(struct token_module *module, struct token_module_facts *ret)
{
    CK_INFO *info = &module->info;

    token_text(info->libraryDescription, sizeof(info->libraryDescription), ret->description,
               sizeof(ret->description));
    token_text(info->manufacturerID, sizeof(info->manufacturerID), ret->manufacturer,
               sizeof(ret->manufacturer));
    read_version(&info->libraryVersion, ret->library_version);
    read_version(&info->cryptokiVersion, ret->cryptoki_version);
    ret->locks = !module->one_lane;
}

static bool has_all(CK_FLAGS flags, CK_FLAGS wanted)
{
    return wanted && (flags & wanted) == wanted;
}

static void read_mechanisms(struct token_module *module, CK_SLOT_ID slot, struct token_facts *facts)
{
    CK_ULONG count = 0;

    if (TOKEN_CALL(module, C_GetMechanismList, slot, NULL, &count) == CKR_OK &&
        count != CK_UNAVAILABLE_INFORMATION)
        facts->mechanisms_told = count;
    for (size_t i = 0; i < ROWS; i++) {
        CK_MECHANISM_INFO info = {0};

        /* Of what the token lists: some describe more than they do. */
        if (TOKEN_CALL(module, C_GetMechanismInfo, slot, rows[i].type, &info) != CKR_OK ||
            !token_can(module, slot, rows[i].type, info.flags))
            continue;
        facts->mechanism[facts->mechanism_count++] = (struct token_mechanism_facts){
            .type = rows[i].type,
            .use = rows[i].use,
            .usable =
                has_all(info.flags, rows[i].flags[0]) || has_all(info.flags, rows[i].flags[1]),
            .in_hardware = info.flags & CKF_HW,
            .min = info.ulMinKeySize == CK_UNAVAILABLE_INFORMATION ? 0 : info.ulMinKeySize,
            .max = info.ulMaxKeySize == CK_UNAVAILABLE_INFORMATION ? 0 : info.ulMaxKeySize,
        };
    }
}

static void choose_algorithms(struct token_module *module, CK_SLOT_ID slot,
                              struct token_facts *facts)
{
    for (unsigned i = 0; i < SIG_COUNT; i++) {
        struct token_signing *to = &facts->algorithm[i];
        struct token_mechanism mechanism;
        struct why missing;

        to->algorithm = (enum sig_algorithm)i;
        if (token_mechanism_choose(module, slot, to->algorithm, &mechanism, &missing) == LEAFD_OK)
            snprintf(to->mechanism, sizeof(to->mechanism), "%s", ckm_name(mechanism.type));
        else
            snprintf(to->missing, sizeof(to->missing), "%.79s", missing.text);
    }
}

static bool is_usable(const struct token_facts *facts, CK_MECHANISM_TYPE type)
{
    for (size_t i = 0; i < facts->mechanism_count; i++)
        if (facts->mechanism[i].type == type && facts->mechanism[i].usable)
            return true;
    return false;
}

static void choose_seal(struct token_facts *facts)
{
    for (size_t i = 0; i < ROWS && !facts->can_seal; i++) {
        if (rows[i].use != TOKEN_USE_SEAL || !is_usable(facts, rows[i].type) ||
            !is_usable(facts, rows[i].made_with))
            continue;
        facts->seal = rows[i].type;
        facts->can_seal = true;
    }
}

static enum leafd_err try_sessions(struct token_module *module, CK_SLOT_ID slot, unsigned wanted,
                                   struct token_facts *facts)
{
    CK_SESSION_HANDLE *sessions = calloc(wanted ? wanted : 1, sizeof(*sessions));
    unsigned opened = 0;
    CK_RV rv = CKR_OK;

    if (!sessions)
        return LEAFD_NOMEM;
    while (opened < wanted) {
        rv = TOKEN_CALL(module, C_OpenSession, slot, CKF_SERIAL_SESSION, NULL, NULL,
                        &sessions[opened]);
        if (rv != CKR_OK)
            break;
        opened++;
    }
    for (unsigned i = 0; i < opened; i++)
        (void)TOKEN_CALL(module, C_CloseSession, sessions[i]);
    free(sessions);
    facts->sessions_tried = wanted;
    facts->sessions_opened = opened;
    if (rv != CKR_OK)
        snprintf(facts->session_refusal, sizeof(facts->session_refusal), "%s", ckr_name(rv));
    return LEAFD_OK;
}

enum leafd_err token_facts_find(struct token_module *module, unsigned long slot, unsigned sessions,
                                struct token_facts *ret, struct why *why)
{
    struct token_facts facts = {.can_seal = false};
    CK_TOKEN_INFO info = {0};
    CK_RV rv = TOKEN_CALL(module, C_GetTokenInfo, slot, &info);
    enum leafd_err err;

    if (rv != CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "C_GetTokenInfo: %s", ckr_name(rv));
    read_module(module, &facts.module);
    token_describe(module, slot, &info, &facts.token);
    read_version(&info.hardwareVersion, facts.hardware_version);
    read_version(&info.firmwareVersion, facts.firmware_version);
    facts.write_protected = info.flags & CKF_WRITE_PROTECTED;
    read_mechanisms(module, slot, &facts);
    choose_algorithms(module, slot, &facts);
    choose_seal(&facts);
    err = try_sessions(module, slot, sessions, &facts);
    if (err == LEAFD_OK)
        *ret = facts;
    return err;
}
