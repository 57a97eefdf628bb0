/* functions: what templates may call by name. */
#include <time.h>

#include "text/jinja/render.h"

enum { DATE_BYTES_MAX = 4096 };

static struct value fn_range(struct render *r, const struct call *c)
{
    int64_t from, to, step, n = 0;
    bool one = !value_is_given(c->slot[1]);
    if (!arg_int(r, c->slot[one ? 1 : 0], 0, &from) || !arg_int(r, c->slot[one ? 0 : 1], 0, &to) ||
        !arg_int(r, c->slot[2], 1, &step))
        return UNDEFINED;
    if (step == 0)
        return render_fail(r, ERR_INVALID, "range() arg 3 must not be zero");
    double count = step > 0 ? ((double)to - (double)from) / (double)step : ((double)from - (double)to) / -(double)step;
    if (count > JINJA_RANGE_MAX)
        return render_fail(r, ERR_LIMIT, "Range too big. The sandbox blocks ranges larger than %d.", JINJA_RANGE_MAX);
    for (int64_t i = from; count > 0 && (step > 0 ? i < to : i > to); n++)
        if (__builtin_add_overflow(i, step, &i))
            i = step > 0 ? INT64_MAX : INT64_MIN;
    struct list *l = list_new(r, LIST_RANGE, (size_t)n + 1);
    if (!l)
        return UNDEFINED;
    for (int64_t i = 0; i < n; i++) /* between from and to, whatever overflows on the way */
        l->items[i] = value_int((int64_t)((uint64_t)from + (uint64_t)i * (uint64_t)step));
    l->items[n] = value_int(to); /* which repr() says */
    l->n = (size_t)n;
    l->start = from;
    l->step = step;
    return value_list(l);
}

/* The pairs of a dict or of a list of pairs, then the named arguments. */
static struct dict *dict_of(struct render *r, const struct args *args)
{
    struct dict *d = dict_new(r, args->n_named);
    if (!d)
        return NULL;
    if (args->n > 1) {
        render_fail(r, ERR_INVALID, "expected at most 1 argument, got %zu", args->n);
        return NULL;
    }
    if (args->n == 1 && (args->list[0].kind == VALUE_DICT || args->list[0].kind == VALUE_SPACE)) {
        const struct dict *from = args->list[0].dict;
        for (size_t i = 0; i < from->n && !r->failed; i++)
            dict_set(r, d, from->pairs[i].key, from->pairs[i].value);
    } else if (args->n == 1) {
        const struct list *l = value_iterate(r, args->list[0]);
        for (size_t i = 0; l && i < l->n && !r->failed; i++) {
            const struct list *both = value_iterate(r, l->items[i]);
            if (both && both->n == 2)
                dict_set(r, d, both->items[0], both->items[1]);
            else
                render_fail(r, ERR_INVALID, "dictionary update sequence element #%zu has not length 2", i);
        }
    }
    for (size_t i = 0; i < args->n_named && !r->failed; i++)
        dict_set(r, d, (struct value){.kind = VALUE_TEXT, .text = args->named[i].name}, args->named[i].value);
    return r->failed ? NULL : d;
}

static struct value fn_dict(struct render *r, const struct call *c)
{
    struct dict *d = dict_of(r, c->args);
    return d ? value_dict(d) : UNDEFINED;
}

static struct value fn_namespace(struct render *r, const struct call *c)
{
    struct dict *d = dict_of(r, c->args);
    return d ? (struct value){.kind = VALUE_SPACE, .dict = d} : UNDEFINED;
}

static struct value fn_raise(struct render *r, const struct call *c)
{
    struct marked words = python_str(r, c->slot[0]);
    if (r->failed)
        return UNDEFINED;
    r->verbatim = true;
    return render_fail(r, ERR_INVALID, "%.*s", words.len < 500 ? (int)words.len : 500, words.bytes);
}

/* Python's datetime answers these itself; it has no time zone here. */
static void own_directives(struct writer *w, const struct marked *format)
{
    for (size_t at = 0, n; at < format->len; at += n) {
        bool percent = format->bytes[at] == '%' && at + 1 < format->len;
        char kind = percent ? format->bytes[at + 1] : 0;
        n = percent ? 2 : 1;
        if (kind == 'f')
            writer_words(w, "000000");
        else if (kind != 'z' && kind != 'Z')
            writer_part(w, format, at, at + n);
    }
}

static struct value fn_strftime(struct render *r, const struct call *c)
{
    struct marked format;
    struct writer plain, w;
    struct tm now;
    time_t seconds = (time_t)r->context->now;
    if (!arg_text(r, c->slot[0], &format) || !localtime_r(&seconds, &now))
        return UNDEFINED;
    writer_init(&plain, r);
    own_directives(&plain, &format);
    writer_add(&plain, ".", 2, false); /* so that strftime() gives 0 only when it has no room */
    char *out = render_alloc(r, DATE_BYTES_MAX);
    if (!out || r->failed)
        return UNDEFINED;
    size_t n = format.len < DATE_BYTES_MAX ? strftime(out, DATE_BYTES_MAX, plain.bytes, &now) : 0;
    if (n == 0)
        return render_fail(r, ERR_LIMIT, "a date is longer than %d bytes", DATE_BYTES_MAX);
    writer_init(&w, r);
    writer_add(&w, out, n - 1, marked_has_foreign(&format));
    return value_text(r, writer_done(&w));
}

static struct value wheel(struct render *r, enum value_kind kind, const struct value *items, size_t n)
{
    struct cycler *cycler = render_alloc(r, sizeof(*cycler));
    struct list *l = list_new(r, LIST_LIST, n);
    for (size_t i = 0; l && i < n; i++)
        l->items[i] = items[i];
    if (!cycler || !l)
        return UNDEFINED;
    cycler->list = l;
    return (struct value){.kind = kind, .cycler = cycler};
}

static struct value fn_cycler(struct render *r, const struct call *c)
{
    if (c->args->n == 0)
        return render_fail(r, ERR_INVALID, "at least one item has to be provided");
    return wheel(r, VALUE_CYCLER, c->args->list, c->args->n);
}

static struct value fn_joiner(struct render *r, const struct call *c)
{
    struct value comma = value_is_given(c->slot[0]) ? c->slot[0] : value_words(r, ", ");
    return wheel(r, VALUE_JOINER, &comma, 1);
}

static const struct builtin functions[] = {
    {"range", "start stop step", 1, fn_range, 0},
    {"dict", NULL, 0, fn_dict, 0},
    {"namespace", NULL, 0, fn_namespace, 0},
    {"raise_exception", "message", 1, fn_raise, 0},
    {"strftime_now", "format", 1, fn_strftime, 0},
    {"cycler", NULL, 0, fn_cycler, 0},
    {"joiner", "sep", 0, fn_joiner, 0},
};

const struct builtin *function_find(const char *name, size_t len)
{
    return builtin_find(functions, COUNTOF(functions), name, len);
}
