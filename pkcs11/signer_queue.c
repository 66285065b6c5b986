/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_queue.h"

#include "base/clock.h"
#include "base/cond.h"
#include "pkcs11/signer_msg.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    ATTEMPTS_MAX =
        8, /* a request that spoils the token's work each time must not stop it for ever */
    TELL_AHEAD_MS = 300, /* before its deadline an asker hears that nobody signs now */
    LOOK_MS = 100
};

struct signer_queue {
    double max_rate;
    struct sign_check *check;
    pthread_mutex_t lock; /* over everything below, and over what job and seat say */
    pthread_cond_t changed;
    enum signer_queue_mode mode;
    struct sign_job *first, **last;
    size_t count;
    size_t busy; /* seats with a job, those that are lost not counted */
    uint64_t turns, turn_done;
    int64_t done_ms; /* when a lane last finished */
    double budget;   /* signatures that max_rate leaves now */
    int64_t budget_us;
};

/* ---- jobs ---- */

static struct sign_job *job_new(struct front_link *front, struct bytes message, uint64_t *ret_id,
                                enum leafd_err *ret_err)
{
    struct sign_job *job = malloc(sizeof(*job) + message.len);

    *ret_err = LEAFD_NOMEM;
    *ret_id = 0;
    if (!job)
        return NULL;
    memset(job, 0, sizeof(*job));
    atomic_init(&job->checked, false);
    memcpy(job->message, message.data, message.len);
    *ret_err =
        signer_msg_read_sign((struct bytes){job->message, message.len}, ret_id, &job->request);
    if (*ret_err != LEAFD_OK) {
        free(job);
        return NULL;
    }
    job->front = front_link_ref(front);
    job->id = *ret_id;
    job->holders = 1;
    return job;
}

static void job_free(struct sign_job *job)
{
    front_link_unref(job->front);
    free(job);
}

void sign_answer(struct front_link *front, uint64_t id, enum leafd_err err, struct bytes signature,
                 uint64_t batch)
{
    struct signer_msg_reply reply = {.id = id, .err = err, .signature = signature, .batch = batch};
    uint8_t message[SIGNER_MSG_REPLY_MAX];
    size_t len = signer_msg_write_reply(&reply, message, sizeof(message));

    if (!len) {
        reply = (struct signer_msg_reply){.id = id, .err = LEAFD_INTERNAL};
        len = signer_msg_write_reply(&reply, message, sizeof(message));
    }
    if (len)
        (void)front_link_send(front, (struct bytes){message, len});
}

/* ---- with the lock held ---- */

static void append(struct signer_queue *queue, struct sign_job *job)
{
    job->next = NULL;
    job->waits = true;
    *queue->last = job;
    queue->last = &job->next;
    queue->count++;
}

static void prepend(struct signer_queue *queue, struct sign_job *job)
{
    job->next = queue->first;
    job->waits = true;
    queue->first = job;
    if (!job->next)
        queue->last = &job->next;
    queue->count++;
}

static struct sign_job *take_first(struct signer_queue *queue)
{
    struct sign_job *job = queue->first;

    queue->first = job->next;
    if (!queue->first)
        queue->last = &queue->first;
    queue->count--;
    job->waits = false;
    return job;
}

/* True: nobody has answered it, and the caller does. */
static bool claim(struct sign_job *job)
{
    bool first = !job->answered;

    job->answered = true;
    return first;
}

/* True: nobody holds it any more, and the caller frees it. */
static bool let_go(struct sign_job *job)
{
    return --job->holders == 0;
}

/* signer.max_rate as a bucket of one second's size. */
static bool within_budget(struct signer_queue *queue)
{
    double rate = queue->max_rate;
    int64_t now = clock_mono_us();

    if (rate <= 0)
        return true;
    queue->budget += rate * (double)(now - queue->budget_us) / 1e6;
    queue->budget_us = now;
    if (queue->budget > rate + 1)
        queue->budget = rate + 1;
    if (queue->budget < 1)
        return false;
    queue->budget -= 1;
    return true;
}

static enum leafd_err admit(struct signer_queue *queue, struct sign_job *job)
{
    if (queue->mode == SIGNER_QUEUE_SHUT)
        return LEAFD_AGAIN;
    if (queue->count >= SIGNER_QUEUE_MAX || !within_budget(queue))
        return LEAFD_BUSY;
    append(queue, job);
    pthread_cond_signal(&queue->changed);
    return LEAFD_OK;
}

/* What the lane at `seat` had in hand; the caller is its holder now. */
static struct sign_job *leave_seat(struct signer_queue *queue, struct sign_seat *seat)
{
    struct sign_job *job = seat->job;

    seat->job = NULL;
    if (!seat->lost)
        queue->busy--;
    if (seat->turn > queue->turn_done)
        queue->turn_done = seat->turn;
    queue->done_ms = clock_mono_ms();
    return job;
}

/* ---- public ---- */

enum leafd_err signer_queue_new(double max_rate, struct sign_check *check,
                                struct signer_queue **ret)
{
    struct signer_queue *queue = calloc(1, sizeof(*queue));

    if (!queue)
        return LEAFD_NOMEM;
    queue->max_rate = max_rate;
    queue->check = check;
    queue->budget = max_rate + 1;
    queue->budget_us = clock_mono_us();
    queue->last = &queue->first;
    pthread_mutex_init(&queue->lock, NULL);
    cond_init(&queue->changed);
    *ret = queue;
    return LEAFD_OK;
}

void signer_queue_free(struct signer_queue *queue)
{
    if (!queue)
        return;
    while (queue->first) {
        struct sign_job *job = take_first(queue);

        if (let_go(job))
            job_free(job);
    }
    pthread_cond_destroy(&queue->changed);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

enum leafd_err signer_queue_add(struct signer_queue *queue, struct front_link *front,
                                struct bytes message)
{
    uint64_t id;
    enum leafd_err err;
    struct sign_job *job = job_new(front, message, &id, &err);

    if (job) {
        pthread_mutex_lock(&queue->lock);
        err = admit(queue, job);
        pthread_mutex_unlock(&queue->lock);
        if (err == LEAFD_OK)
            return LEAFD_OK;
        job_free(job);
    }
    if (id)
        sign_answer(front, id, err == LEAFD_MALFORMED ? LEAFD_REFUSED : err,
                    (struct bytes){NULL, 0}, 0);
    return err;
}

/* A request that goes back unsigned may come again, with the same serial. */
static void answer_job(struct signer_queue *queue, struct sign_job *job, enum leafd_err err,
                       struct bytes signature, uint64_t batch)
{
    if ((err == LEAFD_AGAIN || err == LEAFD_TOKEN_UNAVAILABLE) && atomic_load(&job->checked))
        sign_check_forget(queue->check, job->request.tbs);
    sign_answer(job->front, job->id, err, signature, batch);
}

/* What has waited goes back. */
static void send_back(struct signer_queue *queue, struct sign_job *job, enum leafd_err err)
{
    while (job) {
        struct sign_job *next = job->next;
        bool mine, last;

        pthread_mutex_lock(&queue->lock);
        mine = claim(job);
        pthread_mutex_unlock(&queue->lock);
        if (mine)
            answer_job(queue, job, err, (struct bytes){NULL, 0}, 0);
        pthread_mutex_lock(&queue->lock);
        last = let_go(job);
        pthread_mutex_unlock(&queue->lock);
        if (last)
            job_free(job);
        job = next;
    }
}

void signer_queue_set_mode(struct signer_queue *queue, enum signer_queue_mode mode)
{
    struct sign_job *sent_back = NULL;

    pthread_mutex_lock(&queue->lock);
    queue->mode = mode;
    if (mode == SIGNER_QUEUE_SHUT) {
        sent_back = queue->first;
        for (struct sign_job *job = sent_back; job; job = job->next)
            job->waits = false;
        queue->first = NULL;
        queue->last = &queue->first;
        queue->count = 0;
    }
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    send_back(queue, sent_back, LEAFD_AGAIN);
}

bool signer_queue_pause(struct signer_queue *queue)
{
    bool was_open;

    pthread_mutex_lock(&queue->lock);
    was_open = queue->mode == SIGNER_QUEUE_OPEN;
    if (was_open) {
        queue->mode = SIGNER_QUEUE_PAUSED;
        pthread_cond_broadcast(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    return was_open;
}

enum signer_queue_mode signer_queue_mode(struct signer_queue *queue)
{
    enum signer_queue_mode mode;

    pthread_mutex_lock(&queue->lock);
    mode = queue->mode;
    pthread_mutex_unlock(&queue->lock);
    return mode;
}

bool signer_queue_idle(struct signer_queue *queue)
{
    bool idle;

    pthread_mutex_lock(&queue->lock);
    idle = !queue->first && queue->busy == 0;
    pthread_mutex_unlock(&queue->lock);
    return idle;
}

/* A lane that seemed to hang may have answered it after all. */
static void drop_answered(struct signer_queue *queue)
{
    while (queue->first && queue->first->answered) {
        struct sign_job *job = take_first(queue);

        if (let_go(job))
            job_free(job);
    }
}

/* Something to do, or to stop for. */
static bool is_awaited(const struct signer_queue *queue, const struct sign_seat *seat)
{
    return queue->mode != SIGNER_QUEUE_OPEN || seat->lost || queue->first;
}

/* False: nothing has come. */
static bool wait_for_work(struct signer_queue *queue, const struct sign_seat *seat,
                          int64_t patience_ms)
{
    int64_t until_ms = patience_ms < 0 ? INT64_MAX : 0;
    bool in_time = true;

    drop_answered(queue);
    while (!is_awaited(queue, seat) && in_time) {
        if (!until_ms)
            until_ms = clock_mono_ms() + patience_ms;
        if (until_ms == INT64_MAX)
            pthread_cond_wait(&queue->changed, &queue->lock);
        else
            in_time = cond_wait_until(&queue->changed, &queue->lock, until_ms);
        drop_answered(queue);
    }
    return is_awaited(queue, seat);
}

struct sign_job *signer_queue_take(struct signer_queue *queue, struct sign_seat *seat,
                                   int64_t patience_ms, bool *ret_idle)
{
    struct sign_job *job = NULL;

    pthread_mutex_lock(&queue->lock);
    *ret_idle = !wait_for_work(queue, seat, patience_ms);
    if (!*ret_idle && queue->mode == SIGNER_QUEUE_OPEN && !seat->lost) {
        job = take_first(queue);
        job->attempts++;
        seat->job = job;
        seat->turn = ++queue->turns;
        queue->busy++;
    }
    pthread_mutex_unlock(&queue->lock);
    return job;
}

void signer_queue_done(struct signer_queue *queue, struct sign_seat *seat, enum leafd_err err,
                       struct bytes signature, uint64_t batch)
{
    struct sign_job *job;
    bool mine, last;

    pthread_mutex_lock(&queue->lock);
    job = seat->job;
    mine = claim(job);
    pthread_mutex_unlock(&queue->lock);
    if (mine)
        answer_job(queue, job, err, signature, batch);
    pthread_mutex_lock(&queue->lock);
    leave_seat(queue, seat);
    last = let_go(job);
    pthread_mutex_unlock(&queue->lock);
    if (last)
        job_free(job);
}

void signer_queue_retry(struct signer_queue *queue, struct sign_seat *seat)
{
    const struct sign_job *job;
    bool again;

    pthread_mutex_lock(&queue->lock);
    job = seat->job;
    again = !job->answered && !seat->lost && queue->mode != SIGNER_QUEUE_SHUT &&
            job->attempts < ATTEMPTS_MAX;
    if (again) {
        prepend(queue, leave_seat(queue, seat));
        pthread_cond_signal(&queue->changed);
    }
    pthread_mutex_unlock(&queue->lock);
    if (!again)
        signer_queue_done(queue, seat, LEAFD_AGAIN, (struct bytes){NULL, 0}, 0);
}

/* ---- lanes that hang ---- */

bool signer_queue_is_lost(struct signer_queue *queue, struct sign_seat *seat)
{
    bool lost;

    pthread_mutex_lock(&queue->lock);
    lost = seat->lost;
    pthread_mutex_unlock(&queue->lock);
    return lost;
}

void signer_queue_find(struct signer_queue *queue, struct sign_seat *seat)
{
    pthread_mutex_lock(&queue->lock);
    seat->lost = false;
    pthread_mutex_unlock(&queue->lock);
}

/* In a module that serialises, a lane waits for others that began before it: it hangs when one that
 * began after it has finished, or when nobody finishes. */
static bool hangs(const struct signer_queue *queue, const struct sign_seat *seat, int64_t now_ms,
                  int64_t timeout_ms)
{
    return queue->turn_done > seat->turn || now_ms - queue->done_ms >= timeout_ms;
}

/* Its request goes to another lane; what the lost one says of it later is dropped. */
static void lose(struct signer_queue *queue, struct sign_seat *seat)
{
    struct sign_job *job = seat->job;

    seat->lost = true;
    queue->busy--;
    if (job->answered || job->waits)
        return;
    job->holders++;
    prepend(queue, job);
    pthread_cond_signal(&queue->changed);
}

/* ---- nobody signs now ---- */

/* Takes those out of the line that cannot wait any longer. */
static struct sign_job *take_late(struct signer_queue *queue, int64_t now_ms)
{
    struct sign_job *late = NULL, **last_late = &late;
    struct sign_job **at = &queue->first;

    queue->last = &queue->first;
    while (*at) {
        struct sign_job *job = *at;

        if (job->request.deadline_ms - TELL_AHEAD_MS > now_ms) {
            at = &job->next;
            queue->last = at;
            continue;
        }
        *at = job->next;
        job->next = NULL;
        job->waits = false;
        queue->count--;
        *last_late = job;
        last_late = &job->next;
    }
    return late;
}

unsigned signer_queue_watch(struct signer_queue *queue, struct sign_seat *const *seats,
                            unsigned count, int64_t timeout_ms, int64_t *ret_next_ms)
{
    int64_t now_ms = clock_mono_ms();
    int64_t look_ms = timeout_ms / 4 < LOOK_MS ? timeout_ms / 4 : LOOK_MS;
    struct sign_job *late = NULL;
    unsigned lost = 0;

    *ret_next_ms = INT64_MAX;
    pthread_mutex_lock(&queue->lock);
    if (queue->busy || queue->first)
        *ret_next_ms = now_ms + look_ms;
    for (unsigned i = 0; i < count; i++) {
        struct sign_seat *seat = seats[i];
        int64_t since_ms = atomic_load(&seat->signing_since_ms);

        if (!seat->lost && seat->job && since_ms && now_ms - since_ms >= timeout_ms &&
            hangs(queue, seat, now_ms, timeout_ms))
            lose(queue, seat);
        lost += seat->lost;
    }
    if (queue->mode == SIGNER_QUEUE_PAUSED)
        late = take_late(queue, now_ms);
    pthread_mutex_unlock(&queue->lock);
    send_back(queue, late, LEAFD_TOKEN_UNAVAILABLE);
    return lost;
}
