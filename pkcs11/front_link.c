/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/front_link.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* A front that does not read for so long has more to lose than an answer. */
enum { PATIENCE_MS = 200 };

struct front_link {
    _Atomic unsigned refs;
    int fd;
};

struct front_link *front_link_new(int fd)
{
    struct front_link *link = malloc(sizeof(*link));

    if (!link) {
        close(fd);
        return NULL;
    }
    atomic_init(&link->refs, 1);
    link->fd = fd;
    return link;
}

struct front_link *front_link_ref(struct front_link *link)
{
    atomic_fetch_add_explicit(&link->refs, 1, memory_order_relaxed);
    return link;
}

void front_link_unref(struct front_link *link)
{
    if (!link || atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(link->fd);
    free(link);
}

int front_link_fd(const struct front_link *link)
{
    return link->fd;
}

bool front_link_try_send(struct front_link *link, struct bytes message)
{
    ssize_t sent;

    do {
        sent = send(link->fd, message.data, message.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent == -1 && errno == EINTR);
    return sent != -1;
}

bool front_link_send(struct front_link *link, struct bytes message)
{
    struct pollfd full = {link->fd, POLLOUT, 0};

    if (front_link_try_send(link, message))
        return true;
    if (errno != EAGAIN || poll(&full, 1, PATIENCE_MS) != 1)
        return false;
    return front_link_try_send(link, message);
}
