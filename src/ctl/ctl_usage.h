/* SPDX-License-Identifier: Apache-2.0 */
/* What --usage names: what the leaf is for.
 *
 * Threads: one. */
#pragma once

#include "ctl/ctl.h"
#include "wire/request.h"

/* Puts it into the request. CTL_OK (also where there is none), or CTL_USAGE with a message. */
int ctl_usage_take(const struct ctl *ctl, struct request *request);
