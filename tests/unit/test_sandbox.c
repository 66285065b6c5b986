/* SPDX-License-Identifier: Apache-2.0 */
/* Each look at a sandbox is taken in a child, which then is lost to everything else. Run as root,
 * the change of user is tested too. */
#include "config.h"

#include "base/sandbox.h"
#include "tests/lib/unit.h"

#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct sandbox_limits limits = {256, 65536};
static const char unused_id[] = "64123";

/* Runs `look` in a child; it returns 0, or the number of what it did not like. */
static int in_child(int (*look)(void))
{
    pid_t pid = fork();
    int status;

    assert_true(pid != -1);
    if (pid == 0)
        _exit(look());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int enter(pid_t parent)
{
    struct sandbox_user user;
    struct why why;

    if (sandbox_user_of(unused_id, &user, &why) != LEAFD_OK)
        return 1;
    if (sandbox_enter(&user, &limits, parent, &why) != LEAFD_OK) {
        fprintf(stderr, "%s\n", why.text);
        return 2;
    }
    return 0;
}

static int look_at_all(void)
{
    struct rlimit limit;
    int signal_number = 0;

    if (enter(getppid()))
        return 10;
    if (prctl(PR_GET_PDEATHSIG, &signal_number) == -1 || signal_number != SIGKILL)
        return 11;
    if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur > limits.open_files)
        return 12;
    if (getrlimit(RLIMIT_CORE, &limit) == -1 || limit.rlim_cur != 0 || limit.rlim_max != 0)
        return 13;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 14;
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        return 15;
    if (umask(022) != 077)
        return 16;
    return 0;
}

static void a_role_gives_up_all(void **state)
{
    (void)state;
    assert_int_equal(in_child(look_at_all), 0);
}

/* "CapEff:	0000000000000000" and its like, all zero? */
static int capabilities_left(void)
{
    static const char *const sets[] = {"CapInh:", "CapPrm:", "CapEff:", "CapAmb:"};
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    int left = 0;

    if (!file)
        return 1;
    while (fgets(line, sizeof(line), file)) {
        for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
            if (strncmp(line, sets[i], 7) == 0 && strtoull(line + 7, NULL, 16) != 0)
                left = 1;
        }
    }
    fclose(file);
    return left;
}

static int look_at_user(void)
{
    uid_t uids[3];
    gid_t gids[3];

    if (enter(getppid()))
        return 20;
    if (getresuid(&uids[0], &uids[1], &uids[2]) == -1 ||
        getresgid(&gids[0], &gids[1], &gids[2]) == -1)
        return 21;
    for (int i = 0; i < 3; i++) {
        if (uids[i] != 64123 || gids[i] != 64123)
            return 22;
    }
    if (getgroups(0, NULL) != 0)
        return 23;
    if (setuid(0) != -1 || setgid(0) != -1)
        return 24;
    return capabilities_left() ? 25 : 0;
}

static void root_becomes_another_for_good(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_child(look_at_user), 0);
}

static int look_at_ordinary(void)
{
    struct sandbox_user user = {true, 1, 1};
    struct why why;

    if (geteuid() == 0 && setuid(64123) == -1)
        return 30;
    if (sandbox_user_of("no-such-user-anywhere", &user, &why) != LEAFD_OK || user.change)
        return 31;
    if (sandbox_enter(&user, &limits, getppid(), &why) != LEAFD_OK)
        return 32;
    return capabilities_left() ? 33 : 0;
}

static void others_stay_who_they_are(void **state)
{
    (void)state;
    assert_int_equal(in_child(look_at_ordinary), 0);
}

static int look_at_orphan(void)
{
    struct sandbox_user user;
    struct why why;

    if (sandbox_user_of(unused_id, &user, &why) != LEAFD_OK)
        return 40;
    if (sandbox_enter(&user, &limits, getppid() + 1, &why) != LEAFD_IO)
        return 41;
    return strstr(why.text, "gone") ? 0 : 42;
}

static void an_orphan_does_not_start(void **state)
{
    (void)state;
    assert_int_equal(in_child(look_at_orphan), 0);
}

/* A sandboxed child dies with its parent, also when it has changed its user. */
static void the_parent_takes_its_child_along(void **state)
{
    int alive[2];
    char letter;
    pid_t pid;

    (void)state;
    assert_int_equal(pipe(alive), 0);
    pid = fork();
    assert_true(pid != -1);
    if (pid == 0) {
        pid_t child = fork();

        close(alive[0]);
        if (child == 0) {
            if (enter(getppid()) == 0 && write(alive[1], "x", 1) == 1)
                pause();
            _exit(1);
        }
        close(alive[1]);
        pause();
        _exit(0);
    }
    close(alive[1]);
    assert_int_equal(read(alive[0], &letter, 1), 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(read(alive[0], &letter, 1), 0); /* the last writer is gone */
    close(alive[0]);
}

static void users_by_name_and_number(void **state)
{
    struct sandbox_user user;
    struct why why;

    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(sandbox_user_of("64123", &user, &why), LEAFD_OK);
    assert_true(user.change);
    assert_int_equal(user.uid, 64123);
    assert_int_equal(user.gid, 64123);
    assert_int_equal(sandbox_user_of("nobody", &user, &why), LEAFD_OK);
    assert_true(user.uid != 0);
}

static void bad_users_are_refused_with_the_remedy(void **state)
{
    static const char *const roots[] = {"root", "0", "00"};
    static const char *const numbers[] = {"4294967295", "99999999999999999999", "12x", "1 2"};
    struct sandbox_user user = {false, 7, 7};
    struct why why;

    (void)state;
    if (geteuid() != 0)
        skip();
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(sandbox_user_of(roots[i], &user, &why), LEAFD_CONFIG);
        assert_non_null(strstr(why.text, "root"));
    }
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(sandbox_user_of(numbers[i], &user, &why), LEAFD_CONFIG);
    assert_int_equal(sandbox_user_of("no-such-user-anywhere", &user, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "useradd --system"));
    assert_non_null(strstr(why.text, "user id instead"));
    assert_int_equal(sandbox_user_of("", &user, &why), LEAFD_CONFIG);
    assert_int_equal(user.uid, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_role_gives_up_all),
        cmocka_unit_test(root_becomes_another_for_good),
        cmocka_unit_test(others_stay_who_they_are),
        cmocka_unit_test(an_orphan_does_not_start),
        cmocka_unit_test(the_parent_takes_its_child_along),
        cmocka_unit_test(users_by_name_and_number),
        cmocka_unit_test(bad_users_are_refused_with_the_remedy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
