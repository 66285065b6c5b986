/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_choice.h"

#include "base/clock.h"
#include "base/log.h"

enum {
    SAMPLES_ENOUGH = 16,
    SLOW_FACTOR = 3,
    BACK_FACTOR = 2, /* less, so that one between the two is not taken in and out */
    SLOW_MORE_US = 5000,
    SLOW_FOR_MS = 150, /* a busy processor makes anybody slow for a moment */
    PROBE_FIRST_MS = 1000,
    PROBE_MAX_MS = 16000 /* for one that stays silent */
};

/* The lower the better. */
enum standing { STANDING_PROBE, STANDING_ORDINARY, STANDING_EJECTED };

static bool may_probe(const struct signer_bench *bench, int64_t now_ms)
{
    return !bench->is_on || now_ms >= bench->probe_ms;
}

static enum standing standing_of(const struct signer_choice *choice, const struct signer_link *link,
                                 const struct sign_entry *entry, int64_t now_ms)
{
    const struct signer_bench *slow = &choice->token[link->token].slow;

    if (!slow->is_on && !link->silent.is_on)
        return STANDING_ORDINARY;
    return may_probe(slow, now_ms) && may_probe(&link->silent, now_ms) && link->under_way == 0 &&
                   entry->tried == 0
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
        standing = standing_of(choice, link, entry, now_ms);
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

    if (slow->is_on)
        slow->probe_ms = now_ms + slow->wait_ms;
    if (link->silent.is_on)
        link->silent.probe_ms = now_ms + link->silent.wait_ms;
    if (link->under_way == 0)
        link->heard_ms = now_ms;
}

/* Compared with the fastest of the others that are in use. */
static bool is_slow(const struct signer_choice *choice, unsigned index)
{
    int factor = choice->token[index].slow.is_on ? BACK_FACTOR : SLOW_FACTOR;
    double best_us = -1;

    for (unsigned i = 0; i < CONF_TOKEN_MAX; i++) {
        const struct signer_choice_token *token = &choice->token[i];

        if (i != index && !token->slow.is_on && token->samples >= SAMPLES_ENOUGH &&
            (best_us < 0 || token->latency_us < best_us))
            best_us = token->latency_us;
    }
    return choice->mode == CONF_TOKEN_SPREAD && best_us >= 0 &&
           choice->token[index].latency_us > factor * best_us + SLOW_MORE_US;
}

/* One that is ejected had little else to do: its last answer says more than a mean. */
static void take_sample(struct signer_choice_token *token, int64_t latency_us)
{
    if (token->samples < SAMPLES_ENOUGH)
        token->samples++;
    if (token->slow.is_on)
        token->latency_us = (double)latency_us;
    else
        token->latency_us += ((double)latency_us - token->latency_us) / token->samples;
}

void signer_choice_answered(struct signer_choice *choice, struct signer_link *link,
                            int64_t latency_us, int64_t now_ms)
{
    struct signer_choice_token *token = &choice->token[link->token];
    bool slow;

    if (link->silent.is_on && latency_us < SIGNER_SILENT_MS * 1000) {
        link->silent.is_on = false;
        log_bench("signer-back", link, "it answers", (double)latency_us);
    }
    take_sample(token, latency_us);
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
