/* SPDX-License-Identifier: Apache-2.0 */
/* The signer role: opens the token, checks every TBS, signs, verifies, answers. Alone loads the
 * PKCS#11 module and knows the PIN. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "policy/ca.h"

struct signer_process;

/* `cas` are the configured CAs (references are taken), `pin` is taken over (may be empty). Makes the untrusted CA if
 * the configuration says auto. Opens nothing yet. */
LEAFD_CHECKED enum leafd_err signer_process_new(const struct conf *conf, struct ca_set *cas, struct secret *pin, bool pin_blocked,
                                                struct signer_process **ret, struct why *why);
/* Gives it a front to serve: our end of a SOCK_SEQPACKET pair, taken. Several may be served at once;
 * one that ends is forgotten. From any thread. */
void signer_process_serve(struct signer_process *process, int fd);
/* Starts lanes and threads: opens the token, proves the key, and from then on answers; while the token or key is absent it probes every
 * 0.5 s. LEAFD_CONFIG, LEAFD_PIN: nothing that time mends (the role exits 78, or stays PIN_BLOCKED). */
LEAFD_CHECKED enum leafd_err signer_process_start(struct signer_process *process, struct why *why);
/* Answers what is queued until `deadline_ms`, then ends its threads and closes the token. */
void signer_process_free(struct signer_process *process, int64_t deadline_ms);
