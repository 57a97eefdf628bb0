/* responses_answer: an answer as a response: its items, and the events in which they come.
 *
 * One item is open at a time; a piece of another kind, or a call, ends it and
 * begins the next.  Every event has the number that follows the last one's.  */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/responses.h"

enum { ITEM_MAX = 64 << 20 }; /* bytes of an item's text */

struct turn {
    json_int_t sequence; /* of the next event */
    json_t *output;      /* the items that have ended */
    bool open;
    enum piece_kind kind; /* of the open item, and the rest of it */
    char *id, *call_id, *name;
    struct buffer text;
    json_t *logprobs;
    const char *finish;
    bool summary; /* thoughts are shown as summaries */
};

/* ---- events ---- */

static void put_step(struct turn *s, json_t *takes, struct buffer *out)
{
    char *type = mem_strdup(json_string_value(json_object_get(takes, "type")));
    json_object_set_new(takes, "sequence_number", json_integer(s->sequence++));
    put_event(out, type, takes);
    mem_free(type);
}

static void put_response(struct turn *s, const char *type, json_t *response, struct buffer *out)
{
    put_step(s, json_pack("{s:s, s:o}", "type", type, "response", response), out);
}

static struct response_item item_of(const struct turn *s, const char *status)
{
    return (struct response_item){
        .kind = s->kind, .id = s->id, .status = status, .text = buffer_text(&s->text), .len = s->text.len,
        .logprobs = s->logprobs, .call_id = s->call_id, .name = s->name, .summary = s->summary,
    };
}

static void put_item(struct turn *s, const char *type, json_t *item, struct buffer *out)
{
    put_step(s, json_pack("{s:s, s:I, s:o}", "type", type, "output_index", (json_int_t)json_array_size(s->output),
                          "item", item), out);
}

static bool tells_summary(const struct turn *s)
{
    return s->kind == PIECE_REASONING && s->summary;
}

/* The names of events: of an item's only part, and of its text. */
static const char *part_event(const struct turn *s, bool done)
{
    if (tells_summary(s))
        return done ? "response.reasoning_summary_part.done" : "response.reasoning_summary_part.added";
    return done ? "response.content_part.done" : "response.content_part.added";
}

static const char *text_event(const struct turn *s, bool done)
{
    if (s->kind == PIECE_CALL)
        return done ? "response.function_call_arguments.done" : "response.function_call_arguments.delta";
    if (s->kind == PIECE_TEXT)
        return done ? "response.output_text.done" : "response.output_text.delta";
    if (tells_summary(s))
        return done ? "response.reasoning_summary_text.done" : "response.reasoning_summary_text.delta";
    return done ? "response.reasoning_text.done" : "response.reasoning_text.delta";
}

/* An event of the open item; the value is taken. */
static void put_of_item(struct turn *s, const char *type, const char *field, json_t *value, struct buffer *out)
{
    json_t *j = json_pack("{s:s, s:s, s:I, s:o}", "type", type, "item_id", s->id, "output_index",
                          (json_int_t)json_array_size(s->output), field, value);
    if (s->kind != PIECE_CALL)
        json_object_set_new(j, tells_summary(s) ? "summary_index" : "content_index", json_integer(0));
    if (s->kind == PIECE_TEXT && strncmp(type, "response.output_text.", 21) == 0)
        json_object_set_new(j, "logprobs", json_copy(s->logprobs));
    put_step(s, j, out);
}

static json_t *text_json(const struct turn *s)
{
    return json_stringn(buffer_text(&s->text), s->text.len);
}

/* ---- items ---- */

static void begin_item(struct turn *s, enum piece_kind kind, const struct piece *p, struct buffer *out)
{
    s->open = true;
    s->kind = kind;
    s->id = response_item_id(kind);
    s->logprobs = json_array();
    if (kind == PIECE_CALL) {
        s->call_id = mem_strdup(p->call_id);
        s->name = mem_strdup(p->call_name);
    }
    struct response_item item = item_of(s, "in_progress");
    put_item(s, "response.output_item.added", response_item_json(&item, true), out);
    if (kind != PIECE_CALL)
        put_of_item(s, part_event(s, false), "part", response_part_json(&item), out);
}

static void forget_item(struct turn *s)
{
    mem_free(s->id);
    mem_free(s->call_id);
    mem_free(s->name);
    json_decref(s->logprobs);
    s->id = s->call_id = s->name = NULL;
    s->logprobs = NULL;
    buffer_clear(&s->text);
    s->open = false;
}

static void end_item(struct turn *s, const char *status, struct buffer *out)
{
    if (!s->open)
        return;
    struct response_item item = item_of(s, status);
    put_of_item(s, text_event(s, true), s->kind == PIECE_CALL ? "arguments" : "text", text_json(s), out);
    if (s->kind != PIECE_CALL)
        put_of_item(s, part_event(s, true), "part", response_part_json(&item), out);
    json_t *j = response_item_json(&item, false);
    put_item(s, "response.output_item.done", json_incref(j), out);
    json_array_append_new(s->output, j);
    forget_item(s);
}

/* The log-probabilities of a delta are its own, of the whole text all. */
static void put_delta(struct turn *s, const struct answer_view *v, const struct piece *p, struct buffer *out)
{
    json_t *all = s->logprobs;
    bool with = s->kind == PIECE_TEXT && v->logprobs;
    s->logprobs = with ? openai_logprobs_json(v->api, p->tokens, p->n_tokens) : json_array();
    put_of_item(s, text_event(s, false), "delta", json_stringn(p->text, p->len), out);
    json_array_extend(all, s->logprobs);
    json_decref(s->logprobs);
    s->logprobs = all;
    buffer_add(&s->text, p->text, p->len);
}

/* Text that shows nothing matters only to those who ask for its tokens. */
static void put_words(struct turn *s, const struct answer_view *v, const struct piece *p, struct buffer *out)
{
    bool same = s->open && s->kind == p->kind;
    if (p->len == 0 && !(same && p->kind == PIECE_TEXT && v->logprobs && p->n_tokens > 0))
        return;
    if (!same) {
        end_item(s, "completed", out);
        begin_item(s, p->kind, p, out);
    }
    put_delta(s, v, p, out);
}

/* ---- a stream ---- */

static void on_begin(struct answer_view *v, void *state, struct buffer *out)
{
    struct turn *s = state;
    s->output = json_array();
    s->summary = response_summarizes(v->request);
    buffer_init(&s->text, ITEM_MAX);
    put_response(s, "response.created", response_json(v, "in_progress", json_array(), NULL), out);
    put_response(s, "response.in_progress", response_json(v, "in_progress", json_array(), NULL), out);
}

static void on_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    struct turn *s = state;
    if (p->finish != NULL) {
        s->finish = p->finish;
        end_item(s, strcmp(p->finish, "length") == 0 ? "incomplete" : "completed", out);
    } else if (p->kind == PIECE_CALL) {
        end_item(s, "completed", out);
        begin_item(s, PIECE_CALL, p, out);
    } else if (p->kind == PIECE_ARGUMENTS) {
        put_delta(s, v, p, out);
    } else {
        put_words(s, v, p, out);
    }
}

/* An answer that says nothing is an empty message. */
static void on_end(struct answer_view *v, void *state, struct buffer *out)
{
    struct turn *s = state;
    bool cut = s->finish != NULL && strcmp(s->finish, "length") == 0;
    if (json_array_size(s->output) == 0) {
        begin_item(s, PIECE_TEXT, NULL, out);
        end_item(s, cut ? "incomplete" : "completed", out);
    }
    json_t *response = response_json(v, cut ? "incomplete" : "completed", json_copy(s->output), NULL);
    response_keep(v, response);
    put_response(s, cut ? "response.incomplete" : "response.completed", response, out);
}

static void on_fail(struct answer_view *v, void *state, const struct error *e, struct buffer *out)
{
    struct turn *s = state;
    put_response(s, "response.failed", response_json(v, "failed", json_copy(s->output), e), out);
}

static void on_close(void *state)
{
    struct turn *s = state;
    forget_item(s);
    json_decref(s->output);
    buffer_close(&s->text);
}

/* ---- one object ---- */

static void add_item(json_t *output, struct response_item item)
{
    char *id = response_item_id(item.kind);
    item.id = id;
    json_array_append_new(output, response_item_json(&item, false));
    mem_free(id);
}

/* Only the last item can be cut. */
static json_t *items_json(const struct answer_view *v, const struct choice_whole *c, const char *status)
{
    bool speaks = c->text_len > 0 || (c->n_calls == 0 && c->reasoning_len == 0);
    json_t *output = json_array(), *logprobs = v->logprobs ? openai_logprobs_json(v->api, c->tokens, c->n_tokens)
                                                           : json_array();
    if (c->reasoning_len > 0)
        add_item(output, (struct response_item){ .kind = PIECE_REASONING, .text = c->reasoning,
                                                 .len = c->reasoning_len,
                                                 .summary = response_summarizes(v->request),
                                                 .status = speaks || c->n_calls > 0 ? "completed" : status });
    if (speaks)
        add_item(output, (struct response_item){ .kind = PIECE_TEXT, .text = c->text, .len = c->text_len,
                                                 .logprobs = logprobs,
                                                 .status = c->n_calls > 0 ? "completed" : status });
    for (size_t i = 0; i < c->n_calls; i++)
        add_item(output, (struct response_item){ .kind = PIECE_CALL, .text = c->calls[i].arguments,
                                                 .len = strlen(c->calls[i].arguments), .call_id = c->calls[i].id,
                                                 .name = c->calls[i].name,
                                                 .status = i + 1 < c->n_calls ? "completed" : status });
    json_decref(logprobs);
    return output;
}

static json_t *whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    const char *status = strcmp(choices[0].finish, "length") == 0 ? "incomplete" : "completed";
    (void)n;
    json_t *response = response_json(v, status, items_json(v, &choices[0], status), NULL);
    response_keep(v, response);
    return response;
}

static const struct field_name names[] = {
    { "messages", "input" },
    { "max_completion_tokens", "max_output_tokens" },
    { "response_format", "text.format" },
    { "reasoning_effort", "reasoning.effort" },
    { NULL, NULL },
};

const struct shape responses_shape = {
    .names = names,
    .id_prefix = "resp_",
    .media_type = "text/event-stream",
    .state_bytes = sizeof(struct turn),
    .begin = on_begin,
    .piece = on_piece,
    .end = on_end,
    .fail = on_fail,
    .close = on_close,
    .whole = whole,
};
