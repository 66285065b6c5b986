/* SPDX-License-Identifier: Apache-2.0 */
/* What the extensions of a CA's certificate say, a CA being ours or an issuer above it: whatever a
 * client would hold against the leaves is found here first.
 *
 * Threads: no shared state. */
#pragma once

#include "der/cert_fields.h"

struct ca_extensions {
    bool is_ca;
    bool has_path_len;
    size_t path_len;
    bool has_key_usage;
    bool cert_sign;
    bool crl_sign;
    bool has_ext_key_usage;
    bool server_auth;
    struct bytes key_id;           /* borrowed; NULL data: none */
    struct bytes name_constraints; /* the extension's value, borrowed; NULL data: none */
};

/* LEAFD_CONFIG: one that cannot be read, is there twice, or is critical and not evaluated. */
LEAFD_CHECKED enum leafd_err ca_extensions_read(const struct cert_fields *fields,
                                                struct ca_extensions *ret, struct why *why);
/* May who carries them sign what stands above our leaves? LEAFD_CONFIG with the reason. A root may
 * be without a key usage (`is_root`), as many old ones are. */
LEAFD_CHECKED enum leafd_err ca_extensions_check(const struct ca_extensions *extensions,
                                                 bool is_root, struct why *why);
