/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum leafd_err secret_init(struct secret *secret, size_t len)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (len + 1 + page - 1) / page * page;
    void *data;

    secret_clear(secret);
    data = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return LEAFD_NOMEM;
    /* Best effort: a small RLIMIT_MEMLOCK must not stop a start. */
    (void)mlock(data, room);
    (void)madvise(data, room, MADV_DONTDUMP);
    (void)madvise(data, room, MADV_WIPEONFORK);
    *secret = (struct secret){data, len, room};
    return LEAFD_OK;
}

enum leafd_err secret_set(struct secret *secret, struct bytes from)
{
    enum leafd_err err = secret_init(secret, from.len);

    if (err == LEAFD_OK && from.len)
        memcpy(secret->data, from.data, from.len);
    return err;
}

static ssize_t read_at(int fd, uint8_t *out, size_t size, size_t at)
{
    ssize_t got = pread(fd, out, size, (off_t)at);

    return got == -1 && errno == ESPIPE ? read(fd, out, size) : got;
}

enum leafd_err secret_read_fd(struct secret *secret, int fd, size_t max)
{
    enum leafd_err err = secret_init(secret, max + 1);
    size_t len = 0;

    if (err != LEAFD_OK)
        return err;
    while (len <= max) {
        ssize_t got = read_at(fd, secret->data + len, max + 1 - len, len);

        if (got == -1 && errno == EINTR)
            continue;
        if (got == -1) {
            secret_clear(secret);
            return LEAFD_IO;
        }
        if (got == 0)
            break;
        len += (size_t)got;
    }
    if (len > max) {
        secret_clear(secret);
        return LEAFD_TOO_LARGE;
    }
    secret->len = len;
    return LEAFD_OK;
}

void secret_clear(struct secret *secret)
{
    if (secret->data) {
        OPENSSL_cleanse(secret->data, secret->room);
        munmap(secret->data, secret->room);
    }
    *secret = SECRET_EMPTY;
}
