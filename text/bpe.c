/* bpe: a heap over a linked list, so that n bytes take n log n steps whatever they are.
 *
 * A heap entry is (rank, position of the left symbol) in one number, so that the
 * smallest is the lowest rank and, among equals, the leftmost.  Entries are not
 * removed when a neighbour changes: an entry counts only if the pair that stands
 * at its position now has its rank.  Invariant: every adjacent pair that has a
 * rank has an entry, and its left symbol knows the merge.                      */
#include "text/bpe.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"
#include "text/utf8.h"

enum { NO_SYMBOL = UINT32_MAX };

struct bpe_symbol {
    int32_t id;          /* -1: merged into its left neighbour, or a byte without a token */
    int32_t merge;       /* of it and the next one, -1: none */
    uint32_t prev, next; /* NO_SYMBOL at the ends */
};

/* ---- opening ---- */

int bpe_open(struct bpe *b, const struct vocab *v, const struct source *s, struct error *e)
{
    memset(b, 0, sizeof(*b));
    b->vocab = v;
    b->whole_first = s->whole_first;
    b->chars = s->kind == SOURCE_CHARS;
    b->unknown = s->unknown;
    b->fuse_unknown = s->fuse_unknown;
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        b->single[c] = vocab_find(v, &byte, 1, true);
    }
    if (b->chars)
        joints_open(&b->joints, v);
    return bpe_merges_open(b, s, e);
}

void bpe_close(struct bpe *b)
{
    bpe_merges_close(b);
    joints_close(&b->joints);
    memset(b, 0, sizeof(*b));
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

static void heap_push(struct work *w, uint64_t item)
{
    assert(w->heap_count < w->heap_cap);
    size_t at = w->heap_count++;
    while (at > 0 && w->heap[(at - 1) / 2] > item) {
        w->heap[at] = w->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    w->heap[at] = item;
}

static uint64_t heap_pop(struct work *w)
{
    uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->heap_count];
    if (w->heap_count > 0)
        sift_down(w->heap, w->heap_count, 0);
    return top;
}

/* ---- merging ---- */

static void reserve(struct work *w, size_t len)
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

/* Find the merge of the pair that begins at `left`, and give it an entry. */
static bool find_pair(const struct bpe *b, struct bpe_symbol *s, uint32_t left, uint64_t *entry)
{
    uint32_t right = s[left].next;
    s[left].merge = right == NO_SYMBOL ? -1 : bpe_merge_of(b, s[left].id, s[right].id);
    if (s[left].merge < 0)
        return false;
    *entry = (uint64_t)b->merges[s[left].merge].rank << 32 | left;
    return true;
}

static void push_pair(const struct bpe *b, struct work *w, uint32_t left)
{
    uint64_t entry;
    if (find_pair(b, w->symbols, left, &entry))
        heap_push(w, entry);
}

/* Link n symbols, and make the heap of their pairs (in linear time). */
static void link_symbols(const struct bpe *b, struct work *w, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        w->symbols[i].prev = i == 0 ? NO_SYMBOL : (uint32_t)i - 1;
        w->symbols[i].next = i + 1 == n ? NO_SYMBOL : (uint32_t)i + 1;
    }
    w->heap_count = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t entry;
        if (find_pair(b, w->symbols, (uint32_t)i, &entry))
            w->heap[w->heap_count++] = entry;
    }
    for (size_t at = w->heap_count / 2; at-- > 0;)
        sift_down(w->heap, w->heap_count, at);
}

static void merge_all(const struct bpe *b, struct work *w)
{
    struct bpe_symbol *s = w->symbols;
    while (w->heap_count > 0) {
        uint64_t entry = heap_pop(w);
        uint32_t left = (uint32_t)entry;
        if (s[left].merge < 0 || b->merges[s[left].merge].rank != entry >> 32)
            continue;
        uint32_t right = s[left].next;
        s[left].id = b->merges[s[left].merge].result;
        s[left].next = s[right].next;
        if (s[right].next != NO_SYMBOL)
            s[s[right].next].prev = left;
        s[right].id = s[right].merge = -1;
        push_pair(b, w, left);
        if (s[left].prev != NO_SYMBOL)
            push_pair(b, w, s[left].prev);
    }
}

/* ---- pieces ---- */

static bool take_whole(const struct bpe *b, struct work *w, const char *piece, size_t len)
{
    int32_t id = b->whole_first ? vocab_find(b->vocab, piece, len, true) : -1;
    if (id >= 0)
        work_emit(w, id);
    return id >= 0;
}

static void merge_bytes(const struct bpe *b, struct work *w, const char *piece, size_t len)
{
    reserve(w, len);
    for (size_t i = 0; i < len; i++)
        w->symbols[i].id = b->single[(unsigned char)piece[i]];
    link_symbols(b, w, len);
    merge_all(b, w);
    for (uint32_t i = 0; i != NO_SYMBOL; i = w->symbols[i].next)
        if (w->symbols[i].id >= 0)
            work_emit(w, w->symbols[i].id);
}

static void encode_bytes(const void *model, struct work *w, const char *piece, size_t len)
{
    const struct bpe *b = model;
    if (take_whole(b, w, piece, len))
        return;
    for (size_t at = 0; at < len; at += WORK_PIECE_MAX)
        merge_bytes(b, w, piece + at, len - at < WORK_PIECE_MAX ? len - at : WORK_PIECE_MAX);
}

/* A symbol without a token is still the one character that stands at *at. */
static void emit_symbol(const struct bpe *b, struct work *w, int32_t id, const char *piece, size_t len, size_t *at)
{
    size_t n;
    if (id >= 0 && (uint32_t)id < b->vocab->count) {
        work_emit(w, id);
        (void)vocab_text(b->vocab, (uint32_t)id, &n);
    } else {
        n = utf8_char(piece + *at, len - *at);
        work_emit_bytes(w, b->vocab, piece + *at, n, b->unknown, b->fuse_unknown);
    }
    *at += n;
}

static void encode_chars(const void *model, struct work *w, const char *piece, size_t len)
{
    const struct bpe *b = model;
    size_t count = 0, at = 0;
    reserve(w, len);
    for (size_t i = 0, n; i < len; i += n) {
        n = utf8_char(piece + i, len - i);
        w->symbols[count++].id = bpe_char(b, piece + i, n);
    }
    link_symbols(b, w, count);
    merge_all(b, w);
    for (uint32_t i = 0; i != NO_SYMBOL; i = w->symbols[i].next)
        emit_symbol(b, w, w->symbols[i].id, piece, len, &at);
}

void bpe_encode(const struct bpe *b, struct work *w, const char *piece, size_t len)
{
    if (len == 1 && b->single[(unsigned char)*piece] >= 0 && !b->chars) {
        work_emit(w, b->single[(unsigned char)*piece]);
    } else if (!b->chars) {
        if (len > 0)
            work_piece(w, encode_bytes, b, piece, len);
    } else if (!take_whole(b, w, piece, len)) {
        for (size_t n; len > 0; piece += n, len -= n) {
            n = joints_cut(&b->joints, piece, len);
            work_piece(w, encode_chars, b, piece, n);
        }
    }
}
