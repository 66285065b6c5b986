/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_process.h"

#include "base/clock.h"
#include "base/cond.h"
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
    GIVE_UP_TRIES = 20,  /* openings of a token that is there, after it was lost */
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
    size_t token;           /* of conf's: the one that is ours */
    struct ca_set *cas;     /* as configured: what the backend opens */
    struct ca_set *all_cas; /* with the untrusted CA in memory: what is signed for */
    EVP_PKEY *untrusted_key;
    struct secret pin;
    const struct signer_process_events *events;
    void *events_ctx;
    struct sign_check *check;
    struct signer_lane_parts lane_parts;

    int wake_fd; /* an eventfd for the reader: state has changed, fronts have come, or stop */
    atomic_bool stopping;
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
    bool state_owed; /* some front's socket was full: it is to be told again */
    uint64_t told;   /* sum of the counters that fronts have heard last */
    struct front_link *front[FRONTS_MAX];
    struct inbox *inbox; /* the reader's alone */
    struct backend *backend;
    struct signer_lane *lane[LANES_MAX];
    pthread_t lane_thread[LANES_MAX];
    unsigned lane_count;

    bool was_ready; /* the keeper's, and before that signer_process_start's */
    pthread_t reader, keeper;
    bool reader_runs, keeper_runs;
};

struct inbox {
    uint8_t room[BATCH][SIGNER_MSG_SIGN_MAX + 1]; /* one more, to tell what was cut */
    struct iovec vector[BATCH];
    struct mmsghdr batch[BATCH];
};

struct lane_start {
    struct signer_process *process;
    struct signer_lane *lane;
};

static void log_reason(enum log_level level, const char *event, const struct why *why)
{
    char reason[2 * sizeof(why->text)];

    log_event(level, event, "reason=\"%s\"",
              bytes_escape(bytes_of(why->text), reason, sizeof(reason)));
}

static void wake_reader(struct signer_process *process)
{
    (void)eventfd_write(process->wake_fd, 1);
}

/* Under the lock. */
static bool is_signing(const struct signer_process *process)
{
    return process->state == SIGNER_READY || process->state == SIGNER_DEGRADED;
}

static void add_ca(struct signer_msg_state *state, const struct ca *ca)
{
    state->ca[state->ca_count].id = ca->id;
    state->ca[state->ca_count++].generation = ca->generation;
}

static uint64_t counted(const struct signer_process *process)
{
    return atomic_load(&process->signatures) + atomic_load(&process->failures) +
           atomic_load(&process->refusals);
}

static void write_state_locked(struct signer_process *process, struct signer_msg_state *state)
{
    const struct ca_set *cas = process->all_cas;

    *state = (struct signer_msg_state){.state = process->state,
                                       .lanes = is_signing(process) ? process->lane_count : 0,
                                       .signatures = atomic_load(&process->signatures),
                                       .failures = atomic_load(&process->failures),
                                       .refusals = atomic_load(&process->refusals),
                                       .logins = atomic_load(&process->logins)};
    memcpy(state->text, process->text, sizeof(state->text));
    for (size_t i = 0; i < cas->count; i++)
        add_ca(state, cas->ca[i]);
    if (cas->untrusted) {
        add_ca(state, cas->untrusted);
        state->untrusted_der = cas->untrusted->der;
    }
}

/* Told under the lock, so that states arrive in their order, and before any answer that follows
 * from them: a front never sends again what we have just sent back. */
static void tell_state_locked(struct signer_process *process)
{
    struct signer_msg_state state;
    uint8_t message[SIGNER_MSG_STATE_MAX];
    size_t len;

    process->told = counted(process);
    write_state_locked(process, &state);
    len = signer_msg_write_state(&state, message, sizeof(message));
    process->state_owed = false;
    for (int i = 0; i < FRONTS_MAX && len; i++)
        if (process->front[i] &&
            !front_link_try_send(process->front[i], (struct bytes){message, len}) &&
            errno == EAGAIN)
            process->state_owed = true;
}

static void set_state_locked(struct signer_process *process, enum signer_state state,
                             const char *text)
{
    process->state = state;
    snprintf(process->text, sizeof(process->text), "%s", text);
    tell_state_locked(process);
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

    if (!len) { /* an error that no front is told by its name */
        reply = (struct signer_msg_reply){.id = id, .err = LEAFD_INTERNAL};
        len = signer_msg_write_reply(&reply, message, sizeof(message));
    }
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
static void token_has_failed(struct signer_process *process, const struct why *why)
{
    pthread_mutex_lock(&process->lock);
    if (!process->token_failed) {
        process->token_failed = true;
        process->lanes_stop = true;
        set_state_locked(process, SIGNER_CONNECTING, why->text);
        pthread_cond_broadcast(&process->jobs_changed);
        pthread_cond_signal(&process->keeper_changed);
    }
    pthread_mutex_unlock(&process->lock);
    wake_reader(process);
}

static void job_done(struct signer_process *process)
{
    pthread_mutex_lock(&process->lock);
    process->busy--;
    pthread_mutex_unlock(&process->lock);
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
        if (token_failed)
            token_has_failed(process, &why);
        answer(job->front, job->id, err, (struct bytes){signature, len});
        job_done(process);
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
static enum leafd_err start_lanes(struct signer_process *process, bool *ret_all, struct why *why)
{
    unsigned wanted = backend_lanes(process->backend);
    enum leafd_err err = LEAFD_OK;

    pthread_mutex_lock(&process->lock);
    process->lanes_stop = false;
    pthread_mutex_unlock(&process->lock);
    wanted = wanted < LANES_MAX ? wanted : LANES_MAX;
    for (unsigned i = 0; i < wanted && err == LEAFD_OK; i++)
        err = start_lane(process, why);
    *ret_all = process->lane_count == wanted;
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
    bool all = false;
    enum leafd_err err;

    err = backend_open(process->conf, process->token, process->cas, &process->pin,
                       &process->backend, why);
    if (err != LEAFD_OK)
        return err;
    backend_count(process->backend, &counters);
    atomic_fetch_add(&process->logins, counters.logins);
    err = start_lanes(process, &all, why);
    if (err != LEAFD_OK) {
        close_token(process);
        return err;
    }
    pthread_mutex_lock(&process->lock);
    process->token_failed = false;
    process->was_ready = true;
    set_state_locked(process, all ? SIGNER_READY : SIGNER_DEGRADED,
                     all ? "" : "the token gives fewer sessions than it offers");
    pthread_mutex_unlock(&process->lock);
    wake_reader(process);
    process->events->signing(process->events_ctx);
    log_event(LOG_LEVEL_NOTICE, "signer-ready", "lanes=%u cas=%zu", process->lane_count,
              process->all_cas->count);
    return LEAFD_OK;
}

/* Waits until something is to be done for the token, or for `ms`. */
static bool keeper_waits(struct signer_process *process, int64_t ms)
{
    int64_t until_ms = clock_mono_ms() + ms;
    bool stop;

    pthread_mutex_lock(&process->lock);
    while (!process->keeper_stop && !(process->token_failed && process->backend) &&
           cond_wait_until(&process->keeper_changed, &process->lock, until_ms))
        ;
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
    log_reason(LOG_LEVEL_ERROR, "token-lost", &why);
    set_state(process, SIGNER_CONNECTING, why.text);
    return false;
}

static void block_pin(struct signer_process *process, const struct why *why)
{
    log_reason(LOG_LEVEL_ERROR, "pin-blocked", why);
    set_state(process, SIGNER_PIN_BLOCKED, why->text);
    process->events->pin_refused(process->events_ctx);
}

/* A module that once worked and cannot be opened again is not mended by waiting: a new process has
 * one that was never confused. */
static void give_up(const struct why *why)
{
    log_reason(LOG_LEVEL_ERROR, "signer-gives-up", why);
    _exit(EXIT_FAILURE);
}

/* One try to get the token back; says once what is missing. False: the PIN was refused. */
static bool try_token(struct signer_process *process, unsigned *failures, struct why *said)
{
    struct why why = {""};
    enum leafd_err err = open_token(process, &why);

    if (err == LEAFD_OK) {
        said->text[0] = '\0';
        *failures = 0;
        return true;
    }
    if (err == LEAFD_PIN) {
        block_pin(process, &why);
        return false;
    }
    if (strcmp(why.text, said->text) != 0) {
        log_reason(LOG_LEVEL_WARNING, "token-absent", &why);
        set_state(process, SIGNER_CONNECTING, why.text);
        *said = why;
    }
    *failures = err == LEAFD_ABSENT ? 0 : *failures + 1;
    if (process->was_ready && *failures == GIVE_UP_TRIES)
        give_up(&why);
    return true;
}

static void *keeper_run(void *arg)
{
    struct signer_process *process = arg;
    struct why said = {""};
    unsigned failures = 0;

    while (keeper_waits(process, process->backend ? CHECK_MS : PROBE_MS)) {
        if (process->backend && token_is_there(process))
            continue;
        close_token(process);
        if (!try_token(process, &failures, &said))
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
        tell_state_locked(process);
        taken = true;
    }
    pthread_mutex_unlock(&process->lock);
    if (!taken) {
        log_event(LOG_LEVEL_ERROR, "front-not-served", "reason=\"there are %d already\"",
                  FRONTS_MAX);
        front_link_unref(front);
    }
    wake_reader(process);
}

void signer_process_serve(struct signer_process *process, int fd)
{
    struct front_link *front = front_link_new(fd);

    if (front)
        take_front(process, front);
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
    if (!is_signing(process))
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
    if (err == LEAFD_MALFORMED) { /* the next datagram is a new beginning */
        static struct log_limit limit;

        log_limited(&limit, 1, LOG_LEVEL_ERROR, "front-misbehaved",
                    "reason=\"a message that no front sends\" octets=%zu", message.len);
        atomic_fetch_add(&process->refusals, 1);
        err = LEAFD_REFUSED;
    }
    if (id)
        answer(front, id, err, none);
}

/* What the front has sent by now; false: it is gone. */
static bool read_front(struct signer_process *process, struct front_link *front)
{
    struct inbox *inbox = process->inbox;
    int got;

    for (int i = 0; i < BATCH; i++) {
        inbox->vector[i] = (struct iovec){inbox->room[i], sizeof(inbox->room[i])};
        inbox->batch[i] =
            (struct mmsghdr){.msg_hdr = {.msg_iov = &inbox->vector[i], .msg_iovlen = 1}};
    }
    got = recvmmsg(front_link_fd(front), inbox->batch, BATCH, MSG_DONTWAIT, NULL);
    if (got == -1)
        return errno == EAGAIN || errno == EINTR;
    for (int i = 0; i < got; i++) {
        if (inbox->batch[i].msg_len == 0)
            return false; /* end of file */
        take_message(process, front, (struct bytes){inbox->room[i], inbox->batch[i].msg_len});
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
    job = is_signing(process) ? NULL : process->first;
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

/* Tells what is owed; the return value is how long the reader may sleep: for ever when nothing
 * happens. */
static int tell_fronts(struct signer_process *process, int64_t *told_ms)
{
    int64_t now_ms = clock_mono_ms();
    int patience_ms = -1;

    pthread_mutex_lock(&process->lock);
    if (process->state_owed ||
        (process->told != counted(process) && now_ms >= *told_ms + STATE_MS)) {
        tell_state_locked(process);
        *told_ms = now_ms;
    }
    if (process->state_owed)
        patience_ms = RETELL_MS;
    else if (process->told != counted(process) || now_ms < *told_ms + STATE_MS)
        patience_ms = STATE_MS;
    pthread_mutex_unlock(&process->lock);
    return patience_ms;
}

/* Waits for fronts and for ourselves; reads what has come. True: something has. */
static bool serve_fronts(struct signer_process *process, int patience_ms)
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
        return false;
    if (polls[0].revents)
        (void)eventfd_read(process->wake_fd, &events);
    for (int i = 0; i < FRONTS_MAX; i++)
        if (polls[1 + i].revents && !read_front(process, front[i]))
            forget_front(process, i);
    return true;
}

static void *reader_run(void *arg)
{
    struct signer_process *process = arg;
    int64_t told_ms = 0;

    while (!atomic_load(&process->stopping)) {
        int patience_ms;

        send_back_jobs(process);
        patience_ms = tell_fronts(process, &told_ms);
        if (serve_fronts(process, patience_ms) && patience_ms < 0)
            told_ms = clock_mono_ms(); /* work has come: look at the counters in a second */
    }
    return NULL;
}

/* ---- life ---- */

enum leafd_err signer_process_new(const struct conf *conf, size_t token, struct ca_set *cas,
                                  struct secret *pin, const struct signer_process_events *events,
                                  void *ctx, struct signer_process **ret, struct why *why)
{
    struct signer_process *process = calloc(1, sizeof(*process));
    enum leafd_err err;

    if (!process)
        return LEAFD_NOMEM;
    process->conf = conf;
    process->token = token;
    process->cas = ca_set_ref(cas);
    process->pin = *pin;
    *pin = SECRET_EMPTY;
    process->events = events;
    process->events_ctx = ctx;
    process->last = &process->first;
    process->lanes_stop = true;
    process->state = SIGNER_CONNECTING;
    snprintf(process->text, sizeof(process->text), "the token is being opened");
    process->budget = conf->signer_max_rate + 1;
    process->budget_us = clock_mono_us();
    pthread_mutex_init(&process->lock, NULL);
    cond_init(&process->jobs_changed);
    cond_init(&process->keeper_changed);
    process->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    process->inbox = malloc(sizeof(*process->inbox));
    err = process->wake_fd == -1 ? LEAFD_IO : LEAFD_OK;
    if (err == LEAFD_OK)
        err = process->inbox
                  ? ca_make_set(conf, process->cas, &process->all_cas, &process->untrusted_key, why)
                  : LEAFD_NOMEM;
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

    err = open_token(process, why);
    if (err == LEAFD_PIN)
        set_state(process, SIGNER_PIN_BLOCKED, why->text);
    if (err == LEAFD_CONFIG || err == LEAFD_PIN)
        return err;
    if (err != LEAFD_OK) {
        log_reason(LOG_LEVEL_WARNING, "token-absent", why);
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
        idle = !is_signing(process) || (!process->first && process->busy == 0);
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
    free(process->inbox);
    if (process->wake_fd != -1)
        close(process->wake_fd);
    pthread_cond_destroy(&process->jobs_changed);
    pthread_cond_destroy(&process->keeper_changed);
    pthread_mutex_destroy(&process->lock);
    free(process);
}
