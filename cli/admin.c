/* admin: invite and keys: the operator's endpoints, opened by the token in the coordinator's state folder. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/path.h"
#include "cli/client.h"
#include "cli/cluster_url.h"
#include "cli/heads.h"
#include "cli/interrupt.h"

enum { TOKEN_BYTES_MAX = 256 };

/* Caller frees. */
static int read_token(const struct settings *s, char **token, struct error *e)
{
    size_t len;
    char *dir = heads_state_dir(s, "coordinator"), *path = path_join(dir, "admin-token");
    int r = path_read(path, TOKEN_BYTES_MAX, token, &len, e);
    if (r == ERR_NOT_FOUND)
        r = error_set(e, ERR_NOT_FOUND,
                      "%s is not there: run this on the coordinator's machine, as its user, or name its folder with "
                      "--state-dir", path);
    mem_free(path);
    mem_free(dir);
    return r;
}

/* Takes `body`, NULL: GET; *answer is the caller's. */
static int call_admin(const struct settings *s, const char *path, json_t *body, json_t **answer, struct error *e)
{
    char *token = NULL, *url = NULL, *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    bool sayable = !body || text;
    struct buffer out = {0};
    json_decref(body);
    *answer = NULL;
    int r = sayable ? read_token(s, &token, e) : error_set(e, ERR_INVALID, "what was given is not UTF-8 text");
    if (r == 0)
        r = cluster_url_for(s, &url, e);
    if (r == 0) {
        struct client c = {.url = url, .key = token, .stop = interrupt_seen, .ca = settings_text(s, "tls_ca")};
        r = client_call(&c, path, text, &out, e);
    }
    if (r == 0) {
        *answer = json_loadb(buffer_text(&out), out.len, 0, NULL);
        if (!*answer)
            r = error_set(e, ERR_CORRUPT, "the coordinator's answer is not JSON");
    }
    buffer_close(&out);
    mem_free(token);
    mem_free(url);
    free(text);
    return r;
}

int invite_command(const struct settings *s, struct error *e)
{
    json_t *answer, *body = json_pack("{s:I, s:I}", "uses", (json_int_t)settings_count(s, "uses"), "ttl_seconds",
                                      (json_int_t)settings_count(s, "ttl"));
    if (settings_text(s, "advertise"))
        json_object_set_new(body, "host", json_string(settings_text(s, "advertise")));
    int r = call_admin(s, "/admin/invite", body, &answer, e);
    const char *line = json_string_value(json_object_get(answer, "invite"));
    if (r == 0 && line)
        printf("shoal node --join '%s'\n", line);
    json_decref(answer);
    return r;
}

/* With a key of the API where one is given, else with the operator's token where it is to be had. */
static int list_keys(const struct settings *s, struct error *e)
{
    struct client c = {.key = settings_text(s, "api_key"), .stop = interrupt_seen,
                       .ca = settings_text(s, "tls_ca")};
    struct buffer body = {0};
    char *url, *token = NULL;
    size_t i;
    json_t *m;
    if (!c.key && read_token(s, &token, NULL) == 0)
        c.key = token;
    int r = cluster_url_for(s, &url, e);
    c.url = url;
    if (r == 0)
        r = client_call(&c, "/status", NULL, &body, e);
    if (r == 0) {
        json_t *j = json_loadb(buffer_text(&body), body.len, 0, NULL);
        json_array_foreach(json_object_get(j, "members"), i, m)
            printf("%s  %-10s %s\n", json_string_value(json_object_get(m, "fingerprint")),
                   json_string_value(json_object_get(m, "state")), json_string_value(json_object_get(m, "name")));
        json_decref(j);
    }
    buffer_close(&body);
    mem_free(token);
    mem_free(url);
    return r;
}

/* A node by /admin/revoke, a user's key by /admin/keys/revoke. */
static int revoke_key(const struct settings *s, const char *path, const char *who, struct error *e)
{
    json_t *answer, *body = json_object();
    json_object_set_new(body, "who", json_string(who));
    int r = call_admin(s, path, body, &answer, e);
    if (r == 0)
        printf("%s is revoked\n", who);
    json_decref(answer);
    return r;
}

static json_t *models_of(const struct settings *s)
{
    size_t n = 0;
    const char *const *names = settings_given(s, "models") ? settings_texts(s, "models", &n) : NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_string(names[i]));
    return list;
}

/* The key alone goes to standard output, so that a script can keep it. */
static int create_api_key(const struct settings *s, const char *name, struct error *e)
{
    json_t *answer, *body = json_object();
    json_object_set_new(body, "name", json_string(name));
    json_object_set_new(body, "rate_per_minute", json_integer((json_int_t)settings_count(s, "rate")));
    json_object_set_new(body, "concurrency", json_integer((json_int_t)settings_count(s, "concurrency")));
    json_object_set_new(body, "models", models_of(s));
    int r = call_admin(s, "/admin/keys", body, &answer, e);
    const char *key = json_string_value(json_object_get(answer, "key"));
    if (r == 0 && key) {
        puts(key);
        fprintf(stderr, "This is the only time that the key is shown.\n");
    }
    json_decref(answer);
    return r;
}

static long long count_at(const json_t *row, const char *key)
{
    return (long long)json_integer_value(json_object_get(row, key));
}

static void print_key(const json_t *row)
{
    printf("%-16s %-20s %lld a minute, %lld at once, %zu models (0: no limit)\n",
           json_string_value(json_object_get(row, "label")), json_string_value(json_object_get(row, "name")),
           count_at(row, "rate_per_minute"), count_at(row, "concurrency"),
           json_array_size(json_object_get(row, "models")));
}

static void print_used(const json_t *row)
{
    printf("%s  %-16s %-20s %lld requests, %lld prompt tokens, %lld completion tokens\n",
           json_string_value(json_object_get(row, "day")), json_string_value(json_object_get(row, "label")),
           json_string_value(json_object_get(row, "name")), count_at(row, "requests"), count_at(row, "prompt_tokens"),
           count_at(row, "completion_tokens"));
}

static int print_rows(const struct settings *s, const char *path, void (*print)(const json_t *row), struct error *e)
{
    json_t *answer, *row;
    size_t i;
    int r = call_admin(s, path, NULL, &answer, e);
    if (r == 0 && settings_switch(s, "json")) {
        json_dumpf(answer, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (r == 0) {
        json_array_foreach(json_object_get(answer, "data"), i, row)
            print(row);
    }
    json_decref(answer);
    return r;
}

static int api_keys_command(const struct settings *s, const char *what, const char *who, struct error *e)
{
    if (strcmp(what, "create") == 0 && who)
        return create_api_key(s, who, e);
    if (strcmp(what, "revoke-api") == 0 && who)
        return revoke_key(s, "/admin/keys/revoke", who, e);
    if (strcmp(what, "api") == 0 && !who)
        return print_rows(s, "/admin/keys", print_key, e);
    if (strcmp(what, "usage") == 0 && !who)
        return print_rows(s, "/admin/keys/usage", print_used, e);
    return error_set(e, ERR_INVALID, "usage: shoal keys list | revoke NAME | create NAME | api | revoke-api NAME | "
                     "usage");
}

int keys_command(const struct settings *s, struct error *e)
{
    const char *what = settings_argument(s, 0), *who = settings_argument(s, 1);
    if (strcmp(what, "list") == 0 && !who)
        return list_keys(s, e);
    if (strcmp(what, "revoke") == 0 && who)
        return revoke_key(s, "/admin/revoke", who, e);
    return api_keys_command(s, what, who, e);
}
