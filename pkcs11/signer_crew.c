/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_crew.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

enum { REFUSALS_LOGGED = 5 }; /* a second */

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
    signer_crew_fn failed;
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

/* Signs until the queue is not open any more, or this lane is lost. */
static void work(struct berth *berth, struct signer_lane *lane)
{
    struct signer_crew *crew = berth->crew;
    struct sign_job *job;

    while ((job = signer_queue_take(crew->queue, &berth->seat))) {
        uint8_t signature[SIGN_SIGNATURE_MAX];
        size_t len = 0;
        bool token_failed = false;
        struct why why = {""};
        enum leafd_err err = signer_lane_sign(lane, job, &berth->seat.signing_since_ms, signature,
                                              &len, &token_failed, &why);

        count(crew->counts, job, err, &why);
        if (token_failed) {
            if (!signer_queue_is_lost(crew->queue, &berth->seat))
                crew->failed(crew->ctx, &why);
            signer_queue_retry(crew->queue, &berth->seat);
        } else {
            signer_queue_done(crew->queue, &berth->seat, err, (struct bytes){signature, len});
        }
    }
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
                               struct signer_counts *counts, signer_crew_fn failed, void *ctx,
                               struct signer_crew **ret)
{
    struct signer_crew *crew = calloc(1, sizeof(*crew));

    if (!crew)
        return LEAFD_NOMEM;
    crew->parts = parts;
    crew->queue = queue;
    crew->counts = counts;
    crew->failed = failed;
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

bool signer_crew_park(struct signer_crew *crew, int64_t deadline_ms)
{
    bool parked;

    pthread_mutex_lock(&crew->lock);
    while (anyone_works(crew) && cond_wait_until(&crew->changed, &crew->lock, deadline_ms))
        ;
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
