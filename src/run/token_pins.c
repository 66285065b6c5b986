/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/token_pins.h"

#include "pkcs11/pin.h"
#include "pkcs11/pin_prompt.h"
#include "pkcs11/pin_refusals.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* The first token that takes its PIN from where this one does: what can be read only once is read
 * there. */
static size_t source_of(const struct conf *conf, size_t token)
{
    size_t i = 0;

    while (i < token && !same(conf->token[i].pin_env, conf->token[token].pin_env) &&
           !same(conf->token[i].pin_file, conf->token[token].pin_file))
        i++;
    return i;
}

/* What pin_open has made, to be read more than once. Each file on a tmpfs (a credential of
 * systemd's) has F_SEAL_SEAL. */
static bool is_sealed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);

    return seals != -1 && (seals & F_SEAL_WRITE);
}

static enum leafd_err open_one(struct token_pins *pins, size_t token, struct why *why)
{
    enum leafd_err err = pin_refusals_make(&pins->refusals[token], why);
    int fd;

    if (err != LEAFD_OK || source_of(pins->conf, token) != token)
        return err;
    err = pin_obtain(pins->conf, token, &fd, why);
    if (err != LEAFD_OK || fd == -1)
        return err;
    if (is_sealed(fd))
        pins->kept[token] = fd;
    else
        close(fd);
    return LEAFD_OK;
}

enum leafd_err token_pins_init(struct token_pins *pins, const struct conf *conf, struct why *why)
{
    enum leafd_err err = LEAFD_OK;

    pins->conf = conf;
    for (size_t i = 0; i < CONF_TOKEN_MAX; i++)
        pins->kept[i] = pins->refusals[i] = -1;
    for (size_t i = 0; i < conf->token_count && err == LEAFD_OK; i++)
        err = open_one(pins, i, why);
    return err;
}

static void close_fd(int fd)
{
    if (fd != -1)
        close(fd);
}

void token_pins_clear(struct token_pins *pins)
{
    for (size_t i = 0; pins->conf && i < CONF_TOKEN_MAX; i++) {
        close_fd(pins->kept[i]);
        close_fd(pins->refusals[i]);
    }
    *pins = TOKEN_PINS_EMPTY;
}

enum leafd_err token_pins_open(const struct token_pins *pins, size_t token, int *ret_fd,
                               bool *ret_close, struct why *why)
{
    int kept = pins->kept[source_of(pins->conf, token)];

    *ret_close = kept == -1;
    if (kept == -1)
        return pin_open_again(&pins->conf->token[token], ret_fd, why);
    *ret_fd = kept; /* pin_read begins at its first octet */
    return LEAFD_OK;
}

void token_pins_unblock(const struct token_pins *pins, size_t token)
{
    pin_refusals_forget(pins->refusals[token]);
}
