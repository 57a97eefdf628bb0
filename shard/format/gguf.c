/* gguf: one pass over the mapped header with a bounded view; then sorted indexes for names.
 *
 * Invariant after open: every value's bytes and every tensor's bytes lie in the
 * mapping, names are unique, tensors do not overlap.                         */
#include "shard/format/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/view.h"
#include "shard/format/gguf_file.h"

enum { MAGIC = 0x46554747, ALIGNMENT = 32, VALUE_BYTES_MIN = 13, TENSOR_BYTES_MIN = 33 };

/* Types of GGUF that the house does not compute with, for the sentence that refuses them. */
static const struct {
    uint32_t id;
    const char *name;
} other_types[] = {
    {24, "I8"}, {25, "I16"}, {26, "I32"}, {27, "I64"}, {28, "F64"}, {41, "Q1_0"}, {42, "Q2_0"},
};

static int truncated(const struct gguf *g, const char *what, struct error *e)
{
    return error_set(e, ERR_CORRUPT, "%s: the file ends inside %s; it is cut or damaged, fetch it again", g->path,
                     what);
}

/* A length-prefixed string; false when it passes the end or `max`. */
static bool read_string(struct view *v, uint64_t max, struct gguf_string *out)
{
    uint64_t n = view_u64(v);
    if (v->bad || n > max)
        return false;
    out->text = view_bytes(v, n);
    out->len = (size_t)n;
    return out->text != NULL;
}

/* A key or a name: what people read and other tools match must hold nothing that hides or ends early. */
static bool read_name(struct view *v, uint64_t max, struct gguf_string *out)
{
    if (!read_string(v, max, out) || out->len == 0)
        return false;
    for (size_t i = 0; i < out->len; i++)
        if (out->text[i] < ' ' || out->text[i] > '~')
            return false;
    return true;
}

static int index_strings(struct gguf *g, struct view *v, struct gguf_value *value, struct error *e)
{
    if (value->count > view_left(v) / sizeof(uint64_t))
        return truncated(g, "an array of strings", e);
    if (value->count > GGUF_STRINGS_MAX - g->n_strings)
        return error_set(e, ERR_LIMIT, "%s: has more than %d strings in arrays", g->path, GGUF_STRINGS_MAX);
    g->n_strings += value->count;
    value->strings = mem_array(value->count + 1, sizeof(uint64_t));
    for (uint64_t i = 0; i < value->count; i++) {
        struct gguf_string s;
        value->strings[i] = (uint64_t)(v->data + v->pos - value->data);
        if (!read_string(v, view_left(v), &s))
            return truncated(g, "an array of strings", e);
    }
    return 0;
}

static int read_array(struct gguf *g, struct view *v, struct gguf_value *value, struct error *e)
{
    uint32_t element = view_u32(v);
    value->count = view_u64(v);
    value->data = v->data + v->pos;
    value->element = (enum gguf_type)element;
    if (v->bad)
        return truncated(g, "the metadata", e);
    if (element == GGUF_STRING)
        return index_strings(g, v, value, e);
    size_t size = gguf_type_bytes(element);
    if (size == 0)
        return error_set(e, ERR_CORRUPT, "%s: key %.*s is an array of type %u, which cannot be", g->path,
                         (int)value->key.len, value->key.text, element);
    if (value->count > view_left(v) / size)
        return truncated(g, "an array", e);
    view_skip(v, value->count * size);
    return 0;
}

static int read_value(struct gguf *g, struct view *v, struct gguf_value *value, struct error *e)
{
    if (!read_name(v, GGUF_KEY_MAX, &value->key))
        return error_set(e, ERR_CORRUPT, "%s: the name of metadata key %zu is damaged", g->path, g->n_values);
    uint32_t type = view_u32(v);
    value->type = (enum gguf_type)type;
    value->count = 1;
    if (type == GGUF_ARRAY)
        return read_array(g, v, value, e);
    if (type == GGUF_STRING) {
        struct gguf_string s;
        if (!read_string(v, view_left(v), &s))
            return truncated(g, "the metadata", e);
        value->data = (const uint8_t *)s.text;
        value->string_len = s.len;
        return 0;
    }
    size_t size = gguf_type_bytes(type);
    if (size == 0)
        return error_set(e, ERR_CORRUPT, "%s: key %.*s has type %u, which does not exist", g->path,
                         (int)value->key.len, value->key.text, type);
    value->data = view_bytes(v, size);
    return value->data ? 0 : truncated(g, "the metadata", e);
}

static int compare_strings(const char *a, size_t n, const char *b, size_t m)
{
    int c = memcmp(a, b, n < m ? n : m);
    return c != 0 ? c : (n > m) - (n < m);
}

static int compare_keys(const void *a, const void *b)
{
    const struct gguf_value *x = *(struct gguf_value *const *)a, *y = *(struct gguf_value *const *)b;
    return compare_strings(x->key.text, x->key.len, y->key.text, y->key.len);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(struct gguf_tensor *const *)a)->name, (*(struct gguf_tensor *const *)b)->name);
}

static int read_values(struct gguf *g, struct view *v, uint64_t n, struct error *e)
{
    if (n > GGUF_KEYS_MAX || n > view_left(v) / VALUE_BYTES_MIN)
        return error_set(e, ERR_CORRUPT, "%s: claims %llu metadata keys, more than it can hold", g->path,
                         (unsigned long long)n);
    g->values = mem_array(n + 1, sizeof(*g->values));
    g->by_key = mem_array(n + 1, sizeof(*g->by_key));
    for (uint64_t i = 0; i < n; i++) {
        g->n_values = i + 1;
        int r = read_value(g, v, &g->values[i], e);
        if (r != 0)
            return r;
        g->by_key[i] = &g->values[i];
    }
    qsort(g->by_key, g->n_values, sizeof(*g->by_key), compare_keys);
    for (size_t i = 1; i < g->n_values; i++)
        if (compare_keys(&g->by_key[i - 1], &g->by_key[i]) == 0)
            return error_set(e, ERR_CORRUPT, "%s: metadata key %.*s occurs twice", g->path,
                             (int)g->by_key[i]->key.len, g->by_key[i]->key.text);
    return 0;
}

static int refuse_type(const struct gguf *g, const struct gguf_tensor *t, uint32_t type, struct error *e)
{
    for (size_t i = 0; i < COUNTOF(other_types); i++)
        if (other_types[i].id == type)
            return error_set(e, ERR_UNSUPPORTED,
                             "%s: tensor %s is stored as %s, which this version cannot compute with", g->path, t->name,
                             other_types[i].name);
    if (qtype_find(type))
        return error_set(e, ERR_UNSUPPORTED, "%s: tensor %s is stored as %s (%u), which is no type of files", g->path,
                         t->name, qtype_find(type)->name, type);
    return error_set(e, ERR_UNSUPPORTED, "%s: tensor %s is stored as type %u, which this version does not know",
                     g->path, t->name, type);
}

/* Bytes of the tensor from its type and dimensions. */
static int size_tensor(const struct gguf *g, struct gguf_tensor *t, struct error *e)
{
    uint64_t bytes = qtype_row_bytes(t->type, t->ne[0]);
    bool fits = bytes > 0;
    for (uint32_t d = 1; fits && d < GGUF_DIMS_MAX; d++)
        fits = !__builtin_mul_overflow(bytes, t->ne[d], &bytes);
    if (!fits || bytes == 0)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has dimensions that its type %s cannot have", g->path, t->name,
                         t->type->name);
    t->bytes = bytes;
    return 0;
}

static int read_tensor(struct gguf *g, struct view *v, struct gguf_tensor *t, struct error *e)
{
    struct gguf_string name;
    if (!read_name(v, GGUF_NAME_MAX, &name))
        return error_set(e, ERR_CORRUPT, "%s: the name of tensor %zu is damaged", g->path, g->n_tensors);
    memcpy(t->name, name.text, name.len);
    t->n_dims = view_u32(v);
    if (v->bad || t->n_dims == 0 || t->n_dims > GGUF_DIMS_MAX)
        return error_set(e, ERR_CORRUPT, "%s: tensor %s has %u dimensions; 1 to 4 can be", g->path, t->name, t->n_dims);
    for (uint32_t d = 0; d < GGUF_DIMS_MAX; d++)
        t->ne[d] = d < t->n_dims ? view_u64(v) : 1;
    uint32_t type = view_u32(v);
    t->offset = view_u64(v);
    if (v->bad)
        return truncated(g, "the list of tensors", e);
    t->type = qtype_find(type);
    return t->type && (g->owned || qtype_in_files(t->type)) ? size_tensor(g, t, e) : refuse_type(g, t, type, e);
}

static int read_tensors(struct gguf *g, struct view *v, uint64_t n, struct error *e)
{
    if (n > GGUF_TENSORS_MAX || n > view_left(v) / TENSOR_BYTES_MIN)
        return error_set(e, ERR_CORRUPT, "%s: claims %llu tensors, more than it can hold", g->path,
                         (unsigned long long)n);
    g->tensors = mem_array(n + 1, sizeof(*g->tensors));
    g->by_name = mem_array(n + 1, sizeof(*g->by_name));
    for (uint64_t i = 0; i < n; i++) {
        g->n_tensors = i + 1;
        int r = read_tensor(g, v, &g->tensors[i], e);
        if (r != 0)
            return r;
        g->by_name[i] = &g->tensors[i];
    }
    return 0;
}

/* Offsets become absolute; each tensor must lie in the file, aligned, and touch no other. */
static int place_tensors(struct gguf *g, uint64_t alignment, struct error *e)
{
    for (size_t i = 0; i < g->n_tensors; i++) {
        struct gguf_tensor *t = &g->tensors[i];
        uint64_t room = g->file_bytes - g->header_bytes;
        if (t->offset % alignment != 0)
            return error_set(e, ERR_CORRUPT, "%s: tensor %s is not aligned to %llu bytes", g->path, t->name,
                             (unsigned long long)alignment);
        if (t->offset > room || t->bytes > room - t->offset)
            return error_set(e, ERR_CORRUPT, "%s: tensor %s ends past the end of the file; it is cut, fetch it again",
                             g->path, t->name);
        if (i > 0 && t->offset + g->header_bytes < g->tensors[i - 1].offset)
            return error_set(e, ERR_CORRUPT, "%s: tensor %s lies before the one that is listed before it", g->path,
                             t->name);
        t->offset += g->header_bytes;
    }
    for (size_t i = 1; i < g->n_tensors; i++)
        if (g->tensors[i - 1].offset + g->tensors[i - 1].bytes > g->tensors[i].offset)
            return error_set(e, ERR_CORRUPT, "%s: tensors %s and %s overlap", g->path, g->tensors[i - 1].name,
                             g->tensors[i].name);
    return gguf_index_tensors(g, e);
}

int gguf_index_tensors(struct gguf *g, struct error *e)
{
    qsort(g->by_name, g->n_tensors, sizeof(*g->by_name), compare_names);
    for (size_t i = 1; i < g->n_tensors; i++)
        if (compare_names(&g->by_name[i - 1], &g->by_name[i]) == 0)
            return error_set(e, ERR_CORRUPT, "%s: tensor %s occurs twice", g->path, g->by_name[i]->name);
    return 0;
}

/* The keys that say how the rest of the file lies. */
static int check_keys(const struct gguf *g, uint64_t *alignment, struct error *e)
{
    if (gguf_has(g, "general.alignment") &&
        (!gguf_get_u64(g, "general.alignment", alignment) || *alignment < 8 || *alignment > GGUF_ALIGNMENT_MAX ||
         (*alignment & (*alignment - 1)) != 0))
        return error_set(e, ERR_CORRUPT, "%s: general.alignment is not a power of two from 8 to %d", g->path,
                         GGUF_ALIGNMENT_MAX);
    return 0;
}

/* The mapped bytes into everything else. */
static int parse(struct gguf *g, struct error *e)
{
    struct view v = view_of(g->map, g->map_bytes);
    uint32_t magic = view_u32(&v), version = view_u32(&v);
    if (v.bad || magic != MAGIC)
        return error_set(e, ERR_CORRUPT, "%s: is not a GGUF file", g->path);
    if (version != 0 && (version & 0xFFFF) == 0)
        return error_set(e, ERR_UNSUPPORTED, "%s: is a GGUF file of a big-endian machine", g->path);
    if (version != 2 && version != 3)
        return error_set(e, ERR_UNSUPPORTED, "%s: is GGUF version %u; 2 and 3 can be read", g->path, version);
    uint64_t n_tensors = view_u64(&v), n_values = view_u64(&v), alignment = ALIGNMENT;
    if (v.bad)
        return truncated(g, "the header", e);
    int r = read_values(g, &v, n_values, e);
    if (r == 0)
        r = read_tensors(g, &v, n_tensors, e);
    if (r != 0)
        return r;
    r = check_keys(g, &alignment, e);
    if (r != 0)
        return r;
    g->header_bytes = (v.pos + alignment - 1) / alignment * alignment;
    if (g->header_bytes > g->file_bytes) {
        if (n_tensors > 0)
            return truncated(g, "the header", e);
        g->header_bytes = g->file_bytes;
    }
    return place_tensors(g, alignment, e);
}

int gguf_open_memory(struct gguf **out, const char *path, char *header, size_t n, uint64_t file_bytes,
                     struct file_set **files, struct error *e)
{
    struct gguf *g = mem_alloc(sizeof(*g));
    g->path = mem_strdup(path);
    g->map = (uint8_t *)header;
    g->map_bytes = n;
    g->file_bytes = file_bytes;
    g->owned = true;
    g->files = *files;
    *files = NULL;
    int r = parse(g, e);
    if (r != 0)
        gguf_close(&g);
    *out = g;
    return r;
}

int gguf_open_one(struct gguf **out, const char *path, struct error *e)
{
    struct stat st;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return error_set(e, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(e, ERR_INVALID, "%s: is not a regular file", path);
    }
    if (st.st_size < 24) {
        close(fd);
        return error_set(e, ERR_CORRUPT, "%s: is not a GGUF file: it has %lld bytes", path, (long long)st.st_size);
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return error_set(e, ERR_MEMORY, "%s: cannot be mapped: %s", path, strerror(errno));
    struct gguf *g = mem_alloc(sizeof(*g));
    g->path = mem_strdup(path);
    g->map = map;
    g->file_bytes = g->map_bytes = (uint64_t)st.st_size;
    int r = parse(g, e);
    if (r != 0)
        gguf_close(&g);
    *out = g;
    return r;
}

int gguf_head_of(const char *path, uint64_t *bytes, struct error *e)
{
    struct gguf *g;
    int r = gguf_open_one(&g, path, e);
    if (r == 0)
        *bytes = g->header_bytes;
    gguf_close(&g);
    return r;
}

void gguf_close(struct gguf **gguf_p)
{
    struct gguf *g = *gguf_p;
    if (!g)
        return;
    for (size_t i = 1; i < g->n_parts; i++)
        gguf_close(&g->parts[i]);
    mem_free(g->parts);
    file_set_close(&g->files);
    for (size_t i = 0; i < g->n_values; i++)
        mem_free(g->values[i].strings);
    mem_free(g->values);
    mem_free(g->by_key);
    mem_free(g->tensors);
    mem_free(g->by_name);
    if (g->owned)
        mem_free(g->map);
    else
        munmap(g->map, g->map_bytes);
    mem_free(g->path);
    mem_free(g);
    *gguf_p = NULL;
}

bool gguf_is_memory(const struct gguf *g)
{
    return g->owned;
}

const char *gguf_path(const struct gguf *g)
{
    return g->path;
}

const struct file_set *gguf_files(const struct gguf *g)
{
    return g->files;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    return file_set_bytes(g->files);
}

uint64_t gguf_header_bytes(const struct gguf *g)
{
    return file_set_head_bytes(g->files);
}

size_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    return &g->tensors[i];
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    size_t low = 0, high = g->n_tensors;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int c = strcmp(g->by_name[mid]->name, name);
        if (c == 0)
            return g->by_name[mid];
        if (c < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

const void *gguf_tensor_bytes(const struct gguf *g, const struct gguf_tensor *t)
{
    return g->parts[t->file]->map + t->offset;
}
