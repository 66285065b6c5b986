/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_ca_options.h"

#include "ctl/ctl_output.h"

int ctl_ca_options(const struct ctl *ctl, struct ca_make_options *ret,
                   struct name_constraints *ret_constraints)
{
    struct ca_make_options options = {.key = CA_KEY_P256, .cn = ctl->cn};
    struct why why;

    if (ctl->key && !ca_key_of(ctl->key, &options.key))
        return ctl_wrong_usage("--key must be " CA_KEY_WORDS ", not \"%s\"", ctl->key);
    if (ctl->permit.count + ctl->exclude.count > 0) {
        if (name_constraints_of(ctl->permit.text, ctl->permit.count, ctl->exclude.text,
                                ctl->exclude.count, ret_constraints, &why) != LEAFD_OK)
            return ctl_wrong_usage("--permit, --exclude: %s", why.text);
        options.constraints = ret_constraints;
    }
    *ret = options;
    return CTL_OK;
}
