/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_advice.h"

#include "pkcs11/verify_rule.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct list {
    struct token_advice *of;
    size_t count;
};

__attribute__((format(printf, 3, 4))) static void add(struct list *list, bool is_warning,
                                                      const char *format, ...)
{
    va_list args;

    if (list->count == TOKEN_ADVICE_MAX)
        return;
    list->of[list->count].is_warning = is_warning;
    va_start(args, format);
    vsnprintf(list->of[list->count].text, sizeof(list->of[0].text), format, args);
    va_end(args);
    list->count++;
}

/* ---- what the token says ---- */

static void advise_on_pin(const struct token_description *token, struct list *list)
{
    if (!token->initialized)
        add(list, true, "the token is not initialised: the vendor's tool does that");
    else if (!token->has_user_pin && token->login_required)
        add(list, true, "the token has no user PIN yet: set one with the SO PIN");
    else if (token->pin_locked)
        add(list, true, "the user PIN is locked: unlock it with the vendor's tool and the SO PIN");
    else if (token->pin_final_try)
        add(list, true,
            "one PIN try is left, which leafd leaves to you: log in once with the vendor's tool");
    else if (token->pin_count_low)
        add(list, true, "a wrong PIN was tried since the last login");
    if (token->protected_path)
        add(list, true,
            "the PIN is typed on the device: somebody has to be there whenever leafd starts, or "
            "finds the token again");
}

static void advise_on_token(const struct token_facts *facts, struct list *list)
{
    bool signs = false;

    advise_on_pin(&facts->token, list);
    if (facts->write_protected)
        add(list, false, "the token is write-protected: leafctl ca init can make no key in it");
    for (size_t i = 0; i < SIG_COUNT; i++)
        signs |= facts->algorithm[i].mechanism[0];
    if (!signs)
        add(list, true, "the token has no mechanism that leafd signs with");
    if (facts->sessions_tried && facts->sessions_opened == 0)
        add(list, true,
            "the token opened no session (%s): do others hold all it has, such as a running leafd?",
            facts->session_refusal);
    else if (facts->token.max_sessions > facts->sessions_opened && facts->session_refusal[0])
        add(list, true,
            "the token says it has %" PRIu64 " sessions, and opened %u: others hold the rest, or "
            "it says too much",
            facts->token.max_sessions, facts->sessions_opened);
}

/* ---- what its keys did ---- */

static void advise_on_key(const struct token_probe_key *key, struct list *list)
{
    const char *name = key->made ? key->type : key->key.label;

    if (!key->key.mechanism[0]) /* there is no such key, or it is a file */
        return;
    if (key->key.extractable == TOKEN_YES && key->made)
        add(list, true,
            "the token made a key (%s) that can be taken out of it, although told not to", name);
    else if (key->key.extractable == TOKEN_YES)
        add(list, true, "the key \"%s\" can be taken out of the token", name);
    else if (key->key.sensitive == TOKEN_NO)
        add(list, true, "the key \"%s\" can be read by whoever has the PIN", name);
    if (key->key.always_authenticate)
        add(list, false,
            "the key \"%s\" wants the PIN before each signature, a call to the token more for each",
            name);
    if (key->failure[0] && !key->made)
        add(list, true, "the key \"%s\" did not give every signature", name);
}

static const struct sign_rate *best_of(const struct token_probe_key *key)
{
    const struct sign_rate *best = &key->rate[0];

    for (size_t i = 1; i < key->rate_count; i++)
        if (key->rate[i].per_second > best->per_second)
            best = &key->rate[i];
    return best;
}

/* The fewest lanes that come close to the best rate. */
static const struct sign_rate *enough_of(const struct token_probe_key *key)
{
    const struct sign_rate *best = best_of(key);
    size_t i = 0;

    while (key->rate[i].per_second < 0.9 * best->per_second)
        i++;
    return &key->rate[i];
}

static void advise_on_sessions(const struct token_probe *probe, const struct token_probe_key *key,
                               struct list *list)
{
    const struct sign_rate *last = &key->rate[key->rate_count - 1];
    const struct sign_rate *enough = enough_of(key);

    if (probe->sessions_wanted == 1)
        return;
    if (key->rate_count < 2) {
        add(list, false, "token.sessions: 1, all that there is; leafd works with one");
        return;
    }
    if (enough == last && last->per_second > 1.15 * last[-1].per_second &&
        probe->facts.sessions_opened > last->lanes) {
        add(list, false,
            "token.sessions: %u or more (%.0f signatures per second with %s); the rate still grows "
            "there, and --sessions %u tells how far",
            last->lanes, last->per_second, key->type, 2 * last->lanes);
        return;
    }
    add(list, false, "token.sessions: %u (%.0f signatures per second with %s; %s)", enough->lanes,
        enough->per_second, key->type,
        enough == last && probe->lanes < probe->sessions_wanted ? "all that the token opens"
                                                                : "more sessions bring no more");
}

/* Is a signature work of this machine, more than waiting for another? Told by the first row, where
 * nothing waits for a lock. */
static bool is_software(const struct token_probe_key *key)
{
    return key->rate[0].cpu_us >= key->rate[0].median_us / 2;
}

static void advise_on_processes(const struct token_probe *probe, const struct token_probe_key *key,
                                struct list *list)
{
    const struct sign_rate *last = &key->rate[key->rate_count - 1];

    if (probe->has_facts && !probe->facts.module.locks)
        add(list, false,
            "token.processes: 2 or more; the module takes one call at a time in a process, so only "
            "more processes sign at once (each logs in, with a session of its own)");
    else if (last->lanes < 4)
        return;
    else if (best_of(key)->per_second >= 1.5 * key->rate[0].per_second)
        add(list, false, "token.processes: 1; in one process the rate grows with the sessions");
    else if (is_software(key))
        add(list, false,
            "token.processes: 1; the token signs on this machine's processors, which are the "
            "limit");
    else
        add(list, false,
            "token.processes: 2 or more, to be tried; %u sessions give no more than one, so module "
            "or token do one thing at a time, and if it is the module, processes multiply the rate",
            last->lanes);
}

/* As verify_rule has it. */
static void advise_on_verify(const struct token_probe_key *key, struct list *list)
{
    bool is_rsa = strncmp(key->type, "rsa", 3) == 0;

    if (is_rsa || key->rate[0].median_us > VERIFY_SLOW_US)
        add(list, false, "token.verify: auto; it verifies every signature here, since %s",
            is_rsa ? "that costs little with RSA" : "the token takes longer than that");
    else
        add(list, false,
            "token.verify: auto verifies 1 in 16 of such fast signatures; always verifies every "
            "one, at the price of about one more signature each");
}

size_t token_advice_find(const struct token_probe *probe,
                         struct token_advice ret[static TOKEN_ADVICE_MAX])
{
    const struct token_probe_key *measured = NULL;
    struct list list = {ret, 0};

    if (probe->has_facts)
        advise_on_token(&probe->facts, &list);
    for (size_t i = 0; i < probe->key_count; i++) {
        const struct token_probe_key *key = &probe->key[i];

        advise_on_key(key, &list);
        if (!measured && key->rate_count && !key->failure[0])
            measured = key;
    }
    if (measured) {
        advise_on_sessions(probe, measured, &list);
        advise_on_processes(probe, measured, &list);
        advise_on_verify(measured, &list);
    }
    return list.count;
}
