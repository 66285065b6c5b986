/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/reader.h"

#include "conf/conf.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN = 64 };

/* ---- messages ---- */

enum leafd_err reader_fault(const struct reader *reader, const char *place, size_t line,
                            const char *key, const char *format, ...)
{
    struct why reason;
    char where[104];
    char name[SHOWN];
    char number[24] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(reason.text, sizeof(reason.text), format, args);
    va_end(args);
    bytes_escape(bytes_of(place ? place : reader->file), where, sizeof(where));
    if (line)
        snprintf(number, sizeof(number), ":%zu", line);
    if (!key || !*key)
        return fail(reader->why, LEAFD_CONFIG, "%s%s: %s", where, number, reason.text);
    return fail(reader->why, LEAFD_CONFIG, "%s%s: %s: %s", where, number,
                bytes_escape(bytes_of(key), name, sizeof(name)), reason.text);
}

enum leafd_err setting_fault(const struct reader *reader, const struct setting *setting,
                             const char *key, const char *reason)
{
    return reader_fault(reader, setting->place, setting->place ? 0 : yaml_line(setting->node), key,
                        "%s", reason);
}

/* ---- which value belongs to which row ---- */

static const struct schema_row *row_find(const struct schema_row *rows, size_t count,
                                         const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    }
    return NULL;
}

static enum leafd_err unknown_key(const struct reader *reader, const char *place, size_t line,
                                  const char *name)
{
    const char *nearest = schema_nearest(name);

    if (nearest)
        return reader_fault(reader, place, line, name, "is no option; did you mean %s?", nearest);
    return reader_fault(reader, place, line, name,
                        "is no option; leafctl check --sample prints all");
}

/* The dotted name of a key below `prefix`. */
static enum leafd_err key_name(const struct reader *reader, const yaml_node_t *key,
                               const char *place, const char *prefix,
                               char out[static READER_NAME_ROOM])
{
    const char *fault = NULL;
    const char *text = yaml_scalar(key, &fault);
    size_t line = place ? 0 : yaml_line(key);
    int len;

    if (!text)
        return reader_fault(reader, place, line, prefix, "a key %s", fault);
    len = snprintf(out, READER_NAME_ROOM, "%s%s%s", prefix, *prefix ? "." : "", text);
    if (len >= READER_NAME_ROOM)
        return reader_fault(reader, place, line, prefix, "a key is too long to be one");
    return LEAFD_OK;
}

enum leafd_err reader_load(const struct reader *reader, struct bytes text, const char *place,
                           yaml_document_t *ret)
{
    struct why reason = {""};
    size_t line = 0;
    enum leafd_err err = yaml_text_load(text, CONF_FILE_MAX, ret, &line, &reason);

    if (err != LEAFD_CONFIG)
        return err;
    return reader_fault(reader, place, place ? 0 : line, NULL, "%s", reason.text);
}

enum leafd_err reader_collect(const struct reader *reader, yaml_document_t *document,
                              yaml_node_t *map, const char *place, const char *prefix,
                              const struct schema_row *rows, size_t count, struct settings *ret)
{
    char sections[SCHEMA_ROWS_MAX][READER_NAME_ROOM];
    size_t section_count = 0;

    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = yaml_document_get_node(document, pair->key);
        yaml_node_t *value = yaml_document_get_node(document, pair->value);
        size_t line = place ? 0 : yaml_line(key);
        const struct schema_row *row;
        char name[READER_NAME_ROOM];
        enum leafd_err err = key_name(reader, key, place, prefix, name);

        if (err != LEAFD_OK)
            return err;
        row = row_find(rows, count, name);
        if (row) {
            struct setting *setting = &ret->of[row - rows];

            if (setting->node)
                return reader_fault(reader, place, line, name, "is there twice (first in line %zu)",
                                    yaml_line(setting->node));
            *setting = (struct setting){document, value, NULL, place};
            continue;
        }
        if (rows != schema_rows || !schema_is_section(name))
            return unknown_key(reader, place, line, name);
        for (size_t i = 0; i < section_count; i++) {
            if (strcmp(sections[i], name) == 0)
                return reader_fault(reader, place, line, name, "is there twice");
        }
        if (value->type != YAML_MAPPING_NODE)
            return reader_fault(reader, place, line, name, "must be a map of options");
        memcpy(sections[section_count++], name, READER_NAME_ROOM);
        err = reader_collect(reader, document, value, place, name, rows, count, ret);
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

enum leafd_err reader_collect_file(struct reader *reader, yaml_document_t *document)
{
    yaml_node_t *root = yaml_document_get_root_node(document);

    if (!root)
        return LEAFD_OK; /* empty: the defaults, until one is missed */
    if (root->type != YAML_MAPPING_NODE)
        return reader_fault(reader, NULL, yaml_line(root), NULL,
                            "must be a map of options, \"key: value\"");
    return reader_collect(reader, document, root, NULL, "", schema_rows, schema_row_count,
                          &reader->settings);
}

enum leafd_err reader_collect_override(struct reader *reader, const char *override,
                                       yaml_document_t *document, bool *ret_used)
{
    const char *equals = strchr(override, '=');
    const struct schema_row *row;
    struct setting *setting;
    char name[READER_NAME_ROOM];
    yaml_node_t *root;
    enum leafd_err err;

    if (!equals || equals == override || (size_t)(equals - override) >= sizeof(name))
        return reader_fault(reader, "-o", 0, override,
                            "must be key=value, such as log.level=debug");
    memcpy(name, override, (size_t)(equals - override));
    name[equals - override] = '\0';
    row = schema_find(name);
    if (!row && schema_is_section(name))
        return reader_fault(reader, "-o", 0, name,
                            "is a section; name one option, such as log.level=debug");
    if (!row)
        return unknown_key(reader, "-o", 0, name);
    setting = &reader->settings.of[row - schema_rows];
    if (!schema_is_structured(row)) {
        for (const char *c = equals + 1; *c; c++) {
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                return reader_fault(reader, "-o", 0, name, "has a control character in its value");
        }
        *setting = (struct setting){NULL, NULL, equals + 1, "-o"};
        return LEAFD_OK;
    }
    err = reader_load(reader, bytes_of(equals + 1), "-o", document);
    if (err != LEAFD_OK)
        return err;
    *ret_used = true;
    root = yaml_document_get_root_node(document);
    if (!root)
        return reader_fault(reader, "-o", 0, name, "has no value");
    *setting = (struct setting){document, root, NULL, "-o"};
    return LEAFD_OK;
}

/* ---- lists and maps ---- */

enum leafd_err setting_entries(const struct reader *reader, const struct setting *setting,
                               const char *key, yaml_node_type_t type, size_t max,
                               size_t *ret_count)
{
    const yaml_node_t *node = setting->node;
    struct why reason;

    if (node->type != type)
        return setting_fault(reader, setting, key,
                             type == YAML_SEQUENCE_NODE ? "must be a list, such as [a, b]"
                                                        : "must be a map, such as {a: b}");
    if (type == YAML_SEQUENCE_NODE)
        *ret_count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    else
        *ret_count = (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
    if (*ret_count <= max)
        return LEAFD_OK;
    snprintf(reason.text, sizeof(reason.text), "has %zu entries; %zu are the most", *ret_count,
             max);
    return setting_fault(reader, setting, key, reason.text);
}

struct setting setting_entry(const struct setting *setting, size_t i)
{
    struct setting entry = *setting;

    entry.node =
        yaml_document_get_node(setting->document, setting->node->data.sequence.items.start[i]);
    return entry;
}

enum leafd_err setting_text(const struct reader *reader, const struct setting *entry,
                            const char *key, const char **ret)
{
    const char *fault = NULL;
    const char *text = yaml_scalar(entry->node, &fault);

    if (!text)
        return setting_fault(reader, entry, key, fault);
    *ret = text;
    return LEAFD_OK;
}

const struct setting *reader_setting(const struct reader *reader, const char *name)
{
    return &reader->settings.of[schema_find(name) - schema_rows];
}
