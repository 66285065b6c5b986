/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket and the admin endpoint over real sockets, with a signer that is pretended. */
#include "config.h"

#include "tests/lib/unit.h"

#include "admin/admin_http.h"
#include "admin/conn_deadline.h"
#include "admin/control.h"
#include "base/clock.h"
#include "tests/lib/fake_signer.h"
#include "tests/lib/make_cert.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
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

/* ---- the CRL ---- */

static struct ca *test_ca(const char *cn, EVP_PKEY *key)
{
    struct bytes der = make_ca(cn, key, clock_wall_sec());
    struct ca *ca = NULL;

    assert_int_equal(ca_read(der, 0, false, &ca, NULL), LEAFD_OK);
    free((void *)(uintptr_t)der.data);
    return ca;
}

/* Puts one in the place of the world's file, from now to `end`, as leafctl does. */
static void put_crl(const char *path, const struct ca *ca, EVP_PKEY *key, int64_t end)
{
    uint8_t tbs_room[1024];
    uint8_t room[2048];
    uint8_t signature[256];
    char beside[128];
    size_t len = sizeof(signature);
    struct der_writer writer = der_writer_of(tbs_room, sizeof(tbs_room));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    struct bytes tbs;
    FILE *file;

    crl_put_tbs(&writer, ca, &(struct crl){clock_wall_sec() - 86400, end, 7, 0});
    tbs = der_written(&writer);
    assert_int_equal(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, key, NULL), 1);
    assert_int_equal(EVP_DigestSign(ctx, signature, &len, tbs.data, tbs.len), 1);
    EVP_MD_CTX_free(ctx);
    writer = der_writer_of(room, sizeof(room));
    crl_put(&writer, ca, tbs, (struct bytes){signature, len});
    snprintf(beside, sizeof(beside), "%s.new", path);
    file = fopen(beside, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(der_written(&writer).data, der_written(&writer).len, 1, file), 1);
    fclose(file);
    assert_int_equal(rename(beside, path), 0);
}

static void put_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* The CRL's end as /metrics tells it; what is to be known holds `part`, or is nothing (NULL). */
static void assert_state(const struct world *world, int64_t end, const char *part)
{
    struct crl_status status;
    char line[80];

    crl_file_status(world->state.crl, &status);
    assert_int_equal(status.good, end != 0);
    if (part ? !strstr(status.attention.text, part) : status.attention.text[0])
        fail_msg("\"%s\" is told, not \"%s\"", status.attention.text, part ? part : "");
    snprintf(line, sizeof(line), "leafd_crl_next_update_timestamp_seconds %lld\n", (long long)end);
    assert_non_null(strstr(ask(world, connect_unix(world), "GET /metrics HTTP/1.0\r\n\r\n"), line));
}

static const char *ask_crl(const struct world *world)
{
    return ask(world, connect_unix(world), "GET /ca.crl HTTP/1.0\r\n\r\n");
}

static void assert_served(const struct world *world, const char *max_age)
{
    const char *answer = ask_crl(world);

    assert_int_equal(status_of(answer), 200);
    assert_non_null(strstr(answer, "Content-Type: application/pkix-crl\r\n"));
    assert_non_null(strstr(answer, "Last-Modified: "));
    assert_non_null(strstr(answer, max_age));
}

static void assert_not_served(const struct world *world)
{
    const char *answer = ask_crl(world);

    assert_int_equal(status_of(answer), 404);
    assert_non_null(strstr(answer, "there is no CRL here"));
}

static void the_crl_is_served_as_long_as_it_is_ours(void **state)
{
    struct world *world = *state;
    struct admin_http *http = NULL;
    EVP_PKEY *key = make_key("P-256");
    EVP_PKEY *other_key = make_key("P-256");
    struct ca *ca = test_ca("CA", key);
    struct ca *other = test_ca("CA", other_key);
    int64_t end = clock_wall_sec() + 90 * 86400;
    int64_t past = clock_wall_sec() - 60;
    char path[80];

    snprintf(path, sizeof(path), "%s/ca.crl", world->folder);
    world->conf->ca_crl_file = strdup(path);
    world->conf->ca_crl_url = strdup("http://crl.example/ca.crl");
    assert_int_equal(crl_file_new(world->conf, ca, &world->state.crl), LEAFD_OK);
    assert_int_equal(admin_http_new(&world->state, listen_unix(world), -1, &http, NULL), LEAFD_OK);
    assert_not_served(world);
    assert_state(world, 0, "leafctl ca crl makes it");
    put_crl(path, ca, key, end);
    assert_served(world, "Cache-Control: public, max-age=3600\r\n");
    assert_state(world, end, NULL);
    put_crl(path, other, other_key, end);
    assert_not_served(world);
    assert_state(world, 0, "does not verify");
    put_text(path, "<html>");
    assert_not_served(world);
    assert_state(world, 0, "not a CRL");
    put_crl(path, ca, key, past); /* expired: it is what it is */
    assert_served(world, "Cache-Control: no-store\r\n");
    assert_state(world, past, "has expired");
    put_crl(path, ca, key, clock_wall_sec() + 100);
    assert_served(world, "Cache-Control: public, max-age=");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* blocks nobody */
    assert_not_served(world);
    assert_state(world, 0, "is no file");
    unlink(path);
    assert_not_served(world);
    admin_http_free(http);
    crl_file_free(world->state.crl);
    world->state.crl = NULL;
    ca_unref(ca);
    ca_unref(other);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
}

/* Octets that this process has read so far. */
static unsigned long long octets_read(void)
{
    FILE *file = fopen("/proc/self/io", "re");
    unsigned long long octets = 0;

    if (!file)
        return 0;
    assert_int_equal(fscanf(file, "rchar: %llu", &octets), 1);
    fclose(file);
    return octets;
}

/* Who asks for it again and again does not make us read it again and again. */
static void a_crl_that_is_too_large_is_read_once(void **state)
{
    struct world *world = *state;
    EVP_PKEY *key = make_key("P-256");
    struct ca *ca = test_ca("CA", key);
    struct crl_status status;
    unsigned long long before;
    char path[80];

    snprintf(path, sizeof(path), "%s/ca.crl", world->folder);
    world->conf->ca_crl_file = strdup(path);
    world->conf->ca_crl_url = strdup("http://crl.example/ca.crl");
    put_text(path, "");
    assert_int_equal(truncate(path, CRL_SIZE_MAX + 1), 0);
    assert_int_equal(crl_file_new(world->conf, ca, &world->state.crl), LEAFD_OK);
    crl_file_status(world->state.crl, &status);
    assert_false(status.good);
    before = octets_read();
    for (int i = 0; i < 3; i++) {
        crl_file_status(world->state.crl, &status);
        assert_false(status.good);
        assert_non_null(strstr(status.attention.text, "larger than"));
    }
    assert_true(octets_read() - before < CRL_SIZE_MAX);
    put_crl(path, ca, key, clock_wall_sec() + 90 * 86400);
    crl_file_status(world->state.crl, &status);
    assert_true(status.good);
    crl_file_free(world->state.crl);
    world->state.crl = NULL;
    unlink(path);
    ca_unref(ca);
    EVP_PKEY_free(key);
}

static void without_a_crl_nothing_is_told(void **state)
{
    struct world *world = *state;
    struct admin_http *http = NULL;
    EVP_PKEY *key = make_key("P-256");
    struct ca *ca = test_ca("CA", key);
    struct crl_file *file = NULL;

    assert_int_equal(crl_file_new(world->conf, ca, &file), LEAFD_OK);
    assert_null(file);
    crl_file_free(NULL);
    assert_int_equal(admin_http_new(&world->state, listen_unix(world), -1, &http, NULL), LEAFD_OK);
    assert_not_served(world);
    assert_null(strstr(ask(world, connect_unix(world), "GET /metrics HTTP/1.0\r\n\r\n"), "crl"));
    admin_http_free(http);
    ca_unref(ca);
    EVP_PKEY_free(key);
}

/* ---- slow ones ---- */

static void a_connection_ends_at_its_deadline(void **state)
{
    struct conn_deadlines *deadlines = NULL;
    int64_t begin_ms = clock_mono_ms();
    int numbers[CONN_DEADLINES_MAX];
    int pair[2][2];
    char octet;

    (void)state;
    assert_int_equal(conn_deadlines_new(100, &deadlines), LEAFD_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair[i]), 0);
    numbers[0] = conn_deadlines_begin(deadlines, pair[0][0]);
    numbers[1] = conn_deadlines_begin(deadlines, pair[1][0]);
    conn_deadlines_end(deadlines, numbers[0]); /* this one was in time */
    assert_int_equal(recv(pair[1][1], &octet, 1, 0), 0);
    assert_true(clock_mono_ms() - begin_ms >= 100);
    assert_int_equal(recv(pair[0][1], &octet, 1, MSG_DONTWAIT), -1);
    conn_deadlines_end(deadlines, numbers[1]);
    conn_deadlines_end(deadlines, -1);
    for (int i = 0; i < CONN_DEADLINES_MAX; i++) {
        numbers[i] = conn_deadlines_begin(deadlines, pair[0][0]);
        assert_true(numbers[i] >= 0);
    }
    assert_int_equal(conn_deadlines_begin(deadlines, pair[0][0]), -1);
    conn_deadlines_free(deadlines);
    conn_deadlines_free(NULL);
    for (int i = 0; i < 4; i++)
        close(pair[i / 2][i % 2]);
}

/* As many as there are places, none of them ever idle: the others get their turn all the same. */
static void slow_connections_do_not_block(void **state)
{
    enum { SLOW = 40 };
    struct world *world = *state;
    struct admin_http *http = NULL;
    int64_t deadline_ms = clock_mono_ms() + 2 * PATIENCE_MS;
    bool answered;
    struct pollfd wait = {.fd = -1, .events = POLLIN};
    const char question[] = "GET /ping HTTP/1.0\r\n\r\n";
    int slow[SLOW];

    assert_int_equal(admin_http_new(&world->state, listen_unix(world), -1, &http, NULL), LEAFD_OK);
    for (int i = 0; i < SLOW; i++)
        slow[i] = connect_unix(world);
    wait.fd = connect_unix(world);
    assert_int_equal(send(wait.fd, question, strlen(question), 0), (ssize_t)strlen(question));
    do {
        for (int i = 0; i < SLOW; i++)
            (void)send(slow[i], "G", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        answered = poll(&wait, 1, 100) == 1;
    } while (!answered && clock_mono_ms() < deadline_ms);
    assert_true(answered);
    assert_non_null(strstr(read_answer(world, wait.fd), "pong"));
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
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
        cmocka_unit_test_setup_teardown(the_crl_is_served_as_long_as_it_is_ours, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(a_crl_that_is_too_large_is_read_once, world_setup,
                                        world_teardown),
        cmocka_unit_test_setup_teardown(without_a_crl_nothing_is_told, world_setup, world_teardown),
        cmocka_unit_test(a_connection_ends_at_its_deadline),
        cmocka_unit_test_setup_teardown(slow_connections_do_not_block, world_setup, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
