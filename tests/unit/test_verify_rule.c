/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/verify_rule.h"
#include "tests/lib/unit.h"

enum { FAST_US = 40, SLOW_US = 1000 };

static unsigned count(struct verify_rule *rule, uint64_t generation, int64_t took_us, unsigned of)
{
    unsigned wanted = 0;

    for (unsigned i = 0; i < of; i++)
        wanted += verify_rule_wants(rule, generation, took_us);
    return wanted;
}

static void a_fast_token_is_trusted_in_the_end(void **state)
{
    struct verify_rule rule;

    (void)state;
    verify_rule_init(&rule, false);
    assert_int_equal(count(&rule, 0, FAST_US, VERIFY_FIRST), VERIFY_FIRST);
    for (int round = 0; round < 100; round++) {
        assert_int_equal(count(&rule, 0, FAST_US, VERIFY_EACH - 1), 0);
        assert_true(verify_rule_wants(&rule, 0, FAST_US));
    }
}

static void a_new_generation_begins_anew(void **state)
{
    struct verify_rule rule;

    (void)state;
    verify_rule_init(&rule, false);
    (void)count(&rule, 0, FAST_US, VERIFY_FIRST + VERIFY_EACH / 2);
    assert_int_equal(count(&rule, 1, FAST_US, VERIFY_FIRST), VERIFY_FIRST);
    assert_int_equal(count(&rule, 1, FAST_US, VERIFY_EACH - 1), 0);
    assert_true(verify_rule_wants(&rule, 1, FAST_US));
    assert_int_equal(count(&rule, 0, FAST_US, VERIFY_FIRST), VERIFY_FIRST); /* any other number */
}

static void always_is_always(void **state)
{
    struct verify_rule rule;

    (void)state;
    verify_rule_init(&rule, true);
    assert_int_equal(count(&rule, 0, FAST_US, 1000), 1000);
}

static void a_slow_token_is_never_trusted(void **state)
{
    struct verify_rule rule;

    (void)state;
    verify_rule_init(&rule, false);
    assert_int_equal(count(&rule, 0, VERIFY_SLOW_US + 1, 1000), 1000);
    verify_rule_init(&rule, false);
    (void)count(&rule, 0, VERIFY_SLOW_US, VERIFY_FIRST);
    assert_false(verify_rule_wants(&rule, 0, VERIFY_SLOW_US)); /* as fast as it has to be */
}

/* One that waited for a processor says nothing of the token; many that are slow do. */
static void the_fastest_of_late_counts(void **state)
{
    struct verify_rule rule;

    (void)state;
    verify_rule_init(&rule, false);
    (void)count(&rule, 0, FAST_US, VERIFY_FIRST);
    assert_int_equal(count(&rule, 0, SLOW_US, 5), 0);
    (void)count(&rule, 0, SLOW_US, 20);
    assert_int_equal(count(&rule, 0, SLOW_US, 1000), 1000);
    assert_int_equal(count(&rule, 0, FAST_US, VERIFY_EACH - 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fast_token_is_trusted_in_the_end),
        cmocka_unit_test(a_new_generation_begins_anew),
        cmocka_unit_test(always_is_always),
        cmocka_unit_test(a_slow_token_is_never_trusted),
        cmocka_unit_test(the_fastest_of_late_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
