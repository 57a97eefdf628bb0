/* shard: options are checked and memory is taken at open; a step is checked by the KV's bookkeeping, and
 * once that has taken it, nothing can fail. */
#include "shard/run/shard.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "shard/run/forward.h"
#include "shard/run/kv.h"
#include "shard/run/weights.h"

enum { NOT_WANTED = UINT32_MAX };
enum { WANTED_FLAGS = ROW_SAMPLE | ROW_LOGITS | ROW_HIDDEN };

struct shard {
    struct device *device;
    const struct model *model;
    struct shard_options options;
    struct weights weights;
    struct loras loras;
    struct forward forward;
    struct kv *kv;
    /* of a step, [batch_rows_max] each */
    struct attention_row *rows;
    uint32_t *positions;
    int32_t *tokens;
    uint32_t *wanted;   /* rows whose logits or hidden values somebody may ask for */
    uint32_t *rank_of;  /* a row's place in wanted, or NOT_WANTED */
    struct lora_rows lora, lora_wanted;
    uint32_t n_rows, n_wanted;
    bool logits_wanted; /* by any row */
    uint32_t logits_first, n_logits; /* the part of wanted whose logits are there */
    float *host;        /* rows or logits brought to the host; NULL where the device's memory is the host's */
    size_t host_bytes;
    uint64_t n_steps, n_rows_all;
};

/* ---- opening ---- */

static int check_options(const struct model *m, const struct shard_options *o, struct error *e)
{
    uint32_t n_layers = model_hparams(m)->n_layers;
    const struct layer_range *r = &o->range;
    if (r->first >= r->last || r->last > n_layers)
        return error_set(e, ERR_INVALID, "layers %u to %u are no range of a model of %u layers", r->first, r->last,
                         n_layers);
    if ((r->embedding && r->first != 0) || (r->head && r->last != n_layers))
        return error_set(e, ERR_INVALID, "layers %u to %u of %u cannot hold the %s", r->first, r->last, n_layers,
                         r->embedding && r->first != 0 ? "embedding" : "output head");
    if (!model_may_begin(m, r->first))
        return error_set(e, ERR_UNSUPPORTED, "layer %u reads the positions that an earlier layer's indexer chose: a "
                                             "stage cannot begin with it", r->first);
    if ((unsigned)o->kv_type >= KV_TYPES)
        return error_set(e, ERR_INVALID, "the KV type %d is not known", (int)o->kv_type);
    if (o->kv_tokens == 0)
        return error_set(e, ERR_INVALID, "a KV cache of no tokens");
    if (o->sequences_max == 0 || o->sequences_max > STEP_SEQUENCES_MAX)
        return error_set(e, ERR_INVALID, "%u sequences at once; 1 to %d can be", o->sequences_max, STEP_SEQUENCES_MAX);
    if (o->batch_rows_max == 0 || o->batch_rows_max > STEP_ROWS_MAX)
        return error_set(e, ERR_INVALID, "%u rows a step; 1 to %d can be", o->batch_rows_max, STEP_ROWS_MAX);
    if (o->n_adapters > ADAPTERS_MAX)
        return error_set(e, ERR_LIMIT, "%u adapters; %d can be", o->n_adapters, ADAPTERS_MAX);
    return model_check_range(m, r, e);
}

void shard_need(const struct model *m, const struct shard_options *o, struct shard_need *out)
{
    uint64_t positions = (uint64_t)forward_pages(o->kv_tokens) * KV_PAGE_TOKENS;
    uint64_t adapters, products;
    loras_need(m, o, &adapters, &products);
    out->weights = model_range_bytes(m, &o->range) + adapters;
    if (!mem_mul(positions, model_range_kv_bytes(m, o->range.first, o->range.last, o->kv_type), &out->kv))
        out->kv = UINT64_MAX / 4; /* more than there is anywhere */
    out->kv += model_state_bytes(m) * model_state_layers(m, o->range.first, o->range.last) * o->sequences_max;
    out->scratch = model_scratch_bytes(m, &o->range, o->batch_rows_max, 0) + products;
}

/* Better now than when the system begins to kill. */
static int check_memory(struct device *d, const struct model *m, const struct shard_options *o, struct error *e)
{
    struct device_facts facts;
    struct shard_need need;
    d->backend->facts(d, &facts);
    shard_need(m, o, &need);
    uint64_t total = need.weights + need.kv + need.scratch;
    if (total <= facts.memory_bytes)
        return 0;
    return error_set(e, ERR_MEMORY, "layers %u-%u need %.2f GB (weights %.2f, KV of %u tokens %.2f, working space "
                                    "%.2f), and %.2f GB are free",
                     o->range.first, o->range.last - 1, (double)total / 1e9, (double)need.weights / 1e9, o->kv_tokens,
                     (double)need.kv / 1e9, (double)need.scratch / 1e9, (double)facts.memory_bytes / 1e9);
}

/* Where the device's memory is not the host's: room for the rows that go on, or for a row of logits. */
static int open_host(struct shard *s, struct error *e)
{
    const struct hparams *h = model_hparams(s->model);
    if (s->device->backend->host_view(s->device, s->forward.x))
        return 0;
    size_t widest = h->n_vocab > h->n_embd ? h->n_vocab : h->n_embd;
    size_t values = s->options.range.head ? widest : (size_t)s->options.batch_rows_max * h->n_embd;
    s->host_bytes = values * sizeof(float);
    s->host = mem_try_big(s->host_bytes);
    return s->host ? 0 : error_set(e, ERR_MEMORY, "no memory for the rows of a step");
}

static void open_tables(struct shard *s)
{
    uint32_t n = s->options.batch_rows_max;
    s->rows = mem_array(n, sizeof(*s->rows));
    s->positions = mem_array(n, sizeof(*s->positions));
    s->tokens = mem_array(n, sizeof(*s->tokens));
    s->wanted = mem_array(n, sizeof(*s->wanted));
    s->rank_of = mem_array(n, sizeof(*s->rank_of));
    struct lora_rows *rows[] = {&s->lora, &s->lora_wanted};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        rows[i]->rows = mem_array(n, sizeof(*rows[i]->rows));
        rows[i]->group_of = mem_array(n, sizeof(*rows[i]->group_of));
    }
}

static int open_parts(struct shard *s, const struct weights_progress *progress, struct error *e)
{
    const struct shard_options *o = &s->options;
    struct kv_limits limits = {.pages = forward_pages(o->kv_tokens), .sequences = o->sequences_max,
                               .context = model_hparams(s->model)->context,
                               .states = model_state_bytes(s->model) > 0};
    int r = kv_create(&s->kv, &limits, e);
    if (r == 0)
        r = weights_load(&s->weights, s->device, s->model, &o->range, progress, e);
    if (r == 0)
        r = loras_load(&s->loras, s->device, o, e);
    if (r == 0)
        r = forward_open(&s->forward, s->device, s->model, &s->weights, &s->loras, o, e);
    if (r == 0)
        r = open_host(s, e);
    return r;
}

int shard_open(struct shard **out, struct device *d, const struct model *m, const struct shard_options *o,
               struct error *e)
{
    *out = NULL;
    int r = check_options(m, o, e);
    if (r == 0)
        r = check_memory(d, m, o, e);
    if (r != 0)
        return r;
    struct weights_progress progress = {o->progress, o->progress_arg};
    struct shard *s = mem_alloc(sizeof(*s));
    s->device = d;
    s->model = m;
    s->options = *o;
    s->options.progress = NULL;
    s->options.progress_arg = NULL;
    open_tables(s);
    r = open_parts(s, &progress, e);
    s->options.adapters = NULL;
    if (r != 0) {
        shard_close(&s);
        return r;
    }
    *out = s;
    return 0;
}

void shard_close(struct shard **shard_p)
{
    struct shard *s = *shard_p;
    if (!s)
        return;
    forward_close(&s->forward);
    weights_free(&s->weights);
    loras_free(&s->loras);
    kv_destroy(&s->kv);
    mem_big_free(s->host, s->host_bytes);
    mem_free(s->rows);
    mem_free(s->positions);
    mem_free(s->tokens);
    mem_free(s->wanted);
    mem_free(s->rank_of);
    mem_free(s->lora.rows);
    mem_free(s->lora_wanted.rows);
    mem_free(s->lora.group_of);
    mem_free(s->lora_wanted.group_of);
    mem_free(s);
    *shard_p = NULL;
}

/* ---- a step ---- */

static int check_rows(const struct shard *s, const struct step_row *rows, uint32_t n, struct error *e)
{
    uint32_t n_vocab = model_hparams(s->model)->n_vocab;
    if (n == 0 || n > s->options.batch_rows_max)
        return error_set(e, ERR_LIMIT, "a step of %u rows; 1 to %u can be", n, s->options.batch_rows_max);
    for (uint32_t i = 0; i < n; i++)
        if (rows[i].adapter > s->options.n_adapters)
            return error_set(e, ERR_INVALID, "sequence %llu asks for adapter %u of %u",
                             (unsigned long long)rows[i].sequence, rows[i].adapter, s->options.n_adapters);
    for (uint32_t i = 0; s->options.range.embedding && i < n; i++)
        if (rows[i].token < 0 || (uint32_t)rows[i].token >= n_vocab)
            return error_set(e, ERR_INVALID, "sequence %llu, position %u: token %d is none of the model's %u",
                             (unsigned long long)rows[i].sequence, rows[i].position, rows[i].token, n_vocab);
    return 0;
}

static void note_rows(struct shard *s, const struct step_row *rows, uint32_t n)
{
    s->n_rows = n;
    s->n_wanted = 0;
    s->logits_wanted = false;
    for (uint32_t i = 0; i < n; i++) {
        bool wanted = s->options.range.head && (rows[i].flags & WANTED_FLAGS) != 0;
        s->positions[i] = rows[i].position;
        s->tokens[i] = rows[i].token;
        s->rank_of[i] = wanted ? s->n_wanted : NOT_WANTED;
        if (wanted)
            s->wanted[s->n_wanted++] = i;
        s->logits_wanted |= wanted && (rows[i].flags & (ROW_SAMPLE | ROW_LOGITS)) != 0;
    }
    lora_rows_note(&s->lora, rows, NULL, n);
    lora_rows_note(&s->lora_wanted, rows, s->wanted, s->n_wanted);
}

/* The block of logits that holds a wanted row. */
static void compute_logits(struct shard *s, uint32_t rank)
{
    uint32_t most = s->forward.logits_max, first = rank / most * most;
    uint32_t n = s->n_wanted - first < most ? s->n_wanted - first : most;
    forward_logits(&s->forward, first, n);
    s->logits_first = first;
    s->n_logits = n;
}

int shard_step(struct shard *s, const struct step_row *rows, uint32_t n, const float *in, struct error *e)
{
    assert(in || s->options.range.embedding);
    s->n_rows = s->n_wanted = s->n_logits = 0;
    int r = check_rows(s, rows, n, e);
    if (r == 0)
        r = kv_take(s->kv, rows, n, s->rows, e);
    if (r != 0)
        return r;
    note_rows(s, rows, n);
    struct forward_batch b = {.tokens = s->tokens, .in = in, .rows = s->rows, .positions = s->positions,
                              .lora = &s->lora, .lora_wanted = &s->lora_wanted, .wanted = s->wanted, .n = n,
                              .n_wanted = s->n_wanted};
    b.n_runs = kv_runs(s->kv, &b.runs);
    forward_run(&s->forward, &b);
    if (s->logits_wanted)
        compute_logits(s, 0);
    s->n_steps++;
    s->n_rows_all += n;
    return 0;
}

/* `bytes` of the device's memory where the host can read them. */
static const float *to_host(struct shard *s, struct span span, size_t bytes)
{
    const float *view = s->device->backend->host_view(s->device, span);
    if (view) {
        s->device->backend->sync(s->device);
        return view;
    }
    assert(bytes <= s->host_bytes);
    s->device->backend->download(s->device, s->host, span, bytes);
    return s->host;
}

const float *shard_rows(struct shard *s)
{
    assert(!s->options.range.head && s->n_rows > 0);
    return to_host(s, s->forward.x, (size_t)s->n_rows * model_hparams(s->model)->n_embd * sizeof(float));
}

const float *shard_logits(struct shard *s, uint32_t i)
{
    assert(i < s->n_rows && s->rank_of[i] != NOT_WANTED);
    uint32_t rank = s->rank_of[i];
    if (rank < s->logits_first || rank >= s->logits_first + s->n_logits)
        compute_logits(s, rank);
    size_t bytes = model_hparams(s->model)->n_vocab * sizeof(float);
    struct span row = {s->forward.logits.mem, s->forward.logits.offset + (rank - s->logits_first) * bytes};
    return to_host(s, row, bytes);
}

const float *shard_hidden(struct shard *s, uint32_t i)
{
    assert(i < s->n_rows && s->rank_of[i] != NOT_WANTED);
    size_t bytes = model_hparams(s->model)->n_embd * sizeof(float);
    struct span row = {s->forward.kept.mem, s->forward.kept.offset + s->rank_of[i] * bytes};
    return to_host(s, row, bytes);
}

/* ---- sequences and facts ---- */

void shard_end(struct shard *s, uint64_t sequence)
{
    kv_end(s->kv, sequence);
}

void shard_clear(struct shard *s)
{
    kv_clear(s->kv);
}

void shard_rest(struct shard *s)
{
    kv_clear(s->kv);
    forward_rest(&s->forward);
}

void shard_facts(const struct shard *s, struct shard_options *out)
{
    *out = s->options;
}

uint32_t shard_length(const struct shard *s, uint64_t sequence)
{
    return kv_length(s->kv, sequence);
}

void shard_stats(const struct shard *s, struct shard_stats *out)
{
    *out = (struct shard_stats){
        .sequences = kv_sequences(s->kv), .pages_used = kv_pages_used(s->kv),
        .pages_total = forward_pages(s->options.kv_tokens), .steps = s->n_steps, .rows = s->n_rows_all,
        .bytes_weights = s->weights.bytes + s->loras.bytes, .bytes_kv = s->forward.kv_bytes,
        .bytes_scratch = s->forward.bytes + s->host_bytes};
}

void shard_time(struct shard *s, int on)
{
    s->forward.timing = on != 0;
    memset(&s->forward.times, 0, sizeof(s->forward.times));
}

void shard_times(const struct shard *s, struct shard_times *out)
{
    *out = s->forward.times;
}
