/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration: everything up to the first NUL is the file, each line behind it one `-o`. */
#include "tests/fuzz/fuzz.h"

#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>

enum { OVERRIDES_MAX = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    struct bytes text = {data, nul ? (size_t)(nul - data) : size};
    struct bytes rest = {NULL, 0};
    const char *overrides[OVERRIDES_MAX];
    size_t count = 0;
    struct conf *conf;
    struct why why;
    char *next;

    if (nul)
        rest = bytes_copy((struct bytes){nul + 1, size - text.len - 1});
    next = (char *)(uintptr_t)rest.data;
    while (next && *next && count < OVERRIDES_MAX)
        overrides[count++] = strsep(&next, "\n");
    if (conf_load(text, "fuzz.yaml", size % 2 ? "/etc/leafd" : NULL, overrides, count, &conf,
                  &why) == LEAFD_OK)
        conf_free(conf);
    else if (strnlen(why.text, sizeof(why.text)) == sizeof(why.text) || !why.text[0])
        abort(); /* whoever is refused is told why */
    free((void *)(uintptr_t)rest.data);
    return 0;
}
