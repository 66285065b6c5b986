/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/unblock.h"

#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { NO_LINE = -2 };

int unblock_read(struct bytes line)
{
    static const char all[] = "{\"command\":\"token-unblock\"}\n";
    static const char one[] = "{\"command\":\"token-unblock\",\"token\":";
    const size_t head = sizeof(one) - 1;

    if (bytes_equal(line, bytes_of(all)))
        return UNBLOCK_ALL;
    if (line.len != head + 3 || memcmp(line.data, one, head) != 0 || line.data[head] < '0' ||
        line.data[head] > '9' || memcmp(line.data + head + 1, "}\n", 2) != 0)
        return NO_LINE;
    return line.data[head] - '0';
}

static bool caller_may(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
        return false;
    return cred.uid == 0 || cred.uid == geteuid();
}

/* A line is so short that it comes as one. */
static size_t receive(int fd, uint8_t *line, size_t size)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    ssize_t got;

    if (poll(&wait, 1, UNBLOCK_WAIT_MS) != 1)
        return 0;
    got = recv(fd, line, size, MSG_DONTWAIT);
    return got > 0 ? (size_t)got : 0;
}

void unblock_serve(int fd, size_t token_count, unblock_fn unblock, void *ctx)
{
    int caller = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    char answer[128];
    uint8_t line[64];
    size_t len;
    int token;

    if (caller == -1)
        return;
    if (!caller_may(caller))
        goto out;
    len = receive(caller, line, sizeof(line));
    token = unblock_read((struct bytes){line, len});
    if (len == 0) {
        snprintf(answer, sizeof(answer), "{\"error\":\"no command came in time: try again\"}\n");
    } else if (token == NO_LINE) {
        snprintf(answer, sizeof(answer),
                 "{\"error\":\"no such command; there is token-unblock\"}\n");
    } else if (token >= (int)token_count) {
        snprintf(answer, sizeof(answer), "{\"error\":\"there is no token %d; the last is %zu\"}\n",
                 token, token_count - 1);
    } else {
        unsigned count = unblock(ctx, token);

        log_event(LOG_LEVEL_NOTICE, "token-unblocked", "token=%d signers=%u", token, count);
        snprintf(answer, sizeof(answer), "{\"unblocked\":%u}\n", count);
    }
    if (send(caller, answer, strlen(answer), MSG_DONTWAIT | MSG_NOSIGNAL) == -1)
        log_event(LOG_LEVEL_DEBUG, "caller-gone", "reason=\"%s\"", strerror(errno));
out:
    close(caller);
}
