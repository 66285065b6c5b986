/* SPDX-License-Identifier: Apache-2.0 */
/* A CA below others: what its issuers say holds for its leaves too. */
#include "tests/lib/ca_recipe.h"
#include "tests/lib/unit.h"

#include <stdlib.h>
#include <string.h>

/* A root, a CA below it and one below that, which is ours; what differs from good ones. */
struct three {
    struct recipe root, middle, own;
};

static enum leafd_err read_three(const struct three *three, size_t count, struct ca **ret,
                                 struct why *why)
{
    struct recipe recipe[3] = {three->own, three->middle, three->root};
    X509 *cert[3] = {NULL};
    enum leafd_err err;

    recipe[2].cn = "Root";
    recipe[2].key = recipe[1].issuer_key = recipe_key;
    cert[2] = recipe_cert(&recipe[2]);
    recipe[1].cn = "Middle";
    recipe[1].key = recipe[0].issuer_key = recipe_other_key;
    recipe[1].issuer = cert[2];
    cert[1] = recipe_cert(&recipe[1]);
    recipe[0].cn = "Own";
    recipe[0].key = recipe_key;
    recipe[0].issuer = cert[1];
    cert[0] = recipe_cert(&recipe[0]);
    err = recipe_read(cert, count, false, ret, why);
    for (int i = 0; i < 3; i++)
        X509_free(cert[i]);
    return err;
}

static struct ca *good_three(const struct three *three)
{
    struct ca *ca = NULL;
    struct why why = {{0}};

    if (read_three(three, 3, &ca, &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    return ca;
}

static void assert_three_refused(const struct three *three, const char *part)
{
    struct ca *ca = NULL;
    struct why why = {{0}};

    assert_int_equal(read_three(three, 3, &ca, &why), LEAFD_CONFIG);
    assert_null(ca);
    if (!strstr(why.text, part))
        fail_msg("\"%s\" does not speak of \"%s\"", why.text, part);
}

/* What a client would refuse the path for is found in any certificate of it. */
static void issuers_are_held_to_the_same(void **state)
{
    struct ca *ca;

    (void)state;
    ca = good_three(&(struct three){.own = {.basic = "critical,CA:TRUE,pathlen:0"},
                                    .middle = {.basic = "critical,CA:TRUE,pathlen:1"},
                                    .root = {.basic = "critical,CA:TRUE,pathlen:2", .usage = ""}});
    assert_int_equal(ca->chain_count, 2);
    ca_unref(ca);
    ca_unref(good_three(&(struct three){.root = {.version = 1}}));

    assert_three_refused(&(struct three){.middle = {.basic = "critical,CA:TRUE,pathlen:0"}},
                         "certificate 2 of the CA's file: it allows 0 CAs below itself");
    assert_three_refused(&(struct three){.root = {.basic = "critical,CA:TRUE,pathlen:1"}},
                         "certificate 3 of the CA's file: it allows 1 CAs below itself");
    assert_three_refused(&(struct three){.middle = {.basic = ""}},
                         "certificate 2 of the CA's file: the certificate is none of a CA");
    assert_three_refused(&(struct three){.middle = {.usage = ""}}, "no key usage");
    assert_three_refused(&(struct three){.root = {.basic = "critical,CA:FALSE"}},
                         "certificate 3 of the CA's file");
    assert_three_refused(&(struct three){.middle = {.more = {{"extendedKeyUsage", "clientAuth"}}}},
                         "serverAuth");
    assert_three_refused(&(struct three){.root = {.more = {{"extendedKeyUsage", "clientAuth"}}}},
                         "serverAuth");
    assert_three_refused(&(struct three){.middle = {.more = {{"1.2.3.4", "critical,DER:0500"}}}},
                         "critical extension that leafd does not evaluate");
    assert_three_refused(&(struct three){.middle = {.weak = true}},
                         "certificate 2 of the CA's file is signed with MD5, SHA-1");
    assert_three_refused(&(struct three){.own = {.weak = true}},
                         "certificate 1 of the CA's file is signed with MD5, SHA-1");
    ca_unref(good_three(&(struct three){.root = {.weak = true}})); /* nobody looks at that one */
}

/* A CA that has issued itself anew does not count against a path length (RFC 5280 section 6.1.4).
 */
static void a_new_certificate_of_the_same_ca_does_not_count(void **state)
{
    X509 *root = recipe_cert(
        &(struct recipe){.cn = "Root", .key = recipe_key, .basic = "critical,CA:TRUE,pathlen:1"});
    X509 *renewed = recipe_cert(&(struct recipe){.cn = "Root",
                                                 .key = recipe_other_key,
                                                 .issuer = root,
                                                 .issuer_key = recipe_key,
                                                 .basic = "critical,CA:TRUE,pathlen:1"});
    X509 *own = recipe_cert(&(struct recipe){
        .cn = "Own", .key = recipe_key, .issuer = renewed, .issuer_key = recipe_other_key});
    X509 *list[] = {own, renewed, root};
    struct ca *ca = NULL;
    struct why why = {{0}};

    (void)state;
    if (recipe_read(list, 3, false, &ca, &why) != LEAFD_OK)
        fail_msg("refused: %s", why.text);
    ca_unref(ca);
    X509_free(own);
    X509_free(renewed);
    X509_free(root);
}

/* Of permits each one must hold; what one excludes no other can allow. */
static void constraints_of_issuers_hold_too(void **state)
{
    struct ca *ca = good_three(&(struct three){
        .own = {.more = {{"nameConstraints", "critical,excluded;DNS:bad.sub.example.org"}}},
        .middle = {.more = {{"nameConstraints",
                             "critical,permitted;DNS:sub.example.org,permitted;DNS:example.com"}}},
        .root = {.more = {{"nameConstraints", "critical,permitted;DNS:example.org"}}}});

    (void)state;
    assert_int_equal(ca->constraints_count, 3);
    assert_true(recipe_allows(ca, "a.sub.example.org"));
    assert_false(recipe_allows(ca, "x.bad.sub.example.org"));
    assert_false(recipe_allows(ca, "example.org"));
    assert_false(recipe_allows(ca, "example.com"));
    assert_true(recipe_allows(ca, "192.0.2.1"));
    assert_true(ca_constrains(ca, NAME_DNS));
    assert_false(ca_constrains(ca, NAME_IP));
    ca_unref(ca);

    /* "O = XX", and our CA's subject is another */
    assert_three_refused(
        &(struct three){
            .middle = {.more = {{"nameConstraints",
                                 "critical,DER:3015a0133011a40f300d310b3009060355040a0c025858"}}}},
        "certificate 2 of the CA's file: a name in certificate 1 is outside");
}

/* No leaf outlives the path that a client builds; the root is the client's own. */
static void dates_are_those_of_the_path(void **state)
{
    struct ca *ca = good_three(&(struct three){
        .own = {.first_sec = -7200, .last_sec = 86400},
        .middle = {.first_sec = -3600, .last_sec = 7200},
        .root = {.first_sec = -9000, .last_sec = -60},
    });

    (void)state;
    assert_true(ca->own_not_before < ca->not_before);
    assert_true(ca->own_not_after > ca->not_after);
    assert_int_equal(ca->not_after - ca->not_before, 7200 + 3600);
    assert_true(ca->root_not_after < ca->not_before + 3600);
    assert_true(ca_is_valid_at(ca, ca->not_after));
    ca_unref(ca);

    assert_three_refused(&(struct three){.own = {.first_sec = -7200, .last_sec = -3600},
                                         .middle = {.first_sec = -1800, .last_sec = 3600}},
                         "never valid at one time");
}

/* A change above the CA is another generation: what was allowed may not be any longer. */
static void a_generation_is_of_the_whole_path(void **state)
{
    X509 *root = recipe_cert(&(struct recipe){.cn = "Root", .key = recipe_key});
    X509 *own = recipe_cert(&(struct recipe){
        .cn = "Own", .key = recipe_other_key, .issuer = root, .issuer_key = recipe_key});
    X509 *list[] = {own, root};
    struct ca *alone = NULL, *both = NULL;

    (void)state;
    assert_int_equal(recipe_read(list, 1, false, &alone, NULL), LEAFD_OK);
    assert_int_equal(recipe_read(list, 2, false, &both, NULL), LEAFD_OK);
    assert_true(alone->generation != both->generation);
    ca_unref(alone);
    ca_unref(both);
    X509_free(own);
    X509_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(issuers_are_held_to_the_same),
        cmocka_unit_test(a_new_certificate_of_the_same_ca_does_not_count),
        cmocka_unit_test(constraints_of_issuers_hold_too),
        cmocka_unit_test(dates_are_those_of_the_path),
        cmocka_unit_test(a_generation_is_of_the_whole_path),
    };

    return cmocka_run_group_tests(tests, recipe_keys_new, recipe_keys_free);
}
