/* rest: the cheapest way from every node to the end of its rule, in tokens.
 *
 * Each node knows ways on: a node that reads bytes by tokens that it and the
 * nodes behind it spell, a split by its targets, a call by its rule and what
 * follows.  The cost of a way is never less than that of any node on it, so the
 * nodes are settled from the cheapest on (Knuth's generalisation of Dijkstra's
 * algorithm).  A token that reaches into another rule is not looked for: the
 * costs are such as can be kept to, not the least that there are.            */
#include "text/grammar/rest.h"

#include <string.h>

#include "base/memory.h"

enum {
    WAYS_MAX = 1 << 20,      /* by tokens of several bytes, of all nodes together */
    LOOK_STEPS_MAX = 512,    /* for the tokens of one node */
    LOOK_DEPTH_MAX = 48,     /* bytes and splits */
    LOOK_WORK_MAX = 1 << 24, /* steps for all nodes */
    COST_MAX = NODES_REST_UNKNOWN / 4,
};

/* Node `from` costs no more than node `to` and one token; token -1: it is no node of bytes. */
struct way {
    uint32_t from, to;
    int32_t token;
};

struct entry {
    uint32_t cost, node;
    int32_t token;
};

struct measure {
    struct nodes *nodes;
    const struct token_trie *trie;
    uint32_t roots[2][256]; /* trie nodes + 1 of a first byte in either tree; 0: none */
    struct way *ways;
    uint32_t n_ways, room_ways;
    uint32_t steps;          /* of one look */
    uint64_t work;
    uint32_t *first;         /* [n_nodes + 1]: ways to a node, in `order` */
    uint32_t *order;
    uint32_t *lacking;       /* costs that a call or a loop waits for */
    struct entry *heap;
    uint32_t n_heap, room_heap;
};

static void add_way(struct measure *m, uint32_t from, uint32_t to, int32_t token)
{
    if (m->n_ways == m->room_ways) {
        m->room_ways = m->room_ways * 2 + 256;
        m->ways = mem_resize(m->ways, m->room_ways, sizeof(*m->ways));
    }
    m->ways[m->n_ways++] = (struct way){from, to, token};
}

/* ---- tokens that nodes spell ---- */

static void find_roots(struct measure *m)
{
    const struct token_trie *t = m->trie;
    for (uint32_t i = 0; i < t->n_nodes; i = t->nodes[i].next)
        m->roots[i >= t->n_ordinary_nodes][t->nodes[i].byte] = i + 1;
}

static bool ends_token(const struct token_trie *t, uint32_t i)
{
    return t->nodes[i + 1].first > t->nodes[i].first;
}

static int32_t token_of_byte(const struct measure *m, uint32_t byte)
{
    for (int tree = 0; tree < 2; tree++) {
        uint32_t root = m->roots[tree][byte];
        if (root != 0 && ends_token(m->trie, root - 1))
            return m->trie->ids[m->trie->nodes[root - 1].first];
    }
    return -1;
}

/* One byte of many; a letter or a digit if it can be. */
static void add_any(struct measure *m, uint32_t from)
{
    static const char likely[] = "a0A ";
    const struct node *n = &m->nodes->nodes[from];
    int32_t token = -1;
    for (size_t i = 0; i < sizeof(likely) - 1 && token < 0; i++)
        if (likely[i] >= n->low && likely[i] <= n->high)
            token = token_of_byte(m, (uint8_t)likely[i]);
    for (uint32_t b = n->low; b <= n->high && token < 0; b++)
        token = token_of_byte(m, b);
    if (token >= 0)
        add_way(m, from, n->next, token);
}

/* The child of trie node i, or with depth 0 the root of tree i, for a byte; 0: there is none. */
static uint32_t child(const struct measure *m, uint32_t i, uint32_t depth, uint8_t byte)
{
    const struct token_trie *t = m->trie;
    if (depth == 0)
        return m->roots[i][byte] == 0 ? UINT32_MAX : m->roots[i][byte] - 1;
    uint32_t k = i + 1;
    while (k < t->nodes[i].next && t->nodes[k].byte < byte)
        k = t->nodes[k].next;
    return k < t->nodes[i].next && t->nodes[k].byte == byte ? k : UINT32_MAX;
}

/* Tokens below trie node `at` that the graph spells from `node` on. */
static void look(struct measure *m, uint32_t from, uint32_t node, uint32_t at, uint32_t depth, uint32_t levels)
{
    const struct node *n = &m->nodes->nodes[node];
    if (++m->steps > LOOK_STEPS_MAX || levels > LOOK_DEPTH_MAX)
        return;
    for (uint32_t k = 0; n->kind == NODE_SPLIT && k < n->count; k++)
        look(m, from, m->nodes->targets[n->at + k], at, depth, levels + 1);
    if (n->kind != NODE_BYTES || n->low != n->high)
        return;
    uint32_t next = child(m, at, depth, n->low);
    if (next == UINT32_MAX)
        return;
    if (ends_token(m->trie, next) && (depth == 0 || m->n_ways < WAYS_MAX))
        add_way(m, from, n->next, m->trie->ids[m->trie->nodes[next].first]);
    if (m->trie->nodes[next].next > next + 1)
        look(m, from, n->next, next, depth + 1, levels + 1);
}

static void add_tokens(struct measure *m, uint32_t from)
{
    const struct node *n = &m->nodes->nodes[from];
    if (n->low != n->high || m->work > LOOK_WORK_MAX) {
        add_any(m, from);
        return;
    }
    m->steps = 0;
    for (uint32_t tree = 0; tree < 2; tree++)
        look(m, from, from, tree, 0, 0);
    m->work += m->steps;
}

static void add_ways(struct measure *m)
{
    struct nodes *o = m->nodes;
    for (uint32_t i = 0; i < o->n_nodes; i++) {
        const struct node *n = &o->nodes[i];
        bool never = n->kind == NODE_LOOP && o->bounds[n->count].min == 0; /* turns can be left out */
        m->lacking[i] = 1;
        if (n->kind == NODE_BYTES)
            add_tokens(m, i);
        for (uint32_t k = 0; n->kind == NODE_SPLIT && k < n->count; k++)
            add_way(m, i, o->targets[n->at + k], -1);
        if (n->kind != NODE_CALL && n->kind != NODE_LOOP)
            continue;
        add_way(m, i, n->next, -1);
        if (!never)
            add_way(m, i, n->kind == NODE_CALL ? o->entries[n->at] : n->at, -1);
        m->lacking[i] = never ? 1 : 2;
    }
}

/* Ways by where they lead to. */
static void sort_ways(struct measure *m)
{
    uint32_t n = m->nodes->n_nodes;
    m->first = mem_array((size_t)n + 2, sizeof(*m->first));
    m->order = mem_array((size_t)m->n_ways + 1, sizeof(*m->order));
    for (uint32_t i = 0; i < m->n_ways; i++)
        m->first[m->ways[i].to + 2]++;
    for (uint32_t i = 2; i <= n; i++)
        m->first[i + 1] += m->first[i];
    for (uint32_t i = 0; i < m->n_ways; i++)
        m->order[m->first[m->ways[i].to + 1]++] = i;
}

/* ---- the cheapest first ---- */

static void heap_push(struct measure *m, struct entry x)
{
    if (m->n_heap == m->room_heap) {
        m->room_heap = m->room_heap * 2 + 256;
        m->heap = mem_resize(m->heap, m->room_heap, sizeof(*m->heap));
    }
    uint32_t i = m->n_heap++;
    for (; i > 0 && m->heap[(i - 1) / 2].cost > x.cost; i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = x;
}

static struct entry heap_pop(struct measure *m)
{
    struct entry top = m->heap[0], last = m->heap[--m->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t k = 2 * i + 1;
        if (k + 1 < m->n_heap && m->heap[k + 1].cost < m->heap[k].cost)
            k++;
        if (k >= m->n_heap || m->heap[k].cost >= last.cost)
            break;
        m->heap[i] = m->heap[k];
        i = k;
    }
    m->heap[i] = last;
    return top;
}

/* What node i costs once all that it waits for is known. */
static uint32_t cost_of(const struct nodes *o, uint32_t i)
{
    const struct node *n = &o->nodes[i];
    uint64_t cost = o->rests[n->next];
    if (n->kind == NODE_CALL)
        cost += o->rests[o->entries[n->at]];
    else if (o->bounds[n->count].min > 0)
        cost += (uint64_t)o->rests[n->at] * o->bounds[n->count].min;
    return cost < COST_MAX ? (uint32_t)cost : COST_MAX;
}

static void settle(struct measure *m, struct entry x)
{
    struct nodes *o = m->nodes;
    o->rests[x.node] = x.cost;
    o->tokens[x.node] = x.token;
    for (uint32_t k = m->first[x.node]; k < m->first[x.node + 1]; k++) {
        const struct way *w = &m->ways[m->order[k]];
        uint8_t kind = o->nodes[w->from].kind;
        if (o->rests[w->from] != NODES_REST_UNKNOWN)
            continue;
        if (kind == NODE_BYTES)
            heap_push(m, (struct entry){x.cost < COST_MAX ? x.cost + 1 : COST_MAX, w->from, w->token});
        else if (kind == NODE_SPLIT)
            heap_push(m, (struct entry){x.cost, w->from, -1});
        else if (--m->lacking[w->from] == 0)
            heap_push(m, (struct entry){cost_of(o, w->from), w->from, -1});
    }
}

void rest_measure(struct nodes *n, const struct token_trie *t)
{
    struct measure *m = mem_alloc(sizeof(*m));
    m->nodes = n;
    m->trie = t;
    m->lacking = mem_array(n->n_nodes, sizeof(*m->lacking));
    n->rests = mem_array(n->n_nodes, sizeof(*n->rests));
    n->tokens = mem_array(n->n_nodes, sizeof(*n->tokens));
    memset(n->rests, 0xFF, n->n_nodes * sizeof(*n->rests));
    find_roots(m);
    add_ways(m);
    sort_ways(m);
    for (uint32_t i = 0; i < n->n_nodes; i++)
        if (n->nodes[i].kind == NODE_RETURN)
            heap_push(m, (struct entry){0, i, -1});
    while (m->n_heap > 0) {
        struct entry x = heap_pop(m);
        if (n->rests[x.node] == NODES_REST_UNKNOWN)
            settle(m, x);
    }
    mem_free(m->lacking);
    mem_free(m->ways);
    mem_free(m->first);
    mem_free(m->order);
    mem_free(m->heap);
    mem_free(m);
}
