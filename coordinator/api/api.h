/* api: the OpenAI-compatible HTTP endpoints, and the operator's.
 *
 * A handler turns one request into token ids, submits them to the engine, and
 * turns tokens back into text, JSON and server-sent events.  Everything that
 * can fail is tried before the 200 is sent.  Request fields are rows of
 * fields.c, endpoints rows of routes.c; unknown fields are ignored, fields whose
 * meaning would be lost (functions) are refused by name.
 *
 * Handlers run on the HTTP server's connection threads and share nothing but
 * the immutable api and its counters.                                        */
#ifndef COORDINATOR_API_API_H
#define COORDINATOR_API_API_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "coordinator/control.h"
#include "coordinator/engine.h"
#include "text/chat.h"
#include "text/tokenizer.h"

enum api_limits {
    API_BODY_MAX = 8 << 20,      /* bytes of a request */
    API_JSON_DEPTH_MAX = 64,
    API_JSON_VALUES_MAX = 1 << 19, /* commas and colons of a request */
    API_CHOICES_MAX = 64,        /* prompts times n */
    API_PING_MS = 10000,         /* a silent stream says that it lives */
    API_REQUEST_MS = 3600 * 1000, /* no answer takes longer */
    API_ADMIN_TOKEN_BYTES = 65,  /* text of a token */
};

struct api;

struct api_options {
    struct engine *engine;
    struct control *control;
    const struct tokenizer *tokenizer;
    const struct chat *chat; /* NULL: chat is refused, because of ... */
    const char *chat_error;  /* ... this; NULL: there is no template */
    const char *model_name;
    const char *const *adapters; /* names, whose model ids are MODEL:NAME */
    uint32_t n_adapters;
    const char *host;
    uint16_t port;
    uint32_t connections_max; /* 0: 256 */
    const char *api_key;      /* NULL: open */
    const char *admin_token;  /* of the operator's endpoints */
    const char *state_dir;    /* where users' keys are kept; NULL: there are none */
    const char *tls_cert, *tls_key; /* PEM files; NULL: plain HTTP */
    const char *cors;         /* the origin whose pages may use it, "*": every; NULL: none; lives as long */
    bool insecure_no_key;     /* without any key others than this machine may still come */
    uint32_t ping_ms;         /* 0: API_PING_MS */
};

/* Borrows what the pointers point at (texts are copied). ERR_CONFLICT when the port is in use,
 * ERR_CONFIG when others than this machine could come without a key. */
MUST_USE int api_start(struct api **out, const struct api_options *o, struct error *e);
void api_stop(struct api **a); /* running requests are cancelled */
uint16_t api_port(const struct api *a);

/* The token in `state_dir`/admin-token, readable by this user only: a new one, unless another process holds the one
 * that is there. *held is to be closed when it is of no more use. */
MUST_USE int api_admin_token(const char *state_dir, char token[static API_ADMIN_TOKEN_BYTES], int *held,
                             struct error *e);

#endif
