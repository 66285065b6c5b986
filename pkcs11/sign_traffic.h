/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of a signer_client on their way: which process each goes to, which wait for one,
 * which have to go elsewhere, and what their askers are told. It decides; its callers send,
 * receive and call back. A part of a signer_client, and of no one else.
 *
 * A request is held (it waits here, with its message) or under way at one link (its message was
 * sent there, or is about to be, without the lock, by whoever it was entrusted to). It leaves when
 * it is finished, once, whoever is the first to do so; what is heard of it later is dropped.
 *
 * Threads and locks, for all parts of a signer_client:
 *   - Askers come from any thread. One thread, the reader (pkcs11/signer_reader), receives, sends
 *     what was held, watches deadlines, and alone takes a link out.
 *   - `lock` guards all that stands below it, the roster with its links, and the entries. Every
 *     function here is called under it, except _init, _clear, _wake and sign_callbacks_run().
 *   - It is never held across a callback or a system call that may wait: what is to be called is
 *     collected and called once the lock is given back.
 *   - It comes before the roster's cas_lock. */
#pragma once

#include "base/recent_numbers.h"
#include "pkcs11/sign_pending.h"
#include "pkcs11/signer_client.h"
#include "pkcs11/signer_msg.h"
#include "pkcs11/signer_roster.h"

enum {
    SIGN_BATCH = SIGNER_LINK_BATCH /* messages per system call, callbacks per turn with the lock */
};

struct sign_traffic {
    int wake_fd;                            /* readable: the reader is to look again */
    struct recent_numbers disowned_batches; /* reader only */

    pthread_mutex_t lock; /* all below */
    struct sign_pending *pending;
    struct signer_roster roster;
    bool sleeping; /* the reader waits without a timeout */
    bool stopping;
    bool flush_wanted;           /* a held request may have got a way out */
    int64_t active_ms;           /* when there was last something pending */
    signer_disowned_fn disowned; /* who is told; NULL: nobody */
    void *disowned_ctx;
};

/* `traffic` is all zero; room for `max` requests. LEAFD_NOMEM: there is nothing to clear. */
LEAFD_CHECKED enum leafd_err sign_traffic_init(struct sign_traffic *traffic, struct ca_set *cas,
                                               size_t token_count, enum conf_token_choice choice,
                                               size_t max);
void sign_traffic_clear(struct sign_traffic *traffic);
/* Makes the reader look again. */
void sign_traffic_wake(struct sign_traffic *traffic);

/* What is to be called once the lock is given back. */
struct sign_callbacks {
    struct sign_callback {
        signer_fn done;
        void *ctx;
        enum leafd_err err;
        struct bytes signature;
        uint64_t batch;
    } call[SIGN_BATCH];
    size_t count;
};

/* Without the lock. Empties it. */
void sign_callbacks_run(struct sign_callbacks *callbacks);

/* Decides what becomes of a new request whose message, without an id, is `message`: it gets its id
 * and is sent by the caller to *ret_link, whose reference is the caller's too; or it is held
 * (LEAFD_OK, no link); or it is answered by the caller at once, with the error. */
LEAFD_CHECKED enum leafd_err sign_traffic_add(struct sign_traffic *traffic,
                                              const struct sign_request *request, signer_fn done,
                                              void *ctx, uint8_t *message, size_t len,
                                              uint64_t *ret_id, struct signer_link **ret_link);

/* Link `link` did not take the message of request `id`, because of `error`, an errno. The request
 * may be gone by now (a deadline, the link's end): then somebody else has answered it. `message`
 * is copied if the request has none of its own. */
void sign_traffic_bring_back(struct sign_traffic *traffic, struct signer_link *link, uint64_t id,
                             int error, struct bytes message, bool at_front,
                             struct sign_callbacks *callbacks);

/* Messages for one link, with a reference of it for each. They stay their entries', which only the
 * reader ends. */
struct sign_parcel {
    struct signer_link *link;
    uint64_t id[SIGN_BATCH];
    struct iovec message[SIGN_BATCH];
    size_t count;
};

/* Reader only: held requests for one link that takes them now; those that need not wait any longer
 * are finished. False: nothing can be done for any, until flush_wanted is set again. */
bool sign_traffic_pack(struct sign_traffic *traffic, struct sign_parcel *parcel,
                       struct sign_callbacks *callbacks);

/* `link` has answered; the batch is as askers know it. Answers to ids that nobody waits for any
 * more are dropped. The signature is borrowed until the callbacks were run. */
void sign_traffic_answered(struct sign_traffic *traffic, struct signer_link *link,
                           const struct signer_msg_reply *reply, struct sign_callbacks *callbacks);

/* Reader only: looks after the requests whose moment has come. False: there are no more. */
bool sign_traffic_expire(struct sign_traffic *traffic, int64_t now_ms,
                         struct sign_callbacks *callbacks);
/* Reader only: what is under way at `link`, which is lost, is asked again elsewhere. *cursor starts
 * at 0. False: that was all. */
bool sign_traffic_leave(struct sign_traffic *traffic, const struct signer_link *link,
                        size_t *cursor, struct sign_callbacks *callbacks);
/* Finishes what is left. False: that was all. */
bool sign_traffic_give_up(struct sign_traffic *traffic, struct sign_callbacks *callbacks);
