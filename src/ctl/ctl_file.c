/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Is there something that a file must not take the place of? A link is judged by where it leads. */
static bool is_no_file(const char *target)
{
    struct stat status;

    return stat(target, &status) == 0 && !S_ISREG(status.st_mode);
}

enum leafd_err new_file_open(const char *target, struct new_file *ret, struct why *why)
{
    char *path = NULL;
    int fd;
    enum leafd_err err;

    if (is_no_file(target))
        return fail(why, LEAFD_IO, "cannot write %s: it is no file; --out - is standard output",
                    target);
    if (asprintf(&path, "%s.new-XXXXXX", target) == -1)
        return LEAFD_NOMEM;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd == -1) {
        err = fail(why, LEAFD_IO, "cannot write beside %s: %s", target, strerror(errno));
        free(path);
        return err;
    }
    *ret = (struct new_file){path, fd};
    return LEAFD_OK;
}

static bool fill(const struct new_file *file, struct bytes content)
{
    return bytes_write_fd(file->fd, content) && fchmod(file->fd, 0644) == 0 && fsync(file->fd) == 0;
}

enum leafd_err new_file_keep(const struct new_file *file, struct bytes content, const char *target,
                             struct why *why)
{
    if (!fill(file, content) || link(file->path, target) == -1)
        return fail(why, LEAFD_IO, "cannot write %s: %s", target, strerror(errno));
    return LEAFD_OK;
}

enum leafd_err new_file_replace(const struct new_file *file, struct bytes content,
                                const char *target, struct why *why)
{
    if (!fill(file, content) || rename(file->path, target) == -1)
        return fail(why, LEAFD_IO, "cannot write %s: %s", target, strerror(errno));
    return LEAFD_OK;
}

void new_file_clear(struct new_file *file)
{
    if (file->fd != -1) {
        close(file->fd);
        unlink(file->path); /* gone already when it has replaced its target */
    }
    free(file->path);
    *file = NEW_FILE_EMPTY;
}
