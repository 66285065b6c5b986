/* SPDX-License-Identifier: Apache-2.0 */
/* CA certificates as an Apple configuration profile (.mobileconfig), which iOS, iPadOS and macOS
 * install and an MDM hands out.
 *
 * Threads: no shared state. */
#pragma once

#include "policy/cert_list.h"

/* `count` certificates of the list from number `first` on: a self-signed one as a root, others as
 * what they are. The same certificates always give the same profile, identifiers included, so that
 * a device which gets it again does not have it twice. *ret is the caller's to free(). */
LEAFD_CHECKED enum leafd_err mobileconfig_make(const struct cert_list *list, size_t first,
                                               size_t count, struct bytes *ret, struct why *why);
