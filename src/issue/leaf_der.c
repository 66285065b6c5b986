/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/leaf_der.h"

#include "der/der_reader.h"
#include "der/der_time.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "issue/mimic.h"
#include "policy/crl_point.h"
#include "policy/key_usage.h"

#include <openssl/rand.h>

/* What never changes, as it stands in the certificate; the rest is written around it. */
static const uint8_t version_3[] = {0xa0, 0x03, 0x02, 0x01, 0x02};
static const uint8_t eku_and_constraints[] = {
    /* extKeyUsage: serverAuth */
    0x30, 0x13, 0x06, 0x03, 0x55, 0x1d, 0x25, 0x04, 0x0c, 0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 0x01,
    0x05, 0x05, 0x07, 0x03, 0x01,
    /* basicConstraints, critical: not a CA */
    0x30, 0x0c, 0x06, 0x03, 0x55, 0x1d, 0x13, 0x01, 0x01, 0xff, 0x04, 0x02, 0x30, 0x00};

enum leafd_err leaf_serial(uint8_t out[static LEAF_SERIAL_LEN])
{
    if (RAND_bytes(out, LEAF_SERIAL_LEN) != 1)
        return LEAFD_INTERNAL;
    out[0] = (out[0] & 0x3f) | 0x40; /* positive, and 20 octets without padding */
    return LEAFD_OK;
}

static void put_array(struct der_writer *writer, const uint8_t *data, size_t len)
{
    der_put(writer, (struct bytes){data, len});
}

/* Ends an Extension whose value has been written since `mark`. */
static void end_extension(struct der_writer *writer, struct bytes oid, bool critical,
                          const uint8_t *mark)
{
    static const uint8_t is_critical[] = {DER_BOOLEAN, 0x01, 0xff};

    der_wrap(writer, DER_OCTET_STRING, mark);
    if (critical)
        put_array(writer, is_critical, sizeof(is_critical));
    der_put_element(writer, DER_OID, oid);
    der_wrap(writer, DER_SEQUENCE, mark);
}

static void put_key_usage(struct der_writer *writer, uint8_t bits)
{
    const uint8_t *mark = der_mark(writer);
    uint8_t content[2] = {0, bits};

    while (!(bits >> content[0] & 1))
        content[0]++; /* unused bits; every usage has some bit set */
    der_put_element(writer, DER_BIT_STRING, (struct bytes){content, sizeof(content)});
    end_extension(writer, oid_key_usage, true, mark);
}

static enum leafd_err put_alt_names(struct der_writer *writer, const struct plan *plan,
                                    bool critical)
{
    const uint8_t *mark = der_mark(writer);
    enum leafd_err err = mimic_put_names(writer, plan);

    end_extension(writer, oid_subject_alt_name, critical, mark);
    return err;
}

static void put_subject_key_id(struct der_writer *writer, const struct leaf_key *key)
{
    const uint8_t *mark = der_mark(writer);

    der_put_element(writer, DER_OCTET_STRING, (struct bytes){key->key_id, sizeof(key->key_id)});
    end_extension(writer, oid_subject_key_id, false, mark);
}

static void put_authority_key_id(struct der_writer *writer, const struct ca *ca)
{
    const uint8_t *mark = der_mark(writer);

    der_put_element(writer, DER_CONTEXT(0), ca->key_id);
    der_wrap(writer, DER_SEQUENCE, mark);
    end_extension(writer, oid_authority_key_id, false, mark);
}

static void put_crl_point(struct der_writer *writer, const char *url)
{
    const uint8_t *mark = der_mark(writer);

    crl_point_put(writer, url);
    end_extension(writer, oid_crl_points, false, mark);
}

/* Extensions in their order, which is written from the last to the first. */
static enum leafd_err put_extensions(struct der_writer *writer, const struct plan *plan,
                                     const struct conf *conf, const struct leaf_key *key,
                                     bool subject_is_empty)
{
    const uint8_t *mark = der_mark(writer);
    enum leafd_err err;

    if (conf->ca_crl_url && conf->ca_crl_url[0])
        put_crl_point(writer, conf->ca_crl_url);
    put_authority_key_id(writer, plan->ca);
    put_subject_key_id(writer, key);
    err = put_alt_names(writer, plan, subject_is_empty);
    put_array(writer, eku_and_constraints, sizeof(eku_and_constraints));
    put_key_usage(writer, key_usage_bits(key->type, plan->usage));
    der_wrap(writer, DER_SEQUENCE, mark);
    der_wrap(writer, DER_CONTEXT_CONSTRUCTED(3), mark);
    return err;
}

static void put_validity(struct der_writer *writer, const struct plan *plan)
{
    const uint8_t *mark = der_mark(writer);

    der_put_time(writer, plan->not_after);
    der_put_time(writer, plan->not_before);
    der_wrap(writer, DER_SEQUENCE, mark);
}

enum leafd_err leaf_tbs_write(const struct plan *plan, const struct conf *conf,
                              const struct leaf_key *key,
                              const uint8_t serial[static LEAF_SERIAL_LEN], uint8_t *buffer,
                              size_t size, struct bytes *ret)
{
    struct der_writer writer = der_writer_of(buffer, size);
    const uint8_t *mark = der_mark(&writer);
    uint8_t room[MIMIC_SUBJECT_ROOM];
    struct bytes subject = mimic_subject(plan, room);
    enum leafd_err err = put_extensions(&writer, plan, conf, key, subject.len == MIMIC_EMPTY_LEN);

    if (err)
        return err;
    der_put(&writer, key->spki);
    der_put(&writer, subject);
    put_validity(&writer, plan);
    der_put(&writer, plan->ca->subject);
    der_put(&writer, plan->ca->algorithm_der);
    der_put_element(&writer, DER_INTEGER, (struct bytes){serial, LEAF_SERIAL_LEN});
    put_array(&writer, version_3, sizeof(version_3));
    der_wrap(&writer, DER_SEQUENCE, mark);
    if (writer.failed)
        return LEAFD_TOO_LARGE;
    *ret = der_written(&writer);
    return LEAFD_OK;
}

enum leafd_err leaf_cert_write(const struct ca *ca, struct bytes tbs, struct bytes signature,
                               uint8_t *buffer, size_t size, struct bytes *ret)
{
    struct der_writer writer = der_writer_of(buffer, size);
    const uint8_t *mark = der_mark(&writer);

    der_put(&writer, signature);
    der_put_octet(&writer, 0); /* no unused bits */
    der_wrap(&writer, DER_BIT_STRING, mark);
    der_put(&writer, ca->algorithm_der);
    der_put(&writer, tbs);
    der_wrap(&writer, DER_SEQUENCE, mark);
    if (writer.failed)
        return LEAFD_TOO_LARGE;
    *ret = der_written(&writer);
    return LEAFD_OK;
}
