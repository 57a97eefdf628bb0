/* completions: POST /v1/completions: text or token ids, continued.
 *
 * The prompt is the caller's raw text: control tokens written in it count, as
 * this is the door for those who write their own templates.  With a suffix it
 * is a text with a gap, and nothing in it is a control token.                */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/completions.h"
#include "coordinator/api/fim.h"
#include "coordinator/api/request.h"
#include "coordinator/api/tokens.h"

#define OBJECT "text_completion"

/* ---- the shape of the answer ---- */

static json_t *top_json(const struct api *a, const struct token_info *t)
{
    json_t *top = json_object();
    for (uint32_t k = 0; k < t->n_top; k++) {
        json_t *text = token_text_json(a, t->top[k].token);
        json_object_set_new(top, json_string_value(text), logprob_json(t->top[k].logprob));
        json_decref(text);
    }
    return top;
}

static json_t *logprobs_json(const struct api *a, const struct token_info *infos, size_t n)
{
    json_t *tokens = json_array(), *logprobs = json_array(), *tops = json_array(), *offsets = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct token_info *t = &infos[i];
        bool known = !isnan(t->logprob);
        json_array_append_new(tokens, token_text_json(a, t->id));
        json_array_append_new(logprobs, known ? logprob_json(t->logprob) : json_null());
        json_array_append_new(tops, known ? top_json(a, t) : json_null());
        json_array_append_new(offsets, json_integer((json_int_t)t->offset));
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", logprobs, "top_logprobs", tops,
                     "text_offset", offsets);
}

static void completion_piece(struct answer_view *v, void *state, const struct piece *p, struct buffer *out)
{
    bool logprobs = v->logprobs && p->finish == NULL;
    (void)state;
    json_t *choice = json_pack("{s:i, s:s%, s:o, s:s?}", "index", (int)p->choice, "text", p->text, p->len, "logprobs",
                               logprobs ? logprobs_json(v->api, p->tokens, p->n_tokens) : json_null(), "finish_reason",
                               p->finish);
    openai_chunk(v, OBJECT, choice, NULL, out);
}

static void completion_end(struct answer_view *v, void *state, struct buffer *out)
{
    (void)state;
    openai_end(v, OBJECT, out);
}

static json_t *completion_whole(struct answer_view *v, const struct choice_whole *choices, uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < n; i++) {
        const struct choice_whole *c = &choices[i];
        json_t *logprobs = v->logprobs ? logprobs_json(v->api, c->tokens, c->n_tokens) : json_null();
        json_array_append_new(list, json_pack("{s:i, s:s%, s:o, s:s}", "index", (int)i, "text", c->text, c->text_len,
                                              "logprobs", logprobs, "finish_reason", c->finish));
    }
    json_t *j = openai_envelope(v, OBJECT, list);
    json_object_set_new(j, "usage", usage_json(&v->usage));
    return j;
}

static const struct shape completion_shape = {
    .id_prefix = "cmpl-",
    .media_type = "text/event-stream",
    .piece = completion_piece,
    .end = completion_end,
    .fail = openai_fail,
    .whole = completion_whole,
};

/* ---- prompts ---- */

static int read_text(const struct api *a, const char *text, bool gap, struct prompt *out, struct refusal *r)
{
    unsigned flags = gap ? 0 : ENCODE_SPECIAL | ENCODE_BOS_EOS;
    out->text = mem_strdup(text);
    int rc = tokenizer_encode(a->options.tokenizer, text, strlen(text), flags, &out->tokens, &r->error);
    if (rc != 0)
        snprintf(r->param, sizeof(r->param), "prompt");
    return rc;
}

void text_of_tokens(const struct api *a, const struct token_list *tokens, struct buffer *text)
{
    struct buffer bytes;
    struct stream s;
    buffer_init(&bytes, TOKENIZER_TEXT_MAX);
    tokenizer_decode_list(a->options.tokenizer, tokens->ids, tokens->count, true, &bytes);
    if (stream_init(&s, NULL, 0, NULL) == 0) {
        stream_push(&s, buffer_text(&bytes), bytes.len, text);
        stream_finish(&s, text);
        stream_close(&s);
    }
    buffer_close(&bytes);
}

/* The text of the ids, for echo. Caller frees. */
static char *text_of(const struct api *a, const struct token_list *tokens)
{
    struct buffer text;
    buffer_init(&text, TOKENIZER_TEXT_MAX);
    text_of_tokens(a, tokens, &text);
    char *copy = mem_strdup(buffer_text(&text));
    buffer_close(&text);
    return copy;
}

int read_token_ids(const json_t *list, uint32_t n_vocab, const char *param, struct token_list *out, struct refusal *r)
{
    size_t n = json_array_size(list);
    out->ids = mem_array(n + 1, sizeof(*out->ids));
    out->count = n;
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= (json_int_t)n_vocab)
            return refuse(r, ERR_INVALID, param, "%s: entry %zu is no token id of this model (0 to %u)", param, i,
                          n_vocab - 1);
        out->ids[i] = (int32_t)value;
    }
    return 0;
}

static int read_prompt(const struct api *a, const json_t *value, bool gap, struct prompt *out, struct refusal *r)
{
    if (json_is_string(value))
        return read_text(a, json_string_value(value), gap, out, r);
    if (!json_is_array(value))
        return refuse(r, ERR_INVALID, "prompt",
                      "prompt must be a string, a list of strings, a list of token ids, or a list of such lists");
    int rc = read_token_ids(value, a->n_vocab, "prompt", &out->tokens, r);
    if (rc == 0)
        out->text = text_of(a, &out->tokens);
    return rc;
}

/* The suffix, NULL where there is none; a refusal when it cannot be. */
static int read_suffix(const struct generation_request *q, const json_t **suffix, struct refusal *r)
{
    *suffix = json_object_get(q->body, "suffix");
    if (*suffix == NULL || json_is_null(*suffix) || (json_is_string(*suffix) && json_string_length(*suffix) == 0)) {
        *suffix = NULL;
        return 0;
    }
    if (!json_is_string(*suffix))
        return refuse(r, ERR_INVALID, "suffix", "suffix must be a string");
    if (q->params.echo)
        return refuse(r, ERR_INVALID, "echo", "echo cannot be combined with suffix");
    if (!fim_supported(q->api))
        return refuse(r, ERR_UNSUPPORTED, "suffix", "suffix is not supported: this model has no tokens for a text "
                      "whose middle is wanted");
    return 0;
}

/* Put the prompt and what comes behind the gap around it. */
static int open_gap(const struct api *a, const json_t *suffix, struct prompt *p, struct refusal *r)
{
    struct token_list prefix = p->tokens;
    struct fim f = {
        .prefix = &prefix,
        .suffix = json_string_value(suffix),
        .suffix_len = json_string_length(suffix),
    };
    p->tokens = (struct token_list){ 0 };
    int rc = fim_prompt(a, &f, &p->tokens, &r->error);
    token_list_free(&prefix);
    return rc;
}

/* A list of numbers is one prompt; any other list is a list of prompts. */
static int completion_prompts(struct generation_request *q)
{
    json_t *prompt = json_object_get(q->body, "prompt");
    bool several = json_is_array(prompt) && !json_is_number(json_array_get(prompt, 0));
    size_t n = several ? json_array_size(prompt) : 1;
    if (prompt == NULL || json_is_null(prompt) || n == 0)
        return refuse(&q->refusal, ERR_INVALID, "prompt", "a prompt is needed");
    if (n * (size_t)q->params.best_of > API_CHOICES_MAX)
        return refuse(&q->refusal, ERR_LIMIT, n > 1 ? "prompt" : "n",
                      "at most %d choices are made at once: prompts times n or best_of", (int)API_CHOICES_MAX);
    const json_t *suffix;
    int rc = read_suffix(q, &suffix, &q->refusal);
    if (rc != 0)
        return rc;
    q->prompts = mem_array(n, sizeof(*q->prompts));
    q->n_prompts = n;
    for (size_t i = 0; i < n && rc == 0; i++) {
        const json_t *one = several ? json_array_get(prompt, i) : prompt;
        rc = read_prompt(q->api, one, suffix != NULL, &q->prompts[i], &q->refusal);
        if (rc == 0 && suffix != NULL)
            rc = open_gap(q->api, suffix, &q->prompts[i], &q->refusal);
    }
    return rc;
}

void completion_answer(const struct api *a, struct http_exchange *x, json_t *takes_body, const json_t *original,
                       const struct shape *shape)
{
    struct generation_request q;
    if (request_open(&q, a, x, takes_body, original, FOR_COMPLETION, shape) != 0)
        return;
    int rc = completion_prompts(&q);
    request_answer(&q, rc);
}

void api_completions(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL;
    if (json_body(&body, x, &r) == 0)
        completion_answer(arg, x, body, body, &completion_shape);
    else
        reply_refusal(x, &r);
}
