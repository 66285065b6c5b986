/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/unit.h"

#include "cache/leaf_cache.h"

#include "base/metrics.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { NOW = 1000, LATER = 2000 };

/* What every leaf here shares: one key and a CA that is never freed. */
static struct leaf_key *leaf_key;
static struct ca ca = {.refs = 1u << 30};

static struct issued *make_issued(size_t der_len, int64_t usable_until)
{
    uint8_t *der = calloc(1, der_len);
    struct issued *issued = NULL;

    assert_int_equal(issued_new((struct bytes){der, der_len}, leaf_key, &ca, usable_until,
                                usable_until, &issued),
                     LEAFD_OK);
    free(der);
    return issued;
}

static void make_key(uint8_t key[static 32], unsigned number)
{
    memset(key, 0, 32);
    memcpy(key, &number, sizeof(number));
}

static void put(struct leaf_cache *cache, unsigned number, size_t der_len, int64_t usable_until)
{
    struct issued *issued = make_issued(der_len, usable_until);
    uint8_t key[32];

    make_key(key, number);
    leaf_cache_put(cache, key, issued);
    issued_unref(issued);
}

static bool has(struct leaf_cache *cache, unsigned number, int64_t now_sec)
{
    struct issued *issued;
    uint8_t key[32];

    make_key(key, number);
    issued = leaf_cache_get(cache, key, now_sec);
    issued_unref(issued);
    return issued != NULL;
}

static struct leaf_cache *make_cache(size_t max_bytes)
{
    struct leaf_cache *cache = NULL;

    assert_int_equal(leaf_cache_new(max_bytes, &cache), LEAFD_OK);
    return cache;
}

static size_t entries_of(struct leaf_cache *cache)
{
    size_t entries;
    size_t bytes;

    leaf_cache_measure(cache, &entries, &bytes);
    return entries;
}

static size_t bytes_in(struct leaf_cache *cache)
{
    size_t entries;
    size_t bytes;

    leaf_cache_measure(cache, &entries, &bytes);
    return bytes;
}

static void test_put_and_get(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 20);
    struct issued *issued = make_issued(500, LATER);
    struct issued *found;
    uint8_t key[32];

    (void)state;
    make_key(key, 1);
    assert_null(leaf_cache_get(cache, key, NOW));
    leaf_cache_put(cache, key, issued);
    assert_int_equal(issued->refs, 2);
    found = leaf_cache_get(cache, key, NOW);
    assert_ptr_equal(found, issued);
    assert_int_equal(issued->refs, 3);
    issued_unref(found);
    assert_false(has(cache, 2, NOW));
    /* what was given out outlives the cache */
    leaf_cache_free(cache);
    assert_int_equal(issued->refs, 1);
    issued_unref(issued);
    leaf_cache_free(NULL);
}

static void test_keys_differ_in_any_octet(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 20);
    uint8_t key[32];

    (void)state;
    put(cache, 0, 500, LATER);
    for (int i = 0; i < 32; i++) {
        make_key(key, 0);
        key[i] = 1;
        assert_null(leaf_cache_get(cache, key, NOW));
    }
    leaf_cache_free(cache);
}

static void test_time(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 20);

    (void)state;
    put(cache, 1, 500, LATER);
    assert_true(has(cache, 1, LATER - 1));
    assert_false(has(cache, 1, LATER));
    assert_int_equal(entries_of(cache), 0);
    assert_int_equal(bytes_in(cache), 0);
    leaf_cache_free(cache);
}

static void test_replace(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 20);

    (void)state;
    put(cache, 1, 500, LATER);
    put(cache, 1, 500, LATER + 10);
    assert_int_equal(entries_of(cache), 1);
    assert_true(has(cache, 1, LATER));
    leaf_cache_free(cache);
}

static void test_flush(void **state)
{
    struct leaf_cache *cache = make_cache(64 << 20);

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        put(cache, i, 500, LATER);
    assert_int_equal(entries_of(cache), 1000);
    assert_int_equal(leaf_cache_flush(cache), 1000);
    assert_int_equal(leaf_cache_flush(cache), 0);
    assert_int_equal(bytes_in(cache), 0);
    assert_false(has(cache, 1, NOW));
    put(cache, 1, 500, LATER);
    assert_true(has(cache, 1, NOW));
    leaf_cache_free(cache);
}

static void test_bytes_are_bounded(void **state)
{
    static const size_t bounds[] = {1 << 16, 1 << 20, 5 << 20};
    uint64_t evicted = metrics_read(METRIC_CACHE_EVICTED);

    (void)state;
    for (size_t b = 0; b < sizeof(bounds) / sizeof(bounds[0]); b++) {
        struct leaf_cache *cache = make_cache(bounds[b]);

        for (unsigned i = 0; i < 5000; i++) {
            put(cache, i, 300 + i % 3000, LATER);
            assert_true(bytes_in(cache) <= bounds[b]);
        }
        assert_true(bytes_in(cache) > bounds[b] / 2);
        leaf_cache_free(cache);
    }
    assert_true(metrics_read(METRIC_CACHE_EVICTED) > evicted);
}

static void test_larger_than_its_share(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 16);

    (void)state;
    put(cache, 1, 500, LATER);
    put(cache, 2, 1 << 16, LATER);
    assert_false(has(cache, 2, NOW));
    assert_true(has(cache, 1, NOW));
    leaf_cache_free(cache);
}

/* What is asked for again and again survives a crowd that is asked for once (in one shard: small).
 */
static void test_hits_survive(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 18);
    unsigned kept = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++)
        put(cache, i, 500, LATER);
    for (unsigned crowd = 1000; crowd < 6000; crowd++) {
        put(cache, crowd, 500, LATER);
        if (crowd % 10 == 0)
            for (unsigned i = 0; i < 20; i++)
                has(cache, i, NOW);
    }
    for (unsigned i = 0; i < 20; i++)
        kept += has(cache, i, NOW);
    assert_int_equal(kept, 20);
    leaf_cache_free(cache);
}

static void put_of_batch(struct leaf_cache *cache, unsigned number, uint64_t batch)
{
    struct issued *issued = make_issued(500, LATER);
    uint8_t key[32];

    issued->batch = batch;
    make_key(key, number);
    leaf_cache_put(cache, key, issued);
    issued_unref(issued);
}

static void test_disown(void **state)
{
    struct leaf_cache *cache = make_cache(16 << 20); /* several shards */
    uint64_t disowned[] = {7, UINT64_C(1) << 48 | 7};
    uint64_t dropped = metrics_read(METRIC_CACHE_DISOWNED);

    (void)state;
    for (unsigned i = 0; i < 300; i++)
        put_of_batch(cache, i, i % 3 ? i % 3 + 6 : 0); /* 0: verified, else 7 or 8 */
    put_of_batch(cache, 300, disowned[1]);
    assert_int_equal(leaf_cache_disown(cache, disowned, 2), 101);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(has(cache, i, NOW), i % 3 != 1);
    assert_false(has(cache, 300, NOW));
    assert_int_equal(entries_of(cache), 200);
    assert_int_equal(metrics_read(METRIC_CACHE_DISOWNED) - dropped, 101);

    put_of_batch(cache, 1, 7); /* comes too late */
    assert_false(has(cache, 1, NOW));
    put_of_batch(cache, 3, 7); /* nor does it take another's place */
    assert_true(has(cache, 3, NOW));
    put_of_batch(cache, 1, 9); /* signed anew */
    assert_true(has(cache, 1, NOW));
    assert_int_equal(leaf_cache_disown(cache, disowned, 2), 0); /* told twice */
    leaf_cache_free(cache);
    assert_int_equal(leaf_key->refs, 1);
}

enum { THREADS = 4, ROUNDS = 20000 };

enum { BATCHES = 64, EACH = 64 };

static void *put_batches(void *arg)
{
    struct leaf_cache *cache = arg;

    for (unsigned i = 0; i < BATCHES * EACH; i++)
        put_of_batch(cache, i, 1 + i / EACH);
    return NULL;
}

/* Nothing of a batch is left, whenever it is disowned. */
static void test_disown_beside_puts(void **state)
{
    struct leaf_cache *cache = make_cache(64 << 20);
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_batches, cache), 0);
    for (uint64_t batch = 2; batch <= BATCHES; batch += 2)
        leaf_cache_disown(cache, &batch, 1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < BATCHES * EACH; i++)
        assert_int_equal(has(cache, i, NOW), i / EACH % 2 == 0);
    leaf_cache_free(cache);
}

static void *churn(void *arg)
{
    struct leaf_cache *cache = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        if (!has(cache, i * 7 % 400, NOW))
            put(cache, i * 7 % 400, 500, i % 5 ? LATER : NOW);
        if (i % 5000 == 4999)
            leaf_cache_flush(cache);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct leaf_cache *cache = make_cache(1 << 18);
    pthread_t threads[THREADS];

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, cache), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(bytes_in(cache) <= 1 << 18);
    leaf_cache_free(cache);
    assert_int_equal(leaf_key->refs, 1); /* every leaf is gone */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_get),
        cmocka_unit_test(test_keys_differ_in_any_octet),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_bytes_are_bounded),
        cmocka_unit_test(test_larger_than_its_share),
        cmocka_unit_test(test_hits_survive),
        cmocka_unit_test(test_disown),
        cmocka_unit_test(test_disown_beside_puts),
        cmocka_unit_test(test_threads),
    };
    int failed;

    if (leaf_key_make(KEY_TYPE_P256, 0, &leaf_key) != LEAFD_OK)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    leaf_key_unref(leaf_key);
    return failed;
}
