/* SPDX-License-Identifier: Apache-2.0 */
/* Condition variables whose deadlines are on the clock of clock_mono_ms.
 *
 * Threads: as pthread_cond_t. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* The caller ends it with pthread_cond_destroy(). */
void cond_init(pthread_cond_t *ret);
/* As pthread_cond_wait, until `deadline_ms` at the longest (INT64_MAX: for ever). False once that
 * has passed. */
bool cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms);
