/* SPDX-License-Identifier: Apache-2.0 */
/* Asks whoever sits at the terminal for something that nobody else is to see.
 *
 * Threads: before any is started, since the terminal and the signal mask are the process's. */
#pragma once

#include "base/secret.h"

/* Can somebody be asked there? Not where it is no terminal, nor where the kernel would stop us for
 * it: in the background of a session. */
bool terminal_is(int fd);
/* The terminal to ask at: the one that controls this process (/dev/tty), else standard input where
 * that is one. A descriptor of the caller's, close-on-exec; -1: there is none. */
int terminal_open(void);

/* Writes `question` and reads one line of at most `max` octets, without its newline, while the
 * terminal does not echo; what was typed before is dropped. The end of input is an empty line.
 *
 * The terminal is as before on every return, and before any of SIGINT, SIGQUIT, SIGTERM, SIGHUP and
 * SIGTSTP takes effect; a process that was stopped asks again once it goes on. LEAFD_ABSENT: one of
 * them came that the caller has blocked, and is still pending. LEAFD_TOO_LARGE: nothing is said.
 * LEAFD_IO with a sentence. */
LEAFD_CHECKED enum leafd_err terminal_ask(int terminal, const char *question, size_t max,
                                          struct secret *ret, struct why *why);
