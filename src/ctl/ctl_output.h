/* SPDX-License-Identifier: Apache-2.0 */
/* What leafctl says: answers on standard output, everything else on standard error.
 *
 * Threads: one. */
#pragma once

#include "base/clock.h"
#include "base/json_writer.h"

#include <stdint.h>
#include <stdio.h>

/* "leafctl: SENTENCE" on standard error; the exit codes for `return`. The sentence's foreign parts
 * are escaped once more, so that nothing reaches a terminal raw. */
int ctl_failed(const struct why *why);
int ctl_wrong_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line on standard error that belongs to the answer and must not stand in it. */
void ctl_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line on standard error for who watches a terminal, else nothing. */
void ctl_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the document and prints it. CTL_FAILED when it could not be written. */
int ctl_print_json(struct json *json);
/* What was printed has to be on its way before success is told: CTL_FAILED when it is not. */
int ctl_flushed(int code);

/* "name:   value", with `value` escaped and all values of a table in one column; a value that goes
 * on from the row above has the name "". */
void ctl_print_row(const char *name, const char *value);
void ctl_print_row_bytes(const char *name, struct bytes value);

/* RFC 3339, for JSON: "2026-11-21T06:53:00Z"; clock_text() is for people. */
const char *ctl_time_json(int64_t sec, char out[static CLOCK_TEXT_SIZE]);
