/* SPDX-License-Identifier: Apache-2.0 */
#include "pkcs11/token_probe.h"

#include "base/clock.h"
#include "pkcs11/backend_ops.h"
#include "pkcs11/token_key.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct probe {
    const struct conf *conf;
    const struct ca_set *cas;
    const struct secret *pin;
    const struct token_probe_options *options;
    struct token_probe *report;
};

__attribute__((format(printf, 2, 3))) static void tell(const struct probe *probe,
                                                       const char *format, ...)
{
    char text[128];
    va_list args;

    if (!probe->options->progress)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    probe->options->progress(text);
}

/* ---- rates ---- */

/* With 1, 2, 4, … lanes; with more of them only while none fails. */
static enum leafd_err measure(const struct probe *probe, const struct sign_rate_key *key,
                              unsigned lanes, struct token_probe_key *to)
{
    enum leafd_err err = LEAFD_OK;
    unsigned last = 0;

    for (unsigned now = 1; last < lanes && to->rate_count < TOKEN_RATES_MAX && err == LEAFD_OK;
         now *= 2) {
        struct sign_rate *rate = &to->rate[to->rate_count];

        last = now < lanes && to->rate_count + 1 < TOKEN_RATES_MAX ? now : lanes;
        tell(probe, "signing with %u %s at once ...", last, last == 1 ? "session" : "sessions");
        err = sign_rate_measure(key, last, probe->options->each_ms, rate);
        if (err != LEAFD_OK)
            break;
        to->rate_count++;
        if (rate->failures) {
            snprintf(to->failure, sizeof(to->failure), "%s", rate->failure);
            break;
        }
    }
    return err;
}

/* ---- the configured CAs: through the backend, as leafd has it ---- */

/* Is a session that is opened behind the login's back logged in? While no lane is at work. */
static enum token_answer ask_whether_shared(struct token_module *module, CK_SLOT_ID slot)
{
    enum token_answer answer = TOKEN_UNKNOWN;
    CK_SESSION_HANDLE session;
    CK_SESSION_INFO info = {0};

    if (TOKEN_CALL(module, C_OpenSession, slot, CKF_SERIAL_SESSION, NULL, NULL, &session) != CKR_OK)
        return TOKEN_UNKNOWN;
    if (TOKEN_CALL(module, C_GetSessionInfo, session, &info) == CKR_OK)
        answer = info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS
                     ? TOKEN_YES
                     : TOKEN_NO;
    (void)TOKEN_CALL(module, C_CloseSession, session);
    return answer;
}

static void name_type(enum key_type type, unsigned bits, char out[static 16])
{
    if (type == KEY_TYPE_RSA)
        snprintf(out, 16, "rsa-%u", bits);
    else
        snprintf(out, 16, "%s", key_type_name(type));
}

static enum leafd_err probe_backend_keys(const struct probe *probe, struct backend *backend)
{
    struct token_probe *report = probe->report;
    enum leafd_err err = LEAFD_OK;

    report->lanes = backend_lanes(backend);
    for (size_t i = 0; i < backend->key_count && err == LEAFD_OK; i++) {
        struct token_probe_key *to = &report->key[report->key_count++];
        const struct ca *ca = backend_ca(backend, i);
        struct sign_rate_key key = {backend, i, NULL, ca->public_key};

        to->is_ca = true;
        to->key.ca_index = i;
        name_type(ca->key_type, ca->key_bits, to->type);
        if (backend->ops->report)
            backend->ops->report(backend, i, &to->key);
        err = measure(probe, &key, report->lanes, to);
    }
    report->lanes = backend_lanes(backend);
    return err;
}

static enum leafd_err probe_cas(const struct probe *probe, struct why *why)
{
    struct token_probe *report = probe->report;
    struct conf conf = *probe->conf;
    struct backend_counters counters;
    struct backend *backend;
    enum leafd_err err;

    if (probe->options->sessions)
        conf.token[0].sessions = probe->options->sessions;
    report->sessions_wanted = conf.token[0].sessions;
    tell(probe, "opening the CA's key as leafd does ...");
    err = backend_open(&conf, 0, probe->cas, probe->pin, &backend, why);
    if (err != LEAFD_OK)
        return err;
    err = probe_backend_keys(probe, backend);
    if (backend->tokens.module && report->facts.token.login_required)
        report->login_is_shared =
            ask_whether_shared(backend->tokens.module, report->facts.token.slot);
    backend_count(backend, &counters);
    report->logins = counters.logins;
    backend_close(backend);
    return err;
}

/* ---- a key or a token that is in no configuration ---- */

struct opened {
    struct token_uri *uri;
    struct token_module *module;
    struct token *token;
};

static void opened_close(struct opened *opened)
{
    token_free(opened->token);
    token_module_close(opened->module);
    token_uri_free(opened->uri);
}

/* The PIN that was given, if it is this token's; another token's is never tried. */
static const struct secret *pin_of(const struct probe *probe, struct token_module *module,
                                   CK_SLOT_ID slot)
{
    struct token_uri *uri;
    CK_SLOT_ID its_slot = 0;
    bool is_its = true;

    if (!probe->options->pin_uri)
        return probe->pin;
    if (token_uri_parse(probe->options->pin_uri, &uri, NULL) != LEAFD_OK)
        return NULL;
    is_its = token_find_slot(module, uri, &its_slot, NULL) == LEAFD_OK && its_slot == slot;
    token_uri_free(uri);
    return is_its ? probe->pin : NULL;
}

/* Is there one? What to do is another thing than in a configuration. */
static enum leafd_err check_pin(const struct probe *probe, const struct opened *opened,
                                CK_SLOT_ID slot, struct why *why)
{
    const struct secret *pin = pin_of(probe, opened->module, slot);
    CK_FLAGS flags = opened->token->info.flags;
    struct secret own = SECRET_EMPTY;
    enum leafd_err err;

    if ((pin && pin->len) || !(flags & CKF_LOGIN_REQUIRED) ||
        flags & CKF_PROTECTED_AUTHENTICATION_PATH)
        return LEAFD_OK;
    err = token_uri_pin(opened->uri, &own, why);
    secret_clear(&own);
    if (err == LEAFD_ABSENT)
        err = fail(why, LEAFD_PIN,
                   "token \"%s\" wants a PIN and none is given: --pin-file FILE gives it",
                   opened->token->label);
    return err;
}

static enum leafd_err log_in(const struct probe *probe, struct opened *opened, struct why *why)
{
    const struct conf_token *token = probe->conf->token;
    struct token_probe *report = probe->report;
    unsigned wanted = probe->options->sessions ? probe->options->sessions : token->sessions;
    /* Key pairs are made in sessions that may write, where the token has such. */
    CK_FLAGS flags =
        probe->options->make_keys && !report->facts.write_protected ? CKF_RW_SESSION : 0;
    enum leafd_err err = token_module_open(token, &opened->module, why);
    CK_SLOT_ID slot;

    if (err == LEAFD_OK)
        err = token_find_slot(opened->module, opened->uri, &slot, why);
    if (err == LEAFD_OK)
        err = token_new(opened->module, slot, flags, wanted, &opened->token, why);
    if (err != LEAFD_OK)
        return err;
    opened->token->wait_ms = token->timeout_ms;
    report->sessions_wanted = wanted;
    err = check_pin(probe, opened, slot, why);
    if (err != LEAFD_OK)
        return err;
    err = token_login(opened->token, opened->uri, pin_of(probe, opened->module, slot), why);
    report->logins = atomic_load(&opened->token->logins);
    if (err == LEAFD_OK && report->facts.token.login_required)
        report->login_is_shared = ask_whether_shared(opened->module, slot);
    for (unsigned i = 0; i < wanted && err == LEAFD_OK; i++)
        err = session_pool_grow(opened->token->pool, why);
    return err;
}

/* `failure` has the sentence when the key cannot be tried. */
static enum leafd_err try_pair(const struct probe *probe, struct opened *opened,
                               const struct key_pair *pair, struct token_probe_key *to)
{
    struct sign_rate_key key = {NULL, 0, NULL, pair->public_key};
    struct why why = {""};
    enum leafd_err err = token_key_of_handle(opened->token, pair->private_object, pair->algorithm,
                                             pair->bits, &key.key, &why);

    if (err != LEAFD_OK) {
        snprintf(to->failure, sizeof(to->failure), "%.199s", why.text);
        return LEAFD_OK;
    }
    token_key_describe(key.key, &to->key);
    err = measure(probe, &key, session_pool_limit(opened->token->pool), to);
    token_key_free(key.key);
    return err;
}

static enum key_type key_type_of(enum sig_algorithm algorithm)
{
    return sig_algorithm_is_rsa(algorithm) ? KEY_TYPE_RSA
           : algorithm == SIG_ECDSA_SHA256 ? KEY_TYPE_P256
           : algorithm == SIG_ECDSA_SHA384 ? KEY_TYPE_P384
                                           : KEY_TYPE_ED25519;
}

static enum leafd_err probe_named_key(const struct probe *probe, struct opened *opened,
                                      struct why *why)
{
    struct token_probe_key *to = &probe->report->key[0];
    struct key_pair pair = KEY_PAIR_EMPTY;
    enum leafd_err err = key_pair_find(opened->token, opened->uri, &pair, why);

    if (err != LEAFD_OK)
        return err;
    probe->report->key_count = 1;
    name_type(key_type_of(pair.algorithm), pair.bits, to->type);
    err = try_pair(probe, opened, &pair, to);
    key_pair_clear(&pair);
    return err;
}

static enum leafd_err probe_made_key(const struct probe *probe, struct opened *opened,
                                     enum ca_key type)
{
    struct token_probe_key *to = &probe->report->key[probe->report->key_count++];
    struct key_pair pair = KEY_PAIR_EMPTY;
    int64_t begin_ms = clock_mono_ms();
    struct why why = {""};
    enum leafd_err err;

    to->made = true;
    snprintf(to->type, sizeof(to->type), "%s", ca_key_word(type));
    tell(probe, "making a key of type %s for this session ...", to->type);
    err = key_pair_make_in_session(opened->token, type, &pair, &why);
    to->made_ms = (uint32_t)(clock_mono_ms() - begin_ms);
    if (err != LEAFD_OK) {
        snprintf(to->failure, sizeof(to->failure), "%.199s", why.text);
        return err == LEAFD_NOMEM ? err : LEAFD_OK;
    }
    err = try_pair(probe, opened, &pair, to);
    key_pair_destroy(opened->token, &pair);
    key_pair_clear(&pair);
    return err;
}

static enum leafd_err probe_uri(const struct probe *probe, struct why *why)
{
    const struct token_probe_options *options = probe->options;
    struct opened opened = {NULL, NULL, NULL};
    bool names_key = false;
    enum leafd_err err = token_uri_parse(options->uri, &opened.uri, why);

    if (err != LEAFD_OK)
        return err;
    names_key = token_uri_label(opened.uri).len || token_uri_id(opened.uri).len;
    if (names_key || options->make_keys)
        err = log_in(probe, &opened, why);
    if (err == LEAFD_OK && names_key)
        err = probe_named_key(probe, &opened, why);
    for (unsigned i = 0; err == LEAFD_OK && !names_key && options->make_keys && i < CA_KEY_COUNT;
         i++)
        if (!options->only || *options->only == (enum ca_key)i)
            err = probe_made_key(probe, &opened, (enum ca_key)i);
    if (opened.token && err == LEAFD_OK)
        probe->report->lanes = session_pool_limit(opened.token->pool);
    opened_close(&opened);
    return err;
}

/* ---- both ---- */

static const char *probed_uri(const struct probe *probe)
{
    return probe->options->uri ? probe->options->uri : conf_token_key(probe->conf, 0, 0);
}

/* The module is closed again, so that a signer's way to it begins as it does for leafd. */
static enum leafd_err find_facts(const struct probe *probe, struct why *why)
{
    unsigned sessions = probe->options->sessions ? probe->options->sessions : TOKEN_SESSIONS_TRIED;
    struct token_module *module = NULL;
    struct token_uri *uri = NULL;
    CK_SLOT_ID slot;
    enum leafd_err err = token_uri_parse(probed_uri(probe), &uri, why);

    if (err != LEAFD_OK)
        return err;
    tell(probe, "asking the token what it can do ...");
    err = token_module_open(probe->conf->token, &module, why);
    if (err == LEAFD_OK)
        err = token_find_slot(module, uri, &slot, why);
    if (err == LEAFD_OK)
        err = token_facts_find(module, slot, sessions, &probe->report->facts, why);
    probe->report->has_facts = err == LEAFD_OK;
    token_module_close(module);
    token_uri_free(uri);
    return err;
}

enum leafd_err token_probe(const struct conf *conf, const struct ca_set *cas,
                           const struct secret *pin, const struct token_probe_options *options,
                           struct token_probe *ret, struct why *why)
{
    struct token_probe *report = calloc(1, sizeof(*report));
    struct probe probe = {conf, cas, pin, options, report};
    enum leafd_err err = LEAFD_OK;

    if (!report)
        return LEAFD_NOMEM;
    report->login_is_shared = TOKEN_UNKNOWN;
    if (conf->token[0].access != CONF_ACCESS_FILE)
        err = find_facts(&probe, why);
    if (err != LEAFD_OK)
        goto out;
    if (options->uri)
        report->err = probe_uri(&probe, &report->why);
    else if (cas)
        report->err = probe_cas(&probe, &report->why);
    *ret = *report;
out:
    free(report);
    return err;
}
