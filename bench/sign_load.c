/* SPDX-License-Identifier: Apache-2.0 */
/* Signs as fast as the lanes of a backend can, with the fake PKCS#11 module in the place of a token
 * (tests/lib/fake_pkcs11.c), and prints how near that comes to what arithmetic allows: each
 * signature takes the latencies of C_SignInit and C_Sign on one of so many sessions.
 *
 *     make bench/sign_load tests/lib/fake_pkcs11.so && bench/sign_load
 *
 * No part of make check: what it prints depends on the machine and on who else uses it. */
#include "config.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/backend.h"
#include "tests/lib/ca_recipe.h"
#include "tests/lib/fake_signer.h"

#include <openssl/pem.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { LANES_MAX = 256, SECONDS = 4 };

/* What a token costs: microseconds in C_Sign alone, or in every call. */
struct round {
    const char *name;
    unsigned lanes;
    unsigned sign_us;
    unsigned every_call_us;
    double wanted; /* signatures a second */
};

static const struct round rounds[] = {
    {"5 ms in C_Sign", 32, 5000, 0, 6000},
    {"1 ms in every call", 16, 0, 1000, 7000},
    {"no latency", 16, 0, 0, 0},
};

static struct {
    struct backend *backend;
    int64_t until_us;
    _Atomic uint64_t signatures, failures;
} run;

static void *sign_on(void *arg)
{
    struct backend_lane *lane = arg;
    uint8_t tbs[700] = {0}, signature[256];
    uint64_t count = 0, failures = 0;

    while (clock_mono_us() < run.until_us) {
        size_t len;

        memcpy(tbs, &count, sizeof(count));
        if (backend_lane_sign(lane, 0, (struct bytes){tbs, sizeof(tbs)}, signature,
                              sizeof(signature), &len, NULL) == LEAFD_OK)
            count++;
        else
            failures++;
    }
    atomic_fetch_add(&run.signatures, count);
    atomic_fetch_add(&run.failures, failures);
    return NULL;
}

/* Signatures a second. */
static double measure(unsigned lanes)
{
    struct backend_lane *lane[LANES_MAX];
    pthread_t thread[LANES_MAX];
    int64_t began_us;

    atomic_store(&run.signatures, 0);
    atomic_store(&run.failures, 0);
    for (unsigned i = 0; i < lanes; i++)
        if (backend_lane_open(run.backend, &lane[i], NULL) != LEAFD_OK)
            abort();
    began_us = clock_mono_us();
    run.until_us = began_us + SECONDS * INT64_C(1000000);
    for (unsigned i = 0; i < lanes; i++)
        if (pthread_create(&thread[i], NULL, sign_on, lane[i]) != 0)
            abort();
    for (unsigned i = 0; i < lanes; i++) {
        pthread_join(thread[i], NULL);
        backend_lane_close(lane[i]);
    }
    return (double)atomic_load(&run.signatures) * 1e6 / (double)(clock_mono_us() - began_us);
}

static void write_control(const char *path, const char *key, const struct round *round)
{
    FILE *file = fopen(path, "w");

    if (!file)
        abort();
    fprintf(file, "key = label=ca id=01 file=%s\n", key);
    if (round->every_call_us)
        fprintf(file, "latency.all = %u\n", round->every_call_us);
    if (round->sign_us)
        fprintf(file, "latency.C_Sign = %u\n", round->sign_us);
    fclose(file);
}

static void print(const struct round *round, double rate)
{
    unsigned us = round->sign_us + 2 * round->every_call_us;
    double limit = us ? round->lanes * 1e6 / us : 0;

    printf("%-20s %2u lanes: %8.0f signatures/s", round->name, round->lanes, rate);
    if (limit > 0)
        printf(", %.3f of the limit %.0f; wanted %.0f", rate / limit, limit, round->wanted);
    printf("%s\n", atomic_load(&run.failures) ? ", and FAILURES" : "");
}

/* False: not as fast as it has to be. */
static bool bench(const struct round *round, struct conf *conf, const struct ca_set *cas,
                  const struct secret *pin, const char *control, const char *key)
{
    struct why why = {""};
    double rate;

    write_control(control, key, round);
    conf->token[0].sessions = round->lanes;
    if (backend_open(conf, 0, cas, pin, &run.backend, &why) != LEAFD_OK) {
        fprintf(stderr, "%s\n", why.text);
        return false;
    }
    rate = measure(round->lanes);
    print(round, rate);
    backend_close(run.backend);
    return rate >= round->wanted && atomic_load(&run.failures) == 0;
}

int main(int argc, char **argv)
{
    static char dir[] = "/tmp/sign_load.XXXXXX";
    char module[] = "tests/lib/fake_pkcs11.so";
    char uri[] = "pkcs11:token=leafd;object=ca;type=private", variable[] = "FAKE_PKCS11_CONTROL";
    char certificate[] = "ca.pem", control[64], key_path[64], absolute[4096];
    struct conf_env env = {variable, control};
    struct conf conf = {.ca_count = 1, .ca = {{certificate, uri}}};
    struct secret pin = SECRET_EMPTY;
    struct ca *ca;
    EVP_PKEY *key;
    FILE *file;
    bool good = true;

    log_init("bench", LOG_LEVEL_ERROR);
    /* Latencies end when they are due, not up to 50 us later. Threads inherit it. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    if (!realpath(argc > 1 ? argv[1] : module, absolute) || !mkdtemp(dir) ||
        secret_set(&pin, bytes_of("1234")) != LEAFD_OK) {
        fprintf(stderr, "usage: %s [FAKE_MODULE]\n", argv[0]);
        return 2;
    }
    snprintf(control, sizeof(control), "%s/control", dir);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", dir);
    conf.token[0] = (struct conf_token){
        .module = absolute, .env = &env, .env_count = 1, .timeout_ms = 5000, .processes = 1};
    fake_ca_make(NULL, &ca, &key);
    file = fopen(key_path, "w");
    if (!file || PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL) != 1)
        abort();
    fclose(file);
    for (size_t i = 0; i < sizeof(rounds) / sizeof(rounds[0]); i++) {
        struct ca_set *cas = ca_set_new((const struct ca *const *)&ca, 1, NULL);

        good &= bench(&rounds[i], &conf, cas, &pin, control, key_path);
        ca_set_unref(cas);
    }
    unlink(control);
    unlink(key_path);
    rmdir(dir);
    ca_unref(ca);
    EVP_PKEY_free(key);
    secret_clear(&pin);
    return good ? 0 : 1;
}
