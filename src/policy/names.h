/* SPDX-License-Identifier: Apache-2.0 */
/* Host names and addresses: the only forms that leafd puts into a certificate (RFC 5280 section
 * 4.2.1.6, RFC 6125), used alike on requests, on upstream leaves and in the signer's check.
 *
 * Threads: every function from any thread. */
#pragma once

#include "base/bytes.h"

enum { NAME_DNS_MAX = 253 };

enum name_kind { NAME_DNS, NAME_IP };

/* Loads the public suffix list, which wildcards need; otherwise the first wildcard does. For a role
 * that gives up the file system. */
void names_prepare(void);

/* One checked name: dNSName in lower case and A-labels, or an address of 4 or 16 octets. */
struct name {
    enum name_kind kind;
    uint16_t len;
    uint8_t data[NAME_DNS_MAX + 3];
};

struct bytes name_bytes(const struct name *name);
bool name_equal(const struct name *a, const struct name *b);
/* True for `*.…`. */
bool name_is_wildcard(const struct name *name);

/* The host of a request: IDNA, IPv4, IPv6 (brackets), one trailing dot stripped; ::ffff:192.0.2.1
 * is the IPv4 address. At most 253 octets in A-labels, 1024 `with_cert` (then only as something to
 * compare: a longer one matches nothing and gives kind NAME_DNS with len 0). LEAFD_REFUSED: a form
 * leafd serves nobody; *ret is untouched. */
LEAFD_CHECKED enum leafd_err name_of_host(struct bytes host, bool with_cert, struct name *ret,
                                          struct why *why);

/* A dNSName of an upstream leaf (IA5String content): lower-cased, checked. False for what must be
 * dropped: bad syntax, partial or double wildcard, `*` alone, a wildcard right under an ICANN
 * suffix. */
bool name_of_dns(struct bytes dns, struct name *ret);
/* True when `dns` is already exactly what name_of_dns would give (the signer's check). */
bool name_dns_is_strict(struct bytes dns);
/* An iPAddress of 4 or 16 octets; false for other lengths. */
bool name_of_ip(struct bytes ip, struct name *ret);
/* Text form for logs and CNs ("2001:db8::1"); at least 256 octets of room. */
const char *name_text(const struct name *name, char *out, size_t size);

/* RFC 6125: does a certificate's `pattern` (perhaps a wildcard of one left label) name `host`? */
bool name_matches(const struct name *pattern, const struct name *host);

/* Rules that take names away: domain suffixes ("example.org" covers itself and all below it;
 * ".example.org" only what is below) and networks. */
struct name_rule {
    enum name_kind kind;
    struct name base; /* NAME_DNS: without a leading dot, empty for all names; NAME_IP: the
                         network's address */
    bool only_below;  /* NAME_DNS with a leading dot */
    unsigned prefix;  /* NAME_IP: bits */
};
/* "example.org", ".example.org", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1". */
LEAFD_CHECKED enum leafd_err name_rule_of(const char *text, struct name_rule *ret, struct why *why);
/* True when the rule covers the name. A wildcard is covered when any name it stands for is, an
 * IPv4 address also when it is written as an IPv6 one (::ffff:192.0.2.1). */
bool name_rule_covers(const struct name_rule *rule, const struct name *name);
/* True when the rule covers every name `name` stands for (for permitted subtrees). */
bool name_rule_covers_all(const struct name_rule *rule, const struct name *name);
