/* SPDX-License-Identifier: Apache-2.0 */
/* Counters: one row here is one line of /metrics and of `leafctl status`.
 *
 * Threads: each thread adds to its own copy without a lock; reading sums them. A thread that ends
 * leaves its counts behind. */
#pragma once

#include <stdint.h>

/* X(identifier, Prometheus name, label set or "", help). Rows of one name stand together. */
#define METRIC_ROWS(X)                                                                             \
    X(DATAGRAMS, "leafd_datagrams_total", "", "Datagrams read from the listeners.")                \
    X(REPLY_HIT, "leafd_replies_total", "result=\"hit\"",                                          \
      "Replies with a leaf, by where it came from.")                                               \
    X(REPLY_ISSUED, "leafd_replies_total", "result=\"issued\"", "")                                \
    X(REPLY_JOINED, "leafd_replies_total", "result=\"joined\"", "")                                \
    X(ERROR_MALFORMED, "leafd_errors_total", "code=\"malformed\"",                                 \
      "Requests answered with an error, or that would have been but for the error budget.")        \
    X(ERROR_REFUSED, "leafd_errors_total", "code=\"refused\"", "")                                 \
    X(ERROR_UNSUPPORTED, "leafd_errors_total", "code=\"unsupported\"", "")                         \
    X(ERROR_BUSY, "leafd_errors_total", "code=\"busy\"", "")                                       \
    X(ERROR_TOKEN, "leafd_errors_total", "code=\"token-unavailable\"", "")                         \
    X(ERROR_TOO_LARGE, "leafd_errors_total", "code=\"too-large\"", "")                             \
    X(ERROR_INTERNAL, "leafd_errors_total", "code=\"internal\"", "")                               \
    X(ERROR_SILENCED, "leafd_errors_silenced_total", "",                                           \
      "Error replies not sent: the budget of the source or of all was spent.")                     \
    X(DROP_SOURCE, "leafd_dropped_total", "reason=\"source\"",                                     \
      "Datagrams dropped without a word.")                                                         \
    X(DROP_LOOP, "leafd_dropped_total", "reason=\"loop\"", "")                                     \
    X(DROP_REPLY, "leafd_dropped_total", "reason=\"reply\"", "")                                   \
    X(DROP_DEADLINE, "leafd_dropped_total", "reason=\"deadline\"", "")                             \
    X(SEND_FAILED, "leafd_send_failures_total", "", "Replies the kernel did not take.")            \
    X(IGNORED_KEYS, "leafd_ignored_keys_total", "", "Unknown keys in requests.")                   \
    X(VERDICT_GOOD, "leafd_verdicts_total", "verdict=\"good\"",                                    \
      "Requests with an upstream leaf, by verdict.")                                               \
    X(VERDICT_LEGACY, "leafd_verdicts_total", "verdict=\"legacy\"", "")                            \
    X(VERDICT_DATES, "leafd_verdicts_total", "verdict=\"dates\"", "")                              \
    X(VERDICT_NAME, "leafd_verdicts_total", "verdict=\"name\"", "")                                \
    X(VERDICT_SELF_SIGNED, "leafd_verdicts_total", "verdict=\"self-signed\"", "")                  \
    X(VERDICT_UNTRUSTED, "leafd_verdicts_total", "verdict=\"untrusted\"", "")                      \
    X(VERDICT_MINIMAL, "leafd_verdicts_total", "verdict=\"minimal\"", "")                          \
    X(VERDICT_UNREADABLE, "leafd_verdicts_total", "verdict=\"unreadable\"", "")                    \
    X(CACHE_EVICTED, "leafd_cache_evictions_total", "", "Leaves dropped from the cache for room.") \
    X(CACHE_DISOWNED, "leafd_cache_disowned_total", "",                                            \
      "Leaves dropped from the cache because a check of their signer has failed.")                 \
    X(KEYS_MADE_EC, "leafd_keys_made_total", "type=\"ec\"", "Leaf keys made.")                     \
    X(KEYS_MADE_EDDSA, "leafd_keys_made_total", "type=\"eddsa\"", "")                              \
    X(KEYS_MADE_RSA, "leafd_keys_made_total", "type=\"rsa\"", "")                                  \
    X(KEYS_SHARED, "leafd_keys_shared_total", "",                                                  \
      "Leaves given a key that another leaf has, because the RSA pool was empty.")                 \
    X(KEYS_GAVE_WAY, "leafd_keys_gave_way_total", "",                                              \
      "Leaves given an RSA key of 2048 bits for now, because there was none of the right size.")   \
    X(SIGN_REQUESTS, "leafd_sign_requests_total", "", "TBSCertificates sent to a signer.")         \
    X(SIGN_FAILED, "leafd_sign_failures_total", "", "Signatures that a signer did not give.")      \
    X(SIGN_RETRIED, "leafd_sign_retries_total", "",                                                \
      "Leaves sent again because their signer was lost.")

enum metric {
#define METRIC_ENUM(id, name, labels, help) METRIC_##id,
    METRIC_ROWS(METRIC_ENUM)
#undef METRIC_ENUM
        METRIC_COUNT
};

struct metric_row {
    const char *name;
    const char *labels;
    const char *help;
};
extern const struct metric_row metric_rows[METRIC_COUNT];

void metrics_add(enum metric metric, uint64_t n);
/* The sum over all threads, those that ended too. */
uint64_t metrics_read(enum metric metric);
