/* tokenize: POST /tokenize and /detokenize, in the shapes of llama.cpp (content) and of vLLM (prompt, messages).
 *
 * They need no route: the tokenizer is the coordinator's own. */
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/chat.h"
#include "coordinator/api/tokens.h"

enum { SHOWN_MAX = 1 << 18 }; /* tokens whose texts are shown: each costs hundreds of bytes until the answer is sent */

/* A switch that may be absent. */
static int read_switch(const json_t *body, const char *name, bool initial, bool *out, struct refusal *r)
{
    const json_t *v = json_object_get(body, name);
    *out = v == NULL || json_is_null(v) ? initial : json_is_true(v);
    if (v != NULL && !json_is_null(v) && !json_is_boolean(v))
        return refuse(r, ERR_INVALID, name, "%s must be true or false", name);
    return 0;
}

/* A text whose control tokens count unless the request says otherwise. */
static int encode(const struct api *a, const json_t *body, const json_t *text, bool ends, struct token_list *out,
                  struct refusal *r)
{
    bool special = true;
    int rc = read_switch(body, "parse_special", true, &special, r);
    if (rc != 0)
        return rc;
    unsigned flags = (special ? ENCODE_SPECIAL : 0u) | (ends ? ENCODE_BOS_EOS : 0u);
    return tokenizer_encode(a->options.tokenizer, json_string_value(text), json_string_length(text), flags, out,
                            &r->error);
}

/* vLLM's third shape: the ids of a conversation, as the model would get them. */
static int read_messages(const struct api *a, const json_t *body, struct token_list *out, struct refusal *r)
{
    struct prompt *prompt = NULL;
    int rc = chat_prompt(a, body, &prompt, NULL, r);
    if (prompt != NULL) {
        *out = prompt->tokens;
        prompt->tokens = (struct token_list){ 0 };
        prompt_free(prompt);
    }
    mem_free(prompt);
    return rc;
}

static int read_ids(const struct api *a, const json_t *body, struct token_list *out, struct refusal *r)
{
    bool ends = false;
    const json_t *content = json_object_get(body, "content"), *prompt = json_object_get(body, "prompt");
    bool messages = json_object_get(body, "messages") != NULL;
    if ((content != NULL) + (prompt != NULL) + messages > 1)
        return refuse(r, ERR_INVALID, "prompt", "only one of content, prompt and messages can be given");
    if (messages)
        return read_messages(a, body, out, r);
    int rc = read_switch(body, content != NULL ? "add_special" : "add_special_tokens", content == NULL, &ends, r);
    if (rc != 0)
        return rc;
    if (!json_is_string(content) && !json_is_string(prompt))
        return refuse(r, ERR_INVALID, content != NULL ? "content" : "prompt",
                      "a text is needed as content or prompt, or messages");
    return encode(a, body, content != NULL ? content : prompt, ends, out, r);
}

/* As text, or as bytes where those are no text by themselves. */
static json_t *piece_json(const struct api *a, int32_t id)
{
    struct buffer bytes;
    buffer_init(&bytes, TOKENIZER_TOKEN_MAX);
    tokenizer_decode(a->options.tokenizer, id, true, &bytes);
    json_t *j = json_stringn(buffer_text(&bytes), bytes.len);
    if (j == NULL)
        j = json_array();
    for (size_t i = 0; json_is_array(j) && i < bytes.len; i++)
        json_array_append_new(j, json_integer((unsigned char)bytes.data[i]));
    buffer_close(&bytes);
    return j;
}

static json_t *ids_json(const struct token_list *list)
{
    json_t *j = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(j, json_integer(list->ids[i]));
    return j;
}

static json_t *pieces_json(const struct api *a, const struct token_list *list)
{
    json_t *j = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(j, json_pack("{s:i, s:o}", "id", (int)list->ids[i], "piece",
                                           piece_json(a, list->ids[i])));
    return j;
}

static json_t *texts_json(const struct api *a, const struct token_list *list)
{
    json_t *j = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(j, token_text_json(a, list->ids[i]));
    return j;
}

static int tokenize(const struct api *a, const json_t *body, json_t **out, struct refusal *r)
{
    struct token_list list = { 0 };
    struct control_route route;
    bool pieces = false, texts = false;
    control_route(a->options.control, &route);
    int rc = read_switch(body, "with_pieces", false, &pieces, r);
    if (rc == 0)
        rc = read_switch(body, "return_token_strs", false, &texts, r);
    if (rc == 0)
        rc = read_ids(a, body, &list, r);
    if (rc == 0 && (pieces || texts) && list.count > SHOWN_MAX)
        rc = refuse(r, ERR_LIMIT, pieces ? "with_pieces" : "return_token_strs",
                    "the texts of at most %d tokens are given, and there are %zu", (int)SHOWN_MAX, list.count);
    if (rc == 0) {
        *out = json_pack("{s:o, s:I, s:I}", "tokens", pieces ? pieces_json(a, &list) : ids_json(&list), "count",
                         (json_int_t)list.count, "max_model_len", (json_int_t)api_context(&route));
        if (texts)
            json_object_set_new(*out, "token_strs", texts_json(a, &list));
    }
    token_list_free(&list);
    return rc;
}

/* The text has both names by which clients look for it. */
static int detokenize(const struct api *a, const json_t *body, json_t **out, struct refusal *r)
{
    struct token_list list = { 0 };
    const json_t *tokens = json_object_get(body, "tokens");
    if (!json_is_array(tokens))
        return refuse(r, ERR_INVALID, "tokens", "tokens must be a list of token ids");
    int rc = read_token_ids(tokens, a->n_vocab, "tokens", &list, r);
    if (rc == 0) {
        struct buffer text;
        buffer_init(&text, TOKENIZER_TEXT_MAX);
        text_of_tokens(a, &list, &text);
        *out = json_pack("{s:s%, s:s%}", "content", buffer_text(&text), text.len, "prompt", buffer_text(&text),
                         text.len);
        buffer_close(&text);
    }
    token_list_free(&list);
    return rc;
}

typedef int (*work_fn)(const struct api *a, const json_t *body, json_t **out, struct refusal *r);

static void answer_with(const struct api *a, struct http_exchange *x, work_fn work)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *out = NULL;
    uint32_t adapter;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = api_find_model(a, body, &adapter, &r);
    if (rc == 0)
        rc = api_may_ask(a, x, adapter, &r);
    if (rc == 0)
        rc = work(a, body, &out, &r);
    if (rc == 0)
        reply_json(x, 200, out);
    else
        reply_refusal(x, &r);
    json_decref(body);
}

void api_tokenize(void *arg, struct http_exchange *x)
{
    answer_with(arg, x, tokenize);
}

void api_detokenize(void *arg, struct http_exchange *x)
{
    answer_with(arg, x, detokenize);
}
