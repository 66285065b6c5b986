/* SPDX-License-Identifier: Apache-2.0 */
/* The tokens of one backend, whatever signs with their keys: the module initialised, exactly one
 * token and one key per CA found, logged in to once, each key compared with its CA certificate. So
 * every way to the keys finds the same key, and costs as many tries of the PIN.
 *
 * Threads: _check, _keep_alive and _count from any; all else from one. */
#pragma once

#include "pkcs11/backend_ops.h"

/* Reads the URIs of all keys, before anything is touched. LEAFD_CONFIG. */
LEAFD_CHECKED enum leafd_err backend_tokens_read(struct backend *backend, struct why *why);
/* Initialises the module, unless it is, finds and compares the keys, logs in, and opens up to
 * `sessions` sessions with each token, so that a limit nobody told us of is known. Sets
 * key_known[]. Errors as backend_open. What it made before it failed is closed by the functions
 * below. */
LEAFD_CHECKED enum leafd_err backend_tokens_open(struct backend *backend, const struct secret *pin,
                                                 unsigned sessions, struct why *why);
/* Ends all sessions and the login, and keeps the module initialised; false when that would be of no
 * use, since the module has said that it is not. */
bool backend_tokens_close_sessions(struct backend *backend);
/* Ends everything: keys, sessions, URIs, the module. */
void backend_tokens_close(struct backend *backend);

/* How many sessions each token gives at least, `wanted` at most. */
unsigned backend_tokens_sessions(const struct backend *backend, unsigned wanted);

/* As in struct backend_ops. */
enum rung backend_tokens_least_rung(struct backend *backend);
LEAFD_CHECKED enum leafd_err backend_tokens_check(struct backend *backend, struct why *why);
void backend_tokens_keep_alive(struct backend *backend);
void backend_tokens_count(struct backend *backend, struct backend_counters *ret);
void backend_tokens_report(struct backend *backend, size_t index, struct token_key_report *ret);
