/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "admin/admin_http.h"

#include "admin/conn_deadline.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "policy/leaf_type.h"

#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A connection carries one request, and all of it has to be done in PATIENCE_MS: who sends slowly
 * does not keep others out. */
enum {
    CONNECTIONS_MAX = 32,
    IDLE_TIMEOUT_SEC = 5,
    PATIENCE_MS = 5000,
    CONNECTION_MEMORY = 8192,
    CRL_MAX_AGE_SEC = 3600
};
_Static_assert(2 * CONNECTIONS_MAX < CONN_DEADLINES_MAX, "every connection has a deadline");

struct admin_http {
    const struct admin_state *state;
    struct conn_deadlines *deadlines;
    struct MHD_Daemon *daemon[2]; /* Unix socket, loopback address */
};

/* What one path answers: a status and a heap body, which the reply frees; NULL on no memory. */
struct answer {
    unsigned status;
    const char *content_type;
    char *body;
    size_t len;
    int64_t max_age_sec;  /* 0: not to be stored */
    int64_t modified_sec; /* 0: not told */
};

/* Takes `text`, which may be NULL for no memory. */
static struct answer answer_take(unsigned status, const char *content_type, char *text)
{
    return (struct answer){.status = status,
                           .content_type = content_type,
                           .body = text,
                           .len = text ? strlen(text) : 0};
}

static struct answer answer_text(unsigned status, const char *text)
{
    return answer_take(status, "text/plain", strdup(text));
}

static struct answer answer_ping(const struct admin_state *state)
{
    (void)state;
    return answer_text(MHD_HTTP_OK, "pong\n");
}

static struct answer answer_ready(const struct admin_state *state)
{
    struct why why = {""};
    char *text;

    if (admin_state_is_ready(state, &why))
        return answer_text(MHD_HTTP_OK, "ready\n");
    if (asprintf(&text, "not ready: %s\n", why.text) == -1)
        text = NULL;
    return answer_take(MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain", text);
}

static struct answer answer_healthcheck(const struct admin_state *state)
{
    struct json json = JSON_EMPTY;
    bool ready = admin_state_is_ready(state, NULL);

    json_object_begin(&json, NULL);
    admin_state_write(state, &json);
    json_object_end(&json);
    return answer_take(ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, "application/json",
                       json_take(&json));
}

/* Clients and proxies may keep it for an hour: so long a new one may stay unseen. The world may see
 * this path, so it tells nothing of why there is none; the log does. */
static struct answer answer_crl(const struct admin_state *state)
{
    struct answer answer = {.status = MHD_HTTP_OK, .content_type = "application/pkix-crl"};
    struct bytes der;
    struct crl crl;
    int64_t left_sec;
    enum leafd_err err = crl_file_copy(state->crl, &der, &crl, &answer.modified_sec);

    if (err == LEAFD_ABSENT)
        return answer_text(MHD_HTTP_NOT_FOUND, "there is no CRL here\n");
    if (err != LEAFD_OK)
        return answer;
    answer.body = (char *)(uintptr_t)der.data;
    answer.len = der.len;
    left_sec = crl.next_update - clock_wall_sec();
    answer.max_age_sec = left_sec < 0 ? 0 : left_sec < CRL_MAX_AGE_SEC ? left_sec : CRL_MAX_AGE_SEC;
    return answer;
}

static void write_gauge(FILE *out, const char *name, const char *help, uint64_t value)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n%s %" PRIu64 "\n", name, help, name, name, value);
}

static void write_counters(FILE *out)
{
    for (int i = 0; i < METRIC_COUNT; i++) {
        const struct metric_row *row = &metric_rows[i];

        if (i == 0 || strcmp(row->name, metric_rows[i - 1].name) != 0)
            fprintf(out, "# HELP %s %s\n# TYPE %s counter\n", row->name, row->help, row->name);
        fprintf(out, "%s%s%s%s %" PRIu64 "\n", row->name, row->labels[0] ? "{" : "", row->labels,
                row->labels[0] ? "}" : "", metrics_read((enum metric)i));
    }
}

/* Of which there is none, it expired at the beginning of time: an alert on its age sees that too.
 */
static void write_crl(const struct admin_state *state, FILE *out)
{
    struct crl_status crl;

    if (!state->crl)
        return;
    crl_file_status(state->crl, &crl);
    write_gauge(out, "leafd_crl_next_update_timestamp_seconds",
                "When the CRL expires, in seconds since 1970; 0 when there is none.",
                crl.good && crl.crl.next_update > 0 ? (uint64_t)crl.crl.next_update : 0);
}

static uint64_t token_lanes(const struct signer_token_status *token)
{
    return token->lanes;
}

static uint64_t token_under_way(const struct signer_token_status *token)
{
    return token->under_way;
}

static uint64_t token_latency(const struct signer_token_status *token)
{
    return token->latency_us;
}

static uint64_t token_is_ejected(const struct signer_token_status *token)
{
    return token->is_ejected;
}

static uint64_t token_signatures(const struct signer_token_status *token)
{
    return token->tally.signatures;
}

static uint64_t token_failures(const struct signer_token_status *token)
{
    return token->tally.failures;
}

static uint64_t token_proofs(const struct signer_token_status *token)
{
    return token->tally.proofs;
}

static uint64_t token_recoveries(const struct signer_token_status *token)
{
    return token->tally.recoveries;
}

static uint64_t token_disowned(const struct signer_token_status *token)
{
    return token->tally.disowned;
}

static uint64_t token_restarts(const struct signer_token_status *token)
{
    return token->restarts;
}

static void write_tokens(const struct signer_status *signer, FILE *out)
{
    static const struct {
        const char *name;
        const char *type;
        const char *help;
        uint64_t (*value)(const struct signer_token_status *token);
    } rows[] = {
        {"leafd_token_lanes", "gauge", "Sessions of a token that can sign.", token_lanes},
        {"leafd_token_under_way", "gauge", "Leaves that a token is to sign now.", token_under_way},
        {"leafd_token_latency_microseconds", "gauge",
         "A running mean of what a signature takes; 0 when there was none yet.", token_latency},
        {"leafd_token_ejected", "gauge",
         "1 while a token is left out, but for a request now and then.", token_is_ejected},
        {"leafd_token_signatures_total", "counter", "Signatures of a token.", token_signatures},
        {"leafd_token_failures_total", "counter", "Signatures that failed.", token_failures},
        {"leafd_token_proofs_total", "counter", "Challenges that an idle token has signed.",
         token_proofs},
        {"leafd_token_recoveries_total", "counter",
         "How often a token that had failed was ready again.", token_recoveries},
        {"leafd_token_disowned_total", "counter",
         "Signatures given out unverified and not trusted any more, since a later one was wrong.",
         token_disowned},
        {"leafd_token_restarts_total", "counter",
         "Signer processes that came after a token's first ones.", token_restarts},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", rows[i].name, rows[i].help, rows[i].name,
                rows[i].type);
        for (size_t t = 0; t < signer->token_count; t++)
            fprintf(out, "%s{token=\"%zu\"} %" PRIu64 "\n", rows[i].name, t,
                    rows[i].value(&signer->token[t]));
    }
    fprintf(out, "# HELP leafd_token_state 1 for the state a token is in.\n"
                 "# TYPE leafd_token_state gauge\n");
    for (size_t t = 0; t < signer->token_count; t++)
        for (int s = SIGNER_DOWN; s <= SIGNER_PIN_BLOCKED; s++)
            fprintf(out, "leafd_token_state{token=\"%zu\",state=\"%s\"} %d\n", t,
                    signer_state_name((enum signer_state)s), s == (int)signer->token[t].state);
}

static void write_gauges(const struct admin_state *state, FILE *out)
{
    struct signer_status signer;
    size_t entries;
    size_t bytes;

    signer_status(state->signer, &signer);
    leaf_cache_measure(state->cache, &entries, &bytes);
    write_gauge(out, "leafd_ready", "1 when leaves can be issued.",
                admin_state_is_ready(state, NULL));
    write_gauge(out, "leafd_uptime_seconds", "Age of the front process.",
                (uint64_t)(clock_mono_ms() - state->started_ms) / 1000);
    write_gauge(out, "leafd_cache_entries", "Leaves in memory.", entries);
    write_gauge(out, "leafd_cache_bytes", "Memory of these leaves.", bytes);
    write_crl(state, out);
    write_gauge(out, "leafd_signer_lanes", "Sessions that can sign.", signer.lanes);
    write_gauge(out, "leafd_signer_waiting", "Leaves waiting for a signature.", signer.waiting);
    write_gauge(out, "leafd_signer_restarts", "Signer processes that came after the first.",
                signer.restarts);
    fprintf(out, "# HELP leafd_signer_state 1 for the state the signer is in.\n"
                 "# TYPE leafd_signer_state gauge\n");
    for (int s = SIGNER_DOWN; s <= SIGNER_PIN_BLOCKED; s++)
        fprintf(out, "leafd_signer_state{state=\"%s\"} %d\n",
                signer_state_name((enum signer_state)s), s == (int)signer.state);
    write_tokens(&signer, out);
    fprintf(out, "# HELP leafd_keys_stock Leaf keys made ahead.\n"
                 "# TYPE leafd_keys_stock gauge\n");
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++)
        fprintf(out, "leafd_keys_stock{type=\"%s\"} %zu\n", leaf_types[i].name,
                key_pool_stock(state->keys, leaf_types[i].type, leaf_types[i].bits));
}

static struct answer answer_metrics(const struct admin_state *state)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (out) {
        write_counters(out);
        write_gauges(state, out);
        if (fclose(out) != 0) {
            free(text);
            text = NULL;
        }
    }
    return answer_take(MHD_HTTP_OK, "text/plain; version=0.0.4", text);
}

static const struct {
    const char *path;
    struct answer (*answer)(const struct admin_state *state);
} paths[] = {
    {"/ping", answer_ping},       {"/ready", answer_ready}, {"/healthcheck", answer_healthcheck},
    {"/metrics", answer_metrics}, {"/ca.crl", answer_crl},
};

static struct answer answer_of(const struct admin_state *state, const char *url, const char *method)
{
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (strcmp(url, paths[i].path) != 0)
            continue;
        if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
            return answer_text(MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        return paths[i].answer(state);
    }
    return answer_text(MHD_HTTP_NOT_FOUND, "/ping /ready /healthcheck /metrics /ca.crl\n");
}

/* IMF-fixdate (RFC 9110 section 5.6.7). */
static const char *http_date(int64_t sec, char *out, size_t size)
{
    time_t time = (time_t)sec;
    struct tm tm;

    if (!gmtime_r(&time, &tm) || strftime(out, size, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
        out[0] = '\0';
    return out;
}

static void add_headers(struct MHD_Response *response, const struct answer *answer)
{
    char text[64] = "no-store";

    MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
    if (answer->max_age_sec > 0)
        snprintf(text, sizeof(text), "public, max-age=%" PRId64, answer->max_age_sec);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, text);
    if (answer->modified_sec > 0 && *http_date(answer->modified_sec, text, sizeof(text)))
        MHD_add_response_header(response, MHD_HTTP_HEADER_LAST_MODIFIED, text);
}

static enum MHD_Result handle(void *ctx, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_size, void **request)
{
    const struct admin_http *http = ctx;
    struct MHD_Response *response;
    struct answer answer;
    enum MHD_Result result;

    (void)version;
    (void)upload;
    if (!*request) { /* headers alone: the body, if any, comes next */
        *request = (void *)http;
        return MHD_YES;
    }
    if (*upload_size > 0) { /* nobody wants it; the answer follows */
        *upload_size = 0;
        return MHD_YES;
    }
    answer = answer_of(http->state, url, method);
    if (!answer.body)
        return MHD_NO;
    response = MHD_create_response_from_buffer(answer.len, answer.body, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(answer.body);
        return MHD_NO;
    }
    add_headers(response, &answer);
    result = MHD_queue_response(connection, answer.status, response);
    MHD_destroy_response(response);
    return result;
}

/* libmicrohttpd calls it before it closes the descriptor. The number is kept one higher, so that
 * NULL is none. */
static void on_connection(void *ctx, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct admin_http *http = ctx;
    const union MHD_ConnectionInfo *info;

    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        conn_deadlines_end(http->deadlines, (int)(intptr_t)*context - 1);
        *context = NULL;
        return;
    }
    info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (info)
        *context = (void *)(intptr_t)(conn_deadlines_begin(http->deadlines, info->connect_fd) + 1);
}

static enum leafd_err start_daemon(struct admin_http *http, int fd, struct MHD_Daemon **ret,
                                   struct why *why)
{
    struct MHD_Daemon *daemon;

    if (fd == -1)
        return LEAFD_OK;
    daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, handle,
                              http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_CONNECTION,
                              on_connection, http, MHD_OPTION_CONNECTION_LIMIT,
                              (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
                              (unsigned)IDLE_TIMEOUT_SEC, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                              (size_t)CONNECTION_MEMORY, MHD_OPTION_END);
    if (!daemon) {
        close(fd);
        return fail(why, LEAFD_INTERNAL, "the admin endpoint cannot be started");
    }
    *ret = daemon;
    return LEAFD_OK;
}

static void close_fd(int fd)
{
    if (fd != -1)
        close(fd);
}

enum leafd_err admin_http_new(const struct admin_state *state, int unix_fd, int tcp_fd,
                              struct admin_http **ret, struct why *why)
{
    struct admin_http *http = calloc(1, sizeof(*http));
    enum leafd_err err = LEAFD_NOMEM;
    enum leafd_err tcp_err;

    if (http) {
        http->state = state;
        err = conn_deadlines_new(PATIENCE_MS, &http->deadlines);
    }
    if (err != LEAFD_OK) {
        close_fd(unix_fd);
        close_fd(tcp_fd);
        goto out;
    }
    err = start_daemon(http, unix_fd, &http->daemon[0], why);
    tcp_err = start_daemon(http, tcp_fd, &http->daemon[1], why);
    if (err == LEAFD_OK)
        err = tcp_err;
    if (err != LEAFD_OK)
        goto out;

    *ret = http;
    http = NULL;
out:
    admin_http_free(http);
    return err;
}

void admin_http_free(struct admin_http *http)
{
    if (!http)
        return;
    for (int i = 0; i < 2; i++)
        if (http->daemon[i])
            MHD_stop_daemon(http->daemon[i]); /* closes the listening socket */
    conn_deadlines_free(http->deadlines);
    free(http);
}
