/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/conf.h"

#include "conf/fields.h"
#include "conf/listeners.h"
#include "conf/reader.h"
#include "conf/rules.h"
#include "conf/tokens.h"
#include "conf/values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OVERRIDES_MAX = 256 };

/* ---- options with values of several kinds ---- */

static enum leafd_err read_deny(const struct reader *reader, const struct setting *setting,
                                const char *key)
{
    struct conf *conf = reader->conf;
    size_t count;
    enum leafd_err err =
        setting_entries(reader, setting, key, YAML_SEQUENCE_NODE, READER_LIST_MAX, &count);

    if (err != LEAFD_OK || count == 0)
        return err;
    conf->deny = calloc(count, sizeof(*conf->deny));
    if (!conf->deny)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = setting_entry(setting, i);
        struct why reason = {""};
        const char *text = NULL;

        err = setting_text(reader, &entry, key, &text);
        if (err == LEAFD_OK && value_denied(text, &reason) != LEAFD_OK)
            err = setting_fault(reader, &entry, key, reason.text);
        if (err == LEAFD_OK)
            err = field_set_text(&conf->deny[i], text);
        if (err != LEAFD_OK)
            return err;
        conf->deny_count = i + 1;
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
    err = reader_collect(reader, setting->document, setting->node, setting->place, key, rows, 2,
                         settings);
    for (size_t i = 0; err == LEAFD_OK && i < 2; i++) {
        if (!settings->of[i].node)
            err = setting_fault(reader, setting, rows[i].name, "is missing");
        else
            err = field_read(reader, &reader->conf->untrusted_ca, &rows[i], &settings->of[i],
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
    err = setting_text(reader, setting, row->name, &text);
    if (err != LEAFD_OK)
        return err;
    if (field_word(row, text, &value, &reason) != LEAFD_OK)
        return setting_fault(reader, setting, row->name, reason.text);
    reader->conf->untrusted = (enum conf_untrusted)value;
    return LEAFD_OK;
}

/* ---- the whole ---- */

static enum leafd_err read_structured(const struct reader *reader, const struct schema_row *row,
                                      const struct setting *setting)
{
    if (!setting->node) /* the zero value is the default of the others */
        return row->type == SCHEMA_LISTENERS ? listeners_default(reader->conf) : LEAFD_OK;
    switch (row->type) {
    case SCHEMA_LISTENERS:
        return listeners_read(reader, setting);
    case SCHEMA_TOKENS:
        return LEAFD_OK; /* once `token` is read: see more_tokens_read */
    case SCHEMA_ENV:
        return token_env_read(reader, setting, row->name, &reader->conf->token[0]);
    case SCHEMA_NAMES:
        return read_deny(reader, setting, row->name);
    default:
        return read_untrusted(reader, row, setting);
    }
}

static enum leafd_err read_rows(struct reader *reader)
{
    for (size_t i = 0; i < schema_row_count; i++) {
        const struct schema_row *row = &schema_rows[i];
        struct setting *setting = &reader->settings.of[i];
        enum leafd_err err;

        if (schema_is_structured(row)) {
            err = read_structured(reader, row, setting);
        } else if (setting->node || setting->text) {
            err = field_read(reader, reader->conf, row, setting, row->name);
        } else if (row->required) {
            return reader_fault(reader, NULL, 0, row->name, "is missing; for example: %s",
                                row->sample);
        } else {
            err = field_set_fallback(reader, reader->conf, row);
        }
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

static enum leafd_err read_all(struct reader *reader, struct bytes text,
                               const char *const *overrides, size_t override_count,
                               yaml_document_t *documents, size_t *document_count)
{
    enum leafd_err err;

    if (override_count > OVERRIDES_MAX)
        return reader_fault(reader, "-o", 0, NULL, "is given more than %d times", OVERRIDES_MAX);
    err = reader_load(reader, text, NULL, &documents[0]);
    if (err != LEAFD_OK)
        return err;
    *document_count = 1;
    err = reader_collect_file(reader, &documents[0]);
    for (size_t i = 0; err == LEAFD_OK && i < override_count; i++) {
        bool used = false;

        err = reader_collect_override(reader, overrides[i], &documents[*document_count], &used);
        *document_count += used;
    }
    if (err == LEAFD_OK)
        err = read_rows(reader);
    if (err == LEAFD_OK)
        err = more_tokens_read(reader);
    return err == LEAFD_OK ? rules_check(reader) : err;
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
    err = field_set_text(&reader->conf->file, file);
    if (err == LEAFD_OK && dir)
        err = field_set_text(&reader->conf->dir, dir);
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
    free(token->provider);
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

const char *conf_token_key(const struct conf *conf, size_t token, size_t ca)
{
    const char *own = conf->token[token].key; /* of the first CA */

    return ca == 0 && own ? own : conf->ca[ca].key;
}

const char *conf_token_section(size_t number, char out[static CONF_SECTION_SIZE])
{
    if (number == 0)
        snprintf(out, CONF_SECTION_SIZE, "token");
    else
        snprintf(out, CONF_SECTION_SIZE, "more_tokens[%zu]", number - 1);
    return out;
}
