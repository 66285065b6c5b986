/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca show: the CAs that the configuration names. */
#include "config.h"

#include "ctl/ctl.h"
#include "ctl/ctl_ca_text.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "policy/ca_files.h"

static int show(const struct ctl *ctl, const struct conf *conf, const struct ca_set *cas)
{
    struct json json = JSON_EMPTY;

    if (ctl->json)
        json_array_begin(&json, NULL);
    for (size_t i = 0; i < cas->count; i++) {
        if (ctl->json)
            ctl_ca_write(cas->ca[i], conf->ca[i].certificate, &json);
        else
            ctl_ca_print(cas->ca[i], conf->ca[i].certificate);
    }
    if (!ctl->json)
        return ctl_flushed(CTL_OK);
    json_array_end(&json);
    return ctl_print_json(&json);
}

int ctl_ca_show(const struct ctl *ctl)
{
    struct conf *conf = NULL;
    struct ca_set *cas = NULL;
    struct why why = {""};
    enum leafd_err err = ctl_conf_load(ctl, &conf, &why);
    int code;

    if (err == LEAFD_OK)
        err = ca_files_read(conf, &cas, &why);
    code = err == LEAFD_OK ? show(ctl, conf, cas) : ctl_failed(&why);
    ca_set_unref(cas);
    conf_free(conf);
    return code;
}
