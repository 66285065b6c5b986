/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/pin.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/test_pin.XXXXXX";

static int make_file(void **state)
{
    int fd = mkstemp(path);

    (void)state;
    return fd == -1 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void put(const char *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_TRUNC);

    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

/* What pin_read makes of these bytes; `pin` is the caller's to clear. */
static enum leafd_err read_bytes(const char *data, size_t len, struct secret *pin, struct why *why)
{
    struct conf_token token = {.pin_file = path};
    enum leafd_err err;
    int fd;

    put(data, len);
    assert_int_equal(pin_open(&token, &fd, why), LEAFD_OK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    err = pin_read(fd, pin, why);
    close(fd);
    return err;
}

static void one_newline_is_stripped(void **state)
{
    static const struct {
        const char *file;
        const char *pin;
    } rows[] = {
        {"1234", "1234"},       {"1234\n", "1234"},     {"1234\n\n", "1234\n"},
        {" 12 34 ", " 12 34 "}, {"1234\r\n", "1234\r"}, {"\xc3\xa4", "\xc3\xa4"},
    };
    struct secret pin = SECRET_EMPTY;
    struct why why = {""};

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_int_equal(read_bytes(rows[i].file, strlen(rows[i].file), &pin, &why), LEAFD_OK);
        assert_int_equal(pin.len, strlen(rows[i].pin));
        assert_string_equal((char *)pin.data, rows[i].pin);
    }
    secret_clear(&pin);
}

static void bad_pins_are_refused(void **state)
{
    struct secret pin = SECRET_EMPTY;
    struct why why = {""};
    char text[PIN_MAX + 2];

    (void)state;
    assert_int_equal(read_bytes("", 0, &pin, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "empty"));
    assert_int_equal(read_bytes("\n", 1, &pin, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "empty"));
    assert_int_equal(read_bytes("12\0"
                                "34",
                                5, &pin, &why),
                     LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "NUL"));
    assert_null(strstr(why.text, "12"));
    memset(text, '7', sizeof(text));
    assert_int_equal(read_bytes(text, PIN_MAX + 2, &pin, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "longer than 255"));
    assert_int_equal(read_bytes(text, PIN_MAX + 1, &pin, &why), LEAFD_CONFIG);
    assert_null(strstr(why.text, "777"));
    assert_null(pin.data);
    assert_int_equal(read_bytes(text, PIN_MAX, &pin, &why), LEAFD_OK);
    text[PIN_MAX] = '\n';
    assert_int_equal(read_bytes(text, PIN_MAX + 1, &pin, &why), LEAFD_OK);
    assert_int_equal(pin.len, PIN_MAX);
    secret_clear(&pin);
}

static void a_source_that_cannot_be_opened(void **state)
{
    struct conf_token token = {.pin_file = (char *)"/nonexistent/pin"};
    struct why why = {""};
    int fd = 77;

    (void)state;
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "/nonexistent/pin"));
    token.pin_file = (char *)"/tmp";
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_CONFIG);
    token = (struct conf_token){.pin_env = (char *)"LEAFD_TEST_NO_SUCH_PIN"};
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "LEAFD_TEST_NO_SUCH_PIN"));
    assert_int_equal(setenv("LEAFD_TEST_EMPTY_PIN", "", 1), 0);
    token.pin_env = (char *)"LEAFD_TEST_EMPTY_PIN";
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_CONFIG);
    assert_int_equal(fd, 77);
    token = (struct conf_token){0};
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_OK);
    assert_int_equal(fd, -1);
}

static void a_variable_is_overwritten(void **state)
{
    struct conf_token token = {.pin_env = (char *)"LEAFD_TEST_PIN"};
    static char variable[] = "LEAFD_TEST_PIN=s3cret";
    struct secret pin = SECRET_EMPTY;
    struct why why = {""};
    int fd;

    (void)state;
    assert_int_equal(putenv(variable), 0); /* the very bytes, as the kernel gave them */
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_OK);
    assert_null(getenv("LEAFD_TEST_PIN"));
    assert_null(memmem(variable, sizeof(variable), "s3cret", 6));
    assert_int_equal(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE, F_SEAL_WRITE);
    assert_int_equal(write(fd, "x", 1), -1);
    /* Signers read the same descriptor, at the same time: none trusts in its position, or moves it
     * under the others. */
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lseek(fd, 2L * i, SEEK_SET), 2 * i);
        assert_int_equal(pin_read(fd, &pin, &why), LEAFD_OK);
        assert_string_equal((char *)pin.data, "s3cret");
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 2 * i);
    }
    close(fd);
    secret_clear(&pin);
}

static void a_pipe_is_read_once(void **state)
{
    struct secret pin = SECRET_EMPTY;
    struct conf_token token = {0};
    struct why why = {""};
    char name[32];
    int ends[2];
    int fd;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "9876\n", 5), 5);
    close(ends[1]);
    snprintf(name, sizeof(name), "/dev/fd/%d", ends[0]);
    token.pin_file = name;
    assert_int_equal(pin_open(&token, &fd, &why), LEAFD_OK);
    close(ends[0]);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pin_read(fd, &pin, &why), LEAFD_OK);
        assert_string_equal((char *)pin.data, "9876");
    }
    close(fd);
    secret_clear(&pin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_newline_is_stripped),
        cmocka_unit_test(bad_pins_are_refused),
        cmocka_unit_test(a_source_that_cannot_be_opened),
        cmocka_unit_test(a_variable_is_overwritten),
        cmocka_unit_test(a_pipe_is_read_once),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
