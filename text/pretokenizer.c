/* pretokenizer: the rows, and splitting with PCRE2.
 *
 * The expressions are facts about the models.  They are spelled so that no
 * attempt at a match costs more than a small multiple of the text that it
 * looks at and consumes: where the published form would scan a run again from
 * each of its positions, an equal form with possessive quantifiers stands.
 * White space is spelled out, because PCRE2's \s has U+180E, which the others
 * lost.                                                                      */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pretokenizer.h"

#include <pcre2.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "text/utf8.h"

enum {
    ROW_SPLITS_MAX = 7,
    STAGES_MAX = SOURCE_SPLITS_MAX,
    PATTERN_BYTES_MAX = 1 << 16,
    SEARCH_BYTES = 1 << 12,  /* a stranger's expression is tried from so many places at once */
    SECONDS_A_TEXT = 2,      /* that it may take, and one more for every megabyte */
    JIT_STACK_FIRST = 32 << 10,
    JIT_STACK_MAX = 1 << 20,
    INTERPRETER_HEAP_KIB = 64 << 10,
    MATCH_STEPS = 1 << 20, /* and MATCH_STEPS_PER_BYTE for every byte */
    MATCH_STEPS_PER_BYTE = 16,
};

/* ---- the expressions ---- */

#define BLANK "\\t\\x0B\\x0C \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define WHITE BLANK "\\r\\n"
#define S "[" WHITE "]"
#define NOT_S "[^" WHITE "]"

/* \s*[\r\n]+ : white space up to its last line break, without stepping back over the run when there is none. */
#define BREAKS "(?:[" BLANK "]*+[\\r\\n]++)++"
/* \s+(?!\S)|\s+ : white space, less its last character where a word follows. */
#define SPACES S "+(?!" NOT_S ")|" S "+"
#define TAIL BREAKS "|" SPACES

#define CONTRACTION "'(?i:[sdmt]|ll|ve|re)"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SIGNS(after) " ?[^" WHITE "\\p{L}\\p{N}]+[" after "]*"

#define GPT2 "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^" WHITE "\\p{L}\\p{N}]+|" SPACES
#define LLAMA3_WITH(digits) CONTRACTION "|" WORD "|" digits "|" SIGNS("\\r\\n") "|" TAIL
#define LLAMA3 LLAMA3_WITH("\\p{N}{1,3}")
#define QWEN2 LLAMA3_WITH("\\p{N}")
#define QWEN35                                                                                     \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WHITE "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" TAIL

#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(end) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" end "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" end
#define GPT4O_WITH(digits) CASED("(?:" CONTRACTION ")?") "|" digits "|" SIGNS("\\r\\n/") "|" TAIL
#define GPT4O GPT4O_WITH("\\p{N}{1,3}")
#define TEKKEN CASED("") "|\\p{N}|" SIGNS("\\r\\n/") "|" TAIL

#define DS3                                                                                        \
    "[!-/:-@\\[-`{-~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" TAIL
#define CJK3 "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define CJK1 "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

/* Kimi: as GPT4O, but words have no Han characters, and those stand alone.  X are the letters of both cases.  The
 * published form, [upper]*[lower]+ and then [upper]+[lower]*, says: upper case up to a lower-case letter and the
 * lower case after it; else up to the last X; else all. */
#define HAN                                                                                        \
    "\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{20000}-\\x{2A6DF}\\x{2A700}-\\x{2B73F}"             \
    "\\x{2B740}-\\x{2B81F}\\x{2B820}-\\x{2CEAF}\\x{2CEB0}-\\x{2EBEF}\\x{F900}-\\x{FAFF}"           \
    "\\x{2F800}-\\x{2FA1F}"
#define KIMI_X "(?:(?![" HAN "])[\\p{Lm}\\p{Lo}\\p{M}])"
#define KIMI_UPTO_X "(?:[\\p{Lu}\\p{Lt}]*+" KIMI_X "++)"
#define KIMI_WORD                                                                                  \
    "(?:" KIMI_UPTO_X "*+[\\p{Lu}\\p{Lt}]*+\\p{Ll}(?:\\p{Ll}|" KIMI_X ")*+|" KIMI_UPTO_X "++|[\\p{Lu}\\p{Lt}]++)"
#define KIMI                                                                                       \
    "[" HAN "]+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_WORD "(?:" CONTRACTION ")?|\\p{N}{1,3}|" SIGNS("\\r\\n") "|" TAIL

/* The letters that DeepSeek's first models know: cased scripts, as code point ranges. */
#define LETTERS                                                                                    \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}" \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}"          \
    "\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}" \
    "\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}" \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}" \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}" \
    "\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}" \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}" \
    "\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}" \
    "\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}"         \
    "\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}"         \
    "\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}" \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}" \
    "\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"             \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"         \
    "\\x{1E900}-\\x{1E943}"
#define DEEPSEEK_SIGNS "!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}"
/* \s+$ : only the first of a run can be where it begins. */
#define TRAILING "(?<!" S ")" S "++$"
#define NOT_BLOOM "(" WHITE "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})"

typedef const char *splits[ROW_SPLITS_MAX + 1]; /* up to the first NULL */

static const splits llama3 = {LLAMA3};
static const splits qwen2 = {QWEN2};
static const splits qwen35 = {QWEN35};
static const splits gpt4o = {GPT4O};
static const splits tekken = {TEKKEN};
static const splits gpt2 = {GPT2};
static const splits starcoder = {"\\p{N}", GPT2};
static const splits falcon = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"};
static const splits fallback = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"};
static const splits deepseek3 = {"\\p{N}{1,3}", CJK3, DS3};
static const splits deepseek_llm = {
    "[\\r\\n]", S "?[" LETTERS "]+", S "?[" DEEPSEEK_SIGNS "]+", TRAILING, CJK1, "\\p{N}+",
};
static const splits deepseek_coder = {"[\\r\\n]", S "?\\p{L}+", S "?\\p{P}+", CJK1, "\\p{N}"};
static const splits kimi = {KIMI};
static const splits bailing = {
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" WHITE "\\p{L}\\p{N}]++[\\r\\n]*|" TAIL,
};
static const splits seed_coder = {CONTRACTION "|" WORD "|\\p{N}| ?[^" WHITE "\\p{L}\\p{N}]+|" TAIL};
static const splits minicpm5 = {"\\p{N}{1,3}", LLAMA3_WITH("\\p{N}+")};
static const splits bloom = {" ?[^" NOT_BLOOM "]+"};
static const splits viking = {" ?[^" NOT_BLOOM "]+", "\\p{N}"};
static const splits lines = {"[^\\n]+|[\\n]+"};
static const splits laguna = {"[^\\n]+|[\\n]+", QWEN2};
static const splits youtu = {
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}"
    "\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CJK3,
    GPT4O_WITH("\\p{N}"),
};

enum row_flags {
    ADD_BOS = 1 << 0,     /* where tokenizer.ggml.add_bos_token is absent */
    WHOLE_FIRST = 1 << 1, /* "ignore merges" */
};

struct row {
    const char *name; /* tokenizer.ggml.pre */
    const splits *splits;
    unsigned flags;
};

enum { ROWS_UNSAID = 2 }; /* the first rows are no names for files */

static const struct row rows[] = {
    {"gemma4", &lines, 0},
    /* What a file without the key gets. */
    {"default", &fallback, 0},
    {"llama3", &llama3, ADD_BOS | WHOLE_FIRST}, {"llama-v3", &llama3, ADD_BOS | WHOLE_FIRST},
    {"llama-bpe", &llama3, ADD_BOS | WHOLE_FIRST}, {"falcon3", &llama3, ADD_BOS | WHOLE_FIRST},
    {"falcon-h1", &llama3, ADD_BOS | WHOLE_FIRST}, {"pixtral", &llama3, ADD_BOS | WHOLE_FIRST},
    {"midm-2.0", &llama3, ADD_BOS | WHOLE_FIRST}, {"lfm2", &llama3, ADD_BOS | WHOLE_FIRST},
    {"jina-v5-nano", &llama3, ADD_BOS | WHOLE_FIRST},
    {"dbrx", &llama3, 0}, {"smaug-bpe", &llama3, 0}, {"glm4", &llama3, 0}, {"chatglm-bpe", &llama3, 0},
    {"qwen2", &qwen2, 0}, {"deepseek-r1-qwen", &qwen2, 0}, {"kormo", &qwen2, 0}, {"f2llmv2", &qwen2, 0},
    {"megrez", &qwen2, 0}, {"stablelm2", &qwen2, 0}, {"hunyuan", &qwen2, 0}, {"solar-open", &qwen2, 0},
    {"grok-2", &qwen2, 0},
    {"qwen35", &qwen35, 0},
    {"gpt-4o", &gpt4o, 0}, {"llama4", &gpt4o, 0}, {"kanana2", &gpt4o, 0}, {"talkie", &gpt4o, 0},
    {"minimax-m2", &gpt4o, 0},
    {"tekken", &tekken, ADD_BOS | WHOLE_FIRST},
    {"deepseek-v3", &deepseek3, 0}, {"hunyuan-dense", &deepseek3, 0}, {"joyai-llm", &deepseek3, 0},
    {"deepseek-llm", &deepseek_llm, 0}, {"deepseek-coder", &deepseek_coder, 0},
    {"kimi-k2", &kimi, 0},
    {"gpt-2", &gpt2, 0}, {"phi-2", &gpt2, 0}, {"jina-es", &gpt2, 0}, {"jina-de", &gpt2, 0}, {"gigachat", &gpt2, 0},
    {"jina-v2-es", &gpt2, 0}, {"jina-v2-de", &gpt2, 0}, {"jina-v2-code", &gpt2, 0}, {"a.x-4.0", &gpt2, 0},
    {"mellum", &gpt2, 0}, {"modern-bert", &gpt2, 0}, {"mpt", &gpt2, 0}, {"olmo", &gpt2, 0}, {"jais", &gpt2, 0},
    {"trillion", &gpt2, 0}, {"granite-docling", &gpt2, 0}, {"exaone4", &gpt2, 0}, {"roberta-bpe", &gpt2, 0},
    {"starcoder", &starcoder, 0}, {"refact", &starcoder, 0}, {"command-r", &starcoder, 0}, {"smollm", &starcoder, 0},
    {"codeshell", &starcoder, 0}, {"exaone", &starcoder, 0}, {"minerva-7b", &starcoder, 0}, {"mellum2", &starcoder, 0},
    {"falcon", &falcon, 0},
    {"bailingmoe", &bailing, 0}, {"bailingmoe2", &bailing, 0}, {"llada-moe", &bailing, 0},
    {"seed-coder", &seed_coder, 0},
    {"minicpm5", &minicpm5, WHOLE_FIRST},
    {"bloom", &bloom, 0}, {"poro-chat", &bloom, 0}, {"gpt3-finnish", &bloom, 0},
    {"viking", &viking, 0},
    {"laguna", &laguna, 0},
    {"youtu", &youtu, WHOLE_FIRST},
};

/* Expressions that files give, as they are spelled there, and the equal ones that are linear. */
static const char *const published[][2] = {
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", LLAMA3},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+", QWEN2},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", GPT2},
    {"\\s+$", TRAILING},
};

/* ---- opening ---- */

struct stage {
    pcre2_code *code;
    enum source_behavior behavior;
    bool invert;
};

struct pretokenizer {
    const char *name; /* for sentences */
    struct stage stages[STAGES_MAX];
    size_t n_stages;
    bool jit;      /* every stage is compiled to machine code */
    bool stranger; /* the expressions are a file's: what they cost is watched */
};

static const struct row *row_of(const char *name, size_t len)
{
    for (size_t i = 0; i < COUNTOF(rows); i++)
        if (strlen(rows[i].name) == len && memcmp(rows[i].name, name, len) == 0)
            return &rows[i];
    return NULL;
}

const char *pretokenizer_name_at(size_t i)
{
    return i + ROWS_UNSAID < COUNTOF(rows) ? rows[i + ROWS_UNSAID].name : NULL;
}

/* UTF is set by us, so that text is checked once by us and not at every match. */
static int compile(struct pretokenizer *p, const char *expression, size_t len, uint32_t options, struct error *e)
{
    int code;
    size_t at;
    options |= PCRE2_UTF | (p->stranger ? PCRE2_USE_OFFSET_LIMIT : 0);
    if (!(options & PCRE2_LITERAL))
        options |= PCRE2_UCP | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)expression, len, options, &code, &at, NULL);
    if (!compiled)
        return error_set(e, ERR_UNSUPPORTED, "the expression of the %s cannot be compiled (at %zu, PCRE2 error %d)",
                         p->name, at, code);
    p->stages[p->n_stages++].code = compiled;
    if (pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE) != 0)
        p->jit = false;
    return 0;
}

int pretokenizer_open(struct pretokenizer **out, const char *name, size_t len, struct error *e)
{
    const struct row *row = row_of(name, len);
    if (!row)
        return error_set(e, ERR_UNSUPPORTED, "the pre-tokenizer '%.*s' is not supported", len > 64 ? 64 : (int)len,
                         name);
    struct pretokenizer *p = mem_alloc(sizeof(*p));
    p->name = "pre-tokenizer's row";
    p->jit = true;
    for (size_t i = 0; (*row->splits)[i]; i++) {
        int status = compile(p, (*row->splits)[i], strlen((*row->splits)[i]), 0, e);
        if (status != 0) {
            pretokenizer_close(&p);
            return status;
        }
    }
    *out = p;
    return 0;
}

/* Ours, where the file's expression is a published one. */
static int compile_split(struct pretokenizer *p, const struct source_split *s, struct error *e)
{
    if (s->pattern.len == 0 || s->pattern.len > PATTERN_BYTES_MAX)
        return error_set(e, ERR_LIMIT, "an expression of %zu bytes in the pre-tokenizer; between 1 and %d can be",
                         s->pattern.len, PATTERN_BYTES_MAX);
    for (size_t i = 0; i < COUNTOF(published); i++)
        if (!s->literal && strlen(published[i][0]) == s->pattern.len &&
            memcmp(published[i][0], s->pattern.text, s->pattern.len) == 0)
            return compile(p, published[i][1], strlen(published[i][1]), 0, e);
    return compile(p, s->pattern.text, s->pattern.len, s->literal ? PCRE2_LITERAL : 0, e);
}

int pretokenizer_open_splits(struct pretokenizer **out, const struct source_split *list, size_t n, struct error *e)
{
    struct pretokenizer *p = mem_alloc(sizeof(*p));
    int status = 0;
    p->name = "pre-tokenizer";
    p->jit = p->stranger = true;
    for (size_t i = 0; i < n && i < STAGES_MAX && status == 0; i++) {
        p->stages[i].behavior = list[i].behavior;
        p->stages[i].invert = list[i].invert;
        status = compile_split(p, &list[i], e);
    }
    if (status != 0)
        pretokenizer_close(&p);
    *out = p;
    return status;
}

void pretokenizer_close(struct pretokenizer **p)
{
    if (!*p)
        return;
    for (size_t i = 0; i < (*p)->n_stages; i++)
        pcre2_code_free((*p)->stages[i].code);
    mem_free(*p);
    *p = NULL;
}

bool pretokenizer_adds_bos(const char *name, size_t len)
{
    const struct row *row = row_of(name, len);
    return row && (row->flags & ADD_BOS);
}

bool pretokenizer_whole_first(const char *name, size_t len)
{
    const struct row *row = row_of(name, len);
    return row && (row->flags & WHOLE_FIRST);
}

/* ---- splitting ---- */

struct splitter {
    const struct pretokenizer *p;
    piece_fn take;
    void *user;
    pcre2_match_data *data[STAGES_MAX]; /* a stage reads its match while the next one works */
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    uint64_t deadline_ns; /* for a stranger's expressions */
    struct error *e;      /* of the call under way */
};

int splitter_open(struct splitter **out, const struct pretokenizer *p, size_t len, piece_fn take, void *user,
                  struct error *e)
{
    struct splitter *s = mem_alloc(sizeof(*s));
    bool ok = true;
    s->p = p;
    s->take = take;
    s->user = user;
    for (size_t i = 0; i < s->p->n_stages; i++) {
        s->data[i] = pcre2_match_data_create(1, NULL);
        ok = ok && s->data[i];
    }
    s->context = pcre2_match_context_create(NULL);
    s->stack = s->p->jit ? pcre2_jit_stack_create(JIT_STACK_FIRST, JIT_STACK_MAX, NULL) : NULL;
    if (!ok || !s->context || (s->p->jit && !s->stack)) {
        splitter_close(&s);
        return error_set(e, ERR_MEMORY, "no memory to split a text");
    }
    pcre2_jit_stack_assign(s->context, NULL, s->stack);
    pcre2_set_match_limit(s->context, MATCH_STEPS + (uint32_t)len * MATCH_STEPS_PER_BYTE);
    pcre2_set_heap_limit(s->context, INTERPRETER_HEAP_KIB);
    s->deadline_ns = clock_ns() + (uint64_t)(SECONDS_A_TEXT + (len >> 20)) * 1000000000;
    *out = s;
    return 0;
}

void splitter_close(struct splitter **s)
{
    if (!*s)
        return;
    for (size_t i = 0; i < STAGES_MAX; i++)
        pcre2_match_data_free((*s)->data[i]);
    pcre2_match_context_free((*s)->context);
    pcre2_jit_stack_free((*s)->stack);
    mem_free(*s);
    *s = NULL;
}

/* A match that begins at `at` or up to SEARCH_BYTES later: a stranger's expression may look far from each place, so
 * that the clock is read in between. */
static int match(struct splitter *s, size_t stage, const char *text, size_t len, size_t at)
{
    const pcre2_code *code = s->p->stages[stage].code;
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    if (s->p->stranger) {
        if (clock_ns() > s->deadline_ns)
            return PCRE2_ERROR_MATCHLIMIT;
        pcre2_set_offset_limit(s->context, at + SEARCH_BYTES);
    }
    return s->p->jit ? pcre2_jit_match(code, subject, len, at, PCRE2_NO_UTF_CHECK, s->data[stage], s->context)
                     : pcre2_match(code, subject, len, at, PCRE2_NO_UTF_CHECK, s->data[stage], s->context);
}

/* The next match at or after `at`: 1 with its bounds, 0 when there is none, or a status. */
static int next_match(struct splitter *s, size_t stage, const char *text, size_t len, size_t at, size_t bounds[2])
{
    int rc = match(s, stage, text, len, at);
    while (rc == PCRE2_ERROR_NOMATCH && s->p->stranger && len - at > SEARCH_BYTES) {
        at += SEARCH_BYTES;
        while (at < len && ((unsigned char)text[at] & 0xC0) == 0x80)
            at++;
        rc = match(s, stage, text, len, at);
    }
    if (rc == PCRE2_ERROR_NOMATCH)
        return 0;
    if (rc < 0)
        return error_set(s->e, ERR_LIMIT, "a text of %zu bytes is too hard to split (PCRE2 error %d)", len, rc);
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(s->data[stage]);
    bounds[0] = found[0];
    bounds[1] = found[1];
    /* \K in a look-around can put a match's end before its beginning. */
    if (found[1] < found[0])
        return error_set(s->e, ERR_UNSUPPORTED, "a match of the pre-tokenizer ends before it begins");
    return 1;
}

static int split(struct splitter *s, size_t stage, const char *text, size_t len);

/* A stretch that a match may still be put together with. */
struct pending {
    const char *text;
    size_t len;
    bool match;
};

static int flush(struct splitter *s, size_t stage, struct pending *p)
{
    struct pending last = *p;
    p->len = 0;
    if (last.match && s->p->stages[stage].behavior == SPLIT_REMOVED)
        return 0;
    return split(s, stage + 1, last.text, last.len);
}

/* Does this stretch belong to the one before it? */
static bool joins(enum source_behavior behavior, const struct pending *before, bool match)
{
    switch (behavior) {
    case SPLIT_WITH_PREVIOUS:
        return match && !before->match;
    case SPLIT_WITH_NEXT:
        return !match && before->match;
    case SPLIT_CONTIGUOUS:
        return match == before->match;
    default:
        return false;
    }
}

/* The next stretch, a match or a gap. */
static int put(struct splitter *s, size_t stage, struct pending *p, const char *text, size_t len, bool match)
{
    int status = 0;
    if (len == 0)
        return 0;
    match = match != s->p->stages[stage].invert;
    if (p->len > 0 && joins(s->p->stages[stage].behavior, p, match)) {
        p->len += len;
        p->match = match;
        return 0;
    }
    if (p->len > 0)
        status = flush(s, stage, p);
    *p = (struct pending){text, len, match};
    return status;
}

/* As deep as there are stages. An empty match only ends the stretch before it. */
static int split(struct splitter *s, size_t stage, const char *text, size_t len)
{
    struct pending p = {text, 0, false};
    int status = 0;
    if (len == 0)
        return 0;
    if (stage == s->p->n_stages) {
        s->take(s->user, text, len);
        return 0;
    }
    for (size_t done = 0, from = 0; status == 0 && done < len;) {
        size_t bounds[2] = {len, len};
        int found = from < len ? next_match(s, stage, text, len, from, bounds) : 0;
        if (found < 0)
            return found;
        if (found == 0)
            bounds[0] = bounds[1] = len;
        if (bounds[0] < done)
            bounds[0] = done;
        status = put(s, stage, &p, text + done, bounds[0] - done, false);
        if (status == 0 && bounds[1] > bounds[0])
            status = put(s, stage, &p, text + bounds[0], bounds[1] - bounds[0], true);
        done = from = bounds[1] > bounds[0] ? bounds[1] : bounds[0];
        if (found && bounds[1] <= bounds[0] && from < len)
            from += utf8_char(text + from, len - from);
    }
    return status == 0 && p.len > 0 ? flush(s, stage, &p) : status;
}

/* Bytes of UTF-8 at the beginning of the text, or, when it begins otherwise, bytes that are not (*valid false). */
static size_t run_of(const char *text, size_t len, bool *valid)
{
    size_t at = 0;
    while (at < len) {
        bool ok = (unsigned char)text[at] < 0x80;
        int step = ok ? 1 : utf8_step(text + at, len - at);
        ok = step > 0;
        if (at == 0)
            *valid = ok;
        else if (ok != *valid)
            break;
        at += step > 0 ? (size_t)step : step < 0 ? (size_t)-step : len - at;
    }
    return at;
}

int splitter_split(struct splitter *s, const char *text, size_t len, struct error *e)
{
    int status = 0;
    s->e = e;
    while (status == 0 && len > 0) {
        bool valid = true;
        size_t n = run_of(text, len, &valid);
        if (valid)
            status = split(s, 0, text, n);
        else
            s->take(s->user, text, n);
        text += n;
        len -= n;
    }
    return status;
}
