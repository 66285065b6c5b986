/* SPDX-License-Identifier: Apache-2.0 */
/* What a function that can fail returns, and the one sentence it may add.
 *
 * Threads: no shared state. */
#pragma once

#define LEAFD_CHECKED __attribute__((warn_unused_result))

/* The same values label replies, log lines and counters (err_name). The first seven after OK are
 * the codes of an error reply; leafd-protocol(7) lists them. */
enum leafd_err {
    LEAFD_OK = 0,
    LEAFD_MALFORMED,         /* not of the form: msgpack, DER, a message */
    LEAFD_REFUSED,           /* of the form, and against policy */
    LEAFD_UNSUPPORTED,       /* a value nobody here can serve */
    LEAFD_BUSY,              /* a bound is reached; later it may work */
    LEAFD_TOKEN_UNAVAILABLE, /* no token can sign now */
    LEAFD_TOO_LARGE,         /* does not fit its bound */
    LEAFD_INTERNAL,          /* our own fault, or a library's */
    /* never on the wire by these names */
    LEAFD_NOMEM,   /* answered as internal */
    LEAFD_TIMEOUT, /* a deadline has passed: nobody waits any more */
    LEAFD_AGAIN,   /* nothing was lost: the same may be tried again at once */
    LEAFD_DROP,    /* to be dropped without a word: a reply that came to a listener */
    LEAFD_CONFIG,  /* the operator's configuration is wrong */
    LEAFD_IO,      /* a system call failed */
    LEAFD_ABSENT,  /* what was looked for is not there */
    LEAFD_PIN,     /* the PIN is wrong, missing, locked or on its last try */
    LEAFD_ERR_COUNT
};

/* "ok", "malformed", "token-unavailable", …: the word for logs, counters and error replies. */
const char *err_name(enum leafd_err err);

/* Room for one sentence, on the caller's stack; NULL wherever nobody will read it. */
struct why {
    char text[256];
};

/* Writes the sentence (cut to fit; why may be NULL) and returns `err`, for `return fail(…)`.
 * Foreign bytes in it must have been escaped by the caller (bytes_escape). */
enum leafd_err fail(struct why *why, enum leafd_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts `format: ` before the sentence that stands there, for a caller who knows the place. */
enum leafd_err fail_in(struct why *why, enum leafd_err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
