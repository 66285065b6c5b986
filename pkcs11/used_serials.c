/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/used_serials.h"

#include "base/keyed_hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The hashes stand in open addressing. No slot ever becomes empty again (what is removed leaves a
 * mark): when the newer table is full it becomes the older, so that the last `remembered` at least
 * are known. The pages of a table
 * are the kernel's zero page until something is written into them. */
struct used_serials {
    pthread_mutex_t lock;
    struct hash_secret secret;
    size_t remembered;
    size_t slots; /* half empty when full */
    uint64_t *newer;
    uint64_t *older;
    size_t newer_count;
};

enum { REMOVED = 2 }; /* hashes are odd */

static uint64_t *table_new(size_t slots)
{
    void *table = mmap(NULL, slots * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return table == MAP_FAILED ? NULL : table;
}

static void table_free(uint64_t *table, size_t slots)
{
    if (table)
        munmap(table, slots * sizeof(*table));
}

/* Gives the pages back to the kernel, which locked ones (mlockall) do not allow. */
static void table_empty(uint64_t *table, size_t slots)
{
    if (madvise(table, slots * sizeof(*table), MADV_DONTNEED) != 0)
        memset(table, 0, slots * sizeof(*table));
}

/* The slot that holds `hash`, or the empty one where it would go. */
static uint64_t *table_slot(uint64_t *table, size_t slots, uint64_t hash)
{
    size_t at = hash % slots;

    while (table[at] != 0 && table[at] != hash)
        at = (at + 1) % slots;
    return &table[at];
}

enum leafd_err used_serials_new(size_t remembered, struct used_serials **ret)
{
    struct used_serials *serials = calloc(1, sizeof(*serials));
    enum leafd_err err = LEAFD_NOMEM;

    if (!serials)
        return LEAFD_NOMEM;
    pthread_mutex_init(&serials->lock, NULL);
    serials->remembered = remembered;
    serials->slots = 2 * remembered;
    serials->newer = table_new(serials->slots);
    serials->older = table_new(serials->slots);
    if (serials->newer && serials->older)
        err = hash_secret_init(&serials->secret);
    if (err == LEAFD_OK)
        *ret = serials;
    else
        used_serials_free(serials);
    return err;
}

void used_serials_free(struct used_serials *serials)
{
    if (!serials)
        return;
    table_free(serials->newer, serials->slots);
    table_free(serials->older, serials->slots);
    pthread_mutex_destroy(&serials->lock);
    free(serials);
}

bool used_serials_add(struct used_serials *serials, struct bytes serial)
{
    uint64_t hash = keyed_hash(&serials->secret, serial) | 1; /* 0 is an empty slot */
    uint64_t *slot;
    bool is_new = false;

    pthread_mutex_lock(&serials->lock);
    slot = table_slot(serials->newer, serials->slots, hash);
    if (*slot == 0 && *table_slot(serials->older, serials->slots, hash) == 0) {
        *slot = hash;
        is_new = true;
        if (++serials->newer_count == serials->remembered) {
            uint64_t *emptied = serials->older;

            table_empty(emptied, serials->slots);
            serials->older = serials->newer;
            serials->newer = emptied;
            serials->newer_count = 0;
        }
    }
    pthread_mutex_unlock(&serials->lock);
    return is_new;
}

static void table_remove(uint64_t *table, size_t slots, uint64_t hash)
{
    uint64_t *slot = table_slot(table, slots, hash);

    if (*slot == hash)
        *slot = REMOVED;
}

void used_serials_remove(struct used_serials *serials, struct bytes serial)
{
    uint64_t hash = keyed_hash(&serials->secret, serial) | 1;

    pthread_mutex_lock(&serials->lock);
    table_remove(serials->newer, serials->slots, hash);
    table_remove(serials->older, serials->slots, hash);
    pthread_mutex_unlock(&serials->lock);
}
