/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/job_queue.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/recent_numbers.h"
#include "base/secret.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void every_error_has_its_word(void **state)
{
    (void)state;
    for (int err = LEAFD_OK; err < LEAFD_ERR_COUNT; err++)
        assert_non_null(err_name((enum leafd_err)err));
    assert_string_equal(err_name(LEAFD_TOKEN_UNAVAILABLE), "token-unavailable");
    assert_string_equal(err_name((enum leafd_err)LEAFD_ERR_COUNT), "unknown");
    assert_string_equal(err_name((enum leafd_err) - 1), "unknown");
}

static void a_sentence_is_cut_not_overrun(void **state)
{
    struct why why;
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(fail(&why, LEAFD_REFUSED, "%s", text), LEAFD_REFUSED);
    assert_int_equal(strlen(why.text), sizeof(why.text) - 1);
    assert_int_equal(fail_in(&why, LEAFD_IO, "%s", text), LEAFD_IO);
    assert_true(strlen(why.text) < sizeof(why.text));
    assert_int_equal(fail(NULL, LEAFD_BUSY, "nobody reads this"), LEAFD_BUSY);
}

static void a_place_is_put_before_the_sentence(void **state)
{
    struct why why;

    (void)state;
    assert_int_equal(fail(&why, LEAFD_CONFIG, "not a number"), LEAFD_CONFIG);
    assert_int_equal(fail_in(&why, LEAFD_CONFIG, "line %d", 3), LEAFD_CONFIG);
    assert_string_equal(why.text, "line 3: not a number");
}

static void foreign_bytes_are_escaped_and_cut(void **state)
{
    char out[16];
    char tiny[1];

    (void)state;
    assert_string_equal(bytes_escape(bytes_of("a\"b\\\n"), out, sizeof(out)), "a\\\"b\\\\\\x0a");
    assert_string_equal(bytes_escape(bytes_of("0123456789abcdef"), out, sizeof(out)),
                        "0123456789ab...");
    assert_string_equal(bytes_escape(bytes_of("0123456789abcde"), out, sizeof(out)),
                        "0123456789abcde");
    assert_string_equal(bytes_escape(bytes_of("x"), tiny, sizeof(tiny)), "");
}

static void bytes_are_compared_by_content(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of("ab"), bytes_of("ab")));
    assert_false(bytes_equal(bytes_of("ab"), bytes_of("abc")));
    assert_true(bytes_equal((struct bytes){NULL, 0}, bytes_of("")));
    assert_true(bytes_equal_nocase(bytes_of("aZ"), bytes_of("Az")));
    assert_false(bytes_equal_nocase(bytes_of("a["), bytes_of("a{")));
    assert_true(bytes_compare(bytes_of("a"), bytes_of("ab")) < 0);
    assert_true(bytes_compare(bytes_of("b"), bytes_of("ab")) > 0);
    assert_int_equal(bytes_compare(bytes_of("ab"), bytes_of("ab")), 0);
}

static void a_file_is_read_whole_or_refused(void **state)
{
    char path[] = "/tmp/leafd-test-XXXXXX";
    int fd = mkstemp(path);
    struct bytes content = {NULL, 0};
    struct why why;
    char block[5000];

    (void)state;
    assert_int_not_equal(fd, -1);
    memset(block, 'y', sizeof(block));
    assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
    assert_int_equal(bytes_read_file(path, sizeof(block) - 1, &content, &why), LEAFD_TOO_LARGE);
    assert_null(content.data);
    assert_int_equal(bytes_read_file(path, sizeof(block), &content, &why), LEAFD_OK);
    assert_int_equal(content.len, sizeof(block));
    free((void *)content.data);
    close(fd);
    unlink(path);
    assert_int_equal(bytes_read_file(path, 10, &content, &why), LEAFD_IO);
    assert_non_null(strstr(why.text, path));
}

/* A pipe takes this in many pieces. */
static void all_is_written_or_the_failure_told(void **state)
{
    static const uint8_t much[300000];
    struct bytes got = {NULL, 0};
    pid_t writer;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    writer = fork();
    assert_true(writer >= 0);
    if (writer == 0)
        _exit(bytes_write_fd(ends[1], (struct bytes){much, sizeof(much)}) ? 0 : 1);
    close(ends[1]);
    assert_int_equal(bytes_read_fd(ends[0], "pipe", sizeof(much), &got, NULL), LEAFD_OK);
    assert_int_equal(waitpid(writer, NULL, 0), writer);
    assert_true(bytes_equal(got, (struct bytes){much, sizeof(much)}));
    assert_false(bytes_write_fd(ends[0], bytes_of("the end that reads")));
    assert_true(bytes_write_fd(ends[0], (struct bytes){NULL, 0}));
    close(ends[0]);
    free((void *)(uintptr_t)got.data);
}

static void a_secret_is_bounded_and_ends_empty(void **state)
{
    struct secret secret = SECRET_EMPTY;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "12345", 5), 5);
    close(ends[1]);
    assert_int_equal(secret_read_fd(&secret, ends[0], 8), LEAFD_OK);
    close(ends[0]);
    assert_int_equal(secret.len, 5);
    assert_string_equal((char *)secret.data, "12345");
    secret_clear(&secret);
    assert_null(secret.data);

    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], "123456789", 9), 9);
    close(ends[1]);
    assert_int_equal(secret_read_fd(&secret, ends[0], 8), LEAFD_TOO_LARGE);
    assert_null(secret.data);
    close(ends[0]);
    secret_clear(&secret);
}

static void a_kernel_stamp_lands_on_the_monotonic_clock(void **state)
{
    int64_t now = clock_mono_ms();
    int64_t real = clock_wall_sec() * 1000000000;

    (void)state;
    assert_in_range(clock_mono_ms_of_real(real - 5000000000), now - 7000, now - 4000);
    assert_true(clock_mono_ms_of_real(real + 60000000000) >= now); /* from the future: now */
}

static void *adds(void *arg)
{
    for (int i = 0; i < 1000; i++)
        metrics_add(METRIC_DATAGRAMS, 1);
    return arg;
}

static void counts_outlive_their_threads(void **state)
{
    pthread_t thread[4];
    uint64_t before = metrics_read(METRIC_DATAGRAMS);

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, adds, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    metrics_add(METRIC_DATAGRAMS, 1);
    assert_int_equal(metrics_read(METRIC_DATAGRAMS) - before, 4001);
}

static void a_queue_is_bounded_and_in_order(void **state)
{
    struct job_queue *queue = NULL;
    int jobs[3];

    (void)state;
    assert_int_equal(job_queue_new(2, &queue), LEAFD_OK);
    assert_true(job_queue_push(queue, &jobs[0]));
    assert_true(job_queue_push(queue, &jobs[1]));
    assert_false(job_queue_push(queue, &jobs[2]));
    assert_int_equal(job_queue_depth(queue), 2);
    assert_ptr_equal(job_queue_pop(queue, INT64_MAX), &jobs[0]);
    assert_true(job_queue_push(queue, &jobs[2]));
    job_queue_close(queue);
    assert_false(job_queue_push(queue, &jobs[0]));
    assert_ptr_equal(job_queue_pop(queue, INT64_MAX), &jobs[1]);
    assert_ptr_equal(job_queue_pop(queue, INT64_MAX), &jobs[2]);
    assert_null(job_queue_pop(queue, INT64_MAX));
    job_queue_free(queue);
}

static void waiting_on_a_queue_ends_at_the_deadline(void **state)
{
    struct job_queue *queue = NULL;
    int64_t start = clock_mono_ms();

    (void)state;
    assert_int_equal(job_queue_new(1, &queue), LEAFD_OK);
    assert_null(job_queue_pop(queue, start + 30));
    assert_true(clock_mono_ms() >= start + 30);
    job_queue_close(queue);
    job_queue_free(queue);
}

static void *pushes(void *arg)
{
    static int job;

    for (int i = 0; i < 1000;)
        i += job_queue_push(arg, &job);
    return NULL;
}

static void nothing_is_lost_between_threads(void **state)
{
    struct job_queue *queue = NULL;
    pthread_t thread[2];

    (void)state;
    assert_int_equal(job_queue_new(8, &queue), LEAFD_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, pushes, queue), 0);
    for (int i = 0; i < 2000; i++)
        assert_non_null(job_queue_pop(queue, clock_mono_ms() + 10000));
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(job_queue_depth(queue), 0);
    job_queue_close(queue);
    job_queue_free(queue);
}

/* What `write_lines` logs, by standing in for standard error. */
static size_t captured(char *out, size_t size, void (*write_lines)(void))
{
    int ends[2];
    int saved = dup(STDERR_FILENO);
    ssize_t len;

    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    dup2(ends[1], STDERR_FILENO);
    write_lines();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(ends[1]);
    len = read(ends[0], out, size - 1);
    close(ends[0]);
    out[len > 0 ? len : 0] = '\0';
    return len > 0 ? (size_t)len : 0;
}

static void write_three_levels(void)
{
    log_event(LOG_LEVEL_INFO, "seen", "key=%d", 1);
    log_event(LOG_LEVEL_DEBUG, "unseen", "key=%d", 2);
    log_event(LOG_LEVEL_ERROR, "bare", "%s", "");
}

static void write_a_flood(void)
{
    static struct log_limit limit;

    for (int i = 0; i < 500; i++)
        log_limited(&limit, 2, LOG_LEVEL_WARNING, "flood", "i=%d", i);
}

static void write_a_long_line(void)
{
    char text[3000];

    memset(text, 'z', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_event(LOG_LEVEL_ERROR, "long", "text=%s", text);
}

static void a_log_line_is_one_line(void **state)
{
    char out[65536];
    size_t lines = 0;

    (void)state;
    unsetenv("JOURNAL_STREAM");
    log_init("test", LOG_LEVEL_INFO);
    captured(out, sizeof(out), write_three_levels);
    assert_string_equal(out, "leafd[test] info: event=seen key=1\nleafd[test] error: event=bare\n");

    assert_true(captured(out, sizeof(out), write_a_long_line) <= 1001);
    assert_int_equal(out[strlen(out) - 1], '\n');

    captured(out, sizeof(out), write_a_flood);
    for (char *at = out; (at = strchr(at, '\n')); at++)
        lines++;
    assert_in_range(lines, 2, 6); /* two a second, and the second may turn */
}

static void levels_have_words(void **state)
{
    enum log_level level = LOG_LEVEL_INFO;

    (void)state;
    assert_true(log_level_of("debug", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_false(log_level_of("verbose", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
}

static void numbers_are_forgotten_in_their_order(void **state)
{
    struct recent_numbers recent = {.count = 0};

    (void)state;
    assert_false(recent_numbers_has(&recent, 0));
    for (uint64_t i = 1; i <= RECENT_NUMBERS_MAX + 10; i++)
        recent_numbers_add(&recent, i << 40);
    assert_false(recent_numbers_has(&recent, UINT64_C(10) << 40));
    assert_true(recent_numbers_has(&recent, UINT64_C(11) << 40));
    assert_true(recent_numbers_has(&recent, (uint64_t)(RECENT_NUMBERS_MAX + 10) << 40));
    assert_false(recent_numbers_has(&recent, 11));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_error_has_its_word),
        cmocka_unit_test(a_sentence_is_cut_not_overrun),
        cmocka_unit_test(a_place_is_put_before_the_sentence),
        cmocka_unit_test(foreign_bytes_are_escaped_and_cut),
        cmocka_unit_test(bytes_are_compared_by_content),
        cmocka_unit_test(a_file_is_read_whole_or_refused),
        cmocka_unit_test(all_is_written_or_the_failure_told),
        cmocka_unit_test(a_secret_is_bounded_and_ends_empty),
        cmocka_unit_test(a_kernel_stamp_lands_on_the_monotonic_clock),
        cmocka_unit_test(counts_outlive_their_threads),
        cmocka_unit_test(a_queue_is_bounded_and_in_order),
        cmocka_unit_test(waiting_on_a_queue_ends_at_the_deadline),
        cmocka_unit_test(nothing_is_lost_between_threads),
        cmocka_unit_test(a_log_line_is_one_line),
        cmocka_unit_test(levels_have_words),
        cmocka_unit_test(numbers_are_forgotten_in_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
