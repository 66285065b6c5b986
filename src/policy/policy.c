/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/policy.h"

#include "base/digest.h"
#include "der/der_reader.h"
#include "der/x501_name.h"
#include "policy/deny_list.h"
#include "policy/leaf_type.h"
#include "policy/upstream_memo.h"

#include <stdlib.h>

enum { MEMO_MAX = 8 << 20, SAN_NAMES_MAX = 1000 /* the signer refuses more */ };

struct policy {
    const struct conf *conf;
    struct upstream_memo *memo;
    struct deny_list *deny;
};

enum leafd_err policy_new(const struct conf *conf, struct policy **ret)
{
    struct policy *policy = calloc(1, sizeof(*policy));
    enum leafd_err err = LEAFD_NOMEM;

    if (!policy)
        return LEAFD_NOMEM;
    policy->conf = conf;
    err = deny_list_new(conf->deny, conf->deny_count, &policy->deny, NULL);
    if (err)
        goto out;
    err = upstream_memo_new(MEMO_MAX, &policy->memo);
    if (err)
        goto out;
    *ret = policy;
    policy = NULL;
out:
    policy_free(policy);
    return err;
}

void policy_free(struct policy *policy)
{
    if (!policy)
        return;
    upstream_memo_free(policy->memo);
    deny_list_free(policy->deny);
    free(policy);
}

/* ---- the upstream leaf ---- */

/* The leaf as it was read before, or read now. LEAFD_UNSUPPORTED: it cannot be read. */
static enum leafd_err read_upstream(struct policy *policy, const struct request *request,
                                    struct upstream **ret, struct why *why)
{
    uint8_t scratch[WIRE_DATAGRAM_MAX], sha256[DIGEST_LEN];
    struct bytes der, content, whole;
    struct der cursor;
    uint8_t tag;
    enum leafd_err err = request_upstream_der(request, scratch, sizeof(scratch), &der, why);

    if (err)
        return err;
    cursor = der_of(der);
    if (!der_read_any(&cursor, &tag, &content, &whole))
        return fail(why, LEAFD_UNSUPPORTED, "the upstream certificate is not DER");
    err = digest_sha256(whole, sha256);
    if (err)
        return err;
    *ret = upstream_memo_get(policy->memo, sha256);
    if (*ret)
        return LEAFD_OK;
    err = upstream_read(whole, ret, why);
    if (err)
        return err;
    upstream_memo_put(policy->memo, *ret);
    return LEAFD_OK;
}

/* The leaf cannot be mimicked: an error, or (mimic.fallback: fresh) a leaf from the host alone.
 * What could be read and is wrong with it holds all the same: who refuses self-signed leaves does
 * not get a fresh one for them, and no fault in the dates is lost. */
static enum leafd_err fall_back(const struct conf *conf, struct plan *plan, struct why *why)
{
    plan->verdict.kind = VERDICT_UNREADABLE;
    plan->verdict.err = LEAFD_UNSUPPORTED;
    if (conf->mimic_fallback != CONF_FALLBACK_FRESH)
        return plan->upstream ? fail(why, LEAFD_UNSUPPORTED,
                                     "no name of the upstream certificate may stand in a leaf")
                              : LEAFD_UNSUPPORTED;
    if (plan->host.len == 0)
        return fail(why, LEAFD_REFUSED, "the host is too long for a certificate");
    if (plan->verdict.reasons & UPSTREAM_SELF_SIGNED &&
        conf->mimic_self_signed == CONF_SELF_SIGNED_REFUSE)
        return fail(why, LEAFD_REFUSED, "the upstream certificate is self-signed");
    plan->verdict.err = LEAFD_OK;
    if (plan->verdict.expired || plan->verdict.not_yet) {
        plan->profile = PROFILE_MINIMAL;
    } else {
        plan->profile = PROFILE_FRESH;
        upstream_unref(plan->upstream);
        plan->upstream = NULL;
    }
    plan->host_only = true;
    return LEAFD_OK;
}

/* Profile, verdict and upstream; LEAFD_OK when the plan can go on. */
static enum leafd_err judge(struct policy *policy, const struct request *request, int64_t now_sec,
                            struct plan *plan, struct why *why)
{
    const struct conf *conf = policy->conf;
    enum leafd_err err;

    if (request->cert_form == CERT_FORM_ABSENT) {
        plan->profile = PROFILE_FRESH;
        plan->host_only = true;
        return LEAFD_OK;
    }
    err = read_upstream(policy, request, &plan->upstream, why);
    if (err == LEAFD_UNSUPPORTED)
        return fall_back(conf, plan, why);
    if (err)
        return err;
    plan->verdict = verdict_of(plan->upstream, &plan->host, now_sec, conf);
    if (plan->verdict.err == LEAFD_UNSUPPORTED)
        return fall_back(conf, plan, why);
    if (plan->verdict.err)
        return fail(why, plan->verdict.err, "the upstream certificate is self-signed");
    plan->profile = PROFILE_MIMIC;
    plan->host_only = !conf->mimic_upstream_verified && plan->verdict.names_host;
    return LEAFD_OK;
}

/* ---- who signs, and what may stand in the leaf ---- */

static enum leafd_err choose_ca(const struct conf *conf, const struct ca_set *cas, int64_t now_sec,
                                struct plan *plan, struct why *why)
{
    const struct ca *ca = plan->verdict.untrusted ? cas->untrusted : cas->ca[0];

    if (plan->verdict.untrusted && conf->untrusted == CONF_UNTRUSTED_NONE)
        return fail(why, LEAFD_REFUSED,
                    "the upstream certificate is not to be trusted, and untrusted_ca is none");
    if (!ca)
        return fail(why, LEAFD_TOKEN_UNAVAILABLE, "the %sCA is not known yet",
                    plan->verdict.untrusted ? "untrusted " : "");
    if (now_sec > ca->not_after)
        return fail(why, LEAFD_REFUSED, "the CA, or an issuer of it, has expired");
    if (now_sec < ca->not_before && !plan->verdict.untrusted)
        return fail(why, LEAFD_REFUSED, "the CA, or an issuer of it, is not valid yet");
    plan->ca = ca_ref(ca);
    return LEAFD_OK;
}

static bool takes_names_away(const struct plan *plan)
{
    return !deny_list_is_empty(plan->deny) || plan->ca->constraints_count > 0;
}

/* By policy.deny, and by the CA's constraints once it is chosen. */
static enum leafd_err check_host(const struct plan *plan, struct why *why)
{
    if (plan->host.len == 0 || plan_allows_name(plan, &plan->host))
        return LEAFD_OK;
    return fail(why, LEAFD_REFUSED, "the host is denied by %s",
                plan->ca ? "the name constraints of the CA or its issuers" : "policy.deny");
}

/* The host must be allowed, and one name at least has to be left. */
static enum leafd_err check_names(const struct plan *plan, struct why *why)
{
    enum leafd_err err = check_host(plan, why);

    if (err || plan->host_only || !takes_names_away(plan))
        return err;
    for (size_t i = 0; i < plan->upstream->name_count; i++)
        if (plan_allows_name(plan, &plan->upstream->names[i]))
            return LEAFD_OK;
    return fail(why, LEAFD_UNSUPPORTED, "no name of the upstream certificate is allowed");
}

/* ---- the size of the reply ---- */

static size_t pem_len(size_t der_len)
{
    return (der_len + 2) / 3 * 4 * 65 / 64 + 60;
}

/* Octets of the GeneralNames, or a bound of them that is quickly told. */
static size_t names_len(const struct plan *plan, bool exactly, size_t *ret_count)
{
    enum { HEADER = 3 }; /* tag and length, of a name over 127 octets */
    const struct upstream *upstream = plan->upstream;
    size_t len = 0;

    *ret_count = plan->host_only ? 1 : upstream->name_count;
    if (plan->host_only)
        return HEADER + plan->host.len;
    if (!exactly)
        return upstream->name_count * (HEADER + NAME_DNS_MAX);
    *ret_count = 0;
    for (size_t i = 0; i < upstream->name_count; i++) {
        if (takes_names_away(plan) && !plan_allows_name(plan, &upstream->names[i]))
            continue;
        ++*ret_count;
        len += 2u + (upstream->names[i].len > 127) + upstream->names[i].len;
    }
    return len;
}

/* Does a reply with such a mimic fit a datagram? Told in PEM, the larger form; what is so close
 * that this errs, packet_path finds out. */
static bool fits(const struct policy *policy, const struct plan *plan,
                 const struct request *request, bool exactly)
{
    enum { FIXED = 220, CRL_POINT_FIXED = 33 /* 7 headers and an OID */, REPLY_FIXED = 40 };
    const struct ca *ca = plan->ca;
    const struct leaf_type *key = leaf_type_find(plan->key_type, plan->rsa_bits);
    size_t count, len = FIXED + names_len(plan, exactly, &count);

    len += 2 * ca->algorithm_der.len + ca->subject.len + ca->key_id.len +
           sig_algorithm_max_len(ca->algorithm, ca->key_bits);
    len += plan->upstream->subject.len + key->spki_len;
    if (policy->conf->ca_crl_url && policy->conf->ca_crl_url[0])
        len += CRL_POINT_FIXED + bytes_of(policy->conf->ca_crl_url).len;
    len = pem_len(len) + ca->chain_pem.len + request->host.len + REPLY_FIXED;
    len += request->dialect == DIALECT_NAMES ? pem_len(key->pkcs8_len) : key->private_len;
    return len <= WIRE_DATAGRAM_MAX && count <= SAN_NAMES_MAX;
}

/* Too large for a reply: minimal if the upstream names the host. */
static enum leafd_err check_size(const struct policy *policy, const struct request *request,
                                 struct plan *plan, struct why *why)
{
    if (plan->profile != PROFILE_MIMIC || fits(policy, plan, request, false) ||
        fits(policy, plan, request, true))
        return LEAFD_OK;
    if (!plan->verdict.names_host)
        return fail(why, LEAFD_TOO_LARGE,
                    "the upstream certificate is too large to be mimicked, "
                    "and it does not name the host");
    plan->profile = PROFILE_MINIMAL;
    plan->host_only = true;
    return LEAFD_OK;
}

/* ---- the leaf's key ---- */

/* Which key a leaf gets where its upstream has this one. */
static enum key_type key_type_like(enum key_type upstream, enum conf_leaf_key mode)
{
    static const struct {
        enum key_type compatible; /* what browsers take */
        enum key_type same;       /* leaf.key: upstream */
    } of[KEY_TYPE_COUNT] = {
        [KEY_TYPE_NONE] = {KEY_TYPE_P256, KEY_TYPE_P256},
        [KEY_TYPE_RSA] = {KEY_TYPE_RSA, KEY_TYPE_RSA},
        [KEY_TYPE_P256] = {KEY_TYPE_P256, KEY_TYPE_P256},
        [KEY_TYPE_P384] = {KEY_TYPE_P384, KEY_TYPE_P384},
        [KEY_TYPE_P521] = {KEY_TYPE_P384, KEY_TYPE_P521},
        [KEY_TYPE_ED25519] = {KEY_TYPE_P256, KEY_TYPE_ED25519},
        [KEY_TYPE_ED448] = {KEY_TYPE_P256, KEY_TYPE_ED448},
        [KEY_TYPE_SM2] = {KEY_TYPE_SM2, KEY_TYPE_SM2},
        [KEY_TYPE_OTHER_EC] = {KEY_TYPE_P256, KEY_TYPE_P256},
        [KEY_TYPE_DSA] = {KEY_TYPE_P256, KEY_TYPE_P256},
    };

    if ((unsigned)upstream >= KEY_TYPE_COUNT)
        return KEY_TYPE_P256;
    return mode == CONF_LEAF_KEY_UPSTREAM ? of[upstream].same : of[upstream].compatible;
}

/* Of any of them, whichever signs: no client shall take a leaf for a CA's. */
static bool is_named_as_ca(const struct upstream *upstream, const struct ca_set *cas)
{
    for (size_t i = 0; upstream && i < cas->count; i++)
        if (x501_name_equal(upstream->subject, cas->ca[i]->subject))
            return true;
    return false;
}

/* TLCP clients know no curve but SM2's. */
static enum key_type fresh_key_type(enum usage usage)
{
    return usage == USAGE_TLCP_SIGNATURE || usage == USAGE_TLCP_ENCRYPTION ? KEY_TYPE_SM2
                                                                           : KEY_TYPE_P256;
}

static enum leafd_err choose_key(const struct conf *conf, struct plan *plan, struct why *why)
{
    const struct upstream *upstream = plan->upstream;
    unsigned rsa_bits = conf->leaf_rsa_bits;

    if (conf->leaf_key == CONF_LEAF_KEY_TYPE)
        plan->key_type = (enum key_type)conf->leaf_key_type;
    else if (upstream)
        plan->key_type = key_type_like(upstream->key_type, conf->leaf_key);
    else
        plan->key_type = fresh_key_type(plan->usage);
    if (conf->leaf_key == CONF_LEAF_KEY_UPSTREAM && upstream)
        rsa_bits = leaf_type_rsa_bits(upstream->key_bits);
    plan->rsa_bits = plan->key_type == KEY_TYPE_RSA ? rsa_bits : 0;
    if (!leaf_type_find(plan->key_type, plan->rsa_bits))
        return fail(why, LEAFD_INTERNAL, "leaf.key and leaf.rsa_bits name no key that is made");
    return LEAFD_OK;
}

/* ---- all of it ---- */

static enum leafd_err decide(struct policy *policy, const struct request *request,
                             const struct ca_set *cas, int64_t now_sec, struct plan *plan,
                             struct why *why)
{
    bool with_cert = request->cert_form != CERT_FORM_ABSENT;
    enum leafd_err err = name_of_host(request->host, with_cert, &plan->host, why);

    if (!err)
        err = check_host(plan, why);
    if (!err)
        err = judge(policy, request, now_sec, plan, why);
    if (!err)
        err = choose_ca(policy->conf, cas, now_sec, plan, why);
    if (!err)
        err = check_names(plan, why);
    if (err)
        return err;
    plan->named_as_ca = is_named_as_ca(plan->upstream, cas);
    err = choose_key(policy->conf, plan, why);
    if (!err)
        err = check_size(policy, request, plan, why);
    if (err)
        return err;
    plan_set_dates(plan, policy->conf->leaf_lifetime_sec, now_sec);
    plan_seal(plan);
    return LEAFD_OK;
}

enum leafd_err policy_plan(struct policy *policy, const struct request *request,
                           const struct ca_set *cas, int64_t now_sec, struct plan *ret,
                           struct why *why)
{
    struct plan plan = {.usage = request->usage, .deny = policy->deny};
    enum leafd_err err = decide(policy, request, cas, now_sec, &plan, why);

    if (err) {
        *ret = (struct plan){.verdict = plan.verdict};
        plan_clear(&plan);
        return err;
    }
    plan_steal(ret, &plan);
    return LEAFD_OK;
}

enum leafd_err policy_plan_smaller(const struct plan *plan, const struct name *host,
                                   struct plan *ret, struct why *why)
{
    struct plan smaller = *plan;

    if (plan->profile != PROFILE_MIMIC || !plan->upstream || host->len == 0 ||
        !upstream_names_host(plan->upstream, host))
        return fail(why, LEAFD_TOO_LARGE,
                    "the leaf is too large for a reply, and its upstream does not name the host");
    smaller.profile = PROFILE_MINIMAL;
    smaller.host = *host;
    smaller.host_only = true;
    smaller.verdict.names_host = true;
    smaller.ca = ca_ref(plan->ca);
    smaller.upstream = upstream_ref(plan->upstream);
    plan_seal(&smaller);
    plan_steal(ret, &smaller);
    return LEAFD_OK;
}
