/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* SCHED_IDLE, sem_clockwait */
#include "issue/key_pool.h"

#include "base/clock.h"
#include "base/metrics.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/sysinfo.h>
#include <time.h>

enum {
    MAKERS_MAX = 4,
    WAITERS_MAX = 8192,
    SHARE_MS = 300 * 1000,
    SHARE_LEAVES = 10000,
    SHARED_MAX = 16,         /* CAs that have a newest key: all there are, and a few that were */
    STACK_OCTETS = 512 << 10 /* callbacks write leaves on the usher's stack */
};

/* A key on its way from a maker to those who take. */
struct made {
    struct leaf_key *key;
    struct made *next;
};

/* The key that the newest leaf of a CA has; others of that CA may get it too. */
struct newest {
    uint64_t ca_generation;
    struct leaf_key *key;
    int64_t since_ms;
    unsigned leaves;
};

struct waiter {
    struct waiter *next;
    uint64_t ca_generation;
    int64_t deadline_ms;
    key_pool_fn fn;
    void *ctx;
    struct leaf_key *key; /* while it is being served */
    enum leafd_err err;
};

/* Idle threads never take the lock: one that is put aside while it holds a lock would stop all the
 * others on a busy machine. They hand over through `fresh`, and learn from `wanted` what to make.
 */
struct stock {
    enum key_type type;
    unsigned bits;
    int low, high;
    bool waits; /* dear to make: who finds none waits or shares */
    enum metric metric;

    _Atomic(struct made *) fresh; /* made, not yet looked at; newest first */
    _Atomic int wanted;           /* to be made by idle threads */
    _Atomic int supply;           /* in stock, being made, or wanted */
    _Atomic int in_stock;
    _Atomic int waiting;
    _Atomic bool failed; /* a key could not be made although somebody waits */

    pthread_mutex_t lock; /* all that follows */
    bool active;          /* somebody asked, or will */
    struct made *ready;
    struct waiter *first, **last;
    struct newest newest[SHARED_MAX];
};

enum { STOCK_P256, STOCK_P384, STOCK_RSA, STOCK_COUNT };

struct key_pool {
    const struct conf *conf;
    struct stock stock[STOCK_COUNT];
    _Atomic bool stopping;
    sem_t work;    /* for the idle makers: something is wanted */
    sem_t urgent;  /* for the maker of normal priority: somebody waits */
    sem_t arrived; /* for the usher: a key, a waiter, or the end */
    pthread_t makers[MAKERS_MAX];
    unsigned maker_count;
    pthread_t urgent_maker;
    pthread_t usher;
    bool has_urgent, has_usher;
};

/* ---- making ---- */

/* Makes one and hands it over. */
static enum leafd_err make_one(struct key_pool *pool, struct stock *stock)
{
    struct made *made = calloc(1, sizeof(*made));
    enum leafd_err err = LEAFD_NOMEM;

    if (!made)
        return err;
    err = leaf_key_make_unless(&pool->stopping, stock->type, stock->bits, &made->key);
    if (err) {
        free(made);
        return err;
    }
    metrics_add(stock->metric, 1);
    atomic_fetch_add(&stock->in_stock, 1);
    made->next = atomic_load(&stock->fresh);
    while (!atomic_compare_exchange_weak(&stock->fresh, &made->next, made))
        ;
    if (atomic_load(&stock->waiting) > 0)
        sem_post(&pool->arrived);
    return LEAFD_OK;
}

/* One of the wanted keys, for the thread that calls; the quick ones first. */
static struct stock *claim(struct key_pool *pool)
{
    for (size_t i = 0; i < STOCK_COUNT; i++) {
        int wanted = atomic_load(&pool->stock[i].wanted);

        while (wanted > 0)
            if (atomic_compare_exchange_weak(&pool->stock[i].wanted, &wanted, wanted - 1))
                return &pool->stock[i];
    }
    return NULL;
}

/* What a thread does once and under locks of other libraries (their set-up, random numbers, the
 * counters) is done before it is idle, or everybody might wait for it there. */
static void warm_up(void)
{
    static const _Atomic bool give_up = true;
    struct leaf_key *key = NULL;

    metrics_add(METRIC_KEYS_MADE_EC, 0);
    if (leaf_key_make(KEY_TYPE_P256, 0, &key) == LEAFD_OK)
        leaf_key_unref(key);
    if (leaf_key_make_unless(&give_up, KEY_TYPE_RSA, 2048, &key) == LEAFD_OK)
        leaf_key_unref(key);
}

static void *make_ahead(void *arg)
{
    struct key_pool *pool = arg;
    struct sched_param no_param = {0};
    struct stock *stock;

    warm_up();
    sched_setscheduler(0, SCHED_IDLE, &no_param);
    while (!atomic_load(&pool->stopping)) {
        stock = claim(pool);
        if (!stock)
            sem_wait(&pool->work);
        else if (make_one(pool, stock))
            atomic_fetch_sub(&stock->supply, 1); /* taken up again with the next order */
    }
    return NULL;
}

/* A key at a time, at normal priority, while somebody waits for one: an idle thread starves on a
 * busy machine. */
static void *make_urgently(void *arg)
{
    struct key_pool *pool = arg;
    struct stock *stock = &pool->stock[STOCK_RSA];

    while (!atomic_load(&pool->stopping)) {
        sem_wait(&pool->urgent);
        if (atomic_load(&pool->stopping) || atomic_load(&stock->waiting) == 0 ||
            atomic_load(&stock->in_stock) > 0)
            continue; /* the usher asks again if that key was not enough */
        atomic_fetch_add(&stock->supply, 1);
        if (make_one(pool, stock)) {
            atomic_fetch_sub(&stock->supply, 1);
            atomic_store(&stock->failed, true);
            sem_post(&pool->arrived);
        }
    }
    return NULL;
}

/* Orders what is missing up to the high mark, once the supply is under the low one. */
static void order(struct key_pool *pool, struct stock *stock)
{
    int missing = stock->high - atomic_load(&stock->supply);

    if (!stock->active || atomic_load(&stock->supply) >= stock->low || missing <= 0)
        return;
    atomic_fetch_add(&stock->supply, missing);
    atomic_fetch_add(&stock->wanted, missing);
    for (unsigned i = 0; i < pool->maker_count; i++)
        sem_post(&pool->work);
}

/* ---- taking; the stock's lock is held ---- */

static struct leaf_key *pop(struct key_pool *pool, struct stock *stock)
{
    struct made *made;
    struct leaf_key *key;

    if (!stock->ready)
        stock->ready = atomic_exchange(&stock->fresh, NULL);
    made = stock->ready;
    if (!made)
        return NULL;
    stock->ready = made->next;
    key = made->key;
    free(made);
    atomic_fetch_sub(&stock->in_stock, 1);
    atomic_fetch_sub(&stock->supply, 1);
    order(pool, stock);
    return key;
}

/* Remembers the key as the newest of this CA, in the place of the former or of the oldest. */
static void set_newest(struct stock *stock, uint64_t ca_generation, struct leaf_key *key)
{
    struct newest *place = &stock->newest[0];

    for (size_t i = 0; i < SHARED_MAX; i++) {
        struct newest *newest = &stock->newest[i];

        if (newest->key && newest->ca_generation == ca_generation) {
            place = newest;
            break;
        }
        if (place->key && (!newest->key || newest->since_ms < place->since_ms))
            place = newest;
    }
    leaf_key_unref(place->key);
    *place = (struct newest){ca_generation, leaf_key_ref(key), clock_mono_ms(), 1};
}

/* Another reference to the newest key of this CA while it may be shared, or NULL. */
static struct leaf_key *share(struct stock *stock, uint64_t ca_generation)
{
    for (size_t i = 0; i < SHARED_MAX; i++) {
        struct newest *newest = &stock->newest[i];

        if (!newest->key || newest->ca_generation != ca_generation)
            continue;
        if (newest->leaves >= SHARE_LEAVES || clock_mono_ms() - newest->since_ms > SHARE_MS)
            return NULL;
        newest->leaves++;
        metrics_add(METRIC_KEYS_SHARED, 1);
        return leaf_key_ref(newest->key);
    }
    return NULL;
}

/* A key from the stock, or a shared one. */
static struct leaf_key *get_dear(struct key_pool *pool, struct stock *stock, uint64_t ca_generation)
{
    struct leaf_key *key = pop(pool, stock);

    if (key && pool->conf->keys_share)
        set_newest(stock, ca_generation, key);
    else if (!key && pool->conf->keys_share)
        key = share(stock, ca_generation);
    return key;
}

static enum leafd_err park(struct stock *stock, uint64_t ca_generation, int64_t deadline_ms,
                           key_pool_fn fn, void *ctx)
{
    struct waiter *waiter;

    if (atomic_load(&stock->waiting) >= WAITERS_MAX)
        return LEAFD_BUSY;
    waiter = calloc(1, sizeof(*waiter));
    if (!waiter)
        return LEAFD_NOMEM;
    waiter->ca_generation = ca_generation;
    waiter->deadline_ms = deadline_ms;
    waiter->fn = fn;
    waiter->ctx = ctx;
    *stock->last = waiter;
    stock->last = &waiter->next;
    atomic_fetch_add(&stock->waiting, 1);
    return LEAFD_AGAIN;
}

static enum leafd_err take_dear(struct key_pool *pool, struct stock *stock, uint64_t ca_generation,
                                int64_t deadline_ms, key_pool_fn fn, void *ctx,
                                struct leaf_key **ret)
{
    struct leaf_key *key = NULL;
    enum leafd_err err = LEAFD_OK;

    pthread_mutex_lock(&stock->lock);
    if (!stock->first) /* else those who wait come first */
        key = get_dear(pool, stock, ca_generation);
    else if (pool->conf->keys_share)
        key = share(stock, ca_generation);
    if (!key)
        order(pool, stock);
    if (!key)
        err = park(stock, ca_generation, deadline_ms, fn, ctx);
    pthread_mutex_unlock(&stock->lock);
    if (key) {
        *ret = key;
    } else if (err == LEAFD_AGAIN) {
        sem_post(&pool->urgent);
        sem_post(&pool->arrived); /* a new deadline */
    }
    return err;
}

static enum leafd_err take_cheap(struct key_pool *pool, struct stock *stock, struct leaf_key **ret)
{
    struct leaf_key *key;
    enum leafd_err err;

    pthread_mutex_lock(&stock->lock);
    stock->active = true;
    key = pop(pool, stock);
    if (!key)
        order(pool, stock);
    pthread_mutex_unlock(&stock->lock);
    if (key) {
        *ret = key;
        return LEAFD_OK;
    }
    err = leaf_key_make(stock->type, stock->bits, ret);
    if (!err)
        metrics_add(stock->metric, 1);
    return err;
}

enum leafd_err key_pool_take(struct key_pool *pool, enum key_type type, unsigned bits,
                             uint64_t ca_generation, int64_t deadline_ms, key_pool_fn fn, void *ctx,
                             struct leaf_key **ret)
{
    for (size_t i = 0; i < STOCK_COUNT; i++) {
        struct stock *stock = &pool->stock[i];

        if (stock->type != type || (stock->bits != 0 && stock->bits != bits))
            continue;
        return stock->waits ? take_dear(pool, stock, ca_generation, deadline_ms, fn, ctx, ret)
                            : take_cheap(pool, stock, ret);
    }
    return LEAFD_UNSUPPORTED;
}

size_t key_pool_stock(struct key_pool *pool, enum key_type type)
{
    int count = 0;

    for (size_t i = 0; i < STOCK_COUNT; i++)
        if (pool->stock[i].type == type)
            count += atomic_load(&pool->stock[i].in_stock);
    return count > 0 ? (size_t)count : 0;
}

/* ---- the usher: leads keys to those who wait, and sends away who waited too long ---- */

/* Takes those who can be served or have to go out of the line; the lock is held. */
static struct waiter *call_up(struct key_pool *pool, struct stock *stock, int64_t now_ms,
                              int64_t *ret_next_ms)
{
    struct waiter *called = NULL, **tail = &called, **link = &stock->first, *waiter;
    bool failed = atomic_exchange(&stock->failed, false);
    bool stopping = atomic_load(&pool->stopping);

    while ((waiter = *link)) {
        waiter->err = LEAFD_OK;
        if (stopping || failed)
            waiter->err = LEAFD_INTERNAL;
        else if (waiter->deadline_ms <= now_ms)
            waiter->err = LEAFD_TIMEOUT;
        else
            waiter->key = get_dear(pool, stock, waiter->ca_generation);
        if (!waiter->err && !waiter->key) {
            if (waiter->deadline_ms < *ret_next_ms)
                *ret_next_ms = waiter->deadline_ms;
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        waiter->next = NULL;
        *tail = waiter;
        tail = &waiter->next;
        atomic_fetch_sub(&stock->waiting, 1);
    }
    stock->last = link;
    return called;
}

/* Serves a stock's waiters; returns when the next of them has to go. */
static int64_t serve(struct key_pool *pool, struct stock *stock)
{
    int64_t next_ms = INT64_MAX;
    struct waiter *called;

    pthread_mutex_lock(&stock->lock);
    called = call_up(pool, stock, clock_mono_ms(), &next_ms);
    pthread_mutex_unlock(&stock->lock);
    while (called) {
        struct waiter *next = called->next;

        called->fn(called->ctx, called->err, called->key);
        free(called);
        called = next;
    }
    if (next_ms != INT64_MAX)
        sem_post(&pool->urgent);
    return next_ms;
}

static void wait_until(sem_t *sem, int64_t deadline_ms)
{
    struct timespec until = {deadline_ms / 1000, deadline_ms % 1000 * 1000000};

    if (deadline_ms == INT64_MAX)
        sem_wait(sem);
    else
        sem_clockwait(sem, CLOCK_MONOTONIC, &until);
}

static void *usher(void *arg)
{
    struct key_pool *pool = arg;

    while (!atomic_load(&pool->stopping))
        wait_until(&pool->arrived, serve(pool, &pool->stock[STOCK_RSA]));
    return NULL;
}

/* ---- life ---- */

static void stock_init(struct stock *stock, enum key_type type, unsigned bits, unsigned low,
                       unsigned high)
{
    stock->type = type;
    stock->bits = bits;
    stock->low = (int)low;
    stock->high = (int)high;
    stock->waits = type == KEY_TYPE_RSA;
    stock->metric = stock->waits ? METRIC_KEYS_MADE_RSA : METRIC_KEYS_MADE_EC;
    stock->last = &stock->first;
    pthread_mutex_init(&stock->lock, NULL);
}

static void made_free(struct made *made)
{
    while (made) {
        struct made *next = made->next;

        leaf_key_unref(made->key);
        free(made);
        made = next;
    }
}

static void stock_clear(struct stock *stock)
{
    made_free(stock->ready);
    made_free(atomic_load(&stock->fresh));
    for (size_t i = 0; i < SHARED_MAX; i++)
        leaf_key_unref(stock->newest[i].key);
    pthread_mutex_destroy(&stock->lock);
}

/* Stocks of what leaves will surely want; P-384 is stocked from the first leaf on that wants it. */
static void fill_first(struct key_pool *pool)
{
    bool any = pool->conf->leaf_key != CONF_LEAF_KEY_TYPE;
    enum key_type only = (enum key_type)pool->conf->leaf_key_type;

    for (size_t i = 0; i < STOCK_COUNT; i++) {
        struct stock *stock = &pool->stock[i];

        pthread_mutex_lock(&stock->lock);
        stock->active = any ? stock->type != KEY_TYPE_P384 : stock->type == only;
        order(pool, stock);
        pthread_mutex_unlock(&stock->lock);
    }
}

static bool start_threads(struct key_pool *pool)
{
    int processors = get_nprocs();
    unsigned makers = processors < MAKERS_MAX ? (unsigned)processors : MAKERS_MAX;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_OCTETS);
    pool->has_urgent = pthread_create(&pool->urgent_maker, &attr, make_urgently, pool) == 0;
    pool->has_usher = pthread_create(&pool->usher, &attr, usher, pool) == 0;
    while (pool->maker_count < makers &&
           pthread_create(&pool->makers[pool->maker_count], &attr, make_ahead, pool) == 0)
        pool->maker_count++;
    pthread_attr_destroy(&attr);
    return pool->has_urgent && pool->has_usher && pool->maker_count > 0;
}

enum leafd_err key_pool_new(const struct conf *conf, struct key_pool **ret)
{
    struct key_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return LEAFD_NOMEM;
    pool->conf = conf;
    sem_init(&pool->work, 0, 0);
    sem_init(&pool->urgent, 0, 0);
    sem_init(&pool->arrived, 0, 0);
    stock_init(&pool->stock[STOCK_P256], KEY_TYPE_P256, 0, conf->keys_ec_low, conf->keys_ec_high);
    stock_init(&pool->stock[STOCK_P384], KEY_TYPE_P384, 0, conf->keys_ec_low, conf->keys_ec_high);
    stock_init(&pool->stock[STOCK_RSA], KEY_TYPE_RSA, conf->leaf_rsa_bits, conf->keys_rsa_low,
               conf->keys_rsa_high);
    if (!start_threads(pool)) {
        key_pool_free(pool);
        return LEAFD_INTERNAL;
    }
    fill_first(pool);
    *ret = pool;
    return LEAFD_OK;
}

void key_pool_free(struct key_pool *pool)
{
    if (!pool)
        return;
    atomic_store(&pool->stopping, true);
    for (unsigned i = 0; i < pool->maker_count; i++)
        sem_post(&pool->work);
    sem_post(&pool->urgent);
    sem_post(&pool->arrived);
    for (unsigned i = 0; i < pool->maker_count; i++)
        pthread_join(pool->makers[i], NULL);
    if (pool->has_urgent)
        pthread_join(pool->urgent_maker, NULL);
    if (pool->has_usher)
        pthread_join(pool->usher, NULL);
    serve(pool, &pool->stock[STOCK_RSA]); /* who still waits is told so */
    for (size_t i = 0; i < STOCK_COUNT; i++)
        stock_clear(&pool->stock[i]);
    sem_destroy(&pool->work);
    sem_destroy(&pool->urgent);
    sem_destroy(&pool->arrived);
    free(pool);
}
