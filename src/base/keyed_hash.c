/* SPDX-License-Identifier: Apache-2.0 */
#include "base/keyed_hash.h"

#include <string.h>
#include <sys/random.h>

enum leafd_err hash_secret_init(struct hash_secret *ret)
{
    struct hash_secret secret;

    if (getrandom(&secret, sizeof(secret), 0) != (ssize_t)sizeof(secret))
        return LEAFD_INTERNAL;
    *ret = secret;
    return LEAFD_OK;
}

static uint64_t rotate(uint64_t word, unsigned bits)
{
    return word << bits | word >> (64 - bits);
}

static void mix(uint64_t v[static 4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static void absorb(uint64_t v[static 4], uint64_t word)
{
    v[3] ^= word;
    mix(v);
    v[0] ^= word;
}

uint64_t keyed_hash(const struct hash_secret *secret, struct bytes input)
{
    uint64_t v[4] = {secret->word[0] ^ 0x736f6d6570736575, secret->word[1] ^ 0x646f72616e646f6d,
                     secret->word[0] ^ 0x6c7967656e657261, secret->word[1] ^ 0x7465646279746573};
    uint64_t last = (uint64_t)input.len << 56;
    size_t whole = input.len / 8 * 8;

    for (size_t i = 0; i < whole; i += 8) {
        uint64_t word;

        memcpy(&word, input.data + i, 8);
        absorb(v, word);
    }
    for (size_t i = whole; i < input.len; i++)
        last |= (uint64_t)input.data[i] << 8 * (i - whole);
    absorb(v, last);
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
