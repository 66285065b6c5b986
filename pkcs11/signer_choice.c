/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_choice.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    SAMPLES_ENOUGH = 16,
    SAMPLES_FEW = 4, /* to know how fast one is that is not preferred */
    SLOW_FACTOR = 3,
    BACK_FACTOR = 2, /* less, so that one between the two is not taken in and out */
    SLOW_MORE_US = 5000,
    SLOW_MORE_PREFERRED_US = 20000,
    SLOW_FOR_MS = 150, /* a busy processor makes anybody slow for a moment */
    PROBE_FIRST_MS = 1000,
    PROBE_MAX_MS = 16000 /* for one that stays silent, or was slower when compared */
};

/* The lower the better. */
enum standing { STANDING_PROBE, STANDING_ORDINARY, STANDING_EJECTED };

static bool may_probe(const struct signer_bench *bench, int64_t now_ms)
{
    return !bench->is_on || now_ms >= bench->probe_ms;
}

static bool is_in_use(const struct signer_choice *choice, const struct signer_link *link)
{
    return !choice->token[link->token].slow.is_on && !link->silent.is_on;
}

/* With prefer-first, the token that is preferred now, if it takes so long that one behind it may be
 * much faster; else CONF_TOKEN_MAX. */
static unsigned doubtful_token(const struct signer_choice *choice, struct signer_link *const *links,
                               size_t count, const struct sign_entry *entry)
{
    unsigned first = CONF_TOKEN_MAX;

    for (size_t i = 0; choice->mode == CONF_TOKEN_PREFER_FIRST && i < count; i++)
        if (links[i]->token < first && is_in_use(choice, links[i]) &&
            signer_link_can_sign(links[i]) && signer_link_serves(links[i], entry))
            first = links[i]->token;
    if (first == CONF_TOKEN_MAX || choice->token[first].samples < SAMPLES_ENOUGH ||
        choice->token[first].latency_us <= SLOW_MORE_PREFERRED_US)
        return CONF_TOKEN_MAX;
    return first;
}

/* Is it time to learn how fast this token is, that stands behind a doubtful one? */
static bool may_compare(const struct signer_choice *choice, unsigned doubtful, unsigned token,
                        int64_t now_ms)
{
    const struct signer_choice_token *behind = &choice->token[token];
    bool is_slower;

    if (token <= doubtful)
        return false;
    is_slower = behind->latency_us > choice->token[doubtful].latency_us;
    return behind->samples < SAMPLES_FEW ||
           now_ms - behind->asked_ms >= (is_slower ? PROBE_MAX_MS : PROBE_FIRST_MS);
}

static enum standing standing_of(const struct signer_choice *choice, const struct signer_link *link,
                                 const struct sign_entry *entry, unsigned doubtful, int64_t now_ms)
{
    bool is_idle = link->under_way == 0 && entry->tried == 0;

    if (is_in_use(choice, link))
        return is_idle && may_compare(choice, doubtful, link->token, now_ms) ? STANDING_PROBE
                                                                             : STANDING_ORDINARY;
    return is_idle && may_probe(&choice->token[link->token].slow, now_ms) &&
                   may_probe(&link->silent, now_ms)
               ? STANDING_PROBE
               : STANDING_EJECTED;
}

/* Newer processes go before the ones they replace, then the one with the least to do. */
static bool is_better_among_equals(const struct signer_link *a, const struct signer_link *b)
{
    unsigned a_lanes = a->state.lanes ? a->state.lanes : 1;
    unsigned b_lanes = b->state.lanes ? b->state.lanes : 1;

    if (a->retired != b->retired)
        return !a->retired;
    return a->under_way * b_lanes < b->under_way * a_lanes;
}

struct signer_link *signer_choice_find(const struct signer_choice *choice,
                                       struct signer_link *const *links, size_t count,
                                       const struct sign_entry *entry, bool *ret_full)
{
    int64_t now_ms = clock_mono_ms();
    unsigned doubtful = doubtful_token(choice, links, count, entry);
    struct signer_link *best = NULL;
    enum standing best_standing = STANDING_EJECTED;

    *ret_full = false;
    for (size_t i = 0; i < count; i++) {
        struct signer_link *link = links[i];
        enum standing standing;
        bool better;

        if (!signer_link_can_sign(link) || !signer_link_serves(link, entry) ||
            entry->tried & signer_link_bit(link))
            continue;
        if (link->blocked) {
            *ret_full = true;
            continue;
        }
        standing = standing_of(choice, link, entry, doubtful, now_ms);
        if (!best || standing != best_standing)
            better = !best || standing < best_standing;
        else if (choice->mode == CONF_TOKEN_PREFER_FIRST && link->token != best->token)
            better = link->token < best->token;
        else
            better = is_better_among_equals(link, best);
        if (better) {
            best = link;
            best_standing = standing;
        }
    }
    if (best)
        *ret_full = false;
    return best;
}

/* ---- ejection ---- */

static void bench_put(struct signer_bench *bench, int64_t now_ms)
{
    *bench = (struct signer_bench){.is_on = true,
                                   .probe_ms = now_ms + PROBE_FIRST_MS,
                                   .wait_ms = PROBE_FIRST_MS,
                                   .since_ms = now_ms};
}

static void log_bench(const char *event, const struct signer_link *link, const char *reason,
                      double latency_us)
{
    log_event(LOG_LEVEL_WARNING, event, "token=%u process=%u latency_us=%.0f reason=\"%s\"",
              link->token, link->process, latency_us, reason);
}

void signer_choice_sent(struct signer_choice *choice, struct signer_link *link, int64_t now_ms)
{
    struct signer_bench *slow = &choice->token[link->token].slow;

    choice->token[link->token].asked_ms = now_ms;
    if (slow->is_on)
        slow->probe_ms = now_ms + slow->wait_ms;
    if (link->silent.is_on)
        link->silent.probe_ms = now_ms + link->silent.wait_ms;
    if (link->under_way == 0)
        link->heard_ms = now_ms;
}

/* Compared with the fastest of the others that are in use; where they have an order, of those
 * behind it. */
static bool is_slow(const struct signer_choice *choice, unsigned index)
{
    bool is_ordered = choice->mode == CONF_TOKEN_PREFER_FIRST;
    unsigned enough = is_ordered ? SAMPLES_FEW : SAMPLES_ENOUGH;
    const struct signer_choice_token *asked = &choice->token[index];
    double more_us = is_ordered ? SLOW_MORE_PREFERRED_US : SLOW_MORE_US;
    double best_us = -1;

    for (unsigned i = is_ordered ? index + 1 : 0; i < CONF_TOKEN_MAX; i++) {
        const struct signer_choice_token *token = &choice->token[i];

        if (i != index && !token->slow.is_on && token->samples >= enough &&
            (best_us < 0 || token->latency_us < best_us))
            best_us = token->latency_us;
    }
    if (best_us < 0)
        return false;
    if (asked->slow.is_on)
        return asked->latency_us > BACK_FACTOR * best_us &&
               asked->latency_us > best_us + more_us / 2;
    return asked->latency_us > SLOW_FACTOR * best_us && asked->latency_us > best_us + more_us;
}

/* What it took by itself, once others before it had had their turns on the lanes: having much to do
 * makes nobody slow. */
static double own_part_us(const struct signer_link *link, const struct sign_entry *entry,
                          int64_t latency_us)
{
    size_t lanes = link->state.lanes ? link->state.lanes : 1;

    return entry->ahead < lanes ? (double)latency_us
                                : (double)latency_us * (double)lanes / (double)(entry->ahead + 1);
}

/* One that is ejected had little else to do: its last answer says more than a mean. */
static void take_sample(struct signer_choice_token *token, double latency_us)
{
    if (token->samples < SAMPLES_ENOUGH)
        token->samples++;
    if (token->slow.is_on)
        token->latency_us = latency_us;
    else
        token->latency_us += (latency_us - token->latency_us) / token->samples;
}

void signer_choice_answered(struct signer_choice *choice, struct signer_link *link,
                            const struct sign_entry *entry, int64_t now_us)
{
    struct signer_choice_token *token = &choice->token[link->token];
    int64_t latency_us = now_us - entry->sent_us;
    int64_t now_ms = now_us / 1000;
    bool slow;

    if (link->silent.is_on && latency_us < SIGNER_SILENT_MS * 1000) {
        link->silent.is_on = false;
        log_bench("signer-back", link, "it answers", (double)latency_us);
    }
    take_sample(token, own_part_us(link, entry, latency_us));
    slow = token->samples >= SAMPLES_ENOUGH && is_slow(choice, link->token);
    if (!slow)
        token->slow_since_ms = 0;
    else if (token->slow_since_ms == 0)
        token->slow_since_ms = now_ms;
    if (slow && !token->slow.is_on && now_ms - token->slow_since_ms >= SLOW_FOR_MS) {
        bench_put(&token->slow, now_ms);
        log_bench("token-ejected", link, "another one is much faster", token->latency_us);
    } else if (!slow && token->slow.is_on) {
        token->slow.is_on = false;
        log_bench("token-back", link, "it is as fast as others", token->latency_us);
    }
}

void signer_choice_silent(struct signer_link *link, int64_t now_ms)
{
    struct signer_bench *silent = &link->silent;

    if (!silent->is_on) {
        bench_put(silent, now_ms);
        log_bench("signer-ejected", link, "it does not answer", 0);
    } else if (now_ms - silent->since_ms >= silent->wait_ms) {
        silent->since_ms = now_ms;
        if (silent->wait_ms < PROBE_MAX_MS)
            silent->wait_ms *= 2;
        silent->probe_ms = now_ms + silent->wait_ms;
    }
}

void signer_choice_renew(struct signer_choice *choice, unsigned token)
{
    choice->token[token] = (struct signer_choice_token){.samples = 0};
}
