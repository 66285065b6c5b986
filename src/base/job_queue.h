/* SPDX-License-Identifier: Apache-2.0 */
/* A bounded first-in first-out queue of pointers between threads. It never owns what is in it.
 *
 * Threads: every function from any thread, except _new and _free.
 * Locks:   one, never held across a call out of this file. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct job_queue;

/* Room for `max` jobs. The caller ends it with job_queue_free(). LEAFD_NOMEM: *ret is untouched. */
LEAFD_CHECKED enum leafd_err job_queue_new(size_t max, struct job_queue **ret);
/* The queue must be closed, nobody may wait on it, and what is left in it is the caller's. NULL is
 * fine. */
void job_queue_free(struct job_queue *queue);

/* False when full or closed: the job is still the caller's. Never waits. */
LEAFD_CHECKED bool job_queue_push(struct job_queue *queue, void *job);
/* The oldest job; waits until `deadline_ms` (clock_mono_ms; INT64_MAX for ever). NULL when the
 * deadline passes, or when the queue is closed and empty. */
void *job_queue_pop(struct job_queue *queue, int64_t deadline_ms);
/* No more pushes; those who wait get what is left, then NULL. */
void job_queue_close(struct job_queue *queue);
size_t job_queue_depth(struct job_queue *queue);
