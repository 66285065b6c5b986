/* SPDX-License-Identifier: Apache-2.0 */
/* Replies of the g3 certificate generator protocol: with a leaf, or with an error.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"
#include "wire/request.h"

enum cert_format { CERT_FORMAT_PEM, CERT_FORMAT_DER };
enum key_format { KEY_FORMAT_BY_DIALECT, KEY_FORMAT_DER, KEY_FORMAT_PEM };

/* What is answered, all borrowed. Only what the chosen formats need has to be set. */
struct response {
    enum dialect dialect;
    struct bytes host; /* as it was sent */
    enum service service;
    bool usage_was_asked;
    enum usage usage;
    enum cert_format cert_format;
    struct bytes cert_pem;  /* CERT_FORMAT_PEM: leaf, then `chain_pem` is put behind it */
    struct bytes chain_pem; /* may be empty */
    struct bytes cert_der;  /* CERT_FORMAT_DER */
    const struct bytes *chain_der;
    size_t chain_count;
    enum key_format key_format;
    struct bytes key; /* in the form that response_key_is_pem() asks for */
    uint32_t ttl_sec;
};

/* True when the key goes out as PEM: asked by the listener's format, else by the dialect. */
bool response_key_is_pem(enum dialect dialect, enum key_format format);

/* Octets written, or 0 when it does not fit into `size` (WIRE_DATAGRAM_MAX of it at most). */
size_t response_write(const struct response *response, uint8_t *out, size_t size);

/* An error reply: the host if it was read and has at most 253 octets, and the code's word. At most
 * 48 octets plus the host. `err` is one of LEAFD_MALFORMED … LEAFD_INTERNAL; any other is sent as
 * internal. */
size_t response_write_error(const struct request *request, enum leafd_err err, uint8_t *out,
                            size_t size);

/* A reply as a client sees it (leafctl, tests); the strings are borrowed from the datagram. */
struct response_view {
    struct bytes host;
    struct bytes cert;     /* PEM or DER leaf as sent */
    struct bytes chain[8]; /* DER arrays alone: what stands behind the leaf */
    size_t chain_count;
    struct bytes key;
    uint32_t ttl_sec;
    struct bytes error; /* the code's word; empty in a reply with a leaf */
};
LEAFD_CHECKED enum leafd_err response_read(struct bytes datagram, struct response_view *ret,
                                           struct why *why);
