/* SPDX-License-Identifier: Apache-2.0 */
#include "run/signer_role.h"

#include "base/clock.h"
#include "pkcs11/pin.h"
#include "pkcs11/pin_refusals.h"
#include "pkcs11/signer_process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Once told to stop: the front has gone before us, so little can be queued. */
enum { STOP_ANSWERING_MS = 500 };

static enum leafd_err env_set(const struct conf_token *token, struct why *why)
{
    for (size_t i = 0; i < token->env_count; i++) {
        const struct conf_env *env = &token->env[i];

        if (setenv(env->name, env->value, 1) == -1)
            return fail(why, LEAFD_CONFIG, "token.env: cannot set %.64s: %s", env->name,
                        strerror(errno));
    }
    return LEAFD_OK;
}

/* ---- what the process tells goes to the supervisor ---- */

static void say_signing(void *ctx)
{
    role_say(ctx, ROLE_MSG_SIGNING, 0);
}

static void say_pin_refused(void *ctx)
{
    role_say(ctx, ROLE_MSG_PIN_BLOCKED, 0);
}

static void say_replace_me(void *ctx, bool at_once)
{
    role_say(ctx, ROLE_MSG_REPLACE_ME, at_once);
}

static const struct signer_process_events events = {say_signing, say_pin_refused, say_replace_me};

/* ---- life ---- */

/* The sessions of a token are shared out among its processes. */
static void take_share(struct conf_token *token)
{
    token->sessions = (token->sessions + token->processes - 1) / token->processes;
}

static enum leafd_err signer_make(struct role_start *start, struct signer_process **ret,
                                  struct why *why)
{
    struct secret pin = SECRET_EMPTY;
    enum leafd_err err = env_set(&start->conf->token[start->token], why);

    take_share(&start->conf->token[start->token]);
    if (err == LEAFD_OK && start->pin_refusals != -1)
        err = pin_refusals_use(start->pin_refusals, why);
    if (err == LEAFD_OK && start->pin != -1) {
        err = pin_read(start->pin, &pin, why);
        close(start->pin);
        start->pin = -1;
    }
    if (err == LEAFD_OK)
        err = signer_process_new(start->conf, start->token, start->cas, &pin, &events, start, ret,
                                 why);
    secret_clear(&pin);
    return err;
}

/* Takes one message; false: it was the one to stop. */
static bool obey(struct signer_process *process, const struct role_msg *message, int fd)
{
    if (message->kind == ROLE_MSG_PEER && fd != -1)
        signer_process_serve(process, fd);
    else if (fd != -1)
        close(fd);
    return message->kind != ROLE_MSG_STOP;
}

/* The first opening of the token, on a thread of its own: the module may take its time, or hang. */
struct opening {
    struct signer_process *process;
    int done_fd; /* an eventfd */
    enum leafd_err err;
    struct why why;
};

static void *open_run(void *arg)
{
    struct opening *opening = arg;

    opening->err = signer_process_start(opening->process, &opening->why);
    (void)eventfd_write(opening->done_fd, 1);
    return NULL;
}

/* Obeys the supervisor until `done_fd` can be read, and once told to stop (*ret_stop) waits for
 * that a moment longer. False: it still cannot. */
static bool obey_until(struct signer_process *process, const struct role_start *start, int done_fd,
                       bool *ret_stop)
{
    struct pollfd polls[2] = {{done_fd, POLLIN, 0}, {start->channel, POLLIN, 0}};
    struct role_msg message;
    int fd;

    *ret_stop = false;
    while (!*ret_stop && !(polls[0].revents & POLLIN)) {
        while (!*ret_stop && role_poll(start, &message, &fd))
            *ret_stop = !obey(process, &message, fd);
        if (!*ret_stop)
            (void)poll(polls, 2, -1);
    }
    return (polls[0].revents & POLLIN) || poll(polls, 1, STOP_ANSWERING_MS) == 1;
}

/* Opens the token. Fronts that come meanwhile learn our state; a stop does not wait for a module
 * that hangs. */
static enum leafd_err open_token(struct signer_process *process, const struct role_start *start,
                                 bool *ret_stop, struct why *why)
{
    struct opening opening = {.process = process, .done_fd = eventfd(0, EFD_CLOEXEC)};
    pthread_t thread;

    if (opening.done_fd == -1 || pthread_create(&thread, NULL, open_run, &opening) != 0)
        return fail(why, LEAFD_INTERNAL, "the thread that opens the token cannot be started");
    if (!obey_until(process, start, opening.done_fd, ret_stop))
        _exit(EXIT_OK);
    pthread_join(thread, NULL);
    close(opening.done_fd);
    *why = opening.why;
    return opening.err;
}

static void serve(struct signer_process *process, const struct role_start *start)
{
    struct role_msg message;
    int fd;

    do {
        role_wait(start, &message, &fd);
    } while (obey(process, &message, fd));
}

int signer_role_main(struct role_start *start)
{
    struct signer_process *process = NULL;
    struct why why = {""};
    bool stop = false;
    enum leafd_err err = signer_make(start, &process, &why);

    if (err == LEAFD_OK) {
        err = open_token(process, start, &stop, &why);
        if (err == LEAFD_PIN && !start->first) { /* not ours to end: all have been told */
            role_log_failure("pin-blocked", err, &why);
            err = LEAFD_OK;
        }
        if (err == LEAFD_OK && !stop) {
            role_say(start, ROLE_MSG_READY, 0);
            serve(process, start);
        }
    }
    if (err != LEAFD_OK)
        role_log_failure("start-failed", err, &why);
    /* A thread that is held in the module would meet it torn down by the handlers of exit(). */
    if (process && !signer_process_free(process, clock_mono_ms() + STOP_ANSWERING_MS))
        _exit(exit_code_of(err));
    return exit_code_of(err);
}
