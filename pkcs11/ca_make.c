/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ca_make.h"

#include "base/clock.h"
#include "pkcs11/ca_certificate.h"
#include "pkcs11/provider.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rand.h>
#include <string.h>

enum { ID_OCTETS = 8 };

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

/* ---- the key pair ---- */

struct pair {
    CK_OBJECT_HANDLE private_key;
    CK_OBJECT_HANDLE public_key;
};

static CK_RV count_objects(struct token *token, CK_SESSION_HANDLE session, CK_OBJECT_CLASS class,
                           CK_ATTRIBUTE_TYPE type, struct bytes value, CK_ULONG *ret)
{
    CK_ATTRIBUTE template[2] = {{CKA_CLASS, &class, sizeof(class)},
                                {type, (void *)(uintptr_t)value.data, value.len}};
    CK_OBJECT_HANDLE found;
    CK_RV rv = TOKEN_CALL(token->module, C_FindObjectsInit, session, template, (CK_ULONG)2);

    *ret = 0;
    if (rv != CKR_OK)
        return rv;
    rv = TOKEN_CALL(token->module, C_FindObjects, session, &found, (CK_ULONG)1, ret);
    (void)TOKEN_CALL(token->module, C_FindObjectsFinal, session);
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
        CK_ULONG count;
        CK_RV rv = count_objects(token, session, classes[i], type, value, &count);

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

static CK_RV generate_once(struct token *token, CK_SESSION_HANDLE session,
                           const struct key_row *row, struct bytes params, struct bytes label,
                           struct bytes id, struct pair *ret)
{
    CK_BBOOL yes = CK_TRUE;
    CK_BBOOL no = CK_FALSE;
    CK_ULONG bits = row->bits;
    uint8_t exponent[] = {0x01, 0x00, 0x01};
    bool is_rsa = sig_algorithm_is_rsa(row->algorithm);
    CK_MECHANISM mechanism = {row->mechanism, NULL, 0};
    CK_ATTRIBUTE public_template[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
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
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &yes, sizeof(yes)},
        {CKA_EXTRACTABLE, &no, sizeof(no)},
        {CKA_SIGN, &yes, sizeof(yes)},
        {CKA_DECRYPT, &no, sizeof(no)},
        {CKA_UNWRAP, &no, sizeof(no)},
        {CKA_LABEL, (void *)(uintptr_t)label.data, label.len},
        {CKA_ID, (void *)(uintptr_t)id.data, id.len},
    };
    CK_ULONG public_len = sizeof(public_template) / sizeof(public_template[0]) - (is_rsa ? 0 : 1);

    return TOKEN_CALL(token->module, C_GenerateKeyPair, session, &mechanism, public_template,
                      public_len, private_template,
                      (CK_ULONG)(sizeof(private_template) / sizeof(private_template[0])),
                      &ret->public_key, &ret->private_key);
}

/* May the same curve by another name be what the token wants? */
static bool is_about_params(CK_RV rv)
{
    return rv == CKR_CURVE_NOT_SUPPORTED || rv == CKR_DOMAIN_PARAMS_INVALID ||
           rv == CKR_ATTRIBUTE_VALUE_INVALID || rv == CKR_TEMPLATE_INCONSISTENT;
}

static CK_RV generate(struct token *token, CK_SESSION_HANDLE session, const struct key_row *row,
                      struct bytes label, struct bytes id, struct pair *ret)
{
    CK_RV rv = generate_once(token, session, row, row->params[0], label, id, ret);

    if (is_about_params(rv) && row->params[1].len &&
        generate_once(token, session, row, row->params[1], label, id, ret) == CKR_OK)
        return CKR_OK;
    return rv;
}

static void destroy(struct token *token, const struct pair *pair)
{
    struct session session;

    if (session_pool_take(token->pool, clock_mono_ms(), &session, NULL) != LEAFD_OK)
        return;
    (void)TOKEN_CALL(token->module, C_DestroyObject, session.handle, pair->private_key);
    (void)TOKEN_CALL(token->module, C_DestroyObject, session.handle, pair->public_key);
    session_pool_give(token->pool, session);
}

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

static enum leafd_err read_public(struct token *token, CK_SESSION_HANDLE session,
                                  const struct key_row *row, const struct pair *pair,
                                  EVP_PKEY **ret, struct why *why)
{
    uint8_t value[1024];
    uint8_t exponent[64];
    size_t len;
    size_t exponent_len;
    EVP_PKEY *key = NULL;

    if (!sig_algorithm_is_rsa(row->algorithm)) {
        if (read_attribute(token, session, pair->public_key, CKA_EC_POINT, value, sizeof(value),
                           &len))
            key = ec_public(row, (struct bytes){value, len});
    } else if (read_attribute(token, session, pair->public_key, CKA_MODULUS, value, sizeof(value),
                              &len) &&
               read_attribute(token, session, pair->public_key, CKA_PUBLIC_EXPONENT, exponent,
                              sizeof(exponent), &exponent_len)) {
        key = rsa_public((struct bytes){value, len}, (struct bytes){exponent, exponent_len});
    }
    ERR_clear_error();
    if (!key)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "token \"%s\" does not give the public half of the key it has made",
                    token->label);
    *ret = key;
    return LEAFD_OK;
}

static enum leafd_err make_pair(struct token *token, const struct key_row *row,
                                const struct token_uri *uri, struct pair *ret,
                                EVP_PKEY **ret_public, struct why *why)
{
    uint8_t random_id[ID_OCTETS];
    struct bytes label = token_uri_label(uri);
    struct bytes id = token_uri_id(uri);
    struct pair pair = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    struct session session;
    enum leafd_err err;
    CK_RV rv;

    if (!id.len) {
        if (RAND_bytes(random_id, sizeof(random_id)) != 1)
            return fail(why, LEAFD_INTERNAL, "no random bytes for the key's id");
        id = (struct bytes){random_id, sizeof(random_id)};
    }
    err = session_pool_take(token->pool, clock_mono_ms(), &session, why);
    if (err != LEAFD_OK)
        return err;
    err = check_free(token, session.handle, CKA_LABEL, label, why);
    if (err == LEAFD_OK)
        err = check_free(token, session.handle, CKA_ID, id, why);
    if (err != LEAFD_OK)
        goto out;
    rv = generate(token, session.handle, row, label, id, &pair);
    if (rv != CKR_OK) {
        err = fail(why, LEAFD_TOKEN_UNAVAILABLE, "token \"%s\" makes no %s key: %s", token->label,
                   row->word, ckr_name(rv));
        goto out;
    }
    err = read_public(token, session.handle, row, &pair, ret_public, why);
out:
    session_pool_give(token->pool, session);
    if (err == LEAFD_OK)
        *ret = pair;
    else if (pair.private_key != CK_INVALID_HANDLE)
        destroy(token, &pair);
    return err;
}

/* ---- all of it ---- */

/* The pair exists; a certificate for it, signed by it. */
static enum leafd_err certify(struct token *token, const struct key_row *row,
                              enum sig_algorithm algorithm, const struct pair *pair,
                              EVP_PKEY *public_key, const struct ca_make_options *options,
                              struct bytes *ret_pem, struct why *why)
{
    struct provider *provider = NULL;
    struct token_key *key = NULL;
    EVP_PKEY *signing_key = NULL;
    X509 *cert = NULL;
    struct ca_certificate_options cert_options = {
        .public_key = public_key,
        .properties = PROVIDER_PROPERTIES,
        .digest = sig_algorithm_digest(algorithm),
        .cn = options->cn,
        .cn_prefix = "leafd CA",
        .days = options->days ? options->days : CA_DAYS_DEFAULT,
    };
    enum leafd_err err =
        token_key_of_handle(token, pair->private_key, algorithm, row->bits, &key, why);

    if (err != LEAFD_OK)
        goto out;
    if (key->extractable == 1 || key->sensitive == 0) {
        err = fail(why, LEAFD_TOKEN_UNAVAILABLE,
                   "token \"%s\" made a key that can be taken out of it although it was told not "
                   "to; the key was destroyed",
                   token->label);
        goto out;
    }
    err = provider_new(&provider, why);
    if (err != LEAFD_OK)
        goto out;
    err = provider_key(provider, key, &signing_key, why);
    if (err != LEAFD_OK)
        goto out;
    cert_options.signing_key = signing_key;
    cert_options.libctx = provider_libctx(provider);
    err = ca_certificate_make(&cert_options, &cert, why);
    if (err != LEAFD_OK)
        goto out;
    err = ca_certificate_pem(cert, ret_pem);
out:
    X509_free(cert);
    EVP_PKEY_free(signing_key);
    provider_free(provider);
    token_key_free(key);
    return err;
}

static enum leafd_err check_options(const struct conf *conf, const struct ca_make_options *options,
                                    struct why *why)
{
    if (conf->token[0].access == CONF_ACCESS_FILE)
        return fail(why, LEAFD_CONFIG, "token.access: file has no token to make a key in");
    if ((unsigned)options->key >= sizeof(key_rows) / sizeof(key_rows[0]))
        return fail(why, LEAFD_INTERNAL, "unknown key type");
    if (conf->ca_rsa_padding == CONF_RSA_PSS &&
        !sig_algorithm_is_rsa(key_rows[options->key].algorithm))
        return fail(why, LEAFD_CONFIG,
                    "ca.rsa_padding: pss is for RSA keys, not for %s: take it out, or make an RSA "
                    "key",
                    key_rows[options->key].word);
    if (options->days > CA_DAYS_MAX)
        return fail(why, LEAFD_CONFIG, "a CA for %u days: %d are the most", options->days,
                    CA_DAYS_MAX);
    return ca_certificate_check_cn(options->cn, why);
}

enum leafd_err ca_make(const struct conf *conf, const struct secret *pin,
                       const struct ca_make_options *options, struct bytes *ret_pem,
                       struct why *why)
{
    struct token_uri *uri = NULL;
    struct token_module *module = NULL;
    struct token *token = NULL;
    EVP_PKEY *public_key = NULL;
    const struct key_row *row = &key_rows[0];
    enum sig_algorithm algorithm;
    struct pair pair;
    CK_SLOT_ID slot;
    enum leafd_err err = check_options(conf, options, why);

    if (err != LEAFD_OK)
        goto out;
    row = &key_rows[options->key];
    algorithm = conf->ca_rsa_padding == CONF_RSA_PSS ? SIG_RSA_PSS_SHA256 : row->algorithm;
    err = token_uri_parse(options->uri ? options->uri : conf->ca[0].key, &uri, why);
    if (err != LEAFD_OK)
        goto out;
    if (!token_uri_label(uri).len) {
        err = fail(why, LEAFD_CONFIG, "%s has no object=: a new key needs a label",
                   token_uri_text(uri));
        goto out;
    }
    err = token_module_open(&conf->token[0], &module, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_find_slot(module, uri, &slot, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_new(module, slot, CKF_RW_SESSION, 1, &token, why);
    if (err != LEAFD_OK)
        goto out;
    err = token_login(token, uri, pin, why);
    if (err != LEAFD_OK)
        goto out;
    err = make_pair(token, row, uri, &pair, &public_key, why);
    if (err != LEAFD_OK)
        goto out;
    err = certify(token, row, algorithm, &pair, public_key, options, ret_pem, why);
    if (err != LEAFD_OK)
        destroy(token, &pair);
out:
    EVP_PKEY_free(public_key);
    token_free(token);
    token_module_close(module);
    token_uri_free(uri);
    return err;
}

enum leafd_err ca_make_ephemeral(struct ca **ret_ca, EVP_PKEY **ret_key, struct why *why)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct ca_certificate_options options = {
        .public_key = key,
        .signing_key = key,
        .digest = "SHA256",
        .cn_prefix = "leafd untrusted CA",
        .days = CA_DAYS_DEFAULT,
    };
    X509 *cert = NULL;
    unsigned char *der = NULL;
    int len;
    enum leafd_err err;

    if (!key) {
        ERR_clear_error();
        return fail(why, LEAFD_INTERNAL, "OpenSSL makes no P-256 key");
    }
    err = ca_certificate_make(&options, &cert, why);
    if (err != LEAFD_OK)
        goto out;
    len = i2d_X509(cert, &der);
    if (len <= 0) {
        err = LEAFD_NOMEM;
        goto out;
    }
    err = ca_read((struct bytes){der, (size_t)len}, CA_ID_UNTRUSTED, false, ret_ca, why);
    if (err != LEAFD_OK)
        goto out;

    *ret_key = key;
    key = NULL;
out:
    OPENSSL_free(der);
    X509_free(cert);
    EVP_PKEY_free(key);
    return err;
}

enum leafd_err ca_make_set(const struct conf *conf, struct ca_set *cas, struct ca_set **ret,
                           EVP_PKEY **ret_key, struct why *why)
{
    struct ca *untrusted = NULL;
    EVP_PKEY *key = NULL;
    struct ca_set *set;
    enum leafd_err err;

    if (conf->untrusted != CONF_UNTRUSTED_AUTO) {
        *ret = ca_set_ref(cas);
        return LEAFD_OK;
    }
    err = ca_make_ephemeral(&untrusted, &key, why);
    if (err != LEAFD_OK)
        return err;
    set = ca_set_new(cas->ca, cas->count, untrusted);
    ca_unref(untrusted);
    if (!set) {
        EVP_PKEY_free(key);
        return LEAFD_NOMEM;
    }
    *ret = set;
    *ret_key = key;
    return LEAFD_OK;
}
