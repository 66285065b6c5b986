/* SPDX-License-Identifier: Apache-2.0 */
/* Leaf keys made ahead by threads of least priority, one stock per type and RSA size between a low
 * and a high mark. A stock that the configuration does not surely need is empty until a leaf wants
 * such a key.
 *
 * Threads: every function from any thread, except _new and _free.
 * Locks:   one per stock, never held across a call out of this file. */
#pragma once

#include "conf/conf.h"
#include "issue/leaf_key.h"

#include <stddef.h>

struct key_pool;

/* Starts the maker threads; the first fill does not delay. Borrows `conf` for its life. */
LEAFD_CHECKED enum leafd_err key_pool_new(const struct conf *conf, struct key_pool **ret);
/* Ends the threads (an RSA key under way is given up); those who still wait are called with
 * LEAFD_INTERNAL. */
void key_pool_free(struct key_pool *pool);

/* Called once for a key_pool_take() that said LEAFD_AGAIN: with LEAFD_OK and a key (one reference
 * is the callee's), or with LEAFD_TIMEOUT, LEAFD_BUSY or LEAFD_INTERNAL and NULL. On a maker
 * thread; must be quick. */
typedef void (*key_pool_fn)(void *ctx, enum leafd_err err, struct leaf_key *key);

/* A key of this type (and for RSA this size) for a leaf of this CA. LEAFD_OK: *ret is set, one
 * reference is the caller's. LEAFD_AGAIN: none now, `fn` will be called before or soon after
 * `deadline_ms`. An RSA key may be shared (keys.share) within 300 s and 10000 leaves, never across
 * CAs; with keys.rsa_match: best-effort it has 2048 bits while there is none of a larger size, so
 * look at key->bits. Every other key is never shared: with an empty stock one is made at once,
 * here. LEAFD_BUSY: too many wait. LEAFD_UNSUPPORTED: a type or size that nobody makes. */
LEAFD_CHECKED enum leafd_err key_pool_take(struct key_pool *pool, enum key_type type, unsigned bits,
                                           uint64_t ca_generation, int64_t deadline_ms,
                                           key_pool_fn fn, void *ctx, struct leaf_key **ret);
/* Keys of this type and size in stock, for status. */
size_t key_pool_stock(struct key_pool *pool, enum key_type type, unsigned bits);
