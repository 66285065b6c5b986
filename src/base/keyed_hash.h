/* SPDX-License-Identifier: Apache-2.0 */
/* A hash for tables that strangers fill (SipHash-1-3, Aumasson and Bernstein 2012): without the
 * secret nobody can choose inputs that fall into one place. For tables alone; it proves nothing.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

struct hash_secret {
    uint64_t word[2];
};

/* From the kernel's random numbers. LEAFD_INTERNAL when there are none. */
LEAFD_CHECKED enum leafd_err hash_secret_init(struct hash_secret *ret);
uint64_t keyed_hash(const struct hash_secret *secret, struct bytes input);
