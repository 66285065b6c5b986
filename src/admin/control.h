/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket, leafctl's way into a running front: a Unix stream socket; one request line
 * (JSON object with "command") in, one JSON object out, then closed. Peers other than root and our
 * own uid are refused.
 *
 * Threads: its own; _new and _free from one thread. */
#pragma once

#include "admin/state.h"

struct control;
/* `fd` is a listening socket, taken. `state` is borrowed. Commands: "status", "flush". */
LEAFD_CHECKED enum leafd_err control_new(const struct admin_state *state, int fd,
                                         struct control **ret, struct why *why);
void control_free(struct control *control); /* NULL is fine */
