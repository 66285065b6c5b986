/* SPDX-License-Identifier: Apache-2.0 */
/* Any datagram, as a listener and as a client read it. What must hold: nothing is read outside the
 * datagram, what is read can be written and read again, no error reply is a request, and msgpack-c
 * finds the same host where we accept. */
#include "tests/fuzz/fuzz.h"

#include "wire/request.h"
#include "wire/response.h"

#include <msgpack.h>
#include <stdlib.h>

static void write_and_read_again(const struct request *from)
{
    static uint8_t out[WIRE_DATAGRAM_MAX];
    size_t len = request_write(from, out, sizeof(out));
    struct request to;

    if (len == 0)
        return;
    must(request_read((struct bytes){out, len}, false, &to, NULL) == LEAFD_OK);
    must(bytes_equal(to.host, from->host));
    must(to.service == from->service && to.usage == from->usage);
    must(to.cert_form == from->cert_form);
}

static void error_is_no_request(const struct request *request)
{
    uint8_t out[512];
    size_t len = response_write_error(request, LEAFD_TOKEN_UNAVAILABLE, out, sizeof(out));
    size_t host = request->host_was_read && request->host.len <= 253 ? request->host.len : 0;
    struct request again;

    must(len > 0 && len <= 48 + host);
    must(request_read((struct bytes){out, len}, false, &again, NULL) == LEAFD_DROP);
}

/* The text of the host as the tree has it, wherever it stands. */
static bool tree_has_host(const msgpack_object *root, struct bytes host)
{
    size_t count = root->type == MSGPACK_OBJECT_MAP ? root->via.map.size : 0;

    if (root->type == MSGPACK_OBJECT_STR)
        return root->via.str.size == host.len;
    for (size_t i = 0; i < count; i++) {
        const msgpack_object *value = &root->via.map.ptr[i].val;

        if ((value->type == MSGPACK_OBJECT_STR || value->type == MSGPACK_OBJECT_BIN) &&
            bytes_equal(host,
                        (struct bytes){(const uint8_t *)value->via.str.ptr, value->via.str.size}))
            return true;
    }
    return false;
}

static void library_agrees(struct bytes datagram, const struct request *request)
{
    msgpack_unpacked unpacked;
    size_t used = 0;

    msgpack_unpacked_init(&unpacked);
    /* The library's own bound of nesting may be met before ours. */
    if (msgpack_unpack_next(&unpacked, (const char *)datagram.data, datagram.len, &used) ==
        MSGPACK_UNPACK_SUCCESS)
        must(tree_has_host(&unpacked.data, request->host));
    msgpack_unpacked_destroy(&unpacked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t scratch[WIRE_DATAGRAM_MAX];
    bool cut = size > WIRE_DATAGRAM_MAX;
    struct bytes datagram = {data, cut ? WIRE_DATAGRAM_MAX : size};
    struct response_view view;
    struct request request;
    struct bytes der;
    struct why why;
    enum leafd_err err = request_read(datagram, cut, &request, &why);

    must(err == LEAFD_OK || err == LEAFD_MALFORMED || err == LEAFD_UNSUPPORTED ||
         err == LEAFD_DROP);
    must(err != LEAFD_OK || (request.host_was_read && !cut));
    if (err == LEAFD_OK) {
        library_agrees(datagram, &request);
        write_and_read_again(&request);
        if (request_upstream_der(&request, scratch, sizeof(scratch), &der, &why) == LEAFD_OK)
            must(der.len > 0 && der.len <= WIRE_DATAGRAM_MAX);
    }
    if (err != LEAFD_DROP)
        error_is_no_request(&request);
    if (response_read(datagram, &view, &why) == LEAFD_OK)
        must(view.error.len > 0 || (view.cert.len > 0 && view.key.len > 0));
    return 0;
}
