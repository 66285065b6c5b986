/* SPDX-License-Identifier: Apache-2.0 */
/* Lets an owner end in order while work that it has given away is still under way: it waits for it
 * up to a deadline, and what comes back later finds that the owner's parts may not be touched.
 *
 * Threads: every function from any thread, but _init, _close and _clear from the owner's alone.
 * Locks:   one, never held across a call out of this file. */
#pragma once

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct drain {
    pthread_mutex_t lock;
    pthread_cond_t idle;
    size_t under_way;
    size_t inside;  /* calls that use the owner's parts now */
    bool closed;    /* the parts may be gone */
    bool abandoned; /* the last work frees the owner */
};

void drain_init(struct drain *drain);
void drain_clear(struct drain *drain);

/* One more piece of work is given away. */
void drain_begin(struct drain *drain);
/* It has come back. True: the owner has abandoned it and this was the last: the caller frees what
 * the drain belongs to. Else that may be gone on return. */
LEAFD_CHECKED bool drain_end(struct drain *drain);

/* False once the drain is closed: then the owner's parts may not be touched. Else they stay until
 * drain_leave(). */
LEAFD_CHECKED bool drain_enter(struct drain *drain);
void drain_leave(struct drain *drain);

/* Waits until nothing is under way, or until `deadline_ms`; then nobody can enter any more. */
void drain_close(struct drain *drain, int64_t deadline_ms);
/* Closed before: waits for those inside. True: work is still under way, and whoever ends the last
 * piece frees what the drain belongs to; the caller must not touch it any more. */
LEAFD_CHECKED bool drain_abandon(struct drain *drain);
