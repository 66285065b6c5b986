/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "base/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The highest id that is not (uid_t)-1, "no change" to setresuid(2). */
#define ID_MAX 4294967294ul

static enum leafd_err user_by_number(const char *text, struct sandbox_user *ret, struct why *why)
{
    char *end;
    unsigned long id;

    errno = 0;
    id = strtoul(text, &end, 10);
    if (errno || *end || id > ID_MAX)
        return fail(why, LEAFD_CONFIG, "user \"%.64s\" is not a user id (1 to %lu)", text, ID_MAX);
    *ret = (struct sandbox_user){true, (uid_t)id, (gid_t)id};
    return LEAFD_OK;
}

static enum leafd_err user_by_name(const char *name, struct sandbox_user *ret, struct why *why)
{
    enum { ROOM = 16384 };
    struct passwd entry;
    struct passwd *found = NULL;
    char *room = malloc(ROOM);
    enum leafd_err err;
    int code;

    if (!room)
        return LEAFD_NOMEM;
    code = getpwnam_r(name, &entry, room, ROOM, &found);
    if (found) {
        *ret = (struct sandbox_user){true, found->pw_uid, found->pw_gid};
        err = LEAFD_OK;
    } else if (code != 0 && code != ENOENT && code != ESRCH) {
        err = fail(why, LEAFD_CONFIG, "user \"%.64s\": %s", name, strerror(code));
    } else {
        err = fail(why, LEAFD_CONFIG,
                   "there is no user \"%.64s\": useradd --system %.64s makes it (or "
                   "systemd-sysusers); or give an unused user id instead",
                   name, name);
    }
    free(room);
    return err;
}

enum leafd_err sandbox_user_of(const char *name, struct sandbox_user *ret, struct why *why)
{
    struct sandbox_user user = {false, 0, 0};
    enum leafd_err err;

    if (geteuid() != 0) {
        *ret = user;
        return LEAFD_OK;
    }
    if (name[0] >= '0' && name[0] <= '9')
        err = user_by_number(name, &user, why);
    else
        err = user_by_name(name, &user, why);
    if (err != LEAFD_OK)
        return err;
    if (user.uid == 0 || user.gid == 0)
        return fail(why, LEAFD_CONFIG,
                    "user \"%.64s\" is root or in root's group: name another one", name);
    *ret = user;
    return LEAFD_OK;
}

/* As root: exactly `wanted`. Otherwise as much of it as the hard limit allows. */
static enum leafd_err limit_set(__rlimit_resource_t resource, rlim_t wanted, struct why *why)
{
    struct rlimit limit;

    if (getrlimit(resource, &limit) == -1)
        return fail(why, LEAFD_IO, "getrlimit: %s", strerror(errno));
    if (geteuid() != 0 && limit.rlim_max < wanted)
        wanted = limit.rlim_max;
    limit.rlim_cur = limit.rlim_max = wanted;
    if (setrlimit(resource, &limit) == 0)
        return LEAFD_OK;
    if (errno != EPERM)
        return fail(why, LEAFD_IO, "setrlimit: %s", strerror(errno));
    /* Root without CAP_SYS_RESOURCE, as in a container: what there is must do. */
    return LEAFD_OK;
}

static enum leafd_err user_set(const struct sandbox_user *user, struct why *why)
{
    if (!user->change)
        return LEAFD_OK;
    if (setgroups(0, NULL) == -1)
        return fail(why, LEAFD_IO, "setgroups: %s", strerror(errno));
    if (setresgid(user->gid, user->gid, user->gid) == -1)
        return fail(why, LEAFD_IO, "setresgid: %s", strerror(errno));
    if (setresuid(user->uid, user->uid, user->uid) == -1)
        return fail(why, LEAFD_IO, "setresuid: %s", strerror(errno));
    if (setresuid((uid_t)-1, 0, (uid_t)-1) == 0)
        return fail(why, LEAFD_INTERNAL, "root's privileges came back after they were given up");
    return LEAFD_OK;
}

/* A change of user clears them; started by somebody else with ambient ones (systemd's
 * AmbientCapabilities=), only this does. */
static enum leafd_err capabilities_drop(struct why *why)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1 && errno != EINVAL)
        return fail(why, LEAFD_IO, "cannot clear ambient capabilities: %s", strerror(errno));
    if (syscall(SYS_capset, &header, none) == -1)
        return fail(why, LEAFD_IO, "capset: %s", strerror(errno));
    return LEAFD_OK;
}

enum leafd_err sandbox_no_dumps(struct why *why)
{
    struct rlimit none = {0, 0};

    if (setrlimit(RLIMIT_CORE, &none) == -1)
        return fail(why, LEAFD_IO, "cannot switch core dumps off: %s", strerror(errno));
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
        return fail(why, LEAFD_IO, "cannot become undumpable: %s", strerror(errno));
    return LEAFD_OK;
}

enum leafd_err sandbox_enter(const struct sandbox_user *user, const struct sandbox_limits *limits,
                             pid_t parent, struct why *why)
{
    enum leafd_err err;

    if ((err = limit_set(RLIMIT_NOFILE, limits->open_files, why)) != LEAFD_OK ||
        (err = limit_set(RLIMIT_MEMLOCK, limits->locked_memory, why)) != LEAFD_OK ||
        (err = user_set(user, why)) != LEAFD_OK || (err = capabilities_drop(why)) != LEAFD_OK)
        return err;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
        return fail(why, LEAFD_IO, "cannot give up new privileges: %s", strerror(errno));
    if ((err = sandbox_no_dumps(why)) != LEAFD_OK)
        return err;
    umask(077);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
        return fail(why, LEAFD_IO, "cannot die with the parent: %s", strerror(errno));
    if (getppid() != parent)
        return fail(why, LEAFD_IO, "the supervisor is gone");
    return LEAFD_OK;
}
