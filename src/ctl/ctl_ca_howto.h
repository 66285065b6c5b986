/* SPDX-License-Identifier: Apache-2.0 */
/* How clients are made to trust the CA: a text for administrators to paste elsewhere.
 *
 * Threads: no shared state. */
#pragma once

#include "policy/ca.h"
#include "policy/cert_list.h"

/* About the root at the end of `list`, whose first certificate is that of `ca`. `words` stand
 * behind leafctl in the commands that are told (ctl_conf_words). *ret is the caller's to free(). */
LEAFD_CHECKED enum leafd_err ca_howto_make(const struct ca *ca, const struct cert_list *list,
                                           const char *words, struct bytes *ret, struct why *why);
