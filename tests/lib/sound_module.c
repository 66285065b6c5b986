/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/sound_module.h"

#include "pkcs11/token_module.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT = 7, KEYS_MAX = 8, SESSIONS_MAX = 64, FOUND_MAX = 2 * KEYS_MAX };
/* Handles: of key number i the private half is 2i + 1, the public one 2i + 2; of session number i,
 * 100 + i. */
enum { FIRST_SESSION = 100 };

struct session {
    bool open;
    CK_OBJECT_HANDLE found[FOUND_MAX];
    size_t found_count, found_at;
    CK_MECHANISM_TYPE mechanism;
    EVP_PKEY *signs; /* NULL: no operation */
};

struct key {
    EVP_PKEY *pkey; /* NULL: none */
    uint8_t label[64], id[64];
    size_t label_len, id_len;
};

static struct {
    pthread_mutex_t lock;
    sound_spoil_fn spoil;
    void *ctx;
    bool initialized, logged_in;
    unsigned calls[SOUND_CALL_COUNT];
    unsigned misuses;
    struct session session[SESSIONS_MAX];
    struct key key[KEYS_MAX];
    EVP_PKEY *made[8]; /* what C_GenerateKeyPair hands out, made once */
} module = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- a call ---- */

static void begin(enum sound_call call)
{
    pthread_mutex_lock(&module.lock);
    module.calls[call]++;
    if (!module.initialized && call != SOUND_C_GetFunctionList && call != SOUND_C_Initialize)
        module.misuses++;
}

static CK_RV end(struct sound_answer answer)
{
    if (module.spoil)
        module.spoil(module.ctx, &answer);
    if (answer.call == SOUND_C_Initialize)
        module.initialized = answer.rv == CKR_OK || answer.rv == CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (answer.call == SOUND_C_Finalize)
        module.initialized = false;
    pthread_mutex_unlock(&module.lock);
    return answer.rv;
}

#define END(name, ...) end((struct sound_answer){.call = SOUND_##name, __VA_ARGS__})

static struct session *session_of(CK_SESSION_HANDLE handle)
{
    if (handle < FIRST_SESSION || handle >= FIRST_SESSION + SESSIONS_MAX ||
        !module.session[handle - FIRST_SESSION].open)
        return NULL;
    return &module.session[handle - FIRST_SESSION];
}

static struct key *key_of(CK_OBJECT_HANDLE handle)
{
    if (handle < 1 || handle > FOUND_MAX || !module.key[(handle - 1) / 2].pkey)
        return NULL;
    return &module.key[(handle - 1) / 2];
}

static bool is_private(CK_OBJECT_HANDLE handle)
{
    return handle % 2 == 1;
}

static void text(unsigned char *field, size_t width, const char *value)
{
    memset(field, ' ', width);
    memcpy(field, value, strlen(value));
}

static void close_session(struct session *session)
{
    memset(session, 0, sizeof(*session));
}

static bool any_session(void)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        if (module.session[i].open)
            return true;
    return false;
}

static void close_all(void)
{
    for (size_t i = 0; i < SESSIONS_MAX; i++)
        close_session(&module.session[i]);
    module.logged_in = false;
}

/* ---- module, slot and token ---- */

static CK_RV C_Initialize_(void *args)
{
    (void)args;
    begin(SOUND_C_Initialize);
    return END(C_Initialize, .rv = CKR_OK);
}

static CK_RV C_Finalize_(void *reserved)
{
    (void)reserved;
    begin(SOUND_C_Finalize);
    close_all();
    return END(C_Finalize, .rv = CKR_OK);
}

static CK_RV C_GetInfo_(CK_INFO *info)
{
    begin(SOUND_C_GetInfo);
    *info = (CK_INFO){.cryptokiVersion = {2, 40}};
    text(info->manufacturerID, sizeof(info->manufacturerID), "tests");
    text(info->libraryDescription, sizeof(info->libraryDescription), "sound");
    return END(C_GetInfo, .rv = CKR_OK, .out = info, .size = sizeof(*info));
}

static CK_RV C_GetSlotList_(CK_BBOOL with_token, CK_SLOT_ID *list, CK_ULONG *count)
{
    size_t room = list ? *count : 0;

    (void)with_token;
    begin(SOUND_C_GetSlotList);
    *count = 1;
    if (room)
        list[0] = SLOT;
    return END(C_GetSlotList, .rv = list && !room ? CKR_BUFFER_TOO_SMALL : CKR_OK, .out = list,
               .size = room * sizeof(*list), .count = count);
}

static CK_RV C_GetSlotInfo_(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    begin(SOUND_C_GetSlotInfo);
    *info = (CK_SLOT_INFO){.flags = CKF_TOKEN_PRESENT};
    text(info->slotDescription, sizeof(info->slotDescription), "slot");
    text(info->manufacturerID, sizeof(info->manufacturerID), "tests");
    return END(C_GetSlotInfo, .rv = slot == SLOT ? CKR_OK : CKR_SLOT_ID_INVALID, .out = info,
               .size = sizeof(*info));
}

static CK_RV C_GetTokenInfo_(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    begin(SOUND_C_GetTokenInfo);
    *info = (CK_TOKEN_INFO){.flags = CKF_TOKEN_INITIALIZED | CKF_USER_PIN_INITIALIZED |
                                     CKF_LOGIN_REQUIRED};
    text(info->label, sizeof(info->label), "leafd");
    text(info->manufacturerID, sizeof(info->manufacturerID), "tests");
    text(info->model, sizeof(info->model), "sound");
    text(info->serialNumber, sizeof(info->serialNumber), "4711");
    return END(C_GetTokenInfo, .rv = slot == SLOT ? CKR_OK : CKR_SLOT_ID_INVALID, .out = info,
               .size = sizeof(*info));
}

static const CK_MECHANISM_TYPE mechanisms[] = {
    CKM_RSA_PKCS,        CKM_ECDSA,
    CKM_EDDSA,           CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKM_EC_KEY_PAIR_GEN, CKM_EC_EDWARDS_KEY_PAIR_GEN,
};
enum { MECHANISMS = sizeof(mechanisms) / sizeof(mechanisms[0]) };

static CK_RV C_GetMechanismList_(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    size_t room = list ? *count : 0;

    (void)slot;
    begin(SOUND_C_GetMechanismList);
    *count = MECHANISMS;
    for (size_t i = 0; i < MECHANISMS && i < room; i++)
        list[i] = mechanisms[i];
    return END(C_GetMechanismList, .rv = list && room < MECHANISMS ? CKR_BUFFER_TOO_SMALL : CKR_OK,
               .out = list, .size = room * sizeof(*list), .count = count);
}

static CK_RV C_GetMechanismInfo_(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CK_RV rv = CKR_MECHANISM_INVALID;

    begin(SOUND_C_GetMechanismInfo);
    *info = (CK_MECHANISM_INFO){
        .ulMinKeySize = 256, .ulMaxKeySize = 4096, .flags = CKF_SIGN | CKF_GENERATE_KEY_PAIR};
    for (size_t i = 0; i < MECHANISMS && slot == SLOT; i++)
        if (mechanisms[i] == type)
            rv = CKR_OK;
    return END(C_GetMechanismInfo, .rv = rv, .out = info, .size = sizeof(*info));
}

/* ---- sessions ---- */

static CK_RV C_OpenSession_(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                            CK_SESSION_HANDLE *ret)
{
    CK_RV rv = CKR_SESSION_COUNT;

    (void)flags;
    (void)application;
    (void)notify;
    begin(SOUND_C_OpenSession);
    for (size_t i = 0; i < SESSIONS_MAX && rv != CKR_OK && slot == SLOT; i++) {
        if (module.session[i].open)
            continue;
        module.session[i].open = true;
        *ret = FIRST_SESSION + i;
        rv = CKR_OK;
    }
    return END(C_OpenSession, .rv = rv, .out = ret, .size = sizeof(*ret));
}

static CK_RV C_CloseSession_(CK_SESSION_HANDLE handle)
{
    struct session *session;
    bool known;

    begin(SOUND_C_CloseSession);
    session = session_of(handle);
    known = session != NULL;
    if (known)
        close_session(session);
    if (!any_session())
        module.logged_in = false;
    return END(C_CloseSession, .rv = known ? CKR_OK : CKR_SESSION_HANDLE_INVALID);
}

static CK_RV C_CloseAllSessions_(CK_SLOT_ID slot)
{
    begin(SOUND_C_CloseAllSessions);
    if (slot == SLOT)
        close_all();
    return END(C_CloseAllSessions, .rv = slot == SLOT ? CKR_OK : CKR_SLOT_ID_INVALID);
}

static CK_RV C_GetSessionInfo_(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    begin(SOUND_C_GetSessionInfo);
    *info = (CK_SESSION_INFO){.slotID = SLOT};
    return END(C_GetSessionInfo, .rv = session_of(handle) ? CKR_OK : CKR_SESSION_HANDLE_INVALID,
               .out = info, .size = sizeof(*info));
}

static CK_RV C_Login_(CK_SESSION_HANDLE handle, CK_USER_TYPE user, unsigned char *pin, CK_ULONG len)
{
    CK_RV rv = CKR_OK;

    begin(SOUND_C_Login);
    if (!session_of(handle))
        rv = CKR_SESSION_HANDLE_INVALID;
    else if (len != 4 || memcmp(pin, "1234", 4) != 0)
        rv = CKR_PIN_INCORRECT;
    else if (user == CKU_USER && module.logged_in)
        rv = CKR_USER_ALREADY_LOGGED_IN;
    else
        module.logged_in = true;
    return END(C_Login, .rv = rv);
}

static CK_RV C_Logout_(CK_SESSION_HANDLE handle)
{
    begin(SOUND_C_Logout);
    module.logged_in = false;
    return END(C_Logout, .rv = session_of(handle) ? CKR_OK : CKR_SESSION_HANDLE_INVALID);
}

/* ---- objects ---- */

static bool value_is(const CK_ATTRIBUTE *wanted, const void *value, size_t len)
{
    return wanted->ulValueLen == len && memcmp(wanted->pValue, value, len) == 0;
}

static bool matches(CK_OBJECT_HANDLE handle, const CK_ATTRIBUTE *template, CK_ULONG len)
{
    const struct key *key = key_of(handle);
    CK_OBJECT_CLASS class = is_private(handle) ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY;

    if (!key || (is_private(handle) && !module.logged_in))
        return false;
    for (CK_ULONG i = 0; i < len; i++) {
        const CK_ATTRIBUTE *wanted = &template[i];

        if ((wanted->type == CKA_CLASS && !value_is(wanted, &class, sizeof(class))) ||
            (wanted->type == CKA_LABEL && !value_is(wanted, key->label, key->label_len)) ||
            (wanted->type == CKA_ID && !value_is(wanted, key->id, key->id_len)))
            return false;
    }
    return true;
}

static CK_RV C_FindObjectsInit_(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG len)
{
    struct session *session;

    begin(SOUND_C_FindObjectsInit);
    session = session_of(handle);
    if (session) {
        session->found_count = session->found_at = 0;
        for (CK_OBJECT_HANDLE i = 1; i <= FOUND_MAX; i++)
            if (matches(i, template, len))
                session->found[session->found_count++] = i;
    }
    return END(C_FindObjectsInit, .rv = session ? CKR_OK : CKR_SESSION_HANDLE_INVALID);
}

static CK_RV C_FindObjects_(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *out, CK_ULONG room,
                            CK_ULONG *count)
{
    struct session *session;

    begin(SOUND_C_FindObjects);
    session = session_of(handle);
    *count = 0;
    while (session && *count < room && session->found_at < session->found_count)
        out[(*count)++] = session->found[session->found_at++];
    return END(C_FindObjects, .rv = session ? CKR_OK : CKR_SESSION_HANDLE_INVALID, .out = out,
               .size = room * sizeof(*out), .count = count);
}

static CK_RV C_FindObjectsFinal_(CK_SESSION_HANDLE handle)
{
    begin(SOUND_C_FindObjectsFinal);
    return END(C_FindObjectsFinal, .rv = session_of(handle) ? CKR_OK : CKR_SESSION_HANDLE_INVALID);
}

static bool is(const EVP_PKEY *pkey, const char *type)
{
    return EVP_PKEY_is_a(pkey, type) == 1;
}

static size_t number_value(const EVP_PKEY *pkey, const char *param, uint8_t *out, size_t size)
{
    BIGNUM *number = NULL;
    int len = 0;

    if (EVP_PKEY_get_bn_param(pkey, param, &number) == 1 && (size_t)BN_num_bytes(number) <= size)
        len = BN_bn2bin(number, out);
    BN_free(number);
    return (size_t)len;
}

/* The point in an OCTET STRING, as PKCS#11 2.20 has it. */
static size_t point_value(const EVP_PKEY *pkey, uint8_t *out, size_t size)
{
    size_t len = 0;

    if (EVP_PKEY_get_octet_string_param(
            pkey, is(pkey, "EC") ? OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY : OSSL_PKEY_PARAM_PUB_KEY,
            out + 2, size - 2, &len) != 1)
        return 0;
    out[0] = 0x04;
    out[1] = (uint8_t)len; /* below 128: P-384 is the longest */
    return len + 2;
}

static size_t params_value(const EVP_PKEY *pkey, uint8_t *out)
{
    static const uint8_t p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    static const uint8_t p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
    static const uint8_t ed25519[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
    const uint8_t *oid = is(pkey, "ED25519")              ? ed25519
                         : EVP_PKEY_get_bits(pkey) == 256 ? p256
                                                          : p384;
    size_t len = (size_t)oid[1] + 2;

    memcpy(out, oid, len);
    return len;
}

static size_t flag_value(CK_ATTRIBUTE_TYPE type, uint8_t *out)
{
    *out = type == CKA_SIGN || type == CKA_SENSITIVE || type == CKA_NEVER_EXTRACTABLE ||
           type == CKA_ALWAYS_SENSITIVE || type == CKA_TOKEN;
    return 1;
}

/* 0: it has no such attribute. */
static size_t value_of(const struct key *key, CK_ATTRIBUTE_TYPE type, uint8_t *out, size_t size)
{
    bool is_rsa = is(key->pkey, "RSA");
    CK_KEY_TYPE key_type = is_rsa ? CKK_RSA : is(key->pkey, "EC") ? CKK_EC : CKK_EC_EDWARDS;

    switch (type) {
    case CKA_LABEL:
        memcpy(out, key->label, key->label_len);
        return key->label_len;
    case CKA_ID:
        memcpy(out, key->id, key->id_len);
        return key->id_len;
    case CKA_KEY_TYPE:
        memcpy(out, &key_type, sizeof(key_type));
        return sizeof(key_type);
    case CKA_MODULUS:
        return is_rsa ? number_value(key->pkey, OSSL_PKEY_PARAM_RSA_N, out, size) : 0;
    case CKA_PUBLIC_EXPONENT:
        return is_rsa ? number_value(key->pkey, OSSL_PKEY_PARAM_RSA_E, out, size) : 0;
    case CKA_EC_POINT:
        return is_rsa ? 0 : point_value(key->pkey, out, size);
    case CKA_EC_PARAMS:
        return is_rsa ? 0 : params_value(key->pkey, out);
    default:
        return flag_value(type, out);
    }
}

static CK_RV get_attribute(const struct key *key, CK_ATTRIBUTE *attribute)
{
    uint8_t value[1024];
    size_t room = attribute->ulValueLen;
    size_t len = value_of(key, attribute->type, value, sizeof(value));

    if (len)
        attribute->ulValueLen = len;
    if (!len || (attribute->pValue && len > room)) {
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return len ? CKR_BUFFER_TOO_SMALL : CKR_ATTRIBUTE_TYPE_INVALID;
    }
    if (attribute->pValue)
        memcpy(attribute->pValue, value, len);
    return CKR_OK;
}

static CK_RV C_GetAttributeValue_(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object,
                                  CK_ATTRIBUTE *template, CK_ULONG len)
{
    CK_ATTRIBUTE *shown = len ? &template[len - 1] : NULL; /* to the test */
    size_t room = shown ? shown->ulValueLen : 0;
    CK_RV rv = CKR_OK;

    begin(SOUND_C_GetAttributeValue);
    if (!session_of(handle))
        rv = CKR_SESSION_HANDLE_INVALID;
    else if (!key_of(object))
        rv = CKR_OBJECT_HANDLE_INVALID;
    for (CK_ULONG i = 0;
         i < len && rv != CKR_SESSION_HANDLE_INVALID && rv != CKR_OBJECT_HANDLE_INVALID; i++) {
        CK_RV one = get_attribute(key_of(object), &template[i]);

        rv = one == CKR_OK ? rv : one;
    }
    return END(C_GetAttributeValue, .rv = rv, .out = shown ? shown->pValue : NULL, .size = room,
               .count = shown ? &shown->ulValueLen : NULL, .attribute = shown);
}

static void take_text(const CK_ATTRIBUTE *template, CK_ULONG len, CK_ATTRIBUTE_TYPE type,
                      uint8_t *out, size_t size, size_t *ret_len)
{
    for (CK_ULONG i = 0; i < len; i++) {
        if (template[i].type != type || template[i].ulValueLen > size)
            continue;
        memcpy(out, template[i].pValue, template[i].ulValueLen);
        *ret_len = template[i].ulValueLen;
    }
}

/* The key that a template asks for; each kind is made once and handed out again. */
static EVP_PKEY *key_for(CK_MECHANISM_TYPE mechanism, const CK_ATTRIBUTE *template, CK_ULONG len)
{
    CK_ULONG bits = 0;
    bool is_p384 = false;
    size_t place;

    for (CK_ULONG i = 0; i < len; i++) {
        if (template[i].type == CKA_MODULUS_BITS && template[i].ulValueLen == sizeof(bits))
            memcpy(&bits, template[i].pValue, sizeof(bits));
        if (template[i].type == CKA_EC_PARAMS && template[i].ulValueLen == 7)
            is_p384 = true;
    }
    place = mechanism == CKM_EC_EDWARDS_KEY_PAIR_GEN ? 0 : bits ? bits / 1024 + 1 : is_p384 ? 1 : 2;
    if (place >= sizeof(module.made) / sizeof(module.made[0]))
        return NULL;
    if (!module.made[place])
        module.made[place] = mechanism == CKM_EC_EDWARDS_KEY_PAIR_GEN
                                 ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                             : bits ? EVP_RSA_gen((unsigned)bits)
                                    : EVP_EC_gen(is_p384 ? "P-384" : "P-256");
    return module.made[place];
}

static CK_RV C_GenerateKeyPair_(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism,
                                CK_ATTRIBUTE *public_template, CK_ULONG public_len,
                                CK_ATTRIBUTE *private_template, CK_ULONG private_len,
                                CK_OBJECT_HANDLE *ret_public, CK_OBJECT_HANDLE *ret_private)
{
    CK_RV rv = CKR_DEVICE_MEMORY;

    begin(SOUND_C_GenerateKeyPair);
    for (CK_OBJECT_HANDLE i = 0; i < KEYS_MAX && rv != CKR_OK && session_of(handle); i++) {
        struct key *key = &module.key[i];

        if (key->pkey)
            continue;
        key->pkey = key_for(mechanism->mechanism, public_template, public_len);
        if (!key->pkey)
            break;
        take_text(private_template, private_len, CKA_LABEL, key->label, sizeof(key->label),
                  &key->label_len);
        take_text(private_template, private_len, CKA_ID, key->id, sizeof(key->id), &key->id_len);
        *ret_private = 2 * i + 1;
        *ret_public = 2 * i + 2;
        rv = CKR_OK;
    }
    return END(C_GenerateKeyPair, .rv = rv, .out = ret_private, .size = sizeof(*ret_private));
}

static CK_RV C_DestroyObject_(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object)
{
    struct key *key;

    begin(SOUND_C_DestroyObject);
    key = session_of(handle) ? key_of(object) : NULL;
    if (key && is_private(object))
        memset(key, 0, sizeof(*key));
    return END(C_DestroyObject, .rv = key ? CKR_OK : CKR_OBJECT_HANDLE_INVALID);
}

/* ---- signing ---- */

static CK_RV C_SignInit_(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE object)
{
    struct session *session;
    CK_RV rv = CKR_OK;

    begin(SOUND_C_SignInit);
    session = session_of(handle);
    if (!session)
        rv = CKR_SESSION_HANDLE_INVALID;
    else if (!module.logged_in)
        rv = CKR_USER_NOT_LOGGED_IN;
    else if (!key_of(object) || !is_private(object))
        rv = CKR_KEY_HANDLE_INVALID;
    if (rv == CKR_OK) {
        session->signs = key_of(object)->pkey;
        session->mechanism = mechanism->mechanism;
    }
    return END(C_SignInit, .rv = rv);
}

/* ECDSA-Sig-Value to r||s. */
static size_t raw_ecdsa(const EVP_PKEY *pkey, const uint8_t *der, size_t der_len, uint8_t *out)
{
    int half = (EVP_PKEY_get_bits(pkey) + 7) / 8;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &der, (long)der_len);
    bool good = pair && BN_bn2binpad(ECDSA_SIG_get0_r(pair), out, half) == half &&
                BN_bn2binpad(ECDSA_SIG_get0_s(pair), out + half, half) == half;

    ECDSA_SIG_free(pair);
    return good ? 2 * (size_t)half : 0;
}

/* 0: it cannot. `out` has 512 octets. */
static size_t sign(EVP_PKEY *pkey, CK_MECHANISM_TYPE mechanism, const uint8_t *data, size_t len,
                   uint8_t *out)
{
    EVP_PKEY_CTX *ctx = NULL;
    EVP_MD_CTX *md_ctx = NULL;
    uint8_t made[512];
    size_t made_len = sizeof(made);
    bool good;

    if (mechanism == CKM_EDDSA) {
        md_ctx = EVP_MD_CTX_new();
        good = EVP_DigestSignInit(md_ctx, NULL, NULL, NULL, pkey) == 1 &&
               EVP_DigestSign(md_ctx, made, &made_len, data, len) == 1;
    } else {
        ctx = EVP_PKEY_CTX_new(pkey, NULL);
        good = EVP_PKEY_sign_init(ctx) == 1 && EVP_PKEY_sign(ctx, made, &made_len, data, len) == 1;
    }
    EVP_MD_CTX_free(md_ctx);
    EVP_PKEY_CTX_free(ctx);
    ERR_clear_error();
    if (!good)
        return 0;
    if (mechanism == CKM_ECDSA)
        return raw_ecdsa(pkey, made, made_len, out);
    memcpy(out, made, made_len);
    return made_len;
}

static CK_RV C_Sign_(CK_SESSION_HANDLE handle, unsigned char *data, CK_ULONG data_len,
                     unsigned char *out, CK_ULONG *len)
{
    struct session *session;
    uint8_t made[512];
    size_t made_len = 0;
    size_t room = *len;
    CK_RV rv = CKR_OK;

    begin(SOUND_C_Sign);
    session = session_of(handle);
    if (!session)
        rv = CKR_SESSION_HANDLE_INVALID;
    else if (!session->signs)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    else
        made_len = sign(session->signs, session->mechanism, data, data_len, made);
    if (rv == CKR_OK && (!made_len || made_len > room))
        rv = made_len ? CKR_BUFFER_TOO_SMALL : CKR_FUNCTION_FAILED;
    if (session)
        session->signs = NULL;
    if (rv == CKR_OK) {
        memcpy(out, made, made_len);
        *len = made_len;
    }
    return END(C_Sign, .rv = rv, .out = out, .size = room, .count = len);
}

/* ---- its list, and what a test asks for ---- */

/* The calls of the list that leafd has no use for are left out of it. */
static CK_RV get_function_list(CK_FUNCTION_LIST **ret)
{
    static CK_FUNCTION_LIST list;

    begin(SOUND_C_GetFunctionList);
    list = (CK_FUNCTION_LIST){.version = {2, 40}};
#define SOUND_ROW(name) list.name = name##_;
#define C_GetFunctionList_ get_function_list
    SOUND_CALLS(SOUND_ROW)
#undef SOUND_ROW
    *ret = &list;
    return END(C_GetFunctionList, .rv = CKR_OK, .out = &list, .size = sizeof(list));
}

static void reset(void)
{
    close_all();
    memset(module.key, 0, sizeof(module.key));
    memset(module.calls, 0, sizeof(module.calls));
    module.initialized = false;
    module.misuses = 0;
}

void sound_module_begin(sound_spoil_fn spoil, void *ctx)
{
    pthread_mutex_lock(&module.lock);
    reset();
    module.spoil = spoil;
    module.ctx = ctx;
    pthread_mutex_unlock(&module.lock);
    token_module_set_source(get_function_list);
}

void sound_module_add_key(EVP_PKEY *key)
{
    pthread_mutex_lock(&module.lock);
    for (size_t i = 0; i < KEYS_MAX; i++) {
        if (module.key[i].pkey)
            continue;
        module.key[i] =
            (struct key){.pkey = key, .label = "ca", .label_len = 2, .id = {0x01}, .id_len = 1};
        break;
    }
    pthread_mutex_unlock(&module.lock);
}

void sound_module_end(void)
{
    token_module_set_source(NULL);
    pthread_mutex_lock(&module.lock);
    reset();
    module.spoil = NULL;
    for (size_t i = 0; i < sizeof(module.made) / sizeof(module.made[0]); i++) {
        EVP_PKEY_free(module.made[i]);
        module.made[i] = NULL;
    }
    pthread_mutex_unlock(&module.lock);
}

unsigned sound_module_calls(enum sound_call call)
{
    return module.calls[call];
}

unsigned sound_module_misuses(void)
{
    return module.misuses;
}

unsigned sound_module_keys(void)
{
    unsigned count = 0;

    for (size_t i = 0; i < KEYS_MAX; i++)
        count += module.key[i].pkey != NULL;
    return count;
}
