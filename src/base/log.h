/* SPDX-License-Identifier: Apache-2.0 */
/* One event, one line on standard error: `<3>leafd[front]: event=token-lost slot=4 reason="…"`.
 * Under systemd (JOURNAL_STREAM set) the sd-daemon priority prefix is written, else the level's
 * word.
 *
 * Threads: every function from any thread; a line is one write(2). log_init before threads start.
 */
#pragma once

#include "base/bytes.h"

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

/* `role` is "supervisor", "front", "signer" or a command's name; it must outlive the process. */
void log_init(const char *role, enum log_level level);
void log_set_role(const char *role); /* likewise, once it is known better */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* "error", "warning", "notice", "info", "debug" to its level. False and *ret untouched for another
 * word. */
bool log_level_of(const char *word, enum log_level *ret);

/* `event` is a fixed kebab-case word, `format` gives `key=value` pairs. Foreign strings are quoted
 * and have gone through bytes_escape. Cut at 1000 bytes. Never a PIN, never a key. */
void log_event(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For lines that a packet can cause: at most `burst` lines per second and limiter; what was
 * swallowed is told as `suppressed=N` with the next line that passes. Zero-initialised, static. */
struct log_limit {
    _Atomic int64_t window_sec;
    _Atomic uint32_t passed;
    _Atomic uint32_t swallowed;
};
void log_limited(struct log_limit *limit, uint32_t burst, enum log_level level, const char *event,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));
