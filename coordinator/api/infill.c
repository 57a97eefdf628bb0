/* infill: llama.cpp's own endpoints: POST /infill, for editors: what belongs between two texts; and /completion.
 *
 * Fields and answers are llama.cpp's; defaults too.  Files of input_extra come
 * before the text, as many of the last ones as leave room for an answer.     */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/completions.h"
#include "coordinator/api/fim.h"
#include "coordinator/api/request.h"

enum { ANSWER_SHARE = 4 }; /* of the context: what is left for an answer of no given length */

/* ---- the answer ---- */

static json_t *rate(const char *what, uint64_t n, uint64_t us)
{
    double ms = (double)us / 1000;
    json_t *j = json_object();
    const struct {
        const char *name;
        double value;
    } rows[] = {
        { "n", (double)n },
        { "ms", ms },
        { "per_token_ms", n == 0 ? 0 : ms / (double)n },
        { "per_second", us == 0 ? 0 : (double)n * 1000 / ms },
    };
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        char *name = mem_printf("%s_%s", what, rows[i].name);
        json_object_set_new(j, name, i == 0 ? json_integer((json_int_t)n) : json_real(rows[i].value));
        mem_free(name);
    }
    return j;
}

static json_t *part_json(const struct answer_view *v, uint32_t index, const char *text, size_t len, bool stop)
{
    return json_pack("{s:i, s:s%, s:[], s:i, s:b, s:I, s:I}", "index", (int)index, "content", text, len, "tokens",
                     "id_slot", -1, "stop", stop, "tokens_predicted", (json_int_t)v->usage.completion_tokens,
                     "tokens_evaluated", (json_int_t)v->usage.prompt_tokens);
}

static json_t *last_json(const struct answer_view *v, uint32_t index, const char *text, size_t len, const char *finish,
                         const char *stop_word)
{
    json_t *j = part_json(v, index, text, len, true);
    json_t *timings = rate("prompt", v->usage.prompt_tokens, v->usage.prefill_us);
    json_t *predicted = rate("predicted", v->usage.completion_tokens, v->usage.decode_us);
    bool limit = strcmp(finish, "length") == 0;
    json_object_update(timings, predicted);
    json_decref(predicted);
    json_t *rest = json_pack("{s:s, s:s, s:s, s:b, s:b, s:I, s:o}", "model", v->model, "stop_type",
                             limit ? "limit" : stop_word != NULL ? "word" : "eos", "stopping_word",
                             stop_word != NULL ? stop_word : "", "has_new_line", memchr(text, '\n', len) != NULL,
                             "truncated", false, "tokens_cached",
                             (json_int_t)(v->usage.prompt_tokens + v->usage.completion_tokens), "timings", timings);
    json_object_update(j, rest);
    json_decref(rest);
    return j;
}

/* "timings/prompt_n" is prompt_n of timings; the caller's, NULL when it is not there. */
static json_t *field_at(const json_t *j, const char *path)
{
    while (j != NULL && *path != '\0') {
        size_t n = strcspn(path, "/");
        j = json_object_getn(j, path, n);
        path += n + (path[n] == '/');
    }
    return json_incref((json_t *)(uintptr_t)j);
}

/* Only what response_field asks for, under the names that it asks with. */
static json_t *only_wanted(const struct answer_view *v, json_t *takes)
{
    const json_t *fields = json_object_get(v->request, "response_fields"), *field;
    size_t i;
    if (json_array_size(fields) == 0)
        return takes;
    json_t *out = json_object();
    json_array_foreach(fields, i, field) {
        json_t *value = json_is_string(field) ? field_at(takes, json_string_value(field)) : NULL;
        if (value != NULL)
            json_object_set_new(out, json_string_value(field), value);
    }
    json_decref(takes);
    return out;
}

static void infill_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    (void)state;
    json_t *j = p->finish == NULL ? part_json(v, p->choice, p->text, p->len, false)
                                  : only_wanted(v, last_json(v, p->choice, "", 0, p->finish, p->stop_word));
    put_event(out, NULL, j);
}

static void infill_end(struct answer_view *v, void *state, struct buffer *out)
{
    (void)v, (void)state, (void)out; /* the last piece said it */
}

static json_t *infill_whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    const struct choice_whole *c = &choices[0]; /* n is 1 */
    (void)n;
    return only_wanted(v, last_json(v, 0, c->text, c->text_len, c->finish, c->stop_word));
}

static const struct shape infill_shape = {
    .id_prefix = "cmpl-",
    .media_type = "text/event-stream",
    .piece = infill_piece,
    .end = infill_end,
    .fail = openai_fail,
    .whole = infill_whole,
};

/* ---- the request ---- */

static int check_text(const json_t *body, const char *name, bool needed, struct refusal *r)
{
    const json_t *text = json_object_get(body, name);
    bool absent = text == NULL || json_is_null(text);
    if (absent ? !needed : json_is_string(text))
        return 0;
    return refuse(r, ERR_INVALID, name, absent ? "%s is needed" : "%s must be a string", name);
}

/* The same as a body of /v1/completions, without the prompt. */
static json_t *translate(const json_t *body)
{
    static const char *const others[] = { "prompt", "suffix", "n", "best_of", "echo", "logprobs", "stream_options" };
    static const struct {
        const char *name;
        double initial;
    } defaults[] = { { "temperature", 0.8 }, { "top_p", 0.95 }, { "min_p", 0.05 } };
    json_t *j = json_copy((json_t *)(uintptr_t)body);
    for (size_t i = 0; i < COUNTOF(others); i++)
        json_object_del(j, others[i]);
    for (size_t i = 0; i < COUNTOF(defaults); i++)
        if (json_object_get(j, defaults[i].name) == NULL)
            json_object_set_new(j, defaults[i].name, json_real(defaults[i].initial));
    if (json_object_get(j, "top_k") == NULL)
        json_object_set_new(j, "top_k", json_integer(40));
    if (json_is_integer(json_object_get(j, "n_predict")) && json_integer_value(json_object_get(j, "n_predict")) == 0)
        json_object_set_new(j, "max_tokens", json_integer(0)); /* editors ask so that the cache is warm */
    return j;
}

static int check_body(const struct api *a, const json_t *body, struct refusal *r)
{
    if (!fim_supported(a)) {
        r->http = 501;
        return refuse(r, ERR_UNSUPPORTED, NULL, "infill is not supported: this model has no tokens for a text whose "
                      "middle is wanted");
    }
    int rc = check_text(body, "input_prefix", true, r);
    if (rc == 0)
        rc = check_text(body, "input_suffix", true, r);
    if (rc == 0)
        rc = check_text(body, "prompt", false, r);
    return rc == 0 ? fim_check_files(json_object_get(body, "input_extra"), "input_extra", r) : rc;
}

/* input_prefix and what was typed since then, input_suffix, input_extra. */
static int make_prompt(struct generation_request *q, const json_t *body)
{
    const json_t *suffix = json_object_get(body, "input_suffix"), *typed = json_object_get(body, "prompt");
    char *text = mem_printf("%s%s", json_string_value(json_object_get(body, "input_prefix")),
                            json_is_string(typed) ? json_string_value(typed) : "");
    uint32_t context = api_context(&q->route);
    int64_t wanted = q->params.n_predict > 0 ? q->params.n_predict : q->params.max_tokens;
    size_t answer = wanted < 0 ? context / ANSWER_SHARE : (size_t)wanted;
    struct token_list prefix = { 0 };
    struct fim f = {
        .prefix = &prefix,
        .suffix = json_string_value(suffix),
        .suffix_len = json_string_length(suffix),
        .files = json_object_get(body, "input_extra"),
        .room = answer < context ? context - answer : 0,
    };
    q->prompt_field = "input_prefix";
    q->prompts = mem_array(1, sizeof(*q->prompts));
    q->n_prompts = 1;
    int rc = tokenizer_encode(q->api->options.tokenizer, text, strlen(text), 0, &prefix, &q->refusal.error);
    if (rc == 0)
        rc = fim_prompt(q->api, &f, &q->prompts[0].tokens, &q->refusal.error);
    token_list_free(&prefix);
    mem_free(text);
    return rc;
}

void api_infill(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = check_body(arg, body, &r);
    struct generation_request q;
    if (rc != 0)
        reply_refusal(x, &r);
    else if (request_open(&q, arg, x, translate(body), body, FOR_COMPLETION, &infill_shape) == 0)
        request_answer(&q, make_prompt(&q, body));
    json_decref(body);
}

/* ---- /completion ---- */

/* One text or list of ids: the answer has no place for more. */
static int check_prompt(const json_t *body, struct refusal *r)
{
    const json_t *prompt = json_object_get(body, "prompt");
    if (json_array_size(prompt) > 1 && !json_is_number(json_array_get(prompt, 0)))
        return refuse(r, ERR_UNSUPPORTED, "prompt", "prompt must be one text or one list of token ids here; "
                      "/v1/completions takes several");
    return 0;
}

void api_completion(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = check_prompt(body, &r);
    if (rc != 0) {
        reply_refusal(x, &r);
    } else {
        json_t *translated = translate(body), *prompt = json_object_get(body, "prompt");
        if (prompt != NULL)
            json_object_set(translated, "prompt", prompt);
        completion_answer(arg, x, translated, body, &infill_shape);
    }
    json_decref(body);
}
