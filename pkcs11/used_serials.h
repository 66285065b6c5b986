/* SPDX-License-Identifier: Apache-2.0 */
/* Which serials were signed before, so that no serial is ever in two certificates: keyed 64-bit
 * hashes of the last ones, in bounded memory.
 *
 * Threads: every function from any thread, except _new and _free. */
#pragma once

#include "base/bytes.h"

struct used_serials;

/* Nothing is used yet. At least the last `remembered` serials will be known, at most twice as many;
 * memory is taken as they come. The caller ends it with used_serials_free(). LEAFD_NOMEM or
 * LEAFD_INTERNAL: *ret is untouched. */
LEAFD_CHECKED enum leafd_err used_serials_new(size_t remembered, struct used_serials **ret);
void used_serials_free(struct used_serials *serials); /* NULL is fine */
/* Marks a serial as used; false when it was used before. */
LEAFD_CHECKED bool used_serials_add(struct used_serials *serials, struct bytes serial);
/* It was not used after all: nothing with it was released. */
void used_serials_remove(struct used_serials *serials, struct bytes serial);
