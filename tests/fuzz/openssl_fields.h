/* SPDX-License-Identifier: Apache-2.0 */
/* What our reader of certificates and OpenSSL's see in the same octets, compared.
 *
 * Threads: one, as a fuzzer has. */
#pragma once

#include "der/cert_fields.h"

#include <openssl/x509.h>

/* Version, serial, algorithms, issuer, dates, subject, key, extensions and signature are the same,
 * or the program ends. Octets that OpenSSL alters when it writes (padding of BIT STRINGs) are taken
 * as it writes them. */
void openssl_must_agree(const struct cert_fields *fields, const X509 *cert);
