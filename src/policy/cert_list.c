/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/cert_list.h"

#include "der/cert_fields.h"
#include "der/pem.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

void cert_list_clear(struct cert_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free((void *)(uintptr_t)list->der[i].data);
        X509_free(list->cert[i]);
    }
    list->count = 0;
}

/* ---- reading ---- */

static enum leafd_err list_add(struct cert_list *list, struct bytes der, struct why *why)
{
    const uint8_t *at = der.data;
    struct bytes copy;
    X509 *cert;

    if (list->count == CERT_LIST_MAX)
        return fail(why, LEAFD_CONFIG, "the CA's file holds more than %d certificates",
                    CERT_LIST_MAX);
    if (der.len > CERT_SIZE_MAX)
        return fail(why, LEAFD_CONFIG, "certificate %zu of the CA's file is too large",
                    list->count + 1);
    cert = d2i_X509(NULL, &at, (long)der.len);
    if (!cert || at != der.data + der.len) {
        X509_free(cert);
        return fail(why, LEAFD_CONFIG, "certificate %zu of the CA's file cannot be read",
                    list->count + 1);
    }
    copy = bytes_copy(der);
    if (!copy.data) {
        X509_free(cert);
        return LEAFD_NOMEM;
    }
    list->der[list->count] = copy;
    list->cert[list->count++] = cert;
    return LEAFD_OK;
}

/* One PEM block; blocks that are no certificates (keys, parameters) are passed over. */
static enum leafd_err list_add_block(struct cert_list *list, BIO *bio, bool *ret_end,
                                     struct why *why)
{
    enum leafd_err err = LEAFD_OK;
    char *name = NULL;
    char *header = NULL;
    unsigned char *data = NULL;
    long len = 0;

    if (PEM_read_bio(bio, &name, &header, &data, &len) != 1) {
        if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
            return fail(why, LEAFD_CONFIG, "the CA's file is no good PEM behind certificate %zu",
                        list->count);
        *ret_end = true;
        return LEAFD_OK;
    }
    if (strcmp(name, PEM_STRING_X509) == 0 || strcmp(name, PEM_STRING_X509_OLD) == 0)
        err = list_add(list, (struct bytes){data, (size_t)len}, why);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, (size_t)len);
    return err;
}

static enum leafd_err read_all(struct cert_list *list, struct bytes text, struct why *why)
{
    enum leafd_err err = LEAFD_OK;
    bool end = false;
    BIO *bio;

    if (text.len == 0)
        return fail(why, LEAFD_CONFIG, "the CA's file is empty");
    if (!memmem(text.data, text.len, "-----BEGIN ", 11))
        return text.data[0] == 0x30
                   ? list_add(list, text, why)
                   : fail(why, LEAFD_CONFIG,
                          "the CA's file cannot be read: it is neither PEM nor DER");
    if (text.len > CERT_LIST_FILE_MAX)
        return fail(why, LEAFD_CONFIG, "the CA's file is too large");
    bio = BIO_new_mem_buf(text.data, (int)text.len);
    if (!bio)
        return LEAFD_NOMEM;
    while (!end && err == LEAFD_OK)
        err = list_add_block(list, bio, &end, why);
    BIO_free(bio);
    if (err == LEAFD_OK && list->count == 0)
        return fail(why, LEAFD_CONFIG,
                    "the CA's file holds no certificate; if it holds PKCS #7, "
                    "openssl pkcs7 -print_certs makes PEM of that");
    return err;
}

enum leafd_err cert_list_read(struct bytes pem_or_der, struct cert_list *ret, struct why *why)
{
    struct cert_list list = {.count = 0};
    enum leafd_err err = read_all(&list, pem_or_der, why);

    ERR_clear_error();
    if (err == LEAFD_OK)
        *ret = list;
    else
        cert_list_clear(&list);
    return err;
}

/* ---- who has issued whom ---- */

bool cert_list_has_issued(const struct cert_list *list, size_t issuer, size_t cert)
{
    EVP_PKEY *key = X509_get0_pubkey(list->cert[issuer]);
    bool has_issued = key && X509_check_issued(list->cert[issuer], list->cert[cert]) == X509_V_OK &&
                      X509_verify(list->cert[cert], key) == 1;

    ERR_clear_error();
    return has_issued;
}

bool cert_list_is_root(const struct cert_list *list, size_t at)
{
    return cert_list_has_issued(list, at, at);
}

static void swap(struct cert_list *list, size_t a, size_t b)
{
    struct bytes der = list->der[a];
    X509 *cert = list->cert[a];

    list->der[a] = list->der[b];
    list->cert[a] = list->cert[b];
    list->der[b] = der;
    list->cert[b] = cert;
}

/* The one that has issued no other. */
static enum leafd_err find_first(const struct cert_list *list, size_t *ret, struct why *why)
{
    size_t ends[2], end_count = 0;
    char subject[2][60];

    for (size_t i = 0; i < list->count && end_count < 2; i++) {
        bool has_issued = false;

        for (size_t k = 0; k < list->count && !has_issued; k++)
            has_issued = k != i && cert_list_has_issued(list, i, k);
        if (!has_issued)
            ends[end_count++] = i;
    }
    if (end_count == 1) {
        *ret = ends[0];
        return LEAFD_OK;
    }
    if (end_count == 0)
        return fail(why, LEAFD_CONFIG, "its certificates have issued each other in a circle");
    return fail(why, LEAFD_CONFIG,
                "\"%s\" and \"%s\" have issued none of the others: give one CA's certificate and "
                "its issuers",
                cert_list_subject(list, ends[0], subject[0], sizeof(subject[0])),
                cert_list_subject(list, ends[1], subject[1], sizeof(subject[1])));
}

/* The same certificate twice, as when two files were put together, is there once. */
static void drop_doubles(struct cert_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        for (size_t k = list->count; --k > i;) {
            if (!bytes_equal(list->der[i], list->der[k]))
                continue;
            free((void *)(uintptr_t)list->der[k].data);
            X509_free(list->cert[k]);
            list->count--;
            list->der[k] = list->der[list->count];
            list->cert[k] = list->cert[list->count];
        }
    }
}

enum leafd_err cert_list_sort(struct cert_list *list, struct why *why)
{
    char subject[80];
    size_t first = 0;
    size_t placed = 1;
    enum leafd_err err;

    drop_doubles(list);
    err = find_first(list, &first, why);
    if (err != LEAFD_OK)
        return err;
    swap(list, 0, first);
    for (size_t i = placed; i < list->count && !cert_list_is_root(list, placed - 1); i++) {
        if (!cert_list_has_issued(list, i, placed - 1))
            continue;
        swap(list, placed, i);
        i = placed++;
    }
    if (placed == list->count)
        return LEAFD_OK;
    return fail(why, LEAFD_CONFIG, "\"%s\" is no issuer on the way from the CA up: take it out",
                cert_list_subject(list, placed, subject, sizeof(subject)));
}

/* ---- writing ---- */

const char *cert_name_text(const X509_NAME *name, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int len = 0;

    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
        len = BIO_read(bio, out, (int)size - 1);
    out[len > 0 ? len : 0] = '\0';
    BIO_free(bio);
    return out;
}

const char *cert_list_subject(const struct cert_list *list, size_t at, char *out, size_t size)
{
    return cert_name_text(X509_get_subject_name(list->cert[at]), out, size);
}

enum leafd_err cert_list_pem(const struct cert_list *list, size_t first, size_t count,
                             struct bytes *ret)
{
    size_t size = 1, len = 0;
    uint8_t *text;

    for (size_t i = first; i < first + count; i++)
        size += pem_size(PEM_STRING_X509, list->der[i].len);
    text = malloc(size);
    if (!text)
        return LEAFD_NOMEM;
    for (size_t i = first; i < first + count; i++)
        len += pem_write(PEM_STRING_X509, list->der[i], text + len);
    *ret = (struct bytes){text, len};
    return LEAFD_OK;
}
