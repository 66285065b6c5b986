/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's own socket, for the one thing that the front is not to be asked for: to let a
 * PIN that was refused be tried once more. It is for root and our own user alone, by the file's
 * mode and by the kernel's word, so that a front that was taken over (a user of its own, when
 * leafd is started as root) can burn no try. Where all roles share one user they also share what
 * that user may read, the PIN's file too: there is nothing left to guard there.
 *
 * One line, {"command":"token-unblock"} or {"command":"token-unblock","token":1}, is answered by
 * one, {"unblocked":2} or {"error":"…"}.
 *
 * Threads: the supervisor's only one. It waits for a line for UNBLOCK_WAIT_MS: long for the machine
 * that is busy, short for the roles that may need to be started again meanwhile. */
#pragma once

#include "base/bytes.h"

enum { UNBLOCK_WAIT_MS = 1000, UNBLOCK_ALL = -1 };

/* How many signers were started anew for `token`, a number that there is, or UNBLOCK_ALL. */
typedef unsigned (*unblock_fn)(void *ctx, int token);

/* Takes one caller from the listening socket `fd` and answers it. `token_count` tokens there are.
 */
void unblock_serve(int fd, size_t token_count, unblock_fn unblock, void *ctx);

/* The token that `line` asks for, UNBLOCK_ALL, or -2: it is no such line. */
int unblock_read(struct bytes line);
