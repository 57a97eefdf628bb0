/* coordinator: starts the control half, the gateway half and the API, and stops them in reverse. */
#include "coordinator/coordinator.h"

#include <string.h>
#include <unistd.h>

#include "base/logger.h"
#include "base/memory.h"
#include "coordinator/api/api.h"
#include "coordinator/engine.h"
#include "shard/arch/adapter.h"
#include "text/chat.h"
#include "text/tokenizer.h"

struct coordinator {
    struct control *control;
    struct engine *engine;
    struct tokenizer *tokenizer;
    struct chat *chat; /* NULL: the model cannot */
    struct api *api;
    char token[API_ADMIN_TOKEN_BYTES];
    int token_held;
};

/* A model without a chat template still completes text; one that was given has to be good. */
static int open_chat(struct coordinator *c, const struct coordinator_options *o, struct error *why, struct error *e)
{
    if (o->chat_template != NULL)
        return chat_open_file(&c->chat, c->tokenizer, o->chat_template, e);
    if (chat_open(&c->chat, c->tokenizer, NULL, why) != 0)
        log_warn("coordinator", "chat is off: %s", why->text);
    return 0;
}

static int start_api(struct coordinator *c, const struct coordinator_options *o, struct error *e)
{
    const char *state_dir = o->api_state_dir != NULL ? o->api_state_dir : o->control.state_dir;
    struct error why = { 0 };
    int rc = api_admin_token(state_dir, c->token, &c->token_held, e);
    if (rc == 0)
        rc = open_chat(c, o, &why, e);
    if (rc != 0)
        return rc;
    const char *name = o->model_name != NULL ? o->model_name : control_model_name(c->control);
    const char *adapters[ADAPTERS_MAX];
    uint32_t n_adapters = control_adapter_count(c->control);
    for (uint32_t i = 0; i < n_adapters; i++)
        adapters[i] = control_adapter_name(c->control, i + 1);
    struct api_options a = {
        .adapters = adapters,
        .n_adapters = n_adapters,
        .engine = c->engine,
        .control = c->control,
        .tokenizer = c->tokenizer,
        .chat = c->chat,
        .chat_error = c->chat == NULL ? why.text : NULL,
        .model_name = name,
        .host = o->http_host,
        .port = o->http_port,
        .connections_max = o->connections_max,
        .api_key = o->api_key,
        .admin_token = c->token,
        .state_dir = state_dir,
        .tls_cert = o->tls_cert,
        .tls_key = o->tls_key,
        .cors = o->cors,
        .insecure_no_key = o->insecure_no_key,
    };
    return api_start(&c->api, &a, e);
}

int coordinator_start(struct coordinator **out, const struct coordinator_options *o, struct error *e)
{
    struct coordinator *c = mem_alloc(sizeof(*c));
    c->token_held = -1;
    int rc = control_start(&c->control, &o->control, e);
    if (rc == 0)
        rc = tokenizer_open(&c->tokenizer, model_file(control_model(c->control)), e);
    if (rc == 0)
        rc = engine_start(&c->engine, c->control, e);
    if (rc == 0)
        rc = start_api(c, o, e);
    if (rc != 0)
        coordinator_stop(&c);
    else
        *out = c;
    return rc;
}

void coordinator_stop(struct coordinator **c_p)
{
    struct coordinator *c = *c_p;
    if (c == NULL)
        return;
    api_stop(&c->api);
    if (c->engine != NULL)
        engine_stop(&c->engine);
    chat_close(&c->chat);
    if (c->tokenizer != NULL)
        tokenizer_close(&c->tokenizer);
    if (c->control != NULL)
        control_stop(&c->control);
    if (c->token_held >= 0)
        close(c->token_held);
    mem_free(c);
    *c_p = NULL;
}

uint16_t coordinator_http_port(const struct coordinator *c)
{
    return api_port(c->api);
}

const char *coordinator_token(const struct coordinator *c)
{
    return c->token;
}

struct control *coordinator_control(struct coordinator *c)
{
    return c->control;
}
