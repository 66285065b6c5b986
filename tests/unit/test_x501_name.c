/* SPDX-License-Identifier: Apache-2.0 */
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "der/x501_name.h"
#include "tests/lib/unit.h"

#include <string.h>

enum { ROOM = 4096, ATTRIBUTES_MAX = 4 };

struct attribute {
    const struct bytes *type; /* NULL: no more of them */
    uint8_t tag;
    const char *text;
    bool same_rdn; /* in one SET with the one before it */
    size_t len;    /* of the text; 0: to its NUL */
};

static struct bytes name_of(const struct attribute attribute[ATTRIBUTES_MAX], uint8_t *room)
{
    struct der_writer writer = der_writer_of(room, ROOM);
    const uint8_t *all = der_mark(&writer);
    const uint8_t *set = all;

    for (size_t i = ATTRIBUTES_MAX; i-- > 0;) {
        const uint8_t *mark = der_mark(&writer);

        if (!attribute[i].type)
            continue;
        der_put_element(&writer, attribute[i].tag,
                        attribute[i].len
                            ? (struct bytes){(const uint8_t *)attribute[i].text, attribute[i].len}
                            : bytes_of(attribute[i].text));
        der_put_element(&writer, DER_OID, *attribute[i].type);
        der_wrap(&writer, DER_SEQUENCE, mark);
        if (attribute[i].same_rdn)
            continue;
        der_wrap(&writer, DER_SET, set);
        set = der_mark(&writer);
    }
    der_wrap(&writer, DER_SEQUENCE, all);
    assert_false(writer.failed);
    return der_written(&writer);
}

/* Both ways round. */
static bool equal(const struct attribute a[ATTRIBUTES_MAX],
                  const struct attribute b[ATTRIBUTES_MAX])
{
    uint8_t room_a[ROOM], room_b[ROOM];
    struct bytes name_a = name_of(a, room_a), name_b = name_of(b, room_b);
    bool is_equal = x501_name_equal(name_a, name_b);

    assert_int_equal(x501_name_equal(name_b, name_a), is_equal);
    assert_true(x501_name_equal(name_a, name_a));
    return is_equal;
}

static bool equal_texts(const char *a, const char *b)
{
    struct attribute of_a[ATTRIBUTES_MAX] = {{&oid_common_name, DER_UTF8_STRING, a, false, 0}};
    struct attribute of_b[ATTRIBUTES_MAX] = {{&oid_common_name, DER_PRINTABLE_STRING, b, false, 0}};

    return equal(of_a, of_b);
}

static void texts_are_folded(void **state)
{
    (void)state;
    assert_true(equal_texts("Test CA", "test ca"));
    assert_true(equal_texts("  Test   CA ", "TEST CA"));
    assert_true(equal_texts("", "   "));
    assert_true(equal_texts("[z]", "[Z]"));
    assert_false(equal_texts("TestCA", "Test CA"));
    assert_false(equal_texts("Test CA", "Test CB"));
    assert_false(equal_texts("Test CA", "Test CAs"));
    assert_false(equal_texts("@", "`")); /* next to the letters, and no letters */
    assert_false(equal_texts("[", "{"));
}

static bool equal_typed(uint8_t tag, const char *text, size_t len, const char *utf8)
{
    struct attribute of_a[ATTRIBUTES_MAX] = {{&oid_common_name, tag, text, false, len}};
    struct attribute of_b[ATTRIBUTES_MAX] = {{&oid_common_name, DER_UTF8_STRING, utf8, false, 0}};

    return equal(of_a, of_b);
}

static void string_types_do_not_matter(void **state)
{
    char wide[512];

    (void)state;
    assert_true(equal_typed(DER_BMP_STRING, "\0L\0e\0a\0f", 8, "leaf"));
    assert_true(equal_typed(DER_BMP_STRING, "\0 \0A\0\t\0 \0B", 10, "a b"));
    assert_true(equal_typed(DER_BMP_STRING, "\0\xe9\x4e\x2d", 4, "\xc3\xa9\xe4\xb8\xad"));
    assert_true(equal_typed(DER_UNIVERSAL_STRING, "\0\0\0L\0\x01\xf6\x00", 8, "l\xf0\x9f\x98\x80"));
    assert_true(equal_typed(DER_T61_STRING, "Caf\xe9", 4, "caf\xc3\xa9"));
    assert_true(equal_typed(DER_IA5_STRING, "LEAF", 4, "leaf"));
    assert_false(equal_typed(DER_BMP_STRING, "\0L\0e\0a\0f", 8, "lea"));
    assert_false(equal_typed(DER_BMP_STRING, "\0L\0e\0a\0f\0", 9, "leaf")); /* half a character */
    assert_false(equal_typed(DER_BMP_STRING, "Leaf", 4, "leaf"));
    assert_true(equal_typed(DER_UTF8_STRING, "\xff\xfe", 2, "\xff\xfe")); /* as it stands */
    memset(wide, 0x4e, sizeof(wide)); /* 256 characters of three octets each */
    assert_false(equal_typed(DER_BMP_STRING, wide, sizeof(wide), "\xe4\xb9\x8e"));
}

/* A text of more than 512 octets is compared as it stands. */
static void long_texts_are_not_folded(void **state)
{
    char lower[514] = {0}, upper[514] = {0};

    (void)state;
    memset(lower, 'a', 512);
    memset(upper, 'A', 512);
    assert_true(equal_texts(lower, upper));
    memset(lower, 'a', 513);
    memset(upper, 'A', 513);
    assert_false(equal_texts(lower, upper));
    assert_true(equal_texts(lower, lower));
}

static void structure_counts(void **state)
{
    const struct attribute cn = {&oid_common_name, DER_UTF8_STRING, "a", false, 0};
    const struct attribute country = {&oid_country, DER_PRINTABLE_STRING, "DE", false, 0};
    const struct attribute with = {&oid_country, DER_PRINTABLE_STRING, "DE", true, 0};
    const struct attribute none = {NULL, 0, NULL, false, 0};

    (void)state;
#define NAME(...) ((const struct attribute[ATTRIBUTES_MAX]){__VA_ARGS__})
    assert_true(equal(NAME(cn, country), NAME(cn, country)));
    assert_true(equal(NAME(cn, with), NAME(cn, with)));
    assert_true(equal(NAME(none), NAME(none)));
    assert_false(equal(NAME(cn), NAME(none)));
    assert_false(equal(NAME(cn), NAME(country)));
    assert_false(equal(NAME(cn), NAME(cn, country)));       /* an RDN more */
    assert_false(equal(NAME(cn), NAME(cn, with)));          /* an attribute more in it */
    assert_false(equal(NAME(cn, country), NAME(cn, with))); /* the same in two RDNs, and in one */
    assert_false(equal(NAME(cn, country), NAME(country, cn)));
    assert_false(equal(NAME(cn), NAME({&oid_serial_number, DER_UTF8_STRING, "a", false, 0})));
#undef NAME
}

static void what_is_no_name_equals_nothing(void **state)
{
    static const struct bytes bad[] = {
        {NULL, 0},
        {(const uint8_t *)"\x31\x00", 2},                             /* a SET */
        {(const uint8_t *)"\x30\x01", 2},                             /* cut */
        {(const uint8_t *)"\x30\x02\x30\x00", 4},                     /* no SET in it */
        {(const uint8_t *)"\x30\x04\x31\x02\x05\x00", 6},             /* no attribute */
        {(const uint8_t *)"\x30\x04\x31\x02\x30\x00", 6},             /* an empty one */
        {(const uint8_t *)"\x30\x07\x31\x05\x30\x03\x06\x01\x29", 9}, /* one without a value */
        {(const uint8_t *)"\x30\x03\x31\x00\x05", 5}, /* something cut behind the RDN */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (x501_name_equal(bad[i], bad[i]))
            fail_msg("what is no name (%zu) equals itself", i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_folded),
        cmocka_unit_test(string_types_do_not_matter),
        cmocka_unit_test(long_texts_are_not_folded),
        cmocka_unit_test(structure_counts),
        cmocka_unit_test(what_is_no_name_equals_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
