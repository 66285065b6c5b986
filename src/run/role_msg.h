/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor and its roles tell each other over a channel: small fixed messages, most of
 * them with a descriptor. Writer and reader are here, side by side; both ends are one binary.
 *
 * A role's life on its channel: BOOT, then its descriptors, then GO; from then on PEER, LOG_LEVEL
 * and STOP in any order and number. The role says READY once; a signer says SIGNING whenever its
 * token has been proven, PIN_BLOCKED when that refused its PIN, and REPLACE_ME when it cannot mend
 * itself. The supervisor takes nothing else from a role; a role believes its supervisor.
 *
 * Threads: role_msg_send from any thread; one reader per end. */
#pragma once

#include "base/bytes.h"

#include <sys/types.h>

enum role_msg_kind {
    ROLE_MSG_BOOT = 1,     /* fd: role_boot_write(); value: the supervisor's process id */
    ROLE_MSG_LISTEN,       /* fd: bound socket of listener `value` */
    ROLE_MSG_CONTROL,      /* fd: listening control socket */
    ROLE_MSG_ADMIN_UNIX,   /* fd: listening admin socket */
    ROLE_MSG_ADMIN_TCP,    /* fd: listening admin socket */
    ROLE_MSG_PIN,          /* fd: what the PIN is read from */
    ROLE_MSG_PIN_REFUSALS, /* fd: what pin_refusals_use() takes */
    ROLE_MSG_GO,           /* that was all: begin */
    ROLE_MSG_PEER, /* fd: our end of a pair; to a front, `value` is ROLE_PEER(token, process) */
    ROLE_MSG_LOG_LEVEL,   /* value: enum log_level */
    ROLE_MSG_STOP,        /* answer what is queued, and end */
    ROLE_MSG_READY,       /* from a role: it serves */
    ROLE_MSG_PIN_BLOCKED, /* from a signer: it waits for the operator, with no PIN to try */
    ROLE_MSG_SIGNING,     /* from a signer: its token is proven; one that it replaces may go */
    ROLE_MSG_REPLACE_ME,  /* from a signer: a lane hangs; value 1: the token has no session for two,
                             so end me first */
    ROLE_MSG_END
};

/* The value of PEER, and what it says. */
#define ROLE_PEER(token, process) ((token) << 8 | (process))
#define ROLE_PEER_TOKEN(value) ((value) >> 8)
#define ROLE_PEER_PROCESS(value) ((value)&0xff)

struct role_msg {
    uint32_t kind; /* enum role_msg_kind */
    uint32_t value;
};

/* `fd` (or -1) stays the caller's. Errors are those of channel_send. */
LEAFD_CHECKED enum leafd_err role_msg_send(int channel, enum role_msg_kind kind, uint32_t value,
                                           int fd);
/* *ret_fd is the caller's to close, or -1. Errors are those of channel_receive; LEAFD_MALFORMED
 * also for anything that is no such message. */
LEAFD_CHECKED enum leafd_err role_msg_receive(int channel, struct role_msg *ret, int *ret_fd);

/* What a role has to know before it can do anything; in a memory file of its own, because a
 * configuration is larger than a message. */
struct role_boot {
    struct bytes text;            /* of the configuration */
    const char *file;             /* its name */
    const char *dir;              /* what relative paths are relative to, or NULL */
    const char *const *overrides; /* key=value from the command line */
    size_t override_count;
    uint32_t log_level; /* enum log_level: may have changed since that text was read */
    bool insecure_file_key;
    bool first; /* none of this role has been ready yet: what is wrong is the operator's to mend */
    uint32_t token;   /* a signer's: which of the configuration's tokens is its own */
    uint32_t process; /* the how manieth of that token's signers it is */
};

/* A sealed memory file with `boot`, to be closed by the caller. LEAFD_IO with a sentence. */
LEAFD_CHECKED enum leafd_err role_boot_write(const struct role_boot *boot, int *ret_fd,
                                             struct why *why);
/* Reads it. *ret points into *ret_memory: role_boot_clear() gives both back. */
LEAFD_CHECKED enum leafd_err role_boot_read(int fd, struct role_boot *ret, uint8_t **ret_memory,
                                            struct why *why);
void role_boot_clear(struct role_boot *boot, uint8_t *memory);
