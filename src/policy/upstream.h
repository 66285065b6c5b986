/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be known of an upstream leaf: read once, strictly, from hostile bytes. Immutable and
 * counted; never holds a verdict, because that depends on the host and the hour.
 *
 * Threads: every function from any thread. */
#pragma once

#include "der/spki.h"
#include "policy/names.h"

enum { UPSTREAM_NAMES_MAX = 4096 };

/* Observations, one bit each; verdict.c says what follows from them. */
enum upstream_flag {
    UPSTREAM_V1 = 1 << 0,      /* version 1 or 2 */
    UPSTREAM_CN_ONLY = 1 << 1, /* no SAN extension; the one CN is the name */
    UPSTREAM_CA_TRUE = 1 << 2,
    UPSTREAM_ODD_FORMS = 1 << 3,   /* tolerated DER forms, odd string types, odd time forms */
    UPSTREAM_ODD_SERIAL = 1 << 4,  /* zero or negative */
    UPSTREAM_RSA_SHORT = 1 << 5,   /* RSA 1024 to 2047 */
    UPSTREAM_SELF_SIGNED = 1 << 6, /* issuer = subject */
    UPSTREAM_EKU_FOREIGN = 1 << 7, /* EKU without serverAuth and anyExtendedKeyUsage */
    UPSTREAM_KU_FOREIGN = 1 << 8,  /* KU, none of digitalSignature, keyEncipherment, keyAgreement */
    UPSTREAM_UNKNOWN_CRITICAL = 1 << 9, /* also a KU, EKU or BC that cannot be read */
    UPSTREAM_CT_POISON = 1 << 10,
    UPSTREAM_DUPLICATED = 1 << 11, /* an extension twice */
    UPSTREAM_KEY_WEAK = 1 << 12,   /* RSA < 1024, DSA, explicit or unknown curve, no proper key */
    UPSTREAM_SIGNATURE_WEAK = 1 << 13, /* MD2 to MD5, SHA-1; inner and outer algorithm differ */
    UPSTREAM_NO_NAMES = 1 << 14,       /* none that may stand in a leaf */
    UPSTREAM_INVERTED_DATES = 1 << 15
};

struct upstream {
    _Atomic unsigned refs;
    uint8_t sha256[32]; /* of the exact octets */
    unsigned flags;
    int64_t not_before;
    int64_t not_after;
    enum key_type key_type;
    unsigned key_bits;
    struct bytes subject; /* upstream_subject_read()'s name */
    bool has_dns_names;   /* its SubjectAltName has a dNSName, be it one that no leaf gets */
    size_t name_count;    /* checked, lower-cased, duplicates dropped, in their order */
    struct name *names;
};

/* Reads the leaf; octets behind it are ignored. LEAFD_UNSUPPORTED: not a certificate, or its names
 * cannot be read; *ret is untouched. The caller unrefs. */
LEAFD_CHECKED enum leafd_err upstream_read(struct bytes der, struct upstream **ret,
                                           struct why *why);
struct upstream *upstream_ref(struct upstream *upstream);
void upstream_unref(struct upstream *upstream); /* NULL is fine */
/* Does one of its names cover the host? */
bool upstream_names_host(const struct upstream *upstream, const struct name *host);
