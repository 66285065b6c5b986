/* SPDX-License-Identifier: Apache-2.0 */
/* The vendor's PKCS#11 module, loaded and initialised once in this process.
 *
 * Threads: open and close from one thread, TOKEN_CALL from any.
 * Locks:   one big lock around each call, only for modules that cannot lock by themselves. */
#pragma once

#include "conf/conf.h"

#include <p11-kit/pkcs11.h>
#include <pthread.h>

struct token_module {
    CK_FUNCTION_LIST *f;
    CK_INFO info;
    CK_C_GetFunctionList get;
    bool one_lane;        /* CKR_CANT_LOCK: it must never be called twice at a time */
    bool finalize;        /* C_Initialize was ours */
    pthread_mutex_t lock; /* held in calls when one_lane */
};

/* Sets conf's token.env in our environment (so before there are threads), loads token.module and
 * initialises it. LEAFD_CONFIG: no such file, or not a PKCS#11 module; LEAFD_TOKEN_UNAVAILABLE: it
 * does not initialise. */
LEAFD_CHECKED enum leafd_err token_module_open(const struct conf_token *token,
                                               struct token_module **ret, struct why *why);
/* C_Finalize. The library itself stays loaded: modules leave threads and exit handlers behind that
 * would run into unmapped pages, and ASan could not name what leaked in them. NULL is fine. */
void token_module_close(struct token_module *module);

/* Do both name the same module, told the same? */
bool token_module_is_same(const struct conf_token *a, const struct conf_token *b);

/* Does each caller of C_GetFunctionList get an instance with a login of its own, as from p11-kit
 * remoting? Else they all share the login of this process. */
bool token_module_has_instances(const struct token_module *module);

void token_module_enter(struct token_module *module);
void token_module_leave(struct token_module *module);

/* rv = TOKEN_CALL(module, C_GetTokenInfo, slot, &info); CKR_FUNCTION_NOT_SUPPORTED also where the
 * module has left a function out of its list, which the standard does not allow. */
#define TOKEN_CALL(module, function, ...)                                                          \
    __extension__({                                                                                \
        CK_RV call_rv_;                                                                            \
        token_module_enter(module);                                                                \
        call_rv_ = (module)->f->function ? (module)->f->function(__VA_ARGS__)                      \
                                         : CKR_FUNCTION_NOT_SUPPORTED;                             \
        token_module_leave(module);                                                                \
        call_rv_;                                                                                  \
    })

/* For tests: whom token_module_open() asks for the function list from now on, in the place of the
 * file's C_GetFunctionList; NULL: the file's again. */
void token_module_set_source(CK_C_GetFunctionList get);

/* "CKR_DEVICE_ERROR"; "CKR 0x80000001" for a number without a name (in a buffer of this thread). */
const char *ckr_name(CK_RV rv);
