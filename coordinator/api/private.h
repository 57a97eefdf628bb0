/* private: what the files of coordinator/api share.  Not for other folders. */
#ifndef COORDINATOR_API_PRIVATE_H
#define COORDINATOR_API_PRIVATE_H

#include <stdatomic.h>

#include <jansson.h>

#include "coordinator/api/api.h"
#include "coordinator/guide.h"
#include "net/http_server.h"
#include "text/reply/format.h"

struct grammars;
struct keys;
struct meters;
struct responses_kept;

struct api {
    struct api_options options;
    char *model_name, *api_key, *admin_token, *chat_error; /* copies */
    char **ids; /* of the model, then with each adapter: [1 + options.n_adapters] */
    char fingerprint[16];
    int64_t started; /* seconds since 1970 */
    uint32_t n_vocab;
    int32_t *end_tokens; /* after which a generation ends */
    size_t n_end_tokens;
    struct reply_formats formats; /* of the model's answers in chats */
    struct {
        struct guide_mark open, close, lead, trigger; /* as in struct guide_plan */
    } marks_of; /* the formats */
    bool *marks; /* of the vocabulary: control tokens that answers are read by */
    struct grammars *grammars;
    struct meters *meters;
    struct responses_kept *responses;
    struct keys *keys; /* NULL: none are kept */
    struct http_route *routes;
    struct http_server *server;
    /* counters of /metrics */
    atomic_ullong answered_2xx, answered_4xx, answered_5xx, vanished;
};

/* Why a request is refused: the sentence and status, and what OpenAI's error object adds. */
struct refusal {
    struct error error;
    char param[64];   /* "" : null */
    const char *code; /* NULL: null */
    int http;         /* 0: from error.status */
    uint32_t retry_s; /* Retry-After of a 429 or 503; 0: a second */
};

/* How an endpoint's clients read errors. */
enum error_form {
    ERRORS_OPENAI,    /* {"error": {"message", "type", "param", "code"}} */
    ERRORS_ANTHROPIC, /* {"type": "error", "error": {"type", "message"}} */
    ERRORS_OLLAMA,    /* {"error": "message"} */
};

/* What a field of a translated body is in the client's own. A list of them ends with NULL. */
struct field_name {
    const char *from, *to;
};

int refuse(struct refusal *r, int status, const char *param, const char *format, ...) PRINTF_LIKE(4, 5);
/* The whole answer to a refused request. */
void reply_refusal(struct http_exchange *x, const struct refusal *r);
/* From an error of a layer below. */
void reply_error(struct http_exchange *x, const struct error *e);
/* How errors of the endpoint look; where there is none, of those whose paths begin so. */
enum error_form reply_form(const struct http_exchange *x);
/* The body of the answer; the caller's. */
json_t *refusal_json(const struct refusal *r, enum error_form form);
/* The whole answer; takes the JSON. */
void reply_json(struct http_exchange *x, int status, json_t *takes);
/* Text of a JSON value on one line, appended. */
void json_add(struct buffer *out, const json_t *j);
/* The same for itself; caller frees with mem_free. */
char *json_text(const json_t *j);
/* The prefix and 24 random characters; caller frees. */
char *random_id(const char *prefix);
void random_fill(void *bytes, size_t n);

/* The request's body as an object; caller json_decref()s. Bounded depth and size, no duplicate keys. */
MUST_USE int json_body(json_t **out, struct http_exchange *x, struct refusal *r);
/* The same, of a text. */
MUST_USE int json_read(json_t **out, const char *text, size_t n, struct refusal *r);
/* Is the text within those bounds? ERR_LIMIT says it of the field that it is the value of; NULL: the body. */
MUST_USE int json_check(const char *text, size_t n, const char *field, struct refusal *r);

/* Whether a token is a control token of the format of calls or of reasoning. */
static inline bool api_is_mark(const struct api *a, int32_t token)
{
    return token >= 0 && (uint32_t)token < a->n_vocab && a->marks[token];
}

/* A route covers the model; else ERR_UNAVAILABLE with the reason. */
MUST_USE int api_ready(const struct api *a, struct control_route *route, struct refusal *r);

/* Whether a model has this name: its id, or with the tag `latest` behind it; counts as api_find_model() does. */
bool api_model_named(const struct api *a, const char *name, uint32_t *adapter);
/* The adapter that a model's id asks for, counted from 1; 0: none, the model as it is. An absent model is this
 * server's: it has one. ERR_NOT_FOUND. */
MUST_USE int api_find_model(const struct api *a, const json_t *body, uint32_t *adapter, struct refusal *r);
/* Whether the request's key may use the model, counted as api_find_model() counts. ERR_DENIED. */
MUST_USE int api_may_ask(const struct api *a, const struct http_exchange *x, uint32_t adapter, struct refusal *r);
/* The id of the API key that the request came with; 0: with none of those that `shoal keys` makes. */
int64_t api_asker(const struct api *a, const struct http_exchange *x);
/* No such id; *r says which there are. */
int api_refuse_model(const struct api *a, const char *id, struct refusal *r);

/* Tokens that a prompt and its answer may have together. */
uint32_t api_context(const struct control_route *route);

/* handlers */
void api_chat(void *arg, struct http_exchange *x);
void api_apply_template(void *arg, struct http_exchange *x);
void api_chat_count(void *arg, struct http_exchange *x);
void api_messages(void *arg, struct http_exchange *x);
void api_messages_count(void *arg, struct http_exchange *x);
void api_responses(void *arg, struct http_exchange *x);
void api_response(void *arg, struct http_exchange *x);
void api_response_delete(void *arg, struct http_exchange *x);
void api_responses_count(void *arg, struct http_exchange *x);
void api_completions(void *arg, struct http_exchange *x);
void api_rerank(void *arg, struct http_exchange *x);
void api_infill(void *arg, struct http_exchange *x);
void api_completion(void *arg, struct http_exchange *x);
void api_embeddings(void *arg, struct http_exchange *x);
void api_tokenize(void *arg, struct http_exchange *x);
void api_detokenize(void *arg, struct http_exchange *x);
void api_models(void *arg, struct http_exchange *x);
void api_model(void *arg, struct http_exchange *x);
void api_health(void *arg, struct http_exchange *x);
void api_metrics(void *arg, struct http_exchange *x);
void api_status(void *arg, struct http_exchange *x);
void api_version(void *arg, struct http_exchange *x);
void api_props(void *arg, struct http_exchange *x);
void api_root(void *arg, struct http_exchange *x);
void api_page(void *arg, struct http_exchange *x);
void api_ollama_version(void *arg, struct http_exchange *x);
void api_ollama_tags(void *arg, struct http_exchange *x);
void api_ollama_ps(void *arg, struct http_exchange *x);
void api_ollama_show(void *arg, struct http_exchange *x);
void api_ollama_chat(void *arg, struct http_exchange *x);
void api_ollama_generate(void *arg, struct http_exchange *x);
void api_ollama_embed(void *arg, struct http_exchange *x);
void api_ollama_embeddings(void *arg, struct http_exchange *x);
void api_ollama_pull(void *arg, struct http_exchange *x);
void api_ollama_copy(void *arg, struct http_exchange *x);
void api_ollama_delete(void *arg, struct http_exchange *x);
void api_openapi(void *arg, struct http_exchange *x);
void api_logits(void *arg, struct http_exchange *x);
void api_invite(void *arg, struct http_exchange *x);
void api_revoke(void *arg, struct http_exchange *x);
void api_keys_list(void *arg, struct http_exchange *x);
void api_keys_create(void *arg, struct http_exchange *x);
void api_keys_revoke(void *arg, struct http_exchange *x);
void api_keys_usage(void *arg, struct http_exchange *x);

#endif
