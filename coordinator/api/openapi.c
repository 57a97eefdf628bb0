/* openapi: GET /openapi.json: what this server can be asked, made of the table that it answers by. */
#include <ctype.h>
#include <stddef.h>
#include <string.h>

#include "base/memory.h"
#include "coordinator/api/private.h"
#include "coordinator/api/routes.h"

/* schemas.json */
extern const unsigned char api_schemas[];
extern const size_t api_schemas_len;

static json_t *reference(const char *schema)
{
    char *text = mem_printf("#/components/schemas/%s", schema);
    json_t *j = json_pack("{s:s}", "$ref", text);
    mem_free(text);
    return j;
}

static json_t *content(const char *media, json_t *schema)
{
    return json_pack("{s:{s:o}}", media, "schema", schema);
}

static json_t *json_content(const char *schema)
{
    return content("application/json", reference(schema));
}

/* The 200. */
static json_t *answer_json(const struct api_route *r)
{
    bool other = strchr(r->response, '/') != NULL;
    json_t *all = other ? content(r->response, json_object()) : json_content(r->response);
    if (r->event != NULL) {
        const char *media = (r->flags & STREAMS_LINES) != 0 ? "application/x-ndjson" : "text/event-stream";
        json_object_set_new(all, media, json_pack("{s:o}", "schema", reference(r->event)));
    }
    return json_pack("{s:s, s:o}", "description", "The answer.", "content", all);
}

static json_t *security_json(const struct api_route *r)
{
    if ((r->flags & (FOR_USERS | FOR_OPERATOR)) == 0)
        return json_array();
    return json_pack("[{s:[]}, {s:[]}]", "bearer", "key");
}

/* "post_v1_chat_completions". */
static json_t *id_json(const char *method, const char *path)
{
    char *id = mem_printf("%s%s", method, path);
    for (char *p = id; *p != '\0'; p++)
        *p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '_';
    json_t *j = json_string(id);
    mem_free(id);
    return j;
}

static const char *error_schema(const struct api_route *r)
{
    static const char *const names[] = {
        [ERRORS_OPENAI] = "Error", [ERRORS_ANTHROPIC] = "AnthropicError", [ERRORS_OLLAMA] = "OllamaError"};
    return names[r->errors];
}

static json_t *operation_json(const struct api_route *r, const char *path)
{
    json_t *o = json_pack("{s:o, s:s, s:o, s:{s:o, s:{s:s, s:o}}}", "operationId", id_json(r->method, path), "summary",
                          r->summary, "security", security_json(r), "responses", "200", answer_json(r), "default",
                          "description", "A refusal.", "content", json_content(error_schema(r)));
    if (r->flags & HTTP_PREFIX)
        json_object_set_new(o, "parameters", json_pack("[{s:s, s:s, s:b, s:s, s:{s:s}}]", "name", "id", "in", "path",
                                                       "required", 1, "description", "It may have slashes.", "schema",
                                                       "type", "string"));
    if (r->request != NULL)
        json_object_set_new(o, "requestBody", json_pack("{s:b, s:o}", "required", (r->flags & HTTP_BODY) != 0,
                                                        "content", json_content(r->request)));
    return o;
}

static void add(json_t *paths, const struct api_route *r, const char *path)
{
    char *name = mem_printf("%s%s", path, (r->flags & HTTP_PREFIX) != 0 ? "{id}" : "");
    char method[16] = "";
    for (size_t i = 0; r->method[i] != '\0' && i + 1 < sizeof(method); i++)
        method[i] = (char)tolower((unsigned char)r->method[i]);
    if (json_object_get(paths, name) == NULL)
        json_object_set_new(paths, name, json_object());
    json_object_set_new(json_object_get(paths, name), method, operation_json(r, path));
    mem_free(name);
}

/* In examples "{model}" is the model that is served. */
static void name_model(json_t *j, const char *model)
{
    const char *key, *text;
    json_t *part;
    size_t i;
    json_object_foreach(j, key, part)
        name_model(part, model);
    json_array_foreach(j, i, part)
        name_model(part, model);
    text = json_string_value(j);
    if (text != NULL && strcmp(text, "{model}") == 0)
        json_string_set(j, model);
}

json_t *api_openapi_json(const char *model)
{
    json_t *paths = json_object();
    for (size_t i = 0; i < api_route_count(); i++) {
        const struct api_route *r = api_route_at(i);
        if (r->flags & OF_PAGE)
            continue;
        add(paths, r, r->path);
        if (r->flags & ALSO_BARE)
            add(paths, r, r->path + strlen("/v1"));
    }
    json_t *schemas = json_loadb((const char *)api_schemas, api_schemas_len, JSON_REJECT_DUPLICATES, NULL);
    name_model(schemas, model);
    return json_pack("{s:s, s:{s:s, s:s}, s:o, s:{s:o, s:{s:{s:s, s:s}, s:{s:s, s:s, s:s}}}}", "openapi", "3.1.0",
                     "info", "title", "Shoal", "version", SHOAL_VERSION, "paths", paths, "components", "schemas",
                     schemas, "securitySchemes", "bearer", "type", "http", "scheme", "bearer", "key", "type", "apiKey",
                     "in", "header", "name", "x-api-key");
}

void api_openapi(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    reply_json(x, 200, api_openapi_json(a->model_name));
}
