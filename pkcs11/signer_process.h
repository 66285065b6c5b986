/* SPDX-License-Identifier: Apache-2.0 */
/* The signer role: opens the token, checks every TBS, signs, verifies, answers. Alone loads the
 * PKCS#11 module and knows the PIN.
 *
 * One thread reads what fronts ask (and tells them our state), one lane per session checks, signs
 * and answers, one keeper (pkcs11/token_keeper.h) opens the token and opens it anew when a lane
 * could not sign.
 *
 * Threads: signer_process_serve from any thread, all else from one. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "policy/ca.h"

struct signer_process;

/* What the process tells whoever runs it, with the `ctx` of signer_process_new; on a thread of its
 * own: be quick. */
struct signer_process_events {
    /* The token has been proven, also after each loss; told before any front hears of it. */
    void (*signing)(void *ctx);
    /* The token has refused the PIN: C_Login is not called again here. Told before any front hears
     * of it. */
    void (*pin_refused)(void *ctx);
    /* It cannot mend itself: another process is to take over; with `at_once` this one has to end
     * first, since the token has no session for two. */
    void (*replace_me)(void *ctx, bool at_once);
};

/* `cas` are the configured CAs (references are taken), `conf` and `events` are borrowed, `token`
 * says which of conf's tokens is opened, `pin` is taken over (may be empty). Makes the untrusted CA
 * if the configuration says auto. Opens nothing yet. */
LEAFD_CHECKED enum leafd_err signer_process_new(const struct conf *conf, size_t token,
                                                struct ca_set *cas, struct secret *pin,
                                                const struct signer_process_events *events,
                                                void *ctx, struct signer_process **ret,
                                                struct why *why);
/* Gives it a front to serve: our end of a SOCK_SEQPACKET pair, taken. Several may be served at
 * once; one that ends is forgotten. */
void signer_process_serve(struct signer_process *process, int fd);
/* Opens the token, proves the keys and starts the lanes; while token or key is absent the keeper
 * probes every 0.5 s, and this is LEAFD_OK too. LEAFD_CONFIG, LEAFD_PIN: nothing that time mends;
 * after LEAFD_PIN fronts may still be served, and are told so.
 */
LEAFD_CHECKED enum leafd_err signer_process_start(struct signer_process *process, struct why *why);
/* Answers what is queued until `deadline_ms`, then ends its threads and closes the token. False: a
 * call into the module has not returned by then or soon after; nothing was freed and this may be
 * called again, or the process be ended with _exit(). NULL is fine. */
bool signer_process_free(struct signer_process *process, int64_t deadline_ms);
