/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/token_keeper.h"

#include "base/clock.h"
#include "base/cond.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBE_MS = 500,             /* an absent token is looked for so often, for ever */
    PROBES_PER_MODULE = 10,     /* one of so many probes with the module opened anew */
    RETRY_MS = 100,             /* one that is there and fails, at first */
    LOGIN_DELAY_MAX_MS = 30000, /* a login that fails is repeated so seldom in the end */
    CHECK_MS = 5000,            /* an idle token is asked so often whether it is still there */
    GIVE_UP_TRIES = 20,         /* openings of a token that is there, after it was lost */
    HUNG_MS = 30000,            /* an opening that takes longer will not end */
};

struct token_keeper {
    const struct conf_token *token;
    struct backend *backend; /* the keeper's thread alone */
    struct signer_queue *queue;
    struct signer_crew *crew;
    struct signer_counts *counts;
    const struct token_keeper_events *events;
    void *ctx;
    _Atomic bool is_full; /* the token has fewer sessions than were asked for */
    pthread_t thread;
    bool runs;

    /* the keeper's thread alone */
    bool open;
    bool was_ready;
    bool is_lacking;   /* the last opening failed for want of the token or its key, no more */
    unsigned probes;   /* since it was lost */
    unsigned failures; /* openings that failed in a row, while the token was there */
    int64_t delay_ms;  /* until the next opening */
    bool login_failed; /* in the last one, for another reason than the PIN */
    uint64_t signatures_seen;
    int64_t proof_due_ms; /* when an idle token is to sign a challenge */
    struct why said;      /* why it is not open, as last told */

    pthread_mutex_t say;      /* states are told in their order; taken before `lock` */
    int64_t calling_since_ms; /* under `say`: calls of the keeper's own; 0: there are none */
    const char *calling_for;  /* under `say`: what they are to do */
    bool calls_given_up;      /* under `say`: they took too long, and the queue was shut */
    unsigned lost;            /* under `say`: lanes whose loss was told */
    bool asked;               /* under `say`: to be replaced */

    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    bool failed; /* a lane could not sign: `reason` */
    bool stop, ended;
    struct why reason;
};

static void log_reason(enum log_level level, const char *event, const struct why *why)
{
    char reason[2 * sizeof(why->text)];

    log_event(level, event, "reason=\"%s\"",
              bytes_escape(bytes_of(why->text), reason, sizeof(reason)));
}

static void say_state(struct token_keeper *keeper, enum signer_state state, const char *text)
{
    keeper->events->state(keeper->ctx, state, text);
}

/* ---- the last rung ---- */

/* Under `say`. */
static void ask_to_be_replaced(struct token_keeper *keeper, const struct why *why)
{
    if (keeper->asked)
        return;
    keeper->asked = true;
    log_reason(LOG_LEVEL_ERROR, "signer-wants-replacement", why);
    keeper->events->replace_me(keeper->ctx, atomic_load(&keeper->is_full));
}

/* ---- states ---- */

/* What waits goes back to the fronts, which may have another token. */
static void say_absent(struct token_keeper *keeper, const struct why *why)
{
    if (strcmp(why->text, keeper->said.text) == 0)
        return;
    keeper->said = *why;
    log_reason(LOG_LEVEL_WARNING, "token-absent", why);
    pthread_mutex_lock(&keeper->say);
    say_state(keeper, SIGNER_CONNECTING, why->text);
    signer_queue_set_mode(keeper->queue, SIGNER_QUEUE_SHUT);
    pthread_mutex_unlock(&keeper->say);
}

static void say_ready(struct token_keeper *keeper, bool all)
{
    const char *text = all ? "" : "the token gives fewer sessions than it offers";

    atomic_fetch_add(&keeper->counts->recoveries, keeper->was_ready);
    keeper->open = true;
    keeper->was_ready = true;
    keeper->failures = 0;
    keeper->said.text[0] = '\0';
    keeper->proof_due_ms = clock_mono_ms() + keeper->token->health_ms;
    pthread_mutex_lock(&keeper->lock);
    keeper->failed = false;
    pthread_mutex_unlock(&keeper->lock);
    pthread_mutex_lock(&keeper->say);
    signer_queue_set_mode(keeper->queue, SIGNER_QUEUE_OPEN);
    signer_crew_go(keeper->crew);
    say_state(keeper, all ? SIGNER_READY : SIGNER_DEGRADED, text);
    pthread_mutex_unlock(&keeper->say);
    log_event(LOG_LEVEL_NOTICE, "signer-ready", "lanes=%u", signer_crew_lanes(keeper->crew));
}

static void block_pin(struct token_keeper *keeper, const struct why *why)
{
    log_reason(LOG_LEVEL_ERROR, "pin-blocked", why);
    keeper->events->pin_refused(keeper->ctx); /* first: `token unblock` may follow what is seen */
    pthread_mutex_lock(&keeper->say);
    say_state(keeper, SIGNER_PIN_BLOCKED, why->text);
    signer_queue_set_mode(keeper->queue, SIGNER_QUEUE_SHUT);
    pthread_mutex_unlock(&keeper->say);
}

/* ---- opening ---- */

/* Between these two the keeper calls into the module, and is watched. */
static void calls_begin(struct token_keeper *keeper, const char *what)
{
    pthread_mutex_lock(&keeper->say);
    keeper->calling_since_ms = clock_mono_ms();
    keeper->calling_for = what;
    keeper->calls_given_up = false;
    pthread_mutex_unlock(&keeper->say);
    keeper->events->watch_me(keeper->ctx);
}

/* True: they took so long that they were given up. */
static bool calls_end(struct token_keeper *keeper)
{
    bool given_up;

    pthread_mutex_lock(&keeper->say);
    keeper->calling_since_ms = 0;
    given_up = keeper->calls_given_up;
    pthread_mutex_unlock(&keeper->say);
    return given_up;
}

static struct backend_counters counters_of(const struct token_keeper *keeper)
{
    struct backend_counters counters;

    backend_count(keeper->backend, &counters);
    return counters;
}

/* A token that is there and fails may be well again soon; one that lets nobody in is left alone for
 * longer and longer. */
static void set_delay(struct token_keeper *keeper, enum leafd_err err)
{
    int64_t least_ms = keeper->login_failed || err == LEAFD_ABSENT ? PROBE_MS : RETRY_MS;
    int64_t most_ms = keeper->login_failed ? LOGIN_DELAY_MAX_MS : PROBE_MS;

    keeper->delay_ms *= 2;
    if (keeper->delay_ms > most_ms)
        keeper->delay_ms = most_ms;
    if (keeper->delay_ms < least_ms)
        keeper->delay_ms = least_ms;
}

/* One opening, from `rung`; the lanes are parked. */
static enum leafd_err open_token(struct token_keeper *keeper, enum rung rung, struct why *why)
{
    struct backend_counters before = counters_of(keeper), after;
    bool all = false;
    enum leafd_err err;

    calls_begin(keeper, "to be opened");
    err = backend_renew(keeper->backend, rung, why);
    if (err == LEAFD_OK)
        err = signer_crew_start(keeper->crew, keeper->backend, &all, why);
    (void)calls_end(keeper);
    after = counters_of(keeper);
    atomic_store(&keeper->counts->logins, after.logins);
    if (err == LEAFD_OK) {
        atomic_store(&keeper->is_full, backend_is_full(keeper->backend));
        say_ready(keeper, all);
        return LEAFD_OK;
    }
    keeper->is_lacking = err == LEAFD_ABSENT || err == LEAFD_CONFIG;
    keeper->failures += err != LEAFD_ABSENT;
    keeper->login_failed = after.logins_failed != before.logins_failed;
    set_delay(keeper, err);
    return err;
}

/* A module that once worked and cannot be opened again is not mended by waiting: a new process has
 * one that was never confused. */
static void give_up(struct token_keeper *keeper, const struct why *why)
{
    keeper->failures = 0;
    pthread_mutex_lock(&keeper->say);
    ask_to_be_replaced(keeper, why);
    pthread_mutex_unlock(&keeper->say);
}

/* This process cannot open it again. */
static void leave_to_another(struct token_keeper *keeper, const struct why *why)
{
    say_absent(keeper, why);
    pthread_mutex_lock(&keeper->say);
    ask_to_be_replaced(keeper, why);
    pthread_mutex_unlock(&keeper->say);
}

/* What is missing is looked for gently: others may use the token and the module's slots, and a card
 * that lacks the key need not hear the PIN twice a second. Now and then all is begun anew, for
 * modules that see the world as it was when they were initialised. */
static enum rung probe_rung(struct token_keeper *keeper)
{
    return keeper->probes++ % PROBES_PER_MODULE && keeper->is_lacking ? RUNG_SESSION : RUNG_MODULE;
}

/* The token is not open. False: the PIN was refused. */
static bool probe(struct token_keeper *keeper)
{
    struct why why = {""};
    enum leafd_err err = LEAFD_TOKEN_UNAVAILABLE;

    if (!signer_crew_park(keeper->crew, clock_mono_ms())) {
        keeper->delay_ms = RETRY_MS; /* a lane still hangs in the module */
        return true;
    }
    err = open_token(keeper, probe_rung(keeper), &why);
    if (err == LEAFD_OK)
        return true;
    if (err == LEAFD_PIN) {
        block_pin(keeper, &why);
        return false;
    }
    if (backend_is_spent(keeper->backend)) {
        leave_to_another(keeper, &why);
        return true;
    }
    say_absent(keeper, &why);
    if (keeper->was_ready && keeper->failures >= GIVE_UP_TRIES)
        give_up(keeper, &why);
    return true;
}

/* ---- the ladder ---- */

/* Lanes that do not come back from the module keep it from being opened anew. */
static void fail_hanging(struct token_keeper *keeper)
{
    struct why why;

    (void)fail(&why, LEAFD_TOKEN_UNAVAILABLE, "a call into the module does not return");
    leave_to_another(keeper, &why);
}

/* The queue is paused. From the second rung up; false: the PIN was refused. */
static bool recover(struct token_keeper *keeper, const struct why *reason)
{
    struct why why = {""};
    int64_t began_ms = clock_mono_ms();
    enum leafd_err err;

    keeper->open = false;
    keeper->delay_ms = 0;
    keeper->probes = 0;
    log_reason(LOG_LEVEL_WARNING, "token-failed", reason);
    if (backend_is_spent(keeper->backend)) {
        leave_to_another(keeper, reason);
        return true;
    }
    if (!signer_crew_park(keeper->crew, began_ms + keeper->token->timeout_ms)) {
        fail_hanging(keeper);
        return true;
    }
    err = open_token(keeper, RUNG_TOKEN, &why);
    if (err == LEAFD_OK) {
        log_event(LOG_LEVEL_NOTICE, "token-recovered", "ms=%lld",
                  (long long)(clock_mono_ms() - began_ms));
        return true;
    }
    if (err == LEAFD_PIN) {
        block_pin(keeper, &why);
        return false;
    }
    if (err == LEAFD_ABSENT || keeper->login_failed)
        say_absent(keeper, &why);
    return keeper->login_failed || probe(keeper);
}

/* ---- the keeper's thread ---- */

/* Waits for `ms`, or until a lane has failed; false: stop. */
static bool wait_for_work(struct token_keeper *keeper, int64_t ms, bool *ret_failed,
                          struct why *ret_reason)
{
    int64_t until_ms = clock_mono_ms() + ms;
    bool stop;

    pthread_mutex_lock(&keeper->lock);
    while (!keeper->stop && !(keeper->failed && keeper->open) &&
           cond_wait_until(&keeper->changed, &keeper->lock, until_ms))
        ;
    stop = keeper->stop;
    *ret_failed = keeper->failed && keeper->open;
    *ret_reason = keeper->reason;
    pthread_mutex_unlock(&keeper->lock);
    return !stop;
}

/* An open token that nobody has used since the last look: is it still there, and now and then, does
 * it still sign? */
static enum leafd_err look_closer(struct token_keeper *keeper, struct why *why)
{
    int64_t now_ms = clock_mono_ms();
    enum leafd_err err;

    if (!keeper->token->health_ms || now_ms < keeper->proof_due_ms)
        return backend_check(keeper->backend, why);
    backend_keep_alive(keeper->backend);
    err = backend_prove(keeper->backend, why);
    atomic_fetch_add(err == LEAFD_OK ? &keeper->counts->proofs : &keeper->counts->failures, 1);
    keeper->proof_due_ms = clock_mono_ms() + keeper->token->health_ms;
    return err;
}

/* False: the PIN was refused. */
static bool look_after(struct token_keeper *keeper)
{
    uint64_t signatures = atomic_load(&keeper->counts->signatures);
    struct why why = {""};
    bool given_up;
    enum leafd_err err;

    if (signatures != keeper->signatures_seen) {
        keeper->signatures_seen = signatures;
        keeper->proof_due_ms = clock_mono_ms() + keeper->token->health_ms;
        return true;
    }
    calls_begin(keeper, "to answer");
    err = look_closer(keeper, &why);
    given_up = calls_end(keeper);
    if (err == LEAFD_OK && !given_up)
        return true;
    if (err == LEAFD_OK)
        (void)fail(&why, LEAFD_TOKEN_UNAVAILABLE, "the token took long to answer");
    (void)signer_queue_pause(keeper->queue);
    return recover(keeper, &why);
}

/* How long an open token is left alone. */
static int64_t patience_ms(const struct token_keeper *keeper)
{
    int64_t health_ms = keeper->token->health_ms;

    return health_ms && health_ms < CHECK_MS ? health_ms : CHECK_MS;
}

static void *keeper_run(void *arg)
{
    struct token_keeper *keeper = arg;
    struct why reason;
    bool failed;
    bool going = true;

    while (going && wait_for_work(keeper, keeper->open ? patience_ms(keeper) : keeper->delay_ms,
                                  &failed, &reason)) {
        if (failed)
            going = recover(keeper, &reason);
        else
            going = keeper->open ? look_after(keeper) : probe(keeper);
    }
    pthread_mutex_lock(&keeper->lock);
    keeper->ended = true;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

static void wake_keeper(struct token_keeper *keeper, const struct why *why)
{
    pthread_mutex_lock(&keeper->lock);
    keeper->failed = true;
    keeper->reason = *why;
    pthread_cond_broadcast(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
}

/* On a lane's thread. Only the first that fails starts a recovery; the others join it. */
static void lane_failed(void *ctx, const struct why *why)
{
    struct token_keeper *keeper = ctx;

    if (signer_queue_pause(keeper->queue))
        wake_keeper(keeper, why);
}

static void lane_disowns(void *ctx, uint64_t batch)
{
    struct token_keeper *keeper = ctx;

    keeper->events->disown(keeper->ctx, batch);
}

static const struct signer_crew_events crew_events = {lane_failed, lane_disowns};

/* ---- calls that do not return ---- */

/* Under `say`. */
static void lanes_lost(struct token_keeper *keeper, unsigned lost)
{
    unsigned left = signer_crew_lanes(keeper->crew);
    struct why why;

    keeper->lost = lost;
    (void)fail(&why, LEAFD_TOKEN_UNAVAILABLE,
               "%u of %u lanes do not come back from the module within token.timeout", lost,
               lost + left);
    log_event(LOG_LEVEL_ERROR, "lane-lost", "lost=%u left=%u", lost, left);
    if (left && signer_queue_mode(keeper->queue) != SIGNER_QUEUE_SHUT) {
        say_state(keeper, SIGNER_DEGRADED, why.text);
    } else {
        say_state(keeper, SIGNER_CONNECTING, why.text);
        signer_queue_set_mode(keeper->queue, SIGNER_QUEUE_SHUT);
        wake_keeper(keeper, &why);
    }
    ask_to_be_replaced(keeper, &why);
}

/* Under `say`: an opening takes its time, and meanwhile others may have a token that signs. */
static void watch_calls(struct token_keeper *keeper, int64_t now_ms, int64_t *next_ms)
{
    int64_t since_ms = keeper->calling_since_ms;
    struct why why;

    if (!since_ms)
        return;
    if (now_ms - since_ms >= keeper->token->timeout_ms &&
        signer_queue_mode(keeper->queue) != SIGNER_QUEUE_SHUT) {
        (void)fail(&why, LEAFD_TOKEN_UNAVAILABLE, "the token takes long %s", keeper->calling_for);
        say_state(keeper, SIGNER_CONNECTING, why.text);
        signer_queue_set_mode(keeper->queue, SIGNER_QUEUE_SHUT);
        keeper->calls_given_up = true;
    }
    if (now_ms - since_ms >= HUNG_MS) {
        (void)fail(&why, LEAFD_TOKEN_UNAVAILABLE, "the token takes too long %s: the module hangs",
                   keeper->calling_for);
        ask_to_be_replaced(keeper, &why);
    }
    if (*next_ms > now_ms + keeper->token->timeout_ms / 4)
        *next_ms = now_ms + keeper->token->timeout_ms / 4;
}

int64_t token_keeper_watch(struct token_keeper *keeper)
{
    int64_t next_ms;
    unsigned lost = signer_crew_watch(keeper->crew, keeper->token->timeout_ms, &next_ms);

    pthread_mutex_lock(&keeper->say);
    if (lost > keeper->lost)
        lanes_lost(keeper, lost);
    keeper->lost = lost;
    watch_calls(keeper, clock_mono_ms(), &next_ms);
    pthread_mutex_unlock(&keeper->say);
    return next_ms;
}

/* ---- life ---- */

enum leafd_err token_keeper_new(const struct conf *conf, size_t token, const struct ca_set *cas,
                                const struct secret *pin, const struct signer_lane_parts *parts,
                                struct signer_queue *queue, struct signer_counts *counts,
                                const struct token_keeper_events *events, void *ctx,
                                struct token_keeper **ret, struct why *why)
{
    struct token_keeper *keeper = calloc(1, sizeof(*keeper));
    enum leafd_err err;

    if (!keeper)
        return LEAFD_NOMEM;
    keeper->token = &conf->token[token];
    keeper->queue = queue;
    keeper->counts = counts;
    keeper->events = events;
    keeper->ctx = ctx;
    pthread_mutex_init(&keeper->say, NULL);
    pthread_mutex_init(&keeper->lock, NULL);
    cond_init(&keeper->changed);
    err = backend_new(conf, token, cas, pin, &keeper->backend, why);
    if (err == LEAFD_OK)
        err = signer_crew_new(parts, queue, counts, &crew_events, keeper, &keeper->crew);
    if (err == LEAFD_OK)
        *ret = keeper;
    else
        token_keeper_free(keeper);
    return err;
}

void token_keeper_free(struct token_keeper *keeper)
{
    if (!keeper)
        return;
    signer_crew_free(keeper->crew);
    backend_close(keeper->backend);
    pthread_cond_destroy(&keeper->changed);
    pthread_mutex_destroy(&keeper->lock);
    pthread_mutex_destroy(&keeper->say);
    free(keeper);
}

enum leafd_err token_keeper_start(struct token_keeper *keeper, struct why *why)
{
    enum leafd_err err = open_token(keeper, RUNG_MODULE, why);

    if (err == LEAFD_PIN) {
        keeper->events->pin_refused(keeper->ctx); /* first, as in block_pin() */
        say_state(keeper, SIGNER_PIN_BLOCKED, why->text);
    }
    if (err == LEAFD_CONFIG || err == LEAFD_PIN)
        return err;
    if (err != LEAFD_OK)
        say_absent(keeper, why);
    if (pthread_create(&keeper->thread, NULL, keeper_run, keeper) != 0)
        return fail(why, LEAFD_INTERNAL, "the keeper's thread cannot be started");
    keeper->runs = true;
    return LEAFD_OK;
}

static bool stop_thread(struct token_keeper *keeper, int64_t deadline_ms)
{
    bool ended;

    if (!keeper->runs)
        return true;
    pthread_mutex_lock(&keeper->lock);
    keeper->stop = true;
    pthread_cond_broadcast(&keeper->changed);
    while (!keeper->ended && cond_wait_until(&keeper->changed, &keeper->lock, deadline_ms))
        ;
    ended = keeper->ended;
    pthread_mutex_unlock(&keeper->lock);
    if (!ended)
        return false;
    pthread_join(keeper->thread, NULL);
    keeper->runs = false;
    return true;
}

bool token_keeper_end(struct token_keeper *keeper, int64_t deadline_ms)
{
    if (!stop_thread(keeper, deadline_ms))
        return false;
    signer_queue_set_mode(keeper->queue, SIGNER_QUEUE_SHUT);
    return signer_crew_end(keeper->crew, deadline_ms);
}

unsigned token_keeper_lanes(struct token_keeper *keeper)
{
    return signer_crew_lanes(keeper->crew);
}
