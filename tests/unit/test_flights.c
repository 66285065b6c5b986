/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/unit.h"

#include "cache/flights.h"

#include "base/err.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct asker {
    struct flight_waiter waiter;
    unsigned number;
};

static void make_key(uint8_t key[static 32], unsigned number)
{
    memset(key, 0, 32);
    memcpy(key, &number, sizeof(number));
}

static void test_order(void **state)
{
    struct flights *flights = NULL;
    struct asker askers[5];
    struct flight_waiter *waiter;
    uint8_t key[32];

    (void)state;
    assert_int_equal(flights_new(4, 8, &flights), LEAFD_OK);
    make_key(key, 1);
    for (unsigned i = 0; i < 5; i++) {
        askers[i].number = i;
        assert_int_equal(flights_join(flights, key, &askers[i].waiter),
                         i == 0 ? FLIGHT_LEADER : FLIGHT_JOINED);
    }
    assert_int_equal(flights_count(flights), 1);
    waiter = flights_land(flights, key);
    for (unsigned i = 0; i < 5; i++, waiter = waiter->next)
        assert_int_equal(((struct asker *)waiter)->number, i);
    assert_null(waiter);
    assert_null(flights_land(flights, key));
    assert_int_equal(flights_count(flights), 0);
    /* after a landing the next one leads again */
    assert_int_equal(flights_join(flights, key, &askers[0].waiter), FLIGHT_LEADER);
    assert_ptr_equal(flights_land(flights, key), &askers[0].waiter);
    flights_free(flights);
    flights_free(NULL);
}

static void test_bounds(void **state)
{
    struct flights *flights = NULL;
    struct asker askers[6];
    uint8_t key[3][32];

    (void)state;
    assert_int_equal(flights_new(2, 2, &flights), LEAFD_OK);
    for (unsigned i = 0; i < 3; i++)
        make_key(key[i], i);
    assert_int_equal(flights_join(flights, key[0], &askers[0].waiter), FLIGHT_LEADER);
    assert_int_equal(flights_join(flights, key[1], &askers[1].waiter), FLIGHT_LEADER);
    assert_int_equal(flights_join(flights, key[2], &askers[2].waiter), FLIGHT_FULL);
    assert_int_equal(flights_join(flights, key[0], &askers[3].waiter), FLIGHT_JOINED);
    assert_int_equal(flights_join(flights, key[0], &askers[4].waiter), FLIGHT_FULL);
    assert_int_equal(flights_count(flights), 2);
    assert_non_null(flights_land(flights, key[0]));
    assert_int_equal(flights_join(flights, key[2], &askers[2].waiter), FLIGHT_LEADER);
    assert_non_null(flights_land(flights, key[1]));
    assert_non_null(flights_land(flights, key[2]));
    flights_free(flights);
}

enum { THREADS = 4, ROUNDS = 20000, KEYS = 7 };

struct shared {
    struct flights *flights;
    _Atomic unsigned long landed;
    _Atomic unsigned long refused;
};

static void *fly(void *arg)
{
    struct shared *shared = arg;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct asker *asker = malloc(sizeof(*asker));
        uint8_t key[32];
        enum flight_role role;

        make_key(key, i % KEYS);
        role = flights_join(shared->flights, key, &asker->waiter);
        if (role == FLIGHT_FULL) {
            free(asker);
            atomic_fetch_add(&shared->refused, 1);
        } else if (role == FLIGHT_LEADER) {
            struct flight_waiter *waiter = flights_land(shared->flights, key);

            while (waiter) {
                struct flight_waiter *next = waiter->next;

                free(waiter);
                atomic_fetch_add(&shared->landed, 1);
                waiter = next;
            }
        }
    }
    return NULL;
}

/* Every asker comes down exactly once, however leaders and joiners meet. */
static void test_threads(void **state)
{
    struct shared shared = {.landed = 0};
    pthread_t threads[THREADS];

    (void)state;
    assert_int_equal(flights_new(3, 2, &shared.flights), LEAFD_OK);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fly, &shared), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(shared.landed + shared.refused, THREADS * ROUNDS);
    assert_int_equal(flights_count(shared.flights), 0);
    flights_free(shared.flights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
