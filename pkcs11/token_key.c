/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_key.h"

#include "base/clock.h"
#include "der/der_reader.h"
#include "pkcs11/ladder.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { FOUND_MAX = 8, ATTRIBUTE_MAX = 1024, RSA_OCTETS_MAX = 512, RAW_ECDSA_MAX = 2 * 66 };

const char *ckm_name(CK_MECHANISM_TYPE mechanism)
{
    switch (mechanism) {
    case CKM_RSA_PKCS:
        return "CKM_RSA_PKCS";
    case CKM_SHA256_RSA_PKCS:
        return "CKM_SHA256_RSA_PKCS";
    case CKM_RSA_PKCS_PSS:
        return "CKM_RSA_PKCS_PSS";
    case CKM_SHA256_RSA_PKCS_PSS:
        return "CKM_SHA256_RSA_PKCS_PSS";
    case CKM_ECDSA:
        return "CKM_ECDSA";
    case CKM_ECDSA_SHA256:
        return "CKM_ECDSA_SHA256";
    case CKM_ECDSA_SHA384:
        return "CKM_ECDSA_SHA384";
    case CKM_EDDSA:
        return "CKM_EDDSA";
    case CKM_RSA_PKCS_KEY_PAIR_GEN:
        return "CKM_RSA_PKCS_KEY_PAIR_GEN";
    case CKM_EC_KEY_PAIR_GEN:
        return "CKM_EC_KEY_PAIR_GEN";
    case CKM_EC_EDWARDS_KEY_PAIR_GEN:
        return "CKM_EC_EDWARDS_KEY_PAIR_GEN";
    case CKM_AES_KEY_GEN:
        return "CKM_AES_KEY_GEN";
    case CKM_AES_GCM:
        return "CKM_AES_GCM";
    case CKM_AES_KEY_WRAP_KWP:
        return "CKM_AES_KEY_WRAP_KWP";
    case CKM_AES_KEY_WRAP_PAD:
        return "CKM_AES_KEY_WRAP_PAD";
    case CKM_RSA_PKCS_OAEP:
        return "CKM_RSA_PKCS_OAEP";
    default:
        return "unknown";
    }
}

/* ---- objects and attributes ---- */

/* Handles of what matches, at most FOUND_MAX; the count may be FOUND_MAX for "that many or more".
 * CKR_FUNCTION_FAILED also for a module that gives more than it was asked for. */
static CK_RV find_objects(struct token *token, CK_SESSION_HANDLE session, CK_ATTRIBUTE *template,
                          CK_ULONG template_len, CK_OBJECT_HANDLE found[FOUND_MAX],
                          CK_ULONG *ret_count)
{
    CK_ULONG count = 0;
    CK_RV rv = TOKEN_CALL(token->module, C_FindObjectsInit, session, template, template_len);

    if (rv != CKR_OK)
        return rv;
    /* Some modules give fewer than there are at a time. */
    while (rv == CKR_OK && count < FOUND_MAX) {
        CK_ULONG more = 0;

        rv = TOKEN_CALL(token->module, C_FindObjects, session, found + count, FOUND_MAX - count,
                        &more);
        if (rv == CKR_OK && more > FOUND_MAX - count)
            rv = CKR_FUNCTION_FAILED;
        if (rv != CKR_OK || more == 0)
            break;
        count += more;
    }
    (void)TOKEN_CALL(token->module, C_FindObjectsFinal, session);
    *ret_count = count;
    return rv;
}

/* One attribute; false when the token does not give it or it is longer than `size`. */
static bool get_attribute(struct token *token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE_TYPE type, void *out, size_t size, size_t *ret_len)
{
    CK_ATTRIBUTE attribute = {type, out, (CK_ULONG)size};
    CK_RV rv;

    memset(out, 0, size); /* a module may name a length and write nothing */
    rv = TOKEN_CALL(token->module, C_GetAttributeValue, session, object, &attribute, (CK_ULONG)1);
    if (rv != CKR_OK || attribute.ulValueLen == CK_UNAVAILABLE_INFORMATION ||
        attribute.ulValueLen > size)
        return false;
    *ret_len = attribute.ulValueLen;
    return true;
}

/* 1, 0, or -1 for "does not tell". */
static int get_bool(struct token *token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                    CK_ATTRIBUTE_TYPE type)
{
    CK_BBOOL value = CK_FALSE;
    size_t len;

    if (!get_attribute(token, session, object, type, &value, sizeof(value), &len) ||
        len != sizeof(value))
        return -1;
    return value ? 1 : 0;
}

/* ---- what a key can be used with ---- */

static CK_KEY_TYPE key_type_of(enum sig_algorithm algorithm)
{
    if (sig_algorithm_is_rsa(algorithm))
        return CKK_RSA;
    return algorithm == SIG_ED25519 ? CKK_EC_EDWARDS : CKK_EC;
}

enum leafd_err token_mechanism_choose(struct token_module *module, CK_SLOT_ID slot,
                                      enum sig_algorithm algorithm, struct token_mechanism *ret,
                                      struct why *why)
{
    static const struct {
        CK_MECHANISM_TYPE on_digest;
        CK_MECHANISM_TYPE on_message;
    } rows[] = {
        [SIG_RSA_SHA256] = {CKM_RSA_PKCS, CKM_SHA256_RSA_PKCS},
        [SIG_RSA_PSS_SHA256] = {CKM_RSA_PKCS_PSS, CKM_SHA256_RSA_PKCS_PSS},
        [SIG_ECDSA_SHA256] = {CKM_ECDSA, CKM_ECDSA_SHA256},
        [SIG_ECDSA_SHA384] = {CKM_ECDSA, CKM_ECDSA_SHA384},
        [SIG_ED25519] = {CKM_EDDSA, CKM_EDDSA},
    };
    CK_MECHANISM_TYPE on_digest = rows[algorithm].on_digest;
    CK_MECHANISM_TYPE on_message = rows[algorithm].on_message;

    if (token_can(module, slot, on_digest, CKF_SIGN)) {
        *ret = (struct token_mechanism){on_digest, on_digest == on_message};
        return LEAFD_OK;
    }
    if (on_digest == on_message)
        return fail(why, LEAFD_CONFIG, "does not sign with %s", ckm_name(on_digest));
    if (!token_can(module, slot, on_message, CKF_SIGN))
        return fail(why, LEAFD_CONFIG, "signs with neither %s nor %s", ckm_name(on_digest),
                    ckm_name(on_message));
    *ret = (struct token_mechanism){on_message, true};
    return LEAFD_OK;
}

/* What every key has to allow, and what leafctl shows. */
static enum leafd_err read_flags(struct token_key *key, CK_SESSION_HANDLE session, struct why *why)
{
    struct token *token = key->token;

    if (get_bool(token, session, key->handle, CKA_SIGN) == 0)
        return fail(why, LEAFD_CONFIG, "the key \"%s\" in token \"%s\" may not sign (CKA_SIGN)",
                    key->label, token->label);
    key->always_authenticate = get_bool(token, session, key->handle, CKA_ALWAYS_AUTHENTICATE) == 1;
    if (key->always_authenticate && !token->pin.len)
        return fail(why, LEAFD_CONFIG,
                    "the key \"%s\" in token \"%s\" wants the PIN for each signature "
                    "(CKA_ALWAYS_AUTHENTICATE), which leafd can only give from token.pin_file, "
                    "token.pin_env, token.pin_prompt or the URI",
                    key->label, token->label);
    key->extractable = get_bool(token, session, key->handle, CKA_EXTRACTABLE);
    key->sensitive = get_bool(token, session, key->handle, CKA_SENSITIVE);
    key->never_extractable = get_bool(token, session, key->handle, CKA_NEVER_EXTRACTABLE);
    key->always_sensitive = get_bool(token, session, key->handle, CKA_ALWAYS_SENSITIVE);
    return LEAFD_OK;
}

static void read_names(struct token_key *key, CK_SESSION_HANDLE session)
{
    uint8_t label[64];
    size_t len;

    if (get_attribute(key->token, session, key->handle, CKA_LABEL, label, sizeof(label), &len))
        bytes_escape((struct bytes){label, len}, key->label, sizeof(key->label));
    if (!get_attribute(key->token, session, key->handle, CKA_ID, key->id, sizeof(key->id),
                       &key->id_len))
        key->id_len = 0;
}

static enum leafd_err key_new(struct token *token, CK_SESSION_HANDLE session,
                              CK_OBJECT_HANDLE handle, enum sig_algorithm algorithm, unsigned bits,
                              struct token_key **ret, struct why *why)
{
    struct token_key *key = calloc(1, sizeof(*key));
    struct why missing;
    enum leafd_err err;

    if (!key)
        return LEAFD_NOMEM;
    key->token = token;
    key->handle = handle;
    key->algorithm = algorithm;
    key->bits = algorithm == SIG_ED25519 ? 256 : bits;
    key->signature_max = sig_algorithm_max_len(algorithm, bits);
    read_names(key, session);
    err = read_flags(key, session, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_mechanism_choose(token->module, token->slot, algorithm, &key->mechanism, &missing);
    if (err != LEAFD_OK) {
        err = fail(why, err, "token \"%s\" %s, so not with this key", token->label, missing.text);
        goto out;
    }
    if (sig_algorithm_digest(algorithm)) {
        key->md = EVP_MD_fetch(NULL, sig_algorithm_digest(algorithm), NULL);
        if (!key->md) {
            err = fail(why, LEAFD_INTERNAL, "OpenSSL has no %s", sig_algorithm_digest(algorithm));
            goto out;
        }
    }

    *ret = key;
    key = NULL;
out:
    token_key_free(key);
    return err;
}

void token_key_free(struct token_key *key)
{
    if (!key)
        return;
    EVP_MD_free(key->md);
    free(key);
}

enum leafd_err token_key_of_handle(struct token *token, CK_OBJECT_HANDLE handle,
                                   enum sig_algorithm algorithm, unsigned bits,
                                   struct token_key **ret, struct why *why)
{
    struct session session;
    enum leafd_err err = session_pool_take(token->pool, clock_mono_ms(), &session, why);

    if (err != LEAFD_OK)
        return err;
    err = key_new(token, session.handle, handle, algorithm, bits, ret, why);
    session_pool_give(token->pool, session);
    return err;
}

/* ---- finding ---- */

static enum leafd_err fail_ambiguous(struct token *token, CK_SESSION_HANDLE session,
                                     const struct token_uri *uri, const CK_OBJECT_HANDLE *found,
                                     CK_ULONG count, struct why *why)
{
    char hex[2][33] = {"", ""};

    for (int i = 0; i < 2; i++) {
        uint8_t id[16];
        size_t len;

        if (get_attribute(token, session, found[i], CKA_ID, id, sizeof(id), &len))
            bytes_hex((struct bytes){id, len}, hex[i]);
    }
    return fail(why, LEAFD_CONFIG,
                "%s%lu private keys answer to %s, with the ids \"%s\" and \"%s\": add object= or "
                "id= (%%XX for each octet) to the URI",
                count == FOUND_MAX ? "at least " : "", (unsigned long)count, token_uri_text(uri),
                hex[0], hex[1]);
}

enum leafd_err token_key_handle(struct token *token, CK_SESSION_HANDLE session,
                                const struct token_uri *uri, CK_OBJECT_HANDLE *ret,
                                CK_KEY_TYPE *ret_type, struct why *why)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    struct bytes label = token_uri_label(uri);
    struct bytes id = token_uri_id(uri);
    CK_ATTRIBUTE template[3] = {{CKA_CLASS, &class, sizeof(class)}};
    CK_ULONG len = 1;
    CK_OBJECT_HANDLE found[FOUND_MAX] = {CK_INVALID_HANDLE};
    CK_ULONG count = 0;
    CK_KEY_TYPE type = 0;
    size_t type_len;
    CK_RV rv;

    if (label.len)
        template[len++] = (CK_ATTRIBUTE){CKA_LABEL, (void *)(uintptr_t)label.data, label.len};
    if (id.len)
        template[len++] = (CK_ATTRIBUTE){CKA_ID, (void *)(uintptr_t)id.data, id.len};
    rv = find_objects(token, session, template, len, found, &count);
    if (rv != CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\": C_FindObjects: %s", token->label,
                    ckr_name(rv));
    if (count == 0)
        return fail(why, LEAFD_ABSENT,
                    "token \"%s\" has no private key that answers to %s: make one with leafctl ca "
                    "init, or correct object= or id=",
                    token->label, token_uri_text(uri));
    if (count > 1)
        return fail_ambiguous(token, session, uri, found, count, why);
    if (!get_attribute(token, session, found[0], CKA_KEY_TYPE, &type, sizeof(type), &type_len) ||
        type_len != sizeof(type))
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\" does not tell the key's type",
                    token->label);
    *ret = found[0];
    *ret_type = type;
    return LEAFD_OK;
}

static enum leafd_err find_in_session(struct token *token, CK_SESSION_HANDLE session,
                                      const struct token_uri *uri, const struct ca *ca,
                                      struct token_key **ret, struct why *why)
{
    CK_OBJECT_HANDLE found;
    CK_KEY_TYPE type;
    enum leafd_err err = token_key_handle(token, session, uri, &found, &type, why);

    if (err != LEAFD_OK)
        return err;
    if (type != key_type_of(ca->algorithm))
        return fail(why, LEAFD_CONFIG,
                    "the key that answers to %s is not the CA certificate's: the certificate has a "
                    "key of type %s",
                    token_uri_text(uri), key_type_name(ca->key_type));
    return key_new(token, session, found, ca->algorithm, ca->key_bits, ret, why);
}

enum leafd_err token_key_find(struct token *token, const struct token_uri *uri, const struct ca *ca,
                              struct token_key **ret, struct why *why)
{
    struct session session;
    enum leafd_err err = session_pool_take(token->pool, clock_mono_ms(), &session, why);

    if (err != LEAFD_OK)
        return err;
    err = find_in_session(token, session.handle, uri, ca, ret, why);
    session_pool_give(token->pool, session);
    return err;
}

enum leafd_err token_has_edwards_key(struct token *token, bool *ret, struct why *why)
{
    CK_KEY_TYPE type = CKK_EC_EDWARDS;
    CK_ATTRIBUTE template[1] = {{CKA_KEY_TYPE, &type, sizeof(type)}};
    CK_OBJECT_HANDLE found[FOUND_MAX] = {CK_INVALID_HANDLE};
    CK_ULONG count = 0;
    struct session session;
    CK_RV rv;
    enum leafd_err err = session_pool_take(token->pool, clock_mono_ms(), &session, why);

    if (err != LEAFD_OK)
        return err;
    rv = find_objects(token, session.handle, template, 1, found, &count);
    session_pool_give(token->pool, session);
    if (rv != CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\": C_FindObjects: %s", token->label,
                    ckr_name(rv));
    *ret = count > 0;
    return LEAFD_OK;
}

/* ---- comparing ---- */

static bool same_modulus(EVP_PKEY *public_key, struct bytes modulus)
{
    BIGNUM *wanted = NULL;
    BIGNUM *found = BN_bin2bn(modulus.data, (int)modulus.len, NULL);
    bool same = found && EVP_PKEY_get_bn_param(public_key, OSSL_PKEY_PARAM_RSA_N, &wanted) == 1 &&
                BN_cmp(wanted, found) == 0;

    BN_free(wanted);
    BN_free(found);
    ERR_clear_error();
    return same;
}

bool token_key_point(struct bytes attribute, size_t len, struct bytes *ret)
{
    struct der der = der_of(attribute);
    bool in_bits = der_next_is(&der, DER_BIT_STRING);
    struct bytes point = der_read(&der, in_bits ? DER_BIT_STRING : DER_OCTET_STRING);

    if (attribute.len == len) {
        *ret = attribute;
        return true;
    }
    if (!der_done(&der) || (in_bits && (point.len == 0 || point.data[0] != 0)))
        return false;
    if (in_bits)
        point = (struct bytes){point.data + 1, point.len - 1};
    if (point.len != len)
        return false;
    *ret = point;
    return true;
}

static bool same_point(EVP_PKEY *public_key, const char *param, struct bytes attribute)
{
    uint8_t wanted[160];
    struct bytes point;
    size_t len;

    if (EVP_PKEY_get_octet_string_param(public_key, param, wanted, sizeof(wanted), &len) != 1) {
        ERR_clear_error();
        return false;
    }
    return token_key_point(attribute, len, &point) &&
           bytes_equal(point, (struct bytes){wanted, len});
}

/* Reads modulus or point from the private key, else from the one public key with its id. */
static bool read_public(struct token_key *key, CK_SESSION_HANDLE session, uint8_t *out, size_t size,
                        size_t *ret_len)
{
    CK_ATTRIBUTE_TYPE type = sig_algorithm_is_rsa(key->algorithm) ? CKA_MODULUS : CKA_EC_POINT;
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_ATTRIBUTE template[2] = {{CKA_CLASS, &class, sizeof(class)},
                                {CKA_ID, key->id, (CK_ULONG)key->id_len}};
    CK_OBJECT_HANDLE found[FOUND_MAX] = {CK_INVALID_HANDLE};
    CK_ULONG count = 0;

    if (get_attribute(key->token, session, key->handle, type, out, size, ret_len) && *ret_len)
        return true;
    if (!key->id_len)
        return false;
    return find_objects(key->token, session, template, 2, found, &count) == CKR_OK && count == 1 &&
           get_attribute(key->token, session, found[0], type, out, size, ret_len) && *ret_len;
}

enum leafd_err token_key_compare(struct token_key *key, EVP_PKEY *public_key,
                                 const char *certificate, bool *ret_known, struct why *why)
{
    uint8_t value[ATTRIBUTE_MAX];
    size_t len = 0;
    struct session session;
    bool known;
    bool same = true;
    enum leafd_err err = session_pool_take(key->token->pool, clock_mono_ms(), &session, why);

    if (err != LEAFD_OK)
        return err;
    known = read_public(key, session.handle, value, sizeof(value), &len);
    session_pool_give(key->token->pool, session);
    if (known && sig_algorithm_is_rsa(key->algorithm))
        same = same_modulus(public_key, (struct bytes){value, len});
    else if (known)
        same = same_point(public_key,
                          key->algorithm == SIG_ED25519 ? OSSL_PKEY_PARAM_PUB_KEY
                                                        : OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY,
                          (struct bytes){value, len});
    if (!same)
        return fail(why, LEAFD_CONFIG,
                    "the key \"%s\" in token \"%s\" is not the key of the CA certificate %s: give "
                    "the certificate made for this key, or the URI of the right key",
                    key->label, key->token->label, certificate);
    *ret_known = known;
    return LEAFD_OK;
}

/* ---- signing ---- */

/* What C_Sign gets: the message, its digest, or for RSA the DigestInfo (RFC 8017 section 9.2). */
static bool make_input(const struct token_key *key, struct bytes message, uint8_t *room,
                       struct bytes *ret)
{
    static const uint8_t sha256_info[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60,
                                          0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02,
                                          0x01, 0x05, 0x00, 0x04, 0x20};
    size_t header = key->algorithm == SIG_RSA_SHA256 ? sizeof(sha256_info) : 0;
    unsigned len;

    if (key->mechanism.hashes) {
        *ret = message;
        return true;
    }
    if (header)
        memcpy(room, sha256_info, header);
    if (EVP_Digest(message.data, message.len, room + header, &len, key->md, NULL) != 1)
        return false;
    *ret = (struct bytes){room, header + len};
    return true;
}

/* r||s of equal halves to ECDSA-Sig-Value. */
static bool encode_ecdsa(struct bytes raw, uint8_t *out, size_t size, size_t *ret_len)
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    size_t half = raw.len / 2;
    BIGNUM *r = BN_bin2bn(raw.data, (int)half, NULL);
    BIGNUM *s = BN_bin2bn(raw.data + half, (int)half, NULL);
    bool ok = false;
    int len;

    if (pair && r && s && raw.len % 2 == 0 && raw.len && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL; /* the pair's now */
        len = i2d_ECDSA_SIG(pair, NULL);
        if (len > 0 && (size_t)len <= size) {
            *ret_len = (size_t)i2d_ECDSA_SIG(pair, &out);
            ok = true;
        }
    }
    ECDSA_SIG_free(pair);
    BN_free(r);
    BN_free(s);
    return ok;
}

static CK_RV sign_once(struct token_key *key, CK_SESSION_HANDLE session, struct bytes input,
                       uint8_t *out, CK_ULONG *len, const char **ret_call)
{
    CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, SIG_PSS_SALT};
    bool is_pss = key->algorithm == SIG_RSA_PSS_SHA256;
    CK_MECHANISM mechanism = {key->mechanism.type, is_pss ? &pss : NULL, is_pss ? sizeof(pss) : 0};
    struct token_module *module = key->token->module;
    CK_RV rv;

    *ret_call = "C_SignInit";
    rv = TOKEN_CALL(module, C_SignInit, session, &mechanism, key->handle);
    if (rv != CKR_OK)
        return rv;
    if (key->always_authenticate) {
        *ret_call = "C_Login for one signature";
        rv = token_login_for_operation(key->token, session);
        if (rv != CKR_OK)
            return rv;
    }
    *ret_call = "C_Sign";
    return TOKEN_CALL(module, C_Sign, session, (CK_BYTE *)(uintptr_t)input.data,
                      (CK_ULONG)input.len, out, len);
}

/* Holds a session from take to give or drop, with one replacement between. */
static enum leafd_err sign_raw(struct token_key *key, struct bytes input, uint8_t *out, size_t size,
                               size_t *ret_len, struct why *why)
{
    struct token *token = key->token;
    struct session session;
    CK_ULONG len = size;
    const char *call;
    int64_t deadline_ms = clock_mono_ms() + token->wait_ms;
    enum leafd_err err;
    CK_RV rv;

    if (session_pool_take(token->pool, deadline_ms, &session, why) != LEAFD_OK)
        return LEAFD_TOKEN_UNAVAILABLE;
    memset(out, 0, size); /* what lay there is nobody's to see, whatever the module says it wrote */
    rv = sign_once(key, session.handle, input, out, &len, &call);
    if (rv != CKR_OK && ladder_rung(rv) == RUNG_SESSION) {
        atomic_fetch_add(&token->retries, 1);
        err = session_pool_replace(token->pool, rv, deadline_ms, &session, why);
        if (err != LEAFD_OK)
            return err;
        len = size;
        rv = sign_once(key, session.handle, input, out, &len, &call);
    }
    if (rv != CKR_OK && ladder_rung(rv) == RUNG_NONE) {
        session_pool_drop(token->pool, rv, session);
        return fail(why, LEAFD_UNSUPPORTED, "token \"%s\", key \"%s\": %s: %s", token->label,
                    key->label, call, ckr_name(rv));
    }
    if (rv != CKR_OK) {
        atomic_store(&token->module_is_lost, ladder_rung(rv) == RUNG_MODULE);
        session_pool_drop(token->pool, rv, session);
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\", key \"%s\": %s: %s", token->label,
                    key->label, call, ckr_name(rv));
    }
    session_pool_give(token->pool, session);
    if (len > size)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\": a signature of %lu octets",
                    token->label, (unsigned long)len);
    *ret_len = len;
    return LEAFD_OK;
}

enum leafd_err token_key_sign(struct token_key *key, struct bytes message, uint8_t *out,
                              size_t size, size_t *ret_len, struct why *why)
{
    uint8_t room[64 + EVP_MAX_MD_SIZE];
    uint8_t raw[RAW_ECDSA_MAX];
    size_t raw_len;
    struct bytes input;
    bool is_ecdsa = key->algorithm == SIG_ECDSA_SHA256 || key->algorithm == SIG_ECDSA_SHA384;
    enum leafd_err err;

    if (!make_input(key, message, room, &input))
        return fail(why, LEAFD_INTERNAL, "OpenSSL did not hash");
    if (key->algorithm == SIG_ED25519)
        size = key->signature_max; /* NSS takes no more room than it fills */
    if (!is_ecdsa) {
        err = sign_raw(key, input, out, size, &raw_len, why);
        if (err == LEAFD_OK && raw_len != key->signature_max)
            err = fail(why, LEAFD_TOKEN_UNAVAILABLE,
                       "token \"%s\": a signature of %zu octets where this key gives %zu",
                       key->token->label, raw_len, key->signature_max);
        if (err == LEAFD_OK)
            *ret_len = raw_len;
        return err;
    }
    err = sign_raw(key, input, raw, sizeof(raw), &raw_len, why);
    if (err != LEAFD_OK)
        return err;
    if (!encode_ecdsa((struct bytes){raw, raw_len}, out, size, ret_len))
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "token \"%s\": %zu octets are no ECDSA signature for this key",
                    key->token->label, raw_len);
    return LEAFD_OK;
}
