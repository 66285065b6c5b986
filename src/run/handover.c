/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/handover.h"

#include "base/channel.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIR_BUFFER = 1 << 20 /* octets on their way from a front to a signer, and back */ };

enum leafd_err handover_sockets(const struct sockets *sockets, int channel, struct why *why)
{
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; err == LEAFD_OK && i < sockets->listen_count; i++)
        err = child_say(channel, ROLE_MSG_LISTEN, (uint32_t)i, sockets->listen[i], why);
    if (err == LEAFD_OK)
        err = child_say(channel, ROLE_MSG_CONTROL, 0, sockets->control, why);
    if (err == LEAFD_OK && sockets->admin_unix != -1)
        err = child_say(channel, ROLE_MSG_ADMIN_UNIX, 0, sockets->admin_unix, why);
    if (err == LEAFD_OK && sockets->admin_tcp != -1)
        err = child_say(channel, ROLE_MSG_ADMIN_TCP, 0, sockets->admin_tcp, why);
    return err;
}

enum leafd_err handover_pin(const struct token_pins *pins, size_t token, int channel,
                            struct why *why)
{
    bool must_close;
    int fd;
    enum leafd_err err = token_pins_open(pins, token, &fd, &must_close, why);

    if (err != LEAFD_OK)
        return err;
    err = child_say(channel, ROLE_MSG_PIN_REFUSALS, 0, pins->refusals[token], why);
    if (err == LEAFD_OK && fd != -1)
        err = child_say(channel, ROLE_MSG_PIN, 0, fd, why);
    if (must_close && fd != -1)
        close(fd);
    return err;
}

static void pair_buffers_set(int fd)
{
    int size = PAIR_BUFFER;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == -1)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static bool say_peer(const struct child *child, uint32_t value, int fd)
{
    struct why why = {""};
    enum leafd_err err = child_say(child->channel, ROLE_MSG_PEER, value, fd, &why);

    if (err == LEAFD_OK)
        return true;
    role_log_failure("role-deaf", err, &why);
    child_kill(child);
    return false;
}

void handover_pair(const struct child *front, const struct child *signer)
{
    int ends[2];

    if (front->channel == -1 || signer->channel == -1)
        return;
    if (channel_pair(true, ends) != LEAFD_OK) {
        log_event(LOG_LEVEL_ERROR, "pair-failed", "reason=\"%s\"", strerror(errno));
        child_kill(signer);
        return;
    }
    pair_buffers_set(ends[0]);
    pair_buffers_set(ends[1]);
    if (say_peer(signer, 0, ends[1]))
        (void)say_peer(front, ROLE_PEER(signer->token, signer->process), ends[0]);
    close(ends[0]);
    close(ends[1]);
}
