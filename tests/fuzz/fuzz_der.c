/* SPDX-License-Identifier: Apache-2.0 */
/* The DER reader and all that stands on it. What must hold: no fault; elements lie inside the
 * input; whatever the strict reader takes the tolerant one takes too, alike; a strict certificate
 * is one for OpenSSL, which sees the same fields; a time that is read is written the same way. */
#include "tests/fuzz/fuzz.h"

#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/der_time.h"
#include "der/der_writer.h"
#include "der/spki.h"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

static bool lies_in(struct bytes inner, struct bytes outer)
{
    return inner.len == 0 || (inner.data >= outer.data && inner.data <= outer.data + outer.len &&
                              inner.len <= (size_t)(outer.data + outer.len - inner.data));
}

/* Is the head the one that our writer gives to this content? */
static bool has_der_head(uint8_t tag, struct bytes content, struct bytes whole)
{
    static uint8_t buffer[1 << 20];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));

    der_put_element(&writer, tag, content);
    return writer.failed || bytes_equal(der_written(&writer), whole);
}

static void walk(struct bytes input, int depth)
{
    struct der der = der_of(input);
    size_t total = 0;
    uint8_t tag;
    struct bytes content;
    struct bytes whole;

    while (der_read_any(&der, &tag, &content, &whole)) {
        must(lies_in(content, whole) && lies_in(whole, input));
        must(has_der_head(tag, content, whole));
        total += whole.len;
        if (tag & 0x20 && depth < 8)
            walk(content, depth + 1);
    }
    must(total <= input.len);
}

static void check_time(struct bytes input)
{
    uint8_t buffer[32];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    struct der der = der_of(input);
    bool odd = false;
    int64_t sec = der_read_time(&der, &odd);

    if (der.failed)
        return;
    der_put_time(&writer, sec);
    must(!writer.failed);
    if (!odd)
        must(memcmp(writer.at, input.data, der_written(&writer).len) == 0);
}

static void check_spki(struct bytes input)
{
    struct spki spki;

    if (spki_read(input, &spki) != LEAFD_OK)
        return;
    must(lies_in(spki.key, input) && spki.type < KEY_TYPE_COUNT);
    must(!spki.well_formed || spki.type != KEY_TYPE_NONE);
}

static void check_fields(const struct cert_fields *fields, struct bytes input)
{
    struct spki spki;

    must(fields->size <= input.len && fields->extension_count <= CERT_EXTENSIONS_MAX);
    must(fields->version >= 1 && fields->serial.len > 0);
    must(lies_in(fields->tbs, input) && lies_in(fields->serial, fields->tbs));
    must(lies_in(fields->issuer, fields->tbs) && lies_in(fields->subject, fields->tbs));
    must(lies_in(fields->algorithm, fields->tbs) && lies_in(fields->signature, input));
    must(lies_in(fields->outer_algorithm, input) && lies_in(fields->spki, fields->tbs));
    must(spki_read(fields->spki, &spki) == LEAFD_OK);
    for (size_t i = 0; i < fields->extension_count; i++)
        must(lies_in(fields->extension[i].oid, fields->tbs) &&
             lies_in(fields->extension[i].value, fields->tbs));
}

static void compare_with_openssl(const struct cert_fields *fields, struct bytes input)
{
    const uint8_t *at = input.data;
    X509 *cert = d2i_X509(NULL, &at, (long)input.len);
    unsigned char *subject = NULL;
    int len;

    must(cert && at == input.data + input.len);
    must(X509_get_ext_count(cert) == (int)fields->extension_count);
    for (size_t i = 0; i < fields->extension_count; i++)
        must(fields->extension[i].critical ==
             (X509_EXTENSION_get_critical(X509_get_ext(cert, (int)i)) == 1));
    len = i2d_X509_NAME(X509_get_subject_name(cert), &subject);
    must(len >= 0 && bytes_equal(fields->subject, (struct bytes){subject, (size_t)len}));
    OPENSSL_free(subject);
    X509_free(cert);
    ERR_clear_error();
}

static void check_certificate(struct bytes input)
{
    static struct cert_fields strict;
    static struct cert_fields legacy;
    struct why why;

    if (cert_read(input, DER_FORM_LEGACY, &legacy, &why) != LEAFD_OK) {
        must(cert_read(input, DER_FORM_STRICT, &strict, NULL) != LEAFD_OK);
        return;
    }
    check_fields(&legacy, input);
    if (cert_read(input, DER_FORM_STRICT, &strict, NULL) != LEAFD_OK) {
        must(legacy.legacy || legacy.size < input.len);
        return;
    }
    must(!legacy.legacy && !strict.legacy && strict.size == input.len);
    must(bytes_equal(strict.tbs, legacy.tbs) && strict.version == legacy.version);
    must(strict.extension_count == legacy.extension_count);
    check_fields(&strict, input);
    must(cert_name_is_strict(strict.subject) && cert_issuer_is_strict(strict.issuer));
    must(tbs_read(strict.tbs, DER_FORM_STRICT, &legacy, NULL) == LEAFD_OK);
    compare_with_openssl(&strict, input);
}

static void check_tbs(struct bytes input)
{
    static struct cert_fields fields;

    if (tbs_read(input, DER_FORM_LEGACY, &fields, NULL) == LEAFD_OK)
        check_fields(&fields, input);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};

    walk(input, 0);
    check_time(input);
    check_spki(input);
    check_certificate(input);
    check_tbs(input);
    return 0;
}
