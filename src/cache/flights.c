/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/flights.h"

#include "base/keyed_hash.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_LEN = 32, SHARD_COUNT = 16, BUCKET_COUNT = 256 };

struct flight {
    struct flight *chain; /* next in the bucket */
    struct flight_waiter *first;
    struct flight_waiter **end; /* where the next one is hung */
    size_t waiters;
    uint8_t key[KEY_LEN];
};

struct shard {
    pthread_mutex_t lock;
    struct flight *buckets[BUCKET_COUNT];
};

struct flights {
    struct hash_secret secret;
    size_t max_flights;
    size_t max_waiters;
    _Atomic size_t count;
    struct shard shard[SHARD_COUNT];
};

enum leafd_err flights_new(size_t max_flights, size_t max_waiters, struct flights **ret)
{
    struct flights *flights = calloc(1, sizeof(*flights));
    enum leafd_err err;

    if (!flights)
        return LEAFD_NOMEM;
    err = hash_secret_init(&flights->secret);
    if (err) {
        free(flights);
        return err;
    }
    flights->max_flights = max_flights;
    flights->max_waiters = max_waiters > 0 ? max_waiters : 1; /* its leader */
    for (size_t i = 0; i < SHARD_COUNT; i++)
        pthread_mutex_init(&flights->shard[i].lock, NULL);
    *ret = flights;
    return LEAFD_OK;
}

void flights_free(struct flights *flights)
{
    if (!flights)
        return;
    for (size_t i = 0; i < SHARD_COUNT; i++)
        pthread_mutex_destroy(&flights->shard[i].lock);
    free(flights);
}

/* The shard of a key, locked, and the link that points at its flight or at NULL. */
static struct shard *lock_shard(struct flights *flights, const uint8_t *key,
                                struct flight ***ret_link)
{
    uint64_t hash = keyed_hash(&flights->secret, (struct bytes){key, KEY_LEN});
    struct shard *shard = &flights->shard[hash >> 32 & (SHARD_COUNT - 1)];
    struct flight **link = &shard->buckets[hash & (BUCKET_COUNT - 1)];

    pthread_mutex_lock(&shard->lock);
    while (*link && memcmp((*link)->key, key, KEY_LEN) != 0)
        link = &(*link)->chain;
    *ret_link = link;
    return shard;
}

static void hang(struct flight *flight, struct flight_waiter *waiter)
{
    waiter->next = NULL;
    *flight->end = waiter;
    flight->end = &waiter->next;
    flight->waiters++;
}

/* A new flight in the place that `link` points at; NULL when a bound is reached. */
static struct flight *start(struct flights *flights, const uint8_t *key, struct flight **link)
{
    struct flight *flight;

    if (atomic_fetch_add(&flights->count, 1) >= flights->max_flights)
        goto full;
    flight = calloc(1, sizeof(*flight));
    if (!flight)
        goto full;
    flight->end = &flight->first;
    memcpy(flight->key, key, KEY_LEN);
    *link = flight;
    return flight;
full:
    atomic_fetch_sub(&flights->count, 1);
    return NULL;
}

enum flight_role flights_join(struct flights *flights, const uint8_t key[static 32],
                              struct flight_waiter *waiter)
{
    enum flight_role role = FLIGHT_JOINED;
    struct flight **link;
    struct shard *shard = lock_shard(flights, key, &link);
    struct flight *flight = *link;

    if (!flight) {
        flight = start(flights, key, link);
        role = FLIGHT_LEADER;
    }
    if (flight && flight->waiters < flights->max_waiters)
        hang(flight, waiter);
    else
        role = FLIGHT_FULL;
    pthread_mutex_unlock(&shard->lock);
    return role;
}

struct flight_waiter *flights_land(struct flights *flights, const uint8_t key[static 32])
{
    struct flight_waiter *waiters = NULL;
    struct flight **link;
    struct shard *shard = lock_shard(flights, key, &link);
    struct flight *flight = *link;

    if (flight)
        *link = flight->chain;
    pthread_mutex_unlock(&shard->lock);
    if (flight) {
        waiters = flight->first;
        free(flight);
        atomic_fetch_sub(&flights->count, 1);
    }
    return waiters;
}

size_t flights_count(struct flights *flights)
{
    return atomic_load(&flights->count);
}
