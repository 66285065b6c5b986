/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/ca.h"

#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/oid.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { CERTS_MAX = CA_CHAIN_MAX + 1, KEY_ID_MAX = 64, RSA_BITS_MIN = 2048, RSA_BITS_MAX = 4096 };

/* The certificates of a CA's file, the CA first. */
struct cert_list {
    struct bytes der[CERTS_MAX]; /* heap */
    X509 *cert[CERTS_MAX];
    size_t count;
};

/* What the walk over the CA's extensions has met. */
struct seen {
    bool ca_true;
    bool key_usage;
    bool cert_sign;
};

static void cert_list_clear(struct cert_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free((void *)list->der[i].data);
        X509_free(list->cert[i]);
    }
}

/* ---- reading the file ---- */

static enum leafd_err list_add(struct cert_list *list, struct bytes der, struct why *why)
{
    const uint8_t *at = der.data;
    struct bytes copy;
    X509 *cert;

    if (list->count == CERTS_MAX)
        return fail(why, LEAFD_CONFIG, "the CA's file holds more than %d certificates", CERTS_MAX);
    if (der.len > CERT_SIZE_MAX)
        return fail(why, LEAFD_CONFIG, "certificate %zu of the CA's file is too large",
                    list->count + 1);
    cert = d2i_X509(NULL, &at, (long)der.len);
    if (!cert || at != der.data + der.len) {
        X509_free(cert);
        return fail(why, LEAFD_CONFIG, "certificate %zu of the CA's file cannot be read",
                    list->count + 1);
    }
    copy = bytes_copy(der);
    if (!copy.data) {
        X509_free(cert);
        return LEAFD_NOMEM;
    }
    list->der[list->count] = copy;
    list->cert[list->count++] = cert;
    return LEAFD_OK;
}

/* One PEM block; blocks that are no certificates (keys, parameters) are passed over. */
static enum leafd_err list_add_block(struct cert_list *list, BIO *bio, bool *ret_end,
                                     struct why *why)
{
    enum leafd_err err = LEAFD_OK;
    char *name = NULL;
    char *header = NULL;
    unsigned char *data = NULL;
    long len = 0;

    if (PEM_read_bio(bio, &name, &header, &data, &len) != 1) {
        if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
            return fail(why, LEAFD_CONFIG, "the CA's file is no good PEM behind certificate %zu",
                        list->count);
        *ret_end = true;
        return LEAFD_OK;
    }
    if (strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0)
        err = list_add(list, (struct bytes){data, (size_t)len}, why);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, (size_t)len);
    return err;
}

static enum leafd_err list_read(struct cert_list *list, struct bytes text, struct why *why)
{
    enum leafd_err err = LEAFD_OK;
    bool end = false;
    BIO *bio;

    if (text.len == 0)
        return fail(why, LEAFD_CONFIG, "the CA's file is empty");
    if (!memmem(text.data, text.len, "-----BEGIN ", 11))
        return list_add(list, text, why);
    if (text.len > 1 << 20)
        return fail(why, LEAFD_CONFIG, "the CA's file is too large");
    bio = BIO_new_mem_buf(text.data, (int)text.len);
    if (!bio)
        return LEAFD_NOMEM;
    while (!end && err == LEAFD_OK)
        err = list_add_block(list, bio, &end, why);
    BIO_free(bio);
    if (err == LEAFD_OK && list->count == 0)
        return fail(why, LEAFD_CONFIG, "the CA's file holds no certificate");
    return err;
}

/* ---- name constraints (RFC 5280 section 4.2.1.10) ---- */

static bool rule_of_dns(struct bytes dns, struct name_rule *ret)
{
    *ret = (struct name_rule){.kind = NAME_DNS};
    if (dns.len == 0)
        return true; /* every name */
    if (dns.data[0] == '.') {
        ret->only_below = true;
        dns = (struct bytes){dns.data + 1, dns.len - 1};
    }
    return name_of_dns(dns, &ret->base) && !name_is_wildcard(&ret->base);
}

/* Address and mask, one behind the other; the mask must be a prefix. */
static bool rule_of_ip(struct bytes ip, struct name_rule *ret)
{
    size_t len = ip.len / 2;
    uint8_t network[16];
    unsigned prefix = 0;

    if (ip.len != 8 && ip.len != 32)
        return false;
    while (prefix < len * 8 && ip.data[len + prefix / 8] & (0x80 >> prefix % 8))
        prefix++;
    for (size_t bit = prefix; bit < len * 8; bit++)
        if (ip.data[len + bit / 8] & (0x80 >> bit % 8))
            return false;
    for (size_t i = 0; i < len; i++)
        network[i] = ip.data[i] & ip.data[len + i];
    *ret = (struct name_rule){.kind = NAME_IP, .prefix = prefix};
    return name_of_ip((struct bytes){network, len}, &ret->base);
}

/* Leaves carry names of three forms: dNSName, iPAddress and the subject. Constraints of the first
 * two become rules; one on the subject is refused, since a mimic's subject is its upstream's;
 * constraints of other forms touch no leaf of ours. */
static enum leafd_err read_subtree(struct der *list, struct name_rule rules[static CA_RULES_MAX],
                                   size_t *count, struct why *why)
{
    struct der subtree = der_enter(list, DER_SEQUENCE);
    struct name_rule rule;
    uint8_t tag = 0;
    struct bytes base = {NULL, 0};
    bool good = true;

    der_read_any(&subtree, &tag, &base, NULL);
    if (!der_done(&subtree)) /* also minimum and maximum, which RFC 5280 forbids */
        return fail(why, LEAFD_CONFIG, "the CA's name constraints cannot be read");
    switch (tag) {
    case DER_CONTEXT(2):
        good = rule_of_dns(base, &rule);
        break;
    case DER_CONTEXT(7):
        good = rule_of_ip(base, &rule);
        break;
    case DER_CONTEXT_CONSTRUCTED(4):
        return fail(why, LEAFD_CONFIG,
                    "the CA has a name constraint on the subject (directoryName), which is not "
                    "supported yet");
    default:
        return LEAFD_OK;
    }
    if (!good)
        return fail(why, LEAFD_CONFIG, "the CA's name constraints hold a %s that is none",
                    tag == DER_CONTEXT(2) ? "domain" : "network");
    if (*count == CA_RULES_MAX)
        return fail(why, LEAFD_CONFIG, "the CA has more than %d name constraints of a kind",
                    CA_RULES_MAX);
    rules[(*count)++] = rule;
    return LEAFD_OK;
}

static enum leafd_err read_subtrees(struct der *constraints, uint8_t tag,
                                    struct name_rule rules[static CA_RULES_MAX], size_t *count,
                                    struct why *why)
{
    struct der list;

    if (!der_next_is(constraints, tag))
        return LEAFD_OK;
    list = der_enter(constraints, tag);
    do {
        enum leafd_err err = read_subtree(&list, rules, count, why);

        if (err)
            return err;
    } while (!der_done(&list));
    return LEAFD_OK;
}

static enum leafd_err read_name_constraints(struct bytes value, struct ca *ca, struct why *why)
{
    struct der der = der_of(value);
    struct der constraints = der_enter(&der, DER_SEQUENCE);
    enum leafd_err err;

    err = read_subtrees(&constraints, DER_CONTEXT_CONSTRUCTED(0), ca->permitted,
                        &ca->permitted_count, why);
    if (!err)
        err = read_subtrees(&constraints, DER_CONTEXT_CONSTRUCTED(1), ca->excluded,
                            &ca->excluded_count, why);
    if (!err && (!der_done(&constraints) || !der_done(&der)))
        return fail(why, LEAFD_CONFIG, "the CA's name constraints cannot be read");
    return err;
}

/* ---- the other extensions ---- */

static enum leafd_err read_basic_constraints(struct bytes value, struct seen *seen, struct why *why)
{
    struct der der = der_of(value);
    struct der constraints = der_enter(&der, DER_SEQUENCE);

    if (der_next_is(&constraints, DER_BOOLEAN)) {
        struct bytes is_ca = der_read(&constraints, DER_BOOLEAN);

        seen->ca_true = is_ca.len == 1 && is_ca.data[0];
    }
    if (der_next_is(&constraints, DER_INTEGER))
        der_read(&constraints, DER_INTEGER); /* pathLen: our leaves are no CAs */
    if (!der_done(&constraints) || !der_done(&der))
        return fail(why, LEAFD_CONFIG, "the CA's basic constraints cannot be read");
    return LEAFD_OK;
}

static enum leafd_err read_key_usage(struct bytes value, struct ca *ca, struct seen *seen,
                                     struct why *why)
{
    struct der der = der_of(value);
    struct bytes bits = der_read(&der, DER_BIT_STRING);

    if (!der_done(&der) || bits.len < 2)
        return fail(why, LEAFD_CONFIG, "the CA's key usage cannot be read");
    seen->key_usage = true;
    seen->cert_sign = bits.data[1] & 0x04; /* bit 5 */
    ca->crl_sign = bits.data[1] & 0x02;    /* bit 6 */
    return LEAFD_OK;
}

static enum leafd_err read_ext_key_usage(struct bytes value, struct why *why)
{
    struct der der = der_of(value);
    struct der list = der_enter(&der, DER_SEQUENCE);
    bool server_auth = false;

    while (der_peek(&list))
        server_auth |= bytes_equal(der_read(&list, DER_OID), oid_server_auth);
    if (!der_done(&list) || !der_done(&der))
        return fail(why, LEAFD_CONFIG, "the CA's extended key usage cannot be read");
    if (!server_auth)
        return fail(
            why, LEAFD_CONFIG,
            "the CA's extended key usage is without serverAuth: no client takes its leaves");
    return LEAFD_OK;
}

static enum leafd_err read_key_id(struct bytes value, struct ca *ca, struct why *why)
{
    struct der der = der_of(value);
    struct bytes id = der_read(&der, DER_OCTET_STRING);

    if (!der_done(&der) || id.len == 0 || id.len > KEY_ID_MAX)
        return fail(why, LEAFD_CONFIG, "the CA's subject key identifier cannot be used");
    ca->key_id = bytes_copy(id);
    return ca->key_id.data ? LEAFD_OK : LEAFD_NOMEM;
}

/* Extensions that put no condition on a leaf; they may be critical. */
static bool is_harmless(struct bytes oid)
{
    static const struct bytes *const harmless[] = {
        &oid_authority_key_id, &oid_subject_alt_name,     &oid_issuer_alt_name,
        &oid_crl_points,       &oid_certificate_policies, &oid_freshest_crl,
        &oid_authority_info,   &oid_subject_info,         &oid_subject_directory,
    };

    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
        if (bytes_equal(oid, *harmless[i]))
            return true;
    return false;
}

static enum leafd_err read_extension(const struct cert_extension *extension, struct ca *ca,
                                     struct seen *seen, struct why *why)
{
    char hex[65];

    if (bytes_equal(extension->oid, oid_basic_constraints))
        return read_basic_constraints(extension->value, seen, why);
    if (bytes_equal(extension->oid, oid_key_usage))
        return read_key_usage(extension->value, ca, seen, why);
    if (bytes_equal(extension->oid, oid_ext_key_usage))
        return read_ext_key_usage(extension->value, why);
    if (bytes_equal(extension->oid, oid_subject_key_id))
        return read_key_id(extension->value, ca, why);
    if (bytes_equal(extension->oid, oid_name_constraints))
        return read_name_constraints(extension->value, ca, why);
    if (!extension->critical || is_harmless(extension->oid))
        return LEAFD_OK;
    bytes_hex(
        (struct bytes){extension->oid.data, extension->oid.len < 32 ? extension->oid.len : 32},
        hex);
    return fail(why, LEAFD_CONFIG,
                "the CA has a critical extension that leafd does not evaluate (OID in DER: %s)",
                hex);
}

static enum leafd_err read_extensions(const struct cert_fields *fields, struct ca *ca,
                                      struct why *why)
{
    struct seen seen = {0};

    for (size_t i = 0; i < fields->extension_count; i++) {
        enum leafd_err err;

        for (size_t k = 0; k < i; k++)
            if (bytes_equal(fields->extension[i].oid, fields->extension[k].oid))
                return fail(why, LEAFD_CONFIG, "the CA has the same extension twice");
        err = read_extension(&fields->extension[i], ca, &seen, why);
        if (err)
            return err;
    }
    if (!seen.ca_true)
        return fail(why, LEAFD_CONFIG,
                    "the certificate is none of a CA (basicConstraints CA:TRUE)");
    if (!seen.key_usage)
        return fail(why, LEAFD_CONFIG, "the CA has no key usage (it needs keyCertSign)");
    if (!seen.cert_sign)
        return fail(why, LEAFD_CONFIG, "the CA's key usage is without keyCertSign");
    return LEAFD_OK;
}

/* ---- the key, and what it signs with ---- */

static const uint8_t rsa_sha256_der[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                         0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00};
static const uint8_t ecdsa_sha256_der[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                           0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
static const uint8_t ecdsa_sha384_der[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
                                           0x48, 0xce, 0x3d, 0x04, 0x03, 0x03};
static const uint8_t ed25519_der[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};

static const struct {
    enum key_type key_type;
    enum sig_algorithm algorithm;
    struct bytes der;
} signing[] = {
    {KEY_TYPE_RSA, SIG_RSA_SHA256, {rsa_sha256_der, sizeof(rsa_sha256_der)}},
    {KEY_TYPE_P256, SIG_ECDSA_SHA256, {ecdsa_sha256_der, sizeof(ecdsa_sha256_der)}},
    {KEY_TYPE_P384, SIG_ECDSA_SHA384, {ecdsa_sha384_der, sizeof(ecdsa_sha384_der)}},
    {KEY_TYPE_ED25519, SIG_ED25519, {ed25519_der, sizeof(ed25519_der)}},
};

static bool set_algorithm(struct ca *ca)
{
    for (size_t i = 0; i < sizeof(signing) / sizeof(signing[0]); i++) {
        if (signing[i].key_type != ca->key_type)
            continue;
        ca->algorithm = signing[i].algorithm;
        ca->algorithm_der = signing[i].der;
        return true;
    }
    return false;
}

static enum leafd_err read_key(struct ca *ca, X509 *cert, struct why *why)
{
    struct spki spki;
    uint8_t digest[SHA_DIGEST_LENGTH];

    if (spki_read(ca->spki, &spki) != LEAFD_OK)
        return fail(why, LEAFD_CONFIG, "the CA's public key cannot be read");
    ca->key_type = spki.type;
    ca->key_bits = spki.bits;
    if (!set_algorithm(ca) || !spki.well_formed)
        return fail(why, LEAFD_CONFIG,
                    "the CA's key is of type %s; leafd takes RSA (rsaEncryption), P-256, P-384 and "
                    "Ed25519 in their usual form",
                    key_type_name(spki.type));
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

static enum leafd_err set_generation(struct ca *ca)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];

    if (EVP_Digest(ca->der.data, ca->der.len, digest, NULL, EVP_sha256(), NULL) != 1)
        return LEAFD_INTERNAL;
    ca->generation = 0;
    for (int i = 0; i < 8; i++)
        ca->generation = ca->generation << 8 | digest[i];
    return LEAFD_OK;
}

/* Everything that stands in the CA's own certificate. ca->der is set. */
static enum leafd_err read_certificate(struct ca *ca, X509 *cert, struct why *why)
{
    struct cert_fields fields;
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
    ca->not_before = fields.not_before;
    ca->not_after = fields.not_after;
    err = read_extensions(&fields, ca, why);
    if (err == LEAFD_OK)
        err = read_key(ca, cert, why);
    if (err == LEAFD_OK && X509_get_extension_flags(cert) & EXFLAG_INVALID)
        err = fail(why, LEAFD_CONFIG, "OpenSSL finds an extension of the CA invalid");
    return err == LEAFD_OK ? set_generation(ca) : err;
}

/* ---- the chain ---- */

static bool has_issued(X509 *issuer, X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(issuer);

    return key && X509_check_issued(issuer, cert) == X509_V_OK && X509_verify(cert, key) == 1;
}

static enum leafd_err check_chain(const struct cert_list *list, struct why *why)
{
    for (size_t i = 1; i < list->count; i++) {
        if (has_issued(list->cert[i - 1], list->cert[i - 1]))
            return fail(why, LEAFD_CONFIG,
                        "certificate %zu of the CA's file is a root, and more stand behind it", i);
        if (!has_issued(list->cert[i], list->cert[i - 1]))
            return fail(why, LEAFD_CONFIG,
                        "certificate %zu of the CA's file has not issued number %zu; the CA comes "
                        "first, then its issuers in order",
                        i + 1, i);
    }
    return LEAFD_OK;
}

/* What is sent behind a leaf, both ways. */
static enum leafd_err set_chain(struct ca *ca, const struct cert_list *list, bool append_root,
                                struct why *why)
{
    enum leafd_err err = LEAFD_NOMEM;
    size_t count = list->count;
    BIO *pem = BIO_new(BIO_s_mem());
    char *text;
    long len;

    if (!append_root && has_issued(list->cert[count - 1], list->cert[count - 1]))
        count--;
    if (count > CA_CHAIN_MAX) {
        err = fail(why, LEAFD_CONFIG, "the chain is longer than %d certificates", CA_CHAIN_MAX);
        goto out;
    }
    for (size_t i = 0; i < count; i++) {
        ca->chain_der[i] = bytes_copy(list->der[i]);
        if (!ca->chain_der[i].data || !pem)
            goto out;
        ca->chain_count++;
        if (PEM_write_bio(pem, PEM_STRING_X509, "", list->der[i].data, (long)list->der[i].len) <= 0)
            goto out;
    }
    len = pem ? BIO_get_mem_data(pem, &text) : -1;
    if (len < 0)
        goto out;
    ca->chain_pem = bytes_copy((struct bytes){(const uint8_t *)text, (size_t)len});
    if (!ca->chain_pem.data)
        goto out;
    err = LEAFD_OK;
out:
    BIO_free(pem);
    return err;
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
    err = list_read(&list, pem_or_der, why);
    if (err)
        goto out;
    ca->der = bytes_copy(list.der[0]);
    if (!ca->der.data) {
        err = LEAFD_NOMEM;
        goto out;
    }
    err = read_certificate(ca, list.cert[0], why);
    if (err == LEAFD_OK)
        err = check_chain(&list, why);
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
    bool restricted = false; /* has its kind an entry among the permitted? */
    bool permitted = false;

    for (size_t i = 0; i < ca->excluded_count; i++)
        if (name_rule_covers(&ca->excluded[i], name))
            return false;
    for (size_t i = 0; i < ca->permitted_count && !permitted; i++) {
        restricted |= ca->permitted[i].kind == name->kind;
        permitted = name_rule_covers_all(&ca->permitted[i], name);
    }
    return permitted || !restricted;
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
