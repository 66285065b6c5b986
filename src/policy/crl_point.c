/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/crl_point.h"

#include "der/der_reader.h"

void crl_point_put(struct der_writer *writer, const char *url)
{
    const uint8_t *mark = der_mark(writer);

    der_put_element(writer, DER_CONTEXT(6), bytes_of(url));
    der_wrap(writer, DER_CONTEXT_CONSTRUCTED(0), mark); /* fullName */
    der_wrap(writer, DER_CONTEXT_CONSTRUCTED(0), mark); /* distributionPoint */
    der_wrap(writer, DER_SEQUENCE, mark);
    der_wrap(writer, DER_SEQUENCE, mark);
}
