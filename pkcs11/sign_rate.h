/* SPDX-License-Identifier: Apache-2.0 */
/* How many signatures a key gives in a second, with one lane and with more of them at once.
 *
 * Threads: one at a time; it starts as many as there are lanes, and ends them. */
#pragma once

#include "base/bytes.h"

#include <openssl/evp.h>

struct backend;
struct token_key;

/* What signs: a backend's key, whose signatures are verified as token.verify says, or a token's
 * key, of which each lane verifies its first signature. */
struct sign_rate_key {
    struct backend *backend; /* NULL: `key` signs */
    size_t ca_index;
    struct token_key *key;
    EVP_PKEY *public_key; /* for either */
};

struct sign_rate {
    unsigned lanes;
    uint64_t signatures;
    uint64_t failures;
    double per_second;
    uint32_t median_us, p99_us; /* of one signature */
    uint32_t cpu_us;            /* of this process, for one signature */
    char failure[160];          /* the first one's reason; "": none */
};

/* Signs for `each_ms` with so many lanes at once; each signs once at least, and stops when it
 * fails. LEAFD_NOMEM alone: what the token refuses is in *ret. */
LEAFD_CHECKED enum leafd_err sign_rate_measure(const struct sign_rate_key *key, unsigned lanes,
                                               unsigned each_ms, struct sign_rate *ret);
