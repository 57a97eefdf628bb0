/* bpe_merges: the pairs that may be merged, from a list or from scores.
 *
 * Where scores rule, the text of two adjacent symbols is a token or not; so each
 * way to cut a token in two symbols is a merge, and its rank is the place of the
 * token's score among all.  A character that is no token itself can still be a
 * part of one: it gets an id past those of the vocabulary.                     */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/bpe.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

/* What cutting all tokens everywhere may cost, in bytes that are looked at: real vocabularies take a hundredth. */
enum { CUTS_BYTES_MAX = 1 << 30 };

/* ---- pairs ---- */

static uint32_t pair_slot(const struct bpe *b, int32_t left, int32_t right)
{
    uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint64_t h = (pair ^ b->vocab->secret) * 0x9E3779B97F4A7C15;
    h = (h ^ h >> 32 ^ b->vocab->secret) * 0xD6E8FEB86659FD93;
    uint32_t slot = (uint32_t)(h >> 32) & b->slot_mask;
    for (; b->slots[slot] != 0; slot = (slot + 1) & b->slot_mask) {
        const struct bpe_merge *m = &b->merges[b->slots[slot] - 1];
        if (m->left == left && m->right == right)
            break;
    }
    return slot;
}

int32_t bpe_merge_of(const struct bpe *b, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return -1;
    return (int32_t)b->slots[pair_slot(b, left, right)] - 1;
}

/* The first merge of a pair counts. */
static void index_merges(struct bpe *b, uint32_t n)
{
    uint32_t size = 16;
    while (size < n * 2)
        size *= 2;
    b->slots = mem_array(size, sizeof(*b->slots));
    b->slot_mask = size - 1;
    for (uint32_t i = 0; i < n; i++) {
        struct bpe_merge m = b->merges[i];
        uint32_t slot = pair_slot(b, m.left, m.right);
        if (b->slots[slot] != 0)
            continue;
        b->merges[b->n_merges++] = m;
        b->slots[slot] = b->n_merges;
    }
}

/* ---- characters ---- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

int32_t bpe_char(const struct bpe *b, const char *text, size_t len)
{
    if (len == 1)
        return b->single[(unsigned char)*text];
    int32_t id = vocab_find(b->vocab, text, len, true);
    if (id >= 0 || b->n_extra == 0)
        return id;
    uint32_t c = 0;
    memcpy(&c, text, len);
    const uint32_t *found = bsearch(&c, b->extra, b->n_extra, sizeof(c), by_value);
    return found ? (int32_t)(b->vocab->count + (uint32_t)(found - b->extra)) : -1;
}

/* Collect the characters of a token that are none themselves, each as often as it is met. */
static void collect_extra(struct bpe *b, const char *text, size_t len, uint32_t *cap)
{
    for (size_t at = 0, n; at < len; at += n) {
        uint32_t c = 0;
        n = utf8_char(text + at, len - at);
        if (vocab_find(b->vocab, text + at, n, true) >= 0)
            continue;
        if (b->n_extra == *cap) {
            *cap = *cap ? *cap * 2 : 64;
            b->extra = mem_resize(b->extra, *cap, sizeof(*b->extra));
        }
        memcpy(&c, text + at, n);
        b->extra[b->n_extra++] = c;
    }
}

static void find_extra(struct bpe *b)
{
    uint32_t cap = 0, n = 0;
    for (uint32_t id = 0; id < b->vocab->count; id++) {
        size_t len;
        const char *text = vocab_text(b->vocab, id, &len);
        if (b->vocab->flags[id] & VOCAB_PLAIN)
            collect_extra(b, text, len, &cap);
    }
    if (b->n_extra > 0)
        qsort(b->extra, b->n_extra, sizeof(*b->extra), by_value);
    for (uint32_t i = 0; i < b->n_extra; i++)
        if (n == 0 || b->extra[i] != b->extra[n - 1])
            b->extra[n++] = b->extra[i];
    b->n_extra = n;
    for (uint32_t i = 0; i < n; i++)
        if (b->extra[i] < 256)
            b->single[b->extra[i]] = (int32_t)(b->vocab->count + i);
}

/* ---- from scores ---- */

struct scored {
    uint32_t key; /* the higher the score, the lower */
    uint32_t id;
};

static int by_key(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* The bits of a float in an order in which all of them, whatever they are, can be sorted. */
static uint32_t key_of(float score)
{
    uint32_t bits;
    score += 0.0f; /* there are two zeros */
    memcpy(&bits, &score, 4);
    return bits >> 31 ? bits : ~bits & 0x7FFFFFFF;
}

/* The tokens of more than one character by score; *n of them. */
static struct scored *sort_tokens(const struct bpe *b, const struct source *s, uint32_t *n)
{
    struct scored *list = mem_array(b->vocab->count, sizeof(*list));
    *n = 0;
    for (uint32_t id = 0; id < b->vocab->count; id++) {
        size_t len;
        const char *text = vocab_text(b->vocab, id, &len);
        /* Of equal texts the first is the token. */
        if ((b->vocab->flags[id] & VOCAB_PLAIN) && vocab_find(b->vocab, text, len, true) == (int32_t)id)
            list[(*n)++] = (struct scored){key_of(s->tokens[id].score), id};
    }
    if (*n > 0)
        qsort(list, *n, sizeof(*list), by_key);
    return list;
}

/* The symbol that these bytes are: a token or a single character. */
static int32_t symbol_of(const struct bpe *b, const char *text, size_t len)
{
    return utf8_char(text, len) == len ? bpe_char(b, text, len) : vocab_find(b->vocab, text, len, true);
}

struct merge_list {
    struct bpe_merge *list;
    uint32_t count, cap;
};

static void cut_token(const struct bpe *b, uint32_t id, uint32_t rank, struct merge_list *out)
{
    size_t len;
    const char *text = vocab_text(b->vocab, id, &len);
    for (size_t at = len ? utf8_char(text, len) : 0; at < len; at += utf8_char(text + at, len - at)) {
        int32_t left = symbol_of(b, text, at), right = symbol_of(b, text + at, len - at);
        if (left < 0 || right < 0)
            continue;
        if (out->count == out->cap) {
            out->cap = out->cap ? out->cap * 2 : 1024;
            out->list = mem_resize(out->list, out->cap, sizeof(*out->list));
        }
        out->list[out->count++] = (struct bpe_merge){left, right, (int32_t)id, rank};
    }
}

static int check_cuts(const struct vocab *v, const struct source *s, struct error *e)
{
    uint64_t cost = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        size_t len;
        (void)vocab_text(v, id, &len);
        cost += (uint64_t)len * len;
    }
    if (cost > CUTS_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "%s: the tokens are too long to be merged by their scores", s->where);
    return 0;
}

static int merges_of_scores(struct bpe *b, const struct source *s, struct error *e)
{
    uint32_t n, rank = 0;
    struct merge_list out = {0};
    int status = check_cuts(b->vocab, s, e);
    if (status != 0)
        return status;
    find_extra(b);
    struct scored *list = sort_tokens(b, s, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0 && list[i].key != list[i - 1].key)
            rank = i;
        cut_token(b, list[i].id, rank, &out);
    }
    mem_free(list);
    b->merges = out.list;
    index_merges(b, out.count);
    return 0;
}

/* ---- from a list ---- */

/* False when one of the three is no ordinary token. */
static bool resolve(const struct vocab *v, struct source_merge s, struct bpe_merge *m)
{
    char bytes[2 * TOKENIZER_TOKEN_MAX];
    size_t n_left, n_right;
    if (s.left.len + s.right.len > sizeof(bytes) || !vocab_unspell(v, s.left.text, s.left.len, bytes, &n_left) ||
        !vocab_unspell(v, s.right.text, s.right.len, bytes + n_left, &n_right) || n_left == 0 || n_right == 0)
        return false;
    m->left = vocab_find(v, bytes, n_left, true);
    m->right = vocab_find(v, bytes + n_left, n_right, true);
    m->result = vocab_find(v, bytes, n_left + n_right, true);
    return m->left >= 0 && m->right >= 0 && m->result >= 0;
}

int bpe_merges_open(struct bpe *b, const struct source *s, struct error *e)
{
    if (s->by_score)
        return merges_of_scores(b, s, e);
    uint32_t n = 0;
    b->merges = mem_array(s->n_merges, sizeof(*b->merges));
    for (uint32_t i = 0; i < s->n_merges; i++) {
        struct bpe_merge m = {.rank = i};
        if (resolve(b->vocab, s->merges[i], &m))
            b->merges[n++] = m;
    }
    index_merges(b, n);
    return 0;
}

void bpe_merges_close(struct bpe *b)
{
    mem_free(b->merges);
    mem_free(b->slots);
    mem_free(b->extra);
}
