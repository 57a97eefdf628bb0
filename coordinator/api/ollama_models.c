/* ollama_models: Ollama's endpoints about models: /, /api/version, tags, ps, show. */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <sodium.h>

#include "base/memory.h"
#include "coordinator/api/about.h"
#include "coordinator/api/fim.h"
#include "coordinator/api/ollama.h"
#include "coordinator/api/pooled.h"
#include "coordinator/web/page.h"

/* Arrays of more values are shown empty unless all is asked for, and of ARRAY_MAX then too. */
enum { ARRAY_SHORT = 5, ARRAY_MAX = 1 << 19, DIGEST_BYTES = 32 };

/* ---- words ---- */

const char *ollama_time(const struct timespec *t, char text[static OLLAMA_TIME_BYTES])
{
    struct tm utc = { 0 };
    gmtime_r(&t->tv_sec, &utc);
    size_t n = strftime(text, OLLAMA_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + n, OLLAMA_TIME_BYTES - n, ".%09ldZ", t->tv_nsec);
    return text;
}

const char *ollama_now(char text[static OLLAMA_TIME_BYTES])
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ollama_time(&now, text);
}

char *ollama_name(const char *id)
{
    const char *last = strrchr(id, '/');
    return mem_printf("%s%s", id, strchr(last == NULL ? id : last, ':') == NULL ? ":latest" : "");
}

const char *ollama_asked(const json_t *body)
{
    const json_t *model = json_object_get(body, "model");
    const json_t *v = json_string_length(model) > 0 ? model : json_object_get(body, "name");
    return json_string_length(v) > 0 ? json_string_value(v) : NULL;
}

/* A name that is not this server's. One that the store has is in the list of tags, so its user is told why it is of no
 * use here; not as a 404, after which clients would pull it. */
static int refuse_name(const struct api *a, const char *name, struct refusal *r)
{
    struct model_entry m;
    bool stored = ollama_stored(&m, name, &(struct error){ 0 }) == 0;
    model_entry_close(&m);
    if (stored)
        return refuse(r, ERR_CONFLICT, "model", "model '%.200s' not found here: it is stored, but this server answers "
                      "with '%.200s' only: start another one with it", name, a->model_name);
    return refuse(r, ERR_NOT_FOUND, "model", "model '%.200s' not found", name);
}

int ollama_find(const struct api *a, const json_t *body, uint32_t *adapter, struct refusal *r)
{
    const char *name = ollama_asked(body);
    if (name == NULL)
        return refuse(r, ERR_INVALID, "model", "model is required");
    return api_model_named(a, name, adapter) ? 0 : refuse_name(a, name, r);
}

/* ---- the server ---- */

/* Clients look whether anybody is there; people get the page. */
void api_root(void *arg, struct http_exchange *x)
{
    (void)arg;
    static const char text[] = "Ollama is running";
    if (page_wanted(x) && page_reply(x, "index.html"))
        return;
    http_reply_header(x, "Vary", "Accept");
    http_reply(x, 200, "text/plain; charset=utf-8", text, strlen(text));
}

void api_ollama_version(void *arg, struct http_exchange *x)
{
    (void)arg;
    reply_json(x, 200, json_pack("{s:s}", "version", OLLAMA_VERSION));
}

/* ---- the models ---- */

static json_t *details_json(const struct model *m, const char *parent)
{
    const char *family = model_hparams(m)->arch->name;
    char *parameters = about_parameters(m);
    json_t *j = json_pack("{s:s, s:s, s:s, s:[s], s:s, s:s}", "parent_model", parent, "format",
                          gguf_is_memory(model_file(m)) ? "safetensors" : "gguf", "family", family, "families", family,
                          "parameter_size", parameters, "quantization_level", about_quantization(m));
    mem_free(parameters);
    return j;
}

/* When the file was written; else when this server began. */
static json_t *modified_json(const struct api *a)
{
    struct timespec t = { .tv_sec = (time_t)a->started };
    struct stat st;
    char text[OLLAMA_TIME_BYTES];
    if (stat(gguf_path(model_file(control_model(a->options.control))), &st) == 0)
        t = st.st_mtim;
    return json_string(ollama_time(&t, text));
}

/* Tells models apart, no more: it is of the name, the shape and the size, not of the bytes. */
static json_t *digest_json(const struct api *a, uint32_t adapter)
{
    unsigned char hash[DIGEST_BYTES];
    char text[2 * DIGEST_BYTES + 1];
    char *what = mem_printf("%s %s", a->fingerprint, a->ids[adapter]);
    crypto_generichash(hash, sizeof(hash), (const unsigned char *)what, strlen(what), NULL, 0);
    sodium_bin2hex(text, sizeof(text), hash, sizeof(hash));
    mem_free(what);
    return json_string(text);
}

/* What both lists say of a model. */
static json_t *model_json(const struct api *a, uint32_t adapter)
{
    const struct model *m = control_model(a->options.control);
    char *name = ollama_name(a->ids[adapter]);
    json_t *j = json_pack("{s:s, s:s, s:I, s:o, s:o}", "name", name, "model", name, "size",
                          (json_int_t)file_set_bytes(model_files(m)), "digest", digest_json(a, adapter), "details",
                          details_json(m, adapter > 0 ? a->model_name : ""));
    mem_free(name);
    return j;
}

void api_ollama_tags(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    json_t *list = json_array();
    for (uint32_t i = 0; i <= a->options.n_adapters; i++) {
        json_t *j = model_json(a, i);
        json_object_set_new(j, "modified_at", modified_json(a));
        json_array_append_new(list, j);
    }
    ollama_add_stored(a, list);
    reply_json(x, 200, json_pack("{s:o}", "models", list));
}

/* What is loaded stays: clients call an end so far away "Forever". */
void api_ollama_ps(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct control_route route;
    control_route(a->options.control, &route);
    json_t *list = json_array();
    for (uint32_t i = 0; i <= a->options.n_adapters && route.state == CONTROL_READY; i++) {
        json_t *j = model_json(a, i);
        json_object_set_new(j, "expires_at", json_string("2318-01-01T00:00:00Z"));
        json_object_set_new(j, "size_vram", json_integer(0));
        json_object_set_new(j, "context_length", json_integer(api_context(&route)));
        json_array_append_new(list, j);
    }
    reply_json(x, 200, json_pack("{s:o}", "models", list));
}

/* ---- one model ---- */

static json_t *array_value(const struct gguf *g, const char *key, enum gguf_type type, uint64_t i)
{
    struct gguf_string s;
    int64_t whole;
    double number;
    json_t *j = NULL;
    if (type == GGUF_STRING && gguf_array_string(g, key, i, &s))
        j = json_stringn(s.text, s.len);
    else if (type == GGUF_F32 || type == GGUF_F64)
        j = gguf_array_f64(g, key, i, &number) ? json_real(number) : NULL;
    else if (gguf_array_i64(g, key, i, &whole))
        j = json_integer(whole);
    return j != NULL ? j : json_null();
}

static json_t *array_json(const struct gguf *g, const char *key, bool all)
{
    enum gguf_type type;
    uint64_t n;
    json_t *list = json_array();
    if (!gguf_array(g, key, &type, &n) || n > ARRAY_MAX || (!all && n > ARRAY_SHORT))
        return list;
    for (uint64_t i = 0; i < n; i++)
        json_array_append_new(list, array_value(g, key, type, i));
    return list;
}

/* NULL for what is no JSON: a text that is not UTF-8, a number that is none. */
static json_t *value_json(const struct gguf *g, const char *key, bool all)
{
    struct gguf_string s;
    bool flag;
    uint64_t whole;
    double number;
    if (gguf_get_string(g, key, &s))
        return json_stringn(s.text, s.len);
    if (gguf_get_bool(g, key, &flag))
        return json_boolean(flag);
    if (gguf_get_u64(g, key, &whole) && whole <= INT64_MAX)
        return json_integer((json_int_t)whole);
    if (gguf_get_f64(g, key, &number))
        return json_real(number);
    return array_json(g, key, all);
}

static json_t *info_json(const struct model *m, bool all)
{
    const struct gguf *g = model_file(m);
    json_t *info = json_object();
    for (size_t i = 0; i < gguf_key_count(g); i++) {
        struct gguf_string name = gguf_key_at(g, i);
        char *key = mem_printf("%.*s", (int)name.len, name.text);
        if (strcmp(key, "tokenizer.chat_template") != 0 && strcmp(key, "general.name") != 0) {
            json_t *value = value_json(g, key, all);
            json_object_set_new(info, key, value != NULL ? value : json_null());
        }
        mem_free(key);
    }
    json_object_set_new(info, "general.parameter_count", json_integer((json_int_t)model_params_total(m)));
    return info;
}

static json_t *capabilities_json(const struct api *a)
{
    enum pooling pooling = pooling_of(a);
    const struct {
        const char *name;
        bool has;
    } rows[] = {
        { "tools", a->options.chat != NULL && chat_has_tools(a->options.chat) },
        { "thinking", a->options.chat != NULL && chat_thinks(a->options.chat) },
        { "insert", fim_supported(a) },
        { "embedding", pooling == POOLING_MEAN || pooling == POOLING_FIRST || pooling == POOLING_LAST },
    };
    json_t *list = json_pack("[s]", "completion");
    for (size_t i = 0; i < COUNTOF(rows); i++)
        if (rows[i].has)
            json_array_append_new(list, json_string(rows[i].name));
    return list;
}

static json_t *show_json(const struct api *a, uint32_t adapter, bool all)
{
    const struct model *m = control_model(a->options.control);
    const char *template = tokenizer_chat_template(a->options.tokenizer);
    struct control_route route;
    control_route(a->options.control, &route);
    char *from = mem_printf("# Modelfile generated by \"ollama show\"\nFROM %s\n", a->ids[adapter]);
    char *parameters = mem_printf("%-30s %u", "num_ctx", api_context(&route));
    json_t *j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "modelfile", from, "parameters", parameters,
                          "template", template != NULL ? template : "", "details",
                          details_json(m, adapter > 0 ? a->model_name : ""), "model_info", info_json(m, all),
                          "capabilities", capabilities_json(a), "modified_at", modified_json(a));
    mem_free(from);
    mem_free(parameters);
    return j;
}

void api_ollama_show(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    json_t *body = NULL;
    uint32_t adapter = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = ollama_find(a, body, &adapter, &r);
    if (rc == 0)
        reply_json(x, 200, show_json(a, adapter, json_is_true(json_object_get(body, "verbose"))));
    else
        reply_refusal(x, &r);
    json_decref(body);
}
