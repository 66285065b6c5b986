/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

bool terminal_is(int fd)
{
    pid_t foreground = tcgetpgrp(fd);

    /* -1: a terminal that controls somebody else, or nobody */
    return isatty(fd) && (foreground == -1 || foreground == getpgrp());
}

int terminal_open(void)
{
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

    if (fd == -1)
        fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    if (fd == -1 || terminal_is(fd))
        return fd;
    close(fd);
    return -1;
}

/* Those that would leave a terminal without an echo behind, and the one after which somebody else
 * may have switched it on. */
static sigset_t signals_of_interest(void)
{
    static const int wanted[] = {SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    return set;
}

static void say(int terminal, const char *text)
{
    if (!bytes_write_fd(terminal, bytes_of(text))) /* it may be open for reading alone */
        (void)!bytes_write_fd(STDERR_FILENO, bytes_of(text));
}

/* In the background, where we may have got to by now, this stops us until we are back. */
static bool settings_set(int terminal, const struct termios *settings)
{
    int rc;

    do
        rc = tcsetattr(terminal, TCSAFLUSH, settings);
    while (rc == -1 && errno == EINTR);
    return rc == 0;
}

static bool echo_off(int terminal, const struct termios *before)
{
    struct termios now = *before;

    now.c_iflag |= ICRNL; /* whoever had the terminal before may have left it raw */
    now.c_lflag |= ICANON | ISIG;
    now.c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL);
    return settings_set(terminal, &now);
}

/* One line into `line`, which has room for `max` octets and its newline. LEAFD_AGAIN: a signal is
 * waiting. */
static enum leafd_err read_line(int terminal, int signals, struct secret *line, size_t max,
                                struct why *why)
{
    size_t len = 0;

    while (len <= max) {
        struct pollfd wait[] = {{.fd = signals, .events = POLLIN},
                                {.fd = terminal, .events = POLLIN}};
        ssize_t got;

        if (poll(wait, 2, -1) == -1 && errno != EINTR)
            return fail(why, LEAFD_IO, "poll: %s", strerror(errno));
        if (wait[0].revents)
            return LEAFD_AGAIN;
        if (!wait[1].revents)
            continue;
        got = read(terminal, line->data + len, max + 1 - len);
        if (got == -1 && errno != EINTR && errno != EAGAIN)
            return fail(why, LEAFD_IO, "cannot read from the terminal: %s", strerror(errno));
        len += got > 0 ? (size_t)got : 0;
        if (got == 0 || (len && line->data[len - 1] == '\n')) {
            line->len = got == 0 ? len : len - 1;
            line->data[line->len] = '\0';
            return LEAFD_OK;
        }
    }
    return LEAFD_TOO_LARGE;
}

/* With the signals blocked. */
static enum leafd_err ask_quietly(int terminal, int signals, const char *question,
                                  struct secret *line, size_t max, struct why *why)
{
    struct termios before;
    enum leafd_err err;

    if (tcgetattr(terminal, &before) == -1 || !echo_off(terminal, &before))
        return fail(why, LEAFD_IO, "cannot switch the terminal's echo off: %s", strerror(errno));
    say(terminal, question);
    err = read_line(terminal, signals, line, max, why);
    say(terminal, "\n");
    if (!settings_set(terminal, &before) && err == LEAFD_OK)
        err = fail(why, LEAFD_IO, "cannot switch the terminal's echo on: %s", strerror(errno));
    return err;
}

/* Has one of them come that the caller has blocked? Any other has had its effect by now. */
static bool is_one_pending(const sigset_t *set)
{
    sigset_t pending;

    sigpending(&pending);
    sigandset(&pending, &pending, set);
    return !sigisemptyset(&pending);
}

enum leafd_err terminal_ask(int terminal, const char *question, size_t max, struct secret *ret,
                            struct why *why)
{
    struct secret line = SECRET_EMPTY;
    sigset_t set = signals_of_interest();
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    sigset_t before;
    enum leafd_err err;

    if (signals == -1)
        return fail(why, LEAFD_IO, "signalfd: %s", strerror(errno));
    err = secret_init(&line, max + 1);
    if (err != LEAFD_OK)
        goto out;
    do {
        sigprocmask(SIG_BLOCK, &set, &before);
        err = ask_quietly(terminal, signals, question, &line, max, why);
        sigprocmask(SIG_SETMASK, &before, NULL); /* here they take effect */
    } while (err == LEAFD_AGAIN && !is_one_pending(&set));
    if (err == LEAFD_AGAIN)
        err = LEAFD_ABSENT;
    if (err == LEAFD_OK)
        err = secret_set(ret, (struct bytes){line.data, line.len});
out:
    secret_clear(&line);
    close(signals);
    return err;
}
