/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/post.h"
#include "tests/lib/unit.h"

/* Processes that nobody has started: a place is filled by giving it a process id. */
static struct post post;
static pid_t next_pid;

static int reset(void **state)
{
    (void)state;
    post_init(&post, ROLE_SIGNER, 2, 1);
    next_pid = 100;
    return 0;
}

/* Starts whoever is due; NULL: nobody. */
static struct child *fill(int64_t now_ms)
{
    struct child *child = post_vacancy(&post, now_ms);

    if (child) {
        assert_int_equal(child->pid, 0);
        child->pid = next_pid++;
        child->started_ms = now_ms;
        child->kill_ms = CHILD_NEVER_MS;
    }
    return child;
}

/* As the supervisor does when it has waited for it. */
static void die(struct child *child, int64_t now_ms)
{
    post_ended(&post, child, now_ms);
    child->pid = 0;
    child->kill_ms = CHILD_NEVER_MS;
}

static void deaths_are_followed_ever_later(void **state)
{
    static const int64_t waits[] = {0,    50,   100,   200,   400,   800,  1600,
                                    3200, 6400, 12800, 25600, 30000, 30000};
    int64_t now_ms = 1000;

    (void)state;
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        struct child *child = fill(now_ms);

        assert_non_null(child);
        assert_ptr_equal(child, post_holder(&post));
        assert_null(fill(now_ms)); /* one is enough */
        assert_int_equal(post_next_ms(&post), CHILD_NEVER_MS);
        die(child, now_ms);
        assert_int_equal(post_next_ms(&post), now_ms + waits[i]);
        if (waits[i] > 0)
            assert_null(fill(now_ms + waits[i] - 1));
        now_ms += waits[i];
    }
    die(fill(now_ms), now_ms + POST_LIVED_MS);
    assert_int_equal(post_next_ms(&post), now_ms + POST_LIVED_MS); /* forgiven */
}

static void who_cannot_be_started_is_tried_later(void **state)
{
    (void)state;
    assert_non_null(post_vacancy(&post, 1000));
    post_not_started(&post, 1000);
    assert_null(post_vacancy(&post, 1049));
    assert_non_null(post_vacancy(&post, 1050));
    post_not_started(&post, 1050);
    assert_null(post_vacancy(&post, 1149));
    post_hurry(&post);
    assert_non_null(post_vacancy(&post, 1050));
}

static void a_replacement_comes_first_then_the_old_one_goes(void **state)
{
    struct child *old = fill(1000), *new;

    (void)state;
    post_replace(&post, old, false, 9000);
    new = fill(9000);
    assert_non_null(new);
    assert_ptr_not_equal(new, old);
    assert_int_equal(new->token, 2);
    assert_int_equal(new->process, 1);
    assert_ptr_equal(post_holder(&post), old);
    post_replace(&post, old, false, 9001); /* it asks again: one is enough */
    assert_null(fill(99999));
    assert_int_equal(old->kill_ms, CHILD_NEVER_MS);
    post_at_work(&post, old, 9100); /* so is the old one: that changes nothing */
    assert_ptr_equal(post_holder(&post), old);

    post_at_work(&post, new, 9200);
    assert_ptr_equal(post_holder(&post), new);
    assert_int_equal(old->kill_ms, 9200 + POST_GRACE_MS);
    assert_int_equal(post_next_ms(&post), 9200 + POST_GRACE_MS);
    post_replace(&post, old, true, 9250); /* too late: it is not asked any more */
    assert_null(fill(99999));
    die(old, 9500);
    assert_int_equal(post_next_ms(&post), CHILD_NEVER_MS);
    assert_null(fill(99999));
}

static void with_one_session_the_old_one_goes_first(void **state)
{
    struct child *old = fill(1000);

    (void)state;
    post_replace(&post, old, true, 9000);
    assert_int_equal(post_next_ms(&post), 9000);
    assert_int_equal(old->kill_ms, 9000);
    die(old, 9001);
    assert_non_null(fill(9001));
    assert_null(fill(99999));
}

/* Whoever is always replaced is replaced ever later, as if it had died. */
static void replacements_wait_like_deaths(void **state)
{
    static const int64_t waits[] = {0, 50, 100, 200};
    int64_t now_ms = 1000;

    (void)state;
    assert_non_null(fill(now_ms));
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        struct child *old = post_holder(&post), *new;

        post_replace(&post, old, false, now_ms);
        if (waits[i] > 0)
            assert_null(fill(now_ms + waits[i] - 1));
        now_ms += waits[i];
        new = fill(now_ms);
        assert_non_null(new);
        post_at_work(&post, new, now_ms);
        die(old, now_ms);
    }
}

static void a_replacement_that_dies_is_replaced(void **state)
{
    struct child *old = fill(1000), *new;

    (void)state;
    post_replace(&post, old, false, 9000);
    new = fill(9000);
    die(new, 9010);
    assert_ptr_equal(post_holder(&post), old);
    assert_null(fill(9010));
    new = fill(9060);
    assert_non_null(new);
    post_replace(&post, new, false, 9100); /* it hangs as well */
    assert_int_equal(new->kill_ms, 9100);
    assert_int_equal(old->kill_ms, CHILD_NEVER_MS);
}

static void a_holder_that_dies_is_followed_by_its_replacement(void **state)
{
    struct child *old = fill(1000), *new;

    (void)state;
    post_replace(&post, old, false, 9000);
    new = fill(9000);
    die(old, 9010);
    assert_ptr_equal(post_holder(&post), new);
    assert_null(fill(99999));
    post_at_work(&post, new, 9020);
    assert_ptr_equal(post_holder(&post), new);
    assert_int_equal(new->kill_ms, CHILD_NEVER_MS);
    die(new, 9030);
    assert_non_null(post_vacancy(&post, 99999));
}

/* What a signer says that was taken over, or is confused, as often as it likes. */
static void asking_again_and_again_is_no_news(void **state)
{
    struct child *old = fill(1000), *new;
    int64_t due_ms;

    (void)state;
    assert_true(post_replace(&post, old, false, 1000));
    due_ms = post.due_ms;
    for (int i = 0; i < 1000; i++)
        assert_false(post_replace(&post, old, false, 1000 + i));
    assert_int_equal(post.due_ms, due_ms);
    new = fill(2000);
    assert_true(post_replace(&post, new, false, 2000)); /* it has to go */
    assert_false(post_replace(&post, new, true, 2100));
    assert_int_equal(new->kill_ms, 2000);
    die(new, 2001);
    assert_null(fill(2000 + POST_BACKOFF_FIRST_MS));
    assert_true(post_replace(&post, old, true, 2100)); /* now at once */
    assert_false(post_replace(&post, old, true, 2200));
    assert_int_equal(old->kill_ms, 2100);
}

static void who_is_on_its_way_out_gets_no_post_back(void **state)
{
    struct child *old = fill(1000), *new, *newest;

    (void)state;
    assert_true(post_replace(&post, old, false, 9000));
    new = fill(9000);
    post_at_work(&post, new, 9100);
    assert_true(post_replace(&post, new, false, 9150)); /* while the old one has not gone yet */
    post_at_work(&post, old, 9200);
    assert_ptr_equal(post_holder(&post), new);
    assert_int_equal(new->kill_ms, CHILD_NEVER_MS);
    assert_false(post_replace(&post, old, true, 9200));
    assert_int_equal(old->kill_ms, 9100 + POST_GRACE_MS);
    die(old, 9400);
    newest = fill(99999);
    assert_ptr_equal(newest, old);
    post_at_work(&post, newest, 99999);
    assert_ptr_equal(post_holder(&post), newest);
}

#define TEST(fn) cmocka_unit_test_setup(fn, reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(deaths_are_followed_ever_later),
        TEST(who_cannot_be_started_is_tried_later),
        TEST(a_replacement_comes_first_then_the_old_one_goes),
        TEST(with_one_session_the_old_one_goes_first),
        TEST(replacements_wait_like_deaths),
        TEST(a_replacement_that_dies_is_replaced),
        TEST(a_holder_that_dies_is_followed_by_its_replacement),
        TEST(asking_again_and_again_is_no_news),
        TEST(who_is_on_its_way_out_gets_no_post_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
