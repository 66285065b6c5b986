/* SPDX-License-Identifier: Apache-2.0 */
/* From an upstream leaf to the leaf for the client, through everything that decides or writes an
 * octet of it. The first HEAD octets choose host, configuration, CA, usage and clock; the rest is
 * the upstream leaf (nothing: a fresh leaf is asked for).
 *
 * What must hold of every leaf that comes out: our strict reader, the signer's check (once a
 * serial) and OpenSSL take it, and OpenSSL sees what was planned. And it never makes an upstream
 * leaf look better than it is: here the upstream is judged by OpenSSL's view of it alone. */
#include "tests/fuzz/der_mutator.h"
#include "tests/fuzz/openssl_fields.h"
#include "tests/fuzz/openssl_view.h"

#include "base/digest.h"
#include "der/cert_fields.h"
#include "der/der_reader.h"
#include "der/der_writer.h"
#include "der/oid.h"
#include "issue/leaf_der.h"
#include "pkcs11/sign_check.h"
#include "pkcs11/signer.h"
#include "policy/key_usage.h"
#include "policy/policy.h"
#include "tests/lib/make_cert.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { HEAD = 8, DAY = 86400, CA_COUNT = 5, VARIANTS = 2 };
static const int64_t NOW = 1790000000; /* 2026-09-21T14:13:20Z */

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    if (size < HEAD || max_size <= HEAD)
        return size;
    if (seed % 8 == 0) {
        data[seed / 8 % HEAD] ^= (uint8_t)(1 << seed / 64 % 8);
        return size;
    }
    return HEAD + der_mutate(data + HEAD, size - HEAD, max_size - HEAD, seed);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size, const uint8_t *other,
                                 size_t other_size, uint8_t *out, size_t max_size, unsigned seed)
{
    if (one_size < HEAD || other_size < HEAD || max_size <= HEAD)
        return 0;
    memcpy(out, seed % 2 ? one : other, HEAD);
    return HEAD + der_cross(one + HEAD, one_size - HEAD, other + HEAD, other_size - HEAD,
                            out + HEAD, max_size - HEAD, seed);
}

/* ---- what lives as long as the program ---- */

/* With and without policy.deny and a CRL point. */
struct variant {
    struct conf conf;
    struct policy *policy;
    struct sign_check *check;
};

static char *deny[] = {"denied.example", ".below.example", "10.0.0.0/8", "2001:db8:dead::/48"};
static char crl_url[] = "http://crl.example/ca.crl";

static struct variant variants[VARIANTS];
static struct ca *cas[CA_COUNT];
static struct ca *untrusted;
static EVP_PKEY *ca_keys[CA_COUNT], *untrusted_key;
static NAME_CONSTRAINTS *constraints; /* of cas[1] */
static X509_STORE *trusted;

static struct ca *make_one_ca(const struct make_cert *how, uint16_t id, EVP_PKEY **ret_key)
{
    struct make_cert cert = *how;
    struct bytes der;
    struct ca *ca = NULL;

    cert.ku = "critical,keyCertSign,cRLSign";
    cert.bc = "critical,CA:TRUE,pathlen:0";
    cert.ski = "hash";
    cert.not_before = NOW - 400 * DAY;
    if (!cert.not_after)
        cert.not_after = NOW + 3650 * (int64_t)DAY;
    if (!cert.key)
        cert.key = make_key("P-256");
    der = make_cert(&cert);
    must(ca_read(der, id, false, &ca, NULL) == LEAFD_OK);
    free((void *)der.data);
    *ret_key = cert.key;
    return ca;
}

static X509 *x509_of(const struct ca *ca)
{
    const unsigned char *at = ca->der.data;
    X509 *cert = d2i_X509(NULL, &at, (long)ca->der.len);

    must(cert != NULL);
    return cert;
}

static void make_cas(void)
{
    const struct make_cert hows[CA_COUNT] = {
        {.cn = "Plain CA"},
        {.cn = "Constrained CA",
         .constraints = "critical,permitted;DNS:example.org,permitted;IP:192.0.2.0/255.255.255.0,"
                        "excluded;DNS:bad.example.org"},
        {.cn = "P-384 CA", .key = make_key("P-384")},
        {.cn = "RSA CA", .key = make_key("RSA:2048")},
        {.cn = "Short CA", .not_after = NOW + 20 * DAY},
    };
    const struct make_cert how_untrusted = {.cn = "Untrusted CA"};

    trusted = X509_STORE_new();
    must(trusted != NULL);
    for (uint16_t i = 0; i < CA_COUNT; i++) {
        X509 *cert;

        cas[i] = make_one_ca(&hows[i], i, &ca_keys[i]);
        cert = x509_of(cas[i]);
        must(X509_STORE_add_cert(trusted, cert) == 1);
        if (i == 1)
            constraints = X509_get_ext_d2i(cert, NID_name_constraints, NULL, NULL);
        X509_free(cert);
    }
    must(constraints != NULL);
    untrusted = make_one_ca(&how_untrusted, CA_ID_UNTRUSTED, &untrusted_key);
}

/* The set with this CA as the one that signs. */
static struct ca_set *set_of(size_t first, bool with_untrusted)
{
    const struct ca *rotated[CA_COUNT];
    struct ca_set *set;

    for (size_t i = 0; i < CA_COUNT; i++)
        rotated[i] = cas[(first + i) % CA_COUNT];
    set = ca_set_new(rotated, CA_COUNT, with_untrusted ? untrusted : NULL);
    must(set != NULL);
    return set;
}

static void make_variants(void)
{
    struct ca_set *all = set_of(0, true);

    for (int i = 0; i < VARIANTS; i++) {
        struct variant *variant = &variants[i];

        variant->conf =
            (struct conf){.leaf_lifetime_sec = 90 * (int64_t)DAY, .leaf_rsa_bits = 2048};
        if (i == 1) {
            variant->conf.deny = deny;
            variant->conf.deny_count = sizeof(deny) / sizeof(deny[0]);
            variant->conf.ca_crl_url = crl_url;
        }
        must(policy_new(&variant->conf, &variant->policy) == LEAFD_OK);
        must(sign_check_new(&variant->conf, all, &variant->check, NULL) == LEAFD_OK);
    }
    ca_set_unref(all);
}

static void start(void)
{
    if (trusted)
        return;
    make_cas();
    make_variants();
}

/* ---- keys: one of each kind ---- */

/* RSA keys take long to make, and nobody signs with them here: a modulus that looks like one. */
static struct leaf_key *make_rsa_look(unsigned bits)
{
    static const uint8_t f4[] = {1, 0, 1}, null[] = {DER_NULL, 0};
    uint8_t buffer[1024], modulus[1 + 4096 / 8] = {0}, digest[DIGEST_LEN];
    struct der_writer writer = der_writer_of(buffer, sizeof(buffer));
    const uint8_t *mark = der_mark(&writer), *algorithm;
    struct leaf_key *key = calloc(1, sizeof(*key));
    struct bytes spki, public_key;

    must(key && bits / 8 < sizeof(modulus));
    for (size_t i = 1; i <= bits / 8; i++)
        modulus[i] = (uint8_t)(0x81 + 2 * i * i);
    modulus[1] |= 0x80;
    der_put_element(&writer, DER_INTEGER, (struct bytes){f4, sizeof(f4)});
    der_put_element(&writer, DER_INTEGER, (struct bytes){modulus, 1 + bits / 8});
    der_wrap(&writer, DER_SEQUENCE, mark);
    public_key = der_written(&writer);
    must(digest_sha256(public_key, digest) == LEAFD_OK);
    der_put_octet(&writer, 0);
    der_wrap(&writer, DER_BIT_STRING, mark);
    algorithm = der_mark(&writer);
    der_put(&writer, (struct bytes){null, sizeof(null)});
    der_put_element(&writer, DER_OID, oid_rsa);
    der_wrap(&writer, DER_SEQUENCE, algorithm);
    der_wrap(&writer, DER_SEQUENCE, mark);
    spki = bytes_copy(der_written(&writer));
    must(spki.data != NULL);
    *key = (struct leaf_key){.refs = 1, .type = KEY_TYPE_RSA, .bits = bits, .spki = spki};
    memcpy(key->key_id, digest, sizeof(key->key_id));
    return key;
}

static const struct leaf_key *key_for(const struct plan *plan)
{
    static struct leaf_key *keys[KEY_TYPE_COUNT], *rsa_keys[4096 / 1024 + 1];
    struct leaf_key **slot = &keys[plan->key_type];

    if (plan->key_type == KEY_TYPE_RSA) {
        must(plan->rsa_bits >= 2048 && plan->rsa_bits <= 4096 && plan->rsa_bits % 1024 == 0);
        slot = &rsa_keys[plan->rsa_bits / 1024];
        if (!*slot)
            *slot = make_rsa_look(plan->rsa_bits);
    }
    if (!*slot)
        must(leaf_key_make(plan->key_type, 0, slot) == LEAFD_OK);
    return *slot;
}

/* Which types there are to be asked for by name is found out once. */
static enum key_type key_type_of(uint8_t octet)
{
    static enum key_type made[KEY_TYPE_COUNT];
    static size_t count;

    for (int type = KEY_TYPE_P256; !count && type < KEY_TYPE_COUNT; type++) {
        struct leaf_key *key;

        if (leaf_key_make((enum key_type)type, 0, &key) == LEAFD_OK)
            leaf_key_unref(key);
        else
            continue;
        made[count++] = (enum key_type)type;
    }
    octet %= count + 1;
    return octet == count ? KEY_TYPE_RSA : made[octet];
}

/* ---- one case: what the first octets choose ---- */

struct fuzz_case {
    struct variant *variant;
    struct request request;
    struct ca_set *cas;
    int64_t now_sec;
    struct bytes upstream;
    bool is_seen; /* OpenSSL takes the upstream leaf */
    struct openssl_view view;
    char host[300];
};

/* The n-th dNSName of the upstream leaf, a wildcard as a name under it. */
static bool host_of_upstream(struct fuzz_case *fuzz, unsigned n)
{
    int count = sk_GENERAL_NAME_num(fuzz->view.names), type;
    const ASN1_STRING *text;
    size_t len;

    if (!fuzz->is_seen || count <= 0)
        return false;
    text = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(fuzz->view.names, (int)n % count), &type);
    if (type != GEN_DNS)
        return false;
    len = (size_t)ASN1_STRING_length(text);
    if (len == 0 || len >= sizeof(fuzz->host))
        return false;
    memcpy(fuzz->host, ASN1_STRING_get0_data(text), len);
    if (fuzz->host[0] == '*')
        fuzz->host[0] = 'w';
    fuzz->request.host = (struct bytes){(const uint8_t *)fuzz->host, len};
    return true;
}

static void choose_host(struct fuzz_case *fuzz, uint8_t octet)
{
    static const char *const hosts[] = {
        "www.example.org", "WWW.Example.org.", "a.example.org",  "192.0.2.7",
        "[2001:db8::7]",   "2001:db8:dead::1", "denied.example", "x.below.example",
        "10.0.0.1",        "::ffff:10.0.0.1",  "other.example",  "localhost",
        "bad.example.org", "x.co.uk",          "me.github.io",   "b\303\274cher.example",
    };

    if (octet >= 128 && host_of_upstream(fuzz, octet - 128))
        return;
    fuzz->request.host = bytes_of(hosts[octet % (sizeof(hosts) / sizeof(hosts[0]))]);
}

static int64_t choose_clock(const struct fuzz_case *fuzz, uint8_t how, uint8_t days)
{
    if (how < 64 || !fuzz->is_seen)
        return NOW + (days < 64 ? 0 : (days - 64) * (int64_t)(20 * DAY)) - (days == 63 ? DAY : 0);
    switch (how % 5) {
    case 0:
        return fuzz->view.not_before - 1;
    case 1:
        return fuzz->view.not_before;
    case 2:
        return fuzz->view.not_after;
    case 3:
        return fuzz->view.not_after + 1;
    default:
        return fuzz->view.not_before / 2 + fuzz->view.not_after / 2;
    }
}

static void choose_conf(struct conf *conf, const uint8_t *head)
{
    static const enum conf_leaf_key ways[] = {CONF_LEAF_KEY_COMPATIBLE, CONF_LEAF_KEY_UPSTREAM,
                                              CONF_LEAF_KEY_TYPE, CONF_LEAF_KEY_COMPATIBLE};

    conf->mimic_self_signed = (enum conf_self_signed)((head[1] & 3) % 3);
    conf->mimic_fallback = head[1] & 4 ? CONF_FALLBACK_FRESH : CONF_FALLBACK_ERROR;
    conf->mimic_upstream_verified = !(head[1] & 8);
    conf->leaf_key = ways[head[1] >> 5 & 3];
    conf->leaf_key_type = (int)key_type_of(head[2]);
    conf->untrusted = head[3] & 8 ? CONF_UNTRUSTED_NONE : CONF_UNTRUSTED_AUTO;
}

static void choose(struct fuzz_case *fuzz, const uint8_t *head, struct bytes upstream)
{
    static const enum usage usages[] = {USAGE_TLS_SERVER, USAGE_TLS_SERVER_TONGSUO,
                                        USAGE_TLCP_SIGNATURE, USAGE_TLCP_ENCRYPTION};

    fuzz->variant = &variants[head[1] >> 4 & 1];
    choose_conf(&fuzz->variant->conf, head);
    fuzz->upstream = upstream;
    fuzz->is_seen = upstream.len && openssl_view_init(&fuzz->view, upstream);
    fuzz->request = (struct request){
        .dialect = head[4] & 0x80 ? DIALECT_NAMES : DIALECT_IDS,
        .host_was_read = true,
        .usage_was_asked = true,
        .usage = usages[head[4] & 3],
        .cert_form = upstream.len ? CERT_FORM_DER : CERT_FORM_ABSENT,
        .cert = upstream,
    };
    choose_host(fuzz, head[0]);
    fuzz->now_sec = choose_clock(fuzz, head[5], head[6]);
    fuzz->cas = set_of(head[3] % CA_COUNT, !(head[3] & 16));
}

/* ---- the leaf ---- */

struct leaf {
    struct bytes der;
    X509 *cert;
    int64_t not_before, not_after;
    GENERAL_NAMES *names;
    bool is_signed; /* really, not with a dummy */
};

static bool is_trusted(const struct plan *plan)
{
    return plan->ca->id != CA_ID_UNTRUSTED;
}

static bool is_usable_at(const struct leaf *leaf, int64_t sec)
{
    return leaf->not_before <= sec && sec <= leaf->not_after;
}

/* P-256 signs fast enough to be done each time; for other CAs the signature is a dummy. */
static struct bytes sign(const struct plan *plan, struct bytes tbs, uint8_t out[static 512],
                         bool *ret_signed)
{
    EVP_PKEY *key = is_trusted(plan) ? ca_keys[plan->ca->id] : untrusted_key;
    EVP_MD_CTX *context;
    size_t len = 512;

    *ret_signed = plan->ca->key_type == KEY_TYPE_P256;
    memset(out, 0x55, len);
    if (!*ret_signed)
        return (struct bytes){out, 256};
    context = EVP_MD_CTX_new();
    must(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key) == 1);
    must(EVP_DigestSign(context, out, &len, tbs.data, tbs.len) == 1);
    EVP_MD_CTX_free(context);
    return (struct bytes){out, len};
}

/* LEAFD_TOO_LARGE is found out here where the plan came close to it. */
static bool make_leaf(const struct fuzz_case *fuzz, const struct plan *plan, struct leaf *leaf)
{
    static uint8_t tbs_room[SIGN_TBS_MAX], room[LEAF_DER_MAX + 512];
    static struct cert_fields fields;
    uint8_t serial[LEAF_SERIAL_LEN], signature[512];
    struct bytes tbs;
    struct why why = {""};
    enum leafd_err err;

    must(leaf_serial(serial) == LEAFD_OK);
    err = leaf_tbs_write(plan, &fuzz->variant->conf, key_for(plan), serial, tbs_room,
                         sizeof(tbs_room), &tbs);
    must(err == LEAFD_OK || (err == LEAFD_TOO_LARGE && plan->profile == PROFILE_MIMIC));
    if (err)
        return false;
    must(tbs_read(tbs, DER_FORM_STRICT, &fields, NULL) == LEAFD_OK);
    if (sign_check_tbs(fuzz->variant->check, plan->ca, tbs, &why) != LEAFD_OK) {
        fprintf(stderr, "the signer refuses: %s\n", why.text);
        abort();
    }
    must(sign_check_tbs(fuzz->variant->check, plan->ca, tbs, NULL) == LEAFD_REFUSED); /* once */
    must(leaf_cert_write(plan->ca, tbs, sign(plan, tbs, signature, &leaf->is_signed), room,
                         sizeof(room), &leaf->der) == LEAFD_OK);
    return true;
}

/* OpenSSL reads it, agrees on every field, and writes the same again. */
static void read_leaf(struct leaf *leaf)
{
    static struct cert_fields fields;
    const unsigned char *at = leaf->der.data;
    unsigned char *again = NULL;
    int len;

    must(cert_read(leaf->der, DER_FORM_STRICT, &fields, NULL) == LEAFD_OK);
    leaf->cert = d2i_X509(NULL, &at, (long)leaf->der.len);
    must(leaf->cert && at == leaf->der.data + leaf->der.len);
    openssl_must_agree(&fields, leaf->cert);
    len = i2d_re_X509_tbs(leaf->cert, &again);
    must(len > 0 && bytes_equal(fields.tbs, (struct bytes){again, (size_t)len}));
    OPENSSL_free(again);
    leaf->not_before = fields.not_before;
    leaf->not_after = fields.not_after;
    leaf->names = X509_get_ext_d2i(leaf->cert, NID_subject_alt_name, NULL, NULL);
    must(sk_GENERAL_NAME_num(leaf->names) > 0);
}

static void leaf_clear(struct leaf *leaf)
{
    GENERAL_NAMES_free(leaf->names);
    X509_free(leaf->cert);
    ERR_clear_error();
}

/* ---- the leaf is what was planned ---- */

static struct bytes name_at(const GENERAL_NAMES *names, int i, bool *ret_is_ip)
{
    int type;
    const ASN1_STRING *text = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);

    must(type == GEN_DNS || type == GEN_IPADD);
    *ret_is_ip = type == GEN_IPADD;
    return (struct bytes){ASN1_STRING_get0_data(text), (size_t)ASN1_STRING_length(text)};
}

static void check_names_of_plan(const struct plan *plan, const struct leaf *leaf)
{
    struct plan_names names;

    must(plan_names(plan, &names) == LEAFD_OK);
    must(names.count == (size_t)sk_GENERAL_NAME_num(leaf->names));
    for (size_t i = 0; i < names.count; i++) {
        bool is_ip;
        struct bytes name = name_at(leaf->names, (int)i, &is_ip);

        must(is_ip == (names.name[i]->kind == NAME_IP));
        must(bytes_equal(name, name_bytes(names.name[i])));
    }
    free(names.name);
}

static unsigned extension_critical(const X509 *cert, int nid)
{
    int at = X509_get_ext_by_NID(cert, nid, -1);

    must(at >= 0 && X509_get_ext_by_NID(cert, nid, at) == -1);
    return X509_EXTENSION_get_critical(X509_get_ext(cert, at)) == 1;
}

static void check_plan(const struct fuzz_case *fuzz, const struct plan *plan,
                       const struct leaf *leaf)
{
    bool has_crl = fuzz->variant->conf.ca_crl_url != NULL;
    bool nameless = X509_NAME_entry_count(X509_get_subject_name(leaf->cert)) == 0;
    uint32_t usage = X509_get_key_usage(leaf->cert);
    X509 *ca = x509_of(plan->ca);

    must(leaf->not_before == plan->not_before && leaf->not_after == plan->not_after);
    check_names_of_plan(plan, leaf);
    must((X509_get_extension_flags(leaf->cert) & (EXFLAG_INVALID | EXFLAG_CRITICAL)) == 0);
    must(X509_check_ca(leaf->cert) == 0 && X509_check_issued(ca, leaf->cert) == X509_V_OK);
    must((usage & 0xff) == key_usage_bits(plan->key_type, plan->usage) && usage >> 8 == 0);
    must(X509_get_extended_key_usage(leaf->cert) == XKU_SSL_SERVER);
    must(extension_critical(leaf->cert, NID_basic_constraints));
    must(extension_critical(leaf->cert, NID_key_usage));
    must(!extension_critical(leaf->cert, NID_ext_key_usage));
    must(!extension_critical(leaf->cert, NID_subject_key_identifier));
    must(!extension_critical(leaf->cert, NID_authority_key_identifier));
    must(extension_critical(leaf->cert, NID_subject_alt_name) == nameless);
    must(X509_get_ext_count(leaf->cert) == 6 + has_crl);
    must(has_crl == (X509_get_ext_by_NID(leaf->cert, NID_crl_distribution_points, -1) >= 0));
    must(X509_NAME_cmp(X509_get_subject_name(leaf->cert), X509_get_subject_name(ca)) != 0);
    X509_free(ca);
}

/* ---- it is not better than its upstream ---- */

static bool is_host(const struct plan *plan, bool is_ip, struct bytes name)
{
    return is_ip == (plan->host.kind == NAME_IP) && bytes_equal(name, name_bytes(&plan->host));
}

/* Each name is the upstream's, unless the leaf is for the host alone: then that is what the
 * upstream names, or, without an upstream to go by, the operator's choice. */
static void check_names(const struct fuzz_case *fuzz, const struct plan *plan,
                        const struct leaf *leaf)
{
    const struct openssl_view *view = &fuzz->view;

    for (int i = 0; i < sk_GENERAL_NAME_num(leaf->names); i++) {
        bool is_ip;
        struct bytes name = name_at(leaf->names, i, &is_ip);

        if (!plan->host_only) {
            must(openssl_view_has_name(view, sk_GENERAL_NAME_value(leaf->names, i)));
            continue;
        }
        must(is_host(plan, is_ip, name) && sk_GENERAL_NAME_num(leaf->names) == 1);
        must(plan->verdict.kind == VERDICT_UNREADABLE ||
             openssl_view_names_host(view, is_ip, name));
    }
}

/* A client that takes the leaf for the host would have taken the upstream leaf for it. Also one
 * that looks at the common name where no dNSName stands. */
static void check_host(const struct fuzz_case *fuzz, const struct plan *plan,
                       const struct leaf *leaf, const char *host)
{
    if (X509_check_host(leaf->cert, host, 0, 0, NULL) != 1)
        return;
    if (plan->host_only && plan->host.kind == NAME_DNS && strcmp(host, fuzz->host) == 0)
        return; /* check_names() has seen to that */
    must(X509_check_host(fuzz->view.cert, host, 0, 0, NULL) == 1);
}

static void check_hosts(struct fuzz_case *fuzz, const struct plan *plan, const struct leaf *leaf)
{
    static const char *const hosts[] = {"www.example.org", "a.example.org", "denied.example",
                                        "x.below.example", "other.example"};
    char common_name[256];
    uint8_t address[16];

    snprintf(fuzz->host, sizeof(fuzz->host), "%.*s", (int)plan->host.len, plan->host.data);
    if (plan->host.kind == NAME_DNS && plan->host.len)
        check_host(fuzz, plan, leaf, fuzz->host);
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++)
        check_host(fuzz, plan, leaf, hosts[i]);
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(leaf->cert), NID_commonName, common_name,
                                  sizeof(common_name)) > 0 &&
        inet_pton(AF_INET, common_name, address) != 1 &&
        inet_pton(AF_INET6, common_name, address) != 1) /* addresses check_names() has seen */
        check_host(fuzz, plan, leaf, common_name);
}

/* Inside the upstream's dates, but for a leaf of one second (which stands for dates that no
 * moment is inside); and as usable now as the upstream leaf is. */
static void check_dates(const struct fuzz_case *fuzz, const struct plan *plan,
                        const struct leaf *leaf)
{
    const struct openssl_view *view = &fuzz->view;
    bool is_good_now = openssl_view_is_valid_at(view, fuzz->now_sec);

    if (plan->profile == PROFILE_FRESH) { /* mimic.fallback: fresh */
        must(is_good_now || !plan->verdict.reasons);
        return;
    }
    must(leaf->not_after <= view->not_after);
    must(leaf->not_before >= view->not_before || leaf->not_before == leaf->not_after);
    if (leaf->not_before != leaf->not_after)
        must(is_usable_at(leaf, fuzz->now_sec) ? is_good_now : !is_good_now || !is_trusted(plan));
}

/* No name that policy.deny or the CA's constraints take away, as OpenSSL reads those, and as they
 * are written above. */
static bool is_denied(bool is_ip, struct bytes name)
{
    static const uint8_t net6[] = {0x20, 0x01, 0x0d, 0xb8, 0xde, 0xad};
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const char below[] = ".below.example";

    if (is_ip && name.len == 4)
        return name.data[0] == 10;
    if (is_ip)
        return memcmp(name.data, net6, sizeof(net6)) == 0 ||
               (memcmp(name.data, mapped, sizeof(mapped)) == 0 && name.data[12] == 10);
    if (bytes_equal(name, bytes_of("denied.example")) || bytes_equal(name, bytes_of("*.example")))
        return true;
    if (name.len > 15 && memcmp(name.data + name.len - 15, ".denied.example", 15) == 0)
        return true;
    return name.len >= sizeof(below) &&
           memcmp(name.data + name.len - sizeof(below) + 1, below, sizeof(below) - 1) == 0;
}

static void check_bounds(const struct fuzz_case *fuzz, const struct plan *plan,
                         const struct leaf *leaf)
{
    for (int i = 0; fuzz->variant->conf.deny && i < sk_GENERAL_NAME_num(leaf->names); i++) {
        bool is_ip;
        struct bytes name = name_at(leaf->names, i, &is_ip);

        must(!is_denied(is_ip, name));
    }
    if (fuzz->variant->conf.deny) {
        must(X509_check_host(leaf->cert, "denied.example", 0, 0, NULL) != 1);
        must(X509_check_host(leaf->cert, "x.below.example", 0, 0, NULL) != 1);
    }
    if (plan->ca != cas[1])
        return;
    must(NAME_CONSTRAINTS_check(leaf->cert, constraints) == X509_V_OK);
}

/* What a client says that knows the trusted CAs (and holds names, also a CN where it stands alone,
 * against their constraints). */
static void check_by_client(const struct fuzz_case *fuzz, const struct plan *plan,
                            const struct leaf *leaf)
{
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    X509_VERIFY_PARAM *parameters;
    int error;

    must(context && X509_STORE_CTX_init(context, trusted, leaf->cert, NULL) == 1);
    parameters = X509_STORE_CTX_get0_param(context);
    X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_X509_STRICT);
    X509_VERIFY_PARAM_set_time(parameters, fuzz->now_sec);
    X509_VERIFY_PARAM_set_purpose(parameters, X509_PURPOSE_SSL_SERVER);
    (void)X509_verify_cert(context);
    error = X509_STORE_CTX_get_error(context);
    X509_STORE_CTX_free(context);

    if (!is_trusted(plan))
        must(error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
    else if (fuzz->now_sec < leaf->not_before)
        must(error == X509_V_ERR_CERT_NOT_YET_VALID);
    else if (fuzz->now_sec >= leaf->not_after) /* its last second is too late for OpenSSL */
        must(error == X509_V_ERR_CERT_HAS_EXPIRED);
    else
        must(error == X509_V_OK);
}

/* Who signs follows from the leaf, whatever the host and the hour. */
static void check_trust(const struct fuzz_case *fuzz, const struct plan *plan)
{
    const struct conf *conf = &fuzz->variant->conf;

    if (!is_trusted(plan))
        return;
    must(openssl_view_fault(&fuzz->view) == NULL);
    must(!fuzz->view.self_signed || conf->mimic_self_signed == CONF_SELF_SIGNED_MIMIC);
}

static void check_against_upstream(struct fuzz_case *fuzz, const struct plan *plan,
                                   const struct leaf *leaf)
{
    static struct cert_fields fields;

    if (!fuzz->upstream.len)
        return;
    if (cert_read(fuzz->upstream, DER_FORM_LEGACY, &fields, NULL) != LEAFD_OK) {
        must(plan->profile == PROFILE_FRESH); /* mimic.fallback: fresh */
        return;
    }
    if (!fuzz->is_seen) {
        must(fields.legacy);
        return;
    }
    if (plan->profile == PROFILE_FRESH && plan->verdict.reasons == 0)
        return; /* its names are unreadable, so nothing else was read */
    check_trust(fuzz, plan);
    check_dates(fuzz, plan, leaf);
    if (plan->profile == PROFILE_FRESH)
        return;
    check_names(fuzz, plan, leaf);
    if (is_trusted(
            plan)) /* else, of two SubjectAltNames say, OpenSSL may look at the first alone */
        check_hosts(fuzz, plan, leaf);
}

static void check_leaf(struct fuzz_case *fuzz, const struct plan *plan)
{
    struct leaf leaf = {0};

    if (!make_leaf(fuzz, plan, &leaf))
        return;
    read_leaf(&leaf);
    check_plan(fuzz, plan, &leaf);
    check_against_upstream(fuzz, plan, &leaf);
    check_bounds(fuzz, plan, &leaf);
    if (leaf.is_signed)
        check_by_client(fuzz, plan, &leaf);
    leaf_clear(&leaf);
}

static void check_smaller(struct fuzz_case *fuzz, const struct plan *plan)
{
    struct plan smaller;

    if (policy_plan_smaller(plan, &plan->host, &smaller, NULL))
        return;
    must(smaller.profile == PROFILE_MINIMAL && smaller.host_only);
    check_leaf(fuzz, &smaller);
    plan_clear(&smaller);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_case fuzz;
    struct plan plan;
    struct why why = {""};
    enum leafd_err err;

    if (size < HEAD || size - HEAD > WIRE_DATAGRAM_MAX)
        return 0;
    start();
    choose(&fuzz, data, (struct bytes){data + HEAD, size - HEAD});
    err = policy_plan(fuzz.variant->policy, &fuzz.request, fuzz.cas, fuzz.now_sec, &plan, &why);
    if (err) {
        must(!plan.ca && !plan.upstream && why.text[0]);
    } else {
        check_leaf(&fuzz, &plan);
        check_smaller(&fuzz, &plan);
        plan_clear(&plan);
    }
    if (fuzz.is_seen)
        openssl_view_clear(&fuzz.view);
    fuzz.view = (struct openssl_view){0};
    ca_set_unref(fuzz.cas);
    return 0;
}
