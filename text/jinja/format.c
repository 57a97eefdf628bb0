/* format: "..." % values, "...".format(values) and format specifications, for numbers and texts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja/render.h"

enum { WIDTH_MAX = 1 << 20, PRECISION_MAX = 400, NUMBER_BYTES = 1024 };

struct spec {
    char fill[5]; /* one character */
    char align;   /* '<' '>' '^' '=', or 0 */
    char sign;    /* '+' ' ' or 0 */
    bool alternate, zero;
    char group;   /* ',' '_' or 0 */
    long width, precision; /* -1: none */
    char type;    /* 0: none */
    bool foreign; /* a stranger wrote some of it: so is what it adds */
};

/* ---- numbers ---- */

/* Puts a separator between every three (or four, for _ with x o b) digits of the whole part. */
static void group_digits(char *text, size_t size, char separator, int every)
{
    size_t start = strcspn(text, "0123456789abcdefABCDEF"), n = strspn(text + start, "0123456789abcdefABCDEF");
    char grouped[NUMBER_BYTES];
    size_t at = 0;
    if (separator == 0 || strlen(text) * 2 > size || n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        grouped[at++] = text[start + i];
        if ((n - 1 - i) % (size_t)every == 0 && i + 1 < n)
            grouped[at++] = separator;
    }
    snprintf(grouped + at, sizeof(grouped) - at, "%s", text + start + n);
    snprintf(text + start, size - start, "%s", grouped);
}

static void whole_digits(char out[static NUMBER_BYTES], int64_t i, const struct spec *s)
{
    uint64_t n = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    char digits[72];
    size_t at = sizeof(digits) - 1;
    unsigned base = s->type == 'b' ? 2 : s->type == 'o' ? 8 : s->type == 'x' || s->type == 'X' ? 16 : 10;
    digits[at] = 0;
    do {
        digits[--at] = (s->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[n % base];
        n /= base;
    } while (n > 0);
    snprintf(out, NUMBER_BYTES, "%s", digits + at);
    group_digits(out, NUMBER_BYTES, s->group, base == 10 ? 3 : 4);
    if (s->alternate && base != 10) {
        char prefixed[NUMBER_BYTES];
        snprintf(prefixed, sizeof(prefixed), "0%c%.900s", s->type, out);
        memcpy(out, prefixed, NUMBER_BYTES);
    }
}

/* printf's %g writes no ".0"; without a type Python keeps it. */
static void real_digits(char out[static NUMBER_BYTES], double d, const struct spec *s)
{
    char type = s->type ? s->type : s->precision < 0 ? 'r' : 'g', format[16];
    int precision = s->precision < 0 ? 6 : (int)s->precision;
    d = fabs(d);
    if (isnan(d) || isinf(d)) {
        snprintf(out, NUMBER_BYTES, "%s", isnan(d) ? "nan" : "inf");
        return;
    }
    if (type == 'r') {
        char text[40];
        python_float(text, d);
        snprintf(out, NUMBER_BYTES, "%s", text);
    } else if (type == '%') {
        snprintf(out, NUMBER_BYTES, "%.*f%%", precision, d * 100);
    } else {
        snprintf(format, sizeof(format), "%%%s.*%c", s->alternate ? "#" : "", type == 'n' ? 'g' : type);
        snprintf(out, NUMBER_BYTES, format, precision, d);
        if (s->type == 0 && strspn(out, "0123456789") == strlen(out) && strlen(out) < NUMBER_BYTES - 3)
            memcpy(out + strlen(out), ".0", 3);
    }
    group_digits(out, NUMBER_BYTES, s->group, 3);
}

/* ---- padding ---- */

static void pad(struct writer *w, const struct spec *s, long n)
{
    for (long i = 0; i < n && !w->r->failed; i++)
        writer_add(w, s->fill, strlen(s->fill), s->foreign);
}

static struct marked padded(struct render *r, const struct marked *t, const char *sign, const struct spec *s,
                            char standard)
{
    struct writer w;
    char align = s->align ? s->align : standard;
    long n = s->width - (long)marked_count(r, t) - (long)strlen(sign);
    long left = n <= 0 || align == '<' ? 0 : align == '^' ? n / 2 : n;
    writer_init(&w, r);
    if (align != '=')
        pad(&w, s, left);
    writer_add(&w, sign, strlen(sign), s->foreign);
    if (align == '=')
        pad(&w, s, left);
    writer_text(&w, t);
    pad(&w, s, n > 0 ? n - left : 0);
    return writer_done(&w);
}

static struct marked number_text(struct render *r, struct value v, const struct spec *s)
{
    char digits[NUMBER_BYTES], sign[2] = {s->sign, 0};
    bool negative, whole = v.kind != VALUE_FLOAT && (s->type == 0 || strchr("dbox" "Xn", s->type));
    if (whole) {
        whole_digits(digits, value_whole(v), s);
        negative = value_whole(v) < 0;
    } else {
        real_digits(digits, value_real(v), s);
        negative = signbit(value_real(v)) && !isnan(value_real(v));
    }
    if (negative)
        sign[0] = '-';
    struct marked text = {.bytes = digits, .len = strlen(digits), .foreign = s->foreign};
    return padded(r, &text, sign, s, s->zero ? '=' : '>');
}

static struct marked text_text(struct render *r, const struct marked *t, const struct spec *s)
{
    struct marked cut = s->precision < 0 ? *t : marked_part(t, 0, marked_at(r, t, (size_t)s->precision));
    return padded(r, &cut, "", s, '<');
}

/* ---- specifications ---- */

static long read_number(const char **at, const char *end)
{
    long n = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        n = n < WIDTH_MAX ? n * 10 + (**at - '0') : n;
    return n;
}

static bool one_of(const char *at, const char *end, const char *set)
{
    return at < end && *at && strchr(set, *at);
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool read_spec(struct render *r, struct spec *s, const struct marked *t)
{
    const char *at = t->bytes, *end = at + t->len;
    *s = (struct spec){.fill = " ", .precision = -1, .foreign = marked_has_foreign(t)};
    size_t first = t->len > 0 ? char_len(at, t->len) : 0;
    if (first > 0 && one_of(at + first, end, "<>^=")) {
        memcpy(s->fill, at, first);
        s->fill[first] = 0;
        at += first;
    }
    if (one_of(at, end, "<>^="))
        s->align = *at++;
    if (one_of(at, end, "+- "))
        s->sign = *at++;
    s->sign = s->sign == '-' ? 0 : s->sign;
    if (one_of(at, end, "#") && at++)
        s->alternate = true;
    if (one_of(at, end, "0") && at++) {
        s->zero = true;
        if (!s->align)
            memcpy(s->fill, "0", 2);
    }
    s->width = read_number(&at, end);
    if (one_of(at, end, ",_"))
        s->group = *at++;
    if (one_of(at, end, ".") && at++)
        s->precision = read_number(&at, end);
    if (one_of(at, end, "sdbox" "XnfFeEgG%"))
        s->type = *at++;
    if (at != end || s->width > WIDTH_MAX || s->precision > WIDTH_MAX)
        render_fail(r, ERR_INVALID, "Invalid format specifier");
    return !r->failed;
}

struct marked format_value(struct render *r, struct value v, const struct marked *spec)
{
    struct spec s;
    if (spec->len == 0 || !read_spec(r, &s, spec))
        return python_str(r, v);
    if (value_is_number(v) && !(v.kind == VALUE_BOOL && s.type == 0) && s.type != 's') {
        if (s.precision > PRECISION_MAX || (v.kind == VALUE_FLOAT && one_of(&s.type, &s.type + 1, "dbox" "X")))
            render_fail(r, ERR_INVALID, "Unknown format code '%c' or precision for a number", s.type ? s.type : ' ');
        return r->failed ? marked_own("", 0) : number_text(r, v, &s);
    }
    if ((s.type != 0 && s.type != 's') || s.align == '=' || v.kind != VALUE_TEXT)
        render_fail(r, ERR_INVALID, "a format specifier does not fit a value of type '%s'", value_type(v));
    return r->failed ? marked_own("", 0) : text_text(r, v.text, &s);
}

/* As str(), repr() or ascii(): s, r or a. */
static void write_as(struct writer *w, struct value v, char how)
{
    if (how == 's')
        python_write(w, v);
    else if (how == 'r')
        python_repr(w, v);
    else
        python_ascii(w, v);
}

/* ---- % ---- */

struct percent {
    struct value args;
    size_t next;
};

static struct value next_arg(struct render *r, struct percent *p)
{
    bool tuple = p->args.kind == VALUE_LIST && p->args.list->kind == LIST_TUPLE;
    size_t n = tuple ? p->args.list->n : 1;
    if (p->next >= n)
        return render_fail(r, ERR_INVALID, "not enough arguments for format string");
    p->next++;
    return tuple ? p->args.list->items[p->next - 1] : p->args;
}

static long star_or_number(struct render *r, struct percent *p, const char **at, const char *end)
{
    if (!one_of(*at, end, "*"))
        return read_number(at, end);
    (*at)++;
    int64_t n = 0;
    return arg_int(r, next_arg(r, p), 0, &n) && n >= 0 && n <= WIDTH_MAX ? (long)n : 0;
}

/* A character, or the one of a code point: a number says not whose it is, so that one is a stranger's. */
static void write_char(struct writer *w, struct value v)
{
    bool whole = v.kind == VALUE_INT || v.kind == VALUE_BOOL;
    int64_t c = whole ? value_whole(v) : 0;
    if (whole && c >= 0 && c <= 0x10FFFF && !(c >= 0xD800 && c < 0xE000))
        writer_char(w, (uint32_t)c, true);
    else if (v.kind == VALUE_TEXT && v.text->len > 0 && char_len(v.text->bytes, v.text->len) == v.text->len)
        writer_text(w, v.text);
    else
        render_fail(w->r, ERR_INVALID, "%%c requires a character or the number of one");
}

static struct marked words_converted(struct render *r, struct value v, struct spec *s)
{
    struct writer words;
    writer_init(&words, r);
    if (s->type == 'c')
        write_char(&words, v);
    else
        write_as(&words, v, s->type);
    s->precision = s->type == 'c' ? -1 : s->precision;
    s->align = s->align ? s->align : '>';
    struct marked text = writer_done(&words);
    return text_text(r, &text, s);
}

static struct marked number_converted(struct render *r, struct value v, struct spec *s)
{
    bool whole = s->type == 'd' || s->type == 'i' || s->type == 'u';
    if (!value_is_number(v)) {
        render_fail(r, ERR_INVALID, "%%%c format: a real number is required, not %s", s->type, value_type(v));
        return marked_own("", 0);
    }
    if (v.kind == VALUE_FLOAT && whole && fabs(v.real) < 9e18)
        v = value_int((int64_t)v.real);
    s->type = whole ? 'd' : s->type;
    if (s->precision > PRECISION_MAX || (v.kind == VALUE_FLOAT && one_of(&s->type, &s->type + 1, "dox" "X")))
        render_fail(r, ERR_INVALID, "%%%c format: a number is required that fits", s->type);
    return r->failed ? marked_own("", 0) : number_text(r, v, s);
}

static void write_converted(struct writer *w, struct value v, struct spec *s)
{
    bool words = one_of(&s->type, &s->type + 1, "srac");
    struct marked text = words ? words_converted(w->r, v, s) : number_converted(w->r, v, s);
    writer_text(w, &text);
}

/* The part of a format between two of its bytes. */
static struct marked between(const struct marked *format, const char *from, const char *to)
{
    return marked_part(format, (size_t)(from - format->bytes), (size_t)(to - format->bytes));
}

/* What stands at a %: (name) flags width .precision type. */
static const char *convert(struct writer *w, struct percent *p, const struct marked *format, const char *percent)
{
    struct render *r = w->r;
    const char *at = percent + 1, *end = format->bytes + format->len;
    struct spec s = {.fill = " ", .precision = -1};
    struct value v = ABSENT;
    if (one_of(at, end, "(")) {
        const char *close = memchr(at, ')', (size_t)(end - at));
        if (!close || p->args.kind != VALUE_DICT) {
            render_fail(r, ERR_INVALID, "format requires a mapping");
            return end;
        }
        v = item_get(r, p->args, value_text(r, between(format, at + 1, close)));
        at = close + 1;
    }
    for (; one_of(at, end, "-+ #0"); at++) {
        s.align = *at == '-' ? '<' : s.align;
        s.sign = *at == '+' || (*at == ' ' && !s.sign) ? *at : s.sign;
        s.alternate = s.alternate || *at == '#';
        s.zero = s.zero || *at == '0';
    }
    s.width = star_or_number(r, p, &at, end);
    if (one_of(at, end, ".") && at++)
        s.precision = star_or_number(r, p, &at, end);
    if (!one_of(at, end, "sradiuxXofFeEgGc") || s.width > WIDTH_MAX) {
        render_fail(r, ERR_INVALID, "unsupported format character or width in a format");
        return end;
    }
    struct marked whole = between(format, percent, at + 1);
    s.foreign = marked_has_foreign(&whole);
    s.type = *at;
    if (s.zero && s.align != '<' && strchr("srac", s.type) == NULL)
        memcpy(s.fill, "0", 2);
    else
        s.zero = false;
    if (!value_is_given(v))
        v = next_arg(r, p);
    if (!r->failed)
        write_converted(w, v, &s);
    return at + 1;
}

struct value format_percent(struct render *r, const struct marked *format, struct value args)
{
    struct percent p = {.args = args};
    struct writer w;
    writer_init(&w, r);
    const char *at = format->bytes, *end = at + format->len;
    while (at < end && !r->failed) {
        const char *percent = memchr(at, '%', (size_t)(end - at)), *stop = percent ? percent : end;
        writer_part(&w, format, (size_t)(at - format->bytes), (size_t)(stop - format->bytes));
        at = stop;
        if (percent && percent + 1 < end && percent[1] == '%') {
            writer_part(&w, format, (size_t)(at - format->bytes), (size_t)(at - format->bytes) + 1);
            at += 2;
        } else if (percent) {
            at = convert(&w, &p, format, percent);
        }
    }
    bool tuple = args.kind == VALUE_LIST && args.list->kind == LIST_TUPLE;
    if (!r->failed && args.kind != VALUE_DICT && !(args.kind == VALUE_LIST && !tuple) &&
        p.next < (tuple ? args.list->n : 1))
        return render_fail(r, ERR_INVALID, "not all arguments converted during string formatting");
    return value_text(r, writer_done(&w));
}

/* ---- {} ---- */

struct braces {
    struct writer *w;
    const struct args *args;
    int64_t next; /* -1: places are numbered by hand */
};

static struct value field_first(struct render *r, struct braces *b, const char *name, size_t n)
{
    int64_t at = 0;
    bool digits = n > 0 && n < 6;
    for (size_t i = 0; i < n; i++) {
        digits = digits && name[i] >= '0' && name[i] <= '9';
        at = digits ? at * 10 + (name[i] - '0') : 0;
    }
    if (n == 0 || digits) {
        if ((n == 0) == (b->next < 0) && !(n > 0 && b->next == 0))
            return render_fail(r, ERR_INVALID, "cannot switch between manual and automatic field numbering");
        at = n == 0 ? b->next++ : at;
        b->next = n == 0 ? b->next : -1;
        if ((uint64_t)at >= b->args->n)
            return render_fail(r, ERR_INVALID, "Replacement index %lld out of range for positional args tuple",
                               (long long)at);
        return b->args->list[at];
    }
    render_spend(r, b->args->n_named);
    for (size_t i = 0; i < b->args->n_named; i++)
        if (b->args->named[i].name->len == n && memcmp(b->args->named[i].name->bytes, name, n) == 0)
            return b->args->named[i].value;
    return render_fail(r, ERR_INVALID, "format: no argument '%.*s'", (int)(n < 100 ? n : 100), name);
}

/* first.member[key] ... */
static struct value field_value(struct render *r, struct braces *b, const struct marked *name)
{
    const char *at = name->bytes, *end = at + name->len, *stop = at;
    while (stop < end && *stop != '.' && *stop != '[')
        stop++;
    struct value v = field_first(r, b, at, (size_t)(stop - at));
    for (at = stop; at < end && !r->failed; at = stop) {
        bool member = *at == '.';
        for (stop = at + 1; stop < end && (member ? *stop != '.' && *stop != '[' : *stop != ']');)
            stop++;
        struct value key = value_text(r, between(name, at + 1, stop));
        char *rest;
        long number = member ? 0 : strtol(at + 1, &rest, 10);
        if (!member && rest == stop && rest > at + 1)
            key = value_int(number);
        v = member ? member_get(r, v, key) : item_get(r, v, key);
        stop += !member && stop < end;
    }
    return v;
}

/* !r, !s or !a; nothing but a specification may follow. */
static struct value field_converted(struct render *r, struct value v, const char *at, const char *end)
{
    struct writer text;
    if (!one_of(at + 1, end, "rsa") || (at + 2 < end && at[2] != ':'))
        return render_fail(r, ERR_INVALID, "Unknown conversion specifier in a format");
    writer_init(&text, r);
    write_as(&text, v, at[1]);
    return value_text(r, writer_done(&text));
}

/* name!r:spec, between braces */
static void write_field(struct render *r, struct braces *b, const struct marked *field)
{
    const char *at = field->bytes, *end = at + field->len;
    int open = 0;
    while (at < end && (open > 0 || (*at != '!' && *at != ':'))) {
        open += *at == '[' ? 1 : *at == ']' ? -1 : 0;
        at++;
    }
    struct marked name = between(field, field->bytes, at);
    struct value v = field_value(r, b, &name);
    if (at < end && *at == '!') {
        v = field_converted(r, v, at, end);
        at = at + 2 < end ? at + 2 : end;
    }
    if (r->failed)
        return;
    struct marked spec = between(field, at < end ? at + 1 : end, end);
    if (memchr(spec.bytes, '{', spec.len)) {
        render_fail(r, ERR_UNSUPPORTED, "fields inside of format specifiers are not supported");
        return;
    }
    struct marked text = format_value(r, v, &spec);
    writer_text(b->w, &text);
}

struct value format_braces(struct render *r, const struct marked *format, const struct args *args)
{
    struct writer w;
    struct braces b = {&w, args, 0};
    writer_init(&w, r);
    for (size_t at = 0; at < format->len && !r->failed;) {
        size_t plain = at;
        while (at < format->len && format->bytes[at] != '{' && format->bytes[at] != '}')
            at++;
        writer_part(&w, format, plain, at);
        if (at == format->len)
            break;
        if (at + 1 < format->len && format->bytes[at + 1] == format->bytes[at]) {
            writer_part(&w, format, at, at + 1);
            at += 2;
            continue;
        }
        const char *close = format->bytes[at] == '{' ? memchr(format->bytes + at, '}', format->len - at) : NULL;
        if (!close)
            return render_fail(r, ERR_INVALID, "Single '%c' encountered in format string", format->bytes[at]);
        struct marked field = between(format, format->bytes + at + 1, close);
        write_field(r, &b, &field);
        at = (size_t)(close - format->bytes) + 1;
    }
    return value_text(r, writer_done(&w));
}
