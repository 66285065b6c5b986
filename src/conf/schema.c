/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/schema.h"

#include "conf/conf.h"
#include "conf/values.h"
#include "der/spki.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FIELD(field) offsetof(struct conf, field)
#define LISTEN(field) offsetof(struct conf_listen, field)

enum { SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR };
enum { KIB = 1 << 10, MIB = 1 << 20 };
#define TIB (INT64_C(1) << 40)

static const struct schema_word cert_formats[] = {
    {"pem", CONF_CERT_PEM}, {"der", CONF_CERT_DER}, {NULL, 0}};
static const struct schema_word key_formats[] = {
    {"by-dialect", CONF_KEY_BY_DIALECT}, {"der", CONF_KEY_DER}, {"pem", CONF_KEY_PEM}, {NULL, 0}};
static const struct schema_word log_levels[] = {
    {"error", LOG_LEVEL_ERROR}, {"warning", LOG_LEVEL_WARNING}, {"notice", LOG_LEVEL_NOTICE},
    {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},     {NULL, 0}};
static const struct schema_word untrusted_words[] = {
    {"auto", CONF_UNTRUSTED_AUTO}, {"none", CONF_UNTRUSTED_NONE}, {NULL, 0}};
static const struct schema_word rsa_paddings[] = {
    {"pkcs1", CONF_RSA_PKCS1}, {"pss", CONF_RSA_PSS}, {NULL, 0}};
static const struct schema_word accesses[] = {{"auto", CONF_ACCESS_AUTO},
                                              {"native", CONF_ACCESS_NATIVE},
                                              {"provider", CONF_ACCESS_PROVIDER},
                                              {"libp11", CONF_ACCESS_LIBP11},
                                              {"engine", CONF_ACCESS_ENGINE},
                                              {"file", CONF_ACCESS_FILE},
                                              {NULL, 0}};
static const struct schema_word verifies[] = {
    {"auto", CONF_VERIFY_AUTO}, {"always", CONF_VERIFY_ALWAYS}, {NULL, 0}};
static const struct schema_word pin_prompts[] = {{"auto", CONF_PIN_PROMPT_AUTO},
                                                 {"yes", CONF_PIN_PROMPT_YES},
                                                 {"no", CONF_PIN_PROMPT_NO},
                                                 {NULL, 0}};
static const struct schema_word token_choices[] = {
    {"prefer-first", CONF_TOKEN_PREFER_FIRST}, {"spread", CONF_TOKEN_SPREAD}, {NULL, 0}};
/* Those above KEY_TYPE_COUNT are no key types. */
static const struct schema_word leaf_keys[] = {
    {"compatible", KEY_TYPE_COUNT + CONF_LEAF_KEY_COMPATIBLE},
    {"upstream", KEY_TYPE_COUNT + CONF_LEAF_KEY_UPSTREAM},
    {"rsa", KEY_TYPE_RSA},
    {"ec-p256", KEY_TYPE_P256},
    {"ec-p384", KEY_TYPE_P384},
    {"ec-p521", KEY_TYPE_P521},
    {"ed25519", KEY_TYPE_ED25519},
    {"ed448", KEY_TYPE_ED448},
    {"sm2", KEY_TYPE_SM2},
    {NULL, 0}};
static const struct schema_word rsa_sizes[] = {
    {"2048", 2048}, {"3072", 3072}, {"4096", 4096}, {NULL, 0}};
static const struct schema_word rsa_matches[] = {
    {"best-effort", CONF_RSA_MATCH_BEST_EFFORT}, {"strict", CONF_RSA_MATCH_STRICT}, {NULL, 0}};
static const struct schema_word self_signed_words[] = {{"untrusted", CONF_SELF_SIGNED_UNTRUSTED},
                                                       {"mimic", CONF_SELF_SIGNED_MIMIC},
                                                       {"refuse", CONF_SELF_SIGNED_REFUSE},
                                                       {NULL, 0}};
static const struct schema_word fallbacks[] = {
    {"error", CONF_FALLBACK_ERROR}, {"fresh", CONF_FALLBACK_FRESH}, {NULL, 0}};

/* clang-format off */
const struct schema_row schema_listen_rows[] = {
    {.name = "listen[].udp", .type = SCHEMA_UDP_ADDRESS, .sample = "127.0.0.1:2999",
     .help = "Answers UDP datagrams at this address; port 0 is any free one, told in the log."},
    {.name = "listen[].unix", .type = SCHEMA_UNIX_ADDRESS,
     .help = "Answers datagrams at this Unix socket instead, which is made at start."},
    {.name = "listen[].allow_from", .type = SCHEMA_NETS, .fallback = "[127.0.0.0/8, \"::1\"]",
     .help = "Networks that are answered; all others are dropped without a word. Must be given "
             "for a UDP address that is not loopback, because private keys travel in clear."},
    {.name = "listen[].allow_uid", .type = SCHEMA_UIDS,
     .help = "Users, by number, who are answered at a Unix socket; nothing said: root and the "
             "user that leafd runs as."},
    {.name = "listen[].cert_format", .type = SCHEMA_WORD, .offset = LISTEN(cert_format),
     .words = cert_formats, .fallback = "pem",
     .help = "How certificates are sent at this listener."},
    {.name = "listen[].key_format", .type = SCHEMA_WORD, .offset = LISTEN(key_format),
     .words = key_formats, .fallback = "by-dialect",
     .help = "How private keys are sent at this listener; by-dialect is DER for who asks by ids "
             "and PEM for who asks by names."},
};

const struct schema_row schema_rows[] = {
    {.name = "listen", .type = SCHEMA_LISTENERS, .fallback = "[{udp: \"127.0.0.1:2999\"}]",
     .help = "Where requests are answered: one or more listeners, each with the keys below."},
    {.name = "listen_threads", .type = SCHEMA_COUNT, .offset = FIELD(listen_threads),
     .max = 256, .fallback = "0",
     .help = "Threads that read requests; 0 is one per processor."},
    {.name = "receive_buffer", .type = SCHEMA_SIZE, .offset = FIELD(receive_buffer),
     .min = 64 * KIB, .max = 1024 * MIB, .fallback = "4MiB",
     .help = "What the kernel holds for each listener while leafd is busy."},
    {.name = "user.front", .type = SCHEMA_TEXT, .offset = FIELD(user_front), .fallback = "leafd",
     .help = "User, by name or number, that the front runs as when leafd is started as root."},
    {.name = "user.signer", .type = SCHEMA_TEXT, .offset = FIELD(user_signer),
     .fallback = "leafd-signer",
     .help = "User that the signer runs as when leafd is started as root; the token's files "
             "belong to it."},
    {.name = "log.level", .type = SCHEMA_WORD, .offset = FIELD(log_level), .words = log_levels,
     .fallback = "info", .live = true,
     .help = "The least important lines that are still written."},
    {.name = "ca.certificate", .type = SCHEMA_PATH, .offset = FIELD(ca[0].certificate),
     .sample = "ca.pem", .required = true,
     .help = "PEM file with the CA's certificate, then its issuers up to the root if there are "
             "any; leafctl ca install puts them in order."},
    {.name = "ca.key", .type = SCHEMA_CA_KEY, .offset = FIELD(ca[0].key),
     .sample = "\"pkcs11:token=leafd;object=ca;type=private\"", .required = true,
     .help = "URI (RFC 7512) of the CA's private key in the token, without pin-value; with "
             "token.access: file the path of a PEM file."},
    {.name = "ca.append_root", .type = SCHEMA_BOOL, .offset = FIELD(ca_append_root),
     .fallback = "no", .help = "Sends a self-signed root at the end of the chain too."},
    {.name = "ca.rsa_padding", .type = SCHEMA_WORD, .offset = FIELD(ca_rsa_padding),
     .words = rsa_paddings, .fallback = "pkcs1",
     .help = "How an RSA CA signs: PKCS #1 v1.5, which every client takes, or RSASSA-PSS with "
             "SHA-256; a certificate for RSASSA-PSS alone always signs with that."},
    {.name = "ca.crl_url", .type = SCHEMA_TEXT_OR_NONE, .offset = FIELD(ca_crl_url),
     .fallback = "\"\"",
     .help = "http:// URL of the CA's revocation list, put into every leaf; \"\" is none."},
    {.name = "ca.crl_file", .type = SCHEMA_PATH_OR_NONE, .offset = FIELD(ca_crl_file),
     .fallback = "\"\"",
     .help = "File with that list in DER: leafctl ca crl writes it, and the admin endpoint serves "
             "it at /ca.crl; \"\" is none."},
    {.name = "untrusted_ca", .type = SCHEMA_UNTRUSTED_CA, .words = untrusted_words,
     .fallback = "auto",
     .help = "What signs leaves for servers that nobody should trust: a CA made in memory at each "
             "start, none (such requests are refused), or {certificate: FILE, key: URI}."},
    {.name = "token.access", .type = SCHEMA_WORD, .offset = FIELD(token[0].access),
     .words = accesses, .fallback = "auto",
     .help = "How the CA's key signs: native, which is what auto means, or by way of a library, with "
             "the limits that Ways to the keys tells below. file is for tests and needs "
             "--insecure-file-key."},
    {.name = "token.provider", .type = SCHEMA_TEXT_OR_NONE, .offset = FIELD(token[0].provider),
     .fallback = "\"\"", .sample = "pkcs11",
     .help = "The OpenSSL provider for token.access: provider, by its name in OpenSSL's folder of "
             "modules or by its path; \"\" is pkcs11, which is pkcs11-provider's."},
    {.name = "token.module", .type = SCHEMA_PATH_OR_NONE, .offset = FIELD(token[0].module),
     .sample = "/usr/lib/softhsm/libsofthsm2.so",
     .help = "The token's PKCS#11 module, a shared library; required unless token.access is file."},
    {.name = "token.env", .type = SCHEMA_ENV, .fallback = "{}",
     .help = "Environment variables for the module, set in the signer alone, such as "
             "{SOFTHSM2_CONF: /etc/leafd/softhsm2.conf}."},
    {.name = "token.init_args", .type = SCHEMA_TEXT_OR_NONE, .offset = FIELD(token[0].init_args),
     .fallback = "\"\"",
     .help = "Text for a module that is told at C_Initialize (pReserved) how to start, as NSS is: "
             "\"configdir='sql:/etc/leafd/nss'\". Paths in it are absolute."},
    {.name = "token.pin_file", .type = SCHEMA_PATH_OR_NONE, .offset = FIELD(token[0].pin_file),
     .fallback = "\"\"", .sample = "pin",
     .help = "File with the user PIN on its one line; \"\" is none."},
    {.name = "token.pin_env", .type = SCHEMA_TEXT_OR_NONE, .offset = FIELD(token[0].pin_env),
     .fallback = "\"\"",
     .help = "Environment variable with the user PIN, in the place of token.pin_file; it is "
             "overwritten once read."},
    {.name = "token.pin_prompt", .type = SCHEMA_WORD, .offset = FIELD(token[0].pin_prompt),
     .words = pin_prompts, .fallback = "auto",
     .help = "Whether the PIN is asked for on the terminal, once at start: auto where standard input "
             "is one and no PIN comes from a file, a variable or the URI; yes always, in the place "
             "of the others; no never, for a token that wants none."},
    {.name = "token.sessions", .type = SCHEMA_COUNT, .offset = FIELD(token[0].sessions), .min = 1,
     .max = 1024, .fallback = "16",
     .help = "Sessions that sign at once, at most; the token's own limit is kept."},
    {.name = "token.processes", .type = SCHEMA_COUNT, .offset = FIELD(token[0].processes),
     .min = 1, .max = CONF_PROCESSES_MAX, .fallback = "1",
     .help = "Signer processes that share those sessions, for modules that do one thing at a time "
             "in each process."},
    {.name = "token.timeout", .type = SCHEMA_DURATION_MS, .offset = FIELD(token[0].timeout_ms),
     .min = 100, .max = MINUTE, .fallback = "2s",
     .help = "How long one call into the module may take before its signer counts as hung."},
    {.name = "token.health", .type = SCHEMA_DURATION_MS, .offset = FIELD(token[0].health_ms),
     .max = HOUR, .fallback = "60s",
     .help = "An idle token proves so often that it still signs, with a challenge, and its sessions "
             "are used, so that it does not close them; 0ms is never."},
    {.name = "token.verify", .type = SCHEMA_WORD, .offset = FIELD(token[0].verify),
     .words = verifies, .fallback = "auto",
     .help = "Which signatures are verified before they are used: always is every one, auto leaves "
             "out 15 of 16 once an EC or Ed25519 key has given 32 good ones in less than 200 us "
             "each, for a check costs more than such a signature. When one is wrong, the leaves "
             "that its session has signed since its last good one are taken out of the cache."},
    {.name = "more_tokens", .type = SCHEMA_TOKENS, .fallback = "[]",
     .help = "Further tokens that hold the same CA keys: a list of maps with the options of token; "
             "what a map leaves out is as there. A map can also have key, the URI of the CA's key "
             "in that token, in the place of ca.key."},
    {.name = "token_choice", .type = SCHEMA_WORD, .offset = FIELD(token_choice),
     .words = token_choices, .fallback = "prefer-first",
     .help = "Which of several tokens signs: the first one that can, in their order here, or "
             "whichever has the least to do for its sessions. One that is much slower than "
             "another is left out, but for a probe now and then; leafd(8) says from when on."},
    {.name = "signer.max_rate", .type = SCHEMA_RATE, .offset = FIELD(signer_max_rate),
     .max = 1000000, .fallback = "0",
     .help = "Signatures per second that the signer gives at most; 0 is no limit."},
    {.name = "leaf.lifetime", .type = SCHEMA_DURATION_SEC, .offset = FIELD(leaf_lifetime_sec),
     .min = HOUR, .max = INT64_C(823) * DAY, .fallback = "90d",
     .help = "How long a leaf made from the host alone is valid; one made like an upstream leaf "
             "has the upstream's dates."},
    {.name = "leaf.key", .type = SCHEMA_LEAF_KEY, .words = leaf_keys, .fallback = "compatible",
     .help = "Type of the leaves' keys: one that every client takes and that is near the "
             "upstream's (compatible), the upstream's own, or always the one named. A leaf made "
             "from the host alone has ec-p256, for a TLCP usage sm2, unless one is named."},
    {.name = "leaf.rsa_bits", .type = SCHEMA_WORD, .offset = FIELD(leaf_rsa_bits),
     .words = rsa_sizes, .fallback = "2048",
     .help = "Size of the RSA keys of leaves; with leaf.key: upstream a leaf that is made like an "
             "upstream leaf follows that one's size instead."},
    {.name = "mimic.upstream_verified", .type = SCHEMA_BOOL,
     .offset = FIELD(mimic_upstream_verified), .fallback = "yes",
     .help = "Whether the proxy verifies upstream certificates; no: a leaf names the host it was "
             "asked for alone, since the upstream's other names are worth nothing."},
    {.name = "mimic.self_signed", .type = SCHEMA_WORD, .offset = FIELD(mimic_self_signed),
     .words = self_signed_words, .fallback = "untrusted",
     .help = "A self-signed upstream leaf: signed by the untrusted CA, mimicked as any other (for "
             "proxies that pin them), or refused."},
    {.name = "mimic.fallback", .type = SCHEMA_WORD, .offset = FIELD(mimic_fallback),
     .words = fallbacks, .fallback = "error",
     .help = "An upstream leaf that cannot be read: an error reply, or a leaf from the host alone."},
    {.name = "policy.deny", .type = SCHEMA_NAMES, .fallback = "[]",
     .help = "Domain suffixes and networks that no leaf may name: example.org covers itself and "
             "all below it, .example.org only what is below."},
    {.name = "ttl.max", .type = SCHEMA_DURATION_SEC, .offset = FIELD(ttl_max_sec), .min = SECOND,
     .max = INT64_C(30) * DAY, .fallback = "24h",
     .help = "How long a proxy is told to keep a leaf, at most."},
    {.name = "errors.per_source", .type = SCHEMA_COUNT, .offset = FIELD(errors_per_source),
     .max = 1000000, .fallback = "50",
     .help = "Error replies per second to one address, silence past them; 0 is no limit."},
    {.name = "errors.global", .type = SCHEMA_COUNT, .offset = FIELD(errors_global),
     .max = 1000000, .fallback = "1000",
     .help = "Error replies per second to all; 0 is no limit."},
    {.name = "keys.share", .type = SCHEMA_BOOL, .offset = FIELD(keys_share), .fallback = "yes",
     .help = "Gives several leaves the newest RSA key while no fresh one is in stock; no lets "
             "them wait for one."},
    {.name = "keys.rsa_match", .type = SCHEMA_WORD, .offset = FIELD(keys_rsa_match),
     .words = rsa_matches, .fallback = "best-effort",
     .help = "While there is no RSA key of 3072 or 4096 bits: the leaf has one of 2048 for a few "
             "seconds (best-effort), or waits for its own as long as anybody waits (strict)."},
    {.name = "keys.rsa_low", .type = SCHEMA_COUNT, .offset = FIELD(keys_rsa_low), .max = 10000,
     .fallback = "4", .help = "RSA keys of each size in stock below which more are made."},
    {.name = "keys.rsa_high", .type = SCHEMA_COUNT, .offset = FIELD(keys_rsa_high), .min = 1,
     .max = 10000, .fallback = "16", .help = "RSA keys of each size in stock up to which they are made."},
    {.name = "keys.ec_low", .type = SCHEMA_COUNT, .offset = FIELD(keys_ec_low), .max = 100000,
     .fallback = "64", .help = "Keys of each type but RSA in stock below which more are made."},
    {.name = "keys.ec_high", .type = SCHEMA_COUNT, .offset = FIELD(keys_ec_high), .min = 1,
     .max = 100000, .fallback = "256",
     .help = "Keys of each type but RSA in stock up to which they are made."},
    {.name = "cache.max_size", .type = SCHEMA_SIZE, .offset = FIELD(cache_max_bytes), .min = MIB,
     .max = TIB, .fallback = "64MiB", .help = "Memory for leaves that were issued."},
    {.name = "cache.max_flights", .type = SCHEMA_COUNT, .offset = FIELD(flights_max), .min = 1,
     .max = 65536, .fallback = "4096",
     .help = "Leaves that are being issued at once, at most; half of them may wait for RSA keys."},
    {.name = "cache.max_waiters", .type = SCHEMA_COUNT, .offset = FIELD(flight_waiters_max),
     .min = 1, .max = 65536, .fallback = "1024",
     .help = "Requests that wait for one of them, at most."},
    {.name = "cache.new_per_domain", .type = SCHEMA_COUNT, .offset = FIELD(cache_new_per_domain),
     .max = 1000000, .fallback = "0",
     .help = "New leaves per registrable domain and minute, busy past them; 0 is no limit."},
    {.name = "control.socket", .type = SCHEMA_PATH, .offset = FIELD(control_socket),
     .fallback = "/run/leafd/control.sock",
     .help = "Unix socket at which leafctl finds the running leafd."},
    {.name = "admin.unix", .type = SCHEMA_PATH_OR_NONE, .offset = FIELD(admin_unix),
     .fallback = "\"\"",
     .help = "Unix socket of the HTTP endpoint (/ping, /ready, /healthcheck, /metrics, /ca.crl); "
             "\"\" is none."},
    {.name = "admin.address", .type = SCHEMA_ADMIN_ADDRESS, .fallback = "127.0.0.1:2998",
     .help = "Loopback address of the same endpoint; \"\" is none."},
};
/* clang-format on */

const size_t schema_row_count = COUNT(schema_rows);
const size_t schema_listen_row_count = COUNT(schema_listen_rows);
_Static_assert(COUNT(schema_rows) <= SCHEMA_ROWS_MAX, "struct settings has room for all rows");
_Static_assert(COUNT(schema_listen_rows) <= SCHEMA_ROWS_MAX, "struct settings has room for all");

const struct schema_row *schema_find(const char *name)
{
    for (size_t i = 0; i < schema_row_count; i++) {
        if (strcmp(schema_rows[i].name, name) == 0)
            return &schema_rows[i];
    }
    return NULL;
}

bool schema_is_section(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < schema_row_count; i++) {
        if (strncmp(schema_rows[i].name, name, len) == 0 && schema_rows[i].name[len] == '.')
            return true;
    }
    return false;
}

bool schema_is_structured(const struct schema_row *row)
{
    return row->type == SCHEMA_LISTENERS || row->type == SCHEMA_TOKENS || row->type == SCHEMA_ENV ||
           row->type == SCHEMA_NAMES || row->type == SCHEMA_UNTRUSTED_CA;
}

/* ---- the nearest name ---- */

enum { NAME_MAX_LEN = 40 };

static unsigned min_of(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* How many letters have to be added, taken away or changed (Levenshtein). Both are short. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_LEN + 1];
    size_t len = strlen(b);

    for (size_t j = 0; j <= len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 0; a[i]; i++) {
        unsigned diagonal = row[0];

        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < len; j++) {
            unsigned above = row[j + 1];

            row[j + 1] = min_of(min_of(above, row[j]) + 1, diagonal + (a[i] != b[j]));
            diagonal = above;
        }
    }
    return row[len];
}

static const char *last_part(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot ? dot + 1 : name;
}

static void nearest_in(const struct schema_row *rows, size_t count, const char *name,
                       unsigned *best, const char **ret)
{
    for (size_t i = 0; i < count; i++) {
        unsigned far = distance(name, rows[i].name);

        /* The right word in the wrong section is near too. */
        if (strcmp(last_part(name), last_part(rows[i].name)) == 0)
            far = min_of(far, 1);
        if (far < *best) {
            *best = far;
            *ret = rows[i].name;
        }
    }
}

const char *schema_nearest(const char *name)
{
    const char *nearest = NULL;
    size_t len = strlen(name);
    unsigned best = (unsigned)len / 3 + 2; /* farther than this is another word */

    if (len > NAME_MAX_LEN)
        return NULL;
    nearest_in(schema_rows, schema_row_count, name, &best, &nearest);
    nearest_in(schema_listen_rows, schema_listen_row_count, name, &best, &nearest);
    return nearest;
}

/* ---- for people ---- */

static const char *form_of_words(const struct schema_word *words, const char *more, char *out,
                                 size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; words[i].word && used < size; i++) {
        bool last = !words[i + 1].word && !more;
        int wrote = snprintf(out + used, size - used, "%s%s", i == 0 ? "" : (last ? " or " : ", "),
                             words[i].word);

        used += wrote > 0 ? (size_t)wrote : 0;
    }
    if (more && used < size)
        snprintf(out + used, size - used, " or %s", more);
    return out;
}

const char *schema_form(const struct schema_row *row, char *out, size_t size)
{
    char low[32];
    char high[32];

    switch (row->type) {
    case SCHEMA_BOOL:
        snprintf(out, size, "yes or no");
        break;
    case SCHEMA_COUNT:
        snprintf(out, size, "number, %" PRId64 " to %" PRId64, row->min, row->max);
        break;
    case SCHEMA_RATE:
        snprintf(out, size, "number, 0 to %" PRId64 ", with up to three decimals", row->max);
        break;
    case SCHEMA_SIZE:
        snprintf(out, size, "size, %s to %s", size_text(row->min, low, sizeof(low)),
                 size_text(row->max, high, sizeof(high)));
        break;
    case SCHEMA_DURATION_MS:
    case SCHEMA_DURATION_SEC:
        snprintf(out, size, "duration, %s to %s", duration_text(row->min, low, sizeof(low)),
                 duration_text(row->max, high, sizeof(high)));
        break;
    case SCHEMA_WORD:
    case SCHEMA_LEAF_KEY:
        return form_of_words(row->words, NULL, out, size);
    case SCHEMA_UNTRUSTED_CA:
        return form_of_words(row->words, "a map", out, size);
    case SCHEMA_TEXT:
    case SCHEMA_TEXT_OR_NONE:
        snprintf(out, size, "text");
        break;
    case SCHEMA_PATH:
    case SCHEMA_PATH_OR_NONE:
    case SCHEMA_UNIX_ADDRESS:
        snprintf(out, size, "path");
        break;
    case SCHEMA_CA_KEY:
        snprintf(out, size, "URI or path");
        break;
    case SCHEMA_UDP_ADDRESS:
    case SCHEMA_ADMIN_ADDRESS:
        snprintf(out, size, "ADDRESS:PORT");
        break;
    case SCHEMA_NETS:
        snprintf(out, size, "list of networks");
        break;
    case SCHEMA_UIDS:
        snprintf(out, size, "list of numbers");
        break;
    case SCHEMA_LISTENERS:
        snprintf(out, size, "list of maps, 1 to %d", CONF_LISTEN_MAX);
        break;
    case SCHEMA_TOKENS:
        snprintf(out, size, "list of maps, up to %d", CONF_TOKEN_MAX - 1);
        break;
    case SCHEMA_ENV:
        snprintf(out, size, "map of texts");
        break;
    case SCHEMA_NAMES:
        snprintf(out, size, "list of texts");
        break;
    }
    return out;
}

/* `text` in lines of at most `columns`, each behind `indent`. A line of mdoc must not begin as a
 * request does. */
static void print_wrapped(FILE *out, const char *indent, size_t columns, const char *text)
{
    while (*text) {
        size_t len = strlen(text);

        if (len > columns) {
            for (len = columns; len > 0 && text[len] != ' '; len--)
                ;
        }
        fprintf(out, "%s%s%.*s\n", indent, *indent == '\0' && *text == '.' ? "\\&" : "", (int)len,
                text);
        text += len;
        while (*text == ' ')
            text++;
    }
}

/* Each sentence on lines of its own, as mdoc wants them. */
static void print_sentences(FILE *out, const char *text)
{
    while (*text) {
        const char *stop = strstr(text, ". ");
        size_t len = stop ? (size_t)(stop - text) + 1 : strlen(text);
        char sentence[512];

        snprintf(sentence, sizeof(sentence), "%.*s", (int)len, text);
        print_wrapped(out, "", 78, sentence);
        text += len;
        while (*text == ' ')
            text++;
    }
}

static void print_row(FILE *out, const struct schema_row *row)
{
    char form[160];

    fprintf(out, ".It Ic %s\n%s;\n", row->name, schema_form(row, form, sizeof(form)));
    if (row->fallback)
        fprintf(out, "default %s;\n", row->fallback);
    else
        fprintf(out, "%s;\n", row->required ? "required" : "no default");
    fprintf(out, "%s.\n", row->live ? "live" : "restart");
    print_sentences(out, row->help);
}

void conf_print_rows(int fd)
{
    FILE *out = fdopen(dup(fd), "w");

    if (!out)
        return;
    fputs(".Bl -tag -width Ds\n", out);
    for (size_t i = 0; i < schema_row_count; i++) {
        print_row(out, &schema_rows[i]);
        for (size_t j = 0; i == 0 && j < schema_listen_row_count; j++)
            print_row(out, &schema_listen_rows[j]);
    }
    fputs(".El\n", out);
    fclose(out);
}

/* The sentence and the form as comments, over the option itself. */
static void sample_comment(FILE *out, const char *indent, const struct schema_row *row)
{
    char text[512];
    char form[160];
    char begin[16];

    snprintf(text, sizeof(text), "%s (%s)", row->help, schema_form(row, form, sizeof(form)));
    snprintf(begin, sizeof(begin), "%s# ", indent);
    print_wrapped(out, begin, 88, text);
}

static void sample_listen(FILE *out)
{
    sample_comment(out, "", &schema_rows[0]);
    fputs("listen:\n", out);
    for (size_t i = 0; i < schema_listen_row_count; i++) {
        const struct schema_row *row = &schema_listen_rows[i];
        const char *key = last_part(row->name);

        sample_comment(out, "    ", row);
        if (row->sample)
            fprintf(out, "  - %s: %s\n", key, row->sample);
        else if (row->fallback)
            fprintf(out, "    %s: %s\n", key, row->fallback);
        else if (row->type == SCHEMA_UIDS)
            fprintf(out, "    # %s: [0]\n", key);
        else
            fprintf(out, "    # %s: /run/leafd/leafd.sock\n", key);
    }
}

static void sample_row(FILE *out, const struct schema_row *row, const char *section)
{
    const char *key = last_part(row->name);
    const char *indent = key == row->name ? "" : "  ";

    if (key != row->name) {
        size_t len = (size_t)(key - row->name) - 1;

        /* The first of its section. */
        if (strncmp(section, row->name, len) != 0 || section[len] != '.')
            fprintf(out, "\n%.*s:\n", (int)len, row->name);
    } else {
        fputc('\n', out);
    }
    sample_comment(out, indent, row);
    fprintf(out, "%s%s: %s\n", indent, key,
            row->sample ? row->sample : (row->fallback ? row->fallback : "\"\""));
}

void conf_print_sample(int fd)
{
    FILE *out = fdopen(dup(fd), "w");

    if (!out)
        return;
    fputs(
        "# leafd.yaml: every option with its default; leafd.yaml(5) tells more. What is left out\n"
        "# has its default. Relative paths are relative to this file's folder.\n\n",
        out);
    sample_listen(out);
    for (size_t i = 1; i < schema_row_count; i++)
        sample_row(out, &schema_rows[i], schema_rows[i - 1].name);
    fclose(out);
}
