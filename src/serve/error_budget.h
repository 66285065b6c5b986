/* SPDX-License-Identifier: Apache-2.0 */
/* How many error replies may go out: one allowance per source and one for all, refilled evenly and
 * holding a second's worth. A fixed number of places, found by a keyed hash of the source: made-up
 * sources cannot make it grow, two that meet in one place share its allowance.
 *
 * Threads: error_budget_take from any thread, without a lock. */
#pragma once

#include "base/bytes.h"

struct error_budget;

/* Errors per second for each source and for all together; 0: unlimited. */
LEAFD_CHECKED enum leafd_err error_budget_new(unsigned per_source, unsigned global,
                                              struct error_budget **ret);
void error_budget_free(struct error_budget *budget); /* NULL is fine */
/* May `source` (its address without the port) be sent an error now? Takes it from the allowance. */
bool error_budget_take(struct error_budget *budget, struct bytes source, int64_t now_ms);
