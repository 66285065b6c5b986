/* SPDX-License-Identifier: Apache-2.0 */
/* A request for a CA's certificate (PKCS #10, RFC 2986), signed by the key in the token, for a root
 * elsewhere to answer (leafctl ca csr).
 *
 * Threads: from any thread; it loads the PKCS#11 module, so one at a time, and never in the front.
 */
#pragma once

#include "pkcs11/ca_make.h"

struct ca_request_options {
    struct ca_make_options ca; /* `days` is the root's affair */
    bool key_given;            /* ca.key was asked for: no key may be there yet */
    bool existing;             /* the key has to be there */
};

/* Uses the key that the URI names if there is one, else makes it as ca_make() does. The request has
 * the extensions that the CA is to get, all as ca_make() gives them. *ret_pem is the caller's to
 * free(); *ret_made tells whether the key is new. A key pair that was made and whose request could
 * not be made is destroyed again. LEAFD_CONFIG also: options that the key in the token contradicts;
 * LEAFD_ABSENT: `existing`, and no key. */
LEAFD_CHECKED enum leafd_err ca_request_make(const struct conf *conf, const struct secret *pin,
                                             const struct ca_request_options *options,
                                             struct bytes *ret_pem, bool *ret_made,
                                             struct why *why);
