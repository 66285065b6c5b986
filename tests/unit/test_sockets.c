/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/sockets.h"

#include "base/log.h"
#include "tests/lib/unit.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A configuration with one UDP listener, one Unix listener, a control socket and an admin address,
 * all in a folder of its own. */
struct place {
    char folder[64];
    char listen_path[96];
    char control_path[96];
    char supervisor_path[96];
    struct conf_listen listen[2];
    struct conf conf;
};

static const struct sandbox_user nobody_else = {false, 0, 0};

static void loopback(struct sockaddr_storage *address, socklen_t *len)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)address;

    in4->sin_family = AF_INET;
    in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *len = sizeof(*in4);
}

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));

    assert_non_null(place);
    log_set_level(LOG_LEVEL_ERROR);
    strcpy(place->folder, "/tmp/leafd-sockets.XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(place->listen_path, sizeof(place->listen_path), "%s/leafd.sock", place->folder);
    snprintf(place->control_path, sizeof(place->control_path), "%s/run/control.sock",
             place->folder);
    loopback(&place->listen[0].address, &place->listen[0].address_len);
    place->listen[0].text = (char *)(uintptr_t) "127.0.0.1:0";
    place->listen[1].is_unix = true;
    place->listen[1].path = place->listen_path;
    place->listen[1].text = place->listen_path;
    place->conf.listen = place->listen;
    place->conf.listen_count = 2;
    place->conf.receive_buffer = 65536;
    place->conf.control_socket = place->control_path;
    snprintf(place->supervisor_path, sizeof(place->supervisor_path), "%s/run/supervisor.sock",
             place->folder);
    place->conf.supervisor_socket = place->supervisor_path;
    loopback(&place->conf.admin_address, &place->conf.admin_address_len);
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;
    char folder[96];

    snprintf(folder, sizeof(folder), "%s/run", place->folder);
    unlink(place->listen_path);
    unlink(place->control_path);
    unlink(place->supervisor_path);
    rmdir(folder);
    assert_int_equal(rmdir(place->folder), 0);
    free(place);
    return 0;
}

static unsigned mode_of(const char *path)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    return status.st_mode & 0777;
}

static void all_are_bound_and_named(void **state)
{
    struct place *place = *state;
    struct sockets sockets;
    struct why why;
    char text[256];
    char wanted[160];
    unsigned port;

    assert_int_equal(sockets_open(&place->conf, &nobody_else, &sockets, &why), LEAFD_OK);
    sockets_listen_text(&sockets, text, sizeof(text));
    assert_int_equal(sscanf(text, "127.0.0.1:%u,", &port), 1);
    assert_true(port > 0);
    snprintf(wanted, sizeof(wanted), "127.0.0.1:%u,unix:%s", port, place->listen_path);
    assert_string_equal(text, wanted);
    sockets_admin_text(&sockets, text, sizeof(text));
    assert_int_equal(sscanf(text, "127.0.0.1:%u", &port), 1);
    assert_true(port > 0);
    assert_int_equal(sockets.admin_unix, -1);
    assert_int_equal(mode_of(place->listen_path), 0666);
    assert_int_equal(mode_of(place->control_path), 0600);
    assert_int_equal(mode_of(place->supervisor_path), 0600);
    sockets_close(&sockets);
    assert_int_equal(access(place->listen_path, F_OK), -1);
    assert_int_equal(access(place->control_path, F_OK), -1);
    assert_int_equal(access(place->supervisor_path, F_OK), -1);
}

static void six_and_four_share_a_port(void **state)
{
    struct place *place = *state;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&place->listen[1].address;
    struct sockets first, second;
    struct sockaddr_in bound;
    socklen_t len = sizeof(bound);
    struct why why;
    char text[256];

    place->conf.listen_count = 1;
    ((struct sockaddr_in *)&place->listen[0].address)->sin_addr.s_addr = INADDR_ANY;
    assert_int_equal(sockets_open(&place->conf, &nobody_else, &first, &why), LEAFD_OK);
    assert_int_equal(getsockname(first.listen[0], (struct sockaddr *)&bound, &len), 0);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = bound.sin_port;
    place->listen[1].address_len = sizeof(*in6);
    place->listen[1].is_unix = false;
    place->conf.listen = &place->listen[1];
    /* [::] is IPv6 alone, so the port of 0.0.0.0 is still free there. */
    unlink(place->control_path);
    unlink(place->supervisor_path);
    if (sockets_open(&place->conf, &nobody_else, &second, &why) != LEAFD_OK) {
        sockets_close(&first);
        assert_non_null(strstr(why.text, "supported")); /* a kernel without IPv6 */
        skip();
    }
    sockets_listen_text(&second, text, sizeof(text));
    assert_int_equal(strncmp(text, "[::]:", 5), 0);
    sockets_close(&second);
    sockets_close(&first);
}

static void a_port_in_use_is_told(void **state)
{
    struct place *place = *state;
    struct sockets first, second;
    socklen_t len = sizeof(place->listen[0].address);
    struct why why;

    assert_int_equal(sockets_open(&place->conf, &nobody_else, &first, &why), LEAFD_OK);
    assert_int_equal(
        getsockname(first.listen[0], (struct sockaddr *)&place->listen[0].address, &len), 0);
    assert_int_equal(sockets_open(&place->conf, &nobody_else, &second, &why), LEAFD_IO);
    assert_non_null(strstr(why.text, "in use"));
    assert_int_equal(second.listen[0], -1);
    assert_int_equal(access(place->listen_path, F_OK), 0); /* still the first one's */
    sockets_close(&first);
}

static void leave_socket(const char *path, int type, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    *ret_fd = socket(AF_UNIX, type, 0);
    assert_int_equal(bind(*ret_fd, (struct sockaddr *)&address, sizeof(address)), 0);
}

static void stale_sockets_are_replaced(void **state)
{
    struct place *place = *state;
    struct sockets sockets;
    struct why why;
    int fd;

    leave_socket(place->listen_path, SOCK_DGRAM, &fd);
    close(fd);
    assert_int_equal(sockets_open(&place->conf, &nobody_else, &sockets, &why), LEAFD_OK);
    sockets_close(&sockets);
}

static void live_sockets_are_not(void **state)
{
    struct place *place = *state;
    struct sockets sockets;
    struct why why;
    int fd;

    leave_socket(place->listen_path, SOCK_DGRAM, &fd);
    assert_int_equal(sockets_open(&place->conf, &nobody_else, &sockets, &why), LEAFD_IO);
    assert_non_null(strstr(why.text, "in use"));
    assert_int_equal(access(place->listen_path, F_OK), 0);
    close(fd);
}

static void files_are_never_replaced(void **state)
{
    struct place *place = *state;
    struct sockets sockets;
    struct why why;
    FILE *file = fopen(place->listen_path, "w");

    assert_non_null(file);
    fclose(file);
    assert_int_equal(sockets_open(&place->conf, &nobody_else, &sockets, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "no socket"));
    assert_int_equal(access(place->listen_path, F_OK), 0);
}

static void a_path_too_long_is_told(void **state)
{
    struct place *place = *state;
    struct sockets sockets;
    char path[200];
    struct why why;

    memset(path, 'x', sizeof(path) - 1);
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    place->listen[1].path = path;
    assert_int_equal(sockets_open(&place->conf, &nobody_else, &sockets, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "107"));
}

static void the_control_socket_is_shared_with_the_fronts_group(void **state)
{
    static const struct sandbox_user front = {true, 64123, 64124};
    struct place *place = *state;
    struct sockets sockets;
    struct stat status;
    struct why why;

    if (geteuid() != 0)
        skip();
    assert_int_equal(sockets_open(&place->conf, &front, &sockets, &why), LEAFD_OK);
    assert_int_equal(stat(place->control_path, &status), 0);
    assert_int_equal(status.st_uid, 0);
    assert_int_equal(status.st_gid, 64124);
    assert_int_equal(status.st_mode & 0777, 0660);
    sockets_close(&sockets);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_are_bound_and_named, setup, teardown),
        cmocka_unit_test_setup_teardown(six_and_four_share_a_port, setup, teardown),
        cmocka_unit_test_setup_teardown(a_port_in_use_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(stale_sockets_are_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(live_sockets_are_not, setup, teardown),
        cmocka_unit_test_setup_teardown(files_are_never_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_too_long_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(the_control_socket_is_shared_with_the_fronts_group, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
