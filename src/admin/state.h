/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a front that its operators may look at, and the few they may touch. All borrowed.
 *
 * Threads: every function from any thread. */
#pragma once

#include "admin/crl_file.h"
#include "base/json_writer.h"
#include "cache/leaf_cache.h"
#include "conf/conf.h"
#include "issue/key_pool.h"
#include "pkcs11/signer.h"

struct admin_state {
    const struct conf *conf;
    struct leaf_cache *cache;
    struct key_pool *keys;
    struct signer *signer;
    struct crl_file *crl; /* NULL: leaves name no CRL, and there is none */
    int64_t started_ms;   /* clock_mono_ms */
};
/* Ready to issue: a signer signs, and the default CA is valid now. When not, `why` tells. */
bool admin_state_is_ready(const struct admin_state *state, struct why *why);

/* Members of a JSON object that is open: version, uptime, signer, tokens, cache, keys, crl and
 * every counter that is not zero. */
void admin_state_write(const struct admin_state *state, struct json *json);
