/* SPDX-License-Identifier: Apache-2.0 */
/* Hostile upstream leaves. What must hold of every leaf that is read: its names are in the strict
 * form and differ, its subject is strict DER within bounds, its flags agree with its fields, and
 * reading it again gives the same. */
#include "tests/fuzz/fuzz.h"

#include "der/cert_fields.h"
#include "policy/upstream.h"
#include "policy/upstream_subject.h"

#include <stdlib.h>
#include <string.h>

static void check_names(const struct upstream *upstream)
{
    must(upstream->name_count <= UPSTREAM_NAMES_MAX);
    must((upstream->name_count == 0) == !!(upstream->flags & UPSTREAM_NO_NAMES));
    must(!(upstream->flags & UPSTREAM_CN_ONLY) || upstream->name_count == 1);
    for (size_t i = 0; i < upstream->name_count; i++) {
        const struct name *name = &upstream->names[i];

        if (name->kind == NAME_DNS)
            must(name_dns_is_strict(name_bytes(name)) && !memchr(name->data, 0, name->len));
        else
            must(name->len == 4 || name->len == 16);
        must(upstream_names_host(upstream, name));
        for (size_t k = 0; k < i && i < 64; k++)
            must(!name_equal(name, &upstream->names[k]));
    }
}

static void check_fields(const struct upstream *upstream)
{
    must(cert_name_is_strict(upstream->subject));
    must(upstream->subject.len >= 2 && upstream->subject.len <= UPSTREAM_SUBJECT_MAX);
    must(!!(upstream->flags & UPSTREAM_INVERTED_DATES) ==
         (upstream->not_before > upstream->not_after));
    if (upstream->key_type == KEY_TYPE_RSA)
        must(upstream->flags & UPSTREAM_KEY_WEAK || upstream->key_bits >= 1024);
    must(!(upstream->flags & UPSTREAM_RSA_SHORT) || upstream->key_type == KEY_TYPE_RSA);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    struct upstream *first = NULL;
    struct upstream *second = NULL;
    struct why why = {{0}};

    if (upstream_read(input, &first, &why) != LEAFD_OK) {
        must(!first && why.text[0]);
        return 0;
    }
    check_names(first);
    check_fields(first);
    must(upstream_read(input, &second, NULL) == LEAFD_OK);
    must(first->flags == second->flags && first->name_count == second->name_count);
    must(bytes_equal(first->subject, second->subject));
    must(memcmp(first->sha256, second->sha256, sizeof(first->sha256)) == 0);
    upstream_unref(first);
    upstream_unref(second);
    return 0;
}
