/* SPDX-License-Identifier: Apache-2.0 */
#include "base/job_queue.h"

#include "base/cond.h"

#include <pthread.h>
#include <stdlib.h>

struct job_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    void **ring;
    size_t max;
    size_t first;
    size_t count;
    bool closed;
};

enum leafd_err job_queue_new(size_t max, struct job_queue **ret)
{
    struct job_queue *queue = calloc(1, sizeof(*queue));

    if (!queue)
        return LEAFD_NOMEM;
    queue->ring = calloc(max, sizeof(*queue->ring));
    if (!queue->ring) {
        free(queue);
        return LEAFD_NOMEM;
    }
    queue->max = max;
    pthread_mutex_init(&queue->lock, NULL);
    cond_init(&queue->filled);
    *ret = queue;
    return LEAFD_OK;
}

void job_queue_free(struct job_queue *queue)
{
    if (!queue)
        return;
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->lock);
    free(queue->ring);
    free(queue);
}

bool job_queue_push(struct job_queue *queue, void *job)
{
    bool taken = false;

    pthread_mutex_lock(&queue->lock);
    if (!queue->closed && queue->count < queue->max) {
        queue->ring[(queue->first + queue->count) % queue->max] = job;
        queue->count++;
        taken = true;
    }
    pthread_mutex_unlock(&queue->lock);
    if (taken)
        pthread_cond_signal(&queue->filled);
    return taken;
}

void *job_queue_pop(struct job_queue *queue, int64_t deadline_ms)
{
    void *job = NULL;

    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed &&
           cond_wait_until(&queue->filled, &queue->lock, deadline_ms))
        ;
    if (queue->count > 0) {
        job = queue->ring[queue->first];
        queue->first = (queue->first + 1) % queue->max;
        queue->count--;
    }
    pthread_mutex_unlock(&queue->lock);
    return job;
}

void job_queue_close(struct job_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_mutex_unlock(&queue->lock);
    pthread_cond_broadcast(&queue->filled);
}

size_t job_queue_depth(struct job_queue *queue)
{
    size_t count;

    pthread_mutex_lock(&queue->lock);
    count = queue->count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}
