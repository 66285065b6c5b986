/* SPDX-License-Identifier: Apache-2.0 */
/* Domains are sorted twice, by themselves and by what stands behind their first label, and looked
 * for once per label of the name. Networks are sorted by the length of their prefix, of which there
 * are few, then by address. */
#include "policy/deny_list.h"

#include <stdlib.h>
#include <string.h>

struct domain {
    struct bytes base;
    struct bytes parent; /* a part of `base`; empty: it has one label */
    bool only_below;
};

struct network {
    uint8_t len; /* of the address */
    uint8_t prefix;
    uint8_t address[16];
};

struct deny_list {
    struct domain *domain; /* by base; of twins the one that is not only_below first */
    size_t domain_count;
    const struct domain **by_parent; /* those that are not only_below */
    size_t parent_count;
    struct network *network;
    size_t network_count;
};

/* ---- order ---- */

static int compare_domains(const void *a, const void *b)
{
    const struct domain *x = a, *y = b;
    int order = bytes_compare(x->base, y->base);

    return order ? order : x->only_below - y->only_below;
}

static int compare_parents(const void *a, const void *b)
{
    const struct domain *const *x = a, *const *y = b;

    return bytes_compare((*x)->parent, (*y)->parent);
}

static int compare_networks(const void *a, const void *b)
{
    const struct network *x = a, *y = b;

    if (x->len != y->len)
        return x->len - y->len;
    if (x->prefix != y->prefix)
        return x->prefix - y->prefix;
    return memcmp(x->address, y->address, x->len);
}

/* ---- making ---- */

static struct bytes parent_of(struct bytes dns)
{
    const uint8_t *dot = memchr(dns.data, '.', dns.len);

    if (!dot)
        return (struct bytes){dns.data, 0};
    return (struct bytes){dot + 1, (size_t)(dns.data + dns.len - dot - 1)};
}

static enum leafd_err add(struct deny_list *list, const struct name_rule *rule)
{
    struct bytes base;

    if (rule->kind == NAME_IP) {
        struct network *network = &list->network[list->network_count++];

        *network =
            (struct network){.len = (uint8_t)rule->base.len, .prefix = (uint8_t)rule->prefix};
        memcpy(network->address, rule->base.data, rule->base.len);
        return LEAFD_OK;
    }
    base = bytes_copy(name_bytes(&rule->base));
    if (!base.data)
        return LEAFD_NOMEM;
    list->domain[list->domain_count++] = (struct domain){base, parent_of(base), rule->only_below};
    return LEAFD_OK;
}

static void sort(struct deny_list *list)
{
    qsort(list->domain, list->domain_count, sizeof(*list->domain), compare_domains);
    qsort(list->network, list->network_count, sizeof(*list->network), compare_networks);
    for (size_t i = 0; i < list->domain_count; i++)
        if (!list->domain[i].only_below && list->domain[i].parent.len > 0)
            list->by_parent[list->parent_count++] = &list->domain[i];
    qsort(list->by_parent, list->parent_count, sizeof(*list->by_parent), compare_parents);
}

enum leafd_err deny_list_new(char *const *texts, size_t count, struct deny_list **ret,
                             struct why *why)
{
    struct deny_list *list = calloc(1, sizeof(*list));
    enum leafd_err err = LEAFD_NOMEM;

    if (!list)
        return LEAFD_NOMEM;
    list->domain = calloc(count + 1, sizeof(*list->domain));
    list->by_parent = calloc(count + 1, sizeof(*list->by_parent));
    list->network = calloc(count + 1, sizeof(*list->network));
    if (list->domain && list->by_parent && list->network)
        err = LEAFD_OK;
    for (size_t i = 0; err == LEAFD_OK && i < count; i++) {
        struct name_rule rule;

        err = name_rule_of(texts[i], &rule, why);
        if (err == LEAFD_OK)
            err = add(list, &rule);
    }
    if (err != LEAFD_OK) {
        deny_list_free(list);
        return err;
    }
    sort(list);
    *ret = list;
    return LEAFD_OK;
}

void deny_list_free(struct deny_list *list)
{
    if (!list)
        return;
    for (size_t i = 0; i < list->domain_count; i++)
        free((void *)(uintptr_t)list->domain[i].base.data);
    free(list->domain);
    free(list->by_parent);
    free(list->network);
    free(list);
}

bool deny_list_is_empty(const struct deny_list *list)
{
    return !list || (list->domain_count == 0 && list->network_count == 0);
}

/* ---- looking ---- */

/* The first of its twins, or NULL. */
static const struct domain *find_domain(const struct deny_list *list, struct bytes base)
{
    size_t low = 0, high = list->domain_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (bytes_compare(list->domain[middle].base, base) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list->domain_count && bytes_equal(list->domain[low].base, base)
               ? &list->domain[low]
               : NULL;
}

static bool has_child_of(const struct deny_list *list, struct bytes parent)
{
    const struct domain domain = {.parent = parent}, *key = &domain;

    return bsearch(&key, list->by_parent, list->parent_count, sizeof(*list->by_parent),
                   compare_parents) != NULL;
}

static bool covers_dns(const struct deny_list *list, const struct name *name)
{
    struct bytes rest = name_bytes(name);
    const struct domain *whole = find_domain(list, rest);

    if (whole && !whole->only_below)
        return true;
    if (name_is_wildcard(name) && has_child_of(list, parent_of(rest)))
        return true; /* it stands for a denied name */
    for (rest = parent_of(rest); rest.len > 0; rest = parent_of(rest))
        if (find_domain(list, rest))
            return true;
    return false;
}

/* The first network behind those with the same lengths as network `at`. */
static size_t next_length(const struct deny_list *list, size_t at)
{
    size_t low = at, high = list->network_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (list->network[middle].len == list->network[at].len &&
            list->network[middle].prefix == list->network[at].prefix)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool covers_ip(const struct deny_list *list, const uint8_t *address, size_t len)
{
    for (size_t at = 0, next; at < list->network_count; at = next) {
        struct network key = {.len = (uint8_t)len, .prefix = list->network[at].prefix};
        unsigned octets = key.prefix / 8;

        next = next_length(list, at);
        if (list->network[at].len != len)
            continue;
        memcpy(key.address, address, octets);
        if (key.prefix % 8)
            key.address[octets] = (uint8_t)(address[octets] & 0xff00 >> key.prefix % 8);
        if (bsearch(&key, &list->network[at], next - at, sizeof(key), compare_networks))
            return true;
    }
    return false;
}

bool deny_list_covers(const struct deny_list *list, const struct name *name)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (!list || name->len == 0)
        return false;
    if (name->kind == NAME_DNS)
        return list->domain_count > 0 && covers_dns(list, name);
    if (covers_ip(list, name->data, name->len))
        return true;
    return name->len == 16 && memcmp(name->data, mapped, sizeof(mapped)) == 0 &&
           covers_ip(list, name->data + 12, 4); /* an IPv4 address all the same */
}
