/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/sign_rate.h"

#include "base/clock.h"
#include "pkcs11/backend.h"
#include "pkcs11/token_key.h"

#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { SAMPLES = 4096 /* of each lane, the last ones */, SIGNATURE_ROOM = 1024, TEXT_LEN = 800 };

struct lane {
    const struct sign_rate_key *key;
    struct backend_lane *backend_lane;
    int64_t until_ms;
    uint64_t signatures;
    struct why failure;
    bool failed;
    pthread_t thread;
    uint32_t sample_us[SAMPLES];
};

static enum leafd_err sign(struct lane *lane, struct bytes text, uint8_t *out, size_t *ret_len)
{
    if (lane->backend_lane)
        return backend_lane_sign(lane->backend_lane, lane->key->ca_index, text, out, SIGNATURE_ROOM,
                                 ret_len, &lane->failure);
    return token_key_sign(lane->key->key, text, out, SIGNATURE_ROOM, ret_len, &lane->failure);
}

static bool verifies(const struct sign_rate_key *key, struct bytes text, struct bytes signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx &&
                EVP_DigestVerifyInit_ex(ctx, NULL, sig_algorithm_digest(key->key->algorithm), NULL,
                                        NULL, key->public_key, NULL) == 1 &&
                EVP_DigestVerify(ctx, signature.data, signature.len, text.data, text.len) == 1;

    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

/* As long as a TBSCertificate; it begins with spaces, so it can never be one. */
static bool sign_one(struct lane *lane)
{
    uint8_t room[TEXT_LEN];
    uint8_t signature[SIGNATURE_ROOM];
    struct bytes text = {room, sizeof(room)};
    int64_t begin_us = clock_mono_us();
    size_t len;

    memset(room, ' ', sizeof(room));
    if (sign(lane, text, signature, &len) != LEAFD_OK)
        return false;
    lane->sample_us[lane->signatures % SAMPLES] = (uint32_t)(clock_mono_us() - begin_us);
    if (!lane->backend_lane && lane->signatures == 0 &&
        !verifies(lane->key, text, (struct bytes){signature, len})) {
        (void)fail(&lane->failure, LEAFD_INTERNAL,
                   "a signature does not verify with the key's public half");
        return false;
    }
    lane->signatures++;
    return true;
}

static void *lane_main(void *ctx)
{
    struct lane *lane = ctx;

    if (lane->key->backend &&
        backend_lane_open(lane->key->backend, &lane->backend_lane, &lane->failure) != LEAFD_OK) {
        lane->failed = true;
        return NULL;
    }
    do
        lane->failed = !sign_one(lane);
    while (!lane->failed && clock_mono_ms() < lane->until_ms);
    backend_lane_close(lane->backend_lane);
    return NULL;
}

/* ---- of all lanes ---- */

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;

    return left < right ? -1 : left > right;
}

static void find_latencies(const struct lane *lanes, unsigned count, uint32_t *room,
                           struct sign_rate *rate)
{
    size_t used = 0;

    for (unsigned i = 0; i < count; i++) {
        size_t have = lanes[i].signatures < SAMPLES ? lanes[i].signatures : SAMPLES;

        memcpy(room + used, lanes[i].sample_us, have * sizeof(*room));
        used += have;
    }
    if (used == 0)
        return;
    qsort(room, used, sizeof(*room), compare);
    rate->median_us = room[used / 2];
    rate->p99_us = room[used * 99 / 100];
}

static int64_t cpu_us(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) == -1)
        return 0;
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

static void add_lane(const struct lane *lane, struct sign_rate *rate)
{
    rate->signatures += lane->signatures;
    rate->failures += lane->failed;
    if (lane->failed && !rate->failure[0])
        snprintf(rate->failure, sizeof(rate->failure), "%.159s", lane->failure.text);
}

enum leafd_err sign_rate_measure(const struct sign_rate_key *key, unsigned lanes, unsigned each_ms,
                                 struct sign_rate *ret)
{
    struct lane *lane = calloc(lanes, sizeof(*lane));
    uint32_t *room = calloc((size_t)lanes * SAMPLES, sizeof(*room));
    struct sign_rate rate = {.lanes = 0};
    int64_t begin_us = clock_mono_us();
    int64_t begin_cpu_us = cpu_us();
    int64_t spent_us;
    enum leafd_err err = LEAFD_NOMEM;

    if (!lane || !room)
        goto out;
    for (; rate.lanes < lanes; rate.lanes++) {
        lane[rate.lanes].key = key;
        lane[rate.lanes].until_ms = begin_us / 1000 + each_ms;
        if (pthread_create(&lane[rate.lanes].thread, NULL, lane_main, &lane[rate.lanes]) != 0)
            break;
    }
    for (unsigned i = 0; i < rate.lanes; i++)
        pthread_join(lane[i].thread, NULL);
    spent_us = clock_mono_us() - begin_us;
    for (unsigned i = 0; i < rate.lanes; i++)
        add_lane(&lane[i], &rate);
    if (spent_us > 0)
        rate.per_second = (double)rate.signatures * 1e6 / (double)spent_us;
    if (rate.signatures)
        rate.cpu_us = (uint32_t)((uint64_t)(cpu_us() - begin_cpu_us) / rate.signatures);
    find_latencies(lane, rate.lanes, room, &rate);
    *ret = rate;
    err = LEAFD_OK;
out:
    free(room);
    free(lane);
    return err;
}
