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
    } local; /* by peer.any.sa_family; unused for Unix sockets */
    bool local_is_set;
};

/* What a struct msghdr points at besides the datagram. */
struct reply_parts {
    struct iovec iov;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};
/* Fills *ret for sendmsg(2): all three arguments before it must outlive that call. */
void reply_route_fill(const struct reply_route *route, struct bytes datagram,
                      struct reply_parts *parts, struct msghdr *ret);

/* Sends one datagram; false when the kernel did not take it (counted by the caller). Waits as long
 * as the socket's SO_SNDTIMEO, which the listener sets to a few milliseconds. */
bool reply_route_send(const struct reply_route *route, struct bytes datagram);

/* The peer's address without its port: who asks, for allowances. Borrowed from the route. */
struct bytes reply_route_source(const struct reply_route *route);
/* "127.0.0.1:4711", "[::1]:4711" or "unix:PATH", escaped, for log lines. Returns `out`. */
const char *reply_route_text(const struct reply_route *route, char *out, size_t size);
