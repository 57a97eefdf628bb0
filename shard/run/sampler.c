/* sampler: logits -> token, without sorting a vocabulary.
 *
 * A row is copied only when a bias or a penalty changes it.  Then candidates
 * are taken: with top_k, the k largest by a heap; with top_p alone, those of the
 * bins above the one where the share is reached, and that bin sorted.  The draw
 * walks them; where neither cuts, it walks all ids.
 *
 * Values that are not finite count as minus infinity and never become
 * candidates; ids >= n_usable do not exist here.                             */
#include "shard/run/sampler.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"

enum { BINS = 4096, BINS_SPAN = 32, LANES = 16, BLOCK = 1024, HISTORY_FIRST = 256 };

struct said { /* a token of the history */
    uint32_t position;
    int32_t token;
    bool generated;
};

struct candidate {
    float logit;
    int32_t token;
    float weight;
};

struct sampler {
    struct sampler_params p;
    struct logit_bias *bias;
    uint32_t n_vocab, n_usable;
    bool remembers;         /* some penalty needs the history */
    struct said *history;   /* positions ascend */
    size_t n_history, history_max;
    uint32_t *generated;    /* [n_usable]: how often each token was; NULL without presence and frequency */
    uint8_t *seen;          /* [n_usable / 8]: penalised already; all zero between calls */
    float *changed;         /* [n_usable]: logits after bias and penalties; NULL until something changes them */
    const uint8_t *allowed; /* of the next sample; NULL: all */
    struct candidate *candidates; /* [candidates_max], NULL when neither top_k nor top_p cuts */
    double *sums;           /* of weights: [BINS] for top_p, [n_usable / BLOCK + 1] for a draw among all */
};

/* ---- parameters ---- */

void sampler_defaults(struct sampler_params *p)
{
    *p = (struct sampler_params){.temperature = 0.8F, .top_k = 40, .top_p = 0.95F, .min_p = 0.05F,
                                 .repetition_penalty = 1, .repetition_window = 64, .top_logprobs = -1};
}

static int check_real(const char *name, float v, float low, float high, struct error *e)
{
    if (v >= low && v <= high)
        return 0;
    return error_set(e, ERR_INVALID, "%s is %g; %g to %g can be", name, (double)v, (double)low, (double)high);
}

static int check_bias(const struct sampler_params *p, uint32_t n_vocab, struct error *e)
{
    if (p->n_bias > SAMPLER_BIAS_MAX)
        return error_set(e, ERR_INVALID, "logit_bias names %zu tokens; at most %d can be", p->n_bias, SAMPLER_BIAS_MAX);
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token < 0 || (uint32_t)p->bias[i].token >= n_vocab)
            return error_set(e, ERR_INVALID, "logit_bias names token %d, and the model has %u", p->bias[i].token,
                             n_vocab);
        if (isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY) /* minus infinity forbids the token */
            return error_set(e, ERR_INVALID, "logit_bias of token %d is not a number", p->bias[i].token);
    }
    return 0;
}

int sampler_check(const struct sampler_params *p, uint32_t n_vocab, struct error *e)
{
    const struct {
        const char *name;
        float v, low, high;
    } reals[] = {
        {"temperature", p->temperature, 0, 100},
        {"top_p", p->top_p, 0, 1},
        {"min_p", p->min_p, 0, 1},
        {"repetition_penalty", p->repetition_penalty, 0.01F, 100},
        {"presence_penalty", p->presence_penalty, -100, 100},
        {"frequency_penalty", p->frequency_penalty, -100, 100},
    };
    for (size_t i = 0; i < COUNTOF(reals); i++) {
        int r = check_real(reals[i].name, reals[i].v, reals[i].low, reals[i].high, e);
        if (r != 0)
            return r;
    }
    if (p->top_k < 0)
        return error_set(e, ERR_INVALID, "top_k is %d; 0 (off) or more can be", p->top_k);
    if (p->repetition_window < -1)
        return error_set(e, ERR_INVALID, "repetition_window is %d; -1 (all) or more can be", p->repetition_window);
    if (p->top_logprobs < -1 || p->top_logprobs > SAMPLER_TOP_LOGPROBS_MAX)
        return error_set(e, ERR_INVALID, "top_logprobs is %d; -1 (none) to %d can be", p->top_logprobs,
                         SAMPLER_TOP_LOGPROBS_MAX);
    return check_bias(p, n_vocab, e);
}

static size_t candidates_max(const struct sampler *s)
{
    return s->p.top_k > 0 && (uint32_t)s->p.top_k < s->n_usable ? (size_t)s->p.top_k : s->n_usable;
}

int sampler_create(struct sampler **out, const struct sampler_params *p, uint32_t n_vocab, uint32_t n_usable,
                   struct error *e)
{
    *out = NULL;
    int r = sampler_check(p, n_vocab, e);
    if (r == 0 && (n_usable == 0 || n_usable > n_vocab))
        r = error_set(e, ERR_INVALID, "%u usable tokens of %u", n_usable, n_vocab);
    if (r != 0)
        return r;
    struct sampler *s = mem_alloc(sizeof(*s));
    s->p = *p;
    s->n_vocab = n_vocab;
    s->n_usable = n_usable;
    s->bias = mem_array(p->n_bias, sizeof(*s->bias));
    if (p->n_bias > 0)
        memcpy(s->bias, p->bias, p->n_bias * sizeof(*s->bias));
    s->p.bias = s->bias;
    bool repetition = p->repetition_penalty != 1 && p->repetition_window != 0;
    bool draws = p->temperature > 0;
    bool counts = p->presence_penalty != 0 || p->frequency_penalty != 0;
    s->remembers = repetition || counts;
    if (s->remembers)
        s->seen = mem_array(n_usable / 8 + 1, 1);
    if (counts)
        s->generated = mem_array(n_usable, sizeof(*s->generated));
    if (s->remembers || p->n_bias > 0)
        s->changed = mem_array(n_usable, sizeof(*s->changed));
    if (draws && (p->top_k > 0 || p->top_p < 1))
        s->candidates = mem_array(candidates_max(s), sizeof(*s->candidates));
    if (draws && p->top_k == 0)
        s->sums = mem_array(p->top_p < 1 ? BINS : n_usable / BLOCK + 1, sizeof(*s->sums));
    *out = s;
    return 0;
}

void sampler_destroy(struct sampler **sampler_p)
{
    struct sampler *s = *sampler_p;
    if (!s)
        return;
    mem_free(s->bias);
    mem_free(s->history);
    mem_free(s->generated);
    mem_free(s->seen);
    mem_free(s->changed);
    mem_free(s->candidates);
    mem_free(s->sums);
    mem_free(s);
    *sampler_p = NULL;
}

/* ---- history ---- */

void sampler_accept(struct sampler *s, uint32_t position, int32_t token, bool generated)
{
    if (!s->remembers)
        return;
    while (s->n_history > 0 && s->history[s->n_history - 1].position >= position) {
        const struct said *last = &s->history[--s->n_history];
        if (s->generated && last->generated)
            s->generated[last->token]--;
    }
    if (token < 0 || (uint32_t)token >= s->n_usable) /* can never be sampled: nothing to penalise */
        token = -1;
    if (s->n_history == s->history_max) {
        s->history_max = s->history_max ? s->history_max * 2 : HISTORY_FIRST;
        s->history = mem_resize(s->history, s->history_max, sizeof(*s->history));
    }
    generated = generated && token >= 0;
    s->history[s->n_history++] = (struct said){position, token, generated};
    if (s->generated && generated)
        s->generated[token]++;
}

/* ---- bias and penalties ---- */

/* True the first time that it is asked of a token. */
static bool mark(uint8_t *seen, int32_t token)
{
    uint8_t bit = (uint8_t)(1u << (token & 7));
    bool fresh = !(seen[token >> 3] & bit);
    seen[token >> 3] |= bit;
    return fresh;
}

static void unmark(struct sampler *s, size_t first)
{
    for (size_t i = first; i < s->n_history; i++)
        if (s->history[i].token >= 0)
            s->seen[s->history[i].token >> 3] = 0;
}

/* A logit above 0 is divided, one below is multiplied, once for every token in the window. */
static void penalise_repetition(struct sampler *s)
{
    float penalty = s->p.repetition_penalty;
    size_t window = s->p.repetition_window < 0 ? s->n_history : (size_t)s->p.repetition_window;
    size_t first = window < s->n_history ? s->n_history - window : 0;
    for (size_t i = first; penalty != 1 && i < s->n_history; i++) {
        int32_t t = s->history[i].token;
        if (t >= 0 && mark(s->seen, t))
            s->changed[t] = s->changed[t] > 0 ? s->changed[t] / penalty : s->changed[t] * penalty;
    }
    unmark(s, first);
}

static void penalise_use(struct sampler *s)
{
    for (size_t i = 0; i < s->n_history; i++) {
        int32_t t = s->history[i].token;
        if (s->history[i].generated && mark(s->seen, t))
            s->changed[t] -= s->p.frequency_penalty * (float)s->generated[t] + s->p.presence_penalty;
    }
    unmark(s, 0);
}

void sampler_allow(struct sampler *s, const uint8_t *allowed)
{
    s->allowed = allowed;
    if (allowed && !s->changed)
        s->changed = mem_array(s->n_usable, sizeof(*s->changed));
}

static void forbid_others(struct sampler *s)
{
    for (uint32_t i = 0; s->allowed && i < s->n_usable; i++)
        if (!(s->allowed[i >> 3] >> (i & 7) & 1))
            s->changed[i] = -INFINITY;
    s->allowed = NULL;
}

/* The logits that are sampled from: the model's own, or a changed copy. */
static const float *adjust(struct sampler *s, const float *logits)
{
    if (!s->changed)
        return logits;
    memcpy(s->changed, logits, s->n_usable * sizeof(float));
    for (size_t i = 0; i < s->p.n_bias; i++)
        if ((uint32_t)s->bias[i].token < s->n_usable)
            s->changed[s->bias[i].token] += s->bias[i].bias;
    if (s->remembers)
        penalise_repetition(s);
    if (s->generated)
        penalise_use(s);
    forbid_others(s);
    return s->changed;
}

/* ---- the largest ---- */

/* The largest finite value, -INFINITY when there is none.  A NaN loses every comparison; lanes let it be vectors. */
static float largest(const float *x, size_t n)
{
    float lane[LANES], best = -INFINITY;
    size_t whole = n / LANES * LANES;
    for (size_t j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    for (size_t i = 0; i < whole; i += LANES)
        for (size_t j = 0; j < LANES; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (size_t j = 0; j < LANES; j++)
        best = lane[j] > best ? lane[j] : best;
    for (size_t i = whole; i < n; i++)
        best = x[i] > best ? x[i] : best;
    if (best < INFINITY)
        return best;
    best = -INFINITY; /* an overflow somewhere: look again, without it */
    for (size_t i = 0; i < n; i++)
        best = isfinite(x[i]) && x[i] > best ? x[i] : best;
    return best;
}

static int32_t first_of(const float *x, float value)
{
    int32_t i = 0;
    while (x[i] != value)
        i++;
    return i;
}

/* Does a come before b: the larger logit, then the lower id. */
static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->token < b->token;
}

/* heap[0] is the one that all others come before. */
static void sift(struct candidate *heap, size_t n, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && before(&heap[child], &heap[child + 1]))
            child++;
        if (!before(&heap[at], &heap[child]))
            return;
        struct candidate c = heap[at];
        heap[at] = heap[child];
        heap[child] = c;
        at = child;
    }
}

static void make_heap(struct candidate *c, size_t n)
{
    for (size_t at = n / 2; at-- > 0;)
        sift(c, n, at);
}

/* The one that all others come before goes to the end, again and again. */
static void sort_heap(struct candidate *heap, size_t n)
{
    for (size_t end = n; end > 1; end--) {
        struct candidate c = heap[0];
        heap[0] = heap[end - 1];
        heap[end - 1] = c;
        sift(heap, end - 1, 0);
    }
}

static void sort(struct candidate *c, size_t n)
{
    make_heap(c, n);
    sort_heap(c, n);
}

/* The k first of x's finite values in order, or as many as there are; returns how many. */
static size_t select_top(const float *x, uint32_t n, size_t k, struct candidate *out)
{
    size_t have = 0;
    uint32_t i = 0;
    for (; i < n && have < k; i++)
        if (isfinite(x[i]))
            out[have++] = (struct candidate){.logit = x[i], .token = (int32_t)i};
    make_heap(out, have);
    for (; i < n; i++) {
        if (x[i] > out[0].logit && x[i] < INFINITY) {
            out[0] = (struct candidate){.logit = x[i], .token = (int32_t)i};
            sift(out, have, 0);
        }
    }
    sort_heap(out, have);
    return have;
}

/* ---- candidates ---- */

/* Its weight against the most likely token, which weighs 1. */
static float weight(const struct sampler *s, float logit, float max)
{
    return expf((logit - max) / s->p.temperature);
}

static size_t take_top_k(struct sampler *s, const float *x, float max)
{
    size_t n = select_top(x, s->n_usable, candidates_max(s), s->candidates), kept = 0;
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) {
        s->candidates[i].weight = weight(s, s->candidates[i].logit, max);
        total += (double)s->candidates[i].weight;
    }
    while (kept < n && (kept == 0 || sum < (double)s->p.top_p * total))
        sum += (double)s->candidates[kept++].weight;
    return s->p.top_p < 1 ? kept : n; /* at 1 none is lost, though the sum be a hair short */
}

/* Distances from the largest fall into bins of equal width; the last one takes all that is far. */
static uint32_t bin_of(const struct sampler *s, float logit, float max)
{
    float at = (max - logit) / s->p.temperature * ((float)BINS / BINS_SPAN);
    return at < BINS - 1 ? (uint32_t)at : BINS - 1;
}

/* The bin in which the sorted ids reach the share top_p; *before: what those of the bins before it weigh. */
static uint32_t find_bin(struct sampler *s, const float *x, float max, double *before, double *total)
{
    memset(s->sums, 0, BINS * sizeof(*s->sums));
    *total = *before = 0;
    for (uint32_t i = 0; i < s->n_usable; i++)
        if (isfinite(x[i]))
            s->sums[bin_of(s, x[i], max)] += (double)weight(s, x[i], max);
    for (uint32_t b = 0; b < BINS; b++)
        *total += s->sums[b];
    uint32_t bin = 0;
    while (bin < BINS - 1 && *before + s->sums[bin] < (double)s->p.top_p * *total)
        *before += s->sums[bin++];
    return bin;
}

/* All of the bins before the one where the share is reached, and of that one, sorted, as many as are needed. */
static size_t take_top_p(struct sampler *s, const float *x, float max)
{
    double sum, total;
    uint32_t bin = find_bin(s, x, max, &sum, &total);
    size_t n = 0, end = s->n_usable; /* taken ones from the front, those of the bin from the back */
    for (uint32_t i = 0; i < s->n_usable; i++) {
        uint32_t b = isfinite(x[i]) ? bin_of(s, x[i], max) : BINS;
        struct candidate c = {x[i], (int32_t)i, b <= bin ? weight(s, x[i], max) : 0};
        if (b < bin)
            s->candidates[n++] = c;
        else if (b == bin)
            s->candidates[--end] = c;
    }
    size_t in_bin = s->n_usable - end;
    sort(s->candidates + end, in_bin);
    for (size_t i = 0; i < in_bin && (n == 0 || sum < (double)s->p.top_p * total); i++) {
        sum += (double)s->candidates[end + i].weight;
        s->candidates[n++] = s->candidates[end + i];
    }
    return n;
}

/* ---- the draw ---- */

/* A number in [0, 1) that (seed, position) names. */
static double draw(const struct sampler *s, uint32_t position)
{
    struct random_state r;
    random_seed(&r, s->p.seed + 0xd1b54a32d192ed03u * ((uint64_t)position + 1));
    return random_unit(&r);
}

static int32_t draw_candidate(struct sampler *s, size_t n, uint32_t position)
{
    double total = 0, sum = 0;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->candidates[i].weight < s->p.min_p)
            continue;
        total += (double)s->candidates[i].weight;
        s->candidates[kept++] = s->candidates[i];
    }
    assert(kept > 0); /* the largest weighs 1 */
    double target = draw(s, position) * total;
    for (size_t i = 0; i < kept; i++) {
        sum += (double)s->candidates[i].weight;
        if (sum > target)
            return s->candidates[i].token;
    }
    return s->candidates[0].token; /* target was rounded up to the total */
}

/* What an id weighs where nothing but min_p cuts. */
static double weight_in_all(const struct sampler *s, const float *x, float max, uint32_t i)
{
    float w = isfinite(x[i]) ? weight(s, x[i], max) : 0;
    return w >= s->p.min_p ? (double)w : 0;
}

/* Among all ids, in their order: sums of blocks first, then the block that the draw fell into. */
static int32_t draw_any(struct sampler *s, const float *x, float max, uint32_t position)
{
    uint32_t n_blocks = (s->n_usable + BLOCK - 1) / BLOCK, block = 0;
    double total = 0, sum = 0;
    for (uint32_t b = 0; b < n_blocks; b++) {
        s->sums[b] = 0;
        for (uint32_t i = b * BLOCK; i < s->n_usable && i < (b + 1) * BLOCK; i++)
            s->sums[b] += weight_in_all(s, x, max, i);
        total += s->sums[b];
    }
    double target = draw(s, position) * total;
    while (block < n_blocks && sum + s->sums[block] <= target)
        sum += s->sums[block++];
    for (uint32_t i = block * BLOCK; i < s->n_usable; i++) {
        sum += weight_in_all(s, x, max, i);
        if (sum > target)
            return (int32_t)i;
    }
    return first_of(x, max); /* target was rounded up to the total */
}

static int32_t choose(struct sampler *s, const float *x, float max, uint32_t position)
{
    if (s->p.top_k == 0 && s->p.top_p >= 1)
        return draw_any(s, x, max, position);
    size_t n = s->p.top_k > 0 ? take_top_k(s, x, max) : take_top_p(s, x, max);
    return draw_candidate(s, n, position);
}

/* ---- log-probabilities ---- */

static double log_sum(const float *logits, uint32_t n, float max)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += isfinite(logits[i]) ? (double)expf(logits[i] - max) : 0;
    return max + log(sum);
}

static void report(const struct sampler *s, const float *logits, struct sample *out)
{
    struct candidate top[SAMPLER_TOP_LOGPROBS_MAX];
    float max = largest(logits, s->n_usable);
    double norm = log_sum(logits, s->n_usable, max);
    out->logprob = (float)(logits[out->token] - norm);
    if (s->p.top_logprobs == 0)
        return;
    out->n_top = (int32_t)select_top(logits, s->n_usable, (size_t)s->p.top_logprobs, top);
    for (int32_t i = 0; i < out->n_top; i++)
        out->top[i] = (struct token_logprob){top[i].token, (float)(top[i].logit - norm)};
}

int sampler_sample(struct sampler *s, const float *logits, uint32_t position, struct sample *out, struct error *e)
{
    *out = (struct sample){0};
    const float *x = adjust(s, logits);
    float max = largest(x, s->n_usable);
    if (max == -INFINITY)
        return error_set(e, ERR_INTERNAL, "the logits of position %u have no finite value", position);
    out->token = s->p.temperature > 0 ? choose(s, x, max, position) : first_of(x, max);
    if (s->p.top_logprobs >= 0)
        report(s, logits, out);
    return 0;
}
