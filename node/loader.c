/* loader: where the bytes come from, in order of preference: the operator's copy or the one the
 * coordinator hints at when their content hash is the model's, else the coordinator itself. */
#include "node/loader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/logger.h"
#include "base/memory.h"
#include "base/progress.h"
#include "net/blob.h"
#include "net/link.h"
#include "node/stage.h"
#include "proto/control.h"

enum { REPORT_EVERY_MS = 250, PROBE_STEPS = 4, LOCK_RETRY_MS = 300 };

struct loader {
    struct loader_job job;
    pthread_t thread;
    atomic_bool cancelled;
    const char *phase;
    uint64_t reported_ms;
    struct progress *bar;
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

/* 0 with *model open when the file at path is the very model. */
static int try_local(struct loader *l, const char *path, struct model **model)
{
    struct stat st;
    struct manifest m;
    if (!path || !path[0] || stat(path, &st) != 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_size != l->job.file_bytes)
        return ERR_NOT_FOUND;
    enter_phase(l, "check", "checking the local copy", l->job.file_bytes);
    int r = manifest_of_file(&m, path, l->job.header_bytes, l->job.cache_dir, on_progress, l, NULL);
    if (r != 0)
        return r;
    r = memcmp(m.id, l->job.model_id, sizeof(m.id)) == 0 ? model_open(model, path, NULL) : ERR_NOT_FOUND;
    manifest_free(&m);
    return r;
}

static int check_disk(struct loader *l, const char *path, uint64_t missing, struct error *e)
{
    struct statvfs fs;
    char need[32], have[32];
    (void)l;
    if (statvfs(path, &fs) != 0)
        return 0;
    uint64_t left = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (left >= missing)
        return 0;
    return error_set(e, ERR_LIMIT, "the cache folder's disk has %s left and the layers need %s; free some or choose "
                                   "another folder with --cache-dir", progress_bytes(left, have),
                     progress_bytes(missing, need));
}

/* The byte ranges of the tensors of the shard's range. Caller frees. */
static struct blob_range *tensor_ranges(const struct model *m, const struct layer_range *range, size_t *n)
{
    size_t count = model_tensor_count(m);
    struct blob_range *ranges = mem_array(count + 1, sizeof(*ranges));
    *n = 0;
    for (size_t i = 0; i < count; i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        if (t->part == 0 && model_in_range(m, t, range)) /* the other parts lie in the same */
            ranges[(*n)++] = (struct blob_range){t->info->offset, t->info->bytes};
    }
    return ranges;
}

static int open_copy(struct loader *l, const struct manifest *m, struct blob **blob, struct error *e)
{
    int r;
    while ((r = blob_open(blob, l->job.cache_dir, m, e)) == ERR_BUSY) {
        if (on_progress(l, 0, m->file_bytes) != 0)
            return error_set(e, ERR_CANCELLED, "loading was stopped");
        clock_sleep_ms(LOCK_RETRY_MS);
    }
    return r;
}

static int fetch_layers(struct loader *l, struct blob *blob, struct link *link, struct model **model, struct error *e)
{
    struct blob_range header = {0, l->job.header_bytes};
    enter_phase(l, "fetch", "fetching the model's header", l->job.header_bytes);
    int r = blob_fetch(blob, link, &header, 1, on_progress, l, e);
    if (r == 0)
        r = model_open(model, blob_path(blob), e);
    if (r != 0)
        return r;
    if (gguf_header_bytes(model_file(*model)) != l->job.header_bytes)
        return error_set(e, ERR_CORRUPT, "the model's header is not of the length that the coordinator says");
    const struct layer_range *range = &l->job.shard.range;
    if (range->last > model_hparams(*model)->n_layers || range->first >= range->last)
        return error_set(e, ERR_INVALID, "the coordinator asks for layers that the model does not have");
    size_t n;
    struct blob_range *ranges = tensor_ranges(*model, range, &n);
    uint64_t total, missing;
    blob_count(blob, ranges, n, &total, &missing);
    r = check_disk(l, blob_path(blob), missing, e);
    if (r == 0) {
        char words[64];
        snprintf(words, sizeof(words), "fetching layers %u-%u", range->first, range->last - 1);
        enter_phase(l, "fetch", words, total);
        r = blob_fetch(blob, link, ranges, n, on_progress, l, e);
    }
    mem_free(ranges);
    return r;
}

static int fetch_model(struct loader *l, struct model **model, struct error *e)
{
    char endpoint[300];
    membership_endpoint(&l->job.membership, l->job.membership.blob_port, endpoint);
    struct link_options o = {.keys = l->job.keys, .bytes_max = BLOB_BYTES_MAX, .queue_max = BLOB_WINDOW * 2};
    struct link *link;
    struct manifest m = {0};
    struct blob *blob = NULL;
    int r = link_dial(&link, l->job.zmq_context, endpoint, l->job.membership.coordinator_key, &o, e);
    if (r != 0)
        return r;
    enter_phase(l, "fetch", "fetching the manifest", 0);
    r = blob_fetch_manifest(&m, link, l->job.model_id, on_progress, l, e);
    if (r == 0 && (m.file_bytes != l->job.file_bytes || m.header_bytes != l->job.header_bytes))
        r = error_set(e, ERR_CORRUPT, "the manifest's sizes are not those of the model");
    if (r == 0)
        r = open_copy(l, &m, &blob, e);
    if (r == 0)
        r = fetch_layers(l, blob, link, model, e);
    blob_close(&blob);
    manifest_free(&m);
    link_close(&link);
    return r;
}

static int find_model(struct loader *l, struct model **model, struct error *e)
{
    if (l->job.trust_model_path)
        return model_open(model, l->job.model_path, e);
    if (try_local(l, l->job.model_path, model) == 0 || try_local(l, l->job.path_hint, model) == 0)
        return 0;
    if (atomic_load(&l->cancelled))
        return error_set(e, ERR_CANCELLED, "loading was stopped");
    return fetch_model(l, model, e);
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
    shard_end(shard, UINT64_MAX);
    mem_free(in);
    return best;
}

static void *run(void *arg)
{
    struct loader *l = arg;
    struct error e = {0};
    struct report *done = new_report(l, REPORT_LOAD_DONE);
    struct model *model = NULL;
    int r = find_model(l, &model, &e);
    if (r == 0) {
        char words[64];
        const struct layer_range *range = &l->job.shard.range;
        snprintf(words, sizeof(words), "loading layers %u-%u", range->first, range->last - 1);
        enter_phase(l, "load", words, model_range_bytes(model, range));
        l->job.shard.progress = on_progress;
        l->job.shard.progress_arg = l;
        r = shard_open(&done->shard, l->job.device, model, &l->job.shard, &e);
    }
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
    mem_free(l->job.path_hint);
    mem_free(l->job.model_path);
    mem_free(l->job.cache_dir);
    mem_free(l);
    *loader_p = NULL;
}
