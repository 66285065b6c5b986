/* SPDX-License-Identifier: Apache-2.0 */
/* The signer processes of a signer_client: those that are connected, what is left of those before
 * them, and the CAs that they sign for. A part of a signer_client, and of no one else.
 *
 * Threads: none of its own. The lock of sign_traffic guards it, and every function but _init,
 * _clear and _cas is called under that. The set of CAs is written under cas_lock too, so that
 * either lock will do to read it. */
#pragma once

#include "pkcs11/signer_choice.h"
#include "pkcs11/signer_link.h"

#include <pthread.h>

enum {
    SIGNER_LINKS_MAX =
        2 * CONF_TOKEN_MAX * CONF_PROCESSES_MAX /* each perhaps beside the one it replaces */
};

struct signer_roster {
    struct signer_link *link[SIGNER_LINKS_MAX];
    size_t link_count;
    uint64_t seen_mask; /* posts whose process was connected before */
    uint16_t serials;   /* given to links until now */
    struct signer_choice choice;
    size_t token_count;
    struct signer_past {
        uint64_t restarts;
        struct signer_tally gone; /* of processes that ended; without logins */
    } past[CONF_TOKEN_MAX];
    struct ca_set *configured;

    pthread_mutex_t cas_lock; /* after the lock of sign_traffic */
    struct ca_set *cas;
};

/* `roster` is all zero; `cas` (a reference is taken) are the configured CAs. */
void signer_roster_init(struct signer_roster *roster, struct ca_set *cas, size_t token_count,
                        enum conf_token_choice choice);
void signer_roster_clear(struct signer_roster *roster); /* gives back every link */

/* Takes the caller's reference. Those in its place are on their way out now. False: there is no
 * room, and the reference stays the caller's. */
bool signer_roster_add(struct signer_roster *roster, struct signer_link *link);
/* Its counters go on where those of this lost process ended. The reference is the caller's now. */
void signer_roster_remove(struct signer_roster *roster, struct signer_link *link);

/* What `link` has told. *untrusted is the CA that came with it, NULL when it is the one before or
 * none; on return the caller's to unref, whatever is there. */
void signer_roster_take_state(struct signer_roster *roster, struct signer_link *link,
                              const struct signer_msg_state *state, struct ca **untrusted);

/* The process to send to now; as signer_choice_find(). */
struct signer_link *signer_roster_choose(const struct signer_roster *roster,
                                         const struct sign_entry *entry, bool *ret_full);
/* Is there a process, and is none of them without a blocked PIN? */
bool signer_roster_all_pin_blocked(const struct signer_roster *roster);

/* The CAs in force, from any thread without the lock: the caller's to ca_set_unref(). */
struct ca_set *signer_roster_cas(struct signer_roster *roster);
/* All but `waiting`, which is left 0. */
void signer_roster_status(const struct signer_roster *roster, struct signer_status *ret);
