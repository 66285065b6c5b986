/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/pin.h"
#include "pkcs11/pin_refusals.h"
#include "run/token_pins.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct token_pins pins;

/* Each test's tokens; what cannot be made ends the test. */
static void init(const struct conf *conf)
{
    struct why why = {""};

    if (token_pins_init(&pins, conf, &why) != LEAFD_OK)
        fail_msg("%s", why.text);
}

static int clear(void **state)
{
    (void)state;
    token_pins_clear(&pins);
    return 0;
}

/* What the next signer of `token` reads. */
static void assert_pin(size_t token, const char *expected)
{
    struct secret pin = SECRET_EMPTY;
    struct why why = {""};
    bool must_close;
    int fd;

    assert_int_equal(token_pins_open(&pins, token, &fd, &must_close, &why), LEAFD_OK);
    assert_int_equal(pin_read(fd, &pin, &why), LEAFD_OK);
    assert_string_equal((char *)pin.data, expected);
    secret_clear(&pin);
    if (must_close)
        close(fd);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* Another file under the same name, as configuration tools and systemd put it there. */
static void a_file_is_opened_anew(const char *folder)
{
    char path[64];
    char next[sizeof(path) + 8];
    struct conf conf = {.token_count = 1, .token[0].pin_file = path};
    struct why why = {""};
    bool must_close;
    int fd;

    snprintf(path, sizeof(path), "%s/leafd-pin.%d", folder, (int)getpid());
    snprintf(next, sizeof(next), "%s.next", path);
    write_file(path, "1111\n");
    init(&conf);
    assert_pin(0, "1111");
    write_file(next, "2222\n");
    assert_int_equal(rename(next, path), 0);
    assert_pin(0, "2222");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes into it: who waits for that hangs */
    assert_int_equal(token_pins_open(&pins, 0, &fd, &must_close, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "is no regular file any more"));
    assert_int_equal(unlink(path), 0);
}

static void a_file_on_a_disk_is_opened_anew(void **state)
{
    (void)state;
    a_file_is_opened_anew("/tmp");
}

static void a_file_on_a_tmpfs_is_opened_anew(void **state)
{
    (void)state;
    if (access("/dev/shm", W_OK) == -1)
        skip();
    a_file_is_opened_anew("/dev/shm");
}

static void a_variable_is_kept_for_all_its_tokens(void **state)
{
    struct conf conf = {
        .token_count = 2,
        .token = {{.pin_env = (char *)"LEAFD_TEST_PIN"}, {.pin_env = (char *)"LEAFD_TEST_PIN"}}};

    (void)state;
    assert_int_equal(setenv("LEAFD_TEST_PIN", "4711", 1), 0);
    init(&conf);
    assert_null(getenv("LEAFD_TEST_PIN"));
    for (int i = 0; i < 2; i++) {
        assert_pin(0, "4711");
        assert_pin(1, "4711");
    }
}

/* What one token has refused, one process after the other; for this process it is one memory. */
static enum leafd_err try_pin(size_t token, bool refused)
{
    struct secret pin = SECRET_EMPTY;
    enum leafd_err err;

    assert_int_equal(pin_refusals_use(pins.refusals[token], NULL), LEAFD_OK);
    assert_int_equal(secret_set(&pin, bytes_of("1234")), LEAFD_OK);
    err = pin_try_begin(bytes_of("token"), &pin, 100, NULL);
    if (err == LEAFD_OK)
        pin_try_end(bytes_of("token"), &pin, refused);
    secret_clear(&pin);
    return err;
}

static void to_unblock_one_token_leaves_the_others(void **state)
{
    struct conf conf = {.token_count = 2};

    (void)state;
    init(&conf);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(try_pin(i, true), LEAFD_OK);
        assert_int_equal(try_pin(i, true), LEAFD_PIN);
    }
    token_pins_unblock(&pins, 1);
    assert_int_equal(try_pin(0, false), LEAFD_PIN);
    assert_int_equal(try_pin(1, false), LEAFD_OK);
}

#define TEST(fn) cmocka_unit_test_teardown(fn, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_on_a_disk_is_opened_anew),
        TEST(a_file_on_a_tmpfs_is_opened_anew),
        TEST(a_variable_is_kept_for_all_its_tokens),
        TEST(to_unblock_one_token_leaves_the_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
