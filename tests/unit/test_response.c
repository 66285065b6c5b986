/* SPDX-License-Identifier: Apache-2.0 */
/* Replies octet by octet, and through msgpack-c and our own reader. */
#include "tests/lib/unit.h"

#include "wire/response.h"

#include <msgpack.h>
#include <string.h>

#define OCTETS(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

static const struct bytes chain_der[] = {OCTETS("\x30\x01"), OCTETS("\x30\x02")};

static struct response sample(enum dialect dialect)
{
    return (struct response){.dialect = dialect,
                             .host = OCTETS("h"),
                             .service = SERVICE_SMTP,
                             .usage_was_asked = true,
                             .usage = USAGE_TLCP_SIGNATURE,
                             .cert_pem = OCTETS("LEAF"),
                             .chain_pem = OCTETS("CHAIN"),
                             .cert_der = OCTETS("\x30\x00"),
                             .chain_der = chain_der,
                             .chain_count = 2,
                             .key = OCTETS("K"),
                             .ttl_sec = 300};
}

static void expect(const struct response *response, struct bytes wanted)
{
    uint8_t out[256];
    size_t len = response_write(response, out, sizeof(out));

    assert_int_equal(len, wanted.len);
    assert_memory_equal(out, wanted.data, len);
    for (size_t room = 0; room < len; room++)
        assert_int_equal(response_write(response, out, room), 0);
}

static void test_by_ids(void **state)
{
    struct response response = sample(DIALECT_IDS);

    (void)state;
    expect(&response, OCTETS("\x86\x01\xa1h\x02\x01\x06\x0b\x03\xa9LEAFCHAIN\x04\xc4\x01K\x05\xcd"
                             "\x01\x2c"));
    response.usage_was_asked = false; /* written all the same */
    response.usage = USAGE_TLS_SERVER;
    response.chain_pem.len = 0;
    response.ttl_sec = 10;
    expect(&response, OCTETS("\x86\x01\xa1h\x02\x01\x06\x00\x03\xa4LEAF\x04\xc4\x01K\x05\x0a"));
}

static void test_by_names(void **state)
{
    struct response response = sample(DIALECT_NAMES);

    (void)state;
    expect(&response,
           OCTETS("\x86\xa4host\xa1h\xa7service\xa4smtp\xa5usage\xb5tlcp_server_signature"
                  "\xa4"
                  "cert\xa9LEAFCHAIN\xa3key\xa1K\xa3ttl\xcd\x01\x2c"));
    response.usage_was_asked = false;
    response.ttl_sec = 86400;
    expect(&response, OCTETS("\x85\xa4host\xa1h\xa7service\xa4smtp"
                             "\xa4"
                             "cert\xa9LEAFCHAIN\xa3key\xa1K\xa3ttl\xce\0\x01\x51\x80"));
}

static void test_der_certificates(void **state)
{
    struct response response = sample(DIALECT_IDS);

    (void)state;
    response.cert_format = CERT_FORMAT_DER;
    expect(&response, OCTETS("\x86\x01\xa1h\x02\x01\x06\x0b\x03\x93\xc4\x02\x30\x00\xc4\x02\x30\x01"
                             "\xc4\x02\x30\x02\x04\xc4\x01K\x05\xcd\x01\x2c"));
    response.chain_count = 0;
    expect(
        &response,
        OCTETS("\x86\x01\xa1h\x02\x01\x06\x0b\x03\xc4\x02\x30\x00\x04\xc4\x01K\x05\xcd\x01\x2c"));
}

static void test_key_forms(void **state)
{
    struct response response = sample(DIALECT_IDS);
    struct response_view view;
    uint8_t out[256];
    size_t len;

    (void)state;
    assert_false(response_key_is_pem(DIALECT_IDS, KEY_FORMAT_BY_DIALECT));
    assert_true(response_key_is_pem(DIALECT_NAMES, KEY_FORMAT_BY_DIALECT));
    assert_true(response_key_is_pem(DIALECT_IDS, KEY_FORMAT_PEM));
    assert_false(response_key_is_pem(DIALECT_NAMES, KEY_FORMAT_DER));
    response.key_format = KEY_FORMAT_PEM;
    len = response_write(&response, out, sizeof(out));
    assert_int_equal(response_read((struct bytes){out, len}, &view, NULL), LEAFD_OK);
    assert_int_equal(view.key.data[-1], 0xa1); /* a str */
}

/* The host goes back octet by octet; what no decoder would take as text is a bin. */
static void test_echo(void **state)
{
    static const struct {
        struct bytes host;
        bool is_str;
    } cases[] = {
        {OCTETS("EXAMPLE.org."), true},
        {OCTETS("b\xc3\xbc"
                "cher.example"),
         true},
        {OCTETS("\xff"), false},
        {OCTETS("\xc3"), false},
        {OCTETS("\xed\xa0\x80"), false},
        {OCTETS("\xc0\xaf"), false},
        {OCTETS("\xf4\x90\x80\x80"), false},
        {OCTETS("\xf0\x9f\x8d\x83.example"), true},
        {OCTETS("a\0b"), true},
        {OCTETS("\xe0\x80\x80"), false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct response response = sample(DIALECT_IDS);
        struct response_view view;
        uint8_t out[256];
        size_t len;

        response.host = cases[i].host;
        len = response_write(&response, out, sizeof(out));
        assert_int_equal(response_read((struct bytes){out, len}, &view, NULL), LEAFD_OK);
        assert_true(bytes_equal(view.host, cases[i].host));
        assert_int_equal(out[2] >> 5 == 5, cases[i].is_str);
    }
}

static void test_datagram_bound(void **state)
{
    static uint8_t pem[WIRE_DATAGRAM_MAX];
    static uint8_t out[2 * WIRE_DATAGRAM_MAX];
    struct response response = sample(DIALECT_IDS);
    size_t fits = 0;

    (void)state;
    response.chain_pem.len = 0;
    memset(pem, 'x', sizeof(pem));
    for (size_t len = WIRE_DATAGRAM_MAX - 100; len < WIRE_DATAGRAM_MAX; len++) {
        size_t written;

        response.cert_pem = (struct bytes){pem, len};
        written = response_write(&response, out, sizeof(out));
        assert_true(written <= WIRE_DATAGRAM_MAX);
        if (written > 0)
            fits = written;
    }
    assert_int_equal(fits, WIRE_DATAGRAM_MAX);
}

static void test_errors(void **state)
{
    struct request request = {.dialect = DIALECT_IDS, .host_was_read = true, .host = OCTETS("h")};
    uint8_t out[512];
    size_t len;

    (void)state;
    len = response_write_error(&request, LEAFD_TOKEN_UNAVAILABLE, out, sizeof(out));
    assert_int_equal(len, 23);
    assert_memory_equal(out, "\x82\x01\xa1h\x07\xb1token-unavailable", len);
    request.dialect = DIALECT_NAMES;
    len = response_write_error(&request, LEAFD_BUSY, out, sizeof(out));
    assert_memory_equal(out,
                        "\x82\xa4host\xa1h\xa5"
                        "error\xa4"
                        "busy",
                        len);
    request.host_was_read = false;
    len = response_write_error(&request, LEAFD_MALFORMED, out, sizeof(out));
    assert_memory_equal(out,
                        "\x81\xa5"
                        "error\xa9malformed",
                        len);
    /* what is no code of the wire is our own fault */
    len = response_write_error(&request, LEAFD_NOMEM, out, sizeof(out));
    assert_memory_equal(out,
                        "\x81\xa5"
                        "error\xa8internal",
                        len);
}

/* No error reply is large, and none can be taken for a request. */
static void test_error_bounds(void **state)
{
    static uint8_t host[300];
    uint8_t out[512];

    (void)state;
    memset(host, 'h', sizeof(host));
    for (size_t i = 0; i < 2 * sizeof(host); i++) {
        for (enum leafd_err err = LEAFD_MALFORMED; err <= LEAFD_INTERNAL; err++) {
            struct request request = {.dialect = i % 2 ? DIALECT_NAMES : DIALECT_IDS,
                                      .host_was_read = true,
                                      .host = {host, i / 2}};
            size_t len = response_write_error(&request, err, out, sizeof(out));
            struct response_view view;
            struct request again;

            assert_true(len > 0 && len <= 48 + (i / 2 <= 253 ? i / 2 : 0));
            assert_int_equal(response_read((struct bytes){out, len}, &view, NULL), LEAFD_OK);
            assert_true(bytes_equal(view.error, bytes_of(err_name(err))));
            assert_int_equal(view.host.len, i / 2 <= 253 ? i / 2 : 0);
            assert_int_equal(request_read((struct bytes){out, len}, false, &again, NULL),
                             LEAFD_DROP);
        }
    }
}

static void test_leaves_are_no_requests(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct response response = sample(i % 2 ? DIALECT_NAMES : DIALECT_IDS);
        struct request request;
        uint8_t out[256];
        size_t len;

        response.cert_format = i / 2 ? CERT_FORMAT_DER : CERT_FORMAT_PEM;
        len = response_write(&response, out, sizeof(out));
        assert_int_equal(request_read((struct bytes){out, len}, false, &request, NULL), LEAFD_DROP);
    }
}

static void test_msgpack_c_reads_it(void **state)
{
    struct response response = sample(DIALECT_IDS);
    msgpack_unpacked unpacked;
    uint8_t out[256];
    size_t len = response_write(&response, out, sizeof(out));
    size_t used = 0;

    (void)state;
    msgpack_unpacked_init(&unpacked);
    assert_int_equal(msgpack_unpack_next(&unpacked, (const char *)out, len, &used),
                     MSGPACK_UNPACK_SUCCESS);
    assert_int_equal(used, len);
    assert_int_equal(unpacked.data.type, MSGPACK_OBJECT_MAP);
    assert_int_equal(unpacked.data.via.map.size, 6);
    assert_int_equal(unpacked.data.via.map.ptr[5].key.via.u64, 5);
    assert_int_equal(unpacked.data.via.map.ptr[5].val.via.u64, 300);
    msgpack_unpacked_destroy(&unpacked);
}

static void test_reading(void **state)
{
    static const struct bytes bad[] = {
        OCTETS(""),
        OCTETS("\xc0"),
        OCTETS("\x80"),
        OCTETS("\x81\x01\xa1h"),
        OCTETS("\x82\x01\xa1h\x03\xa1"
               "c"),
        OCTETS("\x83\x01\xa1h\x03\x90\x04\xa1k"),
        OCTETS("\x83\x01\xa1h\x03\x91\x01\x04\xa1k"),
        OCTETS("\x83\x01\x05\x03\xa1"
               "c\x04\xa1k"),
        OCTETS("\x84\x01\xa1h\x03\xa1"
               "c\x04\xa1k\x05"),
        OCTETS("\x84\x01\xa1h\x03\xa1"
               "c\x04\xa1k\x05\xff"),
        OCTETS("\x83\x01\xa1h\x03\x9a\xa1"
               "1\xa1"
               "2\xa1"
               "3\xa1"
               "4\xa1"
               "5\xa1"
               "6\xa1"
               "7\xa1"
               "8\xa1"
               "9\xa1"
               "a\x04\xa1k"),
        /* a key twice: two chains that only together are too long */
        OCTETS("\x83\x03\x99\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0"
               "\xa4"
               "cert\x99\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\xa0\x04\xa1k"),
        OCTETS("\x83\x03\xa1"
               "c\x04\xa1k\xa3key\xa1k"),
    };
    struct response_view view = {.ttl_sec = 77};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct why why = {""};

        assert_int_equal(response_read(bad[i], &view, &why), LEAFD_MALFORMED);
        assert_true(why.text[0] != 0);
        assert_int_equal(view.ttl_sec, 77); /* untouched */
    }
    /* host, cert and key alone; unknown keys; an array of certificates */
    assert_int_equal(response_read(OCTETS("\x84\x01\xa1h\x03\x92\xc4\x01"
                                          "c\xc4\x01r\x04\xa1k\x09"
                                          "\x91\xc0"),
                                   &view, NULL),
                     LEAFD_OK);
    assert_true(bytes_equal(view.cert, OCTETS("c")));
    assert_int_equal(view.chain_count, 1);
    assert_true(bytes_equal(view.chain[0], OCTETS("r")));
    assert_true(bytes_equal(view.key, OCTETS("k")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_ids),
        cmocka_unit_test(test_by_names),
        cmocka_unit_test(test_der_certificates),
        cmocka_unit_test(test_key_forms),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_datagram_bound),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_error_bounds),
        cmocka_unit_test(test_leaves_are_no_requests),
        cmocka_unit_test(test_msgpack_c_reads_it),
        cmocka_unit_test(test_reading),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
