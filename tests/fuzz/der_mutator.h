/* SPDX-License-Identifier: Apache-2.0 */
/* Mutations of DER that leave it DER: libFuzzer's own break a length nearly always, and then
 * nothing behind the outermost SEQUENCE is ever reached. One element is picked, at any depth (also
 * inside OCTET STRINGs and BIT STRINGs that hold DER), and changed, retyped, left out, doubled,
 * exchanged with another, or wrapped; the lengths around it are mended. Some mutations break the
 * form on purpose, and some are left to libFuzzer.
 *
 * A target calls these from LLVMFuzzerCustomMutator and LLVMFuzzerCustomCrossOver.
 *
 * Threads: one, as the fuzzer has. */
#pragma once

#include "tests/fuzz/fuzz.h"

/* What libFuzzer calls instead of its own; nobody calls them in a program that replays. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other,
                                 size_t other_size, uint8_t *out, size_t max_size, unsigned seed);

/* Changes the DER in `data` in place; gives its new size, at most `max_size`. */
size_t der_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed);
/* `one` with an element of `other` put in place of, or behind, one of its own; the size. */
size_t der_cross(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                 uint8_t *out, size_t max_size, unsigned seed);
