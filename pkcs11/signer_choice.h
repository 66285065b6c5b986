/* SPDX-License-Identifier: Apache-2.0 */
/* Which signer process a request goes to, and which are left out because they are slow or do not
 * answer. A part of a signer_client, and of no one else.
 *
 * prefer-first takes the first token that can sign, in the order of the configuration; spread the
 * process with the least under way for its lanes. A process that says nothing for SIGNER_SILENT_MS
 * while it has work is ejected, and so is a token whose signatures take for 150 ms more than three
 * times as long as those of the fastest other one, and 5 ms more; with prefer-first 20 ms more, and
 * only for the sake of one that stands behind it. What is ejected gets one request now and then:
 * the answer to that brings it back. When there is no other, it is as good as any.
 *
 * With prefer-first nobody knows how fast the others are. So while the first takes over 20 ms one
 * behind it gets a few requests, and then one a second, or if it is the slower one each 16 s.
 *
 * Threads: none of its own and no lock: that of sign_traffic guards it. */
#pragma once

#include "conf/conf.h"
#include "pkcs11/signer_link.h"

enum { SIGNER_SILENT_MS = 1000 };

struct signer_choice {
    enum conf_token_choice mode;
    struct signer_choice_token {
        double latency_us;     /* a running mean, less the turns that others had before */
        unsigned samples;      /* behind it, up to what is enough */
        int64_t asked_ms;      /* when it last got a request */
        int64_t slow_since_ms; /* 0: it is not */
        struct signer_bench slow;
    } token[CONF_TOKEN_MAX];
};

/* The process to send to now, or NULL. *ret_full: there is one, but its socket is full. Those that
 * the entry has been to are left out. */
struct signer_link *signer_choice_find(const struct signer_choice *choice,
                                       struct signer_link *const *links, size_t count,
                                       const struct sign_entry *entry, bool *ret_full);

/* What became of it. */
void signer_choice_sent(struct signer_choice *choice, struct signer_link *link, int64_t now_ms);
void signer_choice_answered(struct signer_choice *choice, struct signer_link *link,
                            const struct sign_entry *entry, int64_t now_us);
void signer_choice_silent(struct signer_link *link, int64_t now_ms);
/* A new process of this token: what was known of it is forgotten. */
void signer_choice_renew(struct signer_choice *choice, unsigned token);
