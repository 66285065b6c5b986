/* SPDX-License-Identifier: Apache-2.0 */
#include "issue/mimic.h"

#include "der/der_reader.h"
#include "der/oid.h"

#include <stdlib.h>

enum { CN_MAX = 64, NAME_TEXT_MAX = 256, FOLD_MAX = 512 };

/* A string as X.500 compares it: letters in one case, runs of spaces as one, none at the ends. */
static struct bytes fold(struct bytes text, uint8_t out[static FOLD_MAX])
{
    size_t len = 0;

    if (text.len > FOLD_MAX)
        return text;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (c == ' ' && (len == 0 || out[len - 1] == ' '))
            continue;
        out[len++] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
    }
    while (len > 0 && out[len - 1] == ' ')
        len--;
    return (struct bytes){out, len};
}

/* One AttributeTypeAndValue of each: the same type, and the same text in whatever string type? */
static bool same_attribute(struct der *a, struct der *b)
{
    struct der in_a = der_enter(a, DER_SEQUENCE), in_b = der_enter(b, DER_SEQUENCE);
    struct bytes type_a = der_read(&in_a, DER_OID), type_b = der_read(&in_b, DER_OID);
    struct bytes text_a, text_b;
    uint8_t tag, room_a[FOLD_MAX], room_b[FOLD_MAX];

    return bytes_equal(type_a, type_b) && der_read_any(&in_a, &tag, &text_a, NULL) &&
           der_read_any(&in_b, &tag, &text_b, NULL) &&
           bytes_equal(fold(text_a, room_a), fold(text_b, room_b));
}

/* Would a client take the two Names for the same? Our rewriting changes string types, so the octets
 * alone do not tell; a leaf that bears its issuer's name passes for self-issued. */
static bool same_name(struct bytes a, struct bytes b)
{
    struct der der_a = der_of(a), der_b = der_of(b);
    struct der in_a = der_enter(&der_a, DER_SEQUENCE), in_b = der_enter(&der_b, DER_SEQUENCE);

    while (der_next_is(&in_a, DER_SET) && der_next_is(&in_b, DER_SET)) {
        struct der set_a = der_enter(&in_a, DER_SET), set_b = der_enter(&in_b, DER_SET);

        while (der_next_is(&set_a, DER_SEQUENCE) && der_next_is(&set_b, DER_SEQUENCE))
            if (!same_attribute(&set_a, &set_b))
                return false;
        if (!der_done(&set_a) || !der_done(&set_b))
            return false;
    }
    return der_done(&in_a) && der_done(&in_b);
}

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

struct bytes mimic_subject(const struct plan *plan, uint8_t room[static MIMIC_SUBJECT_ROOM])
{
    struct bytes subject;

    if (plan->profile == PROFILE_MIMIC && plan->upstream)
        subject = plan->upstream->subject;
    else
        subject = host_subject(&plan->host, room);
    if (subject.len <= MIMIC_EMPTY_LEN || same_name(subject, plan->ca->subject))
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
