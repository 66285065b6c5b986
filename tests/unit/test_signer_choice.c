/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/clock.h"
#include "pkcs11/signer_choice.h"
#include "tests/lib/unit.h"

#include <string.h>

enum { LINKS = 3 };

/* Links that nobody has connected: token 0, 1 and 2, one process each. */
static struct signer_link links[LINKS];
static struct signer_link *list[LINKS] = {&links[0], &links[1], &links[2]};
static struct signer_choice choice;
static const struct sign_entry entry = {.ca_id = 1, .ca_generation = 7};

static int reset(void **state)
{
    (void)state;
    memset(&choice, 0, sizeof(choice));
    for (unsigned i = 0; i < LINKS; i++)
        links[i] = (struct signer_link){
            .token = i,
            .greeted = true,
            .state = {.state = SIGNER_READY, .lanes = 4, .ca = {{1, 7}}, .ca_count = 1}};
    return 0;
}

static struct signer_link *find(bool *ret_full)
{
    bool full;

    return signer_choice_find(&choice, list, LINKS, &entry, ret_full ? ret_full : &full);
}

/* So many answers, one each 10 ms. */
static void answer(unsigned token, int64_t latency_us, int times)
{
    static int64_t now_ms;

    if (now_ms == 0)
        now_ms = clock_mono_ms();
    for (int i = 0; i < times; i++) {
        struct sign_entry answered = entry;

        now_ms += 10;
        answered.ahead = links[token].under_way;
        answered.sent_us = now_ms * 1000 - latency_us;
        signer_choice_answered(&choice, &links[token], &answered, now_ms * 1000);
    }
}

static void the_first_that_can_is_preferred(void **state)
{
    (void)state;
    links[0].under_way = 100;
    assert_ptr_equal(find(NULL), &links[0]);
    links[0].state.state = SIGNER_CONNECTING;
    assert_ptr_equal(find(NULL), &links[1]);
    links[1].dead = true;
    assert_ptr_equal(find(NULL), &links[2]);
    links[2].state.ca[0].generation = 8;
    assert_null(find(NULL));
}

static void a_full_socket_is_passed_by(void **state)
{
    bool full;

    (void)state;
    links[0].blocked = true;
    assert_ptr_equal(find(&full), &links[1]);
    assert_false(full);
    links[1].blocked = links[2].blocked = true;
    assert_null(find(&full));
    assert_true(full);
}

static void spread_takes_the_least_loaded(void **state)
{
    (void)state;
    choice.mode = CONF_TOKEN_SPREAD;
    links[0].under_way = 4;
    links[1].under_way = 3;
    links[2].under_way = 6;
    assert_ptr_equal(find(NULL), &links[1]);
    links[2].state.lanes = 16; /* for its lanes it has less to do */
    assert_ptr_equal(find(NULL), &links[2]);
}

static void newer_processes_come_first(void **state)
{
    (void)state;
    links[1].token = 0;
    links[1].process = 0;
    links[0].retired = true;
    links[1].under_way = 5;
    assert_ptr_equal(find(NULL), &links[1]);
    links[1].greeted = false;
    assert_ptr_equal(find(NULL), &links[0]); /* until the new one signs */
}

static void a_slow_token_is_ejected_and_probed(void **state)
{
    struct signer_bench *slow = &choice.token[1].slow;

    (void)state;
    choice.mode = CONF_TOKEN_SPREAD;
    answer(0, 1000, 20);
    answer(2, 2000, 20);
    answer(1, 50000, 30);
    assert_false(slow->is_on); /* not for long enough */
    answer(1, 50000, 1);
    assert_true(slow->is_on);
    links[0].under_way = links[2].under_way = 50;
    assert_ptr_not_equal(find(NULL), &links[1]);

    slow->probe_ms = clock_mono_ms(); /* its moment has come */
    assert_ptr_equal(find(NULL), &links[1]);
    signer_choice_sent(&choice, &links[1], clock_mono_ms());
    links[1].under_way++;
    assert_ptr_not_equal(find(NULL), &links[1]); /* one is enough */
    links[1].under_way--;
    answer(1, 50000, 1);
    assert_true(slow->is_on);
    assert_ptr_not_equal(find(NULL), &links[1]);
    answer(1, 3000, 1); /* the next probe */
    assert_false(slow->is_on);
    assert_ptr_equal(find(NULL), &links[1]);
}

static void the_last_one_is_never_left_out(void **state)
{
    (void)state;
    choice.mode = CONF_TOKEN_SPREAD;
    answer(0, 1000, 20);
    answer(1, 50000, 40);
    links[0].dead = links[2].dead = true;
    links[1].under_way = 5;
    assert_ptr_equal(find(NULL), &links[1]);
}

/* A little slower, three times as slow where that is little, and slow by itself are no reasons. */
static void a_preference_is_kept(void **state)
{
    static const struct {
        enum conf_token_choice mode;
        int64_t first_us, other_us;
    } rows[] = {
        {CONF_TOKEN_PREFER_FIRST, 20900, 1000},      {CONF_TOKEN_PREFER_FIRST, 149000, 50000},
        {CONF_TOKEN_PREFER_FIRST, 2000000, 2000000}, {CONF_TOKEN_SPREAD, 5900, 1000},
        {CONF_TOKEN_SPREAD, 29000, 10000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        reset(NULL);
        choice.mode = rows[i].mode;
        answer(1, rows[i].other_us, 20);
        answer(0, rows[i].first_us, 60);
        assert_false(choice.token[0].slow.is_on);
    }
}

/* Much slower is one, also for a preference, and only for one behind it. */
static void a_slow_preference_is_ejected(void **state)
{
    (void)state;
    answer(1, 10000, 4);
    answer(0, 60000, 60);
    assert_true(choice.token[0].slow.is_on);
    assert_ptr_equal(find(NULL), &links[1]);
    answer(0, 25000, 1); /* a probe: between what ejects and what brings back */
    assert_true(choice.token[0].slow.is_on);
    answer(0, 20000, 1);
    assert_false(choice.token[0].slow.is_on);
    assert_ptr_equal(find(NULL), &links[0]);
    answer(1, 500000, 60); /* it is not used anyway */
    assert_false(choice.token[1].slow.is_on);
}

/* Four have a lane each; what waits for its turn is not slow for that. */
static void much_to_do_makes_nobody_slow(void **state)
{
    (void)state;
    answer(1, 10000, 20);
    links[0].under_way = 39;
    answer(0, 100000, 60);
    assert_false(choice.token[0].slow.is_on);
    assert_true(choice.token[0].latency_us == 10000);
    assert_ptr_equal(find(NULL), &links[0]);
}

/* How fast the others are is learnt once there is a reason, and with little. */
static void others_are_compared_with_a_doubtful_one(void **state)
{
    (void)state;
    answer(0, 19000, 20);
    assert_ptr_equal(find(NULL), &links[0]);
    answer(0, 30000, 40);
    for (int i = 0; i < 4; i++) {
        assert_ptr_equal(find(NULL), &links[1]);
        signer_choice_sent(&choice, &links[1], clock_mono_ms());
        links[1].under_way = 1;
        assert_ptr_not_equal(find(NULL), &links[1]); /* one at a time */
        links[1].under_way = 0;
        answer(1, 25000, 1);
    }
    links[2].state.state = SIGNER_CONNECTING;
    assert_ptr_equal(find(NULL), &links[0]);
    choice.token[1].asked_ms -= 1000; /* a second later */
    assert_ptr_equal(find(NULL), &links[1]);
    answer(1, 90000, 20);
    assert_ptr_equal(find(NULL), &links[0]); /* the slower one need not be asked so often */
    choice.token[1].asked_ms -= 15000;
    assert_ptr_equal(find(NULL), &links[1]);
}

static void a_silent_process_waits_ever_longer(void **state)
{
    int64_t now_ms = clock_mono_ms();

    (void)state;
    signer_choice_silent(&links[0], now_ms);
    assert_int_equal(links[0].silent.wait_ms, 1000);
    assert_ptr_equal(find(NULL), &links[1]);
    signer_choice_silent(&links[0], now_ms); /* another request that it had */
    assert_int_equal(links[0].silent.wait_ms, 1000);
    for (int64_t wait_ms = 1000; wait_ms < 16000; wait_ms *= 2) {
        now_ms += wait_ms;
        signer_choice_silent(&links[0], now_ms);
        assert_int_equal(links[0].silent.wait_ms, 2 * wait_ms);
    }
    signer_choice_silent(&links[0], now_ms + 16000);
    assert_int_equal(links[0].silent.wait_ms, 16000);
    answer(0, 2000000, 1); /* an answer of long ago */
    assert_true(links[0].silent.is_on);
    answer(0, 1000, 1);
    assert_false(links[0].silent.is_on);
    assert_ptr_equal(find(NULL), &links[0]);
}

#define TEST(fn) cmocka_unit_test_setup(fn, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_that_can_is_preferred),
        TEST(a_full_socket_is_passed_by),
        TEST(spread_takes_the_least_loaded),
        TEST(newer_processes_come_first),
        TEST(a_slow_token_is_ejected_and_probed),
        TEST(the_last_one_is_never_left_out),
        TEST(a_preference_is_kept),
        TEST(a_slow_preference_is_ejected),
        TEST(much_to_do_makes_nobody_slow),
        TEST(others_are_compared_with_a_doubtful_one),
        TEST(a_silent_process_waits_ever_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
