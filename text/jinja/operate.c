/* operate: arithmetic and containment between values, as Python has them. Whole numbers have 64 bits. */
#include <math.h>
#include <string.h>

#include "text/jinja/render.h"

static const char *const symbols[] = {
    [OP_ADD] = "+", [OP_SUB] = "-", [OP_MUL] = "*", [OP_DIV] = "/", [OP_FLOORDIV] = "//", [OP_MOD] = "%",
    [OP_POW] = "** or pow()",
};

static struct value wrong_types(struct render *r, enum operator op, struct value a, struct value b)
{
    if (op == OP_ADD && a.kind == VALUE_TEXT)
        return render_fail(r, ERR_INVALID, "can only concatenate str (not \"%s\") to str", value_type(b));
    return render_fail(r, ERR_INVALID, "unsupported operand type(s) for %s: '%s' and '%s'", symbols[op],
                       value_type(a), value_type(b));
}

/* ---- numbers ---- */

static struct value too_large(struct render *r)
{
    return render_fail(r, ERR_LIMIT, "a whole number does not fit 64 bits");
}

static struct value power(struct render *r, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0)
            return render_fail(r, ERR_INVALID, "0.0 cannot be raised to a negative power");
        return value_float(pow((double)base, (double)exponent));
    }
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return too_large(r);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return too_large(r);
    }
    return value_int(result);
}

static struct value divide_whole(struct render *r, enum operator op, int64_t a, int64_t b)
{
    if (b == 0)
        return render_fail(r, ERR_INVALID, op == OP_MOD ? "integer modulo by zero"
                                                        : "integer division or modulo by zero");
    if (b == -1) {
        if (op == OP_MOD)
            return value_int(0);
        return a == INT64_MIN ? too_large(r) : value_int(-a);
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    return value_int(op == OP_MOD ? rest : quotient);
}

static struct value whole(struct render *r, enum operator op, int64_t a, int64_t b)
{
    int64_t out;
    bool over = false;
    switch (op) {
    case OP_ADD:
        over = __builtin_add_overflow(a, b, &out);
        break;
    case OP_SUB:
        over = __builtin_sub_overflow(a, b, &out);
        break;
    case OP_MUL:
        over = __builtin_mul_overflow(a, b, &out);
        break;
    case OP_DIV:
        return b == 0 ? render_fail(r, ERR_INVALID, "division by zero") : value_float((double)a / (double)b);
    case OP_POW:
        return power(r, a, b);
    default:
        return divide_whole(r, op, a, b);
    }
    return over ? too_large(r) : value_int(out);
}

static struct value real(struct render *r, enum operator op, double a, double b)
{
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        return render_fail(r, ERR_INVALID, op == OP_DIV ? "float division by zero" : "float floor division by zero");
    double rest;
    switch (op) {
    case OP_ADD:
        return value_float(a + b);
    case OP_SUB:
        return value_float(a - b);
    case OP_MUL:
        return value_float(a * b);
    case OP_DIV:
        return value_float(a / b);
    case OP_POW:
        if ((a == 0 && b < 0) || (a < 0 && b != floor(b)))
            return render_fail(r, ERR_INVALID, "%g cannot be raised to the power %g", a, b);
        if (isfinite(a) && isfinite(b) && !isfinite(pow(a, b)))
            return render_fail(r, ERR_INVALID, "Numerical result out of range");
        return value_float(pow(a, b));
    default:
        rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0))
            rest += b;
        if (rest == 0)
            rest = copysign(0, b);
        return value_float(op == OP_MOD ? rest : floor((a - rest) / b + 0.5));
    }
}

/* ---- texts and lists ---- */

static void escape_into(struct writer *w, const struct marked *t)
{
    static const char *const names[] = {['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&#34;",
                                        ['\''] = "&#39;"};
    for (size_t i = 0; i < t->len && !w->r->failed; i++) {
        unsigned char c = (unsigned char)t->bytes[i];
        const char *name = c < COUNTOF(names) ? names[c] : NULL;
        if (name)
            writer_add(w, name, strlen(name), marked_is_foreign(t, i));
        else
            writer_part(w, t, i, i + 1);
    }
}

struct marked marked_escaped(struct render *r, const struct marked *t)
{
    struct writer w;
    if (t->safe)
        return *t;
    writer_init(&w, r);
    escape_into(&w, t);
    struct marked out = writer_done(&w);
    out.safe = true;
    return out;
}

static struct value add_texts(struct render *r, const struct marked *a, const struct marked *b)
{
    bool safe = a->safe || b->safe;
    struct marked left = safe ? marked_escaped(r, a) : *a, right = safe ? marked_escaped(r, b) : *b;
    struct marked out = marked_join(r, &left, &right);
    out.safe = safe;
    return value_text(r, out);
}

static struct value repeat_text(struct render *r, const struct marked *t, int64_t n)
{
    struct writer w;
    if (n <= 0 || t->len == 0)
        return value_words(r, "");
    if (n > JINJA_OUTPUT_MAX || t->len > JINJA_OUTPUT_MAX / (size_t)n)
        return render_fail(r, ERR_LIMIT, "a text grows past %d bytes", JINJA_OUTPUT_MAX);
    writer_init(&w, r);
    for (int64_t i = 0; i < n && !r->failed; i++)
        writer_text(&w, t);
    struct marked out = writer_done(&w);
    out.safe = t->safe;
    return value_text(r, out);
}

static struct value repeat_list(struct render *r, const struct list *l, int64_t n)
{
    size_t total, rounds = n > 0 ? (size_t)n : 0;
    if (__builtin_mul_overflow(l->n, rounds, &total) || total > JINJA_MEMORY_MAX / sizeof(struct value))
        return render_fail(r, ERR_LIMIT, "a list grows too long");
    struct list *out = list_new(r, l->kind, total);
    for (size_t i = 0; out && i < total; i++)
        out->items[i] = l->items[i % l->n];
    render_spend(r, total * 8);
    return out ? value_list(out) : UNDEFINED;
}

static struct value add_lists(struct render *r, const struct list *a, const struct list *b)
{
    struct list *out = list_new(r, a->kind, a->n + b->n);
    if (!out)
        return UNDEFINED;
    if (a->n > 0)
        memcpy(out->items, a->items, a->n * sizeof(*a->items));
    if (b->n > 0)
        memcpy(out->items + a->n, b->items, b->n * sizeof(*b->items));
    render_spend(r, out->n * 8);
    return value_list(out);
}

static bool is_row(struct value v)
{
    return v.kind == VALUE_LIST && v.list->kind <= LIST_TUPLE;
}

static bool is_whole(struct value v)
{
    return v.kind == VALUE_INT || v.kind == VALUE_BOOL;
}

/* ---- all of them ---- */

static struct value sign(struct render *r, enum operator op, struct value v)
{
    if (v.kind == VALUE_FLOAT)
        return value_float(op == OP_NEG ? -v.real : v.real);
    if (!is_whole(v))
        return render_fail(r, ERR_INVALID, "bad operand type for unary %c: '%s'", op == OP_NEG ? '-' : '+',
                           value_type(v));
    int64_t i = value_whole(v);
    return i == INT64_MIN ? too_large(r) : value_int(op == OP_NEG ? -i : i);
}

struct value operate(struct render *r, enum operator op, struct value a, struct value b)
{
    if (r->failed)
        return UNDEFINED;
    if (op == OP_MOD && a.kind == VALUE_TEXT)
        return format_percent(r, a.text, b);
    if (a.kind == VALUE_UNDEFINED || b.kind == VALUE_UNDEFINED)
        return value_fail_undefined(r, a.kind == VALUE_UNDEFINED ? a : b);
    if (op == OP_NEG || op == OP_POS)
        return sign(r, op, a);
    if (is_whole(a) && is_whole(b))
        return whole(r, op, value_whole(a), value_whole(b));
    if (value_is_number(a) && value_is_number(b))
        return real(r, op, value_real(a), value_real(b));
    if (op == OP_ADD && a.kind == VALUE_TEXT && b.kind == VALUE_TEXT)
        return add_texts(r, a.text, b.text);
    if (op == OP_ADD && is_row(a) && is_row(b) && a.list->kind == b.list->kind)
        return add_lists(r, a.list, b.list);
    if (op == OP_MUL && is_whole(a)) {
        struct value swap = a;
        a = b;
        b = swap;
    }
    if (op == OP_MUL && a.kind == VALUE_TEXT && is_whole(b))
        return repeat_text(r, a.text, value_whole(b));
    if (op == OP_MUL && is_row(a) && is_whole(b))
        return repeat_list(r, a.list, value_whole(b));
    return wrong_types(r, op, a, b);
}

bool operate_in(struct render *r, struct value what, struct value in)
{
    if (in.kind == VALUE_TEXT) {
        if (what.kind != VALUE_TEXT) {
            render_fail(r, ERR_INVALID, "'in <string>' requires string as left operand, not %s", value_type(what));
            return false;
        }
        return marked_find(r, in.text, 0, what.text) != SIZE_MAX;
    }
    if (in.kind == VALUE_DICT) {
        if (!value_is_key(what))
            render_fail(r, ERR_INVALID, "unhashable type: '%s'", value_type(what));
        return dict_find(r, in.dict, what) != NULL;
    }
    if (!r->failed && in.kind != VALUE_UNDEFINED && in.kind != VALUE_LIST) {
        render_fail(r, ERR_INVALID, "argument of type '%s' is not iterable", value_type(in));
        return false;
    }
    struct list *l = value_iterate(r, in);
    for (size_t i = 0; l && i < l->n && !r->failed; i++) {
        render_spend(r, 0);
        if (value_equal(r, what, l->items[i]))
            return true;
    }
    return false;
}
