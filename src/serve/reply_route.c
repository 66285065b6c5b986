/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h" /* struct in6_pktinfo */

#include "serve/reply_route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void put_local(struct msghdr *message, struct reply_parts *parts, int level, int type,
                      const void *info, size_t len)
{
    struct cmsghdr *head;

    message->msg_control = parts->control;
    message->msg_controllen = CMSG_SPACE(len);
    head = CMSG_FIRSTHDR(message);
    head->cmsg_level = level;
    head->cmsg_type = type;
    head->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(head), info, len);
}

void reply_route_fill(const struct reply_route *route, struct bytes datagram,
                      struct reply_parts *parts, struct msghdr *ret)
{
    parts->iov = (struct iovec){(void *)datagram.data, datagram.len};
    *ret = (struct msghdr){.msg_name = (void *)&route->peer,
                           .msg_namelen = route->peer_len,
                           .msg_iov = &parts->iov,
                           .msg_iovlen = 1};
    if (!route->local_is_set)
        return;
    memset(parts->control, 0, sizeof(parts->control));
    if (route->peer.any.sa_family == AF_INET)
        put_local(ret, parts, IPPROTO_IP, IP_PKTINFO, &route->local.in4, sizeof(route->local.in4));
    else if (route->peer.any.sa_family == AF_INET6)
        put_local(ret, parts, IPPROTO_IPV6, IPV6_PKTINFO, &route->local.in6,
                  sizeof(route->local.in6));
}

bool reply_route_send(const struct reply_route *route, struct bytes datagram)
{
    struct reply_parts parts;
    struct msghdr message;
    ssize_t sent;

    reply_route_fill(route, datagram, &parts, &message);
    do
        sent = sendmsg(route->fd, &message, MSG_NOSIGNAL);
    while (sent == -1 && errno == EINTR);
    return sent == (ssize_t)datagram.len;
}

struct bytes reply_route_source(const struct reply_route *route)
{
    const char *path = route->peer.un.sun_path;
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t len = route->peer_len > head ? route->peer_len - head : 0;

    switch (route->peer.any.sa_family) {
    case AF_INET:
        return (struct bytes){(const uint8_t *)&route->peer.in4.sin_addr, 4};
    case AF_INET6:
        return (struct bytes){(const uint8_t *)&route->peer.in6.sin6_addr, 16};
    default: /* a path ends with its NUL; an abstract name begins with one and has all its octets */
        return (struct bytes){(const uint8_t *)path, len && path[0] ? strnlen(path, len) : len};
    }
}

const char *reply_route_text(const struct reply_route *route, char *out, size_t size)
{
    char address[INET6_ADDRSTRLEN] = "?";
    char path[sizeof(route->peer.un.sun_path) * 4 + 1];

    switch (route->peer.any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &route->peer.in4.sin_addr, address, sizeof(address));
        snprintf(out, size, "%s:%u", address, ntohs(route->peer.in4.sin_port));
        break;
    case AF_INET6:
        inet_ntop(AF_INET6, &route->peer.in6.sin6_addr, address, sizeof(address));
        snprintf(out, size, "[%s]:%u", address, ntohs(route->peer.in6.sin6_port));
        break;
    default:
        bytes_escape(reply_route_source(route), path, sizeof(path));
        snprintf(out, size, "unix:%s", path);
        break;
    }
    return out;
}
