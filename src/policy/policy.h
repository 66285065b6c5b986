/* SPDX-License-Identifier: Apache-2.0 */
/* Request -> plan: may we, and what exactly.
 *
 * Threads: policy_plan from any thread; _new and _free from one. The memo of read upstream leaves
 * is sharded, bounded in octets, one lock per shard, never held across a call out of this folder.
 */
#pragma once

#include "conf/conf.h"
#include "policy/plan.h"

struct policy;

/* Borrows `conf` for its life. The caller ends it with policy_free(). */
LEAFD_CHECKED enum leafd_err policy_new(const struct conf *conf, struct policy **ret);
void policy_free(struct policy *policy); /* NULL is fine */

/* Decides. LEAFD_REFUSED, LEAFD_UNSUPPORTED, LEAFD_TOO_LARGE (does not name the host and does not
 * fit), LEAFD_TOKEN_UNAVAILABLE (the untrusted CA is not known yet) with a sentence: *ret then has
 * only `verdict` set. On LEAFD_OK the caller ends *ret with plan_clear(). */
LEAFD_CHECKED enum leafd_err policy_plan(struct policy *policy, const struct request *request,
                                         const struct ca_set *cas, int64_t now_sec,
                                         struct plan *ret, struct why *why);

/* The plan to fall back to when the mimic turned out too large for a reply: minimal if the upstream
 * names the host, else LEAFD_TOO_LARGE. `host` is the request's, checked. */
LEAFD_CHECKED enum leafd_err policy_plan_smaller(const struct plan *plan, const struct name *host,
                                                 struct plan *ret, struct why *why);
