/* SPDX-License-Identifier: Apache-2.0 */
/* What a module and a token say of themselves, without a login: versions, mechanisms and what leafd
 * would do with them, and how many sessions the token opens.
 *
 * Threads: one at a time, while nobody else uses the module. */
#pragma once

#include "pkcs11/token_report.h"

enum { TOKEN_MECHANISMS_MAX = 48, TOKEN_SESSIONS_TRIED_MAX = 1024, TOKEN_SESSIONS_TRIED = 64 };

struct token_module_facts { /* texts are escaped */
    char description[132];
    char manufacturer[132];
    unsigned library_version[2];  /* major, minor */
    unsigned cryptoki_version[2]; /* of PKCS#11 */
    bool locks;                   /* it takes CKF_OS_LOCKING_OK: several threads at once */
};

enum token_use { TOKEN_USE_SIGN, TOKEN_USE_MAKE_KEYS, TOKEN_USE_SEAL };
const char *token_use_name(enum token_use use); /* "sign", "make keys", "seal" */

struct token_mechanism_facts {
    unsigned long type; /* CKM_…; ckm_name() */
    enum token_use use;
    bool usable; /* it has the flags that this use needs */
    bool in_hardware;
    unsigned long min, max; /* key sizes as told, in whatever unit the mechanism has; 0: not told */
};

struct token_facts {
    struct token_module_facts module;
    struct token_description token;
    unsigned hardware_version[2];
    unsigned firmware_version[2];
    bool write_protected;
    struct token_mechanism_facts mechanism[TOKEN_MECHANISMS_MAX]; /* those leafd has a use for */
    size_t mechanism_count;
    size_t mechanisms_told;                    /* all that the token lists */
    struct token_signing algorithm[SIG_COUNT]; /* what leafd would sign with, by enum */
    unsigned long seal;                        /* what `leafd-seal` would wrap with */
    bool can_seal;
    unsigned sessions_tried;  /* 0: none */
    unsigned sessions_opened; /* at once */
    char session_refusal[40]; /* "CKR_SESSION_COUNT"; "": all that were tried could be opened */
};

struct token_module;

/* Of the token in `slot`; opens up to `sessions` sessions and closes them again.
 * LEAFD_TOKEN_UNAVAILABLE: the token does not tell. */
LEAFD_CHECKED enum leafd_err token_facts_find(struct token_module *module, unsigned long slot,
                                              unsigned sessions, struct token_facts *ret,
                                              struct why *why);
