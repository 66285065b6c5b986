/* SPDX-License-Identifier: Apache-2.0 */
/* The CAs that the configuration names, from their certificates' files: the same for every role and
 * for leafctl.
 *
 * Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "policy/ca.h"

/* One CA from the text of its certificate's file, signing as the configuration says: an RSA one
 * with the padding of ca.rsa_padding, but for the untrusted one, which follows its certificate. Its
 * chain leaves room in a reply for the largest leaf and key that the configuration makes. Else as
 * ca_read(). */
LEAFD_CHECKED enum leafd_err ca_of_text(const struct conf *conf, struct bytes text, uint16_t id,
                                        struct ca **ret, struct why *why);

/* What stands in a CA's file, the caller's to free(). LEAFD_CONFIG with a sentence that has the
 * remedy: what is wrong here is in the operator's hands, at the start as much as later. */
LEAFD_CHECKED enum leafd_err ca_file_text(const char *path, struct bytes *ret, struct why *why);

/* The untrusted one too when it is configured by file. The caller ends it with ca_set_unref().
 * LEAFD_CONFIG with a sentence; *ret is untouched. */
LEAFD_CHECKED enum leafd_err ca_files_read(const struct conf *conf, struct ca_set **ret,
                                           struct why *why);
