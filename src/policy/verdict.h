/* SPDX-License-Identifier: Apache-2.0 */
/* What leafd can see to be wrong with an upstream leaf, for one host at one moment. Made anew for
 * every request, never cached (the table "Never launder" in leafd-protocol(7)).
 *
 * Threads: no shared state. */
#pragma once

#include "conf/conf.h"
#include "policy/upstream.h"

/* The row that is told (explain, counters, ttl): the gravest that applies. */
enum verdict_kind {
    VERDICT_NO_UPSTREAM, /* fresh */
    VERDICT_GOOD,
    VERDICT_LEGACY,
    VERDICT_DATES, /* expired or not yet valid */
    VERDICT_NAME,  /* does not name the host */
    VERDICT_SELF_SIGNED,
    VERDICT_UNTRUSTED,
    VERDICT_UNREADABLE
};

struct verdict {
    enum verdict_kind kind;
    enum leafd_err err; /* LEAFD_OK, or LEAFD_REFUSED (mimic.self_signed: refuse) */
    bool untrusted;     /* to be signed by the untrusted CA */
    bool names_host;
    bool expired;
    bool not_yet;
    unsigned reasons; /* the upstream_flag bits that made it so */
};

struct verdict verdict_of(const struct upstream *upstream, const struct name *host, int64_t now_sec,
                          const struct conf *conf);
/* "good", "legacy", "dates", "name", "self-signed", "untrusted", "unreadable", "none". */
const char *verdict_name(enum verdict_kind kind);
/* One word per reason bit, comma-separated, for explain: "unknown-critical,weak-signature". */
const char *verdict_reasons(unsigned reasons, char *out, size_t size);
