/* SPDX-License-Identifier: Apache-2.0 */
/* New CAs: a key pair generated in the token with its self-signed certificate (leafctl ca init),
 * and the untrusted CA that lives in one process's memory.
 *
 * Threads: every function from any thread; ca_make loads the PKCS#11 module, so one at a time, and
 * never in the front. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "pkcs11/key_pair.h"
#include "policy/ca.h"

enum { CA_DAYS_DEFAULT = 3650, CA_DAYS_MAX = 36500 };

struct ca_make_options {
    enum ca_key key;
    const char *cn; /* NULL: "leafd CA" and a short key id; else 1 to 64 characters of UTF-8 */
    unsigned days;  /* 0: CA_DAYS_DEFAULT */
    const struct name_constraints *constraints; /* NULL: none */
    const char *uri; /* NULL: that of conf->ca[0].key; names the token, object= gives the label, id=
                        (else random) the id */
};

/* LEAFD_CONFIG: options that make no CA, or not with this configuration. `existing`: with a key
 * that is there, so its type is not asked for. Asks no token. */
LEAFD_CHECKED enum leafd_err ca_make_check(const struct conf *conf,
                                           const struct ca_make_options *options, bool existing,
                                           struct why *why);
/* Generates a key pair in the token (private part sensitive, not extractable, for signing alone)
 * and signs its CA certificate with it, an RSA key with the padding of conf->ca_rsa_padding.
 * `*ret_pem` is the caller's to free(). A key pair whose certificate could not be made is destroyed
 * again. `pin` may be NULL or empty (then the URI's own). LEAFD_CONFIG: module or URI, the padding
 * of another key than RSA, or a key with this label or id is there already (named); LEAFD_PIN,
 * LEAFD_ABSENT, LEAFD_TOKEN_UNAVAILABLE as backend_open. */
LEAFD_CHECKED enum leafd_err ca_make(const struct conf *conf, const struct secret *pin,
                                     const struct ca_make_options *options, struct bytes *ret_pem,
                                     struct why *why);

/* A P-256 CA in memory for 10 years, "leafd untrusted CA XXXXXXXX", id CA_ID_UNTRUSTED. The caller
 * unrefs the one and frees the other. */
LEAFD_CHECKED enum leafd_err ca_make_ephemeral(struct ca **ret_ca, EVP_PKEY **ret_key,
                                               struct why *why);

/* `cas` and, with untrusted_ca: auto, a new untrusted CA in memory beside them, whose key is then
 * in *ret_key. The caller unrefs the one and frees the other; both are untouched on failure. */
LEAFD_CHECKED enum leafd_err ca_make_set(const struct conf *conf, struct ca_set *cas,
                                         struct ca_set **ret, EVP_PKEY **ret_key, struct why *why);
