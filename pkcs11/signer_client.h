/* SPDX-License-Identifier: Apache-2.0 */
/* struct signer over SOCK_SEQPACKET to the signer processes; they come and go, it stays.
 *
 * Its parts: sign_traffic decides what becomes of each request and has the lock and its rules;
 * signer_roster has the processes and their CAs; signer_reader is the one thread, which receives,
 * watches deadlines and calls back. Requests are held while no process is READY, bounded in
 * number. */
#pragma once

#include "pkcs11/signer.h"

/* `token_count` tokens with the same keys sign, chosen by `choice`. `cas` (a reference is taken)
 * are the configured CAs; the untrusted one arrives with the signer's greeting. At most
 * `max_waiting` requests are under way or held; more are LEAFD_BUSY. */
LEAFD_CHECKED enum leafd_err signer_client_new(struct ca_set *cas, size_t token_count,
                                               enum conf_token_choice choice, size_t max_waiting,
                                               struct signer **ret);

/* A check of a signer has failed: what it has signed in these batches is not to be trusted. On the
 * client's thread, after the last signer_fn with one of them; the same batch may come twice. */
typedef void (*signer_disowned_fn)(void *ctx, const uint64_t *batches, size_t count);
/* Says who is to be told so; before the first signer_client_connect(). */
void signer_client_on_disowned(struct signer *signer, signer_disowned_fn disowned, void *ctx);

/* The supervisor has started signer number `process` of token `token` and this is our end of the
 * pair; takes the descriptor. What waited on one whose socket ends, or that could not sign, goes to
 * another process if there is one that signs for that CA; else it is called with what came of it,
 * LEAFD_AGAIN where the process is gone. */
void signer_client_connect(struct signer *signer, unsigned token, unsigned process, int fd);
