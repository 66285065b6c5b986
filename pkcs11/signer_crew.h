/* SPDX-License-Identifier: Apache-2.0 */
/* The lanes of one signer process and their threads. A thread outlives the recoveries of the token:
 * it parks while the queue is not open, and goes on with a new lane. One that hangs in the module
 * is lost, with its lane.
 *
 * Threads: _start, _park and _end from the keeper's, or when that does not run; _watch from any.
 * Locks:   one, never held across a C_ call; the queue's is taken inside it. */
#pragma once

#include "pkcs11/signer_lane.h"

enum { SIGNER_LANES_MAX = 256 };

/* What a signer process has done, for its fronts. */
struct signer_counts {
    _Atomic uint64_t signatures;
    _Atomic uint64_t failures; /* in the token, mended or not */
    _Atomic uint64_t refusals;
    _Atomic uint64_t logins;
    _Atomic uint64_t proofs;     /* challenges that an idle token has signed (token.health) */
    _Atomic uint64_t recoveries; /* how often the token was ready again */
    _Atomic uint64_t disowned;   /* signatures given out unverified, and not trusted any more */
};

/* What a crew tells, with the `ctx` of signer_crew_new. */
struct signer_crew_events {
    /* On a lane's thread, when the token has failed it: the queue is to be paused. */
    void (*failed)(void *ctx, const struct why *why);
    /* On a lane's thread before `failed`, or on the one that parks: this batch is not to be
     * trusted; the lane has answered all that is in it. */
    void (*disown)(void *ctx, uint64_t batch);
};

struct signer_crew;

/* Borrows everything for its life. No thread is started yet. */
LEAFD_CHECKED enum leafd_err signer_crew_new(const struct signer_lane_parts *parts,
                                             struct signer_queue *queue,
                                             struct signer_counts *counts,
                                             const struct signer_crew_events *events, void *ctx,
                                             struct signer_crew **ret);
/* After signer_crew_end() has said true. NULL is fine. */
void signer_crew_free(struct signer_crew *crew);

/* Makes lanes with `backend`, at most as many as it offers; all are parked and stay so. *ret_all:
 * there are as many as it offers. Fails when there is not one. */
LEAFD_CHECKED enum leafd_err signer_crew_start(struct signer_crew *crew, struct backend *backend,
                                               bool *ret_all, struct why *why);
/* Lets them work, once the queue is open. */
void signer_crew_go(struct signer_crew *crew);
/* Waits until all lanes have left the backend, whose queue is not open any more, and closes them.
 * What they have given out unverified is verified now, or disowned. False: one is still in the
 * module at the deadline (clock_mono_ms), or is lost. */
LEAFD_CHECKED bool signer_crew_park(struct signer_crew *crew, int64_t deadline_ms);
/* Parks, and ends the threads. */
LEAFD_CHECKED bool signer_crew_end(struct signer_crew *crew, int64_t deadline_ms);

/* Lanes that can sign. */
unsigned signer_crew_lanes(struct signer_crew *crew);
/* Lanes that are lost by now, as signer_queue_watch() tells; *ret_next_ms as there. */
unsigned signer_crew_watch(struct signer_crew *crew, int64_t timeout_ms, int64_t *ret_next_ms);
