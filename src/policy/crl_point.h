/* SPDX-License-Identifier: Apache-2.0 */
/* The cRLDistributionPoints of every leaf (ca.crl_url). The issuer writes it, the signer compares
 * with it: one place for both.
 *
 * Threads: no shared state. */
#pragma once

#include "der/der_writer.h"

/* The extension's value: one DistributionPoint with one URI as its fullName. */
void crl_point_put(struct der_writer *writer, const char *url);
