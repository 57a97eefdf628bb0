/* index: which positions a row attends to: every (row, page) is scored by itself, then every row picks its best.
 *
 * The pick goes through the positions in order with a heap of the best so far,
 * the least of them on top.                                                   */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

enum { HEADS_AT_ONCE = 8 }; /* that share one reading of a page */

static const uint32_t CHOSEN = UINT32_MAX; /* no number's key */

struct index_job {
    struct cpu *c;
    const struct index_args *a;
    uint32_t first, n;     /* rows, up to INDEX_ROWS_MAX */
    uint32_t pages;        /* of the longest of them */
    size_t stride;         /* floats from a row's scores to the next's */
    struct tiles scored, picked;
};

static bool sees_all(const struct index_args *a, uint32_t row)
{
    return a->rows[row].position < a->n_chosen;
}

static void store_part(void *arg, int part, int parts)
{
    const struct index_job *j = arg;
    const struct index_args *a = j->a;
    size_t first, last, dim = a->kv.key_dim;
    pool_slice(a->n_rows, 1, part, parts, &first, &last);
    for (size_t r = first; r < last; r++)
        cpu_kv_store(j->c->isa, &a->kv, &a->rows[r], 0, span_floats(a->k) + r * dim, NULL);
}

/* ---- scores ---- */

static void score_page(const struct index_job *j, uint32_t row, uint32_t page)
{
    const struct index_args *a = j->a;
    float scores[HEADS_AT_ONCE][KV_PAGE_TOKENS], *sums = j->c->scratch.index + (row - j->first) * j->stride;
    uint32_t start = page * KV_PAGE_TOKENS, left = a->rows[row].position + 1 - start;
    const float *weights = span_floats(a->weights) + (size_t)row * a->n_heads;
    struct page_job job = {.type = a->kv.type, .dim = a->kv.key_dim,
                           .to = left < KV_PAGE_TOKENS ? left : KV_PAGE_TOKENS,
                           .kv = cpu_kv_keys(&a->kv, a->rows[row].pages[page], 0), .scores = scores[0]};
    sums += start;
    memset(sums, 0, KV_PAGE_TOKENS * sizeof(*sums));
    for (uint32_t h = 0; h < a->n_heads; h += HEADS_AT_ONCE) {
        job.q = span_floats(a->q) + ((size_t)row * a->n_heads + h) * job.dim;
        job.n_q = a->n_heads - h < HEADS_AT_ONCE ? a->n_heads - h : HEADS_AT_ONCE;
        cpu_page_scores(j->c->isa, &job);
        for (uint32_t i = 0; i < job.n_q; i++) {
            float weight = weights[h + i] * a->scale;
            for (size_t p = 0; p < job.to; p++)
                sums[p] += weight * (scores[i][p] < 0 ? 0 : scores[i][p]);
        }
    }
}

static void score_part(void *arg, int part, int parts)
{
    struct index_job *j = arg;
    size_t first, last;
    (void)part;
    (void)parts;
    while (tiles_take(&j->scored, &first, &last)) {
        for (; first < last; first++) {
            uint32_t row = j->first + (uint32_t)(first / j->pages), page = (uint32_t)(first % j->pages);
            if (!sees_all(j->a, row) && page <= j->a->rows[row].position / KV_PAGE_TOKENS)
                score_page(j, row, page);
        }
    }
}

/* ---- the pick ---- */

/* Integers in the order of the floats; both zeros are one, and what is not a number is the least. */
static uint32_t key_of(float x)
{
    uint32_t bits;
    x += 0.0F;
    memcpy(&bits, &x, sizeof(bits));
    return isnan(x) ? 0 : bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/* Position p takes its place in the part of the heap below `at`, whose top is free: the hole goes down to a leaf by the
 * lesser child (of equals the right one), and p rises from there. */
static void sink(uint32_t *heap, size_t n, size_t at, uint32_t p, const uint32_t *keys)
{
    size_t hole = at, right = 2 * at + 2;
    for (; right < n; right = 2 * hole + 2) {
        size_t child = keys[heap[right]] > keys[heap[right - 1]] ? right - 1 : right;
        heap[hole] = heap[child];
        hole = child;
    }
    if (right == n) { /* an only child */
        heap[hole] = heap[n - 1];
        hole = n - 1;
    }
    for (; hole > at && keys[heap[(hole - 1) / 2]] > keys[p]; hole = (hole - 1) / 2)
        heap[hole] = heap[(hole - 1) / 2];
    heap[hole] = p;
}

/* `list` is the heap, then the list: which of several equals stay in it is as in std::partial_sort. */
static void pick(float *scores, uint32_t n, uint32_t k, uint32_t *list)
{
    uint32_t *keys = (uint32_t *)(void *)scores, listed = 0; /* in their place */
    for (uint32_t p = 0; p < n; p++)
        keys[p] = key_of(scores[p]);
    for (uint32_t i = 0; i < k; i++)
        list[i] = i;
    for (uint32_t at = k / 2; at-- > 0;)
        sink(list, k, at, list[at], keys);
    for (uint32_t p = k; p < n; p++)
        if (keys[p] > keys[list[0]])
            sink(list, k, 0, p, keys);
    for (uint32_t i = 0; i < k; i++)
        keys[list[i]] = CHOSEN;
    for (uint32_t p = 0; p < n; p++)
        if (keys[p] == CHOSEN)
            list[listed++] = p;
    assert(listed == k);
}

static void pick_part(void *arg, int part, int parts)
{
    struct index_job *j = arg;
    const struct index_args *a = j->a;
    size_t first, last;
    (void)part;
    (void)parts;
    while (tiles_take(&j->picked, &first, &last)) {
        uint32_t row = j->first + (uint32_t)first;
        if (!sees_all(a, row))
            pick(j->c->scratch.index + first * j->stride, a->rows[row].position + 1, a->n_chosen,
                 (uint32_t *)(void *)span_floats(a->chosen) + (size_t)row * a->n_chosen);
    }
}

void cpu_index(struct device *d, const struct index_args *a)
{
    struct index_job j = {.c = cpu_of(d), .a = a};
    uint32_t positions = j.c->reserved.index_positions;
    j.stride = (size_t)(positions / KV_PAGE_TOKENS + (positions % KV_PAGE_TOKENS != 0)) * KV_PAGE_TOKENS;
    store_part(&j, 0, 1);
    for (; j.first < a->n_rows; j.first += j.n) {
        uint32_t longest = 0;
        j.n = a->n_rows - j.first < INDEX_ROWS_MAX ? a->n_rows - j.first : INDEX_ROWS_MAX;
        for (uint32_t i = 0; i < j.n; i++)
            longest = a->rows[j.first + i].position > longest ? a->rows[j.first + i].position : longest;
        if (longest < a->n_chosen)
            continue;
        assert(longest < positions);
        j.pages = longest / KV_PAGE_TOKENS + 1;
        j.scored = (struct tiles){.total = (size_t)j.n * j.pages, .tile = 1};
        j.picked = (struct tiles){.total = j.n, .tile = 1};
        pool_run(j.c->pool, score_part, &j);
        pool_run(j.c->pool, pick_part, &j);
    }
}
