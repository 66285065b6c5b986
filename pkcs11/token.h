/* SPDX-License-Identifier: Apache-2.0 */
/* One token in one slot: found by URI, with its sessions and its login.
 *
 * Threads: token_check and the pool from any thread; all else from one. */
#pragma once

#include "base/secret.h"
#include "pkcs11/session_pool.h"
#include "pkcs11/token_uri.h"

#include <stdatomic.h>

struct token {
    struct token_module *module;
    CK_SLOT_ID slot;
    CK_TOKEN_INFO info; /* as it was when found */
    char label[132];    /* escaped, for messages */
    struct session_pool *pool;
    struct secret pin; /* what the login took, for keys that want it each time; may be empty */
    int64_t wait_ms;   /* how long a signature waits for a free session */
    _Atomic uint64_t logins;        /* C_Login calls */
    _Atomic uint64_t logins_failed; /* of them, other than for the PIN */
    _Atomic uint64_t retries;       /* signatures that needed a second session */
    atomic_bool module_is_lost;     /* it has said that it is not initialised */
};

/* All slots that have a token. The caller frees *ret. LEAFD_TOKEN_UNAVAILABLE. */
LEAFD_CHECKED enum leafd_err token_slots(struct token_module *module, CK_SLOT_ID **ret,
                                         size_t *ret_count, struct why *why);

/* Is there a slot without a token, into which one may be put? */
bool token_may_come(struct token_module *module);

/* The slot of the one initialised token that the URI names. LEAFD_ABSENT: none (the sentence says
 * which there are); LEAFD_CONFIG: more than one. */
LEAFD_CHECKED enum leafd_err token_find_slot(struct token_module *module,
                                             const struct token_uri *uri, CK_SLOT_ID *ret,
                                             struct why *why);

/* The token in `slot`, with a pool of at most `sessions` (less when the token says it has less);
 * `flags` as session_pool_new. */
LEAFD_CHECKED enum leafd_err token_new(struct token_module *module, CK_SLOT_ID slot, CK_FLAGS flags,
                                       unsigned sessions, struct token **ret, struct why *why);
void token_free(struct token *token); /* NULL is fine */

/* Logs the user in, once for all sessions: with `pin`, or if that is NULL or empty with what the
 * URI gives. A PIN that a token has refused is never sent to it again by this process. LEAFD_PIN:
 * wrong, missing, locked, on its last try; LEAFD_CONFIG: the URI's pin-source. */
LEAFD_CHECKED enum leafd_err token_login(struct token *token, const struct token_uri *uri,
                                         const struct secret *pin, struct why *why);

/* Shows the PIN for the operation that has begun in `session`, as keys with CKA_ALWAYS_AUTHENTICATE
 * want it; one that is refused is not tried again, by any process. From any thread. */
CK_RV token_login_for_operation(struct token *token, CK_SESSION_HANDLE session);

/* Can the token do this mechanism (with CKF_SIGN, CKF_GENERATE_KEY_PAIR, …)? */
bool token_can(struct token_module *module, CK_SLOT_ID slot, CK_MECHANISM_TYPE mechanism,
               CK_FLAGS flag);

/* Is it still there? LEAFD_TOKEN_UNAVAILABLE. */
LEAFD_CHECKED enum leafd_err token_check(struct token *token, struct why *why);

/* A field of a PKCS#11 struct: fixed width, filled up with blanks. Escaped into `out`. */
const char *token_text(const unsigned char *field, size_t width, char *out, size_t size);
