/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/metrics.h"
#include "issue/issuer.h"
#include "policy/policy.h"
#include "tests/lib/fake_signer.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"
#include "wire/request.h"

#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DAY = 86400, PATIENCE_MS = 120000, DEADLINE_MS = 60000 };

struct world {
    struct conf conf;
    struct key_pool *keys;
    struct signer *signer;
    struct policy *policy;
    struct issuer *issuer;
};

static void world_start(struct world *world, const struct fake_signer_options *options)
{
    world->conf = (struct conf){.flights_max = 4096,
                                .leaf_lifetime_sec = 90 * DAY,
                                .leaf_rsa_bits = 2048,
                                .mimic_upstream_verified = true,
                                .keys_share = true,
                                .keys_ec_low = 4,
                                .keys_ec_high = 8};
    assert_int_equal(key_pool_new(&world->conf, &world->keys), LEAFD_OK);
    world->signer = fake_signer_new(options);
    assert_int_equal(policy_new(&world->conf, &world->policy), LEAFD_OK);
    assert_int_equal(issuer_new(&world->conf, world->keys, world->signer, &world->issuer),
                     LEAFD_OK);
}

static int world_setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    world_start(world, NULL);
    *state = world;
    return 0;
}

static void world_end(struct world *world)
{
    key_pool_free(world->keys);
    signer_free(world->signer);
    issuer_free(world->issuer);
    policy_free(world->policy);
}

static int world_teardown(void **state)
{
    world_end(*state);
    free(*state);
    return 0;
}

/* ---- one who asks ---- */

struct asker {
    struct plan plan;
    struct issued *issued;
    enum leafd_err err;
    int calls;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t called = PTHREAD_COND_INITIALIZER;

static void on_issued(void *ctx, enum leafd_err err, struct issued *issued)
{
    struct asker *asker = ctx;

    pthread_mutex_lock(&lock);
    asker->err = err;
    asker->issued = issued ? issued_ref(issued) : NULL;
    asker->calls++;
    pthread_cond_broadcast(&called);
    pthread_mutex_unlock(&lock);
}

static void asker_plan(struct world *world, const char *host, struct bytes cert,
                       struct asker *asker)
{
    struct request request = {.host = bytes_of(host),
                              .cert_form = cert.data ? CERT_FORM_DER : CERT_FORM_ABSENT,
                              .cert = cert};
    struct ca_set *cas = signer_cas(world->signer);
    struct why why = {""};

    *asker = (struct asker){.err = LEAFD_AGAIN};
    if (policy_plan(world->policy, &request, cas, clock_wall_sec(), &asker->plan, &why))
        print_error("%s\n", why.text);
    assert_string_equal(why.text, "");
    ca_set_unref(cas);
}

static void asker_ask(struct world *world, struct asker *asker, int64_t wait_ms)
{
    issuer_issue(world->issuer, &asker->plan, clock_mono_ms() + wait_ms, bytes_of("the host"),
                 on_issued, asker);
}

static enum leafd_err asker_await(struct asker *asker)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&lock);
    while (asker->calls == 0)
        assert_int_equal(pthread_cond_timedwait(&called, &lock, &until), 0);
    pthread_mutex_unlock(&lock);
    assert_int_equal(asker->calls, 1);
    assert_true((asker->err == LEAFD_OK) == (asker->issued != NULL));
    return asker->err;
}

static void asker_clear(struct asker *asker)
{
    issued_unref(asker->issued);
    plan_clear(&asker->plan);
}

/* Signed by the plan's CA, for this host, with this key? */
static void check_issued(const struct asker *asker, const char *host)
{
    uint8_t room[16384];
    const uint8_t *at;
    struct bytes der;
    EVP_PKEY *public_key, *pair;
    X509 *leaf;

    assert_int_equal(issued_der(asker->issued, room, sizeof(room), &der), LEAFD_OK);
    at = der.data;
    leaf = d2i_X509(NULL, &at, (long)der.len);
    assert_non_null(leaf);
    assert_int_equal(X509_verify(leaf, asker->issued->ca->public_key), 1);
    assert_int_equal(X509_check_host(leaf, host, 0, 0, NULL), 1);
    at = asker->issued->key->private_der.data;
    pair = d2i_AutoPrivateKey(NULL, &at, (long)asker->issued->key->private_der.len);
    public_key = X509_get0_pubkey(leaf);
    assert_int_equal(EVP_PKEY_eq(public_key, pair), 1);
    assert_int_equal(asker->issued->not_after, asker->plan.not_after);
    assert_int_equal(asker->issued->usable_until, asker->plan.usable_until);
    assert_ptr_equal(asker->issued->ca, asker->plan.ca);
    EVP_PKEY_free(pair);
    X509_free(leaf);
}

static struct bytes upstream(const char *key_type, const char *eku, const char *san)
{
    int64_t now_sec = clock_wall_sec();
    EVP_PKEY *key = make_key(key_type);
    struct make_cert spec = {
        .cn = "www.example.org",
        .issuer = "Some CA",
        .key = key,
        .san = san ? san : "DNS:www.example.org",
        .eku = eku,
        .not_before = now_sec - DAY,
        .not_after = now_sec + 30 * DAY,
    };
    struct bytes der = make_cert(&spec);

    EVP_PKEY_free(key);
    return der;
}

static const struct bytes no_cert = {NULL, 0};

/* ---- the tests ---- */

/* A smaller key than planned, since there is none: the leaf is not for long, the plan's key stays.
 */
static void a_leaf_with_a_smaller_key_is_a_stand_in(void **state)
{
    struct world *world = *state;
    struct bytes cert;
    struct asker asker;
    int64_t now_sec = clock_wall_sec();
    uint8_t key[32];

    world->conf.leaf_key = CONF_LEAF_KEY_UPSTREAM;
    cert = upstream("RSA:3072", "serverAuth", NULL);
    asker_plan(world, "www.example.org", cert, &asker);
    memcpy(key, asker.plan.key, sizeof(key));
    assert_int_equal(asker.plan.rsa_bits, 3072);
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_OK);
    assert_int_equal(asker.issued->key->bits, 2048);
    assert_true(asker.issued->is_stand_in);
    assert_in_range(asker.issued->usable_until, now_sec + ISSUED_STAND_IN_SEC,
                    clock_wall_sec() + ISSUED_STAND_IN_SEC);
    assert_int_equal(asker.issued->not_after, asker.plan.not_after);
    assert_memory_equal(asker.plan.key, key, sizeof(key));
    asker_clear(&asker);
    world->conf.keys_rsa_match = CONF_RSA_MATCH_STRICT;
    asker_plan(world, "www.example.org", cert, &asker);
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_OK);
    assert_int_equal(asker.issued->key->bits, 3072);
    assert_false(asker.issued->is_stand_in);
    check_issued(&asker, "www.example.org");
    asker_clear(&asker);
    free((void *)cert.data);
}

static void fresh_and_mimic_are_issued(void **state)
{
    static const char *const keys[] = {"P-256", "P-384", "RSA:2048", "ED25519", "SM2"};
    struct world *world = *state;
    struct asker asker;

    asker_plan(world, "www.example.org", no_cert, &asker);
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_OK);
    check_issued(&asker, "www.example.org");
    asker_clear(&asker);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct bytes cert = upstream(keys[i], "serverAuth", NULL);

        asker_plan(world, "www.example.org", cert, &asker);
        asker_ask(world, &asker, DEADLINE_MS);
        assert_int_equal(asker_await(&asker), LEAFD_OK);
        assert_int_equal(asker.issued->key->type, asker.plan.key_type);
        check_issued(&asker, "www.example.org");
        asker_clear(&asker);
        free((void *)cert.data);
    }
}

static void a_lost_signer_is_asked_again(void **state)
{
    struct world *world = *state;
    uint64_t retried = metrics_read(METRIC_SIGN_RETRIED);
    struct asker asker;

    fake_signer_fail_next(world->signer, 3, LEAFD_AGAIN);
    asker_plan(world, "www.example.org", no_cert, &asker);
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_OK);
    check_issued(&asker, "www.example.org");
    assert_int_equal(fake_signer_requests(world->signer), 4);
    assert_int_equal(metrics_read(METRIC_SIGN_RETRIED) - retried, 3);
    asker_clear(&asker);

    fake_signer_fail_next(world->signer, 1000, LEAFD_AGAIN); /* not for ever */
    asker_plan(world, "www.example.org", no_cert, &asker);
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_TOKEN_UNAVAILABLE);
    assert_true(fake_signer_requests(world->signer) < 20);
    asker_clear(&asker);
    fake_signer_fail_next(world->signer, 0, LEAFD_OK);
}

static void the_plan_follows_the_untrusted_ca(void **state)
{
    struct world *world = *state;
    struct bytes cert = upstream("RSA:2048", "clientAuth", NULL);
    struct asker before, asker;
    const struct ca *former;
    uint8_t key[32];

    asker_plan(world, "www.example.org", cert, &before);
    asker_ask(world, &before, DEADLINE_MS);
    assert_int_equal(asker_await(&before), LEAFD_OK);

    asker_plan(world, "www.example.org", cert, &asker);
    former = asker.plan.ca;
    assert_int_equal(former->id, CA_ID_UNTRUSTED);
    memcpy(key, asker.plan.key, sizeof(key));
    fake_signer_renew_untrusted(world->signer);
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_OK);
    assert_ptr_not_equal(asker.plan.ca, former);
    assert_memory_not_equal(asker.plan.key, key, sizeof(key));
    check_issued(&asker, "www.example.org");
    /* a shared key stays with its CA */
    assert_ptr_not_equal(asker.issued->key, before.issued->key);
    asker_clear(&before);
    asker_clear(&asker);
    free((void *)cert.data);
}

static void failures_are_told_by_name(void **state)
{
    static const struct {
        enum leafd_err signer, told;
    } rows[] = {
        {LEAFD_TIMEOUT, LEAFD_TIMEOUT},
        {LEAFD_BUSY, LEAFD_BUSY},
        {LEAFD_TOKEN_UNAVAILABLE, LEAFD_TOKEN_UNAVAILABLE},
        {LEAFD_REFUSED, LEAFD_INTERNAL}, /* we should not have asked */
        {LEAFD_INTERNAL, LEAFD_INTERNAL},
        {LEAFD_NOMEM, LEAFD_INTERNAL},
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct asker asker;

        fake_signer_fail_next(world->signer, 1, rows[i].signer);
        asker_plan(world, "www.example.org", no_cert, &asker);
        asker_ask(world, &asker, DEADLINE_MS);
        assert_int_equal(asker_await(&asker), rows[i].told);
        asker_clear(&asker);
    }
}

static void a_deadline_that_has_passed_costs_nothing(void **state)
{
    struct world *world = *state;
    struct asker asker;

    asker_plan(world, "www.example.org", no_cert, &asker);
    asker_ask(world, &asker, 0);
    assert_int_equal(asker.calls, 1);
    assert_int_equal(asker.err, LEAFD_TIMEOUT);
    assert_int_equal(fake_signer_requests(world->signer), 0);
    asker_clear(&asker);
}

static void a_key_nobody_makes_is_our_fault(void **state)
{
    struct world *world = *state;
    struct asker asker;

    asker_plan(world, "www.example.org", no_cert, &asker);
    asker.plan.key_type = KEY_TYPE_DSA;
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_INTERNAL);
    asker_clear(&asker);
}

static void what_fits_no_reply_is_too_large(void **state)
{
    enum { NAMES = 300 };
    struct world *world = *state;
    char *san = malloc(NAMES * 64), *at = san;
    struct upstream *wide = NULL;
    struct asker asker;
    struct bytes cert;

    for (int i = 0; i < NAMES; i++)
        at += sprintf(at, "%sDNS:name-%03d-of-a-very-long-list.example.org", i ? "," : "", i);
    cert = upstream("P-256", NULL, san);
    assert_int_equal(upstream_read(cert, &wide, NULL), LEAFD_OK);
    free((void *)cert.data);
    cert = upstream("P-256", NULL, NULL);
    asker_plan(world, "www.example.org", cert, &asker);
    free((void *)cert.data);
    upstream_unref(asker.plan.upstream); /* behind the policy's back, which would have seen it */
    asker.plan.upstream = wide;
    asker_ask(world, &asker, DEADLINE_MS);
    assert_int_equal(asker_await(&asker), LEAFD_TOO_LARGE);
    asker_clear(&asker);
    free(san);
}

static void many_are_issued_at_once(void **state)
{
    enum { MANY = 200 };
    struct world *world = *state;
    struct asker *asker = calloc(MANY, sizeof(*asker));
    struct bytes rsa = upstream("RSA:2048", NULL, NULL), ec = upstream("P-256", NULL, NULL);
    int64_t start_ms = clock_mono_ms();

    fake_signer_set_latency(world->signer, 5);
    for (size_t i = 0; i < MANY; i++) {
        asker_plan(world, "www.example.org", i % 2 ? rsa : ec, &asker[i]);
        asker_ask(world, &asker[i], DEADLINE_MS);
    }
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(asker_await(&asker[i]), LEAFD_OK);
        check_issued(&asker[i], "www.example.org");
        for (size_t j = 0; j < i; j++)
            assert_false(bytes_equal(asker[i].issued->pem, asker[j].issued->pem));
    }
    print_message("%d leaves in %d ms\n", MANY, (int)(clock_mono_ms() - start_ms));
    for (size_t i = 0; i < MANY; i++)
        asker_clear(&asker[i]);
    free(asker);
    free((void *)rsa.data);
    free((void *)ec.data);
}

/* The end comes while leaves are under way: each asker is told once all the same. */
static void the_end_is_told_to_all(void **state)
{
    enum { FEW = 20 };
    struct world *world = calloc(1, sizeof(*world));
    struct bytes rsa = upstream("RSA:2048", NULL, NULL);
    struct asker asker[FEW];

    (void)state;
    world_start(world, NULL);
    fake_signer_set_latency(world->signer, 10000);
    for (size_t i = 0; i < FEW; i++) {
        asker_plan(world, "www.example.org", i % 2 ? rsa : no_cert, &asker[i]);
        asker_ask(world, &asker[i], DEADLINE_MS);
    }
    world_end(world);
    for (size_t i = 0; i < FEW; i++) {
        assert_int_equal(asker_await(&asker[i]), LEAFD_INTERNAL);
        plan_clear(&asker[i].plan);
    }
    free(world);
    free((void *)rsa.data);
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        IN_WORLD(fresh_and_mimic_are_issued),
        IN_WORLD(a_leaf_with_a_smaller_key_is_a_stand_in),
        IN_WORLD(a_lost_signer_is_asked_again),
        IN_WORLD(the_plan_follows_the_untrusted_ca),
        IN_WORLD(failures_are_told_by_name),
        IN_WORLD(a_deadline_that_has_passed_costs_nothing),
        IN_WORLD(a_key_nobody_makes_is_our_fault),
        IN_WORLD(what_fits_no_reply_is_too_large),
        IN_WORLD(many_are_issued_at_once),
        cmocka_unit_test(the_end_is_told_to_all),
    };
#undef IN_WORLD

    return cmocka_run_group_tests(tests, NULL, NULL);
}
