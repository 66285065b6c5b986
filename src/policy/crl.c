/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/crl.h"

#include "base/clock.h"
#include "der/der_reader.h"
#include "der/der_time.h"
#include "der/oid.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { WEEK_SEC = 7 * 86400 };

/* ---- writing ---- */

size_t crl_size(const struct ca *ca)
{
    enum { FIXED = 256, SIGNATURE = 1024 };

    return ca->subject.len + 2 * ca->algorithm_der.len + ca->key_id.len + FIXED + SIGNATURE;
}

/* Neither of the two is critical (RFC 5280 sections 5.2.1 and 5.2.3). */
static void end_extension(struct der_writer *writer, struct bytes oid, const uint8_t *mark)
{
    der_wrap(writer, DER_OCTET_STRING, mark);
    der_put_element(writer, DER_OID, oid);
    der_wrap(writer, DER_SEQUENCE, mark);
}

static void put_number(struct der_writer *writer, uint64_t number)
{
    const uint8_t *mark = der_mark(writer);
    bool negative; /* would be read as such */

    do {
        der_put_octet(writer, (uint8_t)number);
        negative = number & 0x80;
        number >>= 8;
    } while (number);
    if (negative)
        der_put_octet(writer, 0);
    der_wrap(writer, DER_INTEGER, mark);
    end_extension(writer, oid_crl_number, mark);
}

static void put_authority_key_id(struct der_writer *writer, const struct ca *ca)
{
    const uint8_t *mark = der_mark(writer);

    der_put_element(writer, DER_CONTEXT(0), ca->key_id);
    der_wrap(writer, DER_SEQUENCE, mark);
    end_extension(writer, oid_authority_key_id, mark);
}

void crl_put_tbs(struct der_writer *writer, const struct ca *ca, const struct crl *crl)
{
    static const uint8_t v2[] = {1};
    const uint8_t *mark = der_mark(writer);

    put_number(writer, crl->number);
    put_authority_key_id(writer, ca);
    der_wrap(writer, DER_SEQUENCE, mark);
    der_wrap(writer, DER_CONTEXT_CONSTRUCTED(0), mark);
    /* An empty revokedCertificates must be absent (RFC 5280 section 5.1.2.6). */
    der_put_time(writer, crl->next_update);
    der_put_time(writer, crl->this_update);
    der_put(writer, ca->subject);
    der_put(writer, ca->algorithm_der);
    der_put_element(writer, DER_INTEGER, (struct bytes){v2, sizeof(v2)});
    der_wrap(writer, DER_SEQUENCE, mark);
}

void crl_put(struct der_writer *writer, const struct ca *ca, struct bytes tbs,
             struct bytes signature)
{
    const uint8_t *mark = der_mark(writer);

    der_put(writer, signature);
    der_put_octet(writer, 0); /* unused bits */
    der_wrap(writer, DER_BIT_STRING, mark);
    der_put(writer, ca->algorithm_der);
    der_put(writer, tbs);
    der_wrap(writer, DER_SEQUENCE, mark);
}

/* ---- reading ---- */

static bool time_of(const ASN1_TIME *from, int64_t *ret)
{
    struct tm tm;

    if (!from || ASN1_TIME_to_tm(from, &tm) != 1)
        return false;
    *ret = timegm(&tm);
    return true;
}

/* OpenSSL reads BER; what is given away is DER alone. The signed part it keeps as it came. */
static bool is_der(X509_CRL *crl, struct bytes input)
{
    unsigned char *again = NULL;
    int len = i2d_X509_CRL(crl, &again);
    bool same = len > 0 && bytes_equal((struct bytes){again, (size_t)len}, input);

    OPENSSL_free(again);
    return same;
}

static bool is_issued_by(X509_CRL *crl, const struct ca *ca)
{
    const unsigned char *at = ca->subject.data;
    X509_NAME *subject = d2i_X509_NAME(NULL, &at, (long)ca->subject.len);
    bool same = subject && X509_NAME_cmp(subject, X509_CRL_get_issuer(crl)) == 0;

    X509_NAME_free(subject);
    return same;
}

static uint64_t number_of(const X509_CRL *crl)
{
    ASN1_INTEGER *value = X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL);
    uint64_t number = 0;

    if (!value || ASN1_INTEGER_get_uint64(&number, value) != 1)
        number = 0;
    ASN1_INTEGER_free(value);
    return number;
}

static enum leafd_err check(X509_CRL *crl, const struct ca *ca, struct crl *ret, struct why *why)
{
    struct crl found = {.number = number_of(crl)};

    if (!time_of(X509_CRL_get0_lastUpdate(crl), &found.this_update) ||
        !time_of(X509_CRL_get0_nextUpdate(crl), &found.next_update))
        return fail(why, LEAFD_MALFORMED, "the CRL has no thisUpdate or no nextUpdate");
    if (X509_CRL_get_ext_by_NID(crl, NID_delta_crl, -1) >= 0)
        return fail(why, LEAFD_REFUSED, "it is a delta CRL, not a whole one");
    if (!is_issued_by(crl, ca))
        return fail(why, LEAFD_REFUSED, "it is the CRL of another issuer than the CA");
    if (X509_CRL_verify(crl, ca->public_key) != 1)
        return fail(why, LEAFD_REFUSED, "the CRL's signature does not verify with the CA's key");
    found.revoked = (size_t)sk_X509_REVOKED_num(X509_CRL_get_REVOKED(crl));
    if (!X509_CRL_get_REVOKED(crl))
        found.revoked = 0;
    *ret = found;
    return LEAFD_OK;
}

enum leafd_err crl_read(struct bytes input, const struct ca *ca, struct crl *ret, struct why *why)
{
    const unsigned char *at = input.data;
    X509_CRL *crl;
    enum leafd_err err;

    if (input.len > CRL_SIZE_MAX)
        return fail(why, LEAFD_TOO_LARGE, "it is larger than %d bytes", CRL_SIZE_MAX);
    if (input.len >= 11 && memcmp(input.data, "-----BEGIN ", 11) == 0)
        return fail(why, LEAFD_MALFORMED, "it is PEM; a CRL is published as DER (RFC 2585)");
    crl = input.len ? d2i_X509_CRL(NULL, &at, (long)input.len) : NULL;
    if (crl && is_der(crl, input))
        err = check(crl, ca, ret, why);
    else
        err = fail(why, LEAFD_MALFORMED, "it is not a CRL in DER, or not one alone");
    ERR_clear_error();
    X509_CRL_free(crl);
    return err;
}

/* ---- what an operator should know ---- */

bool crl_conf_needs_care(const struct conf *conf, const struct ca *ca, struct why *why)
{
    if (!conf->ca_crl_url)
        return false;
    if (!ca->crl_sign) {
        (void)fail(why, LEAFD_CONFIG,
                   "leaves name a CRL (ca.crl_url), but the CA's key usage is without cRLSign: "
                   "clients that check revocation refuse every leaf");
        return true;
    }
    if (!conf->ca_crl_file) {
        (void)fail(why, LEAFD_CONFIG,
                   "leaves name a CRL (ca.crl_url), but ca.crl_file names none: leafd neither "
                   "serves it nor sees when it expires");
        return true;
    }
    return false;
}

bool crl_needs_care(const struct crl *crl, int64_t now_sec, struct why *why)
{
    int64_t ahead = (crl->next_update - crl->this_update) / 4;
    char date[CLOCK_TEXT_SIZE];

    if (ahead > WEEK_SEC)
        ahead = WEEK_SEC;
    if (now_sec > crl->next_update) {
        (void)fail(why, LEAFD_REFUSED,
                   "the CRL has expired on %s: clients that check revocation refuse every leaf; "
                   "leafctl ca crl makes a new one",
                   clock_text(crl->next_update, date));
        return true;
    }
    if (now_sec < crl->this_update) {
        (void)fail(why, LEAFD_REFUSED, "the CRL is not valid before %s; is the clock right?",
                   clock_text(crl->this_update, date));
        return true;
    }
    if (crl->next_update - now_sec <= ahead) {
        (void)fail(why, LEAFD_REFUSED, "the CRL expires on %s; leafctl ca crl makes a new one",
                   clock_text(crl->next_update, date));
        return true;
    }
    return false;
}
