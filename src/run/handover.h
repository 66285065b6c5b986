/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptors that roles get from the supervisor: the front its sockets, a signer its token's
 * PIN, and both the ends of the pair that they talk over. The supervisor keeps its own.
 *
 * Threads: the supervisor's only one. */
#pragma once

#include "run/child.h"
#include "run/sockets.h"
#include "run/token_pins.h"

/* Between BOOT and GO, into the channel of a front: what it serves. */
LEAFD_CHECKED enum leafd_err handover_sockets(const struct sockets *sockets, int channel,
                                              struct why *why);
/* The same for a signer of `token`: its PIN source, opened for this once, and the memory of PINs
 * that were refused. */
LEAFD_CHECKED enum leafd_err handover_pin(const struct token_pins *pins, size_t token, int channel,
                                          struct why *why);

/* Gives front and signer a pair of their own; nothing if one of them does not listen. A role that
 * cannot be told is killed, and started again like any that died. */
void handover_pair(const struct child *front, const struct child *signer);
