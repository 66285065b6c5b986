/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "serve/drain.h"

#include "base/cond.h"

void drain_init(struct drain *drain)
{
    *drain = (struct drain){.under_way = 0};
    pthread_mutex_init(&drain->lock, NULL);
    cond_init(&drain->idle);
}

void drain_clear(struct drain *drain)
{
    pthread_cond_destroy(&drain->idle);
    pthread_mutex_destroy(&drain->lock);
}

void drain_begin(struct drain *drain)
{
    pthread_mutex_lock(&drain->lock);
    drain->under_way++;
    pthread_mutex_unlock(&drain->lock);
}

bool drain_end(struct drain *drain)
{
    bool last;

    pthread_mutex_lock(&drain->lock);
    last = --drain->under_way == 0 && drain->abandoned;
    pthread_cond_broadcast(&drain->idle);
    pthread_mutex_unlock(&drain->lock);
    return last;
}

bool drain_enter(struct drain *drain)
{
    bool open;

    pthread_mutex_lock(&drain->lock);
    open = !drain->closed;
    drain->inside += open;
    pthread_mutex_unlock(&drain->lock);
    return open;
}

/* The drain is still there: whoever ends it waits for this. */
void drain_leave(struct drain *drain)
{
    pthread_mutex_lock(&drain->lock);
    drain->inside--;
    pthread_cond_broadcast(&drain->idle);
    pthread_mutex_unlock(&drain->lock);
}

void drain_close(struct drain *drain, int64_t deadline_ms)
{
    pthread_mutex_lock(&drain->lock);
    while (drain->under_way > 0 && cond_wait_until(&drain->idle, &drain->lock, deadline_ms))
        ;
    drain->closed = true;
    pthread_mutex_unlock(&drain->lock);
}

bool drain_abandon(struct drain *drain)
{
    bool abandoned;

    pthread_mutex_lock(&drain->lock);
    while (drain->inside > 0)
        pthread_cond_wait(&drain->idle, &drain->lock);
    abandoned = drain->abandoned = drain->under_way > 0;
    pthread_mutex_unlock(&drain->lock);
    return abandoned;
}
