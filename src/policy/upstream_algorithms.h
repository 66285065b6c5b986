/* SPDX-License-Identifier: Apache-2.0 */
/* What the public key and the signature algorithm of an upstream leaf are worth. Nothing is
 * computed with them: a key is looked at, never built.
 *
 * Threads: no shared state. */
#pragma once

#include "der/spki.h"

/* The flags of upstream.h that follow from a SubjectPublicKeyInfo (whole element, which cert_read
 * has read), and what it holds. */
unsigned upstream_key_flags(struct bytes whole, struct spki *ret);
/* Those that follow from the AlgorithmIdentifiers inside and outside the signed part. */
unsigned upstream_signature_flags(struct bytes inner, struct bytes outer);
