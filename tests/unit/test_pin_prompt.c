/* SPDX-License-Identifier: Apache-2.0 */
/* Somebody who is asked for a PIN: a job of a small shell in a session of its own, whose terminal
 * is a pseudo-terminal that we have the other end of. The shell tells how the job fared, and how it
 * left the terminal: once the shell were gone, the kernel would switch the echo on. */
#include "config.h"

#include "base/clock.h"
#include "pkcs11/pin.h"
#include "pkcs11/pin_prompt.h"
#include "tests/lib/unit.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define URI "pkcs11:token=leafd;object=ca;type=private"

enum {
    PATIENCE_MS = 20000,
    SAID_MAX = 8192,
    GOOD = 0,
    OTHER_PIN = 100,
    NO_SEALS = 101,
    NOT_ASKED = 102
};

enum how { AS_USUAL, WITH_SIGNALS_BLOCKED, IN_BACKGROUND };

struct person {
    int terminal; /* our end */
    pid_t shell;
    char said[SAID_MAX]; /* all that the terminal has shown */
    size_t said_len;
};

static struct conf conf_of_tokens(void)
{
    struct conf conf = {.token_count = 3, .ca_count = 1};

    conf.ca[0].key = (char *)URI "?module-name=x";
    conf.token[1].key = (char *)"pkcs11:token=two%1B;object=ca";
    for (unsigned i = 0; i < 3; i++)
        conf.token[i].number = i;
    return conf;
}

/* In the job: its exit status says what came of it. */
static int ask(const struct conf *conf, const char *expected, bool blocks)
{
    struct secret pin = SECRET_EMPTY;
    struct why why = {""};
    enum leafd_err err;
    sigset_t set;
    int fd = -1;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    if (blocks)
        sigprocmask(SIG_BLOCK, &set, NULL);
    err = pin_obtain(conf, 0, &fd, &why);
    dprintf(STDIN_FILENO, "[%s]\n", why.text);
    if (err != LEAFD_OK)
        return (int)err;
    if (fd == -1)
        return NOT_ASKED;
    if (!(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) || !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
        return NO_SEALS;
    err = pin_read(fd, &pin, &why);
    return err == LEAFD_OK && strcmp((char *)pin.data, expected) == 0 ? GOOD : OTHER_PIN;
}

static const char *echo_word(int terminal)
{
    struct termios settings;

    return tcgetattr(terminal, &settings) == 0 && settings.c_lflag & ECHO ? "on" : "off";
}

/* Continues a job that was stopped, after a look at the terminal. */
static _Noreturn void shell(const struct conf *conf, const char *expected, enum how how)
{
    int status = 0;
    pid_t job;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind */
    signal(SIGTTOU, SIG_IGN);         /* we are in the background */
    job = fork();
    if (job == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setpgid(0, 0);
        if (how != IN_BACKGROUND)
            (void)tcsetpgrp(STDIN_FILENO, getpid());
        signal(SIGTTOU, SIG_DFL);
        signal(SIGINT, SIG_DFL); /* what was started in the background ignores it */
        signal(SIGTSTP, SIG_DFL);
        _exit(ask(conf, expected, how == WITH_SIGNALS_BLOCKED));
    }
    while (waitpid(job, &status, WUNTRACED) == job && WIFSTOPPED(status)) {
        dprintf(STDIN_FILENO, "<stopped, echo %s>\n", echo_word(STDIN_FILENO));
        kill(job, SIGCONT);
    }
    dprintf(STDIN_FILENO, "<%s %d, echo %s>\n", WIFSIGNALED(status) ? "died of" : "returned",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), echo_word(STDIN_FILENO));
    for (;;)
        pause();
}

static void person_start(struct person *person, const char *expected, enum how how)
{
    struct conf conf = conf_of_tokens();
    char name[64];

    *person = (struct person){.terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)};
    assert_true(person->terminal != -1 && grantpt(person->terminal) == 0 &&
                unlockpt(person->terminal) == 0);
    assert_int_equal(ptsname_r(person->terminal, name, sizeof(name)), 0);
    person->shell = fork();
    assert_int_not_equal(person->shell, -1);
    if (person->shell == 0) {
        int end;

        setsid();
        end = open(name, O_RDWR); /* the first one becomes the session's */
        if (end == -1 || dup2(end, STDIN_FILENO) == -1)
            _exit(OTHER_PIN);
        shell(&conf, expected, how);
    }
}

/* Reads until the terminal has shown `text` so often. */
static void wait_text(struct person *person, const char *text, int times)
{
    int64_t deadline_ms = clock_mono_ms() + PATIENCE_MS;

    for (;;) {
        struct pollfd wait = {.fd = person->terminal, .events = POLLIN};
        const char *at = person->said;
        ssize_t got;
        int seen = 0;

        while ((at = strstr(at, text)) != NULL) {
            at += strlen(text);
            seen++;
        }
        if (seen >= times)
            return;
        if (clock_mono_ms() >= deadline_ms || person->said_len + 1 == sizeof(person->said))
            fail_msg("never shown: %s; but: %s", text, person->said);
        if (poll(&wait, 1, 100) < 1)
            continue;
        got = read(person->terminal, person->said + person->said_len,
                   sizeof(person->said) - 1 - person->said_len);
        person->said_len += got > 0 ? (size_t)got : 0;
    }
}

static void type(const struct person *person, const char *text)
{
    assert_int_equal(write(person->terminal, text, strlen(text)), (ssize_t)strlen(text));
}

/* After this last line of its shell, which says that the echo is on. */
static void person_end(struct person *person, const char *how)
{
    char line[64];

    snprintf(line, sizeof(line), "<%s, echo on>", how);
    wait_text(person, line, 1);
    kill(person->shell, SIGKILL);
    assert_int_equal(waitpid(person->shell, NULL, 0), person->shell);
    close(person->terminal);
}

static void assert_quiet(const struct person *person)
{
    assert_string_equal(echo_word(person->terminal), "off");
}

static void the_answer_is_sealed(void **state)
{
    struct person person;

    (void)state;
    person_start(&person, "s3cret \xc3\xa4", AS_USUAL);
    wait_text(&person, "PIN for token (" URI "): ", 1);
    assert_quiet(&person);
    type(&person, "s3cret \xc3\xa4\n");
    person_end(&person, "returned 0");
    assert_null(strstr(person.said, "s3cret"));
}

static void what_can_be_no_pin_is_asked_for_again(void **state)
{
    char text[PIN_MAX + 3] = "";
    char pin[PIN_MAX + 1] = "";
    struct person person;

    (void)state;
    memset(pin, '7', PIN_MAX);
    person_start(&person, pin, AS_USUAL);
    wait_text(&person, "PIN for ", 1);
    type(&person, "\n");
    wait_text(&person, "the PIN is empty.\r\nPIN for ", 1);
    snprintf(text, sizeof(text), "%s7\n", pin);
    type(&person, text);
    wait_text(&person, "the PIN is longer than 255 bytes.\r\nPIN for ", 1);
    assert_quiet(&person);
    snprintf(text, sizeof(text), "%s\r", pin);
    type(&person, text);
    person_end(&person, "returned 0");
    assert_null(strstr(person.said, "77"));
}

static void three_empty_answers_are_enough(void **state)
{
    static const char *const answers[] = {"\n", "\x04", "\n"}; /* one is the end of input */
    struct person person;
    char how[32];

    (void)state;
    person_start(&person, "", AS_USUAL);
    for (int i = 0; i < 3; i++) {
        wait_text(&person, "PIN for ", i + 1);
        type(&person, answers[i]);
    }
    wait_text(&person, "pin_prompt: no is for a token that wants none]", 1);
    snprintf(how, sizeof(how), "returned %d", LEAFD_CONFIG);
    person_end(&person, how);
}

static void an_interrupt_leaves_the_echo_on(void **state)
{
    struct person person;
    char how[32];

    (void)state;
    person_start(&person, "", AS_USUAL);
    wait_text(&person, "PIN for ", 1);
    type(&person, "12\x03");
    snprintf(how, sizeof(how), "died of %d", SIGINT);
    person_end(&person, how);

    person_start(&person, "",
                 WITH_SIGNALS_BLOCKED); /* as the supervisor, which takes its signals itself */
    wait_text(&person, "PIN for ", 1);
    type(&person, "\x03");
    wait_text(&person, "[a signal came", 1);
    snprintf(how, sizeof(how), "returned %d", LEAFD_ABSENT);
    person_end(&person, how);
}

static void a_job_that_was_stopped_asks_again(void **state)
{
    struct person person;

    (void)state;
    person_start(&person, "1234", AS_USUAL);
    wait_text(&person, "PIN for ", 1);
    type(&person, "98\x1a");
    wait_text(&person, "<stopped, echo on>", 1);
    wait_text(&person, "PIN for ", 2);
    assert_quiet(&person);
    type(&person, "1234\n");
    person_end(&person, "returned 0");
    assert_null(strstr(person.said, "1234"));
}

static void in_the_background_nobody_is_asked(void **state)
{
    struct person person;
    char how[32];

    (void)state;
    person_start(&person, "", IN_BACKGROUND);
    snprintf(how, sizeof(how), "returned %d", NOT_ASKED);
    person_end(&person, how);
    assert_null(strstr(person.said, "PIN for"));
}

static void only_what_has_no_other_source_is_asked_for(void **state)
{
    struct conf conf = conf_of_tokens();
    int none = open("/dev/null", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_true(dup2(none, STDIN_FILENO) == STDIN_FILENO); /* no terminal */
    close(none);
    assert_false(pin_prompt_wanted(&conf, 0));
    conf.token[0].pin_prompt = CONF_PIN_PROMPT_YES;
    assert_true(pin_prompt_wanted(&conf, 0));
    assert_false(pin_prompt_wanted(&conf, 1));
    conf.token[0].access = CONF_ACCESS_FILE;
    assert_false(pin_prompt_wanted(&conf, 0));
    conf.token[0].access = CONF_ACCESS_AUTO;
    conf.token[0].pin_file = (char *)"/pin"; /* as with leafctl --pin-file */
    assert_false(pin_prompt_wanted(&conf, 0));
}

/* On a terminal, in the child. */
static int wanted_bits(void)
{
    struct conf conf = conf_of_tokens();
    int bits;

    conf.token[2].pin_prompt = CONF_PIN_PROMPT_NO;
    bits = pin_prompt_wanted(&conf, 0) | pin_prompt_wanted(&conf, 1) << 1 |
           pin_prompt_wanted(&conf, 2) << 2;
    conf.token[1].key = (char *)URI "?pin-source=/pin";
    bits |= pin_prompt_wanted(&conf, 0) << 3 | pin_prompt_wanted(&conf, 1) << 4;
    return bits;
}

static void a_terminal_is_asked_without_being_told(void **state)
{
    int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[64];
    int status;
    pid_t pid;

    (void)state;
    assert_true(grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    assert_int_equal(ptsname_r(terminal, name, sizeof(name)), 0);
    pid = fork();
    if (pid == 0) {
        int end = open(name, O_RDWR | O_NOCTTY);

        _exit(dup2(end, STDIN_FILENO) == -1 ? OTHER_PIN : wanted_bits());
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 1 | 2 | 8);
    close(terminal);
}

/* In a session without one. */
static void without_a_terminal_it_says_so(void **state)
{
    int status;
    pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        struct conf conf = conf_of_tokens();
        struct why why = {""};
        int null = open("/dev/null", O_RDONLY);
        int fd = -1;

        setsid();
        dup2(null, STDIN_FILENO);
        conf.token[0].pin_prompt = CONF_PIN_PROMPT_YES;
        _exit(pin_obtain(&conf, 0, &fd, &why) == LEAFD_CONFIG && fd == -1 &&
                      strstr(why.text, "there is no terminal") && strstr(why.text, "token.pin_file")
                  ? GOOD
                  : OTHER_PIN);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, GOOD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_sealed),
        cmocka_unit_test(what_can_be_no_pin_is_asked_for_again),
        cmocka_unit_test(three_empty_answers_are_enough),
        cmocka_unit_test(an_interrupt_leaves_the_echo_on),
        cmocka_unit_test(a_job_that_was_stopped_asks_again),
        cmocka_unit_test(in_the_background_nobody_is_asked),
        cmocka_unit_test(a_terminal_is_asked_without_being_told),
        cmocka_unit_test(without_a_terminal_it_says_so),
        cmocka_unit_test(only_what_has_no_other_source_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
