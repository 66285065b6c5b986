/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_process.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/ca_make.h"
#include "pkcs11/front_link.h"
#include "pkcs11/signer_msg.h"
#include "pkcs11/token_keeper.h"

#include <errno.h>
#include <limits.h>
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
    BATCH = 32,
    RETELL_MS = 50,    /* a front whose socket was full is told again */
    STATE_MS = 1000,   /* fronts hear new counters so often while there is work */
    END_GRACE_MS = 300 /* calls into the module that were made in time may still return */
};

struct signer_process {
    struct ca_set *cas;     /* as configured: what the backend opens */
    struct ca_set *all_cas; /* with the untrusted CA in memory: what is signed for */
    EVP_PKEY *untrusted_key;
    struct secret pin;
    const struct signer_process_events *events;
    void *events_ctx;
    struct sign_check *check;
    struct signer_lane_parts lane_parts;
    struct signer_counts counts;
    struct signer_queue *queue;
    struct token_keeper *keeper;

    int wake_fd; /* an eventfd for the reader: state has changed, fronts have come, or stop */
    atomic_bool stopping;

    pthread_mutex_t lock; /* over everything below */
    enum signer_state state;
    char text[256];
    bool state_owed;                 /* some front's socket was full: it is to be told again */
    struct signer_msg_disown disown; /* what some front has perhaps not heard yet */
    uint64_t told;                   /* sum of the counters that fronts have heard last */
    struct front_link *front[FRONTS_MAX];
    struct inbox *inbox; /* the reader's alone */

    pthread_t reader;
    bool reader_runs;
};

struct inbox {
    uint8_t room[BATCH][SIGNER_MSG_SIGN_MAX + 1]; /* one more, to tell what was cut */
    struct iovec vector[BATCH];
    struct mmsghdr batch[BATCH];
};

static void wake_reader(struct signer_process *process)
{
    (void)eventfd_write(process->wake_fd, 1);
}

static bool is_signing(enum signer_state state)
{
    return state == SIGNER_READY || state == SIGNER_DEGRADED;
}

static void add_ca(struct signer_msg_state *state, const struct ca *ca)
{
    state->ca[state->ca_count].id = ca->id;
    state->ca[state->ca_count++].generation = ca->generation;
}

static uint64_t counted(const struct signer_process *process)
{
    const struct signer_counts *counts = &process->counts;

    return atomic_load(&counts->signatures) + atomic_load(&counts->failures) +
           atomic_load(&counts->refusals) + atomic_load(&counts->proofs) +
           atomic_load(&counts->recoveries) + atomic_load(&counts->disowned);
}

static void write_state_locked(struct signer_process *process, struct signer_msg_state *state)
{
    const struct ca_set *cas = process->all_cas;
    const struct signer_counts *counts = &process->counts;

    *state = (struct signer_msg_state){
        .state = process->state,
        .lanes = is_signing(process->state) ? token_keeper_lanes(process->keeper) : 0,
        .tally =
            {
                .signatures = atomic_load(&counts->signatures),
                .failures = atomic_load(&counts->failures),
                .refusals = atomic_load(&counts->refusals),
                .logins = atomic_load(&counts->logins),
                .proofs = atomic_load(&counts->proofs),
                .recoveries = atomic_load(&counts->recoveries),
                .disowned = atomic_load(&counts->disowned),
            },
    };
    memcpy(state->text, process->text, sizeof(state->text));
    for (size_t i = 0; i < cas->count; i++)
        add_ca(state, cas->ca[i]);
    if (cas->untrusted) {
        add_ca(state, cas->untrusted);
        state->untrusted_der = cas->untrusted->der;
    }
}

/* Under the lock. False: some front's socket is full. */
static bool tell_all_locked(struct signer_process *process, struct bytes message)
{
    bool all = true;

    for (int i = 0; i < FRONTS_MAX && message.len; i++)
        if (process->front[i] && !front_link_try_send(process->front[i], message) &&
            errno == EAGAIN)
            all = false;
    return all;
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
    process->state_owed = !tell_all_locked(process, (struct bytes){message, len});
}

/* As states; a front takes the same batch twice. */
static void tell_disowned_locked(struct signer_process *process)
{
    uint8_t message[SIGNER_MSG_DISOWN_MAX];
    size_t len;

    if (!process->disown.count)
        return;
    len = signer_msg_write_disown(&process->disown, message, sizeof(message));
    if (tell_all_locked(process, (struct bytes){message, len}))
        process->disown.count = 0;
}

/* The keeper's, and the lanes'. A front whose socket is full has not had so many replies that more
 * batches than this one holds could be disowned. */
static void disown(void *ctx, uint64_t batch)
{
    struct signer_process *process = ctx;
    struct signer_msg_disown *all = &process->disown;

    pthread_mutex_lock(&process->lock);
    if (all->count == SIGNER_MSG_BATCHES_MAX)
        memmove(all->batch, all->batch + 1, --all->count * sizeof(all->batch[0]));
    all->batch[all->count++] = batch;
    tell_disowned_locked(process);
    pthread_mutex_unlock(&process->lock);
    wake_reader(process);
}

/* Before any front hears of it: what somebody has seen to sign is no first start, however soon it
 * ends. */
static void tell_signing(struct signer_process *process)
{
    bool signs_already;

    pthread_mutex_lock(&process->lock);
    signs_already = is_signing(process->state);
    pthread_mutex_unlock(&process->lock);
    if (!signs_already)
        process->events->signing(process->events_ctx);
}

/* The keeper's: one at a time. */
static void set_state(void *ctx, enum signer_state state, const char *text)
{
    struct signer_process *process = ctx;

    if (is_signing(state))
        tell_signing(process);
    pthread_mutex_lock(&process->lock);
    process->state = state;
    snprintf(process->text, sizeof(process->text), "%s", text);
    tell_state_locked(process);
    pthread_mutex_unlock(&process->lock);
    wake_reader(process);
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

static void take_message(struct signer_process *process, struct front_link *front,
                         struct bytes message)
{
    static struct log_limit limit;

    if (signer_queue_add(process->queue, front, message) != LEAFD_MALFORMED)
        return;
    /* the next datagram is a new beginning */
    log_limited(&limit, 1, LOG_LEVEL_ERROR, "front-misbehaved",
                "reason=\"a message that no front sends\" octets=%zu", message.len);
    atomic_fetch_add(&process->counts.refusals, 1);
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

/* Tells what is owed; the return value is how long the reader may sleep: for ever when nothing
 * happens. */
static int tell_fronts(struct signer_process *process, int64_t *told_ms)
{
    int64_t now_ms = clock_mono_ms();
    int patience_ms = -1;

    pthread_mutex_lock(&process->lock);
    tell_disowned_locked(process);
    if (process->state_owed ||
        (process->told != counted(process) && now_ms >= *told_ms + STATE_MS)) {
        tell_state_locked(process);
        *told_ms = now_ms;
    }
    if (process->state_owed || process->disown.count)
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

/* The sooner of a patience (-1: for ever) and a moment (INT64_MAX: never). */
static int no_later_than(int patience_ms, int64_t at_ms)
{
    int64_t left_ms = at_ms - clock_mono_ms();

    if (at_ms == INT64_MAX || left_ms > INT_MAX)
        return patience_ms;
    if (left_ms < 1)
        left_ms = 1;
    return patience_ms < 0 || left_ms < patience_ms ? (int)left_ms : patience_ms;
}

static void *reader_run(void *arg)
{
    struct signer_process *process = arg;
    int64_t told_ms = 0;

    while (!atomic_load(&process->stopping)) {
        int64_t look_ms = token_keeper_watch(process->keeper);
        int patience_ms = tell_fronts(process, &told_ms);

        if (serve_fronts(process, no_later_than(patience_ms, look_ms)) && patience_ms < 0)
            told_ms = clock_mono_ms(); /* work has come: look at the counters in a second */
    }
    return NULL;
}

/* ---- life ---- */

static void pin_refused(void *ctx)
{
    struct signer_process *process = ctx;

    process->events->pin_refused(process->events_ctx);
}

static void replace_me(void *ctx, bool at_once)
{
    struct signer_process *process = ctx;

    process->events->replace_me(process->events_ctx, at_once);
}

static void watch_me(void *ctx)
{
    wake_reader(ctx);
}

static const struct token_keeper_events keeper_events = {set_state, pin_refused, replace_me, disown,
                                                         watch_me};

/* What is made once, from the configuration. */
static enum leafd_err make_parts(struct signer_process *process, const struct conf *conf,
                                 struct why *why)
{
    enum leafd_err err =
        ca_make_set(conf, process->cas, &process->all_cas, &process->untrusted_key, why);

    if (err == LEAFD_OK)
        err = sign_check_new(conf, process->all_cas, &process->check, why);
    if (err == LEAFD_OK)
        err = signer_queue_new(conf->signer_max_rate, process->check, &process->queue);
    process->lane_parts =
        (struct signer_lane_parts){process->all_cas, process->check, process->untrusted_key};
    return err;
}

static enum leafd_err start_reader(struct signer_process *process, struct why *why)
{
    if (pthread_create(&process->reader, NULL, reader_run, process) != 0)
        return fail(why, LEAFD_INTERNAL, "the signer's thread cannot be started");
    process->reader_runs = true;
    return LEAFD_OK;
}

enum leafd_err signer_process_new(const struct conf *conf, size_t token, struct ca_set *cas,
                                  struct secret *pin, const struct signer_process_events *events,
                                  void *ctx, struct signer_process **ret, struct why *why)
{
    struct signer_process *process = calloc(1, sizeof(*process));
    enum leafd_err err;

    if (!process)
        return LEAFD_NOMEM;
    process->cas = ca_set_ref(cas);
    process->pin = *pin;
    *pin = SECRET_EMPTY;
    process->events = events;
    process->events_ctx = ctx;
    process->state = SIGNER_CONNECTING;
    snprintf(process->text, sizeof(process->text), "the token is being opened");
    pthread_mutex_init(&process->lock, NULL);
    process->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    process->inbox = malloc(sizeof(*process->inbox));
    err = process->wake_fd == -1 ? LEAFD_IO : process->inbox ? LEAFD_OK : LEAFD_NOMEM;
    if (err == LEAFD_OK)
        err = make_parts(process, conf, why);
    if (err == LEAFD_OK)
        err = token_keeper_new(conf, token, process->cas, &process->pin, &process->lane_parts,
                               process->queue, &process->counts, &keeper_events, process,
                               &process->keeper, why);
    if (err == LEAFD_OK)
        err = start_reader(process, why);
    if (err == LEAFD_OK)
        *ret = process;
    else
        (void)signer_process_free(process, 0);
    return err;
}

enum leafd_err signer_process_start(struct signer_process *process, struct why *why)
{
    return token_keeper_start(process->keeper, why);
}

/* Until nothing is queued and no lane is busy, or until the deadline. */
static void drain(struct signer_process *process, int64_t deadline_ms)
{
    while (signer_queue_mode(process->queue) != SIGNER_QUEUE_SHUT &&
           !signer_queue_idle(process->queue) && clock_mono_ms() < deadline_ms)
        (void)poll(NULL, 0, 5);
}

/* False: a thread is in the module and does not come back. */
static bool stop_threads(struct signer_process *process, int64_t deadline_ms)
{
    if (process->reader_runs) {
        drain(process, deadline_ms);
        atomic_store(&process->stopping, true);
        wake_reader(process);
        pthread_join(process->reader, NULL);
        process->reader_runs = false;
    }
    if (deadline_ms < clock_mono_ms() + END_GRACE_MS)
        deadline_ms = clock_mono_ms() + END_GRACE_MS;
    return !process->keeper || token_keeper_end(process->keeper, deadline_ms);
}

bool signer_process_free(struct signer_process *process, int64_t deadline_ms)
{
    if (!process)
        return true;
    if (!stop_threads(process, deadline_ms))
        return false;
    token_keeper_free(process->keeper);
    signer_queue_free(process->queue);
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
    pthread_mutex_destroy(&process->lock);
    free(process);
    return true;
}
