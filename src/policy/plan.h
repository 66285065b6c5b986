/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that decides a byte of a leaf, and the key under which it is remembered.
 *
 * Threads: no shared state; a plan belongs to one flight. */
#pragma once

#include "policy/ca.h"
#include "policy/upstream.h"
#include "policy/verdict.h"
#include "wire/request.h"

enum profile { PROFILE_FRESH, PROFILE_MIMIC, PROFILE_MINIMAL };

/* How the dates come about; part of the key, since the dates of one rule move with the clock. */
enum date_rule {
    DATES_FRESH,       /* now - 1 d to now + leaf.lifetime */
    DATES_UPSTREAM,    /* as the upstream's, cut to the CA's */
    DATES_CUT_VALID,   /* over 824 d: from max(start, now - 1 d), 397 d at most */
    DATES_CUT_EXPIRED, /* over 824 d and expired: its last 397 d */
    DATES_CUT_NOT_YET  /* over 824 d and not yet valid: its first 397 d */
};

struct plan {
    uint8_t key[32]; /* plan_seal() */
    enum profile profile;
    enum usage usage;
    struct verdict verdict;
    const struct ca *ca; /* owned reference */
    enum key_type key_type;
    unsigned rsa_bits; /* KEY_TYPE_RSA alone; wanted: see keys.rsa_match */
    enum date_rule date_rule;
    int64_t not_before; /* as they go into the leaf */
    int64_t not_after;
    bool host_only; /* the SAN is `host` alone (fresh, minimal, upstream_verified: no) */
    struct name host;
    bool named_as_ca; /* the upstream's subject is that of a CA of ours: the mimic's is empty */
    struct upstream *upstream;    /* owned reference; NULL for PROFILE_FRESH */
    const struct deny_list *deny; /* policy.deny, borrowed from the policy for its life; or NULL */
    int64_t usable_until; /* wall clock: a cached leaf is given out before this second only */
};

/* Sets date_rule, both dates and usable_until from profile, verdict, upstream and CA. */
void plan_set_dates(struct plan *plan, int64_t lifetime_sec, int64_t now_sec);
/* Does the name stay in a leaf of this plan: inside the CA's constraints (once there is a
 * CA), and not denied? */
bool plan_allows_name(const struct plan *plan, const struct name *name);
/* Computes plan->key from the other fields: CA and its generation, profile, usage, key type,
 * verdict as far as it changes a byte, date rule, SHA-256 of the upstream, and the host where it is
 * used. */
void plan_seal(struct plan *plan);
/* The same plan under another generation of its CA: takes a reference, cuts dates, seals anew. */
void plan_set_ca(struct plan *plan, const struct ca *ca);
/* The SAN names of the leaf in their order. Names that the CA's
 * constraints or `deny` take away are not among them. LEAFD_UNSUPPORTED: none is left. */
struct plan_names {
    const struct name **name; /* borrowed from the plan; the array is the caller's to free() */
    size_t count;
};
LEAFD_CHECKED enum leafd_err plan_names(const struct plan *plan, struct plan_names *ret);
/* Moves what `from` owns into `to`; `from` is empty then. */
void plan_steal(struct plan *to, struct plan *from);
void plan_clear(struct plan *plan); /* an empty (zeroed) plan is fine */
const char *profile_name(enum profile profile);
