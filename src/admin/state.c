/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "admin/state.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "policy/leaf_type.h"

bool admin_state_is_ready(const struct admin_state *state, struct why *why)
{
    struct signer_status signer;
    struct ca_set *cas;
    bool valid;

    signer_status(state->signer, &signer);
    if (signer.state != SIGNER_READY && signer.state != SIGNER_DEGRADED) {
        (void)fail(why, LEAFD_TOKEN_UNAVAILABLE, "no signer is ready (%s)%s%s",
                   signer_state_name(signer.state), signer.text[0] ? ": " : "", signer.text);
        return false;
    }
    cas = signer_cas(state->signer);
    valid = ca_is_valid_at(cas->ca[0], clock_wall_sec());
    ca_set_unref(cas);
    if (!valid)
        (void)fail(why, LEAFD_REFUSED, "the CA certificate is expired or not yet valid");
    return valid;
}

static void write_tally(const struct signer_tally *tally, struct json *json)
{
    json_uint(json, "signatures", tally->signatures);
    json_uint(json, "failures", tally->failures);
    json_uint(json, "refusals", tally->refusals);
    json_uint(json, "logins", tally->logins);
    json_uint(json, "proofs", tally->proofs);
    json_uint(json, "recoveries", tally->recoveries);
    json_uint(json, "disowned", tally->disowned);
}

static void write_signer(const struct admin_state *state, struct json *json)
{
    struct signer_status signer;

    signer_status(state->signer, &signer);
    json_object_begin(json, "signer");
    json_string(json, "state", signer_state_name(signer.state));
    json_string(json, "text", signer.text);
    json_uint(json, "lanes", signer.lanes);
    write_tally(&signer.tally, json);
    json_uint(json, "restarts", signer.restarts);
    json_uint(json, "waiting", signer.waiting);
    json_object_end(json);
}

static void write_tokens(const struct admin_state *state, struct json *json)
{
    struct signer_status signer;

    signer_status(state->signer, &signer);
    json_array_begin(json, "tokens");
    for (size_t i = 0; i < signer.token_count; i++) {
        const struct signer_token_status *token = &signer.token[i];

        json_object_begin(json, NULL);
        json_uint(json, "token", i);
        json_string(json, "state", signer_state_name(token->state));
        json_string(json, "text", token->text);
        json_bool(json, "ejected", token->is_ejected);
        json_uint(json, "lanes", token->lanes);
        json_uint(json, "under_way", token->under_way);
        json_uint(json, "latency_us", token->latency_us);
        write_tally(&token->tally, json);
        json_uint(json, "restarts", token->restarts);
        json_object_end(json);
    }
    json_array_end(json);
}

static void write_keys(const struct admin_state *state, struct json *json)
{
    json_object_begin(json, "keys");
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        json_uint(json, leaf_types[i].name,
                  key_pool_stock(state->keys, leaf_types[i].type, leaf_types[i].bits));
    json_object_end(json);
}

static void write_crl(const struct admin_state *state, struct json *json)
{
    struct crl_status crl;

    if (!state->crl)
        return;
    crl_file_status(state->crl, &crl);
    json_object_begin(json, "crl");
    json_bool(json, "good", crl.good);
    if (crl.good) {
        json_int(json, "this_update_sec", crl.crl.this_update);
        json_int(json, "next_update_sec", crl.crl.next_update);
        json_uint(json, "number", crl.crl.number);
        json_uint(json, "revoked", crl.crl.revoked);
    }
    json_string(json, "attention", crl.attention.text);
    json_object_end(json);
}

static void write_counters(struct json *json)
{
    json_array_begin(json, "counters");
    for (int i = 0; i < METRIC_COUNT; i++) {
        uint64_t value = metrics_read((enum metric)i);

        if (value == 0)
            continue;
        json_object_begin(json, NULL);
        json_string(json, "name", metric_rows[i].name);
        json_string(json, "labels", metric_rows[i].labels);
        json_uint(json, "value", value);
        json_object_end(json);
    }
    json_array_end(json);
}

void admin_state_write(const struct admin_state *state, struct json *json)
{
    struct why why = {""};
    bool ready = admin_state_is_ready(state, &why);
    size_t entries;
    size_t bytes;

    json_string(json, "version", PACKAGE_VERSION);
    json_bool(json, "ready", ready);
    json_string(json, "reason", why.text);
    json_int(json, "uptime_sec", (clock_mono_ms() - state->started_ms) / 1000);
    write_signer(state, json);
    write_tokens(state, json);
    leaf_cache_measure(state->cache, &entries, &bytes);
    json_object_begin(json, "cache");
    json_uint(json, "entries", entries);
    json_uint(json, "bytes", bytes);
    json_uint(json, "max_bytes", (uint64_t)state->conf->cache_max_bytes);
    json_object_end(json);
    write_keys(state, json);
    write_crl(state, json);
    write_counters(json);
}
