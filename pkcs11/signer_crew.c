/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_crew.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    REFUSALS_LOGGED = 5,  /* a second */
    SETTLE_AFTER_MS = 100 /* a lane without work verifies what it signed last */
};

/* One thread. */
struct berth {
    struct signer_crew *crew;
    struct sign_seat seat;
    pthread_t thread;
    /* under the crew's lock */
    struct signer_lane *lane; /* NULL: parked */
    bool at_work;             /* between the moment it was let go and the moment it parked */
};

struct signer_crew {
    const struct signer_lane_parts *parts;
    struct signer_queue *queue;
    struct signer_counts *counts;
    const struct signer_crew_events *events;
    void *ctx;

    pthread_mutex_t lock;
    pthread_cond_t changed; /* a berth has got a lane, has parked, or is to end */
    bool ending;
    struct berth *berth[SIGNER_LANES_MAX];
    unsigned count; /* of berths, each with a thread */
    unsigned lanes;
    unsigned lost;
};

/* ---- on a lane's thread ---- */

static void log_refusal(const struct sign_job *job, const struct why *why)
{
    static struct log_limit limit;
    char host[300];

    log_limited(&limit, REFUSALS_LOGGED, LOG_LEVEL_WARNING, "sign-refused",
                "rule=\"%s\" host=\"%s\"", why->text,
                bytes_escape(job->request.audit, host, sizeof(host)));
}

static void count(struct signer_counts *counts, const struct sign_job *job, enum leafd_err err,
                  const struct why *why)
{
    if (err == LEAFD_OK) {
        atomic_fetch_add(&counts->signatures, 1);
    } else if (err == LEAFD_REFUSED) {
        atomic_fetch_add(&counts->refusals, 1);
        log_refusal(job, why);
    } else {
        atomic_fetch_add(&counts->failures, 1);
    }
}

/* Tells of what the lane does not vouch for any more; how many signatures that is. */
static uint64_t disown(struct signer_crew *crew, struct signer_lane *lane)
{
    uint64_t batch, sum = 0;
    unsigned signatures;

    while (signer_lane_disown(lane, &batch, &signatures)) {
        sum += signatures;
        crew->events->disown(crew->ctx, batch);
    }
    atomic_fetch_add(&crew->counts->disowned, sum);
    return sum;
}

static void log_disowned(uint64_t signatures)
{
    if (signatures)
        log_event(LOG_LEVEL_ERROR, "signatures-disowned",
                  "count=%llu reason=\"the check that was to vouch for them has failed\"",
                  (unsigned long long)signatures);
}

static void sign_one(struct berth *berth, struct signer_lane *lane, struct sign_job *job)
{
    struct signer_crew *crew = berth->crew;
    struct lane_signature signature = {.len = 0};
    struct why why = {""};
    enum leafd_err err =
        signer_lane_sign(lane, job, &berth->seat.signing_since_ms, &signature, &why);

    count(crew->counts, job, err, &why);
    if (signature.token_failed) {
        log_disowned(disown(crew, lane));
        if (!signer_queue_is_lost(crew->queue, &berth->seat))
            crew->events->failed(crew->ctx, &why);
        signer_queue_retry(crew->queue, &berth->seat);
    } else {
        signer_queue_done(crew->queue, &berth->seat, err,
                          (struct bytes){signature.octets, signature.len}, signature.batch);
    }
}

/* Nothing to do: the time to look at what was given out unverified. */
static void settle(struct berth *berth, struct signer_lane *lane)
{
    struct signer_crew *crew = berth->crew;
    struct why why = {""};

    if (signer_lane_settle(lane, &why) == LEAFD_OK)
        return;
    atomic_fetch_add(&crew->counts->failures, 1);
    log_disowned(disown(crew, lane));
    crew->events->failed(crew->ctx, &why);
}

/* Signs until the queue is not open any more, or this lane is lost. */
static void work(struct berth *berth, struct signer_lane *lane)
{
    struct signer_queue *queue = berth->crew->queue;
    struct sign_job *job;
    bool idle;

    do {
        int64_t patience_ms = signer_lane_is_in_doubt(lane) ? SETTLE_AFTER_MS : -1;

        job = signer_queue_take(queue, &berth->seat, patience_ms, &idle);
        if (job)
            sign_one(berth, lane, job);
        else if (idle)
            settle(berth, lane);
    } while (job || idle);
}

static void *berth_run(void *arg)
{
    struct berth *berth = arg;
    struct signer_crew *crew = berth->crew;

    pthread_mutex_lock(&crew->lock);
    while (!crew->ending) {
        if (!berth->at_work) {
            pthread_cond_wait(&crew->changed, &crew->lock);
            continue;
        }
        pthread_mutex_unlock(&crew->lock);
        work(berth, berth->lane);
        pthread_mutex_lock(&crew->lock);
        berth->at_work = false;
        pthread_cond_broadcast(&crew->changed);
    }
    berth->at_work = false;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* ---- on the keeper's ---- */

enum leafd_err signer_crew_new(const struct signer_lane_parts *parts, struct signer_queue *queue,
                               struct signer_counts *counts,
                               const struct signer_crew_events *events, void *ctx,
                               struct signer_crew **ret)
{
    struct signer_crew *crew = calloc(1, sizeof(*crew));

    if (!crew)
        return LEAFD_NOMEM;
    crew->parts = parts;
    crew->queue = queue;
    crew->counts = counts;
    crew->events = events;
    crew->ctx = ctx;
    pthread_mutex_init(&crew->lock, NULL);
    cond_init(&crew->changed);
    *ret = crew;
    return LEAFD_OK;
}

void signer_crew_free(struct signer_crew *crew)
{
    if (!crew)
        return;
    for (unsigned i = 0; i < crew->count; i++)
        free(crew->berth[i]);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
    free(crew);
}

/* The thread of berth number `index`, made when it is wanted for the first time. */
static enum leafd_err berth_of(struct signer_crew *crew, unsigned index, struct berth **ret,
                               struct why *why)
{
    struct berth *berth;

    if (index < crew->count) {
        *ret = crew->berth[index];
        return LEAFD_OK;
    }
    berth = calloc(1, sizeof(*berth));
    if (!berth)
        return LEAFD_NOMEM;
    berth->crew = crew;
    atomic_init(&berth->seat.signing_since_ms, 0);
    if (pthread_create(&berth->thread, NULL, berth_run, berth) != 0) {
        free(berth);
        return fail(why, LEAFD_INTERNAL, "a lane's thread cannot be started");
    }
    pthread_mutex_lock(&crew->lock);
    crew->berth[crew->count++] = berth;
    pthread_mutex_unlock(&crew->lock);
    *ret = berth;
    return LEAFD_OK;
}

static enum leafd_err start_lane(struct signer_crew *crew, struct backend *backend, unsigned index,
                                 struct why *why)
{
    struct berth *berth = NULL;
    struct signer_lane *lane = NULL;
    enum leafd_err err = signer_lane_new(crew->parts, backend, &lane, why);

    if (err != LEAFD_OK)
        return err;
    err = berth_of(crew, index, &berth, why);
    if (err != LEAFD_OK) {
        signer_lane_free(lane);
        return err;
    }
    signer_queue_find(crew->queue, &berth->seat);
    pthread_mutex_lock(&crew->lock);
    berth->lane = lane;
    crew->lanes++;
    pthread_mutex_unlock(&crew->lock);
    return LEAFD_OK;
}

enum leafd_err signer_crew_start(struct signer_crew *crew, struct backend *backend, bool *ret_all,
                                 struct why *why)
{
    unsigned wanted = backend_lanes(backend);
    enum leafd_err err = LEAFD_OK;

    wanted = wanted < SIGNER_LANES_MAX ? wanted : SIGNER_LANES_MAX;
    for (unsigned i = 0; i < wanted && err == LEAFD_OK; i++)
        err = start_lane(crew, backend, i, why);
    *ret_all = crew->lanes == wanted;
    return crew->lanes ? LEAFD_OK : err;
}

void signer_crew_go(struct signer_crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    for (unsigned i = 0; i < crew->count; i++)
        crew->berth[i]->at_work = crew->berth[i]->lane != NULL;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
}

static bool anyone_works(const struct signer_crew *crew)
{
    for (unsigned i = 0; i < crew->count; i++)
        if (crew->berth[i]->at_work)
            return true;
    return false;
}

/* Of lanes that are parked, also when others are not. Without the lock, which comes behind that of
 * whoever is told. */
static void settle_parked(struct signer_crew *crew)
{
    uint64_t disowned = 0;

    for (unsigned i = 0; i < crew->count; i++) {
        struct signer_lane *lane;

        pthread_mutex_lock(&crew->lock);
        lane = crew->berth[i]->at_work ? NULL : crew->berth[i]->lane;
        pthread_mutex_unlock(&crew->lock);
        if (!lane || signer_lane_settle(lane, NULL) == LEAFD_OK)
            continue;
        atomic_fetch_add(&crew->counts->failures, 1);
        disowned += disown(crew, lane);
    }
    log_disowned(disowned);
}

bool signer_crew_park(struct signer_crew *crew, int64_t deadline_ms)
{
    bool parked;

    pthread_mutex_lock(&crew->lock);
    while (anyone_works(crew) && cond_wait_until(&crew->changed, &crew->lock, deadline_ms))
        ;
    pthread_mutex_unlock(&crew->lock);
    settle_parked(crew);
    pthread_mutex_lock(&crew->lock);
    parked = !anyone_works(crew);
    for (unsigned i = 0; parked && i < crew->count; i++) {
        signer_lane_free(crew->berth[i]->lane);
        crew->berth[i]->lane = NULL;
    }
    if (parked)
        crew->lanes = 0;
    pthread_mutex_unlock(&crew->lock);
    return parked;
}

bool signer_crew_end(struct signer_crew *crew, int64_t deadline_ms)
{
    if (!signer_crew_park(crew, deadline_ms))
        return false;
    pthread_mutex_lock(&crew->lock);
    crew->ending = true;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->count; i++)
        pthread_join(crew->berth[i]->thread, NULL);
    return true;
}

/* ---- on any ---- */

unsigned signer_crew_lanes(struct signer_crew *crew)
{
    unsigned lanes;

    pthread_mutex_lock(&crew->lock);
    lanes = crew->lanes > crew->lost ? crew->lanes - crew->lost : 0;
    pthread_mutex_unlock(&crew->lock);
    return lanes;
}

unsigned signer_crew_watch(struct signer_crew *crew, int64_t timeout_ms, int64_t *ret_next_ms)
{
    struct sign_seat *seat[SIGNER_LANES_MAX];
    unsigned lost;

    pthread_mutex_lock(&crew->lock);
    for (unsigned i = 0; i < crew->count; i++)
        seat[i] = &crew->berth[i]->seat;
    lost = signer_queue_watch(crew->queue, seat, crew->count, timeout_ms, ret_next_ms);
    crew->lost = lost;
    pthread_mutex_unlock(&crew->lock);
    return lost;
}
