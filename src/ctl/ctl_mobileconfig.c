/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_mobileconfig.h"

#include "base/digest.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BASE64_LINE = 64, UUID_SIZE = 37 };

/* A UUID of version 8 (RFC 9562 section 5.8) that follows from what it names. */
static enum leafd_err uuid_of(const char *space, struct bytes name, char out[static UUID_SIZE])
{
    struct bytes parts[] = {bytes_of(space), name};
    uint8_t text[64 + DIGEST_LEN], digest[DIGEST_LEN];
    char hex[33];
    enum leafd_err err = digest_sha256(parts[1], digest);

    if (err != LEAFD_OK || parts[0].len > 64)
        return err != LEAFD_OK ? err : LEAFD_INTERNAL;
    memcpy(text, parts[0].data, parts[0].len);
    memcpy(text + parts[0].len, digest, sizeof(digest));
    err = digest_sha256((struct bytes){text, parts[0].len + sizeof(digest)}, digest);
    if (err != LEAFD_OK)
        return err;
    digest[6] = (uint8_t)(0x80 | (digest[6] & 0x0f));
    digest[8] = (uint8_t)(0x80 | (digest[8] & 0x3f));
    bytes_hex((struct bytes){digest, 16}, hex);
    snprintf(out, UUID_SIZE, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16,
             hex + 20);
    return LEAFD_OK;
}

/* May this character stand in XML 1.0? */
static bool is_xml(unsigned long c)
{
    return c == '\t' || (c >= 0x20 && c < 0xd800) || (c >= 0xe000 && c < 0xfffe) ||
           (c >= 0x10000 && c < 0x110000);
}

/* Text from a certificate: escaped, and what XML cannot hold is a question mark. */
static void put_text(FILE *out, const unsigned char *text, size_t len)
{
    while (len > 0) {
        unsigned long c = 0;
        int used = UTF8_getc(text, (int)len, &c);

        if (used <= 0) {
            used = 1;
            c = 0;
        }
        if (c == '&' || c == '<' || c == '>')
            fprintf(out, "&#%lu;", c);
        else if (is_xml(c))
            fwrite(text, 1, (size_t)used, out);
        else
            fputc('?', out);
        text += used;
        len -= (size_t)used;
    }
}

/* The common name, else the whole subject. */
static void put_name(FILE *out, const struct cert_list *list, size_t at)
{
    X509_NAME *name = X509_get_subject_name(list->cert[at]);
    int where = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    X509_NAME_ENTRY *entry = where < 0 ? NULL : X509_NAME_get_entry(name, where);
    unsigned char *utf8 = NULL;
    int len = entry ? ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry)) : -1;
    char subject[256];

    if (len > 0) {
        put_text(out, utf8, (size_t)len);
    } else {
        (void)cert_list_subject(list, at, subject, sizeof(subject));
        put_text(out, (const unsigned char *)subject, strlen(subject));
    }
    OPENSSL_free(utf8);
    ERR_clear_error();
}

static enum leafd_err put_base64(FILE *out, struct bytes der)
{
    size_t len = (der.len + 2) / 3 * 4;
    unsigned char *text = malloc(len + 1);

    if (!text)
        return LEAFD_NOMEM;
    EVP_EncodeBlock(text, der.data, (int)der.len);
    for (size_t at = 0; at < len; at += BASE64_LINE)
        fprintf(out, "\t\t\t%.*s\n", BASE64_LINE, (const char *)text + at);
    free(text);
    return LEAFD_OK;
}

static enum leafd_err put_payload(FILE *out, const struct cert_list *list, size_t at)
{
    bool is_root = cert_list_is_root(list, at);
    char uuid[UUID_SIZE];
    enum leafd_err err = uuid_of("leafd certificate payload", list->der[at], uuid);

    if (err != LEAFD_OK)
        return err;
    fprintf(out,
            "\t\t<dict>\n"
            "\t\t\t<key>PayloadType</key>\n\t\t\t<string>com.apple.security.%s</string>\n"
            "\t\t\t<key>PayloadVersion</key>\n\t\t\t<integer>1</integer>\n"
            "\t\t\t<key>PayloadIdentifier</key>\n\t\t\t<string>leafd.certificate.%s</string>\n"
            "\t\t\t<key>PayloadUUID</key>\n\t\t\t<string>%s</string>\n"
            "\t\t\t<key>PayloadDisplayName</key>\n\t\t\t<string>",
            is_root ? "root" : "pkcs1", uuid, uuid);
    put_name(out, list, at);
    fprintf(out,
            "</string>\n"
            "\t\t\t<key>PayloadCertificateFileName</key>\n\t\t\t<string>%s-%.8s.cer</string>\n"
            "\t\t\t<key>PayloadContent</key>\n\t\t\t<data>\n",
            is_root ? "root" : "intermediate", uuid);
    err = put_base64(out, list->der[at]);
    fputs("\t\t\t</data>\n\t\t</dict>\n", out);
    return err;
}

static enum leafd_err put_profile(FILE *out, const struct cert_list *list, size_t first,
                                  size_t count)
{
    char uuid[UUID_SIZE];
    struct bytes pem;
    enum leafd_err err = cert_list_pem(list, first, count, &pem);

    if (err != LEAFD_OK)
        return err;
    err = uuid_of("leafd profile", pem, uuid);
    free((void *)(uintptr_t)pem.data);
    fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
          "<!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" "
          "\"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n"
          "<plist version=\"1.0\">\n<dict>\n\t<key>PayloadContent</key>\n\t<array>\n",
          out);
    for (size_t i = first; err == LEAFD_OK && i < first + count; i++)
        err = put_payload(out, list, i);
    fprintf(out,
            "\t</array>\n"
            "\t<key>PayloadType</key>\n\t<string>Configuration</string>\n"
            "\t<key>PayloadVersion</key>\n\t<integer>1</integer>\n"
            "\t<key>PayloadIdentifier</key>\n\t<string>leafd.profile.%s</string>\n"
            "\t<key>PayloadUUID</key>\n\t<string>%s</string>\n"
            "\t<key>PayloadDisplayName</key>\n\t<string>",
            uuid, uuid);
    put_name(out, list, first + count - 1);
    fputs("</string>\n"
          "\t<key>PayloadDescription</key>\n"
          "\t<string>Lets this device trust what a TLS-inspecting proxy shows it.</string>\n"
          "</dict>\n</plist>\n",
          out);
    return err;
}

enum leafd_err mobileconfig_make(const struct cert_list *list, size_t first, size_t count,
                                 struct bytes *ret, struct why *why)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    enum leafd_err err;

    if (!out)
        return LEAFD_NOMEM;
    err = put_profile(out, list, first, count);
    if (fclose(out) != 0 && err == LEAFD_OK)
        err = LEAFD_NOMEM;
    if (err != LEAFD_OK) {
        free(text);
        return fail(why, err, "the profile cannot be made");
    }
    *ret = (struct bytes){(const uint8_t *)text, len};
    return LEAFD_OK;
}
