/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "conf/rules.h"

#include "conf/fields.h"
#include "conf/values.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A URI stays as it is; with token.access: file it is a path, made absolute. */
static enum leafd_err check_ca_key(const struct reader *reader, const char *name,
                                   enum conf_access access, char **key)
{
    const struct setting *setting =
        reader_setting(reader, strncmp(name, "more_tokens", 11) == 0 ? "more_tokens" : name);
    bool is_uri = strncmp(*key, "pkcs11:", 7) == 0;
    struct why reason = {""};
    char *path = NULL;
    enum leafd_err err;

    if (is_uri && strcasestr(*key, "pin-value"))
        return setting_fault(reader, setting, name,
                             "must not hold the PIN, since every process of leafd reads this file; "
                             "put it into token.pin_file");
    if (access != CONF_ACCESS_FILE)
        return is_uri ? LEAFD_OK
                      : setting_fault(reader, setting, name,
                                      "must be a URI, such as \"pkcs11:token=leafd;object=ca;"
                                      "type=private\"");
    if (is_uri)
        return setting_fault(reader, setting, name,
                             "must be the path of a PEM file, since token.access is file");
    err = field_set_path(reader, &path, *key, &reason);
    if (err != LEAFD_OK)
        return err == LEAFD_CONFIG ? setting_fault(reader, setting, name, reason.text) : err;
    free(*key);
    *key = path;
    return LEAFD_OK;
}

static enum leafd_err check_token(const struct reader *reader, size_t index)
{
    struct conf_token *token = &reader->conf->token[index];
    const struct setting *more = reader_setting(reader, "more_tokens");
    const struct setting *pin_env = index ? more : reader_setting(reader, "token.pin_env");

    if (token->access != CONF_ACCESS_FILE && !token->module)
        return reader_fault(reader, NULL, 0, index ? "more_tokens[].module" : "token.module",
                            "is missing; for example: /usr/lib/softhsm/libsofthsm2.so");
    if (token->pin_file && token->pin_env)
        return setting_fault(reader, pin_env, index ? "more_tokens[].pin_env" : "token.pin_env",
                             "and token.pin_file exclude each other; keep one");
    if (token->pin_prompt == CONF_PIN_PROMPT_YES && (token->pin_file || token->pin_env))
        return setting_fault(reader, index ? more : reader_setting(reader, "token.pin_prompt"),
                             index ? "more_tokens[].pin_prompt" : "token.pin_prompt",
                             "is yes, which excludes token.pin_file and token.pin_env; keep one");
    if (token->pin_env && !value_is_variable(token->pin_env))
        return setting_fault(reader, pin_env, index ? "more_tokens[].pin_env" : "token.pin_env",
                             "is no name of an environment variable");
    if (token->key)
        return check_ca_key(reader, "more_tokens[].key", token->access, &token->key);
    if ((token->access == CONF_ACCESS_FILE) != (reader->conf->token[0].access == CONF_ACCESS_FILE))
        return setting_fault(reader, more, "more_tokens[].key",
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
        return setting_fault(reader, reader_setting(reader, "ca.crl_url"), "ca.crl_url", fault);
    return LEAFD_OK;
}

static enum leafd_err check_marks(const struct reader *reader)
{
    const struct conf *conf = reader->conf;

    if (conf->keys_rsa_low > conf->keys_rsa_high)
        return setting_fault(reader, reader_setting(reader, "keys.rsa_low"), "keys.rsa_low",
                             "is higher than keys.rsa_high");
    if (conf->keys_ec_low > conf->keys_ec_high)
        return setting_fault(reader, reader_setting(reader, "keys.ec_low"), "keys.ec_low",
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
    if (value_socket_path(conf->supervisor_socket, &reason) != LEAFD_OK)
        return setting_fault(
            reader, reader_setting(reader, "control.socket"), "control.socket",
            "is too long: with .supervisor behind it, for a second socket, it has to "
            "fit into 107 characters");
    if (value_socket_path(conf->admin_unix, &reason) != LEAFD_OK)
        return setting_fault(reader, reader_setting(reader, "admin.unix"), "admin.unix",
                             reason.text);
    return LEAFD_OK;
}

enum leafd_err rules_check(const struct reader *reader)
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
