/* automaton: subset construction on demand, over places with hash-consed stacks.
 *
 * A closure follows all nodes that read nothing.  An item of it knows how many
 * of its topmost cells were pushed since the last byte: a turn of a loop whose
 * cell is that fresh was empty, and an empty turn can only leave the loop, else
 * it could turn for ever.  Items are looked at once.  Left recursion, the other
 * way to go on for ever, is refused by rules_check().                        */
#include "text/grammar/automaton.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { ITEMS_MAX = 1 << 14, SEEN_SLOTS = 1 << 15 };

struct item {
    uint32_t node, stack, fresh;
};

struct seen {
    struct item item;
    uint32_t stamp;
};

struct closure {
    struct item *todo; /* [ITEMS_MAX] */
    uint32_t n_todo;
    struct seen *seen; /* [SEEN_SLOTS]: of this closure when the stamp is its own */
    uint32_t stamp, n_seen;
    struct place *found; /* [AUTOMATON_PLACES_MAX] */
    uint32_t n_found;
    bool accepts, failed, full;
    uint32_t tolerance, loose;
    uint64_t loose_set;
    uint32_t rest_most; /* behind turns that are tolerated */
};

/* ---- tables ---- */

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static void table_init(struct automaton_table *t, uint32_t slots)
{
    t->slots = mem_array(slots, sizeof(*t->slots));
    t->mask = slots - 1;
    t->used = 0;
}

static uint64_t hash_cell(const struct cell *c)
{
    return mix(mix(mix(1, c->node), c->count), c->below);
}

static uint64_t hash_places(const struct place *p, uint32_t n)
{
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++)
        h = mix(h, (uint64_t)p[i].node << 32 | p[i].stack);
    return h;
}

static void table_put(struct automaton_table *t, uint64_t hash, uint32_t number)
{
    uint32_t at = (uint32_t)hash & t->mask;
    while (t->slots[at] != 0)
        at = (at + 1) & t->mask;
    t->slots[at] = number + 1;
    t->used++;
}

/* Doubled when half full: `hash_of` hashes what has a number. */
static void table_grow(struct automaton *a, struct automaton_table *t,
                       uint64_t (*hash_of)(struct automaton *, uint32_t))
{
    if (t->used * 2 <= t->mask)
        return;
    struct automaton_table old = *t;
    table_init(t, (old.mask + 1) * 2);
    for (uint32_t i = 0; i <= old.mask; i++)
        if (old.slots[i] != 0)
            table_put(t, hash_of(a, old.slots[i] - 1), old.slots[i] - 1);
    mem_free(old.slots);
}

static uint64_t hash_of_cell(struct automaton *a, uint32_t i)
{
    return hash_cell(&a->cells[i]);
}

static uint64_t hash_of_state(struct automaton *a, uint32_t i)
{
    return hash_places(a->places + a->states[i].first, a->states[i].n);
}

/* ---- memory ---- */

static size_t bytes_used(const struct automaton *a)
{
    return a->n_states * (sizeof(*a->states) + (size_t)a->nodes->n_classes * sizeof(uint32_t)) +
           a->n_places * sizeof(*a->places) + a->n_cells * sizeof(*a->cells);
}

static uint32_t grown(uint32_t room, uint32_t need)
{
    return need > room ? need + need / 2 + 64 : room;
}

static uint32_t rest_sum(uint64_t a, uint64_t b)
{
    bool known = a != NODES_REST_UNKNOWN && b != NODES_REST_UNKNOWN;
    return !known ? NODES_REST_UNKNOWN : a + b < NODES_REST_UNKNOWN ? (uint32_t)(a + b) : NODES_REST_UNKNOWN - 1;
}

/* After the turn or the call that a cell is of. */
static uint32_t rest_after(const struct automaton *a, const struct cell *c)
{
    const struct nodes *o = a->nodes;
    const struct node *n = &o->nodes[c->node];
    uint32_t below = a->cells[c->below].rest;
    if (c->count == CELL_CALL)
        return rest_sum(o->rests[c->node], below);
    uint32_t min = o->bounds[n->count].min, turn = o->rests[n->at];
    uint64_t turns = min > c->count + 1 ? min - c->count - 1 : 0;
    bool known = turns == 0 || turn != NODES_REST_UNKNOWN;
    return rest_sum(known ? turns * turn : NODES_REST_UNKNOWN, rest_sum(o->rests[n->next], below));
}

static uint32_t push_cell(struct automaton *a, struct cell c)
{
    uint32_t at = (uint32_t)hash_cell(&c) & a->cell_table.mask;
    for (; a->cell_table.slots[at] != 0; at = (at + 1) & a->cell_table.mask) {
        uint32_t i = a->cell_table.slots[at] - 1;
        if (a->cells[i].node == c.node && a->cells[i].count == c.count && a->cells[i].below == c.below)
            return i;
    }
    if (bytes_used(a) > AUTOMATON_BYTES_MAX) {
        a->closure->full = true;
        return 0;
    }
    if (a->n_cells == a->room_cells) {
        a->room_cells = grown(a->room_cells, a->n_cells + 1);
        a->cells = mem_resize(a->cells, a->room_cells, sizeof(*a->cells));
    }
    c.rest = rest_after(a, &c);
    c.depth = a->cells[c.below].depth + 1;
    a->cells[a->n_cells] = c;
    table_put(&a->cell_table, hash_cell(&c), a->n_cells++);
    table_grow(a, &a->cell_table, hash_of_cell);
    return a->n_cells - 1;
}

/* ---- closure ---- */

static void todo(struct closure *c, uint32_t node, uint32_t stack, uint32_t fresh)
{
    struct item item = {node, stack, fresh};
    uint32_t at = (uint32_t)mix(mix(mix(2, node), stack), fresh) & (SEEN_SLOTS - 1);
    for (; c->seen[at].stamp == c->stamp; at = (at + 1) & (SEEN_SLOTS - 1)) {
        const struct item *s = &c->seen[at].item;
        if (s->node == node && s->stack == stack && s->fresh == fresh)
            return;
    }
    if (c->n_seen == ITEMS_MAX) {
        c->failed = true;
        return;
    }
    c->n_seen++;
    c->seen[at] = (struct seen){item, c->stamp};
    c->todo[c->n_todo++] = item;
}

/* A repetition may have so many more turns, and after each `rest` tokens are enough. Of several that are loose, the one
 * with most bytes is kept. */
static void tolerate(struct closure *c, const struct node_bounds *b, uint32_t turns, uint32_t rest)
{
    if ((b->ordinary || b->buckets != 0) && rest > c->rest_most)
        c->rest_most = rest;
    if (turns > AUTOMATON_TOLERANCE_ANY)
        turns = AUTOMATON_TOLERANCE_ANY;
    if (b->ordinary && turns > c->tolerance)
        c->tolerance = turns;
    int more = __builtin_popcountll(b->buckets) - __builtin_popcountll(c->loose_set);
    if (more > 0 || (more == 0 && turns > c->loose)) {
        c->loose_set = b->buckets;
        c->loose = turns;
    }
}

/* The loop has had `turns` turns. */
static void enter_loop(struct automaton *a, uint32_t node, uint32_t turns, uint32_t stack, uint32_t fresh)
{
    const struct node *n = &a->nodes->nodes[node];
    const struct node_bounds *b = &a->nodes->bounds[n->count];
    if (b->max == RULES_ANY && turns > b->min)
        turns = b->min;
    if (turns < b->max) {
        uint32_t cell = push_cell(a, (struct cell){.node = node, .count = turns, .below = stack});
        tolerate(a->closure, b, b->max == RULES_ANY ? RULES_ANY : b->max - turns, a->cells[cell].rest);
        todo(a->closure, n->at, cell, fresh + 1);
    }
    if (turns >= b->min)
        todo(a->closure, n->next, stack, fresh);
}

static void leave(struct automaton *a, uint32_t stack, uint32_t fresh)
{
    if (stack == 0) {
        a->closure->accepts = true;
        return;
    }
    struct cell top = a->cells[stack];
    const struct node *n = &a->nodes->nodes[top.node];
    uint32_t below_fresh = fresh > 0 ? fresh - 1 : 0;
    if (top.count == CELL_CALL)
        todo(a->closure, top.node, top.below, below_fresh);
    else if (fresh > 0)
        todo(a->closure, n->next, top.below, below_fresh);
    else
        enter_loop(a, top.node, top.count + 1, top.below, 0);
}

static void call(struct automaton *a, const struct node *n, uint32_t stack, uint32_t fresh)
{
    uint32_t entry = a->nodes->entries[n->at];
    if (a->nodes->nodes[n->next].kind == NODE_RETURN) /* the caller is done when it is: nothing to come back to */
        todo(a->closure, entry, stack, fresh);
    else
        todo(a->closure, entry,
             push_cell(a, (struct cell){.node = n->next, .count = CELL_CALL, .below = stack}), fresh + 1);
}

static void find_place(struct closure *c, uint32_t node, uint32_t stack)
{
    if (c->n_found == AUTOMATON_PLACES_MAX)
        c->failed = true;
    else
        c->found[c->n_found++] = (struct place){node, stack};
}

static void follow(struct automaton *a, struct item i)
{
    const struct node *n = &a->nodes->nodes[i.node];
    switch ((enum node_kind)n->kind) {
    case NODE_BYTES:
        find_place(a->closure, i.node, i.stack);
        break;
    case NODE_SPLIT:
        if (n->next != 0)
            tolerate(a->closure, &a->nodes->bounds[n->next - 1], RULES_ANY,
                     rest_sum(a->nodes->rests[i.node], a->cells[i.stack].rest));
        for (uint32_t k = 0; k < n->count; k++)
            todo(a->closure, a->nodes->targets[n->at + k], i.stack, i.fresh);
        break;
    case NODE_CALL:
        call(a, n, i.stack, i.fresh);
        break;
    case NODE_LOOP:
        enter_loop(a, i.node, 0, i.stack, i.fresh);
        break;
    case NODE_RETURN:
        leave(a, i.stack, i.fresh);
        break;
    }
}

static void closure_begin(struct closure *c)
{
    c->stamp++;
    if (c->stamp == 0) { /* once in four thousand million closures */
        memset(c->seen, 0, SEEN_SLOTS * sizeof(*c->seen));
        c->stamp = 1;
    }
    c->n_todo = c->n_found = c->n_seen = 0;
    c->accepts = c->failed = c->full = false;
    c->tolerance = c->loose = 0;
    c->loose_set = 0;
    c->rest_most = 0;
}

static void closure_run(struct automaton *a)
{
    struct closure *c = a->closure;
    while (c->n_todo > 0 && !c->failed && !c->full) {
        follow(a, c->todo[--c->n_todo]);
        a->work++;
    }
    if (a->work > a->work_max)
        c->failed = true;
}

/* ---- states ---- */

static int by_place(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    if (a->node != b->node)
        return a->node < b->node ? -1 : 1;
    return a->stack < b->stack ? -1 : a->stack > b->stack;
}

/* Sorted, and each place once: an item may have been fresh in several ways. */
static void sort_found(struct closure *c)
{
    uint32_t kept = 0;
    if (c->n_found < 2)
        return;
    qsort(c->found, c->n_found, sizeof(*c->found), by_place);
    for (uint32_t i = 1; i < c->n_found; i++)
        if (by_place(&c->found[kept], &c->found[i]) != 0)
            c->found[++kept] = c->found[i];
    c->n_found = kept + 1;
}

static uint32_t find_state(const struct automaton *a, uint64_t hash)
{
    const struct closure *c = a->closure;
    uint32_t at = (uint32_t)hash & a->state_table.mask;
    for (; a->state_table.slots[at] != 0; at = (at + 1) & a->state_table.mask) {
        uint32_t i = a->state_table.slots[at] - 1;
        const struct automaton_state *s = &a->states[i];
        if (s->n == c->n_found && s->accepts == c->accepts && s->tolerance == c->tolerance && s->loose == c->loose &&
            s->loose_set == c->loose_set && s->rest_most == c->rest_most &&
            memcmp(a->places + s->first, c->found, s->n * sizeof(*c->found)) == 0)
            return i;
    }
    return AUTOMATON_UNKNOWN;
}

static uint32_t rest_of(const struct automaton *a, const struct place *p)
{
    return rest_sum(a->nodes->rests[p->node], a->cells[p->stack].rest);
}

static void measure_state(const struct automaton *a, struct automaton_state *s)
{
    s->rest = s->accepts ? 0 : NODES_REST_UNKNOWN;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct place *p = &a->places[s->first + i];
        uint32_t rest = rest_of(a, p), depth = a->cells[p->stack].depth;
        s->rest = rest < s->rest ? rest : s->rest;
        s->depth = depth > s->depth ? depth : s->depth;
    }
}

static uint32_t add_state(struct automaton *a)
{
    struct closure *c = a->closure;
    uint32_t classes = a->nodes->n_classes;
    if (a->n_states == a->room_states) {
        a->room_states = grown(a->room_states, a->n_states + 1);
        a->states = mem_resize(a->states, a->room_states, sizeof(*a->states));
        a->transitions = mem_resize(a->transitions, (size_t)a->room_states * classes, sizeof(*a->transitions));
    }
    if (a->n_places + c->n_found > a->room_places) {
        a->room_places = grown(a->room_places, a->n_places + c->n_found);
        a->places = mem_resize(a->places, a->room_places, sizeof(*a->places));
    }
    if (c->n_found > 0)
        memcpy(a->places + a->n_places, c->found, c->n_found * sizeof(*c->found));
    a->states[a->n_states] = (struct automaton_state){.first = a->n_places, .n = c->n_found, .accepts = c->accepts,
                                                      .tolerance = (uint8_t)c->tolerance,
                                                      .loose = (uint8_t)c->loose, .loose_set = c->loose_set,
                                                      .rest_most = c->rest_most};
    a->n_places += c->n_found;
    measure_state(a, &a->states[a->n_states]);
    for (uint32_t k = 0; k < classes; k++)
        a->transitions[(size_t)a->n_states * classes + k] = AUTOMATON_UNKNOWN;
    return a->n_states++;
}

/* The state of what the closure found. */
static uint32_t intern(struct automaton *a)
{
    struct closure *c = a->closure;
    if (c->failed)
        return AUTOMATON_FAILED;
    if (c->full)
        return AUTOMATON_FULL;
    if (c->n_found == 0 && !c->accepts)
        return AUTOMATON_DEAD;
    sort_found(c);
    uint64_t hash = hash_places(c->found, c->n_found);
    uint32_t state = find_state(a, hash);
    if (state != AUTOMATON_UNKNOWN)
        return state;
    if (bytes_used(a) > AUTOMATON_BYTES_MAX)
        return AUTOMATON_FULL;
    state = add_state(a);
    table_put(&a->state_table, hash, state);
    table_grow(a, &a->state_table, hash_of_state);
    return state;
}

uint32_t automaton_compute(struct automaton *a, uint32_t state, uint8_t class)
{
    assert(state < a->n_states);
    const struct automaton_state *s = &a->states[state];
    uint8_t byte = a->nodes->members[class];
    closure_begin(a->closure);
    for (uint32_t i = 0; i < s->n; i++) {
        struct place p = a->places[s->first + i];
        const struct node *n = &a->nodes->nodes[p.node];
        if (byte >= n->low && byte <= n->high)
            todo(a->closure, n->next, p.stack, 0);
    }
    a->work += s->n;
    closure_run(a);
    uint32_t next = intern(a);
    if (next < a->n_states)
        a->transitions[(size_t)state * a->nodes->n_classes + class] = next;
    return next;
}

/* The repetition may be left at once (its least number of turns is over), so what follows it is in the state. */
uint32_t automaton_exact(const struct automaton *a, uint32_t state)
{
    const struct automaton_state *s = &a->states[state];
    uint32_t stack = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        struct place p = a->places[s->first + i];
        const struct node *n = &a->nodes->nodes[p.node];
        if (!nodes_begins_ordinary(n->low, n->high))
            continue;
        if (!n->covers || p.stack == 0 || (stack != 0 && stack != p.stack))
            return 0;
        stack = p.stack;
    }
    const struct cell *top = &a->cells[stack];
    if (stack == 0 || top->count == CELL_CALL)
        return 0;
    const struct node_bounds *b = &a->nodes->bounds[a->nodes->nodes[top->node].count];
    return b->max != RULES_ANY && top->count >= b->min ? b->max - top->count : 0;
}

int32_t automaton_shortest(const struct automaton *a, uint32_t state)
{
    const struct automaton_state *s = &a->states[state];
    uint32_t best = NODES_REST_UNKNOWN;
    int32_t token = -1;
    for (uint32_t i = 0; i < s->n; i++) {
        const struct place *p = &a->places[s->first + i];
        uint32_t rest = rest_of(a, p);
        if (rest < best) {
            best = rest;
            token = a->nodes->tokens[p->node];
        }
    }
    return token;
}

/* ---- studying ---- */

enum { STUDY_STATES = 32, STUDY_STEPS = 512, STUDY_WORK = 1 << 14 };

/* A breadth-first look at the states that bytes of a set lead to. */
struct study {
    struct automaton *a;
    uint32_t states[STUDY_STATES], depths[STUDY_STATES], n;
    uint32_t steps;
    uint32_t rest_most; /* of all states that were seen */
};

/* Buckets of ASCII that have a byte which is dead in this state. All of them: it cannot be said. */
static uint64_t dead_buckets(struct study *s, uint32_t state, uint64_t set)
{
    uint64_t dead = 0;
    for (uint32_t b = 0; b < 128; b++) {
        uint64_t bucket = (uint64_t)1 << nodes_bucket((uint8_t)b);
        if ((set & bucket) == 0 || (dead & bucket) != 0)
            continue;
        uint32_t class = s->a->nodes->classes[b];
        if (s->a->transitions[(size_t)state * s->a->nodes->n_classes + class] == AUTOMATON_UNKNOWN)
            s->steps++;
        uint32_t next = s->steps <= STUDY_STEPS ? automaton_step(s->a, state, (uint8_t)b) : AUTOMATON_FAILED;
        if (next >= s->a->n_states)
            return UINT64_MAX;
        if (next == AUTOMATON_DEAD)
            dead |= bucket;
    }
    return dead;
}

/* Those that follow states[i]. False: they are too many. */
static bool add_successors(struct study *s, uint32_t i, uint64_t set)
{
    for (uint32_t b = 0; b < 128; b++) {
        if ((set >> nodes_bucket((uint8_t)b) & 1) == 0)
            continue;
        uint32_t next = automaton_step(s->a, s->states[i], (uint8_t)b), k = 0;
        while (k < s->n && s->states[k] != next)
            k++;
        if (k < s->n)
            continue;
        if (s->n == STUDY_STATES)
            return false;
        uint32_t rest = s->a->states[next].rest;
        s->rest_most = rest > s->rest_most ? rest : s->rest_most;
        s->states[s->n] = next;
        s->depths[s->n++] = s->depths[i] + 1;
    }
    return true;
}

/* The largest set that never ends, found by leaving out what is dead somewhere. *near: how many bytes of the whole set
 * may follow. */
static uint64_t free_for_ever(struct study *s, uint32_t state, uint64_t set, uint8_t *near)
{
    bool whole = true;
    for (;;) {
        uint64_t dead = 0;
        s->states[0] = state;
        s->depths[0] = 0;
        s->n = 1;
        for (uint32_t i = 0; i < s->n && dead == 0; i++) {
            dead = dead_buckets(s, s->states[i], set);
            bool known = dead != UINT64_MAX && (dead != 0 || add_successors(s, i, set));
            if (whole && (dead != 0 || !known))
                *near = (uint8_t)s->depths[i];
            if (!known)
                return 0;
        }
        if (dead == 0)
            return set;
        whole = false;
        set &= ~dead;
    }
}

void automaton_study(struct automaton *a, uint32_t state)
{
    struct study s = {.a = a};
    uint64_t ascii = ~((uint64_t)1 << NODES_BUCKET_OTHER), work = a->work, work_max = a->work_max;
    uint8_t near = 0;
    a->states[state].studied = true;
    if (bytes_used(a) > AUTOMATON_BYTES_MAX / 2)
        return;
    a->work_max = work + STUDY_WORK < work_max ? work + STUDY_WORK : work_max;
    uint64_t dead = dead_buckets(&s, state, ascii), ever = 0;
    if (dead != UINT64_MAX)
        ever = free_for_ever(&s, state, ascii & ~dead, &near);
    a->work = work; /* what was allowed is for the walk */
    a->work_max = work_max;
    a->states[state].near = near;
    a->states[state].near_set = near > 0 ? ascii & ~dead : 0;
    a->states[state].ever_set = ever;
    if (s.rest_most > a->states[state].rest_most)
        a->states[state].rest_most = s.rest_most;
}

/* ---- life ---- */

/* False when not even the first state can be made. */
static bool open_tables(struct automaton *a)
{
    table_init(&a->state_table, 256);
    table_init(&a->cell_table, 256);
    a->work_max = UINT64_MAX;
    a->n_states = a->n_places = 0;
    closure_begin(a->closure);
    add_state(a); /* AUTOMATON_DEAD: no way on */
    for (uint32_t k = 0; k < a->nodes->n_classes; k++)
        a->transitions[k] = AUTOMATON_DEAD;
    a->n_cells = 1; /* cell 0: the empty stack */
    todo(a->closure, a->nodes->start, 0, 0);
    closure_run(a);
    sort_found(a->closure);
    table_put(&a->state_table, hash_places(a->closure->found, a->closure->n_found), add_state(a));
    return !a->closure->failed && !a->closure->full;
}

int automaton_init(struct automaton *a, const struct nodes *n, struct error *e)
{
    memset(a, 0, sizeof(*a));
    a->nodes = n;
    a->closure = mem_alloc(sizeof(*a->closure));
    a->closure->todo = mem_array(ITEMS_MAX, sizeof(*a->closure->todo));
    a->closure->seen = mem_array(SEEN_SLOTS, sizeof(*a->closure->seen));
    a->closure->found = mem_array(AUTOMATON_PLACES_MAX, sizeof(*a->closure->found));
    a->room_cells = 64;
    a->cells = mem_array(a->room_cells, sizeof(*a->cells));
    if (open_tables(a))
        return 0;
    automaton_close(a);
    return error_set(e, ERR_LIMIT, "it can begin in too many ways: more than %d", AUTOMATON_PLACES_MAX);
}

void automaton_reset(struct automaton *a)
{
    mem_free(a->state_table.slots);
    mem_free(a->cell_table.slots);
    a->generation++;
    (void)open_tables(a); /* it could be made once, and so it can again */
}

void automaton_close(struct automaton *a)
{
    if (a->closure) {
        mem_free(a->closure->todo);
        mem_free(a->closure->seen);
        mem_free(a->closure->found);
    }
    mem_free(a->closure);
    mem_free(a->states);
    mem_free(a->transitions);
    mem_free(a->places);
    mem_free(a->cells);
    mem_free(a->state_table.slots);
    mem_free(a->cell_table.slots);
    memset(a, 0, sizeof(*a));
}
