/* SPDX-License-Identifier: Apache-2.0 */
/* The signer process, over real socket pairs and with real threads: key files behind it, and the
 * fake PKCS#11 module (tests/lib/fake_pkcs11.c) where a token has to come and go. */
#include "config.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/signer_client.h"
#include "pkcs11/signer_msg.h"
#include "pkcs11/signer_process.h"
#include "pkcs11/verify_rule.h"
#include "tests/lib/fake_signer.h"
#include "tests/lib/unit.h"

#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000, FAR_MS = 180000, DAY_SEC = 86400 };

/* Made once. */
static char dir[] = "/tmp/test_signer.XXXXXX";
static char key_path[64], other_key_path[64], control_path[64], counters_path[64], module_path[512];
static struct ca *ca;
static EVP_PKEY *ca_key, *leaf_key;
static struct ca_set *configured;

/* ---- a TBSCertificate as the front writes it ---- */

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static void hex_of(struct bytes raw, const char *before, char *out, size_t size)
{
    assert_true(strlen(before) + 2 * raw.len < size);
    strcpy(out, before);
    bytes_hex(raw, out + strlen(before));
}

static void add_key_ids(X509 *cert, const struct ca *of)
{
    uint8_t digest[SHA256_DIGEST_LENGTH], aki[64] = {0x30, 0, 0x80};
    const ASN1_BIT_STRING *key = X509_get0_pubkey_bitstr(cert);
    char text[128];

    SHA256(ASN1_STRING_get0_data(key), (size_t)ASN1_STRING_length(key), digest);
    hex_of((struct bytes){digest, 20}, "", text, sizeof(text));
    add_extension(cert, NID_subject_key_identifier, text);
    assert_true(of->key_id.len < 32);
    aki[1] = (uint8_t)(of->key_id.len + 2);
    aki[3] = (uint8_t)of->key_id.len;
    memcpy(aki + 4, of->key_id.data, of->key_id.len);
    hex_of((struct bytes){aki, of->key_id.len + 4}, "DER:", text, sizeof(text));
    add_extension(cert, NID_authority_key_identifier, text);
}

/* A new serial each time; free(data). */
static struct bytes make_tbs(const struct ca *of, const char *san, const char *eku)
{
    X509 *cert = X509_new();
    const unsigned char *at = of->subject.data;
    X509_NAME *issuer = d2i_X509_NAME(NULL, &at, (long)of->subject.len);
    uint8_t serial[20], *der = NULL;
    BIGNUM *number;
    struct bytes tbs;
    int len;

    assert_int_equal(RAND_bytes(serial, sizeof(serial)), 1);
    serial[0] = 0x40 | (serial[0] & 0x3f);
    number = BN_bin2bn(serial, sizeof(serial), NULL);
    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert));
    BN_free(number);
    X509_set_version(cert, X509_VERSION_3);
    X509_set_issuer_name(cert, issuer);
    ASN1_TIME_set(X509_getm_notBefore(cert), clock_wall_sec() - DAY_SEC);
    ASN1_TIME_set(X509_getm_notAfter(cert), clock_wall_sec() + 90 * DAY_SEC);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_UTF8,
                               (const unsigned char *)"example.org", -1, -1, 0);
    X509_set_pubkey(cert, leaf_key);
    add_extension(cert, NID_key_usage, "critical,digitalSignature");
    add_extension(cert, NID_ext_key_usage, eku);
    add_extension(cert, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(cert, NID_subject_alt_name, san);
    add_key_ids(cert, of);
    assert_true(X509_sign(cert, leaf_key, EVP_sha256()) > 0); /* for the algorithm alone */
    len = i2d_re_X509_tbs(cert, &der);
    assert_true(len > 0);
    tbs = bytes_copy((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    X509_NAME_free(issuer);
    X509_free(cert);
    return tbs;
}

static struct bytes good_tbs(const struct ca *of)
{
    return make_tbs(of, "DNS:example.org", "serverAuth");
}

/* `ms`, and more on a machine that leaves threads without a processor for long: a call that takes
 * longer hangs. */
static int hang_ms(int ms)
{
    int64_t worst_ms = 0;

    for (int turn = 0; turn < 10; turn++) {
        int64_t began_ms = clock_mono_ms(), took_ms;
        struct bytes tbs = good_tbs(ca); /* a key's work, as a signature is */

        free((void *)(uintptr_t)tbs.data);
        took_ms = clock_mono_ms() - began_ms;
        worst_ms = took_ms > worst_ms ? took_ms : worst_ms;
    }
    return ms + 20 * (int)worst_ms;
}

static bool verifies(const struct ca *of, struct bytes tbs, const uint8_t *signature, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, of->public_key) == 1 &&
                EVP_DigestVerify(ctx, signature, len, tbs.data, tbs.len) == 1;

    EVP_MD_CTX_free(ctx);
    return good;
}

/* ---- answers ---- */

struct answer {
    atomic_int calls;
    enum leafd_err err;
    uint8_t signature[SIGN_SIGNATURE_MAX];
    size_t signature_len;
    uint64_t batch;
};

static void collect(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch)
{
    struct answer *answer = ctx;

    answer->err = err;
    answer->signature_len = signature.len;
    answer->batch = batch;
    if (signature.len)
        memcpy(answer->signature, signature.data, signature.len);
    atomic_fetch_add(&answer->calls, 1);
}

static enum leafd_err wait_for(struct answer *answer)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    while (atomic_load(&answer->calls) == 0) {
        if (clock_mono_ms() > until_ms)
            fail_msg("no answer");
        poll(NULL, 0, 1);
    }
    assert_int_equal(atomic_load(&answer->calls), 1);
    return answer->err;
}

static void ask(struct signer *client, const struct ca *of, struct bytes tbs, int64_t deadline_ms,
                struct answer *answer)
{
    const struct sign_request request = {.ca_id = of->id,
                                         .ca_generation = of->generation,
                                         .tbs = tbs,
                                         .audit = bytes_of("example.org"),
                                         .deadline_ms = deadline_ms};

    memset(answer, 0, sizeof(*answer));
    signer_sign(client, &request, collect, answer);
}

/* Asks and waits; LEAFD_OK only with a signature that verifies. */
static enum leafd_err sign(struct signer *client, const struct ca *of, struct bytes tbs)
{
    struct answer answer;
    enum leafd_err err;

    ask(client, of, tbs, clock_mono_ms() + FAR_MS, &answer);
    err = wait_for(&answer);
    if (!err)
        assert_true(verifies(of, tbs, answer.signature, answer.signature_len));
    return err;
}

static enum leafd_err sign_new(struct signer *client, const struct ca *of)
{
    struct bytes tbs = good_tbs(of);
    enum leafd_err err = sign(client, of, tbs);

    free((void *)(uintptr_t)tbs.data);
    return err;
}

/* ---- a signer and its front ---- */

struct pair {
    struct conf conf;
    struct conf_env env;
    struct signer_process *process;
    struct signer *client;
    int look_ms; /* how long events look whether the front heard of them first */
    bool heard_before_us;
    atomic_int signing, pin_refused, replace_me;
};

static void look(struct pair *pair, enum signer_state state)
{
    int64_t until_ms = clock_mono_ms() + pair->look_ms;
    struct signer_status status;

    while (!pair->heard_before_us && clock_mono_ms() < until_ms) {
        poll(NULL, 0, 1);
        signer_status(pair->client, &status);
        pair->heard_before_us = status.state == state;
    }
}

static void note_signing(void *ctx)
{
    struct pair *pair = ctx;

    look(pair, SIGNER_READY);
    atomic_fetch_add(&pair->signing, 1);
}

static void note_pin_refused(void *ctx)
{
    struct pair *pair = ctx;

    look(pair, SIGNER_PIN_BLOCKED);
    atomic_fetch_add(&pair->pin_refused, 1);
}

static void note_replace_me(void *ctx, bool at_once)
{
    (void)at_once;
    atomic_fetch_add(&((struct pair *)ctx)->replace_me, 1);
}

static const struct signer_process_events events = {note_signing, note_pin_refused,
                                                    note_replace_me};

static void serve(struct signer_process *process, struct signer *client, unsigned index)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    signer_process_serve(process, ends[0]);
    signer_client_connect(client, 0, index, ends[1]);
}

/* Key files, two lanes; a test changes what it wants before pair_start. */
static void pair_init(struct pair *pair)
{
    memset(pair, 0, sizeof(*pair));
    pair->conf = (struct conf){.ca_count = 1,
                               .ca = {{(char *)"ca.pem", key_path}},
                               .untrusted = CONF_UNTRUSTED_AUTO,
                               .token[0].access = CONF_ACCESS_FILE,
                               .insecure_file_key = true,
                               .token[0].sessions = 2,
                               .token[0].timeout_ms = 2000,
                               .flights_max = 4096};
}

static void pair_init_token(struct pair *pair)
{
    pair_init(pair);
    pair->env = (struct conf_env){(char *)"FAKE_PKCS11_CONTROL", control_path};
    pair->conf.token[0].access = CONF_ACCESS_NATIVE;
    pair->conf.ca[0].key = (char *)"pkcs11:token=leafd;object=ca;type=private";
    pair->conf.token[0].module = module_path;
    pair->conf.token[0].env = &pair->env;
    pair->conf.token[0].env_count = 1;
}

static enum leafd_err pair_start(struct pair *pair, const char *pin)
{
    struct secret secret = SECRET_EMPTY;
    struct why why = {""};
    enum leafd_err err;

    if (pin)
        assert_int_equal(secret_set(&secret, bytes_of(pin)), LEAFD_OK);
    err = signer_process_new(&pair->conf, 0, configured, &secret, &events, pair, &pair->process,
                             &why);
    assert_string_equal(why.text, "");
    assert_int_equal(err, LEAFD_OK);
    assert_null(secret.data);
    assert_int_equal(
        signer_client_new(configured, CONF_TOKEN_MAX, CONF_TOKEN_PREFER_FIRST, 8192, &pair->client),
        LEAFD_OK);
    serve(pair->process, pair->client, 0);
    return signer_process_start(pair->process, &why);
}

static void pair_free(struct pair *pair)
{
    assert_true(signer_process_free(pair->process, clock_mono_ms() + PATIENCE_MS));
    signer_free(pair->client);
}

static void wait_for_state(struct signer *client, enum signer_state state,
                           struct signer_status *ret)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    for (signer_status(client, ret); ret->state != state; signer_status(client, ret)) {
        if (clock_mono_ms() > until_ms)
            fail_msg("the state stays %s: %s", signer_state_name(ret->state), ret->text);
        poll(NULL, 0, 1);
    }
}

/* The state that goes with it may be seen first. */
static void assert_replacement_asked_once(struct pair *pair)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    while (!atomic_load(&pair->replace_me) && clock_mono_ms() < until_ms)
        poll(NULL, 0, 1);
    assert_int_equal(atomic_load(&pair->replace_me), 1);
}

static struct ca_set *wait_for_untrusted(struct signer *client)
{
    struct signer_status status;

    wait_for_state(client, SIGNER_READY, &status);
    return signer_cas(client);
}

/* ---- key files ---- */

static void it_signs_for_every_ca(void **state)
{
    struct pair pair;
    struct ca_set *cas;
    struct signer_status status;

    (void)state;
    pair_init(&pair);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    cas = wait_for_untrusted(pair.client);
    assert_non_null(cas->untrusted);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(sign_new(pair.client, cas->ca[0]), LEAFD_OK);
        assert_int_equal(sign_new(pair.client, cas->untrusted), LEAFD_OK);
    }
    do { /* the counters follow within a second or so */
        signer_status(pair.client, &status);
        poll(NULL, 0, 1);
    } while (status.tally.signatures != 40);
    assert_int_equal(status.lanes, 2);
    assert_int_equal(status.tally.failures, 0);
    assert_int_equal(status.tally.refusals, 0);
    ca_set_unref(cas);
    pair_free(&pair);
}

/* A signer that dies as soon as somebody has seen it sign has started all the same. */
static void the_supervisor_hears_of_it_first(void **state)
{
    struct pair pair;
    struct signer_status status;

    (void)state;
    pair_init(&pair);
    pair.look_ms = 50;
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(atomic_load(&pair.signing), 1);
    assert_false(pair.heard_before_us);
    pair_free(&pair);
}

static void what_breaks_a_rule_is_refused(void **state)
{
    struct pair pair;
    struct ca_set *cas;
    struct bytes tbs;
    struct signer_status status;

    (void)state;
    pair_init(&pair);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    cas = wait_for_untrusted(pair.client);
    tbs = make_tbs(ca, "DNS:example.org", "serverAuth,clientAuth");
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_REFUSED);
    free((void *)(uintptr_t)tbs.data);
    assert_int_equal(sign(pair.client, ca, bytes_of("no certificate")), LEAFD_REFUSED);
    tbs = good_tbs(ca); /* the trusted one's, for the untrusted one */
    assert_int_equal(sign(pair.client, cas->untrusted, tbs), LEAFD_REFUSED);
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_OK);
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_REFUSED); /* the same TBS again */
    free((void *)(uintptr_t)tbs.data);
    do {
        signer_status(pair.client, &status);
        poll(NULL, 0, 1);
    } while (status.tally.refusals != 4);
    ca_set_unref(cas);
    pair_free(&pair);
}

static void the_budget_is_kept(void **state)
{
    struct pair pair;
    struct signer_status status;
    int busy = 0, good = 0;

    (void)state;
    pair_init(&pair);
    pair.conf.signer_max_rate = 0.001;
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    for (int i = 0; i < 10; i++) {
        enum leafd_err err = sign_new(pair.client, ca);

        good += err == LEAFD_OK;
        busy += err == LEAFD_BUSY;
    }
    assert_int_equal(good, 1);
    assert_int_equal(busy, 9);
    pair_free(&pair);
}

static void a_wrong_key_ends_the_start(void **state)
{
    struct pair pair;

    (void)state;
    pair_init(&pair);
    pair.conf.ca[0].key = other_key_path;
    assert_int_equal(pair_start(&pair, NULL), LEAFD_CONFIG);
    pair_free(&pair);
}

/* Untrusted CAs live and die with their process. */
static void a_new_process_has_another_untrusted_ca(void **state)
{
    struct pair pair, next;
    struct ca_set *before, *after;
    struct signer_status status;

    (void)state;
    pair_init(&pair);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    before = wait_for_untrusted(pair.client);
    signer_process_free(pair.process, clock_mono_ms() + PATIENCE_MS);
    wait_for_state(pair.client, SIGNER_DOWN, &status);

    pair_init(&next);
    assert_int_equal(pair_start(&next, NULL), LEAFD_OK);
    serve(next.process, pair.client, 0);
    wait_for_state(pair.client, SIGNER_READY, &status);
    after = signer_cas(pair.client);
    assert_true(after->untrusted->generation != before->untrusted->generation);
    assert_int_equal(sign_new(pair.client, before->untrusted), LEAFD_AGAIN);
    assert_int_equal(sign_new(pair.client, after->untrusted), LEAFD_OK);
    ca_set_unref(before);
    ca_set_unref(after);
    signer_free(pair.client);
    pair_free(&next);
}

/* ---- a front that was taken over ---- */

static struct bytes next_message(int fd, uint8_t *out, size_t size)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};
    ssize_t len;

    assert_int_equal(poll(&in, 1, PATIENCE_MS), 1);
    len = recv(fd, out, size, 0);
    assert_true(len > 0);
    return (struct bytes){out, (size_t)len};
}

static struct signer_msg_reply next_reply(int fd, uint8_t *room, size_t size)
{
    struct signer_msg_reply reply;
    struct bytes message;

    do {
        message = next_message(fd, room, size);
    } while (signer_msg_kind(message) == SIGNER_MSG_STATE);
    assert_int_equal(signer_msg_read_reply(message, &reply), LEAFD_OK);
    return reply;
}

static void say(int fd, const void *message, size_t len)
{
    assert_int_equal(send(fd, message, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void ask_raw(int fd, uint64_t id, uint16_t ca_id, uint64_t generation, int64_t deadline_ms,
                    struct bytes tbs)
{
    const struct sign_request request = {
        .ca_id = ca_id, .ca_generation = generation, .tbs = tbs, .deadline_ms = deadline_ms};
    uint8_t message[SIGNER_MSG_SIGN_MAX];

    say(fd, message, signer_msg_write_sign(id, &request, message, sizeof(message)));
}

static void hostile_bytes_harm_nobody(void **state)
{
    static uint8_t room[SIGNER_MSG_SIGN_MAX + 4096];
    struct pair pair;
    struct bytes tbs = good_tbs(ca);
    struct signer_msg_reply reply;
    struct signer_status status;
    int ends[2];

    (void)state;
    pair_init(&pair);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    signer_process_serve(pair.process, ends[0]);

    for (size_t len = 1; len < 64; len++) { /* noise, none of it with an id */
        RAND_bytes(room, (int)len);
        room[0] = (uint8_t)(len % 2 ? SIGNER_MSG_STATE : 0xff);
        say(ends[1], room, len);
    }
    memset(room, SIGNER_MSG_SIGN, sizeof(room)); /* larger than any */
    say(ends[1], room, sizeof(room));
    assert_int_equal(next_reply(ends[1], room, sizeof(room)).err, LEAFD_REFUSED);
    ask_raw(ends[1], 7, ca->id, ca->generation, -1, tbs); /* no such time */
    reply = next_reply(ends[1], room, sizeof(room));
    assert_int_equal(reply.id, 7);
    assert_int_equal(reply.err, LEAFD_REFUSED);
    ask_raw(ends[1], 8, ca->id, ca->generation, clock_mono_ms(), tbs); /* nobody waits */
    assert_int_equal(next_reply(ends[1], room, sizeof(room)).err, LEAFD_TIMEOUT);
    ask_raw(ends[1], 9, ca->id, ca->generation + 1, clock_mono_ms() + FAR_MS, tbs);
    assert_int_equal(next_reply(ends[1], room, sizeof(room)).err, LEAFD_AGAIN);
    ask_raw(ends[1], 10, 77, ca->generation, clock_mono_ms() + FAR_MS, tbs);
    assert_int_equal(next_reply(ends[1], room, sizeof(room)).err, LEAFD_REFUSED);
    ask_raw(ends[1], 11, ca->id, ca->generation, INT64_MAX, tbs);
    reply = next_reply(ends[1], room, sizeof(room));
    assert_int_equal(reply.id, 11);
    assert_int_equal(reply.err, LEAFD_OK);
    assert_true(verifies(ca, tbs, reply.signature.data, reply.signature.len));
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK); /* the other front */
    close(ends[1]);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    free((void *)(uintptr_t)tbs.data);
    pair_free(&pair);
}

/* A front that asks and asks, and reads no answer, holds up nobody for ever. */
static void a_front_that_does_not_read_is_left_behind(void **state)
{
    struct pair pair;
    struct signer_status status;
    int ends[2];

    (void)state;
    pair_init(&pair);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends),
                     0);
    signer_process_serve(pair.process, ends[0]);
    for (uint64_t id = 1; id < 3000; id++) {
        const struct sign_request request = {.ca_id = ca->id,
                                             .ca_generation = ca->generation,
                                             .tbs = bytes_of("nothing"),
                                             .deadline_ms = clock_mono_ms() + 100};
        uint8_t message[SIGNER_MSG_SIGN_MAX];
        size_t len = signer_msg_write_sign(id, &request, message, sizeof(message));

        if (send(ends[1], message, len, MSG_NOSIGNAL) < 0)
            break;
    }
    close(ends[1]);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    pair_free(&pair);
}

/* ---- many at once ---- */

enum { ASKERS = 4, ASKED_EACH = 250 };

struct asker {
    struct signer *client;
    int count;
    atomic_int good, again, other;
    pthread_t thread;
};

static void tally(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch)
{
    struct asker *asker = ctx;

    (void)signature;
    (void)batch;
    atomic_fetch_add(err == LEAFD_OK      ? &asker->good
                     : err == LEAFD_AGAIN ? &asker->again
                                          : &asker->other,
                     1);
}

static void *ask_much(void *arg)
{
    struct asker *asker = arg;

    for (int i = 0; i < asker->count; i++) {
        struct bytes tbs = good_tbs(ca);
        const struct sign_request request = {.ca_id = ca->id,
                                             .ca_generation = ca->generation,
                                             .tbs = tbs,
                                             .deadline_ms = clock_mono_ms() + FAR_MS};

        signer_sign(asker->client, &request, tally, asker);
        free((void *)(uintptr_t)tbs.data);
    }
    return NULL;
}

static void start_askers(struct asker *asker, struct signer *client, int each)
{
    memset(asker, 0, ASKERS * sizeof(*asker));
    for (int i = 0; i < ASKERS; i++) {
        asker[i].client = client;
        asker[i].count = each;
        assert_int_equal(pthread_create(&asker[i].thread, NULL, ask_much, &asker[i]), 0);
    }
}

/* All answered; the number of signatures. */
static int end_askers(struct asker *asker)
{
    int64_t until_ms = clock_mono_ms() + 3 * PATIENCE_MS;
    int good = 0, answered = 0;

    for (int i = 0; i < ASKERS; i++)
        pthread_join(asker[i].thread, NULL);
    while (answered < ASKERS * asker[0].count) {
        assert_true(clock_mono_ms() < until_ms);
        good = answered = 0;
        for (int i = 0; i < ASKERS; i++) {
            good += atomic_load(&asker[i].good);
            answered += atomic_load(&asker[i].good) + atomic_load(&asker[i].again);
            assert_int_equal(atomic_load(&asker[i].other), 0);
        }
        poll(NULL, 0, 1);
    }
    assert_int_equal(answered, ASKERS * asker[0].count);
    return good;
}

static void many_are_answered_by_two_processes(void **state)
{
    struct pair pair, other;
    struct signer_status status;
    struct asker asker[ASKERS];

    (void)state;
    pair_init(&pair);
    pair_init(&other);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    assert_int_equal(pair_start(&other, NULL), LEAFD_OK);
    serve(other.process, pair.client, 1);
    wait_for_state(pair.client, SIGNER_READY, &status);
    start_askers(asker, pair.client, ASKED_EACH);
    assert_int_equal(end_askers(asker), ASKERS * ASKED_EACH);
    pair_free(&pair);
    pair_free(&other);
}

/* A process that is told to stop in the middle of it: all are answered, by it or with AGAIN. */
static void nobody_is_forgotten_at_the_end(void **state)
{
    struct pair pair;
    struct signer_status status;
    struct asker asker[ASKERS];
    int good;

    (void)state;
    pair_init(&pair);
    assert_int_equal(pair_start(&pair, NULL), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    start_askers(asker, pair.client, ASKED_EACH);
    while (atomic_load(&asker[0].good) < 10)
        poll(NULL, 0, 1);
    signer_process_free(pair.process, clock_mono_ms() + PATIENCE_MS);
    pair_init(&pair);
    {
        struct pair next;

        pair_init(&next);
        assert_int_equal(pair_start(&next, NULL), LEAFD_OK);
        serve(next.process, asker[0].client, 0); /* what was held goes here */
        good = end_askers(asker);
        assert_true(good > 10);
        signer_free(asker[0].client);
        pair_free(&next);
    }
}

/* ---- a token that comes and goes ---- */

/* Writes the control file: the key in `key`, if any, and `lines`. */
static void control_key(const char *key, const char *lines)
{
    char next[80];
    FILE *file;

    snprintf(next, sizeof(next), "%s.next", control_path);
    file = fopen(next, "w");
    assert_non_null(file);
    fprintf(file, "counters = %s\n", counters_path);
    if (key)
        fprintf(file, "key = label=ca id=01 file=%s\n", key);
    fprintf(file, "%s\n", lines);
    fclose(file);
    assert_int_equal(rename(next, control_path), 0);
}

static void control(const char *lines)
{
    control_key(key_path, lines);
}

/* What the module has counted. */
static unsigned long counter(const char *name)
{
    FILE *file = fopen(counters_path, "r");
    char line[64], found[32];
    unsigned long value;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, "%31s %lu", found, &value) == 2 && strcmp(found, name) == 0) {
            fclose(file);
            return value;
        }
    }
    fail_msg("no counter %s", name);
    return 0;
}

static void an_absent_token_is_waited_for(void **state)
{
    struct pair pair;
    struct signer_status status;
    struct answer answer;
    struct bytes tbs = good_tbs(ca);

    (void)state;
    control("present = no\n");
    pair_init_token(&pair);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    ask(pair.client, ca, tbs, clock_mono_ms() + FAR_MS, &answer);
    do {
        signer_status(pair.client, &status);
        poll(NULL, 0, 1);
    } while (!strstr(status.text, "leafd")); /* it names the token that is missing */
    assert_int_equal(atomic_load(&answer.calls), 0);
    control("present = yes\n");
    assert_int_equal(wait_for(&answer), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_string_equal(status.text, "");
    assert_true(status.tally.logins >= 1);
    free((void *)(uintptr_t)tbs.data);
    pair_free(&pair);
}

static void a_lost_token_comes_back(void **state)
{
    struct pair pair;
    struct signer_status status;
    struct answer answer;
    struct bytes tbs = good_tbs(ca);
    enum leafd_err err;

    (void)state;
    control("present = yes\n");
    pair_init_token(&pair);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);

    control("present = no\n");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    ask(pair.client, ca, tbs, clock_mono_ms() + FAR_MS, &answer);
    assert_int_equal(atomic_load(&answer.calls), 0); /* held in the front */
    control("present = yes\n");
    err = wait_for(&answer);
    assert_int_equal(err, LEAFD_OK);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    assert_int_equal(atomic_load(&pair.pin_refused), 0);
    free((void *)(uintptr_t)tbs.data);
    pair_free(&pair);
}

/* While many ask: each gets a signature, or hears that it may ask again. */
static void a_failing_token_loses_nobody(void **state)
{
    struct pair pair;
    struct asker asker[ASKERS];

    (void)state;
    control("present = yes\n");
    pair_init_token(&pair);
    pair.conf.token[0].sessions = 4;
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    start_askers(asker, pair.client, ASKED_EACH);
    while (atomic_load(&asker[0].good) < 5)
        poll(NULL, 0, 1);
    control("fail.C_Sign = CKR_DEVICE_ERROR 30\n");
    assert_true(end_askers(asker) > 5);
    pair_free(&pair);
}

static void a_wrong_pin_is_tried_once(void **state)
{
    struct pair pair;
    struct signer_status status;

    (void)state;
    control("present = yes\n");
    pair_init_token(&pair);
    pair.look_ms = 50;
    for (int turn = 0; turn < 2; turn++) { /* the second has the memory of the first */
        assert_int_equal(pair_start(&pair, "4321"), LEAFD_PIN);
        assert_int_equal(atomic_load(&pair.pin_refused), turn + 1);
        assert_false(pair.heard_before_us);
        wait_for_state(pair.client, SIGNER_PIN_BLOCKED, &status);
        assert_int_equal(strstr(status.text, "not tried again") != NULL, turn > 0);
        assert_int_equal(sign_new(pair.client, ca), LEAFD_TOKEN_UNAVAILABLE);
        pair_free(&pair);
    }
    assert_int_equal(atomic_load(&pair.signing), 0);
}

/* The PIN is changed while the token is away: one try, then never again, and the supervisor knows.
 */
static void a_pin_that_goes_wrong_later_blocks(void **state)
{
    struct pair pair;
    struct signer_status status;

    (void)state;
    control("present = yes\n");
    pair_init_token(&pair);
    pair.look_ms = 50;
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    control("present = no\n");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    control("pin = 9999\npresent = yes\n");
    wait_for_state(pair.client, SIGNER_PIN_BLOCKED, &status);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_TOKEN_UNAVAILABLE);
    while (atomic_load(&pair.pin_refused) == 0)
        poll(NULL, 0, 1);
    control("pin = 1234\npresent = yes\n"); /* even when it would be right again */
    poll(NULL, 0, 1);
    signer_status(pair.client, &status);
    assert_int_equal(status.state, SIGNER_PIN_BLOCKED);
    assert_int_equal(atomic_load(&pair.pin_refused), 1);
    assert_false(pair.heard_before_us);
    pair_free(&pair);
}

/* ---- the ladder ---- */

/* All that many ask is signed, in spite of `lines`, and nobody is told to ask again. */
static void must_not_be_noticed(struct pair *pair, const char *lines)
{
    struct asker asker[ASKERS];
    int again = 0;

    control("");
    start_askers(asker, pair->client, 40);
    while (atomic_load(&asker[0].good) < 5)
        poll(NULL, 0, 1);
    control(lines);
    (void)end_askers(asker);
    for (int i = 0; i < ASKERS; i++)
        again += atomic_load(&asker[i].again);
    if (again)
        fail_msg("%s: %d were told to ask again", lines, again);
}

/* The first rungs: whatever the token says, once it works again nobody has noticed; C_Finalize is
 * called for nothing but a module that has forgotten itself. */
static void what_recovers_is_not_noticed(void **state)
{
    static const struct {
        const char *lines;
        unsigned logins; /* at most so many more */
        bool anew;       /* the module is initialised again */
    } rows[] = {
        {"fail.C_Sign = CKR_SESSION_HANDLE_INVALID 1", 0, false},
        {"fail.C_SignInit = CKR_SESSION_CLOSED 1", 0, false},
        {"fail.C_Sign = CKR_OPERATION_ACTIVE 1", 0, false},
        {"fail.C_Sign = CKR_FUNCTION_FAILED 1", 0, false},
        {"fail.C_Sign = CKR_GENERAL_ERROR 1", 0, false},
        {"fail.C_Sign = CKR_DEVICE_ERROR 1", 0, false},
        {"fail.C_Sign = CKR_DEVICE_ERROR 2", 1, false},
        {"fail.C_Sign = CKR_DEVICE_ERROR 3", 1, false},
        {"fail.C_SignInit = CKR_USER_NOT_LOGGED_IN 1", 1, false},
        {"fail.C_SignInit = CKR_KEY_HANDLE_INVALID 1", 1, false},
        {"fail.C_SignInit = CKR_OBJECT_HANDLE_INVALID 1", 1, false},
        {"fail.C_Sign = CKR_TOKEN_NOT_PRESENT 1", 1, false},
        {"fail.C_Sign = CKR_DEVICE_REMOVED 1", 1, false},
        {"fail.C_SignInit = CKR_CRYPTOKI_NOT_INITIALIZED 1", 1, true},
        {"session_epoch = 1", 1, false},
        {"login_epoch = 1", 1, false},
        {"object_offset = 100", 1, false},
        {"first_slot = 7", 1, false},
        {"corrupt = 1", 1, false},
    };
    struct pair pair;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].sessions = 4;
    pair.conf.token[0].verify = CONF_VERIFY_ALWAYS;
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        unsigned long logins = counter("login"), initialized = counter("initialize");

        must_not_be_noticed(&pair, rows[i].lines);
        /* putting the control file back may cost a recovery of its own */
        if (counter("login") - logins > 2 * rows[i].logins ||
            counter("initialize") - initialized != rows[i].anew)
            fail_msg("%s: %lu logins, %lu times initialised", rows[i].lines,
                     counter("login") - logins, counter("initialize") - initialized);
    }
    assert_int_equal(counter("race"), 0);
    assert_int_equal(counter("login_after_bad"), 0);
    assert_int_equal(atomic_load(&pair.replace_me), 0);
    pair_free(&pair);
}

/* The key goes, or another comes under its name: no wrong signature, and the state says what. */
static void a_wrong_key_signs_nothing(void **state)
{
    static const struct {
        bool other;
        const char *says;
    } rows[] = {{false, "no private key"}, {true, "is not the key of the CA certificate"}};
    struct pair pair;
    struct signer_status status;

    (void)state;
    control("");
    pair_init_token(&pair);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
        control_key(rows[i].other ? other_key_path : NULL, "");
        assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
        wait_for_state(pair.client, SIGNER_CONNECTING, &status);
        if (!strstr(status.text, rows[i].says))
            fail_msg("\"%s\" does not say \"%s\"", status.text, rows[i].says);
        control("");
        wait_for_state(pair.client, SIGNER_READY, &status);
    }
    pair_free(&pair);
}

static void wait_for_calls(const char *function, unsigned long more)
{
    unsigned long wanted = counter(function) + more;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    while (counter(function) < wanted && clock_mono_ms() < until_ms)
        poll(NULL, 0, 1);
    assert_true(counter(function) >= wanted);
}

/* What is missing is looked for again and again, with the module as it is and without a login for
 * each look; a module without an empty slot is opened anew each time. */
static void what_is_missing_is_looked_for_gently(void **state)
{
    struct pair pair;
    struct signer_status status;
    unsigned long initialized, logins;

    (void)state;
    control("");
    pair_init_token(&pair);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);

    control("present = no"); /* a look is four calls: is a slot empty, how many are not, which */
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    wait_for_calls("C_GetSlotList", 4); /* the ladder is over */
    initialized = counter("initialize");
    wait_for_calls("C_GetSlotList", 2 * 4);
    assert_int_equal(counter("initialize"), initialized);
    control("");
    wait_for_state(pair.client, SIGNER_READY, &status);

    control_key(NULL, "");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    wait_for_calls("C_FindObjectsInit", 2);
    initialized = counter("initialize");
    logins = counter("C_Login");
    wait_for_calls("C_FindObjectsInit", 2);
    assert_int_equal(counter("initialize"), initialized);
    assert_int_equal(counter("C_Login"), logins);
    control("");
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(counter("C_Login"), logins);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);

    control("tokens =\nsession_epoch = 1");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    wait_for_calls("initialize", 2);
    control("");
    wait_for_state(pair.client, SIGNER_READY, &status);
    pair_free(&pair);
}

/* What came back unsigned may be asked again as it stands. */
static void a_serial_that_was_not_used_may_come_again(void **state)
{
    struct pair pair;
    struct signer_status status;
    struct bytes tbs = good_tbs(ca);

    (void)state;
    control("");
    pair_init_token(&pair);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    control("present = no");
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_AGAIN);
    control("");
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_OK);
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_REFUSED);
    free((void *)(uintptr_t)tbs.data);
    pair_free(&pair);
}

/* No login that fails is repeated at once, and none is lost count of. */
static void a_failing_login_is_repeated_seldom(void **state)
{
    struct pair pair;
    struct signer_status status;
    unsigned long before = 0, logins;
    int64_t began_ms;

    (void)state;
    control("");
    before = access(counters_path, F_OK) == 0 ? counter("login") : 0;
    pair_init_token(&pair);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(counter("login"), before + 1);
    before = counter("C_Login");
    began_ms = clock_mono_ms();
    control("session_epoch = 1\nfail.C_Login = CKR_GENERAL_ERROR 2");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_READY, &status);
    logins = counter("C_Login") - before;
    assert_int_equal(logins, 3);
    assert_true(clock_mono_ms() - began_ms >= 500 + 1000);
    pair_free(&pair);
}

/* An idle token that signs no more is found and recovered before anybody asks; its idle sessions
 * are used. */
static void an_idle_token_is_looked_after(void **state)
{
    struct pair pair;
    struct signer_status status;
    unsigned long used;
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].health_ms = 20;
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    used = counter("C_GetSessionInfo");
    while (counter("C_GetSessionInfo") < used + 4 && clock_mono_ms() < until_ms)
        poll(NULL, 0, 1);
    assert_true(counter("C_GetSessionInfo") >= used + 4);
    control_key(other_key_path, "");
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    assert_non_null(strstr(status.text, "is not the key of the CA certificate"));
    control("");
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    pair_free(&pair);
}

/* What nobody has asked for may hang too, and the fronts hear of it: a look at an idle token, and
 * the opening that follows one. */
static void an_idle_token_that_hangs(void **state)
{
    static const char *const lines[] = {"hang.C_Sign = 1", "session_epoch = 1\nhang.C_Login = 1"};
    struct pair pair;
    struct signer_status status;

    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        control("");
        pair_init_token(&pair);
        pair.conf.token[0].health_ms = 20;
        pair.conf.token[0].timeout_ms = hang_ms(200);
        assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
        wait_for_state(pair.client, SIGNER_READY, &status);
        control(lines[i]);
        wait_for_state(pair.client, SIGNER_CONNECTING, &status);
        assert_non_null(strstr(status.text, "the token takes long to"));
        control(i ? "session_epoch = 1" : "");
        wait_for_state(pair.client, SIGNER_READY, &status);
        assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
        assert_int_equal(atomic_load(&pair.replace_me), 0);
        pair_free(&pair);
    }
}

/* ---- signatures that nobody has verified ---- */

enum { DOUBTS_MAX = 64 };

struct doubts {
    struct signer *client;
    int wait_ms;                /* for a signature */
    uint64_t wrong[DOUBTS_MAX]; /* batches of signatures that do not verify */
    unsigned wrong_count;
    pthread_mutex_t lock;
    uint64_t disowned[DOUBTS_MAX];
    size_t disowned_count;
};

static void note_disowned(void *ctx, const uint64_t *batches, size_t count)
{
    struct doubts *doubts = ctx;

    pthread_mutex_lock(&doubts->lock);
    for (size_t i = 0; i < count && doubts->disowned_count < DOUBTS_MAX; i++)
        doubts->disowned[doubts->disowned_count++] = batches[i];
    pthread_mutex_unlock(&doubts->lock);
}

static bool is_disowned(struct doubts *doubts, uint64_t batch)
{
    bool found = false;

    pthread_mutex_lock(&doubts->lock);
    for (size_t i = 0; i < doubts->disowned_count; i++)
        found |= doubts->disowned[i] == batch;
    pthread_mutex_unlock(&doubts->lock);
    return found;
}

static void wait_until_disowned(struct doubts *doubts)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    for (unsigned i = 0; i < doubts->wrong_count; i++)
        while (!is_disowned(doubts, doubts->wrong[i])) {
            if (clock_mono_ms() > until_ms)
                fail_msg("wrong signature %u is not disowned", i);
            poll(NULL, 0, 1);
        }
}

/* Asks once; false: no signature has come, not even a wrong one, for one that is seen to be wrong
 * may have ended them all before this asks. */
static bool ask_doubtful(struct doubts *doubts)
{
    struct bytes tbs = good_tbs(ca);
    struct answer answer;

    ask(doubts->client, ca, tbs, clock_mono_ms() + doubts->wait_ms, &answer);
    (void)wait_for(&answer);
    if (!answer.err && !verifies(ca, tbs, answer.signature, answer.signature_len)) {
        assert_int_not_equal(answer.batch, 0);
        assert_true(doubts->wrong_count < DOUBTS_MAX);
        doubts->wrong[doubts->wrong_count++] = answer.batch;
    }
    free((void *)(uintptr_t)tbs.data);
    return !answer.err;
}

/* One lane, with so many good signatures behind it that most are not verified any more. */
static void doubts_start(struct pair *pair, struct doubts *doubts)
{
    control("");
    pair_init_token(pair);
    pair->conf.token[0].sessions = 1;
    assert_int_equal(pair_start(pair, "1234"), LEAFD_OK);
    *doubts = (struct doubts){
        .client = pair->client, .wait_ms = hang_ms(1000), .lock = PTHREAD_MUTEX_INITIALIZER};
    signer_client_on_disowned(pair->client, note_disowned, doubts);
    for (int i = 0; i < VERIFY_FIRST; i++)
        assert_int_equal(sign_new(pair->client, ca), LEAFD_OK);
}

/* Has a wrong signature given out unverified. The first that follows a change of the control file
 * takes long, since the module reads it then, and a slow token's signatures are verified all; those
 * behind it are as quick as ever. */
static void give_out_wrong(struct doubts *doubts)
{
    enum { GOOD = 8 };
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    char line[32];

    snprintf(line, sizeof(line), "corrupt = 1 %d", GOOD);
    while (doubts->wrong_count == 0) {
        control(line);
        for (int i = 0; i <= GOOD; i++)
            (void)ask_doubtful(doubts);
        /* else it was verified at once, and so are the first ones after the recovery */
        for (int i = 0; doubts->wrong_count == 0 && i < VERIFY_FIRST; i++)
            (void)ask_doubtful(doubts);
        assert_true(clock_mono_ms() < until_ms);
    }
    assert_int_equal(doubts->wrong_count, 1);
}

/* What was given out wrong before that was seen is disowned, and nothing wrong comes after it. */
static void wrong_signatures_are_disowned(void **state)
{
    struct pair pair;
    struct doubts doubts;
    struct signer_status status;

    (void)state;
    for (int other_key = 0; other_key < 2; other_key++) {
        doubts_start(&pair, &doubts);
        if (other_key)
            control_key(other_key_path, "");
        else
            control("corrupt = 1000000");
        while (ask_doubtful(&doubts))
            ;
        assert_true(doubts.wrong_count < VERIFY_EACH);
        wait_until_disowned(&doubts);
        wait_for_state(pair.client, SIGNER_CONNECTING, &status);
        assert_int_equal(status.tally.disowned >= doubts.wrong_count, true);
        assert_non_null(strstr(status.text, other_key ? "is not the key of the CA certificate"
                                                      : "what it signs does not verify"));
        control("");
        wait_for_state(pair.client, SIGNER_READY, &status);
        assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
        assert_int_equal(status.tally.recoveries, 1);
        pair_free(&pair);
    }
}

/* A lane that has nothing to do looks at what it gave out last, and needs nobody to ask. */
static void a_wrong_signature_is_found_without_another(void **state)
{
    struct pair pair;
    struct doubts doubts;
    struct signer_status status;

    (void)state;
    doubts_start(&pair, &doubts);
    give_out_wrong(&doubts);
    wait_until_disowned(&doubts);
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    pair_free(&pair);
}

/* At its end a signer looks once more. */
static void the_end_leaves_no_doubt(void **state)
{
    struct pair pair;
    struct doubts doubts;

    (void)state;
    doubts_start(&pair, &doubts);
    give_out_wrong(&doubts);
    assert_true(signer_process_free(pair.process, clock_mono_ms() + PATIENCE_MS));
    wait_until_disowned(&doubts);
    signer_free(pair.client);
}

static void with_always_none_is_wrong(void **state)
{
    struct pair pair;
    struct doubts doubts;
    struct signer_status status;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].verify = CONF_VERIFY_ALWAYS;
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    doubts = (struct doubts){.client = pair.client, .wait_ms = hang_ms(1000)};
    for (int i = 0; i < 2 * VERIFY_FIRST; i++)
        assert_true(ask_doubtful(&doubts));
    control_key(other_key_path, "");
    while (ask_doubtful(&doubts))
        ;
    assert_int_equal(doubts.wrong_count, 0);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    assert_int_equal(status.tally.disowned, 0);
    pair_free(&pair);
}

/* ---- lanes that hang ---- */

static void a_hanging_lane_costs_nobody(void **state)
{
    struct pair pair;
    struct signer_status status;
    struct asker asker[ASKERS];
    int64_t began_ms;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].sessions = 4;
    pair.conf.token[0].timeout_ms = hang_ms(500);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    control("hang.C_Sign = 1 3");
    start_askers(asker, pair.client, ASKED_EACH);
    assert_int_equal(end_askers(asker), ASKERS * ASKED_EACH);
    wait_for_state(pair.client, SIGNER_DEGRADED, &status);
    assert_replacement_asked_once(&pair);
    assert_int_equal(status.lanes, 3);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);

    began_ms = clock_mono_ms(); /* the end does not wait for it */
    assert_false(signer_process_free(pair.process, began_ms + 100));
    assert_true(clock_mono_ms() - began_ms < hang_ms(3000));
    control("");
    pair_free(&pair);
}

/* With no other lane the request goes elsewhere, and the signer is back when the call is. */
static void the_only_lane_hangs(void **state)
{
    struct pair pair;
    struct signer_status status;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].sessions = 1;
    pair.conf.token[0].timeout_ms = hang_ms(200);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    control("hang.C_Sign = 1");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    assert_replacement_asked_once(&pair);
    control("");
    wait_for_state(pair.client, SIGNER_READY, &status);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    pair_free(&pair);
}

/* A module that hangs while the token is opened again: what waits goes back, nothing is lost. */
static void an_opening_that_hangs(void **state)
{
    struct pair pair;
    struct signer_status status;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].timeout_ms = hang_ms(200);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    assert_int_equal(sign_new(pair.client, ca), LEAFD_OK);
    control("session_epoch = 1\nhang.C_Login = 1");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    assert_false(signer_process_free(pair.process, clock_mono_ms()));
    control("session_epoch = 1");
    pair_free(&pair);
}

/* Meanwhile nobody is left without a word: an asker hears of it before its deadline, not after. */
static void an_opening_that_takes_long(void **state)
{
    struct pair pair;
    struct signer_status status;
    struct bytes tbs = good_tbs(ca);
    struct answer answer;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].timeout_ms = 60000;
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    control("session_epoch = 1\nhang.C_Login = 1");
    for (int turn = 0; turn < 2; turn++) { /* the second finds the queue paused */
        ask(pair.client, ca, tbs, clock_mono_ms() + hang_ms(600), &answer);
        assert_int_equal(wait_for(&answer), LEAFD_TOKEN_UNAVAILABLE);
    }
    control("session_epoch = 1");
    assert_int_equal(sign(pair.client, ca, tbs), LEAFD_OK);
    free((void *)(uintptr_t)tbs.data);
    pair_free(&pair);
}

/* Lanes that hang keep the token from being opened; the processor is not kept busy until then. */
static void a_keeper_that_waits_for_a_lane(void **state)
{
    struct pair pair;
    struct signer_status status;
    int64_t until_ms;
    clock_t used;

    (void)state;
    control("");
    pair_init_token(&pair);
    pair.conf.token[0].sessions = 1;
    pair.conf.token[0].timeout_ms = hang_ms(100);
    assert_int_equal(pair_start(&pair, "1234"), LEAFD_OK);
    wait_for_state(pair.client, SIGNER_READY, &status);
    control("hang.C_Sign = 1");
    assert_int_equal(sign_new(pair.client, ca), LEAFD_AGAIN);
    wait_for_state(pair.client, SIGNER_CONNECTING, &status);
    until_ms = clock_mono_ms() + 500;
    used = clock();
    while (clock_mono_ms() < until_ms)
        poll(NULL, 0, 50);
    assert_true(clock() - used < CLOCKS_PER_SEC / 20);
    control("");
    wait_for_state(pair.client, SIGNER_READY, &status);
    pair_free(&pair);
}

/* ---- */

static void write_key(const char *path, EVP_PKEY *key)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
}

static int make_all(void **state)
{
    const char *build = getenv("top_builddir");
    const struct ca *only;
    EVP_PKEY *other;
    struct ca *other_ca;

    (void)state;
    log_init("test", LOG_LEVEL_ERROR);
    assert_non_null(mkdtemp(dir));
    snprintf(key_path, sizeof(key_path), "%s/ca.key", dir);
    snprintf(other_key_path, sizeof(other_key_path), "%s/other.key", dir);
    snprintf(control_path, sizeof(control_path), "%s/control", dir);
    snprintf(counters_path, sizeof(counters_path), "%s/counters", dir);
    snprintf(module_path, sizeof(module_path), "%s/tests/lib/fake_pkcs11.so", build ? build : ".");
    setenv("FAKE_PKCS11_CONTROL", control_path, 1);
    fake_ca_make(NULL, &ca, &ca_key);
    fake_ca_make(NULL, &other_ca, &other);
    write_key(key_path, ca_key);
    write_key(other_key_path, other);
    ca_unref(other_ca);
    EVP_PKEY_free(other);
    leaf_key = EVP_EC_gen("P-256");
    only = ca;
    configured = ca_set_new(&only, 1, NULL);
    return configured && leaf_key ? 0 : -1;
}

static int remove_all(void **state)
{
    char command[128];

    (void)state;
    ca_set_unref(configured);
    ca_unref(ca);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(leaf_key);
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_signs_for_every_ca),
        cmocka_unit_test(the_supervisor_hears_of_it_first),
        cmocka_unit_test(what_breaks_a_rule_is_refused),
        cmocka_unit_test(the_budget_is_kept),
        cmocka_unit_test(a_wrong_key_ends_the_start),
        cmocka_unit_test(a_new_process_has_another_untrusted_ca),
        cmocka_unit_test(hostile_bytes_harm_nobody),
        cmocka_unit_test(a_front_that_does_not_read_is_left_behind),
        cmocka_unit_test(many_are_answered_by_two_processes),
        cmocka_unit_test(nobody_is_forgotten_at_the_end),
        cmocka_unit_test(an_absent_token_is_waited_for),
        cmocka_unit_test(a_lost_token_comes_back),
        cmocka_unit_test(a_failing_token_loses_nobody),
        cmocka_unit_test(what_recovers_is_not_noticed),
        cmocka_unit_test(a_wrong_key_signs_nothing),
        cmocka_unit_test(what_is_missing_is_looked_for_gently),
        cmocka_unit_test(a_serial_that_was_not_used_may_come_again),
        cmocka_unit_test(a_failing_login_is_repeated_seldom),
        cmocka_unit_test(an_idle_token_is_looked_after),
        cmocka_unit_test(an_idle_token_that_hangs),
        cmocka_unit_test(wrong_signatures_are_disowned),
        cmocka_unit_test(a_wrong_signature_is_found_without_another),
        cmocka_unit_test(the_end_leaves_no_doubt),
        cmocka_unit_test(with_always_none_is_wrong),
        cmocka_unit_test(a_hanging_lane_costs_nobody),
        cmocka_unit_test(the_only_lane_hangs),
        cmocka_unit_test(an_opening_that_hangs),
        cmocka_unit_test(an_opening_that_takes_long),
        cmocka_unit_test(a_keeper_that_waits_for_a_lane),
        /* this process never sends a PIN again that was refused: these come last */
        cmocka_unit_test(a_wrong_pin_is_tried_once),
        cmocka_unit_test(a_pin_that_goes_wrong_later_blocks),
    };

    return cmocka_run_group_tests(tests, make_all, remove_all);
}
