/* SPDX-License-Identifier: Apache-2.0 */
/* A post that is always to be filled: the front's, or that of one signer. Its holder may have
 * somebody beside it: a replacement that is not at work yet, or the former holder on its way out.
 * Here is who comes when; processes are started and killed by the supervisor.
 *
 * Deaths and replacements share one back-off: the first is followed at once, the second 50 ms
 * later, then ever later, up to 30 s; a holder that lived for 2 s ends that row.
 *
 * Threads: the supervisor's only one. */
#pragma once

#include "run/child.h"

enum {
    POST_LIVED_MS = 2000,
    POST_BACKOFF_FIRST_MS = 50,
    POST_BACKOFF_MAX_MS = 30000,
    POST_GRACE_MS = 300 /* a former holder has so long for what it can still answer */
};

struct post {
    struct child child[2];
    unsigned held_by;  /* the holder's place in `child` */
    bool is_replacing; /* a replacement is wanted, or is on its way */
    int64_t due_ms;    /* whoever is missing is not started before this */
    int64_t backoff_ms;
};

void post_init(struct post *post, enum role role, unsigned token, unsigned process);
struct child *post_holder(struct post *post);

/* The one to start now; NULL: nobody. */
struct child *post_vacancy(struct post *post, int64_t now_ms);
/* When to look again, for a start or for a kill; CHILD_NEVER_MS: when something happens. */
int64_t post_next_ms(const struct post *post);

/* What has happened to one of its children. */
void post_not_started(struct post *post, int64_t now_ms);
void post_ended(struct post *post, struct child *child, int64_t now_ms);
/* The child asks to be replaced. A replacement that asks is no good: it has to go itself. With
 * `at_once` the holder goes first, since the token has no session for two. Asking again changes
 * nothing. True: something has changed. */
bool post_replace(struct post *post, struct child *child, bool at_once, int64_t now_ms);
/* The child is at work: if it is the replacement it holds the post from now on, and the former
 * holder has POST_GRACE_MS to end. One that is on its way out gets no post back. */
void post_at_work(struct post *post, struct child *child, int64_t now_ms);
/* Whoever is missing may start at once. */
void post_hurry(struct post *post);
