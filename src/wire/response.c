/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/response.h"

#include "wire/msgpack_cursor.h"
#include "wire/pack_buffer.h"

enum { ECHO_IN_ERROR_MAX = 253 };

bool response_key_is_pem(enum dialect dialect, enum key_format format)
{
    return format == KEY_FORMAT_PEM ||
           (format == KEY_FORMAT_BY_DIALECT && dialect == DIALECT_NAMES);
}

/* RFC 3629, without surrogates and overlong forms. */
static bool is_utf8(struct bytes text)
{
    size_t i = 0;

    while (i < text.len) {
        uint8_t first = text.data[i++];
        uint32_t point;
        unsigned more;

        if (first < 0x80)
            continue;
        if (first < 0xc2 || first > 0xf4)
            return false;
        more = first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        point = first & (0x3fu >> more);
        if (more > text.len - i)
            return false;
        for (unsigned k = 0; k < more; k++, i++) {
            if ((text.data[i] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (text.data[i] & 0x3f);
        }
        if ((more == 2 && (point < 0x800 || (point >= 0xd800 && point < 0xe000))) ||
            (more == 3 && (point < 0x10000 || point > 0x10ffff)))
            return false;
    }
    return true;
}

/* A str, unless that would make the reply unreadable to decoders that check. */
static void pack_host(msgpack_packer *packer, struct bytes host)
{
    if (is_utf8(host))
        pack_str(packer, host);
    else
        pack_bin(packer, host);
}

static void pack_cert(msgpack_packer *packer, const struct response *response)
{
    if (response->cert_format == CERT_FORMAT_PEM) {
        msgpack_pack_str(packer, response->cert_pem.len + response->chain_pem.len);
        msgpack_pack_str_body(packer, response->cert_pem.data, response->cert_pem.len);
        if (response->chain_pem.len)
            msgpack_pack_str_body(packer, response->chain_pem.data, response->chain_pem.len);
        return;
    }
    if (response->chain_count)
        msgpack_pack_array(packer, 1 + response->chain_count);
    pack_bin(packer, response->cert_der);
    for (size_t i = 0; i < response->chain_count; i++)
        pack_bin(packer, response->chain_der[i]);
}

static void pack_asked_by_ids(msgpack_packer *packer, const struct response *response)
{
    msgpack_pack_map(packer, 6);
    msgpack_pack_uint8(packer, 1);
    pack_host(packer, response->host);
    msgpack_pack_uint8(packer, 2);
    msgpack_pack_uint8(packer, (uint8_t)response->service);
    msgpack_pack_uint8(packer, 6);
    msgpack_pack_uint8(packer, (uint8_t)response->usage);
}

static void pack_asked_by_names(msgpack_packer *packer, const struct response *response)
{
    msgpack_pack_map(packer, 5u + response->usage_was_asked);
    pack_str(packer, bytes_of("host"));
    pack_host(packer, response->host);
    pack_str(packer, bytes_of("service"));
    pack_str(packer, bytes_of(service_name(response->service)));
    if (response->usage_was_asked) {
        pack_str(packer, bytes_of("usage"));
        pack_str(packer, bytes_of(usage_name(response->usage)));
    }
}

size_t response_write(const struct response *response, uint8_t *out, size_t size)
{
    bool by_name = response->dialect == DIALECT_NAMES;
    struct pack_buffer buffer;
    msgpack_packer packer;

    pack_buffer_init(&buffer, &packer, out, size < WIRE_DATAGRAM_MAX ? size : WIRE_DATAGRAM_MAX);
    if (by_name)
        pack_asked_by_names(&packer, response);
    else
        pack_asked_by_ids(&packer, response);
    pack_key(&packer, by_name, 3, "cert");
    pack_cert(&packer, response);
    pack_key(&packer, by_name, 4, "key");
    if (response_key_is_pem(response->dialect, response->key_format))
        pack_str(&packer, response->key);
    else
        pack_bin(&packer, response->key);
    pack_key(&packer, by_name, 5, "ttl");
    msgpack_pack_uint32(&packer, response->ttl_sec);
    return pack_buffer_len(&buffer);
}

size_t response_write_error(const struct request *request, enum leafd_err err, uint8_t *out,
                            size_t size)
{
    bool by_name = request->dialect == DIALECT_NAMES;
    bool with_host = request->host_was_read && request->host.len <= ECHO_IN_ERROR_MAX;
    struct pack_buffer buffer;
    msgpack_packer packer;

    if (err < LEAFD_MALFORMED || err > LEAFD_INTERNAL)
        err = LEAFD_INTERNAL;
    pack_buffer_init(&buffer, &packer, out, size);
    msgpack_pack_map(&packer, 1u + with_host);
    if (with_host) {
        pack_key(&packer, by_name, 1, "host");
        pack_host(&packer, request->host);
    }
    pack_key(&packer, by_name, 7, "error");
    pack_str(&packer, bytes_of(err_name(err)));
    return pack_buffer_len(&buffer);
}

/* Reading: a client's side, so keys of both dialects at once, and the forms other servers use. */

enum field { FIELD_HOST, FIELD_CERT, FIELD_KEY, FIELD_TTL, FIELD_ERROR, FIELD_OTHER };

static const struct {
    uint64_t id;
    const char *name;
    enum field field;
} fields[] = {
    {1, "host", FIELD_HOST}, {3, "cert", FIELD_CERT},   {4, "key", FIELD_KEY},
    {5, "ttl", FIELD_TTL},   {7, "error", FIELD_ERROR},
};

static enum field field_of(const struct msgpack_value *key)
{
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if ((key->kind == MSGPACK_UINT && key->number == fields[i].id) ||
            (key->kind == MSGPACK_STR && bytes_equal_nocase(key->bytes, bytes_of(fields[i].name))))
            return fields[i].field;
    }
    return FIELD_OTHER;
}

static bool take_text(const struct msgpack_value *value, struct bytes *ret)
{
    if (value->kind != MSGPACK_STR && value->kind != MSGPACK_BIN)
        return false;
    *ret = value->bytes;
    return true;
}

/* One text, or an array of them with the leaf first. */
static bool read_certs(struct msgpack_cursor *cursor, const struct msgpack_value *value,
                       struct response_view *view)
{
    size_t room = sizeof(view->chain) / sizeof(view->chain[0]);
    struct msgpack_value one;

    if (value->kind != MSGPACK_ARRAY)
        return take_text(value, &view->cert);
    if (value->number < 1 || value->number - 1 > room || !msgpack_read(cursor, &one) ||
        !take_text(&one, &view->cert))
        return false;
    for (uint64_t i = 1; i < value->number; i++)
        if (!msgpack_read(cursor, &one) || !take_text(&one, &view->chain[view->chain_count++]))
            return false;
    return true;
}

/* `seen` has a bit for each field that was there: a second one would add to the chain of the first.
 */
static bool read_pair(struct msgpack_cursor *cursor, struct response_view *view, unsigned *seen)
{
    struct msgpack_value key;
    struct msgpack_value value;
    enum field field;

    if (!msgpack_read(cursor, &key) || !msgpack_skip_inside(cursor, &key) ||
        !msgpack_read(cursor, &value))
        return false;
    field = field_of(&key);
    if (field != FIELD_OTHER && *seen & 1u << field)
        return false;
    *seen |= 1u << field;
    switch (field) {
    case FIELD_HOST:
        return take_text(&value, &view->host);
    case FIELD_CERT:
        return read_certs(cursor, &value, view);
    case FIELD_KEY:
        return take_text(&value, &view->key);
    case FIELD_TTL:
        view->ttl_sec = value.number > UINT32_MAX ? UINT32_MAX : (uint32_t)value.number;
        return value.kind == MSGPACK_UINT;
    case FIELD_ERROR:
        return take_text(&value, &view->error);
    default:
        return msgpack_skip_inside(cursor, &value);
    }
}

enum leafd_err response_read(struct bytes datagram, struct response_view *ret, struct why *why)
{
    struct response_view view = {.ttl_sec = 0};
    struct msgpack_cursor cursor;
    struct msgpack_value root;
    unsigned seen = 0;

    msgpack_cursor_init(&cursor, datagram);
    if (!msgpack_read(&cursor, &root) || root.kind != MSGPACK_MAP)
        return fail(why, LEAFD_MALFORMED, "the reply is not a map");
    for (uint64_t i = 0; i < root.number; i++)
        if (!read_pair(&cursor, &view, &seen))
            return fail(why, LEAFD_MALFORMED,
                        "the reply is cut short, has a key twice, or a value of a wrong type");
    if (view.error.len == 0 && (view.cert.len == 0 || view.key.len == 0))
        return fail(why, LEAFD_MALFORMED, "the reply has neither a leaf with its key nor an error");
    *ret = view;
    return LEAFD_OK;
}
