/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/verdict.h"

#include <stdio.h>
#include <string.h>

/* The rows of "Never launder" that follow from the leaf alone. */
static const struct row {
    unsigned flag;
    enum verdict_kind kind;
    const char *word;
} rows[] = {
    {UPSTREAM_V1, VERDICT_LEGACY, "old-version"},
    {UPSTREAM_CN_ONLY, VERDICT_LEGACY, "cn-only"},
    {UPSTREAM_CA_TRUE, VERDICT_LEGACY, "ca-true"},
    {UPSTREAM_ODD_FORMS, VERDICT_LEGACY, "odd-forms"},
    {UPSTREAM_ODD_SERIAL, VERDICT_LEGACY, "odd-serial"},
    {UPSTREAM_RSA_SHORT, VERDICT_LEGACY, "short-rsa"},
    {UPSTREAM_INVERTED_DATES, VERDICT_DATES, "inverted-dates"},
    {UPSTREAM_SELF_SIGNED, VERDICT_SELF_SIGNED, "self-signed"},
    {UPSTREAM_EKU_FOREIGN, VERDICT_UNTRUSTED, "foreign-eku"},
    {UPSTREAM_KU_FOREIGN, VERDICT_UNTRUSTED, "foreign-key-usage"},
    {UPSTREAM_UNKNOWN_CRITICAL, VERDICT_UNTRUSTED, "unknown-critical"},
    {UPSTREAM_CT_POISON, VERDICT_UNTRUSTED, "ct-poison"},
    {UPSTREAM_DUPLICATED, VERDICT_UNTRUSTED, "duplicated-extension"},
    {UPSTREAM_KEY_WEAK, VERDICT_UNTRUSTED, "weak-key"},
    {UPSTREAM_SIGNATURE_WEAK, VERDICT_UNTRUSTED, "weak-signature"},
    {UPSTREAM_NO_NAMES, VERDICT_UNREADABLE, "no-names"},
};

static void raise_to(struct verdict *verdict, enum verdict_kind kind)
{
    if (kind > verdict->kind)
        verdict->kind = kind;
}

/* What follows from the flags, `mimic.self_signed` having been applied to that row alone. */
static void judge_flags(struct verdict *verdict, unsigned flags, enum conf_self_signed self_signed)
{
    if (flags & UPSTREAM_SELF_SIGNED) {
        if (self_signed == CONF_SELF_SIGNED_MIMIC)
            flags &= ~(unsigned)UPSTREAM_SELF_SIGNED;
        else
            flags &= ~(unsigned)UPSTREAM_CA_TRUE; /* says nothing more of a self-signed one */
    }

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!(flags & rows[i].flag))
            continue;
        raise_to(verdict, rows[i].kind);
        verdict->reasons |= rows[i].flag;
        if (rows[i].kind == VERDICT_UNTRUSTED)
            verdict->untrusted = true;
    }

    if (flags & UPSTREAM_SELF_SIGNED) {
        if (self_signed == CONF_SELF_SIGNED_REFUSE)
            verdict->err = LEAFD_REFUSED;
        else
            verdict->untrusted = true;
    }
    if (flags & UPSTREAM_NO_NAMES)
        verdict->err = LEAFD_UNSUPPORTED;
}

struct verdict verdict_of(const struct upstream *upstream, const struct name *host, int64_t now_sec,
                          const struct conf *conf)
{
    struct verdict verdict = {.kind = VERDICT_NO_UPSTREAM};

    if (!upstream)
        return verdict;

    verdict.kind = VERDICT_GOOD;
    verdict.names_host = upstream_names_host(upstream, host);
    verdict.expired = now_sec > upstream->not_after;
    verdict.not_yet = now_sec < upstream->not_before;
    if (verdict.expired || verdict.not_yet)
        raise_to(&verdict, VERDICT_DATES);
    if (!verdict.names_host)
        raise_to(&verdict, VERDICT_NAME);
    judge_flags(&verdict, upstream->flags, conf->mimic_self_signed);
    return verdict;
}

const char *verdict_name(enum verdict_kind kind)
{
    switch (kind) {
    case VERDICT_NO_UPSTREAM:
        return "none";
    case VERDICT_GOOD:
        return "good";
    case VERDICT_LEGACY:
        return "legacy";
    case VERDICT_DATES:
        return "dates";
    case VERDICT_NAME:
        return "name";
    case VERDICT_SELF_SIGNED:
        return "self-signed";
    case VERDICT_UNTRUSTED:
        return "untrusted";
    case VERDICT_UNREADABLE:
        return "unreadable";
    }
    return "unknown";
}

const char *verdict_reasons(unsigned reasons, char *out, size_t size)
{
    size_t at = 0;

    if (size == 0)
        return out;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t need = strlen(rows[i].word) + (at > 0);

        if (!(reasons & rows[i].flag) || at + need >= size)
            continue;
        at += (size_t)snprintf(out + at, size - at, "%s%s", at > 0 ? "," : "", rows[i].word);
    }
    return out;
}
