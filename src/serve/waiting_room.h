/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams that cannot even be planned yet, because right after a start the signer has not named
 * its untrusted CA. Bounded in number; copies, each with its time.
 *
 * Threads: waiting_room_enter from any thread. One thread of its own looks every few milliseconds
 * while somebody waits, and calls back.
 * Locks:   one, never held across a call out of this file. */
#pragma once

#include "serve/packet_path.h"

struct waiting_room;

struct waiting_room_ops {
    bool (*is_open)(void *ctx);                            /* need nobody wait any longer? */
    void (*leave)(void *ctx, const struct packet *packet); /* open, or its time is up */
};

LEAFD_CHECKED enum leafd_err waiting_room_new(const struct waiting_room_ops *ops, void *ctx,
                                              struct waiting_room **ret);
/* Takes a copy that leaves at `until_ms` at the latest. False: full. */
LEAFD_CHECKED bool waiting_room_enter(struct waiting_room *room, const struct packet *packet,
                                      int64_t until_ms);
/* Everybody leaves first. NULL is fine. */
void waiting_room_free(struct waiting_room *room);
