/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/deny_list.h"
#include "policy/names.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *host_text(const char *host, bool with_cert)
{
    static char out[256];
    struct name name;

    if (name_of_host(bytes_of(host), with_cert, &name, NULL) != LEAFD_OK)
        return NULL;
    return name_text(&name, out, sizeof(out));
}

static void hosts_are_taken(void **state)
{
    static const struct {
        const char *host;
        enum name_kind kind;
        const char *text;
    } row[] = {
        {"example.org", NAME_DNS, "example.org"},
        {"EXAMPLE.Org", NAME_DNS, "example.org"},
        {"example.org.", NAME_DNS, "example.org"},
        {"localhost", NAME_DNS, "localhost"},
        {"com", NAME_DNS, "com"},
        {"_dmarc.a_b-c.example", NAME_DNS, "_dmarc.a_b-c.example"},
        {"-a-.example", NAME_DNS, "-a-.example"},
        {"1.example", NAME_DNS, "1.example"},
        {"1.2.3.4.example", NAME_DNS, "1.2.3.4.example"},
        {"bücher.example", NAME_DNS, "xn--bcher-kva.example"},
        {"BÜCHER.Example", NAME_DNS, "xn--bcher-kva.example"},
        {"faß.de", NAME_DNS, "xn--fa-hia.de"}, /* not "fass.de" */
        {"例。com", NAME_DNS, "xn--fsq.com"},  /* an ideographic full stop */
        {"_x.bücher.example", NAME_DNS, "_x.xn--bcher-kva.example"},
        {"*.bücher.example", NAME_DNS, "*.xn--bcher-kva.example"},
        {"xn--a.example", NAME_DNS, "xn--a.example"},
        {"*.example.org", NAME_DNS, "*.example.org"},
        {"*.github.io", NAME_DNS, "*.github.io"},
        {"*.corp", NAME_DNS, "*.corp"},
        {"192.0.2.1", NAME_IP, "192.0.2.1"},
        {"192.0.2.1.", NAME_IP, "192.0.2.1"},
        {"::1", NAME_IP, "::1"},
        {"[::1]", NAME_IP, "::1"},
        {"2001:DB8:0:0::1", NAME_IP, "2001:db8::1"},
        {"::ffff:192.0.2.1", NAME_IP, "192.0.2.1"},
        {"[::ffff:c000:201]", NAME_IP, "192.0.2.1"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct name name;
        char text[256];

        if (name_of_host(bytes_of(row[i].host), false, &name, NULL) != LEAFD_OK)
            fail_msg("\"%s\" is refused", row[i].host);
        assert_int_equal(name.kind, row[i].kind);
        assert_string_equal(name_text(&name, text, sizeof(text)), row[i].text);
    }
}

static void hosts_are_refused(void **state)
{
    static const char *const host[] = {
        "",
        ".",
        "..",
        "a..b",
        ".a",
        "a..",
        "a b",
        " a",
        "a\n",
        "a\x7f",
        "a/b",
        "a@b",
        "a:443",
        "a.example:443",
        "192.0.2.1:443",
        "[::1]:443",
        "[::1",
        "::1]",
        "[]",
        "[192.0.2.1]",
        "[a]",
        "[fe80::1%eth0]",
        "fe80::1%eth0",
        ":::",
        "1:2",
        "a,b",
        "a;b",
        "a\"b",
        "a\\b",
        "a=b",
        "a%b",
        "256.1.1.1",
        "1.2.3",
        "1",
        "12345",
        "0x7f.1",
        "0x7f000001",
        "a.0x1f",
        "a.1",
        "1.2.3.4.5",
        "01.02.03.04",
        "1.2.3.4..",
        "*",
        "*.",
        "*.*.example.org",
        "a.*.example.org",
        "f*.example.org",
        "*f.example.org",
        "**.example.org",
        "*.com",
        "*.co.uk",
        "*.CO.UK.",
        "*.xn--p1ai",
        "*.рф",
        "*.foo.ck",
        "a\377b.example",
        "\xc3.example",
        "a\342\200\256b.example", /* a right-to-left override */
        "a\302\240b.example",     /* a no-break space, which maps to a space */
        "a／b.example",           /* a full-width solidus, which maps to '/' */
        "１.２.３.４",            /* 1.2.3.4 in full-width digits */
        "。",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example", /* 64 */
    };
    static const uint8_t with_nul[] = "a\0b.example";
    struct name untouched = {.kind = NAME_IP, .len = 4, .data = "abcd"};
    struct name name = untouched;
    struct why why;

    (void)state;
    for (size_t i = 0; i < COUNT(host); i++) {
        if (name_of_host(bytes_of(host[i]), true, &name, &why) != LEAFD_REFUSED)
            fail_msg("\"%s\" is taken", host[i]);
        assert_memory_equal(&name, &untouched, sizeof(name));
        assert_non_null(strstr(why.text, "is refused: "));
    }
    assert_int_equal(
        name_of_host((struct bytes){with_nul, sizeof(with_nul) - 1}, true, &name, NULL),
        LEAFD_REFUSED);
    assert_int_equal(name_of_host(bytes_of("a\nb\"c"), true, &name, &why), LEAFD_REFUSED);
    assert_non_null(strstr(why.text, "a\\x0ab\\\"c"));
}

static void long_hosts(void **state)
{
    char text[2048];
    struct name name;

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = i % 2 ? '.' : 'a';
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 253}, false, &name, NULL),
                     LEAFD_OK);
    assert_int_equal(name.len, 253);
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 254}, false, &name, NULL),
                     LEAFD_OK);
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 255}, false, &name, NULL),
                     LEAFD_REFUSED);
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 255}, true, &name, NULL),
                     LEAFD_OK);
    assert_int_equal(name.kind, NAME_DNS);
    assert_int_equal(name.len, 0);
    assert_false(name_matches(&name, &name));
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 1023}, true, &name, NULL),
                     LEAFD_OK);
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 1025}, true, &name, NULL),
                     LEAFD_REFUSED);
    text[500] = ' ';
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 1023}, true, &name, NULL),
                     LEAFD_REFUSED);
    /* A-labels grow: 341 labels of one letter do not overrun anything */
    for (size_t i = 0; i < 1023; i++)
        text[i] = "й."[i % 3];
    assert_int_equal(name_of_host((struct bytes){(uint8_t *)text, 1023}, true, &name, NULL),
                     LEAFD_OK);
    assert_int_equal(name.len, 0);
}

static void dns_names(void **state)
{
    static const char *const dropped[] = {
        "",
        "*",
        "f*.example.org",
        "*f.example.org",
        "*.*.example.org",
        "www.*.example.org",
        "*.com",
        "*.co.uk",
        "example.org.",
        "192.0.2.1",
        "bücher.example",
        "a b.example",
        "::1",
        "user@example.org",
        "http://example.org/",
    };
    struct name name;

    (void)state;
    for (size_t i = 0; i < COUNT(dropped); i++)
        if (name_of_dns(bytes_of(dropped[i]), &name))
            fail_msg("\"%s\" is taken", dropped[i]);
    assert_true(name_of_dns(bytes_of("*.GitHub.io"), &name));
    assert_true(bytes_equal(name_bytes(&name), bytes_of("*.github.io")));
    assert_true(name_is_wildcard(&name));
    assert_true(name_dns_is_strict(bytes_of("*.github.io")));
    assert_false(name_dns_is_strict(bytes_of("*.GitHub.io")));
    assert_false(name_dns_is_strict(bytes_of("*.co.uk")));
    assert_false(name_dns_is_strict(bytes_of("")));
}

static void ip_names(void **state)
{
    static const uint8_t ip[17] = {192, 0, 2, 1};
    struct name name;

    (void)state;
    assert_true(name_of_ip((struct bytes){ip, 4}, &name));
    assert_int_equal(name.len, 4);
    assert_true(name_of_ip((struct bytes){ip, 16}, &name));
    assert_int_equal(name.len, 16);
    for (size_t len = 0; len <= sizeof(ip); len++)
        if (len != 4 && len != 16)
            assert_false(name_of_ip((struct bytes){ip, len}, &name));
}

static bool matches(const char *pattern, const char *host)
{
    struct name a;
    struct name b;

    assert_int_equal(name_of_host(bytes_of(pattern), false, &a, NULL), LEAFD_OK);
    assert_int_equal(name_of_host(bytes_of(host), false, &b, NULL), LEAFD_OK);
    return name_matches(&a, &b);
}

static void matching(void **state)
{
    (void)state;
    assert_true(matches("example.org", "EXAMPLE.org."));
    assert_false(matches("example.org", "www.example.org"));
    assert_false(matches("www.example.org", "example.org"));
    assert_true(matches("*.example.org", "www.example.org"));
    assert_true(matches("*.example.org", "xn--bcher-kva.example.org"));
    assert_true(matches("*.example.org", "*.example.org"));
    assert_false(matches("*.example.org", "example.org"));
    assert_false(matches("*.example.org", "a.b.example.org"));
    assert_false(matches("*.example.org", "aexample.org"));
    assert_false(matches("www.example.org", "*.example.org"));
    assert_false(matches("*.corp", "corp"));
    assert_true(matches("192.0.2.1", "::ffff:192.0.2.1"));
    assert_false(matches("192.0.2.1", "192.0.2.2"));
    assert_false(matches("::1", "0.0.0.1"));
}

static void rules_are_refused(void **state)
{
    static const char *const text[] = {
        "",
        ".",
        "..a",
        "*.example.org",
        "a b",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0.0/+8",
        "10.0.0.0/8x",
        "10.0.0.1/8",
        "10.0.0/8",
        "/8",
        "example.org/8",
        "::/129",
        "::1/64",
        "::ffff:10.0.0.0/95",
        ".10.0.0.1",
        "10.0.0.0/99999999999999999999",
    };
    struct name_rule rule;
    struct why why;

    (void)state;
    for (size_t i = 0; i < COUNT(text); i++) {
        if (name_rule_of(text[i], &rule, &why) != LEAFD_CONFIG)
            fail_msg("\"%s\" is taken", text[i]);
        assert_non_null(strstr(why.text, "neither a domain nor a network"));
    }
}

static void rules_cover(void **state)
{
    static const struct {
        const char *rule;
        const char *name;
        bool some; /* name_rule_covers */
        bool all;  /* name_rule_covers_all */
    } row[] = {
        {"example.org", "example.org", true, true},
        {"Example.ORG.", "a.b.example.org", true, true},
        {"example.org", "badexample.org", false, false},
        {"example.org", "example.com", false, false},
        {"example.org", "org", false, false},
        {".example.org", "example.org", false, false},
        {".example.org", "a.example.org", true, true},
        {"example.org", "*.example.org", true, true},
        {".example.org", "*.example.org", true, true},
        {"a.example.org", "*.example.org", true, false},
        {".a.example.org", "*.example.org", false, false},
        {"b.a.example.org", "*.example.org", false, false},
        {"a.example.org", "*.a.example.org", true, true},
        {"org", "*.example.org", true, true},
        {"bücher.example", "www.xn--bcher-kva.example", true, true},
        {"example.org", "192.0.2.1", false, false},
        {"10.0.0.0/8", "10.255.0.1", true, true},
        {"10.0.0.0/8", "11.0.0.0", false, false},
        {"10.0.0.0/9", "10.128.0.0", false, false},
        {"10.0.0.0/9", "10.127.255.255", true, true},
        {"192.0.2.1", "192.0.2.1", true, true},
        {"192.0.2.1", "192.0.2.0", false, false},
        {"0.0.0.0/0", "192.0.2.1", true, true},
        {"0.0.0.0/0", "::1", false, false},
        {"::/0", "192.0.2.1", false, false},
        {"::ffff:10.0.0.0/104", "10.1.2.3", true, true},
        {"2001:db8::/32", "2001:db8:ffff::", true, true},
        {"2001:db8::/32", "2001:db9::", false, false},
        {"10.0.0.0/8", "example.org", false, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(row); i++) {
        struct name_rule rule;
        struct name name;

        assert_int_equal(name_rule_of(row[i].rule, &rule, NULL), LEAFD_OK);
        assert_int_equal(name_of_host(bytes_of(row[i].name), false, &name, NULL), LEAFD_OK);
        if (name_rule_covers(&rule, &name) != row[i].some ||
            name_rule_covers_all(&rule, &name) != row[i].all)
            fail_msg("rule \"%s\", name \"%s\"", row[i].rule, row[i].name);
    }
}

/* An IPv4 address in IPv6 clothes does not slip through a rule, and does not profit from one. */
static void mapped_address(void **state)
{
    static const uint8_t ip[16] = {[10] = 0xff, 0xff, 10, 0, 0, 1};
    struct name_rule rule;
    struct name name;

    (void)state;
    assert_int_equal(name_rule_of("10.0.0.0/8", &rule, NULL), LEAFD_OK);
    assert_true(name_of_ip((struct bytes){ip, 16}, &name));
    assert_true(name_rule_covers(&rule, &name));
    assert_false(name_rule_covers_all(&rule, &name));
}

static void texts(void **state)
{
    char out[256];
    struct name name;

    (void)state;
    assert_string_equal(host_text("2001:db8:0:0:0:0:0:1", false), "2001:db8::1");
    assert_null(host_text("2001:db8::g", false));
    assert_int_equal(name_of_host(bytes_of("::1"), false, &name, NULL), LEAFD_OK);
    assert_string_equal(name_text(&name, out, 2), "");
    assert_string_equal(name_text(&name, out, 0), "");
}

/* A list covers what one of its rules does, whatever else stands in it. */
static void deny_lists(void **state)
{
    static char *const rules[] = {"example.org",
                                  ".example.net",
                                  "example.net",
                                  "a.b.example.com",
                                  ".x.example.com",
                                  "corp",
                                  "10.0.0.0/8",
                                  "192.0.2.1",
                                  "192.0.2.128/25",
                                  "2001:db8::/32",
                                  "2001:db8:1::/48",
                                  "0.0.0.0/0",
                                  "::/0",
                                  "::1",
                                  "172.16.0.0/12",
                                  ".corp",
                                  "ample.org",
                                  "c.example.com",
                                  "198.51.100.0/31",
                                  "2001:db8::7/128",
                                  "example.org",
                                  "z.example.info",
                                  "example.org.uk",
                                  "xn--bcher-kva.de"};
    static const char *const hosts[] = {"example.org",
                                        "www.example.org",
                                        "a.b.example.org",
                                        "notexample.org",
                                        "org",
                                        "*.example.org",
                                        "example.net",
                                        "a.example.net",
                                        "*.example.net",
                                        "*.b.example.com",
                                        "a.b.example.com",
                                        "b.example.com",
                                        "*.example.com",
                                        "x.example.com",
                                        "y.x.example.com",
                                        "*.x.example.com",
                                        "*.a.b.example.com",
                                        "corp",
                                        "*.corp",
                                        "host.corp",
                                        "10.1.2.3",
                                        "11.0.0.0",
                                        "192.0.2.1",
                                        "192.0.2.2",
                                        "192.0.2.129",
                                        "2001:db8::7",
                                        "2001:db9::",
                                        "::1",
                                        "172.31.255.255",
                                        "172.32.0.0",
                                        "198.51.100.1",
                                        "198.51.100.2",
                                        "sample.org",
                                        "*.example.info",
                                        "*.info.example",
                                        "example.org.uk",
                                        "www.xn--bcher-kva.de",
                                        "uk"};
    enum { RULES = sizeof(rules) / sizeof(rules[0]), HOSTS = sizeof(hosts) / sizeof(hosts[0]) };
    static const uint8_t mapped[16] = {[10] = 0xff, 0xff, 10, 9, 8, 7};
    struct name none = {.kind = NAME_DNS};

    (void)state;
    for (size_t first = 0; first < RULES; first++)
        for (size_t count = 1; count <= RULES - first; count++) {
            struct deny_list *list = NULL;

            assert_int_equal(deny_list_new(rules + first, count, &list, NULL), LEAFD_OK);
            assert_false(deny_list_is_empty(list));
            assert_false(deny_list_covers(list, &none));
            for (size_t host = 0; host <= HOSTS; host++) {
                struct name name;
                bool covered = false;

                if (host == HOSTS)
                    assert_true(name_of_ip((struct bytes){mapped, sizeof(mapped)}, &name));
                else
                    assert_int_equal(name_of_host(bytes_of(hosts[host]), false, &name, NULL),
                                     LEAFD_OK);
                for (size_t i = first; i < first + count; i++) {
                    struct name_rule rule;

                    assert_int_equal(name_rule_of(rules[i], &rule, NULL), LEAFD_OK);
                    covered |= name_rule_covers(&rule, &name);
                }
                if (deny_list_covers(list, &name) != covered)
                    fail_msg("%s under %zu rules from %s on", host < HOSTS ? hosts[host] : "mapped",
                             count, rules[first]);
            }
            deny_list_free(list);
        }
}

static void deny_lists_of_nothing(void **state)
{
    static char *const bad[] = {"example.org", "exa mple.org"};
    struct deny_list *list = NULL;
    struct why why = {""};
    struct name name;

    (void)state;
    assert_int_equal(name_of_host(bytes_of("example.org"), false, &name, NULL), LEAFD_OK);
    assert_true(deny_list_is_empty(NULL));
    assert_false(deny_list_covers(NULL, &name));
    assert_int_equal(deny_list_new(NULL, 0, &list, NULL), LEAFD_OK);
    assert_true(deny_list_is_empty(list));
    assert_false(deny_list_covers(list, &name));
    deny_list_free(list);
    list = NULL;
    assert_int_equal(deny_list_new(bad, 2, &list, &why), LEAFD_CONFIG);
    assert_null(list);
    assert_non_null(strstr(why.text, "exa mple"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_are_taken),   cmocka_unit_test(hosts_are_refused),
        cmocka_unit_test(long_hosts),        cmocka_unit_test(dns_names),
        cmocka_unit_test(ip_names),          cmocka_unit_test(matching),
        cmocka_unit_test(rules_are_refused), cmocka_unit_test(rules_cover),
        cmocka_unit_test(mapped_address),    cmocka_unit_test(texts),
        cmocka_unit_test(deny_lists),        cmocka_unit_test(deny_lists_of_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
