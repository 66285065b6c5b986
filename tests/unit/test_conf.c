/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "tests/lib/unit.h"

#include "conf/conf.h"
#include "conf/schema.h"
#include "conf/values.h"
#include "der/spki.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The least that is a configuration; tests put their lines behind it. */
#define LEAST                                                                                      \
    "ca: {certificate: ca.pem, key: \"pkcs11:token=t;object=ca\"}\n"                               \
    "token: {module: /m.so}\n"

/* Without a token. */
static const char base[] = "ca: {certificate: ca.pem, key: \"pkcs11:token=t\"}\n";

static struct conf *load_with(const char *text, const char *dir, const char *const *overrides,
                              size_t count, struct why *why)
{
    struct conf *conf = NULL;
    enum leafd_err err = conf_load(bytes_of(text), "f.yaml", dir, overrides, count, &conf, why);

    if (err != LEAFD_OK)
        assert_int_equal(err, LEAFD_CONFIG);
    assert_true((err == LEAFD_OK) == (conf != NULL));
    return conf;
}

static struct conf *load(const char *text)
{
    struct why why = {""};
    struct conf *conf = load_with(text, "/etc/leafd", NULL, 0, &why);

    if (!conf)
        fail_msg("%s", why.text);
    return conf;
}

/* Must be refused, with this in its sentence. */
static void refused(const char *text, const char *sentence)
{
    struct why why = {""};
    struct conf *conf = load_with(text, "/etc/leafd", NULL, 0, &why);

    if (conf)
        fail_msg("taken: %s", text);
    if (!strstr(why.text, sentence))
        fail_msg("\"%s\" is not in \"%s\"", sentence, why.text);
}

static void defaults_are_those_of_the_manual(void **state)
{
    struct conf *conf = load(LEAST);
    const struct sockaddr_in *in4 = (const struct sockaddr_in *)&conf->listen[0].address;

    (void)state;
    assert_int_equal(conf->listen_count, 1);
    assert_int_equal(in4->sin_family, AF_INET);
    assert_int_equal(ntohs(in4->sin_port), 2999);
    assert_string_equal(conf->listen[0].text, "127.0.0.1:2999");
    assert_int_equal(conf->listen[0].allow_from_count, 2);
    assert_int_equal(conf->listen[0].allow_from[0].prefix, 8);
    assert_int_equal(conf->listen[0].cert_format, CONF_CERT_PEM);
    assert_int_equal(conf->listen[0].key_format, CONF_KEY_BY_DIALECT);
    assert_int_equal(conf->listen_threads, 0);
    assert_int_equal(conf->receive_buffer, 4 << 20);
    assert_string_equal(conf->user_front, "leafd");
    assert_string_equal(conf->user_signer, "leafd-signer");
    assert_int_equal(conf->log_level, LOG_LEVEL_INFO);
    assert_int_equal(conf->ca_count, 1);
    assert_string_equal(conf->ca[0].certificate, "/etc/leafd/ca.pem");
    assert_string_equal(conf->ca[0].key, "pkcs11:token=t;object=ca");
    assert_false(conf->ca_append_root);
    assert_int_equal(conf->ca_rsa_padding, CONF_RSA_PKCS1);
    assert_null(conf->ca_crl_url);
    assert_null(conf->ca_crl_file);
    assert_int_equal(conf->untrusted, CONF_UNTRUSTED_AUTO);
    assert_int_equal(conf->token[0].access, CONF_ACCESS_AUTO);
    assert_null(conf->token[0].pin_file);
    assert_null(conf->token[0].pin_env);
    assert_int_equal(conf->token[0].pin_prompt, CONF_PIN_PROMPT_AUTO);
    assert_int_equal(conf->token[0].sessions, 16);
    assert_int_equal(conf->token[0].timeout_ms, 2000);
    assert_true(conf->signer_max_rate == 0);
    assert_int_equal(conf->leaf_lifetime_sec, 90 * 86400);
    assert_int_equal(conf->leaf_key, CONF_LEAF_KEY_COMPATIBLE);
    assert_int_equal(conf->leaf_rsa_bits, 2048);
    assert_true(conf->mimic_upstream_verified);
    assert_int_equal(conf->mimic_self_signed, CONF_SELF_SIGNED_UNTRUSTED);
    assert_int_equal(conf->mimic_fallback, CONF_FALLBACK_ERROR);
    assert_int_equal(conf->deny_count, 0);
    assert_int_equal(conf->ttl_max_sec, 86400);
    assert_int_equal(conf->errors_per_source, 50);
    assert_int_equal(conf->errors_global, 1000);
    assert_true(conf->keys_share);
    assert_int_equal(conf->keys_rsa_match, CONF_RSA_MATCH_BEST_EFFORT);
    assert_int_equal(conf->keys_rsa_low, 4);
    assert_int_equal(conf->keys_rsa_high, 16);
    assert_int_equal(conf->keys_ec_low, 64);
    assert_int_equal(conf->keys_ec_high, 256);
    assert_int_equal(conf->cache_max_bytes, 64 << 20);
    assert_int_equal(conf->flights_max, 4096);
    assert_int_equal(conf->flight_waiters_max, 1024);
    assert_int_equal(conf->cache_new_per_domain, 0);
    assert_string_equal(conf->control_socket, "/run/leafd/control.sock");
    assert_null(conf->admin_unix);
    assert_int_equal(ntohs(((const struct sockaddr_in *)&conf->admin_address)->sin_port), 2998);
    assert_false(conf->insecure_file_key);
    conf_free(conf);
}

static void every_option_is_taken(void **state)
{
    struct conf *conf =
        load("listen:\n"
             "  - udp: \"[2001:db8::1]:0\"\n"
             "    allow_from: [\"2001:db8::/32\", 192.0.2.7]\n"
             "    cert_format: der\n"
             "    key_format: pem\n"
             "  - unix: leafd.sock\n"
             "    allow_uid: [0, 1000]\n"
             "listen_threads: 2\n"
             "receive_buffer: 128KiB\n"
             "user: {front: \"61184\", signer: 61185}\n"
             "log: {level: debug}\n"
             "ca:\n"
             "  certificate: /x/ca.pem\n"
             "  key: \"pkcs11:token=t\"\n"
             "  append_root: yes\n"
             "  rsa_padding: pss\n"
             "  crl_url: http://crl.example/ca.crl\n"
             "  crl_file: ca.crl\n"
             "untrusted_ca: {certificate: u.pem, key: \"pkcs11:token=u\"}\n"
             "token:\n"
             "  access: native\n"
             "  module: m.so\n"
             "  env: {SOFTHSM2_CONF: /s.conf, EMPTY: \"\"}\n"
             "  pin_env: TOKEN_PIN\n"
             "  sessions: 4\n"
             "  timeout: 1500ms\n"
             "signer: {max_rate: 12.5}\n"
             "leaf: {lifetime: 48h, key: ec-p384, rsa_bits: 3072}\n"
             "mimic: {upstream_verified: no, self_signed: refuse, fallback: fresh}\n"
             "policy: {deny: [example.org, .b.example, 10.0.0.0/8, \"::/0\"]}\n"
             "ttl: {max: 5m}\n"
             "errors: {per_source: 0, global: 0}\n"
             "keys: {share: no, rsa_low: 0, rsa_high: 1, ec_low: 1, ec_high: 2}\n"
             "cache: {max_size: 1GiB, max_flights: 1, max_waiters: 2, "
             "new_per_domain: 3}\n"
             "control: {socket: c.sock}\n"
             "admin: {unix: a.sock, address: \"\"}\n");

    (void)state;
    assert_int_equal(conf->listen_count, 2);
    assert_false(conf->listen[0].is_unix);
    assert_int_equal(conf->listen[0].allow_from_count, 2);
    assert_int_equal(conf->listen[0].allow_from[0].family, AF_INET6);
    assert_int_equal(conf->listen[0].allow_from[0].prefix, 32);
    assert_int_equal(conf->listen[0].allow_from[1].prefix, 32);
    assert_int_equal(conf->listen[0].cert_format, CONF_CERT_DER);
    assert_int_equal(conf->listen[0].key_format, CONF_KEY_PEM);
    assert_true(conf->listen[1].is_unix);
    assert_string_equal(conf->listen[1].path, "/etc/leafd/leafd.sock");
    assert_int_equal(conf->listen[1].allow_uid_count, 2);
    assert_int_equal(conf->listen[1].allow_uid[1], 1000);
    assert_int_equal(conf->listen_threads, 2);
    assert_int_equal(conf->receive_buffer, 128 << 10);
    assert_string_equal(conf->user_front, "61184");
    assert_string_equal(conf->user_signer, "61185");
    assert_int_equal(conf->log_level, LOG_LEVEL_DEBUG);
    assert_string_equal(conf->ca[0].certificate, "/x/ca.pem");
    assert_true(conf->ca_append_root);
    assert_int_equal(conf->ca_rsa_padding, CONF_RSA_PSS);
    assert_string_equal(conf->ca_crl_url, "http://crl.example/ca.crl");
    assert_string_equal(conf->ca_crl_file, "/etc/leafd/ca.crl");
    assert_int_equal(conf->untrusted, CONF_UNTRUSTED_FILE);
    assert_string_equal(conf->untrusted_ca.certificate, "/etc/leafd/u.pem");
    assert_string_equal(conf->untrusted_ca.key, "pkcs11:token=u");
    assert_int_equal(conf->token[0].access, CONF_ACCESS_NATIVE);
    assert_string_equal(conf->token[0].module, "/etc/leafd/m.so");
    assert_int_equal(conf->token[0].env_count, 2);
    assert_string_equal(conf->token[0].env[0].name, "SOFTHSM2_CONF");
    assert_string_equal(conf->token[0].env[1].value, "");
    assert_string_equal(conf->token[0].pin_env, "TOKEN_PIN");
    assert_int_equal(conf->token[0].sessions, 4);
    assert_int_equal(conf->token[0].timeout_ms, 1500);
    assert_true(conf->signer_max_rate == 12.5);
    assert_int_equal(conf->leaf_lifetime_sec, 2 * 86400);
    assert_int_equal(conf->leaf_key, CONF_LEAF_KEY_TYPE);
    assert_int_equal(conf->leaf_key_type, KEY_TYPE_P384);
    assert_int_equal(conf->leaf_rsa_bits, 3072);
    assert_false(conf->mimic_upstream_verified);
    assert_int_equal(conf->mimic_self_signed, CONF_SELF_SIGNED_REFUSE);
    assert_int_equal(conf->mimic_fallback, CONF_FALLBACK_FRESH);
    assert_int_equal(conf->deny_count, 4);
    assert_string_equal(conf->deny[1], ".b.example");
    assert_int_equal(conf->ttl_max_sec, 300);
    assert_int_equal(conf->errors_global, 0);
    assert_false(conf->keys_share);
    assert_int_equal(conf->keys_rsa_high, 1);
    assert_int_equal(conf->cache_max_bytes, 1 << 30);
    assert_int_equal(conf->cache_new_per_domain, 3);
    assert_string_equal(conf->control_socket, "/etc/leafd/c.sock");
    assert_string_equal(conf->admin_unix, "/etc/leafd/a.sock");
    assert_int_equal(conf->admin_address_len, 0);
    conf_free(conf);
}

static void leaf_keys_by_name(void **state)
{
    static const struct {
        const char *word;
        enum conf_leaf_key key;
        int type;
    } rows[] = {
        {"compatible", CONF_LEAF_KEY_COMPATIBLE, KEY_TYPE_NONE},
        {"upstream", CONF_LEAF_KEY_UPSTREAM, KEY_TYPE_NONE},
        {"rsa", CONF_LEAF_KEY_TYPE, KEY_TYPE_RSA},
        {"ec-p256", CONF_LEAF_KEY_TYPE, KEY_TYPE_P256},
        {"ec-p384", CONF_LEAF_KEY_TYPE, KEY_TYPE_P384},
        {"ec-p521", CONF_LEAF_KEY_TYPE, KEY_TYPE_P521},
        {"ed25519", CONF_LEAF_KEY_TYPE, KEY_TYPE_ED25519},
        {"ed448", CONF_LEAF_KEY_TYPE, KEY_TYPE_ED448},
        {"sm2", CONF_LEAF_KEY_TYPE, KEY_TYPE_SM2},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[256];
        struct conf *conf;

        snprintf(text, sizeof(text), LEAST "leaf: {key: %s}\n", rows[i].word);
        conf = load(text);
        assert_int_equal(conf->leaf_key, rows[i].key);
        assert_int_equal(conf->leaf_key_type, rows[i].type);
        conf_free(conf);
    }
}

static void refusals_name_file_line_key_and_reason(void **state)
{
    static const struct {
        const char *text;
        const char *sentence;
    } rows[] = {
        /* keys */
        {LEAST "colour: red\n", "f.yaml:3: colour: is no option"},
        {LEAST "log: {levle: info}\n",
         "f.yaml:3: log.levle: is no option; did you mean log.level?"},
        {LEAST "module: /x\n", "did you mean token.module?"},
        {LEAST "listen: [{udb: \"127.0.0.1:1\"}]\n", "did you mean listen[].udp?"},
        {LEAST "log: {level: info}\nlog: {level: info}\n", "f.yaml:4: log: is there twice"},
        {LEAST "ttl: {max: 1h, max: 2h}\n", "f.yaml:3: ttl.max: is there twice"},
        {LEAST "? [a]\n: b\n", "a key must be one value"},
        {LEAST "log: info\n", "f.yaml:3: log: must be a map"},
        {LEAST "\"\": 1\n", "is no option"},
        {"- a\n", "must be a map of options"},
        {"just text", "must be a map of options"},
        /* required */
        {"", "f.yaml: ca.certificate: is missing"},
        {"# nothing\n", "ca.certificate: is missing"},
        {"ca: {certificate: x}\ntoken: {module: /m}\n", "ca.key: is missing"},
        {"ca: {certificate: x, key: \"pkcs11:a\"}\n", "token.module: is missing"},
        {"ca: {certificate: \"\", key: \"pkcs11:a\"}\n", "ca.certificate: must not be empty"},
        {"ca: {certificate: x, key: key.pem}\ntoken: {module: /m}\n", "ca.key: must be a URI"},
        {"ca: {certificate: x, key: \"pkcs11:token=t;object=a?pin-value=4711\"}\ntoken: {module: "
         "/m}\n",
         "ca.key: must not hold the PIN"},
        {LEAST "untrusted_ca: {certificate: x, key: \"pkcs11:token=t?pin-value=4711\"}\n",
         "must not hold the PIN"},
        {"ca: {certificate: x, key: \"pkcs11:a\"}\ntoken: {access: file}\n",
         "ca.key: must be the path"},
        /* types and ranges */
        {LEAST "listen_threads: -1\n", "listen_threads: must be a whole number from 0 to 256"},
        {LEAST "listen_threads: 257\n", "not \"257\""},
        {LEAST "listen_threads: 0x10\n", "must be a whole number"},
        {LEAST "listen_threads: 99999999999999999999\n", "must be a whole number"},
        {LEAST "listen_threads: [1]\n", "must be one value, not a list"},
        {LEAST "listen_threads: {a: 1}\n", "must be one value, not a map"},
        {LEAST "listen_threads:\n", "f.yaml:3: listen_threads: has no value"},
        {LEAST "listen_threads: ~\n", "has no value"},
        {LEAST "receive_buffer: 4MB\n", "must be a size"},
        {LEAST "receive_buffer: 1\n", "from 64KiB to 1GiB"},
        {LEAST "receive_buffer: 99999999999GiB\n", "must be a size"},
        {LEAST "ttl: {max: 86400}\n", "must be a duration from 1s to 30d"},
        {LEAST "ttl: {max: 9999999999999d}\n", "must be a duration"},
        {LEAST "ttl: {max: 500ms}\n", "must be a duration"},
        {LEAST "leaf: {lifetime: 824d}\n", "must be a duration from 1h to 823d"},
        {LEAST "leaf: {rsa_bits: 1024}\n", "must be 2048, 3072 or 4096"},
        {LEAST "leaf: {key: dsa}\n",
         "must be compatible, upstream, rsa, ec-p256, ec-p384, ec-p521, "
         "ed25519, ed448 or sm2"},
        {LEAST "keys: {rsa_match: yes}\n", "must be best-effort or strict"},
        {LEAST "signer: {max_rate: 1.2345}\n", "three decimals"},
        {LEAST "signer: {max_rate: 1000000.001}\n", "from 0 to 1000000"},
        {LEAST "signer: {max_rate: nan}\n", "must be a number"},
        {LEAST "keys: {share: maybe}\n", "must be yes or no"},
        {LEAST "log: {level: loud}\n",
         "must be error, warning, notice, info or debug, not \"loud\""},
        {LEAST "untrusted_ca: sometimes\n", "must be auto, none or a map"},
        {LEAST "untrusted_ca: {certificate: x}\n", "untrusted_ca.key: is missing"},
        {LEAST "untrusted_ca: {certificate: x, key: y}\n", "must be a URI"},
        {LEAST "untrusted_ca: {certificate: x, key: \"pkcs11:a\", z: 1}\n", "untrusted_ca.z"},
        /* listeners */
        {LEAST "listen: []\n", "is empty"},
        {LEAST "listen: 127.0.0.1:1\n", "must be a list"},
        {LEAST "listen: [x]\n", "must be a map"},
        {LEAST "listen: [{}]\n", "needs udp"},
        {LEAST "listen: [{udp: localhost:1}]\n", "must be ADDRESS:PORT"},
        {LEAST "listen: [{udp: \"127.0.0.1:65536\"}]\n", "must be ADDRESS:PORT"},
        {LEAST "listen: [{udp: \"::1:2999\"}]\n", "must be ADDRESS:PORT"},
        {LEAST "listen: [{udp: \"[fe80::1%eth0]:1\"}]\n", "must be ADDRESS:PORT"},
        {LEAST "listen: [{udp: \"0.0.0.0:1\"}]\n", "private keys travel in clear"},
        {LEAST "listen:\n- udp: \"[::]:1\"\n", "f.yaml:4: listen[].allow_from: is missing"},
        {LEAST "listen: [{udp: \"0.0.0.0:1\", allow_from: []}]\n", "nobody would be answered"},
        {LEAST "listen: [{udp: \"127.0.0.1:1\", allow_from: [10.0.0.1/8]}]\n", "behind its prefix"},
        {LEAST "listen: [{udp: \"127.0.0.1:1\", allow_from: [10.0.0.0/33]}]\n", "must be networks"},
        {LEAST "listen: [{udp: \"127.0.0.1:1\", allow_from: 10.0.0.0/8}]\n", "must be a list"},
        {LEAST "listen: [{udp: \"127.0.0.1:1\", allow_uid: [0]}]\n", "is for Unix sockets"},
        {LEAST "listen: [{unix: a, allow_from: [10.0.0.0/8]}]\n", "is for UDP"},
        {LEAST "listen: [{unix: a, allow_uid: [4294967295]}]\n", "must be a whole number"},
        {LEAST "listen: [{unix: a, udp: \"127.0.0.1:1\"}]\n", "make two listeners"},
        {LEAST "listen: [{unix: a}, {unix: a}]\n", "the address of another listener"},
        {LEAST "listen: [{udp: \"127.0.0.1:1\"}, {udp: \"127.0.0.1:1\"}]\n", "another listener"},
        /* what goes over several options */
        {LEAST "admin: {address: \"192.0.2.1:80\"}\n", "must be a loopback address"},
        {LEAST "keys: {rsa_low: 20}\n", "keys.rsa_low: is higher than keys.rsa_high"},
        {LEAST "keys: {ec_high: 1}\n", "keys.ec_low: is higher"},
        {LEAST "policy: {deny: [\"a b\"]}\n", "policy.deny: must be domains"},
        {LEAST "policy: {deny: [\"*.example\"]}\n", "policy.deny: must be domains"},
        {LEAST "policy: {deny: [a..b]}\n", "policy.deny: must be domains"},
        {LEAST "policy: {deny: [10.0.0.0/40]}\n", "must be networks"},
        /* YAML that is none, or too much of it */
        {LEAST "log: &a {level: info}\n", "f.yaml:3: anchors"},
        {LEAST "log: *a\n", "f.yaml:3: aliases"},
        {LEAST "log: !!map {level: info}\n", "f.yaml:3: tags"},
        {LEAST "log: {level: !!str info}\n", "f.yaml:3: tags"},
        {LEAST "---\nlog: {level: info}\n", "f.yaml:3: a second document"},
        {LEAST "listen: [[[[[[[[]]]]]]]]\n", "f.yaml:3: nested too deeply"},
        {LEAST "log: {level: info\n", "not YAML"},
        {LEAST "log:\n\tlevel: info\n", "f.yaml:4: not YAML"},
        {LEAST "log: {level: \"in\\0fo\"}\n", "control character"},
        {LEAST "log: {level: \"in\\e[31mfo\"}\n", "control character"},
        {LEAST "log: {level: \"\xff\"}\n", "must be UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        refused(rows[i].text, rows[i].sentence);
}

static void a_crl_url_is_one_that_clients_fetch(void **state)
{
    static const char *const good[] = {"http://a", "http://[2001:db8::1]:8080/x%20y?z=1&b=(2)",
                                       "http://192.0.2.1/ca.crl", "http://crl.example/~a/b,c;d=e"};
    static const struct {
        const char *url;
        const char *sentence;
    } bad[] = {
        {"https://crl.example/ca.crl", "over https"},
        {"HTTPS://crl.example/ca.crl", "over https"},
        {"ldap://crl.example/ca.crl", "a whole http:// URL"},
        {"crl.example/ca.crl", "a whole http:// URL"},
        {"/ca.crl", "a whole http:// URL"},
        {"http://", "a whole http:// URL"},
        {"http:///ca.crl", "a whole http:// URL"},
        {"http://:80/ca.crl", "a whole http:// URL"},
        {"http://@a/ca.crl", "a whole http:// URL"},
        {"http://crl.example/a b", "a character that a URL cannot have"},
        {"http://crl.example/a#b", "a character that a URL cannot have"},
        {"http://crl.example/<a>", "a character that a URL cannot have"},
        {"http://crl.example/\xc3\xa9", "a character that a URL cannot have"},
    };
    char text[1024];
    char longest[CONF_URL_MAX + 2] = "http://a/";

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct conf *conf;

        snprintf(text, sizeof(text), LEAST "ca.crl_url: \"%s\"\n", good[i]);
        conf = load(text);
        assert_string_equal(conf->ca_crl_url, good[i]);
        conf_free(conf);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        snprintf(text, sizeof(text), LEAST "ca.crl_url: \"%s\"\n", bad[i].url);
        refused(text, bad[i].sentence);
    }
    memset(longest + 9, 'x', CONF_URL_MAX - 9);
    snprintf(text, sizeof(text), LEAST "ca.crl_url: \"%s\"\n", longest);
    conf_free(load(text));
    longest[CONF_URL_MAX] = 'x';
    snprintf(text, sizeof(text), LEAST "ca.crl_url: \"%s\"\n", longest);
    refused(text, "longer than 512");
}

/* `ca.crl_url: …` at the top is the option, as it is for -o; both forms at once are one too many.
 */
static void dotted_keys(void **state)
{
    struct conf *conf = load(LEAST "log.level: debug\n");

    (void)state;
    assert_int_equal(conf->log_level, LOG_LEVEL_DEBUG);
    conf_free(conf);
    refused(LEAST "log.level: debug\nlog: {level: info}\n",
            "f.yaml:4: log.level: is there twice (first in line 3)");
}

static void tokens_and_pins(void **state)
{
    char text[400];

    (void)state;
    snprintf(text, sizeof(text), "%stoken: {module: /m, pin_file: p, pin_env: P}\n", base);
    refused(text, "exclude each other");
    snprintf(text, sizeof(text), "%stoken: {module: /m, pin_file: p, pin_prompt: yes}\n", base);
    refused(text, "token.pin_prompt: is yes, which excludes");
    snprintf(text, sizeof(text), "%stoken: {module: /m, pin_prompt: maybe}\n", base);
    refused(text, "auto, yes or no");
    snprintf(text, sizeof(text), "%stoken: {module: /m, pin_env: \"a b\"}\n", base);
    refused(text, "no name of an environment variable");
    snprintf(text, sizeof(text), "%stoken: {module: /m, env: {\"A=B\": x}}\n", base);
    refused(text, "no name of a variable");
    snprintf(text, sizeof(text), "%stoken: {module: /m, env: {A: x, A: y}}\n", base);
    refused(text, "twice");
    snprintf(text, sizeof(text), "%stoken: {module: /m, env: [A]}\n", base);
    refused(text, "must be a map");
    snprintf(text, sizeof(text), "%stoken: {module: /m, env: {A: [b]}}\n", base);
    refused(text, "must be one value");
}

static void key_files_are_paths(void **state)
{
    struct conf *conf = load("ca: {certificate: ca.pem, key: ca-key.pem}\n"
                             "token: {access: file}\n");

    (void)state;
    assert_string_equal(conf->ca[0].key, "/etc/leafd/ca-key.pem");
    assert_int_equal(conf->token[0].access, CONF_ACCESS_FILE);
    assert_false(conf->insecure_file_key);
    conf_free(conf);
}

static void without_a_folder_paths_are_absolute(void **state)
{
    struct why why = {""};
    struct conf *conf = load_with(LEAST, NULL, NULL, 0, &why);

    (void)state;
    assert_null(conf);
    assert_non_null(strstr(why.text, "ca.certificate: must be an absolute path"));
    conf = load_with("ca: {certificate: /ca.pem, key: \"pkcs11:t\"}\ntoken: {module: /m}\n", NULL,
                     NULL, 0, &why);
    assert_non_null(conf);
    assert_null(conf->dir);
    conf_free(conf);
}

static void overrides_stand_over_the_file(void **state)
{
    static const char *const good[] = {
        "log.level=warning",
        "listen=[{udp: \"127.0.0.1:0\"}, {unix: /s}]",
        "policy.deny=[a.example]",
        "untrusted_ca=none",
        "admin.address=",
        "token.env={A: b}",
        "ca.key=pkcs11:token=other;object=x",
        "log.level=error",
    };
    static const struct {
        const char *override;
        const char *sentence;
    } bad[] = {
        {"log.level", "-o: log.level: must be key=value"},
        {"=x", "must be key=value"},
        {"log=x", "-o: log: is a section"},
        {"log.levle=x", "did you mean log.level?"},
        {"log.level=x", "-o: log.level: must be error"},
        {"ttl.max=1", "must be a duration"},
        {"ttl.max=1h\n", "control character"},
        {"ca.certificate=", "must not be empty"},
        {"policy.deny=", "has no value"},
        {"policy.deny=a", "must be a list"},
        {"policy.deny=[a", "-o: not YAML"},
        {"policy.deny=&a [b]", "-o: anchors"},
        {"listen=[{udp: \"0.0.0.0:1\"}]", "-o: listen[].allow_from: is missing"},
        {"listen[].udp=x", "is no option"},
    };
    struct why why = {""};
    struct conf *conf = load_with(LEAST "log: {level: debug}\n", "/d", good, COUNT(good), &why);

    (void)state;
    assert_non_null(conf);
    assert_int_equal(conf->log_level, LOG_LEVEL_ERROR);
    assert_int_equal(conf->listen_count, 2);
    assert_int_equal(conf->deny_count, 1);
    assert_int_equal(conf->untrusted, CONF_UNTRUSTED_NONE);
    assert_int_equal(conf->admin_address_len, 0);
    assert_int_equal(conf->token[0].env_count, 1);
    assert_string_equal(conf->ca[0].key, "pkcs11:token=other;object=x");
    conf_free(conf);
    for (size_t i = 0; i < COUNT(bad); i++) {
        conf = load_with(LEAST, "/d", &bad[i].override, 1, &why);
        assert_null(conf);
        if (!strstr(why.text, bad[i].sentence))
            fail_msg("\"%s\" is not in \"%s\"", bad[i].sentence, why.text);
    }
}

static void what_is_foreign_is_escaped(void **state)
{
    struct why why = {""};
    const char *evil = "lo\x1b[31mg=x";

    (void)state;
    assert_null(load_with(LEAST, "/d", &evil, 1, &why));
    assert_null(strchr(why.text, 0x1b));
    refused(LEAST "\"a\xc3\xa9\": 1\n", "a\\xc3\\xa9: is no option");
}

static void sizes_are_bounded(void **state)
{
    struct conf *conf = NULL;
    struct why why = {""};
    char *text = malloc(CONF_FILE_MAX + 2);
    struct bytes bytes = {(const uint8_t *)text, CONF_FILE_MAX + 1};

    (void)state;
    assert_non_null(text);
    memset(text, '#', CONF_FILE_MAX + 1);
    assert_int_equal(conf_load(bytes, "f", NULL, NULL, 0, &conf, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "larger than"));
    assert_int_equal(
        conf_load((struct bytes){(const uint8_t *)"a: b\n\0c", 7}, "f", NULL, NULL, 0, &conf, &why),
        LEAFD_CONFIG);
    assert_string_equal(why.text, "f:2: has a NUL byte; the text must be UTF-8");
    assert_int_equal(conf_load(bytes, "f", NULL, NULL, 0, &conf, NULL), LEAFD_CONFIG);
    assert_null(conf);
    free(text);
}

/* ---- values ---- */

static void values_to_text_and_back(void **state)
{
    char out[32];
    int64_t number;
    double rate;

    (void)state;
    assert_string_equal(size_text(4 << 20, out, sizeof(out)), "4MiB");
    assert_string_equal(size_text(1500, out, sizeof(out)), "1500");
    assert_string_equal(size_text(0, out, sizeof(out)), "0");
    assert_string_equal(duration_text(90 * INT64_C(86400000), out, sizeof(out)), "90d");
    assert_string_equal(duration_text(1500, out, sizeof(out)), "1500ms");
    assert_string_equal(duration_text(120000, out, sizeof(out)), "2m");
    assert_int_equal(value_size("17", 0, 100, &number, NULL), LEAFD_OK);
    assert_int_equal(number, 17);
    assert_int_equal(value_size("9223372036854775807GiB", 0, INT64_MAX, &number, NULL),
                     LEAFD_CONFIG);
    assert_int_equal(value_rate("0.001", 10, &rate, NULL), LEAFD_OK);
    assert_true(rate > 0.00099 && rate < 0.00101);
    assert_int_equal(value_rate("10", 10, &rate, NULL), LEAFD_OK);
    assert_int_equal(value_rate("10.0", 10, &rate, NULL), LEAFD_OK);
    assert_int_equal(value_rate(".5", 10, &rate, NULL), LEAFD_CONFIG);
    assert_int_equal(value_rate("5.", 10, &rate, NULL), LEAFD_CONFIG);
    assert_int_equal(value_rate("1e3", 10000, &rate, NULL), LEAFD_CONFIG);
}

static void base64_to_the_letter(void **state)
{
    static const struct {
        const char *text;
        const char *plain;
    } good[] = {
        {"", ""}, {"Zg==", "f"}, {"Zm8=", "fo"}, {"Zm9v", "foo"}, {"Zm9v\nYmFy\n", "foobar"}};
    static const char *const bad[] = {
        "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zm9v=", "=Zm9v", "Zm 9v", "Zg==Zg==", "Zm9-", "===="};
    struct bytes out;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_int_equal(value_base64(bytes_of(good[i].text), &out, NULL), LEAFD_OK);
        assert_true(bytes_equal(out, bytes_of(good[i].plain)));
        free((void *)(uintptr_t)out.data);
    }
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(value_base64(bytes_of(bad[i]), &out, NULL), LEAFD_CONFIG);
}

/* ---- where it comes from ---- */

static void found_by_option_then_variable(void **state)
{
    char folder[] = "/tmp/leafd-test-conf-XXXXXX";
    char file[64];
    struct bytes text;
    struct why why = {""};
    char *name;
    char *dir;
    FILE *out;

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(file, sizeof(file), "%s/leafd.yaml", folder);
    out = fopen(file, "w");
    assert_non_null(out);
    fputs("a: b\n", out);
    fclose(out);
    assert_int_equal(setenv("LEAFD_CONFIG", "YzogZAo=", 1), 0);

    assert_int_equal(conf_find(file, &text, &name, &dir, &why), LEAFD_OK);
    assert_true(bytes_equal(text, bytes_of("a: b\n")));
    assert_string_equal(name, file);
    assert_string_equal(dir, folder);
    free((void *)(uintptr_t)text.data);
    free(name);
    free(dir);

    assert_int_equal(conf_find(NULL, &text, &name, &dir, &why), LEAFD_OK);
    assert_true(bytes_equal(text, bytes_of("c: d\n")));
    assert_string_equal(name, "LEAFD_CONFIG");
    assert_null(dir);
    free((void *)(uintptr_t)text.data);
    free(name);

    assert_int_equal(setenv("LEAFD_CONFIG", "c: d", 1), 0);
    assert_int_equal(conf_find(NULL, &text, &name, &dir, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, "LEAFD_CONFIG: is not base64"));
    assert_int_equal(unsetenv("LEAFD_CONFIG"), 0);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(conf_find(file, &text, &name, &dir, &why), LEAFD_CONFIG);
    assert_non_null(strstr(why.text, file));
    assert_int_equal(rmdir(folder), 0);
}

/* ---- what follows the rows ---- */

static char *printed(void (*print)(int fd))
{
    int fd = memfd_create("rows", MFD_CLOEXEC);
    struct bytes text;

    assert_true(fd != -1);
    print(fd);
    assert_true(lseek(fd, 0, SEEK_SET) == 0);
    assert_int_equal(bytes_read_fd(fd, "rows", 1 << 20, &text, NULL), LEAFD_OK);
    close(fd);
    return (char *)(uintptr_t)text.data;
}

/* With a PIN file chosen, every default it shows is what nothing said gives. */
static void further_tokens_take_over_what_they_do_not_say(void **state)
{
    char text[2048];
    struct conf *conf;

    (void)state;
    snprintf(
        text, sizeof(text),
        "%stoken: {module: /m, provider: q, env: {A: b}, init_args: x='y', pin_file: p, "
        "sessions: 4, processes: 2}\n"
        "more_tokens:\n"
        "  - {sessions: 8, key: \"pkcs11:token=two;object=ca;type=private\"}\n"
        "  - {module: /n, provider: \"\", init_args: \"\", env: {C: d, E: f}, pin_env: PIN_OF_THREE, timeout: 5s}\n"
        "  - {pin_prompt: yes}\n"
        "token_choice: spread\n",
        base);
    conf = load(text);
    assert_int_equal(conf->token_count, 4);
    assert_int_equal(conf->token_choice, CONF_TOKEN_SPREAD);
    assert_null(conf->token[0].key);
    assert_string_equal(conf->token[1].module, "/m");
    assert_string_equal(conf->token[1].env[0].name, "A");
    assert_string_equal(conf->token[1].pin_file, "/etc/leafd/p");
    assert_int_equal(conf->token[1].sessions, 8);
    assert_int_equal(conf->token[1].processes, 2);
    assert_string_equal(conf->token[1].key, "pkcs11:token=two;object=ca;type=private");
    assert_string_equal(conf->token[2].module, "/n");
    assert_int_equal(conf->token[2].env_count, 2);
    assert_string_equal(conf->token[1].init_args, "x='y'");
    assert_null(conf->token[2].init_args);
    assert_string_equal(conf->token[1].provider, "q");
    assert_null(conf->token[2].provider);
    assert_null(conf->token[2].pin_file);
    assert_string_equal(conf->token[2].pin_env, "PIN_OF_THREE");
    assert_null(conf->token[3].pin_file);
    assert_int_equal(conf->token[3].pin_prompt, CONF_PIN_PROMPT_YES);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(conf->token[i].number, i);
    assert_int_equal(conf->token[2].sessions, 4);
    assert_int_equal(conf->token[2].timeout_ms, 5000);
    assert_int_equal(conf->token[0].timeout_ms, 2000);
    conf_free(conf);
}

static void further_tokens_are_checked(void **state)
{
    static const struct {
        const char *more;
        const char *words;
    } bad[] = {
        {"[1]", "must be a map"},
        {"{module: /n}", "must be a list"},
        {"[{modul: /n}]", "is no option"},
        {"[{sessions: 0}]", "more_tokens[].sessions"},
        {"[{pin_file: p, pin_env: P}]", "exclude each other"},
        {"[{pin_prompt: yes, pin_file: p}]", "more_tokens[].pin_prompt: is yes, which excludes"},
        {"[{key: ca.pem}]", "must be a URI"},
        {"[{key: \"pkcs11:token=t;pin-value=1\"}]", "must not hold the PIN"},
        {"[{access: file}]", "more_tokens[].key: is missing"},
        {"[{}, {}, {}, {}, {}, {}, {}, {}]", "more_tokens"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[1024];

        snprintf(text, sizeof(text), "%stoken: {module: /m}\nmore_tokens: %s\n", base, bad[i].more);
        refused(text, bad[i].words);
    }
}

static void the_sample_is_a_configuration(void **state)
{
    char *sample = printed(conf_print_sample);
    struct conf *conf = load(sample);

    (void)state;
    for (size_t i = 0; i < schema_row_count; i++) {
        const char *dot = strrchr(schema_rows[i].name, '.');
        char key[64];

        snprintf(key, sizeof(key), "%s:", dot ? dot + 1 : schema_rows[i].name);
        assert_non_null(strstr(sample, key));
    }
    assert_string_equal(conf->token[0].pin_file, "/etc/leafd/pin");
    assert_int_equal(conf->token[0].sessions, 16);
    assert_int_equal(conf->leaf_lifetime_sec, 90 * 86400);
    assert_int_equal(conf->listen[0].allow_from_count, 2);
    conf_free(conf);
    free(sample);
}

static void the_manual_has_every_row(void **state)
{
    const char *top = getenv("top_srcdir");
    char *rows = printed(conf_print_rows);
    struct bytes manual;
    char path[4096];

    (void)state;
    snprintf(path, sizeof(path), "%s/man/leafd.yaml.5", top ? top : ".");
    assert_int_equal(bytes_read_file(path, 1 << 20, &manual, NULL), LEAFD_OK);
    if (!strstr((const char *)manual.data, rows))
        fail_msg("man/leafd.yaml.5 does not have the list that conf_print_rows() prints:\n%s",
                 rows);
    free((void *)(uintptr_t)manual.data);
    free(rows);
}

static void rows_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < schema_row_count; i++) {
        char form[160];

        assert_ptr_equal(schema_find(schema_rows[i].name), &schema_rows[i]);
        assert_true(strlen(schema_form(&schema_rows[i], form, sizeof(form))) < sizeof(form) - 1);
        assert_true(strlen(schema_rows[i].help) > 10);
        assert_string_equal(schema_nearest(schema_rows[i].name), schema_rows[i].name);
    }
    assert_true(schema_is_section("token"));
    assert_false(schema_is_section("toke"));
    assert_null(schema_find("token"));
    assert_null(schema_nearest("something.else.entirely"));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_manual),
        cmocka_unit_test(every_option_is_taken),
        cmocka_unit_test(leaf_keys_by_name),
        cmocka_unit_test(refusals_name_file_line_key_and_reason),
        cmocka_unit_test(dotted_keys),
        cmocka_unit_test(tokens_and_pins),
        cmocka_unit_test(key_files_are_paths),
        cmocka_unit_test(without_a_folder_paths_are_absolute),
        cmocka_unit_test(overrides_stand_over_the_file),
        cmocka_unit_test(what_is_foreign_is_escaped),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(values_to_text_and_back),
        cmocka_unit_test(base64_to_the_letter),
        cmocka_unit_test(found_by_option_then_variable),
        cmocka_unit_test(a_crl_url_is_one_that_clients_fetch),
        cmocka_unit_test(further_tokens_take_over_what_they_do_not_say),
        cmocka_unit_test(further_tokens_are_checked),
        cmocka_unit_test(the_sample_is_a_configuration),
        cmocka_unit_test(the_manual_has_every_row),
        cmocka_unit_test(rows_are_sound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
