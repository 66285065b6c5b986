/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/listeners.h"

#include "conf/fields.h"
#include "conf/values.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- lists of who may ask ---- */

static enum leafd_err read_nets(const struct reader *reader, const struct setting *setting,
                                const char *key, struct conf_listen *listen)
{
    size_t count;
    enum leafd_err err =
        setting_entries(reader, setting, key, YAML_SEQUENCE_NODE, READER_LIST_MAX, &count);

    if (err != LEAFD_OK)
        return err;
    if (count == 0)
        return setting_fault(reader, setting, key, "is empty: nobody would be answered");
    listen->allow_from = calloc(count, sizeof(*listen->allow_from));
    if (!listen->allow_from)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = setting_entry(setting, i);
        struct why reason = {""};
        const char *text = NULL;

        err = setting_text(reader, &entry, key, &text);
        if (err != LEAFD_OK)
            return err;
        if (value_net(text, &listen->allow_from[i], &reason) != LEAFD_OK)
            return setting_fault(reader, &entry, key, reason.text);
        listen->allow_from_count = i + 1;
    }
    return LEAFD_OK;
}

static enum leafd_err read_uids(const struct reader *reader, const struct setting *setting,
                                const char *key, struct conf_listen *listen)
{
    size_t count;
    enum leafd_err err =
        setting_entries(reader, setting, key, YAML_SEQUENCE_NODE, READER_LIST_MAX, &count);

    if (err != LEAFD_OK)
        return err;
    if (count == 0)
        return setting_fault(reader, setting, key, "is empty: nobody would be answered");
    listen->allow_uid = calloc(count, sizeof(*listen->allow_uid));
    if (!listen->allow_uid)
        return LEAFD_NOMEM;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = setting_entry(setting, i);
        struct why reason = {""};
        const char *text = NULL;
        int64_t uid;

        err = setting_text(reader, &entry, key, &text);
        if (err != LEAFD_OK)
            return err;
        if (value_count(text, 0, UINT32_MAX - 1, &uid, &reason) != LEAFD_OK)
            return setting_fault(reader, &entry, key, reason.text);
        listen->allow_uid[i] = (uid_t)uid;
        listen->allow_uid_count = i + 1;
    }
    return LEAFD_OK;
}

/* ---- one listener ---- */

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
        return setting_fault(reader, setting, "listen[]", "needs udp: ADDRESS:PORT or unix: PATH");
    if (listen->is_unix && listen->address_len != 0)
        return setting_fault(reader, setting, "listen[]",
                             "has udp and unix; make two listeners of it");
    if (listen->is_unix && listen->allow_from_count)
        return setting_fault(reader, setting, "listen[].allow_from",
                             "is for UDP; a Unix socket has allow_uid");
    if (!listen->is_unix && listen->allow_uid_count)
        return setting_fault(reader, setting, "listen[].allow_uid",
                             "is for Unix sockets; UDP has allow_from");
    for (size_t i = 0; i < index; i++) {
        if (listens_alike(listen, &reader->conf->listen[i]))
            return setting_fault(reader, setting, "listen[]",
                                 "has the address of another listener");
    }
    if (listen->is_unix && !listen->allow_uid_count)
        err = allow_ourselves(listen);
    if (!listen->is_unix && !listen->allow_from_count) {
        if (!address_is_loopback(&listen->address))
            return setting_fault(reader, setting, "listen[].allow_from",
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
        return setting_fault(reader, setting, "listen[]",
                             "must be a map, such as {udp: \"127.0.0.1:2999\"}");
    given = calloc(1, sizeof(*given));
    if (!given)
        return LEAFD_NOMEM;
    err = reader_collect(reader, setting->document, setting->node, setting->place, "listen[]",
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
            err = field_read(reader, listen, row, &given->of[i], row->name);
    }
    if (err == LEAFD_OK)
        err = finish_listener(reader, setting, index);
    free(given);
    return err;
}

enum leafd_err listeners_read(const struct reader *reader, const struct setting *setting)
{
    struct conf *conf = reader->conf;
    size_t count;
    enum leafd_err err =
        setting_entries(reader, setting, "listen", YAML_SEQUENCE_NODE, CONF_LISTEN_MAX, &count);

    if (err != LEAFD_OK)
        return err;
    if (count == 0)
        return setting_fault(reader, setting, "listen", "is empty: nobody could ask");
    conf->listen = calloc(count, sizeof(*conf->listen));
    if (!conf->listen)
        return LEAFD_NOMEM;
    conf->listen_count = count;
    for (size_t i = 0; i < count; i++) {
        struct setting entry = setting_entry(setting, i);

        err = read_listener(reader, &entry, i);
        if (err != LEAFD_OK)
            return err;
    }
    return LEAFD_OK;
}

enum leafd_err listeners_default(struct conf *conf)
{
    enum leafd_err err;

    conf->listen = calloc(1, sizeof(*conf->listen));
    if (!conf->listen)
        return LEAFD_NOMEM;
    conf->listen_count = 1;
    err = field_set_udp(&conf->listen[0], "127.0.0.1:2999", NULL);
    return err == LEAFD_OK ? allow_loopback(&conf->listen[0]) : err;
}
