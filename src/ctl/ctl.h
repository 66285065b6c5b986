/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl's subcommands, and what the command line gave to each of them.
 *
 * Threads: one. Token work happens in a child process (ctl_child.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { CTL_OK = 0, CTL_FAILED = 1, CTL_USAGE = 2 }; /* exit codes */

/* An option that may be given several times. */
struct ctl_texts {
    const char **text;
    size_t count;
};

/* NULL or false: not given. Only the options of the command itself can be. */
struct ctl {
    const char *config;
    struct ctl_texts overrides;
    bool json;
    bool insecure_file_key;

    const char *host;  /* the argument of issue and explain */
    const char *token; /* that of token unblock, or NULL */
    const char *uri;   /* that of token test, or NULL */
    const char *file;  /* that of ca install; "-": standard input */
    const char *like;
    const char *server;
    const char *service;
    const char *usage;
    const char *out;
    const char *format;
    const char *key;
    const char *cn;
    const char *days;
    const char *token_number;
    const char *module;
    const char *pin_file;
    const char *sessions;
    struct ctl_texts env;
    bool make_key;
    bool no_token;
    struct ctl_texts permit;
    struct ctl_texts exclude;
    bool existing;
    bool force;
    bool root;
    bool chain;
    bool sample;
};

int ctl_ca_crl(const struct ctl *ctl);
int ctl_ca_csr(const struct ctl *ctl);
int ctl_ca_export(const struct ctl *ctl);
int ctl_ca_init(const struct ctl *ctl);
int ctl_ca_install(const struct ctl *ctl);
int ctl_ca_show(const struct ctl *ctl);
int ctl_check(const struct ctl *ctl);
int ctl_explain(const struct ctl *ctl);
int ctl_flush(const struct ctl *ctl);
int ctl_issue(const struct ctl *ctl);
int ctl_status(const struct ctl *ctl);
int ctl_token_list(const struct ctl *ctl);
int ctl_token_test(const struct ctl *ctl);
int ctl_token_unblock(const struct ctl *ctl);
