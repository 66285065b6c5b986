/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows a request's whole journey: datagram in, reply out.
 *
 * Threads: packet_path_handle from every listener thread; misses are finished on issuing threads.
 */
#pragma once

#include "cache/leaf_cache.h"
#include "conf/conf.h"
#include "issue/issuer.h"
#include "policy/policy.h"
#include "serve/reply_route.h"

struct packet_path;

/* Borrows all for its life. Starts `issue_threads` threads. */
struct packet_path_parts {
    const struct conf *conf;
    struct policy *policy;
    struct leaf_cache *cache;
    struct issuer *issuer;
    struct signer *signer;
};
LEAFD_CHECKED enum leafd_err packet_path_new(const struct packet_path_parts *parts,
                                             unsigned issue_threads, struct packet_path **ret);
/* Listeners have ended. Waits until what is under way is answered, or until `deadline_ms`; what the
 * issuer has not given back by then is dropped when it does, without touching the parts. */
void packet_path_free(struct packet_path *path, int64_t deadline_ms);

/* One datagram as the listener read it; borrowed for the call. */
struct packet {
    struct bytes data;
    bool cut;           /* was longer than WIRE_DATAGRAM_MAX */
    int64_t arrived_ms; /* kernel timestamp on clock_mono_ms */
    bool uid_refused;   /* Unix sockets: the peer is none of allow_uid */
    const struct reply_route *route;
};

/* Handles one datagram. Octets of the reply to send now from `out` (WIRE_DATAGRAM_MAX octets of
 * room), or 0: nothing to say, or it will be said later through the route. */
size_t packet_path_handle(struct packet_path *path, const struct packet *packet, uint8_t *out);
