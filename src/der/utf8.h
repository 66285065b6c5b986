/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 (RFC 3629), as far as it is written.
 *
 * Threads: no shared state. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes one character; returns how many octets it has. What is beyond U+10FFFF is cut, not
 * refused.
 */
size_t utf8_put(uint32_t c, uint8_t out[static 4]);
