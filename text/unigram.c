/* unigram: Viterbi's algorithm over a trie of the tokens.
 *
 * At every character the best row of tokens that ends there is known; each token
 * that begins there may make a better one for where it ends.  A character that
 * no token covers costs more than any of them.                               */
#include "text/unigram.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "text/utf8.h"

enum { CHILD_BITS = 28, UNKNOWN_PENALTY = 10 };

struct unigram_best {
    double score;  /* of the best row that ends here */
    uint32_t from; /* where its last token begins */
    int32_t id;    /* its last token, -1: an unknown character; NOT_REACHED */
};

enum { NOT_REACHED = -2 };

/* ---- the trie ---- */

static uint32_t edge_slot(const struct unigram *u, uint32_t node, unsigned char byte)
{
    uint64_t key = (uint64_t)node << 8 | byte;
    uint64_t h = (key ^ u->vocab->secret) * 0x9E3779B97F4A7C15;
    h = (h ^ h >> 32 ^ u->vocab->secret) * 0xD6E8FEB86659FD93;
    uint32_t slot = (uint32_t)(h >> 32) & u->edge_mask;
    while (u->edges[slot] != 0 && u->edges[slot] >> CHILD_BITS != key)
        slot = (slot + 1) & u->edge_mask;
    return slot;
}

/* 0: there is none. */
static uint32_t child_of(const struct unigram *u, uint32_t node, unsigned char byte)
{
    if (node == 0)
        return u->first[byte];
    return (uint32_t)(u->edges[edge_slot(u, node, byte)] & (((uint64_t)1 << CHILD_BITS) - 1));
}

static void add_token(struct unigram *u, uint32_t id, uint32_t *n_nodes)
{
    size_t len;
    const char *text = vocab_text(u->vocab, id, &len);
    uint32_t node = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t child = child_of(u, node, byte);
        if (child == 0) {
            child = (*n_nodes)++;
            if (node == 0)
                u->first[byte] = child;
            else
                u->edges[edge_slot(u, node, byte)] = ((uint64_t)node << 8 | byte) << CHILD_BITS | child;
            u->token[child] = -1;
        }
        node = child;
    }
    if (node != 0 && u->token[node] < 0)
        u->token[node] = (int32_t)id;
}

/* ---- opening ---- */

/* The bytes of the tokens that the trie holds, within bounds. */
static int measure(const struct unigram *u, const struct source *s, size_t *bytes, struct error *e)
{
    *bytes = 0;
    for (uint32_t id = 0; id < u->vocab->count; id++) {
        size_t len;
        (void)vocab_text(u->vocab, id, &len);
        if (!(u->vocab->flags[id] & VOCAB_PLAIN))
            continue;
        if (len > UNIGRAM_TOKEN_MAX)
            return error_set(e, ERR_LIMIT, "%s: token %u has %zu bytes; a Unigram vocabulary's can have %d", s->where,
                             id, len, UNIGRAM_TOKEN_MAX);
        *bytes += len;
    }
    if (*bytes > UNIGRAM_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "%s: the tokens have %zu bytes; those of a Unigram vocabulary can have %d",
                         s->where, *bytes, UNIGRAM_BYTES_MAX);
    return 0;
}

/* Scores that are no numbers would make any row as good as any other. */
static int read_scores(struct unigram *u, const struct source *s, struct error *e)
{
    float lowest = 0;
    u->scores = mem_array(s->n_tokens, sizeof(*u->scores));
    for (uint32_t id = 0; id < s->n_tokens; id++) {
        u->scores[id] = s->tokens[id].score;
        if (!isfinite(u->scores[id]))
            return error_set(e, ERR_CORRUPT, "%s: the score of token %u is not a number", s->where, id);
        if ((u->vocab->flags[id] & VOCAB_PLAIN) && u->scores[id] < lowest)
            lowest = u->scores[id];
    }
    u->unknown_score = (double)lowest - UNKNOWN_PENALTY;
    return 0;
}

static void build_trie(struct unigram *u, size_t bytes)
{
    uint32_t size = 16, n_nodes = 1;
    while (size < bytes * 2)
        size *= 2;
    u->edges = mem_array(size, sizeof(*u->edges));
    u->edge_mask = size - 1;
    u->token = mem_array(bytes + 1, sizeof(*u->token));
    u->token[0] = -1;
    for (uint32_t id = 0; id < u->vocab->count; id++)
        if (u->vocab->flags[id] & VOCAB_PLAIN)
            add_token(u, id, &n_nodes);
}

int unigram_open(struct unigram *u, const struct vocab *v, const struct source *s, struct error *e)
{
    size_t bytes = 0;
    memset(u, 0, sizeof(*u));
    u->vocab = v;
    u->unknown = s->unknown;
    int status = measure(u, s, &bytes, e);
    if (status == 0)
        status = read_scores(u, s, e);
    if (status != 0)
        return status;
    build_trie(u, bytes);
    joints_open(&u->joints, v);
    return 0;
}

void unigram_close(struct unigram *u)
{
    mem_free(u->scores);
    mem_free(u->edges);
    mem_free(u->token);
    joints_close(&u->joints);
    memset(u, 0, sizeof(*u));
}

/* ---- encoding ---- */

static void offer(struct unigram_best *b, size_t from, size_t to, int32_t id, double score)
{
    if (b[to].id == NOT_REACHED || score > b[to].score)
        b[to] = (struct unigram_best){score, (uint32_t)from, id};
}

/* All tokens that begin at `at`. */
static void extend(const struct unigram *u, struct unigram_best *b, const char *piece, size_t len, size_t at)
{
    size_t one = utf8_char(piece + at, len - at);
    bool covered = false;
    uint32_t node = 0;
    for (size_t i = at; i < len; i++) {
        node = child_of(u, node, (unsigned char)piece[i]);
        if (node == 0)
            break;
        int32_t id = u->token[node];
        if (id < 0)
            continue;
        offer(b, at, i + 1, id, b[at].score + (double)u->scores[id]);
        covered = covered || i + 1 == at + one;
    }
    if (!covered)
        offer(b, at, at + one, -1, b[at].score + u->unknown_score);
}

/* Turn the links of the best row around: `from` becomes where the next token ends. */
static void reverse(struct unigram_best *b, size_t len)
{
    uint32_t at = (uint32_t)len, next = at;
    int32_t next_id = -1;
    for (;;) {
        uint32_t from = b[at].from;
        int32_t id = b[at].id;
        b[at].from = next;
        b[at].id = next_id;
        if (at == 0)
            return;
        next = at;
        next_id = id;
        at = from;
    }
}

static void encode_part(const void *model, struct work *w, const char *piece, size_t len)
{
    const struct unigram *u = model;
    if (len + 1 > w->best_cap) {
        w->best_cap = len + 64;
        w->best = mem_resize(w->best, w->best_cap, sizeof(*w->best));
    }
    struct unigram_best *b = w->best;
    for (size_t i = 0; i <= len; i++)
        b[i].id = NOT_REACHED;
    b[0] = (struct unigram_best){0, 0, -1};
    for (size_t at = 0; at < len; at += utf8_char(piece + at, len - at))
        extend(u, b, piece, len, at);
    reverse(b, len);
    for (size_t at = 0; at < len; at = b[at].from) {
        if (b[at].id >= 0)
            work_emit(w, b[at].id);
        else
            work_emit_bytes(w, u->vocab, piece + at, b[at].from - at, u->unknown, true);
    }
}

void unigram_encode(const struct unigram *u, struct work *w, const char *piece, size_t len)
{
    for (size_t n; len > 0; piece += n, len -= n) {
        n = joints_cut(&u->joints, piece, len);
        work_piece(w, encode_part, u, piece, n);
    }
}
