/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend has to give so that backend.c can do the rest: an EVP_PKEY per CA that signs. For
 * the backends alone; everyone else includes pkcs11/backend.h.
 *
 * Threads: open, close and lanes from one thread; may_sign, sign_failed, check and count from any.
 */
#pragma once

#include "pkcs11/backend.h"
#include "pkcs11/token_key.h"

struct token_key_report;

enum { BACKEND_KEYS_MAX = CONF_CA_MAX + 1 };

struct backend_ops {
    const char *name;
    unsigned lanes_max; /* that its library can carry; 0: any number */
    /* Fills libctx, properties, key[] and key_known[] for key_count CAs. What it made before it
     * failed is given back by close. */
    enum leafd_err (*open)(struct backend *backend, const struct secret *pin, struct why *why);
    void (*close)(struct backend *backend); /* after the keys have been freed */
    /* As close, but keeps what `open` need not do again for RUNG_TOKEN (the module initialised);
     * NULL: nothing can be kept. */
    void (*close_token)(struct backend *backend);
    /* After an `open` that did not find something: the lowest rung that `open` can look for it
     * from. RUNG_SESSION: without any close. NULL: RUNG_TOKEN. */
    enum rung (*least_rung)(struct backend *backend);
    unsigned (*lanes)(const struct backend *backend);
    /* Asked before each signature: not LEAFD_OK where its library would wait for ever. May be NULL:
     * it would not. */
    enum leafd_err (*may_sign)(struct backend *backend, struct why *why);
    /* Why the last signature of this thread failed; OpenSSL's errors are still there. LEAFD_AGAIN:
     * it has not tried twice, and a second try may do. */
    enum leafd_err (*sign_failed)(struct why *why);
    enum leafd_err (*check)(struct backend *backend, struct why *why);
    /* Uses idle sessions; may be NULL. */
    void (*keep_alive)(struct backend *backend);
    void (*count)(struct backend *backend, struct backend_counters *ret);
    /* What leafctl shows of key `index`; may be NULL. */
    void (*report)(struct backend *backend, size_t index, struct token_key_report *ret);
};

/* The tokens and keys of a backend that has any: pkcs11/backend_tokens.h. */
struct backend_tokens {
    struct token_module *module;
    size_t count;
    struct token *token[BACKEND_KEYS_MAX]; /* each once, however many CAs it holds */
    struct token_uri *uri[BACKEND_KEYS_MAX];
    struct token_key *key[BACKEND_KEYS_MAX];
    bool lacks_key; /* the last opening failed at a key, in a token that is there */
};

struct backend {
    const struct backend_ops *ops;
    void *impl; /* the backend's own */
    struct backend_tokens tokens;
    const struct conf *conf;
    const struct conf_token *token; /* one of conf's */
    const struct ca_set *cas;
    const struct secret *pin;
    bool opened;                    /* ops->open was called: there is something to close */
    bool spent;                     /* backend_is_spent(); ops->open sets it */
    _Atomic uint64_t retries;       /* beside those that ops->count knows of */
    struct backend_counters before; /* of what was closed since */
    OSSL_LIB_CTX *libctx;           /* where the keys live; NULL: the default one */
    const char *properties;         /* the property query that finds their provider; NULL: none */
    size_t key_count;
    EVP_PKEY *key[BACKEND_KEYS_MAX];
    bool key_known[BACKEND_KEYS_MAX]; /* its public half was compared with the certificate's */
    EVP_MD *md[BACKEND_KEYS_MAX];     /* default library context; NULL for Ed25519 */
    _Atomic uint64_t batches;         /* of unverified signatures, begun until now */
};

/* Lanes that are asked for: token.sessions, and what the library can carry. At least 1. */
unsigned backend_lanes_wanted(const struct backend *backend);
/* CA number `index` as the ca_set numbers it: the configured ones, then the untrusted one if it has
 * a key of its own. */
const struct ca *backend_ca(const struct backend *backend, size_t index);
/* The same one's certificate file and key, as configured. */
const struct conf_ca *backend_conf_ca(const struct backend *backend, size_t index);
/* Where its key is in this backend's token: a URI, or a file. */
const char *backend_key_place(const struct backend *backend, size_t index);

extern const struct backend_ops backend_file_ops;
extern const struct backend_ops backend_native_ops;
extern const struct backend_ops backend_provider_ops;
#ifdef HAVE_LIBP11
extern const struct backend_ops backend_libp11_ops;
#define BACKEND_LIBP11 (&backend_libp11_ops)
#else
#define BACKEND_LIBP11 NULL
#endif
#ifdef HAVE_ENGINE
extern const struct backend_ops backend_engine_ops;
#define BACKEND_ENGINE (&backend_engine_ops)
#else
#define BACKEND_ENGINE NULL
#endif
