/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/upstream_memo.h"

#include "base/keyed_hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS = 16, BUCKETS = 128 };

struct entry {
    struct entry *chain; /* the next of its bucket */
    struct entry *newer;
    struct entry *older;
    struct upstream *upstream;
    bool visited;
};

struct shard {
    pthread_mutex_t lock;
    struct entry *bucket[BUCKETS];
    struct entry *newest;
    struct entry *oldest;
    struct entry *hand; /* where eviction goes on; NULL: at the oldest */
    size_t bytes;
};

struct upstream_memo {
    struct hash_secret secret; /* senders choose the octets that are hashed */
    size_t max_bytes;          /* of one shard */
    struct shard shard[SHARDS];
};

enum leafd_err upstream_memo_new(size_t max_bytes, struct upstream_memo **ret)
{
    struct upstream_memo *memo = calloc(1, sizeof(*memo));
    enum leafd_err err;

    if (!memo)
        return LEAFD_NOMEM;
    err = hash_secret_init(&memo->secret);
    if (err) {
        free(memo);
        return err;
    }
    memo->max_bytes = max_bytes / SHARDS;
    for (size_t i = 0; i < SHARDS; i++)
        pthread_mutex_init(&memo->shard[i].lock, NULL);
    *ret = memo;
    return LEAFD_OK;
}

static void entry_free(struct entry *entry)
{
    upstream_unref(entry->upstream);
    free(entry);
}

void upstream_memo_free(struct upstream_memo *memo)
{
    if (!memo)
        return;
    for (size_t i = 0; i < SHARDS; i++) {
        struct entry *entry = memo->shard[i].newest;

        while (entry) {
            struct entry *older = entry->older;

            entry_free(entry);
            entry = older;
        }
        pthread_mutex_destroy(&memo->shard[i].lock);
    }
    free(memo);
}

static size_t entry_size(const struct entry *entry)
{
    return sizeof(*entry) + sizeof(*entry->upstream) + entry->upstream->subject.len +
           entry->upstream->name_count * sizeof(*entry->upstream->names);
}

static struct shard *find_place(struct upstream_memo *memo, const uint8_t *sha256,
                                struct entry ***ret_bucket)
{
    uint64_t hash = keyed_hash(&memo->secret, (struct bytes){sha256, 32});
    struct shard *shard = &memo->shard[hash % SHARDS];

    *ret_bucket = &shard->bucket[hash / SHARDS % BUCKETS];
    return shard;
}

static struct entry *find_entry(struct entry *bucket, const uint8_t *sha256)
{
    while (bucket && memcmp(bucket->upstream->sha256, sha256, 32) != 0)
        bucket = bucket->chain;
    return bucket;
}

struct upstream *upstream_memo_get(struct upstream_memo *memo, const uint8_t sha256[static 32])
{
    struct entry **bucket, *entry;
    struct shard *shard = find_place(memo, sha256, &bucket);
    struct upstream *found = NULL;

    pthread_mutex_lock(&shard->lock);
    entry = find_entry(*bucket, sha256);
    if (entry) {
        entry->visited = true;
        found = upstream_ref(entry->upstream);
    }
    pthread_mutex_unlock(&shard->lock);
    return found;
}

/* Takes the entry out of its shard's list and bucket. */
static void unlink_entry(struct upstream_memo *memo, struct shard *shard, struct entry *entry)
{
    struct entry **link;

    find_place(memo, entry->upstream->sha256, &link);
    while (*link != entry)
        link = &(*link)->chain;
    *link = entry->chain;
    *(entry->newer ? &entry->newer->older : &shard->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &shard->oldest) = entry->newer;
    shard->bytes -= entry_size(entry);
}

/* The first entry from the hand on, towards the newest, that was not asked for since the hand was
 * there last (SIEVE, Zhang and others 2024). */
static struct entry *pick_victim(struct shard *shard)
{
    struct entry *entry = shard->hand ? shard->hand : shard->oldest;

    while (entry->visited) {
        entry->visited = false;
        entry = entry->newer ? entry->newer : shard->oldest;
    }
    shard->hand = entry->newer;
    return entry;
}

void upstream_memo_put(struct upstream_memo *memo, struct upstream *upstream)
{
    struct entry **bucket, *victims = NULL, *entry = calloc(1, sizeof(*entry));
    struct shard *shard;

    if (!entry)
        return;
    entry->upstream = upstream_ref(upstream);
    shard = find_place(memo, upstream->sha256, &bucket);
    pthread_mutex_lock(&shard->lock);
    if (entry_size(entry) > memo->max_bytes || find_entry(*bucket, upstream->sha256)) {
        victims = entry;
    } else {
        while (shard->bytes + entry_size(entry) > memo->max_bytes) {
            struct entry *victim = pick_victim(shard);

            unlink_entry(memo, shard, victim);
            victim->chain = victims;
            victims = victim;
        }
        entry->chain = *bucket;
        *bucket = entry;
        entry->older = shard->newest;
        *(shard->newest ? &shard->newest->newer : &shard->oldest) = entry;
        shard->newest = entry;
        shard->bytes += entry_size(entry);
    }
    pthread_mutex_unlock(&shard->lock);
    while (victims) {
        struct entry *next = victims->chain;

        entry_free(victims);
        victims = next;
    }
}

size_t upstream_memo_size(struct upstream_memo *memo)
{
    size_t bytes = 0;

    for (size_t i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&memo->shard[i].lock);
        bytes += memo->shard[i].bytes;
        pthread_mutex_unlock(&memo->shard[i].lock);
    }
    return bytes;
}
