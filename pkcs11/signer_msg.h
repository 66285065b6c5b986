/* SPDX-License-Identifier: Apache-2.0 */
/* What front and signer tell each other: one message is one SOCK_SEQPACKET datagram, a kind octet,
 * then fields of fixed width (big-endian) and byte strings behind their length. Writer and reader
 * of each stand side by side. Each end takes the other for hostile: every reader is bounded, takes
 * the one form its writer makes, and tolerates nothing left over.
 *
 * signer -> front: STATE when the front is connected, on every change, and with new counters once a
 * second while there is work; REPLY for every SIGN; DISOWN when unverified signatures that REPLYs
 * have brought are not to be trusted after all, after the last REPLY with a batch that it names.
 * front -> signer: SIGN.
 *
 * Threads: no shared state. What is read is borrowed from the message. */
#pragma once

#include "pkcs11/signer.h"

enum {
    SIGNER_MSG_VERSION = 2,
    SIGNER_MSG_CAS_MAX = 16,
    SIGNER_MSG_CERT_MAX = 4096, /* the untrusted CA's certificate */
    SIGNER_MSG_SIGN_MAX = SIGN_TBS_MAX + SIGN_AUDIT_MAX + 64,
    SIGNER_MSG_REPLY_MAX = SIGN_SIGNATURE_MAX + 64,
    SIGNER_MSG_BATCHES_MAX = 256,
    SIGNER_MSG_DISOWN_MAX = 8 * SIGNER_MSG_BATCHES_MAX + 64,
    SIGNER_MSG_STATE_MAX = SIGNER_MSG_CERT_MAX + 1024 /* the largest that a signer sends */
};

enum signer_msg_kind {
    SIGNER_MSG_NONE = 0, /* no kind that there is */
    SIGNER_MSG_STATE = 1,
    SIGNER_MSG_SIGN,
    SIGNER_MSG_REPLY,
    SIGNER_MSG_DISOWN
};
enum signer_msg_kind signer_msg_kind(struct bytes message);

struct signer_msg_state {
    enum signer_state state;
    unsigned lanes;
    struct signer_tally tally; /* of this process */
    char text[256]; /* printable ASCII; other octets become '?' when written and are refused when
                       read */
    struct signer_msg_ca {
        uint16_t id;
        uint64_t generation;
    } ca[SIGNER_MSG_CAS_MAX]; /* what this process signs for, the untrusted CA too */
    size_t ca_count;
    struct bytes untrusted_der; /* empty: it has none */
};

struct signer_msg_reply {
    uint64_t id;
    enum leafd_err err;     /* one of those that signer_fn names, or LEAFD_INTERNAL */
    struct bytes signature; /* not empty if and only if err is LEAFD_OK */
    uint64_t batch;         /* below 2^48; 0: verified, or no signature */
};

struct signer_msg_disown {
    size_t count; /* at least 1 */
    uint64_t batch[SIGNER_MSG_BATCHES_MAX];
};

/* Each writer gives the number of octets written, or 0 when the message is out of its bounds or
 * does not fit into `size`. */
size_t signer_msg_write_state(const struct signer_msg_state *state, uint8_t *out, size_t size);
LEAFD_CHECKED enum leafd_err signer_msg_read_state(struct bytes message,
                                                   struct signer_msg_state *ret);

size_t signer_msg_write_sign(uint64_t id, const struct sign_request *request, uint8_t *out,
                             size_t size);
/* Puts another id into a SIGN that signer_msg_write_sign has made. */
void signer_msg_set_sign_id(uint8_t *message, uint64_t id);
/* On LEAFD_MALFORMED *ret_id is set all the same if the message was long enough to hold one (else
 * 0, which no front uses), so that it can be answered; *ret_request is untouched. */
LEAFD_CHECKED enum leafd_err signer_msg_read_sign(struct bytes message, uint64_t *ret_id,
                                                  struct sign_request *ret_request);

size_t signer_msg_write_reply(const struct signer_msg_reply *reply, uint8_t *out, size_t size);
LEAFD_CHECKED enum leafd_err signer_msg_read_reply(struct bytes message,
                                                   struct signer_msg_reply *ret);

size_t signer_msg_write_disown(const struct signer_msg_disown *disown, uint8_t *out, size_t size);
LEAFD_CHECKED enum leafd_err signer_msg_read_disown(struct bytes message,
                                                    struct signer_msg_disown *ret);
