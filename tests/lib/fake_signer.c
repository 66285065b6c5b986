/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lib/fake_signer.h"

#include "base/clock.h"
#include "base/cond.h"

#include <openssl/ec.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { GIVES_UP_BEFORE_MS = 300, THREADS_MAX = 16 };

/* ---- a CA with a software key ---- */

static EVP_PKEY *make_key(const char *key)
{
    EVP_PKEY *made;

    if (!key || key[0] == 'P')
        made = EVP_EC_gen(key ? key : "P-256");
    else if (key[0] == 'E')
        made = EVP_PKEY_Q_keygen(NULL, NULL, key);
    else
        made = EVP_RSA_gen((unsigned)atoi(key));
    MUST(made);
    return made;
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
    extension = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
    MUST(extension && X509_add_ext(cert, extension, -1));
    X509_EXTENSION_free(extension);
}

/* The digest a CA of this key signs with: none for Ed25519. */
static const EVP_MD *digest_of(EVP_PKEY *key)
{
    if (EVP_PKEY_is_a(key, "ED25519"))
        return NULL;
    return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_bits(key) == 384 ? EVP_sha384() : EVP_sha256();
}

void fake_ca_make(const struct fake_ca_options *options, struct ca **ret_ca, EVP_PKEY **ret_key)
{
    static const struct fake_ca_options defaults;
    const struct fake_ca_options *with = options ? options : &defaults;
    EVP_PKEY *key = make_key(with->key);
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();
    const char *cn = with->cn ? with->cn : "Fake CA";
    int64_t now = clock_wall_sec();
    uint64_t serial = 0;
    uint8_t *der = NULL;
    int len;
    struct why why = {""};

    MUST(cert && name);
    MUST(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const uint8_t *)cn, -1, -1, 0));
    MUST(X509_set_version(cert, X509_VERSION_3));
    MUST(RAND_bytes((uint8_t *)&serial, sizeof(serial)) == 1);
    MUST(ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1 | 1));
    MUST(X509_set_subject_name(cert, name) && X509_set_issuer_name(cert, name));
    MUST(ASN1_TIME_set(X509_getm_notBefore(cert), now - 2 * 86400));
    MUST(ASN1_TIME_set(X509_getm_notAfter(cert),
                       with->not_after ? with->not_after : now + (int64_t)3650 * 86400));
    MUST(X509_set_pubkey(cert, key));
    add_extension(cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add_extension(cert, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(cert, NID_subject_key_identifier, "hash");
    if (with->constraints) {
        char value[512];

        snprintf(value, sizeof(value), "critical,%s", with->constraints);
        add_extension(cert, NID_name_constraints, value);
    }
    MUST(X509_sign(cert, key, digest_of(key)) > 0);
    len = i2d_X509(cert, &der);
    MUST(len > 0);
    if (ca_read((struct bytes){der, (size_t)len}, with->id, false, ret_ca, &why)) {
        fprintf(stderr, "fake CA: %s\n", why.text);
        abort();
    }
    *ret_key = key;
    OPENSSL_free(der);
    X509_NAME_free(name);
    X509_free(cert);
}

/* ---- the signer ---- */

struct job {
    struct job *next;
    signer_fn done;
    void *ctx;
    uint16_t ca_id;
    uint64_t ca_generation;
    int64_t deadline_ms;
    int64_t ready_ms;
    enum leafd_err answer; /* LEAFD_OK: sign */
    struct bytes tbs;
};

struct fake_signer {
    struct signer signer;
    pthread_mutex_t lock; /* what follows; never held across a call to `done` */
    pthread_cond_t changed;
    struct job *first;
    struct job **last;
    struct ca_set *cas;
    EVP_PKEY *key;
    EVP_PKEY *untrusted_key;
    int64_t latency_ms;
    unsigned fail_count;
    enum leafd_err fail_err;
    bool gone;
    bool pin_blocked;
    bool stopping;
    uint64_t requests;
    uint64_t signatures;
    uint64_t failures;
    size_t waiting;
    pthread_t thread[THREADS_MAX];
    unsigned threads;
};

static struct fake_signer *fake_of(struct signer *signer)
{
    return (struct fake_signer *)signer;
}

static int64_t due_ms(const struct fake_signer *fake, const struct job *job)
{
    int64_t give_up_ms = job->deadline_ms - GIVES_UP_BEFORE_MS;

    if (fake->stopping || fake->pin_blocked)
        return 0;
    if (fake->gone)
        return give_up_ms;
    return job->ready_ms < job->deadline_ms ? job->ready_ms : job->deadline_ms;
}

/* Takes the first job whose time has come off the list; else NULL and when the next one's comes. */
static struct job *take_due(struct fake_signer *fake, int64_t *ret_next_ms)
{
    int64_t now = clock_mono_ms();

    *ret_next_ms = INT64_MAX;
    for (struct job **at = &fake->first; *at; at = &(*at)->next) {
        struct job *job = *at;
        int64_t due = due_ms(fake, job);

        if (due <= now) {
            *at = job->next;
            if (!job->next)
                fake->last = at;
            return job;
        }
        if (due < *ret_next_ms)
            *ret_next_ms = due;
    }
    return NULL;
}

static enum leafd_err sign(EVP_PKEY *key, struct bytes tbs, uint8_t *out, size_t *len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestSignInit(ctx, NULL, digest_of(key), NULL, key) == 1 &&
                EVP_DigestSign(ctx, out, len, tbs.data, tbs.len) == 1;

    EVP_MD_CTX_free(ctx);
    return good ? LEAFD_OK : LEAFD_INTERNAL;
}

/* What the job is to be answered with, and with which key if it is to be signed. Under the lock. */
static enum leafd_err judge(struct fake_signer *fake, const struct job *job, EVP_PKEY **ret_key)
{
    const struct ca *ca = ca_set_find(fake->cas, job->ca_id);

    if (fake->stopping)
        return LEAFD_INTERNAL;
    if (fake->gone || fake->pin_blocked)
        return LEAFD_TOKEN_UNAVAILABLE;
    if (job->answer)
        return job->answer;
    if (job->deadline_ms <= clock_mono_ms())
        return LEAFD_TIMEOUT;
    if (!ca || ca->generation != job->ca_generation)
        return LEAFD_AGAIN;
    *ret_key = job->ca_id == CA_ID_UNTRUSTED ? fake->untrusted_key : fake->key;
    EVP_PKEY_up_ref(*ret_key);
    return LEAFD_OK;
}

static void *work(void *arg)
{
    struct fake_signer *fake = arg;

    pthread_mutex_lock(&fake->lock);
    for (;;) {
        int64_t next_ms;
        struct job *job = take_due(fake, &next_ms);

        if (job) {
            uint8_t signature[SIGN_SIGNATURE_MAX];
            size_t len = sizeof(signature);
            EVP_PKEY *key = NULL;
            enum leafd_err err = judge(fake, job, &key);

            pthread_mutex_unlock(&fake->lock);
            if (!err)
                err = sign(key, job->tbs, signature, &len);
            EVP_PKEY_free(key);
            pthread_mutex_lock(&fake->lock);
            fake->waiting--;
            if (err)
                fake->failures++;
            else
                fake->signatures++;
            pthread_mutex_unlock(&fake->lock);
            job->done(job->ctx, err, (struct bytes){signature, err ? 0 : len}, 0);
            free((void *)job->tbs.data);
            free(job);
            pthread_mutex_lock(&fake->lock);
        } else if (fake->stopping) {
            break;
        } else {
            (void)cond_wait_until(&fake->changed, &fake->lock, next_ms);
        }
    }
    pthread_mutex_unlock(&fake->lock);
    return NULL;
}

static void fake_sign(struct signer *signer, const struct sign_request *request, signer_fn done,
                      void *ctx)
{
    struct fake_signer *fake = fake_of(signer);
    struct job *job = calloc(1, sizeof(*job));

    MUST(job && request->tbs.len > 0 && request->tbs.len <= SIGN_TBS_MAX);
    job->done = done;
    job->ctx = ctx;
    job->ca_id = request->ca_id;
    job->ca_generation = request->ca_generation;
    job->deadline_ms = request->deadline_ms;
    job->tbs = bytes_copy(request->tbs);
    MUST(job->tbs.data);
    pthread_mutex_lock(&fake->lock);
    job->ready_ms = clock_mono_ms() + fake->latency_ms;
    if (fake->fail_count > 0) {
        fake->fail_count--;
        job->answer = fake->fail_err;
    }
    fake->requests++;
    fake->waiting++;
    *fake->last = job;
    fake->last = &job->next;
    pthread_cond_signal(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static struct ca_set *fake_cas(struct signer *signer)
{
    struct fake_signer *fake = fake_of(signer);
    struct ca_set *cas;

    pthread_mutex_lock(&fake->lock);
    cas = ca_set_ref(fake->cas);
    pthread_mutex_unlock(&fake->lock);
    return cas;
}

static void fake_status(struct signer *signer, struct signer_status *ret)
{
    struct fake_signer *fake = fake_of(signer);

    pthread_mutex_lock(&fake->lock);
    *ret = (struct signer_status){
        .state = fake->pin_blocked ? SIGNER_PIN_BLOCKED
                 : fake->gone      ? SIGNER_CONNECTING
                                   : SIGNER_READY,
        .lanes = fake->threads,
        .tally.signatures = fake->signatures,
        .tally.failures = fake->failures,
        .tally.logins = 1,
        .waiting = fake->waiting,
    };
    snprintf(ret->text, sizeof(ret->text), "%s",
             fake->pin_blocked ? "the PIN is wrong"
             : fake->gone      ? "the token is gone"
                               : "");
    pthread_mutex_unlock(&fake->lock);
}

static void fake_free(struct signer *signer)
{
    struct fake_signer *fake = fake_of(signer);

    pthread_mutex_lock(&fake->lock);
    fake->stopping = true;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    for (unsigned i = 0; i < fake->threads; i++)
        pthread_join(fake->thread[i], NULL);
    ca_set_unref(fake->cas);
    EVP_PKEY_free(fake->key);
    EVP_PKEY_free(fake->untrusted_key);
    pthread_cond_destroy(&fake->changed);
    pthread_mutex_destroy(&fake->lock);
    free(fake);
}

static const struct signer_ops fake_ops = {fake_sign, fake_cas, fake_status, fake_free};

static void make_untrusted(struct ca **ret_ca, EVP_PKEY **ret_key)
{
    fake_ca_make(&(struct fake_ca_options){.cn = "Fake untrusted CA", .id = CA_ID_UNTRUSTED},
                 ret_ca, ret_key);
}

struct signer *fake_signer_new(const struct fake_signer_options *options)
{
    static const struct fake_signer_options defaults;
    const struct fake_signer_options *with = options ? options : &defaults;
    struct fake_signer *fake = calloc(1, sizeof(*fake));
    struct ca *ca = NULL, *untrusted = NULL;
    const struct ca *only;

    MUST(fake);
    fake->signer.ops = &fake_ops;
    fake->last = &fake->first;
    if (with->ca) {
        ca = ca_ref(with->ca);
        fake->key = with->key;
        EVP_PKEY_up_ref(fake->key);
    } else {
        fake_ca_make(NULL, &ca, &fake->key);
    }
    if (!with->no_untrusted)
        make_untrusted(&untrusted, &fake->untrusted_key);
    only = ca;
    fake->cas = ca_set_new(&only, 1, untrusted);
    MUST(fake->cas);
    ca_unref(ca);
    ca_unref(untrusted);

    pthread_mutex_init(&fake->lock, NULL);
    cond_init(&fake->changed);
    fake->threads = with->threads ? with->threads : 1;
    MUST(fake->threads <= THREADS_MAX);
    for (unsigned i = 0; i < fake->threads; i++)
        MUST(pthread_create(&fake->thread[i], NULL, work, fake) == 0);
    return &fake->signer;
}

void fake_signer_set_latency(struct signer *signer, int64_t latency_ms)
{
    struct fake_signer *fake = fake_of(signer);

    pthread_mutex_lock(&fake->lock);
    fake->latency_ms = latency_ms;
    pthread_mutex_unlock(&fake->lock);
}

void fake_signer_fail_next(struct signer *signer, unsigned count, enum leafd_err err)
{
    struct fake_signer *fake = fake_of(signer);

    pthread_mutex_lock(&fake->lock);
    fake->fail_count = count;
    fake->fail_err = err;
    pthread_mutex_unlock(&fake->lock);
}

static void set_flag(struct fake_signer *fake, bool *flag, bool value)
{
    pthread_mutex_lock(&fake->lock);
    *flag = value;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

void fake_signer_set_gone(struct signer *signer, bool gone)
{
    set_flag(fake_of(signer), &fake_of(signer)->gone, gone);
}

void fake_signer_set_pin_blocked(struct signer *signer, bool blocked)
{
    set_flag(fake_of(signer), &fake_of(signer)->pin_blocked, blocked);
}

void fake_signer_renew_untrusted(struct signer *signer)
{
    struct fake_signer *fake = fake_of(signer);
    struct ca_set *before, *after;
    struct ca *untrusted;
    EVP_PKEY *key, *key_before;

    make_untrusted(&untrusted, &key);
    pthread_mutex_lock(&fake->lock);
    before = fake->cas;
    after = ca_set_new(before->ca, before->count, untrusted);
    MUST(after);
    fake->cas = after;
    key_before = fake->untrusted_key;
    fake->untrusted_key = key;
    pthread_mutex_unlock(&fake->lock);
    ca_set_unref(before);
    EVP_PKEY_free(key_before);
    ca_unref(untrusted);
}

uint64_t fake_signer_signed(struct signer *signer)
{
    struct signer_status status;

    fake_status(signer, &status);
    return status.tally.signatures;
}

uint64_t fake_signer_requests(struct signer *signer)
{
    struct fake_signer *fake = fake_of(signer);
    uint64_t requests;

    pthread_mutex_lock(&fake->lock);
    requests = fake->requests;
    pthread_mutex_unlock(&fake->lock);
    return requests;
}
