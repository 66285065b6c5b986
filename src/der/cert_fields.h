/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a Certificate or TBSCertificate (RFC 5280 section 4.1), walked once, borrowed from
 * the input. Two readers use it: policy/upstream on hostile upstream leaves (DER_FORM_LEGACY), and
 * pkcs11/sign_check on what a front wants signed (DER_FORM_STRICT).
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

enum { CERT_EXTENSIONS_MAX = 64, CERT_SIZE_MAX = 65536 };

enum der_form {
    DER_FORM_STRICT, /* DER to the letter */
    DER_FORM_LEGACY  /* encoded DEFAULTs, TRUE other than FF, non-minimal INTEGERs, BIT STRING
                        padding are tolerated */
};

struct cert_extension {
    struct bytes oid;   /* content octets */
    struct bytes value; /* content of extnValue */
    bool critical;
};

struct cert_fields {
    struct bytes tbs;       /* whole element */
    int version;            /* 1, 2 or 3 (the number, not its encoding); 4 and more as they are */
    struct bytes serial;    /* content octets of the INTEGER */
    struct bytes algorithm; /* inner AlgorithmIdentifier, whole element */
    struct bytes issuer;    /* whole Name */
    int64_t not_before;     /* seconds since 1970 */
    int64_t not_after;
    struct bytes subject; /* whole Name */
    struct bytes spki;    /* whole element */
    bool has_unique_id;   /* an issuerUniqueID or subjectUniqueID */
    struct cert_extension extension[CERT_EXTENSIONS_MAX];
    size_t extension_count;
    bool legacy;                  /* some tolerated form was met (DER_FORM_LEGACY alone) */
    struct bytes outer_algorithm; /* cert_read alone: whole element */
    struct bytes signature; /* cert_read alone: the BIT STRING without its unused-bits octet */
    size_t size;            /* octets of the input that belong to it */
};

/* Reads a Certificate. With DER_FORM_LEGACY octets behind the certificate are ignored, else
 * malformed. LEAFD_MALFORMED: not one; *ret is then undefined and must not be used. */
LEAFD_CHECKED enum leafd_err cert_read(struct bytes input, enum der_form form,
                                       struct cert_fields *ret, struct why *why);
/* Reads a TBSCertificate that fills the whole input. */
LEAFD_CHECKED enum leafd_err tbs_read(struct bytes input, enum der_form form,
                                      struct cert_fields *ret, struct why *why);
/* Is this a whole Name in DER: RDNs of sorted attributes, their strings what their types say? */
bool cert_name_is_strict(struct bytes whole);
/* The same of an issuer, as DER_FORM_STRICT takes it: order and the alphabets of its strings are
 * its CA's affair. */
bool cert_issuer_is_strict(struct bytes whole);
/* Is it one of the CHOICE GeneralName (RFC 5280 section 4.2.1.6), and of its type's form, as far as
 * every reader looks? What a dNSName or an iPAddress says is not looked at. */
bool cert_general_name_is_good(uint8_t tag, struct bytes content);
