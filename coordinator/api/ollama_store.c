/* ollama_store: the store's models as Ollama's clients see them: in tags, delete and copy. */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/memory.h"
#include "coordinator/api/about.h"
#include "coordinator/api/ollama.h"
#include "coordinator/pull/hub.h"
#include "coordinator/pull/pull.h"

int ollama_stored(struct model_entry *out, const char *name, struct error *e)
{
    *out = (struct model_entry){ 0 };
    if (hub_is_source(name))
        return pull_find(out, name, e);
    int rc = model_name_check(name, e);
    return rc == 0 ? model_store_find(out, name, e) : rc;
}

/* ---- tags ---- */

static json_t *entry_json(const struct model_entry *m)
{
    struct timespec written = { .tv_sec = (time_t)m->modified };
    char time[OLLAMA_TIME_BYTES];
    char *parameters = about_size((double)m->parameters);
    json_t *details = json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s}", "parent_model", "", "format", m->format, "family",
                                m->architecture, "families", m->architecture, "parameter_size",
                                m->parameters > 0 ? parameters : "", "quantization_level", m->quant);
    mem_free(parameters);
    return json_pack("{s:s, s:s, s:s, s:I, s:s, s:o}", "name", m->name, "model", m->name, "modified_at",
                     ollama_time(&written, time), "size", (json_int_t)m->bytes, "digest", m->digest, "details",
                     details);
}

void ollama_add_stored(const struct api *a, json_t *list)
{
    struct model_entry *entries;
    size_t n;
    if (model_store_list(&entries, &n, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++) /* one that is served is in the list already */
        if (strcmp(entries[i].name, a->model_name) != 0)
            json_array_append_new(list, entry_json(&entries[i]));
    model_entries_free(&entries, n);
}

/* ---- delete and copy ---- */

/* The model that this server answers with lies in the entry's folder. */
static bool is_served(const struct api *a, const struct model_entry *m)
{
    const char *path = file_set_path(model_files(control_model(a->options.control)), 0);
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    char *folder = slash != NULL ? mem_printf("%.*s", (int)(slash - path), path) : mem_strdup(".");
    struct stat own, other;
    bool same = stat(folder, &own) == 0 && stat(m->folder, &other) == 0 && own.st_dev == other.st_dev &&
                own.st_ino == other.st_ino;
    mem_free(folder);
    return same;
}

/* The named field of the body, which must be there. */
static int text_of(const char **out, const json_t *body, const char *name, struct refusal *r)
{
    *out = json_string_value(json_object_get(body, name));
    return *out != NULL && (*out)[0] != '\0' ? 0 : refuse(r, ERR_INVALID, name, "%s is required", name);
}

static int find_stored(struct model_entry *out, const char *name, struct refusal *r)
{
    struct error e = { 0 };
    int rc = ollama_stored(out, name, &e);
    if (rc == ERR_NOT_FOUND || rc == ERR_INVALID)
        return refuse(r, ERR_NOT_FOUND, "model", "model '%.200s' not found", name);
    return rc == 0 ? 0 : refuse(r, rc, "model", "%s", e.text);
}

static int remove_stored(const struct api *a, const char *name, struct refusal *r)
{
    struct model_entry m = { 0 };
    uint64_t freed;
    int rc = find_stored(&m, name, r);
    if (rc == 0 && is_served(a, &m))
        rc = refuse(r, ERR_CONFLICT, "model", "model '%.200s' is the one that this server answers with", name);
    if (rc == 0)
        rc = model_store_remove(m.name, NULL, &freed, &r->error);
    model_entry_close(&m);
    return rc;
}

void api_ollama_delete(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    const char *name = NULL;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        name = ollama_asked(body);
    if (rc == 0 && name == NULL)
        rc = refuse(&r, ERR_INVALID, "model", "model is required");
    if (rc == 0)
        rc = remove_stored(arg, name, &r);
    if (rc == 0)
        http_reply(x, 200, "text/plain; charset=utf-8", "", 0);
    else
        reply_refusal(x, &r);
    json_decref(body);
}

void api_ollama_copy(void *arg, struct http_exchange *x)
{
    (void)arg;
    struct refusal r = { 0 };
    struct model_entry m = { 0 };
    json_t *body = NULL;
    const char *from = NULL, *to = NULL;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = text_of(&from, body, "source", &r);
    if (rc == 0)
        rc = text_of(&to, body, "destination", &r);
    if (rc == 0)
        rc = find_stored(&m, from, &r);
    if (rc == 0)
        rc = model_store_copy(m.name, to, &r.error);
    if (rc == 0)
        http_reply(x, 200, "text/plain; charset=utf-8", "", 0);
    else
        reply_refusal(x, &r);
    model_entry_close(&m);
    json_decref(body);
}
