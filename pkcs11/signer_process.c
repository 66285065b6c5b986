/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_process.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/ca_make.h"
#include "pkcs11/front_link.h"
#include "pkcs11/signer_lane.h"
#include "pkcs11/signer_msg.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FRONTS_MAX = 8,
    LANES_MAX = 256,
    JOBS_MAX = 8192,
    BATCH = 32,
    PROBE_MS = 500,      /* an absent token is looked for so often, for ever */
    CHECK_MS = 5000,     /* an idle one is asked so often whether it is still there */
    RETELL_MS = 50,      /* a front whose socket was full is told again */
    STATE_MS = 1000,     /* fronts hear new counters so often while there is work */
    REFUSALS_LOGGED = 5, /* a second */
};

/* One SIGN message on its way: owns its octets, from which `request` borrows. */
struct job {
    struct job *next;
    struct front_link *front;
    uint64_t id;
    struct sign_request request;
    uint8_t message[];
};

struct signer_process {
    const struct conf *conf;
    struct ca_set *cas;     /* as configured: what the backend opens */
    struct ca_set *all_cas; /* with the untrusted CA in memory: what is signed for */
    EVP_PKEY *untrusted_key;
    struct secret pin;
    signer_pin_fn pin_refused;
    void *pin_ctx;
    struct sign_check *check;
    struct signer_lane_parts lane_parts;

    int wake_fd; /* an eventfd for the reader: state has changed, fronts have come, or stop */
    atomic_bool stopping;
    atomic_bool state_changed; /* fronts are to be told */
    _Atomic uint64_t signatures, failures, refusals, logins;
    double budget; /* signatures that signer.max_rate leaves now; under lock */
    int64_t budget_us;

    pthread_mutex_t lock;          /* over everything below */
    pthread_cond_t jobs_changed;   /* lanes wait: a job, or lanes_stop */
    pthread_cond_t keeper_changed; /* the keeper waits: token_failed, or keeper_stop */
    struct job *first, **last;
    size_t job_count, busy;
    enum signer_state state;
    char text[256];
    bool lanes_stop, token_failed, keeper_stop;
    struct front_link *front[FRONTS_MAX];
    struct backend *backend;
    struct signer_lane *lane[LANES_MAX];
    pthread_t lane_thread[LANES_MAX];
    unsigned lane_count;

    pthread_t reader, keeper;
    bool reader_runs, keeper_runs;
};

struct lane_start {
    struct signer_process *process;
    struct signer_lane *lane;
};

static void wake_reader(struct signer_process *process)
{
    (void)eventfd_write(process->wake_fd, 1);
}

static void set_state_locked(struct signer_process *process, enum signer_state state,
                             const char *text)
{
    process->state = state;
    snprintf(process->text, sizeof(process->text), "%s", text);
    atomic_store(&process->state_changed, true);
}

static void set_state(struct signer_process *process, enum signer_state state, const char *text)
{
    pthread_mutex_lock(&process->lock);
    set_state_locked(process, state, text);
    pthread_mutex_unlock(&process->lock);
    wake_reader(process);
}

static void job_free(struct job *job)
{
    front_link_unref(job->front);
    free(job);
}

static void answer(struct front_link *front, uint64_t id, enum leafd_err err,
                   struct bytes signature)
{
    struct signer_msg_reply reply = {.id = id, .err = err, .signature = signature};
    uint8_t message[SIGNER_MSG_REPLY_MAX];
    size_t len = signer_msg_write_reply(&reply, message, sizeof(message));

    if (len)
        (void)front_link_send(front, (struct bytes){message, len});
}

/* ---- lanes ---- */

/* A job for a lane, or NULL when lanes are to end. Counts it as busy. */
static struct job *next_job(struct signer_process *process)
{
    struct job *job;

    pthread_mutex_lock(&process->lock);
    while (!process->first && !process->lanes_stop)
        pthread_cond_wait(&process->jobs_changed, &process->lock);
    job = process->lanes_stop ? NULL : process->first;
    if (job) {
        process->first = job->next;
        if (!process->first)
            process->last = &process->first;
        process->job_count--;
        process->busy++;
    }
    pthread_mutex_unlock(&process->lock);
    return job;
}

/* A failed signature sends the keeper to look at the token; until it is proven anew nobody signs.
 */
static void job_done(struct signer_process *process, bool token_failed, const struct why *why)
{
    bool report = false;

    pthread_mutex_lock(&process->lock);
    process->busy--;
    if (token_failed && !process->token_failed) {
        process->token_failed = report = true;
        process->lanes_stop = true;
        set_state_locked(process, SIGNER_CONNECTING, why->text);
        pthread_cond_broadcast(&process->jobs_changed);
        pthread_cond_signal(&process->keeper_changed);
    }
    pthread_mutex_unlock(&process->lock);
    if (report)
        wake_reader(process);
}

static void log_refusal(const struct job *job, const struct why *why)
{
    static struct log_limit limit;
    char host[300];

    log_limited(&limit, REFUSALS_LOGGED, LOG_LEVEL_WARNING, "sign-refused",
                "rule=\"%s\" host=\"%s\"", why->text,
                bytes_escape(job->request.audit, host, sizeof(host)));
}

static void count(struct signer_process *process, const struct job *job, enum leafd_err err,
                  const struct why *why)
{
    if (err == LEAFD_OK) {
        atomic_fetch_add(&process->signatures, 1);
    } else if (err == LEAFD_REFUSED) {
        atomic_fetch_add(&process->refusals, 1);
        log_refusal(job, why);
    } else {
        atomic_fetch_add(&process->failures, 1);
    }
}

static void *lane_run(void *arg)
{
    struct lane_start start = *(struct lane_start *)arg;
    struct signer_process *process = start.process;
    struct job *job;

    free(arg);
    while ((job = next_job(process))) {
        uint8_t signature[SIGN_SIGNATURE_MAX];
        size_t len = 0;
        bool token_failed;
        struct why why = {""};
        enum leafd_err err =
            signer_lane_sign(start.lane, &job->request, signature, &len, &token_failed, &why);

        count(process, job, err, &why);
        answer(job->front, job->id, err, (struct bytes){signature, len});
        job_done(process, token_failed, &why);
        job_free(job);
    }
    return NULL;
}

static void stop_lanes(struct signer_process *process)
{
    pthread_mutex_lock(&process->lock);
    process->lanes_stop = true;
    pthread_cond_broadcast(&process->jobs_changed);
    pthread_mutex_unlock(&process->lock);
    for (unsigned i = 0; i < process->lane_count; i++) {
        pthread_join(process->lane_thread[i], NULL);
        signer_lane_free(process->lane[i]);
    }
    process->lane_count = 0;
}

static enum leafd_err start_lane(struct signer_process *process, struct why *why)
{
    unsigned index = process->lane_count;
    struct lane_start *start = malloc(sizeof(*start));
    enum leafd_err err;

    if (!start)
        return LEAFD_NOMEM;
    err = signer_lane_new(&process->lane_parts, process->backend, &process->lane[index], why);
    if (err != LEAFD_OK) {
        free(start);
        return err;
    }
    *start = (struct lane_start){process, process->lane[index]};
    if (pthread_create(&process->lane_thread[index], NULL, lane_run, start) != 0) {
        signer_lane_free(process->lane[index]);
        free(start);
        return fail(why, LEAFD_INTERNAL, "a lane's thread cannot be started");
    }
    process->lane_count++;
    return LEAFD_OK;
}

/* At least one; fewer than the backend offers is a smaller signer, not a failure. */
static enum leafd_err start_lanes(struct signer_process *process, struct why *why)
{
    unsigned wanted = backend_lanes(process->backend);
    enum leafd_err err = LEAFD_OK;

    pthread_mutex_lock(&process->lock);
    process->lanes_stop = false;
    pthread_mutex_unlock(&process->lock);
    wanted = wanted < LANES_MAX ? wanted : LANES_MAX;
    for (unsigned i = 0; i < wanted && err == LEAFD_OK; i++)
        err = start_lane(process, why);
    return process->lane_count ? LEAFD_OK : err;
}

/* ---- the keeper ---- */

static void close_token(struct signer_process *process)
{
    stop_lanes(process);
    backend_close(process->backend);
    process->backend = NULL;
}

static enum leafd_err open_token(struct signer_process *process, struct why *why)
{
    struct backend_counters counters = {0};
    enum leafd_err err;

    err = backend_open(process->conf, process->cas, &process->pin, &process->backend, why);
    if (err != LEAFD_OK)
        return err;
    backend_count(process->backend, &counters);
    atomic_fetch_add(&process->logins, counters.logins);
    err = start_lanes(process, why);
    if (err != LEAFD_OK) {
        close_token(process);
        return err;
    }
    pthread_mutex_lock(&process->lock);
    process->token_failed = false;
    set_state_locked(process, SIGNER_READY, "");
    pthread_mutex_unlock(&process->lock);
    wake_reader(process);
    log_event(LOG_LEVEL_NOTICE, "signer-ready", "lanes=%u cas=%zu", process->lane_count,
              process->all_cas->count);
    return LEAFD_OK;
}

/* Waits until something is to be done for the token, or for `ms`. */
static bool keeper_waits(struct signer_process *process, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;
    struct timespec at = {until / 1000, until % 1000 * 1000000};
    bool stop;

    pthread_mutex_lock(&process->lock);
    while (!process->keeper_stop && !(process->token_failed && process->backend))
        if (pthread_cond_timedwait(&process->keeper_changed, &process->lock, &at) != 0)
            break;
    stop = process->keeper_stop;
    pthread_mutex_unlock(&process->lock);
    return !stop;
}

/* Is the token that we have open still good? Says so once when not. */
static bool token_is_there(struct signer_process *process)
{
    struct why why = {""};
    bool failed;

    pthread_mutex_lock(&process->lock);
    failed = process->token_failed;
    snprintf(why.text, sizeof(why.text), "%.200s", process->text);
    pthread_mutex_unlock(&process->lock);
    if (!failed && backend_check(process->backend, &why) == LEAFD_OK)
        return true;
    log_event(LOG_LEVEL_ERROR, "token-lost", "reason=\"%s\"", why.text);
    set_state(process, SIGNER_CONNECTING, why.text);
    return false;
}

static void block_pin(struct signer_process *process, const struct why *why)
{
    log_event(LOG_LEVEL_ERROR, "pin-blocked", "reason=\"%s\"", why->text);
    set_state(process, SIGNER_PIN_BLOCKED, why->text);
    process->pin_refused(process->pin_ctx);
}

/* One try to get the token back; says once what is missing. False: the PIN was refused. */
static bool try_token(struct signer_process *process, struct why *said)
{
    struct why why = {""};
    enum leafd_err err = open_token(process, &why);

    if (err == LEAFD_OK) {
        said->text[0] = '\0';
        return true;
    }
    if (err == LEAFD_PIN) {
        block_pin(process, &why);
        return false;
    }
    if (strcmp(why.text, said->text) != 0) {
        log_event(LOG_LEVEL_WARNING, "token-absent", "reason=\"%s\"", why.text);
        set_state(process, SIGNER_CONNECTING, why.text);
        *said = why;
    }
    return true;
}

static void *keeper_run(void *arg)
{
    struct signer_process *process = arg;
    struct why said = {""};

    while (keeper_waits(process, process->backend ? CHECK_MS : PROBE_MS)) {
        if (process->backend && token_is_there(process))
            continue;
        close_token(process);
        if (!try_token(process, &said))
            break;
    }
    return NULL;
}

/* ---- the reader ---- */

static void take_front(struct signer_process *process, struct front_link *front)
{
    bool taken = false;

    pthread_mutex_lock(&process->lock);
    for (int i = 0; i < FRONTS_MAX && !taken; i++) {
        if (process->front[i])
            continue;
        process->front[i] = front;
        atomic_store(&process->state_changed, true);
        taken = true;
    }
    pthread_mutex_unlock(&process->lock);
    if (!taken)
        front_link_unref(front);
    wake_reader(process);
}

void signer_process_serve(struct signer_process *process, int fd)
{
    struct front_link *front = front_link_new(fd);

    if (front)
        take_front(process, front);
}

static void add_ca(struct signer_msg_state *state, const struct ca *ca)
{
    state->ca[state->ca_count].id = ca->id;
    state->ca[state->ca_count++].generation = ca->generation;
}

static void write_state(struct signer_process *process, struct signer_msg_state *state)
{
    const struct ca_set *cas = process->all_cas;

    *state = (struct signer_msg_state){.signatures = atomic_load(&process->signatures),
                                       .failures = atomic_load(&process->failures),
                                       .refusals = atomic_load(&process->refusals),
                                       .logins = atomic_load(&process->logins)};
    for (size_t i = 0; i < cas->count; i++)
        add_ca(state, cas->ca[i]);
    if (cas->untrusted) {
        add_ca(state, cas->untrusted);
        state->untrusted_der = cas->untrusted->der;
    }
    pthread_mutex_lock(&process->lock);
    state->state = process->state;
    state->lanes = process->state == SIGNER_READY ? process->lane_count : 0;
    memcpy(state->text, process->text, sizeof(state->text));
    pthread_mutex_unlock(&process->lock);
}

/* A front whose socket is full hears the next one. */
static void tell_state(struct signer_process *process)
{
    struct signer_msg_state state;
    uint8_t message[SIGNER_MSG_STATE_MAX];
    size_t len;

    atomic_store(&process->state_changed, false);
    write_state(process, &state);
    len = signer_msg_write_state(&state, message, sizeof(message));
    pthread_mutex_lock(&process->lock);
    for (int i = 0; i < FRONTS_MAX && len; i++)
        if (process->front[i] &&
            !front_link_try_send(process->front[i], (struct bytes){message, len}) &&
            errno == EAGAIN)
            atomic_store(&process->state_changed, true);
    pthread_mutex_unlock(&process->lock);
}

/* signer.max_rate as a bucket of one second's size. */
static bool within_budget_locked(struct signer_process *process)
{
    double rate = process->conf->signer_max_rate;
    int64_t now = clock_mono_us();

    if (rate <= 0)
        return true;
    process->budget += rate * (double)(now - process->budget_us) / 1e6;
    process->budget_us = now;
    if (process->budget > rate + 1)
        process->budget = rate + 1;
    if (process->budget < 1)
        return false;
    process->budget -= 1;
    return true;
}

/* LEAFD_OK: the job is a lane's. Else it is to be answered with that. */
static enum leafd_err enqueue(struct signer_process *process, struct job *job)
{
    enum leafd_err err = LEAFD_OK;

    pthread_mutex_lock(&process->lock);
    if (process->state != SIGNER_READY)
        err = LEAFD_AGAIN;
    else if (process->job_count >= JOBS_MAX || !within_budget_locked(process))
        err = LEAFD_BUSY;
    if (err == LEAFD_OK) {
        job->next = NULL;
        *process->last = job;
        process->last = &job->next;
        process->job_count++;
        pthread_cond_signal(&process->jobs_changed);
    }
    pthread_mutex_unlock(&process->lock);
    return err;
}

static void take_message(struct signer_process *process, struct front_link *front,
                         struct bytes message)
{
    struct bytes none = {NULL, 0};
    struct job *job = malloc(sizeof(*job) + message.len);
    uint64_t id = 0;
    enum leafd_err err = LEAFD_NOMEM;

    if (job) {
        memcpy(job->message, message.data, message.len);
        err = signer_msg_read_sign((struct bytes){job->message, message.len}, &id, &job->request);
    }
    if (err == LEAFD_OK) {
        job->front = front_link_ref(front);
        job->id = id;
        err = enqueue(process, job);
        if (err == LEAFD_OK)
            return;
        front_link_unref(front);
    }
    free(job);
    if (id)
        answer(front, id, err == LEAFD_MALFORMED ? LEAFD_REFUSED : err, none);
}

/* What the front has sent by now; false: it is gone. */
static bool read_front(struct signer_process *process, struct front_link *front)
{
    static uint8_t room[BATCH][SIGNER_MSG_SIGN_MAX + 1]; /* the reader's alone */
    struct iovec vector[BATCH];
    struct mmsghdr batch[BATCH];
    int got;

    memset(batch, 0, sizeof(batch));
    for (int i = 0; i < BATCH; i++) {
        vector[i] = (struct iovec){room[i], sizeof(room[i])};
        batch[i].msg_hdr.msg_iov = &vector[i];
        batch[i].msg_hdr.msg_iovlen = 1;
    }
    got = recvmmsg(front_link_fd(front), batch, BATCH, MSG_DONTWAIT, NULL);
    if (got == -1)
        return errno == EAGAIN || errno == EINTR;
    for (int i = 0; i < got; i++) {
        if (batch[i].msg_len == 0)
            return false; /* end of file */
        take_message(process, front, (struct bytes){room[i], batch[i].msg_len});
    }
    return got > 0;
}

static void forget_front(struct signer_process *process, int index)
{
    struct front_link *front = process->front[index];

    pthread_mutex_lock(&process->lock);
    process->front[index] = NULL;
    pthread_mutex_unlock(&process->lock);
    front_link_unref(front);
}

/* Jobs that no lane may sign now go back: the front holds them until a signer is ready. */
static void send_back_jobs(struct signer_process *process)
{
    struct job *job;

    pthread_mutex_lock(&process->lock);
    job = process->state == SIGNER_READY ? NULL : process->first;
    if (job) {
        process->first = NULL;
        process->last = &process->first;
        process->job_count = 0;
    }
    pthread_mutex_unlock(&process->lock);
    while (job) {
        struct job *next = job->next;

        answer(job->front, job->id, LEAFD_AGAIN, (struct bytes){NULL, 0});
        job_free(job);
        job = next;
    }
}

/* How long the reader may sleep: for ever when nothing happens. */
static int reader_patience(struct signer_process *process, uint64_t told_signatures)
{
    if (atomic_load(&process->state_changed))
        return RETELL_MS;
    return atomic_load(&process->signatures) != told_signatures ? STATE_MS : -1;
}

/* Waits for fronts and for ourselves; reads what has come. */
static void serve_fronts(struct signer_process *process, int patience_ms)
{
    struct pollfd polls[1 + FRONTS_MAX] = {{process->wake_fd, POLLIN, 0}};
    struct front_link *front[FRONTS_MAX];
    eventfd_t events;

    pthread_mutex_lock(&process->lock);
    memcpy(front, process->front, sizeof(front));
    pthread_mutex_unlock(&process->lock);
    for (int i = 0; i < FRONTS_MAX; i++)
        polls[1 + i] = (struct pollfd){front[i] ? front_link_fd(front[i]) : -1, POLLIN, 0};
    if (poll(polls, 1 + FRONTS_MAX, patience_ms) < 1)
        return;
    if (polls[0].revents)
        (void)eventfd_read(process->wake_fd, &events);
    for (int i = 0; i < FRONTS_MAX; i++)
        if (polls[1 + i].revents && !read_front(process, front[i]))
            forget_front(process, i);
}

static void *reader_run(void *arg)
{
    struct signer_process *process = arg;
    uint64_t told_signatures = 0;
    int64_t told_ms = 0;

    while (!atomic_load(&process->stopping)) {
        uint64_t signatures = atomic_load(&process->signatures);

        if (atomic_load(&process->state_changed) ||
            (signatures != told_signatures && clock_mono_ms() >= told_ms + STATE_MS)) {
            send_back_jobs(process);
            tell_state(process);
            told_signatures = signatures;
            told_ms = clock_mono_ms();
        }
        serve_fronts(process, reader_patience(process, told_signatures));
    }
    return NULL;
}

/* ---- life ---- */

static enum leafd_err make_untrusted(struct signer_process *process, struct why *why)
{
    struct ca *untrusted = NULL;
    enum leafd_err err;

    if (process->conf->untrusted != CONF_UNTRUSTED_AUTO) {
        process->all_cas = ca_set_ref(process->cas);
        return LEAFD_OK;
    }
    err = ca_make_ephemeral(&untrusted, &process->untrusted_key, why);
    if (err != LEAFD_OK)
        return err;
    process->all_cas = ca_set_new(process->cas->ca, process->cas->count, untrusted);
    ca_unref(untrusted);
    return process->all_cas ? LEAFD_OK : LEAFD_NOMEM;
}

enum leafd_err signer_process_new(const struct conf *conf, struct ca_set *cas, struct secret *pin,
                                  bool pin_blocked, signer_pin_fn pin_refused, void *ctx,
                                  struct signer_process **ret, struct why *why)
{
    struct signer_process *process = calloc(1, sizeof(*process));
    pthread_condattr_t attr;
    enum leafd_err err;

    if (!process)
        return LEAFD_NOMEM;
    process->conf = conf;
    process->cas = ca_set_ref(cas);
    process->pin = *pin;
    *pin = SECRET_EMPTY;
    process->pin_refused = pin_refused;
    process->pin_ctx = ctx;
    process->last = &process->first;
    process->lanes_stop = true;
    process->state = pin_blocked ? SIGNER_PIN_BLOCKED : SIGNER_CONNECTING;
    snprintf(process->text, sizeof(process->text), "%s",
             pin_blocked ? "the token refused the PIN; mend it, then restart leafd"
                         : "the token is being opened");
    process->budget = conf->signer_max_rate + 1;
    process->budget_us = clock_mono_us();
    pthread_mutex_init(&process->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&process->jobs_changed, &attr);
    pthread_cond_init(&process->keeper_changed, &attr);
    pthread_condattr_destroy(&attr);
    process->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = process->wake_fd == -1 ? LEAFD_IO : make_untrusted(process, why);
    if (err == LEAFD_OK)
        err = sign_check_new(conf, process->all_cas, &process->check, why);
    if (err == LEAFD_OK) {
        process->lane_parts =
            (struct signer_lane_parts){process->all_cas, process->check, process->untrusted_key};
        if (pthread_create(&process->reader, NULL, reader_run, process) == 0)
            process->reader_runs = true;
        else
            err = fail(why, LEAFD_INTERNAL, "the signer's thread cannot be started");
    }
    if (err == LEAFD_OK)
        *ret = process;
    else
        signer_process_free(process, 0);
    return err;
}

enum leafd_err signer_process_start(struct signer_process *process, struct why *why)
{
    enum leafd_err err;

    if (process->state == SIGNER_PIN_BLOCKED)
        return LEAFD_OK;
    err = open_token(process, why);
    if (err == LEAFD_PIN)
        set_state(process, SIGNER_PIN_BLOCKED, why->text);
    if (err == LEAFD_CONFIG || err == LEAFD_PIN)
        return err;
    if (err != LEAFD_OK) {
        log_event(LOG_LEVEL_WARNING, "token-absent", "reason=\"%s\"", why->text);
        set_state(process, SIGNER_CONNECTING, why->text);
    }
    if (pthread_create(&process->keeper, NULL, keeper_run, process) != 0)
        return fail(why, LEAFD_INTERNAL, "the keeper's thread cannot be started");
    process->keeper_runs = true;
    return LEAFD_OK;
}

/* Until nothing is queued and no lane is busy, or until the deadline. */
static void drain(struct signer_process *process, int64_t deadline_ms)
{
    bool idle = false;

    while (!idle && clock_mono_ms() < deadline_ms) {
        pthread_mutex_lock(&process->lock);
        idle = process->state != SIGNER_READY || (!process->first && process->busy == 0);
        pthread_mutex_unlock(&process->lock);
        if (!idle)
            (void)poll(NULL, 0, 5);
    }
}

static void stop_threads(struct signer_process *process)
{
    if (process->keeper_runs) {
        pthread_mutex_lock(&process->lock);
        process->keeper_stop = true;
        pthread_cond_signal(&process->keeper_changed);
        pthread_mutex_unlock(&process->lock);
        pthread_join(process->keeper, NULL);
    }
    if (process->reader_runs) {
        atomic_store(&process->stopping, true);
        wake_reader(process);
        pthread_join(process->reader, NULL);
    }
    close_token(process);
}

void signer_process_free(struct signer_process *process, int64_t deadline_ms)
{
    if (!process)
        return;
    drain(process, deadline_ms);
    stop_threads(process);
    while (process->first) {
        struct job *job = process->first;

        process->first = job->next;
        job_free(job);
    }
    for (int i = 0; i < FRONTS_MAX; i++)
        front_link_unref(process->front[i]);
    sign_check_free(process->check);
    EVP_PKEY_free(process->untrusted_key);
    ca_set_unref(process->all_cas);
    ca_set_unref(process->cas);
    secret_clear(&process->pin);
    if (process->wake_fd != -1)
        close(process->wake_fd);
    pthread_cond_destroy(&process->jobs_changed);
    pthread_cond_destroy(&process->keeper_changed);
    pthread_mutex_destroy(&process->lock);
    free(process);
}
