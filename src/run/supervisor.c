/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/supervisor.h"

#include "base/channel.h"
#include "base/clock.h"
#include "pkcs11/pin.h"
#include "run/role.h"
#include "run/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

enum {
    STOP_MS = 4500,        /* for all roles together; what is left then is killed */
    LIVED_MS = 2000,       /* a role that dies younger than this is started again ever later */
    BACKOFF_FIRST_MS = 50, /* the first time at once, the second so much later, then doubling */
    BACKOFF_MAX_MS = 30000,
    PAIR_BUFFER = 1 << 20, /* octets on their way from a front to a signer, and back */
    MESSAGES_PER_TURN = 16 /* from one role, before the others have their turn */
};

/* In the order of their start: to open the signer's PIN source overwrites the variable it is in,
 * before anybody inherits it. One signer; its number is 0. */
enum { CHILD_SIGNER, CHILD_FRONT, CHILD_COUNT };

struct child {
    enum role role;
    pid_t pid;   /* 0: does not run */
    int channel; /* -1: does not run, or has closed its end */
    bool ready;  /* one of its kind has been ready: what comes later is no first start */
    bool pin_blocked;
    bool told_to_stop;
    int64_t started_ms;
    int64_t restart_ms; /* when it is to be started, while it does not run */
    int64_t backoff_ms;
};

struct supervisor {
    const struct supervisor_options *options;
    struct bytes text; /* of the configuration that the roles are started with */
    char *file;
    char *dir;
    struct conf *conf;
    enum log_level log_level;
    struct sockets sockets;
    int pin_kept; /* a PIN source that can be opened only once, or -1 */
    int signals;
    struct child children[CHILD_COUNT];
    bool announced;
    bool stopping;
    int64_t kill_ms; /* while stopping */
    int exit_code;
};

static void notify(const char *state)
{
#ifdef HAVE_SYSTEMD
    (void)sd_notify(0, state);
#else
    (void)state;
#endif
}

/* ---- starting a role ---- */

/* Between fork and exec, in the child. */
static _Noreturn void child_exec(const struct supervisor *supervisor, const struct child *child,
                                 int channel)
{
    static const char *const ours[] = {"NOTIFY_SOCKET",  "LISTEN_FDS",   "LISTEN_PID",
                                       "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"};
    char number[16];
    char *argv[] = {(char *)(uintptr_t)supervisor->options->program,
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

static enum leafd_err say(int channel, enum role_msg_kind kind, uint32_t value, int fd,
                          struct why *why)
{
    enum leafd_err err = role_msg_send(channel, kind, value, fd);

    return err == LEAFD_OK ? LEAFD_OK : fail(why, err, "cannot write to a role's channel");
}

static enum leafd_err say_boot(const struct supervisor *supervisor, const struct child *child,
                               int channel, struct why *why)
{
    struct role_boot boot = {
        .text = supervisor->text,
        .file = supervisor->file,
        .dir = supervisor->dir,
        .overrides = supervisor->options->overrides,
        .override_count = supervisor->options->override_count,
        .log_level = (uint32_t)supervisor->log_level,
        .insecure_file_key = supervisor->options->insecure_file_key,
        .first = !child->ready,
        .pin_blocked = child->pin_blocked,
    };
    enum leafd_err err;
    int fd;

    err = role_boot_write(&boot, &fd, why);
    if (err != LEAFD_OK)
        return err;
    err = say(channel, ROLE_MSG_BOOT, (uint32_t)getpid(), fd, why);
    close(fd);
    return err;
}

static enum leafd_err say_sockets(const struct supervisor *supervisor, int channel, struct why *why)
{
    const struct sockets *sockets = &supervisor->sockets;
    enum leafd_err err = LEAFD_OK;

    for (size_t i = 0; err == LEAFD_OK && i < sockets->listen_count; i++)
        err = say(channel, ROLE_MSG_LISTEN, (uint32_t)i, sockets->listen[i], why);
    if (err == LEAFD_OK)
        err = say(channel, ROLE_MSG_CONTROL, 0, sockets->control, why);
    if (err == LEAFD_OK && sockets->admin_unix != -1)
        err = say(channel, ROLE_MSG_ADMIN_UNIX, 0, sockets->admin_unix, why);
    if (err == LEAFD_OK && sockets->admin_tcp != -1)
        err = say(channel, ROLE_MSG_ADMIN_TCP, 0, sockets->admin_tcp, why);
    return err;
}

/* A file is opened anew for each signer, so that a changed PIN is seen. What can be read only once,
 * a variable or a pipe, comes as sealed memory: that is kept. */
static enum leafd_err say_pin(struct supervisor *supervisor, int channel, struct why *why)
{
    enum leafd_err err;
    int fd = supervisor->pin_kept;

    if (fd == -1) {
        err = pin_open(&supervisor->conf->token[0], &fd, why);
        if (err != LEAFD_OK || fd == -1)
            return err;
        if (fcntl(fd, F_GET_SEALS) > 0)
            supervisor->pin_kept = fd;
    }
    err = say(channel, ROLE_MSG_PIN, 0, fd, why); /* pin_read begins at its first octet */
    if (fd != supervisor->pin_kept)
        close(fd);
    return err;
}

/* All it needs waits in its channel before it is born. */
static enum leafd_err child_start(struct supervisor *supervisor, struct child *child,
                                  struct why *why)
{
    enum leafd_err err;
    int ends[2];
    pid_t pid;

    err = channel_pair(true, ends);
    if (err != LEAFD_OK)
        return fail(why, err, "socketpair: %s", strerror(errno));
    err = say_boot(supervisor, child, ends[0], why);
    if (err == LEAFD_OK && child->role == ROLE_FRONT)
        err = say_sockets(supervisor, ends[0], why);
    if (err == LEAFD_OK && child->role == ROLE_SIGNER)
        err = say_pin(supervisor, ends[0], why);
    if (err == LEAFD_OK)
        err = say(ends[0], ROLE_MSG_GO, 0, -1, why);
    if (err != LEAFD_OK)
        goto out;
    pid = fork();
    if (pid == -1) {
        err = fail(why, LEAFD_IO, "fork: %s", strerror(errno));
        goto out;
    }
    if (pid == 0)
        child_exec(supervisor, child, ends[1]);
    child->pid = pid;
    child->channel = ends[0];
    child->told_to_stop = false;
    child->started_ms = clock_mono_ms();
    log_event(LOG_LEVEL_INFO, "role-started", "role=%s pid=%d", role_name(child->role), (int)pid);
    ends[0] = -1;
out:
    if (ends[0] != -1)
        close(ends[0]);
    close(ends[1]);
    return err;
}

/* ---- front and signer, paired ---- */

static void child_kill(const struct child *child)
{
    if (child->pid)
        kill(child->pid, SIGKILL);
}

static void pair_buffers_set(int fd)
{
    int size = PAIR_BUFFER;

    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == -1)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static bool say_peer(const struct child *child, uint32_t value, int fd)
{
    struct why why = {""};
    enum leafd_err err = say(child->channel, ROLE_MSG_PEER, value, fd, &why);

    if (err == LEAFD_OK)
        return true;
    role_log_failure("role-deaf", err, &why);
    child_kill(child);
    return false;
}

/* A new pair whenever either of them is new. */
static void pair_connect(const struct supervisor *supervisor)
{
    const struct child *front = &supervisor->children[CHILD_FRONT];
    const struct child *signer = &supervisor->children[CHILD_SIGNER];
    int ends[2];

    if (front->channel == -1 || signer->channel == -1)
        return;
    if (channel_pair(true, ends) != LEAFD_OK) {
        log_event(LOG_LEVEL_ERROR, "pair-failed", "reason=\"%s\"", strerror(errno));
        child_kill(signer);
        return;
    }
    pair_buffers_set(ends[0]);
    pair_buffers_set(ends[1]);
    if (say_peer(signer, 0, ends[1]))
        (void)say_peer(front, 0, ends[0]);
    close(ends[0]);
    close(ends[1]);
}

/* ---- when a role ends ---- */

static void restart_later(struct child *child)
{
    int64_t now = clock_mono_ms();

    if (now - child->started_ms >= LIVED_MS)
        child->backoff_ms = 0;
    child->restart_ms = now + child->backoff_ms;
    child->backoff_ms = child->backoff_ms ? 2 * child->backoff_ms : BACKOFF_FIRST_MS;
    if (child->backoff_ms > BACKOFF_MAX_MS)
        child->backoff_ms = BACKOFF_MAX_MS;
}

/* One that does not listen is ending by itself, or is killed when its time is over. */
static void stop_role(struct child *child)
{
    if (!child->pid || child->told_to_stop)
        return;
    child->told_to_stop = true;
    if (child->channel != -1 && role_msg_send(child->channel, ROLE_MSG_STOP, 0, -1) != LEAFD_OK)
        log_event(LOG_LEVEL_DEBUG, "role-deaf", "role=%s", role_name(child->role));
}

/* The front first, since what it still has to answer may need the signer. */
static void stop_continue(struct supervisor *supervisor)
{
    stop_role(&supervisor->children[CHILD_FRONT]);
    if (!supervisor->children[CHILD_FRONT].pid)
        stop_role(&supervisor->children[CHILD_SIGNER]);
}

static void stop_begin(struct supervisor *supervisor, int exit_code)
{
    if (supervisor->stopping)
        return;
    supervisor->stopping = true;
    supervisor->exit_code = exit_code;
    supervisor->kill_ms = clock_mono_ms() + STOP_MS;
    notify("STOPPING=1");
    stop_continue(supervisor);
}

static void start_due(struct supervisor *supervisor)
{
    for (size_t i = 0; i < CHILD_COUNT && !supervisor->stopping; i++) {
        struct child *child = &supervisor->children[i];
        struct why why = {""};
        enum leafd_err err;

        if (child->pid || child->restart_ms > clock_mono_ms())
            continue;
        err = child_start(supervisor, child, &why);
        if (err == LEAFD_OK) {
            pair_connect(supervisor);
            continue;
        }
        role_log_failure("role-not-started", err, &why);
        if (!child->ready && exit_code_of(err) == EXIT_CONFIG) {
            stop_begin(supervisor, EXIT_CONFIG);
        } else {
            child->started_ms = clock_mono_ms();
            if (!child->backoff_ms)
                child->backoff_ms = BACKOFF_FIRST_MS;
            restart_later(child);
        }
    }
}

static void announce(struct supervisor *supervisor)
{
    char listen[768];
    char admin[80];

    if (supervisor->announced)
        return;
    supervisor->announced = true;
    log_event(LOG_LEVEL_INFO, "ready", "listen=%s admin=%s",
              sockets_listen_text(&supervisor->sockets, listen, sizeof(listen)),
              sockets_admin_text(&supervisor->sockets, admin, sizeof(admin)));
    notify("READY=1");
}

static void child_said(struct supervisor *supervisor, struct child *child,
                       const struct role_msg *message)
{
    if (message->kind == ROLE_MSG_READY) {
        child->ready = true;
        if (child->role == ROLE_FRONT)
            announce(supervisor);
    } else if (message->kind == ROLE_MSG_PIN_BLOCKED && child->role == ROLE_SIGNER) {
        child->pin_blocked = true;
    }
}

/* False: no more for now. */
static bool child_listen_once(struct supervisor *supervisor, struct child *child)
{
    struct role_msg message;
    enum leafd_err err;
    int fd;

    if (child->channel == -1)
        return false;
    err = role_msg_receive(child->channel, &message, &fd);
    if (err == LEAFD_AGAIN)
        return false;
    if (err == LEAFD_OK) {
        if (fd != -1)
            close(fd); /* nobody has anything to give to us */
        child_said(supervisor, child, &message);
    } else if (err != LEAFD_MALFORMED) {
        close(child->channel);
        child->channel = -1;
    }
    return true;
}

static void child_listen(struct supervisor *supervisor, struct child *child)
{
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        if (!child_listen_once(supervisor, child))
            return;
    }
}

static void child_ended(struct supervisor *supervisor, struct child *child, int status)
{
    bool told = supervisor->stopping && child->told_to_stop;
    bool clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    child_listen(supervisor, child);
    if (child->channel != -1)
        close(child->channel);
    child->channel = -1;
    log_event(told && clean ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "role-ended",
              "role=%s pid=%d %s=%d", role_name(child->role), (int)child->pid,
              WIFEXITED(status) ? "exit" : "signal",
              WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    child->pid = 0;
    if (supervisor->stopping) {
        stop_continue(supervisor);
    } else if (!child->ready && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG) {
        stop_begin(supervisor, EXIT_CONFIG); /* the role has said why */
    } else {
        restart_later(child);
    }
}

static void reap(struct supervisor *supervisor)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < CHILD_COUNT; i++) {
            if (supervisor->children[i].pid == pid)
                child_ended(supervisor, &supervisor->children[i], status);
        }
    }
}

/* ---- signals ---- */

static enum leafd_err conf_read(const struct supervisor_options *options, struct bytes *ret_text,
                                char **ret_file, char **ret_dir, struct conf **ret, struct why *why)
{
    struct bytes text = {NULL, 0};
    char *file = NULL;
    char *dir = NULL;
    struct conf *conf = NULL;
    enum leafd_err err;

    err = conf_find(options->config, &text, &file, &dir, why);
    if (err == LEAFD_OK)
        err = conf_load(text, file, dir, options->overrides, options->override_count, &conf, why);
    if (err == LEAFD_OK && conf->token[0].access == CONF_ACCESS_FILE && !options->insecure_file_key)
        err = fail(why, LEAFD_CONFIG,
                   "token.access: file keeps the CA key in a file; only --insecure-file-key on the "
                   "command line allows that, for tests");
    if (err != LEAFD_OK) {
        free((void *)(uintptr_t)text.data);
        free(file);
        free(dir);
        conf_free(conf);
        return err;
    }
    conf->insecure_file_key = options->insecure_file_key;
    *ret_text = text;
    *ret_file = file;
    *ret_dir = dir;
    *ret = conf;
    return LEAFD_OK;
}

static void log_level_pass_on(struct supervisor *supervisor, enum log_level level)
{
    supervisor->log_level = level;
    log_set_level(level);
    for (size_t i = 0; i < CHILD_COUNT; i++) {
        int channel = supervisor->children[i].channel;

        if (channel != -1 &&
            role_msg_send(channel, ROLE_MSG_LOG_LEVEL, (uint32_t)level, -1) != LEAFD_OK)
            log_event(LOG_LEVEL_WARNING, "role-deaf", "role=%s",
                      role_name(supervisor->children[i].role));
    }
}

/* The whole configuration is checked; only the log level changes without a restart. */
static void reload(struct supervisor *supervisor)
{
    struct why why = {""};
    struct bytes text;
    char *file;
    char *dir;
    struct conf *conf;
    enum leafd_err err;

    err = conf_read(supervisor->options, &text, &file, &dir, &conf, &why);
    if (err != LEAFD_OK) {
        char reason[2 * sizeof(why.text)];

        log_event(LOG_LEVEL_ERROR, "reload", "result=bad reason=\"%s\"",
                  bytes_escape(bytes_of(why.text), reason, sizeof(reason)));
        return;
    }
    log_level_pass_on(supervisor, conf->log_level);
    log_event(LOG_LEVEL_NOTICE, "reload", "result=ok reason=\"%s\"",
              bytes_equal(text, supervisor->text)
                  ? "nothing has changed"
                  : "log.level is in force; anything else that changed needs a restart");
    free((void *)(uintptr_t)text.data);
    free(file);
    free(dir);
    conf_free(conf);
}

static void signals_read(struct supervisor *supervisor)
{
    struct signalfd_siginfo info;

    while (read(supervisor->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        switch (info.ssi_signo) {
        case SIGCHLD:
            reap(supervisor);
            break;
        case SIGHUP:
            reload(supervisor);
            break;
        default:
            log_event(LOG_LEVEL_INFO, "stopping", "signal=%u", info.ssi_signo);
            stop_begin(supervisor, EXIT_OK);
        }
    }
}

static enum leafd_err signals_open(struct supervisor *supervisor, struct why *why)
{
    static const int wanted[] = {SIGCHLD, SIGHUP, SIGINT, SIGTERM};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD,
           SIG_DFL); /* whoever started us may have ignored it, and then nobody can be waited for */
    if (sigprocmask(SIG_BLOCK, &set, NULL) == -1)
        return fail(why, LEAFD_IO, "sigprocmask: %s", strerror(errno));
    supervisor->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (supervisor->signals == -1)
        return fail(why, LEAFD_IO, "signalfd: %s", strerror(errno));
    return LEAFD_OK;
}

/* ---- the loop ---- */

static bool all_gone(const struct supervisor *supervisor)
{
    for (size_t i = 0; i < CHILD_COUNT; i++) {
        if (supervisor->children[i].pid)
            return false;
    }
    return true;
}

/* Milliseconds until something is due, for poll(2). */
static int patience_ms(const struct supervisor *supervisor)
{
    int64_t due = INT64_MAX;
    int64_t left;

    if (supervisor->stopping)
        due = supervisor->kill_ms;
    for (size_t i = 0; i < CHILD_COUNT && !supervisor->stopping; i++) {
        const struct child *child = &supervisor->children[i];

        if (!child->pid && child->restart_ms < due)
            due = child->restart_ms;
    }
    if (due == INT64_MAX)
        return -1;
    left = due - clock_mono_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

static void kill_late(struct supervisor *supervisor)
{
    if (!supervisor->stopping || clock_mono_ms() < supervisor->kill_ms)
        return;
    supervisor->kill_ms = INT64_MAX;
    for (size_t i = 0; i < CHILD_COUNT; i++) {
        const struct child *child = &supervisor->children[i];

        if (child->pid)
            log_event(LOG_LEVEL_WARNING, "role-killed",
                      "role=%s pid=%d reason=\"did not stop in %d ms\"", role_name(child->role),
                      (int)child->pid, STOP_MS);
        child_kill(child);
    }
}

static void supervise(struct supervisor *supervisor)
{
    while (!supervisor->stopping || !all_gone(supervisor)) {
        struct pollfd wait[1 + CHILD_COUNT];

        start_due(supervisor);
        kill_late(supervisor);
        wait[0] = (struct pollfd){.fd = supervisor->signals, .events = POLLIN};
        for (size_t i = 0; i < CHILD_COUNT; i++)
            wait[1 + i] = (struct pollfd){.fd = supervisor->children[i].channel, .events = POLLIN};
        if (supervisor->stopping && all_gone(supervisor))
            break;
        if (poll(wait, 1 + CHILD_COUNT, patience_ms(supervisor)) == -1 && errno != EINTR)
            break;
        for (size_t i = 0; i < CHILD_COUNT; i++) {
            if (wait[1 + i].revents)
                child_listen(supervisor, &supervisor->children[i]);
        }
        if (wait[0].revents)
            signals_read(supervisor);
    }
}

/* ---- from the first line to the last ---- */

/* Both users exist before anything is bound or started. */
static enum leafd_err users_check(const struct conf *conf, struct sandbox_user *ret_front,
                                  struct why *why)
{
    struct sandbox_user signer;
    enum leafd_err err = sandbox_user_of(conf->user_front, ret_front, why);

    if (err != LEAFD_OK)
        return fail_in(why, err, "user.front");
    err = sandbox_user_of(conf->user_signer, &signer, why);
    if (err != LEAFD_OK)
        return fail_in(why, err, "user.signer");
    if (!signer.change)
        log_event(LOG_LEVEL_INFO, "one-user",
                  "uid=%u reason=\"not started as root: front and signer share our user\"",
                  (unsigned)geteuid());
    else if (signer.uid == ret_front->uid)
        log_event(LOG_LEVEL_WARNING, "one-user",
                  "uid=%u reason=\"user.front and user.signer are the same: a front that is taken "
                  "over may reach the signer's files\"",
                  (unsigned)signer.uid);
    return LEAFD_OK;
}

static enum leafd_err supervisor_init(struct supervisor *supervisor, struct why *why)
{
    struct sandbox_user front;
    enum leafd_err err;

    err = sandbox_no_dumps(why);
    if (err == LEAFD_OK)
        err = signals_open(supervisor, why);
    if (err == LEAFD_OK)
        err = conf_read(supervisor->options, &supervisor->text, &supervisor->file, &supervisor->dir,
                        &supervisor->conf, why);
    if (err != LEAFD_OK)
        return err;
    supervisor->log_level = supervisor->conf->log_level;
    log_set_level(supervisor->log_level);
    err = users_check(supervisor->conf, &front, why);
    if (err == LEAFD_OK)
        err = sockets_open(supervisor->conf, &front, &supervisor->sockets, why);
    return err;
}

static void supervisor_clear(struct supervisor *supervisor)
{
    sockets_close(&supervisor->sockets);
    if (supervisor->pin_kept != -1)
        close(supervisor->pin_kept);
    if (supervisor->signals != -1)
        close(supervisor->signals);
    conf_free(supervisor->conf);
    free((void *)(uintptr_t)supervisor->text.data);
    free(supervisor->file);
    free(supervisor->dir);
}

int supervisor_run(const struct supervisor_options *options)
{
    struct supervisor supervisor = {
        .options = options,
        .sockets = {.control = -1, .admin_unix = -1, .admin_tcp = -1},
        .pin_kept = -1,
        .signals = -1,
        .children = {[CHILD_SIGNER] = {.role = ROLE_SIGNER, .channel = -1},
                     [CHILD_FRONT] = {.role = ROLE_FRONT, .channel = -1}},
    };
    struct why why = {""};
    enum leafd_err err;

    log_init("supervisor", LOG_LEVEL_INFO);
    umask(077);
    err = supervisor_init(&supervisor, &why);
    if (err == LEAFD_OK) {
        supervise(&supervisor);
    } else {
        role_log_failure("start-failed", err, &why);
        supervisor.exit_code = exit_code_of(err);
    }
    supervisor_clear(&supervisor);
    return supervisor.exit_code;
}
