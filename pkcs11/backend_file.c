/* SPDX-License-Identifier: Apache-2.0 */
/* The backend for tests and benchmarks: CA keys are PEM files, OpenSSL signs. */
#include "pkcs11/backend_ops.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>

enum { KEY_FILE_MAX = 65536 };

/* An encrypted key must not make OpenSSL ask on the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *ctx)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static enum leafd_err key_read(const char *path, EVP_PKEY **ret, struct why *why)
{
    struct bytes text;
    EVP_PKEY *key = NULL;
    BIO *bio;

    if (bytes_read_file(path, KEY_FILE_MAX, &text, why) != LEAFD_OK)
        return fail_in(why, LEAFD_CONFIG, "the CA key");
    bio = BIO_new_mem_buf(text.data, (int)text.len);
    if (bio)
        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    OPENSSL_cleanse((void *)(uintptr_t)text.data, text.len);
    free((void *)(uintptr_t)text.data);
    ERR_clear_error();
    if (!key)
        return fail(why, LEAFD_CONFIG, "the CA key %s is not an unencrypted PEM private key", path);
    *ret = key;
    return LEAFD_OK;
}

static enum leafd_err file_open(struct backend *backend, const struct secret *pin, struct why *why)
{
    (void)pin;
    for (size_t i = 0; i < backend->key_count; i++) {
        const struct conf_ca *conf = backend_conf_ca(backend, i);
        const char *key = backend_key_place(backend, i);
        enum leafd_err err = key_read(key, &backend->key[i], why);

        if (err != LEAFD_OK)
            return err;
        if (EVP_PKEY_eq(backend->key[i], backend_ca(backend, i)->public_key) != 1) {
            ERR_clear_error();
            return fail(why, LEAFD_CONFIG, "the key %s is not the key of the CA certificate %s",
                        key, conf->certificate);
        }
        backend->key_known[i] = true;
    }
    return LEAFD_OK;
}

static void file_close(struct backend *backend)
{
    (void)backend;
}

static unsigned file_lanes(const struct backend *backend)
{
    return backend->token->sessions ? backend->token->sessions : 1;
}

static enum leafd_err file_sign_failed(struct why *why)
{
    return fail(why, LEAFD_TOKEN_UNAVAILABLE, "OpenSSL did not sign with the key file");
}

static enum leafd_err file_check(struct backend *backend, struct why *why)
{
    (void)backend;
    (void)why;
    return LEAFD_OK;
}

static void file_count(struct backend *backend, struct backend_counters *ret)
{
    (void)backend;
    (void)ret;
}

const struct backend_ops backend_file_ops = {
    .name = "file",
    .open = file_open,
    .close = file_close,
    .lanes = file_lanes,
    .sign_failed = file_sign_failed,
    .check = file_check,
    .count = file_count,
};
