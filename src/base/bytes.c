/* SPDX-License-Identifier: Apache-2.0 */
#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    return true;
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.data, b.data, shorter) : 0;

    if (order)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

/* Characters that one octet takes: itself, itself behind a backslash, or \xHH. */
static size_t escaped_len(uint8_t c)
{
    if (c < 0x20 || c >= 0x7f)
        return 4;
    return c == '"' || c == '\\' ? 2 : 1;
}

const char *bytes_escape(struct bytes text, char *out, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    size_t whole = 0;
    size_t used = 0;
    size_t room;

    if (size == 0)
        return "";
    for (size_t i = 0; i < text.len && whole < size; i++)
        whole += escaped_len(text.data[i]);
    room = whole < size ? size - 1 : size > 4 ? size - 4 : 0; /* 4: "..." and the NUL */
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        size_t need = escaped_len(c);

        if (used + need > room) {
            while (used < size - 1 && used < room + 3)
                out[used++] = '.';
            break;
        }
        if (need == 4) {
            out[used++] = '\\';
            out[used++] = 'x';
            out[used++] = hex[c >> 4];
            out[used++] = hex[c & 15];
            continue;
        }
        if (need == 2)
            out[used++] = '\\';
        out[used++] = (char)c;
    }
    out[used] = '\0';
    return out;
}

void bytes_hex(struct bytes raw, char *out)
{
    static const char hex[] = "0123456789abcdef";

    for (size_t i = 0; i < raw.len; i++) {
        out[2 * i] = hex[raw.data[i] >> 4];
        out[2 * i + 1] = hex[raw.data[i] & 15];
    }
    out[2 * raw.len] = '\0';
}

struct bytes bytes_copy(struct bytes from)
{
    uint8_t *data = malloc(from.len + 1);

    if (!data)
        return (struct bytes){NULL, 0};
    if (from.len)
        memcpy(data, from.data, from.len);
    data[from.len] = 0;
    return (struct bytes){data, from.len};
}

enum leafd_err bytes_read_fd(int fd, const char *name, size_t max, struct bytes *ret,
                             struct why *why)
{
    size_t room = 4096;
    size_t len = 0;
    uint8_t *data = malloc(room + 1);

    if (!data)
        return LEAFD_NOMEM;
    for (;;) {
        ssize_t got = read(fd, data + len, room - len);

        if (got == -1 && errno == EINTR)
            continue;
        if (got == -1) {
            free(data);
            return fail(why, LEAFD_IO, "cannot read %s: %s", name, strerror(errno));
        }
        if (got == 0)
            break;
        len += (size_t)got;
        if (len > max) {
            free(data);
            return fail(why, LEAFD_TOO_LARGE, "%s is larger than %zu bytes", name, max);
        }
        if (len == room) {
            uint8_t *more = realloc(data, 2 * room + 1);

            if (!more) {
                free(data);
                return LEAFD_NOMEM;
            }
            data = more;
            room *= 2;
        }
    }
    data[len] = 0;
    *ret = (struct bytes){data, len};
    return LEAFD_OK;
}

enum leafd_err bytes_read_file(const char *path, size_t max, struct bytes *ret, struct why *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    enum leafd_err err;

    if (fd == -1)
        return fail(why, LEAFD_IO, "cannot open %s: %s", path, strerror(errno));
    err = bytes_read_fd(fd, path, max, ret, why);
    close(fd);
    return err;
}

bool bytes_write_fd(int fd, struct bytes from)
{
    while (from.len) {
        ssize_t wrote = write(fd, from.data, from.len);

        if (wrote == -1 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        from.data += wrote;
        from.len -= (size_t)wrote;
    }
    return true;
}
