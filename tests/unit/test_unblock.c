/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/unblock.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int asked_for;

static unsigned note(void *ctx, int token)
{
    (void)ctx;
    asked_for = token;
    return 3;
}

static void lines_are_read_to_the_letter(void **state)
{
    static const char *const bad[] = {
        "",
        "\n",
        "{\"command\":\"token-unblock\"}",
        "{\"command\":\"token-unblock\"} \n",
        "{\"command\":\"token-unblock\"}\n\n",
        "{\"command\":\"status\"}\n",
        "{\"command\":\"token-unblock\",\"token\":}\n",
        "{\"command\":\"token-unblock\",\"token\":-1}\n",
        "{\"command\":\"token-unblock\",\"token\":10}\n",
        "{\"command\":\"token-unblock\",\"token\":1}",
        "{\"command\":\"token-unblock\",\"token\":a}\n",
    };

    (void)state;
    assert_int_equal(unblock_read(bytes_of("{\"command\":\"token-unblock\"}\n")), UNBLOCK_ALL);
    for (int i = 0; i < 10; i++) {
        char line[64];

        snprintf(line, sizeof(line), "{\"command\":\"token-unblock\",\"token\":%d}\n", i);
        assert_int_equal(unblock_read(bytes_of(line)), i);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(unblock_read(bytes_of(bad[i])), -2);
    assert_int_equal(unblock_read((struct bytes){NULL, 0}), -2);
}

/* One caller that has said `line` (NULL: nothing) before it is served; what it is answered. */
static const char *ask(int listener, const struct sockaddr_un *address, const char *line)
{
    static char answer[256];
    int caller = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t got;

    asked_for = -9;
    assert_int_equal(connect(caller, (const struct sockaddr *)address, sizeof(*address)), 0);
    if (line)
        assert_int_equal(send(caller, line, strlen(line), 0), strlen(line));
    unblock_serve(listener, 2, note, NULL);
    got = recv(caller, answer, sizeof(answer) - 1, MSG_DONTWAIT);
    answer[got > 0 ? got : 0] = '\0';
    close(caller);
    return answer;
}

static void callers_are_answered(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char folder[] = "/tmp/leafd-test-XXXXXX";
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/socket", folder);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 4), 0);

    assert_string_equal(ask(listener, &address, "{\"command\":\"token-unblock\"}\n"),
                        "{\"unblocked\":3}\n");
    assert_int_equal(asked_for, UNBLOCK_ALL);
    assert_string_equal(ask(listener, &address, "{\"command\":\"token-unblock\",\"token\":1}\n"),
                        "{\"unblocked\":3}\n");
    assert_int_equal(asked_for, 1);
    assert_non_null(strstr(ask(listener, &address, "{\"command\":\"token-unblock\",\"token\":2}\n"),
                           "there is no token 2; the last is 1"));
    assert_non_null(
        strstr(ask(listener, &address, "{\"command\":\"flush\"}\n"), "no such command"));
    assert_non_null(strstr(ask(listener, &address, NULL), "try again")); /* after a moment's wait */
    assert_int_equal(asked_for, -9);

    close(listener);
    unlink(address.sun_path);
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_read_to_the_letter),
        cmocka_unit_test(callers_are_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
