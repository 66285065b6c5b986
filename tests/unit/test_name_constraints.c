/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/name_constraints.h"
#include "tests/lib/unit.h"

#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct words {
    const char *text[80];
    size_t count;
};

#define WORDS(...)                                                                                 \
    ((struct words){{__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)})
#define NO_WORDS ((struct words){{NULL}, 0})

static struct name_constraints made(struct words permit, struct words exclude)
{
    struct name_constraints constraints;
    struct why why = {""};

    if (name_constraints_of(permit.text, permit.count, exclude.text, exclude.count, &constraints,
                            &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    return constraints;
}

static bool allows(const struct name_constraints *constraints, const char *host)
{
    struct name name;

    assert_int_equal(name_of_host(bytes_of(host), false, &name, NULL), LEAFD_OK);
    return name_constraints_allow(constraints, &name);
}

/* What OpenSSL sees in what was put, as text of one line. */
static char *as_openssl_tells(const struct name_constraints *constraints)
{
    static char text[2048];
    uint8_t room[1024];
    struct der_writer writer = der_writer_of(room, sizeof(room));
    struct name_constraints again;
    struct bytes der;
    const unsigned char *at;
    NAME_CONSTRAINTS *theirs;
    BIO *bio = BIO_new(BIO_s_mem());
    int len;

    name_constraints_put(&writer, constraints);
    der = der_written(&writer);
    assert_non_null(der.data);
    at = der.data;
    theirs = (NAME_CONSTRAINTS *)ASN1_item_d2i(NULL, &at, (long)der.len,
                                               ASN1_ITEM_rptr(NAME_CONSTRAINTS));
    assert_non_null(theirs);
    assert_ptr_equal(at, der.data + der.len);
    assert_int_equal(X509V3_EXT_get_nid(NID_name_constraints)
                         ->i2r(X509V3_EXT_get_nid(NID_name_constraints), theirs, bio, 0),
                     1);
    len = BIO_read(bio, text, sizeof(text) - 1);
    text[len > 0 ? len : 0] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
    BIO_free(bio);
    NAME_CONSTRAINTS_free(theirs);

    assert_int_equal(name_constraints_read(der, &again, NULL), LEAFD_OK);
    assert_int_equal(again.permitted_count, constraints->permitted_count);
    assert_int_equal(again.excluded_count, constraints->excluded_count);
    name_constraints_clear(&again);
    return text;
}

static void assert_tells(struct words permit, struct words exclude, const char *expected)
{
    struct name_constraints constraints = made(permit, exclude);
    char *text = as_openssl_tells(&constraints);

    if (strcmp(text, expected) != 0)
        fail_msg("\"%s\" is not \"%s\"", text, expected);
    name_constraints_clear(&constraints);
}

static void what_is_put_is_what_was_asked_for(void **state)
{
    (void)state;
    assert_tells(NO_WORDS, WORDS("Bad.Example.org", "10.0.0.0/9"),
                 "Excluded:   DNS:bad.example.org   IP:10.0.0.0/255.128.0.0");
    /* domains alone would leave all addresses free */
    assert_tells(WORDS("example.org"), NO_WORDS,
                 "Permitted:   DNS:example.org Excluded:   IP:0.0.0.0/0.0.0.0   "
                 "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0");
    /* what is named stays, the other family does not */
    assert_tells(WORDS("example.org", "192.0.2.0/24"), WORDS("192.0.2.7"),
                 "Permitted:   DNS:example.org   IP:192.0.2.0/255.255.255.0 Excluded:   "
                 "IP:192.0.2.7/255.255.255.255   IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0");
    assert_tells(WORDS("2001:db8::/33"), NO_WORDS,
                 "Permitted:   IP:2001:DB8:0:0:0:0:0:0/FFFF:FFFF:8000:0:0:0:0:0 Excluded:   "
                 "IP:0.0.0.0/0.0.0.0");
}

static void they_do_what_they_say(void **state)
{
    struct name_constraints constraints = made(WORDS("example.org"), WORDS("bad.example.org"));

    (void)state;
    assert_true(allows(&constraints, "example.org"));
    assert_true(allows(&constraints, "www.example.org"));
    assert_false(allows(&constraints, "bad.example.org"));
    assert_false(allows(&constraints, "example.com"));
    assert_false(allows(&constraints, "192.0.2.1"));
    assert_false(allows(&constraints, "2001:db8::1"));
    name_constraints_clear(&constraints);

    constraints = made(WORDS("192.0.2.0/24"), NO_WORDS); /* domains stay free */
    assert_true(allows(&constraints, "example.com"));
    assert_true(allows(&constraints, "192.0.2.1"));
    assert_false(allows(&constraints, "198.51.100.1"));
    assert_false(allows(&constraints, "2001:db8::1"));
    name_constraints_clear(&constraints);
}

static void assert_refused(struct words permit, struct words exclude, const char *part)
{
    struct name_constraints constraints;
    struct why why = {""};

    assert_int_equal(name_constraints_of(permit.text, permit.count, exclude.text, exclude.count,
                                         &constraints, &why),
                     LEAFD_CONFIG);
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not speak of \"%s\"", why.text, part);
}

static void what_is_no_constraint(void **state)
{
    struct words many = {.count = NAME_CONSTRAINTS_MAX + 1};

    (void)state;
    for (size_t i = 0; i < many.count; i++)
        many.text[i] = "example.org";
    assert_refused(WORDS("a b"), NO_WORDS, "neither a domain nor a network");
    assert_refused(NO_WORDS, WORDS("10.0.0.1/8"), "bits behind its prefix");
    assert_refused(NO_WORDS, WORDS("*.example.org"), "the domain itself covers them too");
    assert_refused(WORDS(".example.org"), NO_WORDS, "the domain itself covers them too");
    assert_refused(WORDS("*"), NO_WORDS, "neither a domain nor a network");
    assert_refused(many, NO_WORDS, "more than 64");
    assert_refused(NO_WORDS, many, "more than 64");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_put_is_what_was_asked_for),
        cmocka_unit_test(they_do_what_they_say),
        cmocka_unit_test(what_is_no_constraint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
