/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/tokens.h"

#include "conf/fields.h"
#include "conf/values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum leafd_err token_env_read(const struct reader *reader, const struct setting *setting,
                              const char *key, struct conf_token *token)
{
    size_t count;
    enum leafd_err err = setting_entries(reader, setting, key, YAML_MAPPING_NODE, 64, &count);

    if (err != LEAFD_OK || count == 0)
        return err;
    token->env = calloc(count, sizeof(*token->env));
    if (!token->env)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        const yaml_node_pair_t *pair = &setting->node->data.mapping.pairs.start[i];
        struct setting name = *setting;
        struct setting value = *setting;
        const char *name_text = NULL;
        const char *value_text = NULL;

        name.node = yaml_document_get_node(setting->document, pair->key);
        value.node = yaml_document_get_node(setting->document, pair->value);
        err = setting_text(reader, &name, key, &name_text);
        if (err == LEAFD_OK)
            err = setting_text(reader, &value, key, &value_text);
        if (err != LEAFD_OK)
            return err;
        if (!value_is_variable(name_text))
            return setting_fault(reader, &name, key, "has a key that is no name of a variable");
        for (size_t j = 0; j < i; j++) {
            if (strcmp(token->env[j].name, name_text) == 0)
                return setting_fault(reader, &name, key, "names a variable twice");
        }
        token->env_count = i + 1;
        err = field_set_text(&token->env[i].name, name_text);
        if (err == LEAFD_OK)
            err = field_set_text(&token->env[i].value, value_text);
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

/* ---- further tokens ---- */

/* The rows of one further token: those of `token`, under another name and relative to a struct
 * conf_token. */
struct token_rows {
    size_t count;
    struct schema_row row[SCHEMA_ROWS_MAX];
    const struct schema_row *from[SCHEMA_ROWS_MAX]; /* NULL: there is no such row in `token` */
    char name[SCHEMA_ROWS_MAX][READER_NAME_ROOM];
};

static void token_rows_make(struct token_rows *rows)
{
    static const struct schema_row key = {.name = "more_tokens[].key",
                                          .type = SCHEMA_CA_KEY,
                                          .offset = offsetof(struct conf_token, key)};

    rows->count = 0;
    for (size_t i = 0; i < schema_row_count; i++) {
        const struct schema_row *from = &schema_rows[i];
        struct schema_row *row = &rows->row[rows->count];

        if (strncmp(from->name, "token.", 6) != 0)
            continue;
        snprintf(rows->name[rows->count], READER_NAME_ROOM, "more_tokens[].%s", from->name + 6);
        *row = *from;
        row->name = rows->name[rows->count];
        if (from->type != SCHEMA_ENV)
            row->offset -= offsetof(struct conf, token[0]);
        rows->from[rows->count++] = from;
    }
    rows->from[rows->count] = NULL;
    rows->row[rows->count++] = key;
}

/* A map that says where its PIN comes from takes over nothing about that. */
static bool is_taken_over(const struct schema_row *row, const struct settings *given,
                          const struct token_rows *rows)
{
    static const char pin[] = "more_tokens[].pin_";

    for (size_t i = 0; strncmp(row->name, pin, strlen(pin)) == 0 && i < rows->count; i++)
        if (strncmp(rows->row[i].name, pin, strlen(pin)) == 0 && given->of[i].node)
            return false;
    return true;
}

static enum leafd_err read_token_row(struct reader *reader, const struct token_rows *rows, size_t i,
                                     const struct settings *given, struct conf_token *token)
{
    const struct schema_row *row = &rows->row[i];
    const struct setting *setting = &given->of[i];

    if (!setting->node && rows->from[i] && is_taken_over(row, given, rows))
        setting = &reader->settings.of[rows->from[i] - schema_rows];
    if (setting->node && row->type == SCHEMA_ENV)
        return token_env_read(reader, setting, row->name, token);
    if (setting->node || setting->text)
        return field_read(reader, token, row, setting, row->name);
    return row->type == SCHEMA_ENV ? LEAFD_OK : field_set_fallback(reader, token, row);
}

enum leafd_err more_tokens_read(struct reader *reader)
{
    const struct setting *setting = reader_setting(reader, "more_tokens");
    struct settings *given = calloc(1, sizeof(*given));
    struct token_rows *rows = calloc(1, sizeof(*rows));
    size_t count = 0;
    enum leafd_err err = given && rows ? LEAFD_OK : LEAFD_NOMEM;

    reader->conf->token_count = 1;
    if (err == LEAFD_OK && setting->node)
        err = setting_entries(reader, setting, "more_tokens", YAML_SEQUENCE_NODE,
                              CONF_TOKEN_MAX - 1, &count);
    if (err == LEAFD_OK)
        token_rows_make(rows);
    for (size_t i = 0; i < count && err == LEAFD_OK; i++) {
        struct setting entry = setting_entry(setting, i);
        struct conf_token *token = &reader->conf->token[1 + i];

        reader->conf->token_count = 2 + i;
        token->number = (unsigned)(1 + i);
        memset(given, 0, sizeof(*given));
        if (entry.node->type != YAML_MAPPING_NODE)
            err = setting_fault(reader, &entry, "more_tokens[]",
                                "must be a map, such as {module: /usr/lib/vendor/pkcs11.so}");
        if (err == LEAFD_OK)
            err = reader_collect(reader, entry.document, entry.node, entry.place, "more_tokens[]",
                                 rows->row, rows->count, given);
        for (size_t j = 0; j < rows->count && err == LEAFD_OK; j++)
            err = read_token_row(reader, rows, j, given, token);
    }
    free(given);
    free(rows);
    return err;
}
