/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates already issued, by plan key, bounded in octets and in time. SIEVE eviction: a hit
 * sets one bit.
 *
 * Threads: every function from any thread, except _new and _free.
 * Locks:   one per shard, and behind it one over what is disowned; never held across a call out of
 *          this file. */
#pragma once

#include "issue/issued.h"

struct leaf_cache;

/* Makes an empty cache for at most `max_bytes`. The caller ends it with leaf_cache_free().
 * LEAFD_NOMEM: *ret is untouched. */
LEAFD_CHECKED enum leafd_err leaf_cache_new(size_t max_bytes, struct leaf_cache **ret);
void leaf_cache_free(struct leaf_cache *cache); /* NULL is fine */

/* The live entry for `key` (32 octets), or NULL. The caller owns one reference: issued_unref() it.
 */
struct issued *leaf_cache_get(struct leaf_cache *cache, const uint8_t key[static 32],
                              int64_t now_sec);
/* Remembers it (its own reference) in the place of an older one; drops others for room. One that is
 * larger than a shard's share is not remembered, and none of a batch that was disowned of late. */
void leaf_cache_put(struct leaf_cache *cache, const uint8_t key[static 32], struct issued *issued);
/* Forgets every leaf of these batches; the number of entries dropped. No other thread's
 * leaf_cache_put that is under way leaves one behind. */
size_t leaf_cache_disown(struct leaf_cache *cache, const uint64_t *batches, size_t count);
/* Forgets everything; the number of entries dropped. */
size_t leaf_cache_flush(struct leaf_cache *cache);
void leaf_cache_measure(struct leaf_cache *cache, size_t *ret_entries, size_t *ret_bytes);
