/* hub: sources, listings and addresses. The hub's API: GET /api/models/REPO/revision/REV for the commit, then
 * GET /api/models/REPO/tree/COMMIT?recursive=1 page by page, then GET /REPO/resolve/COMMIT/PATH. */
#include "coordinator/pull/hub.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "net/download.h"

#define HUB_DEFAULT "https://huggingface.co"

/* ---- sources ---- */

static const char *const starts[] = {"hf:", "hf.co/", "huggingface.co/", "https://hf.co/", "https://huggingface.co/"};

static const char *after_start(const char *text)
{
    for (size_t i = 0; i < COUNTOF(starts); i++)
        if (strncasecmp(text, starts[i], strlen(starts[i])) == 0)
            return text + strlen(starts[i]);
    return NULL;
}

bool hub_is_source(const char *text)
{
    return after_start(text) != NULL;
}

/* Letters, digits and `more`; no part is "." or "..". */
static bool is_word(const char *p, size_t n, const char *more)
{
    if (n == 0 || memmem(p, n, "..", 2) || p[0] == '.' || p[0] == '/' || p[n - 1] == '/' || memmem(p, n, "//", 2))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)p[i]) && !strchr(more, p[i]))
            return false;
    return true;
}

int hub_source_parse(struct hub_source *out, const char *text, struct error *e)
{
    const char *p = after_start(text);
    memset(out, 0, sizeof(*out));
    size_t n = p ? strcspn(p, "@:") : 0;
    const char *slash = p ? memchr(p, '/', n) : NULL;
    bool ok = slash && n < sizeof(out->repo) && is_word(p, (size_t)(slash - p), "-_.") &&
              is_word(slash + 1, n - (size_t)(slash + 1 - p), "-_.");
    snprintf(out->revision, sizeof(out->revision), "main");
    if (ok) {
        snprintf(out->repo, sizeof(out->repo), "%.*s", (int)n, p);
        p += n;
    }
    if (ok && *p == '@') {
        n = strcspn(++p, ":");
        ok = n < sizeof(out->revision) && is_word(p, n, "-_./");
        snprintf(out->revision, sizeof(out->revision), "%.*s", (int)n, p);
        p += n;
    }
    if (ok && *p == ':') {
        n = strlen(++p);
        ok = n <= HUB_QUANT_MAX && is_word(p, n, "-_.");
        snprintf(out->quant, sizeof(out->quant), "%.*s", HUB_QUANT_MAX, p);
    }
    return ok ? 0 : error_set(e, ERR_INVALID, "\"%.100s\" is no source: hf:ORG/REPO, with @REVISION and :QUANT behind "
                                              "it where you want others than the usual", text);
}

/* ---- the hub ---- */

int hub_open(struct http_client **out, bool (*stop)(void *arg), void *arg, struct error *e)
{
    const char *hub = getenv("SHOAL_HUB");
    if (!hub || !hub[0])
        hub = getenv("HF_ENDPOINT");
    return http_client_open(out, hub && hub[0] ? hub : HUB_DEFAULT, getenv("HF_TOKEN"), stop, arg, e);
}

int hub_explain(int r, const struct http_client *c, const struct hub_source *s, struct error *e)
{
    const char *token = getenv("HF_TOKEN");
    if (r == ERR_NOT_FOUND)
        return error_set(e, r, "%s is not on %s, or has no revision %s", s->repo, http_client_origin(c), s->revision);
    if (r != ERR_DENIED)
        return r;
    if (token && token[0])
        return error_set(e, r, "%s refuses %s to the token in HF_TOKEN: is it valid, and did its account ask for "
                               "access at %s/%s?", http_client_origin(c), s->repo, http_client_origin(c), s->repo);
    return error_set(e, r, "%s is gated, private or not there: ask for access at %s/%s, and set HF_TOKEN to a token "
                           "that may read it", s->repo, http_client_origin(c), s->repo);
}

/* ---- listings ---- */

/* Leads to a place below a folder: anything else is an attack or a mistake. */
static bool path_ok(const char *path)
{
    size_t n = strlen(path);
    if (n == 0 || n > 4096 || path[0] == '/' || path[n - 1] == '/')
        return false;
    for (const char *p = path; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7F || *p == '\\')
            return false;
    for (const char *part = path;; part++) {
        size_t len = strcspn(part, "/");
        if (len == 0 || len > 255 || (len == 1 && part[0] == '.') || (len == 2 && memcmp(part, "..", 2) == 0))
            return false;
        part += len;
        if (*part == 0)
            return true;
    }
}

static bool is_sha256(const char *text)
{
    return text && strlen(text) == 64 && strspn(text, "0123456789abcdefABCDEF") == 64;
}

static int add_file(struct hub_listing *l, const json_t *row, struct error *e)
{
    const char *type = json_string_value(json_object_get(row, "type"));
    const char *path = json_string_value(json_object_get(row, "path"));
    const json_t *lfs = json_object_get(row, "lfs"), *size = json_object_get(lfs ? lfs : row, "size");
    const char *oid = json_string_value(json_object_get(lfs, "oid"));
    if (!json_is_object(row) || !type || !path)
        return error_set(e, ERR_CORRUPT, "%s: the hub's list of files is none", l->source.repo);
    if (strcmp(type, "file") != 0)
        return 0;
    if (!path_ok(path))
        return error_set(e, ERR_CORRUPT, "%s: the hub lists a file called \"%.100s\", which cannot be", l->source.repo,
                         path);
    if (!json_is_integer(size) || json_integer_value(size) < 0 ||
        (uint64_t)json_integer_value(size) > DOWNLOAD_BYTES_MAX)
        return error_set(e, ERR_CORRUPT, "%s: how large %.200s is, the hub does not say, or it cannot be",
                         l->source.repo, path);
    if (l->n == HUB_FILES_MAX)
        return error_set(e, ERR_LIMIT, "%s: has more than %d files", l->source.repo, HUB_FILES_MAX);
    if (l->n == l->room) {
        l->room = l->room ? 2 * l->room : 64;
        l->files = mem_resize(l->files, l->room, sizeof(*l->files));
    }
    struct hub_file *f = &l->files[l->n++];
    *f = (struct hub_file){.path = mem_strdup(path), .bytes = (uint64_t)json_integer_value(size)};
    if (oid && strncmp(oid, "sha256:", 7) == 0)
        oid += 7;
    if (is_sha256(oid))
        snprintf(f->sha256, sizeof(f->sha256), "%s", oid);
    return 0;
}

int hub_add_page(struct hub_listing *l, const char *text, size_t n, struct error *e)
{
    json_t *rows = json_loadb(text, n, 0, NULL);
    size_t i;
    json_t *row;
    int r = json_is_array(rows) ? 0 : error_set(e, ERR_CORRUPT, "%s: the hub's list of files is none", l->source.repo);
    json_array_foreach(rows, i, row) {
        if (r == 0)
            r = add_file(l, row, e);
    }
    json_decref(rows);
    return r;
}

void hub_listing_close(struct hub_listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->files[i].path);
    mem_free(l->files);
    *l = (struct hub_listing){0};
}

/* Bytes of a path that an address may hold as they are; "/" too. */
static void add_escaped(struct buffer *b, const char *path)
{
    for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
        if (isalnum(*p) || strchr("-_.~/", *p))
            buffer_add(b, p, 1);
        else
            buffer_printf(b, "%%%02X", *p);
    }
}

static int find_commit(struct hub_listing *l, struct http_client *c, struct error *e)
{
    struct buffer url, body;
    buffer_init(&url, HTTP_URL_MAX);
    buffer_printf(&url, "%s/api/models/%s/revision/", http_client_origin(c), l->source.repo);
    for (const char *p = l->source.revision; *p; p++) /* a revision is one part of the address */
        buffer_printf(&url, *p == '/' ? "%%2F" : "%c", *p);
    int r = http_client_get(c, buffer_text(&url), HUB_PAGE_MAX, &body, NULL, e);
    buffer_close(&url);
    if (r != 0)
        return hub_explain(r, c, &l->source, e);
    json_t *j = json_loadb(buffer_text(&body), body.len, 0, NULL);
    const char *sha = json_string_value(json_object_get(j, "sha"));
    if (!sha || !is_word(sha, strlen(sha), "") || strlen(sha) >= sizeof(l->commit))
        r = error_set(e, ERR_CORRUPT, "%s: %s does not say which commit %s is; is it a hub?", l->source.repo,
                      http_client_origin(c), l->source.revision);
    else
        snprintf(l->commit, sizeof(l->commit), "%s", sha);
    json_decref(j);
    buffer_close(&body);
    return r;
}

int hub_list(struct hub_listing *out, struct http_client *c, const struct hub_source *source, struct error *e)
{
    *out = (struct hub_listing){.source = *source};
    int r = find_commit(out, c, e);
    char *next = r != 0 ? NULL : mem_printf("%s/api/models/%s/tree/%s?recursive=1", http_client_origin(c), source->repo,
                                            out->commit);
    for (int page = 0; r == 0 && next; page++) {
        struct buffer body;
        char *url = next;
        next = NULL;
        if (page == HUB_PAGES_MAX)
            r = error_set(e, ERR_LIMIT, "%s: the hub's list of files does not end", source->repo);
        else
            r = hub_explain(http_client_get(c, url, HUB_PAGE_MAX, &body, &next, e), c, source, e);
        if (r == 0) {
            r = hub_add_page(out, buffer_text(&body), body.len, e);
            buffer_close(&body);
        }
        mem_free(url);
    }
    mem_free(next);
    if (r != 0)
        hub_listing_close(out);
    return r;
}

char *hub_url(const struct http_client *c, const struct hub_listing *l, size_t file)
{
    struct buffer url;
    buffer_init(&url, HTTP_URL_MAX + 3 * 4096);
    buffer_printf(&url, "%s/%s/resolve/%s/", http_client_origin(c), l->source.repo, l->commit);
    add_escaped(&url, l->files[file].path);
    return buffer_take(&url, NULL);
}
