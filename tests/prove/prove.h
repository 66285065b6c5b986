/* SPDX-License-Identifier: Apache-2.0 */
/* What the proofs share. Each prove_… function below tests/prove/ is a proof of its own: CBMC runs
 * it for every input of up to PROVE_OCTETS octets and every value of a nondet_… function at once,
 * and looks for one that reads or writes outside an object, overflows, or breaks a PROVE(). */
#pragma once

#include "base/bytes.h"

#include <stdlib.h>

bool nondet_bool(void);
int nondet_int(void);
uint8_t nondet_octet(void);
size_t nondet_size(void);
int64_t nondet_int64(void);

#define ASSUME(claim) __CPROVER_assume(claim)
#define PROVE(claim) __CPROVER_assert(claim, #claim)

/* Any octets there are. Nothing stands before or behind them. */
static inline struct bytes any_input(void)
{
    size_t len = nondet_size();
    uint8_t *octets;

    ASSUME(len <= PROVE_OCTETS);
    octets = malloc(len);
    ASSUME(octets);
    if (len == 0 && nondet_bool())
        octets = NULL;
    return (struct bytes){octets, len};
}

/* Does `part` lie in `whole`? Nothing lies everywhere. */
static inline bool is_inside(struct bytes part, struct bytes whole)
{
    if (!part.data)
        return part.len == 0;
    return whole.data && __CPROVER_same_object(part.data, whole.data) && part.data >= whole.data &&
           part.data + part.len <= whole.data + whole.len && part.len <= whole.len;
}
