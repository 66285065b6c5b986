/* SPDX-License-Identifier: Apache-2.0 */
/* A leaf, its key and its chain, ready to send. Never holds the host that asked. Immutable,
 * counted.
 *
 * Threads: every function from any thread. */
#pragma once

#include "issue/leaf_key.h"
#include "policy/ca.h"

struct issued {
    _Atomic unsigned refs;
    struct bytes pem; /* the leaf alone; the DER is decoded from it for listeners that want it */
    struct leaf_key *key; /* owned reference */
    const struct ca *ca;  /* owned reference: its chain is sent behind the leaf */
    int64_t not_after;    /* wall clock */
    int64_t usable_until; /* wall clock */
    uint64_t batch;       /* its signature's, as signer_fn has it */
    bool is_stand_in; /* its key is smaller than planned, for want of one: kept for a few seconds
                         by us and by who asks, since the right one is being made */
};

enum { ISSUED_STAND_IN_SEC = 5 };

/* Makes one from the leaf's DER; takes its own references. */
LEAFD_CHECKED enum leafd_err issued_new(struct bytes der, struct leaf_key *key, const struct ca *ca,
                                        int64_t not_after, int64_t usable_until,
                                        struct issued **ret);
struct issued *issued_ref(struct issued *issued);
void issued_unref(struct issued *issued); /* NULL is fine */
/* The leaf's DER into `out`; LEAFD_TOO_LARGE when it does not fit. */
LEAFD_CHECKED enum leafd_err issued_der(const struct issued *issued, uint8_t *out, size_t size,
                                        struct bytes *ret);
/* Octets of memory it stands for, the whole key included; always the same for one leaf. */
size_t issued_size(const struct issued *issued);
