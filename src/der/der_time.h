/* SPDX-License-Identifier: Apache-2.0 */
/* UTCTime and GeneralizedTime as RFC 5280 section 4.1.2.5 writes them: seconds and Z, no fractions.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"
#include "der/der_reader.h"
#include "der/der_writer.h"

/* Reads one Time into seconds since 1970 (years 1950 to 9999). A bad one fails the cursor and gives
 * 0. `*ret_odd` (may be NULL) is set to true for a GeneralizedTime before 2050, else left alone. */
int64_t der_read_time(struct der *der, bool *ret_odd);
/* UTCTime to 2049, GeneralizedTime from 2050. */
void der_put_time(struct der_writer *writer, int64_t sec);
