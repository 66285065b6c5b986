/* SPDX-License-Identifier: Apache-2.0 */
/* What the ways to the keys that leave signing to somebody's library (libp11, the engine, a
 * provider) have in common. The tokens and keys are found, logged in to and compared by us, as
 * everywhere (pkcs11/backend_tokens.h); one session of ours stays open and holds the login, which
 * PKCS#11 gives to the whole process, so the library never needs the PIN and never gets it. The
 * library loads the same module and has sessions of its own.
 *
 * Threads: _sign_failed, _check and _keep_alive from any; all else from one. */
#pragma once

#include "pkcs11/backend_ops.h"

#include <openssl/ui.h>

/* Opens the tokens for a library that has `spare` sessions more than there are lanes. LEAFD_CONFIG:
 * what such a library cannot do: a key that wants the PIN for each signature, a module that cannot
 * lock or that does not share the login, a token with too few sessions. */
LEAFD_CHECKED enum leafd_err backend_library_open(struct backend *backend, const struct secret *pin,
                                                  unsigned spare, struct why *why);
/* The same for what is made of libp11. LEAFD_CONFIG also for a CA with an Ed25519 key, for a token
 * that holds an Ed25519 or Ed448 key, anybody's (libp11 before 0.4.14 then finds none), and for one
 * that cannot sign a digest made elsewhere. The PIN is not used where the CAs alone tell. */
LEAFD_CHECKED enum leafd_err backend_library_open_libp11(struct backend *backend,
                                                         const struct secret *pin, unsigned spare,
                                                         struct why *why);
/* Lanes, with the same `spare`. */
unsigned backend_library_lanes(const struct backend *backend, unsigned spare);

enum { BACKEND_LIBRARY_URI_MAX = 1024 };
/* A URI that names the key of CA number `index` as closely as can be, in the words that all those
 * libraries know, without a PIN. LEAFD_CONFIG: it is too long. */
LEAFD_CHECKED enum leafd_err backend_library_uri(const struct backend *backend, size_t index,
                                                 char out[static BACKEND_LIBRARY_URI_MAX],
                                                 struct why *why);

/* Whom such a library may ask for a PIN: nobody answers. From the first call on nothing in this
 * process asks on the terminal. Lives as long as the process; NULL: no memory. */
UI_METHOD *backend_library_nobody(void);

/* For backend_ops.least_rung: before the library has come into play, as with every way. */
enum rung backend_library_least_rung(struct backend *backend);
/* For backend_ops.sign_failed: from the PKCS#11 error that the library has left with OpenSSL. */
enum leafd_err backend_library_sign_failed(struct why *why);
/* A sentence from the errors that OpenSSL has, for an opening: "WHAT: reason"; they are cleared. */
enum leafd_err backend_library_fail(struct why *why, enum leafd_err err, const char *what);
