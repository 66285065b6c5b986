/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1000

static const char *log_role = "leafd";
static _Atomic int log_threshold = LOG_LEVEL_INFO;
static bool log_for_journal;

static const char *const level_words[] = {
    [LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_NOTICE] = "notice",
    [LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_DEBUG] = "debug",
};

void log_init(const char *role, enum log_level level)
{
    log_role = role;
    log_for_journal = getenv("JOURNAL_STREAM") != NULL;
    log_set_level(level);
}

void log_set_role(const char *role)
{
    log_role = role;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_threshold, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level <= atomic_load_explicit(&log_threshold, memory_order_relaxed);
}

bool log_level_of(const char *word, enum log_level *ret)
{
    for (int level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        if (strcmp(word, level_words[level]) == 0) {
            *ret = (enum log_level)level;
            return true;
        }
    }
    return false;
}

__attribute__((format(printf, 4, 0))) static void log_write(enum log_level level, const char *event,
                                                            uint32_t suppressed, const char *format,
                                                            va_list args)
{
    char line[LINE_MAX_BYTES + 2];
    size_t room = LINE_MAX_BYTES;
    int len;
    int more;

    if (log_for_journal)
        len = snprintf(line, room, "<%d>leafd[%s]: event=%s ", (int)level, log_role, event);
    else
        len = snprintf(line, room, "leafd[%s] %s: event=%s ", log_role, level_words[level], event);
    if (suppressed)
        len += snprintf(line + len, room - (size_t)len, "suppressed=%u ", suppressed);
    more = vsnprintf(line + len, room - (size_t)len, format, args);
    if (more < 0)
        return;
    len += more;
    if ((size_t)len > room - 1)
        len = (int)room - 1;
    while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\n'))
        len--;
    line[len++] = '\n';
    /* A log that cannot be written must not stop the service. */
    if (write(STDERR_FILENO, line, (size_t)len) == -1)
        return;
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    va_list args;

    if (!log_enabled(level))
        return;
    va_start(args, format);
    log_write(level, event, 0, format, args);
    va_end(args);
}

void log_limited(struct log_limit *limit, uint32_t burst, enum log_level level, const char *event,
                 const char *format, ...)
{
    int64_t now = clock_mono_ms() / 1000;
    int64_t window = atomic_load(&limit->window_sec);
    va_list args;

    if (!log_enabled(level))
        return;
    if (window != now && atomic_compare_exchange_strong(&limit->window_sec, &window, now))
        atomic_store(&limit->passed, 0);
    if (atomic_fetch_add(&limit->passed, 1) >= burst) {
        atomic_fetch_add(&limit->swallowed, 1);
        return;
    }
    va_start(args, format);
    log_write(level, event, atomic_exchange(&limit->swallowed, 0), format, args);
    va_end(args);
}
