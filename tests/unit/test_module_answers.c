/* SPDX-License-Identifier: Apache-2.0 */
/* What a PKCS#11 module answers is anybody's: a vendor's mistakes, a token that somebody else has
 * set up, a p11-kit server at the other end of a socket. Here it is spoiled one answer at a time;
 * tests/fuzz/fuzz_module.c spoils them at random. */
#include "config.h"

#include "pkcs11/backend.h"
#include "pkcs11/ca_make.h"
#include "pkcs11/ca_request.h"
#include "pkcs11/pin_refusals.h"
#include "pkcs11/token_report.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/sound_module.h"
#include "tests/lib/unit.h"

#include <openssl/rsa.h>
#include <string.h>
#include <unistd.h>

/* One kind of call whose answers are spoiled. */
struct spoil {
    enum sound_call call;
    unsigned after; /* so many good answers come first */
    void (*change)(struct sound_answer *answer);
};

static EVP_PKEY *key_p256, *key_rsa, *key_rsa_1024;
static struct conf conf = {
    .ca_count = 1,
    .ca = {{(char *)"ca.pem", (char *)"pkcs11:token=leafd;object=ca;type=private"}},
    .token[0].module = (char *)"module.so",
    .token[0].sessions = 4,
};
static struct ca_set *cas;
static struct secret pin = SECRET_EMPTY;
static struct spoil spoil;
static unsigned spoil_seen;
static int refusals = -1;

static int make_all(void **state)
{
    struct bytes der;
    const struct ca *list[1];
    struct ca *ca;

    (void)state;
    key_p256 = make_key("P-256");
    key_rsa = make_key("RSA:2048");
    key_rsa_1024 = make_key("RSA:1024");
    der = make_ca("module answers", key_p256, 1790000000);
    assert_int_equal(ca_read(der, 0, false, &ca, NULL), LEAFD_OK);
    free((void *)(uintptr_t)der.data);
    list[0] = ca;
    cas = ca_set_new(list, 1, NULL);
    ca_unref(ca);
    assert_non_null(cas);
    assert_int_equal(secret_set(&pin, bytes_of("1234")), LEAFD_OK);
    assert_int_equal(pin_refusals_make(&refusals, NULL), LEAFD_OK);
    return pin_refusals_use(refusals, NULL);
}

static int remove_all(void **state)
{
    (void)state;
    sound_module_end();
    ca_set_unref(cas);
    secret_clear(&pin);
    close(refusals);
    EVP_PKEY_free(key_p256);
    EVP_PKEY_free(key_rsa);
    EVP_PKEY_free(key_rsa_1024);
    return 0;
}

static void spoil_one(void *ctx, struct sound_answer *answer)
{
    (void)ctx;
    if (spoil.change && answer->call == spoil.call && spoil_seen++ >= spoil.after)
        spoil.change(answer);
}

/* A module with `key` (NULL: none), whose answers to `call` are spoiled after the first `after`. */
static void use_module(EVP_PKEY *key, enum sound_call call, unsigned after,
                       void (*change)(struct sound_answer *answer))
{
    spoil = (struct spoil){call, after, change};
    spoil_seen = 0;
    pin_refusals_forget(refusals);
    sound_module_begin(spoil_one, NULL);
    if (key)
        sound_module_add_key(key);
}

static void assert_printable(const char *text)
{
    assert_true(text[0] != '\0');
    for (; *text; text++)
        if (*text < 0x20 || *text > 0x7e)
            fail_msg("octet 0x%02x in a text", (unsigned char)*text);
}

/* The backend does not open, for the reason given; what was opened is closed. */
static void assert_refused(enum leafd_err expected, const char *words)
{
    struct backend *backend = NULL;
    struct why why = {""};
    enum leafd_err err = backend_open(&conf, 0, cas, &pin, &backend, &why);

    if (err != expected || !strstr(why.text, words))
        fail_msg("%s, where %s was expected: %s", err_name(err), words, why.text);
    assert_printable(why.text);
    assert_int_equal(sound_module_misuses(), 0);
    assert_null(backend);
}

static struct backend *assert_opened(void)
{
    struct backend *backend = NULL;
    struct why why = {""};

    if (backend_open(&conf, 0, cas, &pin, &backend, &why) != LEAFD_OK)
        fail_msg("%s", why.text);
    return backend;
}

/* ---- the module as a whole ---- */

static enum sound_call missing;

static void leave_out(struct sound_answer *answer)
{
    CK_FUNCTION_LIST *list = answer->out;

#define LEAVE_OUT(name)                                                                            \
    if (missing == SOUND_##name)                                                                   \
        list->name = NULL;
    SOUND_CALLS(LEAVE_OUT)
#undef LEAVE_OUT
}

static void a_function_may_be_missing(void **state)
{
    static const char *const names[] = {
#define NAME(name) #name,
        SOUND_CALLS(NAME)
#undef NAME
    };

    (void)state;
    for (missing = SOUND_C_Initialize; missing < SOUND_CALL_COUNT; missing++) {
        struct token_description *list = NULL;
        struct backend *backend = NULL;
        struct bytes pem = {NULL, 0};
        struct ca_make_options options = {.key = CA_KEY_P256,
                                          .uri = "pkcs11:token=leafd;object=new"};
        struct why why = {""};
        size_t count;
        enum leafd_err err;

        use_module(key_p256, SOUND_C_GetFunctionList, 0, leave_out);
        err = backend_open(&conf, 0, cas, &pin, &backend, &why);
        if (err != LEAFD_OK && missing != SOUND_C_GetMechanismInfo &&
            missing != SOUND_C_GetAttributeValue && missing != SOUND_C_GetSlotInfo &&
            missing != SOUND_C_GetTokenInfo &&
            (!strstr(why.text, "CKR_FUNCTION_NOT_SUPPORTED") ||
             (!strstr(why.text, names[missing]) && !strstr(why.text, "C_FindObjects"))))
            fail_msg("without %s: %s", names[missing], why.text);
        if (err == LEAFD_OK) {
            backend_keep_alive(backend);
            (void)!backend_check(backend, NULL);
            (void)!backend_renew(backend, RUNG_TOKEN, NULL);
        }
        backend_close(backend);
        if (token_list(&conf, 0, cas, &list, &count, NULL) == LEAFD_OK)
            free(list);
        if (ca_make(&conf, &pin, &options, &pem, NULL) == LEAFD_OK)
            free((void *)(uintptr_t)pem.data);
    }
}

static void fail_list(struct sound_answer *answer)
{
    answer->rv = CKR_HOST_MEMORY;
}

static void old_list(struct sound_answer *answer)
{
    ((CK_FUNCTION_LIST *)answer->out)->version = (CK_VERSION){1, 0};
}

static void a_module_without_a_good_list_is_refused(void **state)
{
    (void)state;
    use_module(key_p256, SOUND_C_GetFunctionList, 0, fail_list);
    assert_refused(LEAFD_CONFIG, "C_GetFunctionList: CKR_HOST_MEMORY");
    use_module(key_p256, SOUND_C_GetFunctionList, 0, old_list);
    assert_refused(LEAFD_CONFIG, "speaks version 1.0 of PKCS#11");
    assert_int_equal(sound_module_calls(SOUND_C_Initialize), 0);
}

static void unknown_number(struct sound_answer *answer)
{
    answer->rv = 0x80000000 | CKR_GENERAL_ERROR;
}

static void an_answer_without_a_name_is_told_by_number(void **state)
{
    (void)state;
    use_module(key_p256, SOUND_C_OpenSession, 0, unknown_number);
    assert_refused(LEAFD_TOKEN_UNAVAILABLE, "C_OpenSession: CKR 0x80000005");
}

/* ---- counts and lengths ---- */

static CK_ULONG claimed;

static void claim(struct sound_answer *answer)
{
    *answer->count = claimed;
}

static void claim_in_second_call(struct sound_answer *answer)
{
    if (answer->out)
        *answer->count = claimed;
}

static void more_slots_than_there_is_room_for(void **state)
{
    static const CK_ULONG counts[] = {3, 4096, CK_UNAVAILABLE_INFORMATION};

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct token_description *list;
        size_t count;
        struct why why;

        claimed = counts[i];
        use_module(key_p256, SOUND_C_GetSlotList, 0, claim_in_second_call);
        assert_refused(LEAFD_TOKEN_UNAVAILABLE, "where there is room for 1");
        assert_int_equal(token_list(&conf, 0, cas, &list, &count, &why), LEAFD_TOKEN_UNAVAILABLE);
    }
    claimed = CK_UNAVAILABLE_INFORMATION;
    use_module(key_p256, SOUND_C_GetSlotList, 0, claim);
    assert_refused(LEAFD_TOKEN_UNAVAILABLE, "claims to have");
}

/* C_GetMechanismInfo then has the last word. */
static void more_mechanisms_than_there_is_room_for(void **state)
{
    static const CK_ULONG counts[] = {8, 4096, CK_UNAVAILABLE_INFORMATION};

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        claimed = counts[i];
        use_module(key_p256, SOUND_C_GetMechanismList, 0, claim_in_second_call);
        backend_close(assert_opened());
        use_module(key_p256, SOUND_C_GetMechanismList, 0, claim);
        backend_close(assert_opened());
    }
}

static void more_objects_than_were_asked_for(void **state)
{
    static const CK_ULONG counts[] = {9, 1000, CK_UNAVAILABLE_INFORMATION};
    struct ca_make_options options = {.key = CA_KEY_P256, .uri = "pkcs11:token=leafd;object=new"};
    struct bytes pem;
    struct why why;

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        claimed = counts[i];
        use_module(key_p256, SOUND_C_FindObjects, 0, claim);
        assert_refused(LEAFD_TOKEN_UNAVAILABLE, "C_FindObjects: CKR_FUNCTION_FAILED");
        use_module(NULL, SOUND_C_FindObjects, 0, claim);
        assert_int_equal(ca_make(&conf, &pin, &options, &pem, &why), LEAFD_TOKEN_UNAVAILABLE);
        assert_int_equal(sound_module_calls(SOUND_C_GenerateKeyPair), 0);
    }
    /* One handle again and again, for ever. */
    claimed = 1;
    use_module(key_p256, SOUND_C_FindObjects, 0, claim);
    assert_refused(LEAFD_CONFIG, "at least 8 private keys");
}

static void attributes_of_any_length(void **state)
{
    static const CK_ULONG lengths[] = {0, 1, 65, 1025, 1UL << 32, CK_UNAVAILABLE_INFORMATION};

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        claimed = lengths[i];
        use_module(key_p256, SOUND_C_GetAttributeValue, 0, claim);
        assert_refused(LEAFD_TOKEN_UNAVAILABLE, "does not tell the key's type");
        for (unsigned after = 1; after < 10; after++) { /* the others one by one, then the point */
            struct backend *backend = NULL;

            use_module(key_p256, SOUND_C_GetAttributeValue, after, claim);
            if (backend_open(&conf, 0, cas, &pin, &backend, NULL) == LEAFD_OK)
                backend_close(backend);
        }
    }
}

static void signatures_of_any_length(void **state)
{
    static const char no_signature[] = "are no ECDSA signature", too_long[] = "a signature of ",
                      wrong[] = "does not verify";
    static const struct {
        CK_ULONG len;
        const char *words;
    } rows[] = {
        {0, no_signature},  {1, no_signature}, {62, wrong},           {63, no_signature},
        {65, no_signature}, {66, wrong},       {132, wrong},          {133, too_long},
        {1000, too_long},   {~0UL, too_long},  {1UL << 32, too_long},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        claimed = rows[i].len;
        use_module(key_p256, SOUND_C_Sign, 0, claim);
        assert_refused(LEAFD_TOKEN_UNAVAILABLE, rows[i].words);
    }
}

static void write_nothing(struct sound_answer *answer)
{
    const uint8_t *out = answer->out;

    /* What was there is not what some function before had on its stack. */
    answer->rv = CKR_OK;
    for (size_t i = *answer->count; i < answer->size; i++)
        assert_int_equal(out[i], 0);
}

static void nothing_of_our_memory_lies_where_the_module_writes(void **state)
{
    (void)state;
    use_module(key_p256, SOUND_C_Sign, 0, write_nothing);
    backend_close(assert_opened());
    use_module(key_p256, SOUND_C_GetAttributeValue, 0, write_nothing);
    backend_close(assert_opened());
}

/* ---- what the token says of itself ---- */

static void set_sessions(struct sound_answer *answer)
{
    ((CK_TOKEN_INFO *)answer->out)->ulMaxSessionCount = claimed;
}

static void any_number_of_sessions(void **state)
{
    static const struct {
        CK_ULONG told;
        unsigned lanes;
    } rows[] = {{0, 4}, {1, 1}, {3, 3}, {5, 4}, {1UL << 32, 4}, {CK_UNAVAILABLE_INFORMATION, 4}};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct backend *backend;

        claimed = rows[i].told;
        use_module(key_p256, SOUND_C_GetTokenInfo, 0, set_sessions);
        backend = assert_opened();
        assert_int_equal(backend_lanes(backend), rows[i].lanes);
        backend_close(backend);
    }
}

static void set_texts(struct sound_answer *answer)
{
    static const char text[] = "\x1b]0;x\a\"\n\r\\%s%n\xff\x9b"; /* and no blanks behind it */
    CK_TOKEN_INFO *info = answer->out;

    for (size_t i = 0; i < sizeof(info->label); i++)
        info->label[i] = (unsigned char)text[i % (sizeof(text) - 1)];
    memcpy(info->manufacturerID, info->label, sizeof(info->label));
    memcpy(info->model, info->label, sizeof(info->model));
    memset(info->serialNumber, 0x1b, sizeof(info->serialNumber));
}

static void texts_are_fit_to_be_printed(void **state)
{
    struct token_description *list;
    size_t count;

    (void)state;
    use_module(key_p256, SOUND_C_GetTokenInfo, 0, set_texts);
    assert_int_equal(token_list(&conf, 0, cas, &list, &count, NULL), LEAFD_OK);
    assert_int_equal(count, 1);
    assert_printable(list[0].label);
    assert_printable(list[0].manufacturer);
    assert_printable(list[0].model);
    assert_printable(list[0].serial);
    assert_int_equal(strlen(list[0].serial), 4 * 16);
    free(list);
    assert_refused(LEAFD_ABSENT, "no token answers to");
    conf.ca[0].key = (char *)"pkcs11:object=other";
    assert_refused(LEAFD_ABSENT, "has no private key that answers to");
    conf.ca[0].key = (char *)"pkcs11:token=leafd;object=ca;type=private";
}

/* ---- logging in ---- */

static CK_RV login_answer;

static void answer_login(struct sound_answer *answer)
{
    answer->rv = login_answer;
}

static void logging_in_may_end_in_any_way(void **state)
{
    static const struct {
        CK_RV rv;
        enum leafd_err err;
    } rows[] = {
        {CKR_PIN_INCORRECT, LEAFD_PIN},
        {CKR_PIN_LOCKED, LEAFD_PIN},
        {CKR_PIN_EXPIRED, LEAFD_PIN},
        {CKR_USER_PIN_NOT_INITIALIZED, LEAFD_PIN},
        {CKR_USER_ANOTHER_ALREADY_LOGGED_IN, LEAFD_TOKEN_UNAVAILABLE},
        {CKR_USER_TOO_MANY_TYPES, LEAFD_TOKEN_UNAVAILABLE},
        {0x80004711, LEAFD_TOKEN_UNAVAILABLE},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct backend *backend = NULL;

        login_answer = rows[i].rv;
        use_module(key_p256, SOUND_C_Login, 0, answer_login);
        assert_int_equal(backend_open(&conf, 0, cas, &pin, &backend, NULL), rows[i].err);
        assert_int_equal(backend_open(&conf, 0, cas, &pin, &backend, NULL), rows[i].err);
        assert_int_equal(sound_module_calls(SOUND_C_Login), rows[i].err == LEAFD_PIN ? 1 : 2);
    }
    /* A token that says so while it is not so does not sign; nothing is tried again and again. */
    login_answer = CKR_USER_ALREADY_LOGGED_IN;
    use_module(key_p256, SOUND_C_Login, 0, answer_login);
    backend_close(assert_opened());
    assert_int_equal(sound_module_calls(SOUND_C_Login), 1);
}

/* ---- new keys ---- */

static EVP_PKEY *shown; /* in the place of the key that was made */

static void show_another_modulus(struct sound_answer *answer)
{
    BIGNUM *modulus = NULL;

    if (!answer->attribute || answer->attribute->type != CKA_MODULUS)
        return;
    assert_int_equal(EVP_PKEY_get_bn_param(shown, "n", &modulus), 1);
    *answer->count = (CK_ULONG)BN_bn2bin(modulus, answer->out);
    BN_free(modulus);
}

static void show_even_modulus(struct sound_answer *answer)
{
    if (answer->attribute && answer->attribute->type == CKA_MODULUS)
        ((uint8_t *)answer->out)[*answer->count - 1] &= 0xfe;
}

static void show_no_modulus(struct sound_answer *answer)
{
    if (answer->attribute && answer->attribute->type == CKA_MODULUS)
        memset(answer->out, 0, *answer->count);
}

static void show_exponent_of_one(struct sound_answer *answer)
{
    if (!answer->attribute || answer->attribute->type != CKA_PUBLIC_EXPONENT)
        return;
    *(uint8_t *)answer->out = 1;
    *answer->count = 1;
}

static void show_point_off_curve(struct sound_answer *answer)
{
    if (answer->attribute && answer->attribute->type == CKA_EC_POINT)
        ((uint8_t *)answer->out)[*answer->count - 1] ^= 1;
}

static void show_point_at_infinity(struct sound_answer *answer)
{
    if (!answer->attribute || answer->attribute->type != CKA_EC_POINT)
        return;
    memcpy(answer->out, "\x04\x01\x00", 3);
    *answer->count = 3;
}

static void a_key_that_is_none_is_destroyed(void **state)
{
    static const struct {
        enum ca_key key;
        void (*change)(struct sound_answer *answer);
    } rows[] = {
        {CA_KEY_RSA_2048, show_another_modulus}, {CA_KEY_RSA_2048, show_even_modulus},
        {CA_KEY_RSA_2048, show_no_modulus},      {CA_KEY_RSA_2048, show_exponent_of_one},
        {CA_KEY_P256, show_point_off_curve},     {CA_KEY_P256, show_point_at_infinity},
    };

    (void)state;
    shown = key_rsa_1024;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct ca_make_options options = {.key = rows[i].key,
                                          .uri = "pkcs11:token=leafd;object=new"};
        struct bytes pem;
        struct why why = {""};

        use_module(NULL, SOUND_C_GetAttributeValue, 0, rows[i].change);
        assert_int_equal(ca_make(&conf, &pin, &options, &pem, &why), LEAFD_TOKEN_UNAVAILABLE);
        assert_printable(why.text);
        assert_int_equal(sound_module_calls(SOUND_C_GenerateKeyPair), 1);
        assert_int_equal(sound_module_keys(), 0);
    }
}

static void fail_to_generate(struct sound_answer *answer)
{
    *(CK_OBJECT_HANDLE *)answer->out = 1; /* the key that was there before */
    answer->rv = CKR_DEVICE_ERROR;
}

static void handles_of_a_failure_are_not_destroyed(void **state)
{
    struct ca_make_options options = {.key = CA_KEY_P256, .uri = "pkcs11:token=leafd;object=new"};
    struct bytes pem;
    struct why why;

    (void)state;
    use_module(key_p256, SOUND_C_GenerateKeyPair, 0, fail_to_generate);
    assert_int_equal(ca_make(&conf, &pin, &options, &pem, &why), LEAFD_TOKEN_UNAVAILABLE);
    assert_int_equal(sound_module_calls(SOUND_C_DestroyObject), 0);
}

static void a_key_that_is_there_is_looked_at(void **state)
{
    struct ca_request_options options = {.existing = true,
                                         .ca.uri = "pkcs11:token=leafd;object=ca"};
    struct bytes pem = {NULL, 0};
    struct why why = {""};
    bool made;

    (void)state;
    use_module(key_rsa, SOUND_C_GetAttributeValue, 0, NULL);
    assert_int_equal(ca_request_make(&conf, &pin, &options, &pem, &made, &why), LEAFD_OK);
    free((void *)(uintptr_t)pem.data);
    use_module(key_rsa_1024, SOUND_C_GetAttributeValue, 0, NULL);
    assert_int_equal(ca_request_make(&conf, &pin, &options, &pem, &made, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "RSA of 1024 bits: leafd takes 2048 to 4096"));
    use_module(key_rsa, SOUND_C_GetAttributeValue, 0, show_even_modulus);
    assert_int_equal(ca_request_make(&conf, &pin, &options, &pem, &made, &why), LEAFD_CONFIG);
    assert_int_equal(sound_module_keys(), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_function_may_be_missing),
        cmocka_unit_test(a_module_without_a_good_list_is_refused),
        cmocka_unit_test(an_answer_without_a_name_is_told_by_number),
        cmocka_unit_test(more_slots_than_there_is_room_for),
        cmocka_unit_test(more_mechanisms_than_there_is_room_for),
        cmocka_unit_test(more_objects_than_were_asked_for),
        cmocka_unit_test(attributes_of_any_length),
        cmocka_unit_test(signatures_of_any_length),
        cmocka_unit_test(nothing_of_our_memory_lies_where_the_module_writes),
        cmocka_unit_test(any_number_of_sessions),
        cmocka_unit_test(texts_are_fit_to_be_printed),
        cmocka_unit_test(logging_in_may_end_in_any_way),
        cmocka_unit_test(a_key_that_is_none_is_destroyed),
        cmocka_unit_test(handles_of_a_failure_are_not_destroyed),
        cmocka_unit_test(a_key_that_is_there_is_looked_at),
    };

    return cmocka_run_group_tests(tests, make_all, remove_all);
}
