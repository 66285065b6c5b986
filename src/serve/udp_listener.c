/* SPDX-License-Identifier: Apache-2.0 */
/* Every thread reads every socket, a batch at a time, and sends the batch's replies at once. The
 * memory of a batch is mapped and touched only as far as datagrams came, so that idle threads cost
 * a few pages. */
#include "config.h" /* recvmmsg, struct ucred */

#include "serve/udp_listener.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

enum { BATCH = 64, THREADS_MAX = 256, SEND_WAIT_MS = 20 };
enum {
    CONTROL_MAX = CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(struct in6_pktinfo)) +
                  CMSG_SPACE(sizeof(struct ucred))
};

/* One socket and the address it is really bound to. */
struct endpoint {
    int fd;
    const struct conf_listen *listen;
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } own;
    socklen_t own_len;
    bool is_wildcard; /* UDP: bound to all addresses */
};

struct slot {
    struct reply_route route; /* its peer is where recvmmsg puts the source */
    struct iovec iov;
    struct reply_parts reply;
    _Alignas(struct cmsghdr) uint8_t control[CONTROL_MAX];
};

struct batch {
    int64_t now_ms;    /* when it was read */
    int64_t offset_ms; /* from the wall clock to clock_mono_ms then */
    struct mmsghdr in[BATCH];
    struct mmsghdr out[BATCH];
    struct slot slot[BATCH];
    uint8_t received[BATCH][WIRE_DATAGRAM_MAX];
    uint8_t replies[BATCH][WIRE_DATAGRAM_MAX];
};

struct reader {
    struct udp_listener *listener;
    pthread_t thread;
    int epoll;
    struct batch *batch; /* mapped */
};

struct udp_listener {
    struct packet_path *path;
    struct endpoint *endpoints;
    size_t endpoint_count;
    struct reader *readers;
    size_t reader_count; /* whose threads run */
    int stop;            /* an eventfd, readable once the listener is to end */
    _Atomic int64_t stop_ms;
    _Atomic int64_t stop_deadline_ms;
};

/* What the kernel tells besides the octets. */
struct origin {
    int64_t arrived_ms;
    bool uid_is_set;
    uid_t uid;
};

/* ---- whose datagrams are taken ---- */

static bool is_loopback(const struct reply_route *route)
{
    if (route->peer.any.sa_family == AF_INET)
        return ntohl(route->peer.in4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&route->peer.in6.sin6_addr);
}

/* Is the peer's address the one its datagram was sent to? */
static bool is_local_destination(const struct reply_route *route)
{
    if (!route->local_is_set)
        return false;
    if (route->peer.any.sa_family == AF_INET)
        return route->local.in4.ipi_spec_dst.s_addr == route->peer.in4.sin_addr.s_addr;
    return IN6_ARE_ADDR_EQUAL(&route->local.in6.ipi6_addr, &route->peer.in6.sin6_addr);
}

static bool is_from(const struct endpoint *endpoint, const struct reply_route *route)
{
    const struct sockaddr_in *in4 = &endpoint->own.in4;
    const struct sockaddr_in6 *in6 = &endpoint->own.in6;

    if (endpoint->listen->is_unix || endpoint->own.any.sa_family != route->peer.any.sa_family)
        return false;
    if (route->peer.any.sa_family == AF_INET) {
        if (in4->sin_port != route->peer.in4.sin_port)
            return false;
        if (!endpoint->is_wildcard)
            return in4->sin_addr.s_addr == route->peer.in4.sin_addr.s_addr;
    } else {
        if (in6->sin6_port != route->peer.in6.sin6_port)
            return false;
        if (!endpoint->is_wildcard)
            return IN6_ARE_ADDR_EQUAL(&in6->sin6_addr, &route->peer.in6.sin6_addr);
    }
    return is_loopback(route) || is_local_destination(route);
}

static bool is_from_path(const struct endpoint *endpoint, const struct reply_route *route)
{
    return endpoint->listen->is_unix && endpoint->own_len == route->peer_len &&
           memcmp(&endpoint->own.un, &route->peer.un, route->peer_len) == 0;
}

/* Did one of our own listeners send this? Two of them must never talk to each other. */
static bool is_our_own(const struct udp_listener *listener, const struct reply_route *route)
{
    for (size_t i = 0; i < listener->endpoint_count; i++) {
        const struct endpoint *endpoint = &listener->endpoints[i];

        if (route->listen->is_unix ? is_from_path(endpoint, route) : is_from(endpoint, route))
            return true;
    }
    return false;
}

static bool net_covers(const struct conf_net *net, const uint8_t *address)
{
    unsigned whole = net->prefix / 8;
    unsigned rest = net->prefix % 8;

    if (memcmp(net->address, address, whole) != 0)
        return false;
    return rest == 0 || (net->address[whole] ^ address[whole]) >> (8 - rest) == 0;
}

static bool may_ask(const struct conf_listen *listen, const struct reply_route *route)
{
    struct bytes source = reply_route_source(route);

    if (route->listen->is_unix)
        return source.len > 0; /* one without a name could not be answered */
    if (listen->allow_from_count == 0)
        return is_loopback(route);
    for (size_t i = 0; i < listen->allow_from_count; i++)
        if (listen->allow_from[i].family == route->peer.any.sa_family &&
            net_covers(&listen->allow_from[i], source.data))
            return true;
    return false;
}

static bool uid_may_ask(const struct conf_listen *listen, const struct origin *origin)
{
    if (!listen->is_unix)
        return true;
    if (!origin->uid_is_set)
        return false;
    if (listen->allow_uid_count == 0)
        return origin->uid == 0 || origin->uid == geteuid();
    for (size_t i = 0; i < listen->allow_uid_count; i++)
        if (listen->allow_uid[i] == origin->uid)
            return true;
    return false;
}

/* ---- one batch ---- */

static void batch_prepare(struct batch *batch, const struct endpoint *endpoint)
{
    for (size_t i = 0; i < BATCH; i++) {
        struct slot *slot = &batch->slot[i];

        slot->route.fd = endpoint->fd;
        slot->route.listen = endpoint->listen;
        slot->iov = (struct iovec){batch->received[i], WIRE_DATAGRAM_MAX};
        batch->in[i].msg_hdr = (struct msghdr){.msg_name = &slot->route.peer,
                                               .msg_namelen = sizeof(slot->route.peer),
                                               .msg_iov = &slot->iov,
                                               .msg_iovlen = 1,
                                               .msg_control = slot->control,
                                               .msg_controllen = sizeof(slot->control)};
    }
}

/* A kernel timestamp on clock_mono_ms. */
static int64_t stamp_to_ms(const struct cmsghdr *head, int64_t offset_ms)
{
    struct timespec stamp;

    memcpy(&stamp, CMSG_DATA(head), sizeof(stamp));
    return (int64_t)stamp.tv_sec * 1000 + stamp.tv_nsec / 1000000 + offset_ms;
}

static void read_local(const struct cmsghdr *head, struct reply_route *route)
{
    if (head->cmsg_level == IPPROTO_IP) {
        memcpy(&route->local.in4, CMSG_DATA(head), sizeof(route->local.in4));
        route->local.in4.ipi_ifindex = 0; /* the routing table chooses the way back */
    } else {
        memcpy(&route->local.in6, CMSG_DATA(head), sizeof(route->local.in6));
        if (!IN6_IS_ADDR_LINKLOCAL(&route->local.in6.ipi6_addr))
            route->local.in6.ipi6_ifindex = 0;
    }
    route->local_is_set = true;
}

static void read_control(struct msghdr *message, int64_t now_ms, int64_t offset_ms,
                         struct reply_route *route, struct origin *ret)
{
    struct ucred peer;

    *ret = (struct origin){.arrived_ms = now_ms};
    route->local_is_set = false;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_TIMESTAMPNS) {
            ret->arrived_ms = stamp_to_ms(head, offset_ms);
        } else if (head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&peer, CMSG_DATA(head), sizeof(peer));
            ret->uid_is_set = true;
            ret->uid = peer.uid;
        } else if ((head->cmsg_level == IPPROTO_IP && head->cmsg_type == IP_PKTINFO) ||
                   (head->cmsg_level == IPPROTO_IPV6 && head->cmsg_type == IPV6_PKTINFO)) {
            read_local(head, route);
        }
    }
    if (ret->arrived_ms > now_ms)
        ret->arrived_ms = now_ms;
}

/* Handles datagram `i`; octets of its reply. */
static size_t handle_one(struct udp_listener *listener, struct batch *batch, size_t i, uint8_t *out,
                         int64_t *ret_arrived_ms)
{
    struct msghdr *message = &batch->in[i].msg_hdr;
    struct reply_route *route = &batch->slot[i].route;
    struct origin origin;
    struct packet packet;

    route->peer_len = message->msg_namelen;
    if (route->peer_len == 0) /* no name: what stands there is another sender's */
        route->peer.any.sa_family = AF_UNSPEC;
    read_control(message, batch->now_ms, batch->offset_ms, route, &origin);
    *ret_arrived_ms = origin.arrived_ms;
    if (!may_ask(route->listen, route)) {
        metrics_add(METRIC_DROP_SOURCE, 1);
        return 0;
    }
    if (is_our_own(listener, route)) {
        metrics_add(METRIC_DROP_LOOP, 1);
        return 0;
    }
    packet = (struct packet){.data = {batch->received[i], batch->in[i].msg_len},
                             .cut = message->msg_flags & MSG_TRUNC,
                             .arrived_ms = origin.arrived_ms,
                             .uid_refused = !uid_may_ask(route->listen, &origin),
                             .route = route};
    return packet_path_handle(listener->path, &packet, out);
}

/* Sends `count` replies. Once one had to be given up, the others of this batch do not wait. */
static void batch_send(struct batch *batch, int fd, unsigned count)
{
    int flags = MSG_NOSIGNAL;
    unsigned done = 0;

    while (done < count) {
        int sent = sendmmsg(fd, batch->out + done, count - done, flags);

        if (sent > 0) {
            done += (unsigned)sent;
        } else if (errno != EINTR) {
            metrics_add(METRIC_SEND_FAILED, 1);
            flags |= MSG_DONTWAIT;
            done++;
        }
    }
}

/* Reads and answers one batch. False when nothing is queued; *ret_last_ms is the last arrival. */
static bool read_batch(struct reader *reader, const struct endpoint *endpoint, int64_t *ret_last_ms)
{
    static struct log_limit limit;
    struct batch *batch = reader->batch;
    unsigned replies = 0;
    int count;

    batch_prepare(batch, endpoint);
    count = recvmmsg(endpoint->fd, batch->in, BATCH, MSG_DONTWAIT, NULL);
    if (count < 1) {
        if (errno != EAGAIN && errno != EINTR)
            log_limited(&limit, 1, LOG_LEVEL_WARNING, "receive-failed", "listen=%s reason=\"%s\"",
                        endpoint->listen->text, strerror(errno));
        return false;
    }
    metrics_add(METRIC_DATAGRAMS, (uint64_t)count);
    /* Once for all: reading clocks for each datagram costs a tenth of a hit. */
    batch->now_ms = clock_mono_ms();
    batch->offset_ms = clock_mono_ms_of_real(0);
    for (size_t i = 0; i < (size_t)count; i++) {
        uint8_t *out = batch->replies[replies];
        size_t len = handle_one(reader->listener, batch, i, out, ret_last_ms);

        if (len == 0)
            continue;
        reply_route_fill(&batch->slot[i].route, (struct bytes){out, len}, &batch->slot[i].reply,
                         &batch->out[replies].msg_hdr);
        replies++;
    }
    batch_send(batch, endpoint->fd, replies);
    return true;
}

/* ---- a thread ---- */

/* Answers what was queued when the listener was told to stop. */
static void drain(struct reader *reader, const struct endpoint *endpoint)
{
    const struct udp_listener *listener = reader->listener;
    int64_t last_ms = 0;

    while (clock_mono_ms() < listener->stop_deadline_ms && last_ms <= listener->stop_ms)
        if (!read_batch(reader, endpoint, &last_ms))
            return;
}

static void *reader_run(void *arg)
{
    struct reader *reader = arg;
    struct udp_listener *listener = reader->listener;
    struct epoll_event events[CONF_LISTEN_MAX + 1];
    bool stopping = false;
    int64_t last_ms;

    pthread_setname_np(pthread_self(), "listener");
    while (!stopping) {
        int count = epoll_wait(reader->epoll, events, CONF_LISTEN_MAX + 1, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                read_batch(reader, events[i].data.ptr, &last_ms);
            else
                stopping = true;
        }
    }
    for (size_t i = 0; i < listener->endpoint_count; i++)
        drain(reader, &listener->endpoints[i]);
    return NULL;
}

static enum leafd_err reader_start(struct udp_listener *listener, struct reader *reader,
                                   struct why *why)
{
    struct epoll_event event = {.events = EPOLLIN};
    enum leafd_err err = LEAFD_IO;

    reader->listener = listener;
    reader->batch = mmap(NULL, sizeof(*reader->batch), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reader->batch == MAP_FAILED) {
        reader->batch = NULL;
        return LEAFD_NOMEM;
    }
    /* A page per datagram is what most need; a huge page would touch them all. */
    madvise(reader->batch, sizeof(*reader->batch), MADV_NOHUGEPAGE);
    reader->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (reader->epoll == -1 ||
        epoll_ctl(reader->epoll, EPOLL_CTL_ADD, listener->stop, &event) == -1)
        goto out;
    for (size_t i = 0; i < listener->endpoint_count; i++) {
        /* Exclusive: one datagram wakes one thread. */
        event = (struct epoll_event){.events = EPOLLIN | EPOLLEXCLUSIVE,
                                     .data.ptr = &listener->endpoints[i]};
        if (epoll_ctl(reader->epoll, EPOLL_CTL_ADD, listener->endpoints[i].fd, &event) == -1)
            goto out;
    }
    errno = pthread_create(&reader->thread, NULL, reader_run, reader);
    if (errno == 0)
        err = LEAFD_OK;
out:
    if (err) {
        fail(why, err, "cannot start a listener thread: %s", strerror(errno));
        if (reader->epoll != -1)
            close(reader->epoll);
        munmap(reader->batch, sizeof(*reader->batch));
    }
    return err;
}

/* ---- sockets ---- */

static bool set_flag(int fd, int level, int option)
{
    int on = 1;

    return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

static bool ask_for_local(int fd, const struct endpoint *endpoint)
{
    if (!endpoint->is_wildcard)
        return true; /* replies leave from the one address there is */
    return endpoint->own.any.sa_family == AF_INET ? set_flag(fd, IPPROTO_IP, IP_PKTINFO)
                                                  : set_flag(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
}

static bool read_own_address(struct endpoint *endpoint)
{
    endpoint->own_len = sizeof(endpoint->own);
    if (getsockname(endpoint->fd, &endpoint->own.any, &endpoint->own_len) == -1)
        return false;
    if (endpoint->own.any.sa_family == AF_INET)
        endpoint->is_wildcard = endpoint->own.in4.sin_addr.s_addr == htonl(INADDR_ANY);
    else if (endpoint->own.any.sa_family == AF_INET6)
        endpoint->is_wildcard = IN6_IS_ADDR_UNSPECIFIED(&endpoint->own.in6.sin6_addr);
    return true;
}

static enum leafd_err endpoint_init(struct endpoint *endpoint, const struct conf_listen *listen,
                                    int fd, struct why *why)
{
    struct timeval send_wait = {.tv_usec = SEND_WAIT_MS * 1000};
    int flags = fcntl(fd, F_GETFL);

    *endpoint = (struct endpoint){.fd = fd, .listen = listen};
    /* Blocking, so that a send can wait a little; reads say MSG_DONTWAIT. */
    if (flags == -1 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == -1 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &send_wait, sizeof(send_wait)) == -1 ||
        !set_flag(fd, SOL_SOCKET, SO_TIMESTAMPNS))
        goto bad;
    if (!read_own_address(endpoint) ||
        !(listen->is_unix ? set_flag(fd, SOL_SOCKET, SO_PASSCRED) : ask_for_local(fd, endpoint)))
        goto bad;
    return LEAFD_OK;
bad:
    return fail(why, LEAFD_IO, "cannot prepare the socket of %s: %s",
                listen->text ? listen->text : "a listener", strerror(errno));
}

static unsigned thread_count(const struct conf *conf)
{
    unsigned count = conf->listen_threads;
    cpu_set_t cpus;

    if (count == 0)
        count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus) : 1;
    return count < THREADS_MAX ? count : THREADS_MAX;
}

enum leafd_err udp_listener_new(const struct conf *conf, const int *fds, struct packet_path *path,
                                struct udp_listener **ret, struct why *why)
{
    struct udp_listener *listener = calloc(1, sizeof(*listener));
    unsigned threads = thread_count(conf);
    enum leafd_err err = LEAFD_NOMEM;

    if (!listener)
        return err;
    listener->path = path;
    listener->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    listener->endpoints = calloc(conf->listen_count, sizeof(struct endpoint));
    listener->readers = calloc(threads, sizeof(struct reader));
    if (listener->stop == -1 || !listener->endpoints || !listener->readers)
        goto out;
    for (size_t i = 0; i < conf->listen_count; i++) {
        err = endpoint_init(&listener->endpoints[i], &conf->listen[i], fds[i], why);
        if (err)
            goto out;
        listener->endpoint_count++;
    }
    while (listener->reader_count < threads) {
        err = reader_start(listener, &listener->readers[listener->reader_count], why);
        if (err)
            goto out;
        listener->reader_count++;
    }
    *ret = listener;
    listener = NULL;
    err = LEAFD_OK;
out:
    if (listener)
        udp_listener_stop(listener, 0);
    udp_listener_free(listener);
    return err;
}

void udp_listener_stop(struct udp_listener *listener, int64_t deadline_ms)
{
    listener->stop_ms = clock_mono_ms();
    listener->stop_deadline_ms = deadline_ms;
    if (listener->stop != -1)
        eventfd_write(listener->stop, 1);
    for (size_t i = 0; i < listener->reader_count; i++) {
        struct reader *reader = &listener->readers[i];

        pthread_join(reader->thread, NULL);
        close(reader->epoll);
        munmap(reader->batch, sizeof(*reader->batch));
    }
    listener->reader_count = 0;
}

void udp_listener_free(struct udp_listener *listener)
{
    if (!listener)
        return;
    if (listener->stop != -1)
        close(listener->stop);
    free(listener->endpoints);
    free(listener->readers);
    free(listener);
}
