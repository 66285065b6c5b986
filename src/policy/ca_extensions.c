/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/ca_extensions.h"

#include "der/der_reader.h"
#include "der/oid.h"

enum { KEY_ID_MAX = 64 };

static enum leafd_err read_basic_constraints(struct bytes value, struct ca_extensions *ret,
                                             struct why *why)
{
    struct der der = der_of(value);
    struct der constraints = der_enter(&der, DER_SEQUENCE);

    if (der_next_is(&constraints, DER_BOOLEAN)) {
        struct bytes is_ca = der_read(&constraints, DER_BOOLEAN);

        ret->is_ca = is_ca.len == 1 && is_ca.data[0];
    }
    if (der_next_is(&constraints, DER_INTEGER)) {
        struct bytes number = der_read(&constraints, DER_INTEGER);

        if (number.len == 0 || number.data[0] & 0x80)
            der_fail(&constraints);
        ret->has_path_len = true;
        ret->path_len = 0;
        for (size_t i = 0; i < number.len; i++) /* any over 255 are as many as we can have */
            ret->path_len = ret->path_len ? 255 : number.data[i];
    }
    if (!der_done(&constraints) || !der_done(&der))
        return fail(why, LEAFD_CONFIG, "the CA's basic constraints cannot be read");
    return LEAFD_OK;
}

static enum leafd_err read_key_usage(struct bytes value, struct ca_extensions *ret, struct why *why)
{
    struct der der = der_of(value);
    struct bytes bits = der_read(&der, DER_BIT_STRING);

    if (!der_done(&der) || bits.len < 2)
        return fail(why, LEAFD_CONFIG, "the CA's key usage cannot be read");
    ret->has_key_usage = true;
    ret->cert_sign = bits.data[1] & 0x04; /* bit 5 */
    ret->crl_sign = bits.data[1] & 0x02;  /* bit 6 */
    return LEAFD_OK;
}

static enum leafd_err read_ext_key_usage(struct bytes value, struct ca_extensions *ret,
                                         struct why *why)
{
    struct der der = der_of(value);
    struct der list = der_enter(&der, DER_SEQUENCE);

    while (der_peek(&list))
        ret->server_auth |= bytes_equal(der_read(&list, DER_OID), oid_server_auth);
    if (!der_done(&list) || !der_done(&der))
        return fail(why, LEAFD_CONFIG, "the CA's extended key usage cannot be read");
    ret->has_ext_key_usage = true;
    return LEAFD_OK;
}

static enum leafd_err read_key_id(struct bytes value, struct ca_extensions *ret, struct why *why)
{
    struct der der = der_of(value);
    struct bytes id = der_read(&der, DER_OCTET_STRING);

    if (!der_done(&der) || id.len == 0 || id.len > KEY_ID_MAX)
        return fail(why, LEAFD_CONFIG, "the CA's subject key identifier cannot be used");
    ret->key_id = id;
    return LEAFD_OK;
}

/* Extensions that put no condition on a leaf; they may be critical. */
static bool is_harmless(struct bytes oid)
{
    static const struct bytes *const harmless[] = {
        &oid_authority_key_id, &oid_subject_alt_name,     &oid_issuer_alt_name,
        &oid_crl_points,       &oid_certificate_policies, &oid_freshest_crl,
        &oid_authority_info,   &oid_subject_info,         &oid_subject_directory,
        &oid_policy_mappings,  &oid_inhibit_any_policy,
    };

    for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
        if (bytes_equal(oid, *harmless[i]))
            return true;
    return false;
}

static enum leafd_err read_extension(const struct cert_extension *extension,
                                     struct ca_extensions *ret, struct why *why)
{
    char hex[65];

    if (bytes_equal(extension->oid, oid_basic_constraints))
        return read_basic_constraints(extension->value, ret, why);
    if (bytes_equal(extension->oid, oid_key_usage))
        return read_key_usage(extension->value, ret, why);
    if (bytes_equal(extension->oid, oid_ext_key_usage))
        return read_ext_key_usage(extension->value, ret, why);
    if (bytes_equal(extension->oid, oid_subject_key_id))
        return read_key_id(extension->value, ret, why);
    if (bytes_equal(extension->oid, oid_name_constraints)) {
        ret->name_constraints = extension->value;
        return LEAFD_OK;
    }
    if (!extension->critical || is_harmless(extension->oid))
        return LEAFD_OK;
    bytes_hex(
        (struct bytes){extension->oid.data, extension->oid.len < 32 ? extension->oid.len : 32},
        hex);
    return fail(why, LEAFD_CONFIG,
                "the CA has a critical extension that leafd does not evaluate (OID in DER: %s)",
                hex);
}

enum leafd_err ca_extensions_read(const struct cert_fields *fields, struct ca_extensions *ret,
                                  struct why *why)
{
    struct ca_extensions extensions = {.is_ca = false};

    for (size_t i = 0; i < fields->extension_count; i++) {
        enum leafd_err err;

        for (size_t k = 0; k < i; k++)
            if (bytes_equal(fields->extension[i].oid, fields->extension[k].oid))
                return fail(why, LEAFD_CONFIG, "the CA has the same extension twice");
        err = read_extension(&fields->extension[i], &extensions, why);
        if (err)
            return err;
    }
    *ret = extensions;
    return LEAFD_OK;
}

enum leafd_err ca_extensions_check(const struct ca_extensions *extensions, bool is_root,
                                   struct why *why)
{
    if (!extensions->is_ca)
        return fail(why, LEAFD_CONFIG,
                    "the certificate is none of a CA (basicConstraints CA:TRUE)");
    if (!extensions->has_key_usage && !is_root)
        return fail(why, LEAFD_CONFIG, "the CA has no key usage (it needs keyCertSign)");
    if (extensions->has_key_usage && !extensions->cert_sign)
        return fail(why, LEAFD_CONFIG, "the CA's key usage is without keyCertSign");
    if (extensions->has_ext_key_usage && !extensions->server_auth)
        return fail(
            why, LEAFD_CONFIG,
            "the CA's extended key usage is without serverAuth: no client takes its leaves");
    return LEAFD_OK;
}
