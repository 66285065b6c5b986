/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/signer_msg.h"

#include <string.h>

/* The numbers of batches: the front has a use for the bits above. */
#define BATCH_END (UINT64_C(1) << 48)

/* ---- fields; the first fault sticks, and the caller looks once at the end ---- */

struct msg_writer {
    uint8_t *start;
    uint8_t *at;
    uint8_t *end;
    bool failed;
};

struct msg_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static void put(struct msg_writer *writer, struct bytes raw)
{
    if (writer->failed || raw.len > (size_t)(writer->end - writer->at)) {
        writer->failed = true;
        return;
    }
    if (raw.len)
        memcpy(writer->at, raw.data, raw.len);
    writer->at += raw.len;
}

static void put_number(struct msg_writer *writer, uint64_t value, unsigned octets)
{
    uint8_t raw[8];

    for (unsigned i = 0; i < octets; i++)
        raw[i] = (uint8_t)(value >> 8 * (octets - 1 - i));
    put(writer, (struct bytes){raw, octets});
}

static void put_bytes(struct msg_writer *writer, struct bytes raw, size_t max)
{
    if (raw.len > max)
        writer->failed = true;
    put_number(writer, raw.len, 2);
    put(writer, raw);
}

static struct msg_writer begin(enum signer_msg_kind kind, uint8_t *out, size_t size)
{
    struct msg_writer writer = {.start = out, .at = out, .end = out + size};

    put_number(&writer, kind, 1);
    return writer;
}

static size_t written(const struct msg_writer *writer)
{
    return writer->failed ? 0 : (size_t)(writer->at - writer->start);
}

static struct bytes get(struct msg_reader *reader, size_t len)
{
    struct bytes raw = {reader->at, len};

    if (reader->failed || len > (size_t)(reader->end - reader->at)) {
        reader->failed = true;
        return (struct bytes){NULL, 0};
    }
    reader->at += len;
    return raw;
}

static uint64_t get_number(struct msg_reader *reader, unsigned octets)
{
    struct bytes raw = get(reader, octets);
    uint64_t value = 0;

    for (size_t i = 0; i < raw.len; i++)
        value = value << 8 | raw.data[i];
    return value;
}

static struct bytes get_bytes(struct msg_reader *reader, size_t max)
{
    size_t len = get_number(reader, 2);

    if (len > max) {
        reader->failed = true;
        return (struct bytes){NULL, 0};
    }
    return get(reader, len);
}

static struct msg_reader open_message(enum signer_msg_kind kind, struct bytes message)
{
    struct msg_reader reader = {.at = message.data, .end = message.data + message.len};

    if (message.len == 0 || get_number(&reader, 1) != (uint64_t)kind)
        reader.failed = true;
    return reader;
}

static bool done(const struct msg_reader *reader)
{
    return !reader->failed && reader->at == reader->end;
}

enum signer_msg_kind signer_msg_kind(struct bytes message)
{
    if (message.len == 0 || message.data[0] > SIGNER_MSG_DISOWN)
        return SIGNER_MSG_NONE;
    return message.data[0];
}

/* ---- state ---- */

static bool is_printable(uint8_t octet)
{
    return octet >= 0x20 && octet < 0x7f;
}

static void put_text(struct msg_writer *writer, const char *text, size_t max)
{
    struct bytes raw = {(const uint8_t *)text, strnlen(text, max)};

    put_number(writer, raw.len, 2);
    for (size_t i = 0; i < raw.len; i++)
        put_number(writer, is_printable(raw.data[i]) ? raw.data[i] : '?', 1);
}

/* `out` has room for `size` octets, the NUL included. */
static void get_text(struct msg_reader *reader, char *out, size_t size)
{
    struct bytes raw = get_bytes(reader, size - 1);

    for (size_t i = 0; i < raw.len; i++) {
        if (!is_printable(raw.data[i]))
            reader->failed = true;
        out[i] = (char)raw.data[i];
    }
    out[raw.len] = '\0';
}

size_t signer_msg_write_state(const struct signer_msg_state *state, uint8_t *out, size_t size)
{
    struct msg_writer writer = begin(SIGNER_MSG_STATE, out, size);

    if (state->ca_count > SIGNER_MSG_CAS_MAX)
        return 0;
    put_number(&writer, SIGNER_MSG_VERSION, 1);
    put_number(&writer, state->state, 1);
    put_number(&writer, state->lanes, 4);
    put_number(&writer, state->tally.signatures, 8);
    put_number(&writer, state->tally.failures, 8);
    put_number(&writer, state->tally.refusals, 8);
    put_number(&writer, state->tally.logins, 8);
    put_number(&writer, state->tally.proofs, 8);
    put_number(&writer, state->tally.recoveries, 8);
    put_number(&writer, state->tally.disowned, 8);
    put_text(&writer, state->text, sizeof(state->text) - 1);
    put_number(&writer, state->ca_count, 1);
    for (size_t i = 0; i < state->ca_count; i++) {
        put_number(&writer, state->ca[i].id, 2);
        put_number(&writer, state->ca[i].generation, 8);
    }
    put_bytes(&writer, state->untrusted_der, SIGNER_MSG_CERT_MAX);
    return written(&writer);
}

enum leafd_err signer_msg_read_state(struct bytes message, struct signer_msg_state *ret)
{
    struct msg_reader reader = open_message(SIGNER_MSG_STATE, message);
    struct signer_msg_state state = {.state = SIGNER_DOWN};
    uint64_t number;

    if (get_number(&reader, 1) != SIGNER_MSG_VERSION)
        return LEAFD_MALFORMED;
    number = get_number(&reader, 1);
    if (number > SIGNER_PIN_BLOCKED)
        return LEAFD_MALFORMED;
    state.state = (enum signer_state)number;
    state.lanes = (unsigned)get_number(&reader, 4);
    state.tally.signatures = get_number(&reader, 8);
    state.tally.failures = get_number(&reader, 8);
    state.tally.refusals = get_number(&reader, 8);
    state.tally.logins = get_number(&reader, 8);
    state.tally.proofs = get_number(&reader, 8);
    state.tally.recoveries = get_number(&reader, 8);
    state.tally.disowned = get_number(&reader, 8);
    get_text(&reader, state.text, sizeof(state.text));
    number = get_number(&reader, 1);
    if (number > SIGNER_MSG_CAS_MAX)
        return LEAFD_MALFORMED;
    state.ca_count = number;
    for (size_t i = 0; i < state.ca_count; i++) {
        state.ca[i].id = (uint16_t)get_number(&reader, 2);
        state.ca[i].generation = get_number(&reader, 8);
    }
    state.untrusted_der = get_bytes(&reader, SIGNER_MSG_CERT_MAX);
    if (!done(&reader))
        return LEAFD_MALFORMED;
    *ret = state;
    return LEAFD_OK;
}

/* ---- sign ---- */

size_t signer_msg_write_sign(uint64_t id, const struct sign_request *request, uint8_t *out,
                             size_t size)
{
    struct msg_writer writer = begin(SIGNER_MSG_SIGN, out, size);

    if (request->tbs.len == 0)
        return 0;
    put_number(&writer, id, 8);
    put_number(&writer, request->ca_id, 2);
    put_number(&writer, request->ca_generation, 8);
    put_number(&writer, (uint64_t)request->deadline_ms, 8);
    put_bytes(&writer, request->audit, SIGN_AUDIT_MAX);
    put_bytes(&writer, request->tbs, SIGN_TBS_MAX);
    return written(&writer);
}

void signer_msg_set_sign_id(uint8_t *message, uint64_t id)
{
    struct msg_writer writer = {.start = message, .at = message + 1, .end = message + 9};

    put_number(&writer, id, 8);
}

enum leafd_err signer_msg_read_sign(struct bytes message, uint64_t *ret_id,
                                    struct sign_request *ret_request)
{
    struct msg_reader reader = open_message(SIGNER_MSG_SIGN, message);
    struct sign_request request = {0};

    *ret_id = get_number(&reader, 8);
    request.ca_id = (uint16_t)get_number(&reader, 2);
    request.ca_generation = get_number(&reader, 8);
    request.deadline_ms = (int64_t)get_number(&reader, 8);
    request.audit = get_bytes(&reader, SIGN_AUDIT_MAX);
    request.tbs = get_bytes(&reader, SIGN_TBS_MAX);
    if (!done(&reader) || request.tbs.len == 0 || request.deadline_ms < 0)
        return LEAFD_MALFORMED;
    *ret_request = request;
    return LEAFD_OK;
}

/* ---- reply ---- */

/* The answers a signer may give; anything else is our own fault, or the other end's. */
static bool is_answer(enum leafd_err err)
{
    switch (err) {
    case LEAFD_OK:
    case LEAFD_REFUSED:
    case LEAFD_BUSY:
    case LEAFD_TOKEN_UNAVAILABLE:
    case LEAFD_INTERNAL:
    case LEAFD_TIMEOUT:
    case LEAFD_AGAIN:
        return true;
    default:
        return false;
    }
}

static bool is_reply(const struct signer_msg_reply *reply)
{
    bool is_good = reply->err == LEAFD_OK;

    return is_answer(reply->err) && is_good == (reply->signature.len > 0) &&
           reply->batch < BATCH_END && (is_good || !reply->batch);
}

size_t signer_msg_write_reply(const struct signer_msg_reply *reply, uint8_t *out, size_t size)
{
    struct msg_writer writer = begin(SIGNER_MSG_REPLY, out, size);

    if (!is_reply(reply))
        return 0;
    put_number(&writer, reply->id, 8);
    put_number(&writer, reply->err, 1);
    put_number(&writer, reply->batch, 8);
    put_bytes(&writer, reply->signature, SIGN_SIGNATURE_MAX);
    return written(&writer);
}

enum leafd_err signer_msg_read_reply(struct bytes message, struct signer_msg_reply *ret)
{
    struct msg_reader reader = open_message(SIGNER_MSG_REPLY, message);
    struct signer_msg_reply reply = {0};

    reply.id = get_number(&reader, 8);
    reply.err = (enum leafd_err)get_number(&reader, 1);
    reply.batch = get_number(&reader, 8);
    reply.signature = get_bytes(&reader, SIGN_SIGNATURE_MAX);
    if (!done(&reader) || !is_reply(&reply))
        return LEAFD_MALFORMED;
    *ret = reply;
    return LEAFD_OK;
}

/* ---- disown ---- */

static bool is_batch(uint64_t batch)
{
    return batch > 0 && batch < BATCH_END;
}

size_t signer_msg_write_disown(const struct signer_msg_disown *disown, uint8_t *out, size_t size)
{
    struct msg_writer writer = begin(SIGNER_MSG_DISOWN, out, size);

    if (disown->count == 0 || disown->count > SIGNER_MSG_BATCHES_MAX)
        return 0;
    put_number(&writer, disown->count, 2);
    for (size_t i = 0; i < disown->count; i++) {
        if (!is_batch(disown->batch[i]))
            return 0;
        put_number(&writer, disown->batch[i], 8);
    }
    return written(&writer);
}

enum leafd_err signer_msg_read_disown(struct bytes message, struct signer_msg_disown *ret)
{
    struct msg_reader reader = open_message(SIGNER_MSG_DISOWN, message);
    size_t count = get_number(&reader, 2);

    if (count == 0 || count > SIGNER_MSG_BATCHES_MAX)
        return LEAFD_MALFORMED;
    ret->count = count;
    for (size_t i = 0; i < count; i++) {
        ret->batch[i] = get_number(&reader, 8);
        if (!is_batch(ret->batch[i]))
            return LEAFD_MALFORMED;
    }
    return done(&reader) ? LEAFD_OK : LEAFD_MALFORMED;
}
