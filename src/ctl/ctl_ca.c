/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl ca init, ca show: the CA whose key is in the token. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "base/digest.h"
#include "conf/values.h"
#include "ctl/ctl_child.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "pkcs11/ca_make.h"
#include "policy/ca_files.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what both print ---- */

/* The subject as one line (RFC 2253, escaped). */
static const char *subject_text(const struct ca *ca, char *out, size_t size)
{
    const unsigned char *at = ca->subject.data;
    X509_NAME *name = d2i_X509_NAME(NULL, &at, (long)ca->subject.len);
    BIO *bio = BIO_new(BIO_s_mem());
    int len = 0;

    out[0] = '\0';
    if (name && bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0)
        len = BIO_read(bio, out, (int)size - 1);
    out[len > 0 ? len : 0] = '\0';
    BIO_free(bio);
    X509_NAME_free(name);
    return out;
}

static const char *key_text(const struct ca *ca, char *out, size_t size)
{
    if (ca->key_type == KEY_TYPE_RSA)
        snprintf(out, size, "rsa-%u", ca->key_bits);
    else
        snprintf(out, size, "%s", key_type_name(ca->key_type));
    return out;
}

struct ca_texts {
    char subject[512];
    char key[32];
    char key_id[129];
    char fingerprint[2 * DIGEST_LEN + 1];
};

static void texts_of(const struct ca *ca, struct ca_texts *ret)
{
    uint8_t digest[DIGEST_LEN];
    struct bytes key_id = ca->key_id;

    subject_text(ca, ret->subject, sizeof(ret->subject));
    key_text(ca, ret->key, sizeof(ret->key));
    if (key_id.len > (sizeof(ret->key_id) - 1) / 2)
        key_id.len = (sizeof(ret->key_id) - 1) / 2;
    bytes_hex(key_id, ret->key_id);
    ret->fingerprint[0] = '\0';
    if (digest_sha256(ca->der, digest) == LEAFD_OK)
        bytes_hex((struct bytes){digest, sizeof(digest)}, ret->fingerprint);
}

static void ca_write(const struct ca *ca, const char *file, struct json *json)
{
    struct ca_texts texts;
    char time[CTL_TIME_SIZE];

    texts_of(ca, &texts);
    json_object_begin(json, NULL);
    json_string(json, "certificate", file);
    json_string(json, "subject", texts.subject);
    json_string(json, "key_type", texts.key);
    json_string(json, "key_id", texts.key_id);
    json_string(json, "not_before", ctl_time_json(ca->not_before, time));
    json_string(json, "not_after", ctl_time_json(ca->not_after, time));
    json_bool(json, "valid_now", ca_is_valid_at(ca, clock_wall_sec()));
    json_uint(json, "chain_sent", ca->chain_count);
    json_string(json, "sha256", texts.fingerprint);
    json_object_end(json);
}

static void ca_print(const struct ca *ca, const char *file)
{
    int64_t now = clock_wall_sec();
    struct ca_texts texts;
    char time[CTL_TIME_SIZE];

    texts_of(ca, &texts);
    ctl_print_row("Certificate", file);
    ctl_print_row("  subject", texts.subject);
    ctl_print_row("  key type", texts.key);
    ctl_print_row("  key id", texts.key_id);
    ctl_print_row("  not before", ctl_time(ca->not_before, time));
    ctl_print_row("  not after", ctl_time(ca->not_after, time));
    ctl_print_row("  SHA-256", texts.fingerprint);
    if (now > ca->not_after)
        puts("  This CA has expired: leafd refuses to issue with it.");
    else if (now < ca->not_before)
        puts("  This CA is not valid yet.");
    if (ca->key_id_was_missing)
        puts("  The certificate has no subject key identifier; the one shown is computed.");
}

/* ---- ca show ---- */

static int show(const struct ctl *ctl, const struct conf *conf, const struct ca_set *cas)
{
    struct json json = JSON_EMPTY;

    if (ctl->json)
        json_array_begin(&json, NULL);
    for (size_t i = 0; i < cas->count; i++) {
        if (ctl->json)
            ca_write(cas->ca[i], conf->ca[i].certificate, &json);
        else
            ca_print(cas->ca[i], conf->ca[i].certificate);
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

/* ---- ca init ---- */

/* A file beside the certificate's place, made before the key is: a folder that cannot be written
 * must not be found out when the token has a key already. */
struct new_file {
    char *path;
    int fd;
};

static enum leafd_err new_file_open(const char *target, struct new_file *ret, struct why *why)
{
    struct stat status;
    char *path = NULL;
    int fd;
    enum leafd_err err;

    if (lstat(target, &status) == 0)
        return fail(why, LEAFD_CONFIG,
                    "%s is there already; move it away, or name another ca.certificate", target);
    if (asprintf(&path, "%s.new-XXXXXX", target) == -1)
        return LEAFD_NOMEM;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd == -1) {
        err = fail(why, LEAFD_IO, "cannot write beside %s: %s", target, strerror(errno));
        free(path);
        return err;
    }
    *ret = (struct new_file){path, fd};
    return LEAFD_OK;
}

/* Whole and never over another one: link(2) refuses what is there. */
static enum leafd_err new_file_keep(const struct new_file *file, struct bytes content,
                                    const char *target, struct why *why)
{
    if (!bytes_write_fd(file->fd, content) || fchmod(file->fd, 0644) == -1 ||
        fsync(file->fd) == -1 || link(file->path, target) == -1)
        return fail(why, LEAFD_IO, "cannot write %s: %s", target, strerror(errno));
    return LEAFD_OK;
}

static void new_file_clear(struct new_file *file)
{
    if (file->fd != -1) {
        close(file->fd);
        unlink(file->path);
    }
    free(file->path);
}

static enum leafd_err init_in_child(const struct ctl_child *child, const void *arg,
                                    struct bytes *ret_result, struct why *why)
{
    return ca_make(child->conf, &child->pin, arg, ret_result, why);
}

static int init_tell(const struct ctl *ctl, const struct conf *conf, struct bytes pem)
{
    struct json json = JSON_EMPTY;
    struct why why = {""};
    struct ca *ca;

    if (ca_read(pem, 0, conf->ca_append_root, &ca, &why) != LEAFD_OK)
        return ctl_failed(&why);
    if (ctl->json)
        ca_write(ca, conf->ca[0].certificate, &json);
    else
        ca_print(ca, conf->ca[0].certificate);
    ca_unref(ca);
    return ctl->json ? ctl_print_json(&json) : ctl_flushed(CTL_OK);
}

static enum leafd_err init(const struct conf *conf, const struct ca_make_options *options,
                           struct bytes *ret_pem, struct why *why)
{
    const char *target = conf->ca[0].certificate;
    struct new_file file = {NULL, -1};
    struct bytes pem = {NULL, 0};
    enum leafd_err err;

    if (conf->token_access == CONF_ACCESS_FILE)
        return fail(why, LEAFD_CONFIG, "token.access is file: ca init makes keys in tokens");
    err = new_file_open(target, &file, why);
    if (err != LEAFD_OK)
        return err;
    err = ctl_child_run(conf, CTL_CHILD_PIN, init_in_child, options, &pem, why);
    if (err != LEAFD_OK)
        goto out;
    err = new_file_keep(&file, pem, target, why);
    if (err != LEAFD_OK) { /* the key is in the token now: do not lose what belongs to it */
        fwrite(pem.data, 1, pem.len, stdout);
        err = fail_in(why, err, "the key was made, and its certificate is printed here");
        goto out;
    }
    *ret_pem = pem;
    pem.data = NULL;
out:
    free((void *)(uintptr_t)pem.data);
    new_file_clear(&file);
    return err;
}

/* The command line's values; CTL_OK or CTL_USAGE. */
static int options_of(const struct ctl *ctl, struct ca_make_options *ret)
{
    struct ca_make_options options = {.key = CA_KEY_P256, .cn = ctl->cn};
    int64_t days = 0;
    struct why why;

    if (ctl->key && !ca_key_of(ctl->key, &options.key))
        return ctl_wrong_usage(
            "--key must be ec-p256, ec-p384, rsa-2048, rsa-3072 or rsa-4096, not \"%s\"", ctl->key);
    if (ctl->days && value_count(ctl->days, 1, CA_DAYS_MAX, &days, &why) != LEAFD_OK)
        return ctl_wrong_usage("--days %s", why.text);
    options.days = (unsigned)days;
    *ret = options;
    return CTL_OK;
}

int ctl_ca_init(const struct ctl *ctl)
{
    struct ca_make_options options;
    struct conf *conf = NULL;
    struct bytes pem = {NULL, 0};
    struct why why = {""};
    enum leafd_err err;
    int code = options_of(ctl, &options);

    if (code != CTL_OK)
        return code;
    err = ctl_conf_load(ctl, &conf, &why);
    if (err == LEAFD_OK) {
        if (options.key >= CA_KEY_RSA_2048)
            ctl_progress("making an RSA key in the token; this can take a minute ...");
        err = init(conf, &options, &pem, &why);
    }
    code = err == LEAFD_OK ? init_tell(ctl, conf, pem) : ctl_failed(&why);
    free((void *)(uintptr_t)pem.data);
    conf_free(conf);
    return code;
}
