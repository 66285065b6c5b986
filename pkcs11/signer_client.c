/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_client.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/sign_pending.h"
#include "pkcs11/signer_choice.h"
#include "pkcs11/signer_link.h"
#include "pkcs11/signer_msg.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    LINKS_MAX =
        2 * CONF_TOKEN_MAX * CONF_PROCESSES_MAX, /* each perhaps beside the one it replaces */
    BATCH = 32,                                  /* messages per system call */
    GIVES_UP_BEFORE_MS = 300,
    AWAKE_MS = 1000 /* the reader ticks on so long after the last request, so that a new one need
                       not wake it */
};

struct client {
    struct signer signer;
    struct ca_set *configured;
    int wake_fd;
    pthread_t reader;

    pthread_mutex_t lock; /* all below; never held across a callback. Before cas_lock */
    struct sign_pending *pending;
    struct signer_link *links[LINKS_MAX];
    size_t link_count;
    bool sleeping; /* the reader waits without a timeout */
    bool stopping;
    bool flush_wanted;  /* a held request may have got a way out */
    int64_t active_ms;  /* when there was last something pending */
    uint64_t seen_mask; /* posts whose process was connected before */
    struct signer_choice choice;
    size_t token_count;
    struct token_past {
        uint64_t restarts;
        struct signer_msg_state gone; /* counters of processes that ended */
    } past[CONF_TOKEN_MAX];

    pthread_mutex_t cas_lock;
    struct ca_set *cas; /* written under both locks, so that either will do to read it */
};

/* What is to be called once the lock is given back. */
struct callback {
    signer_fn done;
    void *ctx;
    enum leafd_err err;
    struct bytes signature;
};

struct callbacks {
    struct callback call[BATCH];
    size_t count;
};

static struct client *client_of(struct signer *signer)
{
    return (struct client *)signer;
}

static void call_back(struct callbacks *callbacks)
{
    for (size_t i = 0; i < callbacks->count; i++) {
        const struct callback *call = &callbacks->call[i];

        call->done(call->ctx, call->err, call->signature);
    }
    callbacks->count = 0;
}

static void wake(struct client *client)
{
    uint64_t one = 1;

    if (write(client->wake_fd, &one, sizeof(one)) < 0)
        return; /* its counter is full: the reader will wake */
}

/* ---- under the lock: which way a request goes ---- */

static struct signer_link *choose(const struct client *client, const struct sign_entry *entry,
                                  bool *ret_full)
{
    return signer_choice_find(&client->choice, client->links, client->link_count, entry, ret_full);
}

static bool all_pin_blocked(const struct client *client)
{
    for (size_t i = 0; i < client->link_count; i++)
        if (!client->links[i]->greeted || client->links[i]->state.state != SIGNER_PIN_BLOCKED)
            return false;
    return client->link_count > 0;
}

/* Why a request that no process takes now need not wait for one; LEAFD_OK: it may. */
static enum leafd_err hopeless(const struct client *client, const struct sign_entry *entry,
                               int64_t now_ms)
{
    const struct ca *ca = ca_set_find(client->cas, entry->ca_id);

    if (!ca || ca->generation != entry->ca_generation || entry->tried)
        return LEAFD_AGAIN; /* the asker has an old set, or all have been asked: let it draw anew */
    if (all_pin_blocked(client) || entry->deadline_ms - GIVES_UP_BEFORE_MS <= now_ms)
        return LEAFD_TOKEN_UNAVAILABLE;
    return LEAFD_OK;
}

static void finish(struct client *client, struct sign_entry *entry, enum leafd_err err,
                   struct bytes signature, struct callbacks *callbacks)
{
    callbacks->call[callbacks->count++] =
        (struct callback){entry->done, entry->ctx, err, signature};
    if (entry->link)
        entry->link->under_way--;
    sign_pending_remove(client->pending, entry);
}

static void finish_empty(struct client *client, struct sign_entry *entry, enum leafd_err err,
                         struct callbacks *callbacks)
{
    finish(client, entry, err, (struct bytes){NULL, 0}, callbacks);
}

/* Looked after again when the process has been silent, or when it is too late. */
static void set_due_under_way(struct client *client, struct sign_entry *entry, int64_t now_ms)
{
    int64_t due_ms = now_ms + SIGNER_SILENT_MS;

    if (!entry->message || due_ms > entry->deadline_ms)
        due_ms = entry->deadline_ms;
    sign_pending_set_due(client->pending, entry, due_ms);
}

/* The caller sends it, once it has given back the lock, and then gives back the reference. */
static void entrust(struct client *client, struct sign_entry *entry, struct signer_link *link)
{
    int64_t now_us = clock_mono_us();

    signer_link_ref(link);
    signer_choice_sent(&client->choice, link, now_us / 1000);
    link->under_way++;
    entry->link = link;
    entry->sent_us = now_us;
    sign_pending_unhold(client->pending, entry);
    set_due_under_way(client, entry, now_us / 1000);
}

/* Waits for a process, with its message ready. */
static void hold(struct client *client, struct sign_entry *entry, bool at_front)
{
    entry->link = NULL;
    sign_pending_hold(client->pending, entry, at_front);
    sign_pending_set_due(client->pending, entry, entry->deadline_ms - GIVES_UP_BEFORE_MS);
}

/* Takes it from a process that did not sign it to one that may; false: there is none. What the
 * first one answers later is dropped: it comes from a link that the entry is not at any more. */
static bool move_on(struct client *client, struct sign_entry *entry)
{
    uint64_t tried = entry->tried;
    bool full = false;

    if (!entry->message)
        return false;
    entry->tried |= signer_link_bit(entry->link);
    if (!choose(client, entry, &full) && !full) {
        entry->tried = tried;
        return false;
    }
    entry->link->under_way--;
    hold(client, entry, true);
    client->flush_wanted = true;
    return true;
}

static uint8_t *copy_message(const uint8_t *message, size_t len)
{
    return (uint8_t *)bytes_copy((struct bytes){message, len}).data;
}

/* Link `link` did not take the message of request `id`, because of `error`. The entry may be gone
 * by now (a deadline, the link's end): then somebody else has answered it. Takes `message`, which
 * may be NULL for want of memory, or because the entry has it. */
static void bring_back(struct client *client, struct signer_link *link, uint64_t id, int error,
                       uint8_t *message, size_t message_len, bool at_front,
                       struct callbacks *callbacks)
{
    struct sign_entry *entry = sign_pending_find(client->pending, id);

    if (error == EAGAIN || error == ENOBUFS || error == ENOMEM)
        link->blocked = true;
    else
        link->dead = true;
    client->flush_wanted = true;
    if (!entry || entry->link != link || entry->message) {
        free(message);
    } else {
        entry->message = message;
        entry->message_len = message_len;
    }
    if (!entry || entry->link != link)
        return;
    if (!entry->message) {
        finish_empty(client, entry, LEAFD_NOMEM, callbacks);
        return;
    }
    link->under_way--;
    hold(client, entry, at_front);
}

/* ---- signer_sign, on the asker's thread ---- */

static void send_now(struct client *client, struct signer_link *link, uint64_t id,
                     const uint8_t *message, size_t len)
{
    struct callbacks callbacks = {.count = 0};
    ssize_t sent;
    int error;

    do {
        sent = send(link->fd, message, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        error = errno;
        pthread_mutex_lock(&client->lock);
        bring_back(client, link, id, error, copy_message(message, len), len, false, &callbacks);
        pthread_mutex_unlock(&client->lock);
        call_back(&callbacks);
        wake(client); /* to wait for room in the socket */
    }
    signer_link_unref(link);
}

/* Decides what becomes of a new request: sent through *ret_link, held (LEAFD_OK, no link), or
 * answered at once. */
static enum leafd_err admit(struct client *client, const struct sign_request *request,
                            signer_fn done, void *ctx, uint8_t *message, size_t len,
                            uint64_t *ret_id, struct signer_link **ret_link)
{
    int64_t now_ms = clock_mono_ms();
    struct sign_entry *entry;
    struct signer_link *link;
    enum leafd_err err = LEAFD_OK;
    bool full;

    if (client->stopping)
        return LEAFD_INTERNAL;
    if (request->deadline_ms <= now_ms)
        return LEAFD_TIMEOUT;
    entry = sign_pending_add(client->pending);
    if (!entry)
        return LEAFD_BUSY;
    entry->done = done;
    entry->ctx = ctx;
    entry->deadline_ms = request->deadline_ms;
    entry->ca_id = request->ca_id;
    entry->ca_generation = request->ca_generation;
    client->active_ms = now_ms;
    *ret_id = sign_pending_id(client->pending, entry);
    signer_msg_set_sign_id(message, *ret_id);

    link = choose(client, entry, &full);
    if (!link || client->link_count > 1) { /* it may have to wait, or go elsewhere later */
        entry->message = copy_message(message, len);
        entry->message_len = len;
    }
    if (link) {
        entrust(client, entry, link);
        *ret_link = link;
        return LEAFD_OK;
    }
    if (!full)
        err = hopeless(client, entry, now_ms);
    if (!err && !entry->message)
        err = LEAFD_NOMEM;
    if (!err)
        hold(client, entry, false);
    else
        sign_pending_remove(client->pending, entry);
    return err;
}

static void client_sign(struct signer *signer, const struct sign_request *request, signer_fn done,
                        void *ctx)
{
    struct client *client = client_of(signer);
    uint8_t message[SIGNER_MSG_SIGN_MAX];
    size_t len = signer_msg_write_sign(0, request, message, sizeof(message));
    struct signer_link *link = NULL;
    uint64_t id = 0;
    enum leafd_err err;
    bool must_wake;

    if (len == 0) {
        done(ctx, LEAFD_TOO_LARGE, (struct bytes){NULL, 0});
        return;
    }
    pthread_mutex_lock(&client->lock);
    err = admit(client, request, done, ctx, message, len, &id, &link);
    must_wake = !err && client->sleeping;
    if (must_wake)
        client->sleeping = false;
    pthread_mutex_unlock(&client->lock);

    if (err)
        done(ctx, err, (struct bytes){NULL, 0});
    if (must_wake)
        wake(client);
    if (link)
        send_now(client, link, id, message, len);
}

/* ---- the reader: what was held goes out ---- */

/* Messages for one link. They stay their entries', which only this thread ends. */
struct parcel {
    struct signer_link *link;
    uint64_t id[BATCH];
    struct iovec message[BATCH];
    size_t count;
};

static bool pack(struct client *client, struct parcel *parcel, struct callbacks *callbacks)
{
    int64_t now_ms = clock_mono_ms();
    struct sign_entry *entry = sign_pending_held(client->pending, NULL);

    parcel->link = NULL;
    parcel->count = 0;
    while (entry && parcel->count < BATCH && callbacks->count < BATCH) {
        struct sign_entry *next = sign_pending_held(client->pending, entry);
        bool full;
        struct signer_link *link = choose(client, entry, &full);
        enum leafd_err err = link || full ? LEAFD_OK : hopeless(client, entry, now_ms);

        if (err) {
            finish_empty(client, entry, err, callbacks);
        } else if (link && (!parcel->link || parcel->link == link)) {
            parcel->link = link;
            parcel->id[parcel->count] = sign_pending_id(client->pending, entry);
            parcel->message[parcel->count++] = (struct iovec){entry->message, entry->message_len};
            entrust(client, entry, link);
        }
        entry = next;
    }
    return parcel->count > 0 || callbacks->count > 0;
}

static void post(struct client *client, struct parcel *parcel, struct callbacks *callbacks)
{
    struct mmsghdr header[BATCH] = {0};
    size_t sent = 0;
    int error = 0;

    for (size_t i = 0; i < parcel->count; i++) {
        header[i].msg_hdr.msg_iov = &parcel->message[i];
        header[i].msg_hdr.msg_iovlen = 1;
    }
    while (sent < parcel->count && !error) {
        int n = sendmmsg(parcel->link->fd, header + sent, (unsigned)(parcel->count - sent),
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n > 0)
            sent += (size_t)n;
        else if (n == 0 || errno != EINTR)
            error = n == 0 ? EAGAIN : errno;
    }
    pthread_mutex_lock(&client->lock);
    for (size_t i = parcel->count; i > sent; i--) /* the last first: they go to the front again */
        bring_back(client, parcel->link, parcel->id[i - 1], error, NULL, 0, true, callbacks);
    pthread_mutex_unlock(&client->lock);
    for (size_t i = 0; i < parcel->count; i++)
        signer_link_unref(parcel->link);
}

static void flush(struct client *client)
{
    bool more;

    do {
        struct callbacks callbacks = {.count = 0};
        struct parcel parcel;

        pthread_mutex_lock(&client->lock);
        more = client->flush_wanted && pack(client, &parcel, &callbacks);
        if (!more)
            client->flush_wanted = false;
        pthread_mutex_unlock(&client->lock);
        if (more) {
            call_back(&callbacks);
            if (parcel.count > 0)
                post(client, &parcel, &callbacks);
            call_back(&callbacks);
        }
    } while (more);
}

/* ---- the reader: deadlines ---- */

/* Under way, and it may go elsewhere: does its process answer anything at all? */
static void look_after(struct client *client, struct sign_entry *entry, int64_t now_ms)
{
    struct signer_link *link = entry->link;

    if (now_ms - link->heard_ms >= SIGNER_SILENT_MS) {
        signer_choice_silent(link, now_ms);
        if (move_on(client, entry))
            return;
    }
    set_due_under_way(client, entry, now_ms);
}

static void expire(struct client *client, struct sign_entry *entry, int64_t now_ms,
                   struct callbacks *callbacks)
{
    bool full = false;

    if (entry->link && entry->deadline_ms > now_ms) {
        look_after(client, entry, now_ms);
        return;
    }
    if (entry->link) {
        finish_empty(client, entry, LEAFD_TIMEOUT, callbacks);
        return;
    }
    /* Held until now: either nobody could sign, or those who could had too much to do. */
    finish_empty(client, entry,
                 choose(client, entry, &full) || full ? LEAFD_BUSY : LEAFD_TOKEN_UNAVAILABLE,
                 callbacks);
}

static void sweep(struct client *client)
{
    struct callbacks callbacks = {.count = 0};
    struct sign_entry *entry = NULL;
    int64_t now_ms = clock_mono_ms();

    do {
        pthread_mutex_lock(&client->lock);
        while (callbacks.count < BATCH && (entry = sign_pending_next_due(client->pending, now_ms)))
            expire(client, entry, now_ms, &callbacks);
        pthread_mutex_unlock(&client->lock);
        call_back(&callbacks);
    } while (entry);
}

/* ---- the reader: the CAs in force ---- */

/* Under the lock. Any process's untrusted CA will do, the newest greeting's first; without one the
 * former stays, since a process that signs for it or replaces it will come. */
static void renew_cas(struct client *client, const struct ca *untrusted)
{
    struct ca_set *after, *before = client->cas;

    if (before->untrusted && before->untrusted->generation == untrusted->generation)
        return;
    after = ca_set_new(client->configured->ca, client->configured->count, untrusted);
    if (!after)
        return; /* the next state tries again */
    pthread_mutex_lock(&client->cas_lock);
    client->cas = after;
    pthread_mutex_unlock(&client->cas_lock);
    ca_set_unref(before);
}

static bool untrusted_is_served(const struct client *client)
{
    for (size_t i = 0; client->cas->untrusted && i < client->link_count; i++)
        if (client->links[i]->untrusted &&
            client->links[i]->untrusted->generation == client->cas->untrusted->generation)
            return true;
    return false;
}

static void adopt_untrusted(struct client *client)
{
    if (untrusted_is_served(client))
        return;
    for (size_t i = client->link_count; i > 0; i--)
        if (client->links[i - 1]->untrusted) {
            renew_cas(client, client->links[i - 1]->untrusted);
            return;
        }
}

/* ---- the reader: messages of one signer. False: it is not one of ours, or it is gone ---- */

static bool take_state(struct client *client, struct signer_link *link, struct bytes message)
{
    struct signer_msg_state state;
    struct ca *untrusted = NULL;
    bool is_known;

    if (signer_msg_read_state(message, &state))
        return false;
    /* link->untrusted is written by this thread alone */
    is_known = link->untrusted && bytes_equal(link->untrusted->der, state.untrusted_der);
    if (!is_known && state.untrusted_der.len > 0 &&
        ca_read(state.untrusted_der, CA_ID_UNTRUSTED, false, &untrusted, NULL))
        return false;
    state.untrusted_der = (struct bytes){NULL, 0};

    pthread_mutex_lock(&client->lock);
    client->flush_wanted |= !link->greeted || link->state.state != state.state || untrusted;
    link->state = state;
    link->greeted = true;
    if (untrusted) {
        struct ca *before = link->untrusted;

        link->untrusted = untrusted;
        untrusted = before;
        renew_cas(client, link->untrusted);
    } else {
        adopt_untrusted(client);
    }
    pthread_mutex_unlock(&client->lock);
    ca_unref(untrusted);
    return true;
}

/* What another process may do better: this one is on its way out, or its token is. */
static bool is_elsewhere(enum leafd_err err)
{
    return err == LEAFD_AGAIN || err == LEAFD_TOKEN_UNAVAILABLE || err == LEAFD_INTERNAL;
}

/* Under the lock. Answers to ids that nobody waits for any more are dropped. */
static bool take_reply(struct client *client, struct signer_link *link, struct bytes message,
                       struct callbacks *callbacks)
{
    struct signer_msg_reply reply;
    struct sign_entry *entry;
    int64_t now_us = clock_mono_us();

    if (signer_msg_read_reply(message, &reply))
        return false;
    link->heard_ms = now_us / 1000;
    entry = sign_pending_find(client->pending, reply.id);
    if (!entry || entry->link != link)
        return true;
    if (reply.err == LEAFD_OK)
        signer_choice_answered(&client->choice, link, now_us - entry->sent_us, now_us / 1000);
    if (!is_elsewhere(reply.err) || !move_on(client, entry))
        finish(client, entry, reply.err, reply.signature, callbacks);
    return true;
}

/* Runs of replies are taken under one lock; a state between them is worked on without it. */
static bool take_messages(struct client *client, struct signer_link *link,
                          const struct signer_inbox *inbox)
{
    struct callbacks callbacks = {.count = 0};
    bool good = true;

    for (size_t i = 0; good && i < inbox->count;) {
        pthread_mutex_lock(&client->lock);
        for (; good && i < inbox->count; i++) {
            struct bytes message = signer_inbox_message(inbox, i);

            if (signer_msg_kind(message) == SIGNER_MSG_STATE)
                break;
            good = message.len > 0 && take_reply(client, link, message, &callbacks);
        }
        pthread_mutex_unlock(&client->lock);
        call_back(&callbacks);
        if (good && i < inbox->count)
            good = take_state(client, link, signer_inbox_message(inbox, i++));
    }
    return good;
}

static bool read_link(struct client *client, struct signer_link *link, struct signer_inbox *inbox)
{
    enum signer_link_end end;

    do {
        end = signer_link_receive(link, inbox);
        if (!take_messages(client, link, inbox)) {
            static struct log_limit limit;

            log_limited(&limit, 1, LOG_LEVEL_ERROR, "signer-misbehaved",
                        "token=%u process=%u reason=\"a message that no signer sends\"",
                        link->token, link->process);
            return false;
        }
    } while (end == SIGNER_LINK_MORE);
    return end != SIGNER_LINK_LOST;
}

/* Under the lock: counters go on where those of the lost process ended. */
static void forget(struct client *client, struct signer_link *link)
{
    struct signer_msg_state *gone = &client->past[link->token].gone;

    gone->signatures += link->state.signatures;
    gone->failures += link->state.failures;
    gone->refusals += link->state.refusals;
    for (size_t i = 0; i < client->link_count; i++)
        if (client->links[i] == link)
            client->links[i] = client->links[--client->link_count];
    adopt_untrusted(client);
    client->flush_wanted = true;
}

/* A process has ended, or must not be listened to any more: what it had is asked again elsewhere.
 */
static void lose(struct client *client, struct signer_link *link)
{
    struct callbacks callbacks = {.count = 0};
    struct sign_entry *entry = NULL;
    size_t cursor = 0, lost;

    shutdown(link->fd, SHUT_RDWR);
    pthread_mutex_lock(&client->lock);
    lost = link->under_way;
    forget(client, link);
    pthread_mutex_unlock(&client->lock);
    log_event(LOG_LEVEL_WARNING, "signer-lost", "token=%u process=%u under_way=%zu", link->token,
              link->process, lost);
    do {
        pthread_mutex_lock(&client->lock);
        while (callbacks.count < BATCH && (entry = sign_pending_each(client->pending, &cursor)))
            if (entry->link == link && !move_on(client, entry))
                finish_empty(client, entry, LEAFD_AGAIN, &callbacks);
        pthread_mutex_unlock(&client->lock);
        call_back(&callbacks);
    } while (entry);
    signer_link_unref(link);
}

/* ---- the reader's thread ---- */

struct watch {
    struct pollfd poll[LINKS_MAX + 1];
    struct signer_link *link[LINKS_MAX]; /* of poll[1 + i] */
    size_t count;
};

/* What to wait for and how long (-1: for ever); false: stop. */
static bool set_watch(struct client *client, struct watch *watch, int *ret_timeout_ms)
{
    int64_t now_ms = clock_mono_ms();
    bool go_on;

    watch->poll[0] = (struct pollfd){.fd = client->wake_fd, .events = POLLIN};
    pthread_mutex_lock(&client->lock);
    watch->count = client->link_count;
    for (size_t i = 0; i < watch->count; i++) {
        watch->link[i] = client->links[i];
        watch->poll[1 + i] = (struct pollfd){
            .fd = client->links[i]->fd,
            .events = POLLIN | (client->links[i]->blocked ? POLLOUT : 0),
        };
    }
    if (sign_pending_count(client->pending) > 0)
        client->active_ms = now_ms;
    client->sleeping = now_ms - client->active_ms >= AWAKE_MS;
    *ret_timeout_ms = client->sleeping ? -1 : SIGN_PENDING_TICK_MS;
    go_on = !client->stopping;
    pthread_mutex_unlock(&client->lock);
    return go_on;
}

static void look(struct client *client, struct watch *watch, struct signer_inbox *inbox)
{
    uint64_t wakes;

    if (watch->poll[0].revents && read(client->wake_fd, &wakes, sizeof(wakes)) < 0)
        return; /* somebody has read it before: there is only us */
    for (size_t i = 0; i < watch->count; i++) {
        short seen = watch->poll[1 + i].revents;

        if (seen & POLLOUT) {
            pthread_mutex_lock(&client->lock);
            watch->link[i]->blocked = false;
            client->flush_wanted = true;
            pthread_mutex_unlock(&client->lock);
        }
        if (seen & (POLLIN | POLLHUP | POLLERR) && !read_link(client, watch->link[i], inbox))
            lose(client, watch->link[i]);
    }
}

static void *read_all(void *arg)
{
    struct client *client = arg;
    struct signer_inbox *inbox = malloc(sizeof(*inbox));
    struct watch watch;
    int timeout_ms;

    while (!inbox) { /* nothing can be done without */
        poll(NULL, 0, SIGN_PENDING_TICK_MS);
        inbox = malloc(sizeof(*inbox));
    }
    while (set_watch(client, &watch, &timeout_ms)) {
        if (poll(watch.poll, 1 + watch.count, timeout_ms) > 0)
            look(client, &watch, inbox);
        sweep(client);
        flush(client);
    }
    free(inbox);
    return NULL;
}

/* ---- the rest of the interface ---- */

static struct ca_set *client_cas(struct signer *signer)
{
    struct client *client = client_of(signer);
    struct ca_set *cas;

    pthread_mutex_lock(&client->cas_lock);
    cas = ca_set_ref(client->cas);
    pthread_mutex_unlock(&client->cas_lock);
    return cas;
}

static void token_status(const struct client *client, unsigned token,
                         struct signer_token_status *ret)
{
    const struct token_past *past = &client->past[token];
    const struct signer_choice_token *known = &client->choice.token[token];
    bool all_silent = true;

    *ret = (struct signer_token_status){
        .state = SIGNER_DOWN,
        .signatures = past->gone.signatures,
        .failures = past->gone.failures,
        .refusals = past->gone.refusals,
        .restarts = past->restarts,
        .latency_us = (uint64_t)known->latency_us,
        .text = "no signer process is connected",
    };
    for (size_t i = 0; i < client->link_count; i++) {
        if (client->links[i]->token != token)
            continue;
        signer_link_add_token_status(client->links[i], ret);
        all_silent = all_silent && client->links[i]->silent.is_on;
    }
    ret->is_ejected = ret->state != SIGNER_DOWN && (known->slow.is_on || all_silent);
    if (ret->state == SIGNER_READY)
        ret->text[0] = '\0';
}

static void client_status(struct signer *signer, struct signer_status *ret)
{
    struct client *client = client_of(signer);

    pthread_mutex_lock(&client->lock);
    *ret = (struct signer_status){
        .state = SIGNER_DOWN,
        .waiting = sign_pending_count(client->pending),
        .text = "no signer process is connected",
        .token_count = client->token_count,
    };
    for (unsigned i = 0; i < client->token_count; i++) {
        ret->signatures += client->past[i].gone.signatures;
        ret->failures += client->past[i].gone.failures;
        ret->refusals += client->past[i].gone.refusals;
        ret->restarts += client->past[i].restarts;
        token_status(client, i, &ret->token[i]);
    }
    for (size_t i = 0; i < client->link_count; i++)
        signer_link_add_status(client->links[i], ret);
    if (ret->state == SIGNER_READY)
        ret->text[0] = '\0';
    pthread_mutex_unlock(&client->lock);
}

/* Everybody who still waits is told so. No other thread is left. */
static void answer_rest(struct client *client)
{
    struct callbacks callbacks = {.count = 0};
    struct sign_entry *entry;
    size_t cursor = 0;

    while ((entry = sign_pending_each(client->pending, &cursor))) {
        finish_empty(client, entry, LEAFD_INTERNAL, &callbacks);
        call_back(&callbacks);
    }
}

static void client_clear(struct client *client)
{
    for (size_t i = 0; i < client->link_count; i++)
        signer_link_unref(client->links[i]);
    sign_pending_free(client->pending);
    ca_set_unref(client->cas);
    ca_set_unref(client->configured);
    if (client->wake_fd != -1)
        close(client->wake_fd);
    pthread_mutex_destroy(&client->cas_lock);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

static void client_free(struct signer *signer)
{
    struct client *client = client_of(signer);

    pthread_mutex_lock(&client->lock);
    client->stopping = true;
    pthread_mutex_unlock(&client->lock);
    wake(client);
    pthread_join(client->reader, NULL);
    answer_rest(client);
    client_clear(client);
}

static const struct signer_ops client_ops = {client_sign, client_cas, client_status, client_free};

enum leafd_err signer_client_new(struct ca_set *cas, size_t token_count,
                                 enum conf_token_choice choice, size_t max_waiting,
                                 struct signer **ret)
{
    struct client *client = calloc(1, sizeof(*client));

    if (!client)
        return LEAFD_NOMEM;
    client->token_count = token_count;
    client->choice.mode = choice;
    client->signer.ops = &client_ops;
    client->configured = ca_set_ref(cas);
    client->cas = ca_set_ref(cas);
    client->active_ms = INT64_MIN / 2;
    pthread_mutex_init(&client->lock, NULL);
    pthread_mutex_init(&client->cas_lock, NULL);
    client->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (client->wake_fd == -1 || sign_pending_new(max_waiting, &client->pending) ||
        pthread_create(&client->reader, NULL, read_all, client)) {
        client_clear(client);
        return LEAFD_NOMEM;
    }
    *ret = &client->signer;
    return LEAFD_OK;
}

/* Under the lock: those in its place are on their way out. */
static bool add_link(struct client *client, struct signer_link *link)
{
    uint64_t bit = signer_link_bit(link);

    if (client->link_count == LINKS_MAX)
        return false;
    for (size_t i = 0; i < client->link_count; i++)
        if (signer_link_bit(client->links[i]) == bit)
            client->links[i]->retired = true;
    client->links[client->link_count++] = link;
    client->past[link->token].restarts += client->seen_mask & bit ? 1 : 0;
    client->seen_mask |= bit;
    signer_choice_renew(&client->choice, link->token);
    return true;
}

void signer_client_connect(struct signer *signer, unsigned token, unsigned process, int fd)
{
    struct client *client = client_of(signer);
    struct signer_link *link = signer_link_new(fd, token, process);
    bool added = false;

    if (link && token < client->token_count && process < CONF_PROCESSES_MAX) {
        pthread_mutex_lock(&client->lock);
        added = add_link(client, link);
        pthread_mutex_unlock(&client->lock);
    }
    if (!added) {
        log_event(LOG_LEVEL_ERROR, "signer-not-connected", "token=%u process=%u", token, process);
        if (link)
            signer_link_unref(link);
        return;
    }
    wake(client);
}
