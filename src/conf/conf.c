/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/conf.h"

#include "conf/schema.h"
#include "conf/values.h"
#include "conf/yaml_text.h"
#include "der/spki.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    LIST_MAX = 4096, /* entries of one list */
    OVERRIDES_MAX = 256,
    NAME_ROOM = 128,
    SHOWN = 64
};

/* Where the value of one row stands: a node of the file or of a `-o`, or a `-o`'s bare text. */
struct setting {
    yaml_document_t *document; /* NULL: `text` alone, or nothing at all */
    yaml_node_t *node;
    const char *text;
    const char *place; /* "-o" for what the command line says; NULL: the file */
};

struct settings {
    struct setting of[SCHEMA_ROWS_MAX];
};

/* One reading of a configuration. */
struct reader {
    const char *file;
    const char *dir;
    struct conf *conf;
    struct settings settings;
    struct why *why;
};

/* ---- messages ---- */

/* "FILE:LINE: key: reason". The reason's foreign parts are escaped already. */
__attribute__((format(printf, 5, 6))) static enum leafd_err bad(const struct reader *reader,
                                                                const char *place, size_t line,
                                                                const char *key, const char *format,
                                                                ...)
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

static enum leafd_err bad_setting(const struct reader *reader, const struct setting *setting,
                                  const char *key, const char *reason)
{
    return bad(reader, setting->place, setting->place ? 0 : yaml_line(setting->node), key, "%s",
               reason);
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
        return bad(reader, place, line, name, "is no option; did you mean %s?", nearest);
    return bad(reader, place, line, name, "is no option; leafctl check --sample prints all");
}

/* The dotted name of a key below `prefix`. */
static enum leafd_err key_name(const struct reader *reader, const yaml_node_t *key,
                               const char *place, const char *prefix, char out[static NAME_ROOM])
{
    const char *fault = NULL;
    const char *text = yaml_scalar(key, &fault);
    size_t line = place ? 0 : yaml_line(key);
    int len;

    if (!text)
        return bad(reader, place, line, prefix, "a key %s", fault);
    len = snprintf(out, NAME_ROOM, "%s%s%s", prefix, *prefix ? "." : "", text);
    if (len >= NAME_ROOM)
        return bad(reader, place, line, prefix, "a key is too long to be one");
    return LEAFD_OK;
}

/* On LEAFD_OK the caller ends it with yaml_document_delete(). */
static enum leafd_err document_load(const struct reader *reader, struct bytes text,
                                    const char *place, yaml_document_t *ret)
{
    struct why reason = {""};
    size_t line = 0;
    enum leafd_err err = yaml_text_load(text, CONF_FILE_MAX, ret, &line, &reason);

    if (err != LEAFD_CONFIG)
        return err;
    return bad(reader, place, place ? 0 : line, NULL, "%s", reason.text);
}

/* Remembers where the rows below one mapping have their values; sections are walked into. */
static enum leafd_err collect(const struct reader *reader, yaml_document_t *document,
                              yaml_node_t *map, const char *place, const char *prefix,
                              const struct schema_row *rows, size_t count, struct settings *ret)
{
    char sections[SCHEMA_ROWS_MAX][NAME_ROOM];
    size_t section_count = 0;

    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = yaml_document_get_node(document, pair->key);
        yaml_node_t *value = yaml_document_get_node(document, pair->value);
        size_t line = place ? 0 : yaml_line(key);
        const struct schema_row *row;
        char name[NAME_ROOM];
        enum leafd_err err = key_name(reader, key, place, prefix, name);

        if (err != LEAFD_OK)
            return err;
        row = row_find(rows, count, name);
        if (row) {
            struct setting *setting = &ret->of[row - rows];

            if (setting->node)
                return bad(reader, place, line, name, "is there twice (first in line %zu)",
                           yaml_line(setting->node));
            *setting = (struct setting){document, value, NULL, place};
            continue;
        }
        if (rows != schema_rows || !schema_is_section(name))
            return unknown_key(reader, place, line, name);
        for (size_t i = 0; i < section_count; i++) {
            if (strcmp(sections[i], name) == 0)
                return bad(reader, place, line, name, "is there twice");
        }
        if (value->type != YAML_MAPPING_NODE)
            return bad(reader, place, line, name, "must be a map of options");
        memcpy(sections[section_count++], name, NAME_ROOM);
        err = collect(reader, document, value, place, name, rows, count, ret);
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

static enum leafd_err collect_file(struct reader *reader, yaml_document_t *document)
{
    yaml_node_t *root = yaml_document_get_root_node(document);

    if (!root)
        return LEAFD_OK; /* empty: the defaults, until one is missed */
    if (root->type != YAML_MAPPING_NODE)
        return bad(reader, NULL, yaml_line(root), NULL, "must be a map of options, \"key: value\"");
    return collect(reader, document, root, NULL, "", schema_rows, schema_row_count,
                   &reader->settings);
}

static bool is_structured(const struct schema_row *row)
{
    return row->type == SCHEMA_LISTENERS || row->type == SCHEMA_TOKENS || row->type == SCHEMA_ENV ||
           row->type == SCHEMA_NAMES || row->type == SCHEMA_UNTRUSTED_CA;
}

/* One `key=value` of the command line; `*ret_used` when `document` was loaded. */
static enum leafd_err collect_override(struct reader *reader, const char *override,
                                       yaml_document_t *document, bool *ret_used)
{
    const char *equals = strchr(override, '=');
    const struct schema_row *row;
    struct setting *setting;
    char name[NAME_ROOM];
    yaml_node_t *root;
    enum leafd_err err;

    if (!equals || equals == override || (size_t)(equals - override) >= sizeof(name))
        return bad(reader, "-o", 0, override, "must be key=value, such as log.level=debug");
    memcpy(name, override, (size_t)(equals - override));
    name[equals - override] = '\0';
    row = schema_find(name);
    if (!row && schema_is_section(name))
        return bad(reader, "-o", 0, name, "is a section; name one option, such as log.level=debug");
    if (!row)
        return unknown_key(reader, "-o", 0, name);
    setting = &reader->settings.of[row - schema_rows];
    if (!is_structured(row)) {
        for (const char *c = equals + 1; *c; c++) {
            if ((unsigned char)*c < 0x20 || *c == 0x7f)
                return bad(reader, "-o", 0, name, "has a control character in its value");
        }
        *setting = (struct setting){NULL, NULL, equals + 1, "-o"};
        return LEAFD_OK;
    }
    err = document_load(reader, bytes_of(equals + 1), "-o", document);
    if (err != LEAFD_OK)
        return err;
    *ret_used = true;
    root = yaml_document_get_root_node(document);
    if (!root)
        return bad(reader, "-o", 0, name, "has no value");
    *setting = (struct setting){document, root, NULL, "-o"};
    return LEAFD_OK;
}

/* ---- values into fields ---- */

static enum leafd_err set_text(char **field, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return LEAFD_NOMEM;
    free(*field);
    *field = copy;
    return LEAFD_OK;
}

static enum leafd_err set_path(const struct reader *reader, char **field, const char *text,
                               struct why *why)
{
    char *path = NULL;

    if (text[0] == '/')
        return set_text(field, text);
    if (!reader->dir)
        return fail(why, LEAFD_CONFIG,
                    "must be an absolute path, since this configuration has no folder");
    if (asprintf(&path, "%s/%s", strcmp(reader->dir, "/") == 0 ? "" : reader->dir, text) == -1)
        return LEAFD_NOMEM;
    free(*field);
    *field = path;
    return LEAFD_OK;
}

static enum leafd_err word_value(const struct schema_row *row, const char *text, int *ret,
                                 struct why *why)
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
    enum leafd_err err = word_value(row, text, &value, why);

    if (err != LEAFD_OK)
        return err;
    conf->leaf_key =
        value < KEY_TYPE_COUNT ? CONF_LEAF_KEY_TYPE : (enum conf_leaf_key)(value - KEY_TYPE_COUNT);
    conf->leaf_key_type = value < KEY_TYPE_COUNT ? value : KEY_TYPE_NONE;
    return LEAFD_OK;
}

static enum leafd_err set_udp(struct conf_listen *listen, const char *text, struct why *why)
{
    enum leafd_err err = value_address(text, &listen->address, &listen->address_len, why);

    return err == LEAFD_OK ? set_text(&listen->text, text) : err;
}

static enum leafd_err check_socket_path(const char *path, struct why *why)
{
    size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);

    if (path && strlen(path) >= room)
        return fail(why, LEAFD_CONFIG, "the path of a socket has at most %zu characters", room - 1);
    return LEAFD_OK;
}

static enum leafd_err set_unix(const struct reader *reader, struct conf_listen *listen,
                               const char *text, struct why *why)
{
    enum leafd_err err = set_path(reader, &listen->path, text, why);

    if (err == LEAFD_OK)
        err = check_socket_path(listen->path, why);
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
        err = word_value(row, text, &word, why);
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
    return is_path ? set_path(reader, field, text, why) : set_text(field, text);
}

/* One value, of a struct conf or a struct conf_listen; `why` gets the bare reason. */
static enum leafd_err set_scalar(const struct reader *reader, void *base,
                                 const struct schema_row *row, const char *text, struct why *why)
{
    switch (row->type) {
    case SCHEMA_TEXT:
    case SCHEMA_TEXT_OR_NONE:
    case SCHEMA_PATH:
    case SCHEMA_PATH_OR_NONE:
    case SCHEMA_CA_KEY: /* what it means depends on token.access: check_ca_key() */
        return set_string(reader, base, row, text, why);
    case SCHEMA_UDP_ADDRESS:
        return set_udp(base, text, why);
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

static enum leafd_err set_setting(const struct reader *reader, void *base,
                                  const struct schema_row *row, const struct setting *setting,
                                  const char *key)
{
    const char *text = setting->text;
    const char *fault = NULL;
    struct why reason = {""};
    enum leafd_err err;

    if (!text)
        text = yaml_scalar(setting->node, &fault);
    if (!text)
        return bad_setting(reader, setting, key, fault);
    err = set_scalar(reader, base, row, text, &reason);
    return err == LEAFD_CONFIG ? bad_setting(reader, setting, key, reason.text) : err;
}

/* ---- lists and maps ---- */

/* How many entries; LEAFD_CONFIG when it is not of this type or has too many. */
static enum leafd_err entry_count(const struct reader *reader, const struct setting *setting,
                                  const char *key, yaml_node_type_t type, size_t max,
                                  size_t *ret_count)
{
    const yaml_node_t *node = setting->node;
    struct why reason;

    if (node->type != type)
        return bad_setting(reader, setting, key,
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
    return bad_setting(reader, setting, key, reason.text);
}

/* Entry number `i` of a list as a setting of its own, for its line. */
static struct setting entry_of(const struct setting *setting, size_t i)
{
    struct setting entry = *setting;

    entry.node =
        yaml_document_get_node(setting->document, setting->node->data.sequence.items.start[i]);
    return entry;
}

static enum leafd_err entry_text(const struct reader *reader, const struct setting *entry,
                                 const char *key, const char **ret)
{
    const char *fault = NULL;
    const char *text = yaml_scalar(entry->node, &fault);

    if (!text)
        return bad_setting(reader, entry, key, fault);
    *ret = text;
    return LEAFD_OK;
}

static enum leafd_err read_nets(const struct reader *reader, const struct setting *setting,
                                const char *key, struct conf_listen *listen)
{
    size_t count;
    enum leafd_err err = entry_count(reader, setting, key, YAML_SEQUENCE_NODE, LIST_MAX, &count);

    if (err != LEAFD_OK)
        return err;
    if (count == 0)
        return bad_setting(reader, setting, key, "is empty: nobody would be answered");
    listen->allow_from = calloc(count, sizeof(*listen->allow_from));
    if (!listen->allow_from)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = entry_of(setting, i);
        struct why reason = {""};
        const char *text = NULL;

        err = entry_text(reader, &entry, key, &text);
        if (err != LEAFD_OK)
            return err;
        if (value_net(text, &listen->allow_from[i], &reason) != LEAFD_OK)
            return bad_setting(reader, &entry, key, reason.text);
        listen->allow_from_count = i + 1;
    }
    return LEAFD_OK;
}

static enum leafd_err read_uids(const struct reader *reader, const struct setting *setting,
                                const char *key, struct conf_listen *listen)
{
    size_t count;
    enum leafd_err err = entry_count(reader, setting, key, YAML_SEQUENCE_NODE, LIST_MAX, &count);

    if (err != LEAFD_OK)
        return err;
    if (count == 0)
        return bad_setting(reader, setting, key, "is empty: nobody would be answered");
    listen->allow_uid = calloc(count, sizeof(*listen->allow_uid));
    if (!listen->allow_uid)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = entry_of(setting, i);
        struct why reason = {""};
        const char *text = NULL;
        int64_t uid;

        err = entry_text(reader, &entry, key, &text);
        if (err != LEAFD_OK)
            return err;
        if (value_count(text, 0, UINT32_MAX - 1, &uid, &reason) != LEAFD_OK)
            return bad_setting(reader, &entry, key, reason.text);
        listen->allow_uid[i] = (uid_t)uid;
        listen->allow_uid_count = i + 1;
    }
    return LEAFD_OK;
}

static enum leafd_err read_deny(const struct reader *reader, const struct setting *setting,
                                const char *key)
{
    struct conf *conf = reader->conf;
    size_t count;
    enum leafd_err err = entry_count(reader, setting, key, YAML_SEQUENCE_NODE, LIST_MAX, &count);

    if (err != LEAFD_OK || count == 0)
        return err;
    conf->deny = calloc(count, sizeof(*conf->deny));
    if (!conf->deny)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = entry_of(setting, i);
        struct why reason = {""};
        const char *text = NULL;

        err = entry_text(reader, &entry, key, &text);
        if (err == LEAFD_OK && value_denied(text, &reason) != LEAFD_OK)
            err = bad_setting(reader, &entry, key, reason.text);
        if (err == LEAFD_OK)
            err = set_text(&conf->deny[i], text);
        if (err != LEAFD_OK)
            return err;
        conf->deny_count = i + 1;
    }
    return LEAFD_OK;
}

/* A name as the shell takes it. */
static bool is_variable(const char *name)
{
    size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && name[len] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

static enum leafd_err read_env(const struct reader *reader, const struct setting *setting,
                               const char *key, struct conf_token *token)
{
    size_t count;
    enum leafd_err err = entry_count(reader, setting, key, YAML_MAPPING_NODE, 64, &count);

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
        err = entry_text(reader, &name, key, &name_text);
        if (err == LEAFD_OK)
            err = entry_text(reader, &value, key, &value_text);
        if (err != LEAFD_OK)
            return err;
        if (!is_variable(name_text))
            return bad_setting(reader, &name, key, "has a key that is no name of a variable");
        for (size_t j = 0; j < i; j++) {
            if (strcmp(token->env[j].name, name_text) == 0)
                return bad_setting(reader, &name, key, "names a variable twice");
        }
        token->env_count = i + 1;
        err = set_text(&token->env[i].name, name_text);
        if (err == LEAFD_OK)
            err = set_text(&token->env[i].value, value_text);
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

/* The map form of untrusted_ca, with two rows of its own. */
static enum leafd_err read_untrusted_map(const struct reader *reader, const struct setting *setting,
                                         const char *key)
{
    static const struct schema_row rows[] = {
        {.name = "untrusted_ca.certificate",
         .type = SCHEMA_PATH,
         .offset = offsetof(struct conf_ca, certificate)},
        {.name = "untrusted_ca.key",
         .type = SCHEMA_CA_KEY,
         .offset = offsetof(struct conf_ca, key)},
    };
    struct settings *settings = calloc(1, sizeof(*settings));
    enum leafd_err err;

    if (!settings)
        return LEAFD_NOMEM;
    err = collect(reader, setting->document, setting->node, setting->place, key, rows, 2, settings);
    for (size_t i = 0; err == LEAFD_OK && i < 2; i++) {
        if (!settings->of[i].node)
            err = bad_setting(reader, setting, rows[i].name, "is missing");
        else
            err = set_setting(reader, &reader->conf->untrusted_ca, &rows[i], &settings->of[i],
                              rows[i].name);
    }
    free(settings);
    reader->conf->untrusted = CONF_UNTRUSTED_FILE;
    return err;
}

static enum leafd_err read_untrusted(const struct reader *reader, const struct schema_row *row,
                                     const struct setting *setting)
{
    struct why reason = {""};
    const char *text = NULL;
    int value = 0;
    enum leafd_err err;

    if (setting->node->type == YAML_MAPPING_NODE)
        return read_untrusted_map(reader, setting, row->name);
    err = entry_text(reader, setting, row->name, &text);
    if (err != LEAFD_OK)
        return err;
    if (word_value(row, text, &value, &reason) != LEAFD_OK)
        return bad_setting(reader, setting, row->name, reason.text);
    reader->conf->untrusted = (enum conf_untrusted)value;
    return LEAFD_OK;
}

/* ---- listeners ---- */

static enum leafd_err allow_loopback(struct conf_listen *listen)
{
    static const struct conf_net loopback[] = {
        {.family = AF_INET, .address = {127}, .prefix = 8},
        {.family = AF_INET6, .address = {[15] = 1}, .prefix = 128},
    };

    listen->allow_from = malloc(sizeof(loopback));
    if (!listen->allow_from)
        return LEAFD_NOMEM;
    memcpy(listen->allow_from, loopback, sizeof(loopback));
    listen->allow_from_count = 2;
    return LEAFD_OK;
}

static enum leafd_err allow_ourselves(struct conf_listen *listen)
{
    listen->allow_uid = calloc(2, sizeof(*listen->allow_uid));
    if (!listen->allow_uid)
        return LEAFD_NOMEM;
    listen->allow_uid_count = geteuid() == 0 ? 1 : 2; /* [0] is root */
    listen->allow_uid[1] = geteuid();
    return LEAFD_OK;
}

static bool listens_alike(const struct conf_listen *a, const struct conf_listen *b)
{
    if (a->is_unix != b->is_unix)
        return false;
    if (a->is_unix)
        return strcmp(a->path, b->path) == 0;
    if (a->address_len != b->address_len || memcmp(&a->address, &b->address, a->address_len) != 0)
        return false;
    return ((const struct sockaddr_in *)&a->address)->sin_port != 0; /* 0: each gets its own */
}

/* Rules that go over one listener's options, and the defaults that depend on them. */
static enum leafd_err finish_listener(const struct reader *reader, const struct setting *setting,
                                      size_t index)
{
    struct conf_listen *listen = &reader->conf->listen[index];
    enum leafd_err err = LEAFD_OK;

    if (!listen->is_unix && listen->address_len == 0)
        return bad_setting(reader, setting, "listen[]", "needs udp: ADDRESS:PORT or unix: PATH");
    if (listen->is_unix && listen->address_len != 0)
        return bad_setting(reader, setting, "listen[]",
                           "has udp and unix; make two listeners of it");
    if (listen->is_unix && listen->allow_from_count)
        return bad_setting(reader, setting, "listen[].allow_from",
                           "is for UDP; a Unix socket has allow_uid");
    if (!listen->is_unix && listen->allow_uid_count)
        return bad_setting(reader, setting, "listen[].allow_uid",
                           "is for Unix sockets; UDP has allow_from");
    for (size_t i = 0; i < index; i++) {
        if (listens_alike(listen, &reader->conf->listen[i]))
            return bad_setting(reader, setting, "listen[]", "has the address of another listener");
    }
    if (listen->is_unix && !listen->allow_uid_count)
        err = allow_ourselves(listen);
    if (!listen->is_unix && !listen->allow_from_count) {
        if (!address_is_loopback(&listen->address))
            return bad_setting(reader, setting, "listen[].allow_from",
                               "is missing: this address is not loopback and private keys travel "
                               "in clear; list the networks that may ask");
        err = allow_loopback(listen);
    }
    return err;
}

static enum leafd_err read_listener(const struct reader *reader, const struct setting *setting,
                                    size_t index)
{
    struct conf_listen *listen = &reader->conf->listen[index];
    struct settings *given;
    enum leafd_err err;

    if (setting->node->type != YAML_MAPPING_NODE)
        return bad_setting(reader, setting, "listen[]",
                           "must be a map, such as {udp: \"127.0.0.1:2999\"}");
    given = calloc(1, sizeof(*given));
    if (!given)
        return LEAFD_NOMEM;
    err = collect(reader, setting->document, setting->node, setting->place, "listen[]",
                  schema_listen_rows, schema_listen_row_count, given);
    for (size_t i = 0; err == LEAFD_OK && i < schema_listen_row_count; i++) {
        const struct schema_row *row = &schema_listen_rows[i];

        if (!given->of[i].node)
            continue;
        if (row->type == SCHEMA_NETS)
            err = read_nets(reader, &given->of[i], row->name, listen);
        else if (row->type == SCHEMA_UIDS)
            err = read_uids(reader, &given->of[i], row->name, listen);
        else
            err = set_setting(reader, listen, row, &given->of[i], row->name);
    }
    if (err == LEAFD_OK)
        err = finish_listener(reader, setting, index);
    free(given);
    return err;
}

static enum leafd_err read_listeners(const struct reader *reader, const struct setting *setting)
{
    struct conf *conf = reader->conf;
    size_t count;
    enum leafd_err err =
        entry_count(reader, setting, "listen", YAML_SEQUENCE_NODE, CONF_LISTEN_MAX, &count);

    if (err != LEAFD_OK)
        return err;
    if (count == 0)
        return bad_setting(reader, setting, "listen", "is empty: nobody could ask");
    conf->listen = calloc(count, sizeof(*conf->listen));
    if (!conf->listen)
        return LEAFD_NOMEM;
    conf->listen_count = count;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = entry_of(setting, i);

        err = read_listener(reader, &entry, i);
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

/* `listen` when nothing is said. */
static enum leafd_err default_listener(struct conf *conf)
{
    enum leafd_err err;

    conf->listen = calloc(1, sizeof(*conf->listen));
    if (!conf->listen)
        return LEAFD_NOMEM;
    conf->listen_count = 1;
    err = set_udp(&conf->listen[0], "127.0.0.1:2999", NULL);
    return err == LEAFD_OK ? allow_loopback(&conf->listen[0]) : err;
}

/* ---- the whole ---- */

static enum leafd_err read_structured(const struct reader *reader, const struct schema_row *row,
                                      const struct setting *setting)
{
    if (!setting->node) /* the zero value is the default of the others */
        return row->type == SCHEMA_LISTENERS ? default_listener(reader->conf) : LEAFD_OK;
    switch (row->type) {
    case SCHEMA_LISTENERS:
        return read_listeners(reader, setting);
    case SCHEMA_TOKENS:
        return LEAFD_OK; /* once `token` is read: see read_more_tokens */
    case SCHEMA_ENV:
        return read_env(reader, setting, row->name, &reader->conf->token[0]);
    case SCHEMA_NAMES:
        return read_deny(reader, setting, row->name);
    default:
        return read_untrusted(reader, row, setting);
    }
}

static const struct setting *setting_of(const struct reader *reader, const char *name)
{
    return &reader->settings.of[schema_find(name) - schema_rows];
}

/* Defaults are written as YAML; the only quoted scalar among them is the empty one. */
static const char *fallback_text(const struct schema_row *row)
{
    return strcmp(row->fallback, "\"\"") == 0 ? "" : row->fallback;
}

static enum leafd_err read_rows(struct reader *reader)
{
    for (size_t i = 0; i < schema_row_count; i++) {
        const struct schema_row *row = &schema_rows[i];
        struct setting *setting = &reader->settings.of[i];
        enum leafd_err err;

        if (is_structured(row)) {
            err = read_structured(reader, row, setting);
        } else if (setting->node || setting->text) {
            err = set_setting(reader, reader->conf, row, setting, row->name);
        } else if (row->required) {
            return bad(reader, NULL, 0, row->name, "is missing; for example: %s", row->sample);
        } else if (row->fallback) {
            err = set_scalar(reader, reader->conf, row, fallback_text(row), reader->why);
        } else {
            err = LEAFD_OK;
        }
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
    char name[SCHEMA_ROWS_MAX][NAME_ROOM];
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
        snprintf(rows->name[rows->count], NAME_ROOM, "more_tokens[].%s", from->name + 6);
        *row = *from;
        row->name = rows->name[rows->count];
        if (from->type != SCHEMA_ENV)
            row->offset -= offsetof(struct conf, token[0]);
        rows->from[rows->count++] = from;
    }
    rows->from[rows->count] = NULL;
    rows->row[rows->count++] = key;
}

/* Of pin_file and pin_env a map that has one does not take over the other. */
static bool is_taken_over(const struct schema_row *row, const struct settings *given,
                          const struct token_rows *rows)
{
    const char *other = strcmp(row->name, "more_tokens[].pin_file") == 0  ? "more_tokens[].pin_env"
                        : strcmp(row->name, "more_tokens[].pin_env") == 0 ? "more_tokens[].pin_file"
                                                                          : NULL;

    for (size_t i = 0; other && i < rows->count; i++)
        if (strcmp(rows->row[i].name, other) == 0)
            return !given->of[i].node;
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
        return read_env(reader, setting, row->name, token);
    if (setting->node || setting->text)
        return set_setting(reader, token, row, setting, row->name);
    if (row->fallback && row->type != SCHEMA_ENV)
        return set_scalar(reader, token, row, fallback_text(row), reader->why);
    return LEAFD_OK;
}

static enum leafd_err read_more_tokens(struct reader *reader)
{
    const struct setting *setting = setting_of(reader, "more_tokens");
    struct settings *given = calloc(1, sizeof(*given));
    struct token_rows *rows = calloc(1, sizeof(*rows));
    size_t count = 0;
    enum leafd_err err = given && rows ? LEAFD_OK : LEAFD_NOMEM;

    reader->conf->token_count = 1;
    if (err == LEAFD_OK && setting->node)
        err = entry_count(reader, setting, "more_tokens", YAML_SEQUENCE_NODE, CONF_TOKEN_MAX - 1,
                          &count);
    if (err == LEAFD_OK)
        token_rows_make(rows);
    for (size_t i = 0; i < count && err == LEAFD_OK; i++) {
        struct setting entry = entry_of(setting, i);
        struct conf_token *token = &reader->conf->token[1 + i];

        reader->conf->token_count = 2 + i;
        memset(given, 0, sizeof(*given));
        if (entry.node->type != YAML_MAPPING_NODE)
            err = bad_setting(reader, &entry, "more_tokens[]",
                              "must be a map, such as {module: /usr/lib/vendor/pkcs11.so}");
        if (err == LEAFD_OK)
            err = collect(reader, entry.document, entry.node, entry.place, "more_tokens[]",
                          rows->row, rows->count, given);
        for (size_t j = 0; j < rows->count && err == LEAFD_OK; j++)
            err = read_token_row(reader, rows, j, given, token);
    }
    free(given);
    free(rows);
    return err;
}

/* ---- rules that go over several options ---- */

/* A URI stays as it is; with token.access: file it is a path, made absolute. */
static enum leafd_err check_ca_key(const struct reader *reader, const char *name,
                                   enum conf_access access, char **key)
{
    const struct setting *setting =
        setting_of(reader, strncmp(name, "more_tokens", 11) == 0 ? "more_tokens" : name);
    bool is_uri = strncmp(*key, "pkcs11:", 7) == 0;
    struct why reason = {""};
    char *path = NULL;
    enum leafd_err err;

    if (is_uri && strcasestr(*key, "pin-value"))
        return bad_setting(reader, setting, name,
                           "must not hold the PIN, since every process of leafd reads this file; "
                           "put it into token.pin_file");
    if (access != CONF_ACCESS_FILE)
        return is_uri ? LEAFD_OK
                      : bad_setting(reader, setting, name,
                                    "must be a URI, such as \"pkcs11:token=leafd;object=ca;"
                                    "type=private\"");
    if (is_uri)
        return bad_setting(reader, setting, name,
                           "must be the path of a PEM file, since token.access is file");
    err = set_path(reader, &path, *key, &reason);
    if (err != LEAFD_OK)
        return err == LEAFD_CONFIG ? bad_setting(reader, setting, name, reason.text) : err;
    free(*key);
    *key = path;
    return LEAFD_OK;
}

static enum leafd_err check_token(const struct reader *reader, size_t index)
{
    struct conf_token *token = &reader->conf->token[index];
    const struct setting *more = setting_of(reader, "more_tokens");
    const struct setting *pin_env = index ? more : setting_of(reader, "token.pin_env");

    if (token->access != CONF_ACCESS_FILE && !token->module)
        return bad(reader, NULL, 0, index ? "more_tokens[].module" : "token.module",
                   "is missing; for example: /usr/lib/softhsm/libsofthsm2.so");
    if (token->pin_file && token->pin_env)
        return bad_setting(reader, pin_env, index ? "more_tokens[].pin_env" : "token.pin_env",
                           "and token.pin_file exclude each other; keep one");
    if (token->pin_env && !is_variable(token->pin_env))
        return bad_setting(reader, pin_env, index ? "more_tokens[].pin_env" : "token.pin_env",
                           "is no name of an environment variable");
    if (token->key)
        return check_ca_key(reader, "more_tokens[].key", token->access, &token->key);
    if ((token->access == CONF_ACCESS_FILE) != (reader->conf->token[0].access == CONF_ACCESS_FILE))
        return bad_setting(reader, more, "more_tokens[].key",
                           "is missing: a key file and a key in a token are not named alike");
    return LEAFD_OK;
}

/* What is wrong with a URL that goes into every leaf; NULL: nothing. Its characters are those of
 * RFC 3986 section 2, without the # of a fragment, which is never sent. */
static const char *fault_of_crl_url(const char *url)
{
    static const char marks[] = "-._~:/?[]@!$&'()*+,;=%";
    const char *host = url + strlen("http://");

    if (strncasecmp(url, "https://", 8) == 0)
        return "must be an http:// URL: clients do not fetch revocation lists over https, whose "
               "own certificate they would have to check first";
    if (strncmp(url, "http://", 7) != 0 || *host == '\0' || strchr("/?:@", *host))
        return "must be a whole http:// URL, such as http://crl.example.org/ca.crl";
    for (const char *c = url; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');

        if (!letter && !(*c >= '0' && *c <= '9') && !strchr(marks, *c))
            return "holds a character that a URL cannot have; write it as % and two hexadecimal "
                   "digits";
    }
    if (strlen(url) > CONF_URL_MAX)
        return "is longer than 512 characters";
    return NULL;
}

static enum leafd_err check_crl_url(const struct reader *reader)
{
    const char *url = reader->conf->ca_crl_url;
    const char *fault = url ? fault_of_crl_url(url) : NULL;

    if (fault)
        return bad_setting(reader, setting_of(reader, "ca.crl_url"), "ca.crl_url", fault);
    return LEAFD_OK;
}

static enum leafd_err check_marks(const struct reader *reader)
{
    const struct conf *conf = reader->conf;

    if (conf->keys_rsa_low > conf->keys_rsa_high)
        return bad_setting(reader, setting_of(reader, "keys.rsa_low"), "keys.rsa_low",
                           "is higher than keys.rsa_high");
    if (conf->keys_ec_low > conf->keys_ec_high)
        return bad_setting(reader, setting_of(reader, "keys.ec_low"), "keys.ec_low",
                           "is higher than keys.ec_high");
    return LEAFD_OK;
}

static enum leafd_err check_sockets(const struct reader *reader)
{
    struct conf *conf = reader->conf;
    struct why reason;

    if (asprintf(&conf->supervisor_socket, "%s.supervisor", conf->control_socket) == -1) {
        conf->supervisor_socket = NULL;
        return LEAFD_NOMEM;
    }
    if (check_socket_path(conf->supervisor_socket, &reason) != LEAFD_OK)
        return bad_setting(
            reader, setting_of(reader, "control.socket"), "control.socket",
            "is too long: with .supervisor behind it, for a second socket, it has to "
            "fit into 107 characters");
    if (check_socket_path(conf->admin_unix, &reason) != LEAFD_OK)
        return bad_setting(reader, setting_of(reader, "admin.unix"), "admin.unix", reason.text);
    return LEAFD_OK;
}

static enum leafd_err check_whole(const struct reader *reader)
{
    struct conf *conf = reader->conf;
    enum leafd_err err;

    conf->ca_count = 1;
    for (size_t i = 0; i < conf->token_count; i++)
        if ((err = check_token(reader, i)) != LEAFD_OK)
            return err;
    if ((err = check_ca_key(reader, "ca.key", conf->token[0].access, &conf->ca[0].key)) != LEAFD_OK)
        return err;
    if (conf->untrusted == CONF_UNTRUSTED_FILE &&
        (err = check_ca_key(reader, "untrusted_ca", conf->token[0].access,
                            &conf->untrusted_ca.key)) != LEAFD_OK)
        return err;
    if ((err = check_crl_url(reader)) != LEAFD_OK || (err = check_marks(reader)) != LEAFD_OK)
        return err;
    return check_sockets(reader);
}

static enum leafd_err read_all(struct reader *reader, struct bytes text,
                               const char *const *overrides, size_t override_count,
                               yaml_document_t *documents, size_t *document_count)
{
    enum leafd_err err;

    if (override_count > OVERRIDES_MAX)
        return bad(reader, "-o", 0, NULL, "is given more than %d times", OVERRIDES_MAX);
    err = document_load(reader, text, NULL, &documents[0]);
    if (err != LEAFD_OK)
        return err;
    *document_count = 1;
    err = collect_file(reader, &documents[0]);
    for (size_t i = 0; err == LEAFD_OK && i < override_count; i++) {
        bool used = false;

        err = collect_override(reader, overrides[i], &documents[*document_count], &used);
        *document_count += used;
    }
    if (err == LEAFD_OK)
        err = read_rows(reader);
    if (err == LEAFD_OK)
        err = read_more_tokens(reader);
    return err == LEAFD_OK ? check_whole(reader) : err;
}

enum leafd_err conf_load(struct bytes text, const char *file, const char *dir,
                         const char *const *overrides, size_t override_count, struct conf **ret,
                         struct why *why)
{
    struct why nobody;
    struct reader *reader = calloc(1, sizeof(*reader));
    yaml_document_t *documents = calloc(override_count + 1, sizeof(*documents));
    size_t document_count = 0;
    enum leafd_err err = LEAFD_NOMEM;

    if (!reader || !documents)
        goto out;
    *reader = (struct reader){.file = file, .dir = dir, .why = why ? why : &nobody};
    reader->conf = calloc(1, sizeof(*reader->conf));
    if (!reader->conf)
        goto out;
    err = set_text(&reader->conf->file, file);
    if (err == LEAFD_OK && dir)
        err = set_text(&reader->conf->dir, dir);
    if (err == LEAFD_OK)
        err = read_all(reader, text, overrides, override_count, documents, &document_count);
    if (err != LEAFD_OK)
        goto out;
    *ret = reader->conf; /* now the caller's */
    reader->conf = NULL;
out:
    for (size_t i = 0; i < document_count; i++)
        yaml_document_delete(&documents[i]);
    free(documents);
    if (reader)
        conf_free(reader->conf);
    free(reader);
    if (err == LEAFD_NOMEM)
        return fail(why, err, "out of memory while reading the configuration");
    return err;
}

static void ca_clear(struct conf_ca *ca)
{
    free(ca->certificate);
    free(ca->key);
}

static void token_clear(struct conf_token *token)
{
    for (size_t i = 0; i < token->env_count; i++) {
        free(token->env[i].name);
        free(token->env[i].value);
    }
    free(token->module);
    free(token->env);
    free(token->init_args);
    free(token->pin_file);
    free(token->pin_env);
    free(token->key);
}

static void listen_clear(struct conf_listen *listen)
{
    free(listen->path);
    free(listen->allow_from);
    free(listen->allow_uid);
    free(listen->text);
}

void conf_free(struct conf *conf)
{
    if (!conf)
        return;
    for (size_t i = 0; i < conf->listen_count; i++)
        listen_clear(&conf->listen[i]);
    for (size_t i = 0; i < CONF_CA_MAX; i++)
        ca_clear(&conf->ca[i]);
    for (size_t i = 0; i < CONF_TOKEN_MAX; i++)
        token_clear(&conf->token[i]);
    for (size_t i = 0; i < conf->deny_count; i++)
        free(conf->deny[i]);
    ca_clear(&conf->untrusted_ca);
    free(conf->file);
    free(conf->dir);
    free(conf->listen);
    free(conf->user_front);
    free(conf->user_signer);
    free(conf->ca_crl_url);
    free(conf->ca_crl_file);
    free(conf->deny);
    free(conf->control_socket);
    free(conf->supervisor_socket);
    free(conf->admin_unix);
    free(conf);
}
