/* loader: where the bytes come from, in order of preference: the operator's copy or the one the
 * coordinator hints at, as far as what the layers need of it is what the model's manifest says; else a copy
 * in the cache, which takes from those copies what is right in them and the rest from the coordinator. */
#include "node/loader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/progress.h"
#include "net/blob.h"
#include "net/link.h"
#include "net/disk_copy.h"
#include "node/adapters.h"
#include "node/stage.h"
#include "proto/control.h"

enum { LOCALS = 2 };
enum { REPORT_EVERY_MS = 250, PROBE_STEPS = 4, LOCK_RETRY_MS = 300 };

struct loader {
    struct loader_job job;
    pthread_t thread;
    atomic_bool cancelled;
    const char *phase;
    uint64_t reported_ms;
    struct progress *bar;
    struct manifest manifest;
    struct link *link;             /* to the coordinator's blobs, once it is needed */
    struct disk_copy *locals[LOCALS];  /* copies that are here, at least in part */
};

static struct report *new_report(struct loader *l, enum report_kind kind)
{
    struct report *r = mem_alloc(sizeof(*r));
    r->kind = kind;
    r->load = l->job.load;
    return r;
}

static void enter_phase(struct loader *l, const char *phase, const char *words, uint64_t total)
{
    l->phase = phase;
    l->reported_ms = 0;
    progress_finish(&l->bar);
    if (l->job.progress)
        l->bar = progress_start(words, total);
}

/* The callback of hashing, fetching and loading alike. */
static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct loader *l = arg;
    uint64_t now = clock_ms();
    if (l->bar)
        progress_update(l->bar, done);
    if (now - l->reported_ms >= REPORT_EVERY_MS) {
        struct report *r = new_report(l, REPORT_LOAD_PROGRESS);
        r->phase = l->phase;
        r->done = done;
        r->total = total;
        if (queue_push(l->job.reports, r) != 0)
            mem_free(r);
        l->reported_ms = now;
    }
    return atomic_load(&l->cancelled);
}

/* ---- what the layers need ---- */

/* The model was opened from the very files of the manifest, but for those that are not here. */
static int check_files(const struct loader *l, const struct model *model, struct error *e)
{
    const struct manifest *m = &l->manifest;
    const struct file_set *set = model_files(model);
    bool same = file_set_count(set) == m->n_files;
    for (size_t i = 0; same && i < m->n_files; i++) {
        const struct file_set_entry *a = file_set_at(set, i), *b = &m->files[i];
        same = strcmp(a->name, b->name) == 0 &&
               (!file_set_has(set, i) || (a->bytes == b->bytes && a->head_bytes == b->head_bytes));
    }
    return same ? 0 : error_set(e, ERR_CORRUPT, "the model's files are not those that the coordinator says");
}

/* Where the tensors of the shard's range lie in the manifest's run. Caller frees. */
static int needed_ranges(const struct loader *l, const struct model *model, struct file_set_range **out, size_t *n,
                         struct error *e)
{
    const struct layer_range *range = &l->job.shard.range;
    const struct manifest *m = &l->manifest;
    *out = NULL;
    int r = check_files(l, model, e);
    if (r == 0 && (range->last > model_hparams(model)->n_layers || range->first >= range->last))
        r = error_set(e, ERR_INVALID, "the coordinator asks for layers that the model does not have");
    if (r == 0)
        r = model_check_range(model, range, e);
    if (r != 0)
        return r;
    struct file_stretch *s = model_range_stretches(model, range, n);
    *out = mem_array(*n + 1, sizeof(**out));
    for (size_t i = 0; i < *n; i++) /* of a file's rest: its head holds no tensor */
        (*out)[i] = (struct file_set_range){
            m->starts[m->n_files + s[i].file] + s[i].offset - m->files[s[i].file].head_bytes, s[i].bytes};
    mem_free(s);
    return 0;
}

/* ---- copies that are here ---- */

static int open_local(struct loader *l, const char *path, struct disk_copy **out)
{
    const struct manifest *m = &l->manifest;
    char **paths = mem_array(m->n_files, sizeof(*paths));
    for (size_t i = 0; i < m->n_files; i++)
        paths[i] = model_locate(path, m->files, m->n_files, i);
    int r = disk_copy_open(out, m, (const char *const *)paths, l->job.cache_dir, NULL);
    for (size_t i = 0; i < m->n_files; i++)
        mem_free(paths[i]);
    mem_free(paths);
    return r;
}

/* 0 with *model open when all that the layers need is at path, and is right. */
static int try_local(struct loader *l, const char *path, struct disk_copy **local, struct model **model)
{
    struct file_set_range *ranges = NULL;
    size_t n;
    if (!path || !path[0])
        return ERR_NOT_FOUND;
    int r = open_local(l, path, local);
    if (r != 0)
        return r;
    enter_phase(l, "check", "checking the local copy's header", l->manifest.head_bytes);
    r = disk_copy_check_heads(*local, on_progress, l, NULL);
    if (r == 0)
        r = model_open(model, path, NULL);
    if (r != 0)
        return r;
    r = needed_ranges(l, *model, &ranges, &n, NULL);
    enter_phase(l, "check", "checking the local copy", model_range_bytes(*model, &l->job.shard.range));
    if (r == 0)
        r = disk_copy_check(*local, ranges, n, on_progress, l, NULL);
    if (r != 0)
        model_close(model);
    mem_free(ranges);
    return r;
}

/* ---- the copy in the cache ---- */

static int check_disk(const char *path, uint64_t missing, struct error *e)
{
    struct statvfs fs;
    char need[32], have[32];
    if (statvfs(path, &fs) != 0)
        return 0;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left >= missing)
        return 0;
    return error_set(e, ERR_LIMIT, "the cache folder's disk has %s left and the layers need %s; free some or choose "
                                   "another folder with --cache-dir", progress_bytes(left, have),
                     progress_bytes(missing, need));
}

static int open_copy(struct loader *l, struct blob **blob, struct error *e)
{
    int r;
    while ((r = blob_open(blob, l->job.cache_dir, &l->manifest, e)) == ERR_BUSY) {
        if (on_progress(l, 0, l->manifest.bytes) != 0)
            return error_set(e, ERR_CANCELLED, "loading was stopped");
        clock_sleep_ms(LOCK_RETRY_MS);
    }
    return r;
}

static int dial(struct loader *l, struct error *e)
{
    char endpoint[300];
    if (l->link)
        return 0;
    membership_endpoint(&l->job.membership, l->job.membership.blob_port, endpoint);
    struct link_options o = {.keys = l->job.keys, .bytes_max = BLOB_BYTES_MAX, .queue_max = BLOB_WINDOW * 2};
    return link_dial(&l->link, l->job.zmq_context, endpoint, l->job.membership.coordinator_key, &o, e);
}

/* What the ranges miss, from the copies that are here, then from the coordinator. */
static int fill(struct loader *l, struct blob *blob, const struct file_set_range *ranges, size_t n, const char *words,
                struct error *e)
{
    uint64_t total, missing;
    int r = 0;
    blob_count(blob, ranges, n, &total, &missing);
    enter_phase(l, "fetch", words, total);
    for (size_t i = 0; r == 0 && i < LOCALS; i++)
        if (l->locals[i])
            r = blob_copy(blob, disk_copy_files(l->locals[i]), ranges, n, on_progress, l, e);
    if (r == 0)
        r = dial(l, e);
    return r == 0 ? blob_fetch(blob, l->link, ranges, n, on_progress, l, e) : r;
}

static int fetch_layers(struct loader *l, struct blob *blob, struct model **model, struct error *e)
{
    const struct layer_range *range = &l->job.shard.range;
    struct file_set_range heads = {0, l->manifest.head_bytes}, *ranges = NULL;
    size_t n;
    uint64_t total, missing;
    char words[64];
    int r = fill(l, blob, &heads, 1, "fetching the model's header", e);
    if (r == 0) {
        char *path = model_path_in(blob_folder(blob), l->manifest.files, l->manifest.n_files);
        r = model_open(model, path, e);
        mem_free(path);
    }
    if (r == 0)
        r = needed_ranges(l, *model, &ranges, &n, e);
    if (r != 0)
        return r;
    blob_count(blob, ranges, n, &total, &missing);
    r = check_disk(blob_folder(blob), missing, e);
    snprintf(words, sizeof(words), "fetching layers %u-%u", range->first, range->last - 1);
    if (r == 0)
        r = fill(l, blob, ranges, n, words, e);
    mem_free(ranges);
    return r;
}

/* Kept from a load of before, or the coordinator's. */
static int get_manifest(struct loader *l, struct error *e)
{
    struct manifest *m = &l->manifest;
    int r = manifest_find(m, l->job.cache_dir, l->job.model_id);
    if (r != 0) {
        enter_phase(l, "fetch", "fetching the manifest", 0);
        r = dial(l, e);
        if (r == 0)
            r = blob_fetch_manifest(m, l->link, l->job.model_id, on_progress, l, e);
        if (r == 0)
            manifest_keep(m, l->job.cache_dir);
    }
    if (r == 0 && (m->bytes != l->job.file_bytes || m->head_bytes != l->job.header_bytes))
        r = error_set(e, ERR_CORRUPT, "the manifest's sizes are not those of the model");
    return r;
}

static int find_checked(struct loader *l, struct model **model, struct error *e)
{
    const char *const paths[LOCALS] = {l->job.model_path, l->job.path_hint};
    struct blob *blob = NULL;
    int r = get_manifest(l, e);
    if (r != 0)
        return r;
    for (size_t i = 0; i < LOCALS; i++)
        if (try_local(l, paths[i], &l->locals[i], model) == 0)
            return 0;
    if (atomic_load(&l->cancelled))
        return error_set(e, ERR_CANCELLED, "loading was stopped");
    r = open_copy(l, &blob, e);
    if (r == 0)
        r = fetch_layers(l, blob, model, e);
    blob_close(&blob);
    return r;
}

static int find_model(struct loader *l, struct model **model, struct error *e)
{
    if (l->job.trust_model_path)
        return model_open(model, l->job.model_path, e);
    int r = find_checked(l, model, e);
    for (size_t i = 0; i < LOCALS; i++)
        disk_copy_close(&l->locals[i]);
    manifest_free(&l->manifest);
    link_close(&l->link);
    return r;
}

/* The time of one layer for one row: the best of a few throw-away steps. The row is sampled after, else the last layer
 * of the model would be left half undone; what is not the layers' is not counted. */
static double probe_layer(struct shard *shard, const struct model *m, const struct layer_range *range)
{
    float *in = range->embedding ? NULL : mem_array(model_hparams(m)->n_embd, sizeof(float));
    double best = 0;
    for (uint32_t i = 0; i < PROBE_STEPS; i++) {
        struct step_row row = {.sequence = UINT64_MAX, .position = i, .flags = ROW_SAMPLE};
        struct shard_times t;
        shard_time(shard, 1); /* from zero */
        if (shard_step(shard, &row, 1, in, NULL) != 0)
            break;
        shard_times(shard, &t);
        uint64_t ns = t.norm_ns + t.matmul_ns + t.rope_ns + t.attention_ns + t.ffn_ns + t.moe_ns;
        double ms = (double)ns / 1e6 / (range->last - range->first);
        best = best == 0 || ms < best ? ms : best;
    }
    shard_time(shard, 0);
    shard_rest(shard);
    mem_free(in);
    return best;
}

static void *run(void *arg)
{
    struct loader *l = arg;
    struct error e = {0};
    struct report *done = new_report(l, REPORT_LOAD_DONE);
    struct model *model = NULL;
    struct fetched_adapters adapters = {0};
    int r = find_model(l, &model, &e);
    if (r == 0 && l->job.n_adapters > 0) {
        enter_phase(l, "fetch", "fetching adapters", 0);
        r = adapters_fetch(&adapters, &l->job, model, on_progress, l, &e);
    }
    if (r == 0) {
        char words[64];
        const struct layer_range *range = &l->job.shard.range;
        snprintf(words, sizeof(words), "loading layers %u-%u", range->first, range->last - 1);
        enter_phase(l, "load", words, model_range_bytes(model, range));
        l->job.shard.progress = on_progress;
        l->job.shard.progress_arg = l;
        l->job.shard.adapters = adapters.served;
        l->job.shard.n_adapters = adapters.n;
        r = shard_open(&done->shard, l->job.device, model, &l->job.shard, &e);
    }
    adapters_let_go(&adapters);
    progress_finish(&l->bar);
    if (r == 0) {
        done->layer_ms = probe_layer(done->shard, model, &l->job.shard.range);
        done->model = model;
    } else {
        model_close(&model);
        snprintf(done->text, sizeof(done->text), "%.255s", e.text);
    }
    done->status = r;
    while ((r = queue_push(l->job.reports, done)) == ERR_BUSY)
        clock_sleep_ms(10);
    if (r != 0) { /* the agent is gone: nobody will take the shard */
        shard_close(&done->shard);
        model_close(&done->model);
        mem_free(done);
    }
    return NULL;
}

struct loader *loader_start(const struct loader_job *job)
{
    struct loader *l = mem_alloc(sizeof(*l));
    l->job = *job;
    if (pthread_create(&l->thread, NULL, run, l) != 0) {
        mem_free(l);
        return NULL;
    }
    return l;
}

void loader_cancel(struct loader *l)
{
    atomic_store(&l->cancelled, true);
}

void loader_join(struct loader **loader_p)
{
    struct loader *l = *loader_p;
    if (!l)
        return;
    pthread_join(l->thread, NULL);
    loader_job_free(&l->job);
    mem_free(l);
    *loader_p = NULL;
}

void loader_job_free(struct loader_job *j)
{
    for (uint32_t i = 0; i < j->n_adapters; i++)
        mem_free(j->adapters[i].path_hint);
    mem_free(j->adapters);
    mem_free(j->path_hint);
    mem_free(j->model_path);
    mem_free(j->cache_dir);
    memset(j, 0, sizeof(*j));
}
