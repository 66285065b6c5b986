/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/shared_keys.h"

#include "base/metrics.h"

enum { SHARE_MS = 300 * 1000, SHARE_LEAVES = 10000 };

void shared_keys_put(struct shared_keys *keys, uint64_t ca_generation, struct leaf_key *key,
                     int64_t now_ms)
{
    struct shared_key *place = &keys->newest[0];

    for (size_t i = 0; i < SHARED_KEYS_MAX; i++) {
        struct shared_key *newest = &keys->newest[i];

        if (newest->key && newest->ca_generation == ca_generation) {
            place = newest;
            break;
        }
        if (place->key && (!newest->key || newest->since_ms < place->since_ms))
            place = newest;
    }
    leaf_key_unref(place->key);
    *place = (struct shared_key){ca_generation, leaf_key_ref(key), now_ms, 1};
}

struct leaf_key *shared_keys_get(struct shared_keys *keys, uint64_t ca_generation, int64_t now_ms)
{
    for (size_t i = 0; i < SHARED_KEYS_MAX; i++) {
        struct shared_key *newest = &keys->newest[i];

        if (!newest->key || newest->ca_generation != ca_generation)
            continue;
        if (newest->leaves >= SHARE_LEAVES || now_ms - newest->since_ms > SHARE_MS)
            return NULL;
        newest->leaves++;
        metrics_add(METRIC_KEYS_SHARED, 1);
        return leaf_key_ref(newest->key);
    }
    return NULL;
}

void shared_keys_clear(struct shared_keys *keys)
{
    for (size_t i = 0; i < SHARED_KEYS_MAX; i++)
        leaf_key_unref(keys->newest[i].key);
    *keys = (struct shared_keys){0};
}
