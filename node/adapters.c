/* adapters: as loader.c does for the model, and simpler, since adapters are small: a local copy counts when all of
 * it is right, else the layers' pairs are fetched. */
#include "node/adapters.h"

#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "net/blob.h"
#include "net/disk_copy.h"
#include "proto/control.h"

enum { LOCK_RETRY_MS = 300 };

struct fetching {
    const struct loader_job *job;
    const struct model *model;
    int (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
    struct link *link; /* once it is needed */
    struct manifest manifest;
};

static int dial(struct fetching *f, struct error *e)
{
    char endpoint[300];
    if (f->link)
        return 0;
    membership_endpoint(&f->job->membership, f->job->membership.blob_port, endpoint);
    struct link_options o = {.keys = f->job->keys, .bytes_max = BLOB_BYTES_MAX, .queue_max = BLOB_WINDOW * 2};
    return link_dial(&f->link, f->job->zmq_context, endpoint, f->job->membership.coordinator_key, &o, e);
}

static int get_manifest(struct fetching *f, const struct loader_adapter *a, struct error *e)
{
    int r = manifest_find(&f->manifest, f->job->cache_dir, a->id);
    if (r == 0)
        return 0;
    r = dial(f, e);
    if (r == 0)
        r = blob_fetch_manifest(&f->manifest, f->link, a->id, f->progress, f->arg, e);
    if (r == 0)
        manifest_keep(&f->manifest, f->job->cache_dir);
    return r;
}

static int try_local(struct fetching *f, const char *path, struct adapter **out)
{
    const struct manifest *m = &f->manifest;
    struct file_set_range all = {0, m->bytes};
    struct disk_copy *copy = NULL;
    char **paths = mem_array(m->n_files, sizeof(*paths));
    for (size_t i = 0; path[0] && i < m->n_files; i++)
        paths[i] = model_locate(path, m->files, m->n_files, i);
    int r = disk_copy_open(&copy, m, (const char *const *)paths, f->job->cache_dir, NULL);
    if (r == 0)
        r = disk_copy_check(copy, &all, 1, f->progress, f->arg, NULL);
    if (r == 0)
        r = adapter_open(out, path, f->model, NULL);
    disk_copy_close(&copy);
    for (size_t i = 0; i < m->n_files; i++)
        mem_free(paths[i]);
    mem_free(paths);
    return r;
}

/* The files of the manifest are those that were opened, so that the places of pairs in them mean the same. */
static int check_files(const struct manifest *m, const struct adapter *a, struct error *e)
{
    const struct file_set *set = adapter_files(a);
    bool same = file_set_count(set) == m->n_files;
    for (size_t i = 0; same && i < m->n_files; i++)
        same = file_set_at(set, i)->bytes == m->files[i].bytes &&
               file_set_at(set, i)->head_bytes == m->files[i].head_bytes;
    return same ? 0 : error_set(e, ERR_CORRUPT, "an adapter's files are not those that the coordinator says");
}

static int fetch_pairs(struct fetching *f, struct blob *blob, const struct adapter *a, struct error *e)
{
    const struct manifest *m = &f->manifest;
    size_t n;
    int r = check_files(m, a, e);
    if (r != 0)
        return r;
    struct file_stretch *s = adapter_range_stretches(a, &f->job->shard.range, &n);
    struct file_set_range *ranges = mem_array(n + 1, sizeof(*ranges));
    for (size_t i = 0; i < n; i++)
        ranges[i] = (struct file_set_range){
            m->starts[m->n_files + s[i].file] + s[i].offset - m->files[s[i].file].head_bytes, s[i].bytes};
    r = blob_fetch(blob, f->link, ranges, n, f->progress, f->arg, e);
    mem_free(ranges);
    mem_free(s);
    return r;
}

static int fetch_copy(struct fetching *f, struct adapter **out, struct error *e)
{
    struct file_set_range heads = {0, f->manifest.head_bytes};
    struct blob *blob = NULL;
    int r = dial(f, e);
    while (r == 0 && (r = blob_open(&blob, f->job->cache_dir, &f->manifest, e)) == ERR_BUSY) {
        r = 0;
        if (f->progress(f->arg, 0, f->manifest.bytes) != 0)
            return error_set(e, ERR_CANCELLED, "loading was stopped");
        clock_sleep_ms(LOCK_RETRY_MS);
    }
    if (r == 0)
        r = blob_fetch(blob, f->link, &heads, 1, f->progress, f->arg, e);
    if (r == 0) {
        char *path = model_path_in(blob_folder(blob), f->manifest.files, f->manifest.n_files);
        r = adapter_open(out, path, f->model, e);
        mem_free(path);
    }
    if (r == 0)
        r = fetch_pairs(f, blob, *out, e);
    blob_close(&blob);
    return r;
}

static int fetch_one(struct fetching *f, const struct loader_adapter *a, struct adapter **out, struct error *e)
{
    if (f->job->trust_model_path)
        return adapter_open(out, a->path_hint, f->model, e);
    int r = get_manifest(f, a, e);
    if (r == 0 && try_local(f, a->path_hint, out) != 0)
        r = fetch_copy(f, out, e);
    manifest_free(&f->manifest);
    return r;
}

int adapters_fetch(struct fetched_adapters *out, const struct loader_job *job, const struct model *m,
                   int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e)
{
    struct fetching f = {.job = job, .model = m, .progress = progress, .arg = arg};
    int r = 0;
    *out = (struct fetched_adapters){0};
    for (uint32_t i = 0; r == 0 && i < job->n_adapters; i++) {
        r = fetch_one(&f, &job->adapters[i], &out->open[i], e);
        out->served[i] = (struct shard_adapter){out->open[i], job->adapters[i].scale};
        out->n = i + 1;
    }
    link_close(&f.link);
    return r;
}

void adapters_let_go(struct fetched_adapters *a)
{
    for (uint32_t i = 0; i < a->n; i++)
        adapter_close(&a->open[i]);
    a->n = 0;
}
