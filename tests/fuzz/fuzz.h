/* SPDX-License-Identifier: Apache-2.0 */
/* What every fuzz target defines; the same function is driven by libFuzzer and by replay.c. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
