/* SPDX-License-Identifier: Apache-2.0 */
/* The listener threads: batches of datagrams in, replies out, for UDP and Unix datagram sockets.
 *
 * Threads: _new, _stop and _free from one thread. */
#pragma once

#include "serve/packet_path.h"

struct udp_listener;

/* `fds[i]` is the bound socket of conf->listen[i]; borrowed, kept open by the caller. Starts
 * conf->listen_threads threads (0: one per CPU), each reading all sockets. Sets the socket options
 * it needs (timestamps, packet info, credentials). */
LEAFD_CHECKED enum leafd_err udp_listener_new(const struct conf *conf, const int *fds,
                                              struct packet_path *path, struct udp_listener **ret,
                                              struct why *why);
/* Ends reading after what the kernel has queued now is handled, and joins the threads; at most
 * until `deadline_ms`. */
void udp_listener_stop(struct udp_listener *listener, int64_t deadline_ms);
void udp_listener_free(struct udp_listener *listener); /* after _stop; NULL is fine */
