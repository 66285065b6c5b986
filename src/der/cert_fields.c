/* SPDX-License-Identifier: Apache-2.0 */
#include "der/cert_fields.h"

#include "der/der_reader.h"
#include "der/der_time.h"
#include "der/spki.h"

#include <string.h>

/* One walk over one certificate. What DER forbids and DER_FORM_LEGACY puts up with is told to
 * tolerate(); what no form allows ends the walk with the name of the field (`bad`). */
struct walk {
    enum der_form form;
    bool legacy;
    const char *bad; /* the first field that cannot be read; NULL while all is well */
};

static void refuse(struct walk *walk, const char *field)
{
    if (!walk->bad)
        walk->bad = field;
}

static void tolerate(struct walk *walk, const char *field)
{
    walk->legacy = true;
    if (walk->form == DER_FORM_STRICT)
        refuse(walk, field);
}

/* ---- single values ---- */

static void check_integer(struct walk *walk, struct bytes integer, const char *field)
{
    if (integer.len == 0)
        refuse(walk, field);
    else if (!der_integer_is_minimal(integer))
        tolerate(walk, field);
}

/* The octets of a BIT STRING behind the count of unused bits. */
static struct bytes bits_of(struct walk *walk, struct bytes content, const char *field)
{
    uint8_t unused;

    if (content.len == 0 || content.data[0] > 7 || (content.len == 1 && content.data[0])) {
        refuse(walk, field);
        return (struct bytes){NULL, 0};
    }
    unused = content.data[0];
    if (unused && content.data[content.len - 1] & ((1 << unused) - 1))
        tolerate(walk, field);
    return (struct bytes){content.data + 1, content.len - 1};
}

static bool is_printable(struct bytes text)
{
    static const char marks[] = " '()+,-./:=?";

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        uint8_t lower = c | 0x20;

        if (!(c >= '0' && c <= '9') && !(lower >= 'a' && lower <= 'z') &&
            (c == 0 || !strchr(marks, c)))
            return false;
    }
    return true;
}

static bool is_ascii(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] & 0x80)
            return false;
    return true;
}

/* RFC 3629: shortest form, no surrogates, at most U+10FFFF. */
static bool is_utf8(struct bytes text)
{
    for (size_t i = 0; i < text.len;) {
        uint8_t c = text.data[i];
        size_t more = c < 0x80 ? 0 : c < 0xc2 ? 4 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 4;
        uint8_t next = more && i + 1 < text.len ? text.data[i + 1] : 0;

        if (more == 4 || more >= text.len - i)
            return false;
        if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) ||
            (c == 0xf0 && next < 0x90) || (c == 0xf4 && next > 0x8f))
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((text.data[i + k] & 0xc0) != 0x80)
                return false;
        i += 1 + more;
    }
    return true;
}

/* BMPString (two octets a character) and UniversalString (four): no surrogates, at most U+10FFFF.
 */
static bool is_wide(struct bytes text, size_t width)
{
    if (text.len % width)
        return false;
    for (size_t i = 0; i < text.len; i += width) {
        uint32_t c = 0;

        for (size_t k = 0; k < width; k++)
            c = c << 8 | text.data[i + k];
        if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return false;
    }
    return true;
}

/* A value of a type its holder does not fix (attribute values, algorithm parameters): of the
 * universal types, those that a certificate may hold, each in its own form. Constructed ones are
 * not entered: nobody here looks inside. */
static bool any_is_strict(uint8_t tag, struct bytes content)
{
    struct walk inner = {.form = DER_FORM_STRICT};

    if (tag & 0xc0)
        return true; /* not universal: its holder's affair */
    switch (tag) {
    case DER_SEQUENCE:
    case DER_SET:
    case DER_OCTET_STRING:
    case DER_T61_STRING:
        return true;
    case DER_BOOLEAN:
        return content.len == 1 && (content.data[0] == 0x00 || content.data[0] == 0xff);
    case DER_INTEGER:
    case DER_ENUMERATED:
        return der_integer_is_minimal(content);
    case DER_BIT_STRING:
        bits_of(&inner, content, "");
        return !inner.bad;
    case DER_NULL:
        return content.len == 0;
    case DER_OID:
        return der_oid_is_good(content);
    case DER_UTF8_STRING:
        return is_utf8(content);
    case DER_PRINTABLE_STRING:
        return is_printable(content);
    case DER_IA5_STRING:
    case DER_NUMERIC_STRING:
        return is_ascii(content);
    case DER_UNIVERSAL_STRING:
        return is_wide(content, 4);
    case DER_BMP_STRING:
        return is_wide(content, 2);
    default:
        return false;
    }
}

/* What every reader takes of such a value, though DER asks more: letters of another alphabet,
 * another TRUE, padding behind the bits. */
static bool any_is_tolerable(uint8_t tag, struct bytes content)
{
    struct walk inner = {.form = DER_FORM_LEGACY};

    switch (tag) {
    case DER_BOOLEAN:
        return content.len == 1;
    case DER_BIT_STRING:
        bits_of(&inner, content, "");
        return !inner.bad;
    case DER_INTEGER:
    case DER_ENUMERATED:
    case DER_NULL:
    case DER_OID:
        return any_is_strict(tag, content);
    case DER_UNIVERSAL_STRING:
        return content.len % 4 == 0;
    case DER_BMP_STRING:
        return content.len % 2 == 0;
    default:
        return true;
    }
}

/* Whose name it is. A subject is written by us or by a stranger; an issuer's octets are its CA's
 * choice, to be taken as they are: many a CA has an '&' in a PrintableString. */
enum name_of { NAME_OF_SUBJECT, NAME_OF_ISSUER };

/* Attribute values of names are strings. */
static bool string_is_strict(enum name_of whose, uint8_t tag, struct bytes content)
{
    switch (tag) {
    case DER_NUMERIC_STRING:
    case DER_PRINTABLE_STRING:
    case DER_IA5_STRING:
        return whose == NAME_OF_ISSUER || any_is_strict(tag, content);
    case DER_UTF8_STRING:
    case DER_T61_STRING:
    case DER_UNIVERSAL_STRING:
    case DER_BMP_STRING:
        return any_is_strict(tag, content);
    default:
        return false;
    }
}

/* ---- composed values; each gives the whole element ---- */

static struct bytes read_algorithm(struct walk *walk, struct der *der, const char *field)
{
    struct bytes whole = der_read_whole(der, DER_SEQUENCE);
    struct der outer = der_of(whole);
    struct der algorithm = der_enter(&outer, DER_SEQUENCE);
    struct bytes oid = der_read(&algorithm, DER_OID);
    uint8_t tag;
    struct bytes content;

    if (!der_oid_is_good(oid))
        refuse(walk, field);
    if (der_peek(&algorithm) && der_read_any(&algorithm, &tag, &content, NULL) &&
        !any_is_strict(tag, content)) {
        tolerate(walk, field);
        if (!any_is_tolerable(tag, content))
            refuse(walk, field);
    }
    if (!der_done(&algorithm))
        refuse(walk, field);
    return whole;
}

/* One RelativeDistinguishedName: a SET of attributes, in DER in ascending order. */
static void check_rdn(struct walk *walk, enum name_of whose, struct der rdn, const char *field)
{
    struct bytes before = {NULL, 0};

    while (der_peek(&rdn)) {
        struct bytes whole = der_read_whole(&rdn, DER_SEQUENCE);
        struct der outer = der_of(whole);
        struct der attribute = der_enter(&outer, DER_SEQUENCE);
        struct bytes oid = der_read(&attribute, DER_OID);
        uint8_t tag = 0;
        struct bytes content = {NULL, 0};

        der_read_any(&attribute, &tag, &content, NULL);
        if (!der_done(&attribute) || !der_oid_is_good(oid)) {
            refuse(walk, field);
            return;
        }
        if (!string_is_strict(whose, tag, content) ||
            (whose == NAME_OF_SUBJECT && bytes_compare(before, whole) >= 0))
            tolerate(walk, field);
        before = whole;
    }
    if (!der_done(&rdn))
        refuse(walk, field);
}

static struct bytes read_name(struct walk *walk, enum name_of whose, struct der *der,
                              const char *field)
{
    struct bytes whole = der_read_whole(der, DER_SEQUENCE);
    struct der outer = der_of(whole);
    struct der name = der_enter(&outer, DER_SEQUENCE);

    while (der_peek(&name) && !walk->bad) {
        struct der rdn = der_enter(&name, DER_SET);

        if (der_done(&rdn))
            tolerate(walk, field); /* an RDN without an attribute */
        check_rdn(walk, whose, rdn, field);
    }
    if (!walk->bad && !der_done(&name))
        refuse(walk, field);
    return whole;
}

static int read_version(struct walk *walk, struct der *tbs)
{
    struct der holder;
    struct bytes number;
    int version = 0;

    if (!der_next_is(tbs, DER_CONTEXT_CONSTRUCTED(0)))
        return 1;
    holder = der_enter(tbs, DER_CONTEXT_CONSTRUCTED(0));
    number = der_read(&holder, DER_INTEGER);
    check_integer(walk, number, "version");
    if (!der_done(&holder) || (number.len && number.data[0] & 0x80))
        refuse(walk, "version");
    for (size_t i = 0; i < number.len; i++) {
        if (version > 0xffff) {
            refuse(walk, "version");
            break;
        }
        version = version << 8 | number.data[i];
    }
    if (version == 0)
        tolerate(walk, "version"); /* the DEFAULT, written */
    return version + 1;
}

static void read_validity(struct walk *walk, struct der *tbs, struct cert_fields *ret)
{
    struct der validity = der_enter(tbs, DER_SEQUENCE);
    bool odd = false;

    ret->not_before = der_read_time(&validity, &odd);
    ret->not_after = der_read_time(&validity, &odd);
    if (!der_done(&validity))
        refuse(walk, "validity");
    else if (odd)
        tolerate(walk, "validity");
}

static void read_spki(struct walk *walk, struct der *tbs, struct cert_fields *ret)
{
    struct bytes whole = der_read_whole(tbs, DER_SEQUENCE);
    struct der outer = der_of(whole);
    struct der content = der_enter(&outer, DER_SEQUENCE);
    struct spki spki;

    read_algorithm(walk, &content, "subjectPublicKeyInfo");
    bits_of(walk, der_read(&content, DER_BIT_STRING), "subjectPublicKeyInfo");
    if (!der_done(&content) || spki_read(whole, &spki) != LEAFD_OK)
        refuse(walk, "subjectPublicKeyInfo");
    ret->spki = whole;
}

/* issuerUniqueID and subjectUniqueID: nobody wants them, but version 2 and 3 may have them. */
static void skip_unique_id(struct walk *walk, struct der *tbs, uint8_t tag, struct cert_fields *ret)
{
    if (!der_next_is(tbs, tag))
        return;
    ret->has_unique_id = true;
    bits_of(walk, der_read(tbs, tag), "uniqueIdentifier");
    if (ret->version < 2)
        tolerate(walk, "uniqueIdentifier");
}

static void read_extension(struct walk *walk, struct der *list, struct cert_extension *ret)
{
    struct der extension = der_enter(list, DER_SEQUENCE);

    ret->oid = der_read(&extension, DER_OID);
    ret->critical = false;
    if (der_next_is(&extension, DER_BOOLEAN)) {
        struct bytes critical = der_read(&extension, DER_BOOLEAN);

        if (critical.len != 1) {
            refuse(walk, "extensions");
            return;
        }
        ret->critical = critical.data[0] != 0;
        if (critical.data[0] != 0xff)
            tolerate(walk, "extensions"); /* the DEFAULT, written, or another TRUE */
    }
    ret->value = der_read(&extension, DER_OCTET_STRING);
    if (!der_done(&extension) || !der_oid_is_good(ret->oid))
        refuse(walk, "extensions");
}

/* Older versions have no extensions; yet where they stand in one, OpenSSL takes them at their word,
 * so the legacy form reads them too. */
static void read_extensions(struct walk *walk, struct der *tbs, struct cert_fields *ret)
{
    struct der holder;
    struct der list;

    if (!der_next_is(tbs, DER_CONTEXT_CONSTRUCTED(3)))
        return;
    holder = der_enter(tbs, DER_CONTEXT_CONSTRUCTED(3));
    list = der_enter(&holder, DER_SEQUENCE);
    if (ret->version < 3 || der_done(&list))
        tolerate(walk, "extensions");
    while (der_peek(&list) && !walk->bad) {
        if (ret->extension_count == CERT_EXTENSIONS_MAX) {
            refuse(walk, "extensions (too many)");
            return;
        }
        read_extension(walk, &list, &ret->extension[ret->extension_count++]);
    }
    if (!der_done(&list) || !der_done(&holder))
        refuse(walk, "extensions");
}

/* The fields of the TBSCertificate whose whole element ret->tbs is. */
static void read_tbs(struct walk *walk, struct cert_fields *ret)
{
    struct der outer = der_of(ret->tbs);
    struct der tbs = der_enter(&outer, DER_SEQUENCE);

    ret->version = read_version(walk, &tbs);
    ret->serial = der_read(&tbs, DER_INTEGER);
    check_integer(walk, ret->serial, "serialNumber");
    ret->algorithm = read_algorithm(walk, &tbs, "signature");
    ret->issuer = read_name(walk, NAME_OF_ISSUER, &tbs, "issuer");
    read_validity(walk, &tbs, ret);
    ret->subject = read_name(walk, NAME_OF_SUBJECT, &tbs, "subject");
    read_spki(walk, &tbs, ret);
    skip_unique_id(walk, &tbs, DER_CONTEXT(1), ret);
    skip_unique_id(walk, &tbs, DER_CONTEXT(2), ret);
    read_extensions(walk, &tbs, ret);
    if (!der_done(&tbs))
        refuse(walk, "tbsCertificate");
}

/* The extensions are not cleared: `extension_count` says how many there are. */
static void fields_init(struct cert_fields *fields)
{
    fields->extension_count = 0;
    fields->has_unique_id = false;
    fields->outer_algorithm = fields->signature = (struct bytes){NULL, 0};
}

static enum leafd_err verdict_of_walk(const struct walk *walk, const char *what,
                                      struct cert_fields *ret, struct why *why)
{
    ret->legacy = walk->legacy;
    if (walk->bad)
        return fail(why, LEAFD_MALFORMED, "not a %s: its %s cannot be read", what, walk->bad);
    return LEAFD_OK;
}

enum leafd_err cert_read(struct bytes input, enum der_form form, struct cert_fields *ret,
                         struct why *why)
{
    struct walk walk = {.form = form};
    struct der der = der_of(input);
    struct bytes whole = der_read_whole(&der, DER_SEQUENCE);
    struct der outer = der_of(whole);
    struct der cert = der_enter(&outer, DER_SEQUENCE);

    fields_init(ret);
    ret->tbs = der_read_whole(&cert, DER_SEQUENCE);
    if (cert.failed || whole.len > CERT_SIZE_MAX)
        return fail(why, LEAFD_MALFORMED, "not a certificate");
    ret->size = whole.len;
    if (whole.len < input.len && form == DER_FORM_STRICT)
        return fail(why, LEAFD_MALFORMED, "there is something behind the certificate");

    read_tbs(&walk, ret);
    ret->outer_algorithm = read_algorithm(&walk, &cert, "signatureAlgorithm");
    ret->signature = bits_of(&walk, der_read(&cert, DER_BIT_STRING), "signatureValue");
    if (!der_done(&cert))
        refuse(&walk, "signatureValue");
    return verdict_of_walk(&walk, "certificate", ret, why);
}

enum leafd_err tbs_read(struct bytes input, enum der_form form, struct cert_fields *ret,
                        struct why *why)
{
    struct walk walk = {.form = form};
    struct der der = der_of(input);

    fields_init(ret);
    ret->tbs = der_read_whole(&der, DER_SEQUENCE);
    if (!der_done(&der) || input.len > CERT_SIZE_MAX)
        return fail(why, LEAFD_MALFORMED, "not a TBSCertificate");
    ret->size = input.len;
    read_tbs(&walk, ret);
    return verdict_of_walk(&walk, "TBSCertificate", ret, why);
}

static bool name_is_strict(enum name_of whose, struct bytes whole)
{
    struct walk walk = {.form = DER_FORM_STRICT};
    struct der der = der_of(whole);

    read_name(&walk, whose, &der, "name");
    return !walk.bad && der_done(&der);
}

bool cert_name_is_strict(struct bytes whole)
{
    return name_is_strict(NAME_OF_SUBJECT, whole);
}

bool cert_issuer_is_strict(struct bytes whole)
{
    return name_is_strict(NAME_OF_ISSUER, whole);
}

/* ---- other kinds of GeneralName than those that leaves get ---- */

/* OtherName: an OID, and [0] around one value of any type. */
static bool is_other_name(struct bytes content)
{
    struct der der = der_of(content);
    struct bytes oid = der_read(&der, DER_OID);
    struct der holder = der_enter(&der, DER_CONTEXT_CONSTRUCTED(0));
    uint8_t tag;
    struct bytes value;

    return der_oid_is_good(oid) && der_read_any(&holder, &tag, &value, NULL) && der_done(&holder) &&
           der_done(&der) && any_is_tolerable(tag, value);
}

/* EDIPartyName: [0] nameAssigner, if it is there, and [1] partyName, a DirectoryString each. */
static bool is_edi_party_name(struct bytes content)
{
    struct der der = der_of(content);

    for (uint8_t n = der_next_is(&der, DER_CONTEXT_CONSTRUCTED(0)) ? 0 : 1; n < 2; n++) {
        struct der holder = der_enter(&der, DER_CONTEXT_CONSTRUCTED(n));
        uint8_t tag = 0;
        struct bytes text;

        der_read_any(&holder, &tag, &text, NULL);
        if (tag == DER_IA5_STRING || tag == DER_NUMERIC_STRING || !der_done(&holder) ||
            !string_is_strict(NAME_OF_ISSUER, tag, text))
            return false;
    }
    return der_done(&der);
}

bool cert_general_name_is_good(uint8_t tag, struct bytes content)
{
    switch (tag) {
    case DER_CONTEXT_CONSTRUCTED(0):
        return is_other_name(content);
    case DER_CONTEXT(1):             /* rfc822Name */
    case DER_CONTEXT(2):             /* dNSName */
    case DER_CONTEXT_CONSTRUCTED(3): /* x400Address: nobody looks inside */
    case DER_CONTEXT(6):             /* uniformResourceIdentifier */
    case DER_CONTEXT(7):             /* iPAddress */
        return true;
    case DER_CONTEXT_CONSTRUCTED(4): /* directoryName */
        return cert_issuer_is_strict(content);
    case DER_CONTEXT_CONSTRUCTED(5):
        return is_edi_party_name(content);
    case DER_CONTEXT(8): /* registeredID */
        return der_oid_is_good(content);
    default:
        return false;
    }
}
