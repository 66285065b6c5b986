/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h" /* memmem */

#include "wire/request.h"

#include "wire/msgpack_cursor.h"
#include "wire/pack_buffer.h"

#include <openssl/evp.h>
#include <string.h>

/* The keys we know. Whoever sends one of a reply's is no asker: ids 5 to 7 are its ttl, usage and
 * error. (Its key has id 4, which is our usage.) */
enum field { FIELD_HOST, FIELD_SERVICE, FIELD_CERT, FIELD_USAGE, FIELD_REPLY, FIELD_UNKNOWN };

static const struct {
    uint64_t id;
    const char *name;
    enum field field;
} fields[] = {
    {1, "host", FIELD_HOST},   {2, "service", FIELD_SERVICE}, {3, "cert", FIELD_CERT},
    {4, "usage", FIELD_USAGE}, {5, "ttl", FIELD_REPLY},       {6, "key", FIELD_REPLY},
    {7, "error", FIELD_REPLY},
};

struct word {
    unsigned number;
    const char *text;
};

/* The first word of a number is the one we write. */
static const struct word services[] = {
    {SERVICE_HTTP, "http"}, {SERVICE_SMTP, "smtp"}, {SERVICE_IMAP, "imap"}};
static const struct word usages[] = {
    {USAGE_TLS_SERVER, "tls_server"},
    {USAGE_TLS_SERVER, "tlsserver"},
    {USAGE_TLS_SERVER_TONGSUO, "tls_server_tongsuo"},
    {USAGE_TLCP_SIGNATURE, "tlcp_server_signature"},
    {USAGE_TLCP_SIGNATURE, "tlcp_server_sign"},
    {USAGE_TLCP_ENCRYPTION, "tlcp_server_encryption"},
    {USAGE_TLCP_ENCRYPTION, "tlcp_server_enc"},
};
enum { SERVICE_WORDS = sizeof(services) / sizeof(services[0]) };
enum { USAGE_WORDS = sizeof(usages) / sizeof(usages[0]) };

/* What is known while a map is read: the first thing wrong is kept, the reading goes on, because a
 * reply's key that comes later has to silence us. */
struct reading {
    struct msgpack_cursor cursor;
    struct request *request;
    unsigned seen; /* 1 << enum field */
    bool id_seen;
    bool name_seen;
    enum leafd_err err;
    struct why *why;
};

static void note(struct reading *reading, enum leafd_err err, const char *sentence)
{
    /* Malformed outweighs unsupported. */
    if (reading->err == LEAFD_OK || (reading->err == LEAFD_UNSUPPORTED && err == LEAFD_MALFORMED))
        reading->err = fail(reading->why, err, "%s", sentence);
}

static enum field field_of_id(uint64_t id)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i].id == id)
            return fields[i].field;
    return FIELD_UNKNOWN;
}

static enum field field_of_name(struct bytes name)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (bytes_equal_nocase(name, bytes_of(fields[i].name)))
            return fields[i].field;
    return FIELD_UNKNOWN;
}

static bool is_text(const struct msgpack_value *value)
{
    return value->kind == MSGPACK_STR || value->kind == MSGPACK_BIN;
}

/* A number or a word of the table. */
static bool read_word(const struct msgpack_value *value, const struct word *words, size_t count,
                      unsigned *ret)
{
    for (size_t i = 0; i < count; i++) {
        if (is_text(value) ? bytes_equal_nocase(value->bytes, bytes_of(words[i].text))
                           : value->kind == MSGPACK_UINT && value->number == words[i].number) {
            *ret = words[i].number;
            return true;
        }
    }
    return false;
}

static bool is_word_type(const struct msgpack_value *value)
{
    return is_text(value) || value->kind == MSGPACK_UINT || value->kind == MSGPACK_NEGATIVE;
}

static void take_host(struct reading *reading, const struct msgpack_value *value)
{
    if (!is_text(value)) {
        note(reading, LEAFD_MALFORMED, "the host is neither str nor bin");
        return;
    }
    reading->request->host = value->bytes;
    reading->request->host_was_read = true;
}

static void take_service(struct reading *reading, const struct msgpack_value *value)
{
    unsigned number;

    if (!is_word_type(value))
        note(reading, LEAFD_MALFORMED, "the service is neither int, str nor bin");
    else if (!read_word(value, services, SERVICE_WORDS, &number))
        note(reading, LEAFD_UNSUPPORTED, "the service is not known");
    else
        reading->request->service = (enum service)number;
}

static void take_usage(struct reading *reading, const struct msgpack_value *value)
{
    unsigned number;

    reading->request->usage_was_asked = true;
    if (!is_word_type(value))
        note(reading, LEAFD_MALFORMED, "the usage is neither int, str nor bin");
    else if (!read_word(value, usages, USAGE_WORDS, &number))
        note(reading, LEAFD_UNSUPPORTED, "the usage is not known");
    else
        reading->request->usage = (enum usage)number;
}

static bool holds_pem(struct bytes bytes)
{
    static const char begin[] = "-----BEGIN ";

    return memmem(bytes.data, bytes.len, begin, sizeof(begin) - 1) != NULL;
}

/* A certificate is a SEQUENCE of more than 127 octets: no text starts like that. */
static bool starts_like_der(struct bytes bytes)
{
    return bytes.len >= 2 && bytes.data[0] == 0x30 && bytes.data[1] >= 0x80;
}

static void take_cert(struct reading *reading, const struct msgpack_value *value)
{
    struct request *request = reading->request;

    request->cert_form = CERT_FORM_UNUSABLE;
    if (!is_text(value) || value->bytes.len == 0)
        return;
    request->cert = value->bytes;
    if (value->kind == MSGPACK_STR)
        request->cert_form = CERT_FORM_PEM;
    else
        request->cert_form = !starts_like_der(value->bytes) && holds_pem(value->bytes)
                                 ? CERT_FORM_PEM
                                 : CERT_FORM_DER;
}

static void take_value(struct reading *reading, enum field field, const struct msgpack_value *value)
{
    if (reading->seen & 1u << field) {
        note(reading, LEAFD_MALFORMED, "a key stands twice in the map");
        return;
    }
    reading->seen |= 1u << field;
    switch (field) {
    case FIELD_HOST:
        take_host(reading, value);
        break;
    case FIELD_SERVICE:
        take_service(reading, value);
        break;
    case FIELD_CERT:
        take_cert(reading, value);
        break;
    default:
        take_usage(reading, value);
        break;
    }
}

/* Reads a key; *ret_field is left alone for a key of a type that no key has. */
static bool read_key(struct reading *reading, enum field *ret_field)
{
    struct msgpack_value key;

    if (!msgpack_read(&reading->cursor, &key) || !msgpack_skip_inside(&reading->cursor, &key))
        return false;
    *ret_field = FIELD_UNKNOWN;
    if (key.kind == MSGPACK_UINT || key.kind == MSGPACK_NEGATIVE) {
        reading->id_seen = true;
        if (key.kind == MSGPACK_UINT)
            *ret_field = field_of_id(key.number);
    } else if (key.kind == MSGPACK_STR) {
        reading->name_seen = true;
        *ret_field = field_of_name(key.bytes);
    } else {
        note(reading, LEAFD_MALFORMED, "a key is neither a number nor a str");
    }
    reading->request->dialect =
        reading->name_seen && !reading->id_seen ? DIALECT_NAMES : DIALECT_IDS;
    return true;
}

/* One pair of the map. False: stop, because the octets are no MessagePack or a reply's key was
 * seen. */
static bool read_pair(struct reading *reading)
{
    struct msgpack_value value;
    enum field field;

    if (!read_key(reading, &field)) {
        note(reading, LEAFD_MALFORMED, "not MessagePack, or cut short");
        return false;
    }
    if (field == FIELD_REPLY) {
        reading->err = LEAFD_DROP;
        return false;
    }
    if (!msgpack_read(&reading->cursor, &value) || !msgpack_skip_inside(&reading->cursor, &value)) {
        note(reading, LEAFD_MALFORMED, "not MessagePack, or cut short");
        return false;
    }
    if (field == FIELD_UNKNOWN)
        reading->request->ignored_keys++;
    else
        take_value(reading, field, &value);
    return true;
}

enum leafd_err request_read(struct bytes datagram, bool cut, struct request *ret, struct why *why)
{
    struct reading reading = {.request = ret, .why = why};
    struct msgpack_value root;

    *ret = (struct request){.dialect = DIALECT_IDS};
    msgpack_cursor_init(&reading.cursor, datagram);
    if (cut)
        note(&reading, LEAFD_MALFORMED, "the datagram is larger than 16384 octets");
    if (!msgpack_read(&reading.cursor, &root)) {
        note(&reading, LEAFD_MALFORMED, "not MessagePack, or cut short");
    } else if (root.kind == MSGPACK_STR) {
        take_host(&reading, &root);
    } else if (root.kind != MSGPACK_MAP) {
        note(&reading, LEAFD_MALFORMED, "neither a map nor a str");
    } else {
        for (uint64_t i = 0; i < root.number && read_pair(&reading); i++)
            ;
        if (reading.err == LEAFD_DROP)
            return LEAFD_DROP;
        if (!ret->host_was_read)
            note(&reading, LEAFD_MALFORMED, "no host");
    }
    return reading.err;
}

/* The content between the BEGIN and END lines of the first block with this label. */
static bool find_pem(struct bytes text, const char *begin, const char *end, struct bytes *ret)
{
    const uint8_t *from = memmem(text.data, text.len, begin, strlen(begin));
    const uint8_t *to;

    if (!from)
        return false;
    from += strlen(begin);
    to = memmem(from, (size_t)(text.data + text.len - from), end, strlen(end));
    if (!to)
        return false;
    *ret = (struct bytes){from, (size_t)(to - from)};
    return true;
}

static bool find_certificate(struct bytes text, struct bytes *ret)
{
    static const char *const labels[][2] = {
        {"-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"},
        {"-----BEGIN X509 CERTIFICATE-----", "-----END X509 CERTIFICATE-----"},
        {"-----BEGIN TRUSTED CERTIFICATE-----", "-----END TRUSTED CERTIFICATE-----"},
    };
    bool found = false;

    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        struct bytes body;

        if (find_pem(text, labels[i][0], labels[i][1], &body) &&
            (!found || body.data < ret->data)) {
            *ret = body;
            found = true;
        }
    }
    return found;
}

static enum leafd_err decode_base64(struct bytes text, uint8_t *out, size_t size, struct bytes *ret,
                                    struct why *why)
{
    EVP_ENCODE_CTX *ctx = EVP_ENCODE_CTX_new();
    enum leafd_err err = LEAFD_UNSUPPORTED;
    int len = 0;
    int rest = 0;

    if (!ctx)
        return LEAFD_NOMEM;
    /* Three octets come out of four characters at most, and a rest of fewer than 48 at the end. */
    if (text.len / 4 * 3 + 48 > size) {
        fail(why, err, "the certificate is too large");
        goto out;
    }
    EVP_DecodeInit(ctx);
    if (EVP_DecodeUpdate(ctx, out, &len, text.data, (int)text.len) < 0 ||
        EVP_DecodeFinal(ctx, out + len, &rest) < 0 || len + rest == 0) {
        fail(why, err, "the certificate is not proper PEM");
        goto out;
    }
    *ret = (struct bytes){out, (size_t)(len + rest)};
    err = LEAFD_OK;
out:
    EVP_ENCODE_CTX_free(ctx);
    return err;
}

enum leafd_err request_upstream_der(const struct request *request, uint8_t *scratch, size_t size,
                                    struct bytes *ret, struct why *why)
{
    struct bytes body = {NULL, 0};

    switch (request->cert_form) {
    case CERT_FORM_DER:
        *ret = request->cert;
        return LEAFD_OK;
    case CERT_FORM_PEM:
        if (!find_certificate(request->cert, &body))
            return fail(why, LEAFD_UNSUPPORTED, "there is no PEM certificate in the text");
        return decode_base64(body, scratch, size, ret, why);
    default:
        return fail(why, LEAFD_UNSUPPORTED, "the upstream certificate is empty or of a wrong type");
    }
}

static const char *word_of(const struct word *words, size_t count, unsigned number)
{
    for (size_t i = 0; i < count; i++)
        if (words[i].number == number)
            return words[i].text;
    return "unknown";
}

const char *service_name(enum service service)
{
    return word_of(services, SERVICE_WORDS, service);
}

const char *usage_name(enum usage usage)
{
    return word_of(usages, USAGE_WORDS, usage);
}

static void pack_word(msgpack_packer *packer, bool by_name, unsigned number, const char *name)
{
    if (by_name)
        pack_str(packer, bytes_of(name));
    else
        msgpack_pack_unsigned_int(packer, number);
}

static void pack_cert(msgpack_packer *packer, const struct request *request)
{
    if (request->cert_form == CERT_FORM_DER)
        pack_bin(packer, request->cert);
    else if (request->cert_form == CERT_FORM_PEM)
        pack_str(packer, request->cert);
    else
        msgpack_pack_nil(packer);
}

size_t request_write(const struct request *request, uint8_t *out, size_t size)
{
    bool by_name = request->dialect == DIALECT_NAMES;
    bool with_cert = request->cert_form != CERT_FORM_ABSENT;
    struct pack_buffer buffer;
    msgpack_packer packer;

    pack_buffer_init(&buffer, &packer, out, size < WIRE_DATAGRAM_MAX ? size : WIRE_DATAGRAM_MAX);
    msgpack_pack_map(&packer, 2u + request->usage_was_asked + with_cert);
    pack_key(&packer, by_name, 1, "host");
    pack_str(&packer, request->host);
    pack_key(&packer, by_name, 2, "service");
    pack_word(&packer, by_name, request->service, service_name(request->service));
    if (request->usage_was_asked) {
        pack_key(&packer, by_name, 4, "usage");
        pack_word(&packer, by_name, request->usage, usage_name(request->usage));
    }
    if (with_cert) {
        pack_key(&packer, by_name, 3, "cert");
        pack_cert(&packer, request);
    }
    return pack_buffer_len(&buffer);
}
