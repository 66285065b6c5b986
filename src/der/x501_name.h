/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing Names (RFC 5280 section 7.1).
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

/* Would a client take the two whole Names for the same? Types as octets, texts whatever their
 * string type, letters in one case, runs of spaces as one. Input that is no Name equals nothing. */
bool x501_name_equal(struct bytes a, struct bytes b);
