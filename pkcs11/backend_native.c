/* SPDX-License-Identifier: Apache-2.0 */
/* The backend for tokens: our own session pool over the vendor's PKCS#11 module. */
#include "pkcs11/backend_ops.h"

static enum leafd_err native_open(struct backend *backend, const struct secret *pin,
                                  struct why *why)
{
    (void)backend;
    (void)pin;
    return fail(why, LEAFD_TOKEN_UNAVAILABLE, "the native backend is not built yet");
}

static void native_close(struct backend *backend)
{
    (void)backend;
}

const struct backend_ops backend_native_ops = {
    .name = "native",
    .open = native_open,
    .close = native_close,
};
