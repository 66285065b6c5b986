/* SPDX-License-Identifier: Apache-2.0 */
/* The front role: everything that touches hostile bytes. Builds the daemon's parts in their order,
 * and takes them down in the mirrored one.
 *
 * Threads: the role's first thread, which afterwards waits for the supervisor's word. */
#pragma once

#include "run/role.h"

/* Serves until told to stop; the exit code. */
int front_main(struct role_start *start);
