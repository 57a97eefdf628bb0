/* test_vocabulary: tokenizers written by the test: merging against its definition, special tokens, what the file may
 * say and what it may not.
 *
 * The files come from strangers, so most of what is tried here is wrong.       */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "text/tokenizer_spans.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE, LIST_MAX = 4096 };

/* What a file is made of. */
struct recipe {
    const char *tokens[LIST_MAX];
    int32_t types[LIST_MAX];
    const char *merges[LIST_MAX];
    size_t n_tokens, n_types, n_merges;
    const char *kind, *pre, *name, *chat_template;
    int64_t bos, eos;    /* -1: absent */
    int add_bos, add_eos; /* -1: absent */
    bool no_merges;
    const char *id_keys[4];
    uint32_t ids[4];
};

static void add(struct recipe *r, const char *text, int32_t type)
{
    assert_true(r->n_tokens < LIST_MAX);
    r->tokens[r->n_tokens++] = text;
    r->types[r->n_types++] = type;
}

static void merge(struct recipe *r, const char *pair)
{
    assert_true(r->n_merges < LIST_MAX);
    r->merges[r->n_merges++] = pair;
}

/* Letters a to h, space and line break in the alphabet of bytes. */
static struct recipe *recipe_of_letters(void)
{
    static const char *const letters[] = {"a", "b", "c", "d", "e", "f", "g", "h", "\u0120", "\u010A"};
    struct recipe *r = mem_alloc(sizeof(*r));
    r->kind = "gpt2";
    r->pre = "gpt-2";
    r->bos = r->eos = r->add_bos = r->add_eos = -1;
    for (size_t i = 0; i < COUNTOF(letters); i++)
        add(r, letters[i], NORMAL);
    return r;
}

static void write_strings(struct gguf_writer *w, const char *key, const char *const *list, size_t n)
{
    struct gguf_string *s = mem_array(n, sizeof(*s));
    for (size_t i = 0; i < n; i++)
        s[i] = (struct gguf_string){list[i], strlen(list[i])};
    gguf_writer_strings(w, key, s, n);
    mem_free(s);
}

static void declare(struct gguf_writer *w, const struct recipe *r)
{
    gguf_writer_string(w, "general.architecture", "test");
    if (r->name)
        gguf_writer_string(w, "general.name", r->name);
    if (r->kind)
        gguf_writer_string(w, "tokenizer.ggml.model", r->kind);
    if (r->pre)
        gguf_writer_string(w, "tokenizer.ggml.pre", r->pre);
    if (r->chat_template)
        gguf_writer_string(w, "tokenizer.chat_template", r->chat_template);
    write_strings(w, "tokenizer.ggml.tokens", r->tokens, r->n_tokens);
    if (r->n_types)
        gguf_writer_i32s(w, "tokenizer.ggml.token_type", r->types, r->n_types);
    if (!r->no_merges)
        write_strings(w, "tokenizer.ggml.merges", r->merges, r->n_merges);
    if (r->bos >= 0)
        gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)r->bos);
    if (r->eos >= 0)
        gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)r->eos);
    for (size_t i = 0; i < COUNTOF(r->ids) && r->id_keys[i]; i++)
        gguf_writer_u32(w, r->id_keys[i], r->ids[i]);
    if (r->add_bos >= 0)
        gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", r->add_bos);
    if (r->add_eos >= 0)
        gguf_writer_bool(w, "tokenizer.ggml.add_eos_token", r->add_eos);
}

#define PATH "/tmp/shoal-vocabulary-XXXXXX"

/* path: PATH, and the name of the file afterwards. */
static void write_recipe(const struct recipe *r, char *path)
{
    struct gguf_writer *w;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(gguf_writer_create(&w, path, NULL), 0);
    declare(w, r);
    assert_int_equal(gguf_writer_header(w, NULL), 0);
    assert_int_equal(gguf_writer_finish(&w, NULL), 0);
}

/* Write the file, open it, and free the recipe. */
static int open_recipe(struct recipe *r, struct tokenizer **t, struct error *e)
{
    char path[] = PATH;
    struct gguf *g;
    write_recipe(r, path);
    if (gguf_open(&g, path, e) != 0)
        fail_msg("%s", e->text);
    int status = tokenizer_open(t, g, e);
    gguf_close(&g);
    unlink(path);
    mem_free(r);
    return status;
}

static struct tokenizer *opened(struct recipe *r)
{
    struct tokenizer *t;
    struct error e = {0};
    if (open_recipe(r, &t, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

static void refused(struct recipe *r, int status, const char *words)
{
    struct tokenizer *t;
    struct error e = {0};
    assert_int_equal(open_recipe(r, &t, &e), status);
    assert_null(t);
    if (!strstr(e.text, words))
        fail_msg("\"%s\" does not say \"%s\"", e.text, words);
}

static struct token_list encode(const struct tokenizer *t, const char *text, unsigned flags)
{
    struct token_list ids;
    struct error e = {0};
    if (tokenizer_encode(t, text, strlen(text), flags, &ids, &e) != 0)
        fail_msg("%s", e.text);
    return ids;
}

/* The texts of the ids, each in brackets. */
static void check_tokens(const struct tokenizer *t, const char *text, unsigned flags, const char *want)
{
    struct token_list ids = encode(t, text, flags);
    struct buffer b;
    buffer_init(&b, 1 << 16);
    for (size_t i = 0; i < ids.count; i++) {
        buffer_add_text(&b, "[");
        tokenizer_decode(t, ids.ids[i], true, &b);
        buffer_add_text(&b, "]");
    }
    assert_string_equal(buffer_text(&b), want);
    buffer_close(&b);
    token_list_free(&ids);
}

/* ---- merging ---- */

/* The rank of a pair of texts, n_merges when it has none. */
static size_t rank_of(const struct recipe *r, const char *left, const char *right)
{
    size_t i = 0, n = strlen(left);
    for (; i < r->n_merges; i++)
        if (strncmp(r->merges[i], left, n) == 0 && r->merges[i][n] == ' ' && strcmp(r->merges[i] + n + 1, right) == 0)
            break;
    return i;
}

/* The definition: while any adjacent pair has a rank, merge the first of those with the lowest. */
static size_t merge_plainly(const struct recipe *r, const char *text, char parts[][64])
{
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++)
        snprintf(parts[i], 64, "%c", text[i]);
    for (;;) {
        size_t best = r->n_merges, at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            size_t rank = rank_of(r, parts[i], parts[i + 1]);
            if (rank < best) {
                best = rank;
                at = i;
            }
        }
        if (best == r->n_merges)
            return n;
        size_t left = strlen(parts[at]), right = strlen(parts[at + 1]);
        assert_true(left + right < 64);
        memcpy(parts[at] + left, parts[at + 1], right + 1);
        memmove(parts + at + 1, parts + at + 2, (n - at - 2) * sizeof(*parts));
        n--;
    }
}

/* Merges that make new tokens of the ones that are there, kept in `keep`. */
static void add_random_merges(struct recipe *r, struct random_state *random, char keep[][2][64], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const char *left = r->tokens[random_u64(random) % 8], *right = r->tokens[random_u64(random) % 8];
        if (i > 6) {
            left = keep[random_u64(random) % i][0];
            right = random_u64(random) % 2 ? right : keep[random_u64(random) % i][0];
        }
        if (strlen(left) + strlen(right) > 12)
            left = "a";
        snprintf(keep[i][0], 64, "%.30s%.30s", left, right);
        snprintf(keep[i][1], 64, "%.30s %.30s", left, right);
        add(r, keep[i][0], NORMAL);
        merge(r, keep[i][1]);
    }
}

static void check_merging(const struct recipe *r, const struct tokenizer *t, const char *text)
{
    static char parts[64][64];
    struct token_list ids = encode(t, text, 0);
    size_t n = merge_plainly(r, text, parts);
    assert_int_equal(ids.count, n);
    for (size_t i = 0; i < n; i++) {
        struct buffer b;
        buffer_init(&b, 64);
        tokenizer_decode(t, ids.ids[i], false, &b);
        assert_string_equal(buffer_text(&b), parts[i]);
        buffer_close(&b);
    }
    token_list_free(&ids);
}

static void test_merging_follows_its_definition(void **state)
{
    (void)state;
    static char keep[40][2][64];
    struct random_state random;
    random_seed(&random, 3);
    for (int round = 0; round < 20; round++) {
        struct recipe *r = recipe_of_letters(), *copy = mem_alloc(sizeof(*copy));
        add_random_merges(r, &random, keep, COUNTOF(keep));
        *copy = *r;
        struct tokenizer *t = opened(r);
        for (int i = 0; i < 200; i++) {
            char text[49];
            size_t n = 1 + random_u64(&random) % 48;
            for (size_t k = 0; k < n; k++)
                text[k] = (char)('a' + random_u64(&random) % (i % 2 ? 8 : 2));
            text[n] = 0;
            check_merging(copy, t, text);
        }
        tokenizer_close(&t);
        mem_free(copy);
    }
}

static void test_merges_that_lead_nowhere_are_ignored(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "", " ", "a", "ab", "a ", " a", "  ", "x y", "a z", "z a", "a  b", "a b c", "\xFF \xFE", "<|end|> a", "a h",
        "b b b",
    };
    struct recipe *r = recipe_of_letters();
    add(r, "<|end|>", CONTROL);
    add(r, "<|end|>a", NORMAL);
    add(r, "ab", NORMAL);
    add(r, "abc", NORMAL);
    for (size_t i = 0; i < COUNTOF(odd); i++)
        merge(r, odd[i]);
    merge(r, "a b");
    merge(r, "a b");
    merge(r, "ab c");
    struct tokenizer *t = opened(r);
    check_tokens(t, "abcabah", 0, "[abc][ab][a][h]");
    tokenizer_close(&t);
}

static void test_merges_never_make_control_tokens(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "ab", CONTROL);
    add(r, "cd", UNKNOWN);
    merge(r, "a b");
    merge(r, "c d");
    struct tokenizer *t = opened(r);
    check_tokens(t, "abcd", 0, "[a][b][c][d]");
    check_tokens(t, "abcd", ENCODE_SPECIAL, "[ab][cd]");
    tokenizer_close(&t);
}

static void test_whole_tokens_come_first_where_the_row_says_so(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"llama-bpe", "[abc][\n][d]"}, {"qwen2", "[a][b][c][\n][d]"}};
    for (size_t i = 0; i < COUNTOF(rows); i++) {
        struct recipe *r = recipe_of_letters();
        add(r, "abc", NORMAL);
        r->pre = rows[i][0];
        struct tokenizer *t = opened(r);
        check_tokens(t, "abc\nd", 0, rows[i][1]);
        tokenizer_close(&t);
    }
}

static void test_a_megabyte_of_one_letter_is_encoded(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "aa", NORMAL);
    add(r, "aaaa", NORMAL);
    add(r, "aaaaaaaa", NORMAL);
    merge(r, "a a");
    merge(r, "aa aa");
    merge(r, "aaaa aaaa");
    struct tokenizer *t = opened(r);
    size_t n = 6 << 20; /* longer than a piece may be */
    char *text = mem_array(n + 1, 1);
    memset(text, 'a', n);
    struct token_list ids = encode(t, text, 0);
    assert_int_equal(ids.count, n / 8);
    token_list_free(&ids);
    mem_free(text);
    tokenizer_close(&t);
}

/* ---- special tokens ---- */

static void test_special_tokens_are_found_where_they_count(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "<a>", CONTROL);
    add(r, "<a>b", CONTROL);
    add(r, "[x]", USER);
    add(r, "[x][y]", USER);
    add(r, "<", NORMAL);
    add(r, ">", NORMAL);
    add(r, "", CONTROL);
    add(r, "<a>", CONTROL);
    struct tokenizer *t = opened(r);
    /* The longest at a place, from the left; user-defined ones in any text. */
    check_tokens(t, "a<a>c<a>b[x][y][x]d", ENCODE_SPECIAL, "[a][<a>][c][<a>b][[x][y]][[x]][d]");
    check_tokens(t, "a<a>c[x]d", 0, "[a][<][a][>][c][[x]][d]");
    check_tokens(t, "<a><a><a", ENCODE_SPECIAL, "[<a>][<a>][<][a]");
    check_tokens(t, "", ENCODE_SPECIAL, "");
    assert_true(tokenizer_is_control(t, tokenizer_find(t, "<a>b", 4)));
    assert_false(tokenizer_is_control(t, tokenizer_find(t, "[x]", 3)));
    /* Only inside the trusted stretches, whole. */
    static const char text[] = "<a>a<a>b<a>";
    static const struct text_span spans[] = {{0, 3}, {5, 8}, {8, 11}};
    struct token_source s = {.text = text, .len = sizeof(text) - 1, .trusted = spans, .n_trusted = 3};
    struct token_list ids;
    assert_int_equal(tokenizer_encode_spans(t, &s, &ids, NULL), 0);
    static const char *const want[] = {"<a>", "a", "<", "a", ">", "b", "<a>"};
    assert_int_equal(ids.count, COUNTOF(want));
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(ids.ids[i], tokenizer_find(t, want[i], strlen(want[i])));
    token_list_free(&ids);
    tokenizer_close(&t);
}

static void test_white_space_beside_a_token_goes_with_it(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "<x>", CONTROL);
    add(r, "<s>", CONTROL);
    r->name = "My Phi-3 model";
    struct tokenizer *t = opened(r);
    check_tokens(t, "a <x> \nb<s> c", ENCODE_SPECIAL, "[a][ ][<x>][b][<s>][ ][c]");
    tokenizer_close(&t);
    r = recipe_of_letters();
    add(r, "<mask>", CONTROL);
    r->pre = "jina-v2-de";
    t = opened(r);
    check_tokens(t, "a  <mask> b <mask>", ENCODE_SPECIAL, "[a][<mask>][ ][b][<mask>]");
    tokenizer_close(&t);
}

static void test_bos_and_eos_are_added_as_the_file_says(void **state)
{
    (void)state;
    static const struct {
        const char *pre;
        int add_bos, add_eos;
        const char *want;
    } cases[] = {
        {"gpt-2", -1, -1, "[a]"},           {"gpt-2", 1, -1, "[<s>][a]"},    {"gpt-2", 0, 1, "[a][</s>]"},
        {"gpt-2", 1, 1, "[<s>][a][</s>]"},  {"llama-bpe", -1, -1, "[<s>][a]"}, {"llama-bpe", 0, -1, "[a]"},
        {NULL, -1, -1, "[a]"},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct recipe *r = recipe_of_letters();
        r->bos = (int64_t)r->n_tokens;
        add(r, "<s>", CONTROL);
        r->eos = (int64_t)r->n_tokens;
        add(r, "</s>", CONTROL);
        r->pre = cases[i].pre;
        r->add_bos = cases[i].add_bos;
        r->add_eos = cases[i].add_eos;
        struct tokenizer *t = opened(r);
        check_tokens(t, "a", ENCODE_BOS_EOS, cases[i].want);
        check_tokens(t, "a", 0, "[a]");
        assert_int_equal(tokenizer_bos(t), 10);
        assert_int_equal(tokenizer_eos(t), 11);
        tokenizer_close(&t);
    }
}

static void test_ends_of_generation_are_known(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "<|im_end|>", NORMAL); /* a file that forgot to say what it is */
    add(r, "<|end|>", CONTROL);
    add(r, "<|other|>", CONTROL);
    r->eos = 0;
    struct tokenizer *t = opened(r);
    int32_t end = tokenizer_find(t, "<|im_end|>", 10);
    assert_true(tokenizer_is_end(t, end) && tokenizer_is_control(t, end));
    assert_true(tokenizer_is_end(t, tokenizer_find(t, "<|end|>", 7)));
    assert_false(tokenizer_is_end(t, tokenizer_find(t, "<|other|>", 9)));
    assert_true(tokenizer_is_end(t, 0));
    assert_false(tokenizer_is_end(t, 1) || tokenizer_is_end(t, -1) || tokenizer_is_end(t, 1000));
    tokenizer_close(&t);
    /* In the harmony format a message's end does not end the turn. */
    r = recipe_of_letters();
    add(r, "<|end|>", CONTROL);
    add(r, "<|return|>", CONTROL);
    add(r, "<|call|>", CONTROL);
    t = opened(r);
    assert_false(tokenizer_is_end(t, 10));
    assert_true(tokenizer_is_end(t, 11) && tokenizer_is_end(t, 12));
    tokenizer_close(&t);
}

static void check_fim(struct recipe *r, int32_t prefix, int32_t suffix, int32_t middle, int32_t file)
{
    struct tokenizer *t = opened(r);
    const int32_t want[] = {prefix, suffix, middle, -1, file};
    for (int i = 0; i < FIM_PARTS; i++) {
        assert_int_equal(tokenizer_fim(t, (enum fim_part)i), want[i]);
        assert_true(want[i] < 0 || tokenizer_is_control(t, want[i]));
    }
    tokenizer_close(&t);
}

static struct recipe *recipe_of_names(const char *const *names, size_t n, int32_t type)
{
    struct recipe *r = recipe_of_letters(); /* ids 0 to 9 */
    for (size_t i = 0; i < n; i++)
        add(r, names[i], type);
    return r;
}

/* By the file's keys, else by the names that families have for them, all three or none; text cannot be them. */
static void test_tokens_around_a_gap_are_known(void **state)
{
    static const char *const rows[][4] = {
        {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>"},
        {"<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<file_sep>"},
        {"<\uFF5C" "fim\u2581" "begin\uFF5C>", "<\uFF5C" "fim\u2581hole\uFF5C>",
         "<\uFF5C" "fim\u2581" "end\uFF5C>", "x"},
        {"\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", "x"},
    };
    (void)state;
    for (size_t i = 0; i < COUNTOF(rows); i++)
        check_fim(recipe_of_names(rows[i], 4, USER), 10, 11, 12, i < 2 ? 13 : -1);
    check_fim(recipe_of_names(rows[0], 2, CONTROL), -1, -1, -1, -1);
    struct recipe *r = recipe_of_names(rows[1], 4, CONTROL);
    r->id_keys[0] = "tokenizer.ggml.fim_pre_token_id";
    r->id_keys[1] = "tokenizer.ggml.suffix_token_id";
    r->id_keys[2] = "tokenizer.ggml.fim_mid_token_id";
    r->ids[0] = 13;
    r->ids[1] = 12;
    r->ids[2] = 11;
    check_fim(r, 13, 12, 11, -1);
    r = recipe_of_names(rows[1], 4, CONTROL);
    r->id_keys[0] = "tokenizer.ggml.fim_pre_token_id"; /* alone it says nothing */
    r->ids[0] = 13;
    check_fim(r, 10, 11, 12, 13);
    r = recipe_of_letters();
    r->id_keys[0] = "tokenizer.ggml.fim_mid_token_id";
    r->ids[0] = 10;
    refused(r, ERR_CORRUPT, "fim_mid_token_id is 10");
}

static void test_decoding_shows_what_is_text(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "<c>", CONTROL);
    add(r, "\u0120x", USER); /* not of the alphabet: as it is spelled */
    add(r, "[PAD]", UNUSED);
    add(r, "<0xE3>", BYTE);
    add(r, "\u4e2d", NORMAL);
    add(r, "\u0143\u0100\u0142\u0121", NORMAL);
    struct tokenizer *t = opened(r);
    struct buffer plain, all;
    buffer_init(&plain, 100);
    buffer_init(&all, 100);
    for (int32_t id = -2; id < 20; id++) {
        tokenizer_decode(t, id, false, &plain);
        tokenizer_decode(t, id, true, &all);
    }
    static const char want[] = "abcdefgh \n\u0120x\xE3\u4e2d\xAD\0\xA0\x7F";
    static const char want_all[] = "abcdefgh \n<c>\u0120x[PAD]\xE3\u4e2d\xAD\0\xA0\x7F";
    assert_int_equal(plain.len, sizeof(want) - 1);
    assert_memory_equal(plain.data, want, plain.len);
    assert_int_equal(all.len, sizeof(want_all) - 1);
    assert_memory_equal(all.data, want_all, all.len);
    buffer_close(&plain);
    buffer_close(&all);
    tokenizer_close(&t);
}

static void test_chat_needs_a_format_that_fits(void **state)
{
    (void)state;
    static const struct {
        int32_t type; /* of the control tokens, 0: there are none */
        const char *source;
        int status;
    } cases[] = {
        {0, NULL, ERR_UNSUPPORTED},
        {0, "{{ '<|im_start|>' }}", 0},
        {CONTROL, NULL, 0},
        {USER, NULL, 0},
        {CONTROL, "[INST] {{ messages }}", 0},
        {CONTROL, "{% if messages %}", ERR_INVALID},
        {CONTROL, "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}", 0},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct recipe *r = recipe_of_letters();
        add(r, cases[i].type ? "<|im_start|>" : "x", NORMAL);
        add(r, cases[i].type ? "<|im_end|>" : "y", NORMAL);
        r->types[r->n_types - 1] = r->types[r->n_types - 2] = cases[i].type ? cases[i].type : NORMAL;
        r->chat_template = cases[i].source;
        struct tokenizer *t = opened(r);
        struct chat *f;
        struct error e = {0};
        assert_int_equal(chat_open(&f, t, NULL, &e), cases[i].status);
        if (cases[i].status != 0) {
            assert_null(f);
            assert_true(strlen(e.text) > 0);
        } else if (cases[i].type) {
            /* Whatever the file calls them, text never opens a turn. */
            check_tokens(t, "b<|im_start|>c<|im_end|>b", 0, "[b][a][c][e][d][b]");
        }
        chat_close(&f);
        tokenizer_close(&t);
    }
}

/* ---- what a file may not say ---- */

static void test_models_without_a_vocabulary_take_ids_only(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    r->kind = "no_vocab";
    struct tokenizer *t = opened(r);
    struct token_list ids;
    struct error e;
    assert_false(tokenizer_has_vocab(t));
    assert_int_equal(tokenizer_count(t), 0);
    assert_int_equal(tokenizer_encode(t, "a", 1, 0, &ids, &e), ERR_UNSUPPORTED);
    assert_int_equal(tokenizer_find(t, "a", 1), -1);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_null(tokenizer_chat_template(t));
    tokenizer_close(&t);
    tokenizer_close(&t);
}

static void test_wrong_vocabularies_are_refused(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    r->kind = "bert";
    refused(r, ERR_UNSUPPORTED, "'bert'");
    r = recipe_of_letters();
    r->kind = "llama";
    refused(r, ERR_CORRUPT, "scores");
    r = recipe_of_letters();
    r->kind = NULL;
    refused(r, ERR_CORRUPT, "kind");
    r = recipe_of_letters();
    r->pre = "no-such";
    refused(r, ERR_UNSUPPORTED, "'no-such'");
    r = recipe_of_letters();
    r->n_tokens = r->n_types = 0;
    refused(r, ERR_LIMIT, "0 tokens");
    r = recipe_of_letters();
    r->n_types--;
    refused(r, ERR_CORRUPT, "types");
    r = recipe_of_letters();
    r->no_merges = true;
    refused(r, ERR_CORRUPT, "merges");
    char *large = mem_array((1 << 20) + 2, 1);
    memset(large, 'x', (1 << 20) + 1);
    r = recipe_of_letters();
    r->chat_template = large;
    refused(r, ERR_LIMIT, "template");
    large[TOKENIZER_TOKEN_MAX + 1] = 0;
    r = recipe_of_letters();
    add(r, large, NORMAL);
    refused(r, ERR_LIMIT, "token 10 has");
    mem_free(large);
}

static void test_wrong_ids_are_refused(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    r->bos = 10;
    refused(r, ERR_CORRUPT, "bos_token_id is 10; there are 10 tokens");
    r = recipe_of_letters();
    r->eos = INT32_MAX;
    refused(r, ERR_CORRUPT, "eos_token_id is 2147483647");
}

static void test_files_may_say_that_there_is_no_id(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    r->bos = r->eos = UINT32_MAX;
    r->add_bos = r->add_eos = 1;
    r->n_types = 0; /* all are normal */
    r->chat_template = "{{ messages }}";
    struct tokenizer *t = opened(r);
    assert_int_equal(tokenizer_bos(t), -1);
    assert_int_equal(tokenizer_eos(t), -1);
    check_tokens(t, "ab", ENCODE_BOS_EOS, "[a][b]");
    assert_string_equal(tokenizer_chat_template(t), "{{ messages }}");
    /* No token for a byte: it is left out. */
    check_tokens(t, "az\xFFg", 0, "[a][g]");
    tokenizer_close(&t);
}

/* Published files have tokens without a text, and some twice: they are never given. */
static void test_empty_and_double_tokens_do_no_harm(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "", NORMAL);
    add(r, "", CONTROL);
    add(r, "", USER);
    for (int i = 0; i < 1000; i++)
        add(r, "b", NORMAL);
    merge(r, " ");
    merge(r, "");
    struct tokenizer *t = opened(r);
    check_tokens(t, "abba", ENCODE_SPECIAL, "[a][b][b][a]");
    struct token_list ids = {0};
    assert_int_equal(tokenizer_encode(t, "b", 1, 0, &ids, NULL), 0);
    assert_int_equal(ids.ids[0], 1);
    token_list_free(&ids);
    tokenizer_close(&t);
}

/* A million times the same text: as long as a million others take, or this test does not end. */
static void test_a_million_equal_tokens_are_read(void **state)
{
    enum { MANY = 1 << 20 };
    char path[] = PATH;
    struct gguf_string *same = mem_array(MANY, sizeof(*same));
    struct gguf_writer *w;
    struct gguf *g;
    struct tokenizer *t;
    (void)state;
    for (size_t i = 0; i < MANY; i++)
        same[i] = (struct gguf_string){"a", 1};
    close(mkstemp(path));
    assert_int_equal(gguf_writer_create(&w, path, NULL), 0);
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(w, "tokenizer.ggml.pre", "gpt-2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", same, MANY);
    for (size_t i = 0; i < MANY; i++)
        same[i] = (struct gguf_string){"a a", 3};
    gguf_writer_strings(w, "tokenizer.ggml.merges", same, MANY);
    assert_int_equal(gguf_writer_header(w, NULL), 0);
    assert_int_equal(gguf_writer_finish(&w, NULL), 0);
    assert_int_equal(gguf_open(&g, path, NULL), 0);
    assert_int_equal(tokenizer_open(&t, g, NULL), 0);
    assert_int_equal(tokenizer_find(t, "a", 1), 0);
    tokenizer_close(&t);
    gguf_close(&g);
    unlink(path);
    mem_free(same);
}

/* Open a damaged file; where that still gives a tokenizer, use it. */
static void try_damaged(const char *path, const char *data, size_t len)
{
    struct gguf *g;
    struct tokenizer *t;
    struct token_list ids;
    struct error e;
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
    if (gguf_open(&g, path, &e) != 0)
        return;
    if (tokenizer_open(&t, g, &e) == 0) {
        for (uint32_t id = 0; id < tokenizer_count(t); id++) {
            struct buffer b;
            buffer_init(&b, TOKENIZER_TOKEN_MAX);
            tokenizer_decode(t, (int32_t)id, true, &b);
            assert_false(buffer_failed(&b));
            buffer_close(&b);
        }
        if (tokenizer_encode(t, "abcabc <x>d\nh", 13, ENCODE_SPECIAL | ENCODE_BOS_EOS, &ids, &e) == 0)
            token_list_free(&ids);
        tokenizer_close(&t);
    }
    gguf_close(&g);
}

static void test_damaged_files_do_no_harm(void **state)
{
    (void)state;
    char path[] = PATH, *data;
    size_t len;
    struct recipe *r = recipe_of_letters();
    add(r, "<x>", CONTROL);
    add(r, "ab", NORMAL);
    add(r, "abc", NORMAL);
    merge(r, "a b");
    merge(r, "ab c");
    r->bos = 10;
    r->add_bos = 1;
    write_recipe(r, path);
    mem_free(r);
    assert_int_equal(path_read(path, 1 << 16, &data, &len, NULL), 0);
    for (size_t i = 0; i < len; i++) {
        static const unsigned char flips[] = {0x01, 0x80, 0xFF};
        for (size_t k = 0; k < COUNTOF(flips); k++) {
            data[i] = (char)(data[i] ^ flips[k]);
            try_damaged(path, data, len);
            data[i] = (char)(data[i] ^ flips[k]);
        }
        try_damaged(path, data, i);
    }
    unlink(path);
    mem_free(data);
}

/* ---- threads ---- */

static void *encode_often(void *shared)
{
    for (int i = 0; i < 50; i++) {
        struct token_list ids = {0};
        if (tokenizer_encode(shared, "abcabcab <x> abc", 16, ENCODE_SPECIAL, &ids, NULL) != 0 || ids.count != 10)
            return shared;
        token_list_free(&ids);
    }
    return NULL;
}

static void test_threads_share_a_tokenizer(void **state)
{
    (void)state;
    struct recipe *r = recipe_of_letters();
    add(r, "<x>", CONTROL);
    add(r, "ab", NORMAL);
    merge(r, "a b");
    struct tokenizer *t = opened(r);
    pthread_t threads[4];
    for (size_t i = 0; i < COUNTOF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, t), 0);
    for (size_t i = 0; i < COUNTOF(threads); i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    tokenizer_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merging_follows_its_definition),
        cmocka_unit_test(test_merges_that_lead_nowhere_are_ignored),
        cmocka_unit_test(test_merges_never_make_control_tokens),
        cmocka_unit_test(test_whole_tokens_come_first_where_the_row_says_so),
        cmocka_unit_test(test_a_megabyte_of_one_letter_is_encoded),
        cmocka_unit_test(test_special_tokens_are_found_where_they_count),
        cmocka_unit_test(test_white_space_beside_a_token_goes_with_it),
        cmocka_unit_test(test_bos_and_eos_are_added_as_the_file_says),
        cmocka_unit_test(test_ends_of_generation_are_known),
        cmocka_unit_test(test_tokens_around_a_gap_are_known),
        cmocka_unit_test(test_decoding_shows_what_is_text),
        cmocka_unit_test(test_chat_needs_a_format_that_fits),
        cmocka_unit_test(test_models_without_a_vocabulary_take_ids_only),
        cmocka_unit_test(test_wrong_vocabularies_are_refused),
        cmocka_unit_test(test_wrong_ids_are_refused),
        cmocka_unit_test(test_files_may_say_that_there_is_no_id),
        cmocka_unit_test(test_empty_and_double_tokens_do_no_harm),
        cmocka_unit_test(test_a_million_equal_tokens_are_read),
        cmocka_unit_test(test_damaged_files_do_no_harm),
        cmocka_unit_test(test_threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
