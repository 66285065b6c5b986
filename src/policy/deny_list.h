/* SPDX-License-Identifier: Apache-2.0 */
/* The rules of policy.deny, for a list of any length: every request asks it, and an upstream leaf
 * with thousands of names asks it for each of them.
 *
 * Threads: a list never changes once it is made. */
#pragma once

#include "policy/names.h"

struct deny_list;

/* Of rules as name_rule_of() reads them. LEAFD_CONFIG: one of them is none, `why` says which. */
LEAFD_CHECKED enum leafd_err deny_list_new(char *const *texts, size_t count, struct deny_list **ret,
                                           struct why *why);
void deny_list_free(struct deny_list *list); /* NULL is fine */

/* Without a rule, or NULL. */
bool deny_list_is_empty(const struct deny_list *list);
/* Does any of its rules cover the name, as name_rule_covers() tells? NULL covers nothing. */
bool deny_list_covers(const struct deny_list *list, const struct name *name);
