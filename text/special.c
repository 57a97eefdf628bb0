/* special: a sorted list that is narrowed byte by byte: all tokens of a range share what was read so far, so
 * that the text is compared with any number of tokens at the cost of one binary search a byte. */
#include "text/special.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct named {
    const char *text;
    size_t len;
    uint32_t id;
    bool user;
};

/* Of equal texts a user-defined one comes first, then the lowest id. */
static int by_bytes(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order != 0)
        return order;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    if (x->user != y->user)
        return x->user ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static bool same_text(const struct named *a, const struct named *b)
{
    return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* The tokens in order, each text once. */
static struct named *collect(const struct vocab *v, bool late, uint32_t *count)
{
    struct named *list = mem_array(v->count, sizeof(*list));
    uint32_t n = 0;
    for (uint32_t id = 0; id < v->count; id++) {
        struct named one = {.id = id, .user = (v->flags[id] & VOCAB_USER) != 0};
        one.text = vocab_text(v, id, &one.len);
        bool is_late = (v->flags[id] & VOCAB_LATE) != 0;
        if ((v->flags[id] & (VOCAB_CONTROL | VOCAB_USER)) && one.len > 0 && late == is_late)
            list[n++] = one;
    }
    if (n > 0)
        qsort(list, n, sizeof(*list), by_bytes);
    *count = 0;
    for (uint32_t i = 0; i < n; i++)
        if (*count == 0 || !same_text(&list[*count - 1], &list[i]))
            list[(*count)++] = list[i];
    return list;
}

void special_open(struct special_set *s, const struct vocab *v, bool late)
{
    uint32_t count;
    struct named *list = collect(v, late, &count);
    memset(s, 0, sizeof(*s));
    s->vocab = v;
    s->ids = mem_array(count, sizeof(*s->ids));
    for (uint32_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)list[i].text[0];
        s->ids[i] = list[i].id;
        s->first[c + 1]++;
        s->user[c] += list[i].user;
    }
    for (int c = 0; c < 256; c++)
        s->first[c + 1] += s->first[c];
    mem_free(list);
}

void special_close(struct special_set *s)
{
    mem_free(s->ids);
    s->ids = NULL;
}

/* The first of ids[low, high) whose byte at `depth` is at least c (a token that ends there comes before all). */
static uint32_t narrow(const struct special_set *s, uint32_t low, uint32_t high, size_t depth, int c)
{
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        size_t len;
        const char *text = vocab_text(s->vocab, s->ids[middle], &len);
        int there = len > depth ? (unsigned char)text[depth] : -1;
        if (there < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token at the beginning of these bytes, of at most `control_len` bytes if it is a control token. */
static bool match_here(const struct special_set *s, const char *text, size_t len, size_t control_len,
                       struct special_match *out)
{
    unsigned char c = (unsigned char)text[0];
    uint32_t low = s->first[c], high = s->first[c + 1];
    bool found = false;
    for (size_t depth = 1; low < high; depth++) {
        /* The one that ends here, if any, is the first. */
        size_t n;
        (void)vocab_text(s->vocab, s->ids[low], &n);
        if (n == depth && ((s->vocab->flags[s->ids[low]] & VOCAB_USER) || n <= control_len)) {
            out->id = s->ids[low];
            out->end = n;
            found = true;
        }
        if (depth == len)
            break;
        c = (unsigned char)text[depth];
        low = narrow(s, low, high, depth, c);
        high = narrow(s, low, high, depth, c + 1);
    }
    return found;
}

bool special_next(const struct special_set *s, const char *text, size_t len, size_t at, const struct text_span *trusted,
                  size_t n_trusted, size_t *span, struct special_match *out)
{
    for (; at < len; at++) {
        unsigned char c = (unsigned char)text[at];
        if (s->first[c] == s->first[c + 1])
            continue;
        while (*span < n_trusted && trusted[*span].end <= at)
            (*span)++;
        bool inside = *span < n_trusted && trusted[*span].start <= at;
        size_t control_len = inside ? trusted[*span].end - at : 0;
        if ((s->user[c] == 0 && control_len == 0) || !match_here(s, text + at, len - at, control_len, out))
            continue;
        out->start = at;
        out->end += at;
        return true;
    }
    return false;
}
