/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_upstream.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

static const char begin[] = "-----BEGIN CERTIFICATE-----";
static const char end[] = "-----END CERTIFICATE-----";

/* Cuts everything but the first block away; false when there is none. */
static bool first_block(struct bytes *text)
{
    const uint8_t *from = memmem(text->data, text->len, begin, sizeof(begin) - 1);
    const uint8_t *to;

    if (!from)
        return false;
    to = memmem(from, text->len - (size_t)(from - text->data), end, sizeof(end) - 1);
    if (!to)
        return false;
    *text = (struct bytes){from, (size_t)(to - from) + sizeof(end) - 1};
    return true;
}

enum leafd_err ctl_upstream_read(const char *path, struct bytes *ret, enum cert_form *ret_form,
                                 struct why *why)
{
    struct bytes file;
    struct bytes content;
    struct bytes copy;
    enum cert_form form = CERT_FORM_PEM;
    enum leafd_err err = bytes_read_file(path, FILE_MAX, &file, why);

    if (err != LEAFD_OK)
        return err;
    content = file;
    if (!first_block(&content)) {
        form = CERT_FORM_DER;
        if (file.len == 0 || file.data[0] != 0x30) {
            free((void *)(uintptr_t)file.data);
            return fail(why, LEAFD_UNSUPPORTED, "%s holds no certificate, PEM or DER", path);
        }
    }
    copy = bytes_copy(content);
    free((void *)(uintptr_t)file.data);
    if (!copy.data)
        return LEAFD_NOMEM;
    *ret = copy;
    *ret_form = form;
    return LEAFD_OK;
}
