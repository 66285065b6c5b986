/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates of one file: a CA's and its issuers'.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

#include <openssl/x509.h>

enum { CERT_LIST_MAX = 8, CERT_LIST_FILE_MAX = 1 << 20 /* octets that are read */ };

struct cert_list {
    struct bytes der[CERT_LIST_MAX]; /* heap */
    X509 *cert[CERT_LIST_MAX];
    size_t count;
};

/* Reads PEM text, passing over blocks that are no certificates, or one certificate in DER.
 * LEAFD_CONFIG with a sentence: none in it, too many, or one that cannot be read; *ret is
 * untouched. The caller ends it with cert_list_clear(). */
LEAFD_CHECKED enum leafd_err cert_list_read(struct bytes pem_or_der, struct cert_list *ret,
                                            struct why *why);
void cert_list_clear(struct cert_list *list);

/* Has number `issuer` issued number `cert`: names, key identifiers, key usage and signature? */
bool cert_list_has_issued(const struct cert_list *list, size_t issuer, size_t cert);
/* Has it signed itself? */
bool cert_list_is_root(const struct cert_list *list, size_t at);
/* Puts the one that has issued no other to the front, and each one's issuer behind it.
 * LEAFD_CONFIG: they are not one path; the sentence names one that does not belong. */
LEAFD_CHECKED enum leafd_err cert_list_sort(struct cert_list *list, struct why *why);
/* A name as one line (RFC 2253, escaped), cut to `size`; returns `out`. */
const char *cert_name_text(const X509_NAME *name, char *out, size_t size);
/* The subject of number `at` in that form. */
const char *cert_list_subject(const struct cert_list *list, size_t at, char *out, size_t size);
/* `count` of them from number `first` on as one PEM text. free(ret->data). */
LEAFD_CHECKED enum leafd_err cert_list_pem(const struct cert_list *list, size_t first, size_t count,
                                           struct bytes *ret);
