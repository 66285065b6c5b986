/* SPDX-License-Identifier: Apache-2.0 */
/* A certification authority as everyone but its token sees it: its certificate, what a leaf needs
 * of it, and what it may not sign. Immutable and counted.
 *
 * Threads: every function from any thread. */
#pragma once

#include "base/bytes.h"
#include "policy/name_constraints.h"
#include "policy/sig_algorithm.h"

#include <openssl/evp.h>

enum { CA_ID_UNTRUSTED = 0xffff, CA_CHAIN_MAX = 7 };

struct ca {
    _Atomic unsigned refs;
    uint16_t id;          /* place in the configuration; CA_ID_UNTRUSTED for the untrusted one */
    uint64_t generation;  /* changes with its certificate, its issuers and what it signs with */
    struct bytes der;     /* the certificate */
    struct bytes subject; /* whole Name */
    struct bytes spki;    /* whole element */
    enum key_type key_type;
    unsigned key_bits;
    enum sig_algorithm algorithm;
    struct bytes algorithm_der; /* whole AlgorithmIdentifier of what it signs */
    struct bytes key_id;        /* SubjectKeyIdentifier as stored, else SHA-1 method 1 */
    bool key_id_was_missing;
    bool crl_sign;          /* its key usage has cRLSign: clients take its CRLs */
    int64_t own_not_before; /* as its certificate says */
    int64_t own_not_after;
    int64_t not_before; /* when it and its issuers but the root are valid: no leaf outlives that */
    int64_t not_after;
    int64_t root_not_after; /* of the root in its file; INT64_MAX: none there */
    /* what is sent behind a leaf: this certificate and its issuers, without a self-signed root
     * unless it is to be appended */
    struct bytes chain_der[CA_CHAIN_MAX];
    size_t chain_count;
    struct bytes chain_pem;                                /* the same as one PEM text */
    struct name_constraints constraints[CA_CHAIN_MAX + 1]; /* its own, and its issuers' */
    size_t constraints_count;
    EVP_PKEY *public_key; /* for verifying; default library context */
};

/* Reads a CA from PEM (its certificate first, then its issuers in order) or from one DER
 * certificate, and checks what can be checked without its key: of itself CA:TRUE, keyCertSign, key
 * type and size; of it and its issuers that EKU is absent or has serverAuth, no critical extension
 * is one we do not evaluate, signatures, path lengths, and that the CAs' names are inside the
 * issuers' constraints. Expiry is no error here: ca_is_valid_at(). The caller unrefs. LEAFD_CONFIG
 * with a sentence; *ret is untouched. */
LEAFD_CHECKED enum leafd_err ca_read(struct bytes pem_or_der, uint16_t id, bool append_root,
                                     struct ca **ret, struct why *why);
/* The CA signs with RSASSA-PSS (ca.rsa_padding: pss) though its certificate's key would take either
 * padding. Before anybody else has the CA. LEAFD_CONFIG: its key is not RSA. */
LEAFD_CHECKED enum leafd_err ca_use_pss(struct ca *ca, struct why *why);
struct ca *ca_ref(const struct ca *ca);
void ca_unref(const struct ca *ca); /* NULL is fine */
bool ca_is_valid_at(const struct ca *ca, int64_t now_sec);
/* Inside its name constraints and those of all its issuers? */
bool ca_allows_name(const struct ca *ca, const struct name *name);
/* Does any of them speak of names of this kind, or of the subject (directoryName)? With the latter
 * a leaf's subject is empty, which RFC 5280 takes for allowed whatever is permitted. */
bool ca_constrains(const struct ca *ca, enum name_kind kind);
bool ca_constrains_subject(const struct ca *ca);

/* All CAs in force at one moment. Immutable and counted. */
struct ca_set {
    _Atomic unsigned refs;
    size_t count;               /* configured ones; at least 1 */
    const struct ca *ca[8];     /* [0] is the default */
    const struct ca *untrusted; /* NULL: not known yet, or none */
};
/* Takes its own references. NULL on no memory. */
struct ca_set *ca_set_new(const struct ca *const *cas, size_t count, const struct ca *untrusted);
struct ca_set *ca_set_ref(struct ca_set *set);
void ca_set_unref(struct ca_set *set); /* NULL is fine */
/* The CA with this id, or NULL; borrowed from the set. */
const struct ca *ca_set_find(const struct ca_set *set, uint16_t id);
