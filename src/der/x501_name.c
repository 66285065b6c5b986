/* SPDX-License-Identifier: Apache-2.0 */
#include "der/x501_name.h"

#include "der/der_reader.h"
#include "der/utf8.h"

enum { TEXT_MAX = 512, FOLD_MAX = 2 * TEXT_MAX /* Latin-1 doubles in UTF-8 */ };

/* Octets of one character in a string of this type. */
static size_t width_of(uint8_t tag)
{
    return tag == DER_UNIVERSAL_STRING ? 4 : tag == DER_BMP_STRING ? 2 : 1;
}

/* One character as UTF-8, of strings whose types have another encoding (T61String is taken for
 * Latin-1, as clients take it); the octet as it is of all others. */
static size_t utf8_of(uint8_t tag, const uint8_t *at, uint8_t out[static 4])
{
    uint32_t code = 0;

    for (size_t i = 0; i < width_of(tag); i++)
        code = code << 8 | at[i];
    if (width_of(tag) > 1 || tag == DER_T61_STRING)
        return utf8_put(code, out);
    out[0] = (uint8_t)code;
    return 1;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* A string as X.500 compares it: letters in one case, runs of spaces as one, none at the ends. */
static struct bytes fold(uint8_t tag, struct bytes text, uint8_t out[static FOLD_MAX])
{
    size_t width = width_of(tag);
    size_t len = 0;

    if (text.len > TEXT_MAX || text.len % width != 0)
        return text;
    for (size_t i = 0; i < text.len; i += width) {
        uint8_t c[4];
        size_t c_len = utf8_of(tag, text.data + i, c);

        if (is_space(c[0])) {
            if (len > 0 && out[len - 1] != ' ')
                out[len++] = ' ';
            continue;
        }
        if (c[0] >= 'A' && c[0] <= 'Z')
            c[0] = (uint8_t)(c[0] + ('a' - 'A'));
        for (size_t k = 0; k < c_len; k++)
            out[len++] = c[k];
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
    uint8_t tag_a, tag_b, room_a[FOLD_MAX], room_b[FOLD_MAX];

    return bytes_equal(type_a, type_b) && der_read_any(&in_a, &tag_a, &text_a, NULL) &&
           der_read_any(&in_b, &tag_b, &text_b, NULL) &&
           bytes_equal(fold(tag_a, text_a, room_a), fold(tag_b, text_b, room_b));
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
