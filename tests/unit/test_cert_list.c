/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/cert_list.h"

#include "der/cert_fields.h"
#include "tests/lib/ca_recipe.h"
#include "tests/lib/unit.h"

#include <stdlib.h>
#include <string.h>

/* A path of four, and a root that has nothing to do with it. */
enum { OWN, LOWER, UPPER, ROOT, STRANGER, CERTS };

static X509 *cert[CERTS];

static X509 *below(const char *cn, X509 *issuer, EVP_PKEY *key, EVP_PKEY *issuer_key)
{
    return recipe_cert(
        &(struct recipe){.cn = cn, .key = key, .issuer = issuer, .issuer_key = issuer_key});
}

static int certs_new(void **state)
{
    if (recipe_keys_new(state) != 0)
        return -1;
    cert[ROOT] = recipe_cert(&(struct recipe){.cn = "Root", .key = recipe_key});
    cert[UPPER] = below("Upper", cert[ROOT], recipe_other_key, recipe_key);
    cert[LOWER] = below("Lower", cert[UPPER], recipe_key, recipe_other_key);
    cert[OWN] = below("Own", cert[LOWER], recipe_other_key, recipe_key);
    cert[STRANGER] = recipe_cert(&(struct recipe){.cn = "Stranger", .key = recipe_other_key});
    return 0;
}

static int certs_free(void **state)
{
    for (int i = 0; i < CERTS; i++)
        X509_free(cert[i]);
    return recipe_keys_free(state);
}

static struct cert_list list_of(const int *which, size_t count)
{
    X509 *some[CERT_LIST_MAX];
    struct cert_list list;
    struct why why = {""};
    struct bytes pem;

    for (size_t i = 0; i < count; i++)
        some[i] = cert[which[i]];
    pem = recipe_pem(some, count, "");
    if (cert_list_read(pem, &list, &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    free((void *)(uintptr_t)pem.data);
    return list;
}

static void assert_sorted(const int *from, size_t count, const int *to, size_t to_count)
{
    struct cert_list list = list_of(from, count);
    struct why why = {""};
    X509 *wanted[CERT_LIST_MAX];
    struct bytes got, pem;

    if (cert_list_sort(&list, &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    assert_int_equal(list.count, to_count);
    for (size_t i = 0; i < to_count; i++)
        wanted[i] = cert[to[i]];
    pem = recipe_pem(wanted, to_count, "");
    assert_int_equal(cert_list_pem(&list, 0, list.count, &got), LEAFD_OK);
    assert_true(bytes_equal(pem, got));
    free((void *)(uintptr_t)pem.data);
    free((void *)(uintptr_t)got.data);
    cert_list_clear(&list);
}

static void any_order_is_put_right(void **state)
{
    static const int right[] = {OWN, LOWER, UPPER, ROOT};
    static const int orders[][4] = {
        {OWN, LOWER, UPPER, ROOT}, {ROOT, UPPER, LOWER, OWN}, {UPPER, OWN, ROOT, LOWER},
        {LOWER, ROOT, OWN, UPPER}, {ROOT, OWN, LOWER, UPPER},
    };
    static const int twice[] = {ROOT, OWN, ROOT, OWN, ROOT};
    static const int alone[] = {LOWER};

    (void)state;
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        assert_sorted(orders[i], 4, right, 4);
    }
    assert_sorted((const int[]){LOWER, OWN}, 2, (const int[]){OWN, LOWER}, 2);
    assert_sorted(alone, 1, alone, 1);
    assert_sorted(twice + 2, 1, &right[3], 1);
    assert_sorted((const int[]){ROOT, UPPER, ROOT, UPPER, ROOT}, 5, (const int[]){UPPER, ROOT}, 2);
}

static void assert_unsorted(const int *from, size_t count, const char *part)
{
    struct cert_list list = list_of(from, count);
    struct why why = {""};

    assert_int_equal(cert_list_sort(&list, &why), LEAFD_CONFIG);
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not speak of \"%s\"", why.text, part);
    cert_list_clear(&list);
}

static void what_is_no_path(void **state)
{
    (void)state;
    assert_unsorted((const int[]){OWN, ROOT}, 2, "\"CN=Own\" and \"CN=Root\" have issued none");
    assert_unsorted((const int[]){OWN, LOWER, STRANGER}, 3, "\"CN=Stranger\"");
    assert_unsorted((const int[]){OWN, LOWER, ROOT}, 3, "CN=Root");
}

static void what_holds_no_certificate(void **state)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        {"", "empty"},
        {"# leafd.yaml\n", "neither PEM nor DER"},
        {"0 is how DER begins", "certificate 1 of the CA's file cannot be read"},
        {"-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n", "openssl pkcs7 -print_certs"},
        {"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n", "cannot be read"},
        {"-----BEGIN CERTIFICATE-----\nMAA=\n", "no good PEM"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cert_list list;
        struct why why = {""};

        assert_int_equal(cert_list_read(bytes_of(rows[i].text), &list, &why), LEAFD_CONFIG);
        if (!strstr(why.text, rows[i].part))
            fail_msg("\"%s\" does not speak of \"%s\"", why.text, rows[i].part);
    }
}

/* Refused before anything in it is looked at. */
static void what_is_too_large(void **state)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----\n";
    char *text = calloc(1, CERT_LIST_FILE_MAX + 1);
    struct bytes der = {(const uint8_t *)text, CERT_SIZE_MAX + 1};
    struct bytes pem = {(const uint8_t *)text, CERT_LIST_FILE_MAX + 1};
    struct cert_list list;
    struct why why = {""};

    (void)state;
    assert_non_null(text);
    text[0] = 0x30;
    assert_int_equal(cert_list_read(der, &list, &why), LEAFD_CONFIG);
    assert_string_equal(why.text, "certificate 1 of the CA's file is too large");
    memcpy(text, begin, sizeof(begin));
    assert_int_equal(cert_list_read(pem, &list, &why), LEAFD_CONFIG);
    assert_string_equal(why.text, "the CA's file is too large");
    free(text);
}

/* Two CAs that have issued each other: a way up that never ends. */
static void a_circle_ends(void **state)
{
    X509 *a = below("A", cert[STRANGER], recipe_key, recipe_other_key);
    X509 *b = NULL;
    X509 *some[2];
    struct cert_list list;
    struct why why = {""};
    struct bytes pem;

    (void)state;
    b = recipe_cert(&(struct recipe){
        .cn = "Stranger", .key = recipe_other_key, .issuer = a, .issuer_key = recipe_key});
    some[0] = a;
    some[1] = b;
    pem = recipe_pem(some, 2, "");
    assert_int_equal(cert_list_read(pem, &list, NULL), LEAFD_OK);
    assert_int_equal(cert_list_sort(&list, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "in a circle"));
    cert_list_clear(&list);
    free((void *)(uintptr_t)pem.data);
    X509_free(a);
    X509_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_is_put_right),
        cmocka_unit_test(what_is_no_path),
        cmocka_unit_test(what_holds_no_certificate),
        cmocka_unit_test(what_is_too_large),
        cmocka_unit_test(a_circle_ends),
    };

    return cmocka_run_group_tests(tests, certs_new, certs_free);
}
