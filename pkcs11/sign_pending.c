/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/sign_pending.h"

#include <stdlib.h>

/* A wheel of time: an entry is in the slot of the tick it is due in, whichever turn of the wheel
 * that is. One turn is ten seconds, three times what requests usually may wait. */
enum { SLOTS = 512 };

struct sign_pending {
    struct sign_entry *entry; /* max of them */
    size_t max;
    size_t top; /* places from here on were never used */
    size_t count;
    LIST_HEAD(, sign_entry) unused; /* last given back, first used again */
    LIST_HEAD(, sign_entry) slot[SLOTS];
    TAILQ_HEAD(, sign_entry) held;
    int64_t tick; /* the next one to look at */
};

enum leafd_err sign_pending_new(size_t max, struct sign_pending **ret)
{
    struct sign_pending *pending = calloc(1, sizeof(*pending));

    if (!pending || max == 0 || max > UINT32_MAX)
        goto nomem;
    pending->entry = calloc(max, sizeof(*pending->entry));
    if (!pending->entry)
        goto nomem;
    pending->max = max;
    LIST_INIT(&pending->unused);
    for (size_t i = 0; i < SLOTS; i++)
        LIST_INIT(&pending->slot[i]);
    TAILQ_INIT(&pending->held);
    *ret = pending;
    return LEAFD_OK;
nomem:
    free(pending);
    return LEAFD_NOMEM;
}

void sign_pending_free(struct sign_pending *pending)
{
    if (!pending)
        return;
    for (size_t i = 0; i < pending->top; i++)
        free(pending->entry[i].message);
    free(pending->entry);
    free(pending);
}

size_t sign_pending_count(const struct sign_pending *pending)
{
    return pending->count;
}

struct sign_entry *sign_pending_add(struct sign_pending *pending)
{
    struct sign_entry *entry = LIST_FIRST(&pending->unused);
    uint32_t turn;

    if (entry)
        LIST_REMOVE(entry, unused);
    else if (pending->top < pending->max)
        entry = &pending->entry[pending->top++];
    else
        return NULL;
    turn = entry->turn + 1;
    *entry = (struct sign_entry){.turn = turn ? turn : 1, .used = true};
    pending->count++;
    return entry;
}

static void unset_due(struct sign_entry *entry)
{
    if (entry->timed)
        LIST_REMOVE(entry, by_time);
    entry->timed = false;
}

void sign_pending_remove(struct sign_pending *pending, struct sign_entry *entry)
{
    unset_due(entry);
    sign_pending_unhold(pending, entry);
    free(entry->message);
    entry->message = NULL;
    entry->used = false;
    LIST_INSERT_HEAD(&pending->unused, entry, unused);
    pending->count--;
}

uint64_t sign_pending_id(const struct sign_pending *pending, const struct sign_entry *entry)
{
    return (uint64_t)entry->turn << 32 | (uint64_t)(entry - pending->entry);
}

struct sign_entry *sign_pending_find(const struct sign_pending *pending, uint64_t id)
{
    size_t place = id & UINT32_MAX;
    struct sign_entry *entry;

    if (place >= pending->top)
        return NULL;
    entry = &pending->entry[place];
    return entry->used && entry->turn == id >> 32 ? entry : NULL;
}

void sign_pending_set_due(struct sign_pending *pending, struct sign_entry *entry, int64_t due_ms)
{
    int64_t tick = due_ms / SIGN_PENDING_TICK_MS + 1; /* by then it is due for certain */

    if (tick < pending->tick)
        tick = pending->tick;
    unset_due(entry);
    entry->due_ms = due_ms;
    LIST_INSERT_HEAD(&pending->slot[tick % SLOTS], entry, by_time);
    entry->timed = true;
}

struct sign_entry *sign_pending_next_due(struct sign_pending *pending, int64_t now_ms)
{
    int64_t now_tick = now_ms / SIGN_PENDING_TICK_MS;

    if (pending->tick <= now_tick - SLOTS)
        pending->tick =
            now_tick - SLOTS + 1; /* one whole turn has passed: each slot once will do */
    for (; pending->tick <= now_tick; pending->tick++) {
        struct sign_entry *entry;

        LIST_FOREACH(entry, &pending->slot[pending->tick % SLOTS], by_time)
        {
            if (entry->due_ms <= now_ms) {
                unset_due(entry);
                return entry;
            }
        }
    }
    return NULL;
}

void sign_pending_hold(struct sign_pending *pending, struct sign_entry *entry, bool at_front)
{
    sign_pending_unhold(pending, entry);
    if (at_front)
        TAILQ_INSERT_HEAD(&pending->held, entry, by_order);
    else
        TAILQ_INSERT_TAIL(&pending->held, entry, by_order);
    entry->held = true;
}

void sign_pending_unhold(struct sign_pending *pending, struct sign_entry *entry)
{
    if (entry->held)
        TAILQ_REMOVE(&pending->held, entry, by_order);
    entry->held = false;
}

struct sign_entry *sign_pending_held(struct sign_pending *pending, const struct sign_entry *entry)
{
    return entry ? TAILQ_NEXT(entry, by_order) : TAILQ_FIRST(&pending->held);
}

struct sign_entry *sign_pending_each(struct sign_pending *pending, size_t *cursor)
{
    while (*cursor < pending->top) {
        struct sign_entry *entry = &pending->entry[(*cursor)++];

        if (entry->used)
            return entry;
    }
    return NULL;
}
