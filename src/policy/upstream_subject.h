/* SPDX-License-Identifier: Apache-2.0 */
/* An upstream leaf's subject, from hostile octets to those that a mimic may have: each string as
 * UTF-8, within bounds, written anew.
 *
 * Threads: no shared state. */
#pragma once

#include "policy/names.h"

enum { UPSTREAM_SUBJECT_MAX = 2048 };

struct upstream_subject {
    struct bytes name;    /* whole Name of at most UPSTREAM_SUBJECT_MAX octets, heap; an empty
                             sequence when nothing is left or a bound is crossed */
    bool has_odd_strings; /* of types that nobody should write any more */
    bool cn_is_name;      /* it has one common name, which is `cn`: a host name or an address */
    struct name cn;
};

/* Reads a whole Name that cert_read() has read. LEAFD_NOMEM: *ret is untouched. ret->name.data is
 * the caller's to free(). */
LEAFD_CHECKED enum leafd_err upstream_subject_read(struct bytes whole,
                                                   struct upstream_subject *ret);
