/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/sign_check.h"

#include "base/digest.h"
#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/oid.h"
#include "der/x501_name.h"
#include "pkcs11/used_serials.h"
#include "policy/crl_point.h"
#include "policy/deny_list.h"
#include "policy/key_usage.h"
#include "policy/leaf_type.h"

#include <stdlib.h>

enum {
    SERIAL_LEN = 20,
    SERIALS_REMEMBERED = 1 << 20,
    KEY_ID_LEN = 20,
    NAMES_MAX = 1000,
    SUBJECT_MAX = 4096,
    RDNS_MAX = 32,
    CAS_MAX = sizeof(((struct ca_set *)0)->ca) / sizeof(struct ca *) + 1 /* the untrusted one */
};
static const int64_t span_max_sec = INT64_C(825) * 86400;

struct sign_check {
    struct ca_set *cas;
    struct bytes ca_key[CAS_MAX]; /* the public keys of `cas`, borrowed from it */
    size_t ca_key_count;
    struct deny_list *deny;
    struct bytes crl_value; /* the one CRL point's extnValue; len 0: no such extension */
    struct used_serials *serials;
};

static enum leafd_err refuse(struct why *why, const char *rule)
{
    return fail(why, LEAFD_REFUSED, "%s", rule);
}

static enum leafd_err check_head(const struct ca *ca, const struct cert_fields *tbs,
                                 struct why *why)
{
    if (tbs->version != 3)
        return refuse(why, "version: not 3");
    if (tbs->serial.len != SERIAL_LEN || tbs->serial.data[0] < 0x40 || tbs->serial.data[0] > 0x7f)
        return refuse(why, "serial: not 20 octets that start with 40 to 7F");
    if (!bytes_equal(tbs->algorithm, ca->algorithm_der))
        return refuse(why, "algorithm: not the CA's");
    if (!bytes_equal(tbs->issuer, ca->subject))
        return refuse(why, "issuer: not the CA's subject");
    if (tbs->has_unique_id)
        return refuse(why, "uniqueID: leaves have none");
    return LEAFD_OK;
}

static enum leafd_err check_dates(const struct ca *ca, const struct cert_fields *tbs,
                                  struct why *why)
{
    if (tbs->not_before > tbs->not_after)
        return refuse(why, "validity: ends before it begins");
    if (tbs->not_after > ca->not_after)
        return refuse(why, "validity: outlives the CA");
    if (tbs->not_after - tbs->not_before > span_max_sec)
        return refuse(why, "validity: longer than 825 days");
    return LEAFD_OK;
}

static enum leafd_err check_subject(const struct sign_check *check, const struct ca *ca,
                                    const struct cert_fields *tbs, bool *ret_empty, struct why *why)
{
    struct der der = der_of(tbs->subject);
    struct der name = der_enter(&der, DER_SEQUENCE);
    size_t rdns = 0;

    if (tbs->subject.len > SUBJECT_MAX || !cert_name_is_strict(tbs->subject))
        return refuse(why, "subject: too large, or not strict DER");
    *ret_empty = der_done(&name);
    for (; der_next_is(&name, DER_SET); rdns++)
        (void)der_read(&name, DER_SET);
    if (rdns > RDNS_MAX)
        return refuse(why, "subject: more than 32 RDNs");
    if (!*ret_empty && ca_constrains_subject(ca))
        return refuse(why, "subject: the CA's name constraints leave only an empty one");
    if (x501_name_equal(tbs->subject, ca->subject))
        return refuse(why, "subject: the CA's own");
    for (size_t i = 0; i < check->cas->count && !*ret_empty; i++)
        if (x501_name_equal(tbs->subject, check->cas->ca[i]->subject))
            return refuse(why, "subject: a CA's own");
    return LEAFD_OK;
}

static bool is_key_of_a_ca(const struct sign_check *check, const struct spki *spki)
{
    for (size_t i = 0; i < check->ca_key_count; i++)
        if (bytes_equal(check->ca_key[i], spki->key))
            return true;
    return false;
}

/* An odd modulus and the exponent 65537, as our own keys have. */
static bool rsa_is_sound(const struct spki *spki)
{
    static const uint8_t f4[] = {0x01, 0x00, 0x01};
    struct der der = der_of(spki->key);
    struct der rsa = der_enter(&der, DER_SEQUENCE);
    struct bytes modulus = der_read(&rsa, DER_INTEGER);
    struct bytes exponent = der_read(&rsa, DER_INTEGER);

    return der_done(&rsa) && modulus.len > 0 && modulus.data[modulus.len - 1] & 1 &&
           bytes_equal(exponent, (struct bytes){f4, sizeof(f4)});
}

static enum leafd_err check_key(const struct sign_check *check, const struct cert_fields *tbs,
                                struct spki *ret, struct why *why)
{
    if (spki_read(tbs->spki, ret) != LEAFD_OK || !ret->well_formed)
        return refuse(why, "subject key: not in the strict form");
    if (ret->type == KEY_TYPE_RSA) {
        if (ret->bits < LEAF_RSA_BITS_MIN || ret->bits > LEAF_RSA_BITS_MAX || !rsa_is_sound(ret))
            return refuse(why, "subject key: RSA not of 2048 to 4096 bits with exponent 65537");
    } else if (!leaf_type_find(ret->type, 0)) {
        return refuse(why, "subject key: of a type that leaves do not have");
    }
    if (is_key_of_a_ca(check, ret))
        return refuse(why, "subject key: a CA's");
    return LEAFD_OK;
}

static enum leafd_err check_key_usage(struct bytes value, const struct spki *spki, struct why *why)
{
    struct der der = der_of(value);
    struct bytes bits = der_read(&der, DER_BIT_STRING);

    /* minimal: the last bit that is counted is set */
    if (!der_done(&der) || bits.len != 2 || bits.data[0] > 7 ||
        (bits.data[1] & ((2u << bits.data[0]) - 1)) != 1u << bits.data[0] ||
        !key_usage_is_ours(spki->type, bits.data[1]))
        return refuse(why, "keyUsage: not what this key gets");
    return LEAFD_OK;
}

static bool name_is_allowed(const struct sign_check *check, const struct ca *ca,
                            const struct name *name)
{
    return !deny_list_covers(check->deny, name) && ca_allows_name(ca, name);
}

static enum leafd_err check_names(const struct sign_check *check, const struct ca *ca,
                                  struct bytes value, struct why *why)
{
    struct der der = der_of(value);
    struct der names = der_enter(&der, DER_SEQUENCE);
    size_t count = 0;
    uint8_t tag;
    struct bytes content;

    for (; der_peek(&names) && der_read_any(&names, &tag, &content, NULL); count++) {
        struct name name;

        if (tag == DER_CONTEXT(2) ? !name_dns_is_strict(content) || !name_of_dns(content, &name)
                                  : tag != DER_CONTEXT(7) || !name_of_ip(content, &name))
            return refuse(why, "subjectAltName: not a strict dNSName or iPAddress");
        if (!name_is_allowed(check, ca, &name))
            return refuse(why, "subjectAltName: outside the CA's constraints, or denied");
        if (count == NAMES_MAX)
            return refuse(why, "subjectAltName: more than 1000 names");
    }
    if (!der_done(&names) || !der_done(&der) || count == 0)
        return refuse(why, "subjectAltName: empty, or not strict DER");
    return LEAFD_OK;
}

/* RFC 7093 method 1: the leftmost 160 bits of the key's SHA-256. */
static enum leafd_err check_subject_key_id(struct bytes value, const struct spki *spki,
                                           struct why *why)
{
    struct der der = der_of(value);
    struct bytes key_id = der_read(&der, DER_OCTET_STRING);
    uint8_t digest[DIGEST_LEN];
    enum leafd_err err = digest_sha256(spki->key, digest);

    if (err != LEAFD_OK)
        return err;
    if (!der_done(&der) || !bytes_equal(key_id, (struct bytes){digest, KEY_ID_LEN}))
        return refuse(why, "subjectKeyIdentifier: not this key's");
    return LEAFD_OK;
}

static enum leafd_err check_authority_key_id(struct bytes value, const struct ca *ca,
                                             struct why *why)
{
    struct der der = der_of(value);
    struct der aki = der_enter(&der, DER_SEQUENCE);
    struct bytes key_id = der_read(&aki, DER_CONTEXT(0));

    if (!der_done(&aki) || !der_done(&der) || !bytes_equal(key_id, ca->key_id))
        return refuse(why, "authorityKeyIdentifier: not the CA's");
    return LEAFD_OK;
}

/* The template: which extensions, in which order, with which criticality. */
static enum leafd_err check_extension_set(const struct sign_check *check,
                                          const struct cert_fields *tbs, bool subject_is_empty,
                                          struct why *why)
{
    const struct {
        const struct bytes *oid;
        bool critical;
    } template[] = {
        {&oid_key_usage, true},         {&oid_ext_key_usage, false},
        {&oid_basic_constraints, true}, {&oid_subject_alt_name, subject_is_empty},
        {&oid_subject_key_id, false},   {&oid_authority_key_id, false},
        {&oid_crl_points, false},
    };
    size_t count = sizeof(template) / sizeof(template[0]) - (check->crl_value.len ? 0 : 1);

    if (tbs->extension_count != count)
        return refuse(why, "extensions: too few, or one that leaves do not have");
    for (size_t i = 0; i < count; i++) {
        if (!bytes_equal(tbs->extension[i].oid, *template[i].oid))
            return refuse(why, "extensions: one that leaves do not have, or out of order");
        if (tbs->extension[i].critical != template[i].critical)
            return refuse(why, "extensions: wrong criticality");
    }
    return LEAFD_OK;
}

static enum leafd_err check_extensions(const struct sign_check *check, const struct ca *ca,
                                       const struct cert_fields *tbs, const struct spki *spki,
                                       bool subject_is_empty, struct why *why)
{
    static const uint8_t server_auth[] = {0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06,
                                          0x01, 0x05, 0x05, 0x07, 0x03, 0x01};
    static const uint8_t not_a_ca[] = {0x30, 0x00};
    const struct cert_extension *ext = tbs->extension;
    enum leafd_err err = check_extension_set(check, tbs, subject_is_empty, why);

    if (err == LEAFD_OK)
        err = check_key_usage(ext[0].value, spki, why);
    if (err != LEAFD_OK)
        return err;
    if (!bytes_equal(ext[1].value, (struct bytes){server_auth, sizeof(server_auth)}))
        return refuse(why, "extKeyUsage: not serverAuth alone");
    if (!bytes_equal(ext[2].value, (struct bytes){not_a_ca, sizeof(not_a_ca)}))
        return refuse(why, "basicConstraints: not empty");
    err = check_names(check, ca, ext[3].value, why);
    if (err == LEAFD_OK)
        err = check_subject_key_id(ext[4].value, spki, why);
    if (err == LEAFD_OK)
        err = check_authority_key_id(ext[5].value, ca, why);
    if (err == LEAFD_OK && check->crl_value.len && !bytes_equal(ext[6].value, check->crl_value))
        return refuse(why, "cRLDistributionPoints: not the configured one");
    return err;
}

enum leafd_err sign_check_tbs(struct sign_check *check, const struct ca *ca, struct bytes input,
                              struct why *why)
{
    struct cert_fields tbs;
    struct spki spki;
    bool subject_is_empty = false;
    enum leafd_err err;

    if (tbs_read(input, DER_FORM_STRICT, &tbs, why) != LEAFD_OK)
        return fail_in(why, LEAFD_REFUSED, "not a TBSCertificate");
    err = check_head(ca, &tbs, why);
    if (err == LEAFD_OK)
        err = check_dates(ca, &tbs, why);
    if (err == LEAFD_OK)
        err = check_subject(check, ca, &tbs, &subject_is_empty, why);
    if (err == LEAFD_OK)
        err = check_key(check, &tbs, &spki, why);
    if (err == LEAFD_OK)
        err = check_extensions(check, ca, &tbs, &spki, subject_is_empty, why);
    if (err == LEAFD_OK && !used_serials_add(check->serials, tbs.serial))
        err = refuse(why, "serial: signed before");
    return err;
}

void sign_check_forget(struct sign_check *check, struct bytes input)
{
    struct cert_fields tbs;

    if (tbs_read(input, DER_FORM_STRICT, &tbs, NULL) == LEAFD_OK)
        used_serials_remove(check->serials, tbs.serial);
}

static enum leafd_err write_crl_value(const char *url, struct bytes *ret)
{
    uint8_t buffer[2048];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));

    crl_point_put(&writer, url);
    if (writer.failed)
        return LEAFD_TOO_LARGE;
    *ret = bytes_copy(der_written(&writer));
    return ret->data ? LEAFD_OK : LEAFD_NOMEM;
}

/* A CA's certificate was read before: LEAFD_INTERNAL is for what cannot be. */
static enum leafd_err keep_ca_key(struct sign_check *check, const struct ca *ca)
{
    struct spki spki;

    if (spki_read(ca->spki, &spki) != LEAFD_OK)
        return LEAFD_INTERNAL;
    check->ca_key[check->ca_key_count++] = spki.key;
    return LEAFD_OK;
}

static enum leafd_err keep_ca_keys(struct sign_check *check)
{
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; !err && i < check->cas->count; i++)
        err = keep_ca_key(check, check->cas->ca[i]);
    if (!err && check->cas->untrusted)
        err = keep_ca_key(check, check->cas->untrusted);
    return err;
}

enum leafd_err sign_check_new(const struct conf *conf, struct ca_set *cas, struct sign_check **ret,
                              struct why *why)
{
    struct sign_check *check = calloc(1, sizeof(*check));
    enum leafd_err err;

    if (!check)
        return LEAFD_NOMEM;
    check->cas = ca_set_ref(cas);
    err = used_serials_new(SERIALS_REMEMBERED, &check->serials);
    if (err == LEAFD_OK)
        err = keep_ca_keys(check);
    if (err == LEAFD_OK)
        err = deny_list_new(conf->deny, conf->deny_count, &check->deny, why);
    if (err == LEAFD_CONFIG)
        err = fail_in(why, err, "policy.deny");
    if (err == LEAFD_OK && conf->ca_crl_url && conf->ca_crl_url[0])
        err = write_crl_value(conf->ca_crl_url, &check->crl_value);
    if (err == LEAFD_OK)
        *ret = check;
    else
        sign_check_free(check);
    return err;
}

void sign_check_free(struct sign_check *check)
{
    if (!check)
        return;
    used_serials_free(check->serials);
    free((void *)check->crl_value.data);
    deny_list_free(check->deny);
    ca_set_unref(check->cas);
    free(check);
}
