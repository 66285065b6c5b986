/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream leaf as OpenSSL sees it, with nothing of ours between: what a verdict must not miss.
 *
 * Threads: one, as a fuzzer has. */
#pragma once

#include "base/bytes.h"

#include <openssl/x509v3.h>

struct openssl_view {
    X509 *cert;
    int64_t not_before, not_after;
    bool has_alt_names;   /* a SubjectAltName stands there, readable or not */
    GENERAL_NAMES *names; /* of all that can be read; NULL without one */
    bool self_signed;     /* issuer = subject, as OpenSSL compares names */
};

/* False: OpenSSL does not take it, or its dates are no dates. End with openssl_view_clear(). */
bool openssl_view_init(struct openssl_view *view, struct bytes der);
void openssl_view_clear(struct openssl_view *view);
/* Why no client should trust the leaf whatever its issuer, host and date; NULL: no reason seen. */
const char *openssl_view_fault(const struct openssl_view *view);
/* Does the leaf name the host (a name in lower case, or an address of 4 or 16 octets)? */
bool openssl_view_names_host(const struct openssl_view *view, bool is_ip, struct bytes host);
/* Is it one of the names of the SubjectAltName, or, where there is none, the common name? */
bool openssl_view_has_name(const struct openssl_view *view, const GENERAL_NAME *name);
bool openssl_view_is_valid_at(const struct openssl_view *view, int64_t sec);
