/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's functions one by one, each from every state that a cursor can be in, back into such
 * a state: so whatever is called in whatever order, nothing outside the input is ever read, and
 * nothing outside it is ever given out. */
#include "der/der_reader.h"
#include "tests/prove/prove.h"

/* What every cursor over a part of `input` is like. */
static bool is_sound(const struct der *der, struct bytes input)
{
    if (!der->at)
        return !der->end;
    return is_inside((struct bytes){der->at, 0}, input) &&
           is_inside((struct bytes){der->end, 0}, input) && der->at <= der->end &&
           (!der->failed || der->at == der->end);
}

static struct der any_cursor(struct bytes input)
{
    struct der der = {NULL, NULL, nondet_bool()};
    size_t at = nondet_size(), end = nondet_size();

    if (!input.data || nondet_bool())
        return der; /* over nothing */
    ASSUME(at <= end && end <= input.len);
    der.at = input.data + at;
    der.end = input.data + end;
    ASSUME(is_sound(&der, input));
    return der;
}

/* What is true after every function that may move `der`, which was `before`. */
static void prove_moved(const struct der *der, const struct der *before, struct bytes input)
{
    PROVE(is_sound(der, input));
    PROVE(der->end == before->end);
    PROVE(der->at == before->at || der->at > before->at);
    PROVE(!before->failed || der->failed);
}

void prove_of(void)
{
    struct bytes input = any_input();
    struct der der = der_of(input);

    PROVE(is_sound(&der, input));
    PROVE(!der.failed);
    PROVE(der_done(&der) == (input.len == 0));
}

void prove_look(void)
{
    struct bytes input = any_input();
    struct der der = any_cursor(input);
    uint8_t tag = nondet_octet();
    uint8_t next = der_peek(&der);

    PROVE(!der.failed || next == 0);
    PROVE(der_next_is(&der, tag) == (tag != 0 && next == tag));
    PROVE(!der_done(&der) || (next == 0 && !der.failed && der.at == der.end));
    PROVE(!der.failed || !der_done(&der));
}

void prove_fail(void)
{
    struct bytes input = any_input();
    struct der der = any_cursor(input), before = der;

    der_fail(&der);
    PROVE(der.failed);
    prove_moved(&der, &before, input);
}

/* A good element: a tag that DER has, the length in its shortest form, and the content behind it.
 */
static void prove_element(struct bytes whole, uint8_t tag, struct bytes content)
{
    size_t head = whole.len - content.len;

    PROVE(whole.len >= 2 && head >= 2 && head <= 6);
    PROVE(content.data == whole.data + head);
    PROVE(whole.data[0] == tag && tag != 0 && (tag & 0x1f) != 0x1f);
    if (content.len < 0x80)
        PROVE(head == 2 && whole.data[1] == content.len);
    else
        PROVE(head == 2u + (content.len > 0xff) + (content.len > 0xffff) +
                          (content.len > 0xffffff) + 1 &&
              whole.data[1] == (0x80 | (head - 2)) && whole.data[2] != 0);
}

void prove_read_any(void)
{
    struct bytes input = any_input();
    struct der der = any_cursor(input), before = der;
    uint8_t tag = 0;
    struct bytes content = {NULL, 0};
    struct bytes whole = {NULL, 0};
    bool wants_whole = nondet_bool();
    bool read = der_read_any(&der, &tag, &content, wants_whole ? &whole : NULL);

    prove_moved(&der, &before, input);
    PROVE(read != der.failed);
    PROVE(!read || !before.failed);
    if (!read) {
        PROVE(tag == 0 && !content.data && !whole.data);
        return;
    }
    PROVE(is_inside(content, input));
    PROVE(content.data + content.len == der.at);
    PROVE(content.data > before.at);
    if (wants_whole) {
        PROVE(whole.data == before.at && whole.data + whole.len == der.at);
        prove_element(whole, tag, content);
    }
}

void prove_read(void)
{
    struct bytes input = any_input();
    struct der der = any_cursor(input), before = der;
    uint8_t tag = nondet_octet();
    bool is_next = der_next_is(&der, tag);
    struct bytes content = der_read(&der, tag);

    prove_moved(&der, &before, input);
    PROVE(is_inside(content, input));
    PROVE(is_next || der.failed);
    if (der.failed)
        PROVE(!content.data && content.len == 0);
    else
        PROVE(content.data > before.at && content.data + content.len == der.at);
}

void prove_read_whole(void)
{
    struct bytes input = any_input();
    struct der der = any_cursor(input), before = der;
    uint8_t tag = nondet_octet();
    struct bytes whole = der_read_whole(&der, tag);

    prove_moved(&der, &before, input);
    PROVE(is_inside(whole, input));
    if (der.failed)
        PROVE(!whole.data && whole.len == 0);
    else
        PROVE(whole.data == before.at && whole.data + whole.len == der.at && whole.data[0] == tag);
}

void prove_enter(void)
{
    struct bytes input = any_input();
    struct der der = any_cursor(input), before = der;
    uint8_t tag = nondet_octet();
    struct der inner = der_enter(&der, tag);

    prove_moved(&der, &before, input);
    PROVE(is_sound(&inner, input));
    PROVE(inner.failed == der.failed);
    if (!inner.failed)
        PROVE(inner.at > before.at && inner.end == der.at);
}

void prove_values(void)
{
    struct bytes input = any_input();
    bool oid = der_oid_is_good(input);
    bool integer = der_integer_is_minimal(input);

    PROVE(input.len > 0 || (!oid && !integer));
    PROVE(!oid || (input.data[0] != 0x80 && input.data[input.len - 1] < 0x80));
}
