/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/plan.h"

#include "base/digest.h"
#include "policy/deny_list.h"

#include <stdlib.h>
#include <string.h>

enum {
    MINUTE = 60,
    HOUR = 60 * MINUTE,
    DAY = 24 * HOUR,
    SPAN_MAX = 824 * DAY, /* a day under what clients (and the signer) still take */
    SPAN_CUT = 397 * DAY,
    BACKDATED = DAY,          /* clients' clocks are slow at times */
    REUSE_MARGIN = 5 * MINUTE /* g3proxy goes on serving a leaf for so long after its ttl */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Cuts a span that is too long around now; returns the rule that was used. */
static enum date_rule cut_span(const struct verdict *verdict, int64_t now_sec, int64_t *not_before,
                               int64_t *not_after)
{
    if (verdict->expired) {
        *not_before = *not_after - SPAN_CUT;
        return DATES_CUT_EXPIRED;
    }
    if (verdict->not_yet) {
        *not_after = *not_before + SPAN_CUT;
        return DATES_CUT_NOT_YET;
    }
    *not_before = max64(*not_before, now_sec - BACKDATED);
    *not_after = min64(*not_after, *not_before + SPAN_CUT);
    return DATES_CUT_VALID;
}

/* Until when a leaf may be given out again. Whether it is good is decided anew for every request;
 * this only says when a new one would be better. */
static int64_t usable_until(const struct plan *plan, int64_t limit, int64_t now_sec)
{
    bool moves = plan->date_rule == DATES_FRESH || plan->date_rule == DATES_CUT_VALID;
    int64_t left = plan->not_after - now_sec;

    if (left <= 0 || plan->not_before > now_sec)
        return now_sec + HOUR; /* nobody can use it: its dates do not matter */
    if (left <= REUSE_MARGIN)
        return plan->not_after;
    if (moves && plan->not_after < limit)
        return now_sec + left / 10 * 7; /* a new one would end later */
    return plan->not_after - REUSE_MARGIN;
}

void plan_set_dates(struct plan *plan, int64_t lifetime_sec, int64_t now_sec)
{
    const struct upstream *upstream = plan->profile == PROFILE_FRESH ? NULL : plan->upstream;
    int64_t not_before = upstream ? upstream->not_before : now_sec - BACKDATED;
    int64_t not_after = upstream ? upstream->not_after : now_sec + lifetime_sec;
    struct verdict verdict = upstream ? plan->verdict : (struct verdict){0};
    int64_t limit =
        upstream ? min64(upstream->not_after, plan->ca->not_after) : plan->ca->not_after;

    plan->date_rule = upstream ? DATES_UPSTREAM : DATES_FRESH;
    not_after = min64(not_after, plan->ca->not_after);
    if (not_after - not_before > SPAN_MAX) {
        enum date_rule cut = cut_span(&verdict, now_sec, &not_before, &not_after);

        if (upstream)
            plan->date_rule = cut;
    }
    plan->not_before = min64(not_before, not_after);
    plan->not_after = not_after;
    plan->usable_until = usable_until(plan, limit, now_sec);
}

static uint8_t *put_number(uint8_t *at, uint64_t number, unsigned octets)
{
    while (octets-- > 0)
        *at++ = (uint8_t)(number >> (8 * octets));
    return at;
}

/* A key that no other plan has, for when there is no SHA-256. */
static void seal_alone(struct plan *plan)
{
    static _Atomic uint64_t last;

    memset(plan->key, 0xff, sizeof(plan->key));
    put_number(plan->key, ++last, 8);
}

void plan_seal(struct plan *plan)
{
    /* Every field has a fixed place; the host, the only one of varying length, is the last. */
    uint8_t text[128 + NAME_DNS_MAX + 3];
    uint8_t *at = text;

    at = put_number(at, 1, 1); /* of this encoding */
    at = put_number(at, plan->ca->id, 2);
    at = put_number(at, plan->ca->generation, 8);
    at = put_number(at, plan->profile, 1);
    at = put_number(at, plan->usage, 1);
    at = put_number(at, plan->key_type, 1);
    at = put_number(at, plan->key_type == KEY_TYPE_RSA ? plan->rsa_bits : 0, 4);
    at = put_number(at, plan->date_rule, 1);
    at = put_number(at, plan->verdict.untrusted, 1);
    at = put_number(at, plan->host_only, 1);
    if (plan->upstream && plan->profile != PROFILE_FRESH)
        memcpy(at, plan->upstream->sha256, sizeof(plan->upstream->sha256));
    else
        memset(at, 0, sizeof(plan->upstream->sha256));
    at += sizeof(plan->upstream->sha256);
    if (plan->host_only) {
        at = put_number(at, plan->host.kind, 1);
        at = put_number(at, plan->host.len, 2);
        memcpy(at, plan->host.data, plan->host.len);
        at += plan->host.len;
    }
    if (digest_sha256((struct bytes){text, (size_t)(at - text)}, plan->key))
        seal_alone(plan);
}

void plan_set_ca(struct plan *plan, const struct ca *ca)
{
    const struct ca *former = plan->ca;

    plan->ca = ca_ref(ca);
    ca_unref(former);
    if (ca->not_after < plan->not_after) {
        plan->not_after = ca->not_after;
        plan->not_before = min64(plan->not_before, plan->not_after);
        plan->usable_until = min64(plan->usable_until, plan->not_after);
    }
    plan_seal(plan);
}

bool plan_allows_name(const struct plan *plan, const struct name *name)
{
    if (deny_list_covers(plan->deny, name))
        return false;
    return !plan->ca || ca_allows_name(plan->ca, name);
}

enum leafd_err plan_names(const struct plan *plan, struct plan_names *ret)
{
    bool host_only = plan->host_only || !plan->upstream;
    const struct name *all = host_only ? &plan->host : plan->upstream->names;
    size_t all_count = host_only ? 1 : plan->upstream->name_count;
    struct plan_names names = {NULL, 0};

    names.name = malloc((all_count ? all_count : 1) * sizeof(*names.name));
    if (!names.name)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < all_count; i++)
        if (all[i].len > 0 && plan_allows_name(plan, &all[i]))
            names.name[names.count++] = &all[i];
    if (names.count == 0) {
        free(names.name);
        return LEAFD_UNSUPPORTED;
    }
    *ret = names;
    return LEAFD_OK;
}

void plan_steal(struct plan *to, struct plan *from)
{
    *to = *from;
    *from = (struct plan){0};
}

void plan_clear(struct plan *plan)
{
    ca_unref(plan->ca);
    upstream_unref(plan->upstream);
    *plan = (struct plan){0};
}

const char *profile_name(enum profile profile)
{
    switch (profile) {
    case PROFILE_FRESH:
        return "fresh";
    case PROFILE_MIMIC:
        return "mimic";
    case PROFILE_MINIMAL:
        return "minimal";
    }
    return "unknown";
}
