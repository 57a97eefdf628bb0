/* responses: /v1/responses: answers, those that are kept, and counts. */
#include "coordinator/api/responses.h"

#include <string.h>

#include "coordinator/api/chat.h"
#include "coordinator/api/count.h"
#include "coordinator/api/responses_kept.h"
#include "coordinator/api/translate.h"

/* ---- conversations that are gone on with ---- */

/* The input as items; the caller's. */
static json_t *items_of(const json_t *body)
{
    json_t *input = json_object_get(body, "input");
    if (json_is_string(input))
        return json_pack("[{s:s, s:s, s:O}]", "type", "message", "role", "user", "content", input);
    return json_is_array(input) ? json_copy(input) : json_array();
}

/* What was said until the previous response's end comes before the input. */
static int put_previous(const struct api *a, const struct http_exchange *x, json_t *body, struct refusal *r)
{
    const json_t *previous = json_object_get(body, "previous_response_id");
    if (is_absent(previous))
        return 0;
    if (!json_is_string(previous))
        return refuse(r, ERR_INVALID, "previous_response_id", "previous_response_id must be a string");
    json_t *items = responses_kept_get(a->responses, api_asker(a, x), json_string_value(previous), RESPONSE_ITEMS);
    if (items == NULL) {
        r->code = "previous_response_not_found";
        return refuse(r, ERR_INVALID, "previous_response_id", "Previous response with id '%.80s' not found.",
                      json_string_value(previous));
    }
    json_t *more = items_of(body);
    json_array_extend(items, more);
    json_decref(more);
    json_object_set_new(body, "input", items);
    return 0;
}

/* The body is translated before anything is put into it too, so that refusals name the client's own items. */
static int translate(const struct api *a, const struct http_exchange *x, json_t *body, json_t **out,
                     struct refusal *r)
{
    int rc = responses_chat_body(body, out, r);
    if (rc != 0 || is_absent(json_object_get(body, "previous_response_id")))
        return rc;
    json_decref(*out);
    *out = NULL;
    rc = put_previous(a, x, body, r);
    return rc == 0 ? responses_chat_body(body, out, r) : rc;
}

void response_keep(const struct answer_view *v, const json_t *response)
{
    if (json_is_false(json_object_get(v->request, "store")))
        return;
    json_t *items = items_of(v->request);
    json_array_extend(items, json_object_get(response, "output"));
    responses_kept_add(v->api->responses, v->asker, v->id, response, items);
    json_decref(items);
}

/* ---- endpoints ---- */

void api_responses(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *translated;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = translate(arg, x, body, &translated, &r);
    if (rc == 0)
        chat_answer(arg, x, translated, body, &responses_shape);
    else
        reply_refusal(x, &r);
    json_decref(body);
}

void api_responses_count(void *arg, struct http_exchange *x)
{
    struct refusal r = { 0 };
    json_t *body = NULL, *translated = NULL;
    size_t n = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = translate(arg, x, body, &translated, &r);
    if (rc == 0)
        rc = chat_count(arg, x, translated, &n, &r);
    refusal_rename(&r, responses_shape.names);
    if (rc == 0)
        reply_json(x, 200, count_json(n));
    else
        reply_refusal(x, &r);
    json_decref(translated);
    json_decref(body);
}

static void reply_unknown(struct http_exchange *x)
{
    struct refusal r = { 0 };
    (void)refuse(&r, ERR_NOT_FOUND, "response_id", "Response with id '%.80s' not found.", http_rest(x));
    reply_refusal(x, &r);
}

void api_response(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    json_t *j = responses_kept_get(a->responses, api_asker(a, x), http_rest(x), RESPONSE_OBJECT);
    if (j != NULL)
        reply_json(x, 200, j);
    else
        reply_unknown(x);
}

void api_response_delete(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    if (responses_kept_drop(a->responses, api_asker(a, x), http_rest(x)))
        reply_json(x, 200, json_pack("{s:s, s:s, s:b}", "id", http_rest(x), "object", "response", "deleted", 1));
    else
        reply_unknown(x);
}
