/* SPDX-License-Identifier: Apache-2.0 */
/* A hit is answered at once, on the listener's thread. A miss copies its asker to the heap and
 * boards a flight; the flight's leader makes a journey, which an issuing thread starts and whoever
 * finishes the leaf ends: every asker is answered from there.
 *
 * Locks: none of its own. */
#include "config.h" /* pthread_setname_np */

#include "serve/packet_path.h"

#include "base/clock.h"
#include "base/job_queue.h"
#include "base/metrics.h"
#include "cache/flights.h"
#include "serve/asker.h"
#include "serve/domain_budget.h"
#include "serve/drain.h"
#include "serve/waiting_room.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATIENCE_MS = 3500,  /* what a proxy waits, less what the way back takes */
    TELL_AHEAD_MS = 300, /* so long before a deadline who waits for a token is told */
    RETELL_MS = 400      /* with less than this, a token that is away is not waited for again */
};

/* A flight's way through issuer and signer. */
struct journey {
    struct packet_path *path;
    struct plan plan;
    uint8_t key[32]; /* the flight's: the issuer may seal the plan anew */
    int64_t deadline_ms;
    struct bytes audit; /* the leader's host; owned */
};

struct packet_path {
    struct policy *policy;
    struct leaf_cache *cache;
    struct issuer *issuer;
    struct signer *signer;
    struct flights *flights;
    struct askers askers;
    struct domain_budget *domains;
    struct waiting_room *room;
    struct job_queue *queue; /* of journeys */
    pthread_t *threads;
    unsigned thread_count;
    struct drain drain; /* of journeys under way; closed, nothing is said any more */
};

static const struct waiting_room_ops room_ops;

static void path_free(struct packet_path *path);

/* ---- journeys ---- */

static void journey_free(struct journey *journey)
{
    struct packet_path *path;

    if (!journey)
        return;
    path = journey->path;
    plan_clear(&journey->plan);
    free((void *)journey->audit.data);
    free(journey);
    if (drain_end(&path->drain))
        path_free(path);
}

/* Takes what `plan` owns. NULL on no memory. */
static struct journey *journey_new(struct packet_path *path, struct plan *plan,
                                   const struct asker *leader)
{
    struct journey *journey = calloc(1, sizeof(*journey));

    if (!journey)
        return NULL;
    journey->audit = bytes_copy(leader->request.host);
    if (!journey->audit.data) {
        free(journey);
        return NULL;
    }
    journey->path = path;
    journey->deadline_ms = leader->deadline_ms;
    memcpy(journey->key, plan->key, sizeof(journey->key));
    plan_steal(&journey->plan, plan);
    drain_begin(&path->drain);
    return journey;
}

/* Every asker of a flight that cannot be started is told so. */
static void cancel_flight(struct packet_path *path, const uint8_t *key, enum leafd_err err)
{
    struct flight_waiter *waiter = flights_land(path->flights, key);

    while (waiter) {
        struct flight_waiter *next = waiter->next;

        asker_send_error(&path->askers, (struct asker *)waiter, err);
        waiter = next;
    }
}

/* Hands the flight's leader to the issuing threads. Takes the journey. */
static void journey_start(struct journey *journey)
{
    if (job_queue_push(journey->path->queue, journey))
        return;
    cancel_flight(journey->path, journey->key, LEAFD_BUSY);
    journey_free(journey);
}

/* Joins the flight of this plan, or starts it. LEAFD_OK: the asker (its copy, if it is not on the
 * heap) will be answered through its route; what the plan owned may be gone from it. */
static enum leafd_err board(struct packet_path *path, struct asker *asker, struct plan *plan,
                            struct why *why)
{
    struct asker *kept = asker->on_heap ? asker : asker_keep(&path->askers, asker);
    struct journey *journey;
    enum flight_role role;
    uint8_t key[32];

    if (!kept)
        return fail(why, LEAFD_BUSY, "too many requests wait");
    memcpy(key, plan->key, sizeof(key));
    role = flights_join(path->flights, key, &kept->waiter);
    if (role == FLIGHT_JOINED)
        return LEAFD_OK;
    if (role == FLIGHT_FULL) {
        if (kept != asker)
            asker_free(&path->askers, kept);
        return fail(why, LEAFD_BUSY,
                    "too many leaves are under way, or too many wait for this one");
    }
    if (!domain_budget_take(path->domains, &kept->name, clock_mono_ms())) {
        cancel_flight(path, key, LEAFD_BUSY);
        return LEAFD_OK;
    }
    journey = journey_new(path, plan, kept);
    if (journey)
        journey_start(journey);
    else
        cancel_flight(path, key, LEAFD_INTERNAL);
    return LEAFD_OK;
}

/* The plan that still fits a datagram. */
static enum leafd_err plan_smaller(struct asker *asker, const struct plan *plan, struct plan *ret,
                                   struct why *why)
{
    enum leafd_err err;

    if (plan->profile != PROFILE_MIMIC)
        return fail(why, LEAFD_TOO_LARGE, "not even the smallest leaf fits a datagram");
    err = policy_plan_smaller(plan, &asker->name, ret, why);
    if (err)
        return err;
    asker->in_doubt = true;
    metrics_add(METRIC_VERDICT_MINIMAL, 1);
    return LEAFD_OK;
}

/* From the plan on: octets to send now (a remembered leaf, or an error), or 0: there is nothing to
 * say, or the asker has boarded a flight (*ret_boarded). */
static size_t answer(struct packet_path *path, struct asker *asker, struct plan *plan, uint8_t *out,
                     bool *ret_boarded)
{
    struct plan smaller = {.profile = PROFILE_FRESH};
    int64_t now_sec = clock_wall_sec();
    enum leafd_err err = LEAFD_OK;
    struct why why = {""};
    size_t len = 0;

    *ret_boarded = false;
    while (!err) {
        struct issued *issued = leaf_cache_get(path->cache, plan->key, now_sec);

        if (!issued) {
            err = board(path, asker, plan, &why);
            *ret_boarded = err == LEAFD_OK;
            break;
        }
        len = asker_write_leaf(&path->askers, asker, issued, now_sec, out);
        issued_unref(issued);
        if (len > 0) {
            metrics_add(METRIC_REPLY_HIT, 1);
            return len;
        }
        err = plan_smaller(asker, plan, &smaller, &why);
        if (!err) {
            plan_clear(plan);
            plan_steal(plan, &smaller);
        }
    }
    return err ? asker_write_error(&path->askers, asker, err, &why, out) : 0;
}

/* ---- a flight lands ---- */

static void answer_smaller(struct journey *journey, struct asker *asker)
{
    struct packet_path *path = journey->path;
    struct plan smaller = {.profile = PROFILE_FRESH};
    struct why why = {""};
    uint8_t out[WIRE_DATAGRAM_MAX];
    bool boarded = false;
    enum leafd_err err = plan_smaller(asker, &journey->plan, &smaller, &why);
    size_t len = err ? asker_write_error(&path->askers, asker, err, &why, out)
                     : answer(path, asker, &smaller, out, &boarded);

    if (!boarded)
        asker_send(&path->askers, asker, out, len);
    plan_clear(&smaller);
}

static void answer_leaf(struct journey *journey, struct asker *asker, const struct issued *issued,
                        enum metric metric)
{
    struct packet_path *path = journey->path;
    uint8_t out[WIRE_DATAGRAM_MAX];
    size_t len = asker_write_leaf(&path->askers, asker, issued, clock_wall_sec(), out);

    if (len == 0) {
        answer_smaller(journey, asker);
        return;
    }
    metrics_add(metric, 1);
    asker_send(&path->askers, asker, out, len);
}

/* What one asker of the flight is told. */
static void answer_landed(struct journey *journey, struct asker *asker, enum leafd_err err,
                          const struct issued *issued, enum metric metric)
{
    if (clock_mono_ms() > asker->deadline_ms)
        asker_send_error(&journey->path->askers, asker, LEAFD_TIMEOUT);
    else if (err == LEAFD_OK)
        answer_leaf(journey, asker, issued, metric);
    else if (err == LEAFD_TOO_LARGE)
        answer_smaller(journey, asker);
    else
        asker_send_error(&journey->path->askers, asker, err);
}

/* The flight ended with its leader's time. Those who came later and have more board a new one: one
 * to the end of the last one's time where the token signs but slowly, else to the next one's, since
 * all shall hear in time that it is away. Takes the journey. */
static void fly_again(struct journey *journey, struct flight_waiter *waiter, enum leafd_err err)
{
    struct packet_path *path = journey->path;
    int64_t now_ms = clock_mono_ms();
    int64_t soon_ms = now_ms + (err == LEAFD_TIMEOUT ? 0 : RETELL_MS);
    bool leads = false;

    while (waiter) {
        struct asker *asker = (struct asker *)waiter;
        struct flight_waiter *next = waiter->next;
        int64_t deadline_ms = asker->deadline_ms;
        enum flight_role role;

        waiter = next;
        if (deadline_ms <= soon_ms) {
            asker_send_error(&path->askers, asker, deadline_ms <= now_ms ? LEAFD_TIMEOUT : err);
            continue;
        }
        role = flights_join(path->flights, journey->key, &asker->waiter);
        if (role == FLIGHT_FULL) {
            asker_send_error(&path->askers, asker, LEAFD_BUSY);
        } else if (role == FLIGHT_LEADER) {
            leads = true;
            journey->deadline_ms = deadline_ms;
        } else if (leads && err == LEAFD_TIMEOUT && deadline_ms > journey->deadline_ms) {
            journey->deadline_ms = deadline_ms;
        }
    }
    if (leads)
        journey_start(journey);
    else
        journey_free(journey);
}

static void drop_all(struct packet_path *path, struct flight_waiter *waiter)
{
    while (waiter) {
        struct flight_waiter *next = waiter->next;

        asker_free(&path->askers, (struct asker *)waiter);
        waiter = next;
    }
}

/* Answers all who wait. Takes the journey. */
static void journey_land(struct journey *journey, enum leafd_err err, const struct issued *issued,
                         enum metric metric)
{
    struct flight_waiter *waiter = flights_land(journey->path->flights, journey->key);

    if ((err == LEAFD_TIMEOUT || err == LEAFD_TOKEN_UNAVAILABLE) &&
        journey->deadline_ms <= clock_mono_ms() + RETELL_MS) {
        fly_again(journey, waiter, err);
        return;
    }
    while (waiter) {
        struct flight_waiter *next = waiter->next;

        answer_landed(journey, (struct asker *)waiter, err, issued, metric);
        if (metric == METRIC_REPLY_ISSUED)
            metric = METRIC_REPLY_JOINED;
        waiter = next;
    }
    journey_free(journey);
}

/* The issuer's callback. */
static void journey_done(void *ctx, enum leafd_err err, struct issued *issued)
{
    struct journey *journey = ctx;
    struct packet_path *path = journey->path;

    if (!drain_enter(&path->drain)) {
        drop_all(path, flights_land(path->flights, journey->key));
        journey_free(journey);
        return;
    }
    /* Remembered first: whoever finds no flight any more finds the leaf. */
    if (err == LEAFD_OK)
        leaf_cache_put(path->cache, journey->plan.key, issued);
    journey_land(journey, err, issued, METRIC_REPLY_ISSUED);
    drain_leave(&path->drain);
}

static void journey_fly(struct journey *journey)
{
    struct packet_path *path = journey->path;
    struct issued *issued;

    if (!drain_enter(&path->drain)) {
        journey_done(journey, LEAFD_INTERNAL, NULL);
        return;
    }
    /* The flight before this one may have landed between our look and our boarding. */
    issued = leaf_cache_get(path->cache, journey->plan.key, clock_wall_sec());
    if (issued)
        journey_land(journey, LEAFD_OK, issued, METRIC_REPLY_HIT);
    else if (clock_mono_ms() >= journey->deadline_ms)
        journey_land(journey, LEAFD_TIMEOUT, NULL, METRIC_REPLY_ISSUED);
    else
        issuer_issue(path->issuer, &journey->plan, journey->deadline_ms, journey->audit,
                     journey_done, journey);
    issued_unref(issued);
    drain_leave(&path->drain);
}

static void *issue_run(void *arg)
{
    struct packet_path *path = arg;
    struct journey *journey;

    pthread_setname_np(pthread_self(), "issuer");
    while ((journey = job_queue_pop(path->queue, INT64_MAX)))
        journey_fly(journey);
    return NULL;
}

/* ---- the whole ---- */

static void path_free(struct packet_path *path)
{
    job_queue_free(path->queue);
    flights_free(path->flights);
    askers_clear(&path->askers);
    domain_budget_free(path->domains);
    drain_clear(&path->drain);
    free(path->threads);
    free(path);
}

static void stop_threads(struct packet_path *path)
{
    if (path->queue)
        job_queue_close(path->queue);
    for (unsigned i = 0; i < path->thread_count; i++)
        pthread_join(path->threads[i], NULL);
    path->thread_count = 0;
}

enum leafd_err packet_path_new(const struct packet_path_parts *parts, unsigned issue_threads,
                               struct packet_path **ret)
{
    const struct conf *conf = parts->conf;
    struct packet_path *path = calloc(1, sizeof(*path));
    enum leafd_err err;

    if (!path)
        return LEAFD_NOMEM;
    path->policy = parts->policy;
    path->cache = parts->cache;
    path->issuer = parts->issuer;
    path->signer = parts->signer;
    drain_init(&path->drain);
    err = flights_new(conf->flights_max, conf->flight_waiters_max, &path->flights);
    if (!err)
        err = askers_init(&path->askers, conf);
    if (!err)
        err = domain_budget_new(conf->cache_new_per_domain, &path->domains);
    if (!err) /* a flight is in the queue once at most, so it never overflows before the flights do
               */
        err = job_queue_new(conf->flights_max > 0 ? conf->flights_max : 1, &path->queue);
    if (err)
        goto out;
    err = LEAFD_NOMEM;
    path->threads = calloc(issue_threads, sizeof(pthread_t));
    if (!path->threads)
        goto out;
    while (path->thread_count < issue_threads) {
        if (pthread_create(&path->threads[path->thread_count], NULL, issue_run, path) != 0)
            goto out;
        path->thread_count++;
    }
    err = waiting_room_new(&room_ops, path, &path->room);
    if (err)
        goto out;
    *ret = path;
    path = NULL;
out:
    if (path) {
        stop_threads(path);
        path_free(path);
    }
    return err;
}

void packet_path_free(struct packet_path *path, int64_t deadline_ms)
{
    if (!path)
        return;
    waiting_room_free(path->room);
    drain_close(&path->drain, deadline_ms);
    stop_threads(path);
    if (!drain_abandon(&path->drain))
        path_free(path);
}

/* ---- a packet ---- */

/* Request -> plan. */
static enum leafd_err decide(struct packet_path *path, struct asker *asker, struct plan *ret,
                             struct why *why)
{
    struct ca_set *cas = signer_cas(path->signer);
    enum leafd_err err =
        policy_plan(path->policy, &asker->request, cas, clock_wall_sec(), ret, why);

    ca_set_unref(cas);
    if (err)
        return err;
    asker->name = ret->host;
    asker->in_doubt = ret->profile == PROFILE_MINIMAL ||
                      (ret->verdict.kind != VERDICT_NO_UPSTREAM &&
                       ret->verdict.kind != VERDICT_GOOD && ret->verdict.kind != VERDICT_LEGACY);
    return LEAFD_OK;
}

/* Only the untrusted CA can be missing when a request is planned. A token that is blocked is not
 * waited for. */
static bool is_worth_waiting(struct packet_path *path)
{
    struct signer_status status;

    signer_status(path->signer, &status);
    return status.state != SIGNER_PIN_BLOCKED;
}

static void count_request(const struct request *request, const struct plan *plan)
{
    static const int metric_of[] = {
        [VERDICT_NO_UPSTREAM] = -1,
        [VERDICT_GOOD] = METRIC_VERDICT_GOOD,
        [VERDICT_LEGACY] = METRIC_VERDICT_LEGACY,
        [VERDICT_DATES] = METRIC_VERDICT_DATES,
        [VERDICT_NAME] = METRIC_VERDICT_NAME,
        [VERDICT_SELF_SIGNED] = METRIC_VERDICT_SELF_SIGNED,
        [VERDICT_UNTRUSTED] = METRIC_VERDICT_UNTRUSTED,
        [VERDICT_UNREADABLE] = METRIC_VERDICT_UNREADABLE,
    };

    if (request->ignored_keys > 0)
        metrics_add(METRIC_IGNORED_KEYS, request->ignored_keys);
    if (plan->profile == PROFILE_MINIMAL)
        metrics_add(METRIC_VERDICT_MINIMAL, 1);
    else if (metric_of[plan->verdict.kind] != -1)
        metrics_add((enum metric)metric_of[plan->verdict.kind], 1);
}

/* What packet_path_handle says; `may_wait` until the CA that the request needs is known. */
static size_t handle(struct packet_path *path, const struct packet *packet, bool may_wait,
                     uint8_t *out)
{
    struct asker asker = {.route = *packet->route, .deadline_ms = packet->arrived_ms + PATIENCE_MS};
    struct plan plan = {.profile = PROFILE_FRESH};
    struct why why = {""};
    enum leafd_err err;
    bool boarded;
    size_t len;

    if (clock_mono_ms() > asker.deadline_ms)
        return asker_write_error(&path->askers, &asker, LEAFD_TIMEOUT, &why, out);
    err = request_read(packet->data, packet->cut, &asker.request, &why);
    if (err == LEAFD_DROP) {
        metrics_add(METRIC_DROP_REPLY, 1);
        return 0;
    }
    if (!err && packet->uid_refused)
        err = fail(&why, LEAFD_REFUSED, "the user who asks is none of allow_uid");
    if (!err)
        err = decide(path, &asker, &plan, &why);
    if (err == LEAFD_TOKEN_UNAVAILABLE && may_wait && is_worth_waiting(path) &&
        waiting_room_enter(path->room, packet, asker.deadline_ms - TELL_AHEAD_MS))
        return 0;
    count_request(&asker.request, &plan);
    if (err)
        return asker_write_error(&path->askers, &asker, err, &why, out);
    len = answer(path, &asker, &plan, out, &boarded);
    plan_clear(&plan);
    return len;
}

size_t packet_path_handle(struct packet_path *path, const struct packet *packet, uint8_t *out)
{
    return handle(path, packet, true, out);
}

/* ---- the waiting room ---- */

static bool room_is_open(void *ctx)
{
    struct packet_path *path = ctx;
    struct ca_set *cas = signer_cas(path->signer);
    bool open = cas->untrusted != NULL || !is_worth_waiting(path);

    ca_set_unref(cas);
    return open;
}

static void room_leave(void *ctx, const struct packet *packet)
{
    uint8_t out[WIRE_DATAGRAM_MAX];
    size_t len = handle(ctx, packet, false, out);

    if (len > 0 && !reply_route_send(packet->route, (struct bytes){out, len}))
        metrics_add(METRIC_SEND_FAILED, 1);
}

static const struct waiting_room_ops room_ops = {room_is_open, room_leave};
