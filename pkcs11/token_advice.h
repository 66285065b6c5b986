/* SPDX-License-Identifier: Apache-2.0 */
/* What an operator should set, or mend, after what token_probe() found.
 *
 * Threads: no shared state. */
#pragma once

#include "pkcs11/token_probe.h"

enum { TOKEN_ADVICE_MAX = 24 };

struct token_advice {
    bool is_warning;
    char text[320];
};

/* Returns how many there are. */
size_t token_advice_find(const struct token_probe *probe,
                         struct token_advice ret[static TOKEN_ADVICE_MAX]);
