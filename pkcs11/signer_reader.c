/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_reader.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/sign_traffic.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    AWAKE_MS = 1000 /* it ticks on so long after the last request, so that a new one need not wake
                       it */
};

/* ---- what was held goes out, what is late is ended ---- */

static void post(struct sign_traffic *traffic, struct sign_parcel *parcel,
                 struct sign_callbacks *callbacks)
{
    struct mmsghdr header[SIGN_BATCH] = {0};
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
    pthread_mutex_lock(&traffic->lock);
    for (size_t i = parcel->count; i > sent; i--) /* the last first: they go to the front again */
        sign_traffic_bring_back(traffic, parcel->link, parcel->id[i - 1], error,
                                (struct bytes){NULL, 0}, true, callbacks);
    pthread_mutex_unlock(&traffic->lock);
    for (size_t i = 0; i < parcel->count; i++)
        signer_link_unref(parcel->link);
}

static void flush(struct sign_traffic *traffic)
{
    bool more;

    do {
        struct sign_callbacks callbacks = {.count = 0};
        struct sign_parcel parcel;

        pthread_mutex_lock(&traffic->lock);
        more = sign_traffic_pack(traffic, &parcel, &callbacks);
        pthread_mutex_unlock(&traffic->lock);
        sign_callbacks_run(&callbacks);
        if (parcel.count > 0)
            post(traffic, &parcel, &callbacks);
        sign_callbacks_run(&callbacks);
    } while (more);
}

static void sweep(struct sign_traffic *traffic)
{
    struct sign_callbacks callbacks = {.count = 0};
    int64_t now_ms = clock_mono_ms();
    bool more;

    do {
        pthread_mutex_lock(&traffic->lock);
        more = sign_traffic_expire(traffic, now_ms, &callbacks);
        pthread_mutex_unlock(&traffic->lock);
        sign_callbacks_run(&callbacks);
    } while (more);
}

/* ---- messages of one signer. False: it is not one of ours, or it is gone ---- */

static bool take_state(struct sign_traffic *traffic, struct signer_link *link, struct bytes message)
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

    pthread_mutex_lock(&traffic->lock);
    traffic->flush_wanted |= !link->greeted || link->state.state != state.state || untrusted;
    signer_roster_take_state(&traffic->roster, link, &state, &untrusted);
    pthread_mutex_unlock(&traffic->lock);
    ca_unref(untrusted);
    return true;
}

/* Under the lock. */
static bool take_reply(struct sign_traffic *traffic, struct signer_link *link, struct bytes message,
                       struct sign_callbacks *callbacks)
{
    struct signer_msg_reply reply;

    if (signer_msg_read_reply(message, &reply))
        return false;
    reply.batch = signer_link_batch(link, reply.batch);
    if (reply.batch && recent_numbers_has(&traffic->disowned_batches, reply.batch))
        reply = (struct signer_msg_reply){.id = reply.id, .err = LEAFD_AGAIN};
    sign_traffic_answered(traffic, link, &reply, callbacks);
    return true;
}

/* What is disowned comes behind the replies that it concerns, and is read before them. */
static bool take_disowned(struct sign_traffic *traffic, const struct signer_link *link,
                          const struct signer_inbox *inbox)
{
    for (size_t i = 0; i < inbox->count; i++) {
        struct bytes message = signer_inbox_message(inbox, i);
        struct signer_msg_disown disown;

        if (signer_msg_kind(message) != SIGNER_MSG_DISOWN)
            continue;
        if (signer_msg_read_disown(message, &disown))
            return false;
        for (size_t n = 0; n < disown.count; n++) {
            disown.batch[n] = signer_link_batch(link, disown.batch[n]);
            recent_numbers_add(&traffic->disowned_batches, disown.batch[n]);
        }
        if (traffic->disowned)
            traffic->disowned(traffic->disowned_ctx, disown.batch, disown.count);
    }
    return true;
}

/* Runs of replies are taken under one lock; a state between them is worked on without it. */
static bool take_messages(struct sign_traffic *traffic, struct signer_link *link,
                          const struct signer_inbox *inbox)
{
    struct sign_callbacks callbacks = {.count = 0};
    bool good = take_disowned(traffic, link, inbox);

    for (size_t i = 0; good && i < inbox->count;) {
        pthread_mutex_lock(&traffic->lock);
        for (; good && i < inbox->count; i++) {
            struct bytes message = signer_inbox_message(inbox, i);

            if (signer_msg_kind(message) == SIGNER_MSG_STATE)
                break;
            if (signer_msg_kind(message) != SIGNER_MSG_DISOWN)
                good = message.len > 0 && take_reply(traffic, link, message, &callbacks);
        }
        pthread_mutex_unlock(&traffic->lock);
        sign_callbacks_run(&callbacks);
        if (good && i < inbox->count)
            good = take_state(traffic, link, signer_inbox_message(inbox, i++));
    }
    return good;
}

static bool read_link(struct sign_traffic *traffic, struct signer_link *link,
                      struct signer_inbox *inbox)
{
    enum signer_link_end end;

    do {
        end = signer_link_receive(link, inbox);
        if (!take_messages(traffic, link, inbox)) {
            static struct log_limit limit;

            log_limited(&limit, 1, LOG_LEVEL_ERROR, "signer-misbehaved",
                        "token=%u process=%u reason=\"a message that no signer sends\"",
                        link->token, link->process);
            return false;
        }
    } while (end == SIGNER_LINK_MORE);
    return end != SIGNER_LINK_LOST;
}

/* A process has ended, or must not be listened to any more: what it had is asked again elsewhere.
 */
static void lose(struct sign_traffic *traffic, struct signer_link *link)
{
    struct sign_callbacks callbacks = {.count = 0};
    size_t cursor = 0, lost;
    bool more;

    shutdown(link->fd, SHUT_RDWR);
    pthread_mutex_lock(&traffic->lock);
    lost = link->under_way;
    signer_roster_remove(&traffic->roster, link);
    traffic->flush_wanted = true;
    pthread_mutex_unlock(&traffic->lock);
    log_event(LOG_LEVEL_WARNING, "signer-lost", "token=%u process=%u under_way=%zu", link->token,
              link->process, lost);
    do {
        pthread_mutex_lock(&traffic->lock);
        more = sign_traffic_leave(traffic, link, &cursor, &callbacks);
        pthread_mutex_unlock(&traffic->lock);
        sign_callbacks_run(&callbacks);
    } while (more);
    signer_link_unref(link);
}

/* ---- the thread ---- */

struct watch {
    struct pollfd poll[SIGNER_LINKS_MAX + 1];
    struct signer_link *link[SIGNER_LINKS_MAX]; /* of poll[1 + i] */
    size_t count;
};

/* What to wait for and how long (-1: for ever); false: stop. */
static bool set_watch(struct sign_traffic *traffic, struct watch *watch, int *ret_timeout_ms)
{
    int64_t now_ms = clock_mono_ms();
    bool go_on;

    watch->poll[0] = (struct pollfd){.fd = traffic->wake_fd, .events = POLLIN};
    pthread_mutex_lock(&traffic->lock);
    watch->count = traffic->roster.link_count;
    for (size_t i = 0; i < watch->count; i++) {
        watch->link[i] = traffic->roster.link[i];
        watch->poll[1 + i] = (struct pollfd){
            .fd = traffic->roster.link[i]->fd,
            .events = POLLIN | (traffic->roster.link[i]->blocked ? POLLOUT : 0),
        };
    }
    if (sign_pending_count(traffic->pending) > 0)
        traffic->active_ms = now_ms;
    traffic->sleeping = now_ms - traffic->active_ms >= AWAKE_MS;
    *ret_timeout_ms = traffic->sleeping ? -1 : SIGN_PENDING_TICK_MS;
    go_on = !traffic->stopping;
    pthread_mutex_unlock(&traffic->lock);
    return go_on;
}

static void look(struct sign_traffic *traffic, struct watch *watch, struct signer_inbox *inbox)
{
    uint64_t wakes;

    if (watch->poll[0].revents && read(traffic->wake_fd, &wakes, sizeof(wakes)) < 0)
        return; /* somebody has read it before: there is only us */
    for (size_t i = 0; i < watch->count; i++) {
        short seen = watch->poll[1 + i].revents;

        if (seen & POLLOUT) {
            pthread_mutex_lock(&traffic->lock);
            watch->link[i]->blocked = false;
            traffic->flush_wanted = true;
            pthread_mutex_unlock(&traffic->lock);
        }
        if (seen & (POLLIN | POLLHUP | POLLERR) && !read_link(traffic, watch->link[i], inbox))
            lose(traffic, watch->link[i]);
    }
}

void *signer_reader_run(void *arg)
{
    struct sign_traffic *traffic = arg;
    struct signer_inbox *inbox = malloc(sizeof(*inbox));
    struct watch watch;
    int timeout_ms;

    while (!inbox) { /* nothing can be done without */
        poll(NULL, 0, SIGN_PENDING_TICK_MS);
        inbox = malloc(sizeof(*inbox));
    }
    while (set_watch(traffic, &watch, &timeout_ms)) {
        if (poll(watch.poll, 1 + watch.count, timeout_ms) > 0)
            look(traffic, &watch, inbox);
        sweep(traffic);
        flush(traffic);
    }
    free(inbox);
    return NULL;
}
