/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_upstream.h"

#include <stdlib.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

/* As the daemon takes them (wire/request). */
static const char *const labels[][2] = {
    {"-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"},
    {"-----BEGIN X509 CERTIFICATE-----", "-----END X509 CERTIFICATE-----"},
    {"-----BEGIN TRUSTED CERTIFICATE-----", "-----END TRUSTED CERTIFICATE-----"},
};

/* Cuts everything but the first block away; false when there is none. */
static bool first_block(struct bytes *text)
{
    struct bytes first = {NULL, 0};

    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        size_t end_len = strlen(labels[i][1]);
        const uint8_t *from = memmem(text->data, text->len, labels[i][0], strlen(labels[i][0]));
        const uint8_t *to =
            from ? memmem(from, text->len - (size_t)(from - text->data), labels[i][1], end_len)
                 : NULL;

        if (to && (!first.data || from < first.data))
            first = (struct bytes){from, (size_t)(to - from) + end_len};
    }
    if (!first.data)
        return false;
    *text = first;
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
