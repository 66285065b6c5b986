/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator wants to know of tokens and keys: leafctl token list and token test. These load
 * the PKCS#11 module, so they run in a process with the signer's user, never in the front.
 *
 * Threads: one at a time. */
#pragma once

#include "base/secret.h"
#include "conf/conf.h"
#include "policy/ca.h"

struct token_description { /* texts are escaped, fit to be printed */
    uint64_t slot;
    char label[132];
    char manufacturer[132];
    char model[68];
    char serial[68];
    bool initialized;
    bool has_user_pin;
    bool login_required;
    bool protected_path; /* the PIN is typed on the device */
    bool pin_count_low;
    bool pin_final_try;
    bool pin_locked;
    uint64_t max_sessions; /* 0: not known */
    char mechanisms[256];  /* of those leafd uses, what the token can: "RSA-PKCS ECDSA …" */
    struct token_signing {
        size_t ca_index;
        enum sig_algorithm algorithm;
        char mechanism[32]; /* "CKM_ECDSA"; "": the token cannot sign so */
        char missing[80];   /* then why: "signs with neither CKM_ECDSA nor CKM_ECDSA_SHA256" */
    } signing[CONF_CA_MAX]; /* for the CAs whose keys should be in this token */
    size_t signing_count;
    unsigned configured; /* bit n: conf->token[n] is this one */
};

/* All slots of conf->token[token]'s module with a token, also those not initialised, which of the
 * configured tokens they are, and what each signs with for the CAs whose keys should be in it
 * (`cas` may be NULL: not known). No login. `*ret` is the caller's to free(), NULL when *ret_count
 * is 0. LEAFD_CONFIG: the module cannot be loaded; LEAFD_TOKEN_UNAVAILABLE. */
LEAFD_CHECKED enum leafd_err token_list(const struct conf *conf, size_t token,
                                        const struct ca_set *cas, struct token_description **ret,
                                        size_t *ret_count, struct why *why);

enum token_answer { TOKEN_NO, TOKEN_YES, TOKEN_UNKNOWN }; /* UNKNOWN: the token does not tell */
const char *token_answer_name(enum token_answer answer);  /* "no", "yes", "unknown" */

/* One CA key as it is in the token. */
struct token_key_report {
    size_t ca_index;
    char token[132];
    uint64_t slot;
    char label[132];
    char id[132];                        /* hexadecimal */
    char mechanism[32];                  /* what signs: "CKM_ECDSA" */
    enum token_answer extractable;       /* should be no */
    enum token_answer sensitive;         /* should be yes */
    enum token_answer never_extractable; /* should be yes */
    enum token_answer always_sensitive;  /* should be yes */
    bool always_authenticate;            /* it wants the PIN before each signature */
};

/* Does conf->token[0] have the key of each CA, and let itself be logged in to? As backend_open,
 * with one session, and one C_Login at most: none where a wrong PIN was tried before (LEAFD_BUSY),
 * so that who asks again and again never locks a token. */
LEAFD_CHECKED enum leafd_err token_try_keys(const struct conf *conf, const struct ca_set *cas,
                                            const struct secret *pin, struct why *why);

struct token_module;
struct token_key;

/* What the token in `slot` says of itself, and its PIN of its state; `info` is a CK_TOKEN_INFO. */
void token_describe(struct token_module *module, unsigned long slot, const void *info,
                    struct token_description *ret);
/* All but ca_index. */
void token_key_describe(const struct token_key *key, struct token_key_report *ret);
