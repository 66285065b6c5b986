/* SPDX-License-Identifier: Apache-2.0 */
/* The last so many numbers that were added.
 *
 * Threads: no shared state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RECENT_NUMBERS_MAX = 512 };

struct recent_numbers { /* all zero: none */
    size_t count, next;
    uint64_t number[RECENT_NUMBERS_MAX];
};

/* In the place of the oldest one when there is no room. */
void recent_numbers_add(struct recent_numbers *recent, uint64_t number);
bool recent_numbers_has(const struct recent_numbers *recent, uint64_t number);
