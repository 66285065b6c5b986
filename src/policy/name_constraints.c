/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "policy/name_constraints.h"

#include "der/der_reader.h"

#include <stdlib.h>
#include <string.h>

enum {
    DNS_NAME = DER_CONTEXT(2),
    DIRECTORY_NAME = DER_CONTEXT_CONSTRUCTED(4),
    IP_ADDRESS = DER_CONTEXT(7),
    PERMITTED = DER_CONTEXT_CONSTRUCTED(0),
    EXCLUDED = DER_CONTEXT_CONSTRUCTED(1)
};

/* The rules of one list while it is made. */
struct rules {
    struct name_rule *rule;
    size_t count;
};

static enum leafd_err rules_add(struct rules *rules, const struct name_rule *rule, struct why *why)
{
    struct name_rule *more;

    if (rules->count == NAME_CONSTRAINTS_MAX)
        return fail(why, LEAFD_CONFIG, "the CA has more than %d name constraints of a kind",
                    NAME_CONSTRAINTS_MAX);
    more = reallocarray(rules->rule, rules->count + 1, sizeof(*more));
    if (!more)
        return LEAFD_NOMEM;
    more[rules->count++] = *rule;
    rules->rule = more;
    return LEAFD_OK;
}

static struct name_constraints constraints_of(const struct rules *permitted,
                                              const struct rules *excluded, bool on_subject)
{
    return (struct name_constraints){permitted->rule, permitted->count, excluded->rule,
                                     excluded->count, on_subject};
}

void name_constraints_clear(struct name_constraints *constraints)
{
    free(constraints->permitted);
    free(constraints->excluded);
    *constraints = (struct name_constraints){NULL, 0, NULL, 0, false};
}

/* ---- reading ---- */

static bool rule_of_dns(struct bytes dns, struct name_rule *ret)
{
    *ret = (struct name_rule){.kind = NAME_DNS};
    if (dns.len == 0)
        return true; /* every name */
    if (dns.data[0] == '.') {
        ret->only_below = true;
        dns = (struct bytes){dns.data + 1, dns.len - 1};
    }
    return name_of_dns(dns, &ret->base) && !name_is_wildcard(&ret->base);
}

/* Address and mask, one behind the other; the mask must be a prefix. */
static bool rule_of_ip(struct bytes ip, struct name_rule *ret)
{
    size_t len = ip.len / 2;
    uint8_t network[16];
    unsigned prefix = 0;

    if (ip.len != 8 && ip.len != 32)
        return false;
    while (prefix < len * 8 && ip.data[len + prefix / 8] & (0x80 >> prefix % 8))
        prefix++;
    for (size_t bit = prefix; bit < len * 8; bit++)
        if (ip.data[len + bit / 8] & (0x80 >> bit % 8))
            return false;
    for (size_t i = 0; i < len; i++)
        network[i] = ip.data[i] & ip.data[len + i];
    *ret = (struct name_rule){.kind = NAME_IP, .prefix = prefix};
    return name_of_ip((struct bytes){network, len}, &ret->base);
}

static enum leafd_err read_subtree(struct der *list, struct rules *rules, bool *on_subject,
                                   struct why *why)
{
    struct der subtree = der_enter(list, DER_SEQUENCE);
    struct name_rule rule;
    uint8_t tag = 0;
    struct bytes base = {NULL, 0};

    der_read_any(&subtree, &tag, &base, NULL);
    if (!der_done(&subtree)) /* also minimum and maximum, which RFC 5280 forbids */
        return fail(why, LEAFD_CONFIG, "the CA's name constraints cannot be read");
    *on_subject |= tag == DIRECTORY_NAME;
    if (tag != DNS_NAME && tag != IP_ADDRESS)
        return LEAFD_OK;
    if (!(tag == DNS_NAME ? rule_of_dns(base, &rule) : rule_of_ip(base, &rule)))
        return fail(why, LEAFD_CONFIG, "the CA's name constraints hold a %s that is none",
                    tag == DNS_NAME ? "domain" : "network");
    return rules_add(rules, &rule, why);
}

static enum leafd_err read_subtrees(struct der *constraints, uint8_t tag, struct rules *rules,
                                    bool *on_subject, struct why *why)
{
    struct der list;

    if (!der_next_is(constraints, tag))
        return LEAFD_OK;
    list = der_enter(constraints, tag);
    do {
        enum leafd_err err = read_subtree(&list, rules, on_subject, why);

        if (err)
            return err;
    } while (!der_done(&list));
    return LEAFD_OK;
}

enum leafd_err name_constraints_read(struct bytes value, struct name_constraints *ret,
                                     struct why *why)
{
    struct der der = der_of(value);
    struct der constraints = der_enter(&der, DER_SEQUENCE);
    struct rules permitted = {NULL, 0}, excluded = {NULL, 0};
    bool on_subject = false;
    enum leafd_err err = read_subtrees(&constraints, PERMITTED, &permitted, &on_subject, why);

    if (!err)
        err = read_subtrees(&constraints, EXCLUDED, &excluded, &on_subject, why);
    if (!err && (!der_done(&constraints) || !der_done(&der)))
        err = fail(why, LEAFD_CONFIG, "the CA's name constraints cannot be read");
    if (err) {
        free(permitted.rule);
        free(excluded.rule);
        return err;
    }
    *ret = constraints_of(&permitted, &excluded, on_subject);
    return LEAFD_OK;
}

/* ---- asking ---- */

static bool has_kind(const struct name_rule *rules, size_t count, enum name_kind kind)
{
    for (size_t i = 0; i < count; i++)
        if (rules[i].kind == kind)
            return true;
    return false;
}

bool name_constraints_touch(const struct name_constraints *constraints, enum name_kind kind)
{
    return has_kind(constraints->permitted, constraints->permitted_count, kind) ||
           has_kind(constraints->excluded, constraints->excluded_count, kind);
}

bool name_constraints_allow(const struct name_constraints *constraints, const struct name *name)
{
    for (size_t i = 0; i < constraints->excluded_count; i++)
        if (name_rule_covers(&constraints->excluded[i], name))
            return false;
    for (size_t i = 0; i < constraints->permitted_count; i++)
        if (name_rule_covers_all(&constraints->permitted[i], name))
            return true;
    return !has_kind(constraints->permitted, constraints->permitted_count, name->kind);
}

/* ---- making ---- */

static enum leafd_err rules_of(const char *const *texts, size_t count, struct rules *rules,
                               struct why *why)
{
    for (size_t i = 0; i < count; i++) {
        struct name_rule rule;
        enum leafd_err err;

        if (texts[i][0] == '.' || strncmp(texts[i], "*.", 2) == 0)
            return fail(why, LEAFD_CONFIG,
                        "\"%.60s\": name constraints have no form for the names below a domain "
                        "alone; the domain itself covers them too",
                        texts[i]);
        err = name_rule_of(texts[i], &rule, why);
        if (!err)
            err = rules_add(rules, &rule, why);
        if (err)
            return err;
    }
    return LEAFD_OK;
}

static bool has_family(const struct rules *rules, size_t address_len)
{
    for (size_t i = 0; i < rules->count; i++)
        if (rules->rule[i].kind == NAME_IP && rules->rule[i].base.len == address_len)
            return true;
    return false;
}

static enum leafd_err exclude_other_families(const struct rules *permitted, struct rules *excluded,
                                             struct why *why)
{
    static const uint8_t nowhere[16];
    enum leafd_err err = LEAFD_OK;

    for (size_t len = 4; !err && len <= 16; len += 12) {
        struct name_rule all = {.kind = NAME_IP, .prefix = 0};

        if (permitted->count > 0 && !has_family(permitted, len) &&
            name_of_ip((struct bytes){nowhere, len}, &all.base))
            err = rules_add(excluded, &all, why);
    }
    return err;
}

enum leafd_err name_constraints_of(const char *const *permit, size_t permit_count,
                                   const char *const *exclude, size_t exclude_count,
                                   struct name_constraints *ret, struct why *why)
{
    struct rules permitted = {NULL, 0}, excluded = {NULL, 0};
    enum leafd_err err = rules_of(permit, permit_count, &permitted, why);

    if (!err)
        err = rules_of(exclude, exclude_count, &excluded, why);
    if (!err)
        err = exclude_other_families(&permitted, &excluded, why);
    if (err) {
        free(permitted.rule);
        free(excluded.rule);
        return err;
    }
    *ret = constraints_of(&permitted, &excluded, false);
    return LEAFD_OK;
}

static void put_network(struct der_writer *writer, const struct name_rule *rule)
{
    uint8_t text[32];
    size_t len = rule->base.len;

    memcpy(text, rule->base.data, len);
    for (size_t i = 0; i < len; i++) {
        unsigned bits = rule->prefix > 8 * i ? rule->prefix - 8 * (unsigned)i : 0;

        text[len + i] = bits >= 8 ? 0xff : (uint8_t)(0xff00 >> bits);
    }
    der_put_element(writer, IP_ADDRESS, (struct bytes){text, 2 * len});
}

static void put_subtrees(struct der_writer *writer, uint8_t tag, const struct name_rule *rules,
                         size_t count)
{
    const uint8_t *list = der_mark(writer);

    if (count == 0)
        return;
    for (size_t i = count; i-- > 0;) {
        const uint8_t *subtree = der_mark(writer);

        if (rules[i].kind == NAME_IP)
            put_network(writer, &rules[i]);
        else
            der_put_element(writer, DNS_NAME, name_bytes(&rules[i].base));
        der_wrap(writer, DER_SEQUENCE, subtree);
    }
    der_wrap(writer, tag, list);
}

void name_constraints_put(struct der_writer *writer, const struct name_constraints *constraints)
{
    const uint8_t *mark = der_mark(writer);

    put_subtrees(writer, EXCLUDED, constraints->excluded, constraints->excluded_count);
    put_subtrees(writer, PERMITTED, constraints->permitted, constraints->permitted_count);
    der_wrap(writer, DER_SEQUENCE, mark);
}
