/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl token test: what a token can do, found out by doing it. What it says of itself comes
 * first and needs no login (token_facts.h); then keys sign, with one C_Login at most.
 *
 * Threads: one at a time, in a process of its own: it loads the PKCS#11 module. */
#pragma once

#include "pkcs11/key_pair.h"
#include "pkcs11/sign_rate.h"
#include "pkcs11/token_facts.h"

enum { TOKEN_RATES_MAX = 11 };

struct token_probe_options {
    const char *uri;     /* NULL: the keys of the configured CAs; else a key, or only a token */
    const char *pin_uri; /* the PIN is for the token that this URI names, and no other; NULL: for
                            that of `uri` */
    bool make_keys;      /* where `uri` names only a token: session keys of each type sign */
    const enum ca_key *only; /* of them this type alone; NULL: all */
    unsigned sessions;       /* tried, and lanes at most; 0: TOKEN_SESSIONS_TRIED, token.sessions */
    unsigned each_ms;        /* for each number of lanes */
    void (*progress)(const char *text); /* before what takes time; may be NULL */
};

/* One key that signed, or should have. */
struct token_probe_key {
    struct token_key_report key; /* empty texts with another access than native */
    char type[16];               /* "ec-p256"; "" when not known */
    bool is_ca;                  /* key.ca_index tells which */
    bool made;                   /* for this test: not in the token, and gone with the session */
    uint32_t made_ms;
    char failure[200];                      /* why it did not sign; "": it did */
    struct sign_rate rate[TOKEN_RATES_MAX]; /* 1, 2, 4, … lanes, the last all of them */
    size_t rate_count;
};

enum { TOKEN_PROBE_KEYS_MAX = CONF_CA_MAX + 1 };

struct token_probe {
    bool has_facts; /* false with token.access: file */
    struct token_facts facts;
    struct token_probe_key key[TOKEN_PROBE_KEYS_MAX];
    size_t key_count; /* 0: no key was touched */
    unsigned sessions_wanted;
    unsigned lanes; /* that can sign at once; 0: nobody logged in */
    uint64_t logins;
    enum token_answer login_is_shared; /* does one login open the keys to all sessions? */
    enum leafd_err err;                /* why no key could be tried, with a sentence */
    struct why why;
};

/* Probes the token of conf->token[0]. `cas` may be NULL (before there are any): without
 * options->uri no key is touched then. LEAFD_CONFIG, LEAFD_ABSENT, LEAFD_TOKEN_UNAVAILABLE: there
 * is nothing to report on; what fails later stands in *ret. */
LEAFD_CHECKED enum leafd_err token_probe(const struct conf *conf, const struct ca_set *cas,
                                         const struct secret *pin,
                                         const struct token_probe_options *options,
                                         struct token_probe *ret, struct why *why);
