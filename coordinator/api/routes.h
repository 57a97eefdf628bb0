/* routes: the table of endpoints.  Not for other folders.
 *
 * One row an endpoint.  A row says who answers, who may ask, and what the
 * OpenAPI document (/openapi.json) says of it: every field is needed, so that
 * no endpoint is without its description.  Schemas are those of schemas.json,
 * by name; a request's schema has examples, which the tests send.            */
#ifndef COORDINATOR_API_ROUTES_H
#define COORDINATOR_API_ROUTES_H

#include <jansson.h>

#include "coordinator/api/private.h"

enum api_flags {
    FOR_USERS = HTTP_USER,         /* the API key, when one is set, or the operator's token */
    FOR_OPERATOR = HTTP_USER << 1, /* the operator's token */
    ALSO_BARE = HTTP_USER << 2,    /* also without the /v1 that the path begins with */
    STREAMS_LINES = HTTP_USER << 3, /* a stream is lines of JSON; else server-sent events */
    OF_PAGE = HTTP_USER << 4,      /* a file for browsers, no part of the API: the document leaves it out */
    MANAGES = HTTP_USER << 5, /* with FOR_USERS: not those whose keys were made with `shoal keys`; where others than
                               * this machine come without any key, the operator alone */
};

struct api_route {
    const char *method, *path;
    http_handler handle;
    unsigned flags;       /* also http_flags */
    size_t body_max;      /* bytes */
    enum error_form errors;
    const char *summary;  /* a sentence */
    const char *request;  /* schema of the body; NULL: there is none */
    const char *response; /* schema of the 200, or a media type where it is not JSON */
    const char *event;    /* schema of one event when `stream` is asked for; NULL: it never streams */
};

size_t api_route_count(void);
const struct api_route *api_route_at(size_t i);
/* The rows as the server takes them, those ALSO_BARE twice. Caller frees. */
struct http_route *api_http_routes(size_t *n);

/* The document, of a server of this model; the caller's. */
json_t *api_openapi_json(const char *model);

#endif
