/* SPDX-License-Identifier: Apache-2.0 */
/* The KeyUsage that follows from a leaf's key and what it is for. The issuer writes it, the signer
 * checks it: one place for both.
 *
 * Threads: no shared state. */
#pragma once

#include "der/spki.h"
#include "wire/request.h"

/* The first octet of the KeyUsage BIT STRING (RFC 5280 section 4.2.1.3; bit 0 is 0x80). */
uint8_t key_usage_bits(enum key_type type, enum usage usage);
/* True when `bits` is what some usage gives for this key: the signer is not told which one. */
bool key_usage_is_ours(enum key_type type, uint8_t bits);
