/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/issuer.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "issue/leaf_der.h"
#include "wire/request.h"

#include <stdlib.h>
#include <string.h>

/* A reply has to hold leaf, key and chain, and what is around them. */
enum { ATTEMPTS_MAX = 8, REPLY_FIXED = 40 };

struct issuer {
    const struct conf *conf;
    struct key_pool *keys;
    struct signer *signer;
};

/* One leaf on its way. One thread at a time has it: whoever was called last. */
struct issue {
    struct issuer *issuer;
    struct plan *plan;
    int64_t deadline_ms;
    issuer_fn done;
    void *ctx;
    struct leaf_key *key;
    struct bytes tbs; /* ours: what the signature has to be for */
    unsigned attempts;
    struct bytes audit;
};

static void get_key(struct issue *issue);

enum leafd_err issuer_new(const struct conf *conf, struct key_pool *keys, struct signer *signer,
                          struct issuer **ret)
{
    struct issuer *issuer = malloc(sizeof(*issuer));

    if (!issuer)
        return LEAFD_NOMEM;
    *issuer = (struct issuer){conf, keys, signer};
    *ret = issuer;
    return LEAFD_OK;
}

void issuer_free(struct issuer *issuer)
{
    free(issuer);
}

/* Tells the end; nothing of the issue is left then. */
static void finish(struct issue *issue, enum leafd_err err, struct issued *issued)
{
    issuer_fn done = issue->done;
    void *ctx = issue->ctx;

    leaf_key_unref(issue->key);
    free((void *)issue->tbs.data);
    free(issue);
    done(ctx, err, err ? NULL : issued);
    issued_unref(issued);
}

/* ---- the last step: signature -> issued ---- */

/* A key that had to be smaller than planned is not part of the plan's key: the leaf is remembered
 * under a plan that it does not quite fulfil, so not for long. */
static int64_t usable_until(const struct plan *plan, bool is_stand_in)
{
    int64_t soon = clock_wall_sec() + ISSUED_STAND_IN_SEC;

    return is_stand_in && soon < plan->usable_until ? soon : plan->usable_until;
}

/* Not inlined, as write_tbs(): a signer may answer at once, eight times, one in the other. */
__attribute__((noinline)) static enum leafd_err
assemble(const struct issue *issue, struct bytes signature, uint64_t batch, struct issued **ret)
{
    const struct plan *plan = issue->plan;
    uint8_t room[LEAF_DER_MAX + SIGN_SIGNATURE_MAX];
    bool is_stand_in = issue->key->bits < plan->rsa_bits;
    struct issued *issued;
    struct bytes der;
    enum leafd_err err = leaf_cert_write(plan->ca, issue->tbs, signature, room, sizeof(room), &der);

    if (!err)
        err = issued_new(der, issue->key, plan->ca, plan->not_after,
                         usable_until(plan, is_stand_in), &issued);
    if (err)
        return err;
    issued->is_stand_in = is_stand_in;
    issued->batch = batch;
    if (issued->pem.len + issued->key->private_der.len + plan->ca->chain_pem.len + REPLY_FIXED >
        WIRE_DATAGRAM_MAX) {
        issued_unref(issued);
        return LEAFD_TOO_LARGE;
    }
    *ret = issued;
    return LEAFD_OK;
}

/* The untrusted CA of a new signer is another one: the plan goes over to it. */
static void follow_ca(struct issue *issue)
{
    struct plan *plan = issue->plan;
    struct ca_set *cas = signer_cas(issue->issuer->signer);
    const struct ca *ca = ca_set_find(cas, plan->ca->id);

    if (ca && ca->generation != plan->ca->generation) {
        plan_set_ca(plan, ca);
        leaf_key_unref(issue->key); /* may be shared, and never is across CAs */
        issue->key = NULL;
    }
    ca_set_unref(cas);
}

/* The signer was lost: the same again, under a new serial. */
static void try_again(struct issue *issue)
{
    if (clock_mono_ms() >= issue->deadline_ms) {
        finish(issue, LEAFD_TIMEOUT, NULL);
    } else if (issue->attempts >= ATTEMPTS_MAX) {
        finish(issue, LEAFD_TOKEN_UNAVAILABLE, NULL);
    } else {
        metrics_add(METRIC_SIGN_RETRIED, 1);
        follow_ca(issue);
        get_key(issue);
    }
}

static void on_signature(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch)
{
    static struct log_limit limit;
    struct issue *issue = ctx;
    struct issued *issued = NULL;

    if (!err) {
        err = assemble(issue, signature, batch, &issued);
        finish(issue, err, issued);
        return;
    }
    metrics_add(METRIC_SIGN_FAILED, 1);
    switch (err) {
    case LEAFD_AGAIN:
        try_again(issue);
        return;
    case LEAFD_TIMEOUT:
    case LEAFD_BUSY:
    case LEAFD_TOKEN_UNAVAILABLE:
        break;
    case LEAFD_REFUSED: /* we should not have asked */
        log_limited(&limit, 1, LOG_LEVEL_ERROR, "sign-refused", "ca=%u profile=%s",
                    (unsigned)issue->plan->ca->id, profile_name(issue->plan->profile));
        err = LEAFD_INTERNAL;
        break;
    default:
        err = LEAFD_INTERNAL;
        break;
    }
    finish(issue, err, NULL);
}

/* ---- the middle step: TBSCertificate -> signer ---- */

/* A copy of its own size: the buffer it is written in would be 16 KiB for each issue. Not inlined,
 * so that the buffer is gone from the stack when the signer is asked. */
__attribute__((noinline)) static enum leafd_err write_tbs(struct issue *issue)
{
    uint8_t room[SIGN_TBS_MAX], serial[LEAF_SERIAL_LEN];
    struct bytes tbs;
    enum leafd_err err = leaf_serial(serial);

    if (!err)
        err = leaf_tbs_write(issue->plan, issue->issuer->conf, issue->key, serial, room,
                             sizeof(room), &tbs);
    if (err)
        return err;
    free((void *)issue->tbs.data);
    issue->tbs = bytes_copy(tbs);
    return issue->tbs.data ? LEAFD_OK : LEAFD_NOMEM;
}

static void sign(struct issue *issue)
{
    enum leafd_err err = write_tbs(issue);
    struct sign_request request = {
        .ca_id = issue->plan->ca->id,
        .ca_generation = issue->plan->ca->generation,
        .tbs = issue->tbs,
        .deadline_ms = issue->deadline_ms,
        .audit = issue->audit,
    };

    if (err) {
        finish(issue, err == LEAFD_TOO_LARGE ? err : LEAFD_INTERNAL, NULL);
        return;
    }
    issue->attempts++;
    metrics_add(METRIC_SIGN_REQUESTS, 1);
    signer_sign(issue->issuer->signer, &request, on_signature, issue);
}

/* ---- the first step: a key ---- */

static void on_key(void *ctx, enum leafd_err err, struct leaf_key *key)
{
    struct issue *issue = ctx;

    if (err) {
        finish(issue, err == LEAFD_TIMEOUT || err == LEAFD_BUSY ? err : LEAFD_INTERNAL, NULL);
        return;
    }
    issue->key = key;
    sign(issue);
}

static void get_key(struct issue *issue)
{
    const struct plan *plan = issue->plan;
    struct leaf_key *key = NULL;
    enum leafd_err err;

    if (issue->key) {
        sign(issue);
        return;
    }
    err = key_pool_take(issue->issuer->keys, plan->key_type, plan->rsa_bits, plan->ca->generation,
                        issue->deadline_ms, on_key, issue, &key);
    if (err != LEAFD_AGAIN) /* else the issue is the pool's already */
        on_key(issue, err, key);
}

void issuer_issue(struct issuer *issuer, struct plan *plan, int64_t deadline_ms, struct bytes audit,
                  issuer_fn done, void *ctx)
{
    size_t audit_len = audit.len < SIGN_AUDIT_MAX ? audit.len : SIGN_AUDIT_MAX;
    struct issue *issue;

    if (clock_mono_ms() >= deadline_ms) {
        done(ctx, LEAFD_TIMEOUT, NULL);
        return;
    }
    issue = calloc(1, sizeof(*issue) + audit_len);
    if (!issue) {
        done(ctx, LEAFD_INTERNAL, NULL);
        return;
    }
    *issue = (struct issue){
        .issuer = issuer,
        .plan = plan,
        .deadline_ms = deadline_ms,
        .done = done,
        .ctx = ctx,
        .audit = {(const uint8_t *)(issue + 1), audit_len},
    };
    if (audit_len > 0)
        memcpy(issue + 1, audit.data, audit_len);
    get_key(issue);
}
