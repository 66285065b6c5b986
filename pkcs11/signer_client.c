/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/signer_client.h"

#include "base/log.h"
#include "pkcs11/sign_traffic.h"
#include "pkcs11/signer_msg.h"
#include "pkcs11/signer_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

struct client {
    struct signer signer;
    struct sign_traffic traffic; /* its header has the rules of the lock */
    pthread_t reader;
};

static struct sign_traffic *traffic_of(struct signer *signer)
{
    return &((struct client *)signer)->traffic;
}

static void send_now(struct sign_traffic *traffic, struct signer_link *link, uint64_t id,
                     struct bytes message)
{
    struct sign_callbacks callbacks = {.count = 0};
    ssize_t sent;
    int error;

    do {
        sent = send(link->fd, message.data, message.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        error = errno;
        pthread_mutex_lock(&traffic->lock);
        sign_traffic_bring_back(traffic, link, id, error, message, false, &callbacks);
        pthread_mutex_unlock(&traffic->lock);
        sign_callbacks_run(&callbacks);
        sign_traffic_wake(traffic); /* to wait for room in the socket */
    }
    signer_link_unref(link);
}

static void client_sign(struct signer *signer, const struct sign_request *request, signer_fn done,
                        void *ctx)
{
    struct sign_traffic *traffic = traffic_of(signer);
    uint8_t message[SIGNER_MSG_SIGN_MAX];
    size_t len = signer_msg_write_sign(0, request, message, sizeof(message));
    struct signer_link *link = NULL;
    uint64_t id = 0;
    enum leafd_err err;
    bool must_wake;

    if (len == 0) {
        done(ctx, LEAFD_TOO_LARGE, (struct bytes){NULL, 0}, 0);
        return;
    }
    pthread_mutex_lock(&traffic->lock);
    err = sign_traffic_add(traffic, request, done, ctx, message, len, &id, &link);
    must_wake = !err && traffic->sleeping;
    if (must_wake)
        traffic->sleeping = false;
    pthread_mutex_unlock(&traffic->lock);

    if (err)
        done(ctx, err, (struct bytes){NULL, 0}, 0);
    if (must_wake)
        sign_traffic_wake(traffic);
    if (link)
        send_now(traffic, link, id, (struct bytes){message, len});
}

static struct ca_set *client_cas(struct signer *signer)
{
    return signer_roster_cas(&traffic_of(signer)->roster);
}

static void client_status(struct signer *signer, struct signer_status *ret)
{
    struct sign_traffic *traffic = traffic_of(signer);

    pthread_mutex_lock(&traffic->lock);
    signer_roster_status(&traffic->roster, ret);
    ret->waiting = sign_pending_count(traffic->pending);
    pthread_mutex_unlock(&traffic->lock);
}

/* Everybody who still waits is told so. No other thread is left. */
static void answer_rest(struct sign_traffic *traffic)
{
    struct sign_callbacks callbacks = {.count = 0};
    bool more;

    do {
        more = sign_traffic_give_up(traffic, &callbacks);
        sign_callbacks_run(&callbacks);
    } while (more);
}

static void client_free(struct signer *signer)
{
    struct client *client = (struct client *)signer;

    pthread_mutex_lock(&client->traffic.lock);
    client->traffic.stopping = true;
    pthread_mutex_unlock(&client->traffic.lock);
    sign_traffic_wake(&client->traffic);
    pthread_join(client->reader, NULL);
    answer_rest(&client->traffic);
    sign_traffic_clear(&client->traffic);
    free(client);
}

static const struct signer_ops client_ops = {client_sign, client_cas, client_status, client_free};

enum leafd_err signer_client_new(struct ca_set *cas, size_t token_count,
                                 enum conf_token_choice choice, size_t max_waiting,
                                 struct signer **ret)
{
    struct client *client = calloc(1, sizeof(*client));

    if (!client || sign_traffic_init(&client->traffic, cas, token_count, choice, max_waiting)) {
        free(client);
        return LEAFD_NOMEM;
    }
    client->signer.ops = &client_ops;
    if (pthread_create(&client->reader, NULL, signer_reader_run, &client->traffic)) {
        sign_traffic_clear(&client->traffic);
        free(client);
        return LEAFD_NOMEM;
    }
    *ret = &client->signer;
    return LEAFD_OK;
}

void signer_client_on_disowned(struct signer *signer, signer_disowned_fn disowned, void *ctx)
{
    struct sign_traffic *traffic = traffic_of(signer);

    pthread_mutex_lock(&traffic->lock);
    traffic->disowned = disowned;
    traffic->disowned_ctx = ctx;
    pthread_mutex_unlock(&traffic->lock);
}

void signer_client_connect(struct signer *signer, unsigned token, unsigned process, int fd)
{
    struct sign_traffic *traffic = traffic_of(signer);
    struct signer_link *link = signer_link_new(fd, token, process);
    bool added = false;

    if (link && token < traffic->roster.token_count && process < CONF_PROCESSES_MAX) {
        pthread_mutex_lock(&traffic->lock);
        added = signer_roster_add(&traffic->roster, link);
        pthread_mutex_unlock(&traffic->lock);
    }
    if (!added) {
        log_event(LOG_LEVEL_ERROR, "signer-not-connected", "token=%u process=%u", token, process);
        if (link)
            signer_link_unref(link);
        return;
    }
    sign_traffic_wake(traffic);
}
