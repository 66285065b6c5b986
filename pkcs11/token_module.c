/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_module.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a vendor's module does not free is no fault of ours to report: SoftHSM 2.6.1 loses a string
 * with each Ed25519 signature. */
#ifdef __has_feature /* clang */
#if __has_feature(address_sanitizer)
#define FINDS_LEAKS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(FINDS_LEAKS)
#include <sanitizer/lsan_interface.h>
#define LEAKS_IGNORE() __lsan_disable()
#define LEAKS_FIND() __lsan_enable()
#else
#define LEAKS_IGNORE() ((void)0)
#define LEAKS_FIND() ((void)0)
#endif

#define ROW(name)                                                                                  \
    {                                                                                              \
        name, #name                                                                                \
    }
static const struct {
    CK_RV rv;
    const char *name;
} ckr_rows[] = {
    ROW(CKR_OK),
    ROW(CKR_CANCEL),
    ROW(CKR_HOST_MEMORY),
    ROW(CKR_SLOT_ID_INVALID),
    ROW(CKR_GENERAL_ERROR),
    ROW(CKR_FUNCTION_FAILED),
    ROW(CKR_ARGUMENTS_BAD),
    ROW(CKR_NO_EVENT),
    ROW(CKR_NEED_TO_CREATE_THREADS),
    ROW(CKR_CANT_LOCK),
    ROW(CKR_ATTRIBUTE_READ_ONLY),
    ROW(CKR_ATTRIBUTE_SENSITIVE),
    ROW(CKR_ATTRIBUTE_TYPE_INVALID),
    ROW(CKR_ATTRIBUTE_VALUE_INVALID),
    ROW(CKR_DATA_INVALID),
    ROW(CKR_DATA_LEN_RANGE),
    ROW(CKR_DEVICE_ERROR),
    ROW(CKR_DEVICE_MEMORY),
    ROW(CKR_DEVICE_REMOVED),
    ROW(CKR_FUNCTION_CANCELED),
    ROW(CKR_FUNCTION_NOT_SUPPORTED),
    ROW(CKR_KEY_HANDLE_INVALID),
    ROW(CKR_KEY_SIZE_RANGE),
    ROW(CKR_KEY_TYPE_INCONSISTENT),
    ROW(CKR_KEY_FUNCTION_NOT_PERMITTED),
    ROW(CKR_MECHANISM_INVALID),
    ROW(CKR_MECHANISM_PARAM_INVALID),
    ROW(CKR_OBJECT_HANDLE_INVALID),
    ROW(CKR_OPERATION_ACTIVE),
    ROW(CKR_OPERATION_NOT_INITIALIZED),
    ROW(CKR_PIN_INCORRECT),
    ROW(CKR_PIN_INVALID),
    ROW(CKR_PIN_LEN_RANGE),
    ROW(CKR_PIN_EXPIRED),
    ROW(CKR_PIN_LOCKED),
    ROW(CKR_SESSION_CLOSED),
    ROW(CKR_SESSION_COUNT),
    ROW(CKR_SESSION_HANDLE_INVALID),
    ROW(CKR_SESSION_PARALLEL_NOT_SUPPORTED),
    ROW(CKR_SESSION_READ_ONLY),
    ROW(CKR_SESSION_EXISTS),
    ROW(CKR_SESSION_READ_ONLY_EXISTS),
    ROW(CKR_SESSION_READ_WRITE_SO_EXISTS),
    ROW(CKR_SIGNATURE_INVALID),
    ROW(CKR_SIGNATURE_LEN_RANGE),
    ROW(CKR_TEMPLATE_INCOMPLETE),
    ROW(CKR_TEMPLATE_INCONSISTENT),
    ROW(CKR_TOKEN_NOT_PRESENT),
    ROW(CKR_TOKEN_NOT_RECOGNIZED),
    ROW(CKR_TOKEN_WRITE_PROTECTED),
    ROW(CKR_USER_ALREADY_LOGGED_IN),
    ROW(CKR_USER_NOT_LOGGED_IN),
    ROW(CKR_USER_PIN_NOT_INITIALIZED),
    ROW(CKR_USER_TYPE_INVALID),
    ROW(CKR_USER_ANOTHER_ALREADY_LOGGED_IN),
    ROW(CKR_USER_TOO_MANY_TYPES),
    ROW(CKR_CURVE_NOT_SUPPORTED),
    ROW(CKR_DOMAIN_PARAMS_INVALID),
    ROW(CKR_BUFFER_TOO_SMALL),
    ROW(CKR_CRYPTOKI_NOT_INITIALIZED),
    ROW(CKR_CRYPTOKI_ALREADY_INITIALIZED),
    ROW(CKR_FUNCTION_REJECTED),
};
#undef ROW

const char *ckr_name(CK_RV rv)
{
    static _Thread_local char number[32];

    for (size_t i = 0; i < sizeof(ckr_rows) / sizeof(ckr_rows[0]); i++)
        if (ckr_rows[i].rv == rv)
            return ckr_rows[i].name;
    snprintf(number, sizeof(number), "CKR 0x%lx", (unsigned long)rv);
    return number;
}

/* A token that is opened again finds its variables set: there may be threads by then, and setenv
 * would pull the text from under them. */
static enum leafd_err set_environment(const struct conf_token *token, struct why *why)
{
    for (size_t i = 0; i < token->env_count; i++) {
        const struct conf_env *env = &token->env[i];
        const char *there = getenv(env->name);

        if (there && strcmp(there, env->value) == 0)
            continue;
        if (setenv(env->name, env->value, 1) == -1)
            return fail(why, LEAFD_CONFIG, "token.env: cannot set %s: %s", env->name,
                        strerror(errno));
    }
    return LEAFD_OK;
}

static CK_C_GetFunctionList source; /* a test's; NULL: the file's */

void token_module_set_source(CK_C_GetFunctionList get)
{
    source = get;
}

static enum leafd_err load_file(const char *path, CK_C_GetFunctionList *ret, struct why *why)
{
    CK_C_GetFunctionList get;
    void *library;

    if (!path || !*path)
        return fail(why, LEAFD_CONFIG, "token.module is not set: give the vendor's PKCS#11 module");
    if (access(path, F_OK) == -1 && errno == ENOENT)
        return fail(why, LEAFD_CONFIG,
                    "token.module: there is no file %s: install the vendor's PKCS#11 module "
                    "(SoftHSM on Debian: apt-get install softhsm2)",
                    path);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fail(why, LEAFD_CONFIG, "token.module: cannot load: %s", dlerror());
    get = (CK_C_GetFunctionList)(uintptr_t)dlsym(library, "C_GetFunctionList");
    if (!get)
        return fail(why, LEAFD_CONFIG,
                    "token.module: %s is not a PKCS#11 module: it has no C_GetFunctionList", path);
    *ret = get;
    return LEAFD_OK;
}

/* Lists of 2.x begin as one, and modules of 3.x give one here too; 1.0 had another. */
static bool is_known_version(const CK_FUNCTION_LIST *list)
{
    return list->version.major == 2 || list->version.major == 3;
}

static enum leafd_err load(struct token_module *module, const char *path, struct why *why)
{
    CK_FUNCTION_LIST *list = NULL;
    CK_RV rv;

    module->get = source;
    if (!module->get) {
        enum leafd_err err = load_file(path, &module->get, why);

        if (err != LEAFD_OK)
            return err;
    }
    rv = module->get(&list);
    if (rv != CKR_OK || !list)
        return fail(why, LEAFD_CONFIG, "token.module: %s: C_GetFunctionList: %s", path,
                    rv == CKR_OK ? "it gives none" : ckr_name(rv));
    if (!is_known_version(list))
        return fail(why, LEAFD_CONFIG,
                    "token.module: %s speaks version %d.%d of PKCS#11; leafd needs 2 or 3", path,
                    list->version.major, list->version.minor);
    module->f = list;
    return LEAFD_OK;
}

static enum leafd_err initialize(struct token_module *module, const struct conf_token *token,
                                 struct why *why)
{
    /* Modules that take a text there (NSS) want one more pointer behind it, which is NULL. */
    struct {
        CK_C_INITIALIZE_ARGS standard;
        void *reserved;
    } args = {.standard = {.flags = CKF_OS_LOCKING_OK, .pReserved = token->init_args}};
    const char *path = token->module;
    CK_RV rv = TOKEN_CALL(module, C_Initialize, &args);

    if (rv == CKR_CANT_LOCK || rv == CKR_NEED_TO_CREATE_THREADS) {
        module->one_lane = true;
        args.standard.flags = 0;
        rv = TOKEN_CALL(module, C_Initialize, token->init_args ? &args : NULL);
    }
    module->finalize = rv == CKR_OK;
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE,
                    "%s: C_Initialize: %s; does the module find its own configuration (token.env, "
                    "token.init_args), and may this user read it?",
                    path, ckr_name(rv));
    rv = TOKEN_CALL(module, C_GetInfo, &module->info);
    if (rv != CKR_OK)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "%s: C_GetInfo: %s", path, ckr_name(rv));
    return LEAFD_OK;
}

enum leafd_err token_module_open(const struct conf_token *token, struct token_module **ret,
                                 struct why *why)
{
    struct token_module *module = calloc(1, sizeof(*module));
    enum leafd_err err;

    if (!module)
        return LEAFD_NOMEM;
    pthread_mutex_init(&module->lock, NULL);
    err = set_environment(token, why);
    if (err != LEAFD_OK)
        goto out;
    err = load(module, token->module, why);
    if (err != LEAFD_OK)
        goto out;
    err = initialize(module, token, why);
    if (err != LEAFD_OK)
        goto out;

    *ret = module;
    module = NULL;
out:
    token_module_close(module);
    return err;
}

void token_module_close(struct token_module *module)
{
    if (!module)
        return;
    if (module->finalize)
        (void)TOKEN_CALL(module, C_Finalize, NULL);
    pthread_mutex_destroy(&module->lock);
    free(module);
}

static bool is_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool token_module_is_same(const struct conf_token *a, const struct conf_token *b)
{
    bool same = is_same_text(a->module, b->module) && is_same_text(a->init_args, b->init_args) &&
                a->env_count == b->env_count;

    for (size_t i = 0; same && i < a->env_count; i++)
        same = is_same_text(a->env[i].name, b->env[i].name) &&
               is_same_text(a->env[i].value, b->env[i].value);
    return same;
}

bool token_module_has_instances(const struct token_module *module)
{
    CK_FUNCTION_LIST *another = NULL;

    return module->get(&another) == CKR_OK && another != module->f;
}

void token_module_enter(struct token_module *module)
{
    if (module->one_lane)
        pthread_mutex_lock(&module->lock);
    LEAKS_IGNORE();
}

void token_module_leave(struct token_module *module)
{
    LEAKS_FIND();
    if (module->one_lane)
        pthread_mutex_unlock(&module->lock);
}
