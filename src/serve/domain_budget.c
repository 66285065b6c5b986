/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/domain_budget.h"

#include "base/keyed_hash.h"

#include <libpsl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4, PLACES = 4096, PLACE_BITS = 12, MS_PER_MINUTE = 60000 };

struct domain_budget {
    struct hash_secret secret;
    unsigned per_minute;
    const psl_ctx_t *suffixes;            /* built in, never freed */
    _Atomic uint64_t place[ROWS][PLACES]; /* the minute, and what was made in it (32 bits each) */
};

enum leafd_err domain_budget_new(unsigned per_minute, struct domain_budget **ret)
{
    struct domain_budget *budget = calloc(1, sizeof(*budget));
    enum leafd_err err;

    if (!budget)
        return LEAFD_NOMEM;
    err = hash_secret_init(&budget->secret);
    if (err) {
        free(budget);
        return err;
    }
    budget->per_minute = per_minute;
    budget->suffixes = psl_builtin();
    *ret = budget;
    return LEAFD_OK;
}

void domain_budget_free(struct domain_budget *budget)
{
    free(budget);
}

/* The registrable domain of a host, or the host itself if it is a suffix. */
static struct bytes domain_of(const struct domain_budget *budget, const char *host)
{
    const char *domain = budget->suffixes ? psl_registrable_domain(budget->suffixes, host) : NULL;

    return bytes_of(domain ? domain : host);
}

static uint32_t made_in(uint64_t place, uint32_t minute)
{
    return place >> 32 == minute ? (uint32_t)place : 0;
}

static void count(_Atomic uint64_t *place, uint32_t minute)
{
    uint64_t before = atomic_load_explicit(place, memory_order_relaxed);
    uint64_t after;

    do
        after = (uint64_t)minute << 32 | (made_in(before, minute) + 1);
    while (!atomic_compare_exchange_weak_explicit(place, &before, after, memory_order_relaxed,
                                                  memory_order_relaxed));
}

bool domain_budget_take(struct domain_budget *budget, const struct name *host, int64_t now_ms)
{
    uint32_t minute = (uint32_t)(now_ms / MS_PER_MINUTE) + 1; /* no place is empty in minute 0 */
    char text[NAME_DNS_MAX + 4] = "";
    uint32_t least = UINT32_MAX;
    uint64_t hash;

    if (budget->per_minute == 0 || host->kind != NAME_DNS || host->len == 0)
        return true;
    memcpy(text, host->data, host->len);
    hash = keyed_hash(&budget->secret, domain_of(budget, text));
    for (unsigned row = 0; row < ROWS; row++) {
        uint64_t place = atomic_load_explicit(
            &budget->place[row][hash >> row * PLACE_BITS & (PLACES - 1)], memory_order_relaxed);

        if (made_in(place, minute) < least)
            least = made_in(place, minute);
    }
    if (least >= budget->per_minute)
        return false;
    for (unsigned row = 0; row < ROWS; row++)
        count(&budget->place[row][hash >> row * PLACE_BITS & (PLACES - 1)], minute);
    return true;
}
