/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h" /* struct in6_pktinfo, pthread_setname_np */

#include "serve/waiting_room.h"

#include "base/clock.h"
#include "base/cond.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_MAX = 1024, LOOK_MS = 10 };

struct waiting {
    struct waiting *next;
    struct packet packet; /* points into this block */
    struct reply_route route;
    int64_t until_ms;
    uint8_t data[];
};

struct waiting_room {
    const struct waiting_room_ops *ops;
    void *ctx;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t entered;
    struct waiting *first; /* oldest first */
    struct waiting **end;
    size_t count;
    bool closed;
};

/* All whose time is up, or all; the list stays in its order. */
static struct waiting *take(struct waiting_room *room, bool all)
{
    struct waiting *taken = NULL;
    struct waiting **taken_end = &taken;
    struct waiting **link = &room->first;
    int64_t now_ms = clock_mono_ms();

    while (*link) {
        struct waiting *one = *link;

        if (!all && one->until_ms > now_ms) {
            link = &one->next;
            continue;
        }
        *link = one->next;
        one->next = NULL;
        *taken_end = one;
        taken_end = &one->next;
        room->count--;
    }
    room->end = link;
    return taken;
}

static void let_go(struct waiting_room *room, struct waiting *taken)
{
    while (taken) {
        struct waiting *next = taken->next;

        room->ops->leave(room->ctx, &taken->packet);
        free(taken);
        taken = next;
    }
}

/* Nobody tells when the signer has named its CA: it is looked at, while somebody waits for it. */
static void wait_a_little(struct waiting_room *room)
{
    int64_t until_ms = room->first ? clock_mono_ms() + LOOK_MS : INT64_MAX;

    (void)cond_wait_until(&room->entered, &room->lock, until_ms);
}

static void *room_run(void *arg)
{
    struct waiting_room *room = arg;
    bool last = false;

    pthread_setname_np(pthread_self(), "waiting");
    while (!last) {
        struct waiting *taken;
        bool open;

        pthread_mutex_lock(&room->lock);
        if (!room->closed)
            wait_a_little(room);
        last = room->closed;
        pthread_mutex_unlock(&room->lock);
        open = last || room->ops->is_open(room->ctx);
        pthread_mutex_lock(&room->lock);
        taken = take(room, open);
        pthread_mutex_unlock(&room->lock);
        let_go(room, taken);
    }
    return NULL;
}

enum leafd_err waiting_room_new(const struct waiting_room_ops *ops, void *ctx,
                                struct waiting_room **ret)
{
    struct waiting_room *room = calloc(1, sizeof(*room));

    if (!room)
        return LEAFD_NOMEM;
    room->ops = ops;
    room->ctx = ctx;
    room->end = &room->first;
    pthread_mutex_init(&room->lock, NULL);
    cond_init(&room->entered);
    if (pthread_create(&room->thread, NULL, room_run, room) != 0) {
        pthread_cond_destroy(&room->entered);
        pthread_mutex_destroy(&room->lock);
        free(room);
        return LEAFD_NOMEM;
    }
    *ret = room;
    return LEAFD_OK;
}

bool waiting_room_enter(struct waiting_room *room, const struct packet *packet, int64_t until_ms)
{
    struct waiting *one = malloc(sizeof(*one) + packet->data.len);
    bool entered = false;

    if (!one)
        return false;
    *one = (struct waiting){.packet = *packet, .route = *packet->route, .until_ms = until_ms};
    memcpy(one->data, packet->data.data, packet->data.len);
    one->packet.data.data = one->data;
    one->packet.route = &one->route;
    pthread_mutex_lock(&room->lock);
    if (!room->closed && room->count < WAITING_MAX) {
        *room->end = one;
        room->end = &one->next;
        room->count++;
        entered = true;
    }
    pthread_mutex_unlock(&room->lock);
    if (entered)
        pthread_cond_signal(&room->entered);
    else
        free(one);
    return entered;
}

void waiting_room_free(struct waiting_room *room)
{
    if (!room)
        return;
    pthread_mutex_lock(&room->lock);
    room->closed = true;
    pthread_mutex_unlock(&room->lock);
    pthread_cond_signal(&room->entered);
    pthread_join(room->thread, NULL);
    pthread_cond_destroy(&room->entered);
    pthread_mutex_destroy(&room->lock);
    free(room);
}
