/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/signer.h"

const char *signer_state_name(enum signer_state state)
{
    switch (state) {
    case SIGNER_DOWN:
        return "down";
    case SIGNER_CONNECTING:
        return "connecting";
    case SIGNER_READY:
        return "ready";
    case SIGNER_DEGRADED:
        return "degraded";
    case SIGNER_PIN_BLOCKED:
        return "pin-blocked";
    }
    return "unknown";
}

void signer_tally_add(struct signer_tally *to, const struct signer_tally *more)
{
    to->signatures += more->signatures;
    to->failures += more->failures;
    to->refusals += more->refusals;
    to->logins += more->logins;
    to->proofs += more->proofs;
    to->recoveries += more->recoveries;
    to->disowned += more->disowned;
}
