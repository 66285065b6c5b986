/* SPDX-License-Identifier: Apache-2.0 */
/* One lane of a signer: everything between a SIGN message and its signature, on one thread with one
 * session.
 *
 * Threads: a lane belongs to one thread; what it borrows is shared. */
#pragma once

#include "pkcs11/backend.h"
#include "pkcs11/sign_check.h"
#include "pkcs11/signer_queue.h"

struct signer_lane;

/* What all lanes share, borrowed for their lives. */
struct signer_lane_parts {
    struct ca_set *cas; /* the untrusted CA too */
    struct sign_check *check;
    EVP_PKEY
    *untrusted_key; /* of the untrusted CA in memory; NULL: it is in the backend, or none */
};

LEAFD_CHECKED enum leafd_err signer_lane_new(const struct signer_lane_parts *parts,
                                             struct backend *backend, struct signer_lane **ret,
                                             struct why *why);
void signer_lane_free(struct signer_lane *lane); /* NULL is fine */

/* Checks (unless a lane has done so before) and signs `job`; `*signing_since_ms` is set while it is
 * in the module. LEAFD_AGAIN: another generation of that CA is in force, or the token could not
 * sign: nothing was released. LEAFD_REFUSED: a rule is broken, `why` names it. LEAFD_TIMEOUT: the
 * deadline has passed before anything was done. LEAFD_INTERNAL: the token will not sign this one.
 * `*ret_token_failed` tells that the token needs a look, and `why` the reason. */
LEAFD_CHECKED enum leafd_err signer_lane_sign(struct signer_lane *lane, struct sign_job *job,
                                              _Atomic int64_t *signing_since_ms,
                                              uint8_t out[static SIGN_SIGNATURE_MAX],
                                              size_t *ret_len, bool *ret_token_failed,
                                              struct why *why);
