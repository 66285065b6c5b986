/* SPDX-License-Identifier: Apache-2.0 */
/* The requests that a signer_client has not answered yet: found by id, by the moment they are due,
 * and, while no process takes them, in the order in which they came. Every step takes constant
 * time. Memory is touched only as far as it is used.
 *
 * Threads: none of its own and no lock: its owner's guards it. */
#pragma once

#include "pkcs11/signer.h"

#include <sys/queue.h>

struct signer_link;

/* One request. What stands above the line is its owner's. */
struct sign_entry {
    signer_fn done;
    void *ctx;
    int64_t deadline_ms;
    uint64_t ca_generation;
    uint16_t ca_id;
    struct signer_link *link; /* under way there; NULL: held */
    uint64_t tried;           /* posts that it has been to in vain */
    int64_t sent_us;          /* when it was given to `link` */
    size_t ahead;             /* what that had under way before it */
    uint8_t *message;         /* what is to be sent, while held or while it may go elsewhere; freed
                                 with the entry */
    size_t message_len;
    /* ---- */
    LIST_ENTRY(sign_entry) by_time;
    TAILQ_ENTRY(sign_entry) by_order;
    LIST_ENTRY(sign_entry) unused;
    int64_t due_ms;
    uint32_t turn; /* how often this place was used: the upper half of its id */
    bool used;
    bool timed;
    bool held;
};

struct sign_pending;

enum { SIGN_PENDING_TICK_MS = 20 };

/* Room for `max` requests. LEAFD_NOMEM: *ret is untouched. */
LEAFD_CHECKED enum leafd_err sign_pending_new(size_t max, struct sign_pending **ret);
void sign_pending_free(struct sign_pending *pending); /* NULL is fine */
size_t sign_pending_count(const struct sign_pending *pending);

/* An empty entry, or NULL when `max` are there. */
struct sign_entry *sign_pending_add(struct sign_pending *pending);
void sign_pending_remove(struct sign_pending *pending, struct sign_entry *entry);
/* Ids are never 0 and come again only after 2^32 uses of one place. */
uint64_t sign_pending_id(const struct sign_pending *pending, const struct sign_entry *entry);
struct sign_entry *sign_pending_find(const struct sign_pending *pending, uint64_t id); /* or NULL */

/* When sign_pending_next_due is to name it; once named it has to be set again. */
void sign_pending_set_due(struct sign_pending *pending, struct sign_entry *entry, int64_t due_ms);
/* An entry whose moment has come, at most a tick late; NULL: no more of them. */
struct sign_entry *sign_pending_next_due(struct sign_pending *pending, int64_t now_ms);

/* Puts it at the end, or at the front, of those that are held; takes it off again. */
void sign_pending_hold(struct sign_pending *pending, struct sign_entry *entry, bool at_front);
void sign_pending_unhold(struct sign_pending *pending, struct sign_entry *entry);
/* The held ones in order: the first (after NULL), the one after `entry`, NULL at the end. */
struct sign_entry *sign_pending_held(struct sign_pending *pending, const struct sign_entry *entry);

/* All entries in no order: *cursor starts at 0. NULL at the end. The one named may be removed. */
struct sign_entry *sign_pending_each(struct sign_pending *pending, size_t *cursor);
