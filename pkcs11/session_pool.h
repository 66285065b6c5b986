/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions with one token: opened when needed up to a limit, kept open, given out last in first out
 * (so that few stay warm), waited for when all are taken. The limit is learned when the token says
 * CKR_SESSION_COUNT. A session that went bad ends its generation: idle ones of the same generation
 * are not given out again.
 *
 * The token logs its user out when the last session closes, so a replacement is opened before the
 * bad one is closed, and the very last one that is open is never closed before the end.
 *
 * Threads: take, give, replace and drop from any thread.
 * Locks:   one, never held across a C_ call. */
#pragma once

#include "pkcs11/token_module.h"

struct session_pool;

struct session {
    CK_SESSION_HANDLE handle;
    uint64_t generation;
};

/* `flags` for C_OpenSession beside CKF_SERIAL_SESSION: 0 or CKF_RW_SESSION. Opens nothing yet. */
LEAFD_CHECKED enum leafd_err session_pool_new(struct token_module *module, CK_SLOT_ID slot,
                                              CK_FLAGS flags, unsigned limit,
                                              struct session_pool **ret);
/* Closes all sessions that this process has with the token, known or not, in one call. None is
 * taken any more, and the pool is only to be freed. */
void session_pool_close_all(struct session_pool *pool);
/* Closes all sessions (none is taken any more). NULL is fine. */
void session_pool_free(struct session_pool *pool);

/* A session; waits until `deadline_ms` while all are taken. LEAFD_TOKEN_UNAVAILABLE: the token
 * opens none; LEAFD_TIMEOUT: none came free. */
LEAFD_CHECKED enum leafd_err session_pool_take(struct session_pool *pool, int64_t deadline_ms,
                                               struct session *ret, struct why *why);
/* Opens one more and leaves it idle, if the limit allows; so the limit is learned ahead of need.
 * LEAFD_TOKEN_UNAVAILABLE: none is open and none can be opened. */
LEAFD_CHECKED enum leafd_err session_pool_grow(struct session_pool *pool, struct why *why);
/* Back, after it has worked. */
void session_pool_give(struct session_pool *pool, struct session session);
/* Another one for a session that failed with `rv`, which is given up. LEAFD_TOKEN_UNAVAILABLE: the
 * token opens none, and nothing is held any more. */
LEAFD_CHECKED enum leafd_err session_pool_replace(struct session_pool *pool, CK_RV rv,
                                                  int64_t deadline_ms, struct session *session,
                                                  struct why *why);
/* Gives up a session that failed with `rv`. */
void session_pool_drop(struct session_pool *pool, CK_RV rv, struct session session);

/* Uses each idle session, so that the token does not close it for that; one that is gone is given
 * up. */
void session_pool_keep_alive(struct session_pool *pool);

/* Closes idle sessions until one is left, which holds the login. */
void session_pool_keep_one(struct session_pool *pool);

/* What is known of the limit by now; at least 1. */
unsigned session_pool_limit(struct session_pool *pool);
unsigned session_pool_open_count(struct session_pool *pool);
