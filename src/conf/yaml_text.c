/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/yaml_text.h"

#include <string.h>

static enum leafd_err bad_yaml(const yaml_parser_t *parser, size_t *ret_line, struct why *why)
{
    const char *problem = parser->problem ? parser->problem : "unreadable";

    *ret_line = 0;
    if (parser->error == YAML_MEMORY_ERROR)
        return LEAFD_NOMEM;
    if (parser->error == YAML_READER_ERROR)
        return fail(why, LEAFD_CONFIG, "byte %zu: %s; the text must be UTF-8",
                    parser->problem_offset, problem);
    *ret_line = parser->problem_mark.line + 1;
    return fail(why, LEAFD_CONFIG, "not YAML: %s%s%s", problem, parser->context ? ", " : "",
                parser->context ? parser->context : "");
}

/* What one event of the parser may not be; NULL when it is fine. */
static const char *event_fault(const yaml_event_t *event, int *depth, unsigned *documents)
{
    const yaml_char_t *anchor = NULL;
    const yaml_char_t *tag = NULL;

    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++*documents > 1)
            return "a second document begins here; a configuration is one";
        return NULL;
    case YAML_ALIAS_EVENT:
        return "aliases (*) are not for configurations; write the value out";
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        ++*depth;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        ++*depth;
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        --*depth;
        return NULL;
    default:
        return NULL;
    }
    if (anchor)
        return "anchors (&) are not for configurations; write the value out";
    if (tag)
        return "tags (!) are not for configurations";
    if (*depth > YAML_DEPTH_MAX)
        return "nested too deeply for a configuration";
    return NULL;
}

/* Anchors are gone once a document is loaded, and depth is best refused before: so a look at the
 * events comes first. */
static enum leafd_err look_at_events(struct bytes text, size_t *ret_line, struct why *why)
{
    enum leafd_err err = LEAFD_OK;
    yaml_parser_t parser;
    unsigned documents = 0;
    int depth = 0;
    bool done = false;

    if (!yaml_parser_initialize(&parser))
        return LEAFD_NOMEM;
    yaml_parser_set_input_string(&parser, text.data, text.len);
    while (err == LEAFD_OK && !done) {
        yaml_event_t event;
        const char *fault;

        if (!yaml_parser_parse(&parser, &event)) {
            err = bad_yaml(&parser, ret_line, why);
            break;
        }
        fault = event_fault(&event, &depth, &documents);
        if (fault) {
            *ret_line = event.start_mark.line + 1;
            err = fail(why, LEAFD_CONFIG, "%s", fault);
        }
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return err;
}

/* libyaml would take the rest of a text with NULs for another encoding, and C takes them for its
 * end. */
static enum leafd_err check_bytes(struct bytes text, size_t max, size_t *ret_line, struct why *why)
{
    *ret_line = 0;
    if (text.len > max)
        return fail(why, LEAFD_CONFIG, "is larger than %zu bytes", max);
    *ret_line = 1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '\0')
            return fail(why, LEAFD_CONFIG, "has a NUL byte; the text must be UTF-8");
        *ret_line += text.data[i] == '\n';
    }
    return LEAFD_OK;
}

enum leafd_err yaml_text_load(struct bytes text, size_t max, yaml_document_t *ret, size_t *ret_line,
                              struct why *why)
{
    enum leafd_err err = check_bytes(text, max, ret_line, why);
    yaml_parser_t parser;

    if (err == LEAFD_OK)
        err = look_at_events(text, ret_line, why);
    if (err != LEAFD_OK)
        return err;
    if (!yaml_parser_initialize(&parser))
        return LEAFD_NOMEM;
    yaml_parser_set_input_string(&parser, text.data, text.len);
    if (!yaml_parser_load(&parser, ret))
        err = bad_yaml(&parser, ret_line, why);
    yaml_parser_delete(&parser);
    return err;
}

const char *yaml_scalar(const yaml_node_t *node, const char **ret_fault)
{
    const char *text = NULL;

    if (node->type != YAML_SCALAR_NODE) {
        *ret_fault = node->type == YAML_SEQUENCE_NODE ? "must be one value, not a list"
                                                      : "must be one value, not a map";
        return NULL;
    }
    text = (const char *)node->data.scalar.value;
    for (size_t i = 0; i < node->data.scalar.length; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            *ret_fault = "has a control character in its value";
            return NULL;
        }
    }
    if (node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        (*text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0)) {
        *ret_fault = "has no value; leave the line out for the default, or write \"\" for none";
        return NULL;
    }
    return text;
}

size_t yaml_line(const yaml_node_t *node)
{
    return node ? node->start_mark.line + 1 : 0;
}
