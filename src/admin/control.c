/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "admin/control.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PEERS_MAX = 16, LINE_MAX_OCTETS = 4096, PEER_PATIENCE_MS = 5000 };

/* One caller: its line comes in, its answer goes out, then it is closed. */
struct peer {
    int fd; /* -1: a free place */
    int64_t deadline_ms;
    char line[LINE_MAX_OCTETS];
    size_t line_len;
    char *answer; /* NULL while the line is not complete */
    size_t answer_len;
    size_t answer_sent;
};

struct control {
    const struct admin_state *state;
    int listen_fd;
    int stop_fd; /* an eventfd */
    pthread_t thread;
    struct peer peer[PEERS_MAX];
};

static char *answer_status(const struct admin_state *state)
{
    struct json json = JSON_EMPTY;

    json_object_begin(&json, NULL);
    admin_state_write(state, &json);
    json_object_end(&json);
    return json_take(&json);
}

static char *answer_flush(const struct admin_state *state)
{
    struct json json = JSON_EMPTY;

    json_object_begin(&json, NULL);
    json_uint(&json, "flushed", leaf_cache_flush(state->cache));
    json_object_end(&json);
    return json_take(&json);
}

static char *answer_error(const char *sentence)
{
    struct json json = JSON_EMPTY;

    json_object_begin(&json, NULL);
    json_string(&json, "error", sentence);
    json_object_end(&json);
    return json_take(&json);
}

static const struct {
    const char *name;
    char *(*answer)(const struct admin_state *state);
} commands[] = {
    {"status", answer_status},
    {"flush", answer_flush},
};

/* The value of the one member a request has: {"command":"WORD"}, white space where JSON allows it.
 * Nothing else is a request, so nothing else has to be parsed. */
static bool read_command(const char *line, char *ret_word, size_t size)
{
    static const char *const tokens[] = {"{", "\"command\"", ":", "\"", NULL};
    const char *at = line;
    size_t len;

    for (int i = 0; tokens[i]; i++) {
        at += strspn(at, " \t\r");
        if (strncmp(at, tokens[i], strlen(tokens[i])) != 0)
            return false;
        at += strlen(tokens[i]);
    }
    len = strspn(at, "abcdefghijklmnopqrstuvwxyz-");
    if (len == 0 || len >= size || at[len] != '"')
        return false;
    memcpy(ret_word, at, len);
    ret_word[len] = '\0';
    at += len + 1;
    at += strspn(at, " \t\r");
    if (*at != '}')
        return false;
    at++;
    return at[strspn(at, " \t\r")] == '\0';
}

static char *answer_line(const struct admin_state *state, const char *line)
{
    char word[32];

    if (!read_command(line, word, sizeof(word)))
        return answer_error("a request is one line: {\"command\":\"status\"}");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(word, commands[i].name) == 0)
            return commands[i].answer(state);
    return answer_error("no such command; there are status and flush");
}

static void peer_close(struct peer *peer)
{
    close(peer->fd);
    free(peer->answer);
    *peer = (struct peer){.fd = -1};
}

/* Root and our own user may; the socket's mode keeps others out before this does. */
static bool peer_may(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
        return false;
    return cred.uid == 0 || cred.uid == geteuid();
}

static void accept_peer(struct control *control)
{
    int fd = accept4(control->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd == -1)
        return;
    for (int i = 0; i < PEERS_MAX && peer_may(fd); i++) {
        if (control->peer[i].fd != -1)
            continue;
        control->peer[i].fd = fd;
        control->peer[i].deadline_ms = clock_mono_ms() + PEER_PATIENCE_MS;
        return;
    }
    close(fd); /* not allowed, or no place: the caller sees the end of file */
}

static void peer_read(const struct admin_state *state, struct peer *peer)
{
    ssize_t got =
        recv(peer->fd, peer->line + peer->line_len, sizeof(peer->line) - 1 - peer->line_len, 0);
    char *end;

    if (got == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        peer_close(peer);
        return;
    }
    peer->line_len += (size_t)got;
    end = memchr(peer->line, '\n', peer->line_len);
    if (end) {
        *end = '\0';
        peer->answer = answer_line(state, peer->line);
    } else if (peer->line_len == sizeof(peer->line) - 1) {
        peer->answer = answer_error("the request is longer than 4095 octets");
    } else {
        return;
    }
    if (!peer->answer)
        peer_close(peer);
    else
        peer->answer_len = strlen(peer->answer);
}

static void peer_write(struct peer *peer)
{
    ssize_t put = send(peer->fd, peer->answer + peer->answer_sent,
                       peer->answer_len - peer->answer_sent, MSG_NOSIGNAL);

    if (put == -1 && (errno == EAGAIN || errno == EINTR))
        return;
    if (put == -1) {
        peer_close(peer);
        return;
    }
    peer->answer_sent += (size_t)put;
    if (peer->answer_sent == peer->answer_len)
        peer_close(peer);
}

static void serve_peer(const struct admin_state *state, struct peer *peer, short revents)
{
    if (revents && peer->answer)
        peer_write(peer);
    else if (revents)
        peer_read(state, peer);
    if (peer->fd != -1 && clock_mono_ms() >= peer->deadline_ms)
        peer_close(peer);
}

static void *run(void *arg)
{
    struct control *control = arg;

    for (;;) {
        struct pollfd polls[2 + PEERS_MAX] = {{control->stop_fd, POLLIN, 0},
                                              {control->listen_fd, POLLIN, 0}};
        bool somebody = false;

        for (int i = 0; i < PEERS_MAX; i++) {
            const struct peer *peer = &control->peer[i];

            polls[2 + i] = (struct pollfd){peer->fd, peer->answer ? POLLOUT : POLLIN, 0};
            somebody |= peer->fd != -1;
        }
        if (poll(polls, 2 + PEERS_MAX, somebody ? 200 : -1) == -1 && errno != EINTR)
            return NULL;
        if (polls[0].revents)
            return NULL;
        for (int i = 0; i < PEERS_MAX; i++)
            if (control->peer[i].fd != -1)
                serve_peer(control->state, &control->peer[i], polls[2 + i].revents);
        if (polls[1].revents)
            accept_peer(control);
    }
}

enum leafd_err control_new(const struct admin_state *state, int fd, struct control **ret,
                           struct why *why)
{
    struct control *control = calloc(1, sizeof(*control));

    if (!control) {
        close(fd);
        return LEAFD_NOMEM;
    }
    control->state = state;
    control->listen_fd = fd;
    for (int i = 0; i < PEERS_MAX; i++)
        control->peer[i].fd = -1;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    control->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (control->stop_fd == -1 || pthread_create(&control->thread, NULL, run, control) != 0) {
        if (control->stop_fd != -1)
            close(control->stop_fd);
        close(fd);
        free(control);
        return fail(why, LEAFD_INTERNAL, "the control socket's thread cannot be started");
    }
    *ret = control;
    return LEAFD_OK;
}

void control_free(struct control *control)
{
    if (!control)
        return;
    (void)eventfd_write(control->stop_fd, 1);
    pthread_join(control->thread, NULL);
    for (int i = 0; i < PEERS_MAX; i++)
        if (control->peer[i].fd != -1)
            peer_close(&control->peer[i]);
    close(control->stop_fd);
    close(control->listen_fd);
    free(control);
}
