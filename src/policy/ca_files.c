/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/ca_files.h"

#include "der/pem.h"
#include "policy/cert_list.h"
#include "policy/leaf_type.h"
#include "wire/request.h"

#include <stdlib.h>
#include <unistd.h>

/* The largest key that this configuration gives a leaf. */
static const struct leaf_type *largest_leaf_key(const struct conf *conf)
{
    unsigned bits =
        conf->leaf_key == CONF_LEAF_KEY_UPSTREAM ? LEAF_RSA_BITS_MAX : conf->leaf_rsa_bits;

    if (conf->leaf_key == CONF_LEAF_KEY_TYPE)
        return leaf_type_find((enum key_type)conf->leaf_key_type, bits);
    return leaf_type_find(KEY_TYPE_RSA, bits);
}

/* Octets that a reply needs beside the chain, in PEM, the larger form: the smallest leaf for a host
 * of any length, with that host as subject and alternative name, its key, and the host once more.
 */
static size_t octets_beside_chain(const struct conf *conf, const struct ca *ca)
{
    enum { LEAF_FIXED = 400 /* extensions, dates, numbers, a common name */, REPLY_FIXED = 40 };
    const struct leaf_type *key = largest_leaf_key(conf);
    size_t len = LEAF_FIXED + NAME_DNS_MAX + ca->subject.len + ca->key_id.len +
                 2 * ca->algorithm_der.len + sig_algorithm_max_len(ca->algorithm, ca->key_bits);

    if (key)
        len += key->spki_len;
    if (conf->ca_crl_url)
        len += bytes_of(conf->ca_crl_url).len;
    return pem_size("CERTIFICATE", len) + (key ? pem_size("PRIVATE KEY", key->pkcs8_len) : 0) +
           NAME_DNS_MAX + REPLY_FIXED;
}

static enum leafd_err check_size(const struct conf *conf, const struct ca *ca, struct why *why)
{
    size_t beside = octets_beside_chain(conf, ca);

    if (ca->chain_pem.len + beside <= WIRE_DATAGRAM_MAX)
        return LEAFD_OK;
    return fail(why, LEAFD_CONFIG,
                "the CA and its issuers are %zu octets as PEM: with a leaf and its key of up to "
                "%zu they do not fit the %d of a reply; use smaller ones, or a smaller leaf.key or "
                "leaf.rsa_bits",
                ca->chain_pem.len, beside, WIRE_DATAGRAM_MAX);
}

enum leafd_err ca_of_text(const struct conf *conf, struct bytes text, uint16_t id, struct ca **ret,
                          struct why *why)
{
    struct ca *ca;
    enum leafd_err err = ca_read(text, id, conf->ca_append_root, &ca, why);

    if (err != LEAFD_OK)
        return err;
    if (id != CA_ID_UNTRUSTED && conf->ca_rsa_padding == CONF_RSA_PSS)
        err = ca_use_pss(ca, why);
    if (err == LEAFD_OK)
        err = check_size(conf, ca, why);
    if (err == LEAFD_OK)
        *ret = ca;
    else
        ca_unref(ca);
    return err;
}

enum leafd_err ca_file_text(const char *path, struct bytes *ret, struct why *why)
{
    enum leafd_err err = bytes_read_file(path, CERT_LIST_FILE_MAX, ret, why);

    if (err == LEAFD_OK || err == LEAFD_NOMEM)
        return err;
    if (access(path, F_OK) == -1)
        return fail(why, LEAFD_CONFIG,
                    "ca.certificate: %s is not there; leafctl ca init makes a CA in the token, and "
                    "leafctl ca install takes the certificate of one that it has",
                    path);
    return fail_in(why, LEAFD_CONFIG, "ca.certificate");
}

static enum leafd_err untrusted_text(const char *path, struct bytes *ret, struct why *why)
{
    enum leafd_err err = bytes_read_file(path, CERT_LIST_FILE_MAX, ret, why);

    if (err == LEAFD_OK || err == LEAFD_NOMEM)
        return err;
    return fail_in(why, LEAFD_CONFIG, "untrusted_ca.certificate");
}

static enum leafd_err ca_of_file(const struct conf *conf, const char *path, uint16_t id,
                                 const struct ca **ret, struct why *why)
{
    struct bytes text;
    struct ca *ca;
    enum leafd_err err =
        id == CA_ID_UNTRUSTED ? untrusted_text(path, &text, why) : ca_file_text(path, &text, why);

    if (err != LEAFD_OK)
        return err;
    err = ca_of_text(conf, text, id, &ca, why);
    free((void *)(uintptr_t)text.data);
    if (err != LEAFD_OK)
        return fail_in(why, err, "%s", path);
    *ret = ca;
    return LEAFD_OK;
}

enum leafd_err ca_files_read(const struct conf *conf, struct ca_set **ret, struct why *why)
{
    const struct ca *cas[CONF_CA_MAX] = {NULL};
    const struct ca *untrusted = NULL;
    struct ca_set *set = NULL;
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; err == LEAFD_OK && i < conf->ca_count; i++)
        err = ca_of_file(conf, conf->ca[i].certificate, (uint16_t)i, &cas[i], why);
    if (err == LEAFD_OK && conf->untrusted == CONF_UNTRUSTED_FILE)
        err = ca_of_file(conf, conf->untrusted_ca.certificate, CA_ID_UNTRUSTED, &untrusted, why);
    if (err == LEAFD_OK) {
        set = ca_set_new(cas, conf->ca_count, untrusted);
        err = set ? LEAFD_OK : LEAFD_NOMEM;
    }
    for (size_t i = 0; i < conf->ca_count; i++)
        ca_unref(cas[i]);
    ca_unref(untrusted);
    if (err == LEAFD_OK)
        *ret = set;
    return err;
}
