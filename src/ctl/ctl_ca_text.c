/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_ca_text.h"

#include "base/clock.h"
#include "base/digest.h"
#include "ctl/ctl_output.h"
#include "policy/ca_extensions.h"
#include "policy/ca_files.h"
#include "policy/cert_list.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- names that a CA may issue for ---- */

static const char *rule_text(const struct name_rule *rule, char *out, size_t size)
{
    char text[NAME_DNS_MAX + 3];

    if (rule->kind == NAME_IP)
        snprintf(out, size, "%s/%u", name_text(&rule->base, text, sizeof(text)), rule->prefix);
    else if (rule->base.len == 0)
        snprintf(out, size, "every domain");
    else
        snprintf(out, size, "%s%s", rule->only_below ? "." : "",
                 name_text(&rule->base, text, sizeof(text)));
    return out;
}

static void print_rules(const char *name, const struct name_rule *rules, size_t count)
{
    char text[NAME_DNS_MAX + 8];

    for (size_t i = 0; i < count; i++)
        ctl_print_row(i == 0 ? name : "", rule_text(&rules[i], text, sizeof(text)));
}

static void write_rules(const char *name, const struct name_rule *rules, size_t count,
                        struct json *json)
{
    char text[NAME_DNS_MAX + 8];

    json_array_begin(json, name);
    for (size_t i = 0; i < count; i++)
        json_string(json, NULL, rule_text(&rules[i], text, sizeof(text)));
    json_array_end(json);
}

/* Those of one certificate; none are none. */
static struct name_constraints constraints_of(struct bytes der)
{
    struct name_constraints constraints = {.on_subject = false};
    struct cert_fields fields;
    struct ca_extensions extensions;

    if (cert_read(der, DER_FORM_LEGACY, &fields, NULL) == LEAFD_OK &&
        ca_extensions_read(&fields, &extensions, NULL) == LEAFD_OK &&
        extensions.name_constraints.data &&
        name_constraints_read(extensions.name_constraints, &constraints, NULL) != LEAFD_OK)
        constraints = (struct name_constraints){.on_subject = false};
    return constraints;
}

static void print_constraints(struct bytes der)
{
    struct name_constraints constraints = constraints_of(der);

    print_rules("  permitted", constraints.permitted, constraints.permitted_count);
    print_rules("  excluded", constraints.excluded, constraints.excluded_count);
    if (constraints.on_subject)
        ctl_print_row("  subjects", "constrained: leaves have none");
    name_constraints_clear(&constraints);
}

static void write_constraints(struct bytes der, struct json *json)
{
    struct name_constraints constraints = constraints_of(der);

    json_object_begin(json, "name_constraints");
    write_rules("permitted", constraints.permitted, constraints.permitted_count, json);
    write_rules("excluded", constraints.excluded, constraints.excluded_count, json);
    json_bool(json, "on_subject", constraints.on_subject);
    json_object_end(json);
    name_constraints_clear(&constraints);
}

/* ---- the issuers in the CA's file ---- */

/* The CA comes first; without certificates when they cannot be read any more. */
static struct cert_list list_of(const char *file)
{
    struct cert_list list = {.count = 0};
    struct bytes text;

    if (ca_file_text(file, &text, NULL) != LEAFD_OK)
        return list;
    if (cert_list_read(text, &list, NULL) != LEAFD_OK)
        list.count = 0;
    free((void *)(uintptr_t)text.data);
    ERR_clear_error();
    return list;
}

static int64_t end_of(struct bytes der)
{
    struct cert_fields fields;

    return cert_read(der, DER_FORM_LEGACY, &fields, NULL) == LEAFD_OK ? fields.not_after : 0;
}

static void print_issuers(const struct ca *ca, const char *file)
{
    struct cert_list list = list_of(file);
    char subject[512];
    char time[CLOCK_TEXT_SIZE];

    for (size_t i = 1; i < list.count; i++) {
        ctl_print_row("Issuer", cert_list_subject(&list, i, subject, sizeof(subject)));
        ctl_print_row("  not after", clock_text(end_of(list.der[i]), time));
        ctl_print_row("  sent", i < ca->chain_count ? "yes, behind each leaf"
                                                    : "no: clients have the root themselves");
        print_constraints(list.der[i]);
    }
    cert_list_clear(&list);
}

static void write_issuers(const struct ca *ca, const char *file, struct json *json)
{
    struct cert_list list = list_of(file);
    char subject[512];
    char time[CLOCK_TEXT_SIZE];

    json_array_begin(json, "issuers");
    for (size_t i = 1; i < list.count; i++) {
        json_object_begin(json, NULL);
        json_string(json, "subject", cert_list_subject(&list, i, subject, sizeof(subject)));
        json_string(json, "not_after", ctl_time_json(end_of(list.der[i]), time));
        json_bool(json, "root", cert_list_is_root(&list, i));
        json_bool(json, "sent", i < ca->chain_count);
        write_constraints(list.der[i], json);
        json_object_end(json);
    }
    json_array_end(json);
    cert_list_clear(&list);
}

/* ---- the CA ---- */

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
    write_constraints(ca->der, json);
    write_issuers(ca, file, json);
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
    print_constraints(ca->der);
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
    print_issuers(ca, file);
}
