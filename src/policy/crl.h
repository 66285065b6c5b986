/* SPDX-License-Identifier: Apache-2.0 */
/* The revocation list of a CA of ours (RFC 5280 section 5): the empty one that leafctl makes, and
 * the check of what stands in a file before anybody is given it.
 *
 * Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "der/der_writer.h"
#include "policy/ca.h"

enum { CRL_SIZE_MAX = 1 << 20 };

struct crl {
    int64_t this_update; /* seconds since 1970 */
    int64_t next_update;
    uint64_t number; /* cRLNumber; 0: none, or one of more than 64 bits */
    size_t revoked;  /* entries */
};

/* Room that is enough for crl_put_tbs, and for the same with a signature. */
size_t crl_size(const struct ca *ca);
/* A TBSCertList of version 2 without entries, as `ca` is to sign it: its subject is the issuer, its
 * key identifier the AuthorityKeyIdentifier. Of `crl`, `revoked` is not looked at. */
void crl_put_tbs(struct der_writer *writer, const struct ca *ca, const struct crl *crl);
/* The CertificateList of a TBSCertList and its signature. */
void crl_put(struct der_writer *writer, const struct ca *ca, struct bytes tbs,
             struct bytes signature);

/* Takes `input` for nothing but one whole CRL in DER, issued and signed by `ca`, with a nextUpdate
 * (which RFC 5280 section 5.1.2.5 wants). Dates in the past or the future are no error here.
 * LEAFD_MALFORMED: no such CRL; LEAFD_REFUSED: another issuer's, a delta CRL, or its signature does
 * not verify; LEAFD_TOO_LARGE: over CRL_SIZE_MAX. Each with a sentence; *ret is untouched. */
LEAFD_CHECKED enum leafd_err crl_read(struct bytes input, const struct ca *ca, struct crl *ret,
                                      struct why *why);

/* What its operator should know, each with a sentence that stays the same until something happens;
 * false: nothing. Of the configuration: an address that leaves carry (ca.crl_url) while no file is
 * named, or while clients would not take this CA's CRL. */
bool crl_conf_needs_care(const struct conf *conf, const struct ca *ca, struct why *why);
/* Of a CRL, by its dates: it has to be renewed well before its end, a week, or a quarter of its
 * span if that is less. */
bool crl_needs_care(const struct crl *crl, int64_t now_sec, struct why *why);
