/* SPDX-License-Identifier: Apache-2.0 */
/* The signer role: reads the PIN, sets token.env, and runs a signer_process for the fronts that the
 * supervisor connects.
 *
 * Threads: the role's first thread, which afterwards waits for the supervisor's word. */
#pragma once

#include "run/role.h"

/* Signs until told to stop; the exit code. */
int signer_role_main(struct role_start *start);
