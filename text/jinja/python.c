/* python: how Python writes values: str() and repr(). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja/render.h"
#include "text/jinja/unicode.h"

/* Puts the point: digits d.ddd times 10^exponent, with an exponent only where Python writes one. */
static void layout(char out[static 40], const char *digits, int n, int exponent)
{
    size_t at = 0;
    if (exponent < -4 || exponent >= 16) {
        out[at++] = digits[0];
        if (n > 1) {
            out[at++] = '.';
            memcpy(out + at, digits + 1, (size_t)n - 1);
            at += (size_t)n - 1;
        }
        snprintf(out + at, 40 - at, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = -1; i > exponent; i--)
            out[at++] = '0';
    }
    for (int i = 0; i < n || i <= exponent; i++) {
        out[at++] = i < n ? digits[i] : '0';
        if (i == exponent)
            out[at++] = '.';
    }
    if (out[at - 1] == '.')
        out[at++] = '0';
    out[at] = 0;
}

/* The shortest digits that read back as the same number. */
void python_float(char out[static 40], double d)
{
    if (isnan(d) || isinf(d)) {
        snprintf(out, 40, "%s", isnan(d) ? "nan" : d < 0 ? "-inf" : "inf");
        return;
    }
    char text[40], digits[20];
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(text, sizeof(text), "%.*e", precision, d);
        if (strtod(text, NULL) == d)
            break;
    }
    size_t sign = text[0] == '-';
    int n = 0;
    const char *at = text + sign;
    for (; *at && *at != 'e'; at++)
        if (*at >= '0' && *at <= '9' && n < 18)
            digits[n++] = *at;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    int exponent = *at ? (int)strtol(at + 1, NULL, 10) : 0;
    if (sign)
        *out = '-';
    char body[40];
    layout(body, digits, n, exponent);
    snprintf(out + sign, 40 - sign, "%.38s", body);
}

/* ---- repr of texts ---- */

static void escape_number(char out[static 12], uint32_t c)
{
    snprintf(out, 12, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
}

/* The escape of a character, or "" for one that stands for itself. */
static void escape_of(char out[static 12], uint32_t c, char quote)
{
    out[0] = 0;
    if (c == '\\' || c == (unsigned char)quote)
        snprintf(out, 12, "\\%c", (char)c);
    else if (c == '\n' || c == '\r' || c == '\t')
        snprintf(out, 12, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    else if (!unicode_is_printable(c))
        escape_number(out, c);
}

static void write_quoted(struct writer *w, const struct marked *t)
{
    bool single = t->len > 0 && memchr(t->bytes, '\'', t->len), twice = t->len > 0 && memchr(t->bytes, '"', t->len);
    char quote = single && !twice ? '"' : '\'', escape[12];
    size_t from = 0;
    writer_add(w, &quote, 1, false);
    for (size_t at = 0; at < t->len && !w->r->failed;) {
        size_t len;
        escape_of(escape, char_at(t->bytes + at, t->len - at, &len), quote);
        if (escape[0]) {
            writer_part(w, t, from, at);
            writer_add(w, escape, strlen(escape), marked_is_foreign(t, at));
            from = at + len;
        }
        at += len;
    }
    writer_part(w, t, from, t->len);
    writer_add(w, &quote, 1, false);
}

static void write_text(struct writer *w, const struct marked *t)
{
    writer_words(w, t->safe ? "Markup(" : "");
    write_quoted(w, t);
    writer_words(w, t->safe ? ")" : "");
}

/* ---- repr of the rest ---- */

static void write_items(struct writer *w, const struct value *items, size_t n)
{
    for (size_t i = 0; i < n && !w->r->failed; i++) {
        if (i > 0)
            writer_words(w, ", ");
        python_repr(w, items[i]);
    }
}

static void write_list(struct writer *w, const struct list *l)
{
    char text[100];
    switch (l->kind) {
    case LIST_LIST:
        writer_words(w, "[");
        write_items(w, l->items, l->n);
        writer_words(w, "]");
        break;
    case LIST_TUPLE:
    case LIST_GROUP:
        writer_words(w, "(");
        write_items(w, l->items, l->n);
        writer_words(w, l->n == 1 ? ",)" : ")");
        break;
    case LIST_RANGE:
        snprintf(text, sizeof(text), l->step == 1 ? "range(%lld, %lld)" : "range(%lld, %lld, %lld)",
                 (long long)l->start, (long long)l->items[l->n].whole, (long long)l->step);
        writer_words(w, text);
        break;
    case LIST_ITERATOR:
        writer_words(w, "<generator object>");
        break;
    default:
        writer_words(w, value_type(value_list((struct list *)(uintptr_t)l)));
        writer_words(w, "([");
        write_items(w, l->items, l->n);
        writer_words(w, "])");
        break;
    }
}

static void write_dict(struct writer *w, const struct dict *d)
{
    writer_words(w, "{");
    for (size_t i = 0; i < d->n && !w->r->failed; i++) {
        if (i > 0)
            writer_words(w, ", ");
        python_repr(w, d->pairs[i].key);
        writer_words(w, ": ");
        python_repr(w, d->pairs[i].value);
    }
    writer_words(w, "}");
}

static void write_other(struct writer *w, struct value v)
{
    char text[100];
    switch (v.kind) {
    case VALUE_SPACE:
        writer_words(w, "<Namespace ");
        write_dict(w, v.dict);
        writer_words(w, ">");
        break;
    case VALUE_MACRO:
        writer_words(w, "<Macro ");
        write_quoted(w, &(struct marked){.bytes = v.macro->name, .len = strlen(v.macro->name)});
        writer_words(w, ">");
        break;
    case VALUE_LOOP:
        snprintf(text, sizeof(text), "<LoopContext %zu/%zu>", v.loop->index + 1, v.loop->list->n);
        writer_words(w, text);
        break;
    default:
        snprintf(text, sizeof(text), "<%s>", value_type(v));
        writer_words(w, text);
        break;
    }
}

static void write_number(struct writer *w, struct value v)
{
    char text[40];
    if (v.kind == VALUE_BOOL)
        snprintf(text, sizeof(text), "%s", v.truth ? "True" : "False");
    else if (v.kind == VALUE_INT)
        snprintf(text, sizeof(text), "%lld", (long long)v.whole);
    else
        python_float(text, v.real);
    writer_words(w, text);
}

void python_repr(struct writer *w, struct value v)
{
    if (!render_enter(w->r))
        return;
    if (value_is_number(v))
        write_number(w, v);
    else if (v.kind == VALUE_TEXT)
        write_text(w, v.text);
    else if (v.kind == VALUE_NONE)
        writer_words(w, "None");
    else if (v.kind == VALUE_UNDEFINED)
        writer_words(w, "Undefined");
    else if (v.kind == VALUE_LIST)
        write_list(w, v.list);
    else if (v.kind == VALUE_DICT)
        write_dict(w, v.dict);
    else
        write_other(w, v);
    render_leave(w->r);
}

void python_ascii(struct writer *w, struct value v)
{
    char escape[12];
    struct writer repr;
    writer_init(&repr, w->r);
    python_repr(&repr, v);
    struct marked t = writer_done(&repr);
    for (size_t at = 0, n; at < t.len && !w->r->failed; at += n) {
        uint32_t c = char_at(t.bytes + at, t.len - at, &n);
        if (c < 0x80) {
            writer_part(w, &t, at, at + n);
        } else {
            escape_number(escape, c);
            writer_add(w, escape, strlen(escape), marked_is_foreign(&t, at));
        }
    }
}

void python_write(struct writer *w, struct value v)
{
    if (v.kind == VALUE_TEXT)
        writer_text(w, v.text);
    else if (v.kind != VALUE_UNDEFINED && v.kind != VALUE_ABSENT)
        python_repr(w, v);
}

struct marked python_str(struct render *r, struct value v)
{
    struct writer w;
    if (v.kind == VALUE_TEXT)
        return *v.text;
    writer_init(&w, r);
    python_write(&w, v);
    return writer_done(&w);
}
