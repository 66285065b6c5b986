/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/pin_prompt.h"

#include "base/terminal.h"
#include "pkcs11/pin.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { QUESTIONS = 3, URI_SHOWN = 512 };

/* pin-source or pin-value. */
static bool gives_pin(const char *uri)
{
    const char *query = uri ? strchr(uri, '?') : NULL;

    return query && strstr(query, "pin-");
}

static bool a_uri_gives_pin(const struct conf *conf, size_t token)
{
    bool found = gives_pin(conf_token_key(conf, token, 0)) || gives_pin(conf->untrusted_ca.key);

    for (size_t i = 1; i < conf->ca_count && !found; i++)
        found = gives_pin(conf_token_key(conf, token, i));
    return found;
}

bool pin_prompt_wanted(const struct conf *conf, size_t token)
{
    const struct conf_token *one = &conf->token[token];

    if (one->access == CONF_ACCESS_FILE || one->pin_file || one->pin_env ||
        one->pin_prompt == CONF_PIN_PROMPT_NO)
        return false;
    if (one->pin_prompt == CONF_PIN_PROMPT_YES)
        return true;
    return !a_uri_gives_pin(conf, token) && terminal_is(STDIN_FILENO);
}

/* "PIN for token (pkcs11:token=leafd;object=ca): ", behind what was wrong with the last answer. */
static void put_question(const struct conf *conf, size_t token, const struct why *wrong, char *out,
                         size_t size)
{
    const char *key = conf_token_key(conf, token, 0);
    char uri[URI_SHOWN];
    char section[CONF_SECTION_SIZE];

    bytes_escape((struct bytes){(const uint8_t *)key, strcspn(key, "?")}, uri, sizeof(uri));
    snprintf(out, size, "%s%sPIN for %s (%s): ", wrong->text, wrong->text[0] ? ".\n" : "",
             conf_token_section(conf->token[token].number, section), uri);
}

static enum leafd_err ask(int terminal, const struct conf *conf, size_t token, int *ret_fd,
                          struct why *why)
{
    char question[URI_SHOWN + 2 * sizeof(why->text)];
    struct why wrong = {""};
    struct secret pin = SECRET_EMPTY;
    enum leafd_err err = LEAFD_CONFIG;

    for (int i = 0; i < QUESTIONS && err == LEAFD_CONFIG; i++) {
        put_question(conf, token, &wrong, question, sizeof(question));
        err = terminal_ask(terminal, question, PIN_MAX, &pin, why);
        if (err == LEAFD_TOO_LARGE)
            err = fail(&wrong, LEAFD_CONFIG, "the PIN is longer than %d bytes", PIN_MAX);
        else if (err == LEAFD_OK)
            err = pin_check((struct bytes){pin.data, pin.len}, &wrong);
    }
    if (err == LEAFD_OK)
        err = pin_seal((struct bytes){pin.data, pin.len}, "token.pin_prompt", ret_fd, why);
    else if (err == LEAFD_CONFIG)
        err = fail(why, err,
                   "token.pin_prompt: asked %d times for the PIN, and %s; pin_prompt: no is for a "
                   "token that wants none",
                   QUESTIONS, wrong.text);
    else if (err == LEAFD_ABSENT)
        err = fail(why, err, "a signal came while the PIN was asked for");
    secret_clear(&pin);
    return err;
}

enum leafd_err pin_prompt(const struct conf *conf, size_t token, int *ret_fd, struct why *why)
{
    int terminal = terminal_open();
    enum leafd_err err;

    if (terminal == -1)
        return fail(why, LEAFD_CONFIG,
                    "token.pin_prompt: there is no terminal to ask for the PIN on: start from one, "
                    "in the foreground, or set token.pin_file or token.pin_env in its place");
    err = ask(terminal, conf, token, ret_fd, why);
    close(terminal);
    return err;
}

enum leafd_err pin_obtain(const struct conf *conf, size_t token, int *ret_fd, struct why *why)
{
    return pin_prompt_wanted(conf, token) ? pin_prompt(conf, token, ret_fd, why)
                                          : pin_open(&conf->token[token], ret_fd, why);
}
