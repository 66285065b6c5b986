/* SPDX-License-Identifier: Apache-2.0 */
/* The newest key of each CA, which more leaves of that CA may get while there is no other
 * (keys.share): for 300 s and 10000 leaves, never across CAs.
 *
 * Threads: from one at a time; the caller holds a lock. */
#pragma once

#include "issue/leaf_key.h"

/* CAs that have a newest key: all there are, and a few that were. */
enum { SHARED_KEYS_MAX = 16 };

struct shared_key {
    uint64_t ca_generation;
    struct leaf_key *key; /* NULL: a free place */
    int64_t since_ms;
    unsigned leaves;
};

/* Empty when zeroed. */
struct shared_keys {
    struct shared_key newest[SHARED_KEYS_MAX];
};

/* `key` goes into a leaf of this CA, and is its newest from now on: in the place of the former, or
 * of the CA whose newest key is the oldest. Takes a reference of its own. */
void shared_keys_put(struct shared_keys *keys, uint64_t ca_generation, struct leaf_key *key,
                     int64_t now_ms);
/* The newest key of this CA for one more leaf, counted, or NULL: there is none that may be shared.
 * One reference is the caller's. */
struct leaf_key *shared_keys_get(struct shared_keys *keys, uint64_t ca_generation, int64_t now_ms);
void shared_keys_clear(struct shared_keys *keys);
