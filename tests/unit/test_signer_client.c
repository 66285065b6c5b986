/* SPDX-License-Identifier: Apache-2.0 */
/* The front's end of the signer sockets; the test itself plays the signer processes. */
#include "config.h"

#include "base/clock.h"
#include "base/log.h"
#include "pkcs11/sign_pending.h"
#include "pkcs11/signer_client.h"
#include "pkcs11/signer_msg.h"
#include "tests/lib/fake_signer.h"
#include "tests/lib/unit.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 10000, FAR_MS = 30000, WAITING_MAX = 2048 };

static struct ca *ca, *untrusted, *untrusted_later;
static struct ca_set *configured;

/* ---- answers, collected ---- */

struct answer {
    atomic_int calls;
    enum leafd_err err;
    uint8_t signature[SIGN_SIGNATURE_MAX];
    size_t signature_len;
    uint64_t batch;
    int64_t at_ms;
};

static void collect(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch)
{
    struct answer *answer = ctx;

    answer->err = err;
    answer->signature_len = signature.len;
    answer->batch = batch;
    answer->at_ms = clock_mono_ms();
    if (signature.len)
        memcpy(answer->signature, signature.data, signature.len);
    atomic_fetch_add(&answer->calls, 1);
}

static void wait_for(struct answer *answer)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    while (atomic_load(&answer->calls) == 0) {
        if (clock_mono_ms() > until_ms)
            fail_msg("no answer");
        poll(NULL, 0, 1);
    }
}

static void expect(struct answer *answer, enum leafd_err err)
{
    wait_for(answer);
    assert_string_equal(err_name(answer->err), err_name(err));
    assert_int_equal(atomic_load(&answer->calls), 1);
}

static void ask_at(struct signer *client, const struct ca *of, int64_t deadline_ms,
                   struct answer *answer)
{
    const struct sign_request request = {
        .ca_id = of->id,
        .ca_generation = of->generation,
        .tbs = bytes_of("what is to be signed"),
        .audit = bytes_of("example.org"),
        .deadline_ms = deadline_ms,
    };

    memset(answer, 0, sizeof(*answer));
    signer_sign(client, &request, collect, answer);
}

static void ask(struct signer *client, struct answer *answer)
{
    ask_at(client, ca, clock_mono_ms() + FAR_MS, answer);
}

/* ---- a signer process, played ---- */

static int connect_token(struct signer *client, unsigned token, unsigned process)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    signer_client_connect(client, token, process, ends[0]);
    return ends[1];
}

static int connect_signer(struct signer *client, unsigned index)
{
    return connect_token(client, 0, index);
}

static void say(int fd, const void *message, size_t len)
{
    assert_int_equal(send(fd, message, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void greet_as(int fd, struct signer_msg_state state, const struct ca *with_untrusted)
{
    uint8_t message[SIGNER_MSG_STATE_MAX];

    if (state.ca_count == 0)
        state.ca[state.ca_count++] = (struct signer_msg_ca){ca->id, ca->generation};
    if (with_untrusted) {
        state.ca[state.ca_count++] =
            (struct signer_msg_ca){CA_ID_UNTRUSTED, with_untrusted->generation};
        state.untrusted_der = with_untrusted->der;
    }
    say(fd, message, signer_msg_write_state(&state, message, sizeof(message)));
}

static void greet(int fd, enum signer_state state)
{
    greet_as(fd, (struct signer_msg_state){.state = state, .lanes = 2}, untrusted);
}

/* Until the client has heard it. */
static void wait_for_state(struct signer *client, enum signer_state state)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct signer_status status;

    for (signer_status(client, &status); status.state != state; signer_status(client, &status)) {
        if (clock_mono_ms() > until_ms)
            fail_msg("the state stays %s", signer_state_name(status.state));
        poll(NULL, 0, 1);
    }
}

static int connect_ready(struct signer *client, unsigned index)
{
    int fd = connect_signer(client, index);

    greet(fd, SIGNER_READY);
    wait_for_state(client, SIGNER_READY);
    return fd;
}

static bool is_asked(int fd, int within_ms)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};

    return poll(&in, 1, within_ms) == 1 && in.revents & POLLIN;
}

/* The id of the next request. */
static uint64_t hear(int fd)
{
    uint8_t message[SIGNER_MSG_SIGN_MAX];
    struct sign_request request;
    ssize_t len;
    uint64_t id;

    assert_true(is_asked(fd, PATIENCE_MS));
    len = recv(fd, message, sizeof(message), 0);
    assert_true(len > 0);
    assert_int_equal(signer_msg_read_sign((struct bytes){message, (size_t)len}, &id, &request),
                     LEAFD_OK);
    assert_true(bytes_equal(request.tbs, bytes_of("what is to be signed")));
    assert_true(bytes_equal(request.audit, bytes_of("example.org")));
    assert_int_not_equal(id, 0);
    return id;
}

static void reply_with(int fd, uint64_t id, enum leafd_err err, uint64_t batch)
{
    const struct signer_msg_reply answer = {
        .id = id, .err = err, .signature = bytes_of(err ? "" : "a signature"), .batch = batch};
    uint8_t message[SIGNER_MSG_REPLY_MAX];

    say(fd, message, signer_msg_write_reply(&answer, message, sizeof(message)));
}

static void reply(int fd, uint64_t id, enum leafd_err err)
{
    reply_with(fd, id, err, 0);
}

static void say_disowned(int fd, uint64_t batch)
{
    const struct signer_msg_disown disown = {.count = 1, .batch = {batch}};
    uint8_t message[SIGNER_MSG_DISOWN_MAX];

    say(fd, message, signer_msg_write_disown(&disown, message, sizeof(message)));
}

static struct signer *new_client(size_t max_waiting)
{
    struct signer *client;

    assert_int_equal(signer_client_new(configured, CONF_TOKEN_MAX, CONF_TOKEN_PREFER_FIRST,
                                       max_waiting, &client),
                     LEAFD_OK);
    return client;
}

/* ---- tests ---- */

static void a_signature_comes_back(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_ready(client, 0);
    struct signer_status status;
    struct answer answer;

    (void)state;
    ask(client, &answer);
    signer_status(client, &status);
    assert_int_equal(status.waiting, 1);
    assert_int_equal(status.lanes, 2);
    reply(fd, hear(fd), LEAFD_OK);
    expect(&answer, LEAFD_OK);
    assert_int_equal(answer.signature_len, strlen("a signature"));
    assert_memory_equal(answer.signature, "a signature", answer.signature_len);
    signer_status(client, &status);
    assert_int_equal(status.waiting, 0);
    close(fd);
    signer_free(client);
}

static void every_answer_is_passed_on(void **state)
{
    static const enum leafd_err errs[] = {LEAFD_REFUSED,           LEAFD_BUSY,    LEAFD_AGAIN,
                                          LEAFD_TOKEN_UNAVAILABLE, LEAFD_TIMEOUT, LEAFD_INTERNAL};
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_ready(client, 0);

    (void)state;
    for (size_t i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
        struct answer answer;

        ask(client, &answer);
        reply(fd, hear(fd), errs[i]);
        expect(&answer, errs[i]);
        assert_int_equal(answer.signature_len, 0);
    }
    close(fd);
    signer_free(client);
}

static void requests_wait_for_a_ready_signer(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    struct answer answer[40];
    int fd;

    (void)state;
    for (int i = 0; i < 40; i++)
        ask(client, &answer[i]);
    fd = connect_signer(client, 0);
    greet(fd, SIGNER_CONNECTING);
    wait_for_state(client, SIGNER_CONNECTING);
    assert_false(is_asked(fd, 50));
    greet(fd, SIGNER_READY);
    for (int i = 0; i < 40; i++)
        reply(fd, hear(fd), LEAFD_OK);
    for (int i = 0; i < 40; i++)
        expect(&answer[i], LEAFD_OK);
    close(fd);
    signer_free(client);
}

static void without_a_lane_the_token_is_unavailable(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int64_t deadline_ms = clock_mono_ms() + 500;
    struct answer held, late, too_late;

    (void)state;
    ask_at(client, ca, deadline_ms, &held);
    assert_int_equal(atomic_load(&held.calls), 0);
    ask_at(client, ca, clock_mono_ms() + 200, &late); /* no use in waiting */
    assert_int_equal(late.err, LEAFD_TOKEN_UNAVAILABLE);
    assert_int_equal(atomic_load(&late.calls), 1);
    ask_at(client, ca, clock_mono_ms() - 1, &too_late);
    expect(&too_late, LEAFD_TIMEOUT);
    expect(&held, LEAFD_TOKEN_UNAVAILABLE);
    assert_true(held.at_ms >= deadline_ms - 300); /* how much later is up to the machine */
    signer_free(client);
}

static void a_blocked_pin_answers_at_once(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_signer(client, 0);
    struct signer_status status;
    struct answer held, later;

    (void)state;
    ask(client, &held);
    greet_as(fd, (struct signer_msg_state){.state = SIGNER_PIN_BLOCKED, .text = "the PIN is wrong"},
             NULL);
    expect(&held, LEAFD_TOKEN_UNAVAILABLE);
    ask(client, &later);
    assert_int_equal(atomic_load(&later.calls), 1);
    assert_int_equal(later.err, LEAFD_TOKEN_UNAVAILABLE);
    signer_status(client, &status);
    assert_int_equal(status.state, SIGNER_PIN_BLOCKED);
    assert_string_equal(status.text, "the PIN is wrong");
    close(fd);
    signer_free(client);
}

static void a_deadline_ends_the_wait(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_ready(client, 0);
    int64_t deadline_ms = clock_mono_ms() + 100;
    struct answer answer, next;
    uint64_t id;

    (void)state;
    ask_at(client, ca, deadline_ms, &answer);
    id = hear(fd);
    expect(&answer, LEAFD_TIMEOUT);
    assert_true(answer.at_ms >= deadline_ms);
    ask(client, &next); /* takes the same place, under another id */
    reply(fd, id, LEAFD_OK);
    reply(fd, hear(fd), LEAFD_REFUSED);
    expect(&next, LEAFD_REFUSED);
    assert_int_equal(atomic_load(&answer.calls), 1);
    close(fd);
    signer_free(client);
}

static void a_lost_signer_means_again(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_ready(client, 0);
    struct signer_status status;
    struct answer answer[100], next;

    (void)state;
    greet_as(
        fd,
        (struct signer_msg_state){.state = SIGNER_READY, .tally.signatures = 7, .tally.logins = 1},
        untrusted);
    for (int i = 0; i < 100; i++)
        ask(client, &answer[i]);
    reply(fd, hear(fd), LEAFD_OK);
    expect(&answer[0], LEAFD_OK);
    close(fd); /* with much unread in it */
    for (int i = 1; i < 100; i++)
        expect(&answer[i], LEAFD_AGAIN);
    wait_for_state(client, SIGNER_DOWN);

    ask(client, &next);
    fd = connect_signer(client, 0);
    greet_as(
        fd,
        (struct signer_msg_state){.state = SIGNER_READY, .tally.signatures = 2, .tally.logins = 1},
        untrusted);
    reply(fd, hear(fd), LEAFD_OK);
    expect(&next, LEAFD_OK);
    signer_status(client, &status);
    assert_int_equal(status.restarts, 1);
    assert_int_equal(status.tally.signatures, 9); /* of both */
    assert_int_equal(status.tally.logins, 1);     /* of the one that runs */
    close(fd);
    signer_free(client);
}

static void only_so_many_wait(void **state)
{
    struct signer *client = new_client(3);
    struct answer answer[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        ask(client, &answer[i]);
    expect(&answer[3], LEAFD_BUSY);
    signer_free(client);
    for (int i = 0; i < 3; i++)
        expect(&answer[i], LEAFD_INTERNAL); /* told when the client goes */
}

static void what_is_too_large_is_not_sent(void **state)
{
    static uint8_t tbs[SIGN_TBS_MAX + 1], audit[SIGN_AUDIT_MAX + 1];
    struct signer *client = new_client(WAITING_MAX);
    struct sign_request request = {.ca_id = ca->id,
                                   .ca_generation = ca->generation,
                                   .tbs = {tbs, sizeof(tbs)},
                                   .deadline_ms = clock_mono_ms() + FAR_MS};
    struct answer answer = {.err = LEAFD_OK};

    (void)state;
    signer_sign(client, &request, collect, &answer);
    expect(&answer, LEAFD_TOO_LARGE);
    request.tbs.len = 100;
    request.audit = (struct bytes){audit, sizeof(audit)};
    atomic_store(&answer.calls, 0);
    signer_sign(client, &request, collect, &answer);
    expect(&answer, LEAFD_TOO_LARGE);
    signer_free(client);
}

/* A socket takes a few hundred messages: the rest is held and follows when there is room. */
static void a_full_socket_loses_nothing(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_ready(client, 0);
    struct answer *answer = calloc(WAITING_MAX, sizeof(*answer));

    (void)state;
    assert_non_null(answer);
    for (int i = 0; i < WAITING_MAX; i++)
        ask(client, &answer[i]);
    for (int i = 0; i < WAITING_MAX; i++)
        reply(fd, hear(fd), LEAFD_OK);
    for (int i = 0; i < WAITING_MAX; i++)
        expect(&answer[i], LEAFD_OK);
    assert_false(is_asked(fd, 0));
    free(answer);
    close(fd);
    signer_free(client);
}

static void the_signer_with_less_to_do_is_asked(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int first = connect_ready(client, 0), second = connect_signer(client, 1);
    struct signer_status status;
    struct answer answer[6];

    (void)state;
    greet(second, SIGNER_READY);
    do {
        signer_status(client, &status);
    } while (status.lanes < 4);
    for (int i = 0; i < 6; i++)
        ask(client, &answer[i]);
    for (int i = 0; i < 3; i++) {
        reply(first, hear(first), LEAFD_OK);
        reply(second, hear(second), LEAFD_OK);
    }
    for (int i = 0; i < 6; i++)
        expect(&answer[i], LEAFD_OK);
    close(first);
    close(second);
    signer_free(client);
}

/* The one that is replaced still answers what it has, and gets nothing new. */
static void a_replacement_takes_over(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int before = connect_ready(client, 0), after;
    struct signer_status status;
    struct answer old, new;

    (void)state;
    ask(client, &old);
    after = connect_signer(client, 0);
    greet(after, SIGNER_READY);
    do {
        signer_status(client, &status);
    } while (status.lanes < 4);
    ask(client, &new);
    reply(after, hear(after), LEAFD_OK);
    expect(&new, LEAFD_OK);
    reply(before, hear(before), LEAFD_OK);
    expect(&old, LEAFD_OK);
    close(before);
    close(after);
    signer_free(client);
}

static void nobody_is_asked_for_a_ca_he_does_not_have(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_signer(client, 0);
    struct ca_set *set = signer_cas(client);
    struct answer answer;
    struct sign_request request = {.ca_id = ca->id,
                                   .ca_generation = ca->generation + 2,
                                   .tbs = bytes_of("x"),
                                   .deadline_ms = clock_mono_ms() + FAR_MS};

    (void)state;
    assert_null(set->untrusted);
    ca_set_unref(set);
    greet_as(fd,
             (struct signer_msg_state){
                 .state = SIGNER_READY, .ca_count = 1, .ca = {{ca->id, ca->generation ^ 1}}},
             NULL);
    wait_for_state(client, SIGNER_READY);
    ask_at(client, ca, clock_mono_ms() + 400, &answer); /* ours, and not his */
    expect(&answer, LEAFD_TOKEN_UNAVAILABLE);
    atomic_store(&answer.calls, 0);
    signer_sign(client, &request, collect, &answer); /* nobody's: look again */
    expect(&answer, LEAFD_AGAIN);
    assert_false(is_asked(fd, 0));
    close(fd);
    signer_free(client);
}

static uint64_t untrusted_generation(struct signer *client)
{
    struct ca_set *set = signer_cas(client);
    uint64_t generation = set->untrusted ? set->untrusted->generation : 0;

    assert_int_equal(set->count, 1);
    assert_int_equal(set->ca[0]->generation, ca->generation);
    ca_set_unref(set);
    return generation;
}

static void the_untrusted_ca_comes_with_the_greeting(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd;
    struct answer answer, waiting;

    (void)state;
    assert_int_equal(untrusted_generation(client), 0);
    fd = connect_ready(client, 0);
    assert_int_equal(untrusted_generation(client), untrusted->generation);
    ask_at(client, untrusted, clock_mono_ms() + FAR_MS, &answer);
    reply(fd, hear(fd), LEAFD_OK);
    expect(&answer, LEAFD_OK);

    close(fd);
    wait_for_state(client, SIGNER_DOWN);
    assert_int_equal(untrusted_generation(client), untrusted->generation);
    ask_at(client, untrusted, clock_mono_ms() + FAR_MS, &waiting);
    fd = connect_signer(client, 0);
    greet_as(fd, (struct signer_msg_state){.state = SIGNER_READY}, untrusted_later);
    expect(&waiting, LEAFD_AGAIN); /* nobody has that one any more */
    assert_int_equal(untrusted_generation(client), untrusted_later->generation);
    close(fd);
    signer_free(client);
}

static void the_untrusted_ca_of_a_living_signer_is_taken(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int first = connect_ready(client, 0), second = connect_signer(client, 1);

    (void)state;
    greet_as(second, (struct signer_msg_state){.state = SIGNER_READY}, untrusted_later);
    while (untrusted_generation(client) != untrusted_later->generation)
        poll(NULL, 0, 1);
    close(second);
    while (untrusted_generation(client) != untrusted->generation)
        poll(NULL, 0, 1);
    close(first);
    signer_free(client);
}

/* ---- a signer that was taken over ---- */

struct bad {
    const char *what;
    size_t len;
    uint8_t octets[SIGNER_MSG_STATE_MAX + 64];
};

static size_t make_bad(int number, struct bad *bad)
{
    struct signer_msg_state greeting = {.state = SIGNER_READY, .text = "fine"};
    struct signer_msg_reply answer = {.id = 1, .signature = bytes_of("sig")};
    const struct signer_msg_disown disown = {.count = 2, .batch = {7, 8}};
    uint8_t *out = bad->octets;
    size_t size = sizeof(bad->octets), len;

    len = signer_msg_write_state(&greeting, out, size);
    switch (number) {
    case 0: /* no such kind */
        out[0] = 9;
        return len;
    case 1: /* another version */
        out[1]++;
        return len;
    case 2: /* no such state */
        out[2] = SIGNER_PIN_BLOCKED + 1;
        return len;
    case 3: /* one octet too many */
        out[len] = 0;
        return len + 1;
    case 4: /* one too few */
        return len - 1;
    case 5: /* a control character in the text */
        *(uint8_t *)memmem(out, len, "fine", 4) = 7;
        return len;
    case 6: /* an untrusted CA that is no certificate */
        greeting.untrusted_der = bytes_of("0123456789");
        return signer_msg_write_state(&greeting, out, size);
    case 7: /* larger than any message */
        memset(out, SIGNER_MSG_STATE, size);
        return size;
    case 8: /* what only a front says */
        out[0] = SIGNER_MSG_SIGN;
        return len;
    case 9: /* a success without a signature */
        len = signer_msg_write_reply(&answer, out, size);
        memset(out + len - 5, 0, 2);
        return len - 3;
    case 10: /* an error that is not for fronts */
        len = signer_msg_write_reply(&answer, out, size);
        out[9] = LEAFD_CONFIG;
        return len;
    case 11: /* a failure with a signature */
        len = signer_msg_write_reply(&answer, out, size);
        out[9] = LEAFD_REFUSED;
        return len;
    case 12:
        out[0] = SIGNER_MSG_REPLY;
        return 1;
    case 13: /* a batch whose number is too large */
        len = signer_msg_write_reply(&answer, out, size);
        out[11] = 1;
        return len;
    case 14: /* a failure of a batch */
        answer = (struct signer_msg_reply){.id = 1, .err = LEAFD_AGAIN};
        len = signer_msg_write_reply(&answer, out, size);
        out[17] = 1;
        return len;
    case 15: /* nothing is disowned */
        memset(out, 0, 3);
        out[0] = SIGNER_MSG_DISOWN;
        return 3;
    case 16: /* what was verified */
        len = signer_msg_write_disown(&disown, out, size);
        out[len - 1] = 0;
        return len;
    case 17: /* more than there are */
        len = signer_msg_write_disown(&disown, out, size);
        out[2]++;
        return len;
    case 18:
        len = signer_msg_write_disown(&disown, out, size);
        return len - 1;
    default:
        return 0;
    }
}

static void a_hostile_signer_is_left(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    struct bad bad;

    (void)state;
    for (int i = 0; make_bad(i, &bad) > 0; i++) {
        int fd = connect_ready(client, 0);
        struct answer answer;
        char octet;

        ask(client, &answer);
        hear(fd);
        say(fd, bad.octets, make_bad(i, &bad));
        expect(&answer, LEAFD_AGAIN);
        assert_int_equal(recv(fd, &octet, 1, 0), 0); /* hung up */
        close(fd);
        wait_for_state(client, SIGNER_DOWN);
    }
    signer_free(client);
}

static void made_up_ids_are_ignored(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    int fd = connect_ready(client, 0), other = connect_signer(client, 1);
    struct answer answer;
    uint64_t id;

    (void)state;
    ask(client, &answer);
    id = hear(fd);
    reply(fd, 0, LEAFD_OK);
    reply(fd, UINT64_MAX, LEAFD_OK);
    reply(fd, id + 1, LEAFD_OK);
    reply(fd, id + ((uint64_t)1 << 32), LEAFD_OK);
    reply(other, id, LEAFD_OK); /* not his */
    greet_as(other, (struct signer_msg_state){.state = SIGNER_PIN_BLOCKED, .tally.logins = 5},
             NULL);
    for (struct signer_status status = {.tally.logins = 0}; status.tally.logins != 5;)
        signer_status(client, &status);
    assert_int_equal(atomic_load(&answer.calls), 0);
    reply(fd, id, LEAFD_REFUSED);
    reply(fd, id, LEAFD_OK);
    expect(&answer, LEAFD_REFUSED);
    close(fd);
    close(other);
    signer_free(client);
}

/* ---- what nobody has verified ---- */

struct disowned {
    atomic_int calls;
    uint64_t batch; /* the last */
};

static void note_disowned(void *ctx, const uint64_t *batches, size_t count)
{
    struct disowned *disowned = ctx;

    assert_int_equal(count, 1);
    disowned->batch = batches[0];
    atomic_fetch_add(&disowned->calls, 1);
}

static void wait_for_calls(struct disowned *disowned, int calls)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;

    while (atomic_load(&disowned->calls) < calls && clock_mono_ms() < until_ms)
        poll(NULL, 0, 1);
    assert_int_equal(atomic_load(&disowned->calls), calls);
}

/* An asker knows a batch by the number under which it is disowned; that of another process with the
 * same number is another one. */
static void a_batch_is_one_processes_own(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    struct disowned disowned = {.calls = 0};
    struct answer answer[3];
    int fd, second;

    (void)state;
    signer_client_on_disowned(client, note_disowned, &disowned);
    fd = connect_ready(client, 0);
    for (int i = 0; i < 2; i++) {
        ask(client, &answer[i]);
        reply_with(fd, hear(fd), LEAFD_OK, i ? 5 : 0);
        expect(&answer[i], LEAFD_OK);
    }
    assert_int_equal(answer[0].batch, 0);
    assert_int_not_equal(answer[1].batch, 0);
    say_disowned(fd, 5);
    wait_for_calls(&disowned, 1);
    assert_int_equal(disowned.batch, answer[1].batch);
    close(fd);
    wait_for_state(client, SIGNER_DOWN);

    second = connect_ready(client, 0);
    ask(client, &answer[2]);
    reply_with(second, hear(second), LEAFD_OK, 5);
    expect(&answer[2], LEAFD_OK);
    assert_int_not_equal(answer[2].batch, answer[1].batch);
    say_disowned(second, 5);
    wait_for_calls(&disowned, 2);
    assert_int_equal(disowned.batch, answer[2].batch);
    close(second);
    signer_free(client);
}

/* Holds up the client's thread. */
struct gate {
    atomic_bool reached, open;
    struct answer answer;
};

static void wait_at_gate(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch)
{
    struct gate *gate = ctx;

    atomic_store(&gate->reached, true);
    while (!atomic_load(&gate->open))
        poll(NULL, 0, 1);
    collect(&gate->answer, err, signature, batch);
}

/* What is disowned before it was read is never passed on. */
static void what_is_disowned_is_not_passed_on(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    struct disowned disowned = {.calls = 0};
    struct gate gate = {.reached = false};
    const struct sign_request request = {.ca_id = ca->id,
                                         .ca_generation = ca->generation,
                                         .tbs = bytes_of("what is to be signed"),
                                         .audit = bytes_of("example.org"),
                                         .deadline_ms = clock_mono_ms() + FAR_MS};
    struct answer answer[3];
    uint64_t first, id[3];
    int fd;

    (void)state;
    signer_client_on_disowned(client, note_disowned, &disowned);
    fd = connect_ready(client, 0);
    signer_sign(client, &request, wait_at_gate, &gate);
    first = hear(fd);
    for (int i = 0; i < 3; i++) {
        ask(client, &answer[i]);
        id[i] = hear(fd);
    }
    reply(fd, first, LEAFD_OK);
    while (!atomic_load(&gate.reached))
        poll(NULL, 0, 1);
    reply_with(fd, id[0], LEAFD_OK, 6);
    reply_with(fd, id[1], LEAFD_OK, 7);
    reply_with(fd, id[2], LEAFD_OK, 0);
    say_disowned(fd, 6);
    atomic_store(&gate.open, true);
    expect(&gate.answer, LEAFD_OK);
    expect(&answer[0], LEAFD_AGAIN);
    assert_int_equal(answer[0].signature_len, 0);
    expect(&answer[1], LEAFD_OK);
    expect(&answer[2], LEAFD_OK);
    wait_for_calls(&disowned, 1);
    close(fd);
    signer_free(client);
}

/* ---- many at once ---- */

enum { ASKERS = 4, ASKED_EACH = 3000 };

struct asker {
    struct signer *client;
    atomic_int good, again, other;
    pthread_t thread;
};

static void tally(void *ctx, enum leafd_err err, struct bytes signature, uint64_t batch)
{
    struct asker *asker = ctx;

    (void)signature;
    (void)batch;
    atomic_fetch_add(err == LEAFD_OK      ? &asker->good
                     : err == LEAFD_AGAIN ? &asker->again
                                          : &asker->other,
                     1);
}

static void *ask_much(void *arg)
{
    struct asker *asker = arg;

    for (int i = 0; i < ASKED_EACH; i++) {
        const struct sign_request request = {.ca_id = ca->id,
                                             .ca_generation = ca->generation,
                                             .tbs = bytes_of("what is to be signed"),
                                             .audit = bytes_of("example.org"),
                                             .deadline_ms = clock_mono_ms() + FAR_MS};

        signer_sign(asker->client, &request, tally, asker);
    }
    return NULL;
}

/* Answers until `last` answers were given, or for ever; then it dies. */
struct played {
    int fd;
    int last;
    pthread_t thread;
};

static void *play_signer(void *arg)
{
    struct played *played = arg;
    uint8_t message[SIGNER_MSG_SIGN_MAX];
    ssize_t len;

    greet(played->fd, SIGNER_READY);
    for (int i = 0; i != played->last; i++) {
        uint8_t out[SIGNER_MSG_REPLY_MAX];
        struct signer_msg_reply answer = {.signature = bytes_of("a signature")};
        struct sign_request request;

        len = recv(played->fd, message, sizeof(message), 0);
        if (len <= 0 ||
            signer_msg_read_sign((struct bytes){message, (size_t)len}, &answer.id, &request))
            break;
        if (send(played->fd, out, signer_msg_write_reply(&answer, out, sizeof(out)), MSG_NOSIGNAL) <
            0)
            break;
    }
    shutdown(played->fd, SHUT_RDWR);
    return NULL;
}

static void everyone_is_answered_though_signers_die(void **state)
{
    struct signer *client = new_client(ASKERS * ASKED_EACH);
    struct played played[] = {{.last = 1000}, {.last = 2500}, {.last = -1}};
    struct asker asker[ASKERS] = {0};
    int64_t until_ms = clock_mono_ms() + 3 * PATIENCE_MS;
    int good = 0, answered = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        played[i].fd = connect_signer(client, (unsigned)i);
        assert_int_equal(pthread_create(&played[i].thread, NULL, play_signer, &played[i]), 0);
    }
    for (int i = 0; i < ASKERS; i++) {
        asker[i].client = client;
        assert_int_equal(pthread_create(&asker[i].thread, NULL, ask_much, &asker[i]), 0);
    }
    for (int i = 0; i < ASKERS; i++)
        pthread_join(asker[i].thread, NULL);
    while (answered < ASKERS * ASKED_EACH && clock_mono_ms() < until_ms) {
        good = answered = 0;
        for (int i = 0; i < ASKERS; i++) {
            good += atomic_load(&asker[i].good);
            answered += atomic_load(&asker[i].good) + atomic_load(&asker[i].again);
            assert_int_equal(atomic_load(&asker[i].other), 0);
        }
        poll(NULL, 0, 1);
    }
    assert_int_equal(answered, ASKERS * ASKED_EACH);
    assert_true(good >= ASKERS * ASKED_EACH / 2);
    signer_free(client); /* ends the last signer too */
    for (int i = 0; i < 3; i++) {
        pthread_join(played[i].thread, NULL);
        close(played[i].fd);
    }
}

/* ---- the table behind it ---- */

static void entries_are_due_in_time(void **state)
{
    static const int64_t due_ms[] = {100, 5, 40000, 20, 20500, 101};
    struct sign_pending *pending;
    struct sign_entry *entry[6];

    (void)state;
    assert_int_equal(sign_pending_new(6, &pending), LEAFD_OK);
    for (int i = 0; i < 6; i++) {
        entry[i] = sign_pending_add(pending);
        sign_pending_set_due(pending, entry[i], due_ms[i]);
    }
    assert_null(sign_pending_add(pending));
    assert_null(sign_pending_next_due(pending, 4));
    assert_ptr_equal(sign_pending_next_due(pending, 5 + SIGN_PENDING_TICK_MS), entry[1]);
    assert_null(sign_pending_next_due(pending, 19));
    assert_ptr_equal(sign_pending_next_due(pending, 20 + SIGN_PENDING_TICK_MS), entry[3]);
    sign_pending_remove(pending, entry[5]);
    for (int64_t now_ms = 60; now_ms <= 41000; now_ms++) { /* four turns of the wheel */
        struct sign_entry *due = sign_pending_next_due(pending, now_ms);

        if (due) {
            assert_true(due->due_ms <= now_ms);
            assert_true(now_ms <= due->due_ms + SIGN_PENDING_TICK_MS);
            sign_pending_remove(pending, due);
        }
    }
    assert_int_equal(sign_pending_count(pending), 2); /* 1 and 3, which were named */
    sign_pending_set_due(pending, entry[1], 1);       /* long past */
    assert_ptr_equal(sign_pending_next_due(pending, 10000000), entry[1]);
    sign_pending_free(pending);
}

static void ids_do_not_come_again(void **state)
{
    struct sign_pending *pending;
    struct sign_entry *entry;
    uint64_t id;

    (void)state;
    assert_int_equal(sign_pending_new(2, &pending), LEAFD_OK);
    entry = sign_pending_add(pending);
    id = sign_pending_id(pending, entry);
    assert_ptr_equal(sign_pending_find(pending, id), entry);
    assert_null(sign_pending_find(pending, id + 1));
    sign_pending_remove(pending, entry);
    assert_null(sign_pending_find(pending, id));
    assert_ptr_equal(sign_pending_add(pending), entry);
    assert_null(sign_pending_find(pending, id));
    assert_int_not_equal(sign_pending_id(pending, entry), id);
    sign_pending_free(pending);
}

static int make_cas(void **state)
{
    const struct ca *only;
    EVP_PKEY *key;

    (void)state;
    log_init("test", LOG_LEVEL_ERROR);
    fake_ca_make(NULL, &ca, &key);
    EVP_PKEY_free(key);
    fake_ca_make(&(struct fake_ca_options){.id = CA_ID_UNTRUSTED}, &untrusted, &key);
    EVP_PKEY_free(key);
    fake_ca_make(&(struct fake_ca_options){.id = CA_ID_UNTRUSTED}, &untrusted_later, &key);
    EVP_PKEY_free(key);
    only = ca;
    configured = ca_set_new(&only, 1, NULL);
    return configured ? 0 : -1;
}

static int drop_cas(void **state)
{
    (void)state;
    ca_set_unref(configured);
    ca_unref(ca);
    ca_unref(untrusted);
    ca_unref(untrusted_later);
    return 0;
}

/* ---- several tokens ---- */

struct tokens {
    struct signer *client;
    int fd[2]; /* token 0's and token 1's signer */
};

static void tokens_init(struct tokens *tokens)
{
    int64_t until_ms = clock_mono_ms() + PATIENCE_MS;
    struct signer_status status;

    tokens->client = new_client(WAITING_MAX);
    for (unsigned i = 0; i < 2; i++) {
        tokens->fd[i] = connect_token(tokens->client, i, 0);
        greet_as(tokens->fd[i], (struct signer_msg_state){.state = SIGNER_READY, .lanes = 2}, NULL);
    }
    do {
        assert_true(clock_mono_ms() < until_ms);
        poll(NULL, 0, 1);
        signer_status(tokens->client, &status);
    } while (status.token[0].state != SIGNER_READY || status.token[1].state != SIGNER_READY);
    assert_int_equal(status.lanes, 4);
}

static void tokens_clear(struct tokens *tokens)
{
    for (int i = 0; i < 2; i++)
        if (tokens->fd[i] != -1)
            close(tokens->fd[i]);
    signer_free(tokens->client);
}

static void the_first_token_is_preferred(void **state)
{
    struct tokens tokens;
    struct answer answer[4];

    (void)state;
    tokens_init(&tokens);
    for (int i = 0; i < 4; i++)
        ask(tokens.client, &answer[i]);
    for (int i = 0; i < 4; i++)
        reply(tokens.fd[0], hear(tokens.fd[0]), LEAFD_OK);
    for (int i = 0; i < 4; i++)
        expect(&answer[i], LEAFD_OK);
    assert_false(is_asked(tokens.fd[1], 0));
    tokens_clear(&tokens);
}

/* What one cannot sign the other does, and nobody notices. */
static void a_request_moves_to_another_token(void **state)
{
    static const enum leafd_err errs[] = {LEAFD_AGAIN, LEAFD_TOKEN_UNAVAILABLE, LEAFD_INTERNAL};
    struct tokens tokens;
    struct answer answer;

    (void)state;
    tokens_init(&tokens);
    for (size_t i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
        uint64_t id;

        ask(tokens.client, &answer);
        id = hear(tokens.fd[0]);
        reply(tokens.fd[0], id, errs[i]);
        assert_true(hear(tokens.fd[1]) == id);
        reply(tokens.fd[0], id, LEAFD_OK); /* too late */
        reply(tokens.fd[0], id, LEAFD_REFUSED);
        assert_int_equal(atomic_load(&answer.calls), 0);
        reply(tokens.fd[1], id, LEAFD_OK);
        expect(&answer, LEAFD_OK);
    }
    ask(tokens.client, &answer);
    hear(tokens.fd[0]);
    close(tokens.fd[0]);
    tokens.fd[0] = -1;
    reply(tokens.fd[1], hear(tokens.fd[1]), LEAFD_OK);
    expect(&answer, LEAFD_OK);
    tokens_clear(&tokens);
}

static void a_request_ends_when_all_have_failed(void **state)
{
    struct tokens tokens;
    struct answer answer;

    (void)state;
    tokens_init(&tokens);
    ask(tokens.client, &answer);
    reply(tokens.fd[0], hear(tokens.fd[0]), LEAFD_AGAIN);
    reply(tokens.fd[1], hear(tokens.fd[1]), LEAFD_AGAIN);
    expect(&answer, LEAFD_AGAIN); /* the asker draws a new serial: both may have seen this one */

    ask(tokens.client, &answer);
    reply(tokens.fd[0], hear(tokens.fd[0]), LEAFD_REFUSED);
    expect(&answer, LEAFD_REFUSED); /* and the other one is not asked */
    assert_false(is_asked(tokens.fd[1], 0));
    tokens_clear(&tokens);
}

/* One that has work and says nothing: its work goes to the other, and so does what comes next; when
 * it answers it is asked again. */
static void a_silent_token_is_left_out(void **state)
{
    struct tokens tokens;
    struct signer_status status;
    struct answer answer;
    int64_t asked_ms = clock_mono_ms();
    uint64_t id;

    (void)state;
    tokens_init(&tokens);
    ask(tokens.client, &answer);
    id = hear(tokens.fd[0]);
    reply(tokens.fd[1], hear(tokens.fd[1]), LEAFD_OK);
    expect(&answer, LEAFD_OK);
    assert_true(clock_mono_ms() - asked_ms >= 900);
    signer_status(tokens.client, &status);
    assert_true(status.token[0].is_ejected);
    assert_false(status.token[1].is_ejected);

    ask(tokens.client, &answer);
    reply(tokens.fd[1], hear(tokens.fd[1]), LEAFD_OK);
    expect(&answer, LEAFD_OK);
    reply(tokens.fd[0], id, LEAFD_OK);   /* nobody waits for that any more */
    while (!is_asked(tokens.fd[0], 0)) { /* the probe */
        ask(tokens.client, &answer);
        if (is_asked(tokens.fd[1], 20)) {
            reply(tokens.fd[1], hear(tokens.fd[1]), LEAFD_OK);
            expect(&answer, LEAFD_OK);
        }
        assert_true(clock_mono_ms() - asked_ms < PATIENCE_MS);
    }
    reply(tokens.fd[0], hear(tokens.fd[0]), LEAFD_OK);
    expect(&answer, LEAFD_OK);
    signer_status(tokens.client, &status);
    assert_false(status.token[0].is_ejected);
    tokens_clear(&tokens);
}

static void each_token_counts_for_itself(void **state)
{
    struct signer *client = new_client(WAITING_MAX);
    struct signer_status status;
    int fd[2];

    (void)state;
    fd[0] = connect_token(client, 0, 0);
    greet_as(fd[0],
             (struct signer_msg_state){.state = SIGNER_READY, .lanes = 3, .tally.signatures = 5},
             NULL);
    wait_for_state(client, SIGNER_READY);
    fd[1] = connect_token(client, 1, 0);
    greet_as(
        fd[1],
        (struct signer_msg_state){.state = SIGNER_PIN_BLOCKED, .tally.failures = 7, .text = "x"},
        NULL);
    do {
        poll(NULL, 0, 1);
        signer_status(client, &status);
    } while (status.token[1].state != SIGNER_PIN_BLOCKED);
    assert_int_equal(status.state, SIGNER_READY);
    assert_int_equal(status.tally.signatures, 5);
    assert_int_equal(status.tally.failures, 7);
    assert_int_equal(status.token[0].lanes, 3);
    assert_int_equal(status.token[1].lanes, 0);
    assert_int_equal(status.token[1].tally.failures, 7);
    assert_string_equal(status.token[1].text, "x");
    assert_int_equal(status.token[2].state, SIGNER_DOWN);
    close(fd[1]);
    do {
        poll(NULL, 0, 1);
        signer_status(client, &status);
    } while (status.token[1].state != SIGNER_DOWN);
    assert_int_equal(status.token[1].tally.failures, 7); /* counters outlive their process */
    close(fd[0]);
    signer_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signature_comes_back),
        cmocka_unit_test(every_answer_is_passed_on),
        cmocka_unit_test(requests_wait_for_a_ready_signer),
        cmocka_unit_test(without_a_lane_the_token_is_unavailable),
        cmocka_unit_test(a_blocked_pin_answers_at_once),
        cmocka_unit_test(a_deadline_ends_the_wait),
        cmocka_unit_test(a_lost_signer_means_again),
        cmocka_unit_test(only_so_many_wait),
        cmocka_unit_test(what_is_too_large_is_not_sent),
        cmocka_unit_test(a_full_socket_loses_nothing),
        cmocka_unit_test(the_signer_with_less_to_do_is_asked),
        cmocka_unit_test(a_replacement_takes_over),
        cmocka_unit_test(nobody_is_asked_for_a_ca_he_does_not_have),
        cmocka_unit_test(the_untrusted_ca_comes_with_the_greeting),
        cmocka_unit_test(the_untrusted_ca_of_a_living_signer_is_taken),
        cmocka_unit_test(a_hostile_signer_is_left),
        cmocka_unit_test(a_batch_is_one_processes_own),
        cmocka_unit_test(what_is_disowned_is_not_passed_on),
        cmocka_unit_test(made_up_ids_are_ignored),
        cmocka_unit_test(everyone_is_answered_though_signers_die),
        cmocka_unit_test(entries_are_due_in_time),
        cmocka_unit_test(ids_do_not_come_again),
        cmocka_unit_test(the_first_token_is_preferred),
        cmocka_unit_test(a_request_moves_to_another_token),
        cmocka_unit_test(a_request_ends_when_all_have_failed),
        cmocka_unit_test(a_silent_token_is_left_out),
        cmocka_unit_test(each_token_counts_for_itself),
    };

    return cmocka_run_group_tests(tests, make_cas, drop_cas);
}
