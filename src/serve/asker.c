/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "serve/asker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "wire/response.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    TTL_MARGIN_SEC = 300,  /* g3proxy serves a leaf so long beyond its ttl */
    TTL_IN_DOUBT_SEC = 10, /* for any verdict but good and legacy */
    ASKERS_MAX = 1 << 16,  /* on the heap at once */
    LOG_BURST = 5          /* lines per second and error */
};

enum leafd_err askers_init(struct askers *askers, const struct conf *conf)
{
    askers->ttl_max_sec = conf->ttl_max_sec;
    return error_budget_new(conf->errors_per_source, conf->errors_global, &askers->budget);
}

void askers_clear(struct askers *askers)
{
    error_budget_free(askers->budget);
}

size_t asker_write_error(struct askers *askers, const struct asker *asker, enum leafd_err err,
                         const struct why *why, uint8_t *out)
{
    static struct log_limit limits[LEAFD_ERR_COUNT];
    char host[300];
    char source[512];
    char reason[2 * sizeof(why->text)];

    if (err == LEAFD_TIMEOUT) {
        metrics_add(METRIC_DROP_DEADLINE, 1);
        return 0;
    }
    if (err > LEAFD_INTERNAL)
        err = LEAFD_INTERNAL;
    metrics_add((enum metric)(METRIC_ERROR_MALFORMED + (err - LEAFD_MALFORMED)), 1);
    if (log_enabled(LOG_LEVEL_NOTICE))
        log_limited(&limits[err], LOG_BURST, LOG_LEVEL_NOTICE, "request-failed",
                    "code=%s host=\"%s\" from=\"%s\" reason=\"%s\"", err_name(err),
                    bytes_escape(asker->request.host, host, sizeof(host)),
                    reply_route_text(&asker->route, source, sizeof(source)),
                    bytes_escape(bytes_of(why->text), reason, sizeof(reason)));
    if (!error_budget_take(askers->budget, reply_route_source(&asker->route), clock_mono_ms())) {
        metrics_add(METRIC_ERROR_SILENCED, 1);
        return 0;
    }
    return response_write_error(&asker->request, err, out, ASKER_ERROR_ROOM);
}

static uint32_t ttl_of(const struct askers *askers, const struct asker *asker,
                       const struct issued *issued, int64_t now_sec)
{
    int64_t ttl = issued->not_after - now_sec - TTL_MARGIN_SEC;

    if (ttl > askers->ttl_max_sec)
        ttl = askers->ttl_max_sec;
    if (asker->in_doubt && ttl > TTL_IN_DOUBT_SEC)
        ttl = TTL_IN_DOUBT_SEC;
    if (issued->is_stand_in && ttl > ISSUED_STAND_IN_SEC)
        ttl = ISSUED_STAND_IN_SEC;
    return ttl > 1 ? (uint32_t)ttl : 1;
}

size_t asker_write_leaf(const struct askers *askers, const struct asker *asker,
                        const struct issued *issued, int64_t now_sec, uint8_t *out)
{
    const struct conf_listen *listen = asker->route.listen;
    uint8_t der[WIRE_DATAGRAM_MAX];
    uint8_t pem[LEAF_KEY_PEM_MAX];
    size_t len = 0;
    struct response response = {
        .dialect = asker->request.dialect,
        .host = asker->request.host,
        .service = asker->request.service,
        .usage_was_asked = asker->request.usage_was_asked,
        .usage = asker->request.usage,
        .cert_format = listen->cert_format == CONF_CERT_DER ? CERT_FORMAT_DER : CERT_FORMAT_PEM,
        .cert_pem = issued->pem,
        .chain_pem = issued->ca->chain_pem,
        .chain_der = issued->ca->chain_der,
        .chain_count = issued->ca->chain_count,
        .key_format = listen->key_format == CONF_KEY_DER   ? KEY_FORMAT_DER
                      : listen->key_format == CONF_KEY_PEM ? KEY_FORMAT_PEM
                                                           : KEY_FORMAT_BY_DIALECT,
        .ttl_sec = ttl_of(askers, asker, issued, now_sec),
    };

    if (response.cert_format == CERT_FORMAT_DER &&
        issued_der(issued, der, sizeof(der), &response.cert_der) != LEAFD_OK)
        return 0;
    response.key = issued->key->private_der;
    if (!response_key_is_pem(response.dialect, response.key_format))
        return response_write(&response, out, WIRE_DATAGRAM_MAX);
    if (leaf_key_pem(issued->key, pem, sizeof(pem), &response.key) == LEAFD_OK)
        len = response_write(&response, out, WIRE_DATAGRAM_MAX);
    OPENSSL_cleanse(pem, sizeof(pem));
    return len;
}

struct asker *asker_keep(struct askers *askers, const struct asker *from)
{
    size_t len = from->request.host.len;
    struct asker *asker = NULL;

    if (atomic_fetch_add(&askers->kept, 1) < ASKERS_MAX)
        asker = malloc(sizeof(*asker) + len);
    if (!asker) {
        atomic_fetch_sub(&askers->kept, 1);
        return NULL;
    }
    *asker = *from;
    asker->on_heap = true;
    asker->request.cert = (struct bytes){NULL, 0};
    asker->request.host.data = memcpy(asker + 1, from->request.host.data, len);
    return asker;
}

void asker_free(struct askers *askers, struct asker *asker)
{
    if (!asker)
        return;
    atomic_fetch_sub(&askers->kept, 1);
    free(asker);
}

void asker_send(struct askers *askers, struct asker *asker, const uint8_t *out, size_t len)
{
    if (len > 0 && !reply_route_send(&asker->route, (struct bytes){out, len}))
        metrics_add(METRIC_SEND_FAILED, 1);
    asker_free(askers, asker);
}

void asker_send_error(struct askers *askers, struct asker *asker, enum leafd_err err)
{
    struct why why = {""};
    uint8_t out[ASKER_ERROR_ROOM];

    asker_send(askers, asker, out, asker_write_error(askers, asker, err, &why, out));
}
