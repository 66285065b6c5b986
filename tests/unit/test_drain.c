/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/drain.h"

#include "base/clock.h"
#include "tests/lib/unit.h"

enum { PATIENCE_MS = 20000 };

static void what_is_back_is_not_waited_for(void **state)
{
    struct drain drain;

    (void)state;
    drain_init(&drain);
    drain_begin(&drain);
    assert_true(drain_enter(&drain));
    drain_leave(&drain);
    assert_false(drain_end(&drain));
    drain_close(&drain, clock_mono_ms() + PATIENCE_MS);
    assert_false(drain_enter(&drain));
    assert_false(drain_abandon(&drain));
    drain_clear(&drain);
}

static void the_last_one_frees(void **state)
{
    struct drain drain;

    (void)state;
    drain_init(&drain);
    drain_begin(&drain);
    drain_begin(&drain);
    drain_close(&drain, clock_mono_ms()); /* too early for both */
    assert_false(drain_enter(&drain));
    assert_true(drain_abandon(&drain));
    assert_false(drain_end(&drain));
    assert_true(drain_end(&drain));
    drain_clear(&drain);
}

static void *come_back(void *arg)
{
    struct drain *drain = arg;

    drain_leave(drain);
    return drain_end(drain) ? drain : NULL;
}

static void the_owner_waits(void **state)
{
    struct drain drain;
    pthread_t thread;
    void *last;

    (void)state;
    drain_init(&drain);
    for (int i = 0; i < 100; i++) {
        drain_begin(&drain);
        assert_true(drain_enter(&drain));
        assert_int_equal(pthread_create(&thread, NULL, come_back, &drain), 0);
        if (i == 99)
            drain_close(&drain, clock_mono_ms() + PATIENCE_MS);
        pthread_join(thread, &last);
        assert_null(last);
    }
    assert_false(drain_abandon(&drain));
    drain_clear(&drain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_back_is_not_waited_for),
        cmocka_unit_test(the_last_one_frees),
        cmocka_unit_test(the_owner_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
