/* filters: numbers, defaults, JSON and HTML; and the look-up over all tables. */
#include "text/jinja/filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja/texts.h"

static struct value filter_default(struct render *r, const struct call *c)
{
    struct value otherwise = value_is_given(c->slot[0]) ? c->slot[0] : value_words(r, "");
    bool falsy = arg_flag(r, c->slot[1], false) && !value_truth(r, c->self);
    return c->self.kind == VALUE_UNDEFINED || falsy ? otherwise : c->self;
}

static struct value filter_string(struct render *r, const struct call *c)
{
    return c->self.kind == VALUE_TEXT ? c->self : value_text(r, python_str(r, c->self));
}

static struct value filter_safe(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    t.safe = true;
    return value_text(r, t);
}

static struct value filter_escape(struct render *r, const struct call *c)
{
    struct marked t = python_str(r, c->self);
    if (c->row->mode)
        t.safe = false;
    return value_text(r, marked_escaped(r, &t));
}

static struct value filter_length(struct render *r, const struct call *c)
{
    int64_t n;
    if (!value_length(r, c->self, &n))
        return render_fail(r, ERR_INVALID, "object of type '%s' has no len()", value_type(c->self));
    return value_int(n);
}

static struct value filter_attr(struct render *r, const struct call *c)
{
    struct marked name;
    if (!arg_text(r, c->slot[0], &name))
        return UNDEFINED;
    if (c->self.kind == VALUE_DICT && !other_method_find(r, c->self, name.bytes, name.len))
        return value_missing(r, MISSING_MEMBER, value_type(c->self), c->slot[0]);
    return member_get(r, c->self, c->slot[0]);
}

/* ---- JSON ---- */

static bool json_separators(struct render *r, struct value v, struct json_style *s)
{
    if (v.kind != VALUE_LIST || v.list->n != 2 || v.list->items[0].kind != VALUE_TEXT ||
        v.list->items[1].kind != VALUE_TEXT) {
        render_fail(r, ERR_INVALID, "separators must be two texts");
        return false;
    }
    s->comma = v.list->items[0].text;
    s->colon = v.list->items[1].text;
    return true;
}

static struct value filter_tojson(struct render *r, const struct call *c)
{
    const struct marked comma = marked_own(",", 1), spaced = marked_own(", ", 2), colon = marked_own(": ", 2);
    struct value indent = c->slot[1];
    struct json_style s = {.ascii = arg_flag(r, c->slot[0], false), .sorted = arg_flag(r, c->slot[3], false),
                           .comma = &spaced, .colon = &colon};
    struct marked blanks;
    struct writer w;
    if (value_is_given(indent) && indent.kind != VALUE_NONE) {
        indent = indent.kind == VALUE_TEXT ? indent : operate(r, OP_MUL, value_words(r, " "), indent);
        if (!arg_text(r, indent, &blanks))
            return UNDEFINED;
        s.indent = &blanks;
        s.comma = &comma;
    }
    if (value_is_given(c->slot[2]) && c->slot[2].kind != VALUE_NONE && !json_separators(r, c->slot[2], &s))
        return UNDEFINED;
    writer_init(&w, r);
    value_to_json(&w, c->self, &s, 0);
    return value_text(r, writer_done(&w));
}

/* ---- numbers ---- */

/* Reading a number goes through all the white space around it. */
static void spend_reading(struct render *r, struct value v)
{
    render_spend(r, v.kind == VALUE_TEXT ? v.text->len : 0);
}

static struct value filter_int(struct render *r, const struct call *c)
{
    struct value otherwise = value_is_given(c->slot[0]) ? c->slot[0] : value_int(0), v = c->self;
    int64_t whole, base;
    double real;
    if (!arg_int(r, c->slot[1], 10, &base))
        return UNDEFINED;
    spend_reading(r, v);
    if (v.kind == VALUE_INT || v.kind == VALUE_BOOL)
        return value_int(value_whole(v));
    if (v.kind == VALUE_UNDEFINED)
        return value_fail_undefined(r, v);
    if (v.kind == VALUE_TEXT && text_to_int(v.text, base, &whole))
        return value_int(whole);
    if (v.kind == VALUE_FLOAT)
        real = v.real;
    else if (v.kind != VALUE_TEXT || !text_to_float(v.text, &real))
        return otherwise;
    if (!(fabs(real) < 9.2e18))
        return !isfinite(real) ? otherwise : render_fail(r, ERR_LIMIT, "a whole number does not fit 64 bits");
    return value_int((int64_t)real);
}

static struct value filter_float(struct render *r, const struct call *c)
{
    struct value v = c->self;
    double real;
    spend_reading(r, v);
    if (value_is_number(v))
        return value_float(value_real(v));
    if (v.kind == VALUE_UNDEFINED)
        return value_fail_undefined(r, v);
    if (v.kind == VALUE_TEXT && text_to_float(v.text, &real))
        return value_float(real);
    return value_is_given(c->slot[0]) ? c->slot[0] : value_float(0);
}

static struct value filter_abs(struct render *r, const struct call *c)
{
    struct value v = c->self;
    if (!value_is_number(v))
        return v.kind == VALUE_UNDEFINED
                   ? value_fail_undefined(r, v)
                   : render_fail(r, ERR_INVALID, "bad operand type for abs(): '%s'", value_type(v));
    if (v.kind == VALUE_FLOAT)
        return value_float(fabs(v.real));
    return value_whole(v) < 0 ? operate(r, OP_NEG, v, v) : value_int(value_whole(v));
}

/* Half to even by the exact binary value, as Python's round(): printf() does just that. */
static double round_to(double d, int64_t places)
{
    char text[400];
    if (places > 20 || isnan(d) || isinf(d) || fabs(d) > 1e300)
        return d;
    if (places >= 0) {
        snprintf(text, sizeof(text), "%.*f", (int)places, d);
        return strtod(text, NULL);
    }
    double unit = pow(10, -(double)places);
    return places < -300 ? 0 : nearbyint(d / unit) * unit;
}

static struct value filter_round(struct render *r, const struct call *c)
{
    struct marked method = marked_own("common", 6);
    int64_t places;
    if (!arg_int(r, c->slot[0], 0, &places) || (value_is_given(c->slot[1]) && !arg_text(r, c->slot[1], &method)))
        return UNDEFINED;
    if (!value_is_number(c->self))
        return render_fail(r, ERR_INVALID, "type %s doesn't define __round__ method", value_type(c->self));
    bool common = marked_is(&method, "common"), up = marked_is(&method, "ceil");
    if (!common && !up && !marked_is(&method, "floor"))
        return render_fail(r, ERR_INVALID, "method must be common, ceil or floor");
    double d = value_real(c->self);
    if (common && c->self.kind != VALUE_FLOAT && places >= 0)
        return value_int(value_whole(c->self));
    double rounded = common ? round_to(d, places) : 0;
    if (common && c->self.kind == VALUE_FLOAT)
        return value_float(rounded);
    if (common && !(fabs(rounded) < 0x1p63))
        return render_fail(r, ERR_LIMIT, "a whole number does not fit 64 bits");
    if (common)
        return value_int((int64_t)rounded);
    double unit = pow(10, (double)places);
    return value_float((up ? ceil(d * unit) : floor(d * unit)) / unit);
}

static struct value filter_filesize(struct render *r, const struct call *c)
{
    static const char *const prefixes[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                               {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    bool binary = arg_flag(r, c->slot[0], false);
    double base = binary ? 1024 : 1000, bytes = 0, unit = base;
    char text[400];
    struct writer w;
    spend_reading(r, c->self);
    if (value_is_number(c->self))
        bytes = value_real(c->self);
    else if (c->self.kind != VALUE_TEXT || !text_to_float(c->self.text, &bytes))
        return render_fail(r, ERR_INVALID, "a size must be a number");
    if (bytes == 1) {
        snprintf(text, sizeof(text), "1 Byte");
    } else if (bytes < base) {
        snprintf(text, sizeof(text), "%.0f Bytes", trunc(bytes) + 0.0); /* no -0 */
    } else {
        size_t i = 0;
        for (unit = base * base; bytes >= unit && i < 7; i++)
            unit *= base;
        snprintf(text, sizeof(text), "%.1f %s", base * bytes / unit, prefixes[binary][i]);
    }
    writer_init(&w, r);
    writer_words(&w, text);
    return value_text(r, writer_done(&w));
}

const struct builtin number_filters[] = {
    {"default", "default_value boolean", 0, filter_default, 0},
    {"d", "default_value boolean", 0, filter_default, 0},
    {"string", "", 0, filter_string, 0},
    {"safe", "", 0, filter_safe, 0},
    {"escape", "", 0, filter_escape, 0},
    {"e", "", 0, filter_escape, 0},
    {"forceescape", "", 0, filter_escape, 1},
    {"length", "", 0, filter_length, 0},
    {"count", "", 0, filter_length, 0},
    {"attr", "name", 1, filter_attr, 0},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, filter_tojson, 0},
    {"int", "default base", 0, filter_int, 0},
    {"float", "default", 0, filter_float, 0},
    {"abs", "", 0, filter_abs, 0},
    {"round", "precision method", 0, filter_round, 0},
    {"filesizeformat", "binary", 0, filter_filesize, 0},
    {NULL, NULL, 0, NULL, 0},
};

const struct builtin *filter_find(const char *name, size_t len)
{
    static const struct builtin *const tables[] = {text_filters, list_filters, number_filters};
    for (size_t t = 0; t < COUNTOF(tables); t++)
        for (const struct builtin *row = tables[t]; row->name; row++)
            if (strlen(row->name) == len && memcmp(row->name, name, len) == 0)
                return row;
    return NULL;
}
