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

/* A file without a name in the folder of `target`, which a process that is killed leaves nothing
 * of; -1 where file systems or a missing /proc do not let it get a name later. */
static int open_nameless(const char *target)
{
    const char *slash = strrchr(target, '/');
    char *folder = slash ? strndup(target, (size_t)(slash - target) + 1) : strdup(".");
    int fd = -1;

    if (folder && access("/proc/self/fd", X_OK) == 0)
        fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    free(folder);
    return fd;
}

enum leafd_err new_file_open(const char *target, struct new_file *ret, struct why *why)
{
    struct new_file file = NEW_FILE_EMPTY;
    enum leafd_err err;

    if (is_no_file(target))
        return fail(why, LEAFD_IO, "cannot write %s: it is no file; --out - is standard output",
                    target);
    if (asprintf(&file.path, "%s.new-XXXXXX", target) == -1)
        return LEAFD_NOMEM;
    file.fd = open_nameless(target);
    file.has_name = file.fd == -1;
    if (file.has_name)
        file.fd = mkostemp(file.path, O_CLOEXEC);
    if (file.fd == -1) {
        err = fail(why, LEAFD_IO, "cannot write beside %s: %s", target, strerror(errno));
        free(file.path);
        return err;
    }
    *ret = file;
    return LEAFD_OK;
}

static bool fill(const struct new_file *file, struct bytes content)
{
    return bytes_write_fd(file->fd, content) && fchmod(file->fd, 0644) == 0 && fsync(file->fd) == 0;
}

/* Never over another file. */
static bool give_name(const struct new_file *file, const char *name)
{
    char source[32];

    if (file->has_name)
        return link(file->path, name) == 0;
    snprintf(source, sizeof(source), "/proc/self/fd/%d", file->fd);
    return linkat(AT_FDCWD, source, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0;
}

/* rename(2) wants a name to begin with: one of this process alone, whole as soon as it is there. */
static bool take_place(const struct new_file *file, const char *target)
{
    char *name;
    bool good;

    if (file->has_name)
        return rename(file->path, target) == 0;
    if (asprintf(&name, "%s.new-%ld", target, (long)getpid()) == -1)
        return false;
    unlink(name); /* of a process that had our number and was killed */
    good = give_name(file, name);
    if (good && rename(name, target) == -1) {
        int code = errno;

        unlink(name);
        errno = code;
        good = false;
    }
    free(name);
    return good;
}

enum leafd_err new_file_keep(const struct new_file *file, struct bytes content, const char *target,
                             struct why *why)
{
    if (!fill(file, content) || !give_name(file, target))
        return fail(why, LEAFD_IO, "cannot write %s: %s", target, strerror(errno));
    return LEAFD_OK;
}

enum leafd_err new_file_replace(const struct new_file *file, struct bytes content,
                                const char *target, struct why *why)
{
    if (!fill(file, content) || (!give_name(file, target) && !take_place(file, target)))
        return fail(why, LEAFD_IO, "cannot write %s: %s", target, strerror(errno));
    return LEAFD_OK;
}

void new_file_clear(struct new_file *file)
{
    if (file->fd != -1) {
        close(file->fd);
        if (file->has_name)
            unlink(file->path); /* gone already when it has replaced its target */
    }
    free(file->path);
    *file = NEW_FILE_EMPTY;
}
