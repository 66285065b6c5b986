/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_uri.h"

#include "pkcs11/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <p11-kit/uri.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct token_uri {
    P11KitUri *parsed;
    char text[120];
};

/* Attributes of RFC 7512, and where each may stand. */
static const struct attribute {
    const char *name;
    bool in_query;
    const char *refused; /* what to do instead */
} attributes[] = {
    {"token", false, NULL},
    {"manufacturer", false, NULL},
    {"serial", false, NULL},
    {"model", false, NULL},
    {"library-manufacturer", false, NULL},
    {"library-version", false, NULL},
    {"library-description", false, NULL},
    {"object", false, NULL},
    {"type", false, NULL},
    {"id", false, NULL},
    {"slot-manufacturer", false, NULL},
    {"slot-description", false, NULL},
    {"slot-id", false, NULL},
    {"pin-source", true, NULL},
    {"pin-value", true, NULL},
    {"module-name", true, "token.module names the module"},
    {"module-path", true, "token.module names the module"},
};
enum { ATTRIBUTES = sizeof(attributes) / sizeof(attributes[0]) };

static enum leafd_err check_attribute(struct bytes part, bool in_query, bool seen[ATTRIBUTES],
                                      struct why *why)
{
    const uint8_t *equals = part.len ? memchr(part.data, '=', part.len) : NULL;
    struct bytes name = {part.data, equals ? (size_t)(equals - part.data) : part.len};
    char shown[48];

    bytes_escape(name, shown, sizeof(shown));
    if (!equals)
        return fail(why, LEAFD_CONFIG, "pkcs11 URI: \"%s\" has no =", shown);
    for (size_t i = 0; i < ATTRIBUTES; i++) {
        if (!bytes_equal(name, bytes_of(attributes[i].name)))
            continue;
        if (attributes[i].in_query != in_query)
            return fail(why, LEAFD_CONFIG, "pkcs11 URI: %s= belongs %s the \"?\"", shown,
                        in_query ? "before" : "behind");
        if (attributes[i].refused)
            return fail(why, LEAFD_CONFIG, "pkcs11 URI: %s= is not used, %s", shown,
                        attributes[i].refused);
        if (seen[i])
            return fail(why, LEAFD_CONFIG, "pkcs11 URI: %s= stands there twice", shown);
        if (equals + 1 == part.data + part.len)
            return fail(why, LEAFD_CONFIG, "pkcs11 URI: %s= is empty", shown);
        seen[i] = true;
        return LEAFD_OK;
    }
    return fail(why, LEAFD_CONFIG, "pkcs11 URI: unknown attribute %s=", shown);
}

static enum leafd_err check_part(const char *from, size_t len, char separator, bool in_query,
                                 bool seen[ATTRIBUTES], struct why *why)
{
    struct bytes rest = {(const uint8_t *)from, len};

    for (;;) {
        const uint8_t *end = memchr(rest.data, separator, rest.len);
        struct bytes part = {rest.data, end ? (size_t)(end - rest.data) : rest.len};
        enum leafd_err err = check_attribute(part, in_query, seen, why);

        if (err != LEAFD_OK || !end)
            return err;
        rest.data += part.len + 1;
        rest.len -= part.len + 1;
    }
}

/* What p11-kit forgives is found on the text itself. */
static enum leafd_err check_text(const char *text, struct why *why)
{
    bool seen[ATTRIBUTES] = {false};
    const char *path = text + strlen("pkcs11:");
    const char *query = strchr(path, '?');
    size_t path_len = query ? (size_t)(query - path) : strlen(path);
    enum leafd_err err;

    if (path_len == 0)
        return fail(why, LEAFD_CONFIG,
                    "pkcs11 URI: it names no token and no key; write "
                    "pkcs11:token=LABEL;object=LABEL;type=private");
    err = check_part(path, path_len, ';', false, seen, why);
    if (err == LEAFD_OK && query)
        err = check_part(query + 1, strlen(query + 1), '&', true, seen, why);
    if (err != LEAFD_OK)
        return err;
    for (size_t i = 0, sources = 0; i < ATTRIBUTES; i++) {
        if (attributes[i].in_query && seen[i] && ++sources > 1)
            return fail(why, LEAFD_CONFIG, "pkcs11 URI: give pin-source= or pin-value=, not both");
    }
    return LEAFD_OK;
}

static enum leafd_err check_type(P11KitUri *parsed, struct why *why)
{
    CK_ATTRIBUTE *type = p11_kit_uri_get_attribute(parsed, CKA_CLASS);

    if (!type)
        return LEAFD_OK;
    if (type->ulValueLen != sizeof(CK_OBJECT_CLASS) ||
        *(CK_OBJECT_CLASS *)type->pValue != CKO_PRIVATE_KEY)
        return fail(why, LEAFD_CONFIG, "pkcs11 URI: type= must be private: a CA key signs");
    return LEAFD_OK;
}

enum leafd_err token_uri_parse(const char *text, struct token_uri **ret, struct why *why)
{
    struct token_uri *uri = NULL;
    size_t path_len;
    enum leafd_err err;
    int code;

    if (!text || strncasecmp(text, "pkcs11:", 7) != 0)
        return fail(why, LEAFD_CONFIG,
                    "the CA key is not a URI that begins with pkcs11: (a key file needs "
                    "token.access: file and --insecure-file-key)");
    err = check_text(text, why);
    if (err != LEAFD_OK)
        return err;
    uri = calloc(1, sizeof(*uri));
    err = LEAFD_NOMEM;
    if (!uri)
        goto out;
    uri->parsed = p11_kit_uri_new();
    if (!uri->parsed)
        goto out;
    path_len = strcspn(text, "?");
    bytes_escape((struct bytes){(const uint8_t *)text, path_len}, uri->text, sizeof(uri->text));
    code = p11_kit_uri_parse(text, P11_KIT_URI_FOR_ANY, uri->parsed);
    if (code != P11_KIT_URI_OK) {
        err = fail(why, LEAFD_CONFIG, "pkcs11 URI: %s: %s", uri->text, p11_kit_uri_message(code));
        goto out;
    }
    if (p11_kit_uri_any_unrecognized(uri->parsed)) {
        err = fail(why, LEAFD_CONFIG, "pkcs11 URI: %s: an attribute has a value nobody knows",
                   uri->text);
        goto out;
    }
    err = check_type(uri->parsed, why);
    if (err != LEAFD_OK)
        goto out;

    *ret = uri;
    uri = NULL;
    err = LEAFD_OK;
out:
    token_uri_free(uri);
    return err;
}

void token_uri_free(struct token_uri *uri)
{
    if (!uri)
        return;
    p11_kit_uri_free(uri->parsed);
    free(uri);
}

const char *token_uri_text(const struct token_uri *uri)
{
    return uri->text;
}

bool token_uri_matches(const struct token_uri *uri, CK_INFO *module, CK_SLOT_ID slot,
                       CK_SLOT_INFO *slot_info, CK_TOKEN_INFO *token)
{
    CK_SLOT_ID wanted = p11_kit_uri_get_slot_id(uri->parsed);

    return (wanted == (CK_SLOT_ID)-1 || wanted == slot) &&
           p11_kit_uri_match_module_info(uri->parsed, module) &&
           p11_kit_uri_match_slot_info(uri->parsed, slot_info) &&
           p11_kit_uri_match_token_info(uri->parsed, token);
}

static struct bytes attribute_value(const struct token_uri *uri, CK_ATTRIBUTE_TYPE type)
{
    CK_ATTRIBUTE *found = p11_kit_uri_get_attribute(uri->parsed, type);

    return found ? (struct bytes){found->pValue, found->ulValueLen} : (struct bytes){NULL, 0};
}

struct bytes token_uri_label(const struct token_uri *uri)
{
    return attribute_value(uri, CKA_LABEL);
}

struct bytes token_uri_id(const struct token_uri *uri)
{
    return attribute_value(uri, CKA_ID);
}

static enum leafd_err read_source(const char *source, struct secret *ret, struct why *why)
{
    const char *path = source;
    enum leafd_err err;
    int fd;

    if (strncasecmp(path, "file:", 5) == 0) {
        path += 5;
        if (strncmp(path, "//", 2) == 0)
            path += 2;
    }
    if (*path != '/')
        return fail(why, LEAFD_CONFIG,
                    "pkcs11 URI: pin-source= must be an absolute path or file:/PATH");
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd == -1)
        return fail(why, LEAFD_CONFIG, "pkcs11 URI: cannot open the file of pin-source=: %s",
                    strerror(errno));
    err = pin_read(fd, ret, why);
    close(fd);
    return err;
}

enum leafd_err token_uri_pin(const struct token_uri *uri, struct secret *ret, struct why *why)
{
    const char *value = p11_kit_uri_get_pin_value(uri->parsed);
    const char *source = p11_kit_uri_get_pin_source(uri->parsed);

    if (value)
        return secret_set(ret, bytes_of(value));
    if (source)
        return read_source(source, ret, why);
    return LEAFD_ABSENT;
}
