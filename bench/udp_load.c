/* SPDX-License-Identifier: Apache-2.0 */
/* Asks a running leafd as fast as its answers come, and in turn a bare echo server with as many
 * threads and the same sizes of request and reply, so that what the machine allows stands beside
 * it. Prints each round, the medians, and the ratio.
 *
 *     make bench/udp_load && bench/udp_load 127.0.0.1 2999 --help
 *
 * No part of make check: what it prints depends on the machine and on who else uses it. */
#include "config.h" /* recvmmsg */

#include "wire/request.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BATCH = 64,
    SLOTS_MAX = 1 << 16,
    ROUNDS_MAX = 99,
    LOST_AFTER_US = 1000000,
    HOST_DIGITS_AT = 4, /* in request and reply alike: map, key, str header, 'b' */
    HOST_DIGITS = 8,
    BUFFER_BYTES = 8 << 20
};

struct options {
    struct sockaddr_in server;
    unsigned window;
    unsigned hosts; /* different ones; 0: no two requests are the same */
    unsigned rounds;
    unsigned seconds;
    unsigned echo_threads; /* 0: no comparison */
    bool by_name;
    struct bytes like; /* DER of an upstream leaf, or nothing */
};

struct round {
    double rate;
    uint32_t p50_us;
    uint32_t p99_us;
    uint64_t replies;
    uint64_t errors;
    uint64_t lost;
    size_t reply_len; /* of the last one */
};

/* One run of the client. */
struct load {
    const struct options *options;
    int fd;
    size_t slots;
    int64_t *sent_us; /* by slot; 0: nothing under way */
    uint64_t next;
    unsigned under_way;
    uint32_t *latency_us;
    size_t latency_count;
    size_t latency_room;
    struct round round;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- the echo server ---- */

struct echo {
    int fd;
    size_t reply_len;
};

static void *echo_run(void *arg)
{
    struct echo *echo = arg;
    struct mmsghdr messages[BATCH];
    struct iovec in[BATCH];
    struct sockaddr_in peers[BATCH];
    uint8_t *memory = calloc(BATCH, WIRE_DATAGRAM_MAX);

    if (!memory)
        die("calloc");
    for (;;) {
        int count;

        for (size_t i = 0; i < BATCH; i++) {
            in[i] = (struct iovec){memory + i * WIRE_DATAGRAM_MAX, WIRE_DATAGRAM_MAX};
            messages[i].msg_hdr = (struct msghdr){.msg_name = &peers[i],
                                                  .msg_namelen = sizeof(peers[i]),
                                                  .msg_iov = &in[i],
                                                  .msg_iovlen = 1};
        }
        count = recvmmsg(echo->fd, messages, BATCH, MSG_WAITFORONE, NULL);
        if (count < 1)
            continue;
        for (int i = 0; i < count; i++)
            in[i].iov_len = echo->reply_len;
        for (int done = 0; done < count;) {
            int sent = sendmmsg(echo->fd, messages + done, (unsigned)(count - done), 0);

            done += sent > 0 ? sent : 1;
        }
    }
    return NULL;
}

static void set_buffers(int fd)
{
    int bytes = BUFFER_BYTES;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) == -1)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

/* A child of its own, as leafd is a process of its own. Its address goes into *ret. */
static pid_t echo_start(unsigned threads, size_t reply_len, struct sockaddr_in *ret)
{
    struct echo echo = {.fd = socket(AF_INET, SOCK_DGRAM, 0), .reply_len = reply_len};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    pid_t child;

    if (echo.fd == -1 || bind(echo.fd, (struct sockaddr *)&address, len) == -1 ||
        getsockname(echo.fd, (struct sockaddr *)&address, &len) == -1)
        die("echo server");
    set_buffers(echo.fd);
    *ret = address;
    child = fork();
    if (child == -1)
        die("fork");
    if (child > 0) {
        close(echo.fd);
        return child;
    }
    while (--threads > 0) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, echo_run, &echo) != 0)
            die("pthread_create");
    }
    echo_run(&echo);
    _exit(0);
}

/* ---- the client ---- */

/* Request number `number`; the upstream's last octets, its signature, make it another leaf. */
static size_t make_request(const struct load *load, uint64_t number, uint8_t *out)
{
    const struct options *options = load->options;
    struct request request = {.dialect = options->by_name ? DIALECT_NAMES : DIALECT_IDS};
    char host[40];
    size_t len;

    snprintf(host, sizeof(host), "b%0*x.bench.example", HOST_DIGITS,
             (unsigned)(options->hosts ? number % load->slots : number));
    request.host = bytes_of(host);
    if (options->like.len > 0) {
        request.cert_form = CERT_FORM_DER;
        request.cert = options->like;
    }
    len = request_write(&request, out, WIRE_DATAGRAM_MAX);
    if (len == 0)
        exit(1);
    if (options->hosts == 0 && options->like.len > sizeof(number))
        memcpy(out + len - sizeof(number), &number, sizeof(number)); /* cert stands last */
    return len;
}

static size_t host_at(const struct options *options)
{
    return HOST_DIGITS_AT + (options->by_name ? sizeof("host") - 1 : 0);
}

static void forget_lost(struct load *load, size_t slot, int64_t now_us)
{
    if (load->sent_us[slot] && now_us - load->sent_us[slot] > LOST_AFTER_US) {
        load->sent_us[slot] = 0;
        load->under_way--;
        load->round.lost++;
    }
}

static void send_some(struct load *load)
{
    static uint8_t memory[BATCH][WIRE_DATAGRAM_MAX];
    struct mmsghdr messages[BATCH];
    struct iovec out[BATCH];
    int64_t now_us = clock_mono_us();
    unsigned count = 0;

    while (count < BATCH && load->under_way < load->options->window) {
        size_t slot = load->next % load->slots;

        forget_lost(load, slot, now_us);
        if (load->sent_us[slot])
            break;
        out[count] = (struct iovec){memory[count], make_request(load, load->next, memory[count])};
        messages[count].msg_hdr = (struct msghdr){.msg_iov = &out[count], .msg_iovlen = 1};
        load->sent_us[slot] = now_us;
        load->under_way++;
        load->next++;
        count++;
    }
    for (unsigned done = 0; done < count;) {
        int sent = sendmmsg(load->fd, messages + done, count - done, 0);

        if (sent == -1 && errno != ECONNREFUSED && errno != EINTR)
            die("sendmmsg");
        done += sent > 0 ? (unsigned)sent : 0;
    }
}

static void take_reply(struct load *load, const uint8_t *reply, size_t len, int64_t now_us)
{
    size_t at = host_at(load->options);
    char digits[HOST_DIGITS + 1] = "";
    size_t slot;

    if (len < at + HOST_DIGITS)
        return;
    memcpy(digits, reply + at, HOST_DIGITS);
    slot = strtoul(digits, NULL, 16) % load->slots;
    if (!load->sent_us[slot])
        return;
    if (load->latency_count < load->latency_room)
        load->latency_us[load->latency_count++] = (uint32_t)(now_us - load->sent_us[slot]);
    load->sent_us[slot] = 0;
    load->under_way--;
    load->round.replies++;
    load->round.errors += len < 300; /* no leaf is so short */
    load->round.reply_len = len;
}

static void receive_some(struct load *load)
{
    static uint8_t memory[BATCH][WIRE_DATAGRAM_MAX];
    struct pollfd readable = {.fd = load->fd, .events = POLLIN};
    struct mmsghdr messages[BATCH];
    struct iovec in[BATCH];
    int64_t now_us;
    int count;

    for (size_t i = 0; i < BATCH; i++) {
        in[i] = (struct iovec){memory[i], WIRE_DATAGRAM_MAX};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &in[i], .msg_iovlen = 1};
    }
    if (poll(&readable, 1, 100) == 0) {
        for (size_t slot = 0; slot < load->slots; slot++)
            forget_lost(load, slot, clock_mono_us());
        return;
    }
    count = recvmmsg(load->fd, messages, BATCH, MSG_DONTWAIT, NULL);
    now_us = clock_mono_us();
    for (int i = 0; i < count; i++)
        take_reply(load, memory[i], messages[i].msg_len, now_us);
}

static int by_size(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

static void sort_out(struct load *load, int64_t took_us)
{
    struct round *round = &load->round;

    round->rate = (double)round->replies * 1e6 / (double)took_us;
    if (load->latency_count == 0)
        return;
    qsort(load->latency_us, load->latency_count, sizeof(uint32_t), by_size);
    round->p50_us = load->latency_us[load->latency_count / 2];
    round->p99_us = load->latency_us[load->latency_count * 99 / 100];
}

/* `first` keeps the requests of different rounds apart. */
static struct round run(const struct options *options, const struct sockaddr_in *server,
                        uint64_t first)
{
    struct load load = {.options = options, .fd = socket(AF_INET, SOCK_DGRAM, 0), .next = first};
    int64_t begin_us = clock_mono_us();
    int64_t end_us = begin_us + (int64_t)options->seconds * 1000000;

    load.slots = options->hosts ? options->hosts : SLOTS_MAX;
    load.latency_room = 4 << 20;
    load.sent_us = calloc(load.slots, sizeof(*load.sent_us));
    load.latency_us = malloc(load.latency_room * sizeof(*load.latency_us));
    if (load.fd == -1 || !load.sent_us || !load.latency_us ||
        connect(load.fd, (const struct sockaddr *)server, sizeof(*server)) == -1)
        die("client");
    set_buffers(load.fd);
    while (clock_mono_us() < end_us) {
        send_some(&load);
        receive_some(&load);
    }
    sort_out(&load, clock_mono_us() - begin_us);
    close(load.fd);
    free(load.sent_us);
    free(load.latency_us);
    return load.round;
}

/* ---- telling ---- */

static void print_round(const char *name, const struct round *round)
{
    printf("%-6s %9.0f/s  p50 %6u us  p99 %7u us  %8llu replies  %llu errors  %llu lost\n", name,
           round->rate, round->p50_us, round->p99_us, (unsigned long long)round->replies,
           (unsigned long long)round->errors, (unsigned long long)round->lost);
}

static int by_rate(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof(*values), by_rate);
    return values[count / 2];
}

static void compare(const struct options *options)
{
    double leafd[ROUNDS_MAX];
    double echo[ROUNDS_MAX];
    double ratio[ROUNDS_MAX];
    uint64_t first = (uint64_t)clock_mono_us() & 0x3fffffff;
    struct sockaddr_in echo_at;
    pid_t child = 0;

    for (unsigned i = 0; i < options->rounds; i++) {
        struct round round = run(options, &options->server, first);

        first += round.replies + round.lost + SLOTS_MAX;
        print_round("leafd", &round);
        leafd[i] = round.rate;
        if (options->echo_threads == 0)
            continue;
        if (child == 0)
            child =
                echo_start(options->echo_threads, round.reply_len ? round.reply_len : 1, &echo_at);
        round = run(options, &echo_at, first);
        print_round("echo", &round);
        echo[i] = round.rate;
        ratio[i] = leafd[i] / echo[i];
    }
    printf("median leafd %.0f/s", median(leafd, options->rounds));
    if (child > 0) {
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        printf(", echo %.0f/s, ratio %.2f", median(echo, options->rounds),
               median(ratio, options->rounds));
    }
    printf("\n");
}

static void usage(void)
{
    fputs("usage: udp_load ADDRESS PORT [options]\n"
          "  --window N     requests under way at once (64)\n"
          "  --hosts N      so many different hosts again and again (1024); 0: every request is\n"
          "                 new, and so is every upstream leaf\n"
          "  --like FILE    send this upstream leaf (DER or PEM) with each request\n"
          "  --names        ask by names instead of ids\n"
          "  --rounds N     (5)\n"
          "  --seconds N    per round (2)\n"
          "  --echo N       threads of the echo server to compare with; 0: none (1)\n",
          stderr);
    exit(2);
}

static unsigned number(const char *text, unsigned max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text == 0 || *end != 0 || value > max)
        usage();
    return (unsigned)value;
}

static struct bytes read_like(const char *path)
{
    static uint8_t scratch[WIRE_DATAGRAM_MAX];
    struct request request = {.cert_form = CERT_FORM_DER};
    struct why why = {""};
    struct bytes der;

    if (bytes_read_file(path, WIRE_DATAGRAM_MAX, &request.cert, &why) != LEAFD_OK ||
        request.cert.len == 0)
        goto bad;
    if (request.cert.data[0] != 0x30)
        request.cert_form = CERT_FORM_PEM;
    if (request_upstream_der(&request, scratch, sizeof(scratch), &der, &why) != LEAFD_OK)
        goto bad;
    return der;
bad:
    fprintf(stderr, "%s: %s\n", path, why.text);
    exit(1);
}

int main(int argc, char **argv)
{
    static const struct option words[] = {
        {"window", required_argument, NULL, 'w'},
        {"hosts", required_argument, NULL, 'h'},
        {"like", required_argument, NULL, 'l'},
        {"names", no_argument, NULL, 'n'},
        {"rounds", required_argument, NULL, 'r'},
        {"seconds", required_argument, NULL, 's'},
        {"echo", required_argument, NULL, 'e'},
        {"help", no_argument, NULL, '?'},
        {NULL, 0, NULL, 0},
    };
    struct options options = {
        .window = 64, .hosts = 1024, .rounds = 5, .seconds = 2, .echo_threads = 1};
    int word;

    while ((word = getopt_long(argc, argv, "", words, NULL)) != -1) {
        switch (word) {
        case 'w':
            options.window = number(optarg, SLOTS_MAX);
            break;
        case 'h':
            options.hosts = number(optarg, SLOTS_MAX);
            break;
        case 'l':
            options.like = read_like(optarg);
            break;
        case 'n':
            options.by_name = true;
            break;
        case 'r':
            options.rounds = number(optarg, ROUNDS_MAX);
            break;
        case 's':
            options.seconds = number(optarg, 3600);
            break;
        case 'e':
            options.echo_threads = number(optarg, 1024);
            break;
        default:
            usage();
        }
    }
    if (argc - optind != 2 || options.rounds == 0 || options.window == 0)
        usage();
    options.server.sin_family = AF_INET;
    options.server.sin_port = htons((uint16_t)number(argv[optind + 1], 65535));
    if (inet_pton(AF_INET, argv[optind], &options.server.sin_addr) != 1)
        usage();
    if (options.hosts > 0 && options.hosts < options.window)
        options.hosts = options.window; /* a slot each */
    compare(&options);
    return 0;
}
