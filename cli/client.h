/* client: the coordinator's HTTP API from the outside, with libcurl.
 *
 * Errors carry the server's own sentence and the status that fits its HTTP
 * code.  A client belongs to one thread.                                     */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

enum { CLIENT_BODY_MAX = 1 << 30, CLIENT_TIMEOUT_S = 30 };

struct client {
    const char *url;   /* base, "http://127.0.0.1:8080"; borrowed, like the key */
    const char *key;   /* bearer token or NULL */
    bool (*stop)(void); /* asked now and then; NULL: never */
    const char *ca;     /* PEM file of the certificates to trust; NULL: the system's */
    bool any_name;      /* its certificate need not name the host of the URL */
};

/* The whole answer into `body` (initialised by the call; buffer_close). `json` NULL: GET, else POST. */
MUST_USE int client_call(const struct client *c, const char *path, const char *json, struct buffer *body,
                         struct error *e);
/* POST and hand every "data: ..." line of an event stream to `event` (without the final [DONE]); non-zero from it
 * ends the stream with that status. */
MUST_USE int client_stream(const struct client *c, const char *path, const char *json,
                           int (*event)(void *arg, const char *data, struct error *e), void *arg, struct error *e);

#endif
