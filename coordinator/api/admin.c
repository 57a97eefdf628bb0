/* admin: the operator's token and endpoints: invite and revoke. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

#include "base/logger.h"
#include "base/memory.h"
#include "base/path.h"
#include "coordinator/api/private.h"

enum { TOKEN_BYTES = 32, USES_MAX = 1000, TTL_DEFAULT_S = 24 * 3600, TTL_MAX_S = 30 * 24 * 3600 };

static int write_token(const char *path, struct error *e)
{
    unsigned char bytes[TOKEN_BYTES];
    char token[API_ADMIN_TOKEN_BYTES];
    random_fill(bytes, sizeof(bytes));
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    return path_write_atomic(path, token, strlen(token), 0600, e);
}

static int read_token(const char *path, char token[static API_ADMIN_TOKEN_BYTES], struct error *e)
{
    char *text;
    size_t len;
    int rc = path_read(path, API_ADMIN_TOKEN_BYTES, &text, &len, e);
    if (rc == 0 && len != API_ADMIN_TOKEN_BYTES - 1)
        rc = error_set(e, ERR_CORRUPT, "%s holds no token; remove it", path);
    if (rc == 0)
        memcpy(token, text, API_ADMIN_TOKEN_BYTES);
    mem_free(text);
    return rc;
}

/* Who is alone writes a new one. Who is not finds the lock shared by those that live, and theirs in the file. */
static int find_token(const char *path, char token[static API_ADMIN_TOKEN_BYTES], int lock, struct error *e)
{
    bool alone = flock(lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    int rc = alone ? write_token(path, e) : 0;
    (void)flock(lock, LOCK_SH); /* fails only where there are no locks: then nobody shares */
    if (rc == 0 && !alone && !path_exists(path))
        rc = write_token(path, e);
    return rc == 0 ? read_token(path, token, e) : rc;
}

int api_admin_token(const char *state_dir, char token[static API_ADMIN_TOKEN_BYTES], int *held, struct error *e)
{
    *held = -1;
    int rc = path_make_dirs(state_dir, 0700, e);
    if (rc != 0)
        return rc;
    char *path = path_join(state_dir, "admin-token"), *lock = path_join(state_dir, "admin-token.lock");
    *held = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    rc = *held >= 0 ? find_token(path, token, *held, e)
                    : error_set(e, ERR_IO, "cannot open %s: %s", lock, strerror(errno));
    mem_free(path);
    mem_free(lock);
    return rc;
}

/* An optional whole number of a request. */
static int read_count(const json_t *body, const char *name, json_int_t max, json_int_t initial, uint32_t *out,
                      struct refusal *r)
{
    const json_t *v = json_object_get(body, name);
    json_int_t n = v == NULL || json_is_null(v) ? initial : json_integer_value(v);
    if (n < 1 || n > max)
        return refuse(r, ERR_INVALID, name, "%s must be an integer from 1 to %lld", name, (long long)max);
    *out = (uint32_t)n;
    return 0;
}

static int read_name(const json_t *body, const char *name, bool needed, const char **out, struct refusal *r)
{
    const json_t *v = json_object_get(body, name);
    *out = json_string_value(v);
    if (*out != NULL || (!needed && (v == NULL || json_is_null(v))))
        return 0;
    return refuse(r, ERR_INVALID, name, "%s must be a string", name);
}

static int invite(const struct api *a, const json_t *body, char **line, uint32_t *ttl, struct refusal *r)
{
    uint32_t uses = 0;
    const char *host = NULL;
    int rc = read_count(body, "uses", USES_MAX, 1, &uses, r);
    if (rc == 0)
        rc = read_count(body, "ttl_seconds", TTL_MAX_S, TTL_DEFAULT_S, ttl, r);
    if (rc == 0)
        rc = read_name(body, "host", false, &host, r);
    return rc == 0 ? control_invite(a->options.control, uses, *ttl, host, line, &r->error) : rc;
}

/* {"uses": 1, "ttl_seconds": 86400, "host": null} -> {"invite": "shoal1....", "expires": seconds since 1970} */
void api_invite(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    json_t *body = NULL;
    char *line = NULL;
    uint32_t ttl = 0;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = invite(a, body, &line, &ttl, &r);
    if (rc == 0)
        reply_json(x, 200, json_pack("{s:s, s:I}", "invite", line, "expires", (json_int_t)time(NULL) + ttl));
    else
        reply_refusal(x, &r);
    mem_free(line);
    json_decref(body);
}

/* {"who": name or fingerprint} -> {"revoked": who} */
void api_revoke(void *arg, struct http_exchange *x)
{
    const struct api *a = arg;
    struct refusal r = { 0 };
    json_t *body = NULL;
    const char *who = NULL;
    int rc = json_body(&body, x, &r);
    if (rc == 0)
        rc = read_name(body, "who", true, &who, &r);
    if (rc == 0)
        rc = control_revoke(a->options.control, who, &r.error);
    if (rc == 0) {
        log_info("coordinator", "member revoked through the API");
        reply_json(x, 200, json_pack("{s:s}", "revoked", who));
    } else {
        reply_refusal(x, &r);
    }
    json_decref(body);
}
