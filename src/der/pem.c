/* SPDX-License-Identifier: Apache-2.0 */
#include "der/pem.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_OCTETS = 48, LINE_CHARS = 64 };

static const char begin[] = "-----BEGIN ", end[] = "-----END ", dashes[] = "-----\n";

static size_t frame_size(const char *mark, const char *label)
{
    return strlen(mark) + strlen(label) + strlen(dashes);
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t len = strlen(text);

    memcpy(at, text, len);
    return at + len;
}

static uint8_t *put_frame(uint8_t *at, const char *mark, const char *label)
{
    return put_text(put_text(put_text(at, mark), label), dashes);
}

size_t pem_size(const char *label, size_t der_len)
{
    size_t lines = (der_len + LINE_OCTETS - 1) / LINE_OCTETS;

    return frame_size(begin, label) + (der_len + 2) / 3 * 4 + lines + frame_size(end, label);
}

size_t pem_write(const char *label, struct bytes der, uint8_t *out)
{
    uint8_t *at = put_frame(out, begin, label);

    for (size_t i = 0; i < der.len; i += LINE_OCTETS) {
        size_t octets = der.len - i < LINE_OCTETS ? der.len - i : LINE_OCTETS;

        at += EVP_EncodeBlock(at, der.data + i, (int)octets); /* its NUL is written over */
        *at++ = '\n';
    }
    return (size_t)(put_frame(at, end, label) - out);
}

enum leafd_err pem_new(const char *label, struct bytes der, struct bytes *ret)
{
    uint8_t *text = malloc(pem_size(label, der.len) + 1);

    if (!text)
        return LEAFD_NOMEM;
    *ret = (struct bytes){text, pem_write(label, der, text)};
    return LEAFD_OK;
}

enum leafd_err pem_read(const char *label, struct bytes pem, uint8_t *out, size_t size,
                        struct bytes *ret)
{
    size_t head = frame_size(begin, label), tail = frame_size(end, label);
    const uint8_t *at, *stop;
    size_t len = 0;

    if (pem.len < head + tail || memcmp(pem.data, begin, strlen(begin)) != 0)
        return LEAFD_MALFORMED;
    at = pem.data + head;
    stop = pem.data + pem.len - tail;
    while (at < stop) {
        size_t chars = (size_t)(stop - at) - 1 < LINE_CHARS ? (size_t)(stop - at) - 1 : LINE_CHARS;
        uint8_t line[LINE_OCTETS];
        int got = chars > 0 ? EVP_DecodeBlock(line, at, (int)chars) : 0;
        size_t octets;

        if (got <= 0)
            return LEAFD_MALFORMED;
        octets = (size_t)got - (at[chars - 1] == '=') - (at[chars - 2] == '=');
        if (octets > size - len)
            return LEAFD_TOO_LARGE;
        memcpy(out + len, line, octets);
        len += octets;
        at += chars + 1;
    }
    *ret = (struct bytes){out, len};
    return LEAFD_OK;
}
