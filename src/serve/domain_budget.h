/* SPDX-License-Identifier: Apache-2.0 */
/* How many new leaves one registrable domain may cause in a minute (cache.new_per_domain), so that
 * made-up names below one domain do not take the token from all others. A sketch of fixed size,
 * found by a keyed hash: it never counts too little, and too much only for a domain that meets
 * others in all its places.
 *
 * Threads: domain_budget_take from any thread, without a lock. */
#pragma once

#include "policy/names.h"

struct domain_budget;

/* 0: unlimited. */
LEAFD_CHECKED enum leafd_err domain_budget_new(unsigned per_minute, struct domain_budget **ret);
void domain_budget_free(struct domain_budget *budget); /* NULL is fine */
/* May a new leaf be made for this host? Counts it if so. Addresses are not counted. */
bool domain_budget_take(struct domain_budget *budget, const struct name *host, int64_t now_ms);
