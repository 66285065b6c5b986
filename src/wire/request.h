/* SPDX-License-Identifier: Apache-2.0 */
/* One datagram of the g3 certificate generator protocol, read strictly (leafd-protocol(7)).
 *
 * Threads: no shared state. Everything read is borrowed from the datagram. */
#pragma once

#include "base/bytes.h"

enum { WIRE_DATAGRAM_MAX = 16384 };

enum dialect { DIALECT_IDS, DIALECT_NAMES };

enum service { SERVICE_HTTP = 0, SERVICE_SMTP = 1, SERVICE_IMAP = 2 };

enum usage {
    USAGE_TLS_SERVER = 0,
    USAGE_TLS_SERVER_TONGSUO = 1,
    USAGE_TLCP_SIGNATURE = 11,
    USAGE_TLCP_ENCRYPTION = 12
};

enum cert_form {
    CERT_FORM_ABSENT,  /* no key 3 */
    CERT_FORM_DER,     /* a bin that is not PEM */
    CERT_FORM_PEM,     /* a str or a bin that holds PEM */
    CERT_FORM_UNUSABLE /* nil, empty, or of another type: never as if absent */
};

struct request {
    enum dialect dialect;
    bool host_was_read; /* host is set: the error reply can name it */
    struct bytes host;  /* as sent, to be echoed byte for byte */
    enum service service;
    bool usage_was_asked;
    enum usage usage;
    enum cert_form cert_form;
    struct bytes cert; /* as sent */
    unsigned ignored_keys;
};

/* Reads one datagram of `datagram.len` octets (a datagram that was longer than WIRE_DATAGRAM_MAX is
 * given with its cut length + `cut`). On LEAFD_MALFORMED and LEAFD_UNSUPPORTED (unknown service or
 * usage) *ret holds dialect and host as far as they were read, for the error reply. LEAFD_DROP: it
 * is a reply, or a map with keys of one; say nothing. */
LEAFD_CHECKED enum leafd_err request_read(struct bytes datagram, bool cut, struct request *ret,
                                          struct why *why);

/* The upstream leaf's DER: borrowed from the request for CERT_FORM_DER, decoded into `scratch` for
 * CERT_FORM_PEM (the first CERTIFICATE block; text before it is ignored). LEAFD_UNSUPPORTED when
 * there is no certificate in it; *ret is untouched then. */
LEAFD_CHECKED enum leafd_err request_upstream_der(const struct request *request, uint8_t *scratch,
                                                  size_t size, struct bytes *ret, struct why *why);

/* Writes a request, for leafctl and tests; the number of octets, or 0 when it does not fit. */
size_t request_write(const struct request *request, uint8_t *out, size_t size);
const char *usage_name(enum usage usage);       /* "tls_server", "tlcp_server_signature", … */
const char *service_name(enum service service); /* "http", "smtp", "imap" */
