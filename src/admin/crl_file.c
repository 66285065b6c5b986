/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "admin/crl_file.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct crl_file {
    const struct conf *conf;
    const struct ca *ca;
    pthread_mutex_t lock;
    /* under lock */
    bool seen; /* `identity` is the file that the rest is about */
    struct stat identity;
    struct bytes der; /* heap; NULL: none that is good */
    struct crl crl;
    struct why fault; /* why there is none */
    struct why told;  /* what was logged last */
};

enum leafd_err crl_file_new(const struct conf *conf, const struct ca *ca, struct crl_file **ret)
{
    struct crl_file *file;

    if (!conf->ca_crl_url && !conf->ca_crl_file) {
        *ret = NULL;
        return LEAFD_OK;
    }
    file = calloc(1, sizeof(*file));
    if (!file)
        return LEAFD_NOMEM;
    file->conf = conf;
    file->ca = ca_ref(ca);
    pthread_mutex_init(&file->lock, NULL);
    *ret = file;
    return LEAFD_OK;
}

void crl_file_free(struct crl_file *file)
{
    if (!file)
        return;
    free((void *)(uintptr_t)file->der.data);
    ca_unref(file->ca);
    pthread_mutex_destroy(&file->lock);
    free(file);
}

/* ---- reading; under the lock ---- */

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* Nothing was written to it, and it is still the same file. */
static bool is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           same_time(a->st_mtim, b->st_mtim) && same_time(a->st_ctim, b->st_ctim);
}

static void forget(struct crl_file *file)
{
    free((void *)(uintptr_t)file->der.data);
    file->der = (struct bytes){NULL, 0};
    file->seen = false;
}

/* What was read is remembered, good or not: nobody can make us read bad bytes again and again. */
static void read_open(struct crl_file *file, int fd, const struct stat *identity)
{
    const char *path = file->conf->ca_crl_file;
    struct bytes der;
    enum leafd_err err;

    forget(file);
    if (!S_ISREG(identity->st_mode)) {
        (void)fail(&file->fault, LEAFD_IO, "%s is no file", path);
        return;
    }
    err = bytes_read_fd(fd, path, CRL_SIZE_MAX, &der, &file->fault);
    if (err != LEAFD_OK && err != LEAFD_TOO_LARGE)
        return;
    file->identity = *identity;
    file->seen = true;
    if (err != LEAFD_OK)
        return;
    err = crl_read(der, file->ca, &file->crl, &file->fault);
    if (err != LEAFD_OK) {
        free((void *)(uintptr_t)der.data);
        (void)fail_in(&file->fault, err, "%s is not served", path);
        return;
    }
    file->der = der;
    log_event(LOG_LEVEL_INFO, "crl-read", "number=%" PRIu64 " next_update=%" PRId64 " revoked=%zu",
              file->crl.number, file->crl.next_update, file->crl.revoked);
}

static void refresh(struct crl_file *file)
{
    const char *path = file->conf->ca_crl_file;
    struct stat identity;
    int fd;

    if (!path)
        return;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd == -1 || fstat(fd, &identity) == -1) {
        int code = errno;

        forget(file);
        (void)fail(&file->fault, LEAFD_IO, "cannot open %s: %s%s", path, strerror(code),
                   code == ENOENT   ? "; leafctl ca crl makes it"
                   : code == EACCES ? "; the user of the front (user.front) must be able to read it"
                                    : "");
    } else if (!file->seen || !is_same(&file->identity, &identity)) {
        read_open(file, fd, &identity);
    }
    if (fd != -1)
        close(fd);
}

/* ---- what is to be known ---- */

static void find_attention(const struct crl_file *file, struct why *ret)
{
    ret->text[0] = '\0';
    if (crl_conf_needs_care(file->conf, file->ca, ret))
        return;
    if (!file->der.data)
        *ret = file->fault;
    else
        (void)crl_needs_care(&file->crl, clock_wall_sec(), ret);
}

static void tell(struct crl_file *file, const struct why *attention)
{
    char reason[2 * sizeof(attention->text)];

    if (strcmp(attention->text, file->told.text) == 0)
        return;
    file->told = *attention;
    if (attention->text[0])
        log_event(LOG_LEVEL_WARNING, "crl-needs-care", "reason=\"%s\"",
                  bytes_escape(bytes_of(attention->text), reason, sizeof(reason)));
}

void crl_file_status(struct crl_file *file, struct crl_status *ret)
{
    pthread_mutex_lock(&file->lock);
    refresh(file);
    *ret = (struct crl_status){.good = file->der.data != NULL};
    if (ret->good)
        ret->crl = file->crl;
    find_attention(file, &ret->attention);
    tell(file, &ret->attention);
    pthread_mutex_unlock(&file->lock);
}

enum leafd_err crl_file_copy(struct crl_file *file, struct bytes *ret_der, struct crl *ret_crl,
                             int64_t *ret_modified_sec)
{
    enum leafd_err err = LEAFD_ABSENT;
    struct why attention;
    struct bytes copy;

    if (!file)
        return LEAFD_ABSENT;
    pthread_mutex_lock(&file->lock);
    refresh(file);
    find_attention(file, &attention);
    tell(file, &attention);
    if (file->der.data) {
        copy = bytes_copy(file->der);
        err = copy.data ? LEAFD_OK : LEAFD_NOMEM;
    }
    if (err == LEAFD_OK) {
        *ret_der = copy;
        *ret_crl = file->crl;
        *ret_modified_sec = file->identity.st_mtim.tv_sec;
    }
    pthread_mutex_unlock(&file->lock);
    return err;
}
