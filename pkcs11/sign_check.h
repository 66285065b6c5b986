/* SPDX-License-Identifier: Apache-2.0 */
/* The signer's own look at a TBSCertificate before it is signed: a front that was taken over gets
 * leaves within the rules that leafd(8) lists under SECURITY, and nothing else.
 *
 * Threads: every function from any thread. */
#pragma once

#include "conf/conf.h"
#include "policy/ca.h"

struct sign_check;

/* The rules for one process: borrows conf, takes a reference on the set (subject keys of *all* its
 * CAs are refused). */
LEAFD_CHECKED enum leafd_err sign_check_new(const struct conf *conf, struct ca_set *cas,
                                            struct sign_check **ret, struct why *why);
void sign_check_free(struct sign_check *check); /* NULL is fine */

/* `ca` is one of the set. LEAFD_OK, or LEAFD_REFUSED with the rule that was broken. LEAFD_OK also
 * marks the serial as used: the same serial is refused from then on (the last 2^20 are remembered,
 * as keyed hashes). */
LEAFD_CHECKED enum leafd_err sign_check_tbs(struct sign_check *check, const struct ca *ca,
                                            struct bytes tbs, struct why *why);
/* Takes that mark back from a TBSCertificate that was passed and then not signed: no signature of
 * it was or will be released. */
void sign_check_forget(struct sign_check *check, struct bytes tbs);
