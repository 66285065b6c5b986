/* SPDX-License-Identifier: Apache-2.0 */
/* The file of the CA's CRL (ca.crl_file) as the front sees it: read anew when it has changed, and
 * nothing but a CRL of our CA is ever taken from it. What is wrong with it is logged once, when it
 * becomes so; it stops nothing.
 *
 * Threads: every function from any thread, except _new and _free.
 * Locks:   one, held while the file is read. */
#pragma once

#include "conf/conf.h"
#include "policy/crl.h"

struct crl_file;
/* `conf` is borrowed, of `ca` a reference taken. For a configuration with neither ca.crl_url nor
 * ca.crl_file *ret is NULL. */
LEAFD_CHECKED enum leafd_err crl_file_new(const struct conf *conf, const struct ca *ca,
                                          struct crl_file **ret);
void crl_file_free(struct crl_file *file); /* NULL is fine */

/* A copy of the CRL that is in the file now, expired or not, and when the file was written; free(
 * ret_der->data). LEAFD_ABSENT when there is none to give away, LEAFD_NOMEM. `file` may be NULL. */
LEAFD_CHECKED enum leafd_err crl_file_copy(struct crl_file *file, struct bytes *ret_der,
                                           struct crl *ret_crl, int64_t *ret_modified_sec);

struct crl_status {
    bool good;            /* there is one; expired or not */
    struct crl crl;       /* of a good one */
    struct why attention; /* what its operator should know; empty when all is well */
};
/* Looks at the file and its dates now. */
void crl_file_status(struct crl_file *file, struct crl_status *ret);
