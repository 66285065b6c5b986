/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/signer_lane.h"

#include "base/clock.h"

#include <stdlib.h>

struct signer_lane {
    const struct signer_lane_parts *parts;
    struct backend_lane *session;
    EVP_MD_CTX *sign; /* for the untrusted CA in memory; NULL without one */
    EVP_MD_CTX *verify;
};

enum leafd_err signer_lane_new(const struct signer_lane_parts *parts, struct backend *backend,
                               struct signer_lane **ret, struct why *why)
{
    struct signer_lane *lane = calloc(1, sizeof(*lane));
    enum leafd_err err = LEAFD_NOMEM;

    if (!lane)
        return LEAFD_NOMEM;
    lane->parts = parts;
    if (parts->untrusted_key) {
        lane->sign = EVP_MD_CTX_new();
        lane->verify = EVP_MD_CTX_new();
        if (!lane->sign || !lane->verify)
            goto out;
    }
    err = backend_lane_open(backend, &lane->session, why);
    if (err != LEAFD_OK)
        goto out;

    *ret = lane;
    lane = NULL;
out:
    signer_lane_free(lane);
    return err;
}

void signer_lane_free(struct signer_lane *lane)
{
    if (!lane)
        return;
    backend_lane_close(lane->session);
    EVP_MD_CTX_free(lane->sign);
    EVP_MD_CTX_free(lane->verify);
    free(lane);
}

static enum leafd_err sign_in_memory(struct signer_lane *lane, const struct ca *ca,
                                     struct bytes tbs, struct lane_signature *ret)
{
    size_t len = sizeof(ret->octets);

    if (EVP_DigestSignInit(lane->sign, NULL, EVP_sha256(), NULL, lane->parts->untrusted_key) != 1 ||
        EVP_DigestSign(lane->sign, ret->octets, &len, tbs.data, tbs.len) != 1 ||
        EVP_DigestVerifyInit(lane->verify, NULL, EVP_sha256(), NULL, ca->public_key) != 1 ||
        EVP_DigestVerify(lane->verify, ret->octets, len, tbs.data, tbs.len) != 1)
        return LEAFD_INTERNAL;
    ret->len = len;
    ret->batch = 0;
    return LEAFD_OK;
}

/* The place of a CA among the backend's keys: the untrusted one stands behind the configured. */
static size_t key_index(const struct ca_set *cas, const struct ca *ca)
{
    size_t index = 0;

    while (index < cas->count && cas->ca[index] != ca)
        index++;
    return index;
}

/* The token may fail in ways that another session or a new login mends; what it has against this
 * TBSCertificate alone is no reason to look at it. */
static enum leafd_err sign_in_token(struct signer_lane *lane, size_t index, struct bytes tbs,
                                    struct lane_signature *ret, struct why *why)
{
    enum leafd_err err = backend_lane_sign(lane->session, index, tbs, ret->octets,
                                           sizeof(ret->octets), &ret->len, why);

    ret->batch = backend_lane_batch(lane->session);
    if (err == LEAFD_OK)
        return LEAFD_OK;
    ret->token_failed = err != LEAFD_UNSUPPORTED && err != LEAFD_TOO_LARGE;
    return ret->token_failed ? LEAFD_AGAIN : LEAFD_INTERNAL;
}

enum leafd_err signer_lane_sign(struct signer_lane *lane, struct sign_job *job,
                                _Atomic int64_t *signing_since_ms, struct lane_signature *ret,
                                struct why *why)
{
    const struct signer_lane_parts *parts = lane->parts;
    const struct sign_request *request = &job->request;
    const struct ca *ca = ca_set_find(parts->cas, request->ca_id);
    int64_t now_ms = clock_mono_ms();
    enum leafd_err err;

    ret->token_failed = false;
    if (now_ms >= request->deadline_ms)
        return LEAFD_TIMEOUT;
    if (!ca)
        return fail(why, LEAFD_REFUSED, "ca: no such id");
    if (ca->generation != request->ca_generation)
        return LEAFD_AGAIN;
    if (!atomic_load(&job->checked)) {
        err = sign_check_tbs(parts->check, ca, request->tbs, why);
        if (err != LEAFD_OK)
            return err;
        atomic_store(&job->checked, true);
    }
    if (ca == parts->cas->untrusted && parts->untrusted_key)
        return sign_in_memory(lane, ca, request->tbs, ret);
    atomic_store(signing_since_ms, now_ms);
    err = sign_in_token(lane, key_index(parts->cas, ca), request->tbs, ret, why);
    atomic_store(signing_since_ms, 0);
    return err;
}

bool signer_lane_is_in_doubt(const struct signer_lane *lane)
{
    return backend_lane_is_in_doubt(lane->session);
}

enum leafd_err signer_lane_settle(struct signer_lane *lane, struct why *why)
{
    return backend_lane_settle(lane->session, why);
}

bool signer_lane_disown(struct signer_lane *lane, uint64_t *ret_batch, unsigned *ret_signatures)
{
    return backend_lane_disown(lane->session, ret_batch, ret_signatures);
}
