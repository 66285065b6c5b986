/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/mimic.h"

#include "der/der_reader.h"
#include "der/oid.h"
#include "der/x501_name.h"
#include "policy/deny_list.h"

#include <stdlib.h>

enum { CN_MAX = 64, NAME_TEXT_MAX = 256 };

static struct bytes empty_name(void)
{
    static const uint8_t empty[MIMIC_EMPTY_LEN] = {DER_SEQUENCE, 0};

    return (struct bytes){empty, sizeof(empty)};
}

/* CN = host, or nothing where the host is too long for one. */
static struct bytes host_subject(const struct name *host, uint8_t room[static MIMIC_SUBJECT_ROOM])
{
    char text_room[NAME_TEXT_MAX];
    struct bytes text = bytes_of(name_text(host, text_room, sizeof(text_room)));
    struct der_writer writer = der_writer_of(room, MIMIC_SUBJECT_ROOM);
    const uint8_t *mark = der_mark(&writer);

    if (text.len == 0 || text.len > CN_MAX)
        return empty_name();
    der_put_element(&writer, DER_UTF8_STRING, text);
    der_put_element(&writer, DER_OID, oid_common_name);
    der_wrap(&writer, DER_SEQUENCE, mark);
    der_wrap(&writer, DER_SET, mark);
    der_wrap(&writer, DER_SEQUENCE, mark);
    return der_written(&writer);
}

/* Is a common name of an upstream leaf more than the upstream itself would be taken for? */
static bool is_more_than_upstream(const struct plan *plan)
{
    return plan->profile == PROFILE_MIMIC && plan->upstream &&
           (plan->upstream->has_dns_names || !deny_list_is_empty(plan->deny));
}

/* Clients that find no dNSName take the CN for one (OpenSSL does), and hold it against a CA's
 * constraints on domains even where it is an address. So a leaf for addresses alone has no subject
 * where its CN was no name of the upstream, since dNSNames stood beside it that no leaf gets; nor
 * where domains are denied, or constrained. */
static bool must_be_nameless(const struct plan *plan)
{
    struct plan_names names;
    bool has_dns = false;

    if (!ca_constrains(plan->ca, NAME_DNS) && !is_more_than_upstream(plan))
        return false;
    if (plan_names(plan, &names) != LEAFD_OK)
        return true;
    for (size_t i = 0; i < names.count; i++)
        has_dns |= names.name[i]->kind == NAME_DNS;
    free(names.name);
    return !has_dns;
}

struct bytes mimic_subject(const struct plan *plan, uint8_t room[static MIMIC_SUBJECT_ROOM])
{
    struct bytes subject;

    if (plan->profile == PROFILE_MIMIC && plan->upstream)
        subject = plan->named_as_ca ? empty_name() : plan->upstream->subject;
    else
        subject = host_subject(&plan->host, room);
    if (subject.len <= MIMIC_EMPTY_LEN || x501_name_equal(subject, plan->ca->subject) ||
        ca_constrains_subject(plan->ca) || must_be_nameless(plan))
        return empty_name();
    return subject;
}

enum leafd_err mimic_put_names(struct der_writer *writer, const struct plan *plan)
{
    enum { DNS_NAME = DER_CONTEXT(2), IP_ADDRESS = DER_CONTEXT(7) };
    const uint8_t *mark = der_mark(writer);
    struct plan_names names;
    enum leafd_err err = plan_names(plan, &names);

    if (err)
        return err;
    for (size_t i = names.count; i-- > 0;)
        der_put_element(writer, names.name[i]->kind == NAME_IP ? IP_ADDRESS : DNS_NAME,
                        name_bytes(names.name[i]));
    der_wrap(writer, DER_SEQUENCE, mark);
    free(names.name);
    return LEAFD_OK;
}
