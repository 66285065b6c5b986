/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/fields.h"

#include "conf/values.h"
#include "der/spki.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 64 };

enum leafd_err field_set_text(char **field, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return LEAFD_NOMEM;
    free(*field);
    *field = copy;
    return LEAFD_OK;
}

enum leafd_err field_set_path(const struct reader *reader, char **field, const char *text,
                              struct why *why)
{
    char *path = NULL;

    if (text[0] == '/')
        return field_set_text(field, text);
    if (!reader->dir)
        return fail(why, LEAFD_CONFIG,
                    "must be an absolute path, since this configuration has no folder");
    if (asprintf(&path, "%s/%s", strcmp(reader->dir, "/") == 0 ? "" : reader->dir, text) == -1)
        return LEAFD_NOMEM;
    free(*field);
    *field = path;
    return LEAFD_OK;
}

enum leafd_err field_word(const struct schema_row *row, const char *text, int *ret, struct why *why)
{
    char form[160];
    char shown[SHOWN];

    for (const struct schema_word *word = row->words; word->word; word++) {
        if (strcmp(word->word, text) == 0) {
            *ret = word->value;
            return LEAFD_OK;
        }
    }
    return fail(why, LEAFD_CONFIG, "must be %s, not \"%s\"", schema_form(row, form, sizeof(form)),
                bytes_escape(bytes_of(text), shown, sizeof(shown)));
}

static enum leafd_err set_leaf_key(struct conf *conf, const struct schema_row *row,
                                   const char *text, struct why *why)
{
    int value;
    enum leafd_err err = field_word(row, text, &value, why);

    if (err != LEAFD_OK)
        return err;
    conf->leaf_key =
        value < KEY_TYPE_COUNT ? CONF_LEAF_KEY_TYPE : (enum conf_leaf_key)(value - KEY_TYPE_COUNT);
    conf->leaf_key_type = value < KEY_TYPE_COUNT ? value : KEY_TYPE_NONE;
    return LEAFD_OK;
}

enum leafd_err field_set_udp(struct conf_listen *listen, const char *text, struct why *why)
{
    enum leafd_err err = value_address(text, &listen->address, &listen->address_len, why);

    return err == LEAFD_OK ? field_set_text(&listen->text, text) : err;
}

static enum leafd_err set_unix(const struct reader *reader, struct conf_listen *listen,
                               const char *text, struct why *why)
{
    enum leafd_err err = field_set_path(reader, &listen->path, text, why);

    if (err == LEAFD_OK)
        err = value_socket_path(listen->path, why);
    if (err != LEAFD_OK)
        return err;
    listen->is_unix = true;
    free(listen->text);
    listen->text = NULL;
    return asprintf(&listen->text, "unix:%s", text) == -1 ? LEAFD_NOMEM : LEAFD_OK;
}

static enum leafd_err set_admin_address(struct conf *conf, const char *text, struct why *why)
{
    enum leafd_err err;

    if (!*text) {
        conf->admin_address_len = 0;
        return LEAFD_OK;
    }
    err = value_address(text, &conf->admin_address, &conf->admin_address_len, why);
    if (err == LEAFD_OK && !address_is_loopback(&conf->admin_address))
        return fail(why, LEAFD_CONFIG,
                    "must be a loopback address; put a reverse proxy before it for others");
    return err;
}

/* The field of a row in `base`, which is a struct conf or a struct conf_listen. */
static void *field_of(void *base, const struct schema_row *row)
{
    return (char *)base + row->offset;
}

static enum leafd_err set_number(void *base, const struct schema_row *row, const char *text,
                                 struct why *why)
{
    int64_t number = 0;
    int word = 0;
    enum leafd_err err;

    switch (row->type) {
    case SCHEMA_BOOL:
        return value_bool(text, field_of(base, row), why);
    case SCHEMA_RATE:
        return value_rate(text, row->max, field_of(base, row), why);
    case SCHEMA_WORD:
        err = field_word(row, text, &word, why);
        if (err == LEAFD_OK)
            *(int *)field_of(base, row) = word;
        return err;
    case SCHEMA_COUNT:
        err = value_count(text, row->min, row->max, &number, why);
        if (err == LEAFD_OK)
            *(unsigned *)field_of(base, row) = (unsigned)number;
        return err;
    case SCHEMA_SIZE:
        return value_size(text, row->min, row->max, field_of(base, row), why);
    default:
        err = value_duration(text, row->min, row->max, &number, why);
        if (err == LEAFD_OK)
            *(int64_t *)field_of(base, row) =
                row->type == SCHEMA_DURATION_SEC ? number / 1000 : number;
        return err;
    }
}
_Static_assert(sizeof(enum conf_access) == sizeof(int), "SCHEMA_WORD writes an int");

static enum leafd_err set_string(const struct reader *reader, void *base,
                                 const struct schema_row *row, const char *text, struct why *why)
{
    char **field = field_of(base, row);
    bool is_path = row->type == SCHEMA_PATH || row->type == SCHEMA_PATH_OR_NONE;

    if (!*text && (row->type == SCHEMA_TEXT_OR_NONE || row->type == SCHEMA_PATH_OR_NONE)) {
        free(*field);
        *field = NULL;
        return LEAFD_OK;
    }
    if (!*text)
        return fail(why, LEAFD_CONFIG, "must not be empty");
    return is_path ? field_set_path(reader, field, text, why) : field_set_text(field, text);
}

enum leafd_err field_set(const struct reader *reader, void *base, const struct schema_row *row,
                         const char *text, struct why *why)
{
    switch (row->type) {
    case SCHEMA_TEXT:
    case SCHEMA_TEXT_OR_NONE:
    case SCHEMA_PATH:
    case SCHEMA_PATH_OR_NONE:
    case SCHEMA_CA_KEY: /* what it means depends on token.access: conf/rules */
        return set_string(reader, base, row, text, why);
    case SCHEMA_UDP_ADDRESS:
        return field_set_udp(base, text, why);
    case SCHEMA_UNIX_ADDRESS:
        return set_unix(reader, base, text, why);
    case SCHEMA_ADMIN_ADDRESS:
        return set_admin_address(base, text, why);
    case SCHEMA_LEAF_KEY:
        return set_leaf_key(base, row, text, why);
    default:
        return set_number(base, row, text, why);
    }
}

/* Defaults are written as YAML; the only quoted scalar among them is the empty one. */
static const char *fallback_text(const struct schema_row *row)
{
    return strcmp(row->fallback, "\"\"") == 0 ? "" : row->fallback;
}

enum leafd_err field_set_fallback(const struct reader *reader, void *base,
                                  const struct schema_row *row)
{
    return row->fallback ? field_set(reader, base, row, fallback_text(row), reader->why) : LEAFD_OK;
}

enum leafd_err field_read(const struct reader *reader, void *base, const struct schema_row *row,
                          const struct setting *setting, const char *key)
{
    const char *text = setting->text;
    const char *fault = NULL;
    struct why reason = {""};
    enum leafd_err err;

    if (!text)
        text = yaml_scalar(setting->node, &fault);
    if (!text)
        return setting_fault(reader, setting, key, fault);
    err = field_set(reader, base, row, text, &reason);
    return err == LEAFD_CONFIG ? setting_fault(reader, setting, key, reason.text) : err;
}
