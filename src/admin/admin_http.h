/* SPDX-License-Identifier: Apache-2.0 */
/* /ping, /ready, /healthcheck, /metrics and /ca.crl over HTTP (libmicrohttpd): a Unix socket and a
 * loopback address.
 *
 * Threads: its own; _new and _free from one thread. */
#pragma once

#include "admin/state.h"

struct admin_http;
/* `unix_fd` and `tcp_fd` are listening sockets bound by the supervisor, or -1; taken. `state` is
 * borrowed. */
LEAFD_CHECKED enum leafd_err admin_http_new(const struct admin_state *state, int unix_fd,
                                            int tcp_fd, struct admin_http **ret, struct why *why);
void admin_http_free(struct admin_http *http); /* NULL is fine */
