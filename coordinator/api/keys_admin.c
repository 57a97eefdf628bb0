/* keys_admin: the operator's endpoints for users' API keys. */
#include <string.h>

#include "base/buffer.h"
#include "base/logger.h"
#include "base/memory.h"
#include "coordinator/api/keys.h"
#include "coordinator/api/private.h"

static int read_limit(const json_t *body, const char *name, json_int_t max, uint32_t *out, struct refusal *r)
{
    const json_t *v = json_object_get(body, name);
    json_int_t n = json_integer_value(v);
    if (v != NULL && !json_is_null(v) && (!json_is_integer(v) || n < 0 || n > max))
        return refuse(r, ERR_INVALID, name, "%s must be an integer from 0 (no limit) to %lld", name, (long long)max);
    *out = (uint32_t)n;
    return 0;
}

static bool is_id(const struct api *a, const char *name)
{
    for (uint32_t i = 0; i <= a->options.n_adapters; i++)
        if (strcmp(a->ids[i], name) == 0)
            return true;
    return false;
}

/* A name that is not served would be a limit that nobody meant. */
static int read_models(const struct api *a, const json_t *body, struct buffer *out, struct refusal *r)
{
    const json_t *list = json_object_get(body, "models"), *v;
    size_t i;
    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return refuse(r, ERR_INVALID, "models", "models must be a list of model ids");
    json_array_foreach((json_t *)list, i, v) {
        const char *name = json_string_value(v);
        if (name == NULL)
            return refuse(r, ERR_INVALID, "models", "models must be a list of model ids");
        if (!is_id(a, name) || strchr(name, '\n') != NULL)
            return api_refuse_model(a, name, r);
        buffer_add_text(out, name);
        buffer_add_text(out, "\n");
    }
    if (buffer_failed(out))
        return refuse(r, ERR_LIMIT, "models", "models has more than %d bytes of names", (int)KEYS_MODELS_MAX);
    return 0;
}

static int create(const struct api *a, const json_t *body, struct buffer *models, char text[static KEYS_TEXT_BYTES],
                  struct refusal *r)
{
    struct keys_row row = { .name = json_string_value(json_object_get(body, "name")) };
    if (row.name == NULL)
        return refuse(r, ERR_INVALID, "name", "name must be a string");
    int rc = read_limit(body, "rate_per_minute", KEYS_RATE_MAX, &row.rate, r);
    if (rc == 0)
        rc = read_limit(body, "concurrency", KEYS_CONCURRENCY_MAX, &row.concurrency, r);
    if (rc == 0)
        rc = read_models(a, body, models, r);
    row.models = buffer_text(models);
    return rc == 0 ? keys_create(a->keys, &row, text, &r->error) : rc;
}

static int have_keys(const struct api *a, struct refusal *r)
{
    return a->keys != NULL ? 0 : refuse(r, ERR_UNSUPPORTED, NULL, "this server keeps no API keys");
}

/* {"name": "alice", "rate_per_minute": 0, "concurrency": 0, "models": []} -> {"name", "key"} */
void api_keys_create(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    struct buffer models;
    char text[KEYS_TEXT_BYTES];
    json_t *body = NULL;
    buffer_init(&models, KEYS_MODELS_MAX);
    int rc = have_keys(a, &r);
    if (rc == 0)
        rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = create(a, body, &models, text, &r);
    if (rc == 0) {
        log_info("api", "API key made name=%s", json_string_value(json_object_get(body, "name")));
        reply_json(x, 200, json_pack("{s:O, s:s}", "name", json_object_get(body, "name"), "key", text));
    } else {
        reply_refusal(x, &r);
    }
    buffer_close(&models);
    json_decref(body);
}

/* {"who": name or label} -> {"revoked": who} */
void api_keys_revoke(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    json_t *body = NULL;
    int rc = have_keys(a, &r);
    if (rc == 0)
        rc = json_body(&body, x, &r);
    const char *who = json_string_value(json_object_get(body, "who"));
    if (rc == 0 && who == NULL)
        rc = refuse(&r, ERR_INVALID, "who", "who must be a string");
    if (rc == 0)
        rc = keys_revoke(a->keys, who, &r.error);
    if (rc == 0)
        reply_json(x, 200, json_pack("{s:s}", "revoked", who));
    else
        reply_refusal(x, &r);
    json_decref(body);
}

static void reply_rows(struct http_exchange *x, json_t *rows, const struct refusal *r)
{
    if (rows != NULL)
        reply_json(x, 200, json_pack("{s:s, s:o}", "object", "list", "data", rows));
    else
        reply_refusal(x, r);
}

void api_keys_list(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    reply_rows(x, have_keys(a, &r) == 0 ? keys_list(a->keys) : NULL, &r);
}

void api_keys_usage(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    json_t *rows = NULL;
    int rc = have_keys(a, &r);
    if (rc == 0)
        rc = keys_usage(a->keys, &rows, &r.error);
    reply_rows(x, rc == 0 ? rows : NULL, &r);
}
