/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket and the admin endpoint over real sockets, with a signer that is pretended. */
#include "config.h"

#include "tests/lib/unit.h"

#include "admin/admin_http.h"
#include "admin/control.h"
#include "base/clock.h"
#include "tests/lib/fake_signer.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, ANSWER_SIZE = 1 << 16 };

struct world {
    struct conf *conf;
    struct admin_state state;
    char folder[40];
    char path[80]; /* of the Unix socket under test */
    char *answer;
};

static int world_setup(void **state)
{
    static const char text[] = "ca: {certificate: /ca.pem, key: \"pkcs11:token=t\"}\n"
                               "token: {module: /m}\n"
                               "keys: {rsa_low: 0, rsa_high: 1, ec_low: 0, ec_high: 1}\n";
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    world->answer = malloc(ANSWER_SIZE + 1);
    assert_non_null(world->answer);
    assert_int_equal(conf_load(bytes_of(text), "t", NULL, NULL, 0, &world->conf, NULL), LEAFD_OK);
    world->state.conf = world->conf;
    world->state.signer = fake_signer_new(NULL);
    world->state.started_ms = clock_mono_ms();
    assert_int_equal(leaf_cache_new(1 << 20, &world->state.cache), LEAFD_OK);
    assert_int_equal(key_pool_new(world->conf, &world->state.keys), LEAFD_OK);
    strcpy(world->folder, "/tmp/leafd-test-admin-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    snprintf(world->path, sizeof(world->path), "%s/s", world->folder);
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    struct world *world = *state;

    unlink(world->path);
    rmdir(world->folder);
    key_pool_free(world->state.keys);
    leaf_cache_free(world->state.cache);
    signer_free(world->state.signer);
    conf_free(world->conf);
    free(world->answer);
    free(world);
    return 0;
}

/* ---- sockets ---- */

static struct sockaddr_un address_of(const struct world *world)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strcpy(address.sun_path, world->path);
    return address;
}

static int listen_unix(const struct world *world)
{
    struct sockaddr_un address = address_of(world);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 64), 0);
    return fd;
}

static int connect_unix(const struct world *world)
{
    struct sockaddr_un address = address_of(world);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static int listen_tcp(struct sockaddr_in *ret_address)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *ret_address = address;
    return fd;
}

/* Everything up to the end of file; closes. */
static const char *read_answer(const struct world *world, int fd)
{
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
    size_t len = 0;

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_mono_ms();
        ssize_t got;

        if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
            fail_msg("no answer within %d ms", PATIENCE_MS);
        got = recv(fd, world->answer + len, ANSWER_SIZE - len, 0);
        if (got <= 0)
            break;
        len += (size_t)got;
    }
    close(fd);
    world->answer[len] = '\0';
    return world->answer;
}

static const char *ask(const struct world *world, int fd, const char *question)
{
    (void)send(fd, question, strlen(question), MSG_NOSIGNAL);
    return read_answer(world, fd);
}

/* ---- the control socket ---- */

static void control_answers(void **state)
{
    struct world *world = *state;
    struct control *control = NULL;
    const char *answer;

    assert_int_equal(control_new(&world->state, listen_unix(world), &control, NULL), LEAFD_OK);
    answer = ask(world, connect_unix(world), "{\"command\":\"status\"}\n");
    assert_non_null(strstr(answer, "\"ready\":true"));
    assert_non_null(strstr(answer, "\"signer\":{\"state\":\"ready\""));
    assert_non_null(strstr(answer, "\"cache\":{\"entries\":0"));
    assert_int_equal(answer[strlen(answer) - 1], '\n');
    assert_string_equal(ask(world, connect_unix(world), " { \"command\" : \"flush\" } \n"),
                        "{\"flushed\":0}\n");
    control_free(control);
    control_free(NULL);
}

static void control_tells_what_is_missing(void **state)
{
    struct world *world = *state;
    struct control *control = NULL;
    const char *answer;

    assert_int_equal(control_new(&world->state, listen_unix(world), &control, NULL), LEAFD_OK);
    fake_signer_set_gone(world->state.signer, true);
    answer = ask(world, connect_unix(world), "{\"command\":\"status\"}\n");
    assert_non_null(strstr(answer, "\"ready\":false"));
    assert_non_null(strstr(answer, "\"state\":\"connecting\""));
    control_free(control);
}

static void control_refuses_what_is_no_request(void **state)
{
    static const char *const bad[] = {
        "\n",
        "status\n",
        "{}\n",
        "{\"command\":\"status\"} x\n",
        "{\"command\":\"status\",\"x\":1}\n",
        "{\"command\":\"stat\\u0075s\"}\n",
        "{\"command\":1}\n",
        "{\"command\":\"shutdown\"}\n",
        "{\"command\":\"\"}\n",
    };
    struct world *world = *state;
    struct control *control = NULL;
    char *longest = malloc(6000);

    assert_non_null(longest);
    assert_int_equal(control_new(&world->state, listen_unix(world), &control, NULL), LEAFD_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *answer = ask(world, connect_unix(world), bad[i]);

        if (strncmp(answer, "{\"error\":\"", 10) != 0)
            fail_msg("%s is answered %s", bad[i], answer);
    }
    memset(longest, 'x', 5999);
    longest[5999] = '\0';
    (void)ask(world, connect_unix(world), longest); /* an error, or a reset: it does not stay */
    assert_non_null(strstr(ask(world, connect_unix(world), "{\"command\":\"status\"}\n"), "ready"));
    free(longest);
    control_free(control);
}

/* Many who say nothing cannot keep the others out for long, and a NUL ends nothing but itself. */
static void idle_peers_do_not_block(void **state)
{
    enum { IDLE = 40 };
    struct world *world = *state;
    struct control *control = NULL;
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;
    bool answered = false;
    int idle[IDLE];
    int fd;

    assert_int_equal(control_new(&world->state, listen_unix(world), &control, NULL), LEAFD_OK);
    idle[0] = connect_unix(world);
    assert_non_null(strstr(ask(world, connect_unix(world), "{\"command\":\"status\"}\n"), "ready"));
    for (int i = 1; i < IDLE; i++)
        idle[i] = connect_unix(world);
    while (!answered && clock_mono_ms() < deadline_ms)
        answered =
            strstr(ask(world, connect_unix(world), "{\"command\":\"status\"}\n"), "ready") != NULL;
    assert_true(answered);
    for (int i = 0; i < IDLE; i++)
        close(idle[i]);
    fd = connect_unix(world);
    assert_int_equal(send(fd, "\0\n", 2, MSG_NOSIGNAL), 2);
    assert_non_null(strstr(read_answer(world, fd), "error"));
    control_free(control);
}

/* ---- HTTP ---- */

static int connect_tcp(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof(*address)), 0);
    return fd;
}

static unsigned status_of(const char *answer)
{
    unsigned status = 0;

    assert_int_equal(sscanf(answer, "HTTP/1.%*c %u", &status), 1);
    return status;
}

static void http_answers(void **state)
{
    static const struct {
        const char *request;
        unsigned status;
        const char *body;
    } rows[] = {
        {"GET /ping HTTP/1.0\r\n\r\n", 200, "pong"},
        {"GET /ready HTTP/1.0\r\n\r\n", 200, "ready"},
        {"GET /healthcheck HTTP/1.0\r\n\r\n", 200, "\"ready\":true"},
        {"GET /metrics HTTP/1.0\r\n\r\n", 200, "leafd_cache_entries 0\n"},
        {"GET /metrics?x=y HTTP/1.0\r\n\r\n", 200, "leafd_signer_state{state=\"ready\"} 1\n"},
        {"HEAD /ping HTTP/1.0\r\n\r\n", 200, ""},
        {"GET / HTTP/1.0\r\n\r\n", 404, ""},
        {"GET /ping/ HTTP/1.0\r\n\r\n", 404, ""},
        {"GET /../etc/passwd HTTP/1.0\r\n\r\n", 404, ""},
        {"POST /ping HTTP/1.0\r\nContent-Length: 0\r\n\r\n", 405, ""},
        {"POST /metrics HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 405, "GET and HEAD"},
        {"DELETE /metrics HTTP/1.0\r\n\r\n", 405, ""},
    };
    struct world *world = *state;
    struct admin_http *http = NULL;
    struct sockaddr_in address;
    int tcp = listen_tcp(&address);

    assert_int_equal(admin_http_new(&world->state, listen_unix(world), tcp, &http, NULL), LEAFD_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *answer = ask(world, connect_tcp(&address), rows[i].request);

        if (status_of(answer) != rows[i].status || !strstr(answer, rows[i].body))
            fail_msg("%s is answered %s", rows[i].request, answer);
        answer = ask(world, connect_unix(world), rows[i].request);
        assert_int_equal(status_of(answer), rows[i].status);
    }
    admin_http_free(http);
    admin_http_free(NULL);
}

static void http_not_ready(void **state)
{
    struct world *world = *state;
    struct admin_http *http = NULL;
    const char *answer;

    assert_int_equal(admin_http_new(&world->state, listen_unix(world), -1, &http, NULL), LEAFD_OK);
    fake_signer_set_pin_blocked(world->state.signer, true);
    answer = ask(world, connect_unix(world), "GET /ready HTTP/1.0\r\n\r\n");
    assert_int_equal(status_of(answer), 503);
    assert_non_null(strstr(answer, "not ready"));
    assert_non_null(strstr(answer, "pin-blocked"));
    answer = ask(world, connect_unix(world), "GET /ping HTTP/1.0\r\n\r\n");
    assert_int_equal(status_of(answer), 200);
    fake_signer_set_pin_blocked(world->state.signer, false);
    answer = ask(world, connect_unix(world), "GET /ready HTTP/1.0\r\n\r\n");
    assert_int_equal(status_of(answer), 200);
    admin_http_free(http);
}

static void http_nowhere(void **state)
{
    struct world *world = *state;
    struct admin_http *http = NULL;

    assert_int_equal(admin_http_new(&world->state, -1, -1, &http, NULL), LEAFD_OK);
    admin_http_free(http);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(control_answers, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(control_tells_what_is_missing, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(control_refuses_what_is_no_request, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(idle_peers_do_not_block, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(http_answers, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(http_not_ready, world_setup, world_teardown),
        cmocka_unit_test_setup_teardown(http_nowhere, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
