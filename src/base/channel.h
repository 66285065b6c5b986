/* SPDX-License-Identifier: Apache-2.0 */
/* Small messages with a descriptor between the supervisor and its roles, over SOCK_SEQPACKET.
 *
 * Threads: channel_send from any thread; one reader per end. */
#pragma once

#include "base/bytes.h"

enum { CHANNEL_MAX = 4096 };

/* Two connected ends, close-on-exec, non-blocking where asked. */
LEAFD_CHECKED enum leafd_err channel_pair(bool nonblock, int ret_ends[2]);
/* Sends one message of 1 to CHANNEL_MAX octets; `fd` (or -1) is duplicated into the receiver and
 * stays the caller's. LEAFD_BUSY when it would block, LEAFD_IO when the other end is gone. */
LEAFD_CHECKED enum leafd_err channel_send(int end, struct bytes message, int fd);
/* Receives one message into `buffer`; *ret_fd is a new close-on-exec descriptor or -1. LEAFD_AGAIN
 * when nothing is there, LEAFD_ABSENT at end of file, LEAFD_MALFORMED for one that was cut or
 * carried more than one descriptor (all of them are closed). */
LEAFD_CHECKED enum leafd_err channel_receive(int end, uint8_t *buffer, size_t size, size_t *ret_len,
                                             int *ret_fd);
