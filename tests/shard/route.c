/* route: shards in a row. */
#include "route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"

static void require(int status, const struct error *e)
{
    if (status != 0)
        fail_msg("%s: %s", status_name(status), e->text);
}

void route_open(struct route *r, const struct route_options *o)
{
    struct error e = {0};
    struct device_options device = {.threads = 2, .isa = o->isa};
    memset(r, 0, sizeof(*r));
    require(backend_open(&r->device, "cpu", &device, &e), &e);
    require(model_open(&r->model, o->path, &e), &e);
    r->n = o->n ? o->n : 1;
    uint32_t n_layers = model_hparams(r->model)->n_layers;
    for (int i = 0; i < r->n; i++) {
        struct shard_options shard = {
            .range = {.first = i ? o->cuts[i - 1] : 0, .last = i + 1 < r->n ? o->cuts[i] : n_layers,
                      .embedding = i == 0, .head = i + 1 == r->n},
            .kv_type = o->kv_type, .kv_tokens = o->kv_tokens ? o->kv_tokens : 512,
            .sequences_max = o->sequences_max ? o->sequences_max : 4,
            .batch_rows_max = o->batch_rows_max ? o->batch_rows_max : 128,
            .adapters = o->adapters, .n_adapters = o->n_adapters};
        require(shard_open(&r->shards[i], r->device, r->model, &shard, &e), &e);
    }
}

void route_close(struct route *r)
{
    for (int i = 0; i < r->n; i++)
        shard_close(&r->shards[i]);
    model_close(&r->model);
    backend_close(&r->device);
}

int route_step(struct route *r, const struct step_row *rows, uint32_t n, struct error *e)
{
    int status = 0;
    for (int i = 0; status == 0 && i < r->n; i++)
        status = shard_step(r->shards[i], rows, n, i ? shard_rows(r->shards[i - 1]) : NULL, e);
    return status;
}

const float *route_logits(struct route *r, uint32_t i)
{
    return shard_logits(r->shards[r->n - 1], i);
}

double route_error(const float *a, const float *b, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return error / size;
}

uint32_t route_argmax(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

float *route_run(struct route *r, uint64_t id, uint32_t position, const int32_t *tokens, uint32_t n, uint32_t chunk)
{
    uint32_t n_vocab = model_hparams(r->model)->n_vocab;
    float *logits = mem_array((size_t)n * n_vocab, sizeof(float));
    struct step_row *rows = mem_array(chunk, sizeof(*rows));
    for (uint32_t first = 0; first < n; first += chunk) {
        uint32_t count = n - first < chunk ? n - first : chunk;
        struct error e = {0};
        for (uint32_t i = 0; i < count; i++)
            rows[i] = (struct step_row){.sequence = id, .position = position + first + i, .token = tokens[first + i],
                                        .flags = ROW_LOGITS, .adapter = r->adapter};
        require(route_step(r, rows, count, &e), &e);
        for (uint32_t i = 0; i < count; i++)
            memcpy(logits + (size_t)(first + i) * n_vocab, route_logits(r, i), n_vocab * sizeof(float));
    }
    mem_free(rows);
    return logits;
}

void route_greedy(struct route *r, uint64_t id, uint32_t length, int32_t token, int32_t *out, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct error e = {0};
        out[i] = token;
        if (i + 1 == n)
            return;
        struct step_row row = {.sequence = id, .position = length + i, .token = token, .flags = ROW_SAMPLE,
                               .adapter = r->adapter};
        require(route_step(r, &row, 1, &e), &e);
        token = (int32_t)route_argmax(route_logits(r, 0), model_hparams(r->model)->n_vocab);
    }
}
