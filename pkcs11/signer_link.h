/* SPDX-License-Identifier: Apache-2.0 */
/* One signer process as its front sees it: the socket, and what the process has told. Parts of a
 * signer_client, and of no one else.
 *
 * Threads: the lock of sign_traffic guards what is said to be under it; the reader alone receives.
 */
#pragma once

#include "pkcs11/sign_pending.h"
#include "pkcs11/signer_msg.h"

#include <sys/socket.h>

enum { SIGNER_LINK_BATCH = 32 /* messages per system call */ };

/* Left out, but for a request now and then. */
struct signer_bench {
    bool is_on;
    int64_t probe_ms; /* the next request comes then */
    int64_t wait_ms;  /* and the one after that so much later */
    int64_t since_ms; /* when it was put there, or waited longer */
};

/* In its client's list until it is lost; the reader alone takes it out. Whoever sends holds a
 * reference, so that the descriptor stays what it was. */
struct signer_link {
    _Atomic unsigned refs;
    int fd;
    unsigned token;   /* which of the configuration's */
    unsigned process; /* the how manieth of that token's */
    uint16_t serial;  /* another one for each link of a client, for a long time */
    bool was_reset; /* reader only: ECONNRESET was read, what was sent before may still be there */
    /* under that lock: */
    bool greeted; /* `state` was told */
    bool retired; /* a newer process in its place is connected */
    bool blocked; /* its socket is full: wait for POLLOUT */
    bool dead;    /* a send failed; its end will be read soon */
    size_t under_way;
    struct signer_bench silent;    /* it does not answer */
    int64_t heard_ms;              /* when it answered last, or was given work after it had none */
    struct signer_msg_state state; /* without untrusted_der */
    struct ca *untrusted;
};

/* Takes `fd` in any case; one reference is the caller's. NULL: no memory. */
struct signer_link *signer_link_new(int fd, unsigned token, unsigned process);
void signer_link_ref(struct signer_link *link);
void signer_link_unref(struct signer_link *link);

/* Its bit among those of all posts, as in sign_entry's `tried`. */
uint64_t signer_link_bit(const struct signer_link *link);
/* What the front calls a batch of this process: no other process can name it. 0 stays 0. */
uint64_t signer_link_batch(const struct signer_link *link, uint64_t batch);
bool signer_link_can_sign(const struct signer_link *link);
/* For the CA that the entry names, in its generation? */
bool signer_link_serves(const struct signer_link *link, const struct sign_entry *entry);
/* Adds what it counts, and its state and text if they are the better ones. */
void signer_link_add_status(const struct signer_link *link, struct signer_status *status);
void signer_link_add_token_status(const struct signer_link *link, struct signer_token_status *to);

/* What one system call brings. */
struct signer_inbox {
    uint8_t buffer[SIGNER_LINK_BATCH][SIGNER_MSG_STATE_MAX];
    struct iovec part[SIGNER_LINK_BATCH];
    struct mmsghdr header[SIGNER_LINK_BATCH];
    size_t count;
};
enum signer_link_end { SIGNER_LINK_MORE, SIGNER_LINK_EMPTY, SIGNER_LINK_LOST };
/* Receives up to a batch into `inbox`, whose messages count also when the link is lost. */
enum signer_link_end signer_link_receive(struct signer_link *link, struct signer_inbox *inbox);
/* Message number `i`; empty if it was cut. */
struct bytes signer_inbox_message(const struct signer_inbox *inbox, size_t i);
