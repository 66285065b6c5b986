/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor: binds the sockets, opens the PIN source or asks for the PIN, starts the roles,
 * starts them again when they die, and passes signals on. It reads nothing from the network.
 *
 * Threads: one; no thread and no OpenSSL call ever in this process, so that it may fork. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct supervisor_options {
    const char *config;           /* -c, or NULL */
    const char *const *overrides; /* -o */
    size_t override_count;
    bool insecure_file_key;
    const char *program; /* argv[0], for the roles */
};

/* Runs until a signal ends it; the exit code of leafd(8). */
int supervisor_run(const struct supervisor_options *options);
