/* responses_items: the objects of the Responses API: items, their parts, the whole. */
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "coordinator/api/responses.h"
#include "coordinator/api/translate.h"

char *response_item_id(enum piece_kind kind)
{
    return random_id(kind == PIECE_REASONING ? "rs_" : kind == PIECE_CALL ? "fc_" : "msg_");
}

bool response_summarizes(const json_t *request)
{
    return json_is_string(json_object_get(json_object_get(request, "reasoning"), "summary"));
}

json_t *response_part_json(const struct response_item *item)
{
    if (item->kind == PIECE_REASONING)
        return json_pack("{s:s, s:s%}", "type", item->summary ? "summary_text" : "reasoning_text", "text",
                         item->text, item->len);
    json_t *logprobs = item->logprobs != NULL ? json_copy((json_t *)(uintptr_t)item->logprobs) : json_array();
    return json_pack("{s:s, s:s%, s:[], s:o}", "type", "output_text", "text", item->text, item->len, "annotations",
                     "logprobs", logprobs);
}

json_t *response_item_json(const struct response_item *item, bool begun)
{
    if (item->kind == PIECE_CALL)
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s%}", "id", item->id, "type", "function_call", "status",
                         item->status, "call_id", item->call_id, "name", item->name, "arguments", item->text,
                         begun ? (size_t)0 : item->len);
    json_t *content = json_array();
    if (!begun)
        json_array_append_new(content, response_part_json(item));
    if (item->kind == PIECE_REASONING)
        return json_pack("{s:s, s:s, s:s, s:o, s:[]}", "id", item->id, "type", "reasoning", "status", item->status,
                         item->summary ? "summary" : "content", content, item->summary ? "content" : "summary");
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", item->id, "type", "message", "status", item->status, "role",
                     "assistant", "content", content);
}

/* ---- the whole ---- */

static json_t *usage_of(const struct usage *u)
{
    return json_pack("{s:I, s:{s:i, s:i}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)u->prompt_tokens,
                     "input_tokens_details", "cached_tokens", 0, "cache_write_tokens", 0, "output_tokens",
                     (json_int_t)u->completion_tokens, "output_tokens_details", "reasoning_tokens",
                     (json_int_t)u->reasoning_tokens, "total_tokens",
                     (json_int_t)(u->prompt_tokens + u->completion_tokens));
}

/* What the request asked for, as it asked for it; takes the value for what it did not. */
static void put_asked(json_t *j, const json_t *request, const char *field, json_t *initial)
{
    json_t *given = json_object_get(request, field);
    json_object_set(j, field, is_absent(given) ? initial : given);
    json_decref(initial);
}

static void put_request(json_t *j, const json_t *request)
{
    const json_t *reasoning = json_object_get(request, "reasoning");
    json_t *effort = json_object_get(reasoning, "effort"), *summary = json_object_get(reasoning, "summary");
    put_asked(j, request, "instructions", json_null());
    put_asked(j, request, "max_output_tokens", json_null());
    put_asked(j, request, "metadata", json_object());
    put_asked(j, request, "parallel_tool_calls", json_true());
    put_asked(j, request, "previous_response_id", json_null());
    put_asked(j, request, "store", json_true());
    put_asked(j, request, "temperature", json_real(1));
    put_asked(j, request, "text", json_pack("{s:{s:s}}", "format", "type", "text"));
    put_asked(j, request, "tool_choice", json_string("auto"));
    put_asked(j, request, "tools", json_array());
    put_asked(j, request, "top_logprobs", json_integer(0));
    put_asked(j, request, "top_p", json_real(1));
    put_asked(j, request, "user", json_null());
    json_object_set_new(j, "reasoning", json_pack("{s:O?, s:O?}", "effort", effort, "summary", summary));
    json_object_set_new(j, "background", json_false());
    json_object_set_new(j, "service_tier", json_string("default"));
    json_object_set_new(j, "truncation", json_string("disabled"));
}

json_t *response_json(const struct answer_view *v, const char *status, json_t *output, const struct error *error)
{
    bool ended = strcmp(status, "in_progress") != 0, complete = strcmp(status, "completed") == 0;
    bool cut = strcmp(status, "incomplete") == 0;
    json_t *j = json_pack("{s:s, s:s, s:I, s:s, s:o, s:s, s:o, s:o, s:o, s:o}", "id", v->id, "object", "response",
                          "created_at", (json_int_t)v->created, "status", status, "completed_at",
                          complete ? json_integer(clock_unix()) : json_null(), "model", v->model, "output", output,
                          "error",
                          error != NULL ? json_pack("{s:s, s:s}", "code", "server_error", "message", error->text)
                                        : json_null(),
                          "incomplete_details",
                          cut ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(), "usage",
                          ended ? usage_of(&v->usage) : json_null());
    put_request(j, v->request);
    return j;
}
