/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct counts {
    _Atomic uint64_t value[METRIC_COUNT];
    struct counts *next;
    struct counts **back; /* what points at us */
};

const struct metric_row metric_rows[METRIC_COUNT] = {
#define METRIC_ROW(id, name, labels, help) [METRIC_##id] = {name, labels, help},
    METRIC_ROWS(METRIC_ROW)
#undef METRIC_ROW
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct counts *threads; /* under lock */
static struct counts departed; /* of threads that ended, and of those that found no memory */
static pthread_key_t ending;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct counts *mine;

static void thread_ends(void *arg)
{
    struct counts *counts = arg;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < METRIC_COUNT; i++)
        atomic_fetch_add_explicit(&departed.value[i],
                                  atomic_load_explicit(&counts->value[i], memory_order_relaxed),
                                  memory_order_relaxed);
    *counts->back = counts->next;
    if (counts->next)
        counts->next->back = counts->back;
    pthread_mutex_unlock(&lock);
    free(counts);
    mine = NULL;
}

static void make_key(void)
{
    pthread_key_create(&ending, thread_ends);
}

static struct counts *join(void)
{
    struct counts *counts = calloc(1, sizeof(*counts));

    if (!counts)
        return &departed;
    pthread_once(&once, make_key);
    pthread_mutex_lock(&lock);
    counts->next = threads;
    counts->back = &threads;
    if (threads)
        threads->back = &counts->next;
    threads = counts;
    pthread_mutex_unlock(&lock);
    pthread_setspecific(ending, counts);
    mine = counts;
    return counts;
}

void metrics_add(enum metric metric, uint64_t n)
{
    struct counts *counts = mine ? mine : join();

    atomic_fetch_add_explicit(&counts->value[metric], n, memory_order_relaxed);
}

uint64_t metrics_read(enum metric metric)
{
    uint64_t sum;

    pthread_mutex_lock(&lock);
    sum = atomic_load_explicit(&departed.value[metric], memory_order_relaxed);
    for (struct counts *c = threads; c; c = c->next)
        sum += atomic_load_explicit(&c->value[metric], memory_order_relaxed);
    pthread_mutex_unlock(&lock);
    return sum;
}
