/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_uri.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct token_uri *parse(const char *text)
{
    struct token_uri *uri;
    struct why why = {""};

    if (token_uri_parse(text, &uri, &why) != LEAFD_OK)
        fail_msg("%s: %s", text, why.text);
    return uri;
}

static void pad(unsigned char *field, size_t width, const char *text)
{
    memset(field, ' ', width);
    memcpy(field, text, strlen(text));
}

static bool matches(const char *text, const char *label, const char *serial, CK_SLOT_ID slot)
{
    struct token_uri *uri = parse(text);
    CK_INFO module = {0};
    CK_SLOT_INFO slot_info = {0};
    CK_TOKEN_INFO token = {0};
    bool found;

    pad(module.manufacturerID, sizeof(module.manufacturerID), "maker");
    pad(module.libraryDescription, sizeof(module.libraryDescription), "lib");
    pad(slot_info.slotDescription, sizeof(slot_info.slotDescription), "slot");
    pad(slot_info.manufacturerID, sizeof(slot_info.manufacturerID), "maker");
    pad(token.label, sizeof(token.label), label);
    pad(token.serialNumber, sizeof(token.serialNumber), serial);
    pad(token.manufacturerID, sizeof(token.manufacturerID), "maker");
    pad(token.model, sizeof(token.model), "model");
    found = token_uri_matches(uri, &module, slot, &slot_info, &token);
    token_uri_free(uri);
    return found;
}

static void what_is_read(void **state)
{
    struct token_uri *uri = parse("pkcs11:token=my%20token;object=ca%3b1;id=%01%ab;type=private");

    (void)state;
    assert_true(bytes_equal(token_uri_label(uri), bytes_of("ca;1")));
    assert_int_equal(token_uri_id(uri).len, 2);
    assert_memory_equal(token_uri_id(uri).data, "\x01\xab", 2);
    assert_string_equal(token_uri_text(uri),
                        "pkcs11:token=my%20token;object=ca%3b1;id=%01%ab;type=private");
    token_uri_free(uri);
    uri = parse("PKCS11:token=x");
    assert_int_equal(token_uri_label(uri).len, 0);
    assert_int_equal(token_uri_id(uri).len, 0);
    token_uri_free(uri);
    token_uri_free(NULL);
}

static void which_token_it_names(void **state)
{
    (void)state;
    assert_true(matches("pkcs11:token=leafd", "leafd", "1", 0));
    assert_false(matches("pkcs11:token=leafd", "leaf", "1", 0));
    assert_false(matches("pkcs11:token=leafd", "leafd2", "1", 0));
    assert_true(matches("pkcs11:token=leafd;serial=17", "leafd", "17", 0));
    assert_false(matches("pkcs11:token=leafd;serial=17", "leafd", "18", 0));
    assert_true(matches("pkcs11:model=model;manufacturer=maker", "leafd", "17", 0));
    assert_false(matches("pkcs11:model=other", "leafd", "17", 0));
    assert_true(matches("pkcs11:slot-id=3", "leafd", "17", 3));
    assert_false(matches("pkcs11:slot-id=3", "leafd", "17", 4));
    assert_true(matches("pkcs11:library-description=lib;slot-description=slot", "leafd", "1", 3));
    assert_false(matches("pkcs11:library-description=other", "leafd", "1", 3));
    assert_false(matches("pkcs11:slot-description=other", "leafd", "1", 3));
    assert_true(matches("pkcs11:object=ca", "any", "1", 3));
}

static void what_is_refused(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } rows[] = {
        {NULL, "begins with pkcs11:"},
        {"", "begins with pkcs11:"},
        {"ca-key.pem", "begins with pkcs11:"},
        {"pkcs11", "begins with pkcs11:"},
        {"pkcs11:", "names no token"},
        {"pkcs11:?pin-value=1", "names no token"},
        {"pkcs11:tokne=leafd", "unknown attribute tokne="},
        {"pkcs11:token=leafd;x-vendor=1", "unknown attribute x-vendor="},
        {"pkcs11:Token=leafd", "unknown attribute Token="},
        {"pkcs11:token=leafd?colour=red", "unknown attribute colour="},
        {"pkcs11:token=leafd;token=leafd", "token= stands there twice"},
        {"pkcs11:id=%01;id=%02", "id= stands there twice"},
        {"pkcs11:token=a?pin-value=1&pin-value=1", "pin-value= stands there twice"},
        {"pkcs11:token=leafd;pin-value=1234", "pin-value= belongs behind"},
        {"pkcs11:token=leafd;pin-source=/x", "pin-source= belongs behind"},
        {"pkcs11:token=leafd?object=ca", "object= belongs before"},
        {"pkcs11:token=leafd?module-path=/x.so", "module-path= is not used"},
        {"pkcs11:token=leafd?module-name=x", "module-name= is not used"},
        {"pkcs11:token=leafd?pin-value=1&pin-source=/x", "not both"},
        {"pkcs11:token=", "token= is empty"},
        {"pkcs11:token=a;object=", "object= is empty"},
        {"pkcs11:token=a;id=", "id= is empty"},
        {"pkcs11:token=a?pin-value=", "pin-value= is empty"},
        {"pkcs11:token", "has no ="},
        {"pkcs11:token=a;", "has no ="},
        {"pkcs11:;token=a", "has no ="},
        {"pkcs11:token=a;;object=b", "has no ="},
        {"pkcs11:token=a?", "has no ="},
        {"pkcs11:token=%zz", "pkcs11 URI"},
        {"pkcs11:token=%4", "pkcs11 URI"},
        {"pkcs11:token=a;type=public", "type= must be private"},
        {"pkcs11:token=a;type=cert", "type= must be private"},
        {"pkcs11:token=a;type=nonsense", "pkcs11 URI"},
        {"pkcs11:slot-id=abc", "pkcs11 URI"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct token_uri *uri = NULL;
        struct why why = {""};

        if (token_uri_parse(rows[i].text, &uri, &why) != LEAFD_CONFIG ||
            !strstr(why.text, rows[i].reason) || uri)
            fail_msg("%s: \"%s\"", rows[i].text, why.text);
        assert_int_equal(token_uri_parse(rows[i].text, &uri, NULL), LEAFD_CONFIG);
    }
}

static void a_pin_is_never_in_a_message(void **state)
{
    static const char *const texts[] = {
        "pkcs11:token=a?pin-value=secret4711%zz",
        "pkcs11:token=a;pin-value=secret4711",
        "pkcs11:token=a?pin-value=secret4711&colour=red",
        "pkcs11:token=a?pin-value=secret4711&pin-value=secret4711",
        "pkcs11:?pin-value=secret4711",
        "pkcs11:token=%zz?pin-value=secret4711",
    };
    struct token_uri *uri;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct why why = {""};

        assert_int_equal(token_uri_parse(texts[i], &uri, &why), LEAFD_CONFIG);
        assert_null(strstr(why.text, "4711"));
    }
    uri = parse("pkcs11:token=a?pin-value=secret4711");
    assert_null(strstr(token_uri_text(uri), "4711"));
    token_uri_free(uri);
}

static void foreign_bytes_are_escaped(void **state)
{
    struct token_uri *uri;
    struct why why = {""};

    (void)state;
    assert_int_equal(token_uri_parse("pkcs11:\x1b[31m=1", &uri, &why), LEAFD_CONFIG);
    assert_null(strchr(why.text, '\x1b'));
    why.text[0] = '\0';
    assert_int_equal(token_uri_parse("pkcs11:token=\n%zz", &uri, &why), LEAFD_CONFIG);
    assert_null(strchr(why.text, '\n'));
}

static void the_pin_it_gives(void **state)
{
    char path[] = "/tmp/test_token_uri.XXXXXX";
    char text[128];
    struct secret pin = SECRET_EMPTY;
    struct why why = {""};
    struct token_uri *uri = parse("pkcs11:token=a");
    int fd = mkstemp(path);

    (void)state;
    assert_int_equal(token_uri_pin(uri, &pin, &why), LEAFD_ABSENT);
    token_uri_free(uri);
    uri = parse("pkcs11:token=a?pin-value=12%2034");
    assert_int_equal(token_uri_pin(uri, &pin, &why), LEAFD_OK);
    assert_string_equal((char *)pin.data, "12 34");
    token_uri_free(uri);

    assert_int_equal(write(fd, "from file\n", 10), 10);
    close(fd);
    for (int i = 0; i < 3; i++) {
        static const char *const forms[] = {"", "file:", "file://"};

        snprintf(text, sizeof(text), "pkcs11:token=a?pin-source=%s%s", forms[i], path);
        uri = parse(text);
        assert_int_equal(token_uri_pin(uri, &pin, &why), LEAFD_OK);
        assert_string_equal((char *)pin.data, "from file");
        token_uri_free(uri);
    }
    unlink(path);
    uri = parse(text);
    assert_int_equal(token_uri_pin(uri, &pin, &why), LEAFD_CONFIG);
    token_uri_free(uri);
    /* RFC 7512 lets a command stand here; we run none */
    uri = parse("pkcs11:token=a?pin-source=%7ccat%20/etc/passwd");
    assert_int_equal(token_uri_pin(uri, &pin, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "absolute path"));
    token_uri_free(uri);
    secret_clear(&pin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read),
        cmocka_unit_test(which_token_it_names),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(a_pin_is_never_in_a_message),
        cmocka_unit_test(foreign_bytes_are_escaped),
        cmocka_unit_test(the_pin_it_gives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
