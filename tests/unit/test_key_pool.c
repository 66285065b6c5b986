/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/metrics.h"
#include "issue/key_pool.h"
#include "policy/leaf_type.h"
#include "tests/lib/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 120000, CA_A = 1, CA_B = 2 };

/* In the place of the C library's. A thread of least priority starves on a busy machine, for
 * minutes: where what it makes is waited for, it asks for that priority and does not get it. */
static atomic_bool all_are_equal;
static atomic_uint asked_for_least;

int setpriority(int which, id_t who, int nice)
{
    atomic_fetch_add(&asked_for_least, which == PRIO_PROCESS && who == 0 && nice == 19);
    return atomic_load(&all_are_equal) ? 0 : (int)syscall(SYS_setpriority, which, who, nice);
}

static int be_equal(void **state)
{
    (void)state;
    atomic_store(&all_are_equal, true);
    atomic_store(&asked_for_least, 0);
    return 0;
}

static int be_unequal(void **state)
{
    (void)state;
    atomic_store(&all_are_equal, false);
    return 0;
}

static struct conf conf_default(void)
{
    return (struct conf){.leaf_rsa_bits = 2048,
                         .flights_max = 4096,
                         .keys_share = true,
                         .keys_rsa_low = 1,
                         .keys_rsa_high = 2,
                         .keys_ec_low = 4,
                         .keys_ec_high = 8};
}

/* No RSA key is made ahead: only those who wait have one made. */
static struct conf conf_without_rsa_stock(void)
{
    struct conf conf = conf_default();

    conf.keys_rsa_low = conf.keys_rsa_high = 0;
    return conf;
}

static struct key_pool *pool_new(const struct conf *conf)
{
    struct key_pool *pool = NULL;

    assert_int_equal(key_pool_new(conf, &pool), LEAFD_OK);
    return pool;
}

/* One who may have to wait for a key. */
struct asker {
    struct leaf_key *key;
    enum leafd_err err;
    int calls;
};

/* Those who were called back. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t called = PTHREAD_COND_INITIALIZER;

static void on_key(void *ctx, enum leafd_err err, struct leaf_key *key)
{
    struct asker *asker = ctx;

    pthread_mutex_lock(&lock);
    asker->key = key;
    asker->err = err;
    asker->calls++;
    pthread_cond_broadcast(&called);
    pthread_mutex_unlock(&lock);
}

static void ask_for_size(struct key_pool *pool, unsigned bits, uint64_t ca_generation,
                         int64_t wait_ms, struct asker *asker)
{
    struct leaf_key *key = NULL;
    enum leafd_err err;

    *asker = (struct asker){.err = LEAFD_AGAIN};
    err = key_pool_take(pool, KEY_TYPE_RSA, bits, ca_generation, clock_mono_ms() + wait_ms, on_key,
                        asker, &key);
    if (err != LEAFD_AGAIN)
        on_key(asker, err, key);
}

static void ask_for(struct key_pool *pool, uint64_t ca_generation, int64_t wait_ms,
                    struct asker *asker)
{
    ask_for_size(pool, 2048, ca_generation, wait_ms, asker);
}

static void await(struct asker *asker)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&lock);
    while (asker->calls == 0)
        assert_int_equal(pthread_cond_timedwait(&called, &lock, &until), 0);
    pthread_mutex_unlock(&lock);
}

static void await_stock(struct key_pool *pool, enum key_type type, unsigned bits, size_t count)
{
    struct timespec pause = {0, 1000000};
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

    while (key_pool_stock(pool, type, bits) < count) {
        assert_true(clock_mono_ms() < deadline_ms);
        nanosleep(&pause, NULL);
    }
}

static void stocks_are_filled_to_their_mark(void **state)
{
    struct conf conf = conf_default();
    struct key_pool *pool = pool_new(&conf);

    (void)state;
    await_stock(pool, KEY_TYPE_P256, 0, 8);
    await_stock(pool, KEY_TYPE_RSA, 2048, 2);
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        const struct leaf_type *leaf = &leaf_types[i];
        bool wanted = leaf->type == KEY_TYPE_P256 || leaf->bits == 2048;

        /* the others nobody has asked for yet */
        assert_int_equal(key_pool_stock(pool, leaf->type, leaf->bits), !wanted      ? 0
                                                                       : leaf->bits ? 2
                                                                                    : 8);
    }
    assert_int_equal(key_pool_stock(pool, KEY_TYPE_DSA, 0), 0);
    key_pool_free(pool);
    assert_true(atomic_load(&asked_for_least) >= 1); /* whoever made them */
}

/* Which stocks are begun at the start: 0, or their high mark. */
static void the_configuration_decides_what_is_made_ahead(void **state)
{
    static const struct {
        enum conf_leaf_key leaf_key;
        enum key_type type;
        unsigned bits;
        enum conf_rsa_match match;
        size_t p256, rsa_2048, rsa_3072;
    } rows[] = {
        {CONF_LEAF_KEY_COMPATIBLE, 0, 3072, CONF_RSA_MATCH_BEST_EFFORT, 8, 1, 1},
        {CONF_LEAF_KEY_COMPATIBLE, 0, 3072, CONF_RSA_MATCH_STRICT, 8, 0, 1},
        {CONF_LEAF_KEY_UPSTREAM, 0, 3072, CONF_RSA_MATCH_STRICT, 8, 1, 0},
        {CONF_LEAF_KEY_TYPE, KEY_TYPE_RSA, 3072, CONF_RSA_MATCH_BEST_EFFORT, 0, 1, 1},
        {CONF_LEAF_KEY_TYPE, KEY_TYPE_RSA, 2048, CONF_RSA_MATCH_STRICT, 0, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf conf = conf_default();
        struct key_pool *pool;

        conf.leaf_key = rows[i].leaf_key;
        conf.leaf_key_type = rows[i].type;
        conf.leaf_rsa_bits = rows[i].bits;
        conf.keys_rsa_match = rows[i].match;
        conf.keys_rsa_high = 1;
        pool = pool_new(&conf);
        await_stock(pool, KEY_TYPE_P256, 0, rows[i].p256);
        await_stock(pool, KEY_TYPE_RSA, 2048, rows[i].rsa_2048);
        await_stock(pool, KEY_TYPE_RSA, 3072, rows[i].rsa_3072);
        assert_int_equal(key_pool_stock(pool, KEY_TYPE_P256, 0), rows[i].p256);
        assert_int_equal(key_pool_stock(pool, KEY_TYPE_RSA, 2048), rows[i].rsa_2048);
        assert_int_equal(key_pool_stock(pool, KEY_TYPE_RSA, 3072), rows[i].rsa_3072);
        assert_int_equal(key_pool_stock(pool, KEY_TYPE_RSA, 4096), 0);
        key_pool_free(pool);
    }
}

static void a_fixed_type_is_all_that_is_stocked(void **state)
{
    struct conf conf = conf_default();
    struct key_pool *pool;

    (void)state;
    conf.leaf_key = CONF_LEAF_KEY_TYPE;
    conf.leaf_key_type = KEY_TYPE_SM2;
    pool = pool_new(&conf);
    await_stock(pool, KEY_TYPE_SM2, 0, 8);
    assert_int_equal(key_pool_stock(pool, KEY_TYPE_P256, 0), 0);
    assert_int_equal(key_pool_stock(pool, KEY_TYPE_RSA, 2048), 0);
    key_pool_free(pool);
}

static void quick_keys_are_there_at_once_and_never_shared(void **state)
{
    enum { MANY = 100 };
    static const enum key_type types[] = {KEY_TYPE_P256, KEY_TYPE_P384,    KEY_TYPE_P521,
                                          KEY_TYPE_SM2,  KEY_TYPE_ED25519, KEY_TYPE_ED448};
    struct conf conf = conf_default();
    struct key_pool *pool = pool_new(&conf);
    struct leaf_key *key[MANY];

    (void)state;
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        for (size_t i = 0; i < MANY; i++) {
            assert_int_equal(
                key_pool_take(pool, types[t], 0, CA_A, clock_mono_ms(), NULL, NULL, &key[i]),
                LEAFD_OK);
            assert_int_equal(key[i]->type, types[t]);
            assert_int_equal(key[i]->refs, 1);
        }
        for (size_t i = 0; i < MANY; i++) {
            for (size_t j = 0; j < i; j++)
                assert_false(bytes_equal(key[i]->spki, key[j]->spki));
        }
        for (size_t i = 0; i < MANY; i++)
            leaf_key_unref(key[i]);
        await_stock(pool, types[t], 0, 4); /* and are made again */
    }
    key_pool_free(pool);
}

static void what_nobody_makes_is_unsupported(void **state)
{
    struct conf conf = conf_without_rsa_stock();
    struct key_pool *pool = pool_new(&conf);
    struct leaf_key *key = NULL;
    int64_t soon_ms = clock_mono_ms() + 1000;

    (void)state;
    assert_int_equal(key_pool_take(pool, KEY_TYPE_DSA, 0, CA_A, soon_ms, on_key, NULL, &key),
                     LEAFD_UNSUPPORTED);
    assert_int_equal(key_pool_take(pool, KEY_TYPE_RSA, 3000, CA_A, soon_ms, on_key, NULL, &key),
                     LEAFD_UNSUPPORTED);
    assert_null(key);
    key_pool_free(pool);
}

static void a_burst_shares_the_first_rsa_key(void **state)
{
    enum { BURST = 120 };
    struct conf conf = conf_without_rsa_stock();
    struct key_pool *pool = pool_new(&conf);
    uint64_t shared = metrics_read(METRIC_KEYS_SHARED);
    struct asker asker[BURST], later;

    (void)state;
    for (size_t i = 0; i < BURST; i++)
        ask_for(pool, CA_A, PATIENCE_MS, &asker[i]);
    for (size_t i = 0; i < BURST; i++) {
        await(&asker[i]);
        assert_int_equal(asker[i].err, LEAFD_OK);
        assert_int_equal(asker[i].key->type, KEY_TYPE_RSA);
    }
    ask_for(pool, CA_A, 0, &later); /* answered at once, from the same key */
    assert_int_equal(later.calls, 1);
    assert_int_equal(later.err, LEAFD_OK);
    assert_true(metrics_read(METRIC_KEYS_SHARED) - shared > BURST / 2);
    leaf_key_unref(later.key);
    for (size_t i = 0; i < BURST; i++) {
        assert_int_equal(asker[i].calls, 1);
        leaf_key_unref(asker[i].key);
    }
    key_pool_free(pool);
}

static void a_key_is_shared_by_ten_thousand_leaves(void **state)
{
    enum { LEAVES = 10000 };
    struct conf conf = conf_without_rsa_stock();
    struct key_pool *pool = pool_new(&conf);
    struct leaf_key *first = NULL;
    struct asker asker;

    (void)state;
    for (size_t i = 0; i < LEAVES; i++) {
        ask_for(pool, CA_A, PATIENCE_MS, &asker);
        await(&asker);
        assert_int_equal(asker.err, LEAFD_OK);
        if (i == 0)
            first = leaf_key_ref(asker.key);
        assert_ptr_equal(asker.key, first);
        leaf_key_unref(asker.key);
    }
    ask_for(pool, CA_A, PATIENCE_MS, &asker);
    await(&asker);
    assert_int_equal(asker.err, LEAFD_OK);
    assert_ptr_not_equal(asker.key, first);
    leaf_key_unref(asker.key);
    leaf_key_unref(first);
    key_pool_free(pool);
}

static void a_key_never_goes_to_two_cas(void **state)
{
    enum { EACH = 10 };
    struct conf conf = conf_without_rsa_stock();
    struct key_pool *pool = pool_new(&conf);
    struct asker a[EACH], b[EACH];

    (void)state;
    for (size_t i = 0; i < EACH; i++) {
        ask_for(pool, CA_A, PATIENCE_MS, &a[i]);
        ask_for(pool, CA_B, PATIENCE_MS, &b[i]);
    }
    for (size_t i = 0; i < EACH; i++) {
        await(&a[i]);
        await(&b[i]);
        assert_int_equal(a[i].err, LEAFD_OK);
        assert_int_equal(b[i].err, LEAFD_OK);
    }
    for (size_t i = 0; i < EACH; i++)
        for (size_t j = 0; j < EACH; j++)
            assert_ptr_not_equal(a[i].key, b[j].key);
    for (size_t i = 0; i < EACH; i++) {
        leaf_key_unref(a[i].key);
        leaf_key_unref(b[i].key);
    }
    key_pool_free(pool);
}

static void without_sharing_each_waits_for_its_own(void **state)
{
    enum { FEW = 4 };
    struct conf conf = conf_without_rsa_stock();
    struct asker asker[FEW];
    struct key_pool *pool;

    (void)state;
    conf.keys_share = false;
    pool = pool_new(&conf);
    for (size_t i = 0; i < FEW; i++)
        ask_for(pool, CA_A, PATIENCE_MS, &asker[i]);
    for (size_t i = 0; i < FEW; i++) {
        await(&asker[i]);
        assert_int_equal(asker[i].err, LEAFD_OK);
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(asker[i].key, asker[j].key);
    }
    for (size_t i = 0; i < FEW; i++)
        leaf_key_unref(asker[i].key);
    key_pool_free(pool);
}

static void who_waited_too_long_is_told(void **state)
{
    enum { FEW = 3 };
    struct conf conf = conf_without_rsa_stock();
    struct asker asker[FEW], patient;
    struct key_pool *pool;

    (void)state;
    conf.keys_share = false;
    conf.keys_rsa_match = CONF_RSA_MATCH_STRICT;
    conf.leaf_rsa_bits = 4096; /* takes a second and more */
    pool = pool_new(&conf);
    for (size_t i = 0; i < FEW; i++) {
        struct leaf_key *key = NULL;

        asker[i] = (struct asker){.err = LEAFD_AGAIN};
        assert_int_equal(key_pool_take(pool, KEY_TYPE_RSA, 4096, CA_A, clock_mono_ms() + 5, on_key,
                                       &asker[i], &key),
                         LEAFD_AGAIN);
    }
    for (size_t i = 0; i < FEW; i++) {
        await(&asker[i]);
        assert_true(asker[i].err == LEAFD_TIMEOUT || asker[i].err == LEAFD_OK);
        leaf_key_unref(asker[i].key);
    }
    /* who still waits at the end is told that */
    patient = (struct asker){.err = LEAFD_AGAIN};
    if (key_pool_take(pool, KEY_TYPE_RSA, 4096, CA_A, INT64_MAX / 2, on_key, &patient,
                      &patient.key) == LEAFD_AGAIN) {
        key_pool_free(pool);
        assert_int_equal(patient.calls, 1);
        assert_true(patient.err == LEAFD_INTERNAL || patient.err == LEAFD_OK);
    } else {
        key_pool_free(pool);
    }
    leaf_key_unref(patient.key);
}

/* keys.rsa_match: best-effort. Nobody asks for larger keys before, and none is made ahead. */
static void a_larger_key_gives_way_until_there_is_one(void **state)
{
    struct conf conf = conf_without_rsa_stock();
    uint64_t gave_way = metrics_read(METRIC_KEYS_GAVE_WAY);
    struct key_pool *pool = pool_new(&conf);
    struct asker first, later;

    (void)state;
    ask_for_size(pool, 3072, CA_A, PATIENCE_MS, &first);
    await(&first);
    assert_int_equal(first.err, LEAFD_OK);
    assert_int_equal(first.key->bits, 2048);
    assert_int_equal(metrics_read(METRIC_KEYS_GAVE_WAY) - gave_way, 1);
    leaf_key_unref(first.key);
    await_stock(pool, KEY_TYPE_RSA, 3072, 1); /* made although nobody waits, by no idle thread */
    for (int i = 0; i < 2; i++) {             /* the second shares it */
        ask_for_size(pool, 3072, CA_A, 0, &later);
        assert_int_equal(later.calls, 1);
        assert_int_equal(later.err, LEAFD_OK);
        assert_int_equal(later.key->bits, 3072);
        leaf_key_unref(later.key);
    }
    ask_for_size(pool, 3072, CA_B, PATIENCE_MS, &later); /* never across CAs */
    await(&later);
    assert_int_equal(later.key->bits, 2048);
    assert_int_equal(metrics_read(METRIC_KEYS_GAVE_WAY) - gave_way, 2);
    leaf_key_unref(later.key);
    key_pool_free(pool);
}

static void a_larger_key_that_was_asked_for_is_stocked(void **state)
{
    struct conf conf = conf_default();
    struct key_pool *pool;
    struct asker asker;

    (void)state;
    conf.leaf_key = CONF_LEAF_KEY_UPSTREAM;
    pool = pool_new(&conf);
    ask_for_size(pool, 3072, CA_A, PATIENCE_MS, &asker);
    await(&asker);
    assert_int_equal(asker.err, LEAFD_OK);
    leaf_key_unref(asker.key);
    await_stock(pool, KEY_TYPE_RSA, 3072, 2);
    assert_int_equal(key_pool_stock(pool, KEY_TYPE_RSA, 4096), 0);
    key_pool_free(pool);
}

static void who_is_strict_waits_for_the_size(void **state)
{
    enum { FEW = 3 };
    struct conf conf = conf_without_rsa_stock();
    uint64_t gave_way = metrics_read(METRIC_KEYS_GAVE_WAY);
    struct asker large[FEW], small[FEW];
    struct key_pool *pool;

    (void)state;
    conf.keys_rsa_match = CONF_RSA_MATCH_STRICT;
    pool = pool_new(&conf);
    for (size_t i = 0; i < FEW; i++) {
        ask_for_size(pool, 3072, CA_A, PATIENCE_MS, &large[i]);
        ask_for_size(pool, 2048, CA_A, PATIENCE_MS, &small[i]);
    }
    for (size_t i = 0; i < FEW; i++) {
        await(&large[i]);
        await(&small[i]);
        assert_int_equal(large[i].err, LEAFD_OK);
        assert_int_equal(large[i].key->bits, 3072);
        assert_int_equal(small[i].err, LEAFD_OK);
        assert_int_equal(small[i].key->bits, 2048);
        leaf_key_unref(large[i].key);
        leaf_key_unref(small[i].key);
    }
    assert_int_equal(metrics_read(METRIC_KEYS_GAVE_WAY), gave_way);
    key_pool_free(pool);
}

/* `most` are let in of those who ask for the sizes in turn, whatever is made in the meantime. */
static void assert_line(unsigned flights_max, size_t most)
{
    enum { MORE = 9000 };
    struct conf conf = conf_without_rsa_stock();
    struct asker *asker = calloc(MORE, sizeof(*asker));
    size_t busy = 0, served = 0, calls = 0;
    struct key_pool *pool;

    conf.keys_share = false;
    conf.keys_rsa_match = CONF_RSA_MATCH_STRICT;
    conf.flights_max = flights_max;
    pool = pool_new(&conf);
    for (size_t i = 0; i < MORE; i++) {
        ask_for_size(pool, i % 2 ? 2048 : 3072, CA_A, 1000 * PATIENCE_MS, &asker[i]);
        busy += asker[i].err == LEAFD_BUSY;
    }
    key_pool_free(pool);
    for (size_t i = 0; i < MORE; i++) {
        calls += (size_t)asker[i].calls;
        served += asker[i].key != NULL;
        leaf_key_unref(asker[i].key);
    }
    assert_int_equal(calls, MORE);
    assert_in_range(MORE - busy, most, most + served);
    free(asker);
}

static void the_line_is_bounded(void **state)
{
    (void)state;
    assert_line(1, 1);
    assert_line(4096, 2048);
    assert_line(65536, 8192);
}

/* ---- from many threads ---- */

static void *take_many(void *arg)
{
    struct key_pool *pool = arg;
    struct asker asker;

    for (int i = 0; i < 50; i++) {
        struct leaf_key *key = NULL;

        if (key_pool_take(pool, KEY_TYPE_P256, 0, CA_A, clock_mono_ms(), NULL, NULL, &key))
            return arg;
        leaf_key_unref(key);
        ask_for(pool, (uint64_t)(i % 2), PATIENCE_MS, &asker);
        await(&asker);
        if (asker.err)
            return arg;
        leaf_key_unref(asker.key);
    }
    return NULL;
}

static void many_threads_take(void **state)
{
    enum { THREADS = 4 };
    struct conf conf = conf_default();
    struct key_pool *pool = pool_new(&conf);
    pthread_t thread[THREADS];

    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, take_many, pool), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *bad;

        pthread_join(thread[i], &bad);
        assert_null(bad);
    }
    key_pool_free(pool);
}

static void an_unused_pool_ends_at_once(void **state)
{
    struct conf conf = conf_default();

    (void)state;
    conf.leaf_rsa_bits = 4096; /* keys that are under way are given up */
    for (int i = 0; i < 5; i++)
        key_pool_free(pool_new(&conf));
    key_pool_free(NULL);
}

#define TEST_WITH_STOCK(test) cmocka_unit_test_setup_teardown(test, be_equal, be_unequal)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_WITH_STOCK(stocks_are_filled_to_their_mark),
        TEST_WITH_STOCK(a_fixed_type_is_all_that_is_stocked),
        TEST_WITH_STOCK(the_configuration_decides_what_is_made_ahead),
        TEST_WITH_STOCK(quick_keys_are_there_at_once_and_never_shared),
        cmocka_unit_test(what_nobody_makes_is_unsupported),
        cmocka_unit_test(a_burst_shares_the_first_rsa_key),
        cmocka_unit_test(a_key_is_shared_by_ten_thousand_leaves),
        cmocka_unit_test(a_key_never_goes_to_two_cas),
        cmocka_unit_test(without_sharing_each_waits_for_its_own),
        cmocka_unit_test(who_waited_too_long_is_told),
        cmocka_unit_test(a_larger_key_gives_way_until_there_is_one),
        TEST_WITH_STOCK(a_larger_key_that_was_asked_for_is_stocked),
        cmocka_unit_test(who_is_strict_waits_for_the_size),
        cmocka_unit_test(the_line_is_bounded),
        cmocka_unit_test(many_threads_take),
        cmocka_unit_test(an_unused_pool_ends_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
