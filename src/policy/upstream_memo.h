/* SPDX-License-Identifier: Apache-2.0 */
/* Upstream leaves that were read already, by the SHA-256 of their octets, bounded in octets; SIEVE
 * eviction (a hit sets one bit).
 *
 * Threads: every function from any thread, except _new and _free.
 * Locks:   one per shard, never held across a call out of this file. */
#pragma once

#include "policy/upstream.h"

struct upstream_memo;

/* Empty, for about `max_bytes`. The caller ends it with upstream_memo_free(). */
LEAFD_CHECKED enum leafd_err upstream_memo_new(size_t max_bytes, struct upstream_memo **ret);
void upstream_memo_free(struct upstream_memo *memo); /* NULL is fine */

/* The caller's reference, or NULL. */
struct upstream *upstream_memo_get(struct upstream_memo *memo, const uint8_t sha256[static 32]);
/* Remembers it, with a reference of its own; one that is too large for a shard is not. */
void upstream_memo_put(struct upstream_memo *memo, struct upstream *upstream);
/* Octets that are accounted for. */
size_t upstream_memo_size(struct upstream_memo *memo);
