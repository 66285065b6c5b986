/* SPDX-License-Identifier: Apache-2.0 */
/* A request's whole journey with the real policy, cache and issuer and a signer that can be slow or
 * gone. Replies that come later arrive at a real socket. */
#include "config.h" /* struct in6_pktinfo */

#include "tests/lib/unit.h"

#include "serve/packet_path.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "tests/lib/fake_signer.h"
#include "wire/response.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPLY_WAIT_MS = 60000 };

struct world {
    struct conf_listen listen;
    struct conf conf;
    struct policy *policy;
    struct leaf_cache *cache;
    struct signer *signer;
    struct key_pool *keys;
    struct issuer *issuer;
    struct packet_path *path;
    struct reply_route route;
    int server;
    int client;
    uint8_t out[WIRE_DATAGRAM_MAX];   /* what packet_path_handle wrote */
    uint8_t reply[WIRE_DATAGRAM_MAX]; /* what the socket gave */
};

static int bound_socket(struct sockaddr_in *ret_address)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_not_equal(fd, -1);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *ret_address = address;
    return fd;
}

static struct world *world_new_with(void (*tune)(struct conf *conf),
                                    const struct fake_signer_options *options)
{
    struct world *world = calloc(1, sizeof(*world));
    struct sockaddr_in address;

    world->conf = (struct conf){.listen = &world->listen,
                                .listen_count = 1,
                                .leaf_lifetime_sec = 90 * 86400,
                                .leaf_rsa_bits = 2048,
                                .mimic_upstream_verified = true,
                                .ttl_max_sec = 86400,
                                .keys_share = true,
                                .keys_rsa_high = 1,
                                .keys_ec_low = 2,
                                .keys_ec_high = 4,
                                .cache_max_bytes = 8 << 20,
                                .flights_max = 256,
                                .flight_waiters_max = 256};
    if (tune)
        tune(&world->conf);
    world->signer = fake_signer_new(options);
    assert_int_equal(policy_new(&world->conf, &world->policy), LEAFD_OK);
    assert_int_equal(leaf_cache_new((size_t)world->conf.cache_max_bytes, &world->cache), LEAFD_OK);
    assert_int_equal(key_pool_new(&world->conf, &world->keys), LEAFD_OK);
    assert_int_equal(issuer_new(&world->conf, world->keys, world->signer, &world->issuer),
                     LEAFD_OK);
    assert_int_equal(packet_path_new(&(struct packet_path_parts){.conf = &world->conf,
                                                                 .policy = world->policy,
                                                                 .cache = world->cache,
                                                                 .issuer = world->issuer,
                                                                 .signer = world->signer},
                                     2, &world->path),
                     LEAFD_OK);
    world->server = bound_socket(&address);
    world->client = bound_socket(&address);
    world->route = (struct reply_route){.fd = world->server,
                                        .listen = &world->listen,
                                        .peer.in4 = address,
                                        .peer_len = sizeof(address)};
    return world;
}

static struct world *world_new(void (*tune)(struct conf *conf))
{
    return world_new_with(tune, NULL);
}

static void world_free(struct world *world)
{
    packet_path_free(world->path, clock_mono_ms() + REPLY_WAIT_MS);
    signer_free(world->signer);
    key_pool_free(world->keys);
    issuer_free(world->issuer);
    leaf_cache_free(world->cache);
    policy_free(world->policy);
    close(world->server);
    close(world->client);
    free(world);
}

/* ---- asking ---- */

/* Octets of the reply that is to be sent at once, in world->out. */
static size_t hand_in(struct world *world, struct bytes datagram, int64_t age_ms)
{
    struct packet packet = {
        .data = datagram, .arrived_ms = clock_mono_ms() - age_ms, .route = &world->route};

    return packet_path_handle(world->path, &packet, world->out);
}

static size_t ask_aged(struct world *world, const struct request *request, int64_t age_ms)
{
    uint8_t datagram[WIRE_DATAGRAM_MAX];
    size_t len = request_write(request, datagram, sizeof(datagram));

    assert_true(len > 0);
    return hand_in(world, (struct bytes){datagram, len}, age_ms);
}

static size_t ask(struct world *world, const struct request *request)
{
    return ask_aged(world, request, 0);
}

/* The next reply from the socket, into world->reply. */
static struct bytes next_reply(struct world *world)
{
    struct pollfd readable = {.fd = world->client, .events = POLLIN};
    ssize_t len;

    assert_int_equal(poll(&readable, 1, REPLY_WAIT_MS), 1);
    len = recv(world->client, world->reply, sizeof(world->reply), 0);
    assert_true(len > 0);
    return (struct bytes){world->reply, (size_t)len};
}

static bool is_silent(struct world *world)
{
    struct pollfd readable = {.fd = world->client, .events = POLLIN};

    return poll(&readable, 1, 0) == 0;
}

static struct response_view view_of(struct bytes reply)
{
    struct response_view view;
    struct why why = {""};

    if (response_read(reply, &view, &why) != LEAFD_OK) {
        print_error("%s\n", why.text);
        _fail(__FILE__, __LINE__);
    }
    return view;
}

/* Asks and waits for the answer, which may come at once. */
/* As if asked by and by: on a busy machine under a sanitizer the first RSA key takes longer than a
 * request may. */
static struct response_view answer_to(struct world *world, const struct request *request)
{
    size_t len = ask_aged(world, request, -REPLY_WAIT_MS / 2);

    return view_of(len > 0 ? (struct bytes){world->out, len} : next_reply(world));
}

static struct request request_for(const char *host)
{
    return (struct request){.host = bytes_of(host)};
}

static bool is_error(struct response_view view, const char *word)
{
    return bytes_equal(view.error, bytes_of(word));
}

/* ---- certificates ---- */

struct upstream_options {
    const char *names; /* as openssl.cnf: "DNS:a.example,DNS:b.example" */
    bool self_signed;
    int64_t starts_in_sec;
    int64_t ends_in_sec; /* 0: a month */
    size_t rsa_bits;     /* 0: P-256 */
};

/* The DER is the caller's to free(). */
static struct bytes make_upstream(struct upstream_options options)
{
    EVP_PKEY *key = options.rsa_bits ? EVP_RSA_gen(options.rsa_bits) : EVP_EC_gen("P-256");
    X509_NAME *name = X509_NAME_new();
    X509 *cert = X509_new();
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, options.names);
    unsigned char *der = NULL;
    struct bytes ret;
    int len;

    assert_non_null(san);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 4711);
    X509_gmtime_adj(X509_getm_notBefore(cert), options.starts_in_sec - 3600);
    X509_gmtime_adj(X509_getm_notAfter(cert),
                    options.ends_in_sec ? options.ends_in_sec : 30 * 86400);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"upstream", -1, -1,
                               0);
    X509_set_subject_name(cert, name);
    if (!options.self_signed)
        X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Some CA", -1,
                                   -1, 0);
    X509_set_issuer_name(cert, name);
    X509_set_pubkey(cert, key);
    X509_add_ext(cert, san, -1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    len = i2d_X509(cert, &der);
    assert_true(len > 0);
    ret = bytes_copy((struct bytes){der, (size_t)len});
    OPENSSL_free(der);
    X509_EXTENSION_free(san);
    X509_NAME_free(name);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ret;
}

static struct request request_like(const char *host, struct bytes upstream)
{
    return (struct request){.host = bytes_of(host), .cert_form = CERT_FORM_DER, .cert = upstream};
}

/* The leaf of a reply; the caller frees it. */
static X509 *leaf_of(struct response_view view)
{
    BIO *bio = BIO_new_mem_buf(view.cert.data, (int)view.cert.len);
    X509 *cert = view.cert.data[0] == 0x30 ? d2i_X509_bio(bio, NULL)
                                           : PEM_read_bio_X509(bio, NULL, NULL, NULL);

    assert_non_null(cert);
    BIO_free(bio);
    return cert;
}

static EVP_PKEY *key_of(struct response_view view)
{
    BIO *bio = BIO_new_mem_buf(view.key.data, (int)view.key.len);
    EVP_PKEY *key = view.key.data[0] == 0x30 ? d2i_PrivateKey_bio(bio, NULL)
                                             : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

    assert_non_null(key);
    BIO_free(bio);
    return key;
}

/* Is the leaf for this host, and is the key its key? */
static bool serves(struct response_view view, const char *host)
{
    X509 *cert = leaf_of(view);
    EVP_PKEY *key = key_of(view);
    bool names;

    assert_int_equal(X509_check_private_key(cert, key), 1);
    names = X509_check_host(cert, host, 0, 0, NULL) == 1;
    EVP_PKEY_free(key);
    X509_free(cert);
    return names;
}

static bool is_signed_by(struct response_view view, const struct ca *ca)
{
    X509 *cert = leaf_of(view);
    bool good = X509_verify(cert, ca->public_key) == 1;

    X509_free(cert);
    return good;
}

/* ---- fresh ---- */

static void test_fresh(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("Fresh.Example.");
    uint64_t hits = metrics_read(METRIC_REPLY_HIT);
    uint64_t issued = metrics_read(METRIC_REPLY_ISSUED);
    struct response_view view;
    struct ca_set *cas = signer_cas(world->signer);
    struct bytes first;
    size_t len;

    (void)state;
    assert_int_equal(ask(world, &request), 0);
    view = view_of(next_reply(world));
    assert_true(serves(view, "fresh.example"));
    assert_true(is_signed_by(view, cas->ca[0]));
    assert_true(bytes_equal(view.host, request.host));
    assert_int_equal(view.ttl_sec, 86400);
    assert_int_equal(view.key.data[0], 0x30);
    first = bytes_copy(view.cert);
    /* the second time at once, and the same */
    len = ask(world, &request);
    view = view_of((struct bytes){world->out, len});
    assert_true(bytes_equal(view.cert, first));
    assert_int_equal(fake_signer_signed(world->signer), 1);
    assert_int_equal(metrics_read(METRIC_REPLY_HIT), hits + 1);
    assert_int_equal(metrics_read(METRIC_REPLY_ISSUED), issued + 1);
    free((void *)first.data);
    ca_set_unref(cas);
    world_free(world);
}

static void test_by_names(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("names.example");
    struct response_view view;

    (void)state;
    request.dialect = DIALECT_NAMES;
    view = answer_to(world, &request);
    assert_true(serves(view, "names.example"));
    assert_memory_equal(view.key.data, "-----BEGIN PRIVATE KEY-----", 27);
    /* asked by ids the same leaf comes with the other form of its key */
    request.dialect = DIALECT_IDS;
    view = answer_to(world, &request);
    assert_int_equal(view.key.data[0], 0x30);
    assert_true(serves(view, "names.example"));
    assert_int_equal(fake_signer_signed(world->signer), 1);
    world_free(world);
}

static void test_formats_of_the_listener(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("der.example");
    struct response_view view;

    (void)state;
    world->listen.cert_format = CONF_CERT_DER;
    world->listen.key_format = CONF_KEY_PEM;
    view = answer_to(world, &request);
    assert_int_equal(view.cert.data[0], 0x30);
    assert_int_equal(view.key.data[0], '-');
    assert_true(serves(view, "der.example"));
    world_free(world);
}

/* ---- mimic ---- */

static void test_mimic_is_signed_once(void **state)
{
    struct world *world = world_new(NULL);
    struct bytes upstream =
        make_upstream((struct upstream_options){.names = "DNS:a.example,DNS:*.b.example"});
    struct request request = request_like("a.example", upstream);
    uint64_t good = metrics_read(METRIC_VERDICT_GOOD);
    struct response_view view = answer_to(world, &request);

    (void)state;
    assert_true(serves(view, "a.example"));
    assert_true(serves(view, "x.b.example"));
    assert_true(view.ttl_sec > 10);
    request = request_like("y.b.example", upstream);
    view = view_of((struct bytes){world->out, ask(world, &request)});
    assert_true(serves(view, "a.example"));
    assert_int_equal(fake_signer_signed(world->signer), 1);
    assert_int_equal(metrics_read(METRIC_VERDICT_GOOD), good + 2);
    free((void *)upstream.data);
    world_free(world);
}

static void upstream_keys(struct conf *conf)
{
    conf->leaf_key = CONF_LEAF_KEY_UPSTREAM;
    conf->keys_rsa_low = 0;
    conf->keys_rsa_high = 1;
}

static int rsa_bits_of(struct response_view view)
{
    EVP_PKEY *key = key_of(view);
    int bits = EVP_PKEY_get_bits(key);

    EVP_PKEY_free(key);
    return bits;
}

/* While there is no key of the right size, a smaller one serves: remembered, but not for long, by
 * us and by who asks. */
static void test_stand_in(void **state)
{
    struct world *world = world_new(upstream_keys);
    struct bytes upstream =
        make_upstream((struct upstream_options){.names = "DNS:a.example", .rsa_bits = 3072});
    struct bytes other =
        make_upstream((struct upstream_options){.names = "DNS:b.example", .rsa_bits = 3072});
    struct request request = request_like("a.example", upstream);
    struct response_view view = answer_to(world, &request);
    struct timespec pause = {0, 1000000};

    (void)state;
    assert_true(serves(view, "a.example"));
    assert_int_equal(rsa_bits_of(view), 2048);
    assert_int_equal(view.ttl_sec, ISSUED_STAND_IN_SEC);
    while (key_pool_stock(world->keys, KEY_TYPE_RSA, 3072) == 0)
        nanosleep(&pause, NULL);
    request = request_like("b.example", other); /* another leaf: its key is there */
    view = answer_to(world, &request);
    assert_int_equal(rsa_bits_of(view), 3072);
    assert_int_equal(view.ttl_sec, 86400);
    free((void *)upstream.data);
    free((void *)other.data);
    world_free(world);
}

/* A host that the upstream does not name gets the upstream's names, whoever asks first. */
static void test_name_verdict(void **state)
{
    (void)state;
    for (int order = 0; order < 2; order++) {
        struct world *world = world_new(NULL);
        struct bytes upstream = make_upstream((struct upstream_options){.names = "DNS:a.example"});

        for (int i = 0; i < 2; i++) {
            bool named = i == order;
            struct request request = request_like(named ? "a.example" : "other.example", upstream);
            struct response_view view = answer_to(world, &request);

            assert_true(serves(view, "a.example"));
            assert_false(serves(view, "other.example"));
            assert_true(bytes_equal(view.host, request.host));
            assert_int_equal(view.ttl_sec > 10, named);
        }
        free((void *)upstream.data);
        world_free(world);
    }
}

static void test_ttl_near_the_end(void **state)
{
    static const struct {
        int64_t ends_in_sec;
        uint32_t least;
        uint32_t most;
    } cases[] = {{1800, 1490, 1500}, {200, 1, 1}, {-100, 1, 1}, {400, 90, 100}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *world = world_new(NULL);
        struct bytes upstream = make_upstream((struct upstream_options){
            .names = "DNS:a.example", .ends_in_sec = cases[i].ends_in_sec});
        struct request request = request_like("a.example", upstream);
        struct response_view view = answer_to(world, &request);

        assert_in_range(view.ttl_sec, cases[i].least, cases[i].most);
        free((void *)upstream.data);
        world_free(world);
    }
}

static void test_self_signed_is_untrusted(void **state)
{
    struct world *world = world_new(NULL);
    struct bytes upstream =
        make_upstream((struct upstream_options){.names = "DNS:a.example", .self_signed = true});
    struct request request = request_like("a.example", upstream);
    struct response_view view = answer_to(world, &request);
    struct ca_set *cas = signer_cas(world->signer);

    (void)state;
    assert_true(serves(view, "a.example"));
    assert_true(is_signed_by(view, cas->untrusted));
    assert_false(is_signed_by(view, cas->ca[0]));
    assert_true(view.ttl_sec <= 10);
    ca_set_unref(cas);
    free((void *)upstream.data);
    world_free(world);
}

/* A signer that was replaced has another untrusted CA: the request is served all the same. */
static void test_untrusted_ca_is_renewed(void **state)
{
    struct world *world = world_new(NULL);
    struct bytes upstream =
        make_upstream((struct upstream_options){.names = "DNS:a.example", .self_signed = true});
    struct request request = request_like("a.example", upstream);
    struct response_view view;
    struct ca_set *cas;

    (void)state;
    fake_signer_set_gone(world->signer, true);
    assert_int_equal(ask(world, &request), 0);
    fake_signer_renew_untrusted(world->signer);
    fake_signer_set_gone(world->signer, false);
    view = view_of(next_reply(world));
    cas = signer_cas(world->signer);
    assert_true(is_signed_by(view, cas->untrusted));
    /* remembered as what it is now */
    view = view_of((struct bytes){world->out, ask(world, &request)});
    assert_true(is_signed_by(view, cas->untrusted));
    ca_set_unref(cas);
    free((void *)upstream.data);
    world_free(world);
}

/* Right after a start the untrusted CA is not known: who needs it waits for it, as long as there is
 * time. */
static void test_untrusted_ca_is_awaited(void **state)
{
    struct world *world = world_new_with(NULL, &(struct fake_signer_options){.no_untrusted = true});
    struct bytes upstream =
        make_upstream((struct upstream_options){.names = "DNS:a.example", .self_signed = true});
    struct request late = request_like("LATE.a.example", upstream);
    struct request early = request_like("a.example", upstream);
    struct request blocked = request_like("blocked.a.example", upstream);
    uint64_t verdicts = metrics_read(METRIC_VERDICT_SELF_SIGNED);
    struct response_view view;
    struct ca_set *cas;

    (void)state;
    assert_int_equal(ask(world, &early), 0);
    assert_int_equal(ask_aged(world, &late, 3100), 0);
    view = view_of(next_reply(world));
    assert_true(is_error(view, "token-unavailable"));
    assert_true(bytes_equal(view.host, late.host));
    fake_signer_renew_untrusted(world->signer);
    view = view_of(next_reply(world));
    assert_true(bytes_equal(view.host, early.host));
    cas = signer_cas(world->signer);
    assert_true(is_signed_by(view, cas->untrusted));
    ca_set_unref(cas);
    assert_int_equal(metrics_read(METRIC_VERDICT_SELF_SIGNED), verdicts + 2);
    world_free(world);

    /* at the end, and with a blocked token, nobody is kept waiting */
    world = world_new_with(NULL, &(struct fake_signer_options){.no_untrusted = true});
    assert_int_equal(ask(world, &early), 0);
    fake_signer_set_pin_blocked(world->signer, true);
    assert_true(is_error(view_of(next_reply(world)), "token-unavailable"));
    assert_true(
        is_error(view_of((struct bytes){world->out, ask(world, &blocked)}), "token-unavailable"));
    fake_signer_set_pin_blocked(world->signer, false);
    assert_int_equal(ask(world, &early), 0);
    packet_path_free(world->path, clock_mono_ms() + REPLY_WAIT_MS);
    world->path = NULL;
    assert_true(is_error(view_of(next_reply(world)), "token-unavailable"));
    free((void *)upstream.data);
    world_free(world);
}

/* Between what fits and what the plan knows not to fit stands what is found to be too large only
 * when it is written: it is answered with the minimal leaf. */
static void pem_keys(struct conf *conf)
{
    conf->listen[0].key_format = CONF_KEY_PEM;
}

static void test_too_large(void **state)
{
    struct world *world = world_new(pem_keys);
    char *names = calloc(400, 80);
    unsigned mimics = 0;
    unsigned planned = 0;
    unsigned found = 0;

    (void)state;
    for (unsigned count = 0; count < 260; count++) {
        struct bytes upstream;
        struct request request;
        struct response_view view;
        uint64_t before = fake_signer_signed(world->signer);

        sprintf(names + strlen(names), "%sDNS:%050u.example", count ? "," : "", count);
        if (count < 150)
            continue;
        upstream = make_upstream((struct upstream_options){.names = names});
        request =
            request_like("00000000000000000000000000000000000000000000000001.example", upstream);
        view = answer_to(world, &request);
        assert_true(serves(view, "00000000000000000000000000000000000000000000000001.example"));
        if (serves(view, "00000000000000000000000000000000000000000000000002.example"))
            mimics++;
        else if (fake_signer_signed(world->signer) == before + 2)
            found++;
        else
            planned++;
        /* a host that it does not name cannot have a minimal leaf */
        if (planned == 1 || found == 1) {
            request = request_like("00000000000000000000000000000000000000000000099999.example",
                                   upstream);
            assert_true(is_error(answer_to(world, &request), "too-large"));
        }
        free((void *)upstream.data);
    }
    assert_true(mimics > 0);
    assert_true(found > 0);
    assert_true(planned > 0);
    free(names);
    world_free(world);
}

/* ---- flights ---- */

/* 64 ask while the leaf is under way: one signature, and each gets its own host, dialect and ttl.
 */
static void test_flight_of_64(void **state)
{
    enum { ASKERS = 64 };
    struct world *world = world_new(NULL);
    struct bytes upstream =
        make_upstream((struct upstream_options){.names = "DNS:a.example,DNS:*.b.example"});
    uint64_t joined = metrics_read(METRIC_REPLY_JOINED);
    unsigned named = 0;

    (void)state;
    fake_signer_set_gone(world->signer, true);
    for (unsigned i = 0; i < ASKERS; i++) {
        char host[40];
        struct request request;

        snprintf(host, sizeof(host), i % 4 ? "%u.B.example" : "%u.other.example", i);
        request = request_like(host, upstream);
        request.dialect = i % 2 ? DIALECT_NAMES : DIALECT_IDS;
        assert_int_equal(ask(world, &request), 0);
    }
    assert_true(is_silent(world));
    fake_signer_set_gone(world->signer, false);
    for (unsigned i = 0; i < ASKERS; i++) {
        struct response_view view = view_of(next_reply(world));
        unsigned number = (unsigned)atoi((const char *)view.host.data);
        char host[40];

        snprintf(host, sizeof(host), number % 4 ? "%u.B.example" : "%u.other.example", number);
        assert_true(bytes_equal(view.host, bytes_of(host)));
        assert_int_equal(view.key.data[0], number % 2 ? '-' : 0x30);
        assert_int_equal(view.ttl_sec > 10, number % 4 != 0);
        named += number;
    }
    assert_int_equal(named, ASKERS * (ASKERS - 1) / 2);
    assert_int_equal(fake_signer_signed(world->signer), 1);
    assert_int_equal(metrics_read(METRIC_REPLY_JOINED), joined + ASKERS - 1);
    free((void *)upstream.data);
    world_free(world);
}

static void few_flights(struct conf *conf)
{
    conf->flights_max = 2;
    conf->flight_waiters_max = 3;
}

static void test_bounds_answer_busy(void **state)
{
    struct world *world = world_new(few_flights);
    static const struct {
        const char *host;
        bool busy;
    } cases[] = {{"a.example", false}, {"b.example", false}, {"c.example", true},
                 {"a.example", false}, {"a.example", false}, {"a.example", true}};
    struct request request;

    (void)state;
    fake_signer_set_gone(world->signer, true);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len;

        request = request_for(cases[i].host);
        len = ask(world, &request);
        assert_int_equal(len > 0, cases[i].busy);
        if (len > 0)
            assert_true(is_error(view_of((struct bytes){world->out, len}), "busy"));
    }
    fake_signer_set_gone(world->signer, false);
    for (int i = 0; i < 4; i++)
        assert_int_equal(view_of(next_reply(world)).error.len, 0);
    /* and there is room again */
    request = request_for("c.example");
    assert_int_equal(answer_to(world, &request).error.len, 0);
    world_free(world);
}

static void few_new(struct conf *conf)
{
    conf->cache_new_per_domain = 3;
}

/* New leaves of one registrable domain are counted; known ones, other domains and addresses are
 * not. */
static void test_new_per_domain(void **state)
{
    struct world *world = world_new(few_new);
    static const struct {
        const char *host;
        const char *word;
    } cases[] = {{"a.shop.co.uk", ""}, {"b.shop.co.uk", ""},     {"a.shop.co.uk", ""},
                 {"shop.co.uk", ""},   {"c.shop.co.uk", "busy"}, {"a.b.c.SHOP.co.uk", "busy"},
                 {"b.shop.co.uk", ""}, {"other.co.uk", ""},      {"192.0.2.1", ""},
                 {"192.0.2.2", ""},    {"192.0.2.3", ""},        {"192.0.2.4", ""}};
    int64_t minute = clock_mono_ms() / 60000;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct request request = request_for(cases[i].host);
        struct response_view view = answer_to(world, &request);

        if (clock_mono_ms() / 60000 == minute) /* else all is counted anew */
            assert_true(is_error(view, cases[i].word));
    }
    world_free(world);
}

/* ---- deadlines ---- */

static void test_too_late_to_begin(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("late.example");
    uint64_t dropped = metrics_read(METRIC_DROP_DEADLINE);

    (void)state;
    assert_int_equal(ask_aged(world, &request, 3600), 0);
    assert_int_equal(hand_in(world, bytes_of("\xc1"), 3600), 0);
    assert_int_equal(metrics_read(METRIC_DROP_DEADLINE), dropped + 2);
    assert_int_equal(fake_signer_requests(world->signer), 0);
    world_free(world);
}

/* The leader's time is up while the token is slow: it hears nothing, who came later is served. */
static void test_late_leader(void **state)
{
    struct world *world = world_new(NULL);
    struct request leader = request_for("SLOW.example");
    struct request later = request_for("slow.example");
    uint64_t dropped = metrics_read(METRIC_DROP_DEADLINE);

    (void)state;
    fake_signer_set_latency(world->signer, 600);
    assert_int_equal(ask_aged(world, &leader, 3200), 0);
    assert_int_equal(ask(world, &later), 0);
    assert_true(bytes_equal(view_of(next_reply(world)).host, later.host));
    assert_true(is_silent(world));
    assert_int_equal(metrics_read(METRIC_DROP_DEADLINE), dropped + 1);
    world_free(world);
}

/* No token: 300 ms before its deadline the leader is told; who has more time waits on. */
static void test_token_is_away(void **state)
{
    struct world *world = world_new(NULL);
    struct request leader = request_for("GONE.example");
    struct request later = request_for("gone.example");
    struct response_view view;

    (void)state;
    fake_signer_set_gone(world->signer, true);
    assert_int_equal(ask_aged(world, &leader, 3000), 0);
    assert_int_equal(ask(world, &later), 0);
    view = view_of(next_reply(world));
    assert_true(is_error(view, "token-unavailable"));
    assert_true(bytes_equal(view.host, leader.host));
    fake_signer_set_gone(world->signer, false);
    view = view_of(next_reply(world));
    assert_int_equal(view.error.len, 0);
    assert_true(bytes_equal(view.host, later.host));
    world_free(world);
}

static void test_pin_is_blocked(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("a.example");
    int64_t begin_ms = clock_mono_ms();

    (void)state;
    fake_signer_set_pin_blocked(world->signer, true);
    assert_true(is_error(answer_to(world, &request), "token-unavailable"));
    /* not when the asker's patience ends */
    assert_true(clock_mono_ms() - begin_ms < REPLY_WAIT_MS / 4);
    world_free(world);
}

static void test_signer_fails(void **state)
{
    static const struct {
        enum leafd_err err;
        const char *word;
    } cases[] = {{LEAFD_BUSY, "busy"},
                 {LEAFD_REFUSED, "internal"},
                 {LEAFD_INTERNAL, "internal"},
                 {LEAFD_AGAIN, ""}};
    struct world *world = world_new(NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char host[20];
        struct request request;

        snprintf(host, sizeof(host), "h%zu.example", i);
        request = request_for(host);
        fake_signer_fail_next(world->signer, 1, cases[i].err);
        assert_true(is_error(answer_to(world, &request), cases[i].word));
        /* nothing of the failure is remembered */
        assert_true(is_error(answer_to(world, &request), ""));
    }
    world_free(world);
}

/* ---- errors and silence ---- */

static void test_error_replies(void **state)
{
    struct world *world = world_new(NULL);
    static const struct {
        struct bytes datagram;
        const char *word;
        enum metric metric;
    } cases[] = {
        {{(const uint8_t *)"\xc1", 1}, "malformed", METRIC_ERROR_MALFORMED},
        {{(const uint8_t *)"\x82\x01\xa1h\x02\x09", 6}, "unsupported", METRIC_ERROR_UNSUPPORTED},
        {{(const uint8_t *)"\x82\x01\xa1h\x03\xc0", 6}, "unsupported", METRIC_ERROR_UNSUPPORTED},
        {{(const uint8_t *)"\x81\x01\xa3"
                           "a b",
          6},
         "refused",
         METRIC_ERROR_REFUSED},
        {{(const uint8_t *)"\x81\x01\xa0", 3}, "refused", METRIC_ERROR_REFUSED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t before = metrics_read(cases[i].metric);
        size_t len = hand_in(world, cases[i].datagram, 0);

        assert_true(is_error(view_of((struct bytes){world->out, len}), cases[i].word));
        assert_int_equal(metrics_read(cases[i].metric), before + 1);
    }
    world_free(world);
}

static void test_refused_user(void **state)
{
    struct world *world = world_new(NULL);
    struct packet packet = {.data = bytes_of("\xa9"
                                             "a.example"),
                            .arrived_ms = clock_mono_ms(),
                            .uid_refused = true,
                            .route = &world->route};
    size_t len = packet_path_handle(world->path, &packet, world->out);
    struct response_view view = view_of((struct bytes){world->out, len});

    (void)state;
    assert_true(is_error(view, "refused"));
    assert_true(bytes_equal(view.host, bytes_of("a.example")));
    assert_int_equal(fake_signer_requests(world->signer), 0);
    world_free(world);
}

static void test_replies_are_dropped(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("a.example");
    uint64_t dropped = metrics_read(METRIC_DROP_REPLY);
    uint8_t reply[WIRE_DATAGRAM_MAX];

    (void)state;
    for (int dialect = DIALECT_IDS; dialect <= DIALECT_NAMES; dialect++) {
        size_t len;
        struct bytes leaf;

        request.dialect = (enum dialect)dialect;
        len = ask(world, &request);
        leaf = len > 0 ? (struct bytes){world->out, len} : next_reply(world);
        memcpy(reply, leaf.data, leaf.len);
        assert_int_equal(hand_in(world, (struct bytes){reply, leaf.len}, 0), 0);
        request.host_was_read = true;
        len = response_write_error(&request, LEAFD_BUSY, reply, sizeof(reply));
        assert_int_equal(hand_in(world, (struct bytes){reply, len}, 0), 0);
    }
    assert_int_equal(metrics_read(METRIC_DROP_REPLY), dropped + 4);
    assert_true(is_silent(world));
    world_free(world);
}

static void few_errors(struct conf *conf)
{
    conf->errors_per_source = 5;
    conf->errors_global = 8;
}

static unsigned count_errors(struct world *world, uint32_t source, unsigned tries)
{
    unsigned told = 0;

    world->route.peer.in4.sin_addr.s_addr = htonl(source);
    for (unsigned i = 0; i < tries; i++)
        told += hand_in(world, bytes_of("\xc1"), 0) > 0;
    return told;
}

static void test_error_allowance(void **state)
{
    struct world *world = world_new(few_errors);
    uint64_t silenced = metrics_read(METRIC_ERROR_SILENCED);
    uint64_t malformed = metrics_read(METRIC_ERROR_MALFORMED);

    (void)state;
    /* A second's worth at once; a slow machine may add what is refilled meanwhile. */
    assert_in_range(count_errors(world, 0x7f000002, 50), 5, 7);
    assert_in_range(count_errors(world, 0x7f000003, 50), 1, 6);
    assert_in_range(count_errors(world, 0x7f000004, 50), 0, 3);
    assert_in_range(metrics_read(METRIC_ERROR_SILENCED) - silenced, 134, 144);
    assert_int_equal(metrics_read(METRIC_ERROR_MALFORMED), malformed + 150);
    world_free(world);
}

static void test_unknown_keys_are_counted(void **state)
{
    struct world *world = world_new(NULL);
    uint64_t ignored = metrics_read(METRIC_IGNORED_KEYS);

    (void)state;
    hand_in(world,
            bytes_of("\x83\x01\xa9"
                     "a.example\x09\x01\xa1x\xc0"),
            0);
    assert_int_equal(metrics_read(METRIC_IGNORED_KEYS), ignored + 2);
    assert_int_equal(view_of(next_reply(world)).error.len, 0);
    world_free(world);
}

/* ---- the end ---- */

/* A signer that does not come back does not hold up the end, and what it says later is no harm. */
static void test_end_while_the_signer_hangs(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("a.example");
    int64_t begin_ms = clock_mono_ms();

    (void)state;
    fake_signer_set_latency(world->signer, 60000);
    assert_int_equal(ask(world, &request), 0);
    packet_path_free(world->path, begin_ms + 50);
    world->path = NULL;
    assert_true(clock_mono_ms() - begin_ms < 3000);
    world_free(world);
}

/* What is under way is answered before the end. */
static void test_end_answers_first(void **state)
{
    struct world *world = world_new(NULL);
    struct request request = request_for("a.example");

    (void)state;
    fake_signer_set_latency(world->signer, 100);
    assert_int_equal(ask(world, &request), 0);
    packet_path_free(world->path, clock_mono_ms() + REPLY_WAIT_MS);
    world->path = NULL;
    assert_false(is_silent(world));
    world_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_by_names),
        cmocka_unit_test(test_formats_of_the_listener),
        cmocka_unit_test(test_mimic_is_signed_once),
        cmocka_unit_test(test_stand_in),
        cmocka_unit_test(test_name_verdict),
        cmocka_unit_test(test_ttl_near_the_end),
        cmocka_unit_test(test_self_signed_is_untrusted),
        cmocka_unit_test(test_untrusted_ca_is_renewed),
        cmocka_unit_test(test_untrusted_ca_is_awaited),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_flight_of_64),
        cmocka_unit_test(test_bounds_answer_busy),
        cmocka_unit_test(test_new_per_domain),
        cmocka_unit_test(test_too_late_to_begin),
        cmocka_unit_test(test_late_leader),
        cmocka_unit_test(test_token_is_away),
        cmocka_unit_test(test_pin_is_blocked),
        cmocka_unit_test(test_signer_fails),
        cmocka_unit_test(test_error_replies),
        cmocka_unit_test(test_refused_user),
        cmocka_unit_test(test_replies_are_dropped),
        cmocka_unit_test(test_error_allowance),
        cmocka_unit_test(test_unknown_keys_are_counted),
        cmocka_unit_test(test_end_while_the_signer_hangs),
        cmocka_unit_test(test_end_answers_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
