/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/backend.h"

#include "base/clock.h"
#include "pkcs11/backend_ops.h"
#include "pkcs11/sign_window.h"
#include "pkcs11/token.h"
#include "pkcs11/verify_rule.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CHALLENGE_SPACES = 64, CHALLENGE_RANDOM = 32 };

/* What is prepared once per lane and CA, so that a signature fetches and allocates nothing. */
struct lane_key {
    EVP_MD_CTX *sign;
    EVP_MD_CTX *digest;
    EVP_PKEY_CTX
    *verify; /* NULL for Ed25519, which OpenSSL 3.0 verifies through a digest context */
    struct verify_rule rule;
    struct sign_window window;
};

struct backend_lane {
    struct backend *backend;
    uint64_t batch; /* of the last signature */
    struct lane_key key[BACKEND_KEYS_MAX];
};

const struct ca *backend_ca(const struct backend *backend, size_t index)
{
    return index < backend->cas->count ? backend->cas->ca[index] : backend->cas->untrusted;
}

const struct conf_ca *backend_conf_ca(const struct backend *backend, size_t index)
{
    return index < backend->cas->count ? &backend->conf->ca[index] : &backend->conf->untrusted_ca;
}

const char *backend_key_place(const struct backend *backend, size_t index)
{
    if (index >= backend->cas->count)
        return backend->conf->untrusted_ca.key;
    return conf_token_key(backend->conf, (size_t)(backend->token - backend->conf->token), index);
}

static const struct way {
    enum conf_access access;
    const char *name;
    const struct backend_ops *ops; /* NULL: not in this build */
    const char *remedy;            /* then */
} ways[] = {
    {CONF_ACCESS_AUTO, "auto", &backend_native_ops, NULL},
    {CONF_ACCESS_NATIVE, "native", &backend_native_ops, NULL},
    {CONF_ACCESS_PROVIDER, "provider", &backend_provider_ops, NULL},
    {CONF_ACCESS_LIBP11, "libp11", BACKEND_LIBP11, "with libp11 (on Debian: libp11-dev)"},
    {CONF_ACCESS_ENGINE, "engine", BACKEND_ENGINE, "with an OpenSSL before 4.0 that has engines"},
    {CONF_ACCESS_FILE, "file", &backend_file_ops, NULL},
};

static enum leafd_err choose_ops(const struct conf *conf, const struct conf_token *token,
                                 const struct backend_ops **ret, struct why *why)
{
    const struct way *way = ways;

    while (way->access != token->access)
        way++;
    if (!way->ops)
        return fail(why, LEAFD_CONFIG,
                    "token.access: %s is not in this leafd: use native, or build leafd %s",
                    way->name, way->remedy);
    if (way->access == CONF_ACCESS_FILE && !conf->insecure_file_key)
        return fail(why, LEAFD_CONFIG,
                    "token.access: file reads CA keys from files, which is for tests only: start "
                    "with --insecure-file-key, or use a token");
    *ret = way->ops;
    return LEAFD_OK;
}

/* ---- lanes ---- */

static void lane_key_clear(struct lane_key *key)
{
    EVP_MD_CTX_free(key->sign);
    EVP_MD_CTX_free(key->digest);
    EVP_PKEY_CTX_free(key->verify);
    sign_window_clear(&key->window);
}

/* The padding of an RSA key's context, which each initialisation sets back. MGF1 takes the
 * signature's own hash when nothing is said. */
static bool set_padding(EVP_PKEY_CTX *ctx, const struct ca *ca)
{
    int salt = SIG_PSS_SALT;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE,
                                         (char *)OSSL_PKEY_RSA_PAD_MODE_PSS, 0),
        OSSL_PARAM_construct_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, &salt),
        OSSL_PARAM_construct_end(),
    };

    if (ca->algorithm != SIG_RSA_PSS_SHA256 || EVP_PKEY_CTX_set_params(ctx, params) == 1)
        return true;
    /* A key with a method of its own, as libp11 and its engine have them, takes no number. */
    ERR_clear_error();
    return EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
           EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, SIG_PSS_SALT) == 1;
}

static bool sign_prepare(const struct backend *backend, EVP_MD_CTX *ctx, size_t index)
{
    const struct ca *ca = backend_ca(backend, index);

    return EVP_DigestSignInit_ex(ctx, NULL, sig_algorithm_digest(ca->algorithm), backend->libctx,
                                 backend->properties, backend->key[index], NULL) == 1 &&
           set_padding(EVP_MD_CTX_get_pkey_ctx(ctx), ca);
}

static bool lane_key_prepare(const struct backend *backend, size_t index, struct lane_key *key)
{
    const struct ca *ca = backend_ca(backend, index);

    verify_rule_init(&key->rule, backend->token->verify == CONF_VERIFY_ALWAYS ||
                                     sig_algorithm_is_rsa(ca->algorithm));
    key->sign = EVP_MD_CTX_new();
    key->digest = EVP_MD_CTX_new();
    if (!key->sign || !key->digest || !sign_prepare(backend, key->sign, index))
        return false;
    if (!backend->md[index])
        return true;
    key->verify = EVP_PKEY_CTX_new_from_pkey(NULL, ca->public_key, NULL);
    if (!key->verify || EVP_PKEY_verify_init(key->verify) != 1 ||
        EVP_PKEY_CTX_set_signature_md(key->verify, backend->md[index]) != 1)
        return false;
    return set_padding(key->verify, ca);
}

enum leafd_err backend_lane_open(struct backend *backend, struct backend_lane **ret,
                                 struct why *why)
{
    struct backend_lane *lane = calloc(1, sizeof(*lane));
    enum leafd_err err;

    if (!lane)
        return LEAFD_NOMEM;
    lane->backend = backend;
    for (size_t i = 0; i < backend->key_count; i++) {
        if (!lane_key_prepare(backend, i, &lane->key[i])) {
            ERR_clear_error();
            err = fail(why, LEAFD_INTERNAL, "cannot prepare a signature with the key of %s",
                       backend_conf_ca(backend, i)->certificate);
            goto out;
        }
    }

    *ret = lane;
    lane = NULL;
    err = LEAFD_OK;
out:
    backend_lane_close(lane);
    return err;
}

void backend_lane_close(struct backend_lane *lane)
{
    if (!lane)
        return;
    for (size_t i = 0; i < lane->backend->key_count; i++)
        lane_key_clear(&lane->key[i]);
    free(lane);
}

/* From OpenSSL 3.2 on a context that has given a signature refuses the next until it is initialised
 * again, and the stock RSA and ECDSA want it always. Without a key and with the digest at hand that
 * fetches nothing. */
static bool sign_again(struct backend_lane *lane, size_t index)
{
    EVP_MD_CTX *ctx = lane->key[index].sign;

    if (EVP_DigestSignInit(ctx, NULL, lane->backend->md[index], NULL, NULL) == 1)
        return set_padding(EVP_MD_CTX_get_pkey_ctx(ctx), backend_ca(lane->backend, index));
    ERR_clear_error();
    return EVP_MD_CTX_reset(ctx) == 1 && sign_prepare(lane->backend, ctx, index);
}

static bool lane_verify(struct backend_lane *lane, size_t index, struct bytes tbs,
                        struct bytes signature)
{
    struct lane_key *key = &lane->key[index];
    EVP_PKEY *public_key = backend_ca(lane->backend, index)->public_key;
    uint8_t md[EVP_MAX_MD_SIZE];
    unsigned md_len;

    if (!key->verify)
        return EVP_MD_CTX_reset(key->digest) == 1 &&
               EVP_DigestVerifyInit_ex(key->digest, NULL, NULL, NULL, NULL, public_key, NULL) ==
                   1 &&
               EVP_DigestVerify(key->digest, signature.data, signature.len, tbs.data, tbs.len) == 1;
    return EVP_DigestInit_ex2(key->digest, lane->backend->md[index], NULL) == 1 &&
           EVP_DigestUpdate(key->digest, tbs.data, tbs.len) == 1 &&
           EVP_DigestFinal_ex(key->digest, md, &md_len) == 1 &&
           EVP_PKEY_verify(key->verify, signature.data, signature.len, md, md_len) == 1;
}

static enum leafd_err sign_once(struct backend_lane *lane, size_t index, struct bytes tbs,
                                uint8_t *out, size_t *len, struct why *why)
{
    const struct backend_ops *ops = lane->backend->ops;
    enum leafd_err err = ops->may_sign ? ops->may_sign(lane->backend, why) : LEAFD_OK;

    if (err != LEAFD_OK)
        return err;
    if (!sign_again(lane, index)) {
        ERR_clear_error();
        return fail(why, LEAFD_INTERNAL, "cannot prepare a signature");
    }
    if (EVP_DigestSign(lane->key[index].sign, out, len, tbs.data, tbs.len) == 1)
        return LEAFD_OK;
    err = ops->sign_failed(why);
    ERR_clear_error();
    return err == LEAFD_OK ? fail(why, LEAFD_INTERNAL, "OpenSSL did not sign") : err;
}

static enum leafd_err fail_wrong(const struct backend_lane *lane, size_t index, struct why *why)
{
    ERR_clear_error();
    return fail(why, LEAFD_INTERNAL,
                "a signature does not verify with the public key of %s; it was dropped",
                backend_conf_ca(lane->backend, index)->certificate);
}

/* Another number whenever a session was replaced. */
static uint64_t generation_of(const struct backend *backend)
{
    const struct backend_tokens *tokens = &backend->tokens;
    uint64_t retries = atomic_load_explicit(&backend->retries, memory_order_relaxed);

    for (size_t i = 0; i < tokens->count; i++)
        retries += atomic_load_explicit(&tokens->token[i]->retries, memory_order_relaxed);
    return retries;
}

/* A signature that took so long: verified, or put among those that the next check vouches for. */
static enum leafd_err vouch(struct backend_lane *lane, size_t index, struct bytes tbs,
                            struct bytes signature, int64_t took_us, struct why *why)
{
    struct backend *backend = lane->backend;
    struct lane_key *key = &lane->key[index];

    lane->batch = 0;
    if (!verify_rule_wants(&key->rule, generation_of(backend), took_us) &&
        sign_window_add(&key->window, &backend->batches, tbs, signature)) {
        lane->batch = key->window.batch;
        return LEAFD_OK;
    }
    if (!lane_verify(lane, index, tbs, signature)) {
        sign_window_fail(&key->window);
        return fail_wrong(lane, index, why);
    }
    if (!key->window.failed)
        sign_window_close(&key->window);
    return LEAFD_OK;
}

enum leafd_err backend_lane_sign(struct backend_lane *lane, size_t ca_index, struct bytes tbs,
                                 uint8_t *out, size_t size, size_t *ret_len, struct why *why)
{
    uint8_t signature[SIGN_SIGNATURE_MAX];
    size_t len = sizeof(signature);
    int64_t began_us;
    enum leafd_err err;

    if (ca_index >= lane->backend->key_count)
        return fail(why, LEAFD_INTERNAL, "there is no CA number %zu", ca_index);
    began_us = clock_mono_us();
    err = sign_once(lane, ca_index, tbs, signature, &len, why);
    if (err == LEAFD_AGAIN) {
        atomic_fetch_add(&lane->backend->retries, 1);
        len = sizeof(signature);
        err = sign_once(lane, ca_index, tbs, signature, &len, why);
    }
    if (err != LEAFD_OK)
        return err == LEAFD_AGAIN ? LEAFD_TOKEN_UNAVAILABLE : err;
    if (len > size)
        return LEAFD_TOO_LARGE;
    err =
        vouch(lane, ca_index, tbs, (struct bytes){signature, len}, clock_mono_us() - began_us, why);
    if (err != LEAFD_OK)
        return err;
    memcpy(out, signature, len);
    *ret_len = len;
    return LEAFD_OK;
}

uint64_t backend_lane_batch(const struct backend_lane *lane)
{
    return lane->batch;
}

bool backend_lane_is_in_doubt(const struct backend_lane *lane)
{
    for (size_t i = 0; i < lane->backend->key_count; i++)
        if (lane->key[i].window.batch)
            return true;
    return false;
}

enum leafd_err backend_lane_settle(struct backend_lane *lane, struct why *why)
{
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; i < lane->backend->key_count; i++) {
        struct sign_window *window = &lane->key[i].window;

        if (!window->batch || window->failed)
            continue;
        if (lane_verify(lane, i, (struct bytes){window->tbs, window->tbs_len},
                        (struct bytes){window->signature, window->signature_len})) {
            sign_window_close(window);
        } else {
            sign_window_fail(window);
            err = fail_wrong(lane, i, why);
        }
    }
    return err;
}

bool backend_lane_disown(struct backend_lane *lane, uint64_t *ret_batch, unsigned *ret_signatures)
{
    for (size_t i = 0; i < lane->backend->key_count; i++) {
        struct sign_window *window = &lane->key[i].window;

        if (!window->failed)
            continue;
        *ret_batch = window->batch;
        *ret_signatures = window->signatures;
        sign_window_close(window);
        return true;
    }
    return false;
}

/* ---- open and close ---- */

/* Signs something that can never be a certificate: it begins with spaces, not with a SEQUENCE. */
static enum leafd_err challenge(struct backend_lane *lane, size_t index, struct why *why)
{
    static const char label[] = "leafd token challenge v1"; /* with its NUL */
    uint8_t text[CHALLENGE_SPACES + sizeof(label) + CHALLENGE_RANDOM];
    uint8_t signature[1024];
    size_t len;
    const struct backend *backend = lane->backend;
    enum leafd_err err;

    memset(text, ' ', CHALLENGE_SPACES);
    memcpy(text + CHALLENGE_SPACES, label, sizeof(label));
    if (RAND_bytes(text + CHALLENGE_SPACES + sizeof(label), CHALLENGE_RANDOM) != 1)
        return fail(why, LEAFD_INTERNAL, "no random bytes for the challenge");
    err = backend_lane_sign(lane, index, (struct bytes){text, sizeof(text)}, signature,
                            sizeof(signature), &len, why);
    if (err != LEAFD_INTERNAL)
        return err;
    if (backend->key_known[index])
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "the key of %s is the right one, but what it signs does not verify",
                    backend_conf_ca(backend, index)->certificate);
    return fail(why, LEAFD_CONFIG,
                "the key is not the one of the CA certificate %s: a challenge it signed does not "
                "verify; give the certificate made for this key, or the URI of the right key",
                backend_conf_ca(backend, index)->certificate);
}

enum leafd_err backend_prove(struct backend *backend, struct why *why)
{
    struct backend_lane *lane = NULL;
    enum leafd_err err = backend_lane_open(backend, &lane, why);

    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++)
        err = challenge(lane, i, why);
    backend_lane_close(lane);
    return err;
}

static enum leafd_err fetch_digests(struct backend *backend, struct why *why)
{
    for (size_t i = 0; i < backend->key_count; i++) {
        const char *name = sig_algorithm_digest(backend_ca(backend, i)->algorithm);

        if (!name)
            continue;
        backend->md[i] = EVP_MD_fetch(NULL, name, NULL);
        if (!backend->md[i])
            return fail(why, LEAFD_INTERNAL, "OpenSSL has no %s", name);
    }
    return LEAFD_OK;
}

enum leafd_err backend_new(const struct conf *conf, size_t token, const struct ca_set *cas,
                           const struct secret *pin, struct backend **ret, struct why *why)
{
    struct backend *backend = calloc(1, sizeof(*backend));
    enum leafd_err err = LEAFD_NOMEM;

    if (!backend)
        goto out;
    backend->conf = conf;
    backend->token = &conf->token[token];
    backend->cas = cas;
    backend->pin = pin;
    backend->key_count = cas->count;
    if (conf->untrusted == CONF_UNTRUSTED_FILE && cas->untrusted)
        backend->key_count++;
    err = choose_ops(conf, backend->token, &backend->ops, why);
    if (err != LEAFD_OK)
        goto out;
    err = fetch_digests(backend, why);
    if (err != LEAFD_OK)
        goto out;

    *ret = backend;
    backend = NULL;
out:
    backend_close(backend);
    return err;
}

static void close_keys(struct backend *backend)
{
    for (size_t i = 0; i < backend->key_count; i++) {
        EVP_PKEY_free(backend->key[i]);
        backend->key[i] = NULL;
        backend->key_known[i] = false;
    }
}

static void add_counters(struct backend_counters *to, const struct backend_counters *from)
{
    to->logins += from->logins;
    to->logins_failed += from->logins_failed;
    to->retries += from->retries;
}

static void close_for(struct backend *backend, enum rung rung)
{
    const struct backend_ops *ops = backend->ops;
    struct backend_counters counters = {0};

    close_keys(backend);
    if (!backend->opened)
        return;
    if (rung == RUNG_SESSION)
        rung = ops->least_rung ? ops->least_rung(backend) : RUNG_TOKEN;
    if (rung == RUNG_SESSION)
        return;
    ops->count(backend, &counters);
    add_counters(&backend->before, &counters);
    if (rung <= RUNG_TOKEN && ops->close_token)
        ops->close_token(backend);
    else
        ops->close(backend);
    backend->opened = false;
}

enum leafd_err backend_renew(struct backend *backend, enum rung rung, struct why *why)
{
    enum leafd_err err;

    if (backend->spent)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "token.access: %s can be opened once in a process, so another one takes over",
                    backend->ops->name);
    close_for(backend, rung);
    backend->opened = true;
    err = backend->ops->open(backend, backend->pin, why);
    return err == LEAFD_OK ? backend_prove(backend, why) : err;
}

enum leafd_err backend_open(const struct conf *conf, size_t token, const struct ca_set *cas,
                            const struct secret *pin, struct backend **ret, struct why *why)
{
    struct backend *backend = NULL;
    enum leafd_err err = backend_new(conf, token, cas, pin, &backend, why);

    if (err == LEAFD_OK)
        err = backend_renew(backend, RUNG_MODULE, why);
    if (err == LEAFD_OK)
        *ret = backend;
    else
        backend_close(backend);
    return err;
}

void backend_close(struct backend *backend)
{
    if (!backend)
        return;
    close_keys(backend);
    for (size_t i = 0; i < backend->key_count; i++)
        EVP_MD_free(backend->md[i]);
    if (backend->opened)
        backend->ops->close(backend);
    free(backend);
}

unsigned backend_lanes_wanted(const struct backend *backend)
{
    unsigned wanted = backend->token->sessions ? backend->token->sessions : 1;
    unsigned most = backend->ops->lanes_max;

    return most && most < wanted ? most : wanted;
}

unsigned backend_lanes(const struct backend *backend)
{
    return backend->ops->lanes(backend);
}

bool backend_is_full(const struct backend *backend)
{
    return backend_lanes(backend) < backend_lanes_wanted(backend);
}

bool backend_is_spent(const struct backend *backend)
{
    return backend->spent;
}

enum leafd_err backend_check(struct backend *backend, struct why *why)
{
    return backend->ops->check(backend, why);
}

void backend_keep_alive(struct backend *backend)
{
    if (backend->ops->keep_alive)
        backend->ops->keep_alive(backend);
}

void backend_count(struct backend *backend, struct backend_counters *ret)
{
    *ret = (struct backend_counters){0};
    if (backend->opened)
        backend->ops->count(backend, ret);
    ret->retries += atomic_load(&backend->retries);
    add_counters(ret, &backend->before);
}

EVP_PKEY *backend_key(struct backend *backend, size_t ca_index)
{
    if (ca_index >= backend->key_count || EVP_PKEY_up_ref(backend->key[ca_index]) != 1)
        return NULL;
    return backend->key[ca_index];
}
