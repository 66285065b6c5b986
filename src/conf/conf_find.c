/* SPDX-License-Identifier: Apache-2.0 */
/* Where the configuration's text comes from: a file, or LEAFD_CONFIG. */
#include "config.h"

#include "conf/conf.h"

#include "conf/values.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char default_file[] = SYSCONFDIR "/leafd/leafd.yaml";

/* The absolute folder of a file, NULL with errno. */
static char *folder_of(const char *file)
{
    const char *slash = strrchr(file, '/');
    char *name = slash ? strndup(file, slash == file ? 1 : (size_t)(slash - file)) : strdup(".");
    char *folder = name ? realpath(name, NULL) : NULL;

    free(name);
    return folder;
}

static enum leafd_err find_file(const char *path, struct bytes *ret_text, char **ret_file,
                                char **ret_dir, struct why *why)
{
    struct bytes text = {NULL, 0};
    char *file = strdup(path);
    char *dir = NULL;
    enum leafd_err err = LEAFD_NOMEM;

    if (!file)
        goto out;
    err = bytes_read_file(path, CONF_FILE_MAX, &text, why);
    if (err == LEAFD_IO || err == LEAFD_TOO_LARGE)
        err = LEAFD_CONFIG;
    if (err != LEAFD_OK)
        goto out;
    dir = folder_of(path);
    if (!dir) {
        err = fail(why, LEAFD_CONFIG, "the folder of %.100s: %s", path, strerror(errno));
        goto out;
    }
    *ret_text = text;
    *ret_file = file;
    *ret_dir = dir;
    return LEAFD_OK;
out:
    free((void *)(uintptr_t)text.data);
    free(file);
    return err;
}

static enum leafd_err find_variable(const char *value, struct bytes *ret_text, char **ret_file,
                                    char **ret_dir, struct why *why)
{
    struct bytes text;
    enum leafd_err err;
    char *file;

    if (strlen(value) > 2 * CONF_FILE_MAX)
        return fail(why, LEAFD_CONFIG, "LEAFD_CONFIG: is larger than a configuration may be");
    err = value_base64(bytes_of(value), &text, why);
    if (err != LEAFD_OK)
        return fail_in(why, err, "LEAFD_CONFIG");
    file = strdup("LEAFD_CONFIG");
    if (!file) {
        free((void *)(uintptr_t)text.data);
        return LEAFD_NOMEM;
    }
    *ret_text = text;
    *ret_file = file;
    *ret_dir = NULL;
    return LEAFD_OK;
}

enum leafd_err conf_find(const char *option, struct bytes *ret_text, char **ret_file,
                         char **ret_dir, struct why *why)
{
    const char *variable = getenv("LEAFD_CONFIG");

    if (option)
        return find_file(option, ret_text, ret_file, ret_dir, why);
    if (variable && *variable)
        return find_variable(variable, ret_text, ret_file, ret_dir, why);
    if (access(default_file, F_OK) == -1)
        return fail(why, LEAFD_CONFIG,
                    "there is no %s: name a configuration with -c, or write one (leafctl check "
                    "--sample prints every option)",
                    default_file);
    return find_file(default_file, ret_text, ret_file, ret_dir, why);
}
