/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/pin_refusals.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Everything between processes happens in children, one after the other, as signers come and go.
 */
static int fd = -1;

static int make(void **state)
{
    (void)state;
    return pin_refusals_make(&fd, NULL) == LEAFD_OK ? 0 : -1;
}

static int unmake(void **state)
{
    (void)state;
    close(fd);
    return 0;
}

/* One process that shares the memory, tries, and is refused or not; what pin_try_begin gave. With
 * `dies` it ends in the middle of its try. */
static enum leafd_err try_once(const char *token, const char *pin, bool refused, bool dies)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct secret secret = SECRET_EMPTY;
        struct why why = {""};
        enum leafd_err err = pin_refusals_use(fd, &why);

        if (err == LEAFD_OK)
            err = secret_set(&secret, bytes_of(pin));
        if (err == LEAFD_OK)
            err = pin_try_begin(bytes_of(token), &secret, 100, &why);
        if (err == LEAFD_OK && !dies)
            pin_try_end(bytes_of(token), &secret, refused);
        _exit((int)err);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return (enum leafd_err)WEXITSTATUS(status);
}

static void a_refused_pin_is_known_to_all(void **state)
{
    (void)state;
    assert_int_equal(try_once("one", "1234", false, false), LEAFD_OK);
    assert_int_equal(try_once("one", "1234", true, false), LEAFD_OK);
    assert_int_equal(try_once("one", "1234", false, false), LEAFD_PIN);
    assert_int_equal(try_once("one", "12345", false, false), LEAFD_OK); /* another PIN */
    assert_int_equal(try_once("two", "1234", false, false), LEAFD_OK);  /* another token */
    pin_refusals_forget(fd);
    assert_int_equal(try_once("one", "1234", false, false), LEAFD_OK);
}

/* A process that dies at its try does not keep the others out. */
static void a_try_ends_with_its_process(void **state)
{
    (void)state;
    assert_int_equal(try_once("one", "1234", false, true), LEAFD_OK);
    assert_int_equal(try_once("one", "1234", false, false), LEAFD_OK);
}

static void one_tries_at_a_time(void **state)
{
    struct secret secret = SECRET_EMPTY;

    (void)state;
    assert_int_equal(pin_refusals_use(fd, NULL), LEAFD_OK);
    assert_int_equal(secret_set(&secret, bytes_of("1234")), LEAFD_OK);
    assert_int_equal(pin_try_begin(bytes_of("one"), &secret, 100, NULL), LEAFD_OK);
    assert_int_equal(try_once("one", "1234", false, false), LEAFD_TOKEN_UNAVAILABLE);
    pin_try_end(bytes_of("one"), &secret, true);
    assert_int_equal(try_once("one", "1234", false, false), LEAFD_PIN);
    secret_clear(&secret);
}

/* With no place left for one more refusal nothing is tried. */
static void a_full_memory_refuses_all(void **state)
{
    char pin[8] = "0";

    (void)state;
    for (int i = 0; i < 16; i++) {
        snprintf(pin, sizeof(pin), "%d", i);
        assert_int_equal(try_once("one", pin, true, false), LEAFD_OK);
    }
    assert_int_equal(try_once("one", "other", false, false), LEAFD_PIN);
    pin_refusals_forget(fd);
    assert_int_equal(try_once("one", "other", false, false), LEAFD_OK);
}

/* Nobody can shrink it under another one's feet. */
static void its_size_is_sealed(void **state)
{
    (void)state;
    assert_int_equal(ftruncate(fd, 0), -1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, make, unmake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_refused_pin_is_known_to_all), TEST(a_try_ends_with_its_process),
        TEST(a_full_memory_refuses_all),     TEST(its_size_is_sealed),
        TEST(one_tries_at_a_time), /* the last: this process shares its memory from then on */
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
