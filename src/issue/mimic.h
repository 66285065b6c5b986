/* SPDX-License-Identifier: Apache-2.0 */
/* What a leaf takes over from its upstream, written anew: subject and SubjectAltName (RFC 5280
 * sections 4.1.2.6 and 4.2.1.6). Used by leaf_der.
 *
 * Threads: no shared state. */
#pragma once

#include "der/der_writer.h"
#include "policy/plan.h"

/* The subject Name of the plan's leaf, whole; borrowed from the plan, from `room`, or constant. The
 * empty sequence (MIMIC_EMPTY_LEN octets) makes SAN critical. */
enum { MIMIC_SUBJECT_ROOM = 128, MIMIC_EMPTY_LEN = 2 };
struct bytes mimic_subject(const struct plan *plan, uint8_t room[static MIMIC_SUBJECT_ROOM]);
/* The GeneralNames of the plan's leaf. LEAFD_UNSUPPORTED: no name is left. */
LEAFD_CHECKED enum leafd_err mimic_put_names(struct der_writer *writer, const struct plan *plan);
