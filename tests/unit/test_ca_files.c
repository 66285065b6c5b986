/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/ca_files.h"
#include "tests/lib/ca_recipe.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A folder with two CAs' certificates, "first" and "second". */
struct world {
    char folder[64];
    char path[3][80];
    struct conf conf;
};

static void write_file(const char *path, struct bytes from)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(from.data, 1, from.len, file), from.len);
    assert_int_equal(fclose(file), 0);
}

static void write_ca(const char *path, const char *cn)
{
    EVP_PKEY *key = make_key("P-256");
    struct bytes der = make_ca(cn, key, time(NULL));

    write_file(path, der);
    free((void *)(uintptr_t)der.data);
    EVP_PKEY_free(key);
}

static int world_setup(void **state)
{
    static const char *const name[] = {"first.pem", "second.pem", "other.pem"};
    struct world *world = calloc(1, sizeof(*world));

    strcpy(world->folder, "/tmp/leafd-test-XXXXXX");
    if (!mkdtemp(world->folder))
        return -1;
    for (int i = 0; i < 3; i++)
        snprintf(world->path[i], sizeof(world->path[i]), "%s/%s", world->folder, name[i]);
    write_ca(world->path[0], "First CA");
    write_ca(world->path[1], "Second CA");
    world->conf.ca_count = 2;
    world->conf.ca[0].certificate = world->path[0];
    world->conf.ca[1].certificate = world->path[1];
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 3; i++)
        unlink(world->path[i]);
    rmdir(world->folder);
    free(world);
    return 0;
}

static void each_ca_has_its_place(void **state)
{
    struct world *world = *state;
    struct ca_set *set = NULL;
    struct why why = {""};

    assert_int_equal(ca_files_read(&world->conf, &set, &why), LEAFD_OK);
    assert_int_equal(set->count, 2);
    assert_int_equal(set->ca[0]->id, 0);
    assert_int_equal(set->ca[1]->id, 1);
    assert_false(bytes_equal(set->ca[0]->subject, set->ca[1]->subject));
    assert_null(set->untrusted);
    ca_set_unref(set);
}

static void the_untrusted_one_comes_from_its_file(void **state)
{
    struct world *world = *state;
    struct ca_set *set = NULL;

    world->conf.ca_count = 1;
    world->conf.untrusted = CONF_UNTRUSTED_FILE;
    world->conf.untrusted_ca.certificate = world->path[1];
    assert_int_equal(ca_files_read(&world->conf, &set, NULL), LEAFD_OK);
    assert_int_equal(set->count, 1);
    assert_non_null(set->untrusted);
    assert_int_equal(set->untrusted->id, CA_ID_UNTRUSTED);
    assert_ptr_equal(ca_set_find(set, CA_ID_UNTRUSTED), set->untrusted);
    ca_set_unref(set);
}

static void expect_refused(struct world *world, const char *words)
{
    struct ca_set *set = NULL;
    struct why why = {""};

    assert_int_equal(ca_files_read(&world->conf, &set, &why), LEAFD_CONFIG);
    assert_null(set);
    if (!strstr(why.text, words))
        fail_msg("\"%s\" does not say \"%s\"", why.text, words);
}

static void what_is_wrong_with_a_file_is_said(void **state)
{
    struct world *world = *state;
    static uint8_t large[(1 << 20) + 1];

    world->conf.ca[1].certificate = world->path[2];
    expect_refused(world, "leafctl ca init makes a CA"); /* not there: the remedy */
    write_file(world->path[2], bytes_of("no certificate"));
    expect_refused(world, "other.pem");
    write_file(world->path[2], (struct bytes){large, sizeof(large)});
    expect_refused(world, "larger than");
    world->conf.ca[1].certificate = world->folder;
    expect_refused(world, "ca.certificate");
    world->conf.ca_count = 1;
    world->conf.untrusted = CONF_UNTRUSTED_FILE;
    world->conf.untrusted_ca.certificate = world->folder;
    expect_refused(world, "untrusted_ca.certificate");
}

static void the_padding_is_for_rsa_keys(void **state)
{
    struct world *world = *state;

    world->conf.ca_rsa_padding = CONF_RSA_PSS;
    expect_refused(world, "ca.rsa_padding: pss is for RSA keys");
}

/* A CA whose certificate is about so long in DER. */
static struct bytes ca_of_size(size_t octets)
{
    char *value = calloc(1, 16 + 2 * octets);
    X509 *cert;
    struct bytes pem;

    assert_non_null(value);
    sprintf(value, "DER:0482%04zx", octets);
    for (size_t i = 0; i < octets; i++)
        strcat(value + 8 + 2 * i, "00");
    cert = recipe_cert(&(struct recipe){.key = recipe_key, .more = {{"2.5.29.99", value}}});
    pem = recipe_pem(&cert, 1, "");
    X509_free(cert);
    free(value);
    return pem;
}

/* What is beside the chain in a reply follows the keys that leaves get. */
static void a_chain_leaves_room_for_leaf_and_key(void **state)
{
    static const struct {
        enum conf_leaf_key leaf_key;
        enum key_type type;
        unsigned rsa_bits;
        size_t fits, does_not; /* octets of the CA's certificate */
    } rows[] = {
        {CONF_LEAF_KEY_TYPE, KEY_TYPE_P256, 2048, 10000, 10800},
        {CONF_LEAF_KEY_COMPATIBLE, KEY_TYPE_NONE, 2048, 8600, 9400},
        {CONF_LEAF_KEY_COMPATIBLE, KEY_TYPE_NONE, 4096, 7200, 7900},
        {CONF_LEAF_KEY_UPSTREAM, KEY_TYPE_NONE, 2048, 7200, 7900},
        {CONF_LEAF_KEY_TYPE, KEY_TYPE_RSA, 4096, 7200, 7900},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf conf = {.ca_append_root = true,
                            .ca_crl_url = (char *)"http://crl.example/ca.crl",
                            .leaf_key = rows[i].leaf_key,
                            .leaf_key_type = rows[i].type,
                            .leaf_rsa_bits = rows[i].rsa_bits};
        struct bytes small = ca_of_size(rows[i].fits);
        struct bytes large = ca_of_size(rows[i].does_not);
        struct why why = {""};
        struct ca *ca = NULL;

        if (ca_of_text(&conf, small, 0, &ca, &why) != LEAFD_OK)
            fail_msg("row %zu: %s", i, why.text);
        ca_unref(ca);
        ca = NULL;
        if (ca_of_text(&conf, large, 0, &ca, &why) != LEAFD_CONFIG)
            fail_msg("row %zu: a chain of %zu octets is taken", i, ca->chain_pem.len);
        assert_null(ca);
        assert_non_null(strstr(why.text, "do not fit the 16384 of a reply"));
        free((void *)(uintptr_t)small.data);
        free((void *)(uintptr_t)large.data);
    }
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        IN_WORLD(each_ca_has_its_place),
        IN_WORLD(the_untrusted_one_comes_from_its_file),
        IN_WORLD(what_is_wrong_with_a_file_is_said),
        IN_WORLD(the_padding_is_for_rsa_keys),
        cmocka_unit_test(a_chain_leaves_room_for_leaf_and_key),
    };

    return cmocka_run_group_tests(tests, recipe_keys_new, recipe_keys_free);
}
