/* SPDX-License-Identifier: Apache-2.0 */
/* Every socket that leafd is asked at: bound by the supervisor, or taken over from systemd, and
 * open as long as it lives, so that no port closes while a role is started anew.
 *
 * Threads: the supervisor's only one. */
#pragma once

#include "base/sandbox.h"
#include "conf/conf.h"

struct sockets {
    int listen[CONF_LISTEN_MAX]; /* as conf->listen; -1: none */
    size_t listen_count;
    int control;    /* -1: none */
    int supervisor; /* the supervisor's own */
    int admin_unix;
    int admin_tcp;
    char *made[CONF_LISTEN_MAX + 3]; /* paths of Unix sockets that we made, to be unlinked */
    size_t made_count;
};

/* Binds all, with the configured receive buffers. Unix sockets that nobody serves any more are
 * replaced; the control socket is shared with `front`'s group. LEAFD_IO or LEAFD_CONFIG with a
 * sentence that names the address; *ret is empty then. */
LEAFD_CHECKED enum leafd_err sockets_open(const struct conf *conf, const struct sandbox_user *front,
                                          struct sockets *ret, struct why *why);
/* Closes all and unlinks what was made. */
void sockets_close(struct sockets *sockets);

/* The bound addresses for the readiness line, comma-separated ("127.0.0.1:2999,unix:/run/x"). */
const char *sockets_listen_text(const struct sockets *sockets, char *out, size_t size);
/* "127.0.0.1:2998", "" when there is none. */
const char *sockets_admin_text(const struct sockets *sockets, char *out, size_t size);
