/* reply: answers as JSON, errors in the form of the endpoint, and bodies read as JSON. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "coordinator/api/private.h"
#include "coordinator/api/routes.h"

enum { JSON_FLAGS = JSON_COMPACT | JSON_REAL_PRECISION(9) };

int refuse(struct refusal *r, int status, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_setv(&r->error, status, format, args);
    va_end(args);
    snprintf(r->param, sizeof(r->param), "%s", param == NULL ? "" : param);
    return status;
}

/* A request that asks for what is not there is the client's mistake; a model that does not fit is not. */
static int http_of(const struct refusal *r)
{
    if (r->http != 0)
        return r->http;
    switch (r->error.status) {
    case ERR_UNSUPPORTED: return 400;
    case ERR_CORRUPT: return 400;
    case ERR_MEMORY: return 503;
    case ERR_CANCELLED: return 503;
    default: return status_http(r->error.status);
    }
}

struct type_row {
    int http;
    const char *type;
};

static const char *type_of(const struct type_row *rows, size_t n, int http, const char *other)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].http == http)
            return rows[i].type;
    return http >= 500 ? other : "invalid_request_error";
}

static json_t *openai_json(const struct refusal *r, int http)
{
    static const struct type_row rows[] = {
        { 401, "authentication_error" }, { 403, "permission_error" },      { 404, "not_found_error" },
        { 429, "rate_limit_error" },     { 501, "not_supported_error" },   { 503, "unavailable_error" },
    };
    const char *code = r->code != NULL ? r->code : http == 429 ? "rate_limit_exceeded" : NULL;
    return json_pack("{s:{s:s, s:s, s:s?, s:s?}}", "error", "message", r->error.text, "type",
                     type_of(rows, COUNTOF(rows), http, "server_error"), "param", r->param[0] == '\0' ? NULL : r->param,
                     "code", code);
}

static json_t *anthropic_json(const struct refusal *r, int http)
{
    static const struct type_row rows[] = {
        { 401, "authentication_error" }, { 403, "permission_error" }, { 404, "not_found_error" },
        { 413, "request_too_large" },    { 429, "rate_limit_error" }, { 503, "overloaded_error" },
    };
    return json_pack("{s:s, s:{s:s, s:s}}", "type", "error", "error", "type",
                     type_of(rows, COUNTOF(rows), http, "api_error"), "message", r->error.text);
}

json_t *refusal_json(const struct refusal *r, enum error_form form)
{
    int http = http_of(r);
    switch (form) {
    case ERRORS_ANTHROPIC: return anthropic_json(r, http);
    case ERRORS_OLLAMA: return json_pack("{s:s}", "error", r->error.text);
    default: return openai_json(r, http);
    }
}

enum error_form reply_form(const struct http_exchange *x)
{
    const struct http_route *route = http_matched(x);
    if (route != NULL)
        return ((const struct api_route *)route->row)->errors;
    if (strncmp(http_path(x), "/v1/messages", 12) == 0)
        return ERRORS_ANTHROPIC;
    return strncmp(http_path(x), "/api/", 5) == 0 ? ERRORS_OLLAMA : ERRORS_OPENAI;
}

void reply_refusal(struct http_exchange *x, const struct refusal *r)
{
    int http = http_of(r);
    char seconds[16];
    snprintf(seconds, sizeof(seconds), "%u", r->retry_s == 0 ? 1 : r->retry_s);
    if (http == 429 || http == 503)
        http_reply_header(x, "Retry-After", seconds);
    else if (http >= 500)
        http_reply_header(x, "x-should-retry", "false");
    reply_json(x, http, refusal_json(r, reply_form(x)));
}

void reply_error(struct http_exchange *x, const struct error *e)
{
    struct refusal r = { .error = *e };
    reply_refusal(x, &r);
}

static int add_to_buffer(const char *bytes, size_t n, void *arg)
{
    buffer_add(arg, bytes, n);
    return 0;
}

void json_add(struct buffer *out, const json_t *j)
{
    json_dump_callback(j, add_to_buffer, out, JSON_FLAGS | JSON_ENCODE_ANY);
}

char *json_text(const json_t *j)
{
    size_t n = json_dumpb(j, NULL, 0, JSON_FLAGS);
    char *text = mem_alloc(n + 1);
    json_dumpb(j, text, n, JSON_FLAGS);
    return text;
}

void reply_json(struct http_exchange *x, int status, json_t *takes)
{
    char *text = json_text(takes);
    http_reply(x, status, "application/json", text, strlen(text));
    mem_free(text);
    json_decref(takes);
}

/* Ids need to be unlike each other, no more; if the system has no randomness yet, getrandom() waits. */
void random_fill(void *bytes, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = getrandom((char *)bytes + done, n - done, 0);
        if (got > 0)
            done += (size_t)got;
    }
}

char *random_id(const char *prefix)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    unsigned char bytes[24];
    random_fill(bytes, sizeof(bytes));
    char text[sizeof(bytes) + 1];
    for (size_t i = 0; i < sizeof(bytes); i++)
        text[i] = letters[bytes[i] % 62];
    text[sizeof(bytes)] = '\0';
    return mem_printf("%s%s", prefix, text);
}

/* Depth and number of values before anything is allocated for them; the parser checks the rest. */
static bool within_limits(const char *text, size_t n)
{
    size_t depth = 0, values = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = text[i];
        if (c == '"')
            quoted = !quoted;
        else if (quoted)
            i += c == '\\';
        else if (c == '[' || c == '{')
            depth++;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        else if (c == ',' || c == ':')
            values++;
        if (depth > API_JSON_DEPTH_MAX || values > API_JSON_VALUES_MAX)
            return false;
    }
    return true;
}

int json_check(const char *text, size_t n, const char *field, struct refusal *r)
{
    if (within_limits(text, n))
        return 0;
    return refuse(r, ERR_LIMIT, field, "the JSON is nested deeper than %d or has more than %d values",
                  (int)API_JSON_DEPTH_MAX, (int)API_JSON_VALUES_MAX);
}

int json_read(json_t **out, const char *text, size_t n, struct refusal *r)
{
    if (n == 0)
        return refuse(r, ERR_INVALID, NULL, "the request has no body: JSON is needed");
    if (json_check(text, n, NULL, r) != 0)
        return r->error.status;
    json_error_t why;
    json_t *j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (j == NULL)
        return refuse(r, ERR_INVALID, NULL, "the body is not valid JSON: %s (line %d, column %d)", why.text, why.line,
                      why.column);
    if (!json_is_object(j)) {
        json_decref(j);
        return refuse(r, ERR_INVALID, NULL, "the body must be a JSON object");
    }
    *out = j;
    return 0;
}

int json_body(json_t **out, struct http_exchange *x, struct refusal *r)
{
    size_t n;
    const char *text = http_body(x, &n);
    int rc = json_read(out, text, n, r);
    http_body_drop(x);
    return rc;
}
