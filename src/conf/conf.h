/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as an immutable snapshot: leafd.yaml(5), read by the rows of conf/schema.
 *
 * conf/reader finds the value of each row, conf/fields puts single values into their fields,
 * conf/listeners and conf/tokens read what has several, conf/rules judges the whole.
 *
 * Threads: read-only after conf_load, from any thread. */
#pragma once

#include "base/bytes.h"
#include "base/log.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>

enum {
    CONF_CA_MAX = 8,
    CONF_TOKEN_MAX = 8,
    CONF_PROCESSES_MAX = 8,
    CONF_LISTEN_MAX = 32,
    CONF_FILE_MAX = 1 << 20,
    CONF_URL_MAX = 512
};

enum conf_leaf_key { CONF_LEAF_KEY_COMPATIBLE, CONF_LEAF_KEY_UPSTREAM, CONF_LEAF_KEY_TYPE };
enum conf_self_signed {
    CONF_SELF_SIGNED_UNTRUSTED,
    CONF_SELF_SIGNED_MIMIC,
    CONF_SELF_SIGNED_REFUSE
};
enum conf_rsa_match { CONF_RSA_MATCH_BEST_EFFORT, CONF_RSA_MATCH_STRICT };
enum conf_fallback { CONF_FALLBACK_ERROR, CONF_FALLBACK_FRESH };
enum conf_untrusted { CONF_UNTRUSTED_AUTO, CONF_UNTRUSTED_FILE, CONF_UNTRUSTED_NONE };
enum conf_rsa_padding { CONF_RSA_PKCS1, CONF_RSA_PSS };
enum conf_access {
    CONF_ACCESS_AUTO,
    CONF_ACCESS_NATIVE,
    CONF_ACCESS_PROVIDER,
    CONF_ACCESS_LIBP11,
    CONF_ACCESS_ENGINE,
    CONF_ACCESS_FILE
};
enum conf_verify { CONF_VERIFY_AUTO, CONF_VERIFY_ALWAYS };
enum conf_pin_prompt { CONF_PIN_PROMPT_AUTO, CONF_PIN_PROMPT_YES, CONF_PIN_PROMPT_NO };
enum conf_token_choice { CONF_TOKEN_PREFER_FIRST, CONF_TOKEN_SPREAD };
enum conf_cert_format { CONF_CERT_PEM, CONF_CERT_DER };
enum conf_key_format { CONF_KEY_BY_DIALECT, CONF_KEY_DER, CONF_KEY_PEM };

/* An address block; IPv4 as itself (family AF_INET), IPv6 as AF_INET6. */
struct conf_net {
    sa_family_t family;
    uint8_t address[16];
    unsigned prefix;
};

struct conf_listen {
    bool is_unix;
    struct sockaddr_storage address; /* UDP */
    socklen_t address_len;
    char *path;                  /* Unix datagram socket, absolute */
    struct conf_net *allow_from; /* loopback when nothing is said */
    size_t allow_from_count;
    uid_t *allow_uid; /* root and our own when nothing is said */
    size_t allow_uid_count;
    enum conf_cert_format cert_format;
    enum conf_key_format key_format;
    char *text; /* as written, for messages: "127.0.0.1:2999" */
};

struct conf_ca {
    char *certificate; /* absolute path of a PEM: the CA, then its issuers */
    char *key;         /* pkcs11: URI, or an absolute path with token.access: file */
};

struct conf_env { /* one variable for the module's process */
    char *name;
    char *value;
};

struct conf_token { /* one way to the CA keys: a module, what it needs, and the token behind it */
    enum conf_access access;
    char *module; /* absolute path */
    struct conf_env *env;
    size_t env_count;
    char *provider;  /* OpenSSL provider, by name or absolute path; NULL: pkcs11 */
    char *init_args; /* pReserved of C_Initialize, or NULL */
    char *pin_file;  /* absolute path, or NULL */
    char *pin_env;   /* name of a variable, or NULL */
    enum conf_pin_prompt pin_prompt;
    unsigned sessions;  /* lanes at most */
    unsigned processes; /* that share them */
    int64_t timeout_ms;
    int64_t health_ms; /* between signatures that prove an idle token; 0: none */
    enum conf_verify verify;
    char *key;       /* of the first CA in this token, as ca.key; NULL: as there */
    unsigned number; /* 0: token, 1: the first of more_tokens, … */
};

struct conf {
    char *file; /* where it came from, for messages: a path or "LEAFD_CONFIG" */
    char *dir;  /* what relative paths are relative to */
    enum log_level log_level;

    struct conf_listen *listen;
    size_t listen_count;
    unsigned listen_threads; /* 0: one per CPU */
    int64_t receive_buffer;  /* octets */

    char *user_front; /* name or number */
    char *user_signer;

    struct conf_ca ca[CONF_CA_MAX];
    size_t ca_count;
    bool ca_append_root;
    enum conf_rsa_padding ca_rsa_padding; /* of the configured CAs, not of the untrusted one */
    char *ca_crl_url;                     /* NULL: no CRL distribution point */
    char *ca_crl_file;                    /* absolute path of the CRL in DER, or NULL */
    enum conf_untrusted untrusted;
    struct conf_ca untrusted_ca; /* CONF_UNTRUSTED_FILE */

    struct conf_token token[CONF_TOKEN_MAX]; /* all hold the same CA keys */
    size_t token_count;                      /* at least 1 */
    enum conf_token_choice token_choice;
    double signer_max_rate; /* signatures per second; 0: no limit */

    int64_t leaf_lifetime_sec;
    enum conf_leaf_key leaf_key;
    int leaf_key_type; /* enum key_type, for CONF_LEAF_KEY_TYPE */
    unsigned leaf_rsa_bits;

    bool mimic_upstream_verified;
    enum conf_self_signed mimic_self_signed;
    enum conf_fallback mimic_fallback;

    char **deny; /* domain suffixes and networks, as written; value_denied() took them */
    size_t deny_count;

    int64_t ttl_max_sec;
    unsigned errors_per_source; /* per second; 0: unlimited */
    unsigned errors_global;

    bool keys_share;
    enum conf_rsa_match keys_rsa_match;
    unsigned keys_rsa_low, keys_rsa_high; /* marks of the stock of each RSA size */
    unsigned keys_ec_low, keys_ec_high;   /* of each other type */

    int64_t cache_max_bytes;
    unsigned flights_max;          /* misses under way at once */
    unsigned flight_waiters_max;   /* askers of one */
    unsigned cache_new_per_domain; /* per registrable domain and minute; 0: off */

    char *control_socket;                  /* absolute path of the control socket */
    char *supervisor_socket;               /* the same with .supervisor behind it */
    char *admin_unix;                      /* absolute path, or NULL */
    struct sockaddr_storage admin_address; /* loopback alone */
    socklen_t admin_address_len;           /* 0: none */

    bool insecure_file_key; /* only from the command line: --insecure-file-key */
};

/* Reads YAML `text` (at most CONF_FILE_MAX octets) whose name for messages is `file`; relative
 * paths are taken relative to `dir` (NULL: only absolute ones are good). `overrides` are
 * `key=value` in dotted form, applied over the file ("log.level=debug"). LEAFD_CONFIG with file,
 * line, key and reason; *ret is untouched. The caller ends it with conf_free(). */
LEAFD_CHECKED enum leafd_err conf_load(struct bytes text, const char *file, const char *dir,
                                       const char *const *overrides, size_t override_count,
                                       struct conf **ret, struct why *why);
void conf_free(struct conf *conf); /* NULL is fine */

/* Where the key of configured CA number `ca` is in token number `token`: a URI, or a file. */
const char *conf_token_key(const struct conf *conf, size_t token, size_t ca);
enum { CONF_SECTION_SIZE = 40 };
/* "token", "more_tokens[0]", …: where token number `number` stands in the configuration. Returns
 * `out`. */
const char *conf_token_section(size_t number, char out[static CONF_SECTION_SIZE]);

/* Where the text comes from: -c FILE, else LEAFD_CONFIG (base64), else SYSCONFDIR/leafd/leafd.yaml.
 * `*ret_text` is the caller's to free(); `*ret_file` and `*ret_dir` (NULL for LEAFD_CONFIG) too. */
LEAFD_CHECKED enum leafd_err conf_find(const char *option, struct bytes *ret_text, char **ret_file,
                                       char **ret_dir, struct why *why);

/* Writes the sample configuration: every row with its default and its sentence, as comments. */
void conf_print_sample(int fd);
/* Writes the rows as the mdoc list that leafd.yaml(5) holds (tests compare). */
void conf_print_rows(int fd);
