/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_child.h"

#include "base/sandbox.h"
#include "pkcs11/pin.h"
#include "pkcs11/pin_prompt.h"
#include "policy/ca_files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RESULT_MAX = 1 << 20 };

/* First on the pipe, before the result. Both ends are one program. */
struct verdict_of_child {
    enum leafd_err err;
    struct why why;
};

struct ctl_child_plan {
    const struct conf *conf;
    unsigned needs; /* enum ctl_child_needs */
    ctl_child_fn fn;
    const void *arg;
    struct sandbox_user user;
    pid_t parent;
    int pin_fd; /* or -1 */
};

/* As the signer role prepares itself. */
static enum leafd_err become_signer(const struct ctl_child_plan *plan, struct why *why)
{
    const struct conf_token *token = &plan->conf->token[0];
    static const struct sandbox_limits limits = {4096, 8 << 20};

    for (size_t i = 0; i < token->env_count; i++) {
        if (setenv(token->env[i].name, token->env[i].value, 1) == -1)
            return fail(why, LEAFD_CONFIG, "token.env: cannot set %.64s: %s", token->env[i].name,
                        strerror(errno));
    }
    return sandbox_enter(&plan->user, &limits, plan->parent, why);
}

/* The order of the signer role: certificates, which root alone may be able to read, then the
 * sandbox, then the PIN. */
static enum leafd_err child_work(const struct ctl_child_plan *plan, struct bytes *ret_result,
                                 struct why *why)
{
    struct ctl_child child = {.conf = plan->conf, .pin = SECRET_EMPTY};
    struct ca_set *cas = NULL;
    enum leafd_err err = LEAFD_OK;

    if (plan->needs & CTL_CHILD_CAS)
        err = ca_files_read(plan->conf, &cas, why);
    child.cas = cas;
    if (err == LEAFD_OK)
        err = become_signer(plan, why);
    if (err == LEAFD_OK && plan->pin_fd != -1)
        err = pin_read(plan->pin_fd, &child.pin, why);
    if (err == LEAFD_OK)
        err = plan->fn(&child, plan->arg, ret_result, why);
    secret_clear(&child.pin);
    ca_set_unref(cas);
    return err;
}

static _Noreturn void child_main(const struct ctl_child_plan *plan, int out)
{
    struct verdict_of_child verdict = {.err = LEAFD_OK};
    struct bytes result = {NULL, 0};

    verdict.err = child_work(plan, &result, &verdict.why);
    if (!bytes_write_fd(out, (struct bytes){(const uint8_t *)&verdict, sizeof(verdict)}) ||
        !bytes_write_fd(out, result))
        _exit(1);
    free((void *)(uintptr_t)result.data);
    _exit(0);
}

static enum leafd_err child_ended(pid_t pid, struct why *why)
{
    int status;

    while (waitpid(pid, &status, 0) == -1) {
        if (errno != EINTR)
            return fail(why, LEAFD_IO, "waitpid: %s", strerror(errno));
    }
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return fail(why, LEAFD_TIMEOUT, "the PKCS#11 module did not answer in time");
    if (WIFSIGNALED(status))
        return fail(why, LEAFD_IO,
                    "the process that loads the PKCS#11 module was ended by signal %d; the module "
                    "may have crashed",
                    WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return fail(why, LEAFD_IO, "the process that loads the PKCS#11 module ended with status %d",
                    WEXITSTATUS(status));
    return LEAFD_OK;
}

/* What the child wrote, taken apart. */
static enum leafd_err result_of(struct bytes told, struct bytes *ret_result, struct why *why)
{
    struct verdict_of_child verdict;
    struct bytes result;

    if (told.len < sizeof(verdict))
        return fail(why, LEAFD_IO, "the process that loads the PKCS#11 module said nothing");
    memcpy(&verdict, told.data, sizeof(verdict));
    verdict.why.text[sizeof(verdict.why.text) - 1] = '\0';
    if (verdict.err != LEAFD_OK)
        return fail(why, verdict.err, "%s", verdict.why.text);
    result = bytes_copy((struct bytes){told.data + sizeof(verdict), told.len - sizeof(verdict)});
    if (!result.data)
        return LEAFD_NOMEM;
    *ret_result = result;
    return LEAFD_OK;
}

static enum leafd_err run(const struct ctl_child_plan *plan, struct bytes *ret_result,
                          struct why *why)
{
    struct bytes told = {NULL, 0};
    struct why ending = {""};
    enum leafd_err ended;
    enum leafd_err err;
    int ends[2];
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) == -1)
        return fail(why, LEAFD_IO, "pipe: %s", strerror(errno));
    pid = fork();
    if (pid == -1) {
        err = fail(why, LEAFD_IO, "fork: %s", strerror(errno));
        close(ends[0]);
        close(ends[1]);
        return err;
    }
    if (pid == 0) {
        close(ends[0]);
        child_main(plan, ends[1]);
    }
    close(ends[1]);
    err = bytes_read_fd(ends[0], "the child's pipe", RESULT_MAX, &told, why);
    close(ends[0]);
    ended = child_ended(pid, &ending);
    if (err == LEAFD_OK && ended != LEAFD_OK)
        err = fail(why, ended, "%s", ending.text);
    if (err == LEAFD_OK)
        err = result_of(told, ret_result, why);
    free((void *)(uintptr_t)told.data);
    return err;
}

enum leafd_err ctl_child_run(const struct conf *conf, unsigned needs, ctl_child_fn fn,
                             const void *arg, struct bytes *ret_result, struct why *why)
{
    struct ctl_child_plan plan = {
        .conf = conf, .needs = needs, .fn = fn, .arg = arg, .parent = getpid(), .pin_fd = -1};
    enum leafd_err err = sandbox_user_of(conf->user_signer, &plan.user, why);

    if (err != LEAFD_OK)
        return fail_in(why, err, "user.signer (-o user.signer=USER names another)");
    if (needs & CTL_CHILD_PIN)
        err = pin_obtain(conf, 0, &plan.pin_fd, why);
    if (err == LEAFD_OK)
        err = run(&plan, ret_result, why);
    if (plan.pin_fd != -1)
        close(plan.pin_fd);
    return err;
}
