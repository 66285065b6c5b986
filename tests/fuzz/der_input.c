/* SPDX-License-Identifier: Apache-2.0 */
/* The hooks of libFuzzer for targets whose whole input is DER. */
#include "tests/fuzz/der_mutator.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    return der_mutate(data, size, max_size, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other,
                                 size_t other_size, uint8_t *out, size_t max_size, unsigned seed)
{
    return der_cross(one, one_size, other, other_size, out, max_size, seed);
}
