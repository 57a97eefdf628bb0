/* anthropic_answer: an answer as a message of blocks: thoughts, texts, uses of tools.
 *
 * In a stream one block is open at a time; a piece of another kind, or a call,
 * ends it and begins the next.  A block of thoughts needs a signature, with
 * which it comes back: it says nothing, and is not looked at.                */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/anthropic.h"

struct blocks {
    bool open;
    enum piece_kind kind; /* of the open one */
    int index;            /* of the next */
    const char *finish;
    char *stop_word;
};

/* ---- parts ---- */

static json_t *usage_of(const struct usage *u)
{
    return json_pack("{s:I, s:i, s:i, s:I, s:{s:I}}", "input_tokens", (json_int_t)u->prompt_tokens,
                     "cache_creation_input_tokens", 0, "cache_read_input_tokens", 0, "output_tokens",
                     (json_int_t)u->completion_tokens, "output_tokens_details", "thinking_tokens",
                     (json_int_t)u->reasoning_tokens);
}

/* max_tokens may be more than the context holds: then it is the context that ends the answer. */
static const char *reason_of(const struct answer_view *v, const char *finish, const char *stop_word)
{
    double most = json_number_value(json_object_get(v->request, "max_tokens"));
    if (finish != NULL && strcmp(finish, "tool_calls") == 0)
        return "tool_use";
    if (finish != NULL && strcmp(finish, "length") == 0)
        return (double)v->usage.completion_tokens < most ? "model_context_window_exceeded" : "max_tokens";
    return stop_word != NULL ? "stop_sequence" : "end_turn";
}

static json_t *message_json(const struct answer_view *v, json_t *content, const char *reason, const char *stop_word)
{
    json_t *usage = usage_of(&v->usage);
    json_object_set_new(usage, "service_tier", json_string("standard"));
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:s?, s:o}", "id", v->id, "type", "message", "role", "assistant",
                     "model", v->model, "content", content, "stop_reason", reason, "stop_sequence", stop_word, "usage",
                     usage);
}

/* The request may ask for thoughts to be left out. */
static bool shows_thoughts(const struct answer_view *v)
{
    const json_t *thinking = json_object_get(v->request, "thinking");
    const char *display = json_string_value(json_object_get(thinking, "display"));
    return display == NULL || strcmp(display, "omitted") != 0;
}

/* NULL: the input is not whole. */
static json_t *use_json(const char *id, const char *name, const char *input)
{
    json_t *object = json_loads(input[0] != '\0' ? input : "{}", 0, NULL);
    if (!json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    return json_pack("{s:s, s:s, s:s, s:o}", "type", "tool_use", "id", id, "name", name, "input", object);
}

/* ---- a stream ---- */

static void put_typed(struct buffer *out, json_t *takes)
{
    char *type = mem_strdup(json_string_value(json_object_get(takes, "type")));
    put_event(out, type, takes);
    mem_free(type);
}

static void on_begin(struct answer_view *v, void *state, struct buffer *out)
{
    (void)state;
    put_typed(out, json_pack("{s:s, s:o}", "type", "message_start", "message",
                             message_json(v, json_array(), NULL, NULL)));
}

static void put_delta(const struct blocks *s, const char *type, const char *field, json_t *text, struct buffer *out)
{
    put_typed(out, json_pack("{s:s, s:i, s:{s:s, s:o}}", "type", "content_block_delta", "index", s->index, "delta",
                             "type", type, field, text));
}

static void end_block(const struct answer_view *v, struct blocks *s, struct buffer *out)
{
    if (!s->open)
        return;
    if (s->kind == PIECE_REASONING)
        put_delta(s, "signature_delta", "signature", json_string(v->id), out);
    put_typed(out, json_pack("{s:s, s:i}", "type", "content_block_stop", "index", s->index++));
    s->open = false;
}

static void begin_block(const struct answer_view *v, struct blocks *s, enum piece_kind kind, json_t *block,
                        struct buffer *out)
{
    end_block(v, s, out);
    put_typed(out, json_pack("{s:s, s:i, s:o}", "type", "content_block_start", "index", s->index, "content_block",
                             block));
    s->open = true;
    s->kind = kind;
}

static void put_call(const struct answer_view *v, struct blocks *s, const struct piece *p, struct buffer *out)
{
    begin_block(v, s, PIECE_CALL, json_pack("{s:s, s:s, s:s, s:{}}", "type", "tool_use", "id", p->call_id, "name",
                                            p->call_name, "input"), out);
}

static void put_words(const struct answer_view *v, struct blocks *s, const struct piece *p, struct buffer *out)
{
    bool thoughts = p->kind == PIECE_REASONING;
    if (p->len == 0)
        return;
    if (!s->open || s->kind != p->kind)
        begin_block(v, s, p->kind,
                    thoughts ? json_pack("{s:s, s:s, s:s}", "type", "thinking", "thinking", "", "signature", "")
                             : json_pack("{s:s, s:s}", "type", "text", "text", ""), out);
    if (thoughts && shows_thoughts(v))
        put_delta(s, "thinking_delta", "thinking", json_stringn(p->text, p->len), out);
    else if (!thoughts)
        put_delta(s, "text_delta", "text", json_stringn(p->text, p->len), out);
}

static void on_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    struct blocks *s = state;
    if (p->finish != NULL) {
        end_block(v, s, out);
        s->finish = p->finish;
        s->stop_word = p->stop_word == NULL ? NULL : mem_strdup(p->stop_word);
    } else if (p->kind == PIECE_CALL) {
        put_call(v, s, p, out);
    } else if (p->kind == PIECE_ARGUMENTS) {
        put_delta(s, "input_json_delta", "partial_json", json_stringn(p->text, p->len), out);
    } else {
        put_words(v, s, p, out);
    }
}

static void on_end(struct answer_view *v, void *state, struct buffer *out)
{
    const struct blocks *s = state;
    put_typed(out, json_pack("{s:s, s:{s:s, s:s?}, s:o}", "type", "message_delta", "delta", "stop_reason",
                             reason_of(v, s->finish, s->stop_word), "stop_sequence", s->stop_word, "usage",
                             usage_of(&v->usage)));
    put_typed(out, json_pack("{s:s}", "type", "message_stop"));
}

static void on_fail(struct answer_view *v, void *state, const struct error *e, struct buffer *out)
{
    struct refusal r = { .error = *e };
    (void)v;
    (void)state;
    put_typed(out, refusal_json(&r, ERRORS_ANTHROPIC));
}

static void on_ping(struct answer_view *v, struct buffer *out)
{
    (void)v;
    put_typed(out, json_pack("{s:s}", "type", "ping"));
}

static void on_close(void *state)
{
    mem_free(((struct blocks *)state)->stop_word);
}

/* ---- one object ---- */

/* A call that "length" cut is no call. */
static json_t *content_json(const struct answer_view *v, const struct choice_whole *c)
{
    json_t *list = json_array();
    if (c->reasoning_len > 0)
        json_array_append_new(list, json_pack("{s:s, s:s%, s:s}", "type", "thinking", "thinking", c->reasoning,
                                              shows_thoughts(v) ? c->reasoning_len : 0, "signature", v->id));
    if (c->text_len > 0)
        json_array_append_new(list, json_pack("{s:s, s:s%}", "type", "text", "text", c->text, c->text_len));
    for (size_t i = 0; i < c->n_calls; i++) {
        json_t *use = use_json(c->calls[i].id, c->calls[i].name, c->calls[i].arguments);
        if (use != NULL)
            json_array_append_new(list, use);
    }
    return list;
}

static json_t *whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    const struct choice_whole *c = &choices[0];
    (void)n;
    return message_json(v, content_json(v, c), reason_of(v, c->finish, c->stop_word), c->stop_word);
}

static const struct field_name names[] = {
    { "messages", "messages" }, /* with other numbers */
    { "n_predict", "max_tokens" },
    { "stop", "stop_sequences" },
    { "thinking_token_budget", "thinking.budget_tokens" },
    { "response_format", "output_config.format" },
    { NULL, NULL },
};

const struct shape anthropic_shape = {
    .names = names,
    .id_prefix = "msg_",
    .media_type = "text/event-stream",
    .state_bytes = sizeof(struct blocks),
    .begin = on_begin,
    .piece = on_piece,
    .end = on_end,
    .fail = on_fail,
    .ping = on_ping,
    .close = on_close,
    .whole = whole,
};
