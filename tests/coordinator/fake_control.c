/* fake_control: the control half of fake.h. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "tests/coordinator/fake.h"

struct control {
    pthread_mutex_t lock;
    struct model *model;
    struct control_route route;
    char revoked[64];
};

struct control *fake_control(const char *model_path)
{
    struct control *c = mem_alloc(sizeof(*c));
    pthread_mutex_init(&c->lock, NULL);
    struct error e = { 0 };
    if (model_open(&c->model, model_path, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        mem_free(c);
        return NULL;
    }
    fake_control_state(c, CONTROL_READY, "");
    fake_control_limits(c, 2048, 8192);
    return c;
}

void fake_control_free(struct control **c)
{
    model_close(&(*c)->model);
    pthread_mutex_destroy(&(*c)->lock);
    mem_free(*c);
    *c = NULL;
}

void fake_control_state(struct control *c, enum control_state state, const char *text)
{
    pthread_mutex_lock(&c->lock);
    c->route.state = state;
    snprintf(c->route.text, sizeof(c->route.text), "%s", text);
    c->route.n_stages = 3;
    pthread_mutex_unlock(&c->lock);
}

void fake_control_limits(struct control *c, uint32_t context, uint32_t kv_tokens)
{
    pthread_mutex_lock(&c->lock);
    c->route.context = context;
    c->route.kv_tokens = kv_tokens;
    pthread_mutex_unlock(&c->lock);
}

const char *fake_control_revoked(struct control *c)
{
    return c->revoked;
}

void control_route(struct control *c, struct control_route *out)
{
    pthread_mutex_lock(&c->lock);
    *out = c->route;
    pthread_mutex_unlock(&c->lock);
}

const struct model *control_model(const struct control *c)
{
    return c->model;
}

char *control_status_json(struct control *c)
{
    (void)c;
    return mem_strdup("{\"nodes\":[]}");
}

int control_invite(struct control *c, uint32_t uses, uint32_t ttl_seconds, const char *host, char **line,
                   struct error *e)
{
    (void)c;
    (void)e;
    *line = mem_printf("shoal1.%u.%u.%s", uses, ttl_seconds, host == NULL ? "-" : host);
    return 0;
}

int control_revoke(struct control *c, const char *who, struct error *e)
{
    if (strcmp(who, "nobody") == 0)
        return error_set(e, ERR_NOT_FOUND, "no member is called %s", who);
    snprintf(c->revoked, sizeof(c->revoked), "%s", who);
    return 0;
}
