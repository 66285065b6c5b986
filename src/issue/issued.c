/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/issued.h"

#include "der/pem.h"

#include <stdatomic.h>
#include <stdlib.h>

static const char label[] = "CERTIFICATE";

enum leafd_err issued_new(struct bytes der, struct leaf_key *key, const struct ca *ca,
                          int64_t not_after, int64_t usable_until, struct issued **ret)
{
    /* One block: the struct, then its PEM. */
    struct issued *issued = malloc(sizeof(*issued) + pem_size(label, der.len) + 1);
    uint8_t *pem = (uint8_t *)(issued + 1);

    if (!issued)
        return LEAFD_NOMEM;
    *issued = (struct issued){
        .refs = 1,
        .pem = {pem, pem_write(label, der, pem)},
        .key = leaf_key_ref(key),
        .ca = ca_ref(ca),
        .not_after = not_after,
        .usable_until = usable_until,
    };
    *ret = issued;
    return LEAFD_OK;
}

struct issued *issued_ref(struct issued *issued)
{
    atomic_fetch_add_explicit(&issued->refs, 1, memory_order_relaxed);
    return issued;
}

void issued_unref(struct issued *issued)
{
    if (!issued || atomic_fetch_sub_explicit(&issued->refs, 1, memory_order_acq_rel) != 1)
        return;
    leaf_key_unref(issued->key);
    ca_unref(issued->ca);
    free(issued);
}

enum leafd_err issued_der(const struct issued *issued, uint8_t *out, size_t size, struct bytes *ret)
{
    return pem_read(label, issued->pem, out, size, ret);
}

size_t issued_size(const struct issued *issued)
{
    /* A shared key counts in full with each leaf: who shares it changes, and this may not. */
    return sizeof(*issued) + issued->pem.len + 1 + sizeof(*issued->key) + issued->key->spki.len +
           issued->key->private_der.len;
}
