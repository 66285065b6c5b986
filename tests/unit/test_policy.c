/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"
#include "policy/key_usage.h"
#include "policy/leaf_type.h"
#include "policy/policy.h"
#include "policy/upstream_memo.h"
#include "tests/lib/make_cert.h"
#include "tests/lib/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 86400 };
static const int64_t NOW = 1790000000;

static struct conf conf_default(void)
{
    return (struct conf){
        .leaf_lifetime_sec = 90 * DAY,
        .leaf_rsa_bits = 2048,
        .mimic_upstream_verified = true,
    };
}

static struct name name_of(const char *text)
{
    struct name name;

    assert_int_equal(name_of_host(bytes_of(text), true, &name, NULL), LEAFD_OK);
    return name;
}

/* ---- KeyUsage ---- */

static void key_usage_follows_key_and_usage(void **state)
{
    (void)state;
    assert_int_equal(key_usage_bits(KEY_TYPE_RSA, USAGE_TLS_SERVER), 0xa0);
    assert_int_equal(key_usage_bits(KEY_TYPE_P256, USAGE_TLS_SERVER), 0x80);
    assert_int_equal(key_usage_bits(KEY_TYPE_ED25519, USAGE_TLS_SERVER), 0x80);
    assert_int_equal(key_usage_bits(KEY_TYPE_RSA, USAGE_TLS_SERVER_TONGSUO), 0xa8);
    assert_int_equal(key_usage_bits(KEY_TYPE_P384, USAGE_TLS_SERVER_TONGSUO), 0x88);
    assert_int_equal(key_usage_bits(KEY_TYPE_P256, USAGE_TLCP_SIGNATURE), 0xc0);
    assert_int_equal(key_usage_bits(KEY_TYPE_P256, USAGE_TLCP_ENCRYPTION), 0x38);
    assert_int_equal(key_usage_bits(KEY_TYPE_SM2, USAGE_TLS_SERVER), 0x80);
    assert_int_equal(key_usage_bits(KEY_TYPE_SM2, USAGE_TLCP_SIGNATURE), 0xc0);
    assert_int_equal(key_usage_bits(KEY_TYPE_SM2, USAGE_TLCP_ENCRYPTION), 0x38);
    assert_int_equal(key_usage_bits(KEY_TYPE_ED448, USAGE_TLS_SERVER), 0x80);
    assert_int_equal(key_usage_bits(KEY_TYPE_P521, USAGE_TLS_SERVER), 0x80);
    assert_true(key_usage_is_ours(KEY_TYPE_RSA, 0xa0));
    assert_true(key_usage_is_ours(KEY_TYPE_P256, 0x38));
    assert_false(key_usage_is_ours(KEY_TYPE_P256, 0xa0));
    assert_false(key_usage_is_ours(KEY_TYPE_RSA, 0x04)); /* keyCertSign */
    assert_false(key_usage_is_ours(KEY_TYPE_RSA, 0xa4));
    assert_false(key_usage_is_ours(KEY_TYPE_RSA, 0));
}

/* ---- verdicts ---- */

/* An upstream leaf for www.example.org as it would have been read. */
struct paper {
    struct name names[2];
    struct upstream upstream;
};

static struct upstream *paper_init(struct paper *paper, unsigned flags)
{
    memset(paper, 0, sizeof(*paper));
    paper->names[0] = name_of("www.example.org");
    paper->names[1] = name_of("192.0.2.7");
    paper->upstream = (struct upstream){
        .refs = 1000,
        .flags = flags,
        .not_before = NOW - 10 * DAY,
        .not_after = NOW + 80 * DAY,
        .key_type = KEY_TYPE_P256,
        .subject = {(const uint8_t *)"\x30\x00", 2},
        .name_count = 2,
        .names = paper->names,
    };
    return &paper->upstream;
}

static struct verdict judge(unsigned flags, enum conf_self_signed self_signed)
{
    struct conf conf = conf_default();
    struct name host = name_of("www.example.org");
    struct paper paper;

    conf.mimic_self_signed = self_signed;
    return verdict_of(paper_init(&paper, flags), &host, NOW, &conf);
}

static void every_flag_has_its_row(void **state)
{
    static const struct {
        unsigned flags;
        enum verdict_kind kind;
        bool untrusted;
    } rows[] = {
        {0, VERDICT_GOOD, false},
        {UPSTREAM_V1, VERDICT_LEGACY, false},
        {UPSTREAM_CN_ONLY, VERDICT_LEGACY, false},
        {UPSTREAM_CA_TRUE, VERDICT_LEGACY, false},
        {UPSTREAM_ODD_FORMS, VERDICT_LEGACY, false},
        {UPSTREAM_ODD_SERIAL, VERDICT_LEGACY, false},
        {UPSTREAM_RSA_SHORT, VERDICT_LEGACY, false},
        {UPSTREAM_SELF_SIGNED, VERDICT_SELF_SIGNED, true},
        {UPSTREAM_EKU_FOREIGN, VERDICT_UNTRUSTED, true},
        {UPSTREAM_KU_FOREIGN, VERDICT_UNTRUSTED, true},
        {UPSTREAM_UNKNOWN_CRITICAL, VERDICT_UNTRUSTED, true},
        {UPSTREAM_CT_POISON, VERDICT_UNTRUSTED, true},
        {UPSTREAM_DUPLICATED, VERDICT_UNTRUSTED, true},
        {UPSTREAM_KEY_WEAK, VERDICT_UNTRUSTED, true},
        {UPSTREAM_SIGNATURE_WEAK, VERDICT_UNTRUSTED, true},
        {UPSTREAM_V1 | UPSTREAM_SIGNATURE_WEAK, VERDICT_UNTRUSTED, true},
        {UPSTREAM_SELF_SIGNED | UPSTREAM_KEY_WEAK, VERDICT_UNTRUSTED, true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct verdict verdict = judge(rows[i].flags, CONF_SELF_SIGNED_UNTRUSTED);

        assert_int_equal(verdict.kind, rows[i].kind);
        assert_int_equal(verdict.untrusted, rows[i].untrusted);
        assert_int_equal(verdict.err, LEAFD_OK);
        assert_int_equal(verdict.reasons, rows[i].flags);
        assert_true(verdict.names_host);
    }
}

static void ca_true_is_legacy_only_where_not_self_signed(void **state)
{
    unsigned flags = UPSTREAM_CA_TRUE | UPSTREAM_SELF_SIGNED;
    struct verdict verdict = judge(flags, CONF_SELF_SIGNED_UNTRUSTED);

    (void)state;
    assert_int_equal(verdict.kind, VERDICT_SELF_SIGNED);
    assert_int_equal(verdict.reasons, UPSTREAM_SELF_SIGNED);
    assert_true(verdict.untrusted);
}

static void self_signed_mimic_lifts_that_row_alone(void **state)
{
    struct verdict verdict;

    (void)state;
    verdict = judge(UPSTREAM_SELF_SIGNED, CONF_SELF_SIGNED_MIMIC);
    assert_int_equal(verdict.kind, VERDICT_GOOD);
    assert_false(verdict.untrusted);
    verdict = judge(UPSTREAM_SELF_SIGNED | UPSTREAM_CA_TRUE, CONF_SELF_SIGNED_MIMIC);
    assert_int_equal(verdict.kind, VERDICT_LEGACY);
    assert_false(verdict.untrusted);
    verdict = judge(UPSTREAM_SELF_SIGNED | UPSTREAM_SIGNATURE_WEAK, CONF_SELF_SIGNED_MIMIC);
    assert_int_equal(verdict.kind, VERDICT_UNTRUSTED);
    assert_true(verdict.untrusted);
}

static void error_beats_refuse_beats_untrusted(void **state)
{
    struct verdict verdict;

    (void)state;
    verdict = judge(UPSTREAM_SELF_SIGNED | UPSTREAM_KEY_WEAK, CONF_SELF_SIGNED_REFUSE);
    assert_int_equal(verdict.err, LEAFD_REFUSED);
    verdict = judge(UPSTREAM_SELF_SIGNED | UPSTREAM_NO_NAMES, CONF_SELF_SIGNED_REFUSE);
    assert_int_equal(verdict.err, LEAFD_UNSUPPORTED);
    assert_int_equal(verdict.kind, VERDICT_UNREADABLE);
}

static void dates_and_names_are_judged_for_each_request(void **state)
{
    struct conf conf = conf_default();
    struct name host = name_of("www.example.org"), other = name_of("example.com"), ip;
    struct paper paper;
    struct upstream *upstream = paper_init(&paper, 0);
    struct verdict verdict;

    (void)state;
    ip = name_of("192.0.2.7");
    assert_int_equal(verdict_of(upstream, &ip, NOW, &conf).kind, VERDICT_GOOD);
    assert_int_equal(verdict_of(upstream, &host, upstream->not_after, &conf).kind, VERDICT_GOOD);
    verdict = verdict_of(upstream, &host, upstream->not_after + 1, &conf);
    assert_int_equal(verdict.kind, VERDICT_DATES);
    assert_true(verdict.expired && !verdict.not_yet && !verdict.untrusted);
    assert_int_equal(verdict_of(upstream, &host, upstream->not_before, &conf).kind, VERDICT_GOOD);
    verdict = verdict_of(upstream, &host, upstream->not_before - 1, &conf);
    assert_int_equal(verdict.kind, VERDICT_DATES);
    assert_true(verdict.not_yet && !verdict.expired);
    verdict = verdict_of(upstream, &other, upstream->not_before - 1, &conf);
    assert_int_equal(verdict.kind, VERDICT_NAME); /* the graver row is told */
    assert_true(verdict.not_yet && !verdict.names_host && !verdict.untrusted);
    assert_int_equal(verdict_of(NULL, &host, NOW, &conf).kind, VERDICT_NO_UPSTREAM);
}

static void verdicts_have_words(void **state)
{
    static const char *const words[] = {
        [VERDICT_NO_UPSTREAM] = "none",
        [VERDICT_GOOD] = "good",
        [VERDICT_LEGACY] = "legacy",
        [VERDICT_DATES] = "dates",
        [VERDICT_NAME] = "name",
        [VERDICT_SELF_SIGNED] = "self-signed",
        [VERDICT_UNTRUSTED] = "untrusted",
        [VERDICT_UNREADABLE] = "unreadable",
        [VERDICT_UNREADABLE + 1] = "unknown",
    };
    char text[200], small[12], none = 'x';

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        assert_string_equal(verdict_name((enum verdict_kind)i), words[i]);
    assert_ptr_equal(verdict_reasons(~0u, &none, 0), &none);
    assert_int_equal(none, 'x');
    assert_string_equal(verdict_reasons(UPSTREAM_SIGNATURE_WEAK | UPSTREAM_V1, text, sizeof(text)),
                        "old-version,weak-signature");
    assert_string_equal(verdict_reasons(0, text, sizeof(text)), "");
    assert_string_equal(verdict_reasons(~0u, small, sizeof(small)), "old-version");
    assert_true(strlen(verdict_reasons(~0u, text, sizeof(text))) < sizeof(text));
}

/* ---- dates ---- */

/* A CA that ends in so many days. */
static struct ca ca_ending(int64_t days)
{
    return (struct ca){.refs = 1000,
                       .id = 0,
                       .generation = 7,
                       .subject = {(const uint8_t *)"\x30\x00", 2},
                       .not_before = NOW - 100 * DAY,
                       .not_after = NOW + days * DAY};
}

struct span {
    int64_t from, to; /* seconds from now */
};

static struct plan date_plan(enum profile profile, const struct ca *ca, struct paper *paper,
                             struct span dates)
{
    struct conf conf = conf_default();
    struct name host = name_of("www.example.org");
    struct plan plan = {.profile = profile, .ca = ca, .host = host};

    plan.upstream = paper_init(paper, 0);
    plan.upstream->not_before = NOW + dates.from;
    plan.upstream->not_after = NOW + dates.to;
    plan.verdict = verdict_of(plan.upstream, &host, NOW, &conf);
    plan_set_dates(&plan, conf.leaf_lifetime_sec, NOW);
    return plan;
}

static void mimic_dates_follow_the_rules(void **state)
{
    static const struct {
        struct span upstream;
        int64_t ca_days;
        struct span leaf;
        enum date_rule rule;
    } rows[] = {
        /* as they are */
        {{-10 * DAY, 80 * DAY}, 3650, {-10 * DAY, 80 * DAY}, DATES_UPSTREAM},
        /* exactly 824 d, and a second more */
        {{-24 * DAY, 800 * DAY}, 3650, {-24 * DAY, 800 * DAY}, DATES_UPSTREAM},
        {{-24 * DAY, 800 * DAY + 1}, 3650, {-DAY, 396 * DAY}, DATES_CUT_VALID},
        /* started less than a day ago */
        {{-60, 900 * DAY}, 3650, {-60, 397 * DAY - 60}, DATES_CUT_VALID},
        /* long, and nearly over */
        {{-1000 * DAY, 30 * DAY}, 3650, {-DAY, 30 * DAY}, DATES_CUT_VALID},
        /* expired: the last 397 d */
        {{-1000 * DAY, -1 * DAY}, 3650, {-398 * DAY, -1 * DAY}, DATES_CUT_EXPIRED},
        {{-500 * DAY, -1 * DAY}, 3650, {-500 * DAY, -1 * DAY}, DATES_UPSTREAM},
        /* not yet: the first 397 d */
        {{5 * DAY, 1000 * DAY}, 3650, {5 * DAY, 402 * DAY}, DATES_CUT_NOT_YET},
        {{5 * DAY, 100 * DAY}, 3650, {5 * DAY, 100 * DAY}, DATES_UPSTREAM},
        /* the CA's end first, then the span */
        {{-10 * DAY, 1000 * DAY}, 50, {-10 * DAY, 50 * DAY}, DATES_UPSTREAM},
        {{-800 * DAY, 1000 * DAY}, 50, {-DAY, 50 * DAY}, DATES_CUT_VALID},
        {{-10 * DAY, 80 * DAY}, 50, {-10 * DAY, 50 * DAY}, DATES_UPSTREAM},
        /* never inverted */
        {{60 * DAY, 1000 * DAY}, 50, {50 * DAY, 50 * DAY}, DATES_UPSTREAM},
        {{60 * DAY, 90 * DAY}, 50, {50 * DAY, 50 * DAY}, DATES_UPSTREAM},
        {{10 * DAY, 5 * DAY}, 3650, {5 * DAY, 5 * DAY}, DATES_UPSTREAM},
        {{10 * DAY, -5 * DAY}, 3650, {-5 * DAY, -5 * DAY}, DATES_UPSTREAM},
        /* before the CA was */
        {{-200 * DAY, 80 * DAY}, 3650, {-200 * DAY, 80 * DAY}, DATES_UPSTREAM},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (int profile = PROFILE_MIMIC; profile <= PROFILE_MINIMAL; profile++) {
            struct ca ca = ca_ending(rows[i].ca_days);
            struct paper paper;
            struct plan plan = date_plan((enum profile)profile, &ca, &paper, rows[i].upstream);

            assert_int_equal(plan.not_before - NOW, rows[i].leaf.from);
            assert_int_equal(plan.not_after - NOW, rows[i].leaf.to);
            assert_int_equal(plan.date_rule, rows[i].rule);
            assert_true(plan.usable_until > NOW);
        }
}

static void fresh_dates_follow_the_rules(void **state)
{
    struct ca ca = ca_ending(3650), ending = ca_ending(20);
    struct plan plan = {.profile = PROFILE_FRESH, .ca = &ca};

    (void)state;
    plan_set_dates(&plan, 90 * DAY, NOW);
    assert_int_equal(plan.not_before, NOW - DAY);
    assert_int_equal(plan.not_after, NOW + 90 * DAY);
    assert_int_equal(plan.date_rule, DATES_FRESH);
    assert_int_equal(plan.usable_until, NOW + 63 * DAY);
    plan_set_dates(&plan, 823 * (int64_t)DAY, NOW);
    assert_int_equal(plan.not_after, NOW + 823 * (int64_t)DAY);
    plan_set_dates(&plan, 823 * (int64_t)DAY + 1, NOW);
    assert_int_equal(plan.not_before, NOW - DAY);
    assert_int_equal(plan.not_after, NOW + 396 * DAY);
    assert_int_equal(plan.date_rule, DATES_FRESH);
    plan.ca = &ending;
    plan_set_dates(&plan, 90 * DAY, NOW);
    assert_int_equal(plan.not_after, NOW + 20 * DAY);
    assert_int_equal(plan.usable_until, NOW + 20 * DAY - 300);
}

static void reuse_ends_before_the_leaf_does(void **state)
{
    struct ca ca = ca_ending(3650);
    struct paper paper;

    (void)state;
    assert_int_equal(date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){-DAY, DAY}).usable_until,
                     NOW + DAY - 300);
    /* a few minutes left: it is given out to its end, rather than made for every request */
    assert_int_equal(date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){-DAY, 200}).usable_until,
                     NOW + 200);
    assert_int_equal(date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){-DAY, -1}).usable_until,
                     NOW + 3600);
    assert_int_equal(
        date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){DAY, 9 * DAY}).usable_until,
        NOW + 3600);
}

/* ---- keys of plans ---- */

static void seal_tells_plans_apart(void **state)
{
    struct ca ca = ca_ending(100), other_ca = ca_ending(100), newer_ca = ca_ending(100);
    struct paper paper, other_paper;
    struct plan base = date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){-DAY, 30 * DAY});
    struct plan plan[12];
    enum { PLANS = sizeof(plan) / sizeof(plan[0]) };

    (void)state;
    other_ca.id = 1;
    newer_ca.generation = 8;
    base.key_type = KEY_TYPE_RSA;
    base.rsa_bits = 2048;
    for (size_t i = 0; i < PLANS; i++)
        plan[i] = base;
    plan[1].ca = &other_ca;
    plan[2].ca = &newer_ca;
    plan[3].profile = PROFILE_MINIMAL;
    plan[4].usage = USAGE_TLS_SERVER_TONGSUO;
    plan[5].key_type = KEY_TYPE_P384;
    plan[6].rsa_bits = 3072;
    plan[7].date_rule = DATES_CUT_VALID;
    plan[8].upstream = paper_init(&other_paper, 0);
    plan[8].upstream->sha256[31] = 1;
    plan[9].host_only = true;
    plan[10].host_only = true;
    plan[10].host = name_of("b.example.org");
    plan[11].verdict.untrusted = true;
    for (size_t i = 0; i < PLANS; i++)
        plan_seal(&plan[i]);
    for (size_t i = 0; i < PLANS; i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(plan[i].key, plan[j].key, 32);
    /* what changes no byte: another host, another hour, a milder verdict */
    base.host = name_of("c.example.org");
    base.verdict.names_host = false;
    base.verdict.kind = VERDICT_NAME;
    base.usable_until++;
    plan_seal(&base);
    assert_memory_equal(base.key, plan[0].key, 32);
}

static void a_plan_goes_over_to_another_ca(void **state)
{
    struct ca ca = ca_ending(100), newer = ca_ending(20);
    struct paper paper;
    struct plan plan = date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){30 * DAY, 60 * DAY});
    uint8_t key[32];

    (void)state;
    newer.generation = 99;
    plan_seal(&plan);
    memcpy(key, plan.key, sizeof(key));
    plan_set_ca(&plan, &newer);
    assert_ptr_equal(plan.ca, &newer);
    assert_int_equal(newer.refs, 1001);
    assert_int_equal(ca.refs, 999);
    assert_int_equal(plan.not_after, NOW + 20 * DAY);
    assert_int_equal(plan.not_before, NOW + 20 * DAY);
    assert_memory_not_equal(plan.key, key, 32);
}

static void stolen_and_cleared_plans_are_empty(void **state)
{
    struct ca ca = ca_ending(100);
    struct paper paper;
    struct plan plan = date_plan(PROFILE_MIMIC, &ca, &paper, (struct span){-DAY, DAY}), to;

    (void)state;
    plan_steal(&to, &plan);
    assert_null(plan.ca);
    assert_null(plan.upstream);
    plan_clear(&plan);
    plan_clear(&to);
    assert_int_equal(ca.refs, 999);
    assert_int_equal(paper.upstream.refs, 999);
}

static void profiles_have_words(void **state)
{
    (void)state;
    assert_string_equal(profile_name(PROFILE_FRESH), "fresh");
    assert_string_equal(profile_name(PROFILE_MIMIC), "mimic");
    assert_string_equal(profile_name(PROFILE_MINIMAL), "minimal");
    assert_string_equal(profile_name((enum profile)99), "unknown");
}

/* ---- from request to plan ---- */

struct world {
    struct conf conf;
    struct policy *policy;
    EVP_PKEY *key;
    struct ca *ca, *untrusted;
    struct ca_set *cas;
    struct why why;
};

static struct ca *read_ca(struct bytes der, uint16_t id)
{
    struct ca *ca = NULL;
    struct why why = {""};

    if (ca_read(der, id, false, &ca, &why))
        print_error("%s\n", why.text);
    assert_non_null(ca);
    free((void *)der.data);
    return ca;
}

static void world_start(struct world *world)
{
    world->policy = NULL;
    assert_int_equal(policy_new(&world->conf, &world->policy), LEAFD_OK);
}

static void world_set_cas(struct world *world, struct ca *ca, struct ca *untrusted)
{
    const struct ca *list[] = {ca};

    ca_set_unref(world->cas);
    world->cas = ca_set_new(list, 1, untrusted);
    assert_non_null(world->cas);
}

static int world_setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    world->conf = conf_default();
    world->key = make_key("P-256");
    world->ca = read_ca(make_ca("Test CA", world->key, NOW), 0);
    world->untrusted = read_ca(make_ca("Untrusted", world->key, NOW), CA_ID_UNTRUSTED);
    world_set_cas(world, world->ca, world->untrusted);
    world_start(world);
    *state = world;
    return 0;
}

static int world_teardown(void **state)
{
    struct world *world = *state;

    policy_free(world->policy);
    ca_set_unref(world->cas);
    ca_unref(world->ca);
    ca_unref(world->untrusted);
    EVP_PKEY_free(world->key);
    free(world);
    return 0;
}

static void world_restart(struct world *world)
{
    policy_free(world->policy);
    world_start(world);
}

static enum leafd_err plan_for(struct world *world, const char *host, struct bytes cert,
                               struct plan *ret)
{
    struct request request = {
        .host = bytes_of(host),
        .cert_form = cert.data ? CERT_FORM_DER : CERT_FORM_ABSENT,
        .cert = cert,
    };

    world->why.text[0] = '\0';
    return policy_plan(world->policy, &request, world->cas, NOW, ret, &world->why);
}

/* The same, where it must come to a plan. */
static struct plan good_plan(struct world *world, const char *host, struct bytes cert)
{
    struct plan plan;

    enum leafd_err err = plan_for(world, host, cert, &plan);

    if (err)
        print_error("%s: %s\n", host, world->why.text);
    assert_int_equal(err, LEAFD_OK);
    return plan;
}

static void expect_error(struct world *world, const char *host, struct bytes cert,
                         enum leafd_err expected)
{
    struct plan plan;

    assert_int_equal(plan_for(world, host, cert, &plan), expected);
    assert_null(plan.ca);
    assert_null(plan.upstream);
    assert_true(world->why.text[0] != '\0');
}

static const struct make_cert plain = {
    .cn = "www.example.org",
    .issuer = "Some CA",
    .san = "DNS:www.example.org,DNS:*.wild.example.org,DNS:example.com,IP:192.0.2.7",
    .ku = "critical,digitalSignature",
    .eku = "serverAuth",
};

static struct bytes upstream_like(struct make_cert cert)
{
    if (!cert.not_after) {
        cert.not_before = NOW - 10 * DAY;
        cert.not_after = NOW + 80 * DAY;
    }
    return make_cert(&cert);
}

static const struct bytes no_cert = {NULL, 0};

static void no_upstream_gives_a_fresh_plan(void **state)
{
    struct world *world = *state;
    struct plan plan = good_plan(world, "WWW.Example.org.", no_cert);
    struct plan_names names;

    assert_int_equal(plan.profile, PROFILE_FRESH);
    assert_int_equal(plan.verdict.kind, VERDICT_NO_UPSTREAM);
    assert_ptr_equal(plan.ca, world->ca);
    assert_int_equal(plan.key_type, KEY_TYPE_P256);
    assert_null(plan.upstream);
    assert_int_equal(plan_names(&plan, &names), LEAFD_OK);
    assert_int_equal(names.count, 1);
    assert_true(bytes_equal(name_bytes(names.name[0]), bytes_of("www.example.org")));
    free(names.name);
    plan_clear(&plan);
    expect_error(world, "bad host", no_cert, LEAFD_REFUSED);
}

static void a_mimic_keeps_its_names_and_shares_its_key(void **state)
{
    struct world *world = *state;
    struct bytes cert = upstream_like(plain);
    struct plan a = good_plan(world, "www.example.org", cert);
    struct plan b = good_plan(world, "x.wild.example.org", cert);
    struct plan c = good_plan(world, "other.example.net", cert);
    struct plan_names names;

    assert_int_equal(a.profile, PROFILE_MIMIC);
    assert_int_equal(a.verdict.kind, VERDICT_GOOD);
    assert_int_equal(c.verdict.kind, VERDICT_NAME);
    assert_memory_equal(a.key, b.key, 32);
    assert_memory_equal(a.key, c.key, 32);    /* the host is not in it */
    assert_ptr_equal(a.upstream, b.upstream); /* read once */
    assert_int_equal(a.not_before, NOW - 10 * DAY);
    assert_int_equal(plan_names(&c, &names), LEAFD_OK);
    assert_int_equal(names.count, 4);
    free(names.name);
    plan_clear(&a);
    plan_clear(&b);
    plan_clear(&c);
    free((void *)cert.data);
}

static void octets_behind_the_certificate_change_nothing(void **state)
{
    struct world *world = *state;
    struct bytes cert = upstream_like(plain);
    uint8_t *longer = malloc(cert.len + 3);
    struct plan a, b;

    memcpy(longer, cert.data, cert.len);
    memcpy(longer + cert.len, "xyz", 3);
    a = good_plan(world, "www.example.org", cert);
    b = good_plan(world, "www.example.org", (struct bytes){longer, cert.len + 3});
    assert_memory_equal(a.key, b.key, 32);
    plan_clear(&a);
    plan_clear(&b);
    free(longer);
    free((void *)cert.data);
}

static void the_untrusted_ca_signs_what_is_not_to_be_trusted(void **state)
{
    struct world *world = *state;
    struct make_cert spec = plain;
    struct bytes cert;
    struct plan plan;

    spec.eku = "clientAuth";
    spec.not_before = NOW - 400 * DAY;
    spec.not_after = NOW - DAY;
    cert = upstream_like(spec);
    plan = good_plan(world, "other.example.net", cert);
    assert_int_equal(plan.ca->id, CA_ID_UNTRUSTED);
    assert_int_equal(plan.verdict.kind, VERDICT_UNTRUSTED);
    assert_int_equal(plan.profile, PROFILE_MIMIC); /* dates and names follow the other rows */
    assert_int_equal(plan.not_after, NOW - DAY);
    assert_true(plan.verdict.expired && !plan.verdict.names_host);
    plan_clear(&plan);

    world_set_cas(world, world->ca, NULL);
    expect_error(world, "www.example.org", cert, LEAFD_TOKEN_UNAVAILABLE);
    world->conf.untrusted = CONF_UNTRUSTED_NONE;
    expect_error(world, "www.example.org", cert, LEAFD_REFUSED);
    free((void *)cert.data);
}

static void real_upstream_leaves_get_their_verdicts(void **state)
{
    struct world *world = *state;
    EVP_PKEY *rsa1024 = make_key("RSA:1024"), *rsa512 = make_key("RSA:512");
    struct {
        struct make_cert spec;
        enum verdict_kind kind;
        bool untrusted;
    } rows[12];
    size_t count = 0;

#define ROW(row_kind, row_untrusted, ...)                                                          \
    do {                                                                                           \
        rows[count].spec = plain;                                                                  \
        __VA_ARGS__;                                                                               \
        rows[count].kind = row_kind;                                                               \
        rows[count++].untrusted = row_untrusted;                                                   \
    } while (0)
    ROW(VERDICT_GOOD, false, (void)0);
    ROW(VERDICT_LEGACY, false, rows[count].spec.san = NULL);
    ROW(VERDICT_LEGACY, false, rows[count].spec.bc = "CA:TRUE");
    ROW(VERDICT_LEGACY, false, rows[count].spec.serial = -5);
    ROW(VERDICT_LEGACY, false, rows[count].spec.key = rsa1024);
    ROW(VERDICT_SELF_SIGNED, true, rows[count].spec.issuer = NULL);
    ROW(VERDICT_UNTRUSTED, true, rows[count].spec.ku = "keyCertSign");
    ROW(VERDICT_UNTRUSTED, true, rows[count].spec.critical_oid = "1.2.3.4.5");
    ROW(VERDICT_UNTRUSTED, true, rows[count].spec.critical_oid = "1.3.6.1.4.1.11129.2.4.3");
    ROW(VERDICT_UNTRUSTED, true, rows[count].spec.key = rsa512);
    ROW(VERDICT_UNTRUSTED, true, rows[count].spec.sha1 = true);
    ROW(VERDICT_SELF_SIGNED, true, rows[count].spec.issuer = NULL;
        rows[count].spec.bc = "critical,CA:TRUE");
#undef ROW
    for (size_t i = 0; i < count; i++) {
        struct bytes cert = upstream_like(rows[i].spec);
        struct plan plan = good_plan(world, "www.example.org", cert);

        assert_int_equal(plan.verdict.kind, rows[i].kind);
        assert_int_equal(plan.verdict.untrusted, rows[i].untrusted);
        assert_int_equal(plan.ca->id, rows[i].untrusted ? CA_ID_UNTRUSTED : 0);
        plan_clear(&plan);
        free((void *)cert.data);
    }
    EVP_PKEY_free(rsa1024);
    EVP_PKEY_free(rsa512);
}

static void self_signed_can_be_refused(void **state)
{
    struct world *world = *state;
    struct make_cert spec = plain;
    struct bytes cert;
    struct plan plan;

    spec.issuer = NULL;
    cert = upstream_like(spec);
    world->conf.mimic_self_signed = CONF_SELF_SIGNED_REFUSE;
    expect_error(world, "www.example.org", cert, LEAFD_REFUSED);
    world->conf.mimic_self_signed = CONF_SELF_SIGNED_MIMIC;
    plan = good_plan(world, "www.example.org", cert);
    assert_ptr_equal(plan.ca, world->ca);
    plan_clear(&plan);
    free((void *)cert.data);
}

static void what_cannot_be_read_is_unsupported_or_fresh(void **state)
{
    struct world *world = *state;
    struct request request = {.host = bytes_of("www.example.org"), .cert_form = CERT_FORM_UNUSABLE};
    struct make_cert spec = plain;
    struct bytes garbage = bytes_of("this is no certificate"), nameless, cert;
    struct plan plan;

    spec.san = "email:a@example.org"; /* a SAN without a name for us; the CN does not step in */
    nameless = upstream_like(spec);
    expect_error(world, "www.example.org", garbage, LEAFD_UNSUPPORTED);
    expect_error(world, "www.example.org", nameless, LEAFD_UNSUPPORTED);
    assert_int_equal(policy_plan(world->policy, &request, world->cas, NOW, &plan, &world->why),
                     LEAFD_UNSUPPORTED);
    assert_int_equal(plan.verdict.kind, VERDICT_UNREADABLE);

    world->conf.mimic_fallback = CONF_FALLBACK_FRESH;
    assert_int_equal(policy_plan(world->policy, &request, world->cas, NOW, &plan, &world->why),
                     LEAFD_OK);
    assert_int_equal(plan.profile, PROFILE_FRESH);
    assert_int_equal(plan.verdict.kind, VERDICT_UNREADABLE);
    plan_clear(&plan);
    plan = good_plan(world, "www.example.org", garbage);
    assert_int_equal(plan.profile, PROFILE_FRESH);
    plan_clear(&plan);
    plan = good_plan(world, "www.example.org", nameless);
    assert_int_equal(plan.profile, PROFILE_FRESH);
    assert_null(plan.upstream);
    plan_clear(&plan);
    free((void *)nameless.data);

    /* and launders nothing that could be read */
    spec.not_before = NOW - 50 * DAY;
    spec.not_after = NOW - DAY;
    spec.issuer = NULL;
    cert = upstream_like(spec);
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan.profile, PROFILE_MINIMAL);
    assert_int_equal(plan.ca->id, CA_ID_UNTRUSTED);
    assert_int_equal(plan.not_after, NOW - DAY);
    plan_clear(&plan);
    world->conf.mimic_self_signed = CONF_SELF_SIGNED_REFUSE;
    expect_error(world, "www.example.org", cert, LEAFD_REFUSED);
    free((void *)cert.data);
}

static void unverified_upstreams_give_the_host_alone(void **state)
{
    struct world *world = *state;
    struct bytes cert = upstream_like(plain);
    struct plan plan, other;
    struct plan_names names;

    world->conf.mimic_upstream_verified = false;
    plan = good_plan(world, "x.wild.example.org", cert);
    assert_int_equal(plan.profile, PROFILE_MIMIC);
    assert_int_equal(plan_names(&plan, &names), LEAFD_OK);
    assert_int_equal(names.count, 1);
    assert_true(bytes_equal(name_bytes(names.name[0]), bytes_of("x.wild.example.org")));
    free(names.name);
    other = good_plan(world, "www.example.org", cert);
    assert_memory_not_equal(plan.key, other.key, 32);
    plan_clear(&plan);
    plan_clear(&other);
    plan = good_plan(world, "not.example.net", cert);
    assert_int_equal(plan_names(&plan, &names), LEAFD_OK);
    assert_int_equal(names.count, 4);
    free(names.name);
    plan_clear(&plan);
    free((void *)cert.data);
}

static void denied_names_are_dropped_and_denied_hosts_refused(void **state)
{
    struct world *world = *state;
    char *deny[] = {"wild.example.org", "192.0.2.0/24"};
    char *all[] = {"example.org", "example.com", "192.0.2.0/24"};
    char *broken[] = {"not a rule"};
    struct bytes cert = upstream_like(plain);
    struct policy *policy = NULL;
    struct plan plan;
    struct plan_names names;

    world->conf.deny = deny;
    world->conf.deny_count = 2;
    world_restart(world);
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan_names(&plan, &names), LEAFD_OK);
    assert_int_equal(names.count, 2);
    assert_true(bytes_equal(name_bytes(names.name[1]), bytes_of("example.com")));
    free(names.name);
    plan_clear(&plan);
    expect_error(world, "a.wild.example.org", cert, LEAFD_REFUSED);
    expect_error(world, "192.0.2.99", no_cert, LEAFD_REFUSED);
    world_set_cas(world, world->ca, NULL); /* refused even where nothing could be signed */
    expect_error(world, "wild.example.org", cert, LEAFD_REFUSED);

    world->conf.deny = all;
    world->conf.deny_count = 3;
    world_restart(world);
    expect_error(world, "other.example.net", cert, LEAFD_UNSUPPORTED);

    world->conf.deny = broken;
    world->conf.deny_count = 1;
    assert_int_equal(policy_new(&world->conf, &policy), LEAFD_CONFIG);
    assert_null(policy);
    world->conf.deny_count = 0;
    free((void *)cert.data);
}

static void constraints_of_the_ca_hold(void **state)
{
    struct world *world = *state;
    struct bytes cert = upstream_like(plain);
    struct make_cert spec = {
        .cn = "Narrow CA",
        .key = world->key,
        .ku = "critical,keyCertSign",
        .bc = "critical,CA:TRUE",
        .ski = "hash",
        .constraints = "critical,permitted;DNS:example.org,excluded;IP:0.0.0.0/0.0.0.0",
        .not_before = NOW - DAY,
        .not_after = NOW + 100 * DAY,
    };
    struct ca *narrow = read_ca(make_cert(&spec), 0);
    struct plan plan;
    struct plan_names names;

    world_set_cas(world, narrow, world->untrusted);
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan_names(&plan, &names), LEAFD_OK);
    assert_int_equal(names.count, 2); /* www.example.org and *.wild.example.org */
    free(names.name);
    plan_clear(&plan);
    expect_error(world, "example.com", cert, LEAFD_REFUSED);
    expect_error(world, "192.0.2.7", no_cert, LEAFD_REFUSED);
    free((void *)cert.data);
    /* the untrusted CA has none */
    spec = plain;
    spec.eku = "clientAuth";
    cert = upstream_like(spec);
    plan = good_plan(world, "example.com", cert);
    assert_int_equal(plan.ca->id, CA_ID_UNTRUSTED);
    plan_clear(&plan);
    free((void *)cert.data);
    ca_unref(narrow);
}

static void an_expired_ca_is_refused(void **state)
{
    struct world *world = *state;
    struct ca *old = read_ca(make_ca("Old CA", world->key, NOW - 4000 * (int64_t)DAY), 0);

    world_set_cas(world, old, world->untrusted);
    expect_error(world, "www.example.org", no_cert, LEAFD_REFUSED);
    ca_unref(old);
}

/* A SAN of so many names of 40 octets; free() it. */
static char *long_san(size_t count)
{
    char *san = malloc(count * 48 + 64), *at = san;

    at += sprintf(at, "DNS:www.example.org");
    for (size_t i = 0; i < count; i++)
        at += sprintf(at, ",DNS:name-%05zu-of-a-very-long-list.example.org", i);
    return san;
}

static void too_large_is_minimal_where_the_host_is_named(void **state)
{
    struct world *world = *state;
    struct make_cert spec = plain;
    char *san = long_san(300);
    struct bytes cert;
    struct plan plan, smaller;
    struct plan_names names;
    struct name host = name_of("example.com");

    spec.san = san;
    cert = upstream_like(spec);
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan.profile, PROFILE_MINIMAL);
    assert_int_equal(plan_names(&plan, &names), LEAFD_OK);
    assert_int_equal(names.count, 1);
    free(names.name);
    assert_int_equal(plan.not_after, NOW + 80 * DAY);
    assert_int_equal(policy_plan_smaller(&plan, &plan.host, &smaller, &world->why),
                     LEAFD_TOO_LARGE);
    plan_clear(&plan);
    expect_error(world, "other.example.net", cert, LEAFD_TOO_LARGE);
    free((void *)cert.data);
    free(san);

    /* many names that fit */
    spec.san = san = long_san(150);
    cert = upstream_like(spec);
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan.profile, PROFILE_MIMIC);
    plan_clear(&plan);
    free((void *)cert.data);
    free(san);

    cert = upstream_like(plain);
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(policy_plan_smaller(&plan, &host, &smaller, &world->why), LEAFD_OK);
    assert_int_equal(smaller.profile, PROFILE_MINIMAL);
    assert_true(name_equal(&smaller.host, &host));
    assert_memory_not_equal(smaller.key, plan.key, 32);
    plan_clear(&smaller);
    host = name_of("other.example.net");
    assert_int_equal(policy_plan_smaller(&plan, &host, &smaller, &world->why), LEAFD_TOO_LARGE);
    plan_clear(&plan);
    free((void *)cert.data);
}

static void a_host_too_long_for_a_name_still_gets_a_mimic(void **state)
{
    struct world *world = *state;
    struct bytes cert = upstream_like(plain);
    char host[400];
    struct plan plan;

    memset(host, 'a', sizeof(host));
    for (size_t i = 50; i < sizeof(host); i += 51)
        host[i] = '.';
    host[sizeof(host) - 1] = '\0';
    plan = good_plan(world, host, cert);
    assert_int_equal(plan.verdict.kind, VERDICT_NAME);
    plan_clear(&plan);
    expect_error(world, host, no_cert, LEAFD_REFUSED);
    world->conf.mimic_fallback = CONF_FALLBACK_FRESH;
    expect_error(world, host, bytes_of("garbage"), LEAFD_REFUSED);
    free((void *)cert.data);
}

static void the_leaf_key_follows_the_upstream_or_the_operator(void **state)
{
    static const struct {
        const char *upstream;
        enum key_type compatible, same;
        unsigned same_bits;
    } rows[] = {
        {"P-256", KEY_TYPE_P256, KEY_TYPE_P256, 0},
        {"P-384", KEY_TYPE_P384, KEY_TYPE_P384, 0},
        {"P-521", KEY_TYPE_P384, KEY_TYPE_P521, 0},
        {"P-224", KEY_TYPE_P256, KEY_TYPE_P256, 0},
        {"RSA:1024", KEY_TYPE_RSA, KEY_TYPE_RSA, 2048},
        {"RSA:2048", KEY_TYPE_RSA, KEY_TYPE_RSA, 2048},
        {"RSA:3072", KEY_TYPE_RSA, KEY_TYPE_RSA, 3072},
        {"ED25519", KEY_TYPE_P256, KEY_TYPE_ED25519, 0},
        {"ED448", KEY_TYPE_P256, KEY_TYPE_ED448, 0},
        {"SM2", KEY_TYPE_SM2, KEY_TYPE_SM2, 0},
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct make_cert spec = plain;
        struct bytes cert;
        struct plan plan;

        spec.key = make_key(rows[i].upstream);
        cert = upstream_like(spec);
        world->conf.leaf_key = CONF_LEAF_KEY_COMPATIBLE;
        plan = good_plan(world, "www.example.org", cert);
        assert_int_equal(plan.key_type, rows[i].compatible);
        assert_int_equal(plan.rsa_bits, rows[i].compatible == KEY_TYPE_RSA ? 2048 : 0);
        plan_clear(&plan);
        world->conf.leaf_key = CONF_LEAF_KEY_UPSTREAM;
        plan = good_plan(world, "www.example.org", cert);
        assert_int_equal(plan.key_type, rows[i].same);
        assert_int_equal(plan.rsa_bits, rows[i].same_bits);
        plan_clear(&plan);
        world->conf.leaf_key = CONF_LEAF_KEY_TYPE;
        world->conf.leaf_key_type = KEY_TYPE_RSA;
        plan = good_plan(world, "www.example.org", cert);
        assert_int_equal(plan.key_type, KEY_TYPE_RSA);
        plan_clear(&plan);
        plan = good_plan(world, "www.example.org", no_cert);
        assert_int_equal(plan.key_type, KEY_TYPE_RSA);
        plan_clear(&plan);
        free((void *)cert.data);
        EVP_PKEY_free(spec.key);
    }
}

static void rsa_sizes_are_those_we_make(void **state)
{
    static const unsigned sizes[][2] = {{0, 2048},    {512, 2048},     {2047, 2048}, {2048, 2048},
                                        {3071, 2048}, {3072, 3072},    {4095, 3072}, {4096, 4096},
                                        {8192, 4096}, {1u << 20, 4096}};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        assert_int_equal(leaf_type_rsa_bits(sizes[i][0]), sizes[i][1]);
    assert_null(leaf_type_find(KEY_TYPE_RSA, 0));
    assert_null(leaf_type_find(KEY_TYPE_RSA, 1024));
    assert_null(leaf_type_find(KEY_TYPE_DSA, 0));
    assert_null(leaf_type_find(KEY_TYPE_OTHER_EC, 0));
    for (size_t i = 0; i < LEAF_TYPE_COUNT; i++) {
        const struct leaf_type *leaf = &leaf_types[i];

        assert_ptr_equal(leaf_type_find(leaf->type, leaf->bits), leaf);
        if (leaf->type != KEY_TYPE_RSA)
            assert_string_equal(leaf->name, key_type_name(leaf->type));
    }
}

/* leaf.rsa_bits is what `compatible` makes of any RSA, and a fixed type has. */
static void rsa_bits_hold_unless_the_upstream_is_followed(void **state)
{
    struct world *world = *state;
    struct make_cert spec = plain;
    struct bytes cert;
    struct plan plan;

    spec.key = make_key("RSA:2048");
    cert = upstream_like(spec);
    world->conf.leaf_rsa_bits = 4096;
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan.rsa_bits, 4096);
    plan_clear(&plan);
    world->conf.leaf_key = CONF_LEAF_KEY_UPSTREAM;
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan.rsa_bits, 2048);
    plan_clear(&plan);
    world->conf.leaf_key = CONF_LEAF_KEY_TYPE;
    world->conf.leaf_key_type = KEY_TYPE_RSA;
    plan = good_plan(world, "www.example.org", cert);
    assert_int_equal(plan.rsa_bits, 4096);
    plan_clear(&plan);
    free((void *)cert.data);
    EVP_PKEY_free(spec.key);
}

static struct plan plan_for_usage(struct world *world, enum usage usage, struct bytes cert)
{
    struct request request = {.host = bytes_of("www.example.org"),
                              .usage = usage,
                              .cert_form = cert.data ? CERT_FORM_DER : CERT_FORM_ABSENT,
                              .cert = cert};
    struct plan plan;

    assert_int_equal(policy_plan(world->policy, &request, world->cas, NOW, &plan, NULL), LEAFD_OK);
    return plan;
}

static void fresh_leaves_for_tlcp_have_sm2_keys(void **state)
{
    static const struct {
        enum usage usage;
        enum key_type fresh;
    } rows[] = {{USAGE_TLS_SERVER, KEY_TYPE_P256},
                {USAGE_TLS_SERVER_TONGSUO, KEY_TYPE_P256},
                {USAGE_TLCP_SIGNATURE, KEY_TYPE_SM2},
                {USAGE_TLCP_ENCRYPTION, KEY_TYPE_SM2}};
    struct world *world = *state;
    struct bytes cert = upstream_like(plain);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct plan plan;

        for (int mode = CONF_LEAF_KEY_COMPATIBLE; mode <= CONF_LEAF_KEY_UPSTREAM; mode++) {
            world->conf.leaf_key = (enum conf_leaf_key)mode;
            plan = plan_for_usage(world, rows[i].usage, no_cert);
            assert_int_equal(plan.key_type, rows[i].fresh);
            plan_clear(&plan);
            plan = plan_for_usage(world, rows[i].usage, cert); /* a mimic's is its upstream's */
            assert_int_equal(plan.key_type, KEY_TYPE_P256);
            plan_clear(&plan);
        }
        world->conf.leaf_key = CONF_LEAF_KEY_TYPE;
        world->conf.leaf_key_type = KEY_TYPE_P384;
        plan = plan_for_usage(world, rows[i].usage, no_cert);
        assert_int_equal(plan.key_type, KEY_TYPE_P384);
        plan_clear(&plan);
    }
    free((void *)cert.data);
}

/* ---- the memo ---- */

static struct upstream *numbered_upstream(struct bytes cert, uint32_t number)
{
    struct upstream *upstream = NULL;

    assert_int_equal(upstream_read(cert, &upstream, NULL), LEAFD_OK);
    memcpy(upstream->sha256, &number, sizeof(number));
    return upstream;
}

static void the_memo_is_bounded_and_keeps_what_is_asked_for(void **state)
{
    enum { MANY = 4000, BOUND = 512 << 10 };
    struct bytes cert = upstream_like(plain);
    struct upstream_memo *memo = NULL;
    struct upstream *hot = numbered_upstream(cert, MANY), *found;
    size_t kept = 0;

    (void)state;
    assert_int_equal(upstream_memo_new(BOUND, &memo), LEAFD_OK);
    upstream_memo_put(memo, hot);
    for (uint32_t i = 0; i < MANY; i++) {
        struct upstream *upstream = numbered_upstream(cert, i);

        upstream_memo_put(memo, upstream);
        upstream_memo_put(memo, upstream); /* twice is once */
        upstream_unref(upstream);
        found = upstream_memo_get(memo, hot->sha256);
        assert_ptr_equal(found, hot);
        upstream_unref(found);
        assert_true(upstream_memo_size(memo) <= BOUND);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        uint8_t sha256[32];

        memcpy(sha256, hot->sha256, 32);
        memcpy(sha256, &i, sizeof(i));
        found = upstream_memo_get(memo, sha256);
        kept += found != NULL;
        upstream_unref(found);
    }
    assert_true(kept > 50 && kept < MANY / 2);
    upstream_memo_free(memo);
    upstream_unref(hot);
    free((void *)cert.data);
}

int main(void)
{
#define IN_WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_usage_follows_key_and_usage),
        cmocka_unit_test(every_flag_has_its_row),
        cmocka_unit_test(ca_true_is_legacy_only_where_not_self_signed),
        cmocka_unit_test(self_signed_mimic_lifts_that_row_alone),
        cmocka_unit_test(error_beats_refuse_beats_untrusted),
        cmocka_unit_test(dates_and_names_are_judged_for_each_request),
        cmocka_unit_test(verdicts_have_words),
        cmocka_unit_test(mimic_dates_follow_the_rules),
        cmocka_unit_test(fresh_dates_follow_the_rules),
        cmocka_unit_test(reuse_ends_before_the_leaf_does),
        cmocka_unit_test(seal_tells_plans_apart),
        cmocka_unit_test(a_plan_goes_over_to_another_ca),
        cmocka_unit_test(stolen_and_cleared_plans_are_empty),
        cmocka_unit_test(profiles_have_words),
        IN_WORLD(no_upstream_gives_a_fresh_plan),
        IN_WORLD(a_mimic_keeps_its_names_and_shares_its_key),
        IN_WORLD(octets_behind_the_certificate_change_nothing),
        IN_WORLD(the_untrusted_ca_signs_what_is_not_to_be_trusted),
        IN_WORLD(real_upstream_leaves_get_their_verdicts),
        IN_WORLD(self_signed_can_be_refused),
        IN_WORLD(what_cannot_be_read_is_unsupported_or_fresh),
        IN_WORLD(unverified_upstreams_give_the_host_alone),
        IN_WORLD(denied_names_are_dropped_and_denied_hosts_refused),
        IN_WORLD(constraints_of_the_ca_hold),
        IN_WORLD(an_expired_ca_is_refused),
        IN_WORLD(too_large_is_minimal_where_the_host_is_named),
        IN_WORLD(a_host_too_long_for_a_name_still_gets_a_mimic),
        IN_WORLD(the_leaf_key_follows_the_upstream_or_the_operator),
        cmocka_unit_test(rsa_sizes_are_those_we_make),
        IN_WORLD(rsa_bits_hold_unless_the_upstream_is_followed),
        IN_WORLD(fresh_leaves_for_tlcp_have_sm2_keys),
        cmocka_unit_test(the_memo_is_bounded_and_keeps_what_is_asked_for),
    };
#undef IN_WORLD

    return cmocka_run_group_tests(tests, NULL, NULL);
}
