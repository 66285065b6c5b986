/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/channel.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void pair_open(int ends[2])
{
    assert_int_equal(channel_pair(true, ends), LEAFD_OK);
}

static void pair_close(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

static int fds_open(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

/* Many descriptors in one message: what channel_send never does. */
static void send_fds(int end, const int *fds, size_t count)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(16 * sizeof(int))];
    } control = {0};
    char letter = 'x';
    struct iovec part = {&letter, 1};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = control.room,
                            .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);

    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(cmsg), fds, count * sizeof(int));
    assert_int_equal(sendmsg(end, &header, 0), 1);
}

static void ends_are_close_on_exec(void **state)
{
    int ends[2];

    (void)state;
    for (int nonblock = 0; nonblock < 2; nonblock++) {
        assert_int_equal(channel_pair(nonblock, ends), LEAFD_OK);
        for (int i = 0; i < 2; i++) {
            assert_true(fcntl(ends[i], F_GETFD) & FD_CLOEXEC);
            assert_int_equal(!!(fcntl(ends[i], F_GETFL) & O_NONBLOCK), nonblock);
        }
        pair_close(ends);
    }
}

static void messages_keep_their_borders(void **state)
{
    uint8_t buffer[16];
    size_t len;
    int fd;
    int ends[2];

    (void)state;
    pair_open(ends);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_AGAIN);
    assert_int_equal(channel_send(ends[0], bytes_of("one"), -1), LEAFD_OK);
    assert_int_equal(channel_send(ends[0], bytes_of("second"), -1), LEAFD_OK);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    assert_int_equal(len, 3);
    assert_memory_equal(buffer, "one", 3);
    assert_int_equal(fd, -1);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    assert_int_equal(len, 6);
    assert_memory_equal(buffer, "second", 6);
    pair_close(ends);
}

static void a_descriptor_arrives_close_on_exec(void **state)
{
    struct stat sent, received;
    uint8_t buffer[16];
    size_t len;
    int fd = -1;
    int ends[2];

    (void)state;
    pair_open(ends);
    assert_int_equal(channel_send(ends[0], bytes_of("take"), ends[0]), LEAFD_OK);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    assert_true(fd > ends[1]);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fstat(ends[0], &sent), 0);
    assert_int_equal(fstat(fd, &received), 0);
    assert_int_equal(sent.st_ino, received.st_ino);
    close(fd);
    pair_close(ends);
}

static void more_descriptors_are_refused_and_closed(void **state)
{
    uint8_t buffer[16];
    size_t len = 77;
    int fd = 77;
    int ends[2];
    int before;

    (void)state;
    pair_open(ends);
    before = fds_open();
    for (size_t count = 2; count <= 16; count++) {
        int many[16];

        for (size_t i = 0; i < count; i++)
            many[i] = ends[i % 2];
        send_fds(ends[0], many, count);
        assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd),
                         LEAFD_MALFORMED);
        assert_int_equal(len, 77);
        assert_int_equal(fd, 77);
        assert_int_equal(fds_open(), before);
    }
    pair_close(ends);
}

static void a_cut_message_is_refused_with_its_descriptor(void **state)
{
    uint8_t buffer[4];
    size_t len;
    int fd;
    int ends[2];
    int before;

    (void)state;
    pair_open(ends);
    before = fds_open();
    assert_int_equal(channel_send(ends[0], bytes_of("12345"), ends[1]), LEAFD_OK);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_MALFORMED);
    assert_int_equal(fds_open(), before);
    assert_int_equal(channel_send(ends[0], bytes_of("1234"), -1), LEAFD_OK);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    pair_close(ends);
}

static void sizes_are_bounded(void **state)
{
    static uint8_t big[CHANNEL_MAX + 1];
    static uint8_t buffer[CHANNEL_MAX];
    size_t len;
    int fd;
    int ends[2];

    (void)state;
    pair_open(ends);
    assert_int_equal(channel_send(ends[0], (struct bytes){NULL, 0}, -1), LEAFD_INTERNAL);
    assert_int_equal(channel_send(ends[0], (struct bytes){big, sizeof(big)}, -1), LEAFD_INTERNAL);
    assert_int_equal(channel_send(ends[0], (struct bytes){big, CHANNEL_MAX}, -1), LEAFD_OK);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    assert_int_equal(len, CHANNEL_MAX);
    pair_close(ends);
}

static void a_full_channel_says_so(void **state)
{
    static uint8_t big[CHANNEL_MAX];
    enum leafd_err err = LEAFD_OK;
    int ends[2];

    (void)state;
    pair_open(ends);
    for (int i = 0; err == LEAFD_OK && i < 100000; i++)
        err = channel_send(ends[0], (struct bytes){big, sizeof(big)}, -1);
    assert_int_equal(err, LEAFD_BUSY);
    pair_close(ends);
}

static void the_end_is_told(void **state)
{
    uint8_t buffer[16];
    size_t len;
    int fd;
    int ends[2];

    (void)state;
    pair_open(ends);
    assert_int_equal(channel_send(ends[0], bytes_of("last"), -1), LEAFD_OK);
    close(ends[0]);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_ABSENT);
    assert_int_equal(channel_send(ends[1], bytes_of("x"), -1), LEAFD_IO);
    close(ends[1]);
}

/* The other end goes with a message of ours unread: the kernel tells a reset before its last words.
 */
static void last_words_survive_a_reset(void **state)
{
    uint8_t buffer[16];
    size_t len;
    int fd;
    int ends[2];

    (void)state;
    pair_open(ends);
    assert_int_equal(channel_send(ends[1], bytes_of("never read"), -1), LEAFD_OK);
    assert_int_equal(channel_send(ends[0], bytes_of("last"), -1), LEAFD_OK);
    close(ends[0]);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_OK);
    assert_int_equal(len, 4);
    assert_int_equal(channel_receive(ends[1], buffer, sizeof(buffer), &len, &fd), LEAFD_ABSENT);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends_are_close_on_exec),
        cmocka_unit_test(messages_keep_their_borders),
        cmocka_unit_test(a_descriptor_arrives_close_on_exec),
        cmocka_unit_test(more_descriptors_are_refused_and_closed),
        cmocka_unit_test(a_cut_message_is_refused_with_its_descriptor),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(a_full_channel_says_so),
        cmocka_unit_test(the_end_is_told),
        cmocka_unit_test(last_words_survive_a_reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
