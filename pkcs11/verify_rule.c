/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/verify_rule.h"

void verify_rule_init(struct verify_rule *rule, bool always)
{
    *rule = (struct verify_rule){.always = always};
}

/* The fastest of late. Most of what one signature may take longer than another was spent waiting
 * for a processor or for other lanes, and is not the token's; so a faster one is believed at once,
 * and slower ones an eighth at a time. */
static void learn(struct verify_rule *rule, int64_t took_us)
{
    int64_t most_us = rule->took_us + rule->took_us / 8 + 1;

    rule->took_us = rule->took_us && took_us > most_us ? most_us : took_us;
}

bool verify_rule_wants(struct verify_rule *rule, uint64_t generation, int64_t took_us)
{
    learn(rule, took_us);
    if (rule->generation != generation) {
        rule->generation = generation;
        rule->first = 0;
    }
    if (rule->always || rule->took_us > VERIFY_SLOW_US || rule->first < VERIFY_FIRST ||
        ++rule->unverified == VERIFY_EACH) {
        rule->first += rule->first < VERIFY_FIRST;
        rule->unverified = 0;
        return true;
    }
    return false;
}
