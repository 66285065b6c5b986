/* SPDX-License-Identifier: Apache-2.0 */
/* What one lane has signed with one key since a signature of it was last verified: a batch with a
 * number of its own, by which its certificates are found again should the next check fail. The last
 * of its signatures is kept, so that the batch can be closed without another one.
 *
 * Threads: a window is one thread's. */
#pragma once

#include "pkcs11/signer.h"

#include <stdatomic.h>

struct sign_window {
    uint64_t batch;      /* 0: nothing is in doubt */
    unsigned signatures; /* in it */
    bool failed;         /* one of this lane did not verify: the batch is to be disowned */
    uint8_t *tbs;        /* of the last one */
    size_t tbs_len, tbs_size;
    uint8_t signature[SIGN_SIGNATURE_MAX];
    size_t signature_len;
};

/* A signature goes out unverified: the window's batch has it, begun with a number from `batches` if
 * there is none. False: it cannot be kept (no memory, or the batch is to be disowned first). */
bool sign_window_add(struct sign_window *window, _Atomic uint64_t *batches, struct bytes tbs,
                     struct bytes signature);
/* What was signed last is good, or a batch that failed has been disowned: nothing is in doubt. */
void sign_window_close(struct sign_window *window);
/* What was signed last is not good. */
void sign_window_fail(struct sign_window *window);
void sign_window_clear(struct sign_window *window);
