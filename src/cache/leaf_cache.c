/* SPDX-License-Identifier: Apache-2.0 */
/* Each shard is a hash table (chained, doubled when full) and a list in order of arrival. Room is
 * made by SIEVE (Zhang et al., NSDI 2024): a hand walks the list from the oldest to the newest,
 * clears the mark of what was hit since it came by, and drops the first entry without one. */
#include "cache/leaf_cache.h"

#include "base/keyed_hash.h"
#include "base/metrics.h"
#include "base/recent_numbers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_LEN = 32, SHARDS_MAX = 16, SHARD_BYTES_MIN = 1 << 20, BUCKETS_AT_FIRST = 64 };

struct entry {
    struct entry *chain; /* next in the bucket */
    struct entry *newer;
    struct entry *older;
    struct issued *issued; /* owned reference */
    uint64_t hash;
    size_t bytes;
    bool visited;
    uint8_t key[KEY_LEN];
};

struct shard {
    pthread_mutex_t lock;
    struct entry **buckets;
    size_t bucket_count; /* a power of two */
    struct entry *newest;
    struct entry *oldest;
    struct entry *hand; /* NULL: at the oldest */
    size_t entries;
    size_t bytes;
};

struct leaf_cache {
    struct hash_secret secret;
    size_t shard_count; /* a power of two */
    size_t shard_bytes; /* what one shard may hold */
    struct shard shard[SHARDS_MAX];
    atomic_bool has_disowned; /* there is something to look up under the lock */
    pthread_mutex_t disowned_lock;
    struct recent_numbers disowned; /* batches */
};

enum leafd_err leaf_cache_new(size_t max_bytes, struct leaf_cache **ret)
{
    struct leaf_cache *cache = calloc(1, sizeof(*cache));
    enum leafd_err err = LEAFD_NOMEM;

    if (!cache)
        goto out;
    pthread_mutex_init(&cache->disowned_lock, NULL);
    err = hash_secret_init(&cache->secret);
    if (err)
        goto out;
    err = LEAFD_NOMEM;
    cache->shard_count = SHARDS_MAX;
    while (cache->shard_count > 1 && max_bytes / cache->shard_count < SHARD_BYTES_MIN)
        cache->shard_count /= 2;
    cache->shard_bytes = max_bytes / cache->shard_count;
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shard[i];

        shard->buckets = calloc(BUCKETS_AT_FIRST, sizeof(struct entry *));
        if (!shard->buckets)
            goto out;
        shard->bucket_count = BUCKETS_AT_FIRST;
        pthread_mutex_init(&shard->lock, NULL);
    }
    *ret = cache;
    cache = NULL;
    err = LEAFD_OK;
out:
    leaf_cache_free(cache);
    return err;
}

static struct shard *shard_of(struct leaf_cache *cache, uint64_t hash)
{
    return &cache->shard[hash >> 32 & (cache->shard_count - 1)];
}

static struct entry **bucket_of(struct shard *shard, uint64_t hash)
{
    return &shard->buckets[hash & (shard->bucket_count - 1)];
}

/* The link that points at the entry with this key, or at NULL. */
static struct entry **find(struct shard *shard, uint64_t hash, const uint8_t *key)
{
    struct entry **link = bucket_of(shard, hash);

    while (*link && ((*link)->hash != hash || memcmp((*link)->key, key, KEY_LEN) != 0))
        link = &(*link)->chain;
    return link;
}

static void list_push(struct shard *shard, struct entry *entry)
{
    entry->older = shard->newest;
    entry->newer = NULL;
    if (shard->newest)
        shard->newest->newer = entry;
    else
        shard->oldest = entry;
    shard->newest = entry;
}

static void list_remove(struct shard *shard, struct entry *entry)
{
    if (shard->hand == entry)
        shard->hand = entry->newer;
    if (entry->newer)
        entry->newer->older = entry->older;
    else
        shard->newest = entry->older;
    if (entry->older)
        entry->older->newer = entry->newer;
    else
        shard->oldest = entry->newer;
}

/* Takes it out of the shard and puts it before `out` for release() once the lock is open. */
static void detach(struct shard *shard, struct entry **link, struct entry **out)
{
    struct entry *entry = *link;

    *link = entry->chain;
    list_remove(shard, entry);
    shard->entries--;
    shard->bytes -= entry->bytes;
    entry->chain = *out;
    *out = entry;
}

static size_t release(struct entry *entries)
{
    size_t count = 0;

    while (entries) {
        struct entry *next = entries->chain;

        issued_unref(entries->issued);
        free(entries);
        entries = next;
        count++;
    }
    return count;
}

static void detach_one_for_room(struct shard *shard, struct entry **out)
{
    struct entry *entry = shard->hand ? shard->hand : shard->oldest;

    while (entry->visited) {
        entry->visited = false;
        entry = entry->newer ? entry->newer : shard->oldest;
    }
    shard->hand = entry; /* list_remove moves it on */
    detach(shard, find(shard, entry->hash, entry->key), out);
}

static void detach_all(struct shard *shard, struct entry **out)
{
    while (shard->oldest)
        detach(shard, find(shard, shard->oldest->hash, shard->oldest->key), out);
}

/* Chains get longer instead when there is no memory for more buckets. */
static void grow(struct shard *shard)
{
    size_t count = 2 * shard->bucket_count;
    struct entry **buckets = calloc(count, sizeof(struct entry *));

    if (!buckets)
        return;
    free(shard->buckets);
    shard->buckets = buckets;
    shard->bucket_count = count;
    for (struct entry *entry = shard->oldest; entry; entry = entry->newer) {
        struct entry **bucket = bucket_of(shard, entry->hash);

        entry->chain = *bucket;
        *bucket = entry;
    }
}

static uint64_t hash_of(struct leaf_cache *cache, const uint8_t *key)
{
    return keyed_hash(&cache->secret, (struct bytes){key, KEY_LEN});
}

struct issued *leaf_cache_get(struct leaf_cache *cache, const uint8_t key[static 32],
                              int64_t now_sec)
{
    uint64_t hash = hash_of(cache, key);
    struct shard *shard = shard_of(cache, hash);
    struct entry *stale = NULL;
    struct issued *issued = NULL;
    struct entry **link;

    pthread_mutex_lock(&shard->lock);
    link = find(shard, hash, key);
    if (*link && (*link)->issued->usable_until <= now_sec) {
        detach(shard, link, &stale);
    } else if (*link) {
        (*link)->visited = true;
        issued = issued_ref((*link)->issued);
    }
    pthread_mutex_unlock(&shard->lock);
    release(stale);
    return issued;
}

/* Under the shard's lock. What is disowned while we look is swept out of the shard afterwards. */
static bool is_disowned(struct leaf_cache *cache, uint64_t batch)
{
    bool disowned;

    if (!batch || !atomic_load_explicit(&cache->has_disowned, memory_order_acquire))
        return false;
    pthread_mutex_lock(&cache->disowned_lock);
    disowned = recent_numbers_has(&cache->disowned, batch);
    pthread_mutex_unlock(&cache->disowned_lock);
    return disowned;
}

void leaf_cache_put(struct leaf_cache *cache, const uint8_t key[static 32], struct issued *issued)
{
    uint64_t hash = hash_of(cache, key);
    struct shard *shard = shard_of(cache, hash);
    /* Two bucket pointers: a table is at least half full once it has grown. */
    size_t bytes = sizeof(struct entry) + 2 * sizeof(struct entry *) + issued_size(issued);
    struct entry *entry = bytes <= cache->shard_bytes ? calloc(1, sizeof(*entry)) : NULL;
    struct entry *replaced = NULL;
    struct entry *dropped = NULL;
    struct entry **link;

    if (!entry)
        return;
    *entry = (struct entry){.issued = issued_ref(issued), .hash = hash, .bytes = bytes};
    memcpy(entry->key, key, KEY_LEN);
    pthread_mutex_lock(&shard->lock);
    if (is_disowned(cache, issued->batch)) {
        pthread_mutex_unlock(&shard->lock);
        release(entry);
        return;
    }
    link = find(shard, hash, key);
    if (*link)
        detach(shard, link, &replaced);
    while (shard->bytes + bytes > cache->shard_bytes)
        detach_one_for_room(shard, &dropped);
    if (shard->entries >= shard->bucket_count)
        grow(shard);
    link = bucket_of(shard, hash);
    entry->chain = *link;
    *link = entry;
    list_push(shard, entry);
    shard->entries++;
    shard->bytes += bytes;
    pthread_mutex_unlock(&shard->lock);
    release(replaced);
    if (dropped)
        metrics_add(METRIC_CACHE_EVICTED, release(dropped));
}

static void detach_batches(struct shard *shard, const struct recent_numbers *batches,
                           struct entry **out)
{
    struct entry *entry = shard->oldest;

    while (entry) {
        struct entry *newer = entry->newer;

        if (entry->issued->batch && recent_numbers_has(batches, entry->issued->batch))
            detach(shard, find(shard, entry->hash, entry->key), out);
        entry = newer;
    }
}

/* First nothing more comes in, then what is in goes out. */
size_t leaf_cache_disown(struct leaf_cache *cache, const uint64_t *batches, size_t count)
{
    struct recent_numbers wanted = {.count = 0};
    size_t dropped = 0;

    pthread_mutex_lock(&cache->disowned_lock);
    for (size_t i = 0; i < count; i++) {
        recent_numbers_add(&wanted, batches[i]);
        recent_numbers_add(&cache->disowned, batches[i]);
    }
    pthread_mutex_unlock(&cache->disowned_lock);
    atomic_store(&cache->has_disowned, true);
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shard[i];
        struct entry *gone = NULL;

        pthread_mutex_lock(&shard->lock);
        detach_batches(shard, &wanted, &gone);
        pthread_mutex_unlock(&shard->lock);
        dropped += release(gone);
    }
    metrics_add(METRIC_CACHE_DISOWNED, dropped);
    return dropped;
}

size_t leaf_cache_flush(struct leaf_cache *cache)
{
    size_t count = 0;

    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shard[i];
        struct entry *all = NULL;

        pthread_mutex_lock(&shard->lock);
        detach_all(shard, &all);
        pthread_mutex_unlock(&shard->lock);
        count += release(all);
    }
    return count;
}

void leaf_cache_measure(struct leaf_cache *cache, size_t *ret_entries, size_t *ret_bytes)
{
    size_t entries = 0;
    size_t bytes = 0;

    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shard[i];

        pthread_mutex_lock(&shard->lock);
        entries += shard->entries;
        bytes += shard->bytes;
        pthread_mutex_unlock(&shard->lock);
    }
    *ret_entries = entries;
    *ret_bytes = bytes;
}

void leaf_cache_free(struct leaf_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shard[i];
        struct entry *all = NULL;

        if (!shard->buckets)
            continue;
        detach_all(shard, &all);
        release(all);
        free(shard->buckets);
        pthread_mutex_destroy(&shard->lock);
    }
    pthread_mutex_destroy(&cache->disowned_lock);
    free(cache);
}
