/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/supervisor.h"

#include "base/clock.h"
#include "run/conf_source.h"
#include "run/handover.h"
#include "run/post.h"
#include "run/unblock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
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
    STOP_MS = 4500,         /* for all roles together; what is left then is killed */
    MESSAGES_PER_TURN = 16, /* from one role, before the others have their turn */
    POSTS_MAX = CONF_TOKEN_MAX * CONF_PROCESSES_MAX + 1,
    CHILDREN_MAX = 2 * POSTS_MAX
};

struct supervisor {
    const struct supervisor_options *options;
    struct conf_source source;
    enum log_level log_level;
    struct sockets sockets;
    struct token_pins pins;
    int signals;
    struct post post[POSTS_MAX]; /* the signers', then the front's, which is the last */
    size_t post_count;
    bool front_was_ready;
    bool token_was_ready[CONF_TOKEN_MAX]; /* one of its signers was: what follows is no first start
                                           */
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

/* Child number `i` of 2 * post_count. */
static struct child *child_at(struct supervisor *supervisor, size_t i)
{
    return &supervisor->post[i / 2].child[i % 2];
}

static struct post *front_post(struct supervisor *supervisor)
{
    return &supervisor->post[supervisor->post_count - 1];
}

/* ---- starting a role ---- */

static enum leafd_err give(void *ctx, const struct child *child, int channel, struct why *why)
{
    const struct supervisor *supervisor = ctx;

    return child->role == ROLE_FRONT ? handover_sockets(&supervisor->sockets, channel, why)
                                     : handover_pin(&supervisor->pins, child->token, channel, why);
}

static bool was_ready(const struct supervisor *supervisor, const struct child *child)
{
    return child->role == ROLE_FRONT ? supervisor->front_was_ready
                                     : supervisor->token_was_ready[child->token];
}

static enum leafd_err start(struct supervisor *supervisor, struct child *child, struct why *why)
{
    struct role_boot boot = {
        .text = supervisor->source.text,
        .file = supervisor->source.file,
        .dir = supervisor->source.dir,
        .overrides = supervisor->options->overrides,
        .override_count = supervisor->options->override_count,
        .log_level = (uint32_t)supervisor->log_level,
        .insecure_file_key = supervisor->options->insecure_file_key,
    };

    child->first = !was_ready(supervisor, child);
    return child_start(child, supervisor->options->program, &boot, give, supervisor, why);
}

/* ---- front and signers, paired ---- */

/* A new pair whenever either of them is new. The older of two signers comes first, so that
 * the front knows which one is newer. */
static void pair_all(struct supervisor *supervisor, const struct child *fresh)
{
    const struct child *front = post_holder(front_post(supervisor));

    if (fresh->role == ROLE_SIGNER) {
        handover_pair(front, fresh);
        return;
    }
    for (size_t i = 0; i + 1 < supervisor->post_count; i++) {
        const struct child *child = supervisor->post[i].child;
        bool swapped = child[0].started_ms > child[1].started_ms;

        handover_pair(front, &child[swapped]);
        handover_pair(front, &child[!swapped]);
    }
}

/* ---- when a role ends ---- */

/* The front first, since what it still has to answer may need the signers. */
static void stop_continue(struct supervisor *supervisor)
{
    struct post *front = front_post(supervisor);

    child_stop(post_holder(front));
    for (size_t i = 0; !post_holder(front)->pid && i < 2 * supervisor->post_count; i++)
        child_stop(child_at(supervisor, i));
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
    for (size_t i = 0; i < supervisor->post_count && !supervisor->stopping; i++) {
        struct post *post = &supervisor->post[i];
        struct child *child = post_vacancy(post, clock_mono_ms());
        struct why why = {""};
        enum leafd_err err;

        if (!child)
            continue;
        err = start(supervisor, child, &why);
        if (err == LEAFD_OK) {
            pair_all(supervisor, child);
            continue;
        }
        role_log_failure("role-not-started", err, &why);
        if (child->first && exit_code_of(err) == EXIT_CONFIG)
            stop_begin(supervisor, EXIT_CONFIG);
        else
            post_not_started(post, clock_mono_ms());
    }
}

static void announce(struct supervisor *supervisor)
{
    char listen[768];
    char admin[80];

    if (supervisor->front_was_ready)
        return;
    supervisor->front_was_ready = true;
    log_event(LOG_LEVEL_INFO, "ready", "listen=%s admin=%s",
              sockets_listen_text(&supervisor->sockets, listen, sizeof(listen)),
              sockets_admin_text(&supervisor->sockets, admin, sizeof(admin)));
    notify("READY=1");
}

static void signer_said(struct supervisor *supervisor, struct post *post, struct child *child,
                        const struct role_msg *message)
{
    switch (message->kind) {
    case ROLE_MSG_READY:
        supervisor->token_was_ready[child->token] = true;
        break;
    case ROLE_MSG_PIN_BLOCKED:
        child->pin_blocked = true;
        break;
    case ROLE_MSG_SIGNING:
        supervisor->token_was_ready[child->token] = true;
        child->pin_blocked = false;
        post_at_work(post, child, clock_mono_ms());
        break;
    case ROLE_MSG_REPLACE_ME:
        if (post_replace(post, child, message->value == 1, clock_mono_ms()))
            log_event(LOG_LEVEL_WARNING, "signer-to-be-replaced", "token=%u process=%u pid=%d",
                      child->token, child->process, (int)child->pid);
        break;
    default:
        break;
    }
}

/* False: no more for now. */
static bool child_listen_once(struct supervisor *supervisor, struct post *post, struct child *child)
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
        if (child->role == ROLE_SIGNER)
            signer_said(supervisor, post, child, &message);
        else if (message.kind == ROLE_MSG_READY)
            announce(supervisor);
    } else if (err != LEAFD_MALFORMED) {
        close(child->channel);
        child->channel = -1;
    }
    return true;
}

static void child_listen(struct supervisor *supervisor, struct post *post, struct child *child)
{
    for (int i = 0; i < MESSAGES_PER_TURN; i++) {
        if (!child_listen_once(supervisor, post, child))
            return;
    }
}

static void reap_one(struct supervisor *supervisor, struct post *post, struct child *child,
                     int status)
{
    bool misconfigured = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG;

    child_listen(supervisor, post, child);
    post_ended(post, child, clock_mono_ms());
    child_ended(child, status, supervisor->stopping && child->told_to_stop);
    if (supervisor->stopping)
        stop_continue(supervisor);
    else if (misconfigured && child->first && !was_ready(supervisor, child))
        stop_begin(supervisor, EXIT_CONFIG); /* the role has said why */
}

static void reap(struct supervisor *supervisor)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (size_t i = 0; i < 2 * supervisor->post_count; i++) {
            if (child_at(supervisor, i)->pid == pid)
                reap_one(supervisor, &supervisor->post[i / 2], child_at(supervisor, i), status);
        }
    }
}

/* ---- PINs ---- */

/* A signer that waits for the operator is started anew, and reads the PIN anew; one that the token
 * has let in is left alone. */
static unsigned restart_blocked(struct supervisor *supervisor, size_t token)
{
    unsigned count = 0;

    for (size_t i = 0; i < 2 * supervisor->post_count; i++) {
        struct child *child = child_at(supervisor, i);

        if (child->role != ROLE_SIGNER || child->token != token || !child->pid ||
            !child->pin_blocked)
            continue;
        post_hurry(&supervisor->post[i / 2]);
        child_kill(child);
        count++;
    }
    return count;
}

static unsigned unblock(void *ctx, int token)
{
    struct supervisor *supervisor = ctx;
    unsigned count = 0;

    for (size_t i = 0; i < supervisor->source.conf->token_count; i++) {
        if (token != UNBLOCK_ALL && (size_t)token != i)
            continue;
        token_pins_unblock(&supervisor->pins, i);
        count += restart_blocked(supervisor, i);
    }
    return count;
}

/* ---- signals ---- */

static void log_level_pass_on(struct supervisor *supervisor, enum log_level level)
{
    supervisor->log_level = level;
    log_set_level(level);
    for (size_t i = 0; i < 2 * supervisor->post_count; i++) {
        const struct child *child = child_at(supervisor, i);

        if (child->channel != -1 &&
            role_msg_send(child->channel, ROLE_MSG_LOG_LEVEL, (uint32_t)level, -1) != LEAFD_OK)
            log_event(LOG_LEVEL_WARNING, "role-deaf", "role=%s", role_name(child->role));
    }
}

/* The whole configuration is checked; only the log level changes without a restart. A PIN that has
 * changed is seen too: one that was refused is not tried again. */
static void reload(struct supervisor *supervisor)
{
    struct why why = {""};
    struct conf_source source;
    enum leafd_err err = conf_source_read(supervisor->options, &source, &why);

    if (err != LEAFD_OK) {
        char reason[2 * sizeof(why.text)];

        log_event(LOG_LEVEL_ERROR, "reload", "result=bad reason=\"%s\"",
                  bytes_escape(bytes_of(why.text), reason, sizeof(reason)));
        return;
    }
    log_level_pass_on(supervisor, source.conf->log_level);
    for (size_t i = 0; i < supervisor->source.conf->token_count; i++)
        (void)restart_blocked(supervisor, i);
    log_event(LOG_LEVEL_NOTICE, "reload", "result=ok reason=\"%s\"",
              bytes_equal(source.text, supervisor->source.text)
                  ? "nothing has changed"
                  : "log.level is in force; anything else that changed needs a restart");
    conf_source_clear(&source);
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

static bool all_gone(struct supervisor *supervisor)
{
    for (size_t i = 0; i < 2 * supervisor->post_count; i++) {
        if (child_at(supervisor, i)->pid)
            return false;
    }
    return true;
}

/* Milliseconds until something is due, for poll(2). */
static int patience_ms(const struct supervisor *supervisor)
{
    int64_t due = supervisor->stopping ? supervisor->kill_ms : CHILD_NEVER_MS;
    int64_t left;

    for (size_t i = 0; i < supervisor->post_count && !supervisor->stopping; i++) {
        int64_t next = post_next_ms(&supervisor->post[i]);

        due = next < due ? next : due;
    }
    if (due == CHILD_NEVER_MS)
        return -1;
    left = due - clock_mono_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

/* Those who were replaced, and those who do not stop. */
static void kill_late(struct supervisor *supervisor)
{
    int64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < 2 * supervisor->post_count; i++) {
        struct child *child = child_at(supervisor, i);
        bool is_late = supervisor->stopping && now_ms >= supervisor->kill_ms;

        if (child->pid && is_late)
            log_event(LOG_LEVEL_WARNING, "role-killed",
                      "role=%s pid=%d reason=\"did not stop in %d ms\"", role_name(child->role),
                      (int)child->pid, STOP_MS);
        if (is_late || now_ms >= child->kill_ms) {
            child_kill(child);
            if (child->kill_ms != CHILD_NEVER_MS)
                child->kill_ms = CHILD_NEVER_MS - 1; /* on its way out all the same */
        }
    }
    if (supervisor->stopping && now_ms >= supervisor->kill_ms)
        supervisor->kill_ms = CHILD_NEVER_MS;
}

static void supervise(struct supervisor *supervisor)
{
    while (!supervisor->stopping || !all_gone(supervisor)) {
        struct pollfd wait[2 + CHILDREN_MAX];
        size_t count = 2 * supervisor->post_count;

        start_due(supervisor);
        kill_late(supervisor);
        for (size_t i = 0; i < count; i++)
            wait[i] = (struct pollfd){.fd = child_at(supervisor, i)->channel, .events = POLLIN};
        wait[count] = (struct pollfd){.fd = supervisor->signals, .events = POLLIN};
        wait[count + 1] = (struct pollfd){.fd = supervisor->sockets.supervisor, .events = POLLIN};
        if (supervisor->stopping && all_gone(supervisor))
            break;
        if (poll(wait, 2 + count, patience_ms(supervisor)) == -1 && errno != EINTR)
            break;
        for (size_t i = 0; i < count; i++) {
            if (wait[i].revents)
                child_listen(supervisor, &supervisor->post[i / 2], child_at(supervisor, i));
        }
        if (wait[count].revents)
            signals_read(supervisor);
        if (wait[count + 1].revents && !supervisor->stopping)
            unblock_serve(supervisor->sockets.supervisor, supervisor->source.conf->token_count,
                          unblock, supervisor);
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

static void posts_init(struct supervisor *supervisor)
{
    const struct conf *conf = supervisor->source.conf;

    for (unsigned token = 0; token < conf->token_count; token++)
        for (unsigned process = 0; process < conf->token[token].processes; process++)
            post_init(&supervisor->post[supervisor->post_count++], ROLE_SIGNER, token, process);
    post_init(&supervisor->post[supervisor->post_count++], ROLE_FRONT, 0, 0);
}

static enum leafd_err supervisor_init(struct supervisor *supervisor, struct why *why)
{
    struct sandbox_user front;
    enum leafd_err err;

    err = sandbox_no_dumps(why);
    if (err == LEAFD_OK)
        err = signals_open(supervisor, why);
    if (err == LEAFD_OK)
        err = conf_source_read(supervisor->options, &supervisor->source, why);
    if (err != LEAFD_OK)
        return err;
    supervisor->log_level = supervisor->source.conf->log_level;
    log_set_level(supervisor->log_level);
    posts_init(supervisor);
    err = users_check(supervisor->source.conf, &front, why);
    if (err == LEAFD_OK)
        err = sockets_open(supervisor->source.conf, &front, &supervisor->sockets, why);
    if (err == LEAFD_OK)
        err = token_pins_init(&supervisor->pins, supervisor->source.conf, why);
    return err;
}

static void supervisor_clear(struct supervisor *supervisor)
{
    sockets_close(&supervisor->sockets);
    token_pins_clear(&supervisor->pins);
    if (supervisor->signals != -1)
        close(supervisor->signals);
    conf_source_clear(&supervisor->source);
}

int supervisor_run(const struct supervisor_options *options)
{
    struct supervisor supervisor = {
        .options = options,
        .sockets = {.control = -1, .supervisor = -1, .admin_unix = -1, .admin_tcp = -1},
        .pins = TOKEN_PINS_EMPTY,
        .signals = -1,
    };
    struct why why = {""};
    enum leafd_err err;

    log_init("supervisor", LOG_LEVEL_INFO);
    umask(077);
    err = supervisor_init(&supervisor, &why);
    if (err == LEAFD_OK) {
        supervise(&supervisor);
    } else if (err == LEAFD_ABSENT) {
        log_event(LOG_LEVEL_INFO, "stopping", "reason=\"%s\"", why.text);
    } else {
        role_log_failure("start-failed", err, &why);
        supervisor.exit_code = exit_code_of(err);
    }
    supervisor_clear(&supervisor);
    return supervisor.exit_code;
}
