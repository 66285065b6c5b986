/* SPDX-License-Identifier: Apache-2.0 */
/* Where a reply goes: socket, peer, and the local address it was asked at. A value, copied freely.
 *
 * Threads: reply_route_send from any thread. */
#pragma once

#include "base/bytes.h"
#include "conf/conf.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct reply_route {
    int fd;                           /* the listener's, open as long as the process lives */
    const struct conf_listen *listen; /* its formats */
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } peer;
    socklen_t peer_len;
    union {
        struct in_pktinfo in4;
        struct in6_pktinfo in6;
    } local;                          /* by peer.any.sa_family; unused for Unix sockets */
    bool local_is_set;
};

/* Sends one datagram; false when the kernel did not take it (counted by the caller). Never waits long. */
bool reply_route_send(const struct reply_route *route, struct bytes datagram);
