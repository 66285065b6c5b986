/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/sign_traffic.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { GIVES_UP_BEFORE_MS = 300 };

enum leafd_err sign_traffic_init(struct sign_traffic *traffic, struct ca_set *cas,
                                 size_t token_count, enum conf_token_choice choice, size_t max)
{
    traffic->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (traffic->wake_fd == -1)
        return LEAFD_NOMEM;
    if (sign_pending_new(max, &traffic->pending)) {
        close(traffic->wake_fd);
        return LEAFD_NOMEM;
    }
    traffic->active_ms = INT64_MIN / 2;
    pthread_mutex_init(&traffic->lock, NULL);
    signer_roster_init(&traffic->roster, cas, token_count, choice);
    return LEAFD_OK;
}

void sign_traffic_clear(struct sign_traffic *traffic)
{
    signer_roster_clear(&traffic->roster);
    sign_pending_free(traffic->pending);
    close(traffic->wake_fd);
    pthread_mutex_destroy(&traffic->lock);
}

void sign_traffic_wake(struct sign_traffic *traffic)
{
    uint64_t one = 1;

    if (write(traffic->wake_fd, &one, sizeof(one)) < 0)
        return; /* its counter is full: the reader will wake */
}

void sign_callbacks_run(struct sign_callbacks *callbacks)
{
    for (size_t i = 0; i < callbacks->count; i++) {
        const struct sign_callback *call = &callbacks->call[i];

        call->done(call->ctx, call->err, call->signature, call->batch);
    }
    callbacks->count = 0;
}

/* ---- which way a request goes ---- */

/* Why a request that no process takes now need not wait for one; LEAFD_OK: it may. */
static enum leafd_err hopeless(const struct sign_traffic *traffic, const struct sign_entry *entry,
                               int64_t now_ms)
{
    const struct ca *ca = ca_set_find(traffic->roster.cas, entry->ca_id);

    if (!ca || ca->generation != entry->ca_generation || entry->tried)
        return LEAFD_AGAIN; /* the asker has an old set, or all have been asked: let it draw anew */
    if (signer_roster_all_pin_blocked(&traffic->roster) ||
        entry->deadline_ms - GIVES_UP_BEFORE_MS <= now_ms)
        return LEAFD_TOKEN_UNAVAILABLE;
    return LEAFD_OK;
}

static void finish(struct sign_traffic *traffic, struct sign_entry *entry, enum leafd_err err,
                   struct bytes signature, uint64_t batch, struct sign_callbacks *callbacks)
{
    callbacks->call[callbacks->count++] =
        (struct sign_callback){entry->done, entry->ctx, err, signature, batch};
    if (entry->link)
        entry->link->under_way--;
    sign_pending_remove(traffic->pending, entry);
}

static void finish_empty(struct sign_traffic *traffic, struct sign_entry *entry, enum leafd_err err,
                         struct sign_callbacks *callbacks)
{
    finish(traffic, entry, err, (struct bytes){NULL, 0}, 0, callbacks);
}

/* Looked after again when the process has been silent, or when it is too late. */
static void set_due_under_way(struct sign_traffic *traffic, struct sign_entry *entry,
                              int64_t now_ms)
{
    int64_t due_ms = now_ms + SIGNER_SILENT_MS;

    if (!entry->message || due_ms > entry->deadline_ms)
        due_ms = entry->deadline_ms;
    sign_pending_set_due(traffic->pending, entry, due_ms);
}

/* The caller sends it, once it has given back the lock, and then gives back the reference. */
static void entrust(struct sign_traffic *traffic, struct sign_entry *entry,
                    struct signer_link *link)
{
    int64_t now_us = clock_mono_us();

    signer_link_ref(link);
    signer_choice_sent(&traffic->roster.choice, link, now_us / 1000);
    entry->ahead = link->under_way++;
    entry->link = link;
    entry->sent_us = now_us;
    sign_pending_unhold(traffic->pending, entry);
    set_due_under_way(traffic, entry, now_us / 1000);
}

/* Waits for a process, with its message ready. */
static void hold(struct sign_traffic *traffic, struct sign_entry *entry, bool at_front)
{
    entry->link = NULL;
    sign_pending_hold(traffic->pending, entry, at_front);
    sign_pending_set_due(traffic->pending, entry, entry->deadline_ms - GIVES_UP_BEFORE_MS);
}

/* Takes it from a process that did not sign it to one that may; false: there is none. What the
 * first one answers later is dropped: it comes from a link that the entry is not at any more. */
static bool move_on(struct sign_traffic *traffic, struct sign_entry *entry)
{
    uint64_t tried = entry->tried;
    bool full = false;

    if (!entry->message)
        return false;
    entry->tried |= signer_link_bit(entry->link);
    if (!signer_roster_choose(&traffic->roster, entry, &full) && !full) {
        entry->tried = tried;
        return false;
    }
    entry->link->under_way--;
    hold(traffic, entry, true);
    traffic->flush_wanted = true;
    return true;
}

/* Without memory it stays without. */
static void keep_message(struct sign_entry *entry, struct bytes message)
{
    entry->message = (uint8_t *)bytes_copy(message).data;
    entry->message_len = message.len;
}

void sign_traffic_bring_back(struct sign_traffic *traffic, struct signer_link *link, uint64_t id,
                             int error, struct bytes message, bool at_front,
                             struct sign_callbacks *callbacks)
{
    struct sign_entry *entry = sign_pending_find(traffic->pending, id);

    if (error == EAGAIN || error == ENOBUFS || error == ENOMEM)
        link->blocked = true;
    else
        link->dead = true;
    traffic->flush_wanted = true;
    if (!entry || entry->link != link)
        return;
    if (!entry->message)
        keep_message(entry, message);
    if (!entry->message) {
        finish_empty(traffic, entry, LEAFD_NOMEM, callbacks);
        return;
    }
    link->under_way--;
    hold(traffic, entry, at_front);
}

/* ---- on its way out ---- */

enum leafd_err sign_traffic_add(struct sign_traffic *traffic, const struct sign_request *request,
                                signer_fn done, void *ctx, uint8_t *message, size_t len,
                                uint64_t *ret_id, struct signer_link **ret_link)
{
    int64_t now_ms = clock_mono_ms();
    struct sign_entry *entry;
    struct signer_link *link;
    enum leafd_err err = LEAFD_OK;
    bool full;

    if (traffic->stopping)
        return LEAFD_INTERNAL;
    if (request->deadline_ms <= now_ms)
        return LEAFD_TIMEOUT;
    entry = sign_pending_add(traffic->pending);
    if (!entry)
        return LEAFD_BUSY;
    entry->done = done;
    entry->ctx = ctx;
    entry->deadline_ms = request->deadline_ms;
    entry->ca_id = request->ca_id;
    entry->ca_generation = request->ca_generation;
    traffic->active_ms = now_ms;
    *ret_id = sign_pending_id(traffic->pending, entry);
    signer_msg_set_sign_id(message, *ret_id);

    link = signer_roster_choose(&traffic->roster, entry, &full);
    if (!link || traffic->roster.link_count > 1) /* it may have to wait, or go elsewhere later */
        keep_message(entry, (struct bytes){message, len});
    if (link) {
        entrust(traffic, entry, link);
        *ret_link = link;
        return LEAFD_OK;
    }
    if (!full)
        err = hopeless(traffic, entry, now_ms);
    if (!err && !entry->message)
        err = LEAFD_NOMEM;
    if (!err)
        hold(traffic, entry, false);
    else
        sign_pending_remove(traffic->pending, entry);
    return err;
}

/* May go to the same processes: where nobody has room for the one, nobody has for the other. */
static bool is_like(const struct sign_entry *entry, const struct sign_entry *other)
{
    return entry->tried == other->tried && entry->ca_id == other->ca_id &&
           entry->ca_generation == other->ca_generation;
}

bool sign_traffic_pack(struct sign_traffic *traffic, struct sign_parcel *parcel,
                       struct sign_callbacks *callbacks)
{
    int64_t now_ms = clock_mono_ms();
    struct sign_entry *entry = sign_pending_held(traffic->pending, NULL);
    const struct sign_entry *stuck = NULL; /* the last one for which nobody had room */
    size_t for_others = 0;                 /* they are packed next */

    parcel->link = NULL;
    parcel->count = 0;
    if (!traffic->flush_wanted)
        return false;
    while (entry && parcel->count < SIGN_BATCH && callbacks->count < SIGN_BATCH &&
           for_others < SIGN_BATCH) {
        struct sign_entry *next = sign_pending_held(traffic->pending, entry);
        struct signer_link *link = NULL;
        bool full = stuck && is_like(entry, stuck); /* thousands may wait behind it */
        enum leafd_err err = LEAFD_OK;

        if (!full)
            link = signer_roster_choose(&traffic->roster, entry, &full);
        if (!link && !full)
            err = hopeless(traffic, entry, now_ms);
        if (err) {
            finish_empty(traffic, entry, err, callbacks);
        } else if (full) {
            stuck = entry;
        } else if (parcel->link && parcel->link != link) {
            for_others++;
        } else if (link) {
            parcel->link = link;
            parcel->id[parcel->count] = sign_pending_id(traffic->pending, entry);
            parcel->message[parcel->count++] = (struct iovec){entry->message, entry->message_len};
            entrust(traffic, entry, link);
        }
        entry = next;
    }
    if (parcel->count == 0 && callbacks->count == 0)
        traffic->flush_wanted = false;
    return traffic->flush_wanted;
}

/* ---- what came of it ---- */

/* What another process may do better: this one is on its way out, or its token is. */
static bool is_elsewhere(enum leafd_err err)
{
    return err == LEAFD_AGAIN || err == LEAFD_TOKEN_UNAVAILABLE || err == LEAFD_INTERNAL;
}

void sign_traffic_answered(struct sign_traffic *traffic, struct signer_link *link,
                           const struct signer_msg_reply *reply, struct sign_callbacks *callbacks)
{
    int64_t now_us = clock_mono_us();
    struct sign_entry *entry = sign_pending_find(traffic->pending, reply->id);

    link->heard_ms = now_us / 1000;
    if (!entry || entry->link != link)
        return;
    if (reply->err == LEAFD_OK)
        signer_choice_answered(&traffic->roster.choice, link, entry, now_us);
    if (!is_elsewhere(reply->err) || !move_on(traffic, entry))
        finish(traffic, entry, reply->err, reply->signature, reply->batch, callbacks);
}

/* Under way, and it may go elsewhere: does its process answer anything at all? */
static void look_after(struct sign_traffic *traffic, struct sign_entry *entry, int64_t now_ms)
{
    struct signer_link *link = entry->link;

    if (now_ms - link->heard_ms >= SIGNER_SILENT_MS) {
        signer_choice_silent(link, now_ms);
        if (move_on(traffic, entry))
            return;
    }
    set_due_under_way(traffic, entry, now_ms);
}

static void expire(struct sign_traffic *traffic, struct sign_entry *entry, int64_t now_ms,
                   struct sign_callbacks *callbacks)
{
    bool full = false;

    if (entry->link && entry->deadline_ms > now_ms) {
        look_after(traffic, entry, now_ms);
        return;
    }
    if (entry->link) {
        finish_empty(traffic, entry, LEAFD_TIMEOUT, callbacks);
        return;
    }
    /* Held until now: either nobody could sign, or those who could had too much to do. */
    finish_empty(traffic, entry,
                 signer_roster_choose(&traffic->roster, entry, &full) || full
                     ? LEAFD_BUSY
                     : LEAFD_TOKEN_UNAVAILABLE,
                 callbacks);
}

bool sign_traffic_expire(struct sign_traffic *traffic, int64_t now_ms,
                         struct sign_callbacks *callbacks)
{
    struct sign_entry *entry;

    while (callbacks->count < SIGN_BATCH) {
        entry = sign_pending_next_due(traffic->pending, now_ms);
        if (!entry)
            return false;
        expire(traffic, entry, now_ms, callbacks);
    }
    return true;
}

bool sign_traffic_leave(struct sign_traffic *traffic, const struct signer_link *link,
                        size_t *cursor, struct sign_callbacks *callbacks)
{
    struct sign_entry *entry;

    while (callbacks->count < SIGN_BATCH) {
        entry = sign_pending_each(traffic->pending, cursor);
        if (!entry)
            return false;
        if (entry->link == link && !move_on(traffic, entry))
            finish_empty(traffic, entry, LEAFD_AGAIN, callbacks);
    }
    return true;
}

bool sign_traffic_give_up(struct sign_traffic *traffic, struct sign_callbacks *callbacks)
{
    struct sign_entry *entry;
    size_t cursor = 0;

    while (callbacks->count < SIGN_BATCH) {
        entry = sign_pending_each(traffic->pending, &cursor);
        if (!entry)
            return false;
        finish_empty(traffic, entry, LEAFD_INTERNAL, callbacks);
    }
    return true;
}
