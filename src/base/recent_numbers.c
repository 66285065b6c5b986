/* SPDX-License-Identifier: Apache-2.0 */
#include "base/recent_numbers.h"

void recent_numbers_add(struct recent_numbers *recent, uint64_t number)
{
    recent->number[recent->next] = number;
    recent->next = (recent->next + 1) % RECENT_NUMBERS_MAX;
    recent->count += recent->count < RECENT_NUMBERS_MAX;
}

bool recent_numbers_has(const struct recent_numbers *recent, uint64_t number)
{
    for (size_t i = 0; i < recent->count; i++)
        if (recent->number[i] == number)
            return true;
    return false;
}
