/* SPDX-License-Identifier: Apache-2.0 */
/* Plan -> issued: key, TBSCertificate, signature. Holds the order of these steps and knows nothing
 * of who asked.
 *
 * Threads: issuer_issue from any thread; `done` comes on the caller's, a key maker's or the signer
 * client's thread. */
#pragma once

#include "issue/issued.h"
#include "issue/key_pool.h"
#include "pkcs11/signer.h"
#include "policy/plan.h"

struct issuer;

/* Borrows all three for its life. */
LEAFD_CHECKED enum leafd_err issuer_new(const struct conf *conf, struct key_pool *keys,
                                        struct signer *signer, struct issuer **ret);
/* No issue may be under way. */
void issuer_free(struct issuer *issuer);

/* `issued` is borrowed for the call (ref it to keep it); NULL unless err is LEAFD_OK. */
typedef void (*issuer_fn)(void *ctx, enum leafd_err err, struct issued *issued);

/* Issues, and calls `done` exactly once, perhaps before returning: LEAFD_OK, LEAFD_TIMEOUT
 * (deadline), LEAFD_BUSY, LEAFD_TOKEN_UNAVAILABLE, LEAFD_TOO_LARGE, LEAFD_INTERNAL. A lost signer
 * is tried again with a new serial (and, for the untrusted CA, its new generation: the plan is
 * sealed anew) while the deadline lasts. `plan` must live until `done` has been called, and is
 * written to in that case alone. */
void issuer_issue(struct issuer *issuer, struct plan *plan, int64_t deadline_ms, struct bytes audit,
                  issuer_fn done, void *ctx);
