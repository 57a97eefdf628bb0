/* settings_file: a YAML file that holds one mapping of names to plain values, read with libyaml's events. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/memory.h"
#include "base/path.h"
#include "cli/settings.h"

/* The next event, or the parser's complaint with its line. */
static int next(yaml_parser_t *p, yaml_event_t *ev, struct error *e)
{
    if (yaml_parser_parse(p, ev))
        return 0;
    return error_set(e, ERR_CONFIG, "line %zu: %s", p->problem_mark.line + 1, p->problem ? p->problem : "is not YAML");
}

static int expect_scalar(const yaml_event_t *ev, const char *what, struct error *e)
{
    if (ev->type == YAML_SCALAR_EVENT && strlen((const char *)ev->data.scalar.value) == ev->data.scalar.length)
        return 0;
    return error_set(e, ERR_CONFIG, "line %zu: %s must be a plain value", ev->start_mark.line + 1, what);
}

static int read_pair(yaml_parser_t *p, const yaml_event_t *key, settings_set_fn set, void *arg, struct error *e)
{
    yaml_event_t value;
    int r = expect_scalar(key, "a setting's name", e);
    if (r == 0)
        r = next(p, &value, e);
    if (r != 0)
        return r;
    const char *name = (const char *)key->data.scalar.value;
    r = expect_scalar(&value, name, e);
    if (r == 0)
        r = set(arg, name, (const char *)value.data.scalar.value, key->start_mark.line + 1, e);
    yaml_event_delete(&value);
    return r;
}

/* Stream and document start, then one mapping (or nothing) to its end. */
static int read_document(yaml_parser_t *p, settings_set_fn set, void *arg, struct error *e)
{
    bool in_mapping = false;
    for (;;) {
        yaml_event_t ev;
        int r = next(p, &ev, e);
        if (r != 0)
            return r;
        yaml_event_type_t type = ev.type;
        if (in_mapping && type != YAML_MAPPING_END_EVENT)
            r = read_pair(p, &ev, set, arg, e);
        else if (type == YAML_MAPPING_START_EVENT)
            in_mapping = true;
        else if (type == YAML_SEQUENCE_START_EVENT || type == YAML_ALIAS_EVENT ||
                 (type == YAML_SCALAR_EVENT && ev.data.scalar.length > 0))
            r = error_set(e, ERR_CONFIG, "line %zu: settings are written as \"name: value\", one a line",
                          ev.start_mark.line + 1);
        yaml_event_delete(&ev);
        if (r != 0 || type == YAML_MAPPING_END_EVENT || type == YAML_STREAM_END_EVENT)
            return r;
    }
}

int settings_file_read(const char *path, settings_set_fn set, void *arg, struct error *e)
{
    char *data;
    size_t len;
    int r = path_read(path, SETTINGS_FILE_MAX, &data, &len, e);
    if (r != 0)
        return r;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        mem_free(data);
        return error_set(e, ERR_MEMORY, "no memory to read %s", path);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)data, len);
    r = read_document(&parser, set, arg, e);
    yaml_parser_delete(&parser);
    mem_free(data);
    return r == 0 ? 0 : error_context(e, "%s", path);
}
