/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_link.h"

#include "conf/conf.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct signer_link *signer_link_new(int fd, unsigned token, unsigned process)
{
    struct signer_link *link = calloc(1, sizeof(*link));

    if (!link) {
        close(fd);
        return NULL;
    }
    atomic_init(&link->refs, 1);
    link->fd = fd;
    link->token = token;
    link->process = process;
    return link;
}

void signer_link_ref(struct signer_link *link)
{
    atomic_fetch_add_explicit(&link->refs, 1, memory_order_relaxed);
}

void signer_link_unref(struct signer_link *link)
{
    if (atomic_fetch_sub_explicit(&link->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(link->fd);
    ca_unref(link->untrusted);
    free(link);
}

uint64_t signer_link_bit(const struct signer_link *link)
{
    return UINT64_C(1) << (link->token * CONF_PROCESSES_MAX + link->process) % 64;
}

uint64_t signer_link_batch(const struct signer_link *link, uint64_t batch)
{
    return batch ? (uint64_t)link->serial << 48 | batch : 0;
}

bool signer_link_can_sign(const struct signer_link *link)
{
    return link->greeted && !link->dead &&
           (link->state.state == SIGNER_READY || link->state.state == SIGNER_DEGRADED);
}

bool signer_link_serves(const struct signer_link *link, const struct sign_entry *entry)
{
    for (size_t i = 0; i < link->state.ca_count; i++)
        if (link->state.ca[i].id == entry->ca_id &&
            link->state.ca[i].generation == entry->ca_generation)
            return true;
    return false;
}

/* ---- status ---- */

/* The better the higher. */
static int rank(enum signer_state state)
{
    static const int ranks[] = {
        [SIGNER_DOWN] = 0,     [SIGNER_PIN_BLOCKED] = 1, [SIGNER_CONNECTING] = 2,
        [SIGNER_DEGRADED] = 3, [SIGNER_READY] = 4,
    };

    return ranks[state];
}

static void take_better(const struct signer_link *link, enum signer_state *state, char *text,
                        size_t size)
{
    enum signer_state is = link->greeted ? link->state.state : SIGNER_CONNECTING;

    if (rank(is) < rank(*state))
        return;
    *state = is;
    snprintf(text, size, "%s",
             link->greeted ? link->state.text : "the signer has not said anything yet");
}

void signer_link_add_status(const struct signer_link *link, struct signer_status *status)
{
    const struct signer_msg_state *state = &link->state;

    signer_tally_add(&status->tally, &state->tally);
    if (signer_link_can_sign(link))
        status->lanes += state->lanes;
    take_better(link, &status->state, status->text, sizeof(status->text));
}

void signer_link_add_token_status(const struct signer_link *link, struct signer_token_status *to)
{
    const struct signer_msg_state *state = &link->state;

    signer_tally_add(&to->tally, &state->tally);
    to->under_way += link->under_way;
    if (signer_link_can_sign(link))
        to->lanes += state->lanes;
    take_better(link, &to->state, to->text, sizeof(to->text));
}

/* ---- receiving ---- */

enum signer_link_end signer_link_receive(struct signer_link *link, struct signer_inbox *inbox)
{
    int n;

    inbox->count = 0;
    for (size_t i = 0; i < SIGNER_LINK_BATCH; i++) {
        inbox->part[i] = (struct iovec){inbox->buffer[i], sizeof(inbox->buffer[i])};
        inbox->header[i] =
            (struct mmsghdr){.msg_hdr = {.msg_iov = &inbox->part[i], .msg_iovlen = 1}};
    }
    n = recvmmsg(link->fd, inbox->header, SIGNER_LINK_BATCH, MSG_DONTWAIT, NULL);
    if (n < 0 && errno == EINTR)
        return SIGNER_LINK_MORE;
    if (n < 0 && errno == ECONNRESET && !link->was_reset) {
        link->was_reset = true;
        return SIGNER_LINK_MORE;
    }
    if (n < 0)
        return errno == EAGAIN ? SIGNER_LINK_EMPTY : SIGNER_LINK_LOST;
    for (size_t i = 0; i < (size_t)n; i++) {
        if (inbox->header[i].msg_len == 0) /* the end of file, again and again */
            return SIGNER_LINK_LOST;
        inbox->count++;
    }
    return n < SIGNER_LINK_BATCH ? SIGNER_LINK_EMPTY : SIGNER_LINK_MORE;
}

struct bytes signer_inbox_message(const struct signer_inbox *inbox, size_t i)
{
    if (inbox->header[i].msg_hdr.msg_flags & MSG_TRUNC)
        return (struct bytes){NULL, 0};
    return (struct bytes){inbox->buffer[i], inbox->header[i].msg_len};
}
