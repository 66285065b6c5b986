/* SPDX-License-Identifier: Apache-2.0 */
/* leafctl issue: asks a running leafd as a proxy does, and prints what comes back. */
#include "config.h"

#include "ctl/ctl.h"

#include "base/clock.h"
#include "conf/values.h"
#include "ctl/ctl_conf.h"
#include "ctl/ctl_output.h"
#include "ctl/ctl_upstream.h"
#include "ctl/ctl_usage.h"
#include "wire/response.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { WAIT_MS = 4000, CHAIN_MAX = 16 };

/* ---- where leafd is ---- */

struct server {
    struct sockaddr_storage address;
    socklen_t len;
    char text[160];
};

static enum leafd_err server_of_path(const char *path, struct server *ret, struct why *why)
{
    struct sockaddr_un *address = (struct sockaddr_un *)&ret->address;
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(address->sun_path))
        return fail(why, LEAFD_CONFIG, "the path of a socket has 1 to %zu characters",
                    sizeof(address->sun_path) - 1);
    memset(ret, 0, sizeof(*ret));
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, len + 1);
    ret->len = sizeof(*address);
    snprintf(ret->text, sizeof(ret->text), "unix:%s", path);
    return LEAFD_OK;
}

static enum leafd_err server_of_text(const char *text, struct server *ret, struct why *why)
{
    enum leafd_err err;

    if (strncmp(text, "unix:", 5) == 0)
        return server_of_path(text + 5, ret, why);
    err = value_address(text, &ret->address, &ret->len, why);
    if (err != LEAFD_OK)
        return err;
    snprintf(ret->text, sizeof(ret->text), "%s", text);
    return LEAFD_OK;
}

/* A listener at all addresses is asked over loopback. */
static void not_everywhere(struct server *server)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *)&server->address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&server->address;

    if (in4->sin_family == AF_INET && in4->sin_addr.s_addr == htonl(INADDR_ANY))
        in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (in6->sin6_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
        in6->sin6_addr = in6addr_loopback;
}

static enum leafd_err server_of_conf(const struct conf *conf, struct server *ret, struct why *why)
{
    const struct conf_listen *listen = &conf->listen[0];

    if (listen->is_unix)
        return server_of_path(listen->path, ret, why);
    if (((const struct sockaddr_in *)&listen->address)->sin_port == 0)
        return fail(why, LEAFD_CONFIG,
                    "the first listener has port 0, so its port is known to leafd's log alone "
                    "(event=ready); name it with --server ADDRESS:PORT");
    ret->address = listen->address;
    ret->len = listen->address_len;
    snprintf(ret->text, sizeof(ret->text), "%.150s", listen->text);
    not_everywhere(ret);
    return LEAFD_OK;
}

static enum leafd_err server_find(const struct ctl *ctl, struct server *ret, struct why *why)
{
    struct conf *conf = NULL;
    enum leafd_err err = ctl_conf_load_if_any(ctl, &conf, why);

    if (err == LEAFD_ABSENT)
        return server_of_text("127.0.0.1:2999", ret, why);
    if (err == LEAFD_OK)
        err = server_of_conf(conf, ret, why);
    conf_free(conf);
    return err;
}

/* ---- one question, one answer ---- */

static enum leafd_err connect_to(const struct server *server, int *ret_fd, struct why *why)
{
    int fd = socket(server->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sa_family_t family = AF_UNIX;
    enum leafd_err err;

    if (fd == -1)
        return fail(why, LEAFD_IO, "socket: %s", strerror(errno));
    /* A Unix socket needs a name to be answered at; the kernel makes one up. */
    if ((server->address.ss_family == AF_UNIX &&
         bind(fd, (const struct sockaddr *)&(struct sockaddr_un){.sun_family = family},
              sizeof(family)) == -1) ||
        connect(fd, (const struct sockaddr *)&server->address, server->len) == -1) {
        err = fail(why, LEAFD_IO, "cannot reach %s: %s; is leafd running?", server->text,
                   strerror(errno));
        close(fd);
        return err;
    }
    *ret_fd = fd;
    return LEAFD_OK;
}

static enum leafd_err no_reply(const struct server *server, struct why *why)
{
    return fail(why, LEAFD_TIMEOUT,
                "no reply from %s within %d s: is leafd running (leafctl status), does it listen "
                "there, and does allow_from of that listener have this machine?",
                server->text, WAIT_MS / 1000);
}

static enum leafd_err receive(int fd, const struct server *server, uint8_t *reply, size_t size,
                              struct bytes *ret, struct why *why)
{
    int64_t deadline_ms = clock_mono_ms() + WAIT_MS;

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        int64_t left_ms = deadline_ms - clock_mono_ms();
        ssize_t got;

        if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
            return no_reply(server, why);
        got = recv(fd, reply, size, MSG_DONTWAIT);
        if (got >= 0) {
            *ret = (struct bytes){reply, (size_t)got};
            return LEAFD_OK;
        }
        if (errno == ECONNREFUSED)
            return fail(why, LEAFD_IO, "nobody listens at %s; is leafd running?", server->text);
        if (errno != EAGAIN && errno != EINTR)
            return fail(why, LEAFD_IO, "cannot read from %s: %s", server->text, strerror(errno));
    }
}

static enum leafd_err ask(const struct server *server, struct bytes question, uint8_t *reply,
                          size_t size, struct bytes *ret, struct why *why)
{
    enum leafd_err err;
    int fd = -1;

    err = connect_to(server, &fd, why);
    if (err != LEAFD_OK)
        return err;
    if (send(fd, question.data, question.len, 0) == -1)
        err = fail(why, LEAFD_IO, "cannot send to %s: %s; is leafd running?", server->text,
                   strerror(errno));
    else
        err = receive(fd, server, reply, size, ret, why);
    close(fd);
    return err;
}

/* ---- what the codes of an error reply mean ---- */

static const struct {
    const char *code;
    const char *meaning;
} codes[] = {
    {"malformed", "leafd could not read the request"},
    {"refused", "the host is not one that leafd issues for: its form, policy.deny, the CA's "
                "constraints or the CA's dates; leafctl explain tells which"},
    {"unsupported", "the upstream certificate cannot be used, or the usage or service is not "
                    "known; leafctl explain tells more"},
    {"busy", "leafd has more to do than its bounds allow; try again"},
    {"token-unavailable", "no token can sign now; leafctl status tells what is missing"},
    {"too-large", "the leaf would not fit into a reply, and the upstream does not name the host"},
    {"internal", "a fault within leafd; its log tells more"},
};

static enum leafd_err error_reply(const struct response_view *view, struct why *why)
{
    char code[64];

    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (bytes_equal(view->error, bytes_of(codes[i].code)))
            return fail(why, LEAFD_REFUSED, "%s: %s", codes[i].code, codes[i].meaning);
    }
    return fail(why, LEAFD_REFUSED, "leafd answered with the error \"%s\"",
                bytes_escape(view->error, code, sizeof(code)));
}

/* ---- the reply as OpenSSL sees it ---- */

struct pair {
    X509 *cert[CHAIN_MAX]; /* the leaf first */
    size_t count;
    EVP_PKEY *key;
};

static void pair_clear(struct pair *pair)
{
    for (size_t i = 0; i < pair->count; i++)
        X509_free(pair->cert[i]);
    EVP_PKEY_free(pair->key);
}

static bool is_pem(struct bytes text)
{
    return text.len > 11 && memcmp(text.data, "-----BEGIN ", 11) == 0;
}

static bool add_der(struct pair *pair, struct bytes der)
{
    const unsigned char *at = der.data;

    if (pair->count == CHAIN_MAX)
        return false;
    pair->cert[pair->count] = d2i_X509(NULL, &at, (long)der.len);
    if (!pair->cert[pair->count])
        return false;
    pair->count++;
    return true;
}

/* Without this OpenSSL asks the operator, in a stranger's name, to type one in. */
static int no_passphrase(char *out, int size, int writing, void *ctx)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)ctx;
    return -1;
}

static bool add_pem(struct pair *pair, struct bytes pem)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    X509 *cert = NULL;

    while (bio && pair->count < CHAIN_MAX &&
           (cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)))
        pair->cert[pair->count++] = cert;
    BIO_free(bio);
    return pair->count > 0;
}

static EVP_PKEY *key_of(struct bytes key)
{
    const unsigned char *at = key.data;
    BIO *bio;
    EVP_PKEY *pkey;

    if (!is_pem(key))
        return d2i_AutoPrivateKey(NULL, &at, (long)key.len);
    bio = BIO_new_mem_buf(key.data, (int)key.len);
    pkey = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    BIO_free(bio);
    return pkey;
}

static enum leafd_err pair_read(const struct response_view *view, struct pair *ret, struct why *why)
{
    struct pair pair = {.count = 0};
    bool good = is_pem(view->cert) ? add_pem(&pair, view->cert) : add_der(&pair, view->cert);

    for (size_t i = 0; good && i < view->chain_count; i++)
        good = add_der(&pair, view->chain[i]);
    pair.key = good ? key_of(view->key) : NULL;
    if (!pair.key || X509_check_private_key(pair.cert[0], pair.key) != 1) {
        pair_clear(&pair);
        return fail(why, LEAFD_MALFORMED,
                    "the reply has no leaf that its key belongs to; is this leafd?");
    }
    *ret = pair;
    return LEAFD_OK;
}

/* ---- output ---- */

/* One PEM or DER text of what was asked for; NULL when memory ran out. */
static BIO *text_of_certs(const struct pair *pair, size_t first, size_t end, bool der)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool good = bio != NULL;

    for (size_t i = first; good && i < end; i++)
        good = der ? i2d_X509_bio(bio, pair->cert[i]) == 1
                   : PEM_write_bio_X509(bio, pair->cert[i]) == 1;
    if (good)
        return bio;
    BIO_free(bio);
    return NULL;
}

static BIO *text_of_key(const struct pair *pair, bool der)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bool good = bio != NULL;

    if (good)
        good = der ? i2d_PKCS8PrivateKey_bio(bio, pair->key, NULL, NULL, 0, NULL, NULL) == 1
                   : PEM_write_bio_PKCS8PrivateKey(bio, pair->key, NULL, NULL, 0, NULL, NULL) == 1;
    if (good)
        return bio;
    BIO_free(bio);
    return NULL;
}

static struct bytes content_of(BIO *bio)
{
    char *data = NULL;
    long len = bio ? BIO_get_mem_data(bio, &data) : 0;

    return (struct bytes){(const uint8_t *)data, len > 0 ? (size_t)len : 0};
}

/* Written beside and renamed: whoever reads the file sees the old one or the new one. Names are
 * ours alone, never the host. */
static enum leafd_err file_write(int dir, const char *folder, const char *name, BIO *text,
                                 mode_t mode, struct why *why)
{
    struct bytes content = content_of(text);
    char temporary[64];
    enum leafd_err err = LEAFD_OK;
    int fd;

    if (!text)
        return LEAFD_NOMEM;
    snprintf(temporary, sizeof(temporary), ".%s.%d.new", name, (int)getpid());
    fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd == -1)
        return fail(why, LEAFD_IO, "cannot make a file in %s: %s", folder, strerror(errno));
    if (!bytes_write_fd(fd, content) || fchmod(fd, mode) == -1 || fsync(fd) == -1 ||
        renameat(dir, temporary, dir, name) == -1) {
        err = fail(why, LEAFD_IO, "cannot write %s/%s: %s", folder, name, strerror(errno));
        unlinkat(dir, temporary, 0);
    }
    close(fd);
    return err;
}

/* With an empty chain there is no file of it, and an old one goes. */
static enum leafd_err chain_write(int dir, const char *folder, const struct pair *pair,
                                  struct why *why)
{
    BIO *text;
    enum leafd_err err;

    if (pair->count < 2) {
        unlinkat(dir, "chain.pem", 0);
        return LEAFD_OK;
    }
    text = text_of_certs(pair, 1, pair->count, false);
    err = file_write(dir, folder, "chain.pem", text, 0644, why);
    BIO_free(text);
    return err;
}

static enum leafd_err files_write(const char *folder, const struct pair *pair, bool der,
                                  struct why *why)
{
    BIO *key = NULL;
    BIO *leaf = NULL;
    enum leafd_err err;
    int dir;

    if (mkdir(folder, 0755) == -1 && errno != EEXIST)
        return fail(why, LEAFD_IO, "cannot make the folder %s: %s", folder, strerror(errno));
    dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir == -1)
        return fail(why, LEAFD_IO, "%s: %s", folder, strerror(errno));
    key = text_of_key(pair, der);
    leaf = text_of_certs(pair, 0, 1, der);
    err = file_write(dir, folder, der ? "key.der" : "key.pem", key, 0600, why);
    if (err == LEAFD_OK)
        err = chain_write(dir, folder, pair, why);
    if (err == LEAFD_OK)
        err = file_write(dir, folder, der ? "leaf.der" : "leaf.pem", leaf, 0644, why);
    BIO_free(key);
    BIO_free(leaf);
    close(dir);
    return err;
}

static enum leafd_err print_pem(const struct pair *pair, struct why *why)
{
    BIO *certs = text_of_certs(pair, 0, pair->count, false);
    BIO *key = text_of_key(pair, false);
    struct bytes content[2] = {content_of(certs), content_of(key)};
    enum leafd_err err = LEAFD_OK;

    if (!certs || !key)
        err = LEAFD_NOMEM;
    fflush(stdout);
    for (size_t i = 0; err == LEAFD_OK && i < 2; i++) {
        if (!bytes_write_fd(STDOUT_FILENO, content[i]))
            err = fail(why, LEAFD_IO, "cannot write to standard output: %s", strerror(errno));
    }
    BIO_free(certs);
    BIO_free(key);
    return err;
}

static void json_pem(struct json *json, const char *name, BIO *text)
{
    json_bytes(json, name, content_of(text));
    BIO_free(text);
}

static int print_json(const struct ctl *ctl, const struct pair *pair, uint32_t ttl_sec)
{
    struct json json = JSON_EMPTY;

    json_object_begin(&json, NULL);
    json_string(&json, "host", ctl->host);
    json_uint(&json, "ttl_sec", ttl_sec);
    if (ctl->out) {
        json_string(&json, "out", ctl->out);
    } else {
        json_pem(&json, "leaf", text_of_certs(pair, 0, 1, false));
        json_pem(&json, "chain", text_of_certs(pair, 1, pair->count, false));
        json_pem(&json, "key", text_of_key(pair, false));
    }
    json_object_end(&json);
    return ctl_print_json(&json);
}

static int deliver(const struct ctl *ctl, const struct pair *pair, uint32_t ttl_sec)
{
    bool der = ctl->format && strcmp(ctl->format, "der") == 0;
    struct why why = {""};
    enum leafd_err err = LEAFD_OK;

    if (ctl->out)
        err = files_write(ctl->out, pair, der, &why);
    if (err == LEAFD_OK && ctl->json)
        return print_json(ctl, pair, ttl_sec);
    if (err == LEAFD_OK && !ctl->out)
        err = print_pem(pair, &why);
    if (err != LEAFD_OK)
        return ctl_failed(&why);
    if (ctl->out)
        printf("leaf.%s%s, key.%s written to %s\n", der ? "der" : "pem",
               pair->count > 1 ? ", chain.pem" : "", der ? "der" : "pem", ctl->out);
    return ctl_flushed(CTL_OK);
}

/* ---- the command ---- */

static bool service_of(const char *word, enum service *ret)
{
    for (int service = SERVICE_HTTP; service <= SERVICE_IMAP; service++) {
        if (strcasecmp(word, service_name((enum service)service)) == 0) {
            *ret = (enum service)service;
            return true;
        }
    }
    return false;
}

/* The command line's words; CTL_OK or CTL_USAGE. */
static int request_of(const struct ctl *ctl, struct request *ret)
{
    struct request request = {.dialect = DIALECT_IDS, .host = bytes_of(ctl->host)};

    if (ctl->service && !service_of(ctl->service, &request.service))
        return ctl_wrong_usage("--service must be http, smtp or imap, not \"%s\"", ctl->service);
    if (ctl_usage_take(ctl, &request) != CTL_OK)
        return CTL_USAGE;
    if (ctl->format && strcmp(ctl->format, "pem") != 0 && strcmp(ctl->format, "der") != 0)
        return ctl_wrong_usage("--format must be pem or der, not \"%s\"", ctl->format);
    if (ctl->format && strcmp(ctl->format, "der") == 0 && !ctl->out)
        return ctl_wrong_usage("--format der needs --out DIR");
    *ret = request;
    return CTL_OK;
}

static int issue(const struct ctl *ctl, const struct server *server, const struct request *request)
{
    static uint8_t question[WIRE_DATAGRAM_MAX];
    static uint8_t reply[WIRE_DATAGRAM_MAX + 1];
    struct bytes sent = {question, request_write(request, question, sizeof(question))};
    struct bytes got;
    struct response_view view;
    struct pair pair;
    struct why why = {""};
    enum leafd_err err;
    int code;

    if (sent.len == 0)
        err = fail(&why, LEAFD_TOO_LARGE, "the request does not fit into %d bytes",
                   WIRE_DATAGRAM_MAX);
    else
        err = ask(server, sent, reply, sizeof(reply), &got, &why);
    if (err == LEAFD_OK)
        err = response_read(got, &view, &why);
    if (err == LEAFD_OK && view.error.len)
        err = error_reply(&view, &why);
    if (err == LEAFD_OK && !bytes_equal(view.host, request->host))
        err = fail(&why, LEAFD_MALFORMED, "the reply is for another host");
    if (err == LEAFD_OK)
        err = pair_read(&view, &pair, &why);
    if (err != LEAFD_OK)
        return ctl_failed(&why);
    code = deliver(ctl, &pair, view.ttl_sec);
    pair_clear(&pair);
    return code;
}

int ctl_issue(const struct ctl *ctl)
{
    struct request request;
    struct server server;
    struct bytes upstream = {NULL, 0};
    struct why why = {""};
    enum leafd_err err = LEAFD_OK;
    int code = request_of(ctl, &request);

    if (code != CTL_OK)
        return code;
    if (ctl->server && server_of_text(ctl->server, &server, &why) != LEAFD_OK)
        return ctl_wrong_usage("--server %s", why.text);
    if (!ctl->server)
        err = server_find(ctl, &server, &why);
    if (err == LEAFD_OK && ctl->like)
        err = ctl_upstream_read(ctl->like, &upstream, &request.cert_form, &why);
    request.cert = upstream;
    code = err == LEAFD_OK ? issue(ctl, &server, &request) : ctl_failed(&why);
    free((void *)(uintptr_t)upstream.data);
    return code;
}
