/* SPDX-License-Identifier: Apache-2.0 */
/* Rules that go over several options, or that need more than one option to be judged, and the
 * fields that follow from several.
 *
 * Errors as in conf/reader. Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "conf/reader.h"

/* Once every row is read: is the whole sound? Makes CA keys that are files absolute, and sets
 * ca_count and supervisor_socket. */
LEAFD_CHECKED enum leafd_err rules_check(const struct reader *reader);
