/* tokenizer: what the file says about special tokens, and the order of the steps of encoding.
 *
 * Text is cut at special tokens; each stretch between them is split by the
 * pre-tokenizer and its pieces are merged.  Nothing is normalised, so that
 * decoding gives back every byte.                                            */
#include "text/tokenizer.h"

#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"
#include "text/special.h"
#include "text/tokenizer_spans.h"
#include "text/vocab.h"

enum { TEMPLATE_BYTES_MAX = 1 << 20 };

struct tokenizer {
    struct vocab vocab; /* count 0: the model has none */
    struct bpe bpe;
    struct special_set special;
    struct pretokenizer *pretokenizer;
    int32_t bos, eos; /* -1: none */
    bool add_bos, add_eos;
    char *chat_template; /* NULL: none */
};

/* ---- special tokens ---- */

/* Texts that end a generation in every model that has them as tokens. */
static const char *const end_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>",
    "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>",
    "<\xEF\xBD\x9C" "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>", "<end_of_utterance>", "<eos>", "[e~[",
    "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
};

/* Keys whose token ends a generation. */
static const char *const end_keys[] = {
    "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id",
};

/* The id under a key, or -1 when it is absent or names no token. */
static int32_t id_key(const struct tokenizer *t, const struct gguf *g, const char *key)
{
    uint64_t id;
    return gguf_get_u64(g, key, &id) && id < t->vocab.count ? (int32_t)id : -1;
}

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
        t->vocab.flags[end] &= (uint8_t)~VOCAB_END;
}

/* Some files forget to say that this is a control token, and then any message could open a turn. */
static void close_turns(struct tokenizer *t)
{
    int32_t start = find_text(t, "<|im_start|>");
    if (start >= 0) {
        t->vocab.flags[start] &= (uint8_t)~VOCAB_USER;
        t->vocab.flags[start] |= VOCAB_CONTROL;
    }
}

static void mark_ends(struct tokenizer *t, const struct gguf *g)
{
    for (size_t i = 0; i < COUNTOF(end_texts); i++) {
        int32_t id = find_text(t, end_texts[i]);
        if (id < 0)
            continue;
        /* The same holds for these. */
        t->vocab.flags[id] &= (uint8_t)~VOCAB_USER;
        t->vocab.flags[id] |= VOCAB_CONTROL | VOCAB_END;
    }
    keep_harmony_open(t);
    for (size_t i = 0; i < COUNTOF(end_keys); i++) {
        int32_t id = id_key(t, g, end_keys[i]);
        if (id >= 0)
            t->vocab.flags[id] |= VOCAB_END;
    }
}

static bool name_has(struct gguf_string name, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= name.len; i++)
        if (strncasecmp(name.text + i, part, n) == 0)
            return true;
    return false;
}

/* GGUF does not carry the white space flags of tokens; the models that need them are known by name. */
static void mark_strips(struct tokenizer *t, const struct gguf *g)
{
    struct gguf_string name = {"", 0}, pre = {"", 0};
    (void)gguf_get_string(g, "general.name", &name);
    (void)gguf_get_string(g, "tokenizer.ggml.pre", &pre);
    int32_t mask = find_text(t, "<mask>");
    if (name_has(pre, "jina-v2-") && mask >= 0)
        t->vocab.flags[mask] |= VOCAB_LSTRIP;
    if (!name_has(name, "phi-3") && !name_has(name, "phi3"))
        return;
    for (uint32_t id = 0; id < t->vocab.count; id++)
        if (t->vocab.flags[id] & (VOCAB_CONTROL | VOCAB_USER))
            t->vocab.flags[id] |= VOCAB_RSTRIP;
    static const char *const bare[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (size_t i = 0; i < COUNTOF(bare); i++) {
        int32_t id = find_text(t, bare[i]);
        if (id >= 0)
            t->vocab.flags[id] &= (uint8_t)~VOCAB_RSTRIP;
    }
}

static void read_specials(struct tokenizer *t, const struct gguf *g)
{
    t->bos = id_key(t, g, "tokenizer.ggml.bos_token_id");
    t->eos = id_key(t, g, "tokenizer.ggml.eos_token_id");
    t->add_bos = pretokenizer_adds_bos(t->pretokenizer);
    (void)gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos);
    (void)gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos);
    close_turns(t);
    mark_ends(t, g);
    mark_strips(t, g);
    special_open(&t->special, &t->vocab);
}

/* ---- opening ---- */

/* Does the file have a vocabulary of the kind that this is?  Other kinds are refused by name. */
static int check_kind(const struct gguf *g, bool *has_vocab, struct error *e)
{
    struct gguf_string kind;
    if (!gguf_get_string(g, "tokenizer.ggml.model", &kind)) {
        *has_vocab = false;
        if (gguf_has(g, "tokenizer.ggml.tokens") || gguf_has(g, "tokenizer.ggml.model"))
            return error_set(e, ERR_CORRUPT, "%s: the kind of the tokenizer is missing", gguf_path(g));
        return 0;
    }
    static const char *const none[] = {"no_vocab", "none"};
    for (size_t i = 0; i < COUNTOF(none); i++) {
        if (kind.len == strlen(none[i]) && memcmp(kind.text, none[i], kind.len) == 0) {
            *has_vocab = false;
            return 0;
        }
    }
    *has_vocab = true;
    if (kind.len != 4 || memcmp(kind.text, "gpt2", 4) != 0)
        return error_set(e, ERR_UNSUPPORTED, "%s: tokenizers of the kind '%.*s' are not supported (only 'gpt2' is)",
                         gguf_path(g), kind.len > 64 ? 64 : (int)kind.len, kind.text);
    return 0;
}

static int read_template(struct tokenizer *t, const struct gguf *g, struct error *e)
{
    struct gguf_string s;
    if (!gguf_get_string(g, "tokenizer.chat_template", &s))
        return 0;
    if (s.len > TEMPLATE_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "%s: the chat template has %zu bytes; at most %d can be", gguf_path(g), s.len,
                         TEMPLATE_BYTES_MAX);
    t->chat_template = mem_strndup(s.text, s.len);
    return 0;
}

static int open_pretokenizer(struct tokenizer *t, const struct gguf *g, struct error *e)
{
    struct gguf_string pre = {"default", 7};
    (void)gguf_get_string(g, "tokenizer.ggml.pre", &pre);
    int status = pretokenizer_open(&t->pretokenizer, pre.text, pre.len, e);
    return status == 0 ? 0 : error_context(e, "%s", gguf_path(g));
}

static int open_parts(struct tokenizer *t, const struct gguf *g, struct error *e)
{
    bool has_vocab;
    int status = check_kind(g, &has_vocab, e);
    if (status == 0)
        status = read_template(t, g, e);
    if (status != 0 || !has_vocab)
        return status;
    status = open_pretokenizer(t, g, e);
    if (status == 0)
        status = vocab_open(&t->vocab, g, e);
    if (status == 0)
        status = bpe_open(&t->bpe, &t->vocab, g, pretokenizer_whole_first(t->pretokenizer), e);
    if (status == 0)
        read_specials(t, g);
    return status;
}

int tokenizer_open(struct tokenizer **out, const struct gguf *g, struct error *e)
{
    struct error own;
    struct tokenizer *t = mem_alloc(sizeof(*t));
    t->bos = t->eos = -1;
    int status = open_parts(t, g, e ? e : &own);
    if (status != 0)
        tokenizer_close(&t);
    *out = t;
    return status;
}

void tokenizer_close(struct tokenizer **t)
{
    if (!*t)
        return;
    special_close(&(*t)->special);
    bpe_close(&(*t)->bpe);
    vocab_close(&(*t)->vocab);
    pretokenizer_close(&(*t)->pretokenizer);
    mem_free((*t)->chat_template);
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
    struct bpe_work work;
};

static void take_piece(void *user, const char *piece, size_t len)
{
    struct encoding *c = user;
    bpe_encode(&c->t->bpe, &c->work, piece, len);
}

/* Cut at special tokens, encode what is between them. */
static int encode_cut(struct encoding *c, const struct token_source *s, struct splitter *splitter, struct error *e)
{
    const struct tokenizer *t = c->t;
    struct special_match m;
    size_t at = 0, span = 0;
    while (special_next(&t->special, s->text, s->len, at, s->trusted, s->n_trusted, &span, &m)) {
        size_t end = m.start;
        while ((t->vocab.flags[m.id] & VOCAB_LSTRIP) && end > at && is_blank(s->text[end - 1]))
            end--;
        int status = splitter_split(splitter, s->text + at, end - at, e);
        if (status != 0)
            return status;
        bpe_emit(&c->work, (int32_t)m.id);
        at = m.end;
        while ((t->vocab.flags[m.id] & VOCAB_RSTRIP) && at < s->len && is_blank(s->text[at]))
            at++;
    }
    return splitter_split(splitter, s->text + at, s->len - at, e);
}

int tokenizer_encode_spans(const struct tokenizer *t, const struct token_source *s, struct token_list *out,
                           struct error *e)
{
    struct splitter *splitter;
    struct encoding c = {.t = t};
    *out = (struct token_list){0};
    if (!tokenizer_has_vocab(t))
        return error_set(e, ERR_UNSUPPORTED, "the model has no vocabulary: give token ids instead of text");
    if (s->len > TOKENIZER_TEXT_MAX)
        return error_set(e, ERR_LIMIT, "a text of %zu bytes; at most %d can be encoded at once", s->len,
                         TOKENIZER_TEXT_MAX);
    int status = splitter_open(&splitter, t->pretokenizer, s->len, take_piece, &c, e);
    if (status != 0)
        return status;
    bpe_work_init(&c.work, s->len);
    if (s->bos && t->bos >= 0)
        bpe_emit(&c.work, t->bos);
    status = encode_cut(&c, s, splitter, e);
    if (s->eos && t->eos >= 0)
        bpe_emit(&c.work, t->eos);
    if (status == 0) {
        *out = (struct token_list){c.work.ids, c.work.count};
        c.work.ids = NULL;
    }
    splitter_close(&splitter);
    bpe_work_close(&c.work);
    return status;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags, struct token_list *out,
                     struct error *e)
{
    bool ends = (flags & ENCODE_BOS_EOS) != 0;
    struct text_span whole = {0, len};
    struct token_source s = {
        .text = text, .len = len, .trusted = &whole, .n_trusted = (flags & ENCODE_SPECIAL) ? 1 : 0,
        .bos = ends && t->add_bos, .eos = ends && t->add_eos,
    };
    return tokenizer_encode_spans(t, &s, out, e);
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

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
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
    return id >= 0 ? id : vocab_find(&t->vocab, text, len, true);
}

const char *tokenizer_chat_template(const struct tokenizer *t)
{
    return t->chat_template;
}
