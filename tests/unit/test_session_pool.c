/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions with one token, over a module that is a list of functions below. What other threads
 * do at the wrong moment happens inside the module's calls, where the pool holds no lock. */
#include "pkcs11/session_pool.h"

#include "base/clock.h"
#include "tests/lib/unit.h"

#include <string.h>

enum { SESSIONS = 4 };

/* The token: it logs its user out with the last session, as they all do. */
static struct {
    CK_SESSION_HANDLE next;
    unsigned open;
    unsigned logouts;
    void (*meanwhile)(void); /* what happens next in C_CloseSession, after it has closed */
} token;

static struct session_pool *pool;
static struct session other;           /* another thread's */
static unsigned takers;                /* how many other threads are to take a session */
static struct session taken[SESSIONS]; /* by them */

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, void *ctx, CK_NOTIFY notify,
                          CK_SESSION_HANDLE *ret)
{
    (void)slot;
    (void)flags;
    (void)ctx;
    (void)notify;
    token.open++;
    *ret = ++token.next;
    return CKR_OK;
}

static CK_RV close_session(CK_SESSION_HANDLE handle)
{
    void (*meanwhile)(void) = token.meanwhile;

    (void)handle;
    assert_true(token.open > 0);
    token.open--;
    token.logouts += !token.open;
    token.meanwhile = NULL;
    if (meanwhile)
        meanwhile();
    return CKR_OK;
}

static CK_FUNCTION_LIST functions = {.C_OpenSession = open_session,
                                     .C_CloseSession = close_session};
static struct token_module module = {.f = &functions, .lock = PTHREAD_MUTEX_INITIALIZER};

static int free_pool(void **state)
{
    (void)state;
    session_pool_free(pool);
    pool = NULL;
    return token.open ? -1 : 0;
}

static struct session take(void)
{
    struct session session = {CK_INVALID_HANDLE, 0};

    assert_int_equal(session_pool_take(pool, clock_mono_ms(), &session, NULL), LEAFD_OK);
    return session;
}

/* Makes a pool with all `limit` sessions open; of them `wanted` are taken and the others idle. */
static void make_pool(unsigned limit, struct session *ret, unsigned wanted)
{
    struct session all[SESSIONS];

    memset(&token, 0, sizeof(token));
    assert_int_equal(session_pool_new(&module, 0, 0, limit, &pool), LEAFD_OK);
    for (unsigned i = 0; i < limit; i++)
        all[i] = take();
    memcpy(ret, all, wanted * sizeof(*ret));
    for (unsigned i = wanted; i < limit; i++)
        session_pool_give(pool, all[i]);
    assert_int_equal(token.open, limit);
}

static void all_take(void)
{
    unsigned me = --takers;

    if (me)
        token.meanwhile = all_take;
    taken[me] = take();
}

/* A pool with one session taken and the others idle, which will all be wanted at once. */
static void make_pool_wanted(struct session *ret)
{
    make_pool(SESSIONS, ret, 1);
    takers = SESSIONS - 1;
    token.meanwhile = all_take;
}

static void replace(struct session *session)
{
    assert_int_equal(
        session_pool_replace(pool, CKR_FUNCTION_FAILED, clock_mono_ms(), session, NULL), LEAFD_OK);
}

static void replace_the_other(void)
{
    replace(&other);
}

static void drop_the_other(void)
{
    session_pool_drop(pool, CKR_FUNCTION_FAILED, other);
}

/* Idle ones of its generation make room for new ones when somebody asks; all at once, but one. */
static void a_session_that_is_replaced_does_not_end_the_login(void **state)
{
    struct session bad;

    (void)state;
    make_pool_wanted(&bad);
    replace(&bad);
    assert_int_equal(takers, 0);
    assert_int_equal(token.logouts, 0);
    session_pool_give(pool, bad);
    for (unsigned i = 0; i < SESSIONS - 1; i++)
        session_pool_give(pool, taken[i]);
    assert_int_equal(token.open, SESSIONS);
}

static void nor_does_one_that_is_given_up(void **state)
{
    struct session bad;

    (void)state;
    make_pool_wanted(&bad);
    session_pool_drop(pool, CKR_FUNCTION_FAILED, bad);
    assert_int_equal(takers, 0);
    assert_int_equal(token.logouts, 0);
}

static void nor_do_two_at_once(void **state)
{
    static void (*const rows[])(void) = {replace_the_other, drop_the_other};
    struct session bad[2];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        make_pool(2, bad, 2);
        other = bad[1];
        token.meanwhile = rows[i];
        replace(&bad[0]);
        assert_int_equal(token.logouts, 0);
        assert_int_equal(free_pool(state), 0);
    }
}

/* One that has lost itself is none of those that hold the login. */
static void a_lost_session_is_not_closed(void **state)
{
    struct session bad;

    (void)state;
    make_pool(2, &bad, 1);
    token.open--;
    assert_int_equal(
        session_pool_replace(pool, CKR_SESSION_HANDLE_INVALID, clock_mono_ms(), &bad, NULL),
        LEAFD_OK);
    assert_int_equal(token.open, 2);
    session_pool_give(pool, bad); /* closes the idle one of the lost one's generation */
    assert_int_equal(token.open, 1);
    session_pool_keep_one(pool);
    assert_int_equal(token.open, 1);
    assert_int_equal(token.logouts, 0);
}

static void one_is_kept(void **state)
{
    (void)state;
    make_pool(SESSIONS, &other, 0);
    session_pool_keep_one(pool);
    assert_int_equal(token.open, 1);
    assert_int_equal(session_pool_open_count(pool), 1);
    session_pool_drop(pool, CKR_FUNCTION_FAILED, take()); /* it may work again */
    assert_int_equal(token.open, 1);
    session_pool_give(pool, take());
    assert_int_equal(token.logouts, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_session_that_is_replaced_does_not_end_the_login, free_pool),
        cmocka_unit_test_teardown(nor_does_one_that_is_given_up, free_pool),
        cmocka_unit_test_teardown(nor_do_two_at_once, free_pool),
        cmocka_unit_test_teardown(a_lost_session_is_not_closed, free_pool),
        cmocka_unit_test_teardown(one_is_kept, free_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
