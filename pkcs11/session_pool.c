/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/session_pool.h"

#include "base/clock.h"
#include "base/cond.h"

#include <stdlib.h>

struct session_pool {
    struct token_module *module;
    CK_SLOT_ID slot;
    CK_FLAGS flags;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    uint64_t generation;
    unsigned limit;
    unsigned open; /* sessions that exist, or are being opened or closed */
    unsigned idle_count;
    unsigned live_count;
    struct session *idle;    /* stack: all of an old generation lie below the present one's */
    CK_SESSION_HANDLE *live; /* handles that are ours now, idle or taken, and not being closed */
};

enum leafd_err session_pool_new(struct token_module *module, CK_SLOT_ID slot, CK_FLAGS flags,
                                unsigned limit, struct session_pool **ret)
{
    struct session_pool *pool = calloc(1, sizeof(*pool));

    if (!pool)
        return LEAFD_NOMEM;
    pool->module = module;
    pool->slot = slot;
    pool->flags = flags;
    pool->limit = limit ? limit : 1;
    pool->generation = 1;
    pool->idle = calloc(pool->limit, sizeof(*pool->idle));
    pool->live = calloc(pool->limit, sizeof(*pool->live));
    if (!pool->idle || !pool->live) {
        free(pool->idle);
        free(pool->live);
        free(pool);
        return LEAFD_NOMEM;
    }
    pthread_mutex_init(&pool->lock, NULL);
    cond_init(&pool->freed);
    *ret = pool;
    return LEAFD_OK;
}

void session_pool_close_all(struct session_pool *pool)
{
    (void)TOKEN_CALL(pool->module, C_CloseAllSessions, pool->slot);
    pool->live_count = 0;
}

void session_pool_free(struct session_pool *pool)
{
    if (!pool)
        return;
    for (unsigned i = 0; i < pool->live_count; i++)
        (void)TOKEN_CALL(pool->module, C_CloseSession, pool->live[i]);
    pthread_cond_destroy(&pool->freed);
    pthread_mutex_destroy(&pool->lock);
    free(pool->idle);
    free(pool->live);
    free(pool);
}

/* ---- with the lock held ---- */

static void live_add(struct session_pool *pool, CK_SESSION_HANDLE handle)
{
    pool->live[pool->live_count++] = handle;
}

/* Takes one entry out, before its session is closed; true when no other session of ours has this
 * number (a module may give the number of a session it has lost to a new one, which closing the old
 * one would hit). */
static bool live_remove(struct session_pool *pool, CK_SESSION_HANDLE handle)
{
    unsigned same = 0;
    unsigned at = pool->live_count;

    for (unsigned i = 0; i < pool->live_count; i++) {
        if (pool->live[i] == handle) {
            at = i;
            same++;
        }
    }
    if (at < pool->live_count)
        pool->live[at] = pool->live[--pool->live_count];
    return same == 1;
}

/* It holds the login, so it is not closed: those that are still being opened may come too late. */
static bool is_last(const struct session_pool *pool)
{
    return pool->live_count == 1;
}

static void end_generation(struct session_pool *pool, struct session session)
{
    if (session.generation == pool->generation)
        pool->generation++;
}

/* ---- calls to the module, without the lock ---- */

/* One place is already counted in pool->open. */
static CK_RV open_session(struct session_pool *pool, uint64_t generation, struct session *ret)
{
    CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = TOKEN_CALL(pool->module, C_OpenSession, pool->slot, CKF_SERIAL_SESSION | pool->flags,
                          NULL, NULL, &handle);

    pthread_mutex_lock(&pool->lock);
    if (rv == CKR_OK) {
        live_add(pool, handle);
        *ret = (struct session){handle, generation};
    } else {
        pool->open--;
        /* With none of ours open, others hold them all: that is no limit of ours. */
        if (rv == CKR_SESSION_COUNT && pool->open >= 1 && pool->open < pool->limit)
            pool->limit = pool->open;
        pthread_cond_signal(&pool->freed);
    }
    pthread_mutex_unlock(&pool->lock);
    return rv;
}

/* Of one that is not live any more. Also ends its place. */
static void close_session(struct session_pool *pool, CK_SESSION_HANDLE handle, bool exists)
{
    if (exists)
        (void)TOKEN_CALL(pool->module, C_CloseSession, handle);
    pthread_mutex_lock(&pool->lock);
    pool->open--;
    pthread_cond_signal(&pool->freed);
    pthread_mutex_unlock(&pool->lock);
}

static bool is_lost(CK_RV rv)
{
    return rv == CKR_SESSION_HANDLE_INVALID || rv == CKR_SESSION_CLOSED;
}

static enum leafd_err fail_open(struct why *why, CK_RV rv)
{
    if (rv == CKR_SESSION_COUNT)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "the token opens no session: others hold all it has (CKR_SESSION_COUNT)");
    return fail(why, LEAFD_TOKEN_UNAVAILABLE, "C_OpenSession: %s", ckr_name(rv));
}

/* The idle session that has not been used for longest. */
static struct session pop_oldest(struct session_pool *pool)
{
    struct session oldest = pool->idle[0];

    pool->idle_count--;
    for (unsigned i = 0; i < pool->idle_count; i++)
        pool->idle[i] = pool->idle[i + 1];
    return oldest;
}

/* Closes it and comes back with the lock. */
static void close_oldest(struct session_pool *pool)
{
    CK_SESSION_HANDLE handle = pop_oldest(pool).handle;
    bool exists = live_remove(pool, handle);

    pthread_mutex_unlock(&pool->lock);
    close_session(pool, handle, exists);
    pthread_mutex_lock(&pool->lock);
}

/* ---- public ---- */

enum leafd_err session_pool_take(struct session_pool *pool, int64_t deadline_ms,
                                 struct session *ret, struct why *why)
{
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        struct session *top = pool->idle_count ? &pool->idle[pool->idle_count - 1] : NULL;

        if (top && top->generation == pool->generation) {
            *ret = *top;
            pool->idle_count--;
            pthread_mutex_unlock(&pool->lock);
            return LEAFD_OK;
        }
        if (pool->open < pool->limit) {
            uint64_t generation = pool->generation;
            CK_RV rv;

            pool->open++;
            pthread_mutex_unlock(&pool->lock);
            rv = open_session(pool, generation, ret);
            if (rv == CKR_OK)
                return LEAFD_OK;
            pthread_mutex_lock(&pool->lock);
            /* The limit has just been learned: queue for what there is. */
            if (rv == CKR_SESSION_COUNT && pool->open >= 1)
                continue;
            pthread_mutex_unlock(&pool->lock);
            return fail_open(why, rv);
        }
        if (top && is_last(pool)) {
            top->generation = pool->generation; /* it is tried again */
            continue;
        }
        if (top) { /* of an old generation, as all that are idle: makes room */
            close_oldest(pool);
            continue;
        }
        if (clock_mono_ms() >= deadline_ms ||
            !cond_wait_until(&pool->freed, &pool->lock, deadline_ms)) {
            if (pool->idle_count)
                continue;
            pthread_mutex_unlock(&pool->lock);
            return fail(why, LEAFD_TIMEOUT, "all %u sessions with the token are busy", pool->limit);
        }
    }
}

void session_pool_give(struct session_pool *pool, struct session session)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->idle_count && pool->idle[0].generation != pool->generation)
        close_oldest(pool);
    /* It has just worked: whatever ended its generation did not end this one. */
    session.generation = pool->generation;
    pool->idle[pool->idle_count++] = session;
    pthread_cond_signal(&pool->freed);
    pthread_mutex_unlock(&pool->lock);
}

void session_pool_drop(struct session_pool *pool, CK_RV rv, struct session session)
{
    bool exists;

    pthread_mutex_lock(&pool->lock);
    end_generation(pool, session);
    if (is_last(pool) && !is_lost(rv)) {
        session.generation = pool->generation;
        pool->idle[pool->idle_count++] = session;
        pthread_cond_signal(&pool->freed);
        pthread_mutex_unlock(&pool->lock);
        return;
    }
    exists = live_remove(pool, session.handle) && !is_lost(rv);
    pthread_mutex_unlock(&pool->lock);
    close_session(pool, session.handle, exists);
}

enum leafd_err session_pool_replace(struct session_pool *pool, CK_RV rv, int64_t deadline_ms,
                                    struct session *session, struct why *why)
{
    struct session old = *session;
    uint64_t generation;
    bool room, opened;
    bool exists = !is_lost(rv);

    pthread_mutex_lock(&pool->lock);
    end_generation(pool, old);
    generation = pool->generation;
    if (!exists)
        (void)live_remove(pool, old.handle);
    room = pool->open < pool->limit;
    if (room)
        pool->open++;
    pthread_mutex_unlock(&pool->lock);
    opened = room && open_session(pool, generation, session) == CKR_OK;

    pthread_mutex_lock(&pool->lock);
    if (exists && !opened && is_last(pool)) {
        session->generation = generation;
        pthread_mutex_unlock(&pool->lock);
        return LEAFD_OK;
    }
    exists = exists && live_remove(pool, old.handle);
    pthread_mutex_unlock(&pool->lock);
    close_session(pool, old.handle, exists);
    if (opened)
        return LEAFD_OK;
    return session_pool_take(pool, deadline_ms, session, why) == LEAFD_OK
               ? LEAFD_OK
               : fail_in(why, LEAFD_TOKEN_UNAVAILABLE, "no session to try again with");
}

enum leafd_err session_pool_grow(struct session_pool *pool, struct why *why)
{
    struct session session;
    uint64_t generation;
    bool room;
    CK_RV rv;

    pthread_mutex_lock(&pool->lock);
    generation = pool->generation;
    room = pool->open < pool->limit;
    if (room)
        pool->open++;
    pthread_mutex_unlock(&pool->lock);
    if (!room)
        return LEAFD_OK;
    rv = open_session(pool, generation, &session);
    if (rv == CKR_OK) {
        session_pool_give(pool, session);
        return LEAFD_OK;
    }
    return session_pool_open_count(pool) ? LEAFD_OK : fail_open(why, rv);
}

static bool take_oldest(struct session_pool *pool, struct session *ret)
{
    bool taken;

    pthread_mutex_lock(&pool->lock);
    taken = pool->idle_count && pool->idle[0].generation == pool->generation;
    if (taken)
        *ret = pop_oldest(pool);
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

void session_pool_keep_alive(struct session_pool *pool)
{
    unsigned count = session_pool_open_count(pool);
    struct session session;

    while (count-- && take_oldest(pool, &session)) {
        CK_SESSION_INFO info;
        CK_RV rv = TOKEN_CALL(pool->module, C_GetSessionInfo, session.handle, &info);

        if (rv == CKR_OK)
            session_pool_give(pool, session);
        else
            session_pool_drop(pool, rv, session);
    }
}

void session_pool_keep_one(struct session_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->idle_count && !is_last(pool))
        close_oldest(pool);
    pthread_mutex_unlock(&pool->lock);
}

unsigned session_pool_limit(struct session_pool *pool)
{
    unsigned limit;

    pthread_mutex_lock(&pool->lock);
    limit = pool->limit;
    pthread_mutex_unlock(&pool->lock);
    return limit;
}

unsigned session_pool_open_count(struct session_pool *pool)
{
    unsigned open;

    pthread_mutex_lock(&pool->lock);
    open = pool->open;
    pthread_mutex_unlock(&pool->lock);
    return open;
}
