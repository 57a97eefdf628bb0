/* render: the budget of a rendering, its scopes, and its output taken apart into spans. */
#include "text/jinja/render.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { STEP_BYTES = 32 };

/* ---- failing and spending ---- */

struct value render_fail(struct render *r, int status, const char *format, ...)
{
    if (r->failed)
        return UNDEFINED;
    va_list args;
    va_start(args, format);
    error_setv(&r->error, status, format, args);
    va_end(args);
    r->failed = true;
    return UNDEFINED;
}

void render_spend(struct render *r, size_t bytes)
{
    r->steps += 1 + bytes / STEP_BYTES;
    if (r->steps > r->steps_max)
        render_fail(r, ERR_LIMIT, "the template takes more than %llu steps", (unsigned long long)r->steps_max);
}

void *render_alloc(struct render *r, size_t bytes)
{
    if (r->failed)
        return NULL;
    void *p = arena_alloc(r->arena, bytes);
    if (!p)
        render_fail(r, ERR_LIMIT, "the template takes more than %d bytes of memory", JINJA_MEMORY_MAX);
    return p;
}

void *render_array(struct render *r, size_t n, size_t size)
{
    size_t bytes;
    if (!mem_mul(n, size, &bytes)) {
        render_fail(r, ERR_LIMIT, "the template takes more than %d bytes of memory", JINJA_MEMORY_MAX);
        return NULL;
    }
    return render_alloc(r, bytes);
}

bool render_enter(struct render *r)
{
    render_spend(r, 0);
    if (r->depth >= JINJA_DEPTH_MAX)
        render_fail(r, ERR_LIMIT, "the template nests or calls itself too deeply");
    if (r->failed)
        return false;
    r->depth++;
    return true;
}

void render_leave(struct render *r)
{
    r->depth--;
}

/* ---- scopes ---- */

void frame_hide(struct render *r, struct frame *f, const struct name_list *hidden)
{
    for (uint32_t i = 0; i < hidden->n && !r->failed; i++) {
        struct value key = {.kind = VALUE_TEXT, .text = &hidden->items[i]->text};
        frame_set(r, f, hidden->items[i], value_missing(r, MISSING_NAME, "", key));
        render_spend(r, 0);
    }
}

struct frame *frame_new(struct render *r, struct frame *parent, const struct name_list *hidden)
{
    struct frame *f = render_alloc(r, sizeof(*f));
    if (!f)
        return NULL;
    f->parent = parent;
    if (hidden)
        frame_hide(r, f, hidden);
    return f;
}

void frame_set(struct render *r, struct frame *f, const struct name *name, struct value v)
{
    if (r->failed)
        return;
    r->steps += f->n / STEP_BYTES; /* names that are looked at are work, too */
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->bindings[i].name == name) {
            f->bindings[i].value = v;
            return;
        }
    }
    if (f->n == f->cap) {
        uint32_t cap = f->cap ? f->cap * 2 : 4;
        struct binding *bindings = render_array(r, cap, sizeof(*bindings));
        if (!bindings)
            return;
        if (f->n > 0)
            memcpy(bindings, f->bindings, f->n * sizeof(*bindings));
        f->bindings = bindings;
        f->cap = cap;
    }
    f->bindings[f->n++] = (struct binding){name, v};
}

struct value frame_get(struct render *r, struct frame *f, const struct name *name)
{
    for (; f; f = f->parent) {
        r->steps += f->n / STEP_BYTES;
        for (uint32_t i = 0; i < f->n; i++)
            if (f->bindings[i].name == name)
                return f->bindings[i].value;
    }
    const struct builtin *row = function_find(name->text.bytes, name->text.len);
    if (!row)
        return value_missing(r, MISSING_NAME, "", (struct value){.kind = VALUE_TEXT, .text = &name->text});
    struct bound *bound = render_alloc(r, sizeof(*bound));
    if (!bound)
        return UNDEFINED;
    bound->row = row;
    return (struct value){.kind = VALUE_BUILTIN, .bound = bound};
}

/* Variables that the template never mentions are not even read. */
static void set_variables(struct render *r)
{
    for (size_t i = r->context->n_variables; i-- > 0;) {
        const struct jinja_variable *v = &r->context->variables[i];
        for (const struct name *n = r->template->names; n && v->value; n = n->next)
            if (marked_is(&n->text, v->name))
                frame_set(r, r->root, n, value_of_json(r, v->value, !v->trusted, 0, NULL));
    }
}

/* ---- output ---- */

static void add_span(struct jinja_output *out, size_t *cap, size_t start, size_t end)
{
    if (out->n_trusted == *cap) {
        *cap = *cap ? *cap * 2 : 32;
        out->trusted = mem_resize(out->trusted, *cap, sizeof(*out->trusted));
    }
    out->trusted[out->n_trusted++] = (struct text_span){start, end};
}

static void take_output(struct jinja_output *out, const struct marked *t)
{
    size_t cap = 0;
    out->text = mem_strndup(t->bytes, t->len);
    out->len = t->len;
    for (size_t at = 0; at < t->len;) {
        size_t end = t->len;
        bool foreign = marked_is_foreign(t, at);
        if (t->marks) {
            const uint8_t *other = memchr(t->marks + at, !foreign, t->len - at);
            end = other ? (size_t)(other - t->marks) : t->len;
        }
        if (!foreign)
            add_span(out, &cap, at, end);
        at = end;
    }
}

static int report(const struct render *r, struct error *e)
{
    if (r->verbatim)
        return error_set(e, r->error.status, "%s", r->error.text);
    return error_set(e, r->error.status, "the chat template, line %u: %s", r->line, r->error.text);
}

int jinja_render(const struct jinja *t, const struct jinja_context *c, struct jinja_output *out, struct error *e)
{
    struct render r = {.template = t, .context = c, .steps_max = c->steps_max ? c->steps_max : JINJA_STEPS_MAX};
    struct writer w;
    int status = 0;
    *out = (struct jinja_output){0};
    r.arena = arena_create(JINJA_MEMORY_MAX);
    writer_init(&w, &r);
    r.out = &w;
    r.root = frame_new(&r, NULL, NULL);
    set_variables(&r);
    if (!r.failed)
        frame_hide(&r, r.root, &t->hidden);
    if (!r.failed)
        execute(&r, r.root, &t->body);
    if (r.failed) {
        status = report(&r, e);
    } else {
        struct marked text = writer_done(&w);
        take_output(out, &text);
    }
    arena_destroy(&r.arena);
    return status;
}

void jinja_output_free(struct jinja_output *out)
{
    mem_free(out->text);
    mem_free(out->trusted);
    *out = (struct jinja_output){0};
}
