/* SPDX-License-Identifier: Apache-2.0 */
/* PEM (RFC 7468), written, and read back where it is known to be ours.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

/* Octets that pem_write() writes for `der_len` octets under `label`. */
size_t pem_size(const char *label, size_t der_len);
/* Writes -----BEGIN label-----, lines of 64 characters, -----END label-----; `out` has room for
 * pem_size() and one octet more. Returns the octets written. */
size_t pem_write(const char *label, struct bytes der, uint8_t *out);
/* The same in memory of its own, the caller's to free(). LEAFD_NOMEM: *ret is untouched. */
LEAFD_CHECKED enum leafd_err pem_new(const char *label, struct bytes der, struct bytes *ret);
/* Back into `out`; only for what pem_write() wrote under the same label. LEAFD_TOO_LARGE: it does
 * not fit. LEAFD_MALFORMED: it was something else. *ret is untouched in both cases. */
LEAFD_CHECKED enum leafd_err pem_read(const char *label, struct bytes pem, uint8_t *out,
                                      size_t size, struct bytes *ret);
