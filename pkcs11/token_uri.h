/* SPDX-License-Identifier: Apache-2.0 */
/* A pkcs11: URI (RFC 7512) as leafd takes it: p11-kit's parser reads it, and what that one lets
 * pass (unknown, duplicate, misplaced and empty attributes) is an error here.
 *
 * Threads: read-only after token_uri_parse, from any thread. */
#pragma once

#include "base/secret.h"

#include <p11-kit/pkcs11.h>

struct token_uri;

/* The URI of a private key. LEAFD_CONFIG with a sentence that names the attribute, never its PIN.
 */
LEAFD_CHECKED enum leafd_err token_uri_parse(const char *text, struct token_uri **ret,
                                             struct why *why);
void token_uri_free(struct token_uri *uri); /* NULL is fine */

/* Its path, fit for messages: without the query, where a PIN may stand. */
const char *token_uri_text(const struct token_uri *uri);
/* Does the token in this slot answer to it? */
bool token_uri_matches(const struct token_uri *uri, CK_INFO *module, CK_SLOT_ID slot,
                       CK_SLOT_INFO *slot_info, CK_TOKEN_INFO *token);
/* object= and id=, decoded; length 0 when not given. Borrowed. */
struct bytes token_uri_label(const struct token_uri *uri);
struct bytes token_uri_id(const struct token_uri *uri);

/* The PIN that the URI itself gives: pin-value, or what stands in the file of pin-source.
 * LEAFD_ABSENT: it gives none. LEAFD_CONFIG: its file cannot be read. */
LEAFD_CHECKED enum leafd_err token_uri_pin(const struct token_uri *uri, struct secret *ret,
                                           struct why *why);
