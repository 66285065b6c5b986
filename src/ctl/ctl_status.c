/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl status, flush, token unblock: a running leafd over its sockets. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "conf/values.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_json.h"
#include "ctl/ctl_output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 1 << 20, WAIT_MS = 5000 };

/* ---- one question, one answer ---- */

static enum leafd_err connect_to(const char *path, int *ret_fd, struct why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    enum leafd_err err;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path))
        return fail(why, LEAFD_CONFIG, "the control socket's path is too long");
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd == -1)
        return fail(why, LEAFD_IO, "socket: %s", strerror(errno));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
        *ret_fd = fd;
        return LEAFD_OK;
    }
    if (errno == EACCES)
        err =
            fail(why, LEAFD_IO, "%s: permission denied: run as root or as leafd's own user", path);
    else
        err = fail(why, LEAFD_IO, "%s: %s; is leafd running with this configuration?", path,
                   strerror(errno));
    close(fd);
    return err;
}

static enum leafd_err no_answer(const char *path, struct why *why)
{
    return fail(why, LEAFD_TIMEOUT, "%s: leafd does not answer", path);
}

/* Everything up to the end of file. */
static enum leafd_err receive(int fd, const char *path, char *answer, size_t *ret_len,
                              struct why *why)
{
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;
    size_t len = 0;

    while (len < ANSWER_MAX) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_mono_ms();
        ssize_t got;

        if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
            return no_answer(path, why);
        got = recv(fd, answer + len, ANSWER_MAX - len, MSG_DONTWAIT);
        if (got == -1 && (errno == EAGAIN || errno == EINTR))
            continue;
        if (got == -1)
            return fail(why, LEAFD_IO, "%s: %s", path, strerror(errno));
        if (got == 0) {
            *ret_len = len;
            return len ? LEAFD_OK
                       : fail(why, LEAFD_REFUSED,
                              "%s: leafd closed without a word: only root and its own user may "
                              "ask, and only so many at once",
                              path);
        }
        len += (size_t)got;
    }
    return fail(why, LEAFD_TOO_LARGE, "%s: the answer is too long", path);
}

/* `answer` has ANSWER_MAX + 1 octets of room. */
static enum leafd_err ask(const char *path, const char *line, char *answer, size_t *ret_len,
                          struct why *why)
{
    size_t len = strlen(line);
    enum leafd_err err;
    int fd = -1;

    err = connect_to(path, &fd, why);
    if (err != LEAFD_OK)
        return err;
    /* A front that does not take us has closed already; what it says is read all the same. */
    if (send(fd, line, len, MSG_NOSIGNAL) == -1 && errno != EPIPE)
        err = fail(why, LEAFD_IO, "%s: %s", path, strerror(errno));
    else
        err = receive(fd, path, answer, ret_len, why);
    close(fd);
    return err;
}

/* ---- what is printed ---- */

static void print_text(const char *name, const struct ctl_json_value *value)
{
    char text[512];
    size_t len;

    if (!value)
        return;
    len = value->text.len < sizeof(text) - 1 ? value->text.len : sizeof(text) - 1;
    if (len == 0)
        return;
    memcpy(text, value->text.data, len);
    text[len] = '\0';
    ctl_print_row(name, text);
}

static uint64_t number_of(const struct ctl_json_value *value)
{
    char text[24];

    if (!value || value->kind != CTL_JSON_NUMBER || value->text.len >= sizeof(text))
        return 0;
    memcpy(text, value->text.data, value->text.len);
    text[value->text.len] = '\0';
    return strtoull(text, NULL, 10);
}

static size_t index_of(const struct ctl_json *json, const struct ctl_json_value *value)
{
    return (size_t)(value - json->value);
}

static void print_signer(const struct ctl_json *json)
{
    static const char *const rows[] = {"lanes",  "waiting", "signatures", "failures", "refusals",
                                       "logins", "proofs",  "recoveries", "disowned", "restarts"};
    const struct ctl_json_value *signer = ctl_json_get(json, 0, "signer");

    if (!signer)
        return;
    print_text("Signer", ctl_json_get(json, index_of(json, signer), "state"));
    print_text("  missing", ctl_json_get(json, index_of(json, signer), "text"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char name[32];

        snprintf(name, sizeof(name), "  %s", rows[i]);
        print_text(name, ctl_json_get(json, index_of(json, signer), rows[i]));
    }
}

/* One line for each token, where there are several. */
static void print_tokens(const struct ctl_json *json)
{
    const struct ctl_json_value *tokens = ctl_json_get(json, 0, "tokens");
    size_t first;

    if (!tokens || tokens->kind != CTL_JSON_ARRAY)
        return;
    first = index_of(json, tokens) + 1;
    if (first >= tokens->next || json->value[first].next >= tokens->next)
        return;
    for (size_t i = first; i < tokens->next; i = json->value[i].next) {
        const struct ctl_json_value *state = ctl_json_get(json, i, "state");
        const struct ctl_json_value *ejected = ctl_json_get(json, i, "ejected");
        char name[40];
        char text[256];

        if (!state)
            continue;
        snprintf(name, sizeof(name), "Token %" PRIu64, number_of(ctl_json_get(json, i, "token")));
        snprintf(text, sizeof(text),
                 "%.*s%s; lanes %" PRIu64 ", under way %" PRIu64 ", signatures %" PRIu64
                 ", failures %" PRIu64 ", recoveries %" PRIu64 ", restarts %" PRIu64 ", %" PRIu64
                 " us",
                 (int)state->text.len, (const char *)state->text.data,
                 ejected && bytes_equal(ejected->text, bytes_of("true")) ? ", left out" : "",
                 number_of(ctl_json_get(json, i, "lanes")),
                 number_of(ctl_json_get(json, i, "under_way")),
                 number_of(ctl_json_get(json, i, "signatures")),
                 number_of(ctl_json_get(json, i, "failures")),
                 number_of(ctl_json_get(json, i, "recoveries")),
                 number_of(ctl_json_get(json, i, "restarts")),
                 number_of(ctl_json_get(json, i, "latency_us")));
        ctl_print_row(name, text);
        print_text("  missing", ctl_json_get(json, i, "text"));
    }
}

static void print_cache(const struct ctl_json *json)
{
    const struct ctl_json_value *cache = ctl_json_get(json, 0, "cache");
    char max[32];
    char text[96];

    if (!cache)
        return;
    snprintf(text, sizeof(text), "%" PRIu64 " leaves in %" PRIu64 " KiB of %s",
             number_of(ctl_json_get(json, index_of(json, cache), "entries")),
             number_of(ctl_json_get(json, index_of(json, cache), "bytes")) / 1024,
             size_text((int64_t)number_of(ctl_json_get(json, index_of(json, cache), "max_bytes")),
                       max, sizeof(max)));
    ctl_print_row("Cache", text);
}

static void print_keys(const struct ctl_json *json)
{
    const struct ctl_json_value *keys = ctl_json_get(json, 0, "keys");
    char text[256] = "";
    size_t used = 0;

    if (!keys || keys->kind != CTL_JSON_OBJECT)
        return;
    for (size_t i = index_of(json, keys) + 1; i < keys->next && used < sizeof(text);
         i = json->value[i].next) {
        const struct ctl_json_value *stock = &json->value[i];
        int wrote;

        if (number_of(stock) == 0)
            continue; /* nobody wants them, or somebody waits: leafctl --json tells all */
        wrote = snprintf(text + used, sizeof(text) - used, "%s%.*s %.*s", used ? ", " : "",
                         (int)stock->key.len, (const char *)stock->key.data, (int)stock->text.len,
                         (const char *)stock->text.data);

        used += wrote > 0 ? (size_t)wrote : 0;
    }
    ctl_print_row("Keys in stock", used ? text : "none");
}

static void print_crl(const struct ctl_json *json)
{
    const struct ctl_json_value *crl = ctl_json_get(json, 0, "crl");
    char text[CLOCK_TEXT_SIZE + 16];
    char time[CLOCK_TEXT_SIZE];
    uint64_t next;

    if (!crl)
        return;
    next = number_of(ctl_json_get(json, index_of(json, crl), "next_update_sec"));
    if (next)
        snprintf(text, sizeof(text), "until %s", clock_text((int64_t)next, time));
    ctl_print_row("CRL", next ? text : "none");
    print_text("  attention", ctl_json_get(json, index_of(json, crl), "attention"));
}

/* A label set as it stands in the document, without the backslashes before its quotes. */
static void print_labels(struct bytes labels)
{
    putchar('{');
    for (size_t i = 0; i < labels.len; i++) {
        uint8_t c = labels.data[i];

        if (c != '\\' && c >= 0x20 && c < 0x7f)
            putchar(c);
    }
    putchar('}');
}

static void print_counters(const struct ctl_json *json)
{
    const struct ctl_json_value *counters = ctl_json_get(json, 0, "counters");

    if (!counters || counters->kind != CTL_JSON_ARRAY)
        return;
    puts("Counters since the front was started, those not zero:");
    for (size_t i = index_of(json, counters) + 1; i < counters->next; i = json->value[i].next) {
        const struct ctl_json_value *name = ctl_json_get(json, i, "name");
        const struct ctl_json_value *labels = ctl_json_get(json, i, "labels");
        const struct ctl_json_value *value = ctl_json_get(json, i, "value");

        if (!name || !labels || !value)
            continue;
        printf("%12" PRIu64 "  ", number_of(value));
        for (size_t c = 0; c < name->text.len; c++)
            if (name->text.data[c] > 0x20 && name->text.data[c] < 0x7f)
                putchar(name->text.data[c]);
        if (labels->text.len)
            print_labels(labels->text);
        putchar('\n');
    }
}

static void print_status(const struct ctl_json *json)
{
    const struct ctl_json_value *ready = ctl_json_get(json, 0, "ready");
    uint64_t up = number_of(ctl_json_get(json, 0, "uptime_sec"));
    char text[96];

    ctl_print_row("State",
                  ready && bytes_equal(ready->text, bytes_of("true")) ? "ready" : "not ready");
    print_text("  reason", ctl_json_get(json, 0, "reason"));
    print_text("Version", ctl_json_get(json, 0, "version"));
    snprintf(text, sizeof(text), "%" PRIu64 " d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64, up / 86400,
             up / 3600 % 24, up / 60 % 60, up % 60);
    ctl_print_row("Up for", text);
    print_signer(json);
    print_tokens(json);
    print_cache(json);
    print_keys(json);
    print_crl(json);
    print_counters(json);
}

static void print_unblock(const struct ctl_json *json)
{
    printf("signers that try the PIN once more: %" PRIu64 "\n",
           number_of(ctl_json_get(json, 0, "unblocked")));
}

static void print_flush(const struct ctl_json *json)
{
    printf("leaves forgotten: %" PRIu64 "\n", number_of(ctl_json_get(json, 0, "flushed")));
}

/* ---- the commands ---- */

static int tell(const struct ctl *ctl, char *answer, size_t len,
                void (*print)(const struct ctl_json *json))
{
    const struct ctl_json_value *error;
    struct ctl_json json;
    struct why why = {""};
    enum leafd_err err = ctl_json_read((struct bytes){(const uint8_t *)answer, len}, &json);

    if (err != LEAFD_OK || json.value[0].kind != CTL_JSON_OBJECT) {
        (void)fail(&why, LEAFD_MALFORMED, "the answer is not what leafd says");
        if (err == LEAFD_OK)
            ctl_json_clear(&json);
        return ctl_failed(&why);
    }
    error = ctl_json_get(&json, 0, "error");
    if (error)
        (void)fail(&why, LEAFD_REFUSED, "leafd: %.*s", (int)error->text.len,
                   (const char *)error->text.data);
    else if (ctl->json)
        fwrite(answer, 1, len, stdout);
    else
        print(&json);
    ctl_json_clear(&json);
    return error ? ctl_failed(&why) : ctl_flushed(CTL_OK);
}

static enum leafd_err socket_find(const struct ctl *ctl, bool of_supervisor, char **ret,
                                  struct why *why)
{
    struct conf *conf = NULL;
    enum leafd_err err = ctl_conf_load_if_any(ctl, &conf, why);
    char *path;

    if (err != LEAFD_OK && err != LEAFD_ABSENT)
        return err;
    if (conf)
        path = strdup(of_supervisor ? conf->supervisor_socket : conf->control_socket);
    else
        path = strdup(of_supervisor ? "/run/leafd/control.sock.supervisor"
                                    : "/run/leafd/control.sock");
    conf_free(conf);
    if (!path)
        return LEAFD_NOMEM;
    *ret = path;
    return LEAFD_OK;
}

static int command(const struct ctl *ctl, bool of_supervisor, const char *line,
                   void (*print)(const struct ctl_json *json))
{
    char *answer = malloc(ANSWER_MAX + 1);
    char *path = NULL;
    size_t len = 0;
    struct why why = {""};
    enum leafd_err err = answer ? socket_find(ctl, of_supervisor, &path, &why) : LEAFD_NOMEM;
    int code;

    if (err == LEAFD_OK)
        err = ask(path, line, answer, &len, &why);
    code = err == LEAFD_OK ? tell(ctl, answer, len, print) : ctl_failed(&why);
    free(answer);
    free(path);
    return code;
}

int ctl_status(const struct ctl *ctl)
{
    return command(ctl, false, "{\"command\":\"status\"}\n", print_status);
}

int ctl_flush(const struct ctl *ctl)
{
    return command(ctl, false, "{\"command\":\"flush\"}\n", print_flush);
}

int ctl_token_unblock(const struct ctl *ctl)
{
    char line[64] = "{\"command\":\"token-unblock\"}\n";

    if (ctl->token && (ctl->token[0] < '0' || ctl->token[0] > '9' || ctl->token[1]))
        return ctl_wrong_usage("TOKEN is a number, as leafctl status shows it: 0 is token, 1 the "
                               "first of more_tokens");
    if (ctl->token)
        snprintf(line, sizeof(line), "{\"command\":\"token-unblock\",\"token\":%c}\n",
                 ctl->token[0]);
    return command(ctl, true, line, print_unblock);
}
