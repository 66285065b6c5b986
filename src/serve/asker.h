/* SPDX-License-Identifier: Apache-2.0 */
/* One request as long as it waits for its answer, and that answer in octets: a leaf, or an error
 * within the allowance.
 *
 * What is answered at once lives on the listener's stack and borrows from the packet; who has to
 * wait is copied to the heap.
 *
 * Threads: every function from any thread, but askers_init and _clear; an asker belongs to one
 * thread at a time. No locks. */
#pragma once

#include "cache/flights.h"
#include "issue/issued.h"
#include "policy/names.h"
#include "serve/error_budget.h"
#include "serve/reply_route.h"
#include "wire/request.h"

enum { ASKER_ERROR_ROOM = 320 /* more than any error reply takes */ };

/* What all of them share. */
struct askers {
    int64_t ttl_max_sec;
    struct error_budget *budget;
    _Atomic size_t kept; /* on the heap */
};

struct asker {
    struct flight_waiter waiter; /* first */
    struct reply_route route;
    int64_t deadline_ms;
    struct request request; /* its cert is gone once the asker is on the heap */
    struct name name;       /* the host, checked */
    bool on_heap;
    bool in_doubt; /* any verdict but good, legacy and none: a short ttl */
};

/* `askers` is all zero. LEAFD_NOMEM: askers_clear() is fine all the same. */
LEAFD_CHECKED enum leafd_err askers_init(struct askers *askers, const struct conf *conf);
void askers_clear(struct askers *askers);

/* An error reply into `out` (ASKER_ERROR_ROOM octets): its octets, or 0 when the allowance is spent
 * or nobody waits. Counted and logged here. */
size_t asker_write_error(struct askers *askers, const struct asker *asker, enum leafd_err err,
                         const struct why *why, uint8_t *out);
/* The reply with this leaf into `out` (WIRE_DATAGRAM_MAX octets); 0 when it is too large for a
 * datagram. */
size_t asker_write_leaf(const struct askers *askers, const struct asker *asker,
                        const struct issued *issued, int64_t now_sec, uint8_t *out);

/* A copy on the heap with a host of its own; NULL when a bound is reached. */
struct asker *asker_keep(struct askers *askers, const struct asker *from);
void asker_free(struct askers *askers, struct asker *asker); /* NULL is fine */
/* The end of an asker on the heap: what is in `out` is sent, unless nobody waits for it. */
void asker_send(struct askers *askers, struct asker *asker, const uint8_t *out, size_t len);
void asker_send_error(struct askers *askers, struct asker *asker, enum leafd_err err);
