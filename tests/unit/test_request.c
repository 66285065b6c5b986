/* SPDX-License-Identifier: Apache-2.0 */
/* The request's rows of leafd-protocol(7), one by one, as octets; and msgpack-c as a second reader.
 */
#include "tests/lib/unit.h"

#include "wire/msgpack_cursor.h"
#include "wire/request.h"

#include <msgpack.h>
#include <stdlib.h>
#include <string.h>

/* The octets of a literal without its NUL. */
#define OCTETS(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})
#define fail_row(...)                                                                              \
    do {                                                                                           \
        print_error(__VA_ARGS__);                                                                  \
        _fail(__FILE__, __LINE__);                                                                 \
    } while (0)
#define HOST "\x01\xa1h" /* key 1, "h" */

struct row {
    const char *name;
    struct bytes datagram;
    enum leafd_err err;
    enum dialect dialect;
    const char *host; /* NULL: was not read */
    enum service service;
    enum usage usage;
    bool usage_was_asked;
    enum cert_form cert_form;
    unsigned ignored;
};

static const struct row rows[] = {
    /* keys by id, by name, mixed */
    {"ids", OCTETS("\x82" HOST "\x02\x01"), .host = "h", .service = SERVICE_SMTP},
    {"names", OCTETS("\x82\xa4host\xa1h\xa7service\xa4imap"), .dialect = DIALECT_NAMES, .host = "h",
     .service = SERVICE_IMAP},
    {"names in any case", OCTETS("\x82\xa4HoSt\xa1h\xa7SERVICE\xa4IMAP"), .dialect = DIALECT_NAMES,
     .host = "h", .service = SERVICE_IMAP},
    {"mixed", OCTETS("\x82\xa4host\xa1h\x02\x02"), .host = "h", .service = SERVICE_IMAP},
    {"mixed by an unknown id", OCTETS("\x82\xa4host\xa1h\x20\xc0"), .host = "h", .ignored = 1},
    {"id as uint8", OCTETS("\x81\xcc\x01\xa1h"), .host = "h"},
    {"id as uint64", OCTETS("\x81\xcf\0\0\0\0\0\0\0\x01\xa1h"), .host = "h"},
    {"id as positive int64", OCTETS("\x81\xd3\0\0\0\0\0\0\0\x01\xa1h"), .host = "h"},
    {"map16", OCTETS("\xde\0\x01" HOST), .host = "h"},
    {"map32", OCTETS("\xdf\0\0\0\x01" HOST), .host = "h"},
    {"str32 as key", OCTETS("\x81\xdb\0\0\0\x04host\xa1h"), .dialect = DIALECT_NAMES, .host = "h"},
    {"octets behind the map", OCTETS("\x81" HOST "\xc1\x05\x05"), .host = "h"},
    {"unknown keys",
     OCTETS("\x84" HOST "\x08\xc0\xa3"
            "foo\x92\x01\x81\x01\x02\x7f\xca\0\0\0\0"),
     .host = "h", .ignored = 3},
    {"a negative id is unknown", OCTETS("\x82" HOST "\xff\xc0"), .host = "h", .ignored = 1},
    /* keys of other types */
    {"bin key", OCTETS("\x82" HOST "\xc4\x04host\xa1g"), .err = LEAFD_MALFORMED, .host = "h",
     .ignored = 1},
    {"nil key", OCTETS("\x82\xc0\xc0" HOST), .err = LEAFD_MALFORMED, .host = "h", .ignored = 1},
    {"float key", OCTETS("\x82\xca\0\0\0\0\xc0" HOST), .err = LEAFD_MALFORMED, .host = "h",
     .ignored = 1},
    {"array key", OCTETS("\x82\x91\x01\xc0" HOST), .err = LEAFD_MALFORMED, .host = "h",
     .ignored = 1},
    /* duplicates */
    {"host twice", OCTETS("\x82" HOST "\x01\xa1g"), .err = LEAFD_MALFORMED, .host = "h"},
    {"host by id and by name", OCTETS("\x82" HOST "\xa4host\xa1g"), .err = LEAFD_MALFORMED,
     .host = "h"},
    {"cert twice", OCTETS("\x83" HOST "\x03\xc0\x03\xc0"), .err = LEAFD_MALFORMED, .host = "h",
     .cert_form = CERT_FORM_UNUSABLE},
    {"an unknown key twice", OCTETS("\x83" HOST "\x09\x01\x09\x01"), .host = "h", .ignored = 2},
    /* replies */
    {"id 5", OCTETS("\x82" HOST "\x05\x01"), .err = LEAFD_DROP, .host = "h"},
    {"id 6", OCTETS("\x82\x06\x01" HOST), .err = LEAFD_DROP},
    {"id 7", OCTETS("\x81\x07\xa9malformed"), .err = LEAFD_DROP},
    {"name key", OCTETS("\x81\xa3key\xc0"), .err = LEAFD_DROP, .dialect = DIALECT_NAMES},
    {"name TTL", OCTETS("\x81\xa3TTL\xc0"), .err = LEAFD_DROP, .dialect = DIALECT_NAMES},
    {"name error",
     OCTETS("\x81\xa5"
            "error\xc0"),
     .err = LEAFD_DROP, .dialect = DIALECT_NAMES},
    {"an error reply",
     OCTETS("\x82" HOST "\x07\xa4"
            "busy"),
     .err = LEAFD_DROP, .host = "h"},
    {"behind a duplicate", OCTETS("\x83" HOST "\x01\xa1g\x07\xc0"), .err = LEAFD_DROP, .host = "h"},
    {"behind a bad key", OCTETS("\x82\xc0\xc0\x05\xc0"), .err = LEAFD_DROP, .ignored = 1},
    {"behind an unknown service", OCTETS("\x82\x02\x09\x06\x00"), .err = LEAFD_DROP},
    {"its value cut short", OCTETS("\x82\x01\xa1h\x07\xa9mal"), .err = LEAFD_DROP, .host = "h"},
    /* host */
    {"host as bin", OCTETS("\x81\x01\xc4\x01h"), .host = "h"},
    {"bare str", OCTETS("\xa1h"), .host = "h"},
    {"bare str8, octets behind", OCTETS("\xd9\x01h\xc1"), .host = "h"},
    {"host is not UTF-8", OCTETS("\x81\x01\xa1\xff"), .host = "\xff"},
    {"empty host", OCTETS("\x81\x01\xa0"), .host = ""},
    {"host of int", OCTETS("\x81\x01\x2a"), .err = LEAFD_MALFORMED},
    {"host nil", OCTETS("\x81\x01\xc0"), .err = LEAFD_MALFORMED},
    {"no host", OCTETS("\x81\x02\x00"), .err = LEAFD_MALFORMED},
    {"empty map", OCTETS("\x80"), .err = LEAFD_MALFORMED},
    {"bare bin", OCTETS("\xc4\x01h"), .err = LEAFD_MALFORMED},
    {"raw text", OCTETS("plain.example"), .err = LEAFD_MALFORMED},
    {"nil", OCTETS("\xc0"), .err = LEAFD_MALFORMED},
    {"array", OCTETS("\x91\x01"), .err = LEAFD_MALFORMED},
    {"ext", OCTETS("\xd4\x01\x02"), .err = LEAFD_MALFORMED},
    {"nothing", OCTETS(""), .err = LEAFD_MALFORMED},
    {"the unused marker", OCTETS("\xc1"), .err = LEAFD_MALFORMED},
    /* cut short, lying lengths */
    {"too few pairs", OCTETS("\x82" HOST), .err = LEAFD_MALFORMED, .host = "h"},
    {"cut key", OCTETS("\x82" HOST "\xa7serv"), .err = LEAFD_MALFORMED, .host = "h"},
    {"map32 of 2^32-1", OCTETS("\xdf\xff\xff\xff\xff" HOST), .err = LEAFD_MALFORMED, .host = "h"},
    {"array32 of 2^32-1 inside", OCTETS("\x82" HOST "\x09\xdd\xff\xff\xff\xff\x01"),
     .err = LEAFD_MALFORMED, .host = "h"},
    {"str32 of 2^32-1", OCTETS("\x81\x01\xdb\xff\xff\xff\xffh"), .err = LEAFD_MALFORMED},
    {"bin32 of 2^32-1", OCTETS("\x82" HOST "\x03\xc6\xff\xff\xff\xff\x30"), .err = LEAFD_MALFORMED,
     .host = "h"},
    {"ext32 of 2^32-1", OCTETS("\x82" HOST "\x09\xc9\xff\xff\xff\xff\x01\x01"),
     .err = LEAFD_MALFORMED, .host = "h"},
    /* service */
    {"service 0", OCTETS("\x82" HOST "\x02\x00"), .host = "h"},
    {"service as uint16", OCTETS("\x82" HOST "\x02\xcd\0\x02"), .host = "h",
     .service = SERVICE_IMAP},
    {"service Http", OCTETS("\x82" HOST "\x02\xa4Http"), .host = "h"},
    {"service as bin", OCTETS("\x82" HOST "\x02\xc4\x04smtp"), .host = "h",
     .service = SERVICE_SMTP},
    {"service 3", OCTETS("\x82" HOST "\x02\x03"), .err = LEAFD_UNSUPPORTED, .host = "h"},
    {"service 256", OCTETS("\x82" HOST "\x02\xcd\x01\0"), .err = LEAFD_UNSUPPORTED, .host = "h"},
    {"service -1", OCTETS("\x82" HOST "\x02\xff"), .err = LEAFD_UNSUPPORTED, .host = "h"},
    {"service bad",
     OCTETS("\x82" HOST "\x02\xa3"
            "bad"),
     .err = LEAFD_UNSUPPORTED, .host = "h"},
    {"service empty", OCTETS("\x82" HOST "\x02\xa0"), .err = LEAFD_UNSUPPORTED, .host = "h"},
    {"service \"0\"",
     OCTETS("\x82" HOST "\x02\xa1"
            "0"),
     .err = LEAFD_UNSUPPORTED, .host = "h"},
    {"service nil", OCTETS("\x82" HOST "\x02\xc0"), .err = LEAFD_MALFORMED, .host = "h"},
    {"service true", OCTETS("\x82" HOST "\x02\xc3"), .err = LEAFD_MALFORMED, .host = "h"},
    {"service 1.0", OCTETS("\x82" HOST "\x02\xca\x3f\x80\0\0"), .err = LEAFD_MALFORMED,
     .host = "h"},
    {"malformed outweighs unsupported", OCTETS("\x83\x02\x03" HOST "\x04\xc0"),
     .err = LEAFD_MALFORMED, .host = "h", .usage_was_asked = true},
    {"unknown service, host behind", OCTETS("\x82\x02\x03" HOST), .err = LEAFD_UNSUPPORTED,
     .host = "h"},
    {"unknown service, no host", OCTETS("\x81\x02\x03"), .err = LEAFD_MALFORMED},
    /* usage */
    {"usage 0", OCTETS("\x82" HOST "\x04\x00"), .host = "h", .usage_was_asked = true},
    {"usage 1", OCTETS("\x82" HOST "\x04\x01"), .host = "h", .usage = USAGE_TLS_SERVER_TONGSUO,
     .usage_was_asked = true},
    {"usage 11", OCTETS("\x82" HOST "\x04\x0b"), .host = "h", .usage = USAGE_TLCP_SIGNATURE,
     .usage_was_asked = true},
    {"usage 12", OCTETS("\x82" HOST "\x04\x0c"), .host = "h", .usage = USAGE_TLCP_ENCRYPTION,
     .usage_was_asked = true},
    {"usage TLS_Server", OCTETS("\x82" HOST "\x04\xaaTLS_Server"), .host = "h",
     .usage_was_asked = true},
    {"usage tlsserver", OCTETS("\x82" HOST "\x04\xa9tlsserver"), .host = "h",
     .usage_was_asked = true},
    {"usage tls_server_tongsuo", OCTETS("\x82" HOST "\x04\xb2tls_server_tongsuo"), .host = "h",
     .usage = USAGE_TLS_SERVER_TONGSUO, .usage_was_asked = true},
    {"usage tlcp_server_signature", OCTETS("\x82" HOST "\x04\xb5tlcp_server_signature"),
     .host = "h", .usage = USAGE_TLCP_SIGNATURE, .usage_was_asked = true},
    {"usage tlcp_server_sign", OCTETS("\x82" HOST "\x04\xb0tlcp_server_sign"), .host = "h",
     .usage = USAGE_TLCP_SIGNATURE, .usage_was_asked = true},
    {"usage tlcp_server_encryption", OCTETS("\x82" HOST "\x04\xb6tlcp_server_encryption"),
     .host = "h", .usage = USAGE_TLCP_ENCRYPTION, .usage_was_asked = true},
    {"usage tlcp_server_enc as bin", OCTETS("\x82" HOST "\x04\xc4\x0ftlcp_server_enc"), .host = "h",
     .usage = USAGE_TLCP_ENCRYPTION, .usage_was_asked = true},
    {"usage 2", OCTETS("\x82" HOST "\x04\x02"), .err = LEAFD_UNSUPPORTED, .host = "h",
     .usage_was_asked = true},
    {"usage 255", OCTETS("\x82" HOST "\x04\xcc\xff"), .err = LEAFD_UNSUPPORTED, .host = "h",
     .usage_was_asked = true},
    {"usage tls-server", OCTETS("\x82" HOST "\x04\xaatls-server"), .err = LEAFD_UNSUPPORTED,
     .host = "h", .usage_was_asked = true},
    {"usage nil", OCTETS("\x82" HOST "\x04\xc0"), .err = LEAFD_MALFORMED, .host = "h",
     .usage_was_asked = true},
    /* cert */
    {"cert DER", OCTETS("\x82" HOST "\x03\xc4\x04\x30\x82\0\0"), .host = "h",
     .cert_form = CERT_FORM_DER},
    {"cert garbage bin", OCTETS("\x82" HOST "\x03\xc4\x02zz"), .host = "h",
     .cert_form = CERT_FORM_DER},
    {"cert PEM str", OCTETS("\x82" HOST "\x03\xab-----BEGIN "), .host = "h",
     .cert_form = CERT_FORM_PEM},
    {"cert PEM bin", OCTETS("\x82" HOST "\x03\xc4\x0d\n\n-----BEGIN "), .host = "h",
     .cert_form = CERT_FORM_PEM},
    {"cert nil", OCTETS("\x82" HOST "\x03\xc0"), .host = "h", .cert_form = CERT_FORM_UNUSABLE},
    {"cert empty bin", OCTETS("\x82" HOST "\x03\xc4\0"), .host = "h",
     .cert_form = CERT_FORM_UNUSABLE},
    {"cert empty str", OCTETS("\x82" HOST "\x03\xa0"), .host = "h",
     .cert_form = CERT_FORM_UNUSABLE},
    {"cert array", OCTETS("\x82" HOST "\x03\x91\xc4\x01\x30"), .host = "h",
     .cert_form = CERT_FORM_UNUSABLE},
    {"cert int", OCTETS("\x82" HOST "\x03\x05"), .host = "h", .cert_form = CERT_FORM_UNUSABLE},
};

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct why why = {""};
        struct request request;
        enum leafd_err err = request_read(row->datagram, false, &request, &why);

        if (err != row->err)
            fail_row("%s: %s (%s)\n", row->name, err_name(err), why.text);
        if (err != LEAFD_OK && err != LEAFD_DROP)
            assert_true(why.text[0] != 0);
        if (request.dialect != row->dialect || request.host_was_read != (row->host != NULL) ||
            (row->host && !bytes_equal(request.host, bytes_of(row->host))) ||
            request.service != row->service || request.usage != row->usage ||
            request.usage_was_asked != row->usage_was_asked ||
            request.cert_form != row->cert_form || request.ignored_keys != row->ignored)
            fail_row("%s: read otherwise\n", row->name);
    }
}

/* Every prefix of a good request is refused and never read beyond (the sanitizer watches). */
static void test_prefixes(void **state)
{
    struct bytes whole = OCTETS("\x85" HOST "\x02\xa4http\x04\xa9tlsserver\x03\xc4\x02\x30\x82\x09"
                                "\x92\xd3\0\0\0\0\0\0\0\x01\xc7\x02\x01zz");
    struct request request;

    (void)state;
    assert_int_equal(request_read(whole, false, &request, NULL), LEAFD_OK);
    for (size_t len = 0; len < whole.len; len++) {
        uint8_t *copy = malloc(len + !len);

        memcpy(copy, whole.data, len);
        assert_int_equal(request_read((struct bytes){copy, len}, false, &request, NULL),
                         LEAFD_MALFORMED);
        free(copy);
    }
}

static void test_cut_datagram(void **state)
{
    struct request request;

    (void)state;
    assert_int_equal(request_read(OCTETS("\x81" HOST), true, &request, NULL), LEAFD_MALFORMED);
    assert_true(request.host_was_read);
    assert_int_equal(request_read(OCTETS("\x82" HOST "\x07\xc0"), true, &request, NULL),
                     LEAFD_DROP);
}

/* Arrays in arrays up to the bound are stepped over; beyond it the request is malformed. */
static void test_nesting(void **state)
{
    uint8_t datagram[WIRE_DATAGRAM_MAX] = "\x82" HOST "\x09";
    struct request request;

    (void)state;
    for (size_t depth = 1; depth < sizeof(datagram) - 6; depth = depth * 3 / 2 + 1) {
        memset(datagram + 5, 0x91, depth);
        datagram[5 + depth] = 0xc0;
        assert_int_equal(request_read((struct bytes){datagram, depth + 6}, false, &request, NULL),
                         depth <= MSGPACK_DEPTH_MAX ? LEAFD_OK : LEAFD_MALFORMED);
        assert_true(request.host_was_read);
    }
}

static void test_skipping_is_exact(void **state)
{
    /* array of 2 (array of 0, map of 1 (1: array of 1 (nil))), then 7 */
    struct bytes input = OCTETS("\x92\x90\x81\x01\x91\xc0\x07");
    struct msgpack_cursor cursor;
    struct msgpack_value value;

    (void)state;
    msgpack_cursor_init(&cursor, input);
    assert_true(msgpack_read(&cursor, &value));
    assert_true(msgpack_skip_inside(&cursor, &value));
    assert_true(msgpack_read(&cursor, &value));
    assert_int_equal(value.kind, MSGPACK_UINT);
    assert_int_equal(value.number, 7);
    assert_false(msgpack_read(&cursor, &value));
    assert_true(cursor.bad);
}

/* ---- PEM ---- */

static enum leafd_err decode(const char *text, struct bytes *ret)
{
    static uint8_t scratch[WIRE_DATAGRAM_MAX];
    struct request request = {.cert_form = CERT_FORM_PEM, .cert = bytes_of(text)};

    return request_upstream_der(&request, scratch, sizeof(scratch), ret, NULL);
}

#define BEGIN "-----BEGIN CERTIFICATE-----\n"
#define END "-----END CERTIFICATE-----\n"

static void test_pem(void **state)
{
    struct bytes der = {NULL, 0};
    struct request absent = {.cert_form = CERT_FORM_UNUSABLE};
    uint8_t small[8];
    struct request request = {.cert_form = CERT_FORM_PEM, .cert = bytes_of(BEGIN "MIIBAQ==\n" END)};

    (void)state;
    assert_int_equal(decode(BEGIN "MAMCAQE=\n" END, &der), LEAFD_OK);
    assert_true(bytes_equal(der, OCTETS("\x30\x03\x02\x01\x01")));
    /* text and a key before it, CRLF, and of two the first */
    assert_int_equal(decode("subject=x\r\n-----BEGIN PRIVATE KEY-----\r\nAAAA\r\n-----END PRIVATE "
                            "KEY-----\r\n-----BEGIN CERTIFICATE-----\r\nMAMC\r\nAQE=\r\n-----END "
                            "CERTIFICATE-----\r\n" BEGIN "AAAA\n" END,
                            &der),
                     LEAFD_OK);
    assert_true(bytes_equal(der, OCTETS("\x30\x03\x02\x01\x01")));
    assert_int_equal(decode("-----BEGIN X509 CERTIFICATE-----\nMAMCAQE=\n-----END X509 "
                            "CERTIFICATE-----\n" BEGIN "AAAA\n" END,
                            &der),
                     LEAFD_OK);
    assert_true(bytes_equal(der, OCTETS("\x30\x03\x02\x01\x01")));
    assert_int_equal(decode("no PEM at all", &der), LEAFD_UNSUPPORTED);
    assert_int_equal(decode(BEGIN "MAMCAQE=\n", &der), LEAFD_UNSUPPORTED);
    assert_int_equal(decode(BEGIN END, &der), LEAFD_UNSUPPORTED);
    assert_int_equal(decode(BEGIN "M*MCAQE=\n" END, &der), LEAFD_UNSUPPORTED);
    assert_int_equal(request_upstream_der(&absent, small, sizeof(small), &der, NULL),
                     LEAFD_UNSUPPORTED);
    assert_int_equal(request_upstream_der(&request, small, sizeof(small), &der, NULL),
                     LEAFD_UNSUPPORTED);
}

static void test_der_is_borrowed(void **state)
{
    struct request request = {.cert_form = CERT_FORM_DER, .cert = OCTETS("\x30\x80")};
    struct bytes der;

    (void)state;
    assert_int_equal(request_upstream_der(&request, NULL, 0, &der, NULL), LEAFD_OK);
    assert_ptr_equal(der.data, request.cert.data);
}

/* ---- writing, and the second reader ---- */

static void test_write_and_read(void **state)
{
    static const enum cert_form forms[] = {CERT_FORM_ABSENT, CERT_FORM_DER, CERT_FORM_PEM};
    uint8_t out[512];

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct request from = {.dialect = i % 2 ? DIALECT_NAMES : DIALECT_IDS,
                               .host = bytes_of("h.example"),
                               .service = SERVICE_IMAP,
                               .usage_was_asked = i / 2 % 2,
                               .usage = i / 2 % 2 ? USAGE_TLCP_SIGNATURE : USAGE_TLS_SERVER,
                               .cert_form = forms[i / 4]};
        struct request to;
        size_t len;

        if (from.cert_form == CERT_FORM_DER)
            from.cert = OCTETS("\x30\x82\0\0");
        if (from.cert_form == CERT_FORM_PEM)
            from.cert = bytes_of(BEGIN END);
        len = request_write(&from, out, sizeof(out));
        assert_true(len > 0);
        assert_int_equal(request_read((struct bytes){out, len}, false, &to, NULL), LEAFD_OK);
        assert_int_equal(to.dialect, from.dialect);
        assert_true(bytes_equal(to.host, from.host));
        assert_int_equal(to.service, from.service);
        assert_int_equal(to.usage_was_asked, from.usage_was_asked);
        assert_int_equal(to.usage, from.usage);
        assert_int_equal(to.cert_form, from.cert_form);
        assert_true(bytes_equal(to.cert, from.cert));
        assert_int_equal(request_write(&from, out, len - 1), 0);
    }
}

static void test_msgpack_c_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct bytes datagram = rows[i].datagram;
        msgpack_unpacked unpacked;
        size_t used = 0;

        if (rows[i].err != LEAFD_OK && rows[i].err != LEAFD_UNSUPPORTED)
            continue;
        msgpack_unpacked_init(&unpacked);
        assert_int_equal(
            msgpack_unpack_next(&unpacked, (const char *)datagram.data, datagram.len, &used),
            MSGPACK_UNPACK_SUCCESS);
        msgpack_unpacked_destroy(&unpacked);
    }
}

static void test_words(void **state)
{
    (void)state;
    assert_string_equal(service_name(SERVICE_HTTP), "http");
    assert_string_equal(usage_name(USAGE_TLS_SERVER), "tls_server");
    assert_string_equal(usage_name(USAGE_TLCP_ENCRYPTION), "tlcp_server_encryption");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_cut_datagram),
        cmocka_unit_test(test_nesting),
        cmocka_unit_test(test_skipping_is_exact),
        cmocka_unit_test(test_pem),
        cmocka_unit_test(test_der_is_borrowed),
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_msgpack_c_agrees),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
