/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_usage.h"

#include "ctl/ctl_output.h"

#include <strings.h>

int ctl_usage_take(const struct ctl *ctl, struct request *request)
{
    static const enum usage usages[] = {USAGE_TLS_SERVER, USAGE_TLS_SERVER_TONGSUO,
                                        USAGE_TLCP_SIGNATURE, USAGE_TLCP_ENCRYPTION};

    if (!ctl->usage)
        return CTL_OK;
    for (size_t i = 0; i < sizeof(usages) / sizeof(usages[0]); i++) {
        if (strcasecmp(ctl->usage, usage_name(usages[i])) == 0) {
            request->usage_was_asked = true;
            request->usage = usages[i];
            return CTL_OK;
        }
    }
    return ctl_wrong_usage("--usage must be tls_server, tls_server_tongsuo, "
                           "tlcp_server_signature or tlcp_server_encryption, not \"%s\"",
                           ctl->usage);
}
