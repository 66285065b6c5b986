/* SPDX-License-Identifier: Apache-2.0 */
/* Times: read from any octets, written from any number. That what is written reads as the same is
 * no proof but a test of every day there is (tests/unit/test_der.c): the divisions are too much for
 * CBMC. */
#include "der/der_time.h"
#include "tests/prove/prove.h"

static const int64_t first_sec = -631152000LL;  /* 1950-01-01 00:00:00 */
static const int64_t last_sec = 253402300799LL; /* 9999-12-31 23:59:59 */

void prove_read(void)
{
    struct bytes input = any_input();
    struct der der = der_of(input);
    bool odd = false;
    bool is_utc = der_next_is(&der, DER_UTC_TIME);
    int64_t sec = der_read_time(&der, nondet_bool() ? &odd : NULL);

    if (der.failed) {
        PROVE(sec == 0 && !odd && der.at == der.end);
        return;
    }
    PROVE(sec >= first_sec && sec <= last_sec);
    PROVE(der.at == input.data + (is_utc ? 15 : 17));
    PROVE(!is_utc || !odd);
}

void prove_put(void)
{
    enum { ROOM = 17 };
    uint8_t room[ROOM];
    int64_t sec = nondet_int64();
    size_t size = nondet_size();
    struct der_writer writer;

    ASSUME(size <= ROOM);
    writer = der_writer_of(room, size);
    der_put_time(&writer, sec);
    PROVE(writer.failed || (sec >= first_sec && sec <= last_sec));
}
