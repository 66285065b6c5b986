/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/key_pair.h"

#include "base/clock.h"
#include "pkcs11/token_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>
#include <string.h>

enum { ID_OCTETS = 8, NOS = 2, RSA_BITS_MIN = 2048, RSA_BITS_MAX = 4096 };

/* CKA_EC_PARAMS in DER: OIDs, and for Ed25519 also the PrintableString of older modules. */
static const uint8_t oid_of_p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t oid_of_p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const uint8_t oid_of_ed25519[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
static const uint8_t name_of_ed25519[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r',
                                          'd',  's',  '2', '5', '5', '1', '9'};

#define BYTES(array)                                                                               \
    {                                                                                              \
        array, sizeof(array)                                                                       \
    }
static const struct key_row {
    const char *word; /* one of CA_KEY_WORDS */
    enum sig_algorithm algorithm;
    unsigned bits;
    CK_MECHANISM_TYPE mechanism;
    const char *group;      /* OpenSSL's name; NULL: RSA */
    struct bytes params[2]; /* the second for tokens that do not take the first */
} key_rows[CA_KEY_COUNT] = {
    [CA_KEY_P256] = {.word = "ec-p256",
                     .algorithm = SIG_ECDSA_SHA256,
                     .bits = 256,
                     .mechanism = CKM_EC_KEY_PAIR_GEN,
                     .group = "P-256",
                     .params = {BYTES(oid_of_p256)}},
    [CA_KEY_P384] = {.word = "ec-p384",
                     .algorithm = SIG_ECDSA_SHA384,
                     .bits = 384,
                     .mechanism = CKM_EC_KEY_PAIR_GEN,
                     .group = "P-384",
                     .params = {BYTES(oid_of_p384)}},
    [CA_KEY_RSA_2048] = {.word = "rsa-2048",
                         .algorithm = SIG_RSA_SHA256,
                         .bits = 2048,
                         .mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN},
    [CA_KEY_RSA_3072] = {.word = "rsa-3072",
                         .algorithm = SIG_RSA_SHA256,
                         .bits = 3072,
                         .mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN},
    [CA_KEY_RSA_4096] = {.word = "rsa-4096",
                         .algorithm = SIG_RSA_SHA256,
                         .bits = 4096,
                         .mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN},
    [CA_KEY_ED25519] = {.word = "ed25519",
                        .algorithm = SIG_ED25519,
                        .bits = 256,
                        .mechanism = CKM_EC_EDWARDS_KEY_PAIR_GEN,
                        .group = "ED25519",
                        .params = {BYTES(oid_of_ed25519), BYTES(name_of_ed25519)}},
};

bool ca_key_of(const char *word, enum ca_key *ret)
{
    for (size_t i = 0; i < sizeof(key_rows) / sizeof(key_rows[0]); i++) {
        if (strcmp(word, key_rows[i].word) == 0) {
            *ret = (enum ca_key)i;
            return true;
        }
    }
    return false;
}

const char *ca_key_word(enum ca_key key)
{
    return key_rows[key].word;
}

bool ca_key_is_rsa(enum ca_key key)
{
    return sig_algorithm_is_rsa(key_rows[key].algorithm);
}

/* ---- making ---- */

/* How many there are, 2 for more; *ret_found is one of them. CKR_FUNCTION_FAILED also for a module
 * that gives more than it was asked for. */
static CK_RV find_object(struct token *token, CK_SESSION_HANDLE session, CK_OBJECT_CLASS class,
                         CK_ATTRIBUTE_TYPE type, struct bytes value, CK_OBJECT_HANDLE *ret_found,
                         CK_ULONG *ret_count)
{
    CK_ATTRIBUTE template[2] = {{CKA_CLASS, &class, sizeof(class)},
                                {type, (void *)(uintptr_t)value.data, value.len}};
    CK_OBJECT_HANDLE found[2] = {CK_INVALID_HANDLE};
    CK_RV rv = TOKEN_CALL(token->module, C_FindObjectsInit, session, template, (CK_ULONG)2);

    *ret_count = 0;
    if (rv != CKR_OK)
        return rv;
    rv = TOKEN_CALL(token->module, C_FindObjects, session, found, (CK_ULONG)2, ret_count);
    (void)TOKEN_CALL(token->module, C_FindObjectsFinal, session);
    if (rv == CKR_OK && *ret_count > 2)
        rv = CKR_FUNCTION_FAILED;
    if (rv == CKR_OK && *ret_count)
        *ret_found = found[0];
    return rv;
}

static enum leafd_err check_free(struct token *token, CK_SESSION_HANDLE session,
                                 CK_ATTRIBUTE_TYPE type, struct bytes value, struct why *why)
{
    static const CK_OBJECT_CLASS classes[] = {CKO_PRIVATE_KEY, CKO_PUBLIC_KEY};
    char shown[80];

    if (type == CKA_ID && value.len * 2 < sizeof(shown))
        bytes_hex(value, shown);
    else
        bytes_escape(value, shown, sizeof(shown));
    for (int i = 0; i < 2; i++) {
        CK_OBJECT_HANDLE found;
        CK_ULONG count;
        CK_RV rv = find_object(token, session, classes[i], type, value, &found, &count);

        if (rv != CKR_OK)
            return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\": C_FindObjects: %s",
                        token->label, ckr_name(rv));
        if (count)
            return fail(why, LEAFD_CONFIG,
                        "token \"%s\" has a %s key with the %s \"%s\" already: nothing was made; "
                        "name another one in ca.key, or remove that one with the vendor's tool",
                        token->label, i == 0 ? "private" : "public",
                        type == CKA_ID ? "id" : "label", shown);
    }
    return LEAFD_OK;
}

/* What a new key pair is called, and whether it stays. */
struct new_pair {
    struct bytes label;
    struct bytes id;
    CK_BBOOL in_token; /* else it is the session's */
};

/* `nos`: how many of what the key may not do is said. */
static CK_RV generate_once(struct token *token, CK_SESSION_HANDLE session,
                           const struct key_row *row, struct bytes params, CK_ULONG nos,
                           struct new_pair *new, struct key_pair *ret)
{
    CK_BBOOL yes = CK_TRUE;
    CK_BBOOL no = CK_FALSE;
    struct bytes label = new->label;
    struct bytes id = new->id;
    CK_ULONG bits = row->bits;
    uint8_t exponent[] = {0x01, 0x00, 0x01};
    bool is_rsa = sig_algorithm_is_rsa(row->algorithm);
    CK_MECHANISM mechanism = {row->mechanism, NULL, 0};
    CK_ATTRIBUTE public_template[] = {
        {CKA_TOKEN, &new->in_token, sizeof(new->in_token)},
        {CKA_PRIVATE, &no, sizeof(no)},
        {CKA_VERIFY, &yes, sizeof(yes)},
        {CKA_LABEL, (void *)(uintptr_t)label.data, label.len},
        {CKA_ID, (void *)(uintptr_t)id.data, id.len},
        {is_rsa ? CKA_MODULUS_BITS : CKA_EC_PARAMS,
         is_rsa ? (void *)&bits : (void *)(uintptr_t)params.data,
         is_rsa ? sizeof(bits) : params.len},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
    };
    CK_ATTRIBUTE private_template[] = {
        {CKA_TOKEN, &new->in_token, sizeof(new->in_token)},
        {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &no, sizeof(no)},
        {CKA_SIGN, &yes, sizeof(yes)},
        {CKA_LABEL, (void *)(uintptr_t)label.data, label.len},
        {CKA_ID, (void *)(uintptr_t)id.data, id.len},
        {CKA_DECRYPT, &no, sizeof(no)}, /* the last NOS of them */
        {CKA_UNWRAP, &no, sizeof(no)},
    };
    CK_ULONG public_len = sizeof(public_template) / sizeof(public_template[0]) - (is_rsa ? 0 : 1);

    return TOKEN_CALL(token->module, C_GenerateKeyPair, session, &mechanism, public_template,
                      public_len, private_template,
                      (CK_ULONG)(sizeof(private_template) / sizeof(private_template[0])) - NOS +
                          nos,
                      &ret->public_object, &ret->private_object);
}

/* May the same curve by another name be what the token wants? */
static bool is_about_params(CK_RV rv)
{
    return rv == CKR_CURVE_NOT_SUPPORTED || rv == CKR_DOMAIN_PARAMS_INVALID ||
           rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT;
}

/* May it be that the token sets by itself what the key may not do? tpm2-pkcs11 wants no word about
 * CKA_DECRYPT, and says CKR_GENERAL_ERROR. */
static bool is_about_attributes(CK_RV rv)
{
    return rv == CKR_ATTRIBUTE_TYPE_INVALID || rv == CKR_ATTRIBUTE_READ_ONLY ||
           rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT ||
           rv == CKR_GENERAL_ERROR;
}

static CK_RV generate(struct token *token, CK_SESSION_HANDLE session, const struct key_row *row,
                      struct new_pair *new, struct key_pair *ret)
{
    CK_RV rv = generate_once(token, session, row, row->params[0], NOS, new, ret);

    if (is_about_params(rv) && row->params[1].len &&
        generate_once(token, session, row, row->params[1], NOS, new, ret) == CKR_OK)
        return CKR_OK;
    if (is_about_attributes(rv) &&
        generate_once(token, session, row, row->params[0], 0, new, ret) == CKR_OK)
        return CKR_OK;
    return rv;
}

void key_pair_destroy(struct token *token, const struct key_pair *pair)
{
    struct session session;

    if (session_pool_take(token->pool, clock_mono_ms(), &session, NULL) != LEAFD_OK)
        return;
    (void)TOKEN_CALL(token->module, C_DestroyObject, session.handle, pair->private_object);
    (void)TOKEN_CALL(token->module, C_DestroyObject, session.handle, pair->public_object);
    session_pool_give(token->pool, session);
}

/* ---- the public half ---- */

static bool read_attribute(struct token *token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                           CK_ATTRIBUTE_TYPE type, uint8_t *out, size_t size, size_t *ret_len)
{
    CK_ATTRIBUTE attribute = {type, out, size};

    if (TOKEN_CALL(token->module, C_GetAttributeValue, session, object, &attribute, (CK_ULONG)1) !=
            CKR_OK ||
        attribute.ulValueLen == 0 || attribute.ulValueLen > size)
        return false;
    *ret_len = attribute.ulValueLen;
    return true;
}

/* OpenSSL wants numbers in the machine's order, so they go through BIGNUMs. */
static EVP_PKEY *rsa_public(struct bytes modulus, struct bytes exponent)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *n = BN_bin2bn(modulus.data, (int)modulus.len, NULL);
    BIGNUM *e = BN_bin2bn(exponent.data, (int)exponent.len, NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    EVP_PKEY *key = NULL;

    if (build && n && e && ctx && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1 &&
        (params = OSSL_PARAM_BLD_to_param(build)) && EVP_PKEY_fromdata_init(ctx) == 1 &&
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    BN_free(e);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *ec_public(const struct key_row *row, struct bytes attribute)
{
    bool is_edwards = row->algorithm == SIG_ED25519;
    struct bytes point;
    OSSL_PARAM params[3];
    EVP_PKEY_CTX *ctx;
    EVP_PKEY *key = NULL;

    if (!token_key_point(attribute, is_edwards ? 32 : 1 + 2 * (row->bits / 8), &point))
        return NULL;
    if (is_edwards)
        return EVP_PKEY_new_raw_public_key_ex(NULL, row->group, NULL, point.data, point.len);
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME,
                                                 (char *)(uintptr_t)row->group, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY,
                                                  (void *)(uintptr_t)point.data, point.len);
    params[2] = OSSL_PARAM_construct_end();
    ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

/* An odd modulus and exponent, a point on its curve. */
static bool is_sound(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool sound = ctx && EVP_PKEY_public_check(ctx) == 1;

    EVP_PKEY_CTX_free(ctx);
    return sound;
}

/* `object`: the public key, or a private one that has its public half too. NULL when it does not,
 * or when that is no public key. */
static EVP_PKEY *read_public(struct token *token, CK_SESSION_HANDLE session,
                             const struct key_row *row, CK_OBJECT_HANDLE object)
{
    uint8_t value[1024];
    uint8_t exponent[64];
    size_t len;
    size_t exponent_len;
    EVP_PKEY *key = NULL;

    if (!sig_algorithm_is_rsa(row->algorithm)) {
        if (read_attribute(token, session, object, CKA_EC_POINT, value, sizeof(value), &len))
            key = ec_public(row, (struct bytes){value, len});
    } else if (read_attribute(token, session, object, CKA_MODULUS, value, sizeof(value), &len) &&
               read_attribute(token, session, object, CKA_PUBLIC_EXPONENT, exponent,
                              sizeof(exponent), &exponent_len)) {
        key = rsa_public((struct bytes){value, len}, (struct bytes){exponent, exponent_len});
    }
    if (key && !is_sound(key)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    ERR_clear_error();
    return key;
}

/* ---- all of it ---- */

void key_pair_clear(struct key_pair *pair)
{
    EVP_PKEY_free(pair->public_key);
    *pair = KEY_PAIR_EMPTY;
}

/* In a session that is at hand. What was made before it failed is left in *pair. */
static enum leafd_err make(struct token *token, CK_SESSION_HANDLE session,
                           const struct key_row *row, struct new_pair *new, struct key_pair *pair,
                           struct why *why)
{
    CK_RV rv = generate(token, session, row, new, pair);

    if (rv != CKR_OK) {
        *pair = KEY_PAIR_EMPTY; /* handles that came with a failure name nothing of ours */
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\" makes no %s key: %s", token->label,
                    row->word, ckr_name(rv));
    }
    pair->algorithm = row->algorithm;
    pair->bits = row->bits;
    pair->public_key = read_public(token, session, row, pair->public_object);
    if (!pair->public_key)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "token \"%s\" does not give the public half of the key it has made",
                    token->label);
    if (sig_algorithm_is_rsa(row->algorithm) &&
        (unsigned)EVP_PKEY_get_bits(pair->public_key) != row->bits)
        return fail(
            why, LEAFD_TOKEN_UNAVAILABLE,
            "token \"%s\" was to make a key of %u bits and made one of %d: it was destroyed",
            token->label, row->bits, EVP_PKEY_get_bits(pair->public_key));
    return LEAFD_OK;
}

/* `new` without an id gets a random one. */
static enum leafd_err make_named(struct token *token, const struct key_row *row,
                                 struct new_pair *new, struct key_pair *ret, struct why *why)
{
    uint8_t random_id[ID_OCTETS];
    struct key_pair pair = KEY_PAIR_EMPTY;
    struct session session;
    enum leafd_err err;

    if (!new->id.len) {
        if (RAND_bytes(random_id, sizeof(random_id)) != 1)
            return fail(why, LEAFD_INTERNAL, "no random bytes for the key's id");
        new->id = (struct bytes){random_id, sizeof(random_id)};
    }
    err = session_pool_take(token->pool, clock_mono_ms(), &session, why);
    if (err != LEAFD_OK)
        return err;
    if (new->in_token)
        err = check_free(token, session.handle, CKA_LABEL, new->label, why);
    if (new->in_token && err == LEAFD_OK)
        err = check_free(token, session.handle, CKA_ID, new->id, why);
    if (err == LEAFD_OK)
        err = make(token, session.handle, row, new, &pair, why);
    session_pool_give(token->pool, session);
    if (err == LEAFD_OK) {
        *ret = pair;
        return LEAFD_OK;
    }
    if (pair.private_object != CK_INVALID_HANDLE)
        key_pair_destroy(token, &pair);
    key_pair_clear(&pair);
    return err;
}

enum leafd_err key_pair_make(struct token *token, enum ca_key key, const struct token_uri *uri,
                             struct key_pair *ret, struct why *why)
{
    struct new_pair new = {token_uri_label(uri), token_uri_id(uri), CK_TRUE};

    if (!new.label.len)
        return fail(why, LEAFD_CONFIG, "%s has no object=: a new key needs a label",
                    token_uri_text(uri));
    return make_named(token, &key_rows[key], &new, ret, why);
}

enum leafd_err key_pair_make_in_session(struct token *token, enum ca_key key, struct key_pair *ret,
                                        struct why *why)
{
    struct new_pair new = {bytes_of("leafctl token test"), {NULL, 0}, CK_FALSE};

    return make_named(token, &key_rows[key], &new, ret, why);
}

/* The row of the curve that the key says to be on; for RSA any row of RSA. */
static const struct key_row *row_of(struct token *token, CK_SESSION_HANDLE session,
                                    CK_OBJECT_HANDLE object, CK_KEY_TYPE type)
{
    uint8_t params[64];
    size_t len;

    if (type == CKK_RSA)
        return &key_rows[CA_KEY_RSA_2048];
    if (!read_attribute(token, session, object, CKA_EC_PARAMS, params, sizeof(params), &len))
        return NULL;
    for (size_t i = 0; i < CA_KEY_COUNT; i++)
        for (size_t k = 0; k < 2; k++)
            if (key_rows[i].params[k].len &&
                bytes_equal(key_rows[i].params[k], (struct bytes){params, len}))
                return &key_rows[i];
    return NULL;
}

/* The public key object beside a private one: of the same id, or else of the same label. */
static bool find_public(struct token *token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE private,
                        CK_OBJECT_HANDLE *ret)
{
    static const CK_ATTRIBUTE_TYPE names[] = {CKA_ID, CKA_LABEL};
    uint8_t value[256];
    size_t len;
    CK_ULONG count = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (read_attribute(token, session, private, names[i], value, sizeof(value), &len))
            return find_object(token, session, CKO_PUBLIC_KEY, names[i], (struct bytes){value, len},
                               ret, &count) == CKR_OK &&
                   count == 1;
    }
    return false;
}

static enum leafd_err read_pair(struct token *token, CK_SESSION_HANDLE session, CK_KEY_TYPE type,
                                struct key_pair *pair, struct why *why)
{
    const struct key_row *row = row_of(token, session, pair->private_object, type);

    if (!row)
        return fail(
            why, LEAFD_CONFIG,
            "the key in token \"%s\" is none that leafd takes: RSA, P-256, P-384 or Ed25519",
            token->label);
    pair->public_key = read_public(token, session, row, pair->private_object);
    if (!pair->public_key &&
        find_public(token, session, pair->private_object, &pair->public_object))
        pair->public_key = read_public(token, session, row, pair->public_object);
    if (!pair->public_key)
        return fail(why, LEAFD_CONFIG,
                    "token \"%s\" does not give the public half of the key: put its public key "
                    "object beside it, with the same id",
                    token->label);
    pair->algorithm = row->algorithm;
    pair->bits = (unsigned)EVP_PKEY_get_bits(pair->public_key);
    if (type == CKK_RSA && (pair->bits < RSA_BITS_MIN || pair->bits > RSA_BITS_MAX))
        return fail(why, LEAFD_CONFIG,
                    "the key in token \"%s\" is RSA of %u bits: leafd takes %d to %d", token->label,
                    pair->bits, RSA_BITS_MIN, RSA_BITS_MAX);
    return LEAFD_OK;
}

enum leafd_err key_pair_find(struct token *token, const struct token_uri *uri, struct key_pair *ret,
                             struct why *why)
{
    struct key_pair pair = KEY_PAIR_EMPTY;
    struct session session;
    CK_KEY_TYPE type;
    enum leafd_err err = session_pool_take(token->pool, clock_mono_ms(), &session, why);

    if (err != LEAFD_OK)
        return err;
    err = token_key_handle(token, session.handle, uri, &pair.private_object, &type, why);
    if (err == LEAFD_OK)
        err = read_pair(token, session.handle, type, &pair, why);
    session_pool_give(token->pool, session);
    if (err == LEAFD_OK)
        *ret = pair;
    else
        key_pair_clear(&pair);
    return err;
}
