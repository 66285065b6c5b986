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

/* What came of one job. */
struct lane_signature {
    uint8_t octets[SIGN_SIGNATURE_MAX];
    size_t len;
    uint64_t batch;    /* as backend_lane_batch() */
    bool token_failed; /* it needs a look */
};

/* Checks (unless a lane has done so before) and signs `job`; `*signing_since_ms` is set while it is
 * in the module. LEAFD_AGAIN: another generation of that CA is in force, or the token could not
 * sign: nothing was released. LEAFD_REFUSED: a rule is broken, `why` names it. LEAFD_TIMEOUT: the
 * deadline has passed before anything was done. LEAFD_INTERNAL: the token will not sign this one.
 * Of *ret, `token_failed` is always written; then `why` has the reason. */
LEAFD_CHECKED enum leafd_err signer_lane_sign(struct signer_lane *lane, struct sign_job *job,
                                              _Atomic int64_t *signing_since_ms,
                                              struct lane_signature *ret, struct why *why);

/* Signatures that nobody has verified: as backend_lane_is_in_doubt, _settle and _disown. */
bool signer_lane_is_in_doubt(const struct signer_lane *lane);
LEAFD_CHECKED enum leafd_err signer_lane_settle(struct signer_lane *lane, struct why *why);
LEAFD_CHECKED bool signer_lane_disown(struct signer_lane *lane, uint64_t *ret_batch,
                                      unsigned *ret_signatures);
