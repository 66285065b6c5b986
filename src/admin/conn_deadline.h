/* SPDX-License-Identifier: Apache-2.0 */
/* Ends connections that last too long. libmicrohttpd's own timeout counts from the last octet, so
 * who sends one now and then could hold a place for ever.
 *
 * Threads: every function from any thread, except _new and _free; it has one of its own.
 * Locks:   one, held for each call. */
#pragma once

#include "base/err.h"

#include <stdint.h>

enum { CONN_DEADLINES_MAX = 128 };

struct conn_deadlines;
/* Every connection has `patience_ms` from its begin. */
LEAFD_CHECKED enum leafd_err conn_deadlines_new(int64_t patience_ms, struct conn_deadlines **ret);
void conn_deadlines_free(struct conn_deadlines *deadlines); /* NULL is fine */

/* A connection that has begun: its number, or -1 when CONN_DEADLINES_MAX are there (it has no
 * deadline then). Once that has come, shutdown(2) is called for `fd`, which stays the caller's. */
int conn_deadlines_begin(struct conn_deadlines *deadlines, int fd);
/* It has ended; to be called before its descriptor is closed. -1 is fine. */
void conn_deadlines_end(struct conn_deadlines *deadlines, int number);
