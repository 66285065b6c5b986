/* SPDX-License-Identifier: Apache-2.0 */
/* A PKCS#11 module inside the test program: one slot, one token "leafd" with the PIN 1234, and
 * keys that OpenSSL signs with, each with the label "ca" and the id 01. It is sound; but each
 * answer is shown to the test before it is given, which may spoil it. What a module does over time
 * (latency, hangs, crashes, a token that comes and goes) is for fake_pkcs11.c.
 *
 * Threads: any; one lock around it all, and around what the test spoils. */
#pragma once

#include <openssl/evp.h>
#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>

#define SOUND_CALLS(X)                                                                             \
    X(C_GetFunctionList)                                                                           \
    X(C_Initialize)                                                                                \
    X(C_Finalize)                                                                                  \
    X(C_GetInfo)                                                                                   \
    X(C_GetSlotList)                                                                               \
    X(C_GetSlotInfo)                                                                               \
    X(C_GetTokenInfo)                                                                              \
    X(C_GetMechanismList)                                                                          \
    X(C_GetMechanismInfo)                                                                          \
    X(C_OpenSession)                                                                               \
    X(C_CloseSession)                                                                              \
    X(C_CloseAllSessions)                                                                          \
    X(C_GetSessionInfo)                                                                            \
    X(C_Login)                                                                                     \
    X(C_Logout)                                                                                    \
    X(C_FindObjectsInit)                                                                           \
    X(C_FindObjects)                                                                               \
    X(C_FindObjectsFinal)                                                                          \
    X(C_GetAttributeValue)                                                                         \
    X(C_GenerateKeyPair)                                                                           \
    X(C_DestroyObject)                                                                             \
    X(C_SignInit)                                                                                  \
    X(C_Sign)

enum sound_call {
#define SOUND_ENUM(name) SOUND_##name,
    SOUND_CALLS(SOUND_ENUM)
#undef SOUND_ENUM
        SOUND_CALL_COUNT
};

/* What a call is about to give; all of it may be changed. */
struct sound_answer {
    enum sound_call call;
    CK_RV rv;
    void *out;               /* struct, handles, octets; NULL: none were asked for */
    size_t size;             /* octets that `out` has room for */
    CK_ULONG *count;         /* the number or the length that is given; NULL: none is */
    CK_ATTRIBUTE *attribute; /* of C_GetAttributeValue: whose `out` and `count` those are */
};
typedef void (*sound_spoil_fn)(void *ctx, struct sound_answer *answer);

/* From now on token_module_open() opens this module, as if it had just been loaded, with no key.
 * `spoil` may be NULL. */
void sound_module_begin(sound_spoil_fn spoil, void *ctx);
/* One more key pair; borrowed. P-256, P-384, RSA and Ed25519. */
void sound_module_add_key(EVP_PKEY *key);
/* Token modules are files again. */
void sound_module_end(void);

/* How often it was called since it began. */
unsigned sound_module_calls(enum sound_call call);
/* How many calls came before C_Initialize had succeeded, or after C_Finalize. */
unsigned sound_module_misuses(void);
/* The keys it has: what was added, what C_GenerateKeyPair has made, without what was destroyed. */
unsigned sound_module_keys(void);
