/* SPDX-License-Identifier: Apache-2.0 */
/* YAML, only what a configuration needs of it: one document of UTF-8 text without anchors, aliases
 * and tags, of bounded size and depth, loaded by libyaml.
 *
 * Threads: no shared state. */
#pragma once

#include "base/bytes.h"

#include <yaml.h>

enum { YAML_DEPTH_MAX = 5 /* a list in a listener in the list of listeners, and one spare */ };

/* Loads `text`, of at most `max` octets. LEAFD_CONFIG: *ret_line is where, or 0, and `why` has the
 * sentence without it; *ret is untouched. The caller ends it with yaml_document_delete(). */
LEAFD_CHECKED enum leafd_err yaml_text_load(struct bytes text, size_t max, yaml_document_t *ret,
                                            size_t *ret_line, struct why *why);

/* The text of a scalar without control characters; NULL with the reason (fit to follow "key: ")
 * for a list, a map, or nothing at all. Borrowed from the document. */
const char *yaml_scalar(const yaml_node_t *node, const char **ret_fault);
/* The line that a node begins in; 0 for NULL. */
size_t yaml_line(const yaml_node_t *node);
