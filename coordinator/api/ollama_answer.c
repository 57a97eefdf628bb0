/* ollama_answer: answers as Ollama's clients read them: lines of JSON, the last of which is `done`.
 *
 * Calls of tools are given whole, with their arguments as an object: what comes of them is kept until the next
 * begins or the answer ends. A call that "length" cut is no call. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/ollama.h"

enum { ARGUMENTS_MAX = 8 << 20, NS_PER_US = 1000 };

struct lines {
    struct buffer arguments; /* of the call under way */
    char *id, *name;         /* NULL: none is */
    uint32_t call;
    const char *finish;
};

/* ---- parts ---- */

/* The name by which the client asked. */
static json_t *head_json(const json_t *request, const char *model)
{
    char now[OLLAMA_TIME_BYTES];
    const char *asked = ollama_asked(request);
    return json_pack("{s:s, s:s}", "model", asked != NULL ? asked : model, "created_at", ollama_now(now));
}

static json_t *token_json(const struct api *a, int32_t id, float logprob)
{
    return json_pack("{s:o, s:o, s:o}", "token", token_text_json(a, id), "logprob", logprob_json(logprob), "bytes",
                     token_bytes_json(a, id));
}

static void put_logprobs(json_t *line, const struct answer_view *v, const struct token_info *tokens, size_t n)
{
    if (!v->logprobs || n == 0)
        return;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *top = json_array(), *j = token_json(v->api, tokens[i].id, tokens[i].logprob);
        for (uint32_t k = 0; k < tokens[i].n_top; k++)
            json_array_append_new(top, token_json(v->api, tokens[i].top[k].token, tokens[i].top[k].logprob));
        if (tokens[i].n_top > 0)
            json_object_set(j, "top_logprobs", top);
        json_decref(top);
        json_array_append_new(list, j);
    }
    json_object_set_new(line, "logprobs", list);
}

/* What the model says, where each endpoint's clients look for it; takes the calls, NULL: none. */
static void put_words(json_t *line, bool chat, json_t *text, json_t *thinking, json_t *calls)
{
    json_t *to = chat ? json_pack("{s:s}", "role", "assistant") : json_incref(line);
    json_object_set_new(to, chat ? "content" : "response", text);
    if (thinking != NULL)
        json_object_set_new(to, "thinking", thinking);
    if (calls != NULL)
        json_object_set_new(to, "tool_calls", calls);
    if (chat)
        json_object_set(line, "message", to);
    json_decref(to);
}

/* NULL: the arguments are not whole. */
static json_t *call_json(uint32_t index, const char *id, const char *name, const char *arguments)
{
    json_t *object = json_loads(arguments[0] != '\0' ? arguments : "{}", 0, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    return json_pack("{s:s, s:{s:i, s:s, s:o}}", "id", id, "function", "index", (int)index, "name", name, "arguments",
                     object);
}

static void put_done(json_t *line, const struct answer_view *v, const char *finish)
{
    bool stopped = finish == NULL || strcmp(finish, "tool_calls") == 0;
    const struct usage *u = &v->usage;
    json_t *done = json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "done", 1, "done_reason",
                             stopped ? "stop" : finish, "total_duration",
                             (json_int_t)((clock_us() - v->begun_us) * NS_PER_US), "load_duration",
                             (json_int_t)(u->queued_us * NS_PER_US), "prompt_eval_count", (json_int_t)u->prompt_tokens,
                             "prompt_eval_duration", (json_int_t)(u->prefill_us * NS_PER_US), "eval_count",
                             (json_int_t)u->completion_tokens, "eval_duration", (json_int_t)(u->decode_us * NS_PER_US));
    json_object_update(line, done);
    json_decref(done);
}

json_t *ollama_idle_json(const json_t *request, bool chat, const char *reason)
{
    json_t *line = head_json(request, "");
    put_words(line, chat, json_string(""), NULL, NULL);
    json_object_set_new(line, "done", json_true());
    json_object_set_new(line, "done_reason", json_string(reason));
    return line;
}

/* ---- lines ---- */

/* Takes what put_words() takes. */
static void put_part(const struct answer_view *v, bool chat, json_t *text, json_t *thinking, json_t *calls,
                     const struct piece *p, struct buffer *out)
{
    json_t *line = head_json(v->request, v->model);
    put_words(line, chat, text, thinking, calls);
    if (p != NULL)
        put_logprobs(line, v, p->tokens, p->n_tokens);
    json_object_set_new(line, "done", json_false());
    put_line(out, line);
}

static void end_call(const struct answer_view *v, struct lines *s, struct buffer *out)
{
    if (s->name == NULL)
        return;
    json_t *call = call_json(s->call, s->id, s->name, buffer_text(&s->arguments));
    if (call != NULL)
        put_part(v, true, json_string(""), NULL, json_pack("[o]", call), NULL, out);
    mem_free(s->id);
    mem_free(s->name);
    s->id = s->name = NULL;
    buffer_clear(&s->arguments);
}

static void begin_call(const struct answer_view *v, struct lines *s, const struct piece *p, struct buffer *out)
{
    end_call(v, s, out);
    s->id = mem_strdup(p->call_id);
    s->name = mem_strdup(p->call_name);
    s->call = p->call;
}

static void on_begin(struct answer_view *v, void *state, struct buffer *out)
{
    (void)v;
    (void)out;
    buffer_init(&((struct lines *)state)->arguments, ARGUMENTS_MAX);
}

static void on_piece(const struct answer_view *v, struct lines *s, const struct piece *p, bool chat,
                     struct buffer *out)
{
    if (p->finish != NULL) {
        end_call(v, s, out);
        s->finish = p->finish;
    } else if (p->kind == PIECE_CALL) {
        begin_call(v, s, p, out);
    } else if (p->kind == PIECE_ARGUMENTS) {
        buffer_add(&s->arguments, p->text, p->len);
    } else {
        json_t *text = json_stringn(p->text, p->len);
        bool thinks = p->kind == PIECE_REASONING;
        put_part(v, chat, thinks ? json_string("") : text, thinks ? text : NULL, NULL, p, out);
    }
}

static void on_end(const struct answer_view *v, const struct lines *s, bool chat, struct buffer *out)
{
    json_t *line = head_json(v->request, v->model);
    put_words(line, chat, json_string(""), NULL, NULL);
    put_done(line, v, s->finish);
    put_line(out, line);
}

static void on_fail(struct answer_view *v, void *state, const struct error *e, struct buffer *out)
{
    (void)v;
    (void)state;
    struct refusal r = { .error = *e };
    put_line(out, refusal_json(&r, ERRORS_OLLAMA));
}

static void on_close(void *state)
{
    struct lines *s = state;
    buffer_close(&s->arguments);
    mem_free(s->id);
    mem_free(s->name);
}

static json_t *whole_json(const struct answer_view *v, const struct choice_whole *c, bool chat)
{
    json_t *calls = json_array(), *line = head_json(v->request, v->model);
    for (size_t i = 0; i < c->n_calls; i++) {
        json_t *call = call_json((uint32_t)i, c->calls[i].id, c->calls[i].name, c->calls[i].arguments);
        if (call != NULL)
            json_array_append_new(calls, call);
    }
    put_words(line, chat, json_stringn(c->text, c->text_len),
              c->reasoning_len > 0 ? json_stringn(c->reasoning, c->reasoning_len) : NULL,
              json_array_size(calls) > 0 ? json_incref(calls) : NULL);
    put_logprobs(line, v, c->tokens, c->n_tokens);
    put_done(line, v, c->finish);
    json_decref(calls);
    return line;
}

/* ---- the two shapes ---- */

static void chat_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    on_piece(v, state, p, true, out);
}

static void generate_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    on_piece(v, state, p, false, out);
}

static void chat_end(struct answer_view *v, void *state, struct buffer *out)
{
    on_end(v, state, true, out);
}

static void generate_end(struct answer_view *v, void *state, struct buffer *out)
{
    on_end(v, state, false, out);
}

/* A line that says nothing: clients read every line as JSON, so an empty one would end them. */
static void chat_ping(struct answer_view *v, struct buffer *out)
{
    put_part(v, true, json_string(""), NULL, NULL, NULL, out);
}

static void generate_ping(struct answer_view *v, struct buffer *out)
{
    put_part(v, false, json_string(""), NULL, NULL, NULL, out);
}

static json_t *chat_whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    (void)n;
    return whole_json(v, &choices[0], true);
}

static json_t *generate_whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    (void)n;
    return whole_json(v, &choices[0], false);
}

static const struct field_name names[] = {
    { "n_predict", "num_predict" },
    { "response_format", "format" },
    { "reasoning_effort", "think" },
    { NULL, NULL },
};

#define SHAPE(of)                                                                                                      \
    {                                                                                                                  \
        .names = names,                                                                                                \
        .id_prefix = "ollama-", .media_type = "application/x-ndjson", .state_bytes = sizeof(struct lines),             \
        .begin = on_begin, .piece = of##_piece, .end = of##_end, .fail = on_fail, .ping = of##_ping,                   \
        .close = on_close, .whole = of##_whole,                                                                        \
    }

const struct shape ollama_chat_shape = SHAPE(chat);
const struct shape ollama_generate_shape = SHAPE(generate);
