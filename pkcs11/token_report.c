/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_report.h"

#include "base/clock.h"
#include "pkcs11/backend_ops.h"
#include "pkcs11/token.h"
#include "pkcs11/token_key.h"

#include <pthread.h>
#include <stdatomic.h>
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

static void describe(struct token_module *module, CK_SLOT_ID slot, const CK_TOKEN_INFO *info,
                     struct token_description *ret)
{
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
    CK_SLOT_INFO slot_info;
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

enum leafd_err token_list(const struct conf *conf, const struct ca_set *cas,
                          struct token_description **ret, size_t *ret_count, struct why *why)
{
    struct token_module *module = NULL;
    struct token_description *list = NULL;
    CK_SLOT_ID *slots = NULL;
    size_t slot_count = 0;
    size_t count = 0;
    enum leafd_err err = token_module_open(&conf->token[0], &module, why);

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
        CK_TOKEN_INFO info;

        if (TOKEN_CALL(module, C_GetTokenInfo, slots[i], &info) != CKR_OK)
            continue;
        describe(module, slots[i], &info, &list[count]);
        for (size_t k = 0; cas && k < cas->count; k++)
            if (is_token_of(module, slots[i], &info, conf->ca[k].key))
                describe_signing(module, slots[i], k, cas->ca[k],
                                 &list[count].signing[list[count].signing_count++]);
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

/* ---- token test ---- */

const char *token_answer_name(enum token_answer answer)
{
    return answer == TOKEN_YES ? "yes" : answer == TOKEN_NO ? "no" : "unknown";
}

struct signing {
    struct backend *backend;
    int64_t until_ms;
    _Atomic uint64_t signatures;
    _Atomic uint64_t failures;
};

/* As long as a TBSCertificate; it begins with spaces, so it can never be one. */
static void *sign_on_one_lane(void *ctx)
{
    struct signing *signing = ctx;
    struct backend_lane *lane;
    uint8_t text[800];
    uint8_t signature[1024];
    size_t len;

    memset(text, ' ', sizeof(text));
    if (backend_lane_open(signing->backend, &lane, NULL) != LEAFD_OK) {
        atomic_fetch_add(&signing->failures, 1);
        return NULL;
    }
    do {
        enum leafd_err err = backend_lane_sign(lane, 0, (struct bytes){text, sizeof(text)},
                                               signature, sizeof(signature), &len, NULL);

        atomic_fetch_add(err == LEAFD_OK ? &signing->signatures : &signing->failures, 1);
        if (err != LEAFD_OK)
            break;
    } while (clock_mono_ms() < signing->until_ms);
    backend_lane_close(lane);
    return NULL;
}

static enum leafd_err measure(struct backend *backend, unsigned lanes, unsigned each_ms,
                              struct token_rate *ret)
{
    struct signing signing = {.backend = backend};
    pthread_t *threads = calloc(lanes, sizeof(*threads));
    unsigned started = 0;
    int64_t begin_us = clock_mono_us();
    int64_t spent_us;

    if (!threads)
        return LEAFD_NOMEM;
    signing.until_ms = begin_us / 1000 + each_ms;
    while (started < lanes &&
           pthread_create(&threads[started], NULL, sign_on_one_lane, &signing) == 0)
        started++;
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    spent_us = clock_mono_us() - begin_us;
    *ret = (struct token_rate){
        .lanes = started,
        .signatures = atomic_load(&signing.signatures),
        .failures = atomic_load(&signing.failures),
    };
    if (spent_us > 0)
        ret->per_second = (double)ret->signatures * 1e6 / (double)spent_us;
    return LEAFD_OK;
}

enum leafd_err token_test(const struct conf *conf, const struct ca_set *cas,
                          const struct secret *pin, unsigned each_ms,
                          void (*progress)(void *ctx, unsigned lanes), void *ctx,
                          struct token_test_report *ret, struct why *why)
{
    struct token_test_report report = {0};
    struct backend_counters counters;
    struct backend *backend;
    unsigned last = 0;
    enum leafd_err err = backend_open(conf, 0, cas, pin, &backend, why);

    if (err != LEAFD_OK)
        return err;
    report.key_count = backend->key_count;
    for (size_t i = 0; i < report.key_count; i++) {
        report.key[i].ca_index = i;
        if (backend->ops->report)
            backend->ops->report(backend, i, &report.key[i]);
    }
    report.lanes = backend_lanes(backend);
    for (unsigned lanes = 1; last < report.lanes && report.rate_count < TOKEN_RATES_MAX;
         lanes *= 2) {
        last =
            lanes < report.lanes && report.rate_count + 1 < TOKEN_RATES_MAX ? lanes : report.lanes;
        if (progress)
            progress(ctx, last);
        err = measure(backend, last, each_ms, &report.rate[report.rate_count]);
        if (err != LEAFD_OK)
            break;
        report.rate_count++;
    }
    backend_count(backend, &counters);
    report.lanes = backend_lanes(backend);
    report.logins = counters.logins;
    backend_close(backend);
    if (err == LEAFD_OK)
        *ret = report;
    return err;
}
