/* source_gguf: the tokenizer.ggml.* keys of a GGUF file.
 *
 * A kind of tokenizer is a row of the table: its name, how it works, and what
 * holds where the file does not say.                                         */
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "text/pretokenizer.h"
#include "text/source.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

/* tokenizer.ggml.token_type */
enum token_type { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

struct kind_row {
    const char *name; /* tokenizer.ggml.model */
    enum source_kind kind;
    const char *pre;  /* the row of the pre-tokenizer, whatever the file says; "": none; NULL: the file says it */
    bool spaces, by_score, add_bos, add_eos, add_space;
    int32_t bos, eos, unknown;
};

static const struct kind_row kinds[] = {
    {"no_vocab", SOURCE_NONE, "", 0, 0, 0, 0, 0, -1, -1, -1},
    {"none", SOURCE_NONE, "", 0, 0, 0, 0, 0, -1, -1, -1},
    {"gpt2", SOURCE_BYTES, NULL, 0, 0, 0, 0, 0, -1, -1, -1},
    {"llama", SOURCE_CHARS, "", .spaces = true, .by_score = true, .add_bos = true, .add_space = true, .bos = 1,
     .eos = 2, .unknown = 0},
    {"gemma4", SOURCE_CHARS, "gemma4", .spaces = true, .bos = -1, .eos = -1, .unknown = -1},
    {"t5", SOURCE_UNIGRAM, "", .spaces = true, .add_eos = true, .add_space = true, .bos = -1, .eos = 1, .unknown = 2},
};

/* Keys whose token ends a generation, beside EOS. */
static const char *const end_keys[] = {
    "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id",
};

/* ---- kinds ---- */

static int unknown_kind(const struct gguf *g, struct gguf_string kind, struct error *e)
{
    return error_set(e, ERR_UNSUPPORTED, "%s: tokenizers of the kind '%.*s' are not supported (gpt2, llama, t5 and "
                     "gemma4 are)", gguf_path(g), kind.len > 64 ? 64 : (int)kind.len, kind.text);
}

/* Other kinds are refused by name; a file without any vocabulary has none. */
static int find_kind(const struct gguf *g, const struct kind_row **row, struct error *e)
{
    struct gguf_string kind;
    *row = &kinds[0];
    if (!gguf_get_string(g, "tokenizer.ggml.model", &kind)) {
        if (gguf_has(g, "tokenizer.ggml.tokens") || gguf_has(g, "tokenizer.ggml.model"))
            return error_set(e, ERR_CORRUPT, "%s: the kind of the tokenizer is missing", gguf_path(g));
        return 0;
    }
    for (size_t i = 0; i < COUNTOF(kinds); i++) {
        if (gguf_string_is(kind, kinds[i].name)) {
            *row = &kinds[i];
            return 0;
        }
    }
    return unknown_kind(g, kind, e);
}

static int read_template(struct source_text *out, const struct gguf *g, const char *key, struct error *e)
{
    struct gguf_string text;
    if (!gguf_get_string(g, key, &text))
        return 0;
    if (text.len > SOURCE_TEMPLATE_MAX)
        return error_set(e, ERR_LIMIT, "%s: the chat template has %zu bytes; at most %d can be", gguf_path(g),
                         text.len, SOURCE_TEMPLATE_MAX);
    *out = (struct source_text){text.text, text.len};
    return 0;
}

static int read_templates(struct source *s, const struct gguf *g, struct error *e)
{
    int status = read_template(&s->chat_template, g, "tokenizer.chat_template", e);
    return status == 0 ? read_template(&s->tool_template, g, "tokenizer.chat_template.tool_use", e) : status;
}

/* ---- tokens ---- */

static uint16_t flags_of(int64_t type)
{
    switch (type) {
    case TYPE_UNKNOWN:
    case TYPE_CONTROL:
        return VOCAB_CONTROL;
    case TYPE_USER:
        return VOCAB_USER;
    case TYPE_UNUSED:
        return VOCAB_UNUSED;
    case TYPE_BYTE:
        return VOCAB_BYTE;
    default:
        return VOCAB_PLAIN;
    }
}

/* A list beside the tokens is optional, but one that is there must fit. */
static int check_list(const struct gguf *g, const char *key, uint32_t count, const char *what, struct error *e)
{
    enum gguf_type type;
    uint64_t n;
    if (gguf_has(g, key) && (!gguf_array(g, key, &type, &n) || type == GGUF_STRING || n != count))
        return error_set(e, ERR_CORRUPT, "%s: the list of token %s does not fit the %u tokens", gguf_path(g), what,
                         count);
    return 0;
}

static int read_tokens(struct source *s, const struct gguf *g, struct error *e)
{
    enum gguf_type type;
    uint64_t n;
    if (!gguf_array(g, "tokenizer.ggml.tokens", &type, &n) || type != GGUF_STRING)
        return error_set(e, ERR_CORRUPT, "%s: the tokenizer has no list of tokens", gguf_path(g));
    if (n == 0 || n > SOURCE_TOKENS_MAX)
        return error_set(e, ERR_LIMIT, "%s: %llu tokens; between 1 and %d can be", gguf_path(g),
                         (unsigned long long)n, SOURCE_TOKENS_MAX);
    int status = check_list(g, "tokenizer.ggml.token_type", (uint32_t)n, "types", e);
    if (status == 0)
        status = check_list(g, "tokenizer.ggml.scores", (uint32_t)n, "scores", e);
    if (status != 0)
        return status;
    s->n_tokens = (uint32_t)n;
    s->tokens = mem_array((size_t)n, sizeof(*s->tokens));
    for (uint64_t i = 0; i < n; i++) {
        struct gguf_string text;
        int64_t kind = TYPE_NORMAL;
        double score = 0;
        if (!gguf_array_string(g, "tokenizer.ggml.tokens", i, &text))
            return error_set(e, ERR_CORRUPT, "%s: token %llu cannot be read", gguf_path(g), (unsigned long long)i);
        (void)gguf_array_i64(g, "tokenizer.ggml.token_type", i, &kind);
        (void)gguf_array_f64(g, "tokenizer.ggml.scores", i, &score);
        s->tokens[i] = (struct source_token){{text.text, text.len}, (float)score, flags_of(kind)};
    }
    return 0;
}

static int need_scores(const struct source *s, const struct gguf *g, struct error *e)
{
    if ((s->by_score || s->kind == SOURCE_UNIGRAM) && !gguf_has(g, "tokenizer.ggml.scores"))
        return error_set(e, ERR_CORRUPT, "%s: the tokenizer has no list of scores", gguf_path(g));
    return 0;
}

/* "left right". A left part may itself begin with a space, so the first character never separates. */
static struct source_merge parse_merge(struct gguf_string s)
{
    struct source_merge m = {{"", 0}, {"", 0}};
    const char *space = s.len < 3 ? NULL : memchr(s.text + 1, ' ', s.len - 1);
    if (space) {
        m.left = (struct source_text){s.text, (size_t)(space - s.text)};
        m.right = (struct source_text){space + 1, s.len - m.left.len - 1};
    }
    return m;
}

static int read_merges(struct source *s, const struct gguf *g, struct error *e)
{
    enum gguf_type type;
    uint64_t n;
    if (s->by_score || s->kind == SOURCE_UNIGRAM)
        return need_scores(s, g, e);
    if (!gguf_array(g, "tokenizer.ggml.merges", &type, &n) || (type != GGUF_STRING && n > 0))
        return error_set(e, ERR_CORRUPT, "%s: the tokenizer has no list of merges", gguf_path(g));
    if (n > SOURCE_MERGES_MAX)
        return error_set(e, ERR_LIMIT, "%s: %llu merges; at most %d can be", gguf_path(g), (unsigned long long)n,
                         SOURCE_MERGES_MAX);
    s->merges = mem_array((size_t)n, sizeof(*s->merges));
    s->n_merges = (uint32_t)n;
    for (uint64_t i = 0; i < n; i++) {
        struct gguf_string text = {"", 0};
        (void)gguf_array_string(g, "tokenizer.ggml.merges", i, &text);
        s->merges[i] = parse_merge(text);
    }
    return 0;
}

/* ---- special tokens ---- */

/* The id under a key; `fallback` where it is absent, and -1 is how some files say that there is none. */
static int32_t id_key(const struct source *s, const struct gguf *g, const char *key, int32_t fallback, int *status,
                      struct error *e)
{
    uint64_t id;
    if (!gguf_has(g, key))
        return fallback < (int32_t)s->n_tokens ? fallback : -1;
    bool there = gguf_get_u64(g, key, &id);
    if (there && id < s->n_tokens)
        return (int32_t)id;
    if (there && id != UINT32_MAX && *status == 0)
        *status = error_set(e, ERR_CORRUPT, "%s: %s is %llu; there are %u tokens", gguf_path(g), key,
                            (unsigned long long)id, s->n_tokens);
    return -1;
}

/* Older files have names of their own for three of them. */
static int read_fim(struct source *s, const struct gguf *g, struct error *e)
{
    static const char *const keys[][2] = {
        [FIM_PREFIX] = {"tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.prefix_token_id"},
        [FIM_SUFFIX] = {"tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.suffix_token_id"},
        [FIM_MIDDLE] = {"tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.middle_token_id"},
        [FIM_REPO] = {"tokenizer.ggml.fim_rep_token_id", NULL},
        [FIM_FILE] = {"tokenizer.ggml.fim_sep_token_id", NULL},
    };
    int status = 0;
    for (size_t i = 0; i < FIM_PARTS; i++)
        for (size_t k = 0; k < 2 && keys[i][k] && s->fim[i] < 0; k++)
            s->fim[i] = id_key(s, g, keys[i][k], -1, &status, e);
    return status;
}

static int read_specials(struct source *s, const struct gguf *g, const struct kind_row *row, struct error *e)
{
    bool add_bos = row->add_bos, add_eos = row->add_eos;
    int status = 0;
    s->bos = id_key(s, g, "tokenizer.ggml.bos_token_id", row->bos, &status, e);
    s->eos = id_key(s, g, "tokenizer.ggml.eos_token_id", row->eos, &status, e);
    s->unknown = id_key(s, g, "tokenizer.ggml.unknown_token_id", row->unknown, &status, e);
    if (!row->pre)
        add_bos = pretokenizer_adds_bos(s->pre.text, s->pre.len);
    (void)gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &add_bos);
    (void)gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &add_eos);
    if (add_bos && s->bos >= 0)
        s->before[s->n_before++] = s->bos;
    if (add_eos && s->eos >= 0)
        s->after[s->n_after++] = s->eos;
    if (s->eos >= 0)
        s->ends[s->n_ends++] = s->eos;
    for (size_t i = 0; i < COUNTOF(end_keys); i++) {
        int32_t id = id_key(s, g, end_keys[i], -1, &status, e);
        if (id >= 0)
            s->ends[s->n_ends++] = id;
    }
    return status == 0 ? read_fim(s, g, e) : status;
}

static bool name_has(struct gguf_string name, const char *part)
{
    size_t n = strlen(part);
    for (size_t i = 0; i + n <= name.len; i++)
        if (strncasecmp(name.text + i, part, n) == 0)
            return true;
    return false;
}

static bool is_one_of(struct source_text text, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text.len == strlen(list[i]) && memcmp(text.text, list[i], text.len) == 0)
            return true;
    return false;
}

/* GGUF does not carry the white space flags of tokens; the models that need them are known by name. */
static void mark_strips(struct source *s, const struct gguf *g)
{
    static const char *const bare[] = {"<unk>", "<s>", "<|endoftext|>"}, *const mask[] = {"<mask>"};
    struct gguf_string name = {"", 0}, pre = {"", 0};
    (void)gguf_get_string(g, "general.name", &name);
    (void)gguf_get_string(g, "tokenizer.ggml.pre", &pre);
    bool jina = name_has(pre, "jina-v2-"), phi = name_has(name, "phi-3") || name_has(name, "phi3");
    for (uint32_t id = 0; (jina || phi) && id < s->n_tokens; id++) {
        struct source_token *t = &s->tokens[id];
        if (!(t->flags & (VOCAB_CONTROL | VOCAB_USER)))
            continue;
        if (jina && is_one_of(t->text, mask, 1))
            t->flags |= VOCAB_LSTRIP;
        if (phi && !is_one_of(t->text, bare, COUNTOF(bare)))
            t->flags |= VOCAB_RSTRIP;
    }
}

/* ---- what is done to the text ---- */

static void add_step(struct source *s, enum source_step_kind kind)
{
    s->steps[s->n_steps++].kind = kind;
}

static int read_charsmap(struct source *s, const struct gguf *g, struct error *e)
{
    enum gguf_type type;
    uint64_t n;
    if (!gguf_array(g, "tokenizer.ggml.precompiled_charsmap", &type, &n) || n == 0)
        return 0;
    if (type != GGUF_U8 && type != GGUF_I8)
        return error_set(e, ERR_CORRUPT, "%s: the table of replacements is not of bytes", gguf_path(g));
    char *bytes = mem_array((size_t)n, 1);
    for (uint64_t i = 0; i < n; i++) {
        int64_t byte = 0;
        (void)gguf_array_i64(g, "tokenizer.ggml.precompiled_charsmap", i, &byte);
        bytes[i] = (char)byte;
    }
    s->owner = bytes;
    s->owner_close = mem_free;
    add_step(s, STEP_CHARSMAP);
    s->steps[s->n_steps - 1].from = (struct source_text){bytes, (size_t)n};
    return 0;
}

static int read_normalizer(struct source *s, const struct gguf *g, const struct kind_row *row, struct error *e)
{
    bool add_space = row->add_space, single = false;
    if (s->kind == SOURCE_BYTES)
        return 0;
    (void)gguf_get_bool(g, "tokenizer.ggml.add_space_prefix", &add_space);
    s->prefix = add_space ? PREFIX_ALWAYS : PREFIX_NONE;
    if (s->kind != SOURCE_UNIGRAM)
        return 0;
    int status = read_charsmap(s, g, e);
    (void)gguf_get_bool(g, "tokenizer.ggml.remove_extra_whitespaces", &single);
    if (single) {
        add_step(s, STEP_TRIM_LEFT);
        add_step(s, STEP_TRIM_RIGHT);
        add_step(s, STEP_SINGLE_SPACE);
    }
    return status;
}

static void read_pre(struct source *s, const struct gguf *g, const struct kind_row *row)
{
    struct gguf_string pre = {"default", 7};
    if (row->pre && !*row->pre)
        return;
    if (row->pre)
        pre = (struct gguf_string){row->pre, strlen(row->pre)};
    else
        (void)gguf_get_string(g, "tokenizer.ggml.pre", &pre);
    s->pre = (struct source_text){pre.text, pre.len};
    s->whole_first = pretokenizer_whole_first(pre.text, pre.len);
}

int source_gguf(struct source *s, const struct gguf *g, struct error *e)
{
    const struct kind_row *row;
    source_init(s);
    s->where = gguf_path(g);
    int status = find_kind(g, &row, e);
    if (status == 0)
        status = read_templates(s, g, e);
    if (status != 0 || row->kind == SOURCE_NONE)
        return status;
    s->kind = row->kind;
    s->spaces = row->spaces;
    s->by_score = row->by_score;
    s->fuse_unknown = row->kind == SOURCE_UNIGRAM;
    read_pre(s, g, row);
    status = read_tokens(s, g, e);
    if (status == 0)
        status = read_merges(s, g, e);
    if (status == 0)
        status = read_normalizer(s, g, row, e);
    if (status == 0)
        status = read_specials(s, g, row, e);
    mark_strips(s, g);
    return status;
}
