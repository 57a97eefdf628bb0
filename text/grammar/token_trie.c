/* token_trie: sort the tokens, then one pass over neighbours makes the tree. */
#include "text/grammar/token_trie.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar/nodes.h"
#include "text/utf8.h"

/* Longer ones would pass what a state can say that it tolerates. */
enum { ORDINARY_MAX = 200 };

struct entry {
    const char *bytes;
    uint32_t len;
    int32_t id;
    bool ordinary;
};

static bool is_ordinary(const char *s, uint32_t len)
{
    if (len > ORDINARY_MAX)
        return false;
    for (uint32_t i = 0; i < len;) {
        int step = utf8_step(s + i, len - i);
        if (step <= 0 || !nodes_is_ordinary(utf8_read(s + i, (size_t)step)))
            return false;
        i += (uint32_t)step;
    }
    return true;
}

static int by_bytes(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->ordinary != y->ordinary)
        return x->ordinary ? -1 : 1;
    int c = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);
    if (c != 0)
        return c;
    return x->len != y->len ? (x->len < y->len ? -1 : 1) : x->id < y->id ? -1 : 1;
}

static struct entry *sorted(struct token_trie *t)
{
    struct entry *list = mem_array(t->n_tokens + 1, sizeof(*list));
    uint32_t n = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        uint32_t len = t->starts[id + 1] - t->starts[id];
        if (len == 0)
            continue;
        const char *bytes = t->bytes + t->starts[id];
        list[n++] = (struct entry){bytes, len, (int32_t)id, is_ordinary(bytes, len)};
    }
    if (n > 0)
        qsort(list, n, sizeof(*list), by_bytes);
    return list;
}

/* ---- the tree ---- */

static uint32_t shared(const struct entry *a, const struct entry *b)
{
    uint32_t n = a->len < b->len ? a->len : b->len, i = 0;
    while (a->ordinary == b->ordinary && i < n && a->bytes[i] == b->bytes[i])
        i++;
    return i;
}

static void add_nodes(struct token_trie *t, const struct entry *list)
{
    uint32_t open[TOKEN_TRIE_DEPTH_MAX + 1], depth = 0; /* open[d]: the node of depth d on the way to the last token */
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        uint32_t same = i > 0 ? shared(&list[i - 1], &list[i]) : 0;
        for (; depth > same; depth--)
            t->nodes[open[depth]].next = t->n_nodes;
        if (!list[i].ordinary && t->n_ordinary_nodes == UINT32_MAX) {
            t->n_ordinary_nodes = t->n_nodes;
            t->n_ordinary = i;
        }
        while (depth < list[i].len) {
            open[++depth] = t->n_nodes;
            t->nodes[t->n_nodes++] = (struct trie_node){.first = i, .byte = (uint8_t)list[i].bytes[depth - 1],
                                                        .depth = (uint8_t)depth};
        }
    }
    for (; depth > 0; depth--)
        t->nodes[open[depth]].next = t->n_nodes;
    t->nodes[t->n_nodes] = (struct trie_node){.first = t->n_tokens, .next = t->n_nodes};
}

/* How many characters follow the first n bytes; TOKEN_TRIE_MANY within a character or a token that is not ordinary. */
static uint32_t characters_after(const struct entry *x, uint32_t n)
{
    uint32_t characters = 0;
    if (!x->ordinary || ((unsigned char)x->bytes[n] & 0xC0) == 0x80)
        return TOKEN_TRIE_MANY;
    for (uint32_t i = n; i < x->len; i++)
        characters += ((unsigned char)x->bytes[i] & 0xC0) != 0x80;
    return characters < TOKEN_TRIE_MANY ? characters : TOKEN_TRIE_MANY;
}

static void measure(struct token_trie *t, const struct entry *list)
{
    for (uint32_t i = 0; i < t->n_nodes; i++) {
        struct trie_node *n = &t->nodes[i];
        uint32_t end = t->nodes[n->next].first;
        for (uint32_t k = n->first; k < end && n->below < TOKEN_TRIE_MANY; k++) {
            if (list[k].len == n->depth)
                continue;
            uint32_t below = characters_after(&list[k], n->depth);
            n->below = below > n->below ? (uint8_t)below : n->below;
        }
    }
    for (uint32_t k = 0; k < t->n_ordinary; k++) {
        uint32_t all = characters_after(&list[k], 0);
        t->ordinary_below = all > t->ordinary_below ? (uint8_t)all : t->ordinary_below;
    }
}

/* Children follow their parents, so from the end every node is done before it is asked for. */
static void fill_content(struct token_trie *t)
{
    t->content = mem_array(t->n_nodes + 1, sizeof(*t->content));
    for (uint32_t i = t->n_nodes; i-- > 0;)
        for (uint32_t k = i + 1; k < t->nodes[i].next; k = t->nodes[k].next)
            t->content[i] |= t->content[k] | (uint64_t)1 << nodes_bucket(t->nodes[k].byte);
}

static void fill_ids(struct token_trie *t, const struct entry *list)
{
    t->ids = mem_array(t->n_tokens + 1, sizeof(*t->ids));
    t->all = mem_array(token_trie_mask_bytes(t) + 1, 1);
    t->brief = mem_array(token_trie_mask_bytes(t) + 1, TOKEN_TRIE_BRIEF_MAX + 1);
    for (uint32_t i = 0; i < t->n_tokens; i++) {
        t->ids[i] = list[i].id;
        uint8_t bit = (uint8_t)(1u << (list[i].id & 7));
        t->all[list[i].id / 8] |= bit;
        uint32_t characters = characters_after(&list[i], 0); /* of others: more than these */
        for (uint32_t k = characters; k <= TOKEN_TRIE_BRIEF_MAX; k++)
            t->brief[k * token_trie_mask_bytes(t) + (size_t)list[i].id / 8] |= bit;
    }
}

struct token_trie *token_trie_from(const char *bytes, const uint32_t *starts, uint32_t n, const int32_t *ends,
                                   uint32_t n_ends)
{
    struct token_trie *t = mem_alloc(sizeof(*t));
    t->refs = 1;
    t->n_vocab = n;
    t->n_ends = n_ends;
    t->bytes = mem_array((size_t)starts[n] + 1, 1);
    memcpy(t->bytes, bytes, starts[n]);
    t->starts = mem_array((size_t)n + 1, sizeof(*t->starts));
    memcpy(t->starts, starts, ((size_t)n + 1) * sizeof(*starts));
    t->ends = mem_array((size_t)n_ends + 1, sizeof(*t->ends));
    if (n_ends > 0)
        memcpy(t->ends, ends, n_ends * sizeof(*ends));
    for (uint32_t id = 0; id < n; id++)
        t->n_tokens += starts[id + 1] > starts[id];
    struct entry *list = sorted(t);
    t->nodes = mem_array((size_t)starts[n] + 1, sizeof(*t->nodes));
    t->n_ordinary_nodes = UINT32_MAX;
    add_nodes(t, list);
    if (t->n_ordinary_nodes == UINT32_MAX) {
        t->n_ordinary_nodes = t->n_nodes;
        t->n_ordinary = t->n_tokens;
    }
    t->nodes = mem_resize(t->nodes, (size_t)t->n_nodes + 1, sizeof(*t->nodes));
    measure(t, list);
    fill_content(t);
    fill_ids(t, list);
    mem_free(list);
    return t;
}

struct token_trie *token_trie_create(const struct tokenizer *k, uint32_t n_max)
{
    return token_trie_create_marked(k, n_max, NULL);
}

struct token_trie *token_trie_create_marked(const struct tokenizer *k, uint32_t n_max, const bool *marks)
{
    uint32_t n = tokenizer_count(k) < n_max ? tokenizer_count(k) : n_max, n_ends = 0;
    uint32_t *starts = mem_array((size_t)n + 1, sizeof(*starts));
    int32_t *ends = mem_array((size_t)n + 1, sizeof(*ends));
    struct buffer all, one;
    buffer_init(&all, SIZE_MAX / 2);
    buffer_init(&one, TOKENIZER_TOKEN_MAX);
    for (uint32_t id = 0; id < n; id++) {
        buffer_clear(&one);
        if (tokenizer_is_end(k, (int32_t)id))
            ends[n_ends++] = (int32_t)id;
        else
            tokenizer_decode(k, (int32_t)id, marks && marks[id], &one);
        if (one.len <= TOKEN_TRIE_DEPTH_MAX)
            buffer_add(&all, buffer_text(&one), one.len);
        starts[id + 1] = (uint32_t)all.len;
    }
    struct token_trie *t = token_trie_from(buffer_text(&all), starts, n, ends, n_ends);
    buffer_close(&all);
    buffer_close(&one);
    mem_free(starts);
    mem_free(ends);
    return t;
}

/* The longest token of nodes [i, end) at the beginning of the text; 0: none. */
static uint32_t longest(const struct token_trie *t, uint32_t i, uint32_t end, const char *text, size_t len, int32_t *id)
{
    uint32_t best = 0;
    for (uint32_t depth = 0; i < end && depth < len;) {
        const struct trie_node *n = &t->nodes[i];
        if (n->byte != (uint8_t)text[depth]) {
            i = n->next;
            continue;
        }
        depth++;
        if (t->nodes[i + 1].first > n->first) {
            best = depth;
            *id = t->ids[n->first];
        }
        end = n->next;
        i++;
    }
    return best;
}

uint32_t token_trie_split(const struct token_trie *t, const char *text, size_t len, int32_t *ids, uint32_t max)
{
    uint32_t n = 0;
    while (len > 0 && n < max) {
        int32_t a = -1, b = -1;
        uint32_t plain = longest(t, 0, t->n_ordinary_nodes, text, len, &a);
        uint32_t other = longest(t, t->n_ordinary_nodes, t->n_nodes, text, len, &b);
        uint32_t best = plain > other ? plain : other;
        if (best == 0)
            break;
        ids[n++] = plain > other ? a : b;
        text += best;
        len -= best;
    }
    return n;
}

struct token_trie *token_trie_keep(struct token_trie *t)
{
    t->refs++;
    return t;
}

void token_trie_drop(struct token_trie **t_p)
{
    struct token_trie *t = *t_p;
    *t_p = NULL;
    if (!t || --t->refs > 0)
        return;
    mem_free(t->nodes);
    mem_free(t->content);
    mem_free(t->ids);
    mem_free(t->all);
    mem_free(t->brief);
    mem_free(t->ends);
    mem_free(t->bytes);
    mem_free(t->starts);
    mem_free(t);
}
