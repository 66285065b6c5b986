/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/shared_keys.h"
#include "tests/lib/unit.h"

enum { CA_A = 1, CA_B = 2, SHARE_MS = 300 * 1000, SHARE_LEAVES = 10000, NOW_MS = 1000 };

static struct leaf_key *key_new(void)
{
    struct leaf_key *key = NULL;

    assert_int_equal(leaf_key_make(KEY_TYPE_P256, 0, &key), LEAFD_OK);
    return key;
}

/* A new key for a leaf of this CA; the stock has the only reference. */
static struct leaf_key *put_new(struct shared_keys *keys, uint64_t ca_generation, int64_t now_ms)
{
    struct leaf_key *key = key_new();

    shared_keys_put(keys, ca_generation, key, now_ms);
    leaf_key_unref(key);
    return key;
}

static void expect(struct shared_keys *keys, uint64_t ca_generation, int64_t now_ms,
                   const struct leaf_key *wanted)
{
    struct leaf_key *key = shared_keys_get(keys, ca_generation, now_ms);

    assert_ptr_equal(key, wanted);
    leaf_key_unref(key);
}

static void a_key_is_shared_within_its_ca(void **state)
{
    struct shared_keys keys = {0};
    struct leaf_key *a, *b;

    (void)state;
    expect(&keys, CA_A, NOW_MS, NULL);
    a = put_new(&keys, CA_A, NOW_MS);
    expect(&keys, CA_A, NOW_MS, a);
    expect(&keys, CA_B, NOW_MS, NULL);
    b = put_new(&keys, CA_B, NOW_MS);
    expect(&keys, CA_A, NOW_MS, a);
    expect(&keys, CA_B, NOW_MS, b);
    a = put_new(&keys, CA_A, NOW_MS); /* in the place of the former */
    expect(&keys, CA_A, NOW_MS, a);
    shared_keys_clear(&keys);
    expect(&keys, CA_A, NOW_MS, NULL);
}

static void a_key_is_shared_for_five_minutes(void **state)
{
    struct shared_keys keys = {0};
    struct leaf_key *key = put_new(&keys, CA_A, NOW_MS);

    (void)state;
    expect(&keys, CA_A, NOW_MS + SHARE_MS, key);
    expect(&keys, CA_A, NOW_MS + SHARE_MS + 1, NULL);
    shared_keys_clear(&keys);
}

static void a_key_is_shared_by_so_many_leaves(void **state)
{
    struct shared_keys keys = {0};
    struct leaf_key *key = put_new(&keys, CA_A, NOW_MS); /* for the first of them */

    (void)state;
    for (int i = 1; i < SHARE_LEAVES; i++)
        expect(&keys, CA_A, NOW_MS, key);
    expect(&keys, CA_A, NOW_MS, NULL);
    shared_keys_clear(&keys);
}

/* As when CAs were replaced many times. */
static void the_oldest_key_makes_room(void **state)
{
    struct shared_keys keys = {0};
    struct leaf_key *key[SHARED_KEYS_MAX + 1];

    (void)state;
    for (int i = 0; i <= SHARED_KEYS_MAX; i++)
        key[i] = put_new(&keys, (uint64_t)i, NOW_MS + i);
    expect(&keys, 0, NOW_MS, NULL);
    for (int i = 1; i <= SHARED_KEYS_MAX; i++)
        expect(&keys, (uint64_t)i, NOW_MS + i, key[i]);
    shared_keys_clear(&keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_shared_within_its_ca),
        cmocka_unit_test(a_key_is_shared_for_five_minutes),
        cmocka_unit_test(a_key_is_shared_by_so_many_leaves),
        cmocka_unit_test(the_oldest_key_makes_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
