/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "ctl/ctl_output.h"

#include "ctl/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAME_COLUMN = 16 };

/* Control characters and bytes beyond ASCII are the only ones that a terminal could obey; quotes
 * and backslashes of an escaped text stay as they are. */
static void put_plain(FILE *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x20 || c >= 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
}

int ctl_failed(const struct why *why)
{
    fputs("leafctl: ", stderr);
    put_plain(stderr, why->text[0] ? why->text : "out of memory");
    fputc('\n', stderr);
    return CTL_FAILED;
}

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
    char text[1024];

    vsnprintf(text, sizeof(text), format, args);
    fputs("leafctl: ", stderr);
    put_plain(stderr, text);
    fputc('\n', stderr);
}

int ctl_wrong_usage(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return CTL_USAGE;
}

void ctl_note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
}

void ctl_progress(const char *format, ...)
{
    va_list args;

    if (!isatty(STDERR_FILENO))
        return;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

int ctl_flushed(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    fprintf(stderr, "leafctl: cannot write to standard output: %s\n", strerror(errno));
    return CTL_FAILED;
}

int ctl_print_json(struct json *json)
{
    char *text = json_take(json);

    if (!text)
        return ctl_failed(&(struct why){"out of memory"});
    fputs(text, stdout);
    free(text);
    return ctl_flushed(CTL_OK);
}

void ctl_print_row(const char *name, const char *value)
{
    printf("%s%s%*s", name, *name ? ":" : " ", (int)(NAME_COLUMN - strlen(name)), "");
    put_plain(stdout, value);
    putchar('\n');
}

void ctl_print_row_bytes(const char *name, struct bytes value)
{
    char text[1024];

    ctl_print_row(name, bytes_escape(value, text, sizeof(text)));
}

const char *ctl_time_json(int64_t sec, char out[static CLOCK_TEXT_SIZE])
{
    time_t when = (time_t)sec;
    struct tm parts;

    if (!gmtime_r(&when, &parts) ||
        strftime(out, CLOCK_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(out, CLOCK_TEXT_SIZE, "%lld", (long long)sec);
    return out;
}
