/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/sockets.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

enum { PASSED_MAX = 64, ADDRESS_TEXT = INET6_ADDRSTRLEN + sizeof("[]:65535"), BACKLOG = 64 };

/* One of ours: where it is to be, and what for. */
struct place {
    struct sockaddr_storage address;
    socklen_t len;
    int type;         /* SOCK_DGRAM, SOCK_STREAM */
    const char *path; /* Unix sockets */
    mode_t mode;      /* of the path */
    gid_t group;      /* of the path; 0: ours */
    const char *text; /* for messages */
};

/* What systemd passed us; -1 where a place has taken it. */
struct passed {
    int fd[PASSED_MAX];
    size_t count;
};

static bool ip_equal(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *one = (const struct sockaddr_in *)a;
        const struct sockaddr_in *two = (const struct sockaddr_in *)b;

        return one->sin_port == two->sin_port && one->sin_addr.s_addr == two->sin_addr.s_addr;
    } else {
        const struct sockaddr_in6 *one = (const struct sockaddr_in6 *)a;
        const struct sockaddr_in6 *two = (const struct sockaddr_in6 *)b;

        return one->sin6_port == two->sin6_port && one->sin6_scope_id == two->sin6_scope_id &&
               memcmp(&one->sin6_addr, &two->sin6_addr, sizeof(one->sin6_addr)) == 0;
    }
}

static bool is_place(int fd, const struct place *place)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    int type = 0;
    socklen_t type_len = sizeof(type);

    if (getsockname(fd, (struct sockaddr *)&address, &len) == -1 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len) == -1 || type != place->type ||
        address.ss_family != place->address.ss_family)
        return false;
    if (address.ss_family == AF_UNIX)
        return strncmp(((struct sockaddr_un *)&address)->sun_path, place->path,
                       sizeof(((struct sockaddr_un *)0)->sun_path)) == 0;
    return ip_equal(&address, &place->address);
}

static int passed_take(struct passed *passed, const struct place *place)
{
    for (size_t i = 0; i < passed->count; i++) {
        int fd = passed->fd[i];

        if (fd != -1 && is_place(fd, place)) {
            passed->fd[i] = -1;
            return fd;
        }
    }
    return -1;
}

static enum leafd_err passed_init(struct passed *passed, struct why *why)
{
    passed->count = 0;
#ifdef HAVE_SYSTEMD
    int count = sd_listen_fds(1);

    if (count < 0)
        return fail(why, LEAFD_IO, "sockets from systemd: %s", strerror(-count));
    if (count > PASSED_MAX)
        return fail(why, LEAFD_CONFIG, "systemd passes %d sockets; %d are the most", count,
                    PASSED_MAX);
    for (int i = 0; i < count; i++)
        passed->fd[passed->count++] = SD_LISTEN_FDS_START + i;
#else
    (void)why;
#endif
    return LEAFD_OK;
}

static void passed_clear(struct passed *passed)
{
    for (size_t i = 0; i < passed->count; i++) {
        if (passed->fd[i] == -1)
            continue;
        log_event(LOG_LEVEL_WARNING, "socket-not-configured",
                  "fd=%d reason=\"systemd passed a socket that no listener of the configuration "
                  "names\"",
                  passed->fd[i]);
        close(passed->fd[i]);
    }
    passed->count = 0;
}

/* In use, or not there yet, may pass; a path or a port that we may not have does not. */
static enum leafd_err bind_failed(const struct place *place, int error, struct why *why)
{
    bool passes = error == EADDRINUSE || error == EADDRNOTAVAIL || error == ENOMEM;

    return fail(why, passes ? LEAFD_IO : LEAFD_CONFIG, "cannot bind %s: %s", place->text,
                strerror(error));
}

/* A socket file that nobody serves any more is in our way; anything else stays. */
static enum leafd_err stale_remove(const struct place *place, struct why *why)
{
    struct stat status;
    int fd;
    int error;

    if (lstat(place->path, &status) == -1)
        return LEAFD_OK; /* bind says it better */
    if (!S_ISSOCK(status.st_mode))
        return fail(why, LEAFD_CONFIG, "%s is there and is no socket", place->text);
    fd = socket(AF_UNIX, place->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd == -1)
        return fail(why, LEAFD_IO, "socket: %s", strerror(errno));
    error = connect(fd, (const struct sockaddr *)&place->address, place->len) == 0 ? 0 : errno;
    close(fd);
    if (error == ECONNREFUSED && unlink(place->path) == 0)
        return LEAFD_OK;
    if (error == 0 || error == EAGAIN)
        return fail(why, LEAFD_IO, "%s is in use by another process", place->text);
    return fail(why, LEAFD_IO, "cannot replace %s: %s", place->text, strerror(errno));
}

/* Only the last folder: /run/leafd on a system without somebody who makes it. */
static void folder_make(const char *path)
{
    char folder[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char *slash;
    mode_t mask;

    snprintf(folder, sizeof(folder), "%s", path);
    slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return;
    *slash = '\0';
    mask = umask(022);
    (void)mkdir(folder, 0755); /* bind says it better */
    umask(mask);
}

static enum leafd_err bind_path(int fd, const struct place *place, struct sockets *sockets,
                                struct why *why)
{
    char *path = NULL;
    gid_t group = getegid();
    mode_t mask;
    int done;
    int error;
    enum leafd_err err = stale_remove(place, why);

    if (err != LEAFD_OK)
        return err;
    folder_make(place->path);
    path = strdup(place->path);
    if (!path)
        return LEAFD_NOMEM;
    /* Made with its group: to give it one later, root would follow a link that whoever may write to
     * the folder has put in its place. */
    if (place->group && setegid(place->group) == -1)
        log_event(LOG_LEVEL_WARNING, "socket-group", "path=\"%s\" reason=\"%s\"", place->text,
                  strerror(errno));
    mask = umask(0777 & ~place->mode);
    done = bind(fd, (const struct sockaddr *)&place->address, place->len);
    error = errno;
    umask(mask);
    if (place->group)
        (void)setegid(group);
    if (done == -1) {
        err = bind_failed(place, error, why);
        free(path);
        return err;
    }
    sockets->made[sockets->made_count++] = path;
    return LEAFD_OK;
}

static enum leafd_err bind_ip(int fd, const struct place *place, struct why *why)
{
    int on = 1;

    if (place->address.ss_family == AF_INET6 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == -1)
        return fail(why, LEAFD_IO, "%s: IPV6_V6ONLY: %s", place->text, strerror(errno));
    /* Never for UDP, where it would let a second daemon steal our port. */
    if (place->type == SOCK_STREAM &&
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
        return fail(why, LEAFD_IO, "%s: SO_REUSEADDR: %s", place->text, strerror(errno));
    if (bind(fd, (const struct sockaddr *)&place->address, place->len) == -1)
        return bind_failed(place, errno, why);
    return LEAFD_OK;
}

static enum leafd_err place_open(const struct place *place, struct passed *passed,
                                 struct sockets *sockets, int *ret_fd, struct why *why)
{
    enum leafd_err err;
    int fd = passed_take(passed, place);

    if (fd != -1) {
        *ret_fd = fd;
        return LEAFD_OK;
    }
    fd = socket(place->address.ss_family, place->type | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return fail(why, LEAFD_IO, "%s: socket: %s", place->text, strerror(errno));
    if (place->path)
        err = bind_path(fd, place, sockets, why);
    else
        err = bind_ip(fd, place, why);
    if (err == LEAFD_OK && place->type == SOCK_STREAM && listen(fd, BACKLOG) == -1)
        err = fail(why, LEAFD_IO, "cannot listen on %s: %s", place->text, strerror(errno));
    if (err != LEAFD_OK) {
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return LEAFD_OK;
}

static enum leafd_err place_of_path(const char *path, int type, mode_t mode, const char *text,
                                    struct place *ret, struct why *why)
{
    struct sockaddr_un *address = (struct sockaddr_un *)&ret->address;

    if (strlen(path) >= sizeof(address->sun_path))
        return fail(why, LEAFD_CONFIG, "%.120s: a socket's path has at most %zu characters", path,
                    sizeof(address->sun_path) - 1);
    memset(ret, 0, sizeof(*ret));
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, strlen(path) + 1);
    ret->len = sizeof(*address);
    ret->type = type;
    ret->path = path;
    ret->mode = mode;
    ret->text = text;
    return LEAFD_OK;
}

static void receive_buffer_set(int fd, const struct conf *conf, const char *text)
{
    int wanted = conf->receive_buffer > INT32_MAX / 2 ? INT32_MAX / 2 : (int)conf->receive_buffer;
    int got = 0;
    socklen_t len = sizeof(got);

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof(wanted)) == -1)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof(wanted));
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &len) == -1)
        return;
    /* The kernel doubles what it is asked for, and tells the double. */
    if (got / 2 < wanted)
        log_event(LOG_LEVEL_WARNING, "receive-buffer",
                  "listen=%s wanted=%d got=%d reason=\"start as root, or raise the sysctl "
                  "net.core.rmem_max\"",
                  text, wanted, got / 2);
}

static enum leafd_err listen_open(const struct conf *conf, const struct conf_listen *listener,
                                  struct passed *passed, struct sockets *sockets, int *ret_fd,
                                  struct why *why)
{
    struct place place;
    enum leafd_err err;
    int on = 1;

    if (listener->is_unix) {
        /* Who may ask is decided by allow_uid and the kernel's word, not by the file's mode. */
        err = place_of_path(listener->path, SOCK_DGRAM, 0666, listener->text, &place, why);
        if (err != LEAFD_OK)
            return err;
    } else {
        place = (struct place){.address = listener->address,
                               .len = listener->address_len,
                               .type = SOCK_DGRAM,
                               .text = listener->text};
    }
    err = place_open(&place, passed, sockets, ret_fd, why);
    if (err != LEAFD_OK)
        return err;
    receive_buffer_set(*ret_fd, conf, listener->text);
    /* From the first datagram on: the kernel notes who sends when it is sent, not when it is read.
     */
    if (listener->is_unix && setsockopt(*ret_fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == -1)
        log_event(LOG_LEVEL_WARNING, "no-credentials", "listen=\"%s\" reason=\"%s\"",
                  listener->text, strerror(errno));
    return LEAFD_OK;
}

static enum leafd_err control_open(const struct conf *conf, const struct sandbox_user *front,
                                   struct passed *passed, struct sockets *sockets, struct why *why)
{
    struct place place;
    enum leafd_err err =
        place_of_path(conf->control_socket, SOCK_STREAM, front->change ? 0660 : 0600,
                      conf->control_socket, &place, why);

    if (err != LEAFD_OK)
        return fail_in(why, err, "control.socket");
    /* For root, and for the front's user through its group. The owner stays, so that we can ask
     * whether anybody serves it even where root may not write to everything. */
    if (front->change)
        place.group = front->gid;
    err = place_open(&place, passed, sockets, &sockets->control, why);
    return err == LEAFD_OK ? LEAFD_OK : fail_in(why, err, "control.socket");
}

/* Beside the control socket, for who may also stop us. Without it all works but one command. */
static void supervisor_open(const struct conf *conf, struct passed *passed, struct sockets *sockets)
{
    const char *path = conf->supervisor_socket;
    struct why why = {""};
    struct place place;

    if (!path)
        return;
    if (place_of_path(path, SOCK_STREAM, 0600, path, &place, &why) != LEAFD_OK ||
        place_open(&place, passed, sockets, &sockets->supervisor, &why) != LEAFD_OK)
        log_event(LOG_LEVEL_WARNING, "no-supervisor-socket",
                  "reason=\"%s\" consequence=\"leafctl token unblock finds nobody\"", why.text);
}

static enum leafd_err admin_open(const struct conf *conf, struct passed *passed,
                                 struct sockets *sockets, struct why *why)
{
    struct place place;
    enum leafd_err err;

    if (conf->admin_unix) {
        err = place_of_path(conf->admin_unix, SOCK_STREAM, 0666, conf->admin_unix, &place, why);
        if (err == LEAFD_OK)
            err = place_open(&place, passed, sockets, &sockets->admin_unix, why);
        if (err != LEAFD_OK)
            return fail_in(why, err, "admin.unix");
    }
    if (conf->admin_address_len) {
        place = (struct place){.address = conf->admin_address,
                               .len = conf->admin_address_len,
                               .type = SOCK_STREAM,
                               .text = "the address"};
        err = place_open(&place, passed, sockets, &sockets->admin_tcp, why);
        if (err != LEAFD_OK)
            return fail_in(why, err, "admin.address");
    }
    return LEAFD_OK;
}

enum leafd_err sockets_open(const struct conf *conf, const struct sandbox_user *front,
                            struct sockets *ret, struct why *why)
{
    struct sockets sockets = {.control = -1, .supervisor = -1, .admin_unix = -1, .admin_tcp = -1};
    struct passed passed;
    enum leafd_err err;

    for (size_t i = 0; i < CONF_LISTEN_MAX; i++)
        sockets.listen[i] = -1;
    err = passed_init(&passed, why);
    for (size_t i = 0; err == LEAFD_OK && i < conf->listen_count; i++) {
        err = listen_open(conf, &conf->listen[i], &passed, &sockets, &sockets.listen[i], why);
        sockets.listen_count = i + 1;
    }
    if (err == LEAFD_OK)
        err = control_open(conf, front, &passed, &sockets, why);
    if (err == LEAFD_OK)
        supervisor_open(conf, &passed, &sockets);
    if (err == LEAFD_OK)
        err = admin_open(conf, &passed, &sockets, why);
    passed_clear(&passed);
    *ret = sockets;
    if (err != LEAFD_OK)
        sockets_close(ret);
    return err;
}

static void close_fd(int *fd)
{
    if (*fd != -1)
        close(*fd);
    *fd = -1;
}

void sockets_close(struct sockets *sockets)
{
    for (size_t i = 0; i < sockets->listen_count; i++)
        close_fd(&sockets->listen[i]);
    sockets->listen_count = 0;
    close_fd(&sockets->control);
    close_fd(&sockets->supervisor);
    close_fd(&sockets->admin_unix);
    close_fd(&sockets->admin_tcp);
    for (size_t i = 0; i < sockets->made_count; i++) {
        unlink(sockets->made[i]);
        free(sockets->made[i]);
    }
    sockets->made_count = 0;
}

/* "127.0.0.1:2999", "[::1]:2999", "unix:/run/leafd/leafd.sock". */
static size_t address_text(int fd, char *out, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "";
    int wrote = 0;

    if (fd == -1 || getsockname(fd, (struct sockaddr *)&address, &len) == -1)
        return 0;
    if (address.ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&address;

        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof(host));
        wrote = snprintf(out, size, "%s:%u", host, ntohs(in4->sin_port));
    } else if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;

        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        wrote = snprintf(out, size, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else if (address.ss_family == AF_UNIX) {
        const char *path = ((const struct sockaddr_un *)&address)->sun_path;
        char escaped[4 * sizeof(((struct sockaddr_un *)0)->sun_path) + 1];
        struct bytes raw = {(const uint8_t *)path,
                            strnlen(path, sizeof(((struct sockaddr_un *)0)->sun_path))};

        wrote = snprintf(out, size, "unix:%s", bytes_escape(raw, escaped, sizeof(escaped)));
    }
    return wrote > 0 && (size_t)wrote < size ? (size_t)wrote : 0;
}

const char *sockets_listen_text(const struct sockets *sockets, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < sockets->listen_count; i++) {
        size_t comma = len ? 1 : 0;
        size_t wrote;

        if (len + comma + 1 >= size)
            break;
        wrote = address_text(sockets->listen[i], out + len + comma, size - len - comma);
        if (wrote == 0) {
            out[len] = '\0';
            break;
        }
        if (comma)
            out[len] = ',';
        len += comma + wrote;
    }
    return out;
}

const char *sockets_admin_text(const struct sockets *sockets, char *out, size_t size)
{
    out[0] = '\0';
    address_text(sockets->admin_tcp, out, size);
    return out;
}
