/* normalizer: each step reads one buffer and writes the next.
 *
 * The Unicode forms are libutf8proc's, given stretches that begin and end where
 * no character can combine with its neighbour.  Sorting marks takes time square
 * in their number, so a stretch of nothing but marks is cut all the same.     */
#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "text/utf8.h"

enum {
    STRETCH_BYTES = 1024,
    STRETCH_BYTES_MAX = 4096,
    FIRST_COMBINING = 0x300, /* below, NFC and NFD of Latin letters differ, but nothing combines */
    NORMAL_BYTES_MAX = 64 << 20,
};

/* ---- opening ---- */

static struct source_text copy_text(struct source_text t)
{
    struct source_text copy = {mem_array(t.len + 1, 1), t.len};
    if (t.len)
        memcpy((char *)copy.text, t.text, t.len);
    return copy;
}

int normalizer_open(struct normalizer *n, const struct source *s, struct error *e)
{
    memset(n, 0, sizeof(*n));
    for (size_t i = 0; i < s->n_steps; i++) {
        if (s->steps[i].kind == STEP_CHARSMAP && charsmap_check(s->steps[i].from, e) != 0)
            return error_context(e, "%s", s->where);
        n->steps[n->n_steps].kind = s->steps[i].kind;
        n->steps[n->n_steps].from = copy_text(s->steps[i].from);
        n->steps[n->n_steps++].to = copy_text(s->steps[i].to);
    }
    return 0;
}

void normalizer_close(struct normalizer *n)
{
    for (size_t i = 0; i < n->n_steps; i++) {
        mem_free((char *)n->steps[i].from.text);
        mem_free((char *)n->steps[i].to.text);
    }
    n->n_steps = 0;
}

/* ---- Unicode forms ---- */

/* May a stretch begin with this character? Marks and the later Jamo combine with what is before them. */
static bool is_start(utf8proc_int32_t c)
{
    if (c < FIRST_COMBINING)
        return true;
    utf8proc_category_t kind = utf8proc_category(c);
    return kind != UTF8PROC_CATEGORY_MN && kind != UTF8PROC_CATEGORY_MC && kind != UTF8PROC_CATEGORY_ME &&
           !(c >= 0x1160 && c <= 0x11FF);
}

/* How much of the text is one stretch: whole characters only, or, *valid false, bytes that are none. */
static size_t stretch_of(const char *text, size_t len, bool *valid)
{
    size_t at = 0;
    *valid = true;
    while (at < len && at < STRETCH_BYTES_MAX) {
        utf8proc_int32_t c;
        int step = utf8_step(text + at, len - at);
        if (step <= 0) {
            *valid = at > 0;
            return at > 0 ? at : 1;
        }
        (void)utf8proc_iterate((const utf8proc_uint8_t *)text + at, step, &c);
        if (at >= STRETCH_BYTES && is_start(c))
            break;
        at += (size_t)step;
    }
    return at;
}

static bool all_ascii(const char *text, size_t len)
{
    unsigned char all = 0;
    for (size_t i = 0; i < len; i++)
        all |= (unsigned char)text[i];
    return all < 0x80;
}

static int run_form(const char *text, size_t len, int options, struct buffer *out, struct error *e)
{
    for (size_t at = 0, n; at < len; at += n) {
        bool valid;
        n = stretch_of(text + at, len - at, &valid);
        if (!valid || all_ascii(text + at, n)) {
            buffer_add(out, text + at, n);
            continue;
        }
        utf8proc_uint8_t *form;
        utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)n, &form,
                                             (utf8proc_option_t)options);
        if (size < 0)
            return error_set(e, ERR_MEMORY, "a text cannot be normalised: %s", utf8proc_errmsg(size));
        buffer_add(out, form, (size_t)size);
        free(form);
    }
    return 0;
}

/* ---- the other steps ---- */

static void run_replace(const struct source_step *s, const char *text, size_t len, struct buffer *out)
{
    while (s->from.len > 0 && len > 0) {
        const char *found = memmem(text, len, s->from.text, s->from.len);
        if (!found)
            break;
        buffer_add(out, text, (size_t)(found - text));
        buffer_add(out, s->to.text, s->to.len);
        len -= (size_t)(found - text) + s->from.len;
        text = found + s->from.len;
    }
    buffer_add(out, text, len);
}

static void run_single_space(const char *text, size_t len, struct buffer *out)
{
    for (size_t at = 0, n; at < len; at += n) {
        const char *space = memchr(text + at, ' ', len - at);
        n = space ? (size_t)(space - text) - at + 1 : len - at;
        buffer_add(out, text + at, n);
        while (space && at + n < len && text[at + n] == ' ')
            n++;
    }
}

static bool is_white(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int run_step(const struct source_step *s, const char *text, size_t len, struct buffer *out, struct error *e)
{
    switch (s->kind) {
    case STEP_NFC:
        return run_form(text, len, UTF8PROC_STABLE | UTF8PROC_COMPOSE, out, e);
    case STEP_NFD:
        return run_form(text, len, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, out, e);
    case STEP_NFKC:
        return run_form(text, len, UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT, out, e);
    case STEP_NFKD:
        return run_form(text, len, UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, out, e);
    case STEP_REPLACE:
        run_replace(s, text, len, out);
        return 0;
    case STEP_TRIM_LEFT:
        for (; len > 0 && is_white(*text); text++)
            len--;
        buffer_add(out, text, len);
        return 0;
    case STEP_TRIM_RIGHT:
        while (len > 0 && is_white(text[len - 1]))
            len--;
        buffer_add(out, text, len);
        return 0;
    case STEP_SINGLE_SPACE:
        run_single_space(text, len, out);
        return 0;
    case STEP_CHARSMAP:
        charsmap_run(s->from, text, len, out);
        return 0;
    }
    return error_set(e, ERR_INTERNAL, "an unknown step of a normaliser");
}

int normalizer_run(const struct normalizer *n, const char *text, size_t len, struct buffer *out, struct error *e)
{
    struct buffer from, to;
    int status = 0;
    buffer_init(&from, NORMAL_BYTES_MAX);
    buffer_init(&to, NORMAL_BYTES_MAX);
    buffer_add(&from, text, len);
    for (size_t i = 0; i < n->n_steps && status == 0; i++) {
        status = run_step(&n->steps[i], buffer_text(&from), from.len, &to, e);
        if (status == 0 && buffer_failed(&to))
            status = error_set(e, ERR_LIMIT, "a text of %zu bytes has more than %d when it is normalised", len,
                               NORMAL_BYTES_MAX);
        struct buffer swap = from;
        from = to;
        to = swap;
        buffer_clear(&to);
    }
    buffer_add(out, buffer_text(&from), from.len);
    if (status == 0 && buffer_failed(out))
        status = error_set(e, ERR_LIMIT, "a text is too long when it is normalised");
    buffer_close(&from);
    buffer_close(&to);
    return status;
}
