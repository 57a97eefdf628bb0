/* charset: sort, merge, invert. Invariant of a finished set: first <= last < next first - 1, no surrogate. */
#include "text/grammar/charset.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { SURROGATE_FIRST = 0xD800, SURROGATE_LAST = 0xDFFF };

void charset_close(struct charset *s)
{
    mem_free(s->ranges);
    memset(s, 0, sizeof(*s));
}

static void push(struct charset *s, uint32_t first, uint32_t last)
{
    if (first > last)
        return;
    if (s->n == s->room) {
        s->room = s->room * 2 + 8;
        s->ranges = mem_resize(s->ranges, s->room, sizeof(*s->ranges));
    }
    s->ranges[s->n++] = (struct char_range){first, last};
}

void charset_add(struct charset *s, uint32_t first, uint32_t last)
{
    if (last > CODE_POINT_MAX)
        last = CODE_POINT_MAX;
    push(s, first, last < SURROGATE_FIRST ? last : SURROGATE_FIRST - 1);
    push(s, first > SURROGATE_LAST ? first : SURROGATE_LAST + 1, last);
}

void charset_add_all(struct charset *s, const struct char_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++)
        charset_add(s, ranges[i].first, ranges[i].last);
}

static int by_first(const void *a, const void *b)
{
    const struct char_range *x = a, *y = b;
    return x->first < y->first ? -1 : x->first > y->first;
}

void charset_finish(struct charset *s)
{
    if (s->n == 0)
        return;
    qsort(s->ranges, s->n, sizeof(*s->ranges), by_first);
    size_t kept = 0;
    for (size_t i = 1; i < s->n; i++) {
        struct char_range *last = &s->ranges[kept];
        if (s->ranges[i].first <= last->last + 1)
            last->last = s->ranges[i].last > last->last ? s->ranges[i].last : last->last;
        else
            s->ranges[++kept] = s->ranges[i];
    }
    s->n = kept + 1;
}

void charset_invert(struct charset *s)
{
    struct charset out = {0};
    uint32_t from = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->ranges[i].first > from)
            charset_add(&out, from, s->ranges[i].first - 1);
        from = s->ranges[i].last + 1;
    }
    if (from <= CODE_POINT_MAX)
        charset_add(&out, from, CODE_POINT_MAX);
    charset_finish(&out);
    charset_close(s);
    *s = out;
}

void charset_intersect(struct charset *s, const struct charset *with)
{
    struct charset out = {0};
    size_t j = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct char_range *a = &s->ranges[i];
        while (j > 0 && with->ranges[j - 1].last >= a->first)
            j--;
        for (; j < with->n && with->ranges[j].first <= a->last; j++) {
            const struct char_range *b = &with->ranges[j];
            if (b->last >= a->first)
                charset_add(&out, a->first > b->first ? a->first : b->first, a->last < b->last ? a->last : b->last);
        }
    }
    charset_finish(&out);
    charset_close(s);
    *s = out;
}

/* Finished sets keep surrogates out, so a range that spans them is two in both. */
bool charset_covers(const struct char_range *ranges, size_t n, const struct char_range *inner, size_t n_inner)
{
    size_t at = 0;
    for (size_t i = 0; i < n_inner; i++) {
        while (at < n && ranges[at].last < inner[i].first)
            at++;
        if (at == n || ranges[at].first > inner[i].first || ranges[at].last < inner[i].last)
            return false;
    }
    return true;
}
