/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/conf_source.h"

#include <stdlib.h>

static enum leafd_err check_access(const struct supervisor_options *options,
                                   const struct conf *conf, struct why *why)
{
    for (size_t i = 0; i < conf->token_count; i++)
        if (conf->token[i].access == CONF_ACCESS_FILE && !options->insecure_file_key)
            return fail(why, LEAFD_CONFIG,
                        "token.access: file keeps the CA key in a file; only --insecure-file-key "
                        "on the command line allows that, for tests");
    return LEAFD_OK;
}

enum leafd_err conf_source_read(const struct supervisor_options *options, struct conf_source *ret,
                                struct why *why)
{
    struct conf_source source = {.file = NULL};
    enum leafd_err err = conf_find(options->config, &source.text, &source.file, &source.dir, why);

    if (err == LEAFD_OK)
        err = conf_load(source.text, source.file, source.dir, options->overrides,
                        options->override_count, &source.conf, why);
    if (err == LEAFD_OK)
        err = check_access(options, source.conf, why);
    if (err != LEAFD_OK) {
        conf_source_clear(&source);
        return err;
    }
    source.conf->insecure_file_key = options->insecure_file_key;
    *ret = source;
    return LEAFD_OK;
}

void conf_source_clear(struct conf_source *source)
{
    free((void *)(uintptr_t)source->text.data);
    free(source->file);
    free(source->dir);
    conf_free(source->conf);
    *source = (struct conf_source){.file = NULL};
}
