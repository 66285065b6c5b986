/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/ca.h"

#include "der/cert_fields.h"
#include "der/x501_name.h"
#include "policy/ca_extensions.h"
#include "policy/cert_list.h"

#include <openssl/err.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 4096,
    SIGNATURE_BITS_MIN = 80 /* security bits of a signature: SHA-1 has fewer */
};

/* ---- the key, and what it signs with ---- */

static enum leafd_err read_key(struct ca *ca, X509 *cert, struct why *why)
{
    struct spki spki;
    uint8_t digest[SHA_DIGEST_LENGTH];
    enum leafd_err err;

    if (spki_read(ca->spki, &spki) != LEAFD_OK)
        return fail(why, LEAFD_CONFIG, "the CA's public key cannot be read");
    err = sig_algorithm_of_key(ca->spki, &ca->algorithm, why);
    if (err != LEAFD_OK)
        return err;
    ca->algorithm_der = sig_algorithm_der(ca->algorithm);
    ca->key_type = spki.type;
    ca->key_bits = spki.bits;
    if (spki.type == KEY_TYPE_RSA && (spki.bits < RSA_BITS_MIN || spki.bits > RSA_BITS_MAX))
        return fail(why, LEAFD_CONFIG, "the CA's RSA key has %u bits, not %d to %d", spki.bits,
                    RSA_BITS_MIN, RSA_BITS_MAX);
    ca->public_key = X509_get_pubkey(cert);
    if (!ca->public_key)
        return fail(why, LEAFD_CONFIG, "the CA's public key cannot be read");
    if (ca->key_id.data)
        return LEAFD_OK;
    /* RFC 5280 section 4.2.1.2, method 1 */
    if (EVP_Digest(spki.key.data, spki.key.len, digest, NULL, EVP_sha1(), NULL) != 1)
        return fail(why, LEAFD_INTERNAL, "SHA-1 is not to be had");
    ca->key_id_was_missing = true;
    ca->key_id = bytes_copy((struct bytes){digest, sizeof(digest)});
    return ca->key_id.data ? LEAFD_OK : LEAFD_NOMEM;
}

/* Of the whole path: another issuer may allow other names. */
static enum leafd_err set_generation(struct ca *ca, const struct cert_list *list)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;

    for (size_t i = 0; good && i < list->count; i++)
        good = EVP_DigestUpdate(ctx, list->der[i].data, list->der[i].len) == 1;
    good = good && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (!good)
        return LEAFD_INTERNAL;
    ca->generation = 0;
    for (int i = 0; i < 8; i++)
        ca->generation = ca->generation << 8 | digest[i];
    return LEAFD_OK;
}

static enum leafd_err add_constraints(struct ca *ca, const struct ca_extensions *extensions,
                                      struct why *why)
{
    enum leafd_err err;

    if (!extensions->name_constraints.data)
        return LEAFD_OK;
    err = name_constraints_read(extensions->name_constraints,
                                &ca->constraints[ca->constraints_count], why);
    if (err == LEAFD_OK)
        ca->constraints_count++;
    return err;
}

static enum leafd_err set_key_id(struct ca *ca, const struct ca_extensions *extensions)
{
    if (!extensions->key_id.data)
        return LEAFD_OK; /* read_key() computes one */
    ca->key_id = bytes_copy(extensions->key_id);
    return ca->key_id.data ? LEAFD_OK : LEAFD_NOMEM;
}

/* Everything that stands in the CA's own certificate. ca->der is set. */
static enum leafd_err read_certificate(struct ca *ca, X509 *cert, struct why *why)
{
    struct cert_fields fields;
    struct ca_extensions extensions;
    enum leafd_err err;

    if (cert_read(ca->der, DER_FORM_LEGACY, &fields, why) != LEAFD_OK || fields.version != 3)
        return fail(why, LEAFD_CONFIG, "the CA's certificate is no X.509 certificate of version 3");
    if (!bytes_equal(fields.algorithm, fields.outer_algorithm))
        return fail(why, LEAFD_CONFIG, "the CA's certificate names two signature algorithms");
    if (fields.subject.len <= 2)
        return fail(why, LEAFD_CONFIG, "the CA's subject is empty");
    if (!cert_issuer_is_strict(fields.subject)) /* the signer would not read our leaves */
        return fail(why, LEAFD_CONFIG, "the CA's subject holds something that is no string");
    if (fields.not_before > fields.not_after)
        return fail(why, LEAFD_CONFIG, "the CA's validity ends before it begins");
    ca->subject = fields.subject;
    ca->spki = fields.spki;
    ca->not_before = ca->own_not_before = fields.not_before;
    ca->not_after = ca->own_not_after = fields.not_after;
    err = ca_extensions_read(&fields, &extensions, why);
    if (err == LEAFD_OK)
        err = ca_extensions_check(&extensions, false, why);
    if (err == LEAFD_OK)
        err = add_constraints(ca, &extensions, why);
    if (err == LEAFD_OK)
        err = set_key_id(ca, &extensions);
    if (err == LEAFD_OK)
        err = read_key(ca, cert, why);
    ca->crl_sign = err == LEAFD_OK && extensions.crl_sign;
    if (err == LEAFD_OK && X509_get_extension_flags(cert) & EXFLAG_INVALID)
        err = fail(why, LEAFD_CONFIG, "OpenSSL finds an extension of the CA invalid");
    return err;
}

/* ---- its issuers ---- */

/* Each has issued the one before it. */
static enum leafd_err check_path(const struct cert_list *list, struct why *why)
{
    for (size_t i = 1; i < list->count; i++) {
        if (cert_list_is_root(list, i - 1))
            return fail(why, LEAFD_CONFIG,
                        "certificate %zu of the CA's file is a root, and more stand behind it", i);
        if (!cert_list_has_issued(list, i, i - 1))
            return fail(why, LEAFD_CONFIG,
                        "certificate %zu of the CA's file has not issued number %zu; the CA comes "
                        "first, then its issuers in order",
                        i + 1, i);
    }
    return LEAFD_OK;
}

/* pathLenConstraint (RFC 5280 section 4.2.1.9): how many CAs may stand between this one and a leaf,
 * those not counted that have issued themselves anew. */
static enum leafd_err check_path_len(const struct cert_list *list, size_t at,
                                     const struct ca_extensions *extensions, struct why *why)
{
    size_t below = 0;

    for (size_t i = 0; i < at; i++)
        below += X509_NAME_cmp(X509_get_subject_name(list->cert[i]),
                               X509_get_issuer_name(list->cert[i])) != 0;
    if (!extensions->has_path_len || below <= extensions->path_len)
        return LEAFD_OK;
    return fail(why, LEAFD_CONFIG,
                "it allows %zu CAs below itself (pathLenConstraint), and there are %zu: no client "
                "takes their leaves; it needs a certificate that allows more",
                extensions->path_len, below);
}

/* Are the names of the CAs below inside its constraints? */
static enum leafd_err check_names_below(const struct cert_list *list, size_t at, struct why *why)
{
    NAME_CONSTRAINTS *constraints =
        X509_get_ext_d2i(list->cert[at], NID_name_constraints, NULL, NULL);
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; constraints && err == LEAFD_OK && i < at; i++)
        if (NAME_CONSTRAINTS_check(list->cert[i], constraints) != X509_V_OK)
            err = fail(why, LEAFD_CONFIG,
                       "a name in certificate %zu is outside its name constraints", i + 1);
    NAME_CONSTRAINTS_free(constraints);
    return err;
}

/* A client checks the dates of every certificate but, mostly, of the root that it has itself; the
 * copy of it in the file may be an old one. */
static enum leafd_err add_dates(struct ca *ca, const struct cert_fields *fields, bool is_root,
                                struct why *why)
{
    if (is_root) {
        ca->root_not_after = fields->not_after;
        return LEAFD_OK;
    }
    if (fields->not_before > ca->not_before)
        ca->not_before = fields->not_before;
    if (fields->not_after < ca->not_after)
        ca->not_after = fields->not_after;
    if (ca->not_before > ca->not_after)
        return fail(why, LEAFD_CONFIG, "it and those below it are never valid at one time");
    return LEAFD_OK;
}

static enum leafd_err read_issuer(struct ca *ca, const struct cert_list *list, size_t at,
                                  struct why *why)
{
    bool is_root = cert_list_is_root(list, at);
    struct cert_fields fields;
    struct ca_extensions extensions;
    enum leafd_err err;

    if (cert_read(list->der[at], DER_FORM_LEGACY, &fields, why) != LEAFD_OK)
        return LEAFD_CONFIG;
    err = add_dates(ca, &fields, is_root, why);
    if (err != LEAFD_OK || (is_root && fields.version == 1))
        return err;
    err = ca_extensions_read(&fields, &extensions, why);
    if (err == LEAFD_OK)
        err = ca_extensions_check(&extensions, is_root, why);
    if (err == LEAFD_OK)
        err = check_path_len(list, at, &extensions, why);
    if (err == LEAFD_OK)
        err = add_constraints(ca, &extensions, why);
    if (err == LEAFD_OK)
        err = check_names_below(list, at, why);
    return err;
}

static enum leafd_err check_signature(const struct cert_list *list, size_t at, struct why *why)
{
    int bits = 0;

    if (X509_get_signature_info(list->cert[at], NULL, NULL, &bits, NULL) == 1 &&
        bits >= SIGNATURE_BITS_MIN)
        return LEAFD_OK;
    return fail(why, LEAFD_CONFIG,
                "certificate %zu of the CA's file is signed with MD5, SHA-1 or something as weak, "
                "which no client takes: have its issuer sign it with SHA-256",
                at + 1);
}

static enum leafd_err read_issuers(struct ca *ca, const struct cert_list *list, struct why *why)
{
    enum leafd_err err = check_path(list, why);

    for (size_t i = 0; err == LEAFD_OK && i < list->count; i++)
        if (!cert_list_is_root(list, i))
            err = check_signature(list, i, why);
    for (size_t i = 1; err == LEAFD_OK && i < list->count; i++) {
        err = read_issuer(ca, list, i, why);
        if (err != LEAFD_OK)
            return fail_in(why, err, "certificate %zu of the CA's file", i + 1);
    }
    return err;
}

/* What is sent behind a leaf, both ways. */
static enum leafd_err set_chain(struct ca *ca, const struct cert_list *list, bool append_root,
                                struct why *why)
{
    size_t count = list->count;

    if (!append_root && cert_list_is_root(list, count - 1))
        count--;
    if (count > CA_CHAIN_MAX)
        return fail(why, LEAFD_CONFIG, "the chain is longer than %d certificates", CA_CHAIN_MAX);
    for (size_t i = 0; i < count; i++) {
        ca->chain_der[i] = bytes_copy(list->der[i]);
        if (!ca->chain_der[i].data)
            return LEAFD_NOMEM;
        ca->chain_count++;
    }
    return cert_list_pem(list, 0, count, &ca->chain_pem);
}

enum leafd_err ca_read(struct bytes pem_or_der, uint16_t id, bool append_root, struct ca **ret,
                       struct why *why)
{
    enum leafd_err err;
    struct cert_list list = {.count = 0};
    struct ca *ca = calloc(1, sizeof(*ca));

    if (!ca)
        return LEAFD_NOMEM;
    atomic_init(&ca->refs, 1);
    ca->id = id;
    ca->root_not_after = INT64_MAX;
    err = cert_list_read(pem_or_der, &list, why);
    if (err)
        goto out;
    ca->der = bytes_copy(list.der[0]);
    if (!ca->der.data) {
        err = LEAFD_NOMEM;
        goto out;
    }
    err = read_certificate(ca, list.cert[0], why);
    if (err == LEAFD_OK)
        err = set_generation(ca, &list);
    if (err == LEAFD_OK)
        err = read_issuers(ca, &list, why);
    if (err == LEAFD_OK)
        err = set_chain(ca, &list, append_root, why);
    if (err)
        goto out;
    *ret = ca;
    ca = NULL;
out:
    ERR_clear_error();
    cert_list_clear(&list);
    ca_unref(ca);
    return err;
}

/* ---- one CA ---- */

enum leafd_err ca_use_pss(struct ca *ca, struct why *why)
{
    if (!sig_algorithm_is_rsa(ca->algorithm))
        return fail(why, LEAFD_CONFIG,
                    "ca.rsa_padding: pss is for RSA keys, and the CA has one of type %s: take "
                    "ca.rsa_padding out, or give the certificate of an RSA CA",
                    key_type_name(ca->key_type));
    if (ca->algorithm == SIG_RSA_PSS_SHA256)
        return LEAFD_OK;
    ca->algorithm = SIG_RSA_PSS_SHA256;
    ca->algorithm_der = sig_algorithm_der(ca->algorithm);
    ca->generation = ~ca->generation; /* other leaves than with PKCS #1 */
    return LEAFD_OK;
}

/* The count of references is all that ever changes in a CA. */
struct ca *ca_ref(const struct ca *ca)
{
    struct ca *counted = (struct ca *)ca;

    atomic_fetch_add_explicit(&counted->refs, 1, memory_order_relaxed);
    return counted;
}

void ca_unref(const struct ca *ca)
{
    struct ca *counted = (struct ca *)ca;

    if (!ca || atomic_fetch_sub_explicit(&counted->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < ca->chain_count; i++)
        free((void *)ca->chain_der[i].data);
    for (size_t i = 0; i < ca->constraints_count; i++)
        name_constraints_clear(&counted->constraints[i]);
    free((void *)ca->chain_pem.data);
    free((void *)ca->key_id.data);
    free((void *)ca->der.data);
    EVP_PKEY_free(ca->public_key);
    free(counted);
}

bool ca_is_valid_at(const struct ca *ca, int64_t now_sec)
{
    return ca->not_before <= now_sec && now_sec <= ca->not_after;
}

bool ca_allows_name(const struct ca *ca, const struct name *name)
{
    for (size_t i = 0; i < ca->constraints_count; i++)
        if (!name_constraints_allow(&ca->constraints[i], name))
            return false;
    return true;
}

bool ca_constrains(const struct ca *ca, enum name_kind kind)
{
    for (size_t i = 0; i < ca->constraints_count; i++)
        if (name_constraints_touch(&ca->constraints[i], kind))
            return true;
    return false;
}

bool ca_constrains_subject(const struct ca *ca)
{
    for (size_t i = 0; i < ca->constraints_count; i++)
        if (ca->constraints[i].on_subject)
            return true;
    return false;
}

/* ---- the set ---- */

struct ca_set *ca_set_new(const struct ca *const *cas, size_t count, const struct ca *untrusted)
{
    struct ca_set *set = calloc(1, sizeof(*set));

    if (!set || count > sizeof(set->ca) / sizeof(set->ca[0])) {
        free(set);
        return NULL;
    }
    atomic_init(&set->refs, 1);
    for (size_t i = 0; i < count; i++)
        set->ca[i] = ca_ref(cas[i]);
    set->count = count;
    if (untrusted)
        set->untrusted = ca_ref(untrusted);
    return set;
}

struct ca_set *ca_set_ref(struct ca_set *set)
{
    atomic_fetch_add_explicit(&set->refs, 1, memory_order_relaxed);
    return set;
}

void ca_set_unref(struct ca_set *set)
{
    if (!set || atomic_fetch_sub_explicit(&set->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < set->count; i++)
        ca_unref(set->ca[i]);
    ca_unref(set->untrusted);
    free(set);
}

const struct ca *ca_set_find(const struct ca_set *set, uint16_t id)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->ca[i]->id == id)
            return set->ca[i];
    return set->untrusted && set->untrusted->id == id ? set->untrusted : NULL;
}
