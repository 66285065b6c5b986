/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/used_serials.h"
#include "tests/lib/unit.h"

#include <string.h>
#include <sys/mman.h>

enum { REMEMBERED = 64 };

/* A serial of 20 octets made from a number. */
static bool use(struct used_serials *serials, uint32_t number)
{
    uint8_t serial[20] = {0x40};

    memcpy(serial + 1, &number, sizeof(number));
    return used_serials_add(serials, (struct bytes){serial, sizeof(serial)});
}

static void a_serial_is_used_once(void **state)
{
    struct used_serials *serials = NULL;

    (void)state;
    assert_int_equal(used_serials_new(REMEMBERED, &serials), LEAFD_OK);
    assert_true(use(serials, 1));
    assert_false(use(serials, 1));
    assert_true(use(serials, 2));
    assert_false(use(serials, 2));
    assert_false(use(serials, 1));
    used_serials_free(serials);
    used_serials_free(NULL);
}

/* What was not used after all may come again; its neighbours stay known. */
static void what_is_removed_is_new_again(void **state)
{
    struct used_serials *serials = NULL;
    uint8_t serial[20] = {0x40};

    (void)state;
    assert_int_equal(used_serials_new(REMEMBERED, &serials), LEAFD_OK);
    for (uint32_t round = 0; round < 8 * REMEMBERED; round++) { /* through both tables */
        uint32_t number = round;

        assert_true(use(serials, number));
        memcpy(serial + 1, &number, sizeof(number));
        used_serials_remove(serials, (struct bytes){serial, sizeof(serial)});
        assert_true(use(serials, number));
        assert_false(use(serials, number));
        for (uint32_t back = 1; back < REMEMBERED / 4 && back <= round; back++)
            assert_false(use(serials, round - back));
    }
    memset(serial, 0x7f, sizeof(serial));
    used_serials_remove(serials, (struct bytes){serial, sizeof(serial)}); /* never added */
    used_serials_free(serials);
}

/* Adds `count` serials; after each of them the last REMEMBERED are known. */
static void fill(struct used_serials *serials, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        assert_true(use(serials, i));
        for (uint32_t back = 0; back < REMEMBERED && back <= i; back++)
            assert_false(use(serials, i - back));
    }
}

static void the_last_are_remembered_and_the_first_forgotten(void **state)
{
    struct used_serials *serials = NULL;

    (void)state;
    assert_int_equal(used_serials_new(REMEMBERED, &serials), LEAFD_OK);
    fill(serials, 10 * REMEMBERED);
    assert_true(use(serials, 0)); /* what was long ago is new again: memory is bounded */
    assert_false(use(serials, 10 * REMEMBERED - 1));
    used_serials_free(serials);
}

/* The kernel does not take locked pages back. */
static void locked_memory_is_emptied_too(void **state)
{
    struct used_serials *serials = NULL;

    (void)state;
    if (mlockall(MCL_FUTURE) != 0)
        skip();
    assert_int_equal(used_serials_new(REMEMBERED, &serials), LEAFD_OK);
    fill(serials, 5 * REMEMBERED);
    assert_true(use(serials, 0));
    used_serials_free(serials);
    munlockall();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_serial_is_used_once),
        cmocka_unit_test(what_is_removed_is_new_again),
        cmocka_unit_test(the_last_are_remembered_and_the_first_forgotten),
        cmocka_unit_test(locked_memory_is_emptied_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
