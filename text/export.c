/* export: the facts of a folder's tokenizer, spelled as tokenizer.ggml keys. */
#include "text/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/source.h"
#include "text/source_hf.h"
#include "text/vocab.h"
#include "text/work.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

enum { PIECES_MAX = 1 << 12, PAD_BYTES = 24, TEXTS_MAX = 1 << 30 };

struct export {
    struct gguf_writer *w;
    struct source s;
    uint32_t n_vocab;
    struct error *e;
};

static int cannot(const struct export *x, const char *what)
{
    return error_set(x->e, ERR_UNSUPPORTED, "%s: %s; a GGUF file cannot say that", x->s.where, what);
}

/* ---- the pre-tokenizer: found by what it does ---- */

/* What tells the rows apart: letters of both cases and of none, marks, digits in runs, signs, contractions, every kind
 * of white space in runs and at ends, the scripts that some rows set apart. */
static const char probe[] =
    "Hello hello HELLO HelloWorld helloWorld'S don't DON'T I'll we'VE it's x'y 'tis a're\n"
    "1 12 123 1234 12345 1234567 3.14 a1b22c333 x1234y \xC2\xBD\xE2\x85\xA7\xD9\xA1\xD9\xA2\xD9\xA3\xD9\xA4\n\n\n"
    "a  b   c    d\t\te \n f\r\n\r\ng \r\n h  \n\n  i\xC2\xA0j\xE3\x80\x80k \n"
    "a.b ,c ;d --e ++f ((g)) [h] {i} <j> =k! ?l$ %m & n* /o/ p\\q ^r `s` ~t~ |u| #v @w _x_y __z\n"
    "!Abc (Abc) /abc/\n ../x\n //y\n\xE2\x80\xA6\xE2\x80\x9Cquoted\xE2\x80\x9D\xE2\x80\x94\xC2\xAB\xC2\xBB\n"
    "caf\xC3\xA9 cafe\xCC\x81 \xC3\x89T\xC3\x89 \xC7\x85ungla \xCA\xB0mod na\xC3\xAFve stra\xC3\x9F" "e\n"
    "\xE4\xB8\xAD\xE6\x96\x87\xE6\xB5\x8B\xE8\xAF\x95 mix\xE4\xB8\xAD\xE6\x96\x87mix 1\xE4\xB8\xAD" "2 \xE3\x81\xB2"
    "\xE3\x82\x89\xE3\x82\xAB\xE3\x83\x8A \xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4" "abc\xED\x95\x9C\xE3\x80\x82\xEF\xBC"
    "\x8C\xEF\xBC\x81\xE3\x84\x85\xE3\x84\x86\n"
    "\xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D \xD9\x85\xD8\xB1\xD8\xAD\xD8\xA8"
    " \xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87 \xE0\xA5\xA4 \xE1\xBA\xA4 \xEF\xBC\xA1\n"
    "\xF0\x9F\x98\x80\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD \xE2\x82\xAC" "5 \xE2\x91\xA0 \xCE\xB1\xCE\x92\xCE\xB3 "
    "\xF0\x9D\x95\xAC   \t \n \n\nend   ";

struct pieces {
    size_t n, ends[PIECES_MAX], at;
};

static void count_piece(void *user, const char *piece, size_t len)
{
    struct pieces *p = user;
    (void)piece;
    p->at += len;
    if (p->n < PIECES_MAX)
        p->ends[p->n++] = p->at;
}

/* The ends of the probe's pieces; false where it cannot be split. */
static bool split_probe(const struct pretokenizer *p, struct pieces *out)
{
    struct splitter *s;
    out->n = out->at = 0;
    if (splitter_open(&s, p, sizeof(probe) - 1, count_piece, out, NULL) != 0)
        return false;
    int r = splitter_split(s, probe, sizeof(probe) - 1, NULL);
    splitter_close(&s);
    return r == 0;
}

static bool splits_so(const char *name, const struct pieces *want, struct pieces *got)
{
    struct pretokenizer *p;
    if (pretokenizer_open(&p, name, strlen(name), NULL) != 0)
        return false;
    bool same = split_probe(p, got) && got->n == want->n && got->at == want->at &&
                memcmp(got->ends, want->ends, want->n * sizeof(*want->ends)) == 0;
    pretokenizer_close(&p);
    return same;
}

/* True when merges alone make every token of its text: then it is all the same whether whole tokens come first. */
static bool merges_make_all(const struct export *x)
{
    struct source s = x->s;
    struct vocab v;
    struct bpe bpe = {0};
    struct work w;
    s.whole_first = false;
    bool all = vocab_open(&v, &s, NULL) == 0 && bpe_open(&bpe, &v, &s, NULL) == 0;
    work_init(&w, v.secret, 0);
    for (uint32_t id = 0; all && id < v.count; id++) {
        size_t len;
        const char *text = vocab_text(&v, id, &len);
        if (!(v.flags[id] & VOCAB_PLAIN) || len == 0)
            continue;
        w.count = 0;
        bpe_encode(&bpe, &w, text, len);
        all = w.count == 1 && w.ids[0] == vocab_find(&v, text, len, true);
    }
    work_close(&w);
    bpe_close(&bpe);
    vocab_close(&v);
    return all;
}

/* The name of a row that splits as the folder's expressions do; one that treats whole tokens alike, if there is one. */
static int find_pre(const struct export *x, const char **name)
{
    struct pieces *want = mem_alloc(sizeof(*want)), *got = mem_alloc(sizeof(*got));
    struct pretokenizer *p = NULL;
    const char *one, *other = NULL;
    *name = NULL;
    int r = pretokenizer_open_splits(&p, x->s.splits, x->s.n_splits, x->e);
    if (r == 0 && !split_probe(p, want))
        r = error_set(x->e, ERR_UNSUPPORTED, "%s: its pre-tokenizer takes too long", x->s.where);
    for (size_t i = 0; r == 0 && !*name && (one = pretokenizer_name_at(i)); i++) {
        bool alike = pretokenizer_whole_first(one, strlen(one)) == x->s.whole_first;
        if ((!alike && other) || !splits_so(one, want, got))
            continue;
        *(alike ? name : &other) = one;
    }
    pretokenizer_close(&p);
    mem_free(want);
    mem_free(got);
    if (r == 0 && !*name && other && merges_make_all(x))
        *name = other;
    return r == 0 && !*name ? cannot(x, "its pre-tokenizer is none of those that have names") : r;
}

/* ---- tokens ---- */

static int32_t type_of(const struct export *x, uint32_t id)
{
    uint16_t flags = x->s.tokens[id].flags;
    if ((int32_t)id == x->s.unknown)
        return TYPE_UNKNOWN;
    if (flags & VOCAB_CONTROL)
        return TYPE_CONTROL;
    if (flags & VOCAB_USER)
        return TYPE_USER;
    if (flags & VOCAB_BYTE)
        return TYPE_BYTE;
    return flags & VOCAB_UNUSED ? TYPE_UNUSED : TYPE_NORMAL;
}

static struct gguf_string as_string(struct source_text t)
{
    return (struct gguf_string){t.text, t.len};
}

static void write_tokens(const struct export *x)
{
    struct gguf_string *texts = mem_array(x->n_vocab, sizeof(*texts));
    int32_t *types = mem_array(x->n_vocab, sizeof(*types));
    char *pads = mem_array(x->n_vocab, PAD_BYTES);
    for (uint32_t id = 0; id < x->n_vocab; id++) {
        bool there = id < x->s.n_tokens && x->s.tokens[id].text.len > 0;
        char *pad = pads + (size_t)id * PAD_BYTES;
        types[id] = there ? type_of(x, id) : TYPE_UNUSED;
        if (!there)
            snprintf(pad, PAD_BYTES, "[PAD%u]", id);
        texts[id] = there ? as_string(x->s.tokens[id].text) : (struct gguf_string){pad, strlen(pad)};
    }
    gguf_writer_strings(x->w, "tokenizer.ggml.tokens", texts, x->n_vocab);
    gguf_writer_i32s(x->w, "tokenizer.ggml.token_type", types, x->n_vocab);
    mem_free(texts);
    mem_free(types);
    mem_free(pads);
}

static int write_merges(const struct export *x)
{
    struct gguf_string *list = mem_array((size_t)x->s.n_merges + 1, sizeof(*list));
    struct buffer texts;
    size_t at = 0;
    buffer_init(&texts, TEXTS_MAX);
    for (uint32_t i = 0; i < x->s.n_merges; i++) {
        const struct source_merge *m = &x->s.merges[i];
        buffer_add(&texts, m->left.text, m->left.len);
        buffer_add(&texts, " ", 1);
        buffer_add(&texts, m->right.text, m->right.len);
    }
    bool failed = buffer_failed(&texts);
    for (uint32_t i = 0; !failed && i < x->s.n_merges; i++) {
        const struct source_merge *m = &x->s.merges[i];
        list[i] = (struct gguf_string){texts.data + at, m->left.len + 1 + m->right.len};
        at += list[i].len;
    }
    if (!failed)
        gguf_writer_strings(x->w, "tokenizer.ggml.merges", list, x->s.n_merges);
    buffer_close(&texts);
    mem_free(list);
    return failed ? error_set(x->e, ERR_LIMIT, "%s: the merges are too long", x->s.where) : 0;
}

/* ---- scores ---- */

struct named {
    struct source_text text;
    uint32_t id;
};

static int compare_named(const void *a, const void *b)
{
    const struct source_text *x = &((const struct named *)a)->text, *y = &((const struct named *)b)->text;
    size_t n = x->len < y->len ? x->len : y->len;
    int c = n ? memcmp(x->text, y->text, n) : 0;
    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

/* Each token's is the rank of the first merge that makes it: the higher score merges first. What no merge makes is
 * made last, if at all. */
static void scores_of_merges(const struct export *x, float *scores)
{
    size_t n = x->s.n_tokens;
    struct named *sorted = mem_array(n, sizeof(*sorted));
    struct buffer joined;
    buffer_init(&joined, TEXTS_MAX);
    for (uint32_t id = 0; id < n; id++) {
        sorted[id] = (struct named){x->s.tokens[id].text, id};
        scores[id] = -(float)(x->s.n_merges + 1);
    }
    qsort(sorted, n, sizeof(*sorted), compare_named);
    for (uint32_t i = x->s.n_merges; i-- > 0;) {
        const struct source_merge *m = &x->s.merges[i];
        buffer_clear(&joined);
        buffer_add(&joined, m->left.text, m->left.len);
        buffer_add(&joined, m->right.text, m->right.len);
        struct named key = {{buffer_text(&joined), joined.len}, 0};
        const struct named *found = bsearch(&key, sorted, n, sizeof(*sorted), compare_named);
        if (found)
            scores[found->id] = -(float)(i + 1);
    }
    buffer_close(&joined);
    mem_free(sorted);
}

static void write_scores(const struct export *x)
{
    float *scores = mem_array(x->n_vocab, sizeof(*scores));
    scores_of_merges(x, scores);
    gguf_writer_f32s(x->w, "tokenizer.ggml.scores", scores, x->n_vocab);
    mem_free(scores);
}

/* ---- special tokens, and what is done to text ---- */

static void write_id(const struct export *x, const char *key, int32_t id)
{
    if (id >= 0 && (uint32_t)id < x->n_vocab)
        gguf_writer_u32(x->w, key, (uint32_t)id);
}

/* GGUF names three tokens that end a generation, and readers know the usual ones by their texts. */
static void write_specials(const struct export *x)
{
    static const char *const more[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
    const struct source *s = &x->s;
    int32_t bos = s->bos >= 0 || s->n_before != 1 ? s->bos : s->before[0];
    int32_t eos = s->eos >= 0 || s->n_ends == 0 ? s->eos : s->ends[0];
    size_t n = 0;
    write_id(x, "tokenizer.ggml.bos_token_id", bos);
    write_id(x, "tokenizer.ggml.eos_token_id", eos);
    write_id(x, "tokenizer.ggml.unknown_token_id", s->unknown);
    for (size_t i = 0; i < s->n_ends && n < COUNTOF(more); i++)
        if (s->ends[i] != eos && (n == 0 || s->ends[i] != s->ends[0]))
            write_id(x, more[n++], s->ends[i]);
    gguf_writer_bool(x->w, "tokenizer.ggml.add_bos_token", s->n_before == 1 && s->before[0] == bos);
    gguf_writer_bool(x->w, "tokenizer.ggml.add_eos_token", s->n_after == 1 && s->after[0] == eos);
    if (s->chat_template.len > 0)
        gguf_writer_string(x->w, "tokenizer.chat_template", s->chat_template.text);
    if (s->tool_template.len > 0)
        gguf_writer_string(x->w, "tokenizer.chat_template.tool_use", s->tool_template.text);
}

static int check(const struct export *x)
{
    if (x->s.kind == SOURCE_UNIGRAM)
        return error_set(x->e, ERR_UNSUPPORTED, "%s: a Unigram tokenizer, which no model here has", x->s.where);
    for (size_t i = 0; i < x->s.n_steps; i++)
        if (x->s.steps[i].kind != STEP_NFC) /* no GGUF does that */
            return cannot(x, "its normaliser changes characters");
    if (x->s.kind == SOURCE_BYTES && x->s.prefix != PREFIX_NONE)
        return cannot(x, "it puts a space before a text");
    if (x->s.kind == SOURCE_CHARS && !x->s.spaces)
        return cannot(x, "its tokens spell a space as a space");
    if (x->s.n_tokens > x->n_vocab)
        return error_set(x->e, ERR_CORRUPT, "%s: has %u tokens, more than the %u rows of the embedding", x->s.where,
                         x->s.n_tokens, x->n_vocab);
    return 0;
}

static int write_all(const struct export *x)
{
    bool bytes = x->s.kind == SOURCE_BYTES;
    const char *pre = "default";
    int r = check(x);
    if (r == 0 && bytes)
        r = find_pre(x, &pre);
    if (r != 0)
        return r;
    gguf_writer_string(x->w, "tokenizer.ggml.model", bytes ? "gpt2" : "llama");
    gguf_writer_string(x->w, "tokenizer.ggml.pre", pre);
    if (!bytes)
        gguf_writer_bool(x->w, "tokenizer.ggml.add_space_prefix", x->s.prefix != PREFIX_NONE);
    write_tokens(x);
    write_specials(x);
    if (bytes)
        return write_merges(x);
    write_scores(x);
    return 0;
}

int tokenizer_export(struct gguf_writer *w, const char *folder, uint32_t n_vocab, struct error *e)
{
    struct error own;
    struct export x = {.w = w, .n_vocab = n_vocab, .e = e ? e : &own};
    int r = source_hf(&x.s, folder, x.e);
    if (r == 0)
        r = write_all(&x);
    source_close(&x.s);
    return r;
}
