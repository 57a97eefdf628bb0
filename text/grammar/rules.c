/* rules: pools of expressions that only grow, within their limits. */
#include "text/grammar/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void rules_init(struct rules *r)
{
    memset(r, 0, sizeof(*r));
}

void rules_close(struct rules *r)
{
    for (uint32_t i = 0; i < r->n_rules; i++)
        mem_free(r->rules[i].name);
    mem_free(r->rules);
    mem_free(r->exprs);
    mem_free(r->parts);
    mem_free(r->ranges);
    mem_free(r->bytes);
    mem_free(r->nullable);
    mem_free(r->productive);
    memset(r, 0, sizeof(*r));
}

/* Room for n more of a pool, or failed. */
static bool room(struct rules *r, void *pool, uint32_t *have, uint32_t used, size_t n, size_t size, uint32_t max)
{
    void **items = pool;
    if (r->failed || n > max - used) {
        r->failed = true;
        return false;
    }
    if (used + n > *have) {
        size_t want = (used + n) * 2 + 16;
        *have = (uint32_t)(want > max ? max : want);
        *items = mem_resize(*items, *have, size);
    }
    return true;
}

uint32_t rules_declare(struct rules *r, const char *name, size_t len)
{
    if (!room(r, &r->rules, &r->room_rules, r->n_rules, 1, sizeof(*r->rules), RULES_MAX))
        return 0;
    r->rules[r->n_rules] = (struct rule){mem_strndup(name, len), RULES_ANY};
    return r->n_rules++;
}

void rules_define(struct rules *r, uint32_t rule, uint32_t expr)
{
    if (!r->failed)
        r->rules[rule].body = expr;
}

static uint32_t add(struct rules *r, struct expr e)
{
    if (e.depth > RULES_DEPTH_MAX)
        r->failed = true;
    if (!room(r, &r->exprs, &r->room_exprs, r->n_exprs, 1, sizeof(*r->exprs), RULES_EXPRS_MAX))
        return 0;
    r->exprs[r->n_exprs] = e;
    return r->n_exprs++;
}

uint32_t rules_empty(struct rules *r)
{
    return add(r, (struct expr){.kind = EXPR_EMPTY});
}

uint32_t rules_never(struct rules *r)
{
    return add(r, (struct expr){.kind = EXPR_NEVER});
}

uint32_t rules_text(struct rules *r, const char *bytes, size_t n)
{
    if (n == 0)
        return rules_empty(r);
    if (!room(r, &r->bytes, &r->room_bytes, r->n_bytes, n, 1, RULES_BYTES_MAX))
        return 0;
    memcpy(r->bytes + r->n_bytes, bytes, n);
    r->n_bytes += (uint32_t)n;
    return add(r, (struct expr){.kind = EXPR_TEXT, .at = r->n_bytes - (uint32_t)n, .n = (uint32_t)n});
}

uint32_t rules_string(struct rules *r, const char *text)
{
    return rules_text(r, text, strlen(text));
}

uint32_t rules_set(struct rules *r, const struct charset *s)
{
    if (s->n == 0)
        return rules_never(r);
    if (!room(r, &r->ranges, &r->room_ranges, r->n_ranges, s->n, sizeof(*r->ranges), RULES_PARTS_MAX))
        return 0;
    memcpy(r->ranges + r->n_ranges, s->ranges, s->n * sizeof(*r->ranges));
    r->n_ranges += (uint32_t)s->n;
    return add(r, (struct expr){.kind = EXPR_SET, .at = r->n_ranges - (uint32_t)s->n, .n = (uint32_t)s->n});
}

static uint32_t add_parts(struct rules *r, enum expr_kind kind, const uint32_t *parts, size_t n)
{
    if (!room(r, &r->parts, &r->room_parts, r->n_parts, n, sizeof(*r->parts), RULES_PARTS_MAX))
        return 0;
    uint32_t depth = 0;
    for (size_t i = 0; i < n; i++)
        depth = r->exprs[parts[i]].depth > depth ? r->exprs[parts[i]].depth : depth;
    memcpy(r->parts + r->n_parts, parts, n * sizeof(*parts));
    r->n_parts += (uint32_t)n;
    return add(r, (struct expr){.kind = (uint16_t)kind, .at = r->n_parts - (uint32_t)n, .n = (uint32_t)n,
                                .depth = (uint16_t)(depth + 1)});
}

uint32_t rules_sequence(struct rules *r, const uint32_t *parts, size_t n)
{
    return n == 0 ? rules_empty(r) : n == 1 ? parts[0] : add_parts(r, EXPR_SEQUENCE, parts, n);
}

uint32_t rules_choice(struct rules *r, const uint32_t *parts, size_t n)
{
    return n == 0 ? rules_never(r) : n == 1 ? parts[0] : add_parts(r, EXPR_CHOICE, parts, n);
}

uint32_t rules_repeat(struct rules *r, uint32_t expr, uint32_t min, uint32_t max)
{
    if (r->failed || (max != RULES_ANY && max > RULES_REPEAT_MAX) || min > RULES_REPEAT_MAX) {
        r->failed = true;
        return 0;
    }
    if (max < min)
        return rules_never(r);
    return add(r, (struct expr){.kind = EXPR_REPEAT, .at = expr, .min = min, .max = max,
                                .depth = (uint16_t)(r->exprs[expr].depth + 1)});
}

uint32_t rules_optional(struct rules *r, uint32_t expr)
{
    return rules_repeat(r, expr, 0, 1);
}

uint32_t rules_call(struct rules *r, uint32_t rule)
{
    return add(r, (struct expr){.kind = EXPR_CALL, .at = rule});
}

void rules_list_add(struct rules_list *l, uint32_t expr)
{
    if (l->n == l->room) {
        l->room = l->room * 2 + 8;
        l->items = mem_resize(l->items, l->room, sizeof(*l->items));
    }
    l->items[l->n++] = expr;
}

void rules_list_close(struct rules_list *l)
{
    mem_free(l->items);
    memset(l, 0, sizeof(*l));
}

/* ---- many texts ---- */

static int by_bytes(const void *a, const void *b)
{
    const struct rules_texts *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int c = n > 0 ? memcmp(x->text, y->text, n) : 0;
    return c != 0 ? c : x->len < y->len ? -1 : x->len > y->len;
}

/* Sorted texts that agree in their first `at` bytes. */
static uint32_t branch(struct rules *r, const struct rules_texts *t, size_t n, size_t at, uint32_t depth)
{
    if (r->failed || depth > RULES_DEPTH_MAX / 2) {
        r->failed = true;
        return 0;
    }
    size_t same = at;
    const struct rules_texts *last = &t[n - 1];
    while (same < t[0].len && same < last->len && t[0].text[same] == last->text[same])
        same++;
    uint32_t head = rules_text(r, t[0].text + at, same - at);
    if (t[0].len == same && last->len == same) /* all are equal */
        return head;
    uint32_t *parts = mem_array(257, sizeof(*parts));
    size_t n_parts = 0, i = 0;
    if (t[0].len == same)
        parts[n_parts++] = rules_empty(r);
    while (i < n && t[i].len == same)
        i++;
    while (i < n) {
        size_t end = i + 1;
        while (end < n && t[end].text[same] == t[i].text[same])
            end++;
        parts[n_parts++] = branch(r, t + i, end - i, same, depth + 1);
        i = end;
    }
    uint32_t both[2] = {head, r->failed ? 0 : rules_choice(r, parts, n_parts)};
    mem_free(parts);
    return r->failed ? 0 : same == at ? both[1] : rules_sequence(r, both, 2);
}

uint32_t rules_texts(struct rules *r, struct rules_texts *texts, size_t n)
{
    if (n == 0)
        return rules_never(r);
    qsort(texts, n, sizeof(*texts), by_bytes);
    return branch(r, texts, n, 0, 0);
}
