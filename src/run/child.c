/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/child.h"

#include "base/channel.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void child_init(struct child *child, enum role role, unsigned token, unsigned process)
{
    *child = (struct child){
        .role = role, .token = token, .process = process, .channel = -1, .kill_ms = CHILD_NEVER_MS};
}

/* Between fork and exec, in the child. */
static _Noreturn void child_exec(const struct child *child, const char *program, int channel)
{
    static const char *const ours[] = {"NOTIFY_SOCKET",  "LISTEN_FDS",   "LISTEN_PID",
                                       "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"};
    char number[16];
    char *argv[] = {(char *)(uintptr_t)program,
                    (char *)(uintptr_t) "--role",
                    (char *)(uintptr_t)role_name(child->role),
                    (char *)(uintptr_t) "--channel",
                    number,
                    NULL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    sigset_t none;

    snprintf(number, sizeof(number), "%d", channel);
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        unsetenv(ours[i]);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (null != -1)
        dup2(null, STDIN_FILENO);
    /* Ours are close-on-exec; this is for those we were started with. */
    if (close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0 && fcntl(channel, F_SETFD, 0) == 0)
        execv("/proc/self/exe", argv);
    log_event(LOG_LEVEL_ERROR, "exec-failed", "reason=\"/proc/self/exe: %s\"", strerror(errno));
    _exit(EXIT_FAILED);
}

enum leafd_err child_say(int channel, enum role_msg_kind kind, uint32_t value, int fd,
                         struct why *why)
{
    enum leafd_err err = role_msg_send(channel, kind, value, fd);

    return err == LEAFD_OK ? LEAFD_OK : fail(why, err, "cannot write to a role's channel");
}

static enum leafd_err say_boot(const struct child *child, const struct role_boot *common,
                               int channel, struct why *why)
{
    struct role_boot boot = *common;
    enum leafd_err err;
    int fd;

    boot.first = child->first;
    boot.token = child->token;
    boot.process = child->process;
    err = role_boot_write(&boot, &fd, why);
    if (err != LEAFD_OK)
        return err;
    err = child_say(channel, ROLE_MSG_BOOT, (uint32_t)getpid(), fd, why);
    close(fd);
    return err;
}

/* " token=1 process=0" behind a signer's role, in log lines. */
static const char *place_text(const struct child *child, char *out, size_t size)
{
    out[0] = '\0';
    if (child->role == ROLE_SIGNER)
        snprintf(out, size, " token=%u process=%u", child->token, child->process);
    return out;
}

enum leafd_err child_start(struct child *child, const char *program, const struct role_boot *boot,
                           child_give_fn give, void *ctx, struct why *why)
{
    enum leafd_err err;
    char place[48];
    int ends[2];
    pid_t pid;

    err = channel_pair(true, ends);
    if (err != LEAFD_OK)
        return fail(why, err, "socketpair: %s", strerror(errno));
    err = say_boot(child, boot, ends[0], why);
    if (err == LEAFD_OK)
        err = give(ctx, child, ends[0], why);
    if (err == LEAFD_OK)
        err = child_say(ends[0], ROLE_MSG_GO, 0, -1, why);
    if (err != LEAFD_OK)
        goto out;
    pid = fork();
    if (pid == -1) {
        err = fail(why, LEAFD_IO, "fork: %s", strerror(errno));
        goto out;
    }
    if (pid == 0)
        child_exec(child, program, ends[1]);
    child->pid = pid;
    child->channel = ends[0];
    child->pin_blocked = false;
    child->told_to_stop = false;
    child->started_ms = clock_mono_ms();
    child->kill_ms = CHILD_NEVER_MS;
    log_event(LOG_LEVEL_INFO, "role-started", "role=%s%s pid=%d", role_name(child->role),
              place_text(child, place, sizeof(place)), (int)pid);
    ends[0] = -1;
out:
    if (ends[0] != -1)
        close(ends[0]);
    close(ends[1]);
    return err;
}

void child_kill(const struct child *child)
{
    if (child->pid)
        kill(child->pid, SIGKILL);
}

void child_stop(struct child *child)
{
    if (!child->pid || child->told_to_stop)
        return;
    child->told_to_stop = true;
    if (child->channel != -1 && role_msg_send(child->channel, ROLE_MSG_STOP, 0, -1) != LEAFD_OK)
        log_event(LOG_LEVEL_DEBUG, "role-deaf", "role=%s", role_name(child->role));
}

void child_ended(struct child *child, int status, bool expected)
{
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    char place[48];

    if (child->channel != -1)
        close(child->channel);
    child->channel = -1;
    log_event(expected && clean ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "role-ended",
              "role=%s%s pid=%d %s=%d", role_name(child->role),
              place_text(child, place, sizeof(place)), (int)child->pid,
              WIFEXITED(status) ? "exit" : "signal",
              WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    child->pid = 0;
    child->kill_ms = CHILD_NEVER_MS;
}
