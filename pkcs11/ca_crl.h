/* SPDX-License-Identifier: Apache-2.0 */
/* The CRL of the CA whose key is in the token (leafctl ca crl): version 2, empty, since leafd never
 * revokes a leaf.
 *
 * Threads: from any thread; it loads the PKCS#11 module, so one at a time, and never in the front.
 */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "policy/ca.h"

/* The default lets a monthly run fail once and leaves four weeks to notice it. */
enum { CA_CRL_DAYS_DEFAULT = 90, CA_CRL_DAYS_MAX = 3650 };

struct ca_crl_options {
    unsigned days; /* from now to nextUpdate, at most to the CA's end; 0: CA_CRL_DAYS_DEFAULT */
    struct bytes before; /* what this one is to replace, unchecked; may be empty */
};

/* Signs a CRL with the key of configured CA number 0. thisUpdate lies an hour back, for clients
 * whose clocks are behind. cRLNumber is the time in milliseconds, or one more than that of `before`
 * where this is larger, so it grows from run to run and no state is kept.
 * The result has been read again and verified with the CA's public key; free(ret_der->data).
 * LEAFD_CONFIG: the CA may not sign CRLs (cRLSign), or is outside its dates; else as backend_open
 * and backend_lane_sign. */
LEAFD_CHECKED enum leafd_err ca_crl_make(const struct conf *conf, const struct ca_set *cas,
                                         const struct secret *pin,
                                         const struct ca_crl_options *options,
                                         struct bytes *ret_der, struct why *why);
