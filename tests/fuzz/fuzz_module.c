/* SPDX-License-Identifier: Apache-2.0 */
/* A PKCS#11 module that answers what it likes. The input says what is done with it, and then for
 * each answer of a sound module (tests/lib/sound_module.h) whether and how it is spoiled; where it
 * ends the answers are sound again. What must hold: every end is told in a sentence fit to be
 * printed, a refused PIN is not sent again, nothing is called before C_Initialize or after
 * C_Finalize, and a signature that is given out verifies.
 *
 * The first octets: what is done (below), the CA's key, sessions and lanes, rungs; then how many
 * rules (at most 3) of six octets each, for all answers of one call: which, after how many sound
 * ones, and how they are spoiled. */
#include "tests/fuzz/fuzz.h"

#include "base/log.h"
#include "pkcs11/backend.h"
#include "pkcs11/ca_make.h"
#include "pkcs11/ca_request.h"
#include "pkcs11/pin_refusals.h"
#include "pkcs11/signer.h"
#include "pkcs11/token_probe.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/sound_module.h"

#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

enum { RULES_MAX = 3, RULE_ARGS = 4, NOW_SEC = 1790000000, KEYS = 4 };

static const enum ca_key kinds[] = {CA_KEY_P256, CA_KEY_RSA_2048, CA_KEY_ED25519, CA_KEY_P384};

struct input {
    const uint8_t *data;
    size_t len;
};

struct rule {
    enum sound_call call;
    unsigned after;
    uint8_t args[RULE_ARGS];
};

/* One run. */
static struct {
    struct input input;
    struct rule rule[RULES_MAX];
    size_t rule_count;
    unsigned seen[SOUND_CALL_COUNT];
    bool is_renamed;  /* the token may have said that it is another one */
    bool has_refused; /* the PIN */
} run;

static struct {
    EVP_PKEY *key;
    struct ca_set *cas;
} made[KEYS];
static struct secret pin = SECRET_EMPTY;
static int refusals = -1;

static void make_all(void)
{
    static const char *const words[KEYS] = {"P-256", "RSA:2048", "ED25519", "P-384"};

    log_init("fuzz", LOG_LEVEL_ERROR);
    for (size_t i = 0; i < KEYS; i++) {
        struct bytes der;
        const struct ca *list[1];
        struct ca *ca;

        made[i].key = make_key(words[i]);
        der = make_ca("Fuzz CA", made[i].key, NOW_SEC);
        must(ca_read(der, 0, false, &ca, NULL) == LEAFD_OK);
        free((void *)(uintptr_t)der.data);
        list[0] = ca;
        made[i].cas = ca_set_new(list, 1, NULL);
        ca_unref(ca);
        must(made[i].cas);
    }
    must(secret_set(&pin, bytes_of("1234")) == LEAFD_OK);
    must(pin_refusals_make(&refusals, NULL) == LEAFD_OK);
    must(pin_refusals_use(refusals, NULL) == LEAFD_OK);
}

static uint8_t take(struct input *input)
{
    if (!input->len)
        return 0;
    input->len--;
    return *input->data++;
}

/* ---- spoiling ---- */

static const CK_RV answers[] = {
    CKR_OK,
    CKR_GENERAL_ERROR,
    CKR_BUFFER_TOO_SMALL,
    CKR_SESSION_HANDLE_INVALID,
    CKR_SESSION_CLOSED,
    CKR_SESSION_COUNT,
    CKR_USER_NOT_LOGGED_IN,
    CKR_USER_ALREADY_LOGGED_IN,
    CKR_USER_ANOTHER_ALREADY_LOGGED_IN,
    CKR_PIN_INCORRECT,
    CKR_PIN_LOCKED,
    CKR_PIN_LEN_RANGE,
    CKR_DEVICE_ERROR,
    CKR_DEVICE_REMOVED,
    CKR_TOKEN_NOT_PRESENT,
    CKR_CRYPTOKI_NOT_INITIALIZED,
    CKR_CRYPTOKI_ALREADY_INITIALIZED,
    CKR_CANT_LOCK,
    CKR_OBJECT_HANDLE_INVALID,
    CKR_KEY_HANDLE_INVALID,
    CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_MECHANISM_INVALID,
    CKR_ATTRIBUTE_SENSITIVE,
    CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_OPERATION_ACTIVE,
    CKR_OPERATION_NOT_INITIALIZED,
    CKR_DATA_LEN_RANGE,
    CKR_TEMPLATE_INCONSISTENT,
    CKR_FUNCTION_NOT_SUPPORTED,
    CKR_HOST_MEMORY,
    0x80000001,
    ~0UL,
};

static CK_ULONG odd_number(uint8_t how, CK_ULONG sound)
{
    static const CK_ULONG numbers[] = {
        0,        1,    2,    8,          9,       64,        65,         255,      1024,
        1025,     4096, 4097, UINT16_MAX, INT_MAX, 1UL << 32, UINT32_MAX, LONG_MAX, ULONG_MAX - 1,
        ULONG_MAX};

    if (how >= 0xf0)
        return sound + how - 0xf8; /* a little more, a little less */
    return numbers[how % (sizeof(numbers) / sizeof(numbers[0]))];
}

static bool is_refusal(CK_RV rv)
{
    return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE ||
           rv == CKR_PIN_LOCKED || rv == CKR_PIN_EXPIRED || rv == CKR_USER_PIN_NOT_INITIALIZED;
}

static void overwrite(struct sound_answer *answer, struct input *input)
{
    uint8_t *out = answer->out;
    size_t at = take(input);
    size_t len = take(input) % 40u;
    uint8_t c = take(input);

    for (size_t i = 0; out && i < len && at + i < answer->size; i++)
        out[at + i] = len & 1 ? c : take(input);
    if (answer->call == SOUND_C_GetTokenInfo)
        run.is_renamed = true;
}

/* Only what the standard lets a reader trust in is left: that it can be read. */
static void spoil_list(struct sound_answer *answer, struct input *input)
{
    CK_FUNCTION_LIST *list = answer->out;
    uint8_t how = take(input);

    if (how == 0xff)
        list->version.major = take(input);
#define LEAVE_OUT(name)                                                                            \
    if (how == SOUND_##name)                                                                       \
        list->name = NULL;
    SOUND_CALLS(LEAVE_OUT)
#undef LEAVE_OUT
}

static void spoil_as_told(struct sound_answer *answer, struct input *input)
{
    uint8_t how = take(input);

    if (how < 0xe0) /* most octets mean nothing, or a long way would never be gone */
        return;
    if (how & 1)
        answer->rv = answers[take(input) % (sizeof(answers) / sizeof(answers[0]))];
    if (how & 2 && answer->count)
        *answer->count = odd_number(take(input), *answer->count);
    if (answer->call == SOUND_C_GetFunctionList)
        spoil_list(answer, input);
    else if (how & 4)
        overwrite(answer, input);
    if (how & 8 && answer->attribute)
        answer->attribute->type = take(input);
    if (how & 16)
        answer->rv = CKR_OK;
}

static void spoil(void *ctx, struct sound_answer *answer)
{
    unsigned seen = run.seen[answer->call]++;

    (void)ctx;
    if (answer->call == SOUND_C_Login)
        must(!run.has_refused || run.is_renamed);
    for (size_t i = 0; i < run.rule_count; i++) {
        struct input args = {run.rule[i].args, RULE_ARGS};

        if (run.rule[i].call == answer->call && seen >= run.rule[i].after)
            spoil_as_told(answer, &args);
    }
    spoil_as_told(answer, &run.input);
    if (answer->call == SOUND_C_Login && is_refusal(answer->rv))
        run.has_refused = true;
}

/* ---- what is done with it ---- */

static void must_be_printable(const char *text, size_t size)
{
    must(memchr(text, '\0', size));
    for (; *text; text++)
        must((uint8_t)*text >= 0x20 && *text != 0x7f);
}

#define MUST_BE_PRINTABLE(array) must_be_printable(array, sizeof(array))

static void must_be_told(enum leafd_err err, const struct why *why)
{
    MUST_BE_PRINTABLE(why->text);
    must(err == LEAFD_NOMEM || why->text[0]);
}

static void must_verify(EVP_PKEY *key, struct bytes text, const uint8_t *signature, size_t len)
{
    const EVP_MD *md = EVP_PKEY_is_a(key, "ED25519")   ? NULL
                       : EVP_PKEY_get_bits(key) == 384 ? EVP_sha384()
                                                       : EVP_sha256();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    must(EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) == 1 &&
         EVP_DigestVerify(ctx, signature, len, text.data, text.len) == 1);
    EVP_MD_CTX_free(ctx);
}

static void sign_some(struct backend *backend, EVP_PKEY *key, unsigned lanes)
{
    static const uint8_t text[100] = "not a certificate";
    struct bytes tbs = {text, sizeof(text)};

    for (unsigned i = 0; i < lanes; i++) {
        struct backend_lane *lane;
        struct why why = {""};
        enum leafd_err err = backend_lane_open(backend, &lane, &why);

        if (err != LEAFD_OK) {
            must_be_told(err, &why);
            return;
        }
        for (int k = 0; k < 2; k++) {
            uint8_t signature[SIGN_SIGNATURE_MAX];
            size_t len = 0;

            why.text[0] = '\0';
            err = backend_lane_sign(lane, 0, tbs, signature, sizeof(signature), &len, &why);
            if (err == LEAFD_OK)
                must_verify(key, tbs, signature, len);
            else
                must_be_told(err, &why);
        }
        backend_lane_close(lane);
    }
}

static void drive_backend(const struct conf *conf, size_t which, uint8_t rungs)
{
    struct backend_counters counters;
    struct backend *backend;

    must(backend_new(conf, 0, made[which].cas, &pin, &backend, NULL) == LEAFD_OK);
    for (int i = 0; i < 3; i++) {
        enum rung rung = i == 0 ? RUNG_MODULE : RUNG_SESSION + (rungs >> 2 * i & 3) % 3;
        struct why why = {""};
        enum leafd_err err = backend_renew(backend, rung, &why);

        if (err == LEAFD_OK) {
            unsigned lanes = backend_lanes(backend);

            must(lanes >= 1 && lanes <= conf->token[0].sessions);
            sign_some(backend, made[which].key, lanes < 2 ? lanes : 2);
            err = backend_check(backend, &why);
            backend_keep_alive(backend);
            sign_some(backend, made[which].key, 1);
        }
        if (err != LEAFD_OK)
            must_be_told(err, &why);
        backend_count(backend, &counters);
    }
    backend_close(backend);
}

static void must_be_fit_token(const struct token_description *token)
{
    MUST_BE_PRINTABLE(token->label);
    MUST_BE_PRINTABLE(token->manufacturer);
    MUST_BE_PRINTABLE(token->model);
    MUST_BE_PRINTABLE(token->serial);
    MUST_BE_PRINTABLE(token->mechanisms);
    must(token->signing_count <= CONF_CA_MAX);
    for (size_t i = 0; i < token->signing_count; i++)
        MUST_BE_PRINTABLE(token->signing[i].missing);
}

static void drive_list(const struct conf *conf, size_t which)
{
    struct token_description *list = NULL;
    struct why why = {""};
    size_t count = 0;
    enum leafd_err err = token_list(conf, 0, made[which].cas, &list, &count, &why);

    if (err != LEAFD_OK)
        must_be_told(err, &why);
    for (size_t i = 0; i < count; i++)
        must_be_fit_token(&list[i]);
    free(list);
}

static void must_be_fit_facts(const struct token_facts *facts)
{
    MUST_BE_PRINTABLE(facts->module.description);
    MUST_BE_PRINTABLE(facts->module.manufacturer);
    must(facts->mechanism_count <= TOKEN_MECHANISMS_MAX);
    must(facts->sessions_opened <= facts->sessions_tried);
    must_be_fit_token(&facts->token);
}

static void must_be_fit_key(const struct token_probe_key *key)
{
    MUST_BE_PRINTABLE(key->key.token);
    MUST_BE_PRINTABLE(key->key.label);
    MUST_BE_PRINTABLE(key->key.id);
    MUST_BE_PRINTABLE(key->failure);
    must(key->rate_count <= TOKEN_RATES_MAX);
}

/* With one session, since one thread at a time makes a run like another one with its input. */
static void drive_probe(const struct conf *conf, size_t which, uint8_t what)
{
    static struct token_probe report; /* too large for the stack */
    enum ca_key only = kinds[what >> 4 & 3];
    struct token_probe_options options = {
        .uri = what & 0x40   ? "pkcs11:token=leafd"
               : what & 0x80 ? "pkcs11:token=leafd;object=ca"
                             : NULL,
        .make_keys = true,
        .only = &only,
        .sessions = 1,
    };
    struct why why = {""};
    enum leafd_err err = token_probe(conf, made[which].cas, &pin, &options, &report, &why);

    if (err != LEAFD_OK) {
        must_be_told(err, &why);
        return;
    }
    if (report.err != LEAFD_OK)
        must_be_told(report.err, &report.why);
    must_be_fit_facts(&report.facts);
    must(report.key_count <= TOKEN_PROBE_KEYS_MAX);
    for (size_t i = 0; i < report.key_count; i++)
        must_be_fit_key(&report.key[i]);
}

static void must_verify_itself(struct bytes pem, bool is_request)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);

    if (is_request) {
        X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);

        must(request && X509_REQ_verify(request, X509_REQ_get0_pubkey(request)) == 1);
        X509_REQ_free(request);
    } else {
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        must(cert && X509_verify(cert, X509_get0_pubkey(cert)) == 1);
        X509_free(cert);
    }
    BIO_free(bio);
}

static void drive_ca(const struct conf *conf, uint8_t what)
{
    struct ca_request_options options = {
        .ca.key = kinds[what >> 4 & 3],
        .ca.uri = what & 8 ? "pkcs11:token=leafd;object=new" : "pkcs11:token=leafd;object=ca",
        .existing = what & 0x40,
    };
    bool is_request = what & 1;
    struct bytes pem = {NULL, 0};
    struct why why = {""};
    bool is_new;
    enum leafd_err err = is_request ? ca_request_make(conf, &pin, &options, &pem, &is_new, &why)
                                    : ca_make(conf, &pin, &options.ca, &pem, &why);

    if (err == LEAFD_OK)
        must_verify_itself(pem, is_request);
    else
        must_be_told(err, &why);
    free((void *)(uintptr_t)pem.data);
}

static void take_rules(void)
{
    run.rule_count = take(&run.input) % (RULES_MAX + 1);
    for (size_t i = 0; i < run.rule_count; i++) {
        struct rule *rule = &run.rule[i];

        rule->call = take(&run.input) % SOUND_CALL_COUNT;
        rule->after = take(&run.input);
        for (size_t k = 0; k < RULE_ARGS; k++)
            rule->args[k] = take(&run.input);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct conf conf = {
        .ca_count = 1,
        .ca = {{(char *)"ca.pem", (char *)"pkcs11:token=leafd;object=ca;type=private"}},
        .token[0].module = (char *)"module.so",
        .token_count = 1,
    };
    uint8_t what, which, sessions, rungs;

    if (refusals == -1)
        make_all();
    memset(&run, 0, sizeof(run));
    run.input = (struct input){data, size};
    what = take(&run.input);
    which = take(&run.input) % KEYS;
    sessions = take(&run.input);
    rungs = take(&run.input);
    take_rules();
    conf.token[0].sessions = 1 + sessions % 4u;

    pin_refusals_forget(refusals);
    sound_module_begin(spoil, NULL);
    sound_module_add_key(made[which].key);
    switch (what & 7) {
    case 1:
        drive_list(&conf, which);
        break;
    case 2:
        drive_probe(&conf, which, what);
        break;
    case 3:
    case 4:
        drive_ca(&conf, what);
        break;
    default:
        drive_backend(&conf, which, rungs);
    }
    must(sound_module_misuses() == 0);
    must(ERR_peek_error() == 0);
    return 0;
}
