/* SPDX-License-Identifier: Apache-2.0 */
#include "der/x501_name.h"

#include "der/der_reader.h"

enum { FOLD_MAX = 512 };

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

bool x501_name_equal(struct bytes a, struct bytes b)
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
