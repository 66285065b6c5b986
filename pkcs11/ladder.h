/* SPDX-License-Identifier: Apache-2.0 */
/* What mends a token that did not sign: rungs, each dearer than the one below, and which of them
 * the module's answer asks for first. A rung that does not help leads to the next.
 *
 * Threads: no shared state. */
#pragma once

#include <p11-kit/pkcs11.h>

enum rung {
    RUNG_NONE,    /* nothing: this request will fail on any session */
    RUNG_SESSION, /* L1: the same request on another session */
    RUNG_TOKEN,   /* L2: all sessions closed; slot, login and key anew, the challenge again */
    RUNG_MODULE,  /* L3: also C_Finalize and C_Initialize */
    RUNG_PROCESS  /* L4: a new process in the place of this one */
};

/* The first rung for what C_SignInit or C_Sign said. Never RUNG_PROCESS, which is for calls that do
 * not return. */
enum rung ladder_rung(CK_RV rv);
