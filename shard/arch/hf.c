/* hf: opening a folder: files, numbers, tensors, and the header that they make together. */
#include "shard/arch/hf.h"

#include "base/memory.h"
#include "shard/arch/hf_parts.h"

static int make_header(struct hf *h, struct gguf **g, struct error *e)
{
    struct gguf_writer *w = gguf_writer_memory(h->path);
    struct file_set *files = NULL;
    struct hf_config c;
    char *header = NULL;
    size_t n;
    uint64_t file_bytes;
    int r = hf_config_open(&c, h, w, e);
    if (r == 0)
        r = hf_config_write(&c);
    if (r == 0 && packed_open(&h->packed, c.root, e) != 0)
        r = error_context(e, "%s", h->path);
    if (r == 0)
        r = hf_make_tensors(h, &c, e);
    hf_config_close(&c);
    if (r != 0) {
        gguf_writer_abort(&w);
        return r;
    }
    r = gguf_writer_take(&w, &header, &n, &file_bytes, e);
    if (r == 0)
        r = hf_open_set(h, &files, e);
    if (r == 0)
        return gguf_open_memory(g, h->path, header, n, file_bytes, &files, e);
    mem_free(header);
    return r;
}

int hf_open(struct hf **out, struct gguf **g, const char *folder, struct error *e)
{
    struct hf *h = mem_alloc(sizeof(*h));
    *out = NULL;
    *g = NULL;
    h->path = mem_strdup(folder);
    int r = hf_open_files(h, e);
    if (r == 0)
        r = make_header(h, g, e);
    if (r != 0)
        hf_close(&h);
    *out = h;
    return r;
}

void hf_close(struct hf **hf_p)
{
    struct hf *h = *hf_p;
    if (!h)
        return;
    hf_free_tensors(h);
    hf_close_files(h);
    packed_close(&h->packed);
    mem_free(h->path);
    mem_free(h);
    *hf_p = NULL;
}
