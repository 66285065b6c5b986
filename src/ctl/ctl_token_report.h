/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens as leafctl token list and token test show them, to people and as JSON.
 *
 * Threads: one. */
#pragma once

#include "base/json_writer.h"
#include "pkcs11/token_probe.h"

/* What every report on a token has: label, slot, …, the state of its PIN. */
void ctl_token_print(const struct token_description *token);
/* The members of an object of `json` that has begun. */
void ctl_token_write(const struct token_description *token, struct json *json);

/* All that was found; `module` is its file. */
void ctl_probe_print(const struct token_probe *probe, const char *module);
void ctl_probe_write(const struct token_probe *probe, struct json *json);
