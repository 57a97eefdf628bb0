/* tokenizer: what the model says about special tokens, and the order of the steps of encoding.
 *
 * Text is cut at special tokens; each stretch between them is normalised where
 * the model's file asks for it, split by the pre-tokenizer, and its pieces are
 * encoded.  A GGUF file never asks to normalise a BPE's text, so that decoding
 * gives back every byte.                                                     */
#include "text/tokenizer.h"

#include <string.h>

#include "base/memory.h"
#include "base/path.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/source.h"
#include "text/source_hf.h"
#include "text/special.h"
#include "text/tokenizer_spans.h"
#include "text/unigram.h"
#include "text/vocab.h"

struct tokenizer {
    struct vocab vocab; /* count 0: the model has none */
    bool is_unigram;    /* else it is a bpe */
    struct bpe bpe;
    struct unigram unigram;
    struct special_set special, late; /* found before and after normalising */
    bool has_late;
    struct normalizer normalizer;
    struct pretokenizer *pretokenizer;
    enum source_prefix prefix;
    int32_t bos, eos; /* -1: none */
    int32_t fim[FIM_PARTS]; /* -1: none */
    int32_t before[SOURCE_AROUND_MAX], after[SOURCE_AROUND_MAX];
    size_t n_before, n_after;
    char *chat_template; /* NULL: none */
    char *tool_template; /* NULL: the same */
};

/* ---- special tokens ---- */

/* Texts that end a generation in every model that has them as tokens. */
static const char *const end_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<\xEF\xBD\x9C\x65nd\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>", "<end_of_utterance>", "<eos>", "[e~[",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<turn|>",
};

static int32_t find_text(const struct tokenizer *t, const char *text)
{
    return tokenizer_find(t, text, strlen(text));
}

/* In the harmony format <|end|> only ends a message; a turn ends by one of the others. */
static void keep_harmony_open(struct tokenizer *t)
{
    bool harmony = (find_text(t, "<|return|>") >= 0 && find_text(t, "<|call|>") >= 0) ||
                   (find_text(t, "<|calls|>") >= 0 && find_text(t, "<|flush|>") >= 0);
    int32_t end = find_text(t, "<|end|>");
    if (harmony && end >= 0)
        t->vocab.flags[end] &= (uint16_t)~VOCAB_END;
}

/* Some files forget to say that these are control tokens, and then any message could open or end a turn. */
static void make_control(struct tokenizer *t, int32_t id, uint16_t flags)
{
    if (id < 0)
        return;
    t->vocab.flags[id] &= (uint16_t)~VOCAB_USER;
    t->vocab.flags[id] |= VOCAB_CONTROL | flags;
}

/* What families call them, where a file does not say: a row counts when its first three are tokens. */
static void find_fim(struct tokenizer *t)
{
    static const char *const rows[][FIM_PARTS] = {
        {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|repo_name|>", "<|file_sep|>"},
        {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<repo_name>", "<file_sep>"},
        {"<fim-prefix>", "<fim-suffix>", "<fim-middle>", NULL, NULL},
        {"<\xEF\xBD\x9C\x66im\xE2\x96\x81\x62\x65gin\xEF\xBD\x9C>",
         "<\xEF\xBD\x9C\x66im\xE2\x96\x81hole\xEF\xBD\x9C>",
         "<\xEF\xBD\x9C\x66im\xE2\x96\x81\x65nd\xEF\xBD\x9C>", NULL, NULL},
        {"\xE2\x96\x81<PRE>", "\xE2\x96\x81<SUF>", "\xE2\x96\x81<MID>", NULL, NULL},
        {"<PRE>", "<SUF>", "<MID>", NULL, NULL},
        {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>", NULL, NULL},
    };
    for (size_t i = 0; i < COUNTOF(rows) && t->fim[FIM_PREFIX] < 0; i++) {
        int32_t ids[FIM_PARTS];
        for (size_t k = 0; k < FIM_PARTS; k++)
            ids[k] = rows[i][k] ? find_text(t, rows[i][k]) : -1;
        bool all = ids[FIM_PREFIX] >= 0 && ids[FIM_SUFFIX] >= 0 && ids[FIM_MIDDLE] >= 0;
        for (size_t k = 0; all && k < FIM_PARTS; k++)
            t->fim[k] = t->fim[k] >= 0 ? t->fim[k] : ids[k];
    }
}

/* Control tokens, whatever the file says of them, or text could move the gap. */
static void read_fim(struct tokenizer *t, const struct source *s)
{
    memcpy(t->fim, s->fim, sizeof(t->fim));
    if (t->fim[FIM_PREFIX] < 0 || t->fim[FIM_SUFFIX] < 0 || t->fim[FIM_MIDDLE] < 0) {
        t->fim[FIM_PREFIX] = t->fim[FIM_SUFFIX] = t->fim[FIM_MIDDLE] = -1;
        find_fim(t);
    }
    for (size_t i = 0; i < FIM_PARTS; i++)
        make_control(t, t->fim[i], 0);
}

static void read_specials(struct tokenizer *t, const struct source *s)
{
    t->bos = s->bos;
    t->eos = s->eos;
    t->n_before = s->n_before;
    t->n_after = s->n_after;
    memcpy(t->before, s->before, sizeof(t->before));
    memcpy(t->after, s->after, sizeof(t->after));
    make_control(t, find_text(t, "<|im_start|>"), 0);
    for (size_t i = 0; i < COUNTOF(end_texts); i++)
        make_control(t, find_text(t, end_texts[i]), VOCAB_END);
    keep_harmony_open(t);
    read_fim(t, s);
    for (size_t i = 0; i < s->n_ends; i++)
        t->vocab.flags[s->ends[i]] |= VOCAB_END;
    vocab_index(&t->vocab);
    special_open(&t->special, &t->vocab, false);
    special_open(&t->late, &t->vocab, true);
    t->has_late = t->late.first[256] > 0;
}

/* ---- opening ---- */

static int open_pretokenizer(struct tokenizer *t, const struct source *s, struct error *e)
{
    int status = s->pre.text ? pretokenizer_open(&t->pretokenizer, s->pre.text, s->pre.len, e)
                             : pretokenizer_open_splits(&t->pretokenizer, s->splits, s->n_splits, e);
    return status == 0 ? 0 : error_context(e, "%s", s->where);
}

static int open_parts(struct tokenizer *t, const struct source *s, struct error *e)
{
    if (s->chat_template.text)
        t->chat_template = mem_strndup(s->chat_template.text, s->chat_template.len);
    if (s->tool_template.text)
        t->tool_template = mem_strndup(s->tool_template.text, s->tool_template.len);
    if (s->kind == SOURCE_NONE)
        return 0;
    t->prefix = s->prefix;
    t->is_unigram = s->kind == SOURCE_UNIGRAM;
    int status = open_pretokenizer(t, s, e);
    if (status == 0)
        status = normalizer_open(&t->normalizer, s, e);
    if (status == 0)
        status = vocab_open(&t->vocab, s, e);
    if (status != 0)
        return status;
    read_specials(t, s);
    return t->is_unigram ? unigram_open(&t->unigram, &t->vocab, s, e) : bpe_open(&t->bpe, &t->vocab, s, e);
}

/* Takes the source. */
static int open_source(struct tokenizer **out, struct source *s, int status, struct error *e)
{
    struct tokenizer *t = mem_alloc(sizeof(*t));
    t->bos = t->eos = -1;
    for (size_t i = 0; i < FIM_PARTS; i++)
        t->fim[i] = -1;
    if (status == 0)
        status = open_parts(t, s, e);
    source_close(s);
    if (status != 0)
        tokenizer_close(&t);
    *out = t;
    return status;
}

int tokenizer_open(struct tokenizer **out, const struct gguf *g, struct error *e)
{
    struct error own;
    struct source s;
    e = e ? e : &own;
    if (gguf_is_memory(g)) {
        char *path = path_join(gguf_path(g), "tokenizer.json");
        bool there = path_exists(path);
        mem_free(path);
        if (there)
            return tokenizer_open_folder(out, gguf_path(g), e);
    }
    return open_source(out, &s, source_gguf(&s, g, e), e);
}

int tokenizer_open_folder(struct tokenizer **out, const char *folder, struct error *e)
{
    struct error own;
    struct source s;
    e = e ? e : &own;
    return open_source(out, &s, source_hf(&s, folder, e), e);
}

void tokenizer_close(struct tokenizer **t)
{
    if (!*t)
        return;
    special_close(&(*t)->special);
    special_close(&(*t)->late);
    bpe_close(&(*t)->bpe);
    unigram_close(&(*t)->unigram);
    normalizer_close(&(*t)->normalizer);
    vocab_close(&(*t)->vocab);
    pretokenizer_close(&(*t)->pretokenizer);
    mem_free((*t)->chat_template);
    mem_free((*t)->tool_template);
    mem_free(*t);
    *t = NULL;
}

uint32_t tokenizer_count(const struct tokenizer *t)
{
    return t->vocab.count;
}

bool tokenizer_has_vocab(const struct tokenizer *t)
{
    return t->vocab.count > 0;
}

/* ---- encoding ---- */

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

struct encoding {
    const struct tokenizer *t;
    struct work work;
    struct splitter *splitter;
    struct buffer normal; /* a stretch as the model wants it */
    struct buffer piece;  /* one with a space before it */
    struct error *e;
};

static void encode_piece(struct encoding *c, const char *piece, size_t len)
{
    if (c->t->is_unigram)
        unigram_encode(&c->t->unigram, &c->work, piece, len);
    else
        bpe_encode(&c->t->bpe, &c->work, piece, len);
}

static void take_piece(void *user, const char *piece, size_t len)
{
    struct encoding *c = user;
    if (c->t->prefix != PREFIX_PIECES) {
        encode_piece(c, piece, len);
        return;
    }
    buffer_clear(&c->piece);
    buffer_add(&c->piece, " ", 1);
    buffer_add(&c->piece, piece, len);
    encode_piece(c, buffer_text(&c->piece), c->piece.len);
}

typedef int (*stretch_fn)(struct encoding *c, const char *text, size_t len, bool first);

static int split_stretch(struct encoding *c, const char *text, size_t len, bool first)
{
    (void)first;
    return splitter_split(c->splitter, text, len, c->e);
}

/* Cut at special tokens, give what is between them to `fn`. */
static int cut(struct encoding *c, const struct special_set *set, const struct token_source *s, stretch_fn fn)
{
    const struct tokenizer *t = c->t;
    struct special_match m;
    size_t at = 0, span = 0;
    bool first = true;
    while (special_next(set, s->text, s->len, at, s->trusted, s->n_trusted, &span, &m)) {
        size_t end = m.start;
        while ((t->vocab.flags[m.id] & VOCAB_LSTRIP) && end > at && is_blank(s->text[end - 1]))
            end--;
        int status = end > at ? fn(c, s->text + at, end - at, first) : 0;
        if (status != 0)
            return status;
        work_emit(&c->work, (int32_t)m.id);
        first = false;
        at = m.end;
        while ((t->vocab.flags[m.id] & VOCAB_RSTRIP) && at < s->len && is_blank(s->text[at]))
            at++;
    }
    return s->len > at ? fn(c, s->text + at, s->len - at, first) : 0;
}

static bool wants_space(const struct tokenizer *t, char begins, bool first)
{
    switch (t->prefix) {
    case PREFIX_ALWAYS:
        return true;
    case PREFIX_MISSING:
        return begins != ' ';
    case PREFIX_FIRST:
        return first && begins != ' ';
    default:
        return false;
    }
}

/* Normalise a stretch, put a space before it, and cut it at what is recognised only now. */
static int normal_stretch(struct encoding *c, const char *text, size_t len, bool first)
{
    const struct tokenizer *t = c->t;
    int status = 0;
    if (t->prefix == PREFIX_NONE && t->normalizer.n_steps == 0 && !t->has_late)
        return split_stretch(c, text, len, first);
    buffer_clear(&c->normal);
    buffer_add(&c->normal, " ", 1);
    if (t->normalizer.n_steps > 0)
        status = normalizer_run(&t->normalizer, text, len, &c->normal, c->e);
    else
        buffer_add(&c->normal, text, len);
    if (status != 0 || c->normal.len == 1)
        return status;
    struct token_source s = {.text = buffer_text(&c->normal), .len = c->normal.len};
    if (!wants_space(t, s.text[1], first)) {
        s.text++;
        s.len--;
    }
    return t->has_late ? cut(c, &t->late, &s, split_stretch) : split_stretch(c, s.text, s.len, first);
}

static int encode_all(struct encoding *c, const struct token_source *s)
{
    const struct tokenizer *t = c->t;
    for (size_t i = 0; s->before && i < t->n_before; i++)
        work_emit(&c->work, t->before[i]);
    if (s->bos && t->bos >= 0)
        work_emit(&c->work, t->bos);
    int status = cut(c, &t->special, s, normal_stretch);
    for (size_t i = 0; s->after && i < t->n_after; i++)
        work_emit(&c->work, t->after[i]);
    return status;
}

int tokenizer_encode_spans(const struct tokenizer *t, const struct token_source *s, struct token_list *out,
                           struct error *e)
{
    struct encoding c = {.t = t, .e = e};
    *out = (struct token_list){0};
    if (!tokenizer_has_vocab(t))
        return error_set(e, ERR_UNSUPPORTED, "the model has no vocabulary: give token ids instead of text");
    if (s->len > TOKENIZER_TEXT_MAX)
        return error_set(e, ERR_LIMIT, "a text of %zu bytes; at most %d can be encoded at once", s->len,
                         TOKENIZER_TEXT_MAX);
    int status = splitter_open(&c.splitter, t->pretokenizer, s->len, take_piece, &c, e);
    if (status != 0)
        return status;
    work_init(&c.work, t->vocab.secret, s->len);
    buffer_init(&c.normal, TOKENIZER_TEXT_MAX + 1);
    buffer_init(&c.piece, TOKENIZER_TEXT_MAX + 1);
    status = encode_all(&c, s);
    if (status == 0) {
        *out = (struct token_list){c.work.ids, c.work.count};
        c.work.ids = NULL;
    }
    buffer_close(&c.normal);
    buffer_close(&c.piece);
    splitter_close(&c.splitter);
    work_close(&c.work);
    return status;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags, struct token_list *out,
                     struct error *e)
{
    struct text_span whole = {0, len};
    struct token_source s = {
        .text = text, .len = len, .trusted = &whole, .n_trusted = (flags & ENCODE_SPECIAL) ? 1 : 0,
        .before = (flags & (ENCODE_BOS_EOS | ENCODE_BOS)) != 0, .after = (flags & ENCODE_BOS_EOS) != 0,
    };
    return tokenizer_encode_spans(t, &s, out, e);
}

int tokenizer_encode_parts(const struct tokenizer *t, const struct text_part *parts, size_t n, unsigned flags,
                           struct token_list *out, struct error *e)
{
    struct text_span *spans = mem_array(n, sizeof(*spans));
    struct buffer all;
    size_t n_spans = 0;
    buffer_init(&all, TOKENIZER_TEXT_MAX);
    for (size_t i = 0; i < n; i++) {
        size_t start = all.len;
        buffer_add(&all, parts[i].text, parts[i].len);
        if (parts[i].trusted && parts[i].len > 0 && (flags & ENCODE_SPECIAL))
            spans[n_spans++] = (struct text_span){start, all.len};
    }
    struct token_source s = {
        .text = buffer_text(&all), .len = all.len, .trusted = spans, .n_trusted = n_spans,
        .before = (flags & (ENCODE_BOS_EOS | ENCODE_BOS)) != 0, .after = (flags & ENCODE_BOS_EOS) != 0,
    };
    *out = (struct token_list){0};
    int status = buffer_failed(&all) ? error_set(e, ERR_LIMIT, "at most %d bytes can be encoded at once",
                                                 TOKENIZER_TEXT_MAX)
                                     : tokenizer_encode_spans(t, &s, out, e);
    buffer_close(&all);
    mem_free(spans);
    return status;
}

void token_list_free(struct token_list *list)
{
    mem_free(list->ids);
    *list = (struct token_list){0};
}

/* ---- tokens ---- */

static bool is_token(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && (uint32_t)id < t->vocab.count;
}

void tokenizer_decode(const struct tokenizer *t, int32_t id, bool special, struct buffer *out)
{
    if (!is_token(t, id) || (!special && (t->vocab.flags[id] & (VOCAB_CONTROL | VOCAB_UNUSED))))
        return;
    size_t len;
    const char *text = vocab_text(&t->vocab, (uint32_t)id, &len);
    buffer_add(out, text, len);
}

/* Is a space before the token that comes after this one, or at the beginning, one that encoding put there? */
static bool spaced_after(const struct tokenizer *t, int32_t id, bool first)
{
    if (t->prefix == PREFIX_NONE || t->prefix == PREFIX_PIECES)
        return false;
    bool special = is_token(t, id) && (t->vocab.flags[id] & (VOCAB_CONTROL | VOCAB_USER));
    return first || (special && t->prefix != PREFIX_FIRST);
}

void tokenizer_decode_list(const struct tokenizer *t, const int32_t *ids, size_t n, bool special, struct buffer *out)
{
    bool spaced = spaced_after(t, -1, true), first = true;
    for (size_t i = 0; i < n; i++) {
        size_t len;
        bool own = is_token(t, ids[i]) && (t->vocab.flags[ids[i]] & (VOCAB_CONTROL | VOCAB_USER));
        const char *text = is_token(t, ids[i]) ? vocab_text(&t->vocab, (uint32_t)ids[i], &len) : NULL;
        bool drop = spaced && !own && text && len > 0 && *text == ' ';
        first = first && own;
        spaced = own && spaced_after(t, ids[i], first && ids[i] == t->bos);
        if (drop)
            buffer_add(out, text + 1, len - 1);
        else
            tokenizer_decode(t, ids[i], special, out);
    }
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

int32_t tokenizer_fim(const struct tokenizer *t, enum fim_part part)
{
    return t->fim[part];
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    return is_token(t, id) && (t->vocab.flags[id] & VOCAB_END);
}

bool tokenizer_is_control(const struct tokenizer *t, int32_t id)
{
    return is_token(t, id) && (t->vocab.flags[id] & VOCAB_CONTROL);
}

int32_t tokenizer_find(const struct tokenizer *t, const char *text, size_t len)
{
    int32_t id = vocab_find(&t->vocab, text, len, false);
    if (id < 0)
        id = vocab_find(&t->vocab, text, len, true);
    return id < 0 && len == 1 && t->vocab.count > 0 ? t->vocab.bytes[(unsigned char)*text] : id;
}

const char *tokenizer_chat_template(const struct tokenizer *t)
{
    return t->chat_template;
}

const char *tokenizer_tool_template(const struct tokenizer *t)
{
    return t->tool_template;
}
