/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[LEAFD_ERR_COUNT] = {
    [LEAFD_OK] = "ok",
    [LEAFD_MALFORMED] = "malformed",
    [LEAFD_REFUSED] = "refused",
    [LEAFD_UNSUPPORTED] = "unsupported",
    [LEAFD_BUSY] = "busy",
    [LEAFD_TOKEN_UNAVAILABLE] = "token-unavailable",
    [LEAFD_TOO_LARGE] = "too-large",
    [LEAFD_INTERNAL] = "internal",
    [LEAFD_NOMEM] = "out-of-memory",
    [LEAFD_TIMEOUT] = "timeout",
    [LEAFD_AGAIN] = "again",
    [LEAFD_DROP] = "dropped",
    [LEAFD_CONFIG] = "configuration",
    [LEAFD_IO] = "input-output",
    [LEAFD_ABSENT] = "absent",
    [LEAFD_PIN] = "pin",
};

const char *err_name(enum leafd_err err)
{
    return (unsigned)err < LEAFD_ERR_COUNT ? names[err] : "unknown";
}

enum leafd_err fail(struct why *why, enum leafd_err err, const char *format, ...)
{
    va_list args;

    if (!why)
        return err;
    va_start(args, format);
    vsnprintf(why->text, sizeof(why->text), format, args);
    va_end(args);
    return err;
}

enum leafd_err fail_in(struct why *why, enum leafd_err err, const char *format, ...)
{
    char place[sizeof(why->text)];
    char rest[sizeof(why->text)];
    va_list args;

    if (!why)
        return err;
    va_start(args, format);
    vsnprintf(place, sizeof(place), format, args);
    va_end(args);
    memcpy(rest, why->text, sizeof(rest));
    rest[sizeof(rest) - 1] = '\0';
    snprintf(why->text, sizeof(why->text), "%.120s: %.130s", place, rest);
    return err;
}
