/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/ladder.h"

#include <stddef.h>

/* Everything else, a login or a key that is gone above all, asks for RUNG_TOKEN. */
static const struct {
    CK_RV rv;
    enum rung rung;
} rows[] = {
    /* the session alone, or a moment's weakness */
    {CKR_SESSION_HANDLE_INVALID, RUNG_SESSION},
    {CKR_SESSION_CLOSED, RUNG_SESSION},
    {CKR_OPERATION_ACTIVE, RUNG_SESSION},
    {CKR_OPERATION_NOT_INITIALIZED, RUNG_SESSION},
    {CKR_DEVICE_ERROR, RUNG_SESSION},
    {CKR_DEVICE_MEMORY, RUNG_SESSION},
    {CKR_HOST_MEMORY, RUNG_SESSION},
    {CKR_GENERAL_ERROR, RUNG_SESSION},
    {CKR_FUNCTION_FAILED, RUNG_SESSION},
    {CKR_FUNCTION_CANCELED, RUNG_SESSION},
    /* the module has forgotten that it was initialised */
    {CKR_CRYPTOKI_NOT_INITIALIZED, RUNG_MODULE},
    /* these octets, on every session */
    {CKR_DATA_INVALID, RUNG_NONE},
    {CKR_DATA_LEN_RANGE, RUNG_NONE},
};

enum rung ladder_rung(CK_RV rv)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].rv == rv)
            return rows[i].rung;
    return rv >= CKR_VENDOR_DEFINED ? RUNG_SESSION : RUNG_TOKEN;
}
