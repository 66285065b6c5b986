/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_ca_text.h"

#include "base/clock.h"
#include "base/digest.h"
#include "ctl/ctl_output.h"
#include "policy/cert_list.h"

#include <stdio.h>

/* The subject as one line. */
static const char *subject_text(const struct ca *ca, char *out, size_t size)
{
    const unsigned char *at = ca->subject.data;
    X509_NAME *name = d2i_X509_NAME(NULL, &at, (long)ca->subject.len);

    out[0] = '\0';
    if (name)
        cert_name_text(name, out, size);
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

void ctl_ca_write(const struct ca *ca, const char *file, struct json *json)
{
    struct ca_texts texts;
    char time[CLOCK_TEXT_SIZE];

    texts_of(ca, &texts);
    json_object_begin(json, NULL);
    json_string(json, "certificate", file);
    json_string(json, "subject", texts.subject);
    json_string(json, "key_type", texts.key);
    json_string(json, "signs_with", sig_algorithm_name(ca->algorithm));
    json_string(json, "key_id", texts.key_id);
    json_string(json, "not_before", ctl_time_json(ca->own_not_before, time));
    json_string(json, "not_after", ctl_time_json(ca->own_not_after, time));
    json_bool(json, "valid_now", ca_is_valid_at(ca, clock_wall_sec()));
    json_uint(json, "chain_sent", ca->chain_count);
    json_string(json, "sha256", texts.fingerprint);
    json_object_end(json);
}

void ctl_ca_print(const struct ca *ca, const char *file)
{
    int64_t now = clock_wall_sec();
    struct ca_texts texts;
    char time[CLOCK_TEXT_SIZE];

    texts_of(ca, &texts);
    ctl_print_row("Certificate", file);
    ctl_print_row("  subject", texts.subject);
    ctl_print_row("  key type", texts.key);
    ctl_print_row("  signs with", sig_algorithm_name(ca->algorithm));
    ctl_print_row("  key id", texts.key_id);
    ctl_print_row("  not before", clock_text(ca->own_not_before, time));
    ctl_print_row("  not after", clock_text(ca->own_not_after, time));
    ctl_print_row("  SHA-256", texts.fingerprint);
    if (now > ca->own_not_after)
        puts("  This CA has expired: leafd refuses to issue with it.");
    else if (now < ca->own_not_before)
        puts("  This CA is not valid yet.");
    else if (now > ca->not_after)
        puts("  An issuer of this CA has expired: leafd refuses to issue with it.");
    else if (now < ca->not_before)
        puts("  An issuer of this CA is not valid yet.");
    else if (ca->not_after < ca->own_not_after)
        printf("  No leaf is valid beyond %s, when an issuer of this CA expires.\n",
               clock_text(ca->not_after, time));
    if (ca->key_type == KEY_TYPE_ED25519)
        puts("  WARNING: no browser takes leaves that an Ed25519 key has signed.");
    if (ca->key_id_was_missing)
        puts("  The certificate has no subject key identifier; the one shown is computed.");
}
