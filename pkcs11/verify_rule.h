/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a lane's signatures are verified before they are used. With an RSA key, or where the
 * token takes its time, that costs next to nothing: all. A fast token with an elliptic key spends
 * more on the check than on the signature: the first of each generation of its sessions, then some.
 *
 * Threads: no shared state. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    VERIFY_FIRST = 32,   /* of a generation */
    VERIFY_EACH = 16,    /* then one in so many */
    VERIFY_SLOW_US = 200 /* a token that takes longer is slow */
};

/* Of one lane and one of its keys. */
struct verify_rule {
    bool always;
    uint64_t generation;
    unsigned first;      /* signatures of that generation, up to VERIFY_FIRST */
    unsigned unverified; /* in a row */
    int64_t took_us;     /* what a signature takes when nothing disturbs it; 0: not known */
};

void verify_rule_init(struct verify_rule *rule, bool always);
/* One more signature, of that generation, which took so long. True: it is to be verified. */
bool verify_rule_wants(struct verify_rule *rule, uint64_t generation, int64_t took_us);
