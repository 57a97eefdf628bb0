/* info: what the server is and how it does: models, health, status. */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/about.h"
#include "coordinator/api/answer.h"
#include "coordinator/web/page.h"

/* ---- models ---- */

/* llama.cpp's numbers of a model's file. */
static json_t *meta_json(const struct model *m, const struct control_route *route)
{
    const struct hparams *h = model_hparams(m);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "n_vocab", (json_int_t)h->n_vocab, "n_ctx",
                     (json_int_t)api_context(route), "n_ctx_train", (json_int_t)h->context, "n_embd",
                     (json_int_t)h->n_embd, "n_layer", (json_int_t)h->n_layers, "n_params",
                     (json_int_t)model_params_total(m), "n_params_active", (json_int_t)model_params_active(m), "size",
                     (json_int_t)file_set_bytes(model_files(m)));
}

/* The model (0), or with one of its adapters. */
static json_t *model_json(const struct api *a, uint32_t adapter)
{
    static const char *const loaded[] = {
        [CONTROL_WAITING] = "unloaded", [CONTROL_LOADING] = "loading", [CONTROL_READY] = "loaded"};
    struct control_route route;
    control_route(a->options.control, &route);
    const struct model *m = control_model(a->options.control);
    json_t *j = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s?, s:[]}", "id", a->ids[adapter], "object", "model", "created",
                          (json_int_t)a->started, "owned_by", "shoal", "root", a->ids[adapter], "parent",
                          adapter ? a->model_name : NULL, "permission");
    json_t *more = json_pack("{s:I, s:I, s:s, s:s, s:o, s:{s:s}, s:{s:[s], s:[s]}, s:o}", "max_model_len",
                             (json_int_t)api_context(&route), "context_length", (json_int_t)api_context(&route),
                             "quantization", about_quantization(m), "family", model_hparams(m)->arch->name, "meta",
                             meta_json(m, &route), "status", "value", loaded[route.state], "architecture",
                             "input_modalities", "text", "output_modalities", "text", "placement",
                             about_placement(&route));
    json_object_update(j, more);
    json_decref(more);
    return j;
}

void api_models(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    json_t *list = json_array();
    for (uint32_t i = 0; i <= a->options.n_adapters; i++)
        json_array_append_new(list, model_json(a, i));
    reply_json(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", list));
}

void api_model(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    uint32_t adapter;
    if (api_model_named(a, http_rest(x), &adapter)) {
        reply_json(x, 200, model_json(a, adapter));
        return;
    }
    struct refusal r = { 0 };
    (void)api_refuse_model(a, http_rest(x), &r);
    reply_refusal(x, &r);
}

/* ---- health, status ---- */

void api_health(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct control_route route;
    struct refusal r = { 0 };
    if (api_ready(a, &route, &r) != 0) {
        reply_refusal(x, &r);
        return;
    }
    reply_json(x, 200, json_pack("{s:s}", "status", "ok"));
}

void api_version(void *arg, struct http_exchange *x)
{
    (void)arg;
    reply_json(x, 200, json_pack("{s:s}", "version", SHOAL_VERSION));
}

/* "" when the vocabulary has no such token. */
static json_t *control_token_json(const struct api *a, int32_t id)
{
    return id >= 0 ? token_text_json(a, id) : json_string("");
}

/* What llama.cpp's clients ask a server first. */
void api_props(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    const struct tokenizer *t = a->options.tokenizer;
    const char *template = tokenizer_chat_template(t);
    struct control_route route;
    control_route(a->options.control, &route);
    json_t *j = json_pack("{s:{s:I}, s:I, s:s, s:s, s:s, s:o, s:o, s:{s:b, s:b}, s:s}", "default_generation_settings",
                          "n_ctx", (json_int_t)api_context(&route), "total_slots", (json_int_t)route.sequences_max,
                          "model_alias", a->model_name, "model_path", a->model_name, "chat_template",
                          template != NULL ? template : "", "bos_token", control_token_json(a, tokenizer_bos(t)),
                          "eos_token", control_token_json(a, tokenizer_eos(t)), "modalities", "vision", 0, "audio", 0,
                          "build_info", "shoal " SHOAL_VERSION);
    reply_json(x, 200, j);
}

void api_status(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    char *text = control_status_json(a->options.control);
    http_reply(x, 200, "application/json", text, strlen(text));
    mem_free(text);
}

/* ---- the page ---- */

void api_page(void *arg, struct http_exchange *x)
{
    (void)arg;
    struct refusal r = { .http = 404 };
    const char *name = http_rest(x);
    if (strncmp(name, "ui/", 3) == 0)
        name += 3; /* what the page's own names mean to a browser that was sent to /ui/ */
    if (page_reply(x, name[0] == '\0' ? "index.html" : name))
        return;
    (void)refuse(&r, ERR_NOT_FOUND, NULL, "the page has no file of this name");
    reply_refusal(x, &r);
}
