/* events: see events.h. */
#include "tests/coordinator/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

static void add_event(json_t *list, const char *text, size_t n)
{
    const char *data = strstr(text, "\ndata: ");
    if (strncmp(text, "event: ", 7) != 0 || data == NULL || data > text + n)
        fail_msg("no event with a name: %.*s", (int)n, text);
    json_t *j = json_loadb(data + 7, n - (size_t)(data + 7 - text), 0, NULL);
    const char *type = json_string_value(json_object_get(j, "type"));
    if (type == NULL || strncmp(text + 7, type, (size_t)(data - text) - 7) != 0)
        fail_msg("an event that is not named as its type: %.*s", (int)n, text);
    json_array_append_new(list, j);
}

json_t *events_of(const char *text)
{
    json_t *list = json_array();
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        if (end == NULL)
            fail_msg("an event without an end: %s", text);
        if (text[0] != ':')
            add_event(list, text, (size_t)(end - text));
        text = end + 2;
    }
    return list;
}

char *events_types(const json_t *events)
{
    struct buffer out;
    const char *last = "";
    json_t *event;
    size_t i;
    buffer_init(&out, 1 << 16);
    json_array_foreach((json_t *)(uintptr_t)events, i, event) {
        const char *type = json_string_value(json_object_get(event, "type"));
        if (strcmp(type, last) != 0) {
            buffer_add_text(&out, type);
            buffer_add_text(&out, "\n");
        }
        last = type;
    }
    char *text = mem_strdup(buffer_text(&out));
    buffer_close(&out);
    return text;
}

const json_t *value_at(const json_t *j, const char *path)
{
    while (*path != '\0' && j != NULL) {
        char key[64];
        size_t n = strcspn(path, ".");
        assert_true(n < sizeof(key));
        memcpy(key, path, n);
        key[n] = '\0';
        j = json_is_array(j) ? json_array_get(j, strtoul(key, NULL, 10)) : json_object_get(j, key);
        path += n + (path[n] == '.');
    }
    return j;
}

void assert_json_at(const json_t *j, const char *path, const char *expected)
{
    json_t *wanted = json_loads(expected, JSON_DECODE_ANY, NULL);
    const json_t *found = value_at(j, path);
    assert_non_null(wanted);
    if (!json_equal(found, wanted)) {
        char *text = found == NULL ? mem_strdup("absent") : json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
        fail_msg("%s should be %s, but is %s", path, expected, text);
    }
    json_decref(wanted);
}

json_t *events_of_pieces(const struct shape *shape, struct answer_view *v, const struct piece *pieces, size_t n)
{
    void *state = mem_alloc(shape->state_bytes);
    struct buffer out;
    buffer_init(&out, 1 << 20);
    shape->begin(v, state, &out);
    for (size_t i = 0; i < n; i++) {
        struct piece p = pieces[i];
        p.len = p.text == NULL ? 0 : strlen(p.text);
        shape->piece(v, state, &p, &out);
    }
    shape->end(v, state, &out);
    shape->close(state);
    mem_free(state);
    json_t *events = events_of(buffer_text(&out));
    buffer_close(&out);
    return events;
}
