/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/sign_window.h"

#include <stdlib.h>
#include <string.h>

static bool keep_tbs(struct sign_window *window, struct bytes tbs)
{
    if (tbs.len > window->tbs_size) {
        uint8_t *room = realloc(window->tbs, tbs.len);

        if (!room)
            return false;
        window->tbs = room;
        window->tbs_size = tbs.len;
    }
    if (tbs.len)
        memcpy(window->tbs, tbs.data, tbs.len);
    window->tbs_len = tbs.len;
    return true;
}

bool sign_window_add(struct sign_window *window, _Atomic uint64_t *batches, struct bytes tbs,
                     struct bytes signature)
{
    if (window->failed || signature.len > sizeof(window->signature) || !keep_tbs(window, tbs))
        return false;
    memcpy(window->signature, signature.data, signature.len);
    window->signature_len = signature.len;
    if (!window->batch)
        window->batch = atomic_fetch_add_explicit(batches, 1, memory_order_relaxed) + 1;
    window->signatures++;
    return true;
}

void sign_window_close(struct sign_window *window)
{
    window->batch = 0;
    window->signatures = 0;
    window->failed = false;
}

void sign_window_fail(struct sign_window *window)
{
    window->failed = window->batch != 0;
}

void sign_window_clear(struct sign_window *window)
{
    free(window->tbs);
    *window = (struct sign_window){0};
}
