/* safetensors: the header is looked over before it is parsed as JSON, so that what it costs is bounded; then every
 * tensor is sized, and all of them together must fill the rest of the file, byte for byte. */
#include "shard/format/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/view.h"

enum {
    LENGTH_BYTES = 8,
    DEPTH_MAX = 3,   /* the header, a tensor, its shape */
    COMMAS_MAX = 16, /* for each tensor that may be there */
    META_MAX = 4096, /* strings of "__metadata__" */
};

static const char meta_key[] = "__metadata__";

struct safetensors {
    char *path;
    uint8_t *map;
    uint64_t file_bytes, head_bytes;
    struct st_tensor *tensors; /* by offset */
    size_t n_tensors;
    const struct st_tensor **by_name;
    json_t *meta; /* NULL: none */
};

static const struct {
    const char *name;
    uint8_t bytes;
} dtypes[] = {
    [ST_BOOL] = {"BOOL", 1}, [ST_U8] = {"U8", 1}, [ST_I8] = {"I8", 1}, [ST_F8_E4M3] = {"F8_E4M3", 1},
    [ST_F8_E5M2] = {"F8_E5M2", 1}, [ST_F8_E8M0] = {"F8_E8M0", 1}, [ST_I16] = {"I16", 2}, [ST_U16] = {"U16", 2},
    [ST_F16] = {"F16", 2}, [ST_BF16] = {"BF16", 2}, [ST_I32] = {"I32", 4}, [ST_U32] = {"U32", 4},
    [ST_F32] = {"F32", 4}, [ST_I64] = {"I64", 8}, [ST_U64] = {"U64", 8}, [ST_F64] = {"F64", 8},
};

char *st_shape_text(const struct st_tensor *t, char text[static ST_SHAPE_BYTES])
{
    size_t n = 0;
    snprintf(text, ST_SHAPE_BYTES, "one value");
    for (uint32_t i = 0; i < t->n_dims; i++)
        n += (size_t)snprintf(text + n, ST_SHAPE_BYTES - n, "%s%llu", i ? " x " : "", (unsigned long long)t->shape[i]);
    return text;
}

const char *st_dtype_name(enum st_dtype d)
{
    return dtypes[d].name;
}

size_t st_dtype_bytes(enum st_dtype d)
{
    return dtypes[d].bytes;
}

/* ---- the header as JSON ---- */

/* How deep it goes and how many values it has, without building any. False: it is no header. */
static bool look_over(const uint8_t *text, uint64_t n)
{
    uint64_t commas = 0, depth = 0;
    bool quoted = false;
    for (uint64_t i = 0; i < n; i++) {
        uint8_t c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            quoted = c != '"';
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > DEPTH_MAX)
                return false;
        } else if (c == '}' || c == ']') {
            depth -= depth > 0;
        } else if (c == ',' && ++commas > (uint64_t)COMMAS_MAX * SAFETENSORS_TENSORS_MAX) {
            return false;
        }
    }
    return true;
}

static int read_head(struct safetensors *s, json_t **out, struct error *e)
{
    struct view v = view_of(s->map, s->file_bytes);
    uint64_t n = view_u64(&v);
    json_error_t wrong;
    *out = NULL;
    if (v.bad || n < 2 || n > view_left(&v))
        return error_set(e, ERR_CORRUPT, "%s: is no safetensors file, or is cut: a header of %llu bytes in a file of "
                                         "%llu", s->path, (unsigned long long)n, (unsigned long long)s->file_bytes);
    if (n > SAFETENSORS_HEAD_MAX)
        return error_set(e, ERR_LIMIT, "%s: has a header of %llu bytes; at most %d can be", s->path,
                         (unsigned long long)n, SAFETENSORS_HEAD_MAX);
    s->head_bytes = LENGTH_BYTES + n;
    const uint8_t *text = s->map + LENGTH_BYTES;
    if (text[0] != '{')
        return error_set(e, ERR_CORRUPT, "%s: is no safetensors file: its header does not begin with {", s->path);
    if (!look_over(text, n))
        return error_set(e, ERR_CORRUPT, "%s: its header is deeper or has more values than a safetensors header has",
                         s->path);
    *out = json_loadb((const char *)text, (size_t)n, JSON_REJECT_DUPLICATES, &wrong);
    if (!*out)
        return error_set(e, ERR_CORRUPT, "%s: its header is damaged: %s", s->path, wrong.text);
    return 0;
}

static int read_meta(struct safetensors *s, json_t *meta, struct error *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta) || json_object_size(meta) > META_MAX)
        return error_set(e, ERR_CORRUPT, "%s: %s is no list of at most %d texts", s->path, meta_key, META_MAX);
    json_object_foreach(meta, key, value)
        if (!json_is_string(value))
            return error_set(e, ERR_CORRUPT, "%s: %s holds something that is no text", s->path, meta_key);
    s->meta = json_incref(meta);
    return 0;
}

/* ---- tensors ---- */

static int read_dtype(const struct safetensors *s, struct st_tensor *t, const json_t *dtype, struct error *e)
{
    const char *name = json_string_value(dtype);
    if (!name)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has no dtype", s->path, t->name);
    for (size_t i = 0; i < COUNTOF(dtypes); i++)
        if (strcmp(dtypes[i].name, name) == 0) {
            t->dtype = (enum st_dtype)i;
            return 0;
        }
    return error_set(e, ERR_UNSUPPORTED, "%s: tensor %s is stored as %.32s, which this version does not know", s->path,
                     t->name, name);
}

static int read_shape(const struct safetensors *s, struct st_tensor *t, const json_t *shape, struct error *e)
{
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > SAFETENSORS_DIMS_MAX)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has no shape of at most %d dimensions", s->path, t->name,
                         SAFETENSORS_DIMS_MAX);
    t->n_dims = (uint32_t)n;
    t->bytes = st_dtype_bytes(t->dtype);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_array_get(shape, i);
        json_int_t v = json_integer_value(one);
        if (!json_is_integer(one) || v < 0 || __builtin_mul_overflow(t->bytes, (uint64_t)v, &t->bytes))
            return error_set(e, ERR_CORRUPT, "%s: tensor %s has a shape that cannot be", s->path, t->name);
        t->shape[i] = (uint64_t)v;
    }
    return 0;
}

static int read_place(const struct safetensors *s, struct st_tensor *t, const json_t *offsets, struct error *e)
{
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(last);
    uint64_t room = s->file_bytes - s->head_bytes;
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) || begin < 0 || end < begin)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has no data_offsets of a beginning and an end", s->path,
                         t->name);
    if ((uint64_t)end > room)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s ends past the end of the file; it is cut, fetch it again",
                         s->path, t->name);
    if ((uint64_t)(end - begin) != t->bytes)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has %llu bytes; its shape asks for %llu of %s", s->path,
                         t->name, (unsigned long long)(end - begin), (unsigned long long)t->bytes,
                         st_dtype_name(t->dtype));
    t->offset = s->head_bytes + (uint64_t)begin;
    return 0;
}

static int read_tensor(struct safetensors *s, const char *name, const json_t *info, struct error *e)
{
    struct st_tensor *t = &s->tensors[s->n_tensors];
    size_t n = strlen(name);
    if (n == 0 || n > SAFETENSORS_NAME_MAX)
        return error_set(e, ERR_CORRUPT, "%s: a tensor has a name of %zu bytes; 1 to %d can be", s->path, n,
                         SAFETENSORS_NAME_MAX);
    t->name = mem_strdup(name);
    s->n_tensors++;
    if (!json_is_object(info) || json_object_size(info) != 3)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has not just dtype, shape and data_offsets", s->path, name);
    int r = read_dtype(s, t, json_object_get(info, "dtype"), e);
    if (r == 0)
        r = read_shape(s, t, json_object_get(info, "shape"), e);
    return r == 0 ? read_place(s, t, json_object_get(info, "data_offsets"), e) : r;
}

static int compare_places(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset > y->offset ? 1 : -1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* those without bytes first */
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct st_tensor *const *)a)->name, (*(const struct st_tensor *const *)b)->name);
}

/* The format has no gaps: bytes that no tensor claims would be somebody's hiding place. */
static int check_places(const struct safetensors *s, struct error *e)
{
    uint64_t at = s->head_bytes;
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct st_tensor *t = &s->tensors[i];
        if (t->offset < at)
            return error_set(e, ERR_CORRUPT, "%s: tensors %s and %s overlap", s->path, s->tensors[i - 1].name,
                             t->name);
        if (t->offset > at)
            return error_set(e, ERR_CORRUPT, "%s: %llu bytes before tensor %s belong to none", s->path,
                             (unsigned long long)(t->offset - at), t->name);
        at = t->offset + t->bytes;
    }
    if (at != s->file_bytes)
        return error_set(e, ERR_CORRUPT, "%s: %llu bytes at its end belong to no tensor", s->path,
                         (unsigned long long)(s->file_bytes - at));
    return 0;
}

static int read_tensors(struct safetensors *s, json_t *head, struct error *e)
{
    size_t n = json_object_size(head);
    const char *name;
    json_t *info;
    if (n > SAFETENSORS_TENSORS_MAX)
        return error_set(e, ERR_LIMIT, "%s: has %zu tensors; at most %d can be", s->path, n, SAFETENSORS_TENSORS_MAX);
    s->tensors = mem_array(n + 1, sizeof(*s->tensors));
    json_object_foreach(head, name, info) {
        int r = strcmp(name, meta_key) == 0 ? read_meta(s, info, e) : read_tensor(s, name, info, e);
        if (r != 0)
            return r;
    }
    qsort(s->tensors, s->n_tensors, sizeof(*s->tensors), compare_places);
    s->by_name = mem_array(n + 1, sizeof(*s->by_name));
    for (size_t i = 0; i < s->n_tensors; i++)
        s->by_name[i] = &s->tensors[i];
    qsort(s->by_name, s->n_tensors, sizeof(*s->by_name), compare_names);
    return check_places(s, e);
}

/* ---- the file ---- */

static int map_file(struct safetensors *s, struct error *e)
{
    struct stat st;
    int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", s->path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(e, ERR_INVALID, "%s: is not a regular file", s->path);
    }
    if (st.st_size < LENGTH_BYTES) {
        close(fd);
        return error_set(e, ERR_CORRUPT, "%s: is no safetensors file: it has %lld bytes", s->path,
                         (long long)st.st_size);
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return error_set(e, ERR_MEMORY, "%s: cannot be mapped: %s", s->path, strerror(errno));
    s->map = map;
    s->file_bytes = (uint64_t)st.st_size;
    return 0;
}

int safetensors_open(struct safetensors **out, const char *path, struct error *e)
{
    struct safetensors *s = mem_alloc(sizeof(*s));
    json_t *head = NULL;
    *out = NULL;
    s->path = mem_strdup(path);
    int r = map_file(s, e);
    if (r == 0)
        r = read_head(s, &head, e);
    if (r == 0)
        r = read_tensors(s, head, e);
    json_decref(head);
    if (r != 0)
        safetensors_close(&s);
    *out = s;
    return r;
}

void safetensors_close(struct safetensors **s_p)
{
    struct safetensors *s = *s_p;
    if (!s)
        return;
    for (size_t i = 0; i < s->n_tensors; i++)
        mem_free((char *)s->tensors[i].name);
    mem_free(s->tensors);
    mem_free(s->by_name);
    json_decref(s->meta);
    if (s->map)
        munmap(s->map, s->file_bytes);
    mem_free(s->path);
    mem_free(s);
    *s_p = NULL;
}

const char *safetensors_path(const struct safetensors *s)
{
    return s->path;
}

uint64_t safetensors_file_bytes(const struct safetensors *s)
{
    return s->file_bytes;
}

uint64_t safetensors_head_bytes(const struct safetensors *s)
{
    return s->head_bytes;
}

size_t safetensors_count(const struct safetensors *s)
{
    return s->n_tensors;
}

const struct st_tensor *safetensors_at(const struct safetensors *s, size_t i)
{
    return &s->tensors[i];
}

const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    size_t low = 0, high = s->n_tensors;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = strcmp(s->by_name[mid]->name, name);
        if (c == 0)
            return s->by_name[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

const void *safetensors_bytes(const struct safetensors *s, const struct st_tensor *t)
{
    return s->map + t->offset;
}

const char *safetensors_meta(const struct safetensors *s, const char *key)
{
    return s->meta ? json_string_value(json_object_get(s->meta, key)) : NULL;
}
