/* SPDX-License-Identifier: Apache-2.0 */
/* A way to the CA keys. Each backend yields an OpenSSL EVP_PKEY per CA in a library context of its
 * own, so that everything above is plain EVP; what differs is how sessions are kept alive.
 *
 * Threads: backend_open, _check and _close from one thread; lanes are each one thread's. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "pkcs11/ladder.h"
#include "policy/ca.h"

struct backend;
struct backend_lane;

/* What a backend counted since it was opened. */
struct backend_counters {
    uint64_t logins;        /* C_Login calls */
    uint64_t logins_failed; /* of them, for another reason than the PIN */
    uint64_t sessions;      /* open now */
    uint64_t retries;       /* signatures that needed a second session */
};

/* A backend of conf->token[token] that has not touched the token yet: backend_renew() opens it.
 * Borrows all arguments for its life. LEAFD_CONFIG: a way to the keys that is not allowed. */
LEAFD_CHECKED enum leafd_err backend_new(const struct conf *conf, size_t token,
                                         const struct ca_set *cas, const struct secret *pin,
                                         struct backend **ret, struct why *why);
/* Opens it, or opens it anew: as backend_open, from the rung of the ladder that is given
 * (RUNG_TOKEN keeps the module initialised where the way to the keys can, RUNG_MODULE does not).
 * RUNG_SESSION is for looking again for what the last opening did not find: where the way to the
 * keys can, a token that is there keeps its login. All lanes are closed. After a failure it signs
 * nothing until this has succeeded. */
LEAFD_CHECKED enum leafd_err backend_renew(struct backend *backend, enum rung rung,
                                           struct why *why);
/* Signs a challenge with each key, as at the opening; so tells whether the token still can. */
LEAFD_CHECKED enum leafd_err backend_prove(struct backend *backend, struct why *why);

/* Of conf->token[token]: loads the module (native) or reads the key files (file), finds exactly one
 * token and one key per CA, logs in, checks each key against its CA certificate and proves it with
 * the challenge. Borrows all arguments for the backend's life. LEAFD_CONFIG: the module file, URI,
 * an ambiguous key, or a key that is not the certificate's; LEAFD_PIN: wrong, missing, locked, or
 * on its last try (C_Login was called at most once); LEAFD_ABSENT: token or key is not there now;
 * LEAFD_TOKEN_UNAVAILABLE: any other failure of the token. The sentence names what is missing and
 * the remedy; *ret is untouched. */
LEAFD_CHECKED enum leafd_err backend_open(const struct conf *conf, size_t token,
                                          const struct ca_set *cas, const struct secret *pin,
                                          struct backend **ret, struct why *why);
void backend_close(struct backend *backend); /* all lanes are closed first; NULL is fine */

/* How many lanes it can carry: min(token.sessions, the token's maximum). At least 1. */
unsigned backend_lanes(const struct backend *backend);
/* Is that fewer than were asked for, because the token has no more sessions? */
bool backend_is_full(const struct backend *backend);
/* It was open once, and that is all a process can do with this way to the keys: once it fails, only
 * a new process opens it again, and backend_renew() fails without touching anything. */
bool backend_is_spent(const struct backend *backend);
LEAFD_CHECKED enum leafd_err backend_lane_open(struct backend *backend, struct backend_lane **ret,
                                               struct why *why);
void backend_lane_close(struct backend_lane *lane); /* NULL is fine */

/* Signs `tbs` with the key of configured CA number `ca_index` and verifies the signature with the
 * CA's public key if token.verify wants that. The signature is as it stands in a certificate's BIT
 * STRING; at most SIGN_SIGNATURE_MAX octets. One session that has gone bad is replaced and the
 * signature tried once more. LEAFD_TOKEN_UNAVAILABLE: the token cannot sign now. LEAFD_INTERNAL:
 * the signature did not verify. LEAFD_UNSUPPORTED: the token will not sign this one. Waits for the
 * module as long as it takes. */
LEAFD_CHECKED enum leafd_err backend_lane_sign(struct backend_lane *lane, size_t ca_index,
                                               struct bytes tbs, uint8_t *out, size_t size,
                                               size_t *ret_len, struct why *why);
/* The batch of the last signature that the lane gave, below 2^48; 0: it was verified. */
uint64_t backend_lane_batch(const struct backend_lane *lane);
/* A batch is open: something was given out that no check has vouched for since. */
bool backend_lane_is_in_doubt(const struct backend_lane *lane);
/* Verifies the last signature of each open batch. LEAFD_INTERNAL: one does not verify. */
LEAFD_CHECKED enum leafd_err backend_lane_settle(struct backend_lane *lane, struct why *why);
/* After a signature that did not verify: the next batch that this lane disowns, and how many
 * signatures are in it; false: no more. */
LEAFD_CHECKED bool backend_lane_disown(struct backend_lane *lane, uint64_t *ret_batch,
                                       unsigned *ret_signatures);
/* Uses what the token might close for want of use; beside lanes that sign. */
void backend_keep_alive(struct backend *backend);
/* Is the token still there (C_GetTokenInfo or C_GetSessionInfo)? */
LEAFD_CHECKED enum leafd_err backend_check(struct backend *backend, struct why *why);
void backend_count(struct backend *backend, struct backend_counters *ret);

/* For tests: an EVP_PKEY of one CA, or NULL. The caller frees it, before the backend is closed. */
EVP_PKEY *backend_key(struct backend *backend, size_t ca_index);
