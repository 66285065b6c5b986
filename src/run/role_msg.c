/* SPDX-License-Identifier: Apache-2.0 */
/* The memory file: a struct boot_head, then NUL-terminated strings (file, dir or "", overrides),
 * then the configuration's text to the end. */
#include "config.h"

#include "run/role_msg.h"

#include "base/channel.h"
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BOOT_MAX = CONF_FILE_MAX + (1 << 20) };

struct boot_head {
    uint32_t log_level;
    uint32_t override_count;
    uint32_t token;
    uint32_t process;
    uint8_t insecure_file_key;
    uint8_t first;
    uint8_t has_dir;
};

enum leafd_err role_msg_send(int channel, enum role_msg_kind kind, uint32_t value, int fd)
{
    struct role_msg message = {.kind = kind, .value = value};

    return channel_send(channel, (struct bytes){(const uint8_t *)&message, sizeof(message)}, fd);
}

enum leafd_err role_msg_receive(int channel, struct role_msg *ret, int *ret_fd)
{
    uint8_t buffer[sizeof(struct role_msg)];
    struct role_msg message;
    enum leafd_err err;
    size_t len;
    int fd;

    err = channel_receive(channel, buffer, sizeof(buffer), &len, &fd);
    if (err != LEAFD_OK)
        return err;
    if (len == sizeof(message)) {
        memcpy(&message, buffer, sizeof(message));
        if (message.kind > 0 && message.kind < ROLE_MSG_END) {
            *ret = message;
            *ret_fd = fd;
            return LEAFD_OK;
        }
    }
    if (fd != -1)
        close(fd);
    return LEAFD_MALFORMED;
}

/* With its NUL. */
static bool write_string(int fd, const char *text)
{
    return bytes_write_fd(fd, (struct bytes){(const uint8_t *)text, strlen(text) + 1});
}

enum leafd_err role_boot_write(const struct role_boot *boot, int *ret_fd, struct why *why)
{
    struct boot_head head = {
        .log_level = boot->log_level,
        .override_count = (uint32_t)boot->override_count,
        .insecure_file_key = boot->insecure_file_key,
        .first = boot->first,
        .token = boot->token,
        .process = boot->process,
        .has_dir = boot->dir != NULL,
    };
    const char *dir = boot->dir ? boot->dir : "";
    int fd = memfd_create("leafd-boot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool done;

    if (fd == -1)
        return fail(why, LEAFD_IO, "memfd_create: %s", strerror(errno));
    done = bytes_write_fd(fd, (struct bytes){(const uint8_t *)&head, sizeof(head)}) &&
           write_string(fd, boot->file) && write_string(fd, dir);
    for (size_t i = 0; done && i < boot->override_count; i++)
        done = write_string(fd, boot->overrides[i]);
    done = done && bytes_write_fd(fd, boot->text) && lseek(fd, 0, SEEK_SET) == 0 &&
           fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
    if (!done) {
        enum leafd_err err = fail(why, LEAFD_IO, "cannot write a memory file: %s", strerror(errno));

        close(fd);
        return err;
    }
    *ret_fd = fd;
    return LEAFD_OK;
}

/* The string at *at, and *at behind its NUL; NULL when there is none before `end`. */
static const char *next_string(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at;
    const uint8_t *nul = memchr(start, '\0', (size_t)(end - start));

    if (!nul)
        return NULL;
    *at = nul + 1;
    return (const char *)start;
}

static enum leafd_err boot_parse(struct bytes raw, struct role_boot *boot, struct why *why)
{
    const uint8_t *at = raw.data + sizeof(struct boot_head);
    const uint8_t *end = raw.data + raw.len;
    const char **overrides = NULL;
    struct boot_head head;

    if (raw.len < sizeof(head))
        goto malformed;
    memcpy(&head, raw.data, sizeof(head));
    if (head.override_count > raw.len)
        goto malformed;
    overrides = calloc(head.override_count + 1u, sizeof(*overrides));
    if (!overrides)
        return LEAFD_NOMEM;
    boot->file = next_string(&at, end);
    boot->dir = boot->file ? next_string(&at, end) : NULL;
    if (!boot->dir)
        goto malformed;
    for (size_t i = 0; i < head.override_count; i++) {
        overrides[i] = next_string(&at, end);
        if (!overrides[i])
            goto malformed;
    }
    if (!head.has_dir)
        boot->dir = NULL;
    boot->overrides = overrides;
    boot->override_count = head.override_count;
    boot->text = (struct bytes){at, (size_t)(end - at)};
    boot->log_level = head.log_level;
    boot->insecure_file_key = head.insecure_file_key;
    boot->first = head.first;
    boot->token = head.token;
    boot->process = head.process;
    return LEAFD_OK;
malformed:
    free(overrides);
    return fail(why, LEAFD_INTERNAL, "the boot message is malformed");
}

enum leafd_err role_boot_read(int fd, struct role_boot *ret, uint8_t **ret_memory, struct why *why)
{
    struct role_boot boot = {.file = NULL};
    enum leafd_err err;
    struct bytes raw;

    err = bytes_read_fd(fd, "the boot message", BOOT_MAX, &raw, why);
    if (err != LEAFD_OK)
        return err;
    err = boot_parse(raw, &boot, why);
    if (err != LEAFD_OK) {
        free((void *)(uintptr_t)raw.data);
        return err;
    }
    *ret = boot;
    *ret_memory = (uint8_t *)(uintptr_t)raw.data;
    return LEAFD_OK;
}

void role_boot_clear(struct role_boot *boot, uint8_t *memory)
{
    free((void *)(uintptr_t)boot->overrides);
    *boot = (struct role_boot){.file = NULL};
    free(memory);
}
