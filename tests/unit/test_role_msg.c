/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/channel.h"
#include "run/role_msg.h"
#include "tests/lib/unit.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void a_message_comes_as_it_went(void **state)
{
    struct role_msg message;
    int ends[2];
    int fd;

    (void)state;
    assert_int_equal(channel_pair(true, ends), LEAFD_OK);
    assert_int_equal(role_msg_send(ends[0], ROLE_MSG_LISTEN, 7, ends[0]), LEAFD_OK);
    assert_int_equal(role_msg_receive(ends[1], &message, &fd), LEAFD_OK);
    assert_int_equal(message.kind, ROLE_MSG_LISTEN);
    assert_int_equal(message.value, 7);
    assert_true(fd > 2);
    close(fd);
    assert_int_equal(role_msg_receive(ends[1], &message, &fd), LEAFD_AGAIN);
    close(ends[0]);
    assert_int_equal(role_msg_receive(ends[1], &message, &fd), LEAFD_ABSENT);
    close(ends[1]);
}

/* What a role that was taken over may send to its supervisor. */
static void other_messages_are_refused(void **state)
{
    static const uint8_t zero[sizeof(struct role_msg)] = {0};
    static const uint8_t big[64] = {1};
    struct role_msg unknown = {.kind = ROLE_MSG_END};
    const struct bytes bad[] = {
        {zero, sizeof(zero)},    {zero, 1},          {zero, sizeof(zero) - 1},
        {big, sizeof(zero) + 1}, {big, sizeof(big)}, {(const uint8_t *)&unknown, sizeof(unknown)},
    };
    struct role_msg message;
    int ends[2];
    int fd = 77;

    (void)state;
    assert_int_equal(channel_pair(true, ends), LEAFD_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int spare = dup(0); /* the lowest free number: would not be free if a descriptor stayed */
        int again;

        close(spare);
        assert_int_equal(channel_send(ends[0], bad[i], ends[0]), LEAFD_OK);
        assert_int_equal(role_msg_receive(ends[1], &message, &fd), LEAFD_MALFORMED);
        assert_int_equal(fd, 77);
        again = dup(0);
        assert_int_equal(again, spare);
        close(again);
    }
    close(ends[0]);
    close(ends[1]);
}

static void a_boot_message_comes_as_it_went(void **state)
{
    static const char *const overrides[] = {"log.level=debug", "ttl.max=1h"};
    struct role_boot boot = {
        .text = bytes_of("listen:\n  - udp: 127.0.0.1:0\n"),
        .file = "/etc/leafd/leafd.yaml",
        .dir = "/etc/leafd",
        .overrides = overrides,
        .override_count = 2,
        .log_level = 7,
        .insecure_file_key = true,
        .token = 3,
        .process = 1,
    };
    struct role_boot got;
    struct why why;
    uint8_t *memory;
    int fd;

    (void)state;
    assert_int_equal(role_boot_write(&boot, &fd, &why), LEAFD_OK);
    assert_int_equal(write(fd, "x", 1), -1); /* sealed */
    assert_int_equal(role_boot_read(fd, &got, &memory, &why), LEAFD_OK);
    assert_true(bytes_equal(got.text, boot.text));
    assert_string_equal(got.file, boot.file);
    assert_string_equal(got.dir, boot.dir);
    assert_int_equal(got.override_count, 2);
    assert_string_equal(got.overrides[0], overrides[0]);
    assert_string_equal(got.overrides[1], overrides[1]);
    assert_int_equal(got.log_level, 7);
    assert_true(got.insecure_file_key);
    assert_false(got.first);
    assert_int_equal(got.token, 3);
    assert_int_equal(got.process, 1);
    assert_int_equal(ROLE_PEER_TOKEN(ROLE_PEER(7u, 5u)), 7);
    assert_int_equal(ROLE_PEER_PROCESS(ROLE_PEER(7u, 5u)), 5);
    role_boot_clear(&got, memory);
    close(fd);

    boot.dir = NULL;
    boot.override_count = 0;
    boot.text = (struct bytes){NULL, 0};
    assert_int_equal(role_boot_write(&boot, &fd, &why), LEAFD_OK);
    assert_int_equal(role_boot_read(fd, &got, &memory, &why), LEAFD_OK);
    assert_null(got.dir);
    assert_int_equal(got.override_count, 0);
    assert_int_equal(got.text.len, 0);
    role_boot_clear(&got, memory);
    close(fd);
}

static void a_cut_boot_message_is_refused(void **state)
{
    static const char *const overrides[] = {"a=b", "c=d"};
    struct role_boot boot = {
        .file = "file", .dir = "dir", .overrides = overrides, .override_count = 2};
    uint8_t whole[256];
    ssize_t len;
    struct why why;
    int fd;

    (void)state;
    assert_int_equal(role_boot_write(&boot, &fd, &why), LEAFD_OK);
    len = read(fd, whole, sizeof(whole));
    assert_true(len > 0);
    close(fd);
    for (ssize_t cut = 0; cut < len; cut++) {
        struct role_boot got;
        uint8_t *memory;

        fd = memfd_create("cut", MFD_CLOEXEC);
        assert_int_equal(write(fd, whole, (size_t)cut), cut);
        assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
        assert_int_equal(role_boot_read(fd, &got, &memory, &why), LEAFD_INTERNAL);
        close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_as_it_went),
        cmocka_unit_test(other_messages_are_refused),
        cmocka_unit_test(a_boot_message_comes_as_it_went),
        cmocka_unit_test(a_cut_boot_message_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
