/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/provider.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

/* The one import parameter: the address of a struct token_key. */
#define PARAM_TOKEN_KEY "leafd-token-key"

struct provider {
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *stock;
    OSSL_PROVIDER *own;
};

/* What went wrong stays with the thread: EVP hands on no more than "failed". */
static _Thread_local struct {
    enum leafd_err err;
    struct why why;
} last;

/* ---- key management ---- */

struct provided_key {
    struct token_key *key;
};

static void *key_new(void *provctx)
{
    (void)provctx;
    return calloc(1, sizeof(struct provided_key));
}

static void key_free(void *data)
{
    free(data);
}

static int key_has(const void *data, int selection)
{
    const struct provided_key *provided = data;

    (void)selection;
    return provided && provided->key;
}

static int key_import(void *data, int selection, const OSSL_PARAM params[])
{
    struct provided_key *provided = data;
    const OSSL_PARAM *param = OSSL_PARAM_locate_const(params, PARAM_TOKEN_KEY);
    const void *key;
    size_t len;

    (void)selection;
    if (!param || !OSSL_PARAM_get_octet_ptr(param, &key, &len) || len != sizeof(*provided->key))
        return 0;
    provided->key = (struct token_key *)(uintptr_t)key;
    return 1;
}

static const OSSL_PARAM *key_import_types(int selection)
{
    static const OSSL_PARAM types[] = {OSSL_PARAM_octet_ptr(PARAM_TOKEN_KEY, NULL, 0),
                                       OSSL_PARAM_END};

    (void)selection;
    return types;
}

static int security_bits(const struct token_key *key)
{
    if (!sig_algorithm_is_rsa(key->algorithm))
        return (int)key->bits / 2;
    return key->bits >= 3072 ? 128 : 112;
}

static int key_get_params(void *data, OSSL_PARAM params[])
{
    const struct token_key *key = ((struct provided_key *)data)->key;
    const char *digest = key->md ? EVP_MD_get0_name(key->md) : "";
    OSSL_PARAM *param;

    if ((param = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_BITS)) &&
        !OSSL_PARAM_set_int(param, (int)key->bits))
        return 0;
    if ((param = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_SECURITY_BITS)) &&
        !OSSL_PARAM_set_int(param, security_bits(key)))
        return 0;
    if ((param = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MAX_SIZE)) &&
        !OSSL_PARAM_set_int(param, (int)key->signature_max))
        return 0;
    if (key->md && (param = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_DEFAULT_DIGEST)) &&
        !OSSL_PARAM_set_utf8_string(param, digest))
        return 0;
    /* The CA's certificate names one digest; nothing else is signed. */
    param = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MANDATORY_DIGEST);
    return !param || OSSL_PARAM_set_utf8_string(param, digest);
}

static const OSSL_PARAM *key_gettable_params(void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
        OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_MANDATORY_DIGEST, NULL, 0),
        OSSL_PARAM_END,
    };

    (void)provctx;
    return params;
}

static const char *ec_operation_name(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *rsa_operation_name(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

static const char *ed25519_operation_name(int operation)
{
    return operation == OSSL_OP_SIGNATURE ? "ED25519" : NULL;
}

#define KEYMGMT(table, operation_name)                                                             \
    static const OSSL_DISPATCH table[] = {                                                         \
        {OSSL_FUNC_KEYMGMT_NEW, (void (*)(void))key_new},                                          \
        {OSSL_FUNC_KEYMGMT_FREE, (void (*)(void))key_free},                                        \
        {OSSL_FUNC_KEYMGMT_HAS, (void (*)(void))key_has},                                          \
        {OSSL_FUNC_KEYMGMT_IMPORT, (void (*)(void))key_import},                                    \
        {OSSL_FUNC_KEYMGMT_IMPORT_TYPES, (void (*)(void))key_import_types},                        \
        {OSSL_FUNC_KEYMGMT_GET_PARAMS, (void (*)(void))key_get_params},                            \
        {OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, (void (*)(void))key_gettable_params},                  \
        {OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, (void (*)(void))(operation_name)},                \
        {0, NULL},                                                                                 \
    }

KEYMGMT(rsa_keymgmt, rsa_operation_name);
KEYMGMT(ec_keymgmt, ec_operation_name);
KEYMGMT(ed25519_keymgmt, ed25519_operation_name);

/* ---- signatures ---- */

struct provided_sign {
    struct token_key *key;
};

static void *sign_new(void *provctx, const char *properties)
{
    (void)provctx;
    (void)properties;
    return calloc(1, sizeof(struct provided_sign));
}

static void sign_free(void *data)
{
    free(data);
}

/* Without a key when a context is used again. */
static int sign_init(void *data, const char *digest, void *keydata, const OSSL_PARAM params[])
{
    struct provided_sign *sign = data;
    struct provided_key *provided = keydata;

    (void)params;
    if (provided)
        sign->key = provided->key;
    if (!sign->key)
        return 0;
    if (!sign->key->md)
        return !digest || !*digest;
    return !digest || !*digest || EVP_MD_is_a(sign->key->md, digest);
}

static int sign_message(void *data, unsigned char *out, size_t *len, size_t size,
                        const unsigned char *message, size_t message_len)
{
    struct provided_sign *sign = data;

    if (!out) {
        *len = sign->key->signature_max;
        return 1;
    }
    if (size < sign->key->signature_max) {
        last.err = fail(&last.why, LEAFD_INTERNAL, "no room for the signature");
        return 0;
    }
    last.err =
        token_key_sign(sign->key, (struct bytes){message, message_len}, out, size, len, &last.why);
    return last.err == LEAFD_OK;
}

/* X509_sign asks for the AlgorithmIdentifier. */
static bool algorithm_id(const struct token_key *key, OSSL_PARAM *param)
{
    struct bytes der = sig_algorithm_der(key->algorithm);

    return OSSL_PARAM_set_octet_string(param, der.data, der.len) == 1;
}

static int sign_get_ctx_params(void *data, OSSL_PARAM params[])
{
    const struct provided_sign *sign = data;
    OSSL_PARAM *param = OSSL_PARAM_locate(params, OSSL_SIGNATURE_PARAM_ALGORITHM_ID);

    if (!param)
        return 1;
    return sign->key && algorithm_id(sign->key, param);
}

/* OpenSSL hands paddings on by name and by number. */
static bool is_padding(const OSSL_PARAM *param, int number, const char *name)
{
    const char *word;
    int found;

    if (param->data_type == OSSL_PARAM_UTF8_STRING)
        return OSSL_PARAM_get_utf8_string_ptr(param, &word) == 1 && strcmp(word, name) == 0;
    return OSSL_PARAM_get_int(param, &found) == 1 && found == number;
}

/* Padding and salt are the key's; who sets them has to mean the same. */
static int sign_set_ctx_params(void *data, const OSSL_PARAM params[])
{
    const struct provided_sign *sign = data;
    const OSSL_PARAM *padding = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE);
    const OSSL_PARAM *salt = OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN);
    bool is_pss = sign->key && sign->key->algorithm == SIG_RSA_PSS_SHA256;
    int salt_len;

    if (padding &&
        !(is_pss ? is_padding(padding, RSA_PKCS1_PSS_PADDING, OSSL_PKEY_RSA_PAD_MODE_PSS)
                 : is_padding(padding, RSA_PKCS1_PADDING, OSSL_PKEY_RSA_PAD_MODE_PKCSV15)))
        return 0;
    return !salt || (is_pss && OSSL_PARAM_get_int(salt, &salt_len) && salt_len == SIG_PSS_SALT);
}

static const OSSL_PARAM *sign_settable_ctx_params(void *data, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
        OSSL_PARAM_int(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL), OSSL_PARAM_END};

    (void)data;
    (void)provctx;
    return params;
}

static const OSSL_PARAM *sign_gettable_ctx_params(void *data, void *provctx)
{
    static const OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_SIGNATURE_PARAM_ALGORITHM_ID, NULL, 0), OSSL_PARAM_END};

    (void)data;
    (void)provctx;
    return params;
}

static const OSSL_DISPATCH signature[] = {
    {OSSL_FUNC_SIGNATURE_NEWCTX, (void (*)(void))sign_new},
    {OSSL_FUNC_SIGNATURE_FREECTX, (void (*)(void))sign_free},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, (void (*)(void))sign_init},
    {OSSL_FUNC_SIGNATURE_DIGEST_SIGN, (void (*)(void))sign_message},
    {OSSL_FUNC_SIGNATURE_GET_CTX_PARAMS, (void (*)(void))sign_get_ctx_params},
    {OSSL_FUNC_SIGNATURE_GETTABLE_CTX_PARAMS, (void (*)(void))sign_gettable_ctx_params},
    {OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, (void (*)(void))sign_set_ctx_params},
    {OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, (void (*)(void))sign_settable_ctx_params},
    {0, NULL},
};

/* ---- the provider ---- */

static const OSSL_ALGORITHM *query(void *provctx, int operation, int *no_cache)
{
    static const OSSL_ALGORITHM keymgmt[] = {
        {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=leafd", rsa_keymgmt, "token RSA key"},
        {"EC:id-ecPublicKey:1.2.840.10045.2.1", "provider=leafd", ec_keymgmt, "token EC key"},
        {"ED25519:1.3.101.112", "provider=leafd", ed25519_keymgmt, "token Ed25519 key"},
        {NULL, NULL, NULL, NULL},
    };
    static const OSSL_ALGORITHM signatures[] = {
        {"RSA:rsaEncryption:1.2.840.113549.1.1.1", "provider=leafd", signature, "token RSA"},
        {"ECDSA", "provider=leafd", signature, "token ECDSA"},
        {"ED25519:1.3.101.112", "provider=leafd", signature, "token Ed25519"},
        {NULL, NULL, NULL, NULL},
    };

    (void)provctx;
    *no_cache = 0;
    switch (operation) {
    case OSSL_OP_KEYMGMT:
        return keymgmt;
    case OSSL_OP_SIGNATURE:
        return signatures;
    default:
        return NULL;
    }
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **provctx)
{
    static const OSSL_DISPATCH functions[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query},
        {0, NULL},
    };

    (void)in;
    *out = functions;
    *provctx = (void *)(uintptr_t)handle;
    return 1;
}

enum leafd_err provider_new(struct provider **ret, struct why *why)
{
    struct provider *provider = calloc(1, sizeof(*provider));
    enum leafd_err err = LEAFD_NOMEM;

    if (!provider)
        goto out;
    provider->libctx = OSSL_LIB_CTX_new();
    if (!provider->libctx)
        goto out;
    /* Loading any provider by name ends the automatic loading of the stock one, whose digests we
     * use. */
    if (OSSL_PROVIDER_add_builtin(provider->libctx, "leafd", provider_init) != 1 ||
        !(provider->stock = OSSL_PROVIDER_load(provider->libctx, "default")) ||
        !(provider->own = OSSL_PROVIDER_load(provider->libctx, "leafd"))) {
        ERR_clear_error();
        err = fail(why, LEAFD_INTERNAL, "OpenSSL does not load the providers default and leafd");
        goto out;
    }

    *ret = provider;
    provider = NULL;
    err = LEAFD_OK;
out:
    provider_free(provider);
    return err;
}

void provider_free(struct provider *provider)
{
    if (!provider)
        return;
    if (provider->own)
        OSSL_PROVIDER_unload(provider->own);
    if (provider->stock)
        OSSL_PROVIDER_unload(provider->stock);
    OSSL_LIB_CTX_free(provider->libctx);
    free(provider);
}

OSSL_LIB_CTX *provider_libctx(struct provider *provider)
{
    return provider->libctx;
}

static const char *type_name(const struct token_key *key)
{
    if (sig_algorithm_is_rsa(key->algorithm))
        return "RSA";
    return key->algorithm == SIG_ED25519 ? "ED25519" : "EC";
}

enum leafd_err provider_key(struct provider *provider, struct token_key *key, EVP_PKEY **ret,
                            struct why *why)
{
    void *pointer = key;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_ptr(PARAM_TOKEN_KEY, &pointer, sizeof(*key)),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY_CTX *ctx =
        EVP_PKEY_CTX_new_from_name(provider->libctx, type_name(key), "provider=leafd");
    EVP_PKEY *made = NULL;
    enum leafd_err err = LEAFD_OK;

    if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &made, EVP_PKEY_KEYPAIR, params) != 1) {
        ERR_clear_error();
        err = fail(why, LEAFD_INTERNAL, "OpenSSL takes no key from the provider leafd");
    } else {
        *ret = made;
    }
    EVP_PKEY_CTX_free(ctx);
    return err;
}

enum leafd_err provider_sign_failed(struct why *why)
{
    enum leafd_err err = last.err;

    last.err = LEAFD_OK; /* told once */
    return err == LEAFD_OK ? LEAFD_OK : fail(why, err, "%s", last.why.text);
}
