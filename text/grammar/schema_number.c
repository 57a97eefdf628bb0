/* schema_number: numbers between bounds, digit by digit.
 *
 * Bounds are taken as decimal texts.  A number within them is a whole part and
 * a fraction; where the whole part is that of a bound, the fraction is bounded
 * as well.  Everything is done for numbers from 0 up; those below are the same
 * with a sign.  Numbers have at most 15 digits before the point, and after it so
 * few that reading them as a double cannot carry them over a bound.          */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "text/grammar/schema.h"

#define WHOLE_MAX 999999999999999ll /* JSON_INTEGER_DIGITS_MAX of them */
enum { FRACTION_MAX = 17, DIGITS_MAX = 15, RESIDUES_MAX = 64, RESIDUE_DIGITS = 12 };

/* A bound from 0 up. */
struct decimal {
    long long whole;
    char fraction[32]; /* digits, no zeros at the end */
    bool strict;
};

struct bound {
    bool set, negative;
    bool beyond; /* not set, but numbers with an exponent could pass it */
    struct decimal at;
};

/* ---- whole numbers ---- */

static uint32_t digit(struct rules *r, char first, char last)
{
    struct charset s = {0};
    charset_add(&s, (uint32_t)first, (uint32_t)last);
    uint32_t expr = rules_set(r, &s);
    charset_close(&s);
    return expr;
}

static uint32_t free_digits(struct rules *r, uint32_t min, uint32_t max)
{
    return max == 0 ? rules_empty(r) : rules_repeat(r, digit(r, '0', '9'), min, max);
}

/* Texts of n digits from lo to hi; NULL: no bound. */
static uint32_t same_length(struct rules *r, const char *lo, const char *hi, size_t n)
{
    if (n == 0 || (!lo && !hi))
        return free_digits(r, (uint32_t)n, (uint32_t)n);
    char a = lo ? *lo : '0', b = hi ? *hi : '9';
    if (lo && hi && a == b)
        return rules_sequence_of(r, 2, digit(r, a, a), same_length(r, lo + 1, hi + 1, n - 1));
    struct rules_list parts = {0};
    if (lo)
        rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, a, a), same_length(r, lo + 1, NULL, n - 1)));
    char first = lo ? (char)(a + 1) : a, last = hi ? (char)(b - 1) : b;
    if (first <= last)
        rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, first, last), same_length(r, NULL, NULL, n - 1)));
    if (hi)
        rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, b, b), same_length(r, NULL, hi + 1, n - 1)));
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    return expr;
}

/* 0 <= lo, hi <= WHOLE_MAX */
static uint32_t whole_range(struct rules *r, long long lo, long long hi)
{
    struct rules_list parts = {0};
    long long least = 0, most = 9; /* of so many digits */
    for (size_t n = 1; n <= JSON_INTEGER_DIGITS_MAX; n++) {
        long long a = lo > least ? lo : least, b = hi < most ? hi : most;
        char from[24], to[24];
        snprintf(from, sizeof(from), "%lld", a);
        snprintf(to, sizeof(to), "%lld", b);
        if (a <= b)
            rules_list_add(&parts, same_length(r, from, to, n));
        least = most + 1;
        most = most * 10 + 9;
    }
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    return expr;
}

static uint32_t signed_text(struct rules *r, uint32_t expr)
{
    return rules_sequence_of(r, 2, rules_string(r, "-"), expr);
}

static uint32_t integer_range(struct rules *r, long long lo, long long hi)
{
    uint32_t parts[2];
    size_t n = 0;
    if (hi >= 0)
        parts[n++] = whole_range(r, lo > 0 ? lo : 0, hi);
    if (lo < 0)
        parts[n++] = signed_text(r, whole_range(r, hi < 0 ? -hi : 1, -lo));
    return rules_choice(r, parts, n);
}

/* ---- fractions ---- */

/* Digits after the point that keep it between lo and hi (NULL: no bound); `left`: how many there may be. */
struct span {
    const char *lo, *hi;
    bool lo_strict, hi_strict;
};

static bool may_end(struct span s)
{
    bool above = !s.lo || (*s.lo == '\0' && !s.lo_strict);
    bool below = !s.hi || *s.hi != '\0' || !s.hi_strict;
    return above && below;
}

static uint32_t fraction(struct rules *r, struct span s, uint32_t left, bool end)
{
    struct rules_list parts = {0};
    if (end && may_end(s))
        rules_list_add(&parts, rules_empty(r));
    if (left > 0) {
        char a = s.lo && *s.lo ? *s.lo : '0', b = s.hi ? (*s.hi ? *s.hi : '0') : '9';
        struct span lower = {s.lo && *s.lo ? s.lo + 1 : s.lo, NULL, s.lo_strict, false};
        struct span upper = {NULL, s.hi && *s.hi ? s.hi + 1 : s.hi, false, s.hi_strict};
        char first = s.lo ? (char)(a + 1) : a, last = s.hi ? (char)(b - 1) : b;
        if (s.lo && s.hi && a == b) {
            struct span both = {lower.lo, upper.hi, s.lo_strict, s.hi_strict};
            rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, a, a), fraction(r, both, left - 1, true)));
        } else if (!s.hi || a <= b) {
            if (s.lo)
                rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, a, a), fraction(r, lower, left - 1, true)));
            if (s.hi)
                rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, b, b), fraction(r, upper, left - 1, true)));
        }
        if (first <= last)
            rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, first, last), free_digits(r, 0, left - 1)));
    }
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    return expr;
}

/* A point and digits, or nothing where that is within. */
static uint32_t point(struct rules *r, struct span s, uint32_t digits)
{
    uint32_t parts[2];
    size_t n = 0;
    if (digits > 0)
        parts[n++] = rules_sequence_of(r, 2, rules_string(r, "."), fraction(r, s, digits, false));
    if (may_end(s))
        parts[n++] = rules_empty(r);
    return rules_choice(r, parts, n);
}

/* ---- numbers from 0 up ---- */

static uint32_t text_of(struct rules *r, long long whole)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", whole);
    return rules_string(r, text);
}

/* Of the fraction: some more than the bounds have, while a double tells all of them apart beside such whole parts. */
static uint32_t fraction_digits(const struct decimal *lo, const struct decimal *hi)
{
    size_t n_lo = strlen(lo->fraction), n_hi = hi ? strlen(hi->fraction) : 0;
    size_t wanted = (n_lo > n_hi ? n_lo : n_hi) + 3, room = DIGITS_MAX;
    for (long long top = hi && hi->whole > lo->whole ? hi->whole : lo->whole; top > 0 && room > 0; top /= 10)
        room--;
    return (uint32_t)(wanted < room ? wanted : room);
}

static uint32_t magnitude(struct rules *r, const struct decimal *lo, const struct decimal *hi)
{
    uint32_t digits = fraction_digits(lo, hi);
    long long top = hi ? hi->whole - 1 : WHOLE_MAX; /* the last whole part with any fraction */
    struct span above = {lo->fraction, NULL, lo->strict, false};
    struct rules_list parts = {0};
    if (hi && lo->whole > hi->whole)
        return rules_never(r);
    if (hi && lo->whole == hi->whole) {
        struct span between = {lo->fraction, hi->fraction, lo->strict, hi->strict};
        if (strcmp(lo->fraction, hi->fraction) > 0)
            return rules_never(r);
        return rules_sequence_of(r, 2, text_of(r, lo->whole), point(r, between, digits));
    }
    rules_list_add(&parts, rules_sequence_of(r, 2, text_of(r, lo->whole), point(r, above, digits)));
    if (hi) {
        struct span below = {NULL, hi->fraction, false, hi->strict};
        rules_list_add(&parts, rules_sequence_of(r, 2, text_of(r, hi->whole), point(r, below, digits)));
    }
    if (lo->whole + 1 <= top)
        rules_list_add(&parts, rules_sequence_of(r, 2, whole_range(r, lo->whole + 1, top),
                                                 point(r, (struct span){0}, digits)));
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    return expr;
}

static uint32_t number_range(struct rules *r, const struct bound *lo, const struct bound *hi)
{
    static const struct decimal zero = {0}, above_zero = {.strict = true};
    uint32_t parts[2];
    size_t n = 0;
    if (!hi->set || !hi->negative)
        parts[n++] = magnitude(r, lo->set && !lo->negative ? &lo->at : &zero, hi->set ? &hi->at : NULL);
    if (!lo->set || lo->negative)
        parts[n++] = signed_text(r, magnitude(r, hi->set && hi->negative ? &hi->at : &above_zero,
                                              lo->set ? &lo->at : NULL));
    return rules_choice(r, parts, n);
}

/* ---- bounds from the schema ---- */

/* The shortest decimal that reads as the same number, without an exponent; false where it is too long. */
static bool decimal_of(const json_t *v, struct bound *b)
{
    double x = json_number_value(v);
    char text[400];
    b->negative = x < 0;
    x = fabs(x);
    if (!(x <= (double)WHOLE_MAX))
        return false;
    for (int n = 0; n <= FRACTION_MAX; n++) {
        snprintf(text, sizeof(text), "%.*f", n, x);
        if (strtod(text, NULL) != x)
            continue;
        b->at.whole = strtoll(text, NULL, 10);
        const char *dot = strchr(text, '.');
        snprintf(b->at.fraction, sizeof(b->at.fraction), "%.*s", FRACTION_MAX, dot ? dot + 1 : "");
        for (size_t end = strlen(b->at.fraction); end > 0 && b->at.fraction[end - 1] == '0'; end--)
            b->at.fraction[end - 1] = '\0';
        return true;
    }
    return false;
}

/* A bound that no number of so few digits comes near is none. Schemas of JavaScript's integers have such. */
static bool is_beyond(const json_t *v, int sign)
{
    return json_number_value(v) * -sign > 2.0 * (double)WHOLE_MAX;
}

/* The stricter of `inclusive` and `exclusive`, which in draft 4 is a flag of the former. sign: 1 for a minimum. */
static int read_bound(struct schema *s, json_t *schema, const char *inclusive, const char *exclusive, int sign,
                      struct bound *out)
{
    json_t *a = json_object_get(schema, inclusive), *b = json_object_get(schema, exclusive);
    bool flag = json_is_true(b);
    if (json_is_boolean(b))
        b = NULL;
    if ((a && !json_is_number(a)) || (b && !json_is_number(b)))
        return schema_fail(s, ERR_INVALID, "\"%s\" must be a number", a && !json_is_number(a) ? inclusive : exclusive);
    bool strict = flag || (b && (!a || (json_number_value(b) - json_number_value(a)) * sign >= 0));
    json_t *v = b && strict ? b : a;
    out->beyond = v != NULL && is_beyond(v, sign);
    out->set = v != NULL && !out->beyond;
    out->at.strict = strict;
    if (out->set && !decimal_of(v, out))
        return schema_fail(s, ERR_UNSUPPORTED, "\"%s\" has more digits than are supported",
                           strict && b ? exclusive : inclusive);
    return 0;
}

/* The least (up) or greatest whole number within the bound. */
static long long whole_bound(const struct bound *b, bool up)
{
    if (!b->set)
        return up ? -WHOLE_MAX : WHOLE_MAX;
    bool exact = b->at.fraction[0] == '\0';
    long long v = b->negative ? -b->at.whole : b->at.whole;
    if (exact)
        return b->at.strict ? v + (up ? 1 : -1) : v;
    if (up)
        return b->negative ? v : v + 1;
    return b->negative ? v - 1 : v;
}

/* ---- multiples ---- */

static uint32_t listed_multiples(struct rules *r, long long lo, long long hi, long long k)
{
    long long first = lo / k * k;
    if (first < lo)
        first += k;
    size_t n = first > hi ? 0 : (size_t)((hi - first) / k + 1);
    struct rules_texts *texts = mem_array(n + 1, sizeof(*texts));
    char *chars = mem_array(n + 1, 24);
    for (size_t i = 0; i < n; i++) {
        char *text = chars + i * 24;
        snprintf(text, 24, "%lld", first + (long long)i * k);
        texts[i] = (struct rules_texts){text, strlen(text)};
    }
    uint32_t expr = rules_texts(r, texts, n);
    mem_free(texts);
    mem_free(chars);
    return expr;
}

/* Multiples of k from k up: one rule for each rest by k and number of digits that may follow. */
static uint32_t any_multiple(struct rules *r, uint32_t k)
{
    uint32_t *rules = mem_array(((size_t)RESIDUE_DIGITS + 1) * k, sizeof(*rules));
    for (uint32_t i = 0; i < (RESIDUE_DIGITS + 1) * k; i++)
        rules[i] = rules_declare(r, "multiple", 8);
    struct rules_list parts = {0};
    for (uint32_t left = 0; left <= RESIDUE_DIGITS; left++) {
        for (uint32_t rest = 0; rest < k; rest++) {
            parts.n = 0;
            if (rest == 0)
                rules_list_add(&parts, rules_empty(r));
            for (uint32_t d = 0; left > 0 && d < 10; d++)
                rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, (char)('0' + d), (char)('0' + d)),
                                                         rules_call(r, rules[(left - 1) * k + (rest * 10 + d) % k])));
            rules_define(r, rules[left * k + rest], rules_choice(r, parts.items, parts.n));
        }
    }
    parts.n = 0;
    for (uint32_t d = 1; d < 10; d++)
        rules_list_add(&parts, rules_sequence_of(r, 2, digit(r, (char)('0' + d), (char)('0' + d)),
                                                 rules_call(r, rules[(RESIDUE_DIGITS - 1) * k + d % k])));
    uint32_t expr = rules_choice(r, parts.items, parts.n);
    rules_list_close(&parts);
    mem_free(rules);
    return expr;
}

static double value_of(const struct bound *b)
{
    char text[64];
    snprintf(text, sizeof(text), "%s%lld.%s0", b->negative ? "-" : "", b->at.whole, b->at.fraction);
    return strtod(text, NULL);
}

/* As readers of JSON judge it, in doubles: within the bounds, and a whole number of steps. */
static bool is_multiple(double v, double step, const struct bound *lo, const struct bound *hi)
{
    double low = value_of(lo), high = value_of(hi), steps = v / step;
    bool within = (lo->at.strict ? v > low : v >= low) && (hi->at.strict ? v < high : v <= high);
    return within && steps == floor(steps);
}

/* Multiples of a step that is not whole: those between two bounds, one by one. Of some no double is a multiple,
 * although the decimal is; they are left out, because no reader would take them. */
static int listed_fractions(struct schema *s, json_t *value, const struct bound *lo, const struct bound *hi,
                            uint32_t *out)
{
    double step = json_number_value(value);
    struct bound exact = {0};
    bool known = lo->set && hi->set && decimal_of(value, &exact) && step > 0;
    double first = known ? ceil(value_of(lo) / step) - 1 : 0, n = known ? value_of(hi) / step - first + 2 : 0;
    if (!known || n > SCHEMA_MULTIPLES_MAX)
        return schema_fail(s, ERR_UNSUPPORTED,
                           "\"multipleOf\" %g is not supported: whole numbers are, others between two bounds", step);
    size_t kept = 0, count = n > 0 ? (size_t)n : 0;
    int digits = (int)strlen(exact.at.fraction);
    struct rules_texts *texts = mem_array(count + 1, sizeof(*texts));
    char *chars = mem_array(count + 1, 64);
    for (size_t i = 0; i < count; i++) {
        char *text = chars + kept * 64;
        double steps = first + (double)i;
        snprintf(text, 64, "%.*f", digits, steps == 0 ? 0 : steps * step);
        if (is_multiple(strtod(text, NULL), step, lo, hi)) {
            texts[kept] = (struct rules_texts){text, strlen(text)};
            kept++;
        }
    }
    *out = rules_texts(s->r, texts, kept);
    mem_free(texts);
    mem_free(chars);
    return 0;
}

static int multiples(struct schema *s, double step, long long lo, long long hi, uint32_t *out)
{
    if (step > (double)WHOLE_MAX)
        return schema_fail(s, ERR_UNSUPPORTED, "\"multipleOf\" %g is not supported", step);
    long long k = (long long)step;
    if ((hi - lo) / k <= SCHEMA_MULTIPLES_MAX) {
        *out = listed_multiples(s->r, lo, hi, k);
        return 0;
    }
    bool free_above = hi == WHOLE_MAX && lo >= 0 && lo <= 1, free = hi == WHOLE_MAX && lo == -WHOLE_MAX;
    if ((!free_above && !free) || k > RESIDUES_MAX)
        return schema_fail(s, ERR_UNSUPPORTED, "\"multipleOf\" %lld with so many multiples is not supported", k);
    uint32_t parts[3];
    size_t n = 0;
    parts[n++] = any_multiple(s->r, (uint32_t)k);
    if (lo <= 0)
        parts[n++] = rules_string(s->r, "0");
    if (free)
        parts[n++] = signed_text(s->r, any_multiple(s->r, (uint32_t)k));
    *out = rules_choice(s->r, parts, n);
    return 0;
}

int schema_number(struct schema *s, json_t *schema, bool integer, uint32_t *out)
{
    struct bound lo = {0}, hi = {0};
    int status = read_bound(s, schema, "minimum", "exclusiveMinimum", 1, &lo);
    if (status == 0)
        status = read_bound(s, schema, "maximum", "exclusiveMaximum", -1, &hi);
    if (status != 0)
        return status;
    json_t *step = json_object_get(schema, "multipleOf");
    if (step && (!json_is_number(step) || json_number_value(step) <= 0))
        return schema_fail(s, ERR_INVALID, "\"multipleOf\" must be a number greater than 0");
    double by = json_number_value(step);
    if (step && by != floor(by) && !integer)
        return listed_fractions(s, step, &lo, &hi, out);
    if (step && by != floor(by))
        return schema_fail(s, ERR_UNSUPPORTED, "\"multipleOf\" %g of integers is not supported", by);
    if (step && !(integer && by == 1))
        return multiples(s, by, whole_bound(&lo, true), whole_bound(&hi, false), out);
    if (!lo.set && !hi.set && (integer || !(lo.beyond || hi.beyond)))
        *out = integer ? json_integer_any(&s->j) : json_number_any(&s->j);
    else if (integer)
        *out = integer_range(s->r, whole_bound(&lo, true), whole_bound(&hi, false));
    else
        *out = number_range(s->r, &lo, &hi);
    return 0;
}
