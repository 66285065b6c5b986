/* SPDX-License-Identifier: Apache-2.0 */
/* What leafctl tells about a CA's certificate.
 *
 * Threads: one. */
#pragma once

#include "base/json_writer.h"
#include "policy/ca.h"

/* As rows on standard output, or as an object of `json`. `file`: where it was read from. */
void ctl_ca_print(const struct ca *ca, const char *file);
void ctl_ca_write(const struct ca *ca, const char *file, struct json *json);
