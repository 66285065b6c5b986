/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/post.h"

void post_init(struct post *post, enum role role, unsigned token, unsigned process)
{
    *post = (struct post){.held_by = 0};
    for (int i = 0; i < 2; i++)
        child_init(&post->child[i], role, token, process);
}

struct child *post_holder(struct post *post)
{
    return &post->child[post->held_by];
}

static const struct child *holder_of(const struct post *post)
{
    return &post->child[post->held_by];
}

static const struct child *other_of(const struct post *post)
{
    return &post->child[1 - post->held_by];
}

/* Somebody is to be started, at due_ms. */
static bool is_wanting(const struct post *post)
{
    return !holder_of(post)->pid || (post->is_replacing && !other_of(post)->pid);
}

struct child *post_vacancy(struct post *post, int64_t now_ms)
{
    if (!is_wanting(post) || post->due_ms > now_ms)
        return NULL;
    return &post->child[holder_of(post)->pid ? 1 - post->held_by : post->held_by];
}

int64_t post_next_ms(const struct post *post)
{
    int64_t next_ms = is_wanting(post) ? post->due_ms : CHILD_NEVER_MS;

    for (int i = 0; i < 2; i++)
        if (post->child[i].pid && post->child[i].kill_ms < next_ms)
            next_ms = post->child[i].kill_ms;
    return next_ms;
}

/* Whoever comes next waits for it. */
static void wait_longer(struct post *post, int64_t now_ms)
{
    post->due_ms = now_ms + post->backoff_ms;
    post->backoff_ms = post->backoff_ms ? 2 * post->backoff_ms : POST_BACKOFF_FIRST_MS;
    if (post->backoff_ms > POST_BACKOFF_MAX_MS)
        post->backoff_ms = POST_BACKOFF_MAX_MS;
}

static void forgive(struct post *post, const struct child *child, int64_t now_ms)
{
    if (now_ms - child->started_ms >= POST_LIVED_MS)
        post->backoff_ms = 0;
}

void post_not_started(struct post *post, int64_t now_ms)
{
    if (!post->backoff_ms)
        post->backoff_ms = POST_BACKOFF_FIRST_MS;
    wait_longer(post, now_ms);
}

/* A replacement that is on its way takes the place of a holder that dies, ready or not. */
void post_ended(struct post *post, struct child *child, int64_t now_ms)
{
    if (child == holder_of(post) && post->is_replacing) {
        post->is_replacing = false;
        if (other_of(post)->pid && other_of(post)->kill_ms == CHILD_NEVER_MS) {
            post->held_by = 1 - post->held_by;
            return;
        }
        if (child->kill_ms != CHILD_NEVER_MS) /* it asked for it: the wait was counted then */
            return;
    }
    if (child == holder_of(post) || post->is_replacing) {
        forgive(post, child, now_ms);
        wait_longer(post, now_ms);
    }
}

bool post_replace(struct post *post, struct child *child, bool at_once, int64_t now_ms)
{
    bool is_holder = child == holder_of(post);
    bool is_news = is_holder && !post->is_replacing;

    if (is_news) {
        post->is_replacing = true;
        forgive(post, child, now_ms);
        wait_longer(post, now_ms);
    }
    /* A replacement that asks goes as well; a former holder is on its way. */
    if ((is_holder ? at_once : post->is_replacing) && child->pid &&
        child->kill_ms == CHILD_NEVER_MS) {
        child->kill_ms = now_ms;
        is_news = true;
    }
    return is_news;
}

void post_at_work(struct post *post, struct child *child, int64_t now_ms)
{
    if (child == holder_of(post) || !post->is_replacing || child->kill_ms != CHILD_NEVER_MS)
        return;
    post_holder(post)->kill_ms = now_ms + POST_GRACE_MS;
    post->held_by = 1 - post->held_by;
    post->is_replacing = false;
}

void post_hurry(struct post *post)
{
    post->due_ms = 0;
    post->backoff_ms = 0;
}
