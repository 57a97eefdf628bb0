/* bpe: merging by a heap over a linked list, so that n bytes take n log n steps whatever they are.
 *
 * A heap entry is (rank, position of the left symbol) in one number, so that the
 * smallest is the lowest rank and, among equals, the leftmost.  Entries are not
 * removed when a neighbour changes: an entry counts only if the pair that stands
 * at its position now has its rank.  Invariant: every adjacent pair that has a
 * rank has an entry.  Short pieces come again and again: a direct-mapped cache of
 * bounded size keeps their ids for the length of one call.                     */
#include "text/bpe.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "text/tokenizer.h"

enum {
    NO_SYMBOL = UINT32_MAX,
    CACHED_BYTES_MAX = 30,
    CACHED_IDS_MAX = 8,
    CACHE_SLOTS_MAX = 1 << 13,
};

struct bpe_symbol {
    int32_t id;          /* -1: merged into its left neighbour, or a byte without a token */
    uint32_t prev, next; /* NO_SYMBOL at the ends */
};

struct bpe_cached {
    uint8_t len, count; /* len 0: empty */
    char bytes[CACHED_BYTES_MAX];
    int32_t ids[CACHED_IDS_MAX];
};

_Static_assert(sizeof(struct bpe_cached) == 64, "one cache line");

/* ---- merges ---- */

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

/* The rank of a pair, or -1. */
static int64_t rank_of(const struct bpe *b, int32_t left, int32_t right)
{
    if (left < 0 || right < 0)
        return -1;
    return (int64_t)b->slots[pair_slot(b, left, right)] - 1;
}

/* "left right" to three ids; false when one of the three is no plain token. */
static bool parse_merge(const struct vocab *v, struct gguf_string s, struct bpe_merge *m)
{
    char bytes[2 * TOKENIZER_TOKEN_MAX];
    size_t n_left, n_right;
    if (s.len < 3 || s.len > sizeof(bytes))
        return false;
    /* A left part may itself begin with a space, so the first character never separates. */
    const char *space = memchr(s.text + 1, ' ', s.len - 1);
    if (!space)
        return false;
    size_t left_len = (size_t)(space - s.text);
    if (!vocab_unmap(s.text, left_len, bytes, &n_left) ||
        !vocab_unmap(space + 1, s.len - left_len - 1, bytes + n_left, &n_right))
        return false;
    m->left = vocab_find(v, bytes, n_left, true);
    m->right = vocab_find(v, bytes + n_left, n_right, true);
    m->result = vocab_find(v, bytes, n_left + n_right, true);
    return n_left > 0 && n_right > 0 && m->left >= 0 && m->right >= 0 && m->result >= 0;
}

static int count_merges(const struct gguf *g, uint64_t *n, struct error *e)
{
    enum gguf_type type;
    if (!gguf_array(g, "tokenizer.ggml.merges", &type, n) || (type != GGUF_STRING && *n > 0))
        return error_set(e, ERR_CORRUPT, "%s: the tokenizer has no list of merges", gguf_path(g));
    if (*n > BPE_MERGES_MAX)
        return error_set(e, ERR_LIMIT, "%s: %llu merges; at most %d can be", gguf_path(g), (unsigned long long)*n,
                         BPE_MERGES_MAX);
    return 0;
}

int bpe_open(struct bpe *b, const struct vocab *v, const struct gguf *g, bool whole_first, struct error *e)
{
    uint64_t n;
    memset(b, 0, sizeof(*b));
    int status = count_merges(g, &n, e);
    if (status != 0)
        return status;
    b->vocab = v;
    b->whole_first = whole_first;
    b->merges = mem_array((size_t)n, sizeof(*b->merges));
    uint32_t size = 16;
    while (size < n * 2)
        size *= 2;
    b->slots = mem_array(size, sizeof(*b->slots));
    b->slot_mask = size - 1;
    for (uint64_t i = 0; i < n; i++) {
        struct gguf_string s;
        struct bpe_merge *m = &b->merges[b->n_merges];
        if (!gguf_array_string(g, "tokenizer.ggml.merges", i, &s) || !parse_merge(v, s, m))
            continue;
        uint32_t slot = pair_slot(b, m->left, m->right);
        if (b->slots[slot] == 0)
            b->slots[slot] = ++b->n_merges;
    }
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        b->bytes[c] = vocab_find(v, &byte, 1, true);
    }
    return 0;
}

void bpe_close(struct bpe *b)
{
    mem_free(b->merges);
    mem_free(b->slots);
    memset(b, 0, sizeof(*b));
}

/* ---- working memory ---- */

void bpe_work_init(struct bpe_work *w, size_t text_len)
{
    memset(w, 0, sizeof(*w));
    uint32_t size = 16;
    while (size < CACHE_SLOTS_MAX && size * 16 < text_len)
        size *= 2;
    w->cache = mem_array(size, sizeof(*w->cache));
    w->cache_mask = size - 1;
    w->cap = text_len / 3 + 16;
    w->ids = mem_array(w->cap, sizeof(*w->ids));
}

void bpe_work_close(struct bpe_work *w)
{
    mem_free(w->ids);
    mem_free(w->symbols);
    mem_free(w->heap);
    mem_free(w->cache);
    memset(w, 0, sizeof(*w));
}

void bpe_emit(struct bpe_work *w, int32_t id)
{
    if (w->count == w->cap) {
        w->cap = w->cap * 2;
        w->ids = mem_resize(w->ids, w->cap, sizeof(*w->ids));
    }
    w->ids[w->count++] = id;
}

/* ---- the heap ---- */

static void sift_down(uint64_t *heap, size_t count, size_t at)
{
    uint64_t item = heap[at];
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= count)
            break;
        if (child + 1 < count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= item)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
}

static void heap_push(struct bpe_work *w, uint64_t item)
{
    assert(w->heap_count < w->heap_cap);
    size_t at = w->heap_count++;
    while (at > 0 && w->heap[(at - 1) / 2] > item) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = item;
}

static uint64_t heap_pop(struct bpe_work *w)
{
    uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->heap_count];
    if (w->heap_count > 0)
        sift_down(w->heap, w->heap_count, 0);
    return top;
}

/* ---- merging ---- */

static void reserve(struct bpe_work *w, size_t len)
{
    if (len > w->symbols_cap) {
        size_t cap = len < 64 ? 64 : len;
        w->symbols = mem_resize(w->symbols, cap, sizeof(*w->symbols));
        w->symbols_cap = cap;
        /* len - 1 pairs at first; a merge takes one entry out and puts at most two in. */
        w->heap = mem_resize(w->heap, cap * 2, sizeof(*w->heap));
        w->heap_cap = cap * 2;
    }
}

static uint64_t entry_of(const struct bpe *b, const struct bpe_symbol *s, uint32_t left, bool *is_pair)
{
    uint32_t right = s[left].next;
    int64_t rank = right == NO_SYMBOL ? -1 : rank_of(b, s[left].id, s[right].id);
    *is_pair = rank >= 0;
    return (uint64_t)rank << 32 | left;
}

static void push_pair(const struct bpe *b, struct bpe_work *w, uint32_t left)
{
    bool is_pair;
    uint64_t entry = entry_of(b, w->symbols, left, &is_pair);
    if (is_pair)
        heap_push(w, entry);
}

/* Single bytes as symbols, and the heap of their pairs (built in linear time). */
static void start(const struct bpe *b, struct bpe_work *w, const char *piece, size_t len)
{
    reserve(w, len);
    for (size_t i = 0; i < len; i++)
        w->symbols[i] = (struct bpe_symbol){
            .id = b->bytes[(unsigned char)piece[i]],
            .prev = i == 0 ? NO_SYMBOL : (uint32_t)i - 1,
            .next = i + 1 == len ? NO_SYMBOL : (uint32_t)i + 1,
        };
    w->heap_count = 0;
    for (size_t i = 0; i + 1 < len; i++) {
        bool is_pair;
        uint64_t entry = entry_of(b, w->symbols, (uint32_t)i, &is_pair);
        if (is_pair)
            w->heap[w->heap_count++] = entry;
    }
    for (size_t at = w->heap_count / 2; at-- > 0;)
        sift_down(w->heap, w->heap_count, at);
}

static void merge_all(const struct bpe *b, struct bpe_work *w)
{
    struct bpe_symbol *s = w->symbols;
    while (w->heap_count > 0) {
        uint64_t entry = heap_pop(w);
        uint32_t left = (uint32_t)entry;
        const struct bpe_merge *m = &b->merges[entry >> 32];
        uint32_t right = s[left].next;
        if (right == NO_SYMBOL || s[left].id != m->left || s[right].id != m->right)
            continue;
        s[left].id = m->result;
        s[left].next = s[right].next;
        if (s[right].next != NO_SYMBOL)
            s[s[right].next].prev = left;
        s[right].id = -1;
        push_pair(b, w, left);
        if (s[left].prev != NO_SYMBOL)
            push_pair(b, w, s[left].prev);
    }
}

static void encode_piece(const struct bpe *b, struct bpe_work *w, const char *piece, size_t len)
{
    start(b, w, piece, len);
    merge_all(b, w);
    for (uint32_t i = 0; i != NO_SYMBOL; i = w->symbols[i].next)
        if (w->symbols[i].id >= 0)
            bpe_emit(w, w->symbols[i].id);
}

/* ---- pieces ---- */

static bool take_whole(const struct bpe *b, struct bpe_work *w, const char *piece, size_t len)
{
    int32_t id = b->whole_first ? vocab_find(b->vocab, piece, len, true) : -1;
    if (id >= 0)
        bpe_emit(w, id);
    return id >= 0;
}

static void encode_cached(const struct bpe *b, struct bpe_work *w, const char *piece, size_t len)
{
    uint64_t h = vocab_hash(b->vocab->secret, piece, len);
    struct bpe_cached *c = &w->cache[(uint32_t)(h >> 32) & w->cache_mask];
    if (c->len == len && memcmp(c->bytes, piece, len) == 0) {
        for (size_t i = 0; i < c->count; i++)
            bpe_emit(w, c->ids[i]);
        return;
    }
    size_t before = w->count;
    if (!take_whole(b, w, piece, len))
        encode_piece(b, w, piece, len);
    size_t n = w->count - before;
    if (n > CACHED_IDS_MAX)
        return;
    c->len = (uint8_t)len;
    c->count = (uint8_t)n;
    memcpy(c->bytes, piece, len);
    if (n)
        memcpy(c->ids, w->ids + before, n * sizeof(*c->ids));
}

void bpe_encode(const struct bpe *b, struct bpe_work *w, const char *piece, size_t len)
{
    if (len == 0)
        return;
    if (len == 1 && b->bytes[(unsigned char)*piece] >= 0) {
        bpe_emit(w, b->bytes[(unsigned char)*piece]);
    } else if (len <= CACHED_BYTES_MAX) {
        encode_cached(b, w, piece, len);
    } else if (!take_whole(b, w, piece, len)) {
        for (size_t at = 0; at < len; at += BPE_PIECE_MAX)
            encode_piece(b, w, piece + at, len - at < BPE_PIECE_MAX ? len - at : BPE_PIECE_MAX);
    }
}
