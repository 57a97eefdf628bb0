/* attention: softmax(q K) V over paged KV, page after page, for the queries that read a page together: those of a KV
 * head's query heads, of one row or of several rows of a sequence; chosen positions are gathered into pages first.
 *
 * A page's scores are taken, the running maximum is raised, what was summed is
 * scaled down to it, the page's values are added: memory is read once and no
 * score outlives its page.  The pages of a row and their order are the same
 * whoever reads along, so its result depends on nothing else.                */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum {
    WIDEN_FROM = 9,  /* as many share the cost of turning a page's values to floats first */
    ROWS_STORED_ALONE = 3, /* fewer rows are not worth waking the other threads for */
    HEADS_LEAST = 4, /* fewer heads are not worth a reading of their own */
};

struct attention_run {
    struct cpu *c;
    const struct attention_args *a;
    uint32_t block_rows, block_heads; /* rows, and query heads of a KV head, that a thread takes at a time */
    struct tiles tiles;
};

/* Values that lie in the keys are summed up whole: what is behind them is left out at the end. */
static uint32_t mixed_dim(const struct kv_layer *kv)
{
    return kv->shared ? kv->key_dim : kv->value_dim;
}

static void store_part(void *arg, int part, int parts)
{
    const struct attention_run *run = arg;
    const struct attention_args *a = run->a;
    const struct kv_layer *kv = &a->kv;
    size_t first, last, heads = kv->n_kv_heads;
    pool_slice(a->n_rows * heads, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        const float *value = kv->shared ? NULL : span_floats(a->v) + i * kv->value_dim;
        cpu_kv_store(run->c->isa, kv, &a->rows[i / heads], (uint32_t)(i % heads),
                     span_floats(a->k) + i * kv->key_dim, value);
    }
}

/* Queries that read one KV head together: n_heads of the first row, then as many of the next. */
struct block {
    const struct attention_run *run;
    const struct attention_row *rows; /* [n_rows], of one sequence */
    uint32_t first_row, n_rows;
    uint32_t kv_head, head, n_heads;  /* query heads [head, head + n_heads) */
    uint32_t out_dim;
    float max[ATTENTION_QUERIES], sum[ATTENTION_QUERIES];
    float *q, *out, *scores;          /* a query: key_dim, out_dim, KV_PAGE_TOKENS */
    float *wide;                      /* a page's keys, then its values, as floats */
};

/* Scores of a page -> their exponentials; what was summed is scaled down to the new maximum. */
static void raise_query(struct block *b, size_t i, size_t from, size_t n)
{
    const struct isa *isa = b->run->c->isa;
    float *scores = b->scores + i * KV_PAGE_TOKENS + from, cap = b->run->a->cap, scale = b->run->a->scale;
    for (size_t p = 0; cap != 0 && p < n; p++)
        scores[p] = cap * tanhf(scores[p] * scale / cap);
    float max = isa->scale_top(scores, cap != 0 ? 1 : scale, b->max[i], n);
    if (max > b->max[i]) {
        float shrink = expf(b->max[i] - max), *out = b->out + i * b->out_dim;
        b->sum[i] *= shrink;
        for (uint32_t k = 0; k < b->out_dim; k++)
            out[k] *= shrink;
        b->max[i] = max;
    }
    b->sum[i] += isa->softmax_exp(scores, b->max[i], n);
}

/* Positions [from, to) of a page; `next`: the keys of the one that follows, or NULL. */
struct page {
    const uint8_t *keys, *values, *next;
    size_t from, to;
};

/* Add a page to the sums of queries [first, first + n_q). */
static void add_page(struct block *b, size_t first, size_t n_q, const struct page *page)
{
    const struct isa *isa = b->run->c->isa;
    const struct kv_layer *kv = &b->run->a->kv;
    struct page_job job = {.type = kv->type, .turned = !kv->shared, .kv = page->keys, .dim = kv->key_dim,
                           .from = page->from, .to = page->to, .n_q = n_q,
                           .q = b->q + first * kv->key_dim, .scores = b->scores + first * KV_PAGE_TOKENS,
                           .out = b->out + first * b->out_dim, .out_stride = b->out_dim};
    if (!kv->shared) {
        job.ahead = page->values + kv_row_bytes(kv->type, kv->value_dim) * page->from;
        job.ahead_bytes = kv_row_bytes(kv->type, kv->value_dim) * (page->to - page->from);
    }
    bool widen = cpu_page_may_widen(isa, kv->type) && n_q >= WIDEN_FROM;
    if (widen)
        cpu_page_widen(isa, &job, b->wide);
    cpu_page_scores(isa, &job);
    for (size_t i = first; i < first + n_q; i++)
        raise_query(b, i, page->from, page->to - page->from);
    job.ahead = page->next;
    job.ahead_bytes = kv_row_bytes(kv->type, kv->key_dim) * KV_PAGE_TOKENS;
    job.dim = b->out_dim;
    if (!kv->shared) {
        job.type = kv->type;
        job.turned = false;
        job.kv = page->values;
        if (widen)
            cpu_page_widen(isa, &job, b->wide + (size_t)KV_PAGE_TOKENS * kv->key_dim);
    }
    cpu_page_mix(isa, &job);
}

static void open_block(struct block *b)
{
    const struct attention_args *a = b->run->a;
    const struct kv_layer *kv = &a->kv;
    const float *sinks = a->sinks ? (const float *)a->sinks->bytes + b->head : NULL;
    for (uint32_t r = 0; r < b->n_rows; r++) {
        const float *q = span_floats(a->q) + ((size_t)(b->first_row + r) * a->n_heads + b->head) * kv->key_dim;
        memcpy(b->q + (size_t)r * b->n_heads * kv->key_dim, q, (size_t)b->n_heads * kv->key_dim * sizeof(float));
    }
    for (uint32_t i = 0; i < b->n_rows * b->n_heads; i++) {
        b->max[i] = sinks ? sinks[i % b->n_heads] : -INFINITY;
        b->sum[i] = sinks ? 1 : 0;
    }
    memset(b->out, 0, (size_t)b->n_rows * b->n_heads * b->out_dim * sizeof(float));
}

static void close_block(const struct block *b)
{
    const struct attention_args *a = b->run->a;
    uint32_t dim = a->kv.value_dim;
    for (uint32_t i = 0; i < b->n_rows * b->n_heads; i++) {
        size_t row = b->first_row + i / b->n_heads, head = b->head + i % b->n_heads;
        float *to = span_floats(a->out) + (row * a->n_heads + head) * dim, scale = 1 / b->sum[i];
        for (uint32_t k = 0; k < dim; k++)
            to[k] = b->out[(size_t)i * b->out_dim + k] * scale;
    }
}

/* The first position that a row at `position` attends to. */
static uint32_t first_position(const struct attention_args *a, uint32_t position)
{
    uint32_t first = a->chunk ? position / a->chunk * a->chunk : 0;
    uint32_t start = a->window && position >= a->window ? position - a->window + 1 : 0;
    return start > first ? start : first;
}

/* Positions [from, to) for n rows of the block, all of which attend to all of them. */
static void add_range(struct block *b, uint32_t row, uint32_t n, uint32_t from, uint32_t to)
{
    const struct kv_layer *kv = &b->run->a->kv;
    for (uint32_t p = from, count; p < to; p += count) {
        const uint32_t *at = b->rows[row].pages + p / KV_PAGE_TOKENS, in_page = p % KV_PAGE_TOKENS;
        count = to - p < KV_PAGE_TOKENS - in_page ? to - p : KV_PAGE_TOKENS - in_page;
        struct page page = {cpu_kv_keys(kv, at[0], b->kv_head), cpu_kv_values(kv, at[0], b->kv_head),
                            p + count < to ? cpu_kv_keys(kv, at[1], b->kv_head) : NULL, in_page, in_page + count};
        add_page(b, (size_t)row * b->n_heads, (size_t)n * b->n_heads, &page);
    }
}

/* Whole pages that all rows attend to are read once for all; what is before and behind them, by each row. */
static void add_pages(struct block *b)
{
    const struct attention_args *a = b->run->a;
    uint32_t from = 0, to = UINT32_MAX;
    for (uint32_t r = 0; r < b->n_rows; r++) {
        uint32_t first = first_position(a, b->rows[r].position), end = b->rows[r].position + 1;
        from = first > from ? first : from;
        to = end < to ? end : to;
    }
    from = (from + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    to = to / KV_PAGE_TOKENS * KV_PAGE_TOKENS;
    bool together = b->n_rows > 1 && from < to;
    for (uint32_t r = 0; r < b->n_rows; r++)
        add_range(b, r, 1, first_position(a, b->rows[r].position), together ? from : b->rows[r].position + 1);
    if (!together)
        return;
    add_range(b, 0, b->n_rows, from, to);
    for (uint32_t r = 0; r < b->n_rows; r++)
        add_range(b, r, 1, to, b->rows[r].position + 1);
}

/* The positions of a row's list, side by side in `room`, which holds TILE_FLOATS. */
static void add_chosen(struct block *b, uint8_t *room)
{
    const struct attention_args *a = b->run->a;
    const uint32_t *list = (const uint32_t *)(void *)span_floats(a->chosen) + (size_t)b->first_row * a->n_chosen;
    size_t bytes = kv_row_bytes(a->kv.type, a->kv.key_dim), most = TILE_FLOATS * sizeof(float) / bytes, count;
    most = most < KV_PAGE_TOKENS ? most : KV_PAGE_TOKENS;
    for (size_t i = 0; i < a->n_chosen; i += count) {
        count = a->n_chosen - i < most ? a->n_chosen - i : most;
        for (size_t p = 0; p < count; p++) {
            uint32_t page = b->rows->pages[list[i + p] / KV_PAGE_TOKENS];
            memcpy(room + p * bytes,
                   cpu_kv_keys(&a->kv, page, b->kv_head) + list[i + p] % KV_PAGE_TOKENS * bytes, bytes);
        }
        add_page(b, 0, b->n_heads, &(struct page){room, room, NULL, 0, count});
    }
}

/* The rows of block i, sequence by sequence, with the room of a thread. */
static void attend(const struct attention_run *run, size_t i, int part)
{
    const struct attention_args *a = run->a;
    const struct kv_layer *kv = &a->kv;
    uint32_t group = a->n_heads / kv->n_kv_heads, parts = (group + run->block_heads - 1) / run->block_heads;
    uint32_t in_group = (uint32_t)(i % parts) * run->block_heads, kv_head = (uint32_t)(i / parts % kv->n_kv_heads);
    uint32_t row = (uint32_t)(i / parts / kv->n_kv_heads) * run->block_rows;
    uint32_t end = a->n_rows - row < run->block_rows ? a->n_rows : row + run->block_rows;
    struct scratch *s = &run->c->scratch;
    struct block b = {.run = run, .kv_head = kv_head, .head = kv_head * group + in_group, .out_dim = mixed_dim(kv),
                      .n_heads = group - in_group < run->block_heads ? group - in_group : run->block_heads};
    b.wide = s->attention + part * attention_floats(run->c->reserved.key_dim, run->c->reserved.out_dim);
    b.scores = b.wide + (size_t)KV_PAGE_TOKENS * (kv->key_dim + b.out_dim);
    b.q = b.scores + (size_t)ATTENTION_QUERIES * KV_PAGE_TOKENS;
    b.out = b.q + (size_t)ATTENTION_QUERIES * kv->key_dim;
    for (; row < end; row += b.n_rows) {
        b.rows = a->rows + row;
        b.first_row = row;
        for (b.n_rows = 1; row + b.n_rows < end && b.rows[b.n_rows].pages == b.rows->pages;)
            b.n_rows++;
        open_block(&b);
        if (a->chosen.mem && b.rows->position >= a->n_chosen)
            add_chosen(&b, (uint8_t *)(s->tiles + (size_t)part * TILE_FLOATS));
        else
            add_pages(&b);
        close_block(&b);
    }
}

/* Later rows of a prompt read more than earlier ones: threads take blocks in turn. */
static void attend_part(void *arg, int part, int parts)
{
    struct attention_run *run = arg;
    size_t first, last;
    (void)parts;
    while (tiles_take(&run->tiles, &first, &last))
        for (; first < last; first++)
            attend(run, first, part);
}

static size_t blocks_of(const struct attention_run *run)
{
    const struct attention_args *a = run->a;
    uint32_t group = a->n_heads / a->kv.n_kv_heads;
    return (size_t)((a->n_rows + run->block_rows - 1) / run->block_rows) * a->kv.n_kv_heads *
           ((group + run->block_heads - 1) / run->block_heads);
}

/* Blocks of as many queries as may be, unless there would be too few for the threads. */
static void choose_blocks(struct attention_run *run)
{
    const struct attention_args *a = run->a;
    uint32_t group = a->n_heads / a->kv.n_kv_heads;
    size_t enough = (size_t)pool_threads(run->c->pool) * 4;
    run->block_heads = group < ATTENTION_QUERIES ? group : ATTENTION_QUERIES;
    run->block_rows = a->chosen.mem ? 1 : ATTENTION_QUERIES / run->block_heads;
    while (run->block_rows > 1 && blocks_of(run) < enough)
        run->block_rows /= 2;
    while (run->block_heads > HEADS_LEAST && blocks_of(run) < enough)
        run->block_heads = (run->block_heads + 1) / 2;
}

void cpu_attention(struct device *d, const struct attention_args *a)
{
    struct attention_run run = {.c = cpu_of(d), .a = a};
    assert(!a->chosen.mem || a->kv.shared);
    assert(a->kv.key_dim <= run.c->reserved.key_dim && mixed_dim(&a->kv) <= run.c->reserved.out_dim);
    choose_blocks(&run);
    run.tiles = (struct tiles){.total = blocks_of(&run), .tile = 1};
    if (a->n_rows < ROWS_STORED_ALONE)
        store_part(&run, 0, 1);
    else
        pool_run(run.c->pool, store_part, &run);
    pool_run(run.c->pool, attend_part, &run);
}
