/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line says of a CA that is to be made or requested.
 *
 * Threads: one. */
#pragma once

#include "ctl/ctl.h"
#include "pkcs11/ca_make.h"

/* --key, --cn, --permit and --exclude. CTL_OK, or CTL_USAGE after a sentence; *ret_constraints is
 * then untouched, and otherwise the caller's to name_constraints_clear(). */
int ctl_ca_options(const struct ctl *ctl, struct ca_make_options *ret,
                   struct name_constraints *ret_constraints);
