/* SPDX-License-Identifier: Apache-2.0 */
/* Name constraints (RFC 5280 section 4.2.1.10) as far as they can touch a leaf of ours, whose names
 * have three forms: dNSName, iPAddress and the subject.
 *
 * Threads: no shared state; nothing changes once it is read. */
#pragma once

#include "der/der_writer.h"
#include "policy/names.h"

enum { NAME_CONSTRAINTS_MAX = 64 /* subtrees of a kind */ };

struct name_constraints {
    struct name_rule *permitted;
    size_t permitted_count;
    struct name_rule *excluded;
    size_t excluded_count;
    bool on_subject; /* a directoryName is constrained: only an empty subject is surely allowed */
};

/* Reads the extension's value. Subtrees of forms that no leaf has are passed over. LEAFD_CONFIG
 * with a sentence that begins "the CA"; *ret is untouched. The caller ends it with
 * name_constraints_clear(). */
LEAFD_CHECKED enum leafd_err name_constraints_read(struct bytes value, struct name_constraints *ret,
                                                   struct why *why);
void name_constraints_clear(struct name_constraints *constraints);

/* Does any subtree speak of names of this kind? */
bool name_constraints_touch(const struct name_constraints *constraints, enum name_kind kind);
bool name_constraints_allow(const struct name_constraints *constraints, const struct name *name);

/* For a new CA, from rules as name_rule_of() reads them. Permits of domains alone would leave all
 * addresses free, and one of IPv4 says nothing that every client takes to be about IPv6: whatever
 * address family has no permit of its own is excluded whole as soon as anything is permitted.
 * Permits of addresses alone leave all domains free. LEAFD_CONFIG: a rule is none, there are too
 * many, or ".example.org", a form that the extension does not have. */
LEAFD_CHECKED enum leafd_err name_constraints_of(const char *const *permit, size_t permit_count,
                                                 const char *const *exclude, size_t exclude_count,
                                                 struct name_constraints *ret, struct why *why);
/* The extension's value. */
void name_constraints_put(struct der_writer *writer, const struct name_constraints *constraints);
