/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "run/front.h"

#include "admin/admin_http.h"
#include "admin/control.h"
#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/signer_client.h"
#include "serve/udp_listener.h"

#include <sched.h>
#include <unistd.h>

/* Once told to stop: so long for reading what the kernel has queued, and so long for answering it
 * all. The supervisor waits 4.5 s for front and signers. */
enum { STOP_READING_MS = 2000, STOP_ANSWERING_MS = 3300 };

/* In the order they are made. Each borrows from those above it. */
struct front {
    struct signer *signer;
    struct key_pool *keys;
    struct issuer *issuer;
    struct leaf_cache *cache;
    struct policy *policy;
    struct packet_path *path;
    struct udp_listener *listener;
    struct crl_file *crl;
    struct admin_state state;
    struct admin_http *http;
    struct control *control;
};

/* Issuing waits for keys and signatures elsewhere; what is left for these threads is to write DER.
 */
static unsigned issue_threads(void)
{
    cpu_set_t cpus;

    if (sched_getaffinity(0, sizeof(cpus), &cpus) == -1)
        return 2;
    return 2 * (unsigned)CPU_COUNT(&cpus);
}

static int take(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static void forget_disowned(void *ctx, const uint64_t *batches, size_t count)
{
    size_t dropped = leaf_cache_disown(ctx, batches, count);

    if (dropped)
        log_event(LOG_LEVEL_WARNING, "leaves-disowned", "dropped=%zu", dropped);
}

static enum leafd_err front_start(struct front *front, struct role_start *start, struct why *why)
{
    const struct conf *conf = start->conf;
    struct packet_path_parts parts;
    enum leafd_err err;

    err = signer_client_new(start->cas, conf->token_count, conf->token_choice, conf->flights_max,
                            &front->signer);
    if (err != LEAFD_OK)
        return err;
    err = key_pool_new(conf, &front->keys);
    if (err != LEAFD_OK)
        return err;
    err = issuer_new(conf, front->keys, front->signer, &front->issuer);
    if (err != LEAFD_OK)
        return err;
    err = leaf_cache_new((size_t)conf->cache_max_bytes, &front->cache);
    if (err != LEAFD_OK)
        return err;
    signer_client_on_disowned(front->signer, forget_disowned, front->cache);
    err = policy_new(conf, &front->policy);
    if (err == LEAFD_CONFIG)
        return fail(why, err, "policy.deny: an entry is neither a domain nor a network");
    if (err != LEAFD_OK)
        return err;
    parts =
        (struct packet_path_parts){conf, front->policy, front->cache, front->issuer, front->signer};
    err = packet_path_new(&parts, issue_threads(), &front->path);
    if (err != LEAFD_OK)
        return err;
    err = udp_listener_new(conf, start->listen, front->path, &front->listener, why);
    if (err != LEAFD_OK)
        return err;
    err = crl_file_new(conf, start->cas->ca[0], &front->crl);
    if (err != LEAFD_OK)
        return err;
    front->state = (struct admin_state){.conf = conf,
                                        .cache = front->cache,
                                        .keys = front->keys,
                                        .signer = front->signer,
                                        .crl = front->crl,
                                        .started_ms = clock_mono_ms()};
    err = admin_http_new(&front->state, take(&start->admin_unix), take(&start->admin_tcp),
                         &front->http, why);
    if (err != LEAFD_OK)
        return err;
    return control_new(&front->state, take(&start->control), &front->control, why);
}

static void cas_warn(const struct role_start *start)
{
    for (size_t i = 0; i < start->cas->count; i++) {
        if (start->cas->ca[i]->key_id_was_missing)
            log_event(LOG_LEVEL_WARNING, "ca-without-key-id",
                      "ca=%zu reason=\"the certificate has no subject key identifier; leaves name "
                      "the SHA-1 of its key\"",
                      i);
        if (start->cas->ca[i]->key_type == KEY_TYPE_ED25519)
            log_event(LOG_LEVEL_WARNING, "ca-with-ed25519",
                      "ca=%zu reason=\"no browser takes leaves that an Ed25519 key has signed\"",
                      i);
        if (!ca_is_valid_at(start->cas->ca[i], clock_wall_sec()))
            log_event(
                LOG_LEVEL_WARNING, "ca-not-valid-now",
                "ca=%zu reason=\"outside its dates, or those of its issuers, it signs nothing: "
                "requests are refused\"",
                i);
    }
}

/* Logs what is to be known of the CRL. */
static void crl_warn(const struct front *front)
{
    struct crl_status status;

    if (front->crl)
        crl_file_status(front->crl, &status);
}

/* The mirror of front_start. */
static void front_stop(struct front *front)
{
    int64_t now = clock_mono_ms();

    control_free(front->control);
    admin_http_free(front->http);
    crl_file_free(front->crl);
    if (front->listener)
        udp_listener_stop(front->listener, now + STOP_READING_MS);
    if (front->path)
        packet_path_free(front->path, now + STOP_ANSWERING_MS);
    udp_listener_free(front->listener);
    policy_free(front->policy);
    if (front->issuer)
        issuer_free(front->issuer);
    if (front->keys)
        key_pool_free(front->keys);
    signer_free(front->signer);
    leaf_cache_free(front->cache); /* the signer's thread drops leaves from it */
}

static void front_serve(struct front *front, const struct role_start *start)
{
    struct role_msg message;

    do {
        int fd;

        role_wait(start, &message, &fd);
        if (message.kind == ROLE_MSG_PEER && fd != -1)
            signer_client_connect(front->signer, ROLE_PEER_TOKEN(message.value),
                                  ROLE_PEER_PROCESS(message.value), fd);
        else if (fd != -1)
            close(fd);
    } while (message.kind != ROLE_MSG_STOP);
}

int front_main(struct role_start *start)
{
    struct front front = {.signer = NULL};
    struct why why = {""};
    enum leafd_err err = front_start(&front, start, &why);

    if (err == LEAFD_OK) {
        cas_warn(start);
        crl_warn(&front);
        role_say(start, ROLE_MSG_READY, 0);
        front_serve(&front, start);
    } else {
        role_log_failure("start-failed", err, &why);
    }
    front_stop(&front);
    return exit_code_of(err);
}
