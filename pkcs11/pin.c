/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum leafd_err pin_seal(struct bytes pin, const char *row, int *ret_fd, struct why *why)
{
    int fd = memfd_create("pin", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd == -1 || !bytes_write_fd(fd, pin) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == -1) {
        int error = errno;

        if (fd != -1)
            close(fd);
        return fail(why, LEAFD_IO, "%s: cannot keep the PIN in a memfd: %s", row, strerror(error));
    }
    *ret_fd = fd;
    return LEAFD_OK;
}

/* A regular file stays unread; what can be read only once (a pipe) is read here, but not `again`.
 */
static enum leafd_err open_file(const char *path, bool again, int *ret_fd, struct why *why)
{
    struct secret once = SECRET_EMPTY;
    struct stat st;
    enum leafd_err err;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | (again ? O_NONBLOCK : 0));

    if (fd == -1)
        return fail(why, LEAFD_CONFIG, "token.pin_file: cannot open %s: %s", path, strerror(errno));
    if (fstat(fd, &st) == -1 || S_ISDIR(st.st_mode)) {
        err = fail(why, LEAFD_CONFIG, "token.pin_file: %s is no file with the PIN", path);
        goto out;
    }
    if (S_ISREG(st.st_mode)) {
        *ret_fd = fd;
        return LEAFD_OK;
    }
    if (again)
        err = fail(why, LEAFD_CONFIG, "token.pin_file: %s is no regular file any more", path);
    else if (secret_read_fd(&once, fd, PIN_MAX + 1) != LEAFD_OK)
        err = fail(why, LEAFD_CONFIG, "token.pin_file: cannot read a PIN from %s", path);
    else
        err = pin_seal((struct bytes){once.data, once.len}, "token.pin_file", ret_fd, why);
out:
    secret_clear(&once);
    close(fd);
    return err;
}

static enum leafd_err open_variable(const char *name, int *ret_fd, struct why *why)
{
    char *value = getenv(name);
    enum leafd_err err;

    if (!value || !*value)
        return fail(why, LEAFD_CONFIG,
                    "token.pin_env: the environment variable %s is not set or empty", name);
    err = pin_seal(bytes_of(value), "token.pin_env", ret_fd, why);
    if (err != LEAFD_OK)
        return err;
    /* In place first: unsetenv leaves the bytes where /proc/PID/environ shows them. */
    OPENSSL_cleanse(value, strlen(value));
    unsetenv(name);
    return LEAFD_OK;
}

enum leafd_err pin_open(const struct conf_token *token, int *ret_fd, struct why *why)
{
    if (token->pin_file)
        return open_file(token->pin_file, false, ret_fd, why);
    if (token->pin_env)
        return open_variable(token->pin_env, ret_fd, why);
    *ret_fd = -1;
    return LEAFD_OK;
}

enum leafd_err pin_open_again(const struct conf_token *token, int *ret_fd, struct why *why)
{
    if (token->pin_file)
        return open_file(token->pin_file, true, ret_fd, why);
    *ret_fd = -1;
    return LEAFD_OK;
}

enum leafd_err pin_check(struct bytes pin, struct why *why)
{
    if (pin.len > PIN_MAX)
        return fail(why, LEAFD_CONFIG, "the PIN is longer than %d bytes", PIN_MAX);
    if (pin.len && memchr(pin.data, '\0', pin.len))
        return fail(why, LEAFD_CONFIG, "the PIN holds a NUL byte");
    return pin.len ? LEAFD_OK : fail(why, LEAFD_CONFIG, "the PIN is empty");
}

enum leafd_err pin_read(int fd, struct secret *ret, struct why *why)
{
    struct secret raw = SECRET_EMPTY;
    enum leafd_err err = secret_read_fd(&raw, fd, PIN_MAX + 1);

    if (err == LEAFD_TOO_LARGE) {
        err = fail(why, LEAFD_CONFIG, "the PIN is longer than %d bytes", PIN_MAX);
        goto out;
    }
    if (err == LEAFD_IO) {
        err = fail(why, LEAFD_CONFIG, "cannot read the PIN: %s", strerror(errno));
        goto out;
    }
    if (err != LEAFD_OK)
        goto out;
    if (raw.len && raw.data[raw.len - 1] == '\n')
        raw.len--;
    err = raw.len
              ? pin_check((struct bytes){raw.data, raw.len}, why)
              : fail(why, LEAFD_CONFIG, "the PIN is empty: write it to the PIN file, on one line");
    if (err == LEAFD_OK)
        err = secret_set(ret, (struct bytes){raw.data, raw.len});
out:
    secret_clear(&raw);
    return err;
}
