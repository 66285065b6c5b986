/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/names.h"

#include <arpa/inet.h>
#include <idn2.h>
#include <libpsl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LABEL_MAX = 63,
    HOST_MAX = 1024,       /* octets of a request's host, in any case */
    HOST_ASCII_MAX = 4096, /* what its A-labels may come to before we stop looking */
    ADDRESS_TEXT_MAX = INET6_ADDRSTRLEN - 1
};

struct bytes name_bytes(const struct name *name)
{
    return (struct bytes){name->data, name->len};
}

bool name_equal(const struct name *a, const struct name *b)
{
    return a->kind == b->kind && bytes_equal(name_bytes(a), name_bytes(b));
}

bool name_is_wildcard(const struct name *name)
{
    return name->kind == NAME_DNS && name->len > 0 && name->data[0] == '*';
}

/* ---- the public suffix list, loaded once ---- */

static pthread_once_t suffixes_once = PTHREAD_ONCE_INIT;
static const psl_ctx_t *suffixes; /* never freed: it lives as long as the process */

static void load_suffixes(void)
{
    suffixes = psl_latest(NULL);
    if (!suffixes)
        suffixes = psl_builtin();
}

void names_prepare(void)
{
    pthread_once(&suffixes_once, load_suffixes);
}

/* Without a list every domain counts as a suffix: no wildcard is better than one for all of a
 * country. The default rule ("*": every unknown top-level domain) is left out, so that names of a
 * private network ("*.corp") stay possible. */
static bool is_icann_suffix(const char *domain)
{
    names_prepare();
    if (!suffixes)
        return true;
    return psl_is_public_suffix2(suffixes, domain, PSL_TYPE_ICANN | PSL_TYPE_NO_STAR_RULE);
}

/* ---- the syntax of DNS names: each check gives NULL or what is wrong ---- */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_label_octet(uint8_t c)
{
    uint8_t small = c | 0x20;

    return (small >= 'a' && small <= 'z') || is_digit(c) || c == '-' || c == '_';
}

/* Would somebody's resolver take a name that ends in this label for an IPv4 address ("1", "0x7f")?
 */
static bool is_number(struct bytes label)
{
    bool hex = label.len >= 2 && label.data[0] == '0' && lower(label.data[1]) == 'x';

    for (size_t i = hex ? 2 : 0; i < label.len; i++) {
        uint8_t c = lower(label.data[i]);

        if (!is_digit(c) && !(hex && c >= 'a' && c <= 'f'))
            return false;
    }
    return true;
}

/* `*` stands for one whole label, the left one, of a domain that one party owns. */
static const char *check_wildcard(struct bytes text)
{
    char domain[NAME_DNS_MAX + 1];
    size_t len;

    if (text.len < 3 || text.data[1] != '.')
        return "'*' is not a whole label before others";
    if (text.len > NAME_DNS_MAX)
        return NULL; /* never put into a certificate */
    len = text.len - 2;
    for (size_t i = 0; i < len; i++)
        domain[i] = (char)lower(text.data[i + 2]);
    domain[len] = '\0';
    return is_icann_suffix(domain) ? "the wildcard stands right under a public suffix" : NULL;
}

static const char *check_dns(struct bytes text)
{
    bool wildcard = text.len > 0 && text.data[0] == '*';
    size_t label = 0; /* where the current one starts */

    if (text.len == 0)
        return "it is empty";
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && text.data[i] != '.') {
            if (!is_label_octet(text.data[i]) && !(i == 0 && wildcard))
                return "a character no host name has";
            continue;
        }
        if (i == label)
            return "an empty label";
        if (i - label > LABEL_MAX)
            return "a label over 63 characters";
        if (i < text.len)
            label = i + 1;
    }
    if (is_number((struct bytes){text.data + label, text.len - label}))
        return "it looks like an IPv4 address and is none";
    return wildcard ? check_wildcard(text) : NULL;
}

/* Of checked text; over 253 octets nothing is kept. */
static void set_dns(struct name *name, struct bytes text)
{
    name->kind = NAME_DNS;
    name->len = text.len <= NAME_DNS_MAX ? (uint16_t)text.len : 0;
    for (size_t i = 0; i < name->len; i++)
        name->data[i] = lower(text.data[i]);
    name->data[name->len] = 0;
}

/* ---- addresses ---- */

static bool is_mapped(const uint8_t address[16])
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

    return memcmp(address, prefix, sizeof(prefix)) == 0;
}

static bool set_address(struct name *name, const uint8_t *address, size_t len)
{
    name->kind = NAME_IP;
    name->len = (uint16_t)len;
    memcpy(name->data, address, len);
    name->data[len] = 0;
    return true;
}

/* Decimal dotted quad or IPv6 text without brackets or zone. */
static bool name_of_address(struct bytes text, struct name *ret)
{
    char copy[ADDRESS_TEXT_MAX + 1];
    uint8_t address[16];

    if (text.len == 0 || text.len > ADDRESS_TEXT_MAX || memchr(text.data, 0, text.len))
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (inet_pton(AF_INET, copy, address) == 1)
        return set_address(ret, address, 4);
    if (inet_pton(AF_INET6, copy, address) != 1)
        return false;
    return is_mapped(address) ? set_address(ret, address + 12, 4) : set_address(ret, address, 16);
}

/* ---- a request's host ---- */

static enum leafd_err refuse(struct why *why, struct bytes host, const char *what)
{
    char escaped[120];

    if (!why)
        return LEAFD_REFUSED;
    return fail(why, LEAFD_REFUSED, "host \"%s\" is refused: %s",
                bytes_escape(host, escaped, sizeof(escaped)), what);
}

static bool has_high_octet(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] & 0x80)
            return true;
    return false;
}

/* One label with non-ASCII characters, as its A-label, to the end of `ascii`. */
static const char *append_a_label(struct bytes label, char ascii[static HOST_ASCII_MAX],
                                  size_t *len)
{
    uint8_t copy[HOST_MAX + 1];
    uint8_t *converted = NULL;
    const char *bad = NULL;

    memcpy(copy, label.data, label.len);
    copy[label.len] = 0;
    if (idn2_lookup_u8(copy, &converted, IDN2_NONTRANSITIONAL) != IDN2_OK) {
        bad = "a label that IDNA does not know";
    } else if (*len + strlen((const char *)converted) > HOST_ASCII_MAX) {
        bad = "it is too long";
    } else {
        memcpy(ascii + *len, converted, strlen((const char *)converted));
        *len += strlen((const char *)converted);
    }
    idn2_free(converted);
    return bad;
}

/* The host with every label that has non-ASCII characters turned into its A-label. What comes out
 * is still to be checked: the mapping may give dots, digits and slashes. */
static const char *to_ascii(struct bytes host, char ascii[static HOST_ASCII_MAX], size_t *ret_len)
{
    size_t len = 0;
    size_t start = 0;

    if (memchr(host.data, 0, host.len))
        return "a character no host name has";
    for (size_t i = 0; i <= host.len; i++) {
        struct bytes label = {host.data + start, i - start};
        const char *bad = NULL;

        if (i < host.len && host.data[i] != '.')
            continue;
        if (has_high_octet(label)) {
            bad = append_a_label(label, ascii, &len);
        } else if (len + label.len > HOST_ASCII_MAX) {
            bad = "it is too long";
        } else {
            memcpy(ascii + len, label.data, label.len);
            len += label.len;
        }
        if (!bad && i < host.len && len == HOST_ASCII_MAX)
            bad = "it is too long";
        if (bad)
            return bad;
        if (i < host.len)
            ascii[len++] = '.';
        start = i + 1;
    }
    *ret_len = len;
    return NULL;
}

enum leafd_err name_of_host(struct bytes host, bool with_cert, struct name *ret, struct why *why)
{
    struct bytes text = host;
    char ascii[HOST_ASCII_MAX];
    const char *bad;

    if (host.len == 0)
        return refuse(why, host, "it is empty");
    if (host.len > HOST_MAX)
        return refuse(why, host, "it is too long");
    if (host.data[0] == '[') {
        text = (struct bytes){host.data + 1, host.len - 1};
        if (text.len < 2 || text.data[text.len - 1] != ']' || !memchr(text.data, ':', text.len))
            return refuse(why, host, "no IPv6 address stands in its brackets");
        text.len--;
    } else if (text.data[text.len - 1] == '.') {
        text.len--;
    }
    if (name_of_address(text, ret))
        return LEAFD_OK;
    if (memchr(text.data, ':', text.len))
        return refuse(why, host, "it is neither a name nor an IPv6 address");

    if (has_high_octet(text)) {
        bad = to_ascii(text, ascii, &text.len);
        if (bad)
            return refuse(why, host, bad);
        text.data = (const uint8_t *)ascii;
    }
    bad = check_dns(text);
    if (!bad && text.len > NAME_DNS_MAX && !with_cert)
        bad = "it is over 253 characters";
    if (bad)
        return refuse(why, host, bad);
    set_dns(ret, text);
    return LEAFD_OK;
}

/* ---- names in certificates ---- */

bool name_of_dns(struct bytes dns, struct name *ret)
{
    if (dns.len > NAME_DNS_MAX || check_dns(dns))
        return false;
    set_dns(ret, dns);
    return true;
}

bool name_dns_is_strict(struct bytes dns)
{
    for (size_t i = 0; i < dns.len; i++)
        if (dns.data[i] != lower(dns.data[i]))
            return false;
    return dns.len <= NAME_DNS_MAX && !check_dns(dns);
}

bool name_of_ip(struct bytes ip, struct name *ret)
{
    return (ip.len == 4 || ip.len == 16) && set_address(ret, ip.data, ip.len);
}

const char *name_text(const struct name *name, char *out, size_t size)
{
    int family = name->len == 4 ? AF_INET : AF_INET6;

    if (size == 0)
        return "";
    if (name->kind == NAME_DNS)
        snprintf(out, size, "%.*s", (int)name->len, (const char *)name->data);
    else if (!inet_ntop(family, name->data, out, (socklen_t)size))
        out[0] = '\0';
    return out;
}

/* What stands behind the first label; empty when there is only one. */
static struct bytes parent_of(struct bytes dns)
{
    const uint8_t *dot = dns.len ? memchr(dns.data, '.', dns.len) : NULL;

    if (!dot)
        return (struct bytes){NULL, 0};
    return (struct bytes){dot + 1, (size_t)(dns.data + dns.len - dot - 1)};
}

bool name_matches(const struct name *pattern, const struct name *host)
{
    if (host->len == 0)
        return false;
    if (name_equal(pattern, host))
        return true;
    return name_is_wildcard(pattern) && host->kind == NAME_DNS &&
           bytes_equal(parent_of(name_bytes(pattern)), parent_of(name_bytes(host)));
}

/* ---- rules ---- */

static bool prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned octets = bits / 8;
    uint8_t mask = (uint8_t)(0xff00 >> bits % 8);

    if (memcmp(a, b, octets) != 0)
        return false;
    return bits % 8 == 0 || ((a[octets] ^ b[octets]) & mask) == 0;
}

/* Is nothing set in the address behind the prefix? */
static bool is_network(const struct name *address, unsigned prefix)
{
    for (unsigned bit = prefix; bit < address->len * 8U; bit++)
        if (address->data[bit / 8] & (0x80 >> bit % 8))
            return false;
    return true;
}

static enum leafd_err network_of(const char *text, struct name_rule *ret, struct why *why)
{
    const char *slash = strchr(text, '/');
    struct bytes address = bytes_of(text);
    struct name_rule rule = {.kind = NAME_IP};
    unsigned long prefix;
    char *end;

    if (slash)
        address.len = (size_t)(slash - text);
    if (!name_of_address(address, &rule.base))
        return fail(why, LEAFD_CONFIG, "no address stands before the '/'");
    prefix = rule.base.len * 8U;
    if (slash) {
        if (!is_digit((uint8_t)slash[1]))
            return fail(why, LEAFD_CONFIG, "no number stands behind the '/'");
        prefix = strtoul(slash + 1, &end, 10);
        if (rule.base.len == 4 && memchr(address.data, ':', address.len))
            prefix = prefix >= 96 ? prefix - 96 : 129; /* ::ffff:192.0.2.0/120 */
        if (*end || prefix > rule.base.len * 8U)
            return fail(why, LEAFD_CONFIG, "the prefix is no number of its address's bits");
    }
    rule.prefix = (unsigned)prefix;
    if (!is_network(&rule.base, rule.prefix))
        return fail(why, LEAFD_CONFIG, "the address has bits behind its prefix");
    *ret = rule;
    return LEAFD_OK;
}

enum leafd_err name_rule_of(const char *text, struct name_rule *ret, struct why *why)
{
    struct name_rule rule = {.kind = NAME_DNS};
    struct name address;
    struct why inner = {{0}};

    if (strchr(text, '/') || name_of_address(bytes_of(text), &address)) {
        if (network_of(text, ret, &inner) == LEAFD_OK)
            return LEAFD_OK;
    } else {
        rule.only_below = text[0] == '.';
        if (name_of_host(bytes_of(text + rule.only_below), false, &rule.base, &inner) == LEAFD_OK) {
            if (rule.base.kind == NAME_DNS && !name_is_wildcard(&rule.base)) {
                *ret = rule;
                return LEAFD_OK;
            }
            fail(&inner, LEAFD_CONFIG, "write \".example.org\" for all names below a domain");
        }
    }
    if (why) {
        char escaped[80];

        fail(why, LEAFD_CONFIG, "\"%s\" is neither a domain nor a network: %s",
             bytes_escape(bytes_of(text), escaped, sizeof(escaped)), inner.text);
    }
    return LEAFD_CONFIG;
}

static bool is_below(struct bytes dns, struct bytes base)
{
    if (dns.len <= base.len + 1)
        return false;
    return dns.data[dns.len - base.len - 1] == '.' &&
           memcmp(dns.data + dns.len - base.len, base.data, base.len) == 0;
}

static bool covers_ip(const struct name_rule *rule, const struct name *name)
{
    return name->len == rule->base.len && prefix_equal(rule->base.data, name->data, rule->prefix);
}

bool name_rule_covers_all(const struct name_rule *rule, const struct name *name)
{
    struct bytes base = name_bytes(&rule->base);
    struct bytes dns = name_bytes(name);

    if (rule->kind != name->kind || name->len == 0)
        return false;
    if (rule->kind == NAME_IP)
        return covers_ip(rule, name);
    if (base.len == 0)
        return true;
    return is_below(dns, base) || (!rule->only_below && bytes_equal(dns, base));
}

bool name_rule_covers(const struct name_rule *rule, const struct name *name)
{
    if (name_rule_covers_all(rule, name))
        return true;
    if (rule->kind != name->kind)
        return false;
    if (rule->kind == NAME_IP) {
        struct name plain;

        return name->len == 16 && is_mapped(name->data) &&
               set_address(&plain, name->data + 12, 4) && covers_ip(rule, &plain);
    }
    /* "*.example.org" stands for a.example.org, and for nothing below that */
    return name_is_wildcard(name) && !rule->only_below &&
           bytes_equal(parent_of(name_bytes(name)), parent_of(name_bytes(&rule->base)));
}
