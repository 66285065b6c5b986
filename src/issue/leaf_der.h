/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a leaf's TBSCertificate and Certificate (RFC 5280 section 4.1) from a plan, without an
 * X509 object: what is constant is copied, the rest takes about 2 us.
 *
 * Threads: no shared state. */
#pragma once

#include "issue/leaf_key.h"
#include "policy/plan.h"

enum { LEAF_DER_MAX = 16384, LEAF_SERIAL_LEN = 20 };

/* Fresh random serial: 20 octets, the first 0x40 to 0x7F. LEAFD_INTERNAL when there is no
 * randomness. */
LEAFD_CHECKED enum leafd_err leaf_serial(uint8_t out[static LEAF_SERIAL_LEN]);

/* The TBSCertificate, at the back of `buffer` of `size` octets. LEAFD_TOO_LARGE: does not fit. */
LEAFD_CHECKED enum leafd_err leaf_tbs_write(const struct plan *plan, const struct conf *conf,
                                            const struct leaf_key *key,
                                            const uint8_t serial[static LEAF_SERIAL_LEN],
                                            uint8_t *buffer, size_t size, struct bytes *ret);
/* The Certificate: TBS, algorithm, signature (as it stands in the BIT STRING). */
LEAFD_CHECKED enum leafd_err leaf_cert_write(const struct ca *ca, struct bytes tbs,
                                             struct bytes signature, uint8_t *buffer, size_t size,
                                             struct bytes *ret);
