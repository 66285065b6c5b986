/* SPDX-License-Identifier: Apache-2.0 */
#include "run/signer_role.h"

#include "base/clock.h"
#include "pkcs11/pin.h"
#include "pkcs11/pin_refusals.h"
#include "pkcs11/signer_process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
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

/* Fronts that are there already learn our state while the token is still being opened. */
static bool serve_waiting(struct signer_process *process, const struct role_start *start)
{
    struct role_msg message;
    int fd;

    while (role_poll(start, &message, &fd)) {
        if (!obey(process, &message, fd))
            return false;
    }
    return true;
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
    enum leafd_err err = signer_make(start, &process, &why);

    if (err == LEAFD_OK && serve_waiting(process, start)) {
        err = signer_process_start(process, &why);
        if (err == LEAFD_PIN && !start->first) { /* not ours to end: fronts are told what it is */
            role_say(start, ROLE_MSG_PIN_BLOCKED, 0);
            role_log_failure("pin-blocked", err, &why);
            err = LEAFD_OK;
        }
        if (err == LEAFD_OK) {
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
