/* SPDX-License-Identifier: Apache-2.0 */
/* The voice of the tokens: all that the rest of leafd sees of them. signer_client speaks to the
 * signer processes, tests/lib/fake_signer.c pretends to.
 *
 * Threads: every function from any thread, except _free. */
#pragma once

#include "base/bytes.h"
#include "conf/conf.h"
#include "policy/ca.h"

enum { SIGN_TBS_MAX = 16384, SIGN_SIGNATURE_MAX = 1024, SIGN_AUDIT_MAX = 1100 };

enum signer_state {
    SIGNER_DOWN,       /* no process */
    SIGNER_CONNECTING, /* the process is there, its token or key is not ready */
    SIGNER_READY,
    SIGNER_DEGRADED,   /* signs, with fewer lanes than it should */
    SIGNER_PIN_BLOCKED /* the PIN is wrong: nothing is tried until the operator says so */
};
const char *signer_state_name(enum signer_state state); /* "down", "connecting", … */

struct sign_request {
    uint16_t ca_id;
    uint64_t ca_generation;
    struct bytes tbs;    /* whole TBSCertificate, at most SIGN_TBS_MAX */
    int64_t deadline_ms; /* clock_mono_ms */
    struct bytes
        audit; /* for the signer's log: the host as asked, at most SIGN_AUDIT_MAX, may be empty */
};

/* Called exactly once. LEAFD_OK: `signature` as it stands in the certificate's BIT STRING, borrowed
 * for the call; `batch` is what it was signed with when nobody has verified it (signer_client.h
 * tells when that is disowned), 0 when it was verified. LEAFD_AGAIN: the signer was lost before it
 * answered, nothing was released: draw a new serial and ask again (the CA's generation may have
 * changed too). LEAFD_REFUSED: the signer will not sign this TBS. LEAFD_TIMEOUT, LEAFD_BUSY,
 * LEAFD_TOKEN_UNAVAILABLE (300 ms before the deadline with no lane ready; at once when
 * PIN_BLOCKED). On the client's thread: be quick. */
typedef void (*signer_fn)(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch);

/* What signer processes have done. */
struct signer_tally {
    uint64_t signatures;
    uint64_t failures;
    uint64_t refusals;
    uint64_t logins;     /* C_Login calls of the processes that run now */
    uint64_t proofs;     /* challenges that idle tokens have signed */
    uint64_t recoveries; /* how often a token that had failed was ready again */
    uint64_t disowned;   /* signatures given out unverified, and not trusted any more */
};
void signer_tally_add(struct signer_tally *to, const struct signer_tally *more);

struct signer_token_status {
    enum signer_state state; /* the best of its processes' */
    unsigned lanes;
    struct signer_tally tally;
    uint64_t restarts;
    size_t under_way;
    uint64_t latency_us; /* a running mean of what a signature takes, less the turns that others had
                            on the lanes before it; 0: not known yet */
    bool is_ejected;     /* slow or silent: it gets a request now and then */
    char text[256];      /* what is missing; empty when READY */
};

/* Of all tokens together, then one by one. */
struct signer_status {
    enum signer_state state;
    unsigned lanes; /* sessions that can sign */
    struct signer_tally tally;
    uint64_t restarts; /* processes that came after the first */
    size_t waiting;    /* requests under way or waiting */
    char text[256];    /* what is missing, for people; empty when READY */
    size_t token_count;
    struct signer_token_status token[CONF_TOKEN_MAX]; /* as the configuration has them */
};

struct signer;
struct signer_ops {
    void (*sign)(struct signer *signer, const struct sign_request *request, signer_fn done,
                 void *ctx);
    struct ca_set *(*cas)(struct signer *signer);
    void (*status)(struct signer *signer, struct signer_status *ret);
    void (*free)(struct signer *signer);
};
struct signer { /* first member of every implementation */
    const struct signer_ops *ops;
};

/* Copies what it needs of `request` before it returns. `done` may be called before it returns. */
static inline void signer_sign(struct signer *signer, const struct sign_request *request,
                               signer_fn done, void *ctx)
{
    signer->ops->sign(signer, request, done, ctx);
}
/* The CAs in force: a reference that the caller gives back with ca_set_unref(). Never NULL. */
static inline struct ca_set *signer_cas(struct signer *signer)
{
    return signer->ops->cas(signer);
}
static inline void signer_status(struct signer *signer, struct signer_status *ret)
{
    signer->ops->status(signer, ret);
}
/* Those who still wait are called with LEAFD_INTERNAL first. NULL is fine. */
static inline void signer_free(struct signer *signer)
{
    if (signer)
        signer->ops->free(signer);
}
