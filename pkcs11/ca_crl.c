/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "pkcs11/ca_crl.h"

#include "base/clock.h"
#include "pkcs11/backend.h"
#include "pkcs11/signer.h"
#include "policy/crl.h"

#include <stdlib.h>

enum { HOUR_SEC = 3600, DAY_SEC = 86400 };

static enum leafd_err check_ca(const struct ca *ca, int64_t now, struct why *why)
{
    if (!ca->crl_sign)
        return fail(
            why, LEAFD_CONFIG,
            "the CA's key usage is without cRLSign, so no client would take its CRL; it "
            "needs a certificate with keyCertSign and cRLSign, as leafctl ca init makes it");
    if (!ca_is_valid_at(ca, now))
        return fail(why, LEAFD_CONFIG, "the CA has expired, or is not valid yet");
    return LEAFD_OK;
}

static struct crl fields_of(const struct ca *ca, const struct ca_crl_options *options, int64_t now)
{
    unsigned days = options->days ? options->days : CA_CRL_DAYS_DEFAULT;
    struct crl crl = {.this_update = now - HOUR_SEC,
                      .next_update = now + (int64_t)days * DAY_SEC,
                      .number = (uint64_t)clock_wall_ms()};
    struct crl before;

    if (crl.this_update < ca->not_before)
        crl.this_update = ca->not_before;
    if (crl.next_update > ca->not_after)
        crl.next_update = ca->not_after;
    if (crl_read(options->before, ca, &before, NULL) == LEAFD_OK && before.number >= crl.number &&
        before.number < UINT64_MAX)
        crl.number = before.number + 1;
    return crl;
}

static enum leafd_err sign(const struct conf *conf, const struct ca_set *cas,
                           const struct secret *pin, struct bytes tbs, uint8_t *out, size_t size,
                           size_t *ret_len, struct why *why)
{
    struct backend *backend = NULL;
    struct backend_lane *lane = NULL;
    enum leafd_err err = backend_open(conf, 0, cas, pin, &backend, why);

    if (err == LEAFD_OK)
        err = backend_lane_open(backend, &lane, why);
    if (err == LEAFD_OK)
        err = backend_lane_sign(lane, 0, tbs, out, size, ret_len, why);
    backend_lane_close(lane);
    backend_close(backend);
    return err;
}

enum leafd_err ca_crl_make(const struct conf *conf, const struct ca_set *cas,
                           const struct secret *pin, const struct ca_crl_options *options,
                           struct bytes *ret_der, struct why *why)
{
    const struct ca *ca = cas->ca[0];
    size_t size = crl_size(ca);
    uint8_t *tbs_room = malloc(size);
    uint8_t *room = malloc(size);
    uint8_t signature[SIGN_SIGNATURE_MAX];
    size_t signature_len = 0;
    int64_t now = clock_wall_sec();
    struct der_writer writer;
    struct bytes tbs;
    struct bytes der;
    struct crl crl;
    enum leafd_err err = LEAFD_NOMEM;

    if (!tbs_room || !room)
        goto out;
    err = check_ca(ca, now, why);
    if (err != LEAFD_OK)
        goto out;
    crl = fields_of(ca, options, now);
    writer = der_writer_of(tbs_room, size);
    crl_put_tbs(&writer, ca, &crl);
    tbs = der_written(&writer);
    if (!tbs.data) {
        err = fail(why, LEAFD_INTERNAL, "the CRL does not fit the room for it");
        goto out;
    }
    err = sign(conf, cas, pin, tbs, signature, sizeof(signature), &signature_len, why);
    if (err != LEAFD_OK)
        goto out;
    writer = der_writer_of(room, size);
    crl_put(&writer, ca, tbs, (struct bytes){signature, signature_len});
    der = der_written(&writer);
    err = crl_read(der, ca, &crl, why);
    if (err != LEAFD_OK) {
        err = fail_in(why, LEAFD_INTERNAL, "the CRL that was made is not good");
        goto out;
    }
    der = bytes_copy(der);
    if (!der.data) {
        err = LEAFD_NOMEM;
        goto out;
    }
    *ret_der = der;
out:
    free(tbs_room);
    free(room);
    return err;
}
