/* conversation: one JSON object a file. */
#include "cli/conversation.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/path.h"

#define FORMAT "shoal conversation"
#define SUFFIX ".json"

enum { VERSION = 1 };

/* ---- names ---- */

/* Where it is; the caller frees it. */
static int find_path(const char *folder, const char *name, char **path, struct error *e)
{
    *path = NULL;
    if (strchr(name, '/')) {
        *path = mem_strdup(name);
        return 0;
    }
    if (name[0] == '\0' || name[0] == '.' || strlen(name) > CONVERSATION_NAME_MAX)
        return error_set(e, ERR_INVALID, "\"%.40s\" is no name: it has 1 to %d bytes and does not begin with a dot",
                         name, CONVERSATION_NAME_MAX);
    char *file = mem_printf("%s" SUFFIX, name);
    *path = path_join(folder, file);
    mem_free(file);
    return 0;
}

static size_t name_length(const char *file)
{
    size_t n = strlen(file), suffix = strlen(SUFFIX);
    return n > suffix && file[0] != '.' && strcmp(file + n - suffix, SUFFIX) == 0 ? n - suffix : 0;
}

size_t conversation_list(const char *folder, FILE *out)
{
    struct dirent **entries;
    size_t found = 0;
    int n = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        int length = (int)name_length(entries[i]->d_name);
        if (length > 0)
            fprintf(out, "  %.*s\n", length, entries[i]->d_name);
        found += length > 0;
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return found;
}

/* ---- reading ---- */

static int check_message(const json_t *message, size_t i, struct error *e)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    json_t *reasoning = json_object_get(message, "reasoning_content");
    if (!role || (strcmp(role, "user") != 0 && strcmp(role, "assistant") != 0))
        return error_set(e, ERR_CORRUPT, "message %zu is neither a user's nor the assistant's", i + 1);
    if (!json_is_string(json_object_get(message, "content")) || (reasoning && !json_is_string(reasoning)))
        return error_set(e, ERR_CORRUPT, "message %zu has no text", i + 1);
    return 0;
}

static int check(const json_t *j, struct error *e)
{
    const char *format = json_string_value(json_object_get(j, "format"));
    json_t *messages = json_object_get(j, "messages"), *message;
    size_t i;
    if (!format || strcmp(format, FORMAT) != 0 || !json_is_array(messages))
        return error_set(e, ERR_CORRUPT, "it is no conversation that /save wrote");
    if (json_integer_value(json_object_get(j, "version")) != VERSION)
        return error_set(e, ERR_UNSUPPORTED, "it is of another version");
    if (!json_is_object(json_object_get(j, "parameters")))
        return error_set(e, ERR_CORRUPT, "its parameters are missing");
    json_array_foreach(messages, i, message) {
        int r = check_message(message, i, e);
        if (r != 0)
            return r;
    }
    return 0;
}

/* The checked object; the caller's. */
static int read_file(const char *path, json_t **out, struct error *e)
{
    char *data;
    size_t len;
    int r = path_read(path, CONVERSATION_BYTES_MAX, &data, &len, e);
    if (r != 0)
        return r;
    *out = json_loadb(data, len, JSON_REJECT_DUPLICATES, NULL);
    r = check(*out, e);
    if (r != 0) {
        json_decref(*out);
        *out = NULL;
        r = error_context(e, "%s", path);
    }
    mem_free(data);
    return r;
}

/* Models are loaded by a command of their own. */
static int explain(const char *name, const char *path, int r, struct error *e)
{
    if (r == ERR_NOT_FOUND)
        return error_set(e, r, "%s is not there; /load alone lists what was saved", path);
    size_t n = strlen(name);
    if (path_is_folder(path) || (n > 5 && strcmp(name + n - 5, ".gguf") == 0))
        return error_set(e, ERR_INVALID, "%s is no saved conversation; for another model leave, and call shoal run "
                         "with it", path);
    return r;
}

static void take(struct talk *t, const json_t *j)
{
    talk_clear(t);
    json_array_extend(t->messages, json_object_get(j, "messages"));
    talk_set_system(t, json_string_value(json_object_get(j, "system")));
    talk_set_think(t, json_string_value(json_object_get(j, "think")));
}

int conversation_load(struct talk *t, const char *folder, const char *name, char **model, struct error *e)
{
    char *path;
    json_t *j = NULL;
    *model = NULL;
    int r = find_path(folder, name, &path, e);
    if (r == 0)
        r = read_file(path, &j, e);
    if (r == 0 && (r = parameters_from_json(&t->parameters, json_object_get(j, "parameters"), e)) != 0)
        r = error_context(e, "%s", path);
    else if (r != 0 && path)
        r = explain(name, path, r, e);
    if (r == 0) {
        const char *with = json_string_value(json_object_get(j, "model"));
        *model = mem_strdup(with ? with : "");
        error_printable(*model);
        take(t, j);
    }
    json_decref(j);
    mem_free(path);
    return r;
}

/* ---- writing ---- */

static int check_place(const char *path, struct error *e)
{
    json_t *j = NULL;
    if (!path_exists(path) || read_file(path, &j, NULL) == 0) {
        json_decref(j);
        return 0;
    }
    return error_set(e, ERR_CONFLICT, "%s is there and is no saved conversation; it stays as it is", path);
}

static char *to_text(const struct talk *t)
{
    json_t *j = json_pack("{s:s, s:i, s:s, s:s*, s:s*, s:o, s:O}", "format", FORMAT, "version", VERSION, "model",
                          model_hparams(t->local.model)->name, "system", t->system, "think", t->think, "parameters",
                          parameters_json(&t->parameters), "messages", t->messages);
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL;
    json_decref(j);
    return text;
}

int conversation_save(const struct talk *t, const char *folder, const char *name, char **path, struct error *e)
{
    int r = find_path(folder, name, path, e);
    if (r == 0 && !strchr(name, '/'))
        r = path_make_dirs(folder, 0700, e);
    if (r == 0)
        r = check_place(*path, e);
    if (r != 0)
        return r;
    char *text = to_text(t);
    if (!text)
        return error_set(e, ERR_INVALID, "the system's text is not UTF-8");
    r = path_write_atomic(*path, text, strlen(text), 0600, e);
    free(text);
    return r;
}
