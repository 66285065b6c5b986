/* SPDX-License-Identifier: Apache-2.0 */
/* The upstream leaf that --like names: a file with PEM or DER.
 *
 * Threads: one. */
#pragma once

#include "wire/request.h"

/* The certificate as it goes into a request: of PEM the first certificate alone, so that a
 * whole chain in the file still fits. free(ret->data). LEAFD_IO, LEAFD_TOO_LARGE, LEAFD_UNSUPPORTED
 * with a sentence. */
LEAFD_CHECKED enum leafd_err ctl_upstream_read(const char *path, struct bytes *ret,
                                               enum cert_form *ret_form, struct why *why);
