/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sem_clockwait */
#include "issue/key_pool.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "issue/shared_keys.h"
#include "policy/leaf_type.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>

enum {
    MAKERS_MAX = 4,
    WAITERS_MAX = 8192,
    NICE_LEAST = 19,
    STACK_OCTETS = 512 << 10 /* callbacks write leaves on the usher's stack */
};

/* A key on its way from a maker to those who take. */
struct made {
    struct leaf_key *key;
    struct made *next;
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
    struct key_pool *pool;
    const struct leaf_type *type;
    int low, high;
    bool is_sure; /* leaves will want such keys, by the configuration alone */
    bool waits;   /* dear to make: who finds none waits, shares, or takes a smaller one */
    enum metric metric;

    _Atomic(struct made *) fresh; /* made, not yet looked at; newest first */
    _Atomic int wanted;           /* to be made by idle threads */
    _Atomic int supply;           /* in stock, being made, or wanted */
    _Atomic int in_stock;
    _Atomic int waiting;
    _Atomic bool missed; /* somebody took a smaller key instead */
    _Atomic bool failed; /* a key could not be made although somebody waits */

    sem_t urgent; /* `waits`: for the maker of normal priority; somebody waits, or missed one */
    pthread_t urgent_maker;
    bool has_urgent;

    pthread_mutex_t lock; /* all that follows */
    bool active;          /* somebody asked, or will */
    struct made *ready;
    struct waiter *first, **last;
    struct shared_keys shared;
};

struct key_pool {
    const struct conf *conf;
    struct stock stock[LEAF_TYPE_COUNT]; /* one for each row of leaf_types, in their order */
    _Atomic bool stopping;
    sem_t work;    /* for the idle makers: something is wanted */
    sem_t arrived; /* for the usher: a key, a waiter, or the end */
    pthread_t makers[MAKERS_MAX];
    unsigned maker_count;
    pthread_t usher;
    bool has_usher;
};

/* The stock of this type and size, or NULL. */
static struct stock *stock_of(struct key_pool *pool, enum key_type type, unsigned bits)
{
    const struct leaf_type *leaf = leaf_type_find(type, bits);

    return leaf ? &pool->stock[leaf - leaf_types] : NULL;
}

/* ---- making ---- */

/* Makes one and hands it over. */
static enum leafd_err make_one(struct key_pool *pool, struct stock *stock)
{
    struct made *made = calloc(1, sizeof(*made));
    enum leafd_err err = LEAFD_NOMEM;

    if (!made)
        return err;
    err = leaf_key_make_unless(&pool->stopping, stock->type->type, stock->type->bits, &made->key);
    if (err) {
        free(made);
        return err;
    }
    metrics_add(stock->metric, 1);
    made->next = atomic_load(&stock->fresh);
    while (!atomic_compare_exchange_weak(&stock->fresh, &made->next, made))
        ;
    atomic_fetch_add(&stock->in_stock, 1); /* who counts on it finds it */
    if (atomic_load(&stock->waiting) > 0)
        sem_post(&pool->arrived);
    return LEAFD_OK;
}

/* One of the wanted keys, for the thread that calls; the quick ones first. */
static struct stock *claim(struct key_pool *pool)
{
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        int wanted = atomic_load(&pool->stock[i].wanted);

        while (wanted > 0)
            if (atomic_compare_exchange_weak(&pool->stock[i].wanted, &wanted, wanted - 1))
                return &pool->stock[i];
    }
    return NULL;
}

/* What a thread does once and under locks of other libraries (their set-up, random numbers, the
 * counters) is done before it is idle, or everybody might wait for it there. */
static void warm_up(const struct key_pool *pool)
{
    static const _Atomic bool give_up = true;
    struct leaf_key *key = NULL;

    metrics_add(METRIC_KEYS_MADE_EC, 0);
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        const struct leaf_type *leaf = &leaf_types[i];
        bool needed = leaf->type == KEY_TYPE_P256 || leaf->bits == LEAF_RSA_BITS_MIN ||
                      pool->stock[i].is_sure;

        if (needed && leaf_key_make_unless(&give_up, leaf->type, leaf->bits, &key) == LEAFD_OK)
            leaf_key_unref(key);
    }
}

static void *make_ahead(void *arg)
{
    struct key_pool *pool = arg;
    struct stock *stock;

    warm_up(pool);
    /* For this thread alone. Not SCHED_IDLE: where all processors are busy a thread of that class
     * needs many seconds to end, and so does its process, even when it is killed. */
    setpriority(PRIO_PROCESS, 0, NICE_LEAST);
    while (!atomic_load(&pool->stopping)) {
        stock = claim(pool);
        if (!stock)
            sem_wait(&pool->work);
        else if (make_one(pool, stock))
            atomic_fetch_sub(&stock->supply, 1); /* taken up again with the next order */
    }
    return NULL;
}

/* A key at a time, at normal priority, while somebody waits for one or has to do with a smaller
 * one: an idle thread starves on a busy machine. */
static void *make_urgently(void *arg)
{
    struct stock *stock = arg;
    struct key_pool *pool = stock->pool;

    while (!atomic_load(&pool->stopping)) {
        bool missed;

        sem_wait(&stock->urgent);
        missed = atomic_exchange(&stock->missed, false);
        if (atomic_load(&pool->stopping) || (atomic_load(&stock->waiting) == 0 && !missed) ||
            atomic_load(&stock->in_stock) > 0)
            continue; /* the usher asks again if that key was not enough */
        atomic_fetch_add(&stock->supply, 1);
        if (make_one(pool, stock)) {
            atomic_fetch_sub(&stock->supply, 1);
            atomic_store(&stock->failed, atomic_load(&stock->waiting) > 0);
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

/* A key from the stock, or a shared one. */
static struct leaf_key *get_dear(struct key_pool *pool, struct stock *stock, uint64_t ca_generation)
{
    struct leaf_key *key = pop(pool, stock);

    if (key && pool->conf->keys_share)
        shared_keys_put(&stock->shared, ca_generation, key, clock_mono_ms());
    else if (!key && pool->conf->keys_share)
        key = shared_keys_get(&stock->shared, ca_generation, clock_mono_ms());
    return key;
}

/* Half of the leaves under way may wait for keys: were it all of them, those with quick keys would
 * be turned away. */
static bool is_crowded(struct key_pool *pool)
{
    unsigned most = pool->conf->flights_max > 1 ? pool->conf->flights_max / 2 : 1, waiting = 0;

    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        waiting += (unsigned)atomic_load(&pool->stock[i].waiting);
    return waiting >= (most < WAITERS_MAX ? most : WAITERS_MAX);
}

static enum leafd_err park(struct stock *stock, uint64_t ca_generation, int64_t deadline_ms,
                           key_pool_fn fn, void *ctx)
{
    struct waiter *waiter;

    if (is_crowded(stock->pool))
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

/* A key of this size now, or NULL; then more are made. */
static struct leaf_key *take_now(struct key_pool *pool, struct stock *stock, uint64_t ca_generation)
{
    struct leaf_key *key = NULL;

    pthread_mutex_lock(&stock->lock);
    stock->active = true;
    if (!stock->first) /* else those who wait come first */
        key = get_dear(pool, stock, ca_generation);
    else if (pool->conf->keys_share)
        key = shared_keys_get(&stock->shared, ca_generation, clock_mono_ms());
    if (!key)
        order(pool, stock);
    pthread_mutex_unlock(&stock->lock);
    return key;
}

static enum leafd_err take_dear(struct key_pool *pool, struct stock *stock, uint64_t ca_generation,
                                int64_t deadline_ms, key_pool_fn fn, void *ctx,
                                struct leaf_key **ret)
{
    struct leaf_key *key = take_now(pool, stock, ca_generation);
    enum leafd_err err;

    if (key) {
        *ret = key;
        return LEAFD_OK;
    }
    pthread_mutex_lock(&stock->lock);
    err = park(stock, ca_generation, deadline_ms, fn, ctx);
    pthread_mutex_unlock(&stock->lock);
    if (err == LEAFD_AGAIN) {
        sem_post(&stock->urgent);
        sem_post(&pool->arrived); /* a new deadline, or a key that came between */
    }
    return err;
}

/* keys.rsa_match: best-effort. The smallest size is the one that others give way to. */
static bool gives_way(const struct key_pool *pool, const struct stock *stock)
{
    return pool->conf->keys_rsa_match == CONF_RSA_MATCH_BEST_EFFORT &&
           stock->type->bits > LEAF_RSA_BITS_MIN;
}

/* Nobody waits for this key, yet one is made for those who come next. */
static void miss(struct stock *stock)
{
    metrics_add(METRIC_KEYS_GAVE_WAY, 1);
    if (!atomic_exchange(&stock->missed, true))
        sem_post(&stock->urgent);
}

/* The first key of a rare type is made by who asks and not by an idle thread: what is set up with
 * it in OpenSSL is set up under locks. */
static enum leafd_err take_cheap(struct key_pool *pool, struct stock *stock, struct leaf_key **ret)
{
    struct leaf_key *key;
    enum leafd_err err;

    pthread_mutex_lock(&stock->lock);
    key = pop(pool, stock);
    pthread_mutex_unlock(&stock->lock);
    if (key) {
        *ret = key;
        return LEAFD_OK;
    }
    err = leaf_key_make(stock->type->type, stock->type->bits, ret);
    if (!err)
        metrics_add(stock->metric, 1);
    pthread_mutex_lock(&stock->lock);
    stock->active = true;
    order(pool, stock);
    pthread_mutex_unlock(&stock->lock);
    return err;
}

enum leafd_err key_pool_take(struct key_pool *pool, enum key_type type, unsigned bits,
                             uint64_t ca_generation, int64_t deadline_ms, key_pool_fn fn, void *ctx,
                             struct leaf_key **ret)
{
    struct stock *stock = stock_of(pool, type, bits);

    if (!stock)
        return LEAFD_UNSUPPORTED;
    if (!stock->waits)
        return take_cheap(pool, stock, ret);
    if (gives_way(pool, stock)) {
        struct leaf_key *key = take_now(pool, stock, ca_generation);

        if (key) {
            *ret = key;
            return LEAFD_OK;
        }
        miss(stock);
        stock = stock_of(pool, type, LEAF_RSA_BITS_MIN);
    }
    return take_dear(pool, stock, ca_generation, deadline_ms, fn, ctx, ret);
}

size_t key_pool_stock(struct key_pool *pool, enum key_type type, unsigned bits)
{
    struct stock *stock = stock_of(pool, type, bits);
    int count = stock ? atomic_load(&stock->in_stock) : 0;

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
        sem_post(&stock->urgent);
    return next_ms;
}

/* Those of all sizes. */
static int64_t serve_all(struct key_pool *pool)
{
    int64_t next_ms = INT64_MAX;

    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        int64_t one_ms = INT64_MAX;

        if (pool->stock[i].waits)
            one_ms = serve(pool, &pool->stock[i]);
        if (one_ms < next_ms)
            next_ms = one_ms;
    }
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
        wait_until(&pool->arrived, serve_all(pool));
    return NULL;
}

/* ---- life ---- */

static bool is_surely_wanted(const struct conf *conf, const struct leaf_type *leaf)
{
    bool follows = conf->leaf_key != CONF_LEAF_KEY_TYPE;

    if (leaf->type != KEY_TYPE_RSA)
        return follows ? leaf->type == KEY_TYPE_P256
                       : leaf->type == (enum key_type)conf->leaf_key_type;
    if (!follows && conf->leaf_key_type != KEY_TYPE_RSA)
        return false;
    if (conf->leaf_key == CONF_LEAF_KEY_UPSTREAM)
        return leaf->bits == LEAF_RSA_BITS_MIN;
    return leaf->bits == conf->leaf_rsa_bits ||
           (leaf->bits == LEAF_RSA_BITS_MIN && conf->keys_rsa_match == CONF_RSA_MATCH_BEST_EFFORT);
}

static void stock_init(struct key_pool *pool, size_t index)
{
    struct stock *stock = &pool->stock[index];
    const struct conf *conf = pool->conf;

    stock->pool = pool;
    stock->type = &leaf_types[index];
    stock->is_sure = stock->active = is_surely_wanted(conf, stock->type);
    stock->waits = stock->type->type == KEY_TYPE_RSA;
    stock->low = (int)(stock->waits ? conf->keys_rsa_low : conf->keys_ec_low);
    stock->high = (int)(stock->waits ? conf->keys_rsa_high : conf->keys_ec_high);
    stock->metric = stock->waits ? METRIC_KEYS_MADE_RSA
                    : stock->type->type == KEY_TYPE_ED25519 || stock->type->type == KEY_TYPE_ED448
                        ? METRIC_KEYS_MADE_EDDSA
                        : METRIC_KEYS_MADE_EC;
    stock->last = &stock->first;
    sem_init(&stock->urgent, 0, 0);
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
    shared_keys_clear(&stock->shared);
    sem_destroy(&stock->urgent);
    pthread_mutex_destroy(&stock->lock);
}

/* All other keys are stocked from the first leaf on that wants one. */
static void fill_first(struct key_pool *pool)
{
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        struct stock *stock = &pool->stock[i];

        pthread_mutex_lock(&stock->lock);
        order(pool, stock);
        pthread_mutex_unlock(&stock->lock);
    }
}

static bool start_threads(struct key_pool *pool)
{
    int processors = get_nprocs();
    unsigned makers = processors < MAKERS_MAX ? (unsigned)processors : MAKERS_MAX;
    bool good;
    pthread_attr_t attr;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_OCTETS);
    good = pool->has_usher = pthread_create(&pool->usher, &attr, usher, pool) == 0;
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        struct stock *stock = &pool->stock[i];

        if (stock->waits)
            good &= stock->has_urgent =
                pthread_create(&stock->urgent_maker, &attr, make_urgently, stock) == 0;
    }
    while (pool->maker_count < makers &&
           pthread_create(&pool->makers[pool->maker_count], &attr, make_ahead, pool) == 0)
        pool->maker_count++;
    pthread_attr_destroy(&attr);
    return good && pool->maker_count > 0;
}

enum leafd_err key_pool_new(const struct conf *conf, struct key_pool **ret)
{
    struct key_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return LEAFD_NOMEM;
    pool->conf = conf;
    sem_init(&pool->work, 0, 0);
    sem_init(&pool->arrived, 0, 0);
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        stock_init(pool, i);
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
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        sem_post(&pool->stock[i].urgent);
    sem_post(&pool->arrived);
    for (unsigned i = 0; i < pool->maker_count; i++)
        pthread_join(pool->makers[i], NULL);
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        if (pool->stock[i].has_urgent)
            pthread_join(pool->stock[i].urgent_maker, NULL);
    if (pool->has_usher)
        pthread_join(pool->usher, NULL);
    serve_all(pool); /* who still waits is told so */
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        stock_clear(&pool->stock[i]);
    sem_destroy(&pool->work);
    sem_destroy(&pool->arrived);
    free(pool);
}
