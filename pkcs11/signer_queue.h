/* SPDX-License-Identifier: Apache-2.0 */
/* The SIGN requests of one signer process on their way from its reader to its lanes. A request
 * stays here while the token is being recovered, and is answered exactly once, even when a lane
 * hangs with it and another one does the same.
 *
 * Threads: every function from any thread, except _new and _free; a seat is one lane's.
 * Locks:   one, never held across an answer or a call out of this file. */
#pragma once

#include "base/bytes.h"
#include "pkcs11/front_link.h"
#include "pkcs11/sign_check.h"
#include "pkcs11/signer.h"

#include <stdatomic.h>

enum { SIGNER_QUEUE_MAX = 8192 };

/* One SIGN message: owns its octets, from which `request` borrows. */
struct sign_job {
    struct sign_request request;
    atomic_bool
        checked; /* sign_check has passed it: its serial is known, and it is not asked again */
    /* ---- the queue's own ---- */
    struct sign_job *next;
    struct front_link *front;
    uint64_t id;
    unsigned holders; /* the line, and lanes */
    unsigned attempts;
    bool waits; /* in line */
    bool answered;
    uint8_t message[];
};

/* Where a lane works: what it has in hand, and since when it is in the module with it. */
struct sign_seat {
    _Atomic int64_t signing_since_ms; /* set by the lane; 0: it is not in the module */
    /* under the queue's lock */
    struct sign_job *job;
    uint64_t turn; /* of its job, in the order in which lanes took them */
    bool lost;     /* hangs: its job has been given to another */
};

enum signer_queue_mode {
    SIGNER_QUEUE_SHUT,   /* nobody signs: what comes and what waits goes back with LEAFD_AGAIN */
    SIGNER_QUEUE_PAUSED, /* what comes waits: lanes take nothing */
    SIGNER_QUEUE_OPEN
};

struct signer_queue;

/* Shut. `max_rate` is signer.max_rate: signatures per second, 0 for no limit. `check` (borrowed) is
 * told of serials that were not used after all. */
LEAFD_CHECKED enum leafd_err signer_queue_new(double max_rate, struct sign_check *check,
                                              struct signer_queue **ret);
/* No lane is at work. What still waits is dropped without an answer. NULL is fine. */
void signer_queue_free(struct signer_queue *queue);

/* Answers a request, whatever it was: an error that no front is told by its name is said as
 * LEAFD_INTERNAL. */
void sign_answer(struct front_link *front, uint64_t id, enum leafd_err err, struct bytes signature,
                 uint64_t batch);

/* Reads a SIGN message and puts it in line, or answers at once what cannot be. LEAFD_MALFORMED: it
 * is no message that a front sends. */
enum leafd_err signer_queue_add(struct signer_queue *queue, struct front_link *front,
                                struct bytes message);

void signer_queue_set_mode(struct signer_queue *queue, enum signer_queue_mode mode);
/* Open to paused; false when it was not open. */
bool signer_queue_pause(struct signer_queue *queue);
enum signer_queue_mode signer_queue_mode(struct signer_queue *queue);
/* Nothing waits and no lane that is not lost has anything in hand. */
bool signer_queue_idle(struct signer_queue *queue);

/* The next request for the lane at `seat`; waits for it, up to `patience_ms` if that is not below
 * 0. NULL: the queue is not open any more, or the seat is lost, or (*ret_idle) there was none so
 * long. It is given back with _done or _retry. */
struct sign_job *signer_queue_take(struct signer_queue *queue, struct sign_seat *seat,
                                   int64_t patience_ms, bool *ret_idle);
/* Answers it, unless somebody has; `batch` as in the reply. */
void signer_queue_done(struct signer_queue *queue, struct sign_seat *seat, enum leafd_err err,
                       struct bytes signature, uint64_t batch);
/* The token could not sign it: first in line again; LEAFD_AGAIN to the front once that has been
 * tried too often, or when the queue is shut. */
void signer_queue_retry(struct signer_queue *queue, struct sign_seat *seat);

/* It hangs, or has hung: what its lane says of the token is old. */
bool signer_queue_is_lost(struct signer_queue *queue, struct sign_seat *seat);
/* Its lane is out of the module and gets to work again. */
void signer_queue_find(struct signer_queue *queue, struct sign_seat *seat);

/* Looks for lanes among `seats` that are in the module for over `timeout_ms`, while others have got
 * further or nobody has: marks them lost and puts their requests first in line (of a queue that is
 * shut they go back when that is said again). In a queue that is paused it looks for requests that
 * cannot wait any longer, and answers LEAFD_TOKEN_UNAVAILABLE. Returns how many lanes are lost by
 * now; *ret_next_ms is when to look again (clock_mono_ms; INT64_MAX: when there is work). */
unsigned signer_queue_watch(struct signer_queue *queue, struct sign_seat *const *seats,
                            unsigned count, int64_t timeout_ms, int64_t *ret_next_ms);
