/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps one token ready to sign: opens it, looks after it, and climbs the ladder (pkcs11/ladder.h)
 * when a lane could not sign on another session either. All recovery is on one thread, while the
 * lanes are parked and requests wait in the queue; only when the token is absent do they go back to
 * the fronts.
 *
 * Threads: _watch and _lanes from any, all else from one.
 * Locks:   never held across a C_ call. */
#pragma once

#include "base/secret.h"
#include "pkcs11/signer_crew.h"

/* What the keeper tells, with the `ctx` of token_keeper_new: on its own thread, or on the one that
 * calls _watch or _start. */
struct token_keeper_events {
    /* For the fronts. The queue is open before READY or DEGRADED is said, and shut after another
     * is. */
    void (*state)(void *ctx, enum signer_state state, const char *text);
    /* The token has refused the PIN: C_Login is not called again. */
    void (*pin_refused)(void *ctx);
    /* It cannot mend itself: another process is to take over; with `at_once` this one has to end
     * first, since the token has no session for two. */
    void (*replace_me)(void *ctx, bool at_once);
    /* Unverified signatures of this batch are not to be trusted; also on a lane's thread. */
    void (*disown)(void *ctx, uint64_t batch);
    /* It calls into the module: token_keeper_watch() is to look whether it comes back. */
    void (*watch_me)(void *ctx);
};

struct token_keeper;

/* Borrows everything for its life. Opens nothing yet. */
LEAFD_CHECKED enum leafd_err token_keeper_new(const struct conf *conf, size_t token,
                                              const struct ca_set *cas, const struct secret *pin,
                                              const struct signer_lane_parts *parts,
                                              struct signer_queue *queue,
                                              struct signer_counts *counts,
                                              const struct token_keeper_events *events, void *ctx,
                                              struct token_keeper **ret, struct why *why);
/* After token_keeper_end() has said true. NULL is fine. */
void token_keeper_free(struct token_keeper *keeper);

/* Opens the token and starts its thread. LEAFD_OK also when the token is absent, which is probed
 * for. LEAFD_CONFIG, LEAFD_PIN: nothing that time mends; no thread is started. */
LEAFD_CHECKED enum leafd_err token_keeper_start(struct token_keeper *keeper, struct why *why);
/* Ends the lanes and the thread and closes the token. False: a call into the module has not
 * returned by the deadline (clock_mono_ms); then only the end of the process ends it. */
LEAFD_CHECKED bool token_keeper_end(struct token_keeper *keeper, int64_t deadline_ms);

/* Lanes that can sign. */
unsigned token_keeper_lanes(struct token_keeper *keeper);
/* Looks for calls into the module that do not return, and does what is to be done about them. Says
 * when to look again (clock_mono_ms; INT64_MAX: when there is work). */
int64_t token_keeper_watch(struct token_keeper *keeper);
