/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

static int64_t read_us(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

int64_t clock_wall_sec(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec;
}

int64_t clock_wall_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
}

int64_t clock_mono_ms_of_real(int64_t real_ns)
{
    int64_t age_us = read_us(CLOCK_REALTIME) - real_ns / 1000;

    return (clock_mono_us() - (age_us > 0 ? age_us : 0)) / 1000;
}

const char *clock_text(int64_t sec, char out[static CLOCK_TEXT_SIZE])
{
    time_t when = (time_t)sec;
    struct tm parts;

    if (!gmtime_r(&when, &parts) ||
        strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        snprintf(out, CLOCK_TEXT_SIZE, "%" PRId64, sec);
    return out;
}
