/* SPDX-License-Identifier: Apache-2.0 */
/* A signer's end of the socket to one front: read by one thread, answered from many. Counted, so
 * that an answer on its way never meets a descriptor that was closed and used again.
 *
 * Threads: every function from any thread. */
#pragma once

#include "base/bytes.h"

struct front_link;

/* Takes `fd` (a SOCK_SEQPACKET socket), on failure too. NULL on no memory. */
struct front_link *front_link_new(int fd);
struct front_link *front_link_ref(struct front_link *link);
void front_link_unref(struct front_link *link); /* the last one closes */

int front_link_fd(const struct front_link *link); /* for poll */
/* Sends one message; waits a moment when the socket is full. False: the front is gone or does not
 * read; its own deadlines tell it. */
bool front_link_send(struct front_link *link, struct bytes message);
/* As front_link_send, and never waits. */
bool front_link_try_send(struct front_link *link, struct bytes message);
