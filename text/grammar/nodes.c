/* nodes: expressions compiled from their end to their beginning, each with the node that follows it.
 *
 * Invariant: what cannot be productive has no node, so every walk that exists
 * can be finished.                                                           */
#include "text/grammar/nodes.h"

#include <string.h>

#include "base/memory.h"
#include "text/utf8.h"

static const struct char_range ordinary[] = {
    {' ', '!'}, {'#', '['}, {']', 0x7E}, {0x80, 0x2027}, {0x202A, 0xD7FF}, {0xE000, CODE_POINT_MAX}};

bool nodes_begins_ordinary(uint8_t low, uint8_t high)
{
    for (uint32_t b = low; b <= high; b++)
        if (b < 0x80 ? nodes_is_ordinary(b) : b >= 0xC2 && b <= 0xF4)
            return true;
    return false;
}

bool nodes_is_ordinary(uint32_t c)
{
    for (size_t i = 0; i < COUNTOF(ordinary); i++)
        if (c >= ordinary[i].first && c <= ordinary[i].last)
            return true;
    return false;
}

uint32_t nodes_bucket(uint8_t c)
{
    if (c >= '!' && c <= '/')
        return c - (uint32_t)'!'; /* 0..14 */
    if (c >= ':' && c <= '@')
        return 15 + c - (uint32_t)':'; /* 15..21 */
    if (c >= '[' && c <= '`')
        return 22 + c - (uint32_t)'['; /* 22..27 */
    if (c >= '{' && c <= '~')
        return 28 + c - (uint32_t)'{'; /* 28..31 */
    if (c >= 'A' && c <= 'Z')
        return c <= 'F' ? 32 : 33;
    if (c >= 'a' && c <= 'z')
        return c <= 'f' ? 34 : 35;
    if (c >= '0' && c <= '9')
        return 36 + c - (uint32_t)'0'; /* 36..45 */
    return c == ' ' ? 46 : c == '\n' ? 47 : c == '\t' ? 48 : c == '\r' ? 49 : NODES_BUCKET_OTHER;
}

struct compiler {
    struct nodes *out;
    const struct rules *r;
    uint32_t *waiting; /* rules that were called and have no entry yet */
    uint32_t n_waiting;
    bool failed;
};

static uint32_t add(struct compiler *c, struct node n)
{
    struct nodes *o = c->out;
    if (o->n_nodes == NODES_MAX)
        c->failed = true;
    if (c->failed)
        return 0;
    if (o->n_nodes == o->room_nodes) {
        o->room_nodes = o->room_nodes * 2 + 64;
        o->nodes = mem_resize(o->nodes, o->room_nodes, sizeof(*o->nodes));
    }
    o->nodes[o->n_nodes] = n;
    return o->n_nodes++;
}

/* Room for n targets; where they begin. */
static uint32_t add_targets(struct compiler *c, uint32_t n)
{
    struct nodes *o = c->out;
    if (n > NODES_TARGETS_MAX - o->n_targets)
        c->failed = true;
    if (c->failed)
        return 0;
    if (o->n_targets + n > o->room_targets) {
        o->room_targets = (o->n_targets + n) * 2 + 64;
        o->targets = mem_resize(o->targets, o->room_targets, sizeof(*o->targets));
    }
    o->n_targets += n;
    return o->n_targets - n;
}

static uint32_t add_split(struct compiler *c, const uint32_t *targets, uint32_t n)
{
    uint32_t at = add_targets(c, n);
    if (c->failed)
        return 0;
    if (n > 0)
        memcpy(c->out->targets + at, targets, n * sizeof(*targets));
    return add(c, (struct node){.kind = NODE_SPLIT, .at = at, .count = n});
}

static uint32_t add_bytes(struct compiler *c, uint32_t low, uint32_t high, uint32_t next)
{
    return add(c, (struct node){.kind = NODE_BYTES, .low = (uint8_t)low, .high = (uint8_t)high, .next = next});
}

/* ---- characters ---- */

/* What one set compiles to: branches, and the last bytes of any character, which many branches share. */
struct set {
    struct compiler *c;
    uint32_t *branches;
    uint32_t n, room;
    uint32_t next;
    uint32_t tails[4]; /* [k]: k bytes 80..BF, then next; 0: not made yet */
};

static void set_push(struct set *s, uint32_t node)
{
    if (s->n == s->room) {
        s->room = s->room * 2 + 16;
        s->branches = mem_resize(s->branches, s->room, sizeof(*s->branches));
    }
    s->branches[s->n++] = node;
}

static uint32_t set_tail(struct set *s, uint32_t k)
{
    if (k == 0)
        return s->next;
    if (s->tails[k] == 0)
        s->tails[k] = add_bytes(s->c, 0x80, 0xBF, set_tail(s, k - 1));
    return s->tails[k];
}

/* Bytes from low[0..n) to high[0..n) that differ from byte `at` on, as a chain with free tails. */
static uint32_t set_chain(struct set *s, const char *low, const char *high, uint32_t n)
{
    uint32_t fixed = 0;
    while (fixed < n && low[fixed] == high[fixed])
        fixed++;
    uint32_t node = s->next;
    if (fixed < n)
        node = add_bytes(s->c, (uint8_t)low[fixed], (uint8_t)high[fixed], set_tail(s, n - 1 - fixed));
    for (uint32_t i = fixed; i-- > 0;)
        node = add_bytes(s->c, (uint8_t)low[i], (uint8_t)low[i], node);
    return node;
}

/* Code points of one encoded length: cut where the tails are not all of 80..BF. */
static void set_range(struct set *s, uint32_t first, uint32_t last, uint32_t n)
{
    for (uint32_t bits = 6; bits < n * 6; bits += 6) {
        uint32_t mask = (1u << bits) - 1;
        if ((first & ~mask) == (last & ~mask))
            break;
        if (first & mask) {
            set_range(s, first, first | mask, n);
            first = (first | mask) + 1;
        }
        if ((last & mask) != mask) {
            set_range(s, last & ~mask, last, n);
            last = (last & ~mask) - 1;
        }
        if (first > last)
            return;
    }
    char low[4], high[4];
    utf8_write(first, low);
    utf8_write(last, high);
    set_push(s, set_chain(s, low, high, n));
}

static uint32_t compile_set(struct compiler *c, const struct char_range *ranges, uint32_t n, uint32_t next)
{
    static const uint32_t ends[4] = {0x7F, 0x7FF, 0xFFFF, CODE_POINT_MAX};
    struct set s = {.c = c, .next = next};
    for (uint32_t i = 0; i < n && !c->failed; i++) {
        uint32_t first = ranges[i].first;
        for (uint32_t len = 1; len <= 4 && first <= ranges[i].last; len++) {
            uint32_t last = ranges[i].last < ends[len - 1] ? ranges[i].last : ends[len - 1];
            if (first > last)
                continue;
            set_range(&s, first, last, len);
            first = last + 1;
        }
    }
    bool covers = !c->failed && c->out->nodes[next].kind == NODE_RETURN &&
                  charset_covers(ranges, n, ordinary, COUNTOF(ordinary));
    for (uint32_t i = 0; covers && i < s.n; i++)
        c->out->nodes[s.branches[i]].covers = true;
    uint32_t node = s.n == 1 ? s.branches[0] : add_split(c, s.branches, s.n);
    mem_free(s.branches);
    return node;
}

/* ---- expressions ---- */

static uint32_t compile(struct compiler *c, uint32_t expr, uint32_t next);

static uint32_t compile_text(struct compiler *c, const struct expr *x, uint32_t next)
{
    for (uint32_t i = x->n; i-- > 0 && !c->failed;) {
        uint8_t byte = (uint8_t)c->r->bytes[x->at + i];
        next = add_bytes(c, byte, byte, next);
    }
    return next;
}

static uint32_t compile_choice(struct compiler *c, const struct expr *x, uint32_t next)
{
    uint32_t *targets = mem_array(x->n, sizeof(*targets)), n = 0;
    for (uint32_t k = 0; k < x->n && !c->failed; k++) {
        uint32_t part = c->r->parts[x->at + k];
        if (c->r->productive[part])
            targets[n++] = compile(c, part, next);
    }
    uint32_t node = n == 1 ? targets[0] : add_split(c, targets, n);
    mem_free(targets);
    return node;
}

/* Buckets of which every byte is in the set; the last one when all ordinary characters beyond ASCII are. */
static uint64_t buckets_of(const struct char_range *ranges, size_t n)
{
    static const struct char_range others[] = {{0x80, 0x2027}, {0x202A, 0xD7FF}, {0xE000, CODE_POINT_MAX}};
    bool wide = charset_covers(ranges, n, others, COUNTOF(others));
    uint64_t missing = wide ? 0 : (uint64_t)1 << NODES_BUCKET_OTHER;
    for (uint32_t b = 0; b < 128; b++) {
        struct char_range one = {b, b};
        uint32_t bucket = nodes_bucket((uint8_t)b);
        if (bucket != NODES_BUCKET_OTHER && !charset_covers(ranges, n, &one, 1))
            missing |= (uint64_t)1 << bucket;
    }
    return ~missing;
}

/* Which single characters one turn may be. Looks through a few choices and calls. */
static void judge_turn(const struct rules *r, uint32_t expr, int levels, struct node_bounds *b)
{
    const struct expr *x = &r->exprs[expr];
    if (x->kind == EXPR_SET) {
        b->ordinary |= charset_covers(r->ranges + x->at, x->n, ordinary, COUNTOF(ordinary));
        b->buckets |= buckets_of(r->ranges + x->at, x->n);
    }
    if (x->kind == EXPR_CALL && levels > 0)
        judge_turn(r, r->rules[x->at].body, levels - 1, b);
    for (uint32_t k = 0; x->kind == EXPR_CHOICE && levels > 0 && k < x->n && k < 16; k++)
        judge_turn(r, r->parts[x->at + k], levels - 1, b);
}

static uint32_t add_bounds(struct compiler *c, const struct expr *x)
{
    struct nodes *o = c->out;
    if (o->n_bounds == o->room_bounds) {
        o->room_bounds = o->room_bounds * 2 + 16;
        o->bounds = mem_resize(o->bounds, o->room_bounds, sizeof(*o->bounds));
    }
    struct node_bounds *b = &o->bounds[o->n_bounds];
    /* A turn that may be empty can be left out, so the least number of turns is none. */
    *b = (struct node_bounds){.min = c->r->nullable[x->at] ? 0 : x->min, .max = x->max};
    judge_turn(c->r, x->at, 3, b);
    return o->n_bounds++;
}

static uint32_t compile_star(struct compiler *c, const struct expr *x, uint32_t next)
{
    uint32_t targets[2] = {0, next};
    uint32_t split = add_split(c, targets, 2);
    if (c->failed)
        return 0;
    uint32_t bounds = add_bounds(c, x);
    c->out->nodes[split].next = 1 + bounds;
    uint32_t body = compile(c, x->at, split);
    if (c->failed)
        return 0;
    c->out->targets[c->out->nodes[split].at] = body;
    return x->min == 0 ? split : body;
}

static uint32_t compile_loop(struct compiler *c, const struct expr *x, uint32_t next)
{
    uint32_t bounds = add_bounds(c, x);
    uint32_t end = add(c, (struct node){.kind = NODE_RETURN});
    uint32_t body = compile(c, x->at, end);
    return add(c, (struct node){.kind = NODE_LOOP, .next = next, .at = body, .count = bounds});
}

static uint32_t compile_repeat(struct compiler *c, const struct expr *x, uint32_t next)
{
    if (x->max == 0 || !c->r->productive[x->at])
        return next;
    if (x->min == 0 && x->max == 1) {
        uint32_t targets[2] = {compile(c, x->at, next), next};
        return add_split(c, targets, 2);
    }
    if (x->min == 1 && x->max == 1)
        return compile(c, x->at, next);
    if (x->max == RULES_ANY && (x->min <= 1 || c->r->nullable[x->at]))
        return compile_star(c, x, next);
    return compile_loop(c, x, next);
}

static uint32_t compile_call(struct compiler *c, uint32_t rule, uint32_t next)
{
    uint32_t *entry = &c->out->entries[rule];
    if (*entry == RULES_ANY) {
        *entry = RULES_ANY - 1; /* will be compiled */
        c->waiting[c->n_waiting++] = rule;
    }
    return add(c, (struct node){.kind = NODE_CALL, .next = next, .at = rule});
}

static uint32_t compile(struct compiler *c, uint32_t expr, uint32_t next)
{
    const struct expr *x = &c->r->exprs[expr];
    if (c->failed)
        return 0;
    switch ((enum expr_kind)x->kind) {
    case EXPR_EMPTY: return next;
    case EXPR_NEVER: return add_split(c, NULL, 0);
    case EXPR_TEXT: return compile_text(c, x, next);
    case EXPR_SET: return compile_set(c, c->r->ranges + x->at, x->n, next);
    case EXPR_CHOICE: return compile_choice(c, x, next);
    case EXPR_REPEAT: return compile_repeat(c, x, next);
    case EXPR_CALL: return compile_call(c, x->at, next);
    case EXPR_SEQUENCE:
        for (uint32_t k = x->n; k-- > 0;)
            next = compile(c, c->r->parts[x->at + k], next);
        return next;
    }
    return next;
}

/* ---- classes of bytes ---- */

static void make_classes(struct nodes *o)
{
    bool begins[257] = {false};
    for (uint32_t i = 0; i < o->n_nodes; i++) {
        if (o->nodes[i].kind == NODE_BYTES)
            begins[o->nodes[i].low] = begins[o->nodes[i].high + 1] = true;
    }
    for (uint32_t b = 0; b < 256; b++) {
        if (b == 0 || begins[b])
            o->members[o->n_classes++] = (uint8_t)b;
        o->classes[b] = (uint8_t)(o->n_classes - 1);
    }
}

int nodes_compile(struct nodes *out, const struct rules *r, struct error *e)
{
    memset(out, 0, sizeof(*out));
    struct compiler c = {.out = out, .r = r, .waiting = mem_array(r->n_rules, sizeof(uint32_t))};
    out->entries = mem_array(r->n_rules, sizeof(*out->entries));
    memset(out->entries, 0xFF, r->n_rules * sizeof(*out->entries));
    uint32_t end = add(&c, (struct node){.kind = NODE_RETURN}); /* one end for all: node 0 */
    compile_call(&c, r->root, end);
    while (c.n_waiting > 0 && !c.failed) {
        uint32_t rule = c.waiting[--c.n_waiting];
        uint32_t entry = compile(&c, r->rules[rule].body, end);
        out->entries[rule] = entry;
    }
    mem_free(c.waiting);
    if (c.failed) {
        nodes_close(out);
        return error_set(e, ERR_LIMIT, "it is too large: it needs more than %d nodes", NODES_MAX);
    }
    out->start = out->entries[r->root];
    make_classes(out);
    return 0;
}

void nodes_close(struct nodes *n)
{
    mem_free(n->nodes);
    mem_free(n->targets);
    mem_free(n->bounds);
    mem_free(n->entries);
    mem_free(n->rests);
    mem_free(n->tokens);
    memset(n, 0, sizeof(*n));
}
