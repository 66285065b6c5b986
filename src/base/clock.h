/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks: one for deadlines, one for dates in certificates.
 *
 * Threads: every function from any thread. */
#pragma once

#include <stdint.h>

enum { CLOCK_TEXT_SIZE = 32 };

/* CLOCK_MONOTONIC in milliseconds: every `deadline_ms` in leafd is on this clock, in all processes
 * of one machine alike. */
int64_t clock_mono_ms(void);
/* The same clock in microseconds, for measuring. */
int64_t clock_mono_us(void);
/* CLOCK_REALTIME in seconds since 1970. */
int64_t clock_wall_sec(void);
/* The same in milliseconds. */
int64_t clock_wall_ms(void);
/* What a CLOCK_REALTIME reading in nanoseconds (a kernel timestamp) is on the monotonic clock, in
 * milliseconds; a stamp from the future counts as now. */
int64_t clock_mono_ms_of_real(int64_t real_ns);
/* Seconds since 1970 as "2026-11-21 06:53:00 UTC"; returns `out`. */
const char *clock_text(int64_t sec, char out[static CLOCK_TEXT_SIZE]);
