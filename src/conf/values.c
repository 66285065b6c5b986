/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/values.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { SHOWN = 48 }; /* room for a foreign value in a message */

struct unit {
    const char *name;
    int64_t factor;
};

static const struct unit size_units[] = {
    {"GiB", INT64_C(1) << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}};
static const struct unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *show(const char *text, char out[static SHOWN])
{
    return bytes_escape(bytes_of(text), out, SHOWN);
}

/* Decimal digits at *text, which is moved behind them. False: none, or more than fit. */
static bool read_digits(const char **text, int64_t *ret)
{
    const char *at = *text;
    int64_t number = 0;

    for (; *at >= '0' && *at <= '9'; at++) {
        if (number > (INT64_MAX - 9) / 10)
            return false;
        number = 10 * number + (*at - '0');
    }
    if (at == *text)
        return false;
    *text = at;
    *ret = number;
    return true;
}

enum leafd_err value_bool(const char *text, bool *ret, struct why *why)
{
    char shown[SHOWN];

    if (strcmp(text, "yes") == 0 || strcmp(text, "true") == 0)
        *ret = true;
    else if (strcmp(text, "no") == 0 || strcmp(text, "false") == 0)
        *ret = false;
    else
        return fail(why, LEAFD_CONFIG, "must be yes or no, not \"%s\"", show(text, shown));
    return LEAFD_OK;
}

enum leafd_err value_count(const char *text, int64_t min, int64_t max, int64_t *ret,
                           struct why *why)
{
    const char *at = text;
    char shown[SHOWN];
    int64_t number;

    if (!read_digits(&at, &number) || *at || number < min || number > max)
        return fail(why, LEAFD_CONFIG,
                    "must be a whole number from %" PRId64 " to %" PRId64 ", not \"%s\"", min, max,
                    show(text, shown));
    *ret = number;
    return LEAFD_OK;
}

enum leafd_err value_rate(const char *text, int64_t max, double *ret, struct why *why)
{
    const char *at = text;
    char shown[SHOWN];
    int64_t whole = 0;
    int64_t thousandths = 0;
    bool good = read_digits(&at, &whole);

    if (good && *at == '.') {
        const char *digits = ++at;

        good = read_digits(&at, &thousandths) && at - digits <= 3;
        for (size_t i = 0; good && i < 3 - (size_t)(at - digits); i++)
            thousandths *= 10;
    }
    if (!good || *at || whole > max || (whole == max && thousandths > 0))
        return fail(why, LEAFD_CONFIG,
                    "must be a number from 0 to %" PRId64
                    " with at most three decimals, not \"%s\"",
                    max, show(text, shown));
    *ret = (double)whole + (double)thousandths / 1000;
    return LEAFD_OK;
}

/* A number and one of `units`; false when it is none, or larger than 63 bits. */
static bool read_with_unit(const char *text, const struct unit *units, size_t count, int64_t *ret)
{
    int64_t number;

    if (!read_digits(&text, &number))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, units[i].name) != 0)
            continue;
        if (number > INT64_MAX / units[i].factor)
            return false;
        *ret = number * units[i].factor;
        return true;
    }
    return false;
}

static const char *write_with_unit(int64_t number, const struct unit *units, size_t count,
                                   char *out, size_t size)
{
    size_t i = 0;

    while (i + 1 < count && (number == 0 || number % units[i].factor != 0))
        i++;
    snprintf(out, size, "%" PRId64 "%s", number / units[i].factor, units[i].name);
    return out;
}

const char *size_text(int64_t octets, char *out, size_t size)
{
    return write_with_unit(octets, size_units, COUNT(size_units), out, size);
}

const char *duration_text(int64_t ms, char *out, size_t size)
{
    return write_with_unit(ms, duration_units, COUNT(duration_units), out, size);
}

enum leafd_err value_size(const char *text, int64_t min, int64_t max, int64_t *ret, struct why *why)
{
    char low[32];
    char high[32];
    char shown[SHOWN];
    int64_t octets;

    if (!read_with_unit(text, size_units, COUNT(size_units), &octets) || octets < min ||
        octets > max)
        return fail(why, LEAFD_CONFIG,
                    "must be a size from %s to %s (units KiB, MiB, GiB), not \"%s\"",
                    size_text(min, low, sizeof(low)), size_text(max, high, sizeof(high)),
                    show(text, shown));
    *ret = octets;
    return LEAFD_OK;
}

enum leafd_err value_duration(const char *text, int64_t min_ms, int64_t max_ms, int64_t *ret_ms,
                              struct why *why)
{
    char low[32];
    char high[32];
    char shown[SHOWN];
    int64_t ms;

    if (!read_with_unit(text, duration_units, COUNT(duration_units), &ms) || ms < min_ms ||
        ms > max_ms)
        return fail(why, LEAFD_CONFIG,
                    "must be a duration from %s to %s (units ms, s, m, h, d), not \"%s\"",
                    duration_text(min_ms, low, sizeof(low)),
                    duration_text(max_ms, high, sizeof(high)), show(text, shown));
    *ret_ms = ms;
    return LEAFD_OK;
}

/* Splits at the last colon: the host without its brackets into `host`, and the port. */
static bool split_address(const char *text, char *host, size_t size, bool *ret_bracketed,
                          int64_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    const char *port;
    size_t len;

    if (!colon)
        return false;
    port = colon + 1;
    if (!read_digits(&port, ret_port) || *port || *ret_port > UINT16_MAX)
        return false;
    len = (size_t)(colon - text);
    *ret_bracketed = len >= 2 && text[0] == '[' && colon[-1] == ']';
    if (*ret_bracketed) {
        text++;
        len -= 2;
    }
    if (len >= size)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    return true;
}

enum leafd_err value_address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len,
                             struct why *why)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    char host[INET6_ADDRSTRLEN];
    char shown[SHOWN];
    bool bracketed;
    int64_t port;

    if (!split_address(text, host, sizeof(host), &bracketed, &port))
        goto bad;
    if (!bracketed && inet_pton(AF_INET, host, &in4.sin_addr) == 1) {
        in4.sin_port = htons((uint16_t)port);
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &in4, sizeof(in4));
        *ret_len = sizeof(in4);
        return LEAFD_OK;
    }
    if (bracketed && inet_pton(AF_INET6, host, &in6.sin6_addr) == 1) {
        in6.sin6_port = htons((uint16_t)port);
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &in6, sizeof(in6));
        *ret_len = sizeof(in6);
        return LEAFD_OK;
    }
bad:
    return fail(why, LEAFD_CONFIG,
                "must be ADDRESS:PORT with a numeric address, such as 127.0.0.1:2999 or "
                "\"[::1]:2999\", not \"%s\"",
                show(text, shown));
}

enum leafd_err value_socket_path(const char *path, struct why *why)
{
    size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);

    if (path && strlen(path) >= room)
        return fail(why, LEAFD_CONFIG, "the path of a socket has at most %zu characters", room - 1);
    return LEAFD_OK;
}

bool value_is_variable(const char *name)
{
    size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && name[len] == '\0' && !(name[0] >= '0' && name[0] <= '9');
}

bool address_is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)address;

        return ntohl(in4->sin_addr.s_addr) >> 24 == 127;
    }
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;

        return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return false;
}

/* Are all bits behind the prefix zero? */
static bool net_is_clean(const struct conf_net *net, unsigned bits)
{
    for (unsigned i = net->prefix; i < bits; i++) {
        if (net->address[i / 8] & (0x80u >> (i % 8)))
            return false;
    }
    return true;
}

enum leafd_err value_net(const char *text, struct conf_net *ret, struct why *why)
{
    struct conf_net net = {.family = AF_INET};
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    char host[INET6_ADDRSTRLEN];
    char shown[SHOWN];
    unsigned bits = 32;
    int64_t prefix;

    if (len >= sizeof(host))
        goto bad;
    memcpy(host, text, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, net.address) != 1) {
        if (inet_pton(AF_INET6, host, net.address) != 1)
            goto bad;
        net.family = AF_INET6;
        bits = 128;
    }
    prefix = bits;
    if (slash) {
        const char *digits = slash + 1;

        if (!read_digits(&digits, &prefix) || *digits || prefix > (int64_t)bits)
            goto bad;
    }
    net.prefix = (unsigned)prefix;
    if (!net_is_clean(&net, bits))
        return fail(why, LEAFD_CONFIG,
                    "\"%s\" has bits set behind its prefix; write the network's first address",
                    show(text, shown));
    *ret = net;
    return LEAFD_OK;
bad:
    return fail(why, LEAFD_CONFIG,
                "must be networks such as 192.0.2.0/24 or \"2001:db8::/32\", not \"%s\"",
                show(text, shown));
}

/* Labels of 1 to 63 octets without what no host name has; beyond ASCII IDNA decides later. */
static bool is_domain(const char *text)
{
    size_t len = 0;

    if (strlen(text) > 253)
        return false;
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (c == '.' && (len == 0 || text[1] == '\0'))
            return false;
        if (c != '.' && !letter && c != '-' && c != '_' && c < 0x80)
            return false;
        len = c == '.' ? 0 : len + 1;
        if (len > 63)
            return false;
    }
    return len > 0;
}

enum leafd_err value_denied(const char *text, struct why *why)
{
    struct conf_net net;
    char shown[SHOWN];

    if (strchr(text, '/') || strchr(text, ':'))
        return value_net(text, &net, why);
    if (value_net(text, &net, NULL) == LEAFD_OK || is_domain(*text == '.' ? text + 1 : text))
        return LEAFD_OK;
    return fail(why, LEAFD_CONFIG,
                "must be domains, such as example.org or .example.org, or networks, not \"%s\"",
                show(text, shown));
}

static int base64_digit(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The decoder proper; `out` has room for 3 octets per 4 characters. False: not base64. */
static bool base64_decode(struct bytes text, uint8_t *out, size_t *ret_len)
{
    uint32_t group = 0;
    size_t digits = 0;
    size_t pads = 0;
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.data[i]);

        if (text.data[i] == '\n' || text.data[i] == '\r')
            continue;
        if (text.data[i] == '=') {
            pads++;
            continue;
        }
        if (digit < 0 || pads)
            return false;
        group = group << 6 | (uint32_t)digit;
        if (++digits % 4 == 0) {
            out[len++] = (uint8_t)(group >> 16);
            out[len++] = (uint8_t)(group >> 8);
            out[len++] = (uint8_t)group;
            group = 0;
        }
    }
    /* What is left must be one or two whole octets, padded, with no stray bits. */
    if (digits % 4 == 0 && pads == 0) {
        *ret_len = len;
        return true;
    }
    if (digits % 4 == 2 && pads == 2 && (group & 0xf) == 0) {
        out[len++] = (uint8_t)(group >> 4);
    } else if (digits % 4 == 3 && pads == 1 && (group & 3) == 0) {
        out[len++] = (uint8_t)(group >> 10);
        out[len++] = (uint8_t)(group >> 2);
    } else {
        return false;
    }
    *ret_len = len;
    return true;
}

enum leafd_err value_base64(struct bytes text, struct bytes *ret, struct why *why)
{
    uint8_t *out = malloc(text.len / 4 * 3 + 4);
    size_t len;

    if (!out)
        return LEAFD_NOMEM;
    if (!base64_decode(text, out, &len)) {
        free(out);
        return fail(why, LEAFD_CONFIG, "is not base64 (try: base64 -w0 leafd.yaml)");
    }
    out[len] = 0;
    *ret = (struct bytes){out, len};
    return LEAFD_OK;
}
