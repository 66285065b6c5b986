/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "admin/conn_deadline.h"

#include "base/clock.h"
#include "base/cond.h"

#include <stdlib.h>
#include <sys/socket.h>

struct conn {
    int fd;              /* -1: a free place */
    int64_t deadline_ms; /* INT64_MAX: a free place, or its connection was ended already */
};

struct conn_deadlines {
    int64_t patience_ms;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under lock */
    bool stop;
    struct conn conn[CONN_DEADLINES_MAX];
};

/* Ends what is due; when to look again. */
static int64_t sweep(struct conn_deadlines *deadlines)
{
    int64_t now_ms = clock_mono_ms();
    int64_t next_ms = INT64_MAX;

    for (int i = 0; i < CONN_DEADLINES_MAX; i++) {
        struct conn *conn = &deadlines->conn[i];

        if (conn->deadline_ms <= now_ms) {
            (void)shutdown(conn->fd, SHUT_RDWR);
            conn->deadline_ms = INT64_MAX;
        } else if (conn->deadline_ms < next_ms) {
            next_ms = conn->deadline_ms;
        }
    }
    return next_ms;
}

static void *run(void *arg)
{
    struct conn_deadlines *deadlines = arg;

    pthread_mutex_lock(&deadlines->lock);
    while (!deadlines->stop)
        (void)cond_wait_until(&deadlines->changed, &deadlines->lock, sweep(deadlines));
    pthread_mutex_unlock(&deadlines->lock);
    return NULL;
}

enum leafd_err conn_deadlines_new(int64_t patience_ms, struct conn_deadlines **ret)
{
    struct conn_deadlines *deadlines = calloc(1, sizeof(*deadlines));

    if (!deadlines)
        return LEAFD_NOMEM;
    deadlines->patience_ms = patience_ms;
    for (int i = 0; i < CONN_DEADLINES_MAX; i++)
        deadlines->conn[i] = (struct conn){-1, INT64_MAX};
    pthread_mutex_init(&deadlines->lock, NULL);
    cond_init(&deadlines->changed);
    if (pthread_create(&deadlines->thread, NULL, run, deadlines) != 0) {
        pthread_cond_destroy(&deadlines->changed);
        pthread_mutex_destroy(&deadlines->lock);
        free(deadlines);
        return LEAFD_NOMEM;
    }
    *ret = deadlines;
    return LEAFD_OK;
}

void conn_deadlines_free(struct conn_deadlines *deadlines)
{
    if (!deadlines)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->stop = true;
    pthread_cond_signal(&deadlines->changed);
    pthread_mutex_unlock(&deadlines->lock);
    pthread_join(deadlines->thread, NULL);
    pthread_cond_destroy(&deadlines->changed);
    pthread_mutex_destroy(&deadlines->lock);
    free(deadlines);
}

int conn_deadlines_begin(struct conn_deadlines *deadlines, int fd)
{
    int number = -1;

    pthread_mutex_lock(&deadlines->lock);
    for (int i = 0; i < CONN_DEADLINES_MAX && number == -1; i++) {
        if (deadlines->conn[i].fd == -1)
            number = i;
    }
    if (number != -1) {
        deadlines->conn[number] = (struct conn){fd, clock_mono_ms() + deadlines->patience_ms};
        pthread_cond_signal(&deadlines->changed);
    }
    pthread_mutex_unlock(&deadlines->lock);
    return number;
}

void conn_deadlines_end(struct conn_deadlines *deadlines, int number)
{
    if (number == -1)
        return;
    pthread_mutex_lock(&deadlines->lock);
    deadlines->conn[number] = (struct conn){-1, INT64_MAX};
    pthread_mutex_unlock(&deadlines->lock);
}
