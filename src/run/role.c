/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/role.h"

#include "base/sandbox.h"
#include "policy/ca_files.h"
#include "policy/names.h"
#include "run/front.h"
#include "run/signer_role.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct role_row {
    const char *name;
    const char *process_name; /* for ps(1) */
    int (*main)(struct role_start *start);
    struct sandbox_limits limits;
};

static const struct role_row roles[ROLE_COUNT] = {
    [ROLE_FRONT] = {"front", "leafd-front", front_main, {4096, 1 << 20}},
    [ROLE_SIGNER] = {"signer", "leafd-signer", signer_role_main, {4096, 8 << 20}},
};

const char *role_name(enum role role)
{
    return roles[role].name;
}

/* False and *ret untouched for another word. */
static bool role_of(const char *name, enum role *ret)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        if (strcmp(name, roles[role].name) == 0) {
            *ret = (enum role)role;
            return true;
        }
    }
    return false;
}

int exit_code_of(enum leafd_err err)
{
    if (err == LEAFD_OK)
        return EXIT_OK;
    return err == LEAFD_CONFIG || err == LEAFD_PIN ? EXIT_CONFIG : EXIT_FAILED;
}

void role_log_failure(const char *event, enum leafd_err err, const struct why *why)
{
    char reason[2 * sizeof(why->text)];

    bytes_escape(bytes_of(why->text[0] ? why->text : err_name(err)), reason, sizeof(reason));
    log_event(LOG_LEVEL_ERROR, event, "error=%s reason=\"%s\"", err_name(err), reason);
}

void role_wait(const struct role_start *start, struct role_msg *ret, int *ret_fd)
{
    struct pollfd wait = {.fd = start->channel, .events = POLLIN};

    while (!role_poll(start, ret, ret_fd)) {
        while (poll(&wait, 1, -1) == -1 && errno == EINTR)
            ;
    }
}

bool role_poll(const struct role_start *start, struct role_msg *ret, int *ret_fd)
{
    for (;;) {
        struct role_msg message;
        int fd;
        enum leafd_err err = role_msg_receive(start->channel, &message, &fd);

        if (err == LEAFD_AGAIN)
            return false;
        if (err != LEAFD_OK) {
            *ret = (struct role_msg){.kind = ROLE_MSG_STOP};
            *ret_fd = -1;
            return true;
        }
        if (message.kind != ROLE_MSG_LOG_LEVEL) {
            *ret = message;
            *ret_fd = fd;
            return true;
        }
        log_set_level((enum log_level)message.value);
        log_event(LOG_LEVEL_DEBUG, "log-level", "level=%u", message.value);
        if (fd != -1)
            close(fd);
    }
}

void role_say(const struct role_start *start, enum role_msg_kind kind, uint32_t value)
{
    if (role_msg_send(start->channel, kind, value, -1) != LEAFD_OK)
        log_event(LOG_LEVEL_DEBUG, "supervisor-deaf", "kind=%d", (int)kind);
}

static void start_init(struct role_start *start, int channel)
{
    *start = (struct role_start){.channel = channel,
                                 .control = -1,
                                 .admin_unix = -1,
                                 .admin_tcp = -1,
                                 .pin = -1,
                                 .pin_refusals = -1};
    for (size_t i = 0; i < CONF_LISTEN_MAX; i++)
        start->listen[i] = -1;
}

static void close_fd(int fd)
{
    if (fd != -1)
        close(fd);
}

static void start_clear(struct role_start *start)
{
    for (size_t i = 0; i < CONF_LISTEN_MAX; i++)
        close_fd(start->listen[i]);
    close_fd(start->control);
    close_fd(start->admin_unix);
    close_fd(start->admin_tcp);
    close_fd(start->pin);
    close_fd(start->pin_refusals);
    ca_set_unref(start->cas);
    conf_free(start->conf);
    close(start->channel);
}

/* Where a descriptor of this message belongs; NULL: to nobody. */
static int *place_of(struct role_start *start, const struct role_msg *message)
{
    switch (message->kind) {
    case ROLE_MSG_LISTEN:
        return message->value < CONF_LISTEN_MAX ? &start->listen[message->value] : NULL;
    case ROLE_MSG_CONTROL:
        return &start->control;
    case ROLE_MSG_ADMIN_UNIX:
        return &start->admin_unix;
    case ROLE_MSG_ADMIN_TCP:
        return &start->admin_tcp;
    case ROLE_MSG_PIN:
        return &start->pin;
    case ROLE_MSG_PIN_REFUSALS:
        return &start->pin_refusals;
    default:
        return NULL;
    }
}

/* Where there are several signers their log lines tell which one speaks: leafd[signer-1.0]. */
static void log_name_set(const struct role_start *start, enum role role)
{
    static char name[32];
    const struct conf *conf = start->conf;

    if (role != ROLE_SIGNER || (conf->token_count == 1 && conf->token[0].processes == 1))
        return;
    snprintf(name, sizeof(name), "%s-%u.%u", roles[role].name, start->token, start->process);
    log_set_role(name);
}

static enum leafd_err conf_read(struct role_start *start, int boot_fd, struct why *why)
{
    struct role_boot boot;
    uint8_t *memory;
    enum leafd_err err = role_boot_read(boot_fd, &boot, &memory, why);

    if (err != LEAFD_OK)
        return err;
    err = conf_load(boot.text, boot.file, boot.dir, boot.overrides, boot.override_count,
                    &start->conf, why);
    if (err == LEAFD_OK && boot.token >= start->conf->token_count)
        err = fail(why, LEAFD_INTERNAL, "the boot message names a token that there is not");
    if (err == LEAFD_OK) {
        start->conf->insecure_file_key = boot.insecure_file_key;
        start->first = boot.first;
        start->token = boot.token;
        start->process = boot.process;
        log_set_level((enum log_level)boot.log_level);
    }
    role_boot_clear(&boot, memory);
    return err;
}

/* Takes everything up to ROLE_MSG_GO. LEAFD_ABSENT: told to stop, or left alone, before that. */
static enum leafd_err start_receive(struct role_start *start, pid_t *ret_parent, struct why *why)
{
    enum leafd_err err = LEAFD_OK;
    struct role_msg message;

    while (err == LEAFD_OK) {
        int fd;
        int *place;

        role_wait(start, &message, &fd);
        if (message.kind == ROLE_MSG_STOP)
            err = LEAFD_ABSENT;
        if (message.kind == ROLE_MSG_BOOT && fd != -1 && !start->conf) {
            *ret_parent = (pid_t)message.value;
            err = conf_read(start, fd, why);
        }
        place = place_of(start, &message);
        if (place && *place == -1)
            *place = fd;
        else
            close_fd(fd);
        if (message.kind == ROLE_MSG_GO)
            return start->conf ? LEAFD_OK : fail(why, LEAFD_INTERNAL, "there was no boot message");
    }
    return err;
}

static enum leafd_err sandbox_start(enum role role, const struct conf *conf, pid_t parent,
                                    struct why *why)
{
    const char *name = role == ROLE_FRONT ? conf->user_front : conf->user_signer;
    struct sandbox_user user;
    enum leafd_err err = sandbox_user_of(name, &user, why);

    if (err != LEAFD_OK)
        return err;
    return sandbox_enter(&user, &roles[role].limits, parent, why);
}

/* The supervisor says when to stop. Signals that a terminal or killall(1) sends to all of us alike
 * must not take the front away before it has answered what is queued. */
static void signals_ignore(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE};

    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
}

int role_main(const char *name, int channel)
{
    struct why why = {""};
    struct role_start start;
    enum leafd_err err;
    pid_t parent = 0;
    enum role role;
    int code;

    if (!role_of(name, &role)) {
        fprintf(stderr, "leafd: there is no role \"%s\"\n", name);
        return EXIT_USAGE;
    }
    prctl(PR_SET_NAME, roles[role].process_name, 0, 0, 0);
    log_init(roles[role].name, LOG_LEVEL_INFO);
    signals_ignore();
    start_init(&start, channel);
    (void)fcntl(channel, F_SETFD, FD_CLOEXEC); /* nobody's whom a token's module starts */

    err = start_receive(&start, &parent, &why);
    if (err == LEAFD_OK)
        log_name_set(&start, role);
    if (err == LEAFD_OK) /* before the sandbox: they may be readable by root alone */
        err = ca_files_read(start.conf, &start.cas, &why);
    if (err == LEAFD_OK) {
        names_prepare();
        err = sandbox_start(role, start.conf, parent, &why);
    }
    if (err == LEAFD_OK) {
        code = roles[role].main(&start);
    } else if (err == LEAFD_ABSENT && !why.text[0]) {
        code = EXIT_OK;
    } else {
        role_log_failure("start-failed", err, &why);
        code = exit_code_of(err);
    }
    start_clear(&start);
    return code;
}
