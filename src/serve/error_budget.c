/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/error_budget.h"

#include "base/keyed_hash.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { PLACES = 1024, US_PER_SEC = 1000000 };

struct error_budget {
    struct hash_secret secret;
    unsigned per_source;
    unsigned global;
    /* The moments at which all that was taken so far will have been refilled. */
    _Atomic int64_t all_full_us;
    _Atomic int64_t source_full_us[PLACES];
};

enum leafd_err error_budget_new(unsigned per_source, unsigned global, struct error_budget **ret)
{
    struct error_budget *budget = calloc(1, sizeof(*budget));
    enum leafd_err err;

    if (!budget)
        return LEAFD_NOMEM;
    err = hash_secret_init(&budget->secret);
    if (err) {
        free(budget);
        return err;
    }
    budget->per_source = per_source;
    budget->global = global;
    *ret = budget;
    return LEAFD_OK;
}

void error_budget_free(struct error_budget *budget)
{
    free(budget);
}

static bool take(_Atomic int64_t *full_us, unsigned rate, int64_t now_us)
{
    int64_t before = atomic_load_explicit(full_us, memory_order_relaxed);
    int64_t after;

    if (rate == 0)
        return true;
    do {
        after = (before > now_us ? before : now_us) + US_PER_SEC / (int64_t)rate;
        if (after > now_us + US_PER_SEC)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(full_us, &before, after, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

bool error_budget_take(struct error_budget *budget, struct bytes source, int64_t now_ms)
{
    size_t place = keyed_hash(&budget->secret, source) & (PLACES - 1);

    return take(&budget->source_full_us[place], budget->per_source, now_ms * 1000) &&
           take(&budget->all_full_us, budget->global, now_ms * 1000);
}
