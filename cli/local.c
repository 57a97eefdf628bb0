/* local: the pieces of one process, opened in order and closed in reverse. */
#include "cli/local.h"

#include <string.h>

#include "base/memory.h"
#include "base/progress.h"

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)total;
    progress_update(arg, done);
    return 0;
}

static int open_shard(struct local *l, const struct local_options *o, struct error *e)
{
    const struct hparams *h = model_hparams(l->model);
    struct shard_options so = {
        .range = {0, h->n_layers, true, true},
        .kv_tokens = l->context * o->sequences_max,
        .sequences_max = o->sequences_max,
        .batch_rows_max = o->batch_rows_max,
    };
    struct shard_adapter served = {.scale = 1};
    int r = model_kv_type(l->model, o->kv_type, &so.kv_type, e);
    if (r == 0 && o->settings)
        r = adapters_open_one(&l->lora, &served.scale, o->settings, l->model, e);
    if (r != 0)
        return r;
    served.adapter = l->lora;
    so.adapters = &served;
    so.n_adapters = l->lora != NULL;
    struct progress *bar = NULL;
    if (o->progress) {
        bar = progress_start("loading", model_range_bytes(l->model, &so.range));
        so.progress = on_progress;
        so.progress_arg = bar;
    }
    r = shard_open(&l->shard, l->device, l->model, &so, e);
    progress_finish(&bar);
    return r;
}

int local_open(struct local *l, const struct local_options *o, struct error *e)
{
    memset(l, 0, sizeof(*l));
    int r = model_open(&l->model, o->path, e);
    if (r != 0)
        return r;
    uint32_t own = model_hparams(l->model)->context;
    l->context = o->context ? o->context : own < LOCAL_CONTEXT_DEFAULT ? own : LOCAL_CONTEXT_DEFAULT;
    l->batch_rows_max = o->batch_rows_max;
    r = tokenizer_open(&l->tokenizer, model_file(l->model), e);
    if (r == 0)
        r = backend_open(&l->device, o->backend, &o->device, e);
    if (r == 0)
        r = open_shard(l, o, e);
    if (r != 0)
        local_close(l);
    return r;
}

void local_close(struct local *l)
{
    shard_close(&l->shard);
    adapter_close(&l->lora);
    backend_close(&l->device);
    tokenizer_close(&l->tokenizer);
    model_close(&l->model);
}

int local_feed(struct local *l, uint64_t sequence, const int32_t *tokens, uint32_t n, uint32_t position, bool sample,
               bool (*stop)(void), struct error *e)
{
    struct step_row rows[STEP_ROWS_MAX];
    for (uint32_t at = 0; at < n;) {
        uint32_t count = n - at < l->batch_rows_max ? n - at : l->batch_rows_max;
        if (stop && stop())
            return error_set(e, ERR_CANCELLED, "stopped");
        for (uint32_t i = 0; i < count; i++)
            rows[i] = (struct step_row){.sequence = sequence, .position = position + at + i, .token = tokens[at + i],
                                        .adapter = l->lora != NULL};
        at += count;
        if (sample && at == n)
            rows[count - 1].flags = ROW_SAMPLE;
        l->sampled = count - 1;
        int r = shard_step(l->shard, rows, count, NULL, e);
        if (r != 0)
            return r;
    }
    return 0;
}

const float *local_logits(struct local *l)
{
    return shard_logits(l->shard, l->sampled);
}
