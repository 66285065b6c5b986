/* SPDX-License-Identifier: Apache-2.0 */
/* Which PINs a token has refused, and who may try one now: a few keyed hashes in memory that all
 * signers of a token share, so that a wrong PIN costs one C_Login, however many processes there are
 * and however often they are started. The supervisor makes that memory and keeps it; without any
 * (leafctl) a process remembers for itself.
 *
 * Whoever logs in to a token brackets that with pin_try_begin and pin_try_end. The hashes are of no
 * use without the key, and the key is where the hashes are: only processes that know the PIN or
 * could read it anyway see either.
 *
 * Threads: pin_refusals_use before any other is started; the rest from any thread. */
#pragma once

#include "base/secret.h"

/* A sealed memory file with no refusals, close-on-exec, to be closed by the caller. LEAFD_IO with a
 * sentence. Calls no OpenSSL. */
LEAFD_CHECKED enum leafd_err pin_refusals_make(int *ret_fd, struct why *why);
/* Forgets all: each PIN may be tried once more. */
void pin_refusals_forget(int fd);

/* This process shares `fd`'s memory from now on; the descriptor stays the caller's. LEAFD_IO with a
 * sentence. */
LEAFD_CHECKED enum leafd_err pin_refusals_use(int fd, struct why *why);

/* May this PIN be tried with the token that `token` names (its serial number and label)? Then it is
 * our turn until pin_try_end, and no other process's. LEAFD_PIN: it was refused before.
 * LEAFD_TOKEN_UNAVAILABLE: another process has been trying for `wait_ms`. */
LEAFD_CHECKED enum leafd_err pin_try_begin(struct bytes token, const struct secret *pin,
                                           int64_t wait_ms, struct why *why);
/* What came of it: `refused` is remembered. */
void pin_try_end(struct bytes token, const struct secret *pin, bool refused);
