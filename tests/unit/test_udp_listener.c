/* SPDX-License-Identifier: Apache-2.0 */
/* Real sockets of every kind before a real packet path: who is heard, from where the answer comes,
 * and that nothing is lost. */
#include "config.h" /* struct in6_pktinfo */

#include "tests/lib/unit.h"

#include "serve/udp_listener.h"

#include "base/clock.h"
#include "base/metrics.h"
#include "tests/lib/fake_signer.h"
#include "wire/response.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WAIT_MS = 20000, LISTENERS = 3, REQUEST_MAX = 64 };

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in in4;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
    socklen_t len;
};

struct world {
    char folder[32];
    struct conf_listen listen[LISTENERS];
    struct address at[LISTENERS];
    int fds[LISTENERS];
    struct conf conf;
    struct policy *policy;
    struct leaf_cache *cache;
    struct signer *signer;
    struct key_pool *keys;
    struct issuer *issuer;
    struct packet_path *path;
    struct udp_listener *listener;
};

static struct address in4(uint32_t host, uint16_t port)
{
    return (struct address){
        .in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port)},
        .len = sizeof(struct sockaddr_in)};
}

static struct address in6(struct in6_addr host, uint16_t port)
{
    return (struct address){
        .in6 = {.sin6_family = AF_INET6, .sin6_addr = host, .sin6_port = htons(port)},
        .len = sizeof(struct sockaddr_in6)};
}

static struct address un(const char *folder, const char *name)
{
    struct address address = {.un = {.sun_family = AF_UNIX}, .len = sizeof(struct sockaddr_un)};

    snprintf(address.un.sun_path, sizeof(address.un.sun_path), "%s/%s", folder, name);
    return address;
}

/* Binds, and puts the real port into *address. */
static int bound(struct address *address)
{
    int fd = socket(address->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int on = 1;

    assert_int_not_equal(fd, -1);
    if (address->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    assert_int_equal(bind(fd, &address->any, address->len), 0);
    assert_int_equal(getsockname(fd, &address->any, &address->len), 0);
    return fd;
}

static struct conf_net anyone4 = {.family = AF_INET};

static struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof(*world));
    struct why why = {""};

    strcpy(world->folder, "/tmp/leafd-test-XXXXXX");
    assert_non_null(mkdtemp(world->folder));
    world->at[0] = in4(INADDR_ANY, 0);
    world->at[1] = in6(in6addr_loopback, 0);
    world->at[2] = un(world->folder, "leafd.sock");
    world->listen[2].is_unix = true;
    world->listen[2].path = world->at[2].un.sun_path;
    for (int i = 0; i < LISTENERS; i++) {
        world->fds[i] = bound(&world->at[i]);
        world->listen[i].text = (char *)"a test's";
    }
    world->conf = (struct conf){.listen = world->listen,
                                .listen_count = LISTENERS,
                                .listen_threads = 2,
                                .leaf_lifetime_sec = 90 * 86400,
                                .leaf_rsa_bits = 2048,
                                .mimic_upstream_verified = true,
                                .ttl_max_sec = 86400,
                                .keys_ec_low = 2,
                                .keys_ec_high = 4,
                                .keys_rsa_high = 1,
                                .flights_max = 4096,
                                .flight_waiters_max = 4096};
    world->signer = fake_signer_new(NULL);
    assert_int_equal(policy_new(&world->conf, &world->policy), LEAFD_OK);
    assert_int_equal(leaf_cache_new(8 << 20, &world->cache), LEAFD_OK);
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
    assert_int_equal(
        udp_listener_new(&world->conf, world->fds, world->path, &world->listener, &why), LEAFD_OK);
    return world;
}

static void world_free(struct world *world)
{
    if (world->listener)
        udp_listener_stop(world->listener, clock_mono_ms() + WAIT_MS);
    udp_listener_free(world->listener);
    packet_path_free(world->path, clock_mono_ms() + WAIT_MS);
    signer_free(world->signer);
    key_pool_free(world->keys);
    issuer_free(world->issuer);
    leaf_cache_free(world->cache);
    policy_free(world->policy);
    for (int i = 0; i < LISTENERS; i++)
        close(world->fds[i]);
    unlink(world->at[2].un.sun_path);
    assert_int_equal(rmdir(world->folder), 0);
    free(world);
}

static size_t make_request(const char *host, uint8_t out[static REQUEST_MAX])
{
    struct request request = {.host = bytes_of(host)};

    return request_write(&request, out, REQUEST_MAX);
}

static void ask(int fd, const struct address *to, const char *host)
{
    uint8_t request[REQUEST_MAX];
    size_t len = make_request(host, request);

    assert_int_equal(sendto(fd, request, len, 0, &to->any, to->len), len);
}

/* Waits for the reply; *ret_from (or NULL) is who sent it. */
static struct response_view reply_to(int fd, struct address *ret_from)
{
    static uint8_t reply[WIRE_DATAGRAM_MAX];
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    struct response_view view;
    struct address from = {.len = sizeof(from.un)};
    ssize_t len;

    assert_int_equal(poll(&readable, 1, WAIT_MS), 1);
    len = recvfrom(fd, reply, sizeof(reply), 0, &from.any, &from.len);
    assert_true(len > 0);
    assert_int_equal(response_read((struct bytes){reply, (size_t)len}, &view, NULL), LEAFD_OK);
    if (ret_from)
        *ret_from = from;
    return view;
}

static bool is_silent(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};

    return poll(&readable, 1, 0) == 0;
}

/* Until the counter has moved by `more`, or the test's patience is at its end. */
static void wait_for(enum metric metric, uint64_t wanted)
{
    int64_t end_ms = clock_mono_ms() + WAIT_MS;

    while (metrics_read(metric) < wanted && clock_mono_ms() < end_ms)
        poll(NULL, 0, 1);
    assert_int_equal(metrics_read(metric), wanted);
}

/* 127.0.0.2 is asked, 127.0.0.2 answers, though the listener is bound to all addresses: at once
 * from the cache, and later from the thread that issued. */
static void test_replies_leave_from_the_address_asked(void **state)
{
    struct world *world = world_new();
    struct address client = in4(INADDR_LOOPBACK, 0);
    int fd = bound(&client);

    (void)state;
    for (uint32_t last = 1; last < 4; last++) {
        struct address to = in4(0x7f000000 + last, ntohs(world->at[0].in4.sin_port));

        for (int again = 0; again < 2; again++) {
            struct address from;
            char host[32];

            snprintf(host, sizeof(host), "h%u.example", last);
            ask(fd, &to, host);
            assert_true(bytes_equal(reply_to(fd, &from).host, bytes_of(host)));
            assert_int_equal(from.in4.sin_addr.s_addr, to.in4.sin_addr.s_addr);
            assert_int_equal(from.in4.sin_port, to.in4.sin_port);
        }
    }
    close(fd);
    world_free(world);
}

static void test_ipv6(void **state)
{
    struct world *world = world_new();
    struct address client = in6(in6addr_loopback, 0);
    int fd = bound(&client);

    (void)state;
    ask(fd, &world->at[1], "six.example");
    assert_int_equal(reply_to(fd, NULL).error.len, 0);
    close(fd);
    world_free(world);
}

static void test_unix(void **state)
{
    struct world *world = world_new();
    struct address client = un(world->folder, "client.sock");
    int fd = bound(&client);
    int nameless = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t dropped = metrics_read(METRIC_DROP_SOURCE);

    (void)state;
    ask(fd, &world->at[2], "unix.example");
    assert_int_equal(reply_to(fd, NULL).error.len, 0);
    /* who has no name cannot be answered */
    ask(nameless, &world->at[2], "unix.example");
    wait_for(METRIC_DROP_SOURCE, dropped + 1);
    close(nameless);
    close(fd);
    unlink(client.un.sun_path);
    world_free(world);
}

/* Nor is he taken for whoever was heard before him, on another socket. */
static void test_nameless_after_another(void **state)
{
    struct world *world = world_new();
    struct address client = in4(INADDR_LOOPBACK, 0);
    struct address to = in4(INADDR_LOOPBACK, ntohs(world->at[0].in4.sin_port));
    int fd = bound(&client);
    int nameless = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    uint64_t dropped = metrics_read(METRIC_DROP_SOURCE);
    struct why why = {""};

    (void)state;
    udp_listener_stop(world->listener, clock_mono_ms() + WAIT_MS);
    udp_listener_free(world->listener);
    world->listener = NULL;
    world->conf.listen_threads = 1; /* who has heard both */
    assert_int_equal(
        udp_listener_new(&world->conf, world->fds, world->path, &world->listener, &why), LEAFD_OK);
    ask(fd, &to, "udp.example");
    assert_int_equal(reply_to(fd, NULL).error.len, 0);
    ask(nameless, &world->at[2], "unix.example");
    wait_for(METRIC_DROP_SOURCE, dropped + 1);
    assert_int_equal(fake_signer_requests(world->signer), 1);
    close(nameless);
    close(fd);
    world_free(world);
}

static void test_unix_user(void **state)
{
    struct world *world = world_new();
    struct address client = un(world->folder, "client.sock");
    int fd = bound(&client);
    uid_t nobody = geteuid() + 12345;

    (void)state;
    world->listen[2].allow_uid = &nobody;
    world->listen[2].allow_uid_count = 1;
    ask(fd, &world->at[2], "unix.example");
    assert_true(bytes_equal(reply_to(fd, NULL).error, bytes_of("refused")));
    close(fd);
    unlink(client.un.sun_path);
    world_free(world);
}

static void test_sources(void **state)
{
    static const struct {
        struct conf_net net;
        bool heard;
    } cases[] = {
        {{AF_INET, {127, 0, 0, 5}, 32}, true},
        {{AF_INET, {127, 0, 0, 4}, 31}, true},
        {{AF_INET, {127, 0, 0, 6}, 31}, false},
        {{AF_INET, {10}, 8}, false},
        {{AF_INET, {0}, 0}, true},
        {{AF_INET6, {0}, 0}, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct world *world = world_new();
        struct address client = in4(0x7f000005, 0);
        struct address to = in4(INADDR_LOOPBACK, ntohs(world->at[0].in4.sin_port));
        struct conf_net net = cases[i].net;
        uint64_t dropped = metrics_read(METRIC_DROP_SOURCE);
        int fd = bound(&client);

        world->listen[0].allow_from = &net;
        world->listen[0].allow_from_count = 1;
        ask(fd, &to, "a.example");
        if (cases[i].heard)
            reply_to(fd, NULL);
        else
            wait_for(METRIC_DROP_SOURCE, dropped + 1);
        assert_true(is_silent(fd));
        close(fd);
        world_free(world);
    }
}

/* What one of our own sockets sends to another is dropped, whatever it is. */
static void test_own_listeners(void **state)
{
    struct world *world = world_new();
    uint64_t dropped = metrics_read(METRIC_DROP_LOOP);
    struct address to4 = in4(INADDR_LOOPBACK, ntohs(world->at[0].in4.sin_port));
    struct address other = in4(0x7f000009, ntohs(world->at[0].in4.sin_port));

    (void)state;
    world->listen[0].allow_from = &anyone4;
    world->listen[0].allow_from_count = 1;
    ask(world->fds[0], &to4, "loop.example");
    wait_for(METRIC_DROP_LOOP, dropped + 1);
    ask(world->fds[0], &other, "loop.example");
    wait_for(METRIC_DROP_LOOP, dropped + 2);
    ask(world->fds[1], &world->at[1], "loop.example");
    wait_for(METRIC_DROP_LOOP, dropped + 3);
    ask(world->fds[2], &world->at[2], "loop.example");
    wait_for(METRIC_DROP_LOOP, dropped + 4);
    assert_int_equal(fake_signer_requests(world->signer), 0);
    world_free(world);
}

/* One octet over the bound: read as far as it came, and told so. */
static void test_sizes(void **state)
{
    struct world *world = world_new();
    struct address client = in4(INADDR_LOOPBACK, 0);
    struct address to = in4(INADDR_LOOPBACK, ntohs(world->at[0].in4.sin_port));
    uint8_t *datagram = calloc(1, WIRE_DATAGRAM_MAX + 1);
    int fd = bound(&client);

    (void)state;
    memcpy(datagram,
           "\x81\x01\xa9"
           "a.example",
           12);
    assert_int_equal(sendto(fd, datagram, WIRE_DATAGRAM_MAX, 0, &to.any, to.len),
                     WIRE_DATAGRAM_MAX);
    assert_int_equal(reply_to(fd, NULL).error.len, 0);
    assert_int_equal(sendto(fd, datagram, WIRE_DATAGRAM_MAX + 1, 0, &to.any, to.len),
                     WIRE_DATAGRAM_MAX + 1);
    assert_true(bytes_equal(reply_to(fd, NULL).error, bytes_of("malformed")));
    assert_int_equal(sendto(fd, datagram, 0, 0, &to.any, to.len), 0);
    assert_true(bytes_equal(reply_to(fd, NULL).error, bytes_of("malformed")));
    free(datagram);
    close(fd);
    world_free(world);
}

/* More than a batch, new hosts and known ones mixed: as many replies as requests. */
static void test_nothing_is_lost(void **state)
{
    enum { REQUESTS = 2000, WINDOW = 64 };
    struct world *world = world_new();
    struct address client = in4(INADDR_LOOPBACK, 0);
    struct address to = in4(INADDR_LOOPBACK, ntohs(world->at[0].in4.sin_port));
    int fd = bound(&client);
    unsigned asked = 0;

    (void)state;
    for (unsigned answered = 0; answered < REQUESTS; answered++) {
        while (asked < REQUESTS && asked - answered < WINDOW) {
            char host[32];

            snprintf(host, sizeof(host), "h%u.example", asked++ % 300);
            ask(fd, &to, host);
        }
        assert_int_equal(reply_to(fd, NULL).error.len, 0);
    }
    assert_true(is_silent(fd));
    assert_true(fake_signer_signed(world->signer) <= 300);
    close(fd);
    world_free(world);
}

/* What is queued when the end comes is answered first. */
static void test_stop_answers_what_is_queued(void **state)
{
    enum { QUEUED = 40 }; /* their replies fit the client's receive buffer */
    struct world *world = world_new();
    struct address client = in4(INADDR_LOOPBACK, 0);
    struct address to = in4(INADDR_LOOPBACK, ntohs(world->at[0].in4.sin_port));
    int fd = bound(&client);
    struct why why = {""};

    (void)state;
    udp_listener_stop(world->listener, clock_mono_ms() + WAIT_MS);
    udp_listener_free(world->listener);
    world->listener = NULL;
    for (unsigned i = 0; i < QUEUED; i++)
        ask(fd, &to, i % 2 ? "odd.example" : "even.example");
    /* The threads that are started find the queue full and the end come at the same moment. */
    assert_int_equal(
        udp_listener_new(&world->conf, world->fds, world->path, &world->listener, &why), LEAFD_OK);
    udp_listener_stop(world->listener, clock_mono_ms() + WAIT_MS);
    for (unsigned i = 0; i < QUEUED; i++)
        assert_int_equal(reply_to(fd, NULL).error.len, 0);
    close(fd);
    world_free(world);
}

static void test_bad_socket(void **state)
{
    struct conf_listen listen = {.text = (char *)"nowhere"};
    struct conf conf = {.listen = &listen, .listen_count = 1, .listen_threads = 1};
    struct udp_listener *listener = NULL;
    struct why why = {""};
    int fd = -1;

    (void)state;
    assert_int_equal(udp_listener_new(&conf, &fd, NULL, &listener, &why), LEAFD_IO);
    assert_null(listener);
    assert_non_null(strstr(why.text, "nowhere"));
    udp_listener_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies_leave_from_the_address_asked),
        cmocka_unit_test(test_ipv6),
        cmocka_unit_test(test_unix),
        cmocka_unit_test(test_nameless_after_another),
        cmocka_unit_test(test_unix_user),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_own_listeners),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_stop_answers_what_is_queued),
        cmocka_unit_test(test_bad_socket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
