/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/der_mutator.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NODES_MAX = 4096, DEPTH_MAX = 16, PIECE_MAX = 65536, HEAD_MAX = 6 };

/* libFuzzer's own mutations; absent from a program that only replays. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak));

/* One element of the input. Its parents come before it. */
struct node {
    size_t at;
    size_t head; /* octets of tag and length */
    size_t len;  /* octets of content */
    int parent;  /* -1: none */
};

struct tree {
    struct node node[NODES_MAX];
    int count;
};

/* ---- chance ---- */

static uint64_t chance_state;

static void chance_seed(unsigned seed)
{
    chance_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

/* A number below `below`, which is not 0 (xorshift64*). */
static size_t chance(size_t below)
{
    chance_state ^= chance_state >> 12;
    chance_state ^= chance_state << 25;
    chance_state ^= chance_state >> 27;
    return (size_t)((chance_state * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % below;
}

/* ---- elements ---- */

/* Tag and length at `data`; the octets they take, 0 for what is no element that fits. */
static size_t read_head(const uint8_t *data, size_t size, size_t *ret_len)
{
    size_t octets, len = 0;

    if (size < 2 || data[0] == 0 || (data[0] & 0x1f) == 0x1f)
        return 0;
    octets = data[1] < 0x80 ? 0 : data[1] & 0x7fU;
    if (octets == 0)
        len = data[1];
    if (data[1] == 0x80 || octets > 3 || size < 2 + octets)
        return 0;
    for (size_t i = 0; i < octets; i++)
        len = len << 8 | data[2 + i];
    if (len > size - 2 - octets)
        return 0;
    *ret_len = len;
    return 2 + octets;
}

static size_t write_head(uint8_t out[static HEAD_MAX], uint8_t tag, size_t len)
{
    size_t octets = len < 0x80 ? 0 : len < 0x100 ? 1 : len < 0x10000 ? 2 : 3;

    out[0] = tag;
    out[1] = (uint8_t)(octets ? 0x80 | octets : len);
    for (size_t i = 0; i < octets; i++)
        out[2 + i] = (uint8_t)(len >> (8 * (octets - 1 - i)));
    return 2 + octets;
}

/* Do elements fill these octets? */
static bool is_filled(const uint8_t *data, size_t size)
{
    size_t len, head;

    for (; size; data += head + len, size -= head + len) {
        head = read_head(data, size, &len);
        if (!head)
            return false;
    }
    return true;
}

static void grow_tree(struct tree *tree, const uint8_t *data, size_t at, size_t end, int parent,
                      int depth)
{
    while (at < end && tree->count < NODES_MAX) {
        size_t len, head = read_head(data + at, end - at, &len);
        int me = tree->count;
        size_t inner = at + head;

        if (!head)
            return;
        tree->node[tree->count++] = (struct node){at, head, len, parent};
        at = inner + len;
        if (depth == DEPTH_MAX)
            continue;
        if (data[inner - head] & 0x20)
            grow_tree(tree, data, inner, at, me, depth + 1);
        else if (data[inner - head] == 0x03 && len > 2 && data[inner] == 0 &&
                 is_filled(data + inner + 1, len - 1))
            grow_tree(tree, data, inner + 1, at, me, depth + 1);
        else if (data[inner - head] == 0x04 && len > 2 && is_filled(data + inner, len))
            grow_tree(tree, data, inner, at, me, depth + 1);
    }
}

/* ---- replacing, with the lengths around mended ---- */

struct edit {
    uint8_t *data;
    size_t size;
    size_t max_size;
    const struct tree *tree;
};

static bool replace_octets(struct edit *edit, size_t at, size_t old, const uint8_t *piece,
                           size_t len)
{
    if (edit->size - old + len > edit->max_size)
        return false;
    memmove(edit->data + at + len, edit->data + at + old, edit->size - at - old);
    if (len)
        memcpy(edit->data + at, piece, len);
    edit->size += len - old;
    return true;
}

/* Puts `piece` in place of `old` octets at `at`, which lie in the content of the node `parent` or
 * of no node. Every step fits or nothing more is done: then the result is broken DER, which is an
 * input too. */
static void splice(struct edit *edit, int parent, size_t at, size_t old, const uint8_t *piece,
                   size_t len)
{
    long more = (long)len - (long)old;

    if (!replace_octets(edit, at, old, piece, len))
        return;
    for (; parent >= 0; parent = edit->tree->node[parent].parent) {
        const struct node *node = &edit->tree->node[parent];
        uint8_t head[HEAD_MAX];
        size_t head_len = write_head(head, edit->data[node->at], (size_t)((long)node->len + more));

        if (!replace_octets(edit, node->at, node->head, head, head_len))
            return;
        more += (long)head_len - (long)node->head;
    }
}

static void put_content(struct edit *edit, int n, const uint8_t *content, size_t len)
{
    const struct node *node = &edit->tree->node[n];

    splice(edit, n, node->at + node->head, node->len, content, len);
}

static void put_whole(struct edit *edit, int n, const uint8_t *whole, size_t len)
{
    const struct node *node = &edit->tree->node[n];

    splice(edit, node->parent, node->at, node->head + node->len, whole, len);
}

/* ---- the mutations ---- */

#define WORD(octets)                                                                               \
    {                                                                                              \
        (const uint8_t *)(octets), sizeof(octets) - 1                                              \
    }
struct word {
    const uint8_t *data;
    size_t len;
};

/* Whole elements that a certificate may hold somewhere. */
static const struct word elements[] = {
    WORD("\x06\x03\x55\x1d\x0e"),                             /* subjectKeyIdentifier */
    WORD("\x06\x03\x55\x1d\x0f"),                             /* keyUsage */
    WORD("\x06\x03\x55\x1d\x11"),                             /* subjectAltName */
    WORD("\x06\x03\x55\x1d\x13"),                             /* basicConstraints */
    WORD("\x06\x03\x55\x1d\x25"),                             /* extKeyUsage */
    WORD("\x06\x03\x55\x1d\x1e"),                             /* nameConstraints */
    WORD("\x06\x0a\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x03"), /* CT poison */
    WORD("\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x18"),         /* TLS feature */
    WORD("\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"),         /* serverAuth */
    WORD("\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"),         /* clientAuth */
    WORD("\x06\x04\x55\x1d\x25\x00"),                         /* any */
    WORD("\x06\x03\x55\x04\x03"),                             /* commonName */
    WORD("\x06\x03\x55\x04\x06"),                             /* countryName */
    WORD("\x06\x03\x55\x04\x05"),                             /* serialNumber */
    WORD("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01"),     /* emailAddress */
    WORD("\x06\x07\x2a\x86\x48\xce\x3d\x02\x01"),             /* id-ecPublicKey */
    WORD("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"),         /* P-256 */
    WORD("\x06\x05\x2b\x81\x04\x00\x22"),                     /* P-384 */
    WORD("\x06\x05\x2b\x81\x04\x00\x23"),                     /* P-521 */
    WORD("\x06\x08\x2a\x81\x1c\xcf\x55\x01\x82\x2d"),         /* SM2 */
    WORD("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"),     /* rsaEncryption */
    WORD("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a"),     /* RSASSA-PSS */
    WORD("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05"),     /* RSA, SHA-1 */
    WORD("\x06\x07\x2a\x86\x48\xce\x3d\x04\x01"),             /* ECDSA, SHA-1 */
    WORD("\x06\x07\x2a\x86\x48\xce\x38\x04\x01"),             /* DSA */
    WORD("\x06\x03\x2b\x65\x70"),                             /* Ed25519 */
    WORD("\x06\x03\x2b\x65\x71"),                             /* Ed448 */
    WORD("\x01\x01\xff"),
    WORD("\x01\x01\x00"),
    WORD("\x01\x01\x01"),
    WORD("\x05\x00"),
    WORD("\x02\x01\x00"),
    WORD("\x02\x02\x00\x01"),
    WORD("\x02\x01\xff"),
    WORD("\x02\x00"),
    WORD("\x03\x02\x07\x80"),
    WORD("\x03\x02\x05\xa0"),
    WORD("\x03\x01\x00"),
    WORD("\x30\x00"),
    WORD("\x04\x02\x30\x00"),
    WORD("\x31\x00"),
    WORD("\xa0\x03\x02\x01\x02"),
    WORD("\x17\x0d"
         "260101000000Z"),
    WORD("\x17\x0d"
         "491231235959Z"),
    WORD("\x17\x0d"
         "500101000000Z"),
    WORD("\x18\x0f"
         "20500101000000Z"),
    WORD("\x18\x0f"
         "99991231235959Z"),
    WORD("\x18\x0f"
         "20260228000000Z"),
    WORD("\x82\x0f"
         "www.example.org"),
    WORD("\x82\x0d"
         "*.example.org"),
    WORD("\x82\x07"
         "*.co.uk"),
    WORD("\x82\x0e"
         "denied.example"),
    WORD("\x82\x01*"),
    WORD("\x82\x06"
         "f*.org"),
    WORD("\x87\x04\xc0\x00\x02\x07"),
    WORD("\x87\x04\x0a\x00\x00\x01"),
    WORD("\x87\x10\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07"),
    WORD("\x87\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00\x01"),
    WORD("\x87\x05\xc0\x00\x02\x07\x00"),
    WORD("\x0c\x0f"
         "www.example.org"),
    WORD("\x13\x0f"
         "WWW.EXAMPLE.ORG"),
    WORD("\x0c\x09"
         "192.0.2.7"),
    WORD("\x0c\x0b"
         "2001:db8::7"),
    WORD("\x1e\x06\x00"
         "A\x00"
         "B\x00"
         "C"),
    WORD("\x1c\x04\x00\x00\x00"
         "A"),
    WORD("\x14\x02\xc4\xd6"),
    WORD("\x0c\x02\xc3\xa4"),
};

static const uint8_t tags[] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0a, 0x0c, 0x12, 0x13, 0x14,
                               0x16, 0x17, 0x18, 0x1a, 0x1c, 0x1e, 0x30, 0x31, 0x80, 0x81, 0x82,
                               0x86, 0x87, 0x88, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0x2c, 0x24};

static uint8_t piece[PIECE_MAX]; /* room for what is put in */

/* The content through libFuzzer's own mutations, with some room to grow. */
static void change_content(struct edit *edit, int n)
{
    const struct node *node = &edit->tree->node[n];
    size_t len = node->len < PIECE_MAX / 2 ? node->len : PIECE_MAX / 2;

    memcpy(piece, edit->data + node->at + node->head, len);
    len = LLVMFuzzerMutate(piece, len, len + 16);
    put_content(edit, n, piece, len);
}

static void change_octet(struct edit *edit, int n)
{
    const struct node *node = &edit->tree->node[n];

    if (node->len)
        edit->data[node->at + node->head + chance(node->len)] ^= (uint8_t)(1 + chance(255));
}

static void change_tag(struct edit *edit, int n)
{
    edit->data[edit->tree->node[n].at] = tags[chance(sizeof(tags))];
}

/* As if the node `n` stood once more behind the node `m`, or in its place. */
static void copy_node(struct edit *edit, int n, int m, bool instead)
{
    const struct node *from = &edit->tree->node[n];
    const struct node *to = &edit->tree->node[m];
    size_t len = from->head + from->len;

    if (len > PIECE_MAX)
        return;
    memcpy(piece, edit->data + from->at, len);
    if (instead)
        put_whole(edit, m, piece, len);
    else
        splice(edit, to->parent, to->at + to->head + to->len, 0, piece, len);
}

/* Many of them in a row: long lists are what bounds are for. */
static void repeat_node(struct edit *edit, int n)
{
    const struct node *node = &edit->tree->node[n];
    size_t len = node->head + node->len;
    size_t times = 2 + chance(chance(8) ? 6 : 120);
    size_t used = 0;

    for (; times && used + len <= PIECE_MAX; times--, used += len)
        memcpy(piece + used, edit->data + node->at, len);
    put_whole(edit, n, piece, used);
}

/* Changes places with the next one under the same parent. */
static void swap_node(struct edit *edit, int n)
{
    const struct node *node = &edit->tree->node[n];
    size_t len = node->head + node->len;

    for (int m = n + 1; m < edit->tree->count; m++) {
        const struct node *next = &edit->tree->node[m];
        size_t next_len = next->head + next->len;

        if (next->parent != node->parent || len + next_len > PIECE_MAX)
            continue;
        memcpy(piece, edit->data + next->at, next_len);
        memcpy(piece + next_len, edit->data + node->at, len);
        memcpy(edit->data + node->at, piece, len + next_len);
        return;
    }
}

static void put_element(struct edit *edit, int n, bool instead)
{
    const struct node *node = &edit->tree->node[n];
    const struct word *word = &elements[chance(sizeof(elements) / sizeof(elements[0]))];

    if (instead)
        put_whole(edit, n, word->data, word->len);
    else
        splice(edit, node->parent, node->at, 0, word->data, word->len);
}

static void wrap_node(struct edit *edit, int n)
{
    const struct node *node = &edit->tree->node[n];
    size_t len = node->head + node->len, head;

    if (len > PIECE_MAX - HEAD_MAX)
        return;
    head = write_head(piece, tags[chance(sizeof(tags))], len);
    memcpy(piece + head, edit->data + node->at, len);
    put_whole(edit, n, piece, head + len);
}

/* A length in more octets than it needs, none at all (indefinite), or simply another. */
static void break_length(struct edit *edit, int n)
{
    const struct node *node = &edit->tree->node[n];
    const uint8_t longer[] = {edit->data[node->at], 0x83, (uint8_t)(node->len >> 16),
                              (uint8_t)(node->len >> 8), (uint8_t)node->len};

    switch (chance(3)) {
    case 0:
        splice(edit, node->parent, node->at, node->head, longer, sizeof(longer));
        break;
    case 1:
        if (node->len > PIECE_MAX - 4)
            break;
        piece[0] = edit->data[node->at] | 0x20;
        piece[1] = 0x80;
        memcpy(piece + 2, edit->data + node->at + node->head, node->len);
        memset(piece + 2 + node->len, 0, 2);
        put_whole(edit, n, piece, node->len + 4);
        break;
    default:
        edit->data[node->at + node->head - 1] ^= (uint8_t)(1 << chance(8));
        break;
    }
}

static void mutate_node(struct edit *edit, int n)
{
    int other = (int)chance((size_t)edit->tree->count);

    switch (chance(16)) {
    case 0:
    case 1:
    case 2:
        change_content(edit, n);
        break;
    case 3:
    case 4:
        change_octet(edit, n);
        break;
    case 5:
        change_tag(edit, n);
        break;
    case 6:
        put_whole(edit, n, NULL, 0);
        break;
    case 7:
        copy_node(edit, n, n, false);
        break;
    case 8:
        copy_node(edit, n, other, true);
        break;
    case 9:
        copy_node(edit, n, other, false);
        break;
    case 10:
        swap_node(edit, n);
        break;
    case 11:
        put_element(edit, n, true);
        break;
    case 12:
        put_element(edit, n, false);
        break;
    case 13:
        repeat_node(edit, n);
        break;
    case 14:
        wrap_node(edit, n);
        break;
    default:
        break_length(edit, n);
        break;
    }
}

size_t der_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    static struct tree tree;
    struct edit edit = {data, size, max_size, &tree};
    size_t rounds;

    chance_seed(seed);
    if (chance(16) == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    for (rounds = 1 + chance(3); rounds; rounds--) {
        tree.count = 0;
        grow_tree(&tree, data, 0, edit.size, -1, 0);
        if (tree.count == 0)
            return LLVMFuzzerMutate(data, edit.size, max_size);
        mutate_node(&edit, (int)chance((size_t)tree.count));
    }
    return edit.size;
}

size_t der_cross(const uint8_t *one, size_t one_size, const uint8_t *other, size_t other_size,
                 uint8_t *out, size_t max_size, unsigned seed)
{
    static struct tree tree, donor;
    struct edit edit = {out, one_size, max_size, &tree};
    const struct node *from, *to;

    if (one_size > max_size)
        return 0;
    memcpy(out, one, one_size);
    chance_seed(seed);
    tree.count = donor.count = 0;
    grow_tree(&tree, one, 0, one_size, -1, 0);
    grow_tree(&donor, other, 0, other_size, -1, 0);
    if (tree.count == 0 || donor.count == 0)
        return one_size;
    to = &tree.node[chance((size_t)tree.count)];
    from = &donor.node[chance((size_t)donor.count)];
    for (int i = 0; i < 8 && other[from->at] != one[to->at]; i++) /* like for like, mostly */
        from = &donor.node[chance((size_t)donor.count)];
    if (chance(4))
        put_whole(&edit, (int)(to - tree.node), other + from->at, from->head + from->len);
    else
        splice(&edit, to->parent, to->at + to->head + to->len, 0, other + from->at,
               from->head + from->len);
    return edit.size;
}
