/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A sender that packs more descriptors into one message than this gets it refused; the kernel
 * closes those that do not fit, we close the rest. */
enum { FDS_MAX = 4 };

enum leafd_err channel_pair(bool nonblock, int ret_ends[2])
{
    int type = SOCK_SEQPACKET | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0);

    return socketpair(AF_UNIX, type, 0, ret_ends) == 0 ? LEAFD_OK : LEAFD_IO;
}

enum leafd_err channel_send(int end, struct bytes message, int fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)message.data, .iov_len = message.len};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    ssize_t sent;

    /* An empty message would read as end of file. */
    if (message.len == 0 || message.len > CHANNEL_MAX)
        return LEAFD_INTERNAL;
    if (fd != -1) {
        struct cmsghdr *cmsg;

        header.msg_control = control.room;
        header.msg_controllen = sizeof(control.room);
        cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    }
    do {
        sent = sendmsg(end, &header, MSG_NOSIGNAL);
    } while (sent == -1 && errno == EINTR);
    if (sent == -1)
        return errno == EAGAIN || errno == EWOULDBLOCK ? LEAFD_BUSY : LEAFD_IO;
    return LEAFD_OK;
}

/* The first descriptor of the message, or -1; closes all others. *ret_many: there were others. */
static int take_fd(struct msghdr *header, bool *ret_many)
{
    int first = -1;

    *ret_many = false;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(header); cmsg; cmsg = CMSG_NXTHDR(header, cmsg)) {
        size_t count;

        if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
            continue;
        count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(int));
            if (first == -1) {
                first = fd;
            } else {
                close(fd);
                *ret_many = true;
            }
        }
    }
    return first;
}

enum leafd_err channel_receive(int end, uint8_t *buffer, size_t size, size_t *ret_len, int *ret_fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = buffer, .iov_len = size};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    bool reset_seen = false;
    ssize_t got;
    bool many;
    int fd;

    for (;;) {
        header.msg_control = control.room;
        header.msg_controllen = sizeof(control.room);
        got = recvmsg(end, &header, MSG_CMSG_CLOEXEC);
        if (got >= 0)
            break;
        if (errno == EINTR)
            continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return LEAFD_AGAIN;
        if (errno != ECONNRESET)
            return LEAFD_IO;
        /* The other end closed before it had read all of ours. What it sent is still here, behind
         * this error, which is told once. */
        if (reset_seen)
            return LEAFD_ABSENT;
        reset_seen = true;
    }
    fd = take_fd(&header, &many);
    if (got == 0 || many || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        if (fd != -1)
            close(fd);
        return got == 0 ? LEAFD_ABSENT : LEAFD_MALFORMED;
    }
    *ret_len = (size_t)got;
    *ret_fd = fd;
    return LEAFD_OK;
}
