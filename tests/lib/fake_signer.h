/* SPDX-License-Identifier: Apache-2.0 */
/* A struct signer without a token or a process: software keys, threads of its own, and it can be
 * slow, broken or gone. For unit tests; aborts where a test could not go on.
 *
 * Threads: every function from any thread, except fake_signer_new and signer_free. */
#pragma once

#include "pkcs11/signer.h"

#include <openssl/evp.h>

/* ---- a CA with a software key ---- */

struct fake_ca_options {
    const char *cn;  /* NULL: "Fake CA" */
    const char *key; /* "P-256" (NULL too), "P-384", "ED25519", or the bits of an RSA key: "2048" */
    const char *constraints; /* as openssl.cnf: "permitted;DNS:example.org", or NULL */
    int64_t not_after;       /* seconds since 1970; 0: in ten years */
    uint16_t id;             /* CA_ID_UNTRUSTED for an untrusted one */
};
/* A self-signed CA. `options` may be NULL. The caller unrefs the one and EVP_PKEY_frees the other.
 */
void fake_ca_make(const struct fake_ca_options *options, struct ca **ret_ca, EVP_PKEY **ret_key);

/* ---- the signer ---- */

struct fake_signer_options {
    unsigned threads;    /* that sign and call back; 0: 1 */
    const struct ca *ca; /* with `key`; NULL: makes a P-256 one. A reference is taken on both */
    EVP_PKEY *key;
    bool no_untrusted; /* else an untrusted P-256 CA is made too */
};
/* `options` may be NULL. End it with signer_free(): who still waits gets LEAFD_INTERNAL. */
struct signer *fake_signer_new(const struct fake_signer_options *options);

/* Answers to requests that come from now on take so long; they do not queue behind each other. */
void fake_signer_set_latency(struct signer *signer, int64_t latency_ms);
/* The next `count` requests that come are answered with `err`, not LEAFD_OK. */
void fake_signer_fail_next(struct signer *signer, unsigned count, enum leafd_err err);
/* No token: requests wait until 300 ms before their deadline and get LEAFD_TOKEN_UNAVAILABLE; those
 * that still wait when it is back are signed. The state is CONNECTING meanwhile. */
void fake_signer_set_gone(struct signer *signer, bool gone);
/* PIN_BLOCKED: as gone, without waiting. READY ends it. */
void fake_signer_set_pin_blocked(struct signer *signer, bool blocked);
/* As if the process had been replaced: another untrusted CA, so requests with the generation
 * before get LEAFD_AGAIN. */
void fake_signer_renew_untrusted(struct signer *signer);

uint64_t fake_signer_signed(struct signer *signer);   /* answered with LEAFD_OK */
uint64_t fake_signer_requests(struct signer *signer); /* signer_sign calls */
