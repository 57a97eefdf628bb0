/* gguf_split: a model's files found by the name of one, parsed each on its own, and their tensors put
 * together.
 *
 * What ties them is in each file: split.no, from 0, split.count, and
 * split.tensors.count, of all files together.                                */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "shard/format/gguf_file.h"

enum { DIGITS = 5 };
static const char between[] = "-of-", ending[] = ".gguf";

/* What a file says of itself. */
struct split {
    uint64_t number, count;
    uint64_t tensors; /* of all; UINT64_MAX: it does not say */
};

/* ---- names ---- */

static bool read_digits(const char *p, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (!isdigit((unsigned char)p[i]))
            return false;
        *out = *out * 10 + (uint32_t)(p[i] - '0');
    }
    return true;
}

bool gguf_split_name(const char *path, size_t *prefix, uint32_t *number, uint32_t *count)
{
    size_t n = strlen(path), tail = 1 + DIGITS + strlen(between) + DIGITS + strlen(ending);
    if (n <= tail)
        return false;
    const char *p = path + n - tail, *second = p + 1 + DIGITS + strlen(between);
    *prefix = n - tail;
    return p[-1] != '/' && p[0] == '-' && read_digits(p + 1, number) &&
           memcmp(p + 1 + DIGITS, between, strlen(between)) == 0 && read_digits(second, count) &&
           strcmp(second + DIGITS, ending) == 0 && *number >= 1 && *number <= *count;
}

/* Of file i, from 0. Caller frees. */
static char *split_path(const char *path, size_t prefix, size_t i, uint64_t count)
{
    return mem_printf("%.*s-%05zu-of-%05llu.gguf", (int)prefix, path, i + 1, (unsigned long long)count);
}

/* ---- what files say ---- */

static int read_split(const struct gguf *g, struct split *s, struct error *e)
{
    *s = (struct split){.count = 1, .tensors = UINT64_MAX};
    if (!gguf_has(g, "split.count"))
        return 0;
    if (!gguf_get_u64(g, "split.count", &s->count) ||
        (gguf_has(g, "split.tensors.count") && !gguf_get_u64(g, "split.tensors.count", &s->tensors)))
        return error_set(e, ERR_CORRUPT, "%s: what it says of its splits is not a number", g->path);
    if (s->count <= 1) { /* so some tools say that there are none */
        s->count = 1;
        return 0;
    }
    if (s->count > GGUF_SPLITS_MAX)
        return error_set(e, ERR_LIMIT, "%s: is one of %llu files; at most %d can be", g->path,
                         (unsigned long long)s->count, GGUF_SPLITS_MAX);
    if (!gguf_get_u64(g, "split.no", &s->number) || s->number >= s->count)
        return error_set(e, ERR_CORRUPT, "%s: is one of %llu files and does not say which", g->path,
                         (unsigned long long)s->count);
    return 0;
}

/* The file is number i of a model that the first says it is. */
static int check_part(const struct gguf *part, size_t i, const struct split *first, struct error *e)
{
    struct split s;
    int r = read_split(part, &s, e);
    if (r != 0)
        return r;
    if (s.count != first->count || s.number != i)
        return error_set(e, ERR_CORRUPT, "%s: says that it is file %llu of %llu, which is not what its name says",
                         part->path, (unsigned long long)s.number + 1, (unsigned long long)s.count);
    if (s.tensors != first->tensors)
        return error_set(e, ERR_CORRUPT, "%s: is of another model than the first file: it says that there are %lld "
                                         "tensors in all, not %lld", part->path, (long long)s.tensors,
                         (long long)first->tensors);
    return 0;
}

/* ---- putting together ---- */

/* Every file that is there; `given` is one of them, already open, or none. */
static int open_parts(struct gguf *first, struct gguf **given, size_t given_i, size_t prefix, const struct split *s,
                      struct error *e)
{
    int r = check_part(first, 0, s, e);
    for (size_t i = 1; r == 0 && i < s->count; i++) {
        if (i == given_i) {
            first->parts[i] = *given;
            *given = NULL;
        } else {
            char *path = split_path(first->path, prefix, i, s->count);
            r = gguf_open_one(&first->parts[i], path, e);
            mem_free(path);
            r = r == ERR_NOT_FOUND ? 0 : r;
        }
        if (r == 0 && first->parts[i])
            r = check_part(first->parts[i], i, s, e);
    }
    return r;
}

static int count_tensors(const struct gguf *g, const struct split *s, size_t *total, struct error *e)
{
    size_t absent = 0;
    *total = 0;
    for (size_t i = 0; i < g->n_parts; i++) {
        absent += !g->parts[i];
        *total += g->parts[i] ? g->parts[i]->n_tensors : 0;
    }
    if (*total > GGUF_TENSORS_MAX)
        return error_set(e, ERR_LIMIT, "%s: the files hold %zu tensors; at most %d can be", g->path, *total,
                         GGUF_TENSORS_MAX);
    if (s->tensors != UINT64_MAX && (*total > s->tensors || (absent == 0 && *total < s->tensors)))
        return error_set(e, ERR_CORRUPT, "%s: its files hold %zu tensors together, not %llu as they say: one is of "
                                         "another model", g->path, *total, (unsigned long long)s->tensors);
    return 0;
}

static int join_tensors(struct gguf *g, const struct split *s, struct error *e)
{
    size_t total, n = 0;
    int r = count_tensors(g, s, &total, e);
    if (r != 0)
        return r;
    struct gguf_tensor *all = mem_array(total + 1, sizeof(*all));
    for (size_t i = 0; i < g->n_parts; i++) {
        struct gguf *part = g->parts[i];
        for (size_t k = 0; part && k < part->n_tensors; k++) {
            all[n] = part->tensors[k];
            all[n++].file = (uint32_t)i;
        }
        if (part) {
            mem_free(part->tensors);
            mem_free(part->by_name);
            part->tensors = NULL;
            part->by_name = NULL;
            part->n_tensors = 0;
        }
    }
    g->tensors = all;
    g->n_tensors = total;
    g->by_name = mem_array(total + 1, sizeof(*g->by_name));
    for (size_t i = 0; i < total; i++)
        g->by_name[i] = &g->tensors[i];
    return gguf_index_tensors(g, e);
}

/* *g is any of the files, and becomes the first, with all others behind it. */
static int join(struct gguf **g, const struct split *s, struct error *e)
{
    size_t prefix, i = (size_t)s->number;
    uint32_t number, count;
    if (!gguf_split_name((*g)->path, &prefix, &number, &count) || number != i + 1 || count != s->count)
        return error_set(e, ERR_CORRUPT, "%s: is file %zu of %llu of a model; its name must end in "
                                         "-%05zu-of-%05llu.gguf", (*g)->path, i + 1, (unsigned long long)s->count,
                         i + 1, (unsigned long long)s->count);
    struct gguf *first = *g, *given = NULL;
    struct split of_first = *s;
    int r = 0;
    if (i > 0) {
        char *path = split_path((*g)->path, prefix, 0, s->count);
        given = *g;
        *g = NULL;
        r = gguf_open_one(&first, path, e);
        if (r == ERR_NOT_FOUND)
            r = error_set(e, r, "%s is not here: the first of a model's files is always needed", path);
        mem_free(path);
        if (r == 0)
            r = read_split(first, &of_first, e);
        if (r == 0 && of_first.count != s->count)
            r = error_set(e, ERR_CORRUPT, "%s: says that it is one of %llu files, which is not what its name says",
                          first->path, (unsigned long long)of_first.count);
    }
    if (r == 0) {
        first->n_parts = (size_t)s->count;
        first->parts = mem_array(first->n_parts, sizeof(void *));
        first->parts[0] = first;
        r = open_parts(first, &given, i, prefix, &of_first, e);
    }
    if (r == 0)
        r = join_tensors(first, &of_first, e);
    gguf_close(&given);
    *g = first;
    return r;
}

static int open_files(struct gguf *g, struct error *e)
{
    struct file_set_entry *entries = mem_array(g->n_parts, sizeof(*entries));
    char **paths = mem_array(g->n_parts, sizeof(*paths));
    size_t prefix = 0;
    uint32_t number, count;
    bool split = g->n_parts > 1 && gguf_split_name(g->path, &prefix, &number, &count);
    for (size_t i = 0; i < g->n_parts; i++) {
        char *name = split ? split_path("model", strlen("model"), i, g->n_parts) : mem_strdup("model.gguf");
        snprintf(entries[i].name, sizeof(entries[i].name), "%s", name);
        mem_free(name);
        paths[i] = split ? split_path(g->path, prefix, i, g->n_parts) : mem_strdup(g->path);
        if (g->parts[i]) {
            entries[i].bytes = g->parts[i]->file_bytes;
            entries[i].head_bytes = g->parts[i]->header_bytes;
        }
    }
    int r = file_set_open_at(&g->files, (const char *const *)paths, entries, g->n_parts, e);
    for (size_t i = 0; i < g->n_parts; i++)
        mem_free(paths[i]);
    mem_free(paths);
    mem_free(entries);
    return r;
}

int gguf_open(struct gguf **out, const char *path, struct error *e)
{
    struct split s;
    struct gguf *g;
    *out = NULL;
    int r = gguf_open_one(&g, path, e);
    if (r == 0)
        r = read_split(g, &s, e);
    if (r == 0 && s.count > 1) {
        r = join(&g, &s, e);
    } else if (r == 0) {
        g->n_parts = 1;
        g->parts = mem_alloc(sizeof(void *));
        g->parts[0] = g;
    }
    if (r == 0)
        r = open_files(g, e);
    if (r != 0)
        gguf_close(&g);
    *out = g;
    return r;
}
