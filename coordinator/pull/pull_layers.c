/* pull_layers: of each file its head first, in growing steps until it is whole; then the project's own reader
 * says where the layers' tensors lie. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/view.h"
#include "coordinator/pull/pull_state.h"
#include "net/manifest.h"
#include "shard/arch/arch.h"
#include "shard/format/gguf.h"
#include "shard/format/safetensors.h"

enum { FRONT_BYTES = 1 << 20, GGUF_HEAD_MAX = 512 << 20 };

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n > k && strcasecmp(name + n - k, end) == 0;
}

static bool holds_tensors(const struct pull *p, size_t i)
{
    const char *name = hub_file_name(pull_file(p, i));
    return ends_with(name, ".gguf") || ends_with(name, ".safetensors");
}

/* ---- heads ---- */

static int fetch_front(struct pull *p, size_t i, uint64_t *bytes, struct error *e)
{
    uint64_t whole = pull_file(p, i)->bytes;
    *bytes = *bytes > whole ? whole : *bytes;
    struct span front = {0, *bytes};
    p->total = p->before + *bytes;
    return pull_fetch(p, i, &front, 1, e);
}

/* A header that was cut reads on into the hole: it is whole once the reader is content with what came. */
static int fetch_gguf_head(struct pull *p, size_t i, uint64_t *came, struct error *e)
{
    uint64_t whole = pull_file(p, i)->bytes, head = 0;
    char *path = pull_path(p, i), magic[4] = {0};
    int r = 0;
    for (*came = FRONT_BYTES; r == 0; *came *= 2) {
        r = fetch_front(p, i, came, e);
        FILE *f = r == 0 ? fopen(path, "re") : NULL;
        if (r == 0 && (!f || fread(magic, 1, 4, f) != 4 || memcmp(magic, "GGUF", 4) != 0))
            r = error_set(e, ERR_CORRUPT, "%s is not a GGUF file", hub_file_name(pull_file(p, i)));
        if (f)
            (void)fclose(f);
        if (r != 0)
            break;
        int parsed = gguf_head_of(path, &head, e);
        if (parsed == 0 && head <= *came)
            break;
        if (*came == whole || *came >= GGUF_HEAD_MAX)
            r = parsed != 0 ? parsed : error_set(e, ERR_CORRUPT, "%s: its header does not end", path);
    }
    mem_free(path);
    return r;
}

static int fetch_safetensors_head(struct pull *p, size_t i, uint64_t *came, struct error *e)
{
    uint8_t bytes[8];
    char *path = pull_path(p, i);
    *came = FRONT_BYTES;
    int r = fetch_front(p, i, came, e);
    FILE *f = r == 0 ? fopen(path, "re") : NULL;
    if (r == 0 && (!f || fread(bytes, 1, sizeof(bytes), f) != sizeof(bytes)))
        r = error_set(e, ERR_CORRUPT, "%s is not a safetensors file", path);
    if (f)
        (void)fclose(f);
    struct view v = view_of(bytes, sizeof(bytes));
    uint64_t head = r == 0 ? view_u64(&v) : 0;
    if (r == 0 && head > SAFETENSORS_HEAD_MAX)
        r = error_set(e, ERR_CORRUPT, "%s: a header of %" PRIu64 " bytes cannot be", path, head);
    if (r == 0 && head + sizeof(bytes) > *came) {
        *came = head + sizeof(bytes);
        r = fetch_front(p, i, came, e);
    }
    mem_free(path);
    return r;
}

/* All of what holds no tensors, and the heads of what does; came[i]: bytes of the front. */
static int fetch_heads(struct pull *p, uint64_t *came, struct error *e)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < p->choice.n; i++) {
        const struct hub_file *f = pull_file(p, i);
        came[i] = f->bytes;
        if (!holds_tensors(p, i)) {
            p->total = p->before + f->bytes;
            r = pull_fetch(p, i, NULL, 0, e);
        } else if (p->choice.gguf) {
            r = fetch_gguf_head(p, i, &came[i], e);
        } else {
            r = fetch_safetensors_head(p, i, &came[i], e);
        }
        p->before += came[i];
    }
    return r;
}

/* ---- the layers ---- */

/* Whole chunks of the rest of a file, which begin where its head ends. */
static void add_chunks(struct spans *out, const struct file_stretch *s, const struct file_set_entry *file)
{
    uint64_t from = s->offset - file->head_bytes, to = from + s->bytes;
    from -= from % MANIFEST_CHUNK_BYTES;
    to += (MANIFEST_CHUNK_BYTES - to % MANIFEST_CHUNK_BYTES) % MANIFEST_CHUNK_BYTES;
    to = to > file->bytes - file->head_bytes ? file->bytes - file->head_bytes : to;
    spans_add(out, file->head_bytes + from, to - from);
}

/* The file of the choice that a file of the set is; SIZE_MAX: none, which cannot be. */
static size_t choice_of(const struct pull *p, const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    for (size_t i = 0; slash && i < p->choice.n; i++)
        if (strcmp(hub_file_name(pull_file(p, i)), slash + 1) == 0)
            return i;
    return SIZE_MAX;
}

/* wanted[i]: of file i of the choice. */
static int find_wanted(const struct pull *p, const struct model *m, const struct layer_range *range,
                       struct spans *wanted, struct error *e)
{
    const struct file_set *set = model_files(m);
    size_t n;
    struct file_stretch *s = model_range_stretches(m, range, &n);
    int r = 0;
    for (size_t i = 0; r == 0 && i < n; i++) {
        size_t file = choice_of(p, file_set_path(set, s[i].file));
        const struct file_set_entry *entry = file_set_at(set, s[i].file);
        if (file == SIZE_MAX || s[i].offset < entry->head_bytes)
            r = error_set(e, ERR_INTERNAL, "%s is no file of the model", file_set_path(set, s[i].file));
        else
            add_chunks(&wanted[file], &s[i], entry);
    }
    mem_free(s);
    return r;
}

static int read_range(const struct model *m, uint32_t first, uint32_t last, struct layer_range *out, struct error *e)
{
    uint32_t n = model_hparams(m)->n_layers;
    if (last > n)
        return error_set(e, ERR_INVALID, "--layers: the model has %u layers: %u:%u is not among them", n, first, last);
    *out = (struct layer_range){first, last, first == 0, last == n};
    return model_may_begin(m, first) ? 0 : error_set(e, ERR_INVALID, "--layers: layer %u reads what an earlier one "
                                                                     "chose, so no range can begin with it", first);
}

/* Everything wanted of all files; p->before is what their heads were. */
static int fetch_wanted(struct pull *p, const struct spans *wanted, const uint64_t *came, struct error *e)
{
    uint64_t missing = 0;
    int r;
    p->total = p->before = 0;
    for (size_t i = 0; i < p->choice.n; i++) {
        p->total += holds_tensors(p, i) ? spans_bytes(&wanted[i]) : came[i];
        p->before += holds_tensors(p, i) ? 0 : came[i];
        if (holds_tensors(p, i)) {
            uint64_t here = pull_left(p, i, wanted[i].at, wanted[i].n); /* an earlier pull's, and the head */
            missing += spans_bytes(&wanted[i]) - (here > came[i] ? here : came[i]);
        }
    }
    r = pull_check_room(p, missing, e);
    for (size_t i = 0; r == 0 && i < p->choice.n; i++) {
        if (!holds_tensors(p, i))
            continue;
        r = pull_fetch(p, i, wanted[i].at, wanted[i].n, e);
        p->before += spans_bytes(&wanted[i]);
    }
    return r;
}

static int write_records(const struct pull *p, const struct spans *wanted, uint32_t first, uint32_t last,
                         struct error *e)
{
    char words[SPANS_WORDS_MAX + 1];
    int r = 0;
    snprintf(words, sizeof(words), "layers %u:%u", first, last);
    for (size_t i = 0; r == 0 && i < p->choice.n; i++) {
        char *path = pull_path(p, i);
        if (holds_tensors(p, i))
            r = spans_write(&wanted[i], words, path, e);
        mem_free(path);
    }
    return r;
}

/* A pull of before that ended between its records and its name: they would hide what is fetched now. */
static void remove_records(const struct pull *p)
{
    for (size_t i = 0; i < p->choice.n; i++) {
        char *path = pull_path(p, i), *record = mem_printf("%s" SPANS_RECORD, path);
        (void)unlink(record);
        mem_free(record);
        mem_free(path);
    }
}

int pull_layers(struct pull *p, uint32_t first, uint32_t last, uint64_t *fetched, struct error *e)
{
    uint64_t *came = mem_array(p->choice.n, sizeof(*came));
    struct spans *wanted = mem_array(p->choice.n, sizeof(*wanted));
    struct model *m = NULL;
    struct layer_range range;
    remove_records(p);
    int r = fetch_heads(p, came, e);
    if (r == 0) {
        char *path = p->choice.gguf ? pull_path(p, 0) : mem_strdup(p->part);
        r = model_open(&m, path, e);
        mem_free(path);
    }
    if (r == 0)
        r = read_range(m, first, last, &range, e);
    for (size_t i = 0; r == 0 && i < p->choice.n; i++)
        if (holds_tensors(p, i))
            spans_add(&wanted[i], 0, came[i]);
    if (r == 0)
        r = find_wanted(p, m, &range, wanted, e);
    if (r == 0)
        r = fetch_wanted(p, wanted, came, e);
    if (r == 0)
        r = write_records(p, wanted, first, last, e);
    *fetched = p->total;
    model_close(&m);
    for (size_t i = 0; i < p->choice.n; i++)
        spans_close(&wanted[i]);
    mem_free(wanted);
    mem_free(came);
    return r;
}
