/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_roster.h"

void signer_roster_init(struct signer_roster *roster, struct ca_set *cas, size_t token_count,
                        enum conf_token_choice choice)
{
    roster->token_count = token_count;
    roster->choice.mode = choice;
    roster->configured = ca_set_ref(cas);
    roster->cas = ca_set_ref(cas);
    pthread_mutex_init(&roster->cas_lock, NULL);
}

void signer_roster_clear(struct signer_roster *roster)
{
    for (size_t i = 0; i < roster->link_count; i++)
        signer_link_unref(roster->link[i]);
    ca_set_unref(roster->cas);
    ca_set_unref(roster->configured);
    pthread_mutex_destroy(&roster->cas_lock);
}

/* ---- the CAs in force ---- */

/* Any process's untrusted CA will do, the newest greeting's first; without one the
 * former stays, since a process that signs for it or replaces it will come. */
static void renew_cas(struct signer_roster *roster, const struct ca *untrusted)
{
    struct ca_set *after, *before = roster->cas;

    if (before->untrusted && before->untrusted->generation == untrusted->generation)
        return;
    after = ca_set_new(roster->configured->ca, roster->configured->count, untrusted);
    if (!after)
        return; /* the next state tries again */
    pthread_mutex_lock(&roster->cas_lock);
    roster->cas = after;
    pthread_mutex_unlock(&roster->cas_lock);
    ca_set_unref(before);
}

static bool untrusted_is_served(const struct signer_roster *roster)
{
    for (size_t i = 0; roster->cas->untrusted && i < roster->link_count; i++)
        if (roster->link[i]->untrusted &&
            roster->link[i]->untrusted->generation == roster->cas->untrusted->generation)
            return true;
    return false;
}

static void adopt_untrusted(struct signer_roster *roster)
{
    if (untrusted_is_served(roster))
        return;
    for (size_t i = roster->link_count; i > 0; i--)
        if (roster->link[i - 1]->untrusted) {
            renew_cas(roster, roster->link[i - 1]->untrusted);
            return;
        }
}

struct ca_set *signer_roster_cas(struct signer_roster *roster)
{
    struct ca_set *cas;

    pthread_mutex_lock(&roster->cas_lock);
    cas = ca_set_ref(roster->cas);
    pthread_mutex_unlock(&roster->cas_lock);
    return cas;
}

/* ---- processes come, tell and go ---- */

bool signer_roster_add(struct signer_roster *roster, struct signer_link *link)
{
    uint64_t bit = signer_link_bit(link);

    if (roster->link_count == SIGNER_LINKS_MAX)
        return false;
    for (size_t i = 0; i < roster->link_count; i++)
        if (signer_link_bit(roster->link[i]) == bit)
            roster->link[i]->retired = true;
    roster->link[roster->link_count++] = link;
    link->serial = ++roster->serials;
    roster->past[link->token].restarts += roster->seen_mask & bit ? 1 : 0;
    roster->seen_mask |= bit;
    signer_choice_renew(&roster->choice, link->token);
    return true;
}

void signer_roster_remove(struct signer_roster *roster, struct signer_link *link)
{
    struct signer_tally *gone = &roster->past[link->token].gone;

    signer_tally_add(gone, &link->state.tally);
    gone->logins = 0; /* those of who runs are told */
    for (size_t i = 0; i < roster->link_count; i++)
        if (roster->link[i] == link)
            roster->link[i] = roster->link[--roster->link_count];
    adopt_untrusted(roster);
}

void signer_roster_take_state(struct signer_roster *roster, struct signer_link *link,
                              const struct signer_msg_state *state, struct ca **untrusted)
{
    link->state = *state;
    link->greeted = true;
    if (*untrusted) {
        struct ca *before = link->untrusted;

        link->untrusted = *untrusted;
        *untrusted = before;
        renew_cas(roster, link->untrusted);
    } else {
        adopt_untrusted(roster);
    }
}

/* ---- what they are good for ---- */

struct signer_link *signer_roster_choose(const struct signer_roster *roster,
                                         const struct sign_entry *entry, bool *ret_full)
{
    return signer_choice_find(&roster->choice, roster->link, roster->link_count, entry, ret_full);
}

bool signer_roster_all_pin_blocked(const struct signer_roster *roster)
{
    for (size_t i = 0; i < roster->link_count; i++)
        if (!roster->link[i]->greeted || roster->link[i]->state.state != SIGNER_PIN_BLOCKED)
            return false;
    return roster->link_count > 0;
}

static void token_status(const struct signer_roster *roster, unsigned token,
                         struct signer_token_status *ret)
{
    const struct signer_past *past = &roster->past[token];
    const struct signer_choice_token *known = &roster->choice.token[token];
    bool all_silent = true;

    *ret = (struct signer_token_status){
        .state = SIGNER_DOWN,
        .tally = past->gone,
        .restarts = past->restarts,
        .latency_us = (uint64_t)known->latency_us,
        .text = "no signer process is connected",
    };
    for (size_t i = 0; i < roster->link_count; i++) {
        if (roster->link[i]->token != token)
            continue;
        signer_link_add_token_status(roster->link[i], ret);
        all_silent = all_silent && roster->link[i]->silent.is_on;
    }
    ret->is_ejected = ret->state != SIGNER_DOWN && (known->slow.is_on || all_silent);
    if (ret->state == SIGNER_READY)
        ret->text[0] = '\0';
}

void signer_roster_status(const struct signer_roster *roster, struct signer_status *ret)
{
    *ret = (struct signer_status){
        .state = SIGNER_DOWN,
        .text = "no signer process is connected",
        .token_count = roster->token_count,
    };
    for (unsigned i = 0; i < roster->token_count; i++) {
        signer_tally_add(&ret->tally, &roster->past[i].gone);
        ret->restarts += roster->past[i].restarts;
        token_status(roster, i, &ret->token[i]);
    }
    for (size_t i = 0; i < roster->link_count; i++)
        signer_link_add_status(roster->link[i], ret);
    if (ret->state == SIGNER_READY)
        ret->text[0] = '\0';
}
