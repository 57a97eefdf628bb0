/* rules_check: what a grammar must not be, found in time linear in its size.
 *
 * nullable (matches the empty text) and productive (matches any text) are least
 * fixed points: a fact of an expression is handed to the expressions that hold
 * it, each counting what it still lacks.  Left recursion is a cycle of
 * expressions of which each begins with the next.                            */
#include <string.h>

#include "base/memory.h"
#include "text/grammar/rules.h"

/* ---- least fixed points ---- */

struct solver {
    const struct rules *r;
    uint32_t *first, *holders; /* holders[first[i] .. first[i + 1]): expressions that wait for i */
    uint32_t *lacking;         /* facts that an expression still needs */
    uint32_t *queue;
    uint32_t n_queue;
    bool *known;
};

typedef void (*edge_fn)(struct solver *s, uint32_t from, uint32_t to);

static void each_edge(struct solver *s, edge_fn fn)
{
    const struct rules *r = s->r;
    for (uint32_t i = 0; i < r->n_exprs; i++) {
        const struct expr *x = &r->exprs[i];
        if (x->kind == EXPR_SEQUENCE || x->kind == EXPR_CHOICE)
            for (uint32_t k = 0; k < x->n; k++)
                fn(s, r->parts[x->at + k], i);
        else if (x->kind == EXPR_REPEAT)
            fn(s, x->at, i);
        else if (x->kind == EXPR_CALL)
            fn(s, r->rules[x->at].body, i);
    }
}

static void count_edge(struct solver *s, uint32_t from, uint32_t to)
{
    (void)to;
    s->first[from + 1]++;
}

static void put_edge(struct solver *s, uint32_t from, uint32_t to)
{
    s->holders[s->first[from]++] = to;
}

static void learn(struct solver *s, uint32_t i)
{
    if (!s->known[i]) {
        s->known[i] = true;
        s->queue[s->n_queue++] = i;
    }
}

static void begin(struct solver *s, bool nullable)
{
    for (uint32_t i = 0; i < s->r->n_exprs; i++) {
        const struct expr *x = &s->r->exprs[i];
        bool leaf = x->kind == EXPR_EMPTY || (!nullable && (x->kind == EXPR_TEXT || x->kind == EXPR_SET));
        s->lacking[i] = x->kind == EXPR_SEQUENCE ? x->n : 1;
        if (leaf || (x->kind == EXPR_REPEAT && x->min == 0))
            learn(s, i);
    }
}

static bool *solve(const struct rules *r, bool nullable)
{
    size_t n = r->n_exprs;
    struct solver s = {.r = r, .first = mem_array(n + 2, sizeof(uint32_t)),
                       .lacking = mem_array(n + 1, sizeof(uint32_t)), .queue = mem_array(n + 1, sizeof(uint32_t)),
                       .known = mem_array(n + 1, 1)};
    each_edge(&s, count_edge);
    for (size_t i = 0; i < n; i++)
        s.first[i + 1] += s.first[i];
    s.holders = mem_array(s.first[n] + 1, sizeof(uint32_t));
    each_edge(&s, put_edge); /* first[i] is now where i ends */
    begin(&s, nullable);
    for (uint32_t at = 0; at < s.n_queue; at++) {
        uint32_t i = s.queue[at];
        for (uint32_t k = i > 0 ? s.first[i - 1] : 0; k < s.first[i]; k++)
            if (--s.lacking[s.holders[k]] == 0 || s.r->exprs[s.holders[k]].kind != EXPR_SEQUENCE)
                learn(&s, s.holders[k]);
    }
    mem_free(s.first);
    mem_free(s.holders);
    mem_free(s.lacking);
    mem_free(s.queue);
    return s.known;
}

/* ---- left recursion ---- */

struct path_step {
    uint32_t expr, next; /* next: how many of its beginnings were looked at */
};

/* The k-th expression that x may begin with; RULES_ANY when there are no more. */
static uint32_t beginning(const struct rules *r, const struct expr *x, uint32_t k)
{
    if (x->kind == EXPR_CHOICE)
        return k < x->n ? r->parts[x->at + k] : RULES_ANY;
    if (x->kind == EXPR_SEQUENCE) /* the next part only while those before may be empty */
        return k < x->n && (k == 0 || r->nullable[r->parts[x->at + k - 1]]) ? r->parts[x->at + k] : RULES_ANY;
    if (x->kind == EXPR_REPEAT && x->max > 0)
        return k == 0 ? x->at : RULES_ANY;
    if (x->kind == EXPR_CALL)
        return k == 0 ? r->rules[x->at].body : RULES_ANY;
    return RULES_ANY;
}

enum colour { WHITE, GREY, BLACK };

/* The rule that begins with itself, RULES_ANY when there is none. */
static uint32_t find_left_recursion(const struct rules *r)
{
    uint8_t *colour = mem_array(r->n_exprs + 1, 1);
    struct path_step *path = mem_array(r->n_exprs + 1, sizeof(*path));
    uint32_t depth = 0, found = RULES_ANY;
    path[depth++] = (struct path_step){r->rules[r->root].body, 0};
    colour[path[0].expr] = GREY;
    while (depth > 0 && found == RULES_ANY) {
        struct path_step *top = &path[depth - 1];
        const struct expr *x = &r->exprs[top->expr];
        uint32_t next = beginning(r, x, top->next++);
        if (next == RULES_ANY) {
            colour[top->expr] = BLACK;
            depth--;
        } else if (colour[next] == GREY) {
            for (uint32_t i = depth; i-- > 0 && found == RULES_ANY;) /* a cycle passes a call */
                if (r->exprs[path[i].expr].kind == EXPR_CALL)
                    found = r->exprs[path[i].expr].at;
        } else if (colour[next] == WHITE) {
            colour[next] = GREY;
            path[depth++] = (struct path_step){next, 0};
        }
    }
    mem_free(colour);
    mem_free(path);
    return found;
}

int rules_check(struct rules *r, struct error *e)
{
    if (r->failed)
        return error_set(e, ERR_LIMIT, "it is too large: at most %d rules, %d parts, %d levels, %d repetitions",
                         RULES_MAX, RULES_EXPRS_MAX, RULES_DEPTH_MAX, RULES_REPEAT_MAX);
    for (uint32_t i = 0; i < r->n_rules; i++)
        if (r->rules[i].body == RULES_ANY)
            return error_set(e, ERR_INVALID, "rule \"%.100s\" is not defined", r->rules[i].name);
    r->nullable = solve(r, true);
    r->productive = solve(r, false);
    uint32_t left = find_left_recursion(r);
    if (left != RULES_ANY)
        return error_set(e, ERR_INVALID, "rule \"%.100s\" begins with itself (left recursion)", r->rules[left].name);
    if (!r->productive[r->rules[r->root].body])
        return error_set(e, ERR_INVALID, "no text can ever satisfy it");
    return 0;
}
