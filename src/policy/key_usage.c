/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/key_usage.h"

enum {
    DIGITAL_SIGNATURE = 0x80,
    NON_REPUDIATION = 0x40,
    KEY_ENCIPHERMENT = 0x20,
    DATA_ENCIPHERMENT = 0x10,
    KEY_AGREEMENT = 0x08
};

uint8_t key_usage_bits(enum key_type type, enum usage usage)
{
    uint8_t by_key =
        type == KEY_TYPE_RSA ? DIGITAL_SIGNATURE | KEY_ENCIPHERMENT : DIGITAL_SIGNATURE;

    switch (usage) {
    case USAGE_TLS_SERVER:
        break;
    case USAGE_TLS_SERVER_TONGSUO:
        return by_key | KEY_AGREEMENT;
    case USAGE_TLCP_SIGNATURE:
        return DIGITAL_SIGNATURE | NON_REPUDIATION;
    case USAGE_TLCP_ENCRYPTION:
        return KEY_ENCIPHERMENT | DATA_ENCIPHERMENT | KEY_AGREEMENT;
    }
    return by_key;
}

bool key_usage_is_ours(enum key_type type, uint8_t bits)
{
    static const enum usage usages[] = {USAGE_TLS_SERVER, USAGE_TLS_SERVER_TONGSUO,
                                        USAGE_TLCP_SIGNATURE, USAGE_TLCP_ENCRYPTION};

    for (size_t i = 0; i < sizeof(usages) / sizeof(usages[0]); i++)
        if (key_usage_bits(type, usages[i]) == bits)
            return true;
    return false;
}
