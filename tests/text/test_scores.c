/* test_scores: vocabularies whose tokens have scores, SentencePiece's merges and Unigram, against their definitions.
 *
 * The files are written by the test.                                          */
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
#include "base/random.h"
#include "text/tokenizer.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE, LIST_MAX = 1024, UNKNOWN_ID = 0, BOS_ID, EOS_ID };

#define SPACE "\xE2\x96\x81"

struct recipe {
    char tokens[LIST_MAX][32];
    int32_t types[LIST_MAX];
    float scores[LIST_MAX];
    size_t n;
    const char *kind;
    int add_space, single_space; /* -1: absent */
};

static void add(struct recipe *r, const char *text, int32_t type, float score)
{
    assert_true(r->n < LIST_MAX && strlen(text) < sizeof(r->tokens[0]));
    snprintf(r->tokens[r->n], sizeof(r->tokens[0]), "%s", text);
    r->types[r->n] = type;
    r->scores[r->n++] = score;
}

static void append(char *text, const char *more)
{
    memcpy(text + strlen(text), more, strlen(more) + 1);
}

static struct recipe *recipe_of(const char *kind, bool bytes)
{
    struct recipe *r = mem_alloc(sizeof(*r));
    char name[8];
    r->kind = kind;
    r->add_space = r->single_space = -1;
    add(r, "<unk>", UNKNOWN, 0);
    add(r, "<s>", CONTROL, 0);
    add(r, "</s>", CONTROL, 0);
    for (int i = 0; bytes && i < 256; i++) {
        snprintf(name, sizeof(name), "<0x%02X>", (unsigned)i);
        add(r, name, BYTE, 0);
    }
    return r;
}

static void declare(struct gguf_writer *w, const struct recipe *r)
{
    struct gguf_string list[LIST_MAX];
    for (size_t i = 0; i < r->n; i++)
        list[i] = (struct gguf_string){r->tokens[i], strlen(r->tokens[i])};
    gguf_writer_string(w, "general.architecture", "test");
    gguf_writer_string(w, "tokenizer.ggml.model", r->kind);
    gguf_writer_strings(w, "tokenizer.ggml.tokens", list, r->n);
    gguf_writer_i32s(w, "tokenizer.ggml.token_type", r->types, r->n);
    gguf_writer_f32s(w, "tokenizer.ggml.scores", r->scores, r->n);
    gguf_writer_u32(w, "tokenizer.ggml.unknown_token_id", UNKNOWN_ID);
    gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", BOS_ID);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", EOS_ID);
    if (r->add_space >= 0)
        gguf_writer_bool(w, "tokenizer.ggml.add_space_prefix", r->add_space);
    if (r->single_space >= 0)
        gguf_writer_bool(w, "tokenizer.ggml.remove_extra_whitespaces", r->single_space);
}

static int open_recipe(const struct recipe *r, struct tokenizer **t, struct error *e)
{
    char path[] = "/tmp/shoal-scores-XXXXXX";
    struct gguf_writer *w;
    struct gguf *g;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(gguf_writer_create(&w, path, NULL), 0);
    declare(w, r);
    assert_int_equal(gguf_writer_header(w, NULL), 0);
    assert_int_equal(gguf_writer_finish(&w, NULL), 0);
    assert_int_equal(gguf_open(&g, path, NULL), 0);
    int status = tokenizer_open(t, g, e);
    gguf_close(&g);
    unlink(path);
    return status;
}

static struct tokenizer *opened(const struct recipe *r)
{
    struct tokenizer *t;
    struct error e = {0};
    if (open_recipe(r, &t, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

/* The spellings of the ids, each in brackets. */
static void check(const struct recipe *r, const struct tokenizer *t, const char *text, unsigned flags, const char *want)
{
    struct token_list ids;
    struct buffer b;
    assert_int_equal(tokenizer_encode(t, text, strlen(text), flags, &ids, NULL), 0);
    buffer_init(&b, 1 << 16);
    for (size_t i = 0; i < ids.count; i++)
        buffer_printf(&b, "[%s]", r->tokens[ids.ids[i]]);
    assert_string_equal(buffer_text(&b), want);
    buffer_close(&b);
    token_list_free(&ids);
}

static void check_back(const struct tokenizer *t, const char *text, size_t len)
{
    struct token_list ids;
    struct buffer b;
    assert_int_equal(tokenizer_encode(t, text, len, ENCODE_SPECIAL, &ids, NULL), 0);
    buffer_init(&b, 1 << 24);
    tokenizer_decode_list(t, ids.ids, ids.count, true, &b);
    assert_int_equal(b.len, len);
    assert_memory_equal(buffer_text(&b), text, len);
    buffer_close(&b);
    token_list_free(&ids);
}

/* Letters, a space, and tokens of up to six letters of a random score; some scores are equal. */
static void add_random_tokens(struct recipe *r, struct random_state *random)
{
    static const char *const letters[] = {"a", "b", "c", "\xC3\xA9", SPACE};
    for (size_t i = 0; i < COUNTOF(letters); i++)
        add(r, letters[i], NORMAL, -30);
    for (int i = 0; i < 60; i++) {
        char text[32] = "";
        size_t n = 2 + random_u64(random) % 5;
        for (size_t k = 0; k < n; k++)
            append(text, letters[random_u64(random) % (i % 3 ? 3 : COUNTOF(letters))]);
        add(r, text, NORMAL, -(float)(random_u64(random) % 20) - 1);
    }
}

static int find(const struct recipe *r, const char *text, size_t len)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->types[i] == NORMAL && strlen(r->tokens[i]) == len && memcmp(r->tokens[i], text, len) == 0)
            return (int)i;
    return -1;
}

/* The definition: join the two neighbours whose text is the token of the highest score, the leftmost of equals. */
static size_t merge_plainly(const struct recipe *r, const char *text, int *ids)
{
    size_t ends[128], n = 0, len = strlen(text);
    for (size_t i = 1; i <= len; i++)
        if (i == len || (text[i] & 0xC0) != 0x80)
            ends[n++] = i;
    for (;;) {
        size_t at = n;
        float best = -1e9f;
        for (size_t i = 0; i + 1 < n; i++) {
            size_t begin = i ? ends[i - 1] : 0;
            int id = find(r, text + begin, ends[i + 1] - begin);
            if (id >= 0 && r->scores[id] > best) {
                best = r->scores[id];
                at = i;
            }
        }
        if (at == n)
            break;
        memmove(ends + at, ends + at + 1, (n - at - 1) * sizeof(*ends));
        n--;
    }
    for (size_t i = 0; i < n; i++)
        ids[i] = find(r, text + (i ? ends[i - 1] : 0), ends[i] - (i ? ends[i - 1] : 0));
    return n;
}

/* The best sum of scores over all rows of tokens, by trying each from every place. */
static double best_sum(const struct recipe *r, const char *text)
{
    size_t len = strlen(text);
    double best[129];
    for (size_t end = 1; end <= len; end++) {
        best[0] = 0;
        best[end] = -1e9;
        for (size_t begin = end > 20 ? end - 20 : 0; begin < end; begin++) {
            int id = find(r, text + begin, end - begin);
            if (id >= 0 && best[begin] + (double)r->scores[id] > best[end])
                best[end] = best[begin] + (double)r->scores[id];
        }
    }
    return best[len];
}

/* Random text, as it is and as files spell it. */
static void make_text(struct random_state *random, char *plain, char *spelled)
{
    static const char *const from[] = {"a", "b", "c", "\xC3\xA9", " "};
    size_t n = 1 + random_u64(random) % 24;
    *plain = *spelled = 0;
    while (n-- > 0) {
        size_t i = random_u64(random) % COUNTOF(from);
        append(plain, from[i]);
        append(spelled, i == 4 ? SPACE : from[i]);
    }
}

static void test_merging_by_scores_follows_its_definition(void **state)
{
    (void)state;
    struct random_state random;
    random_seed(&random, 5);
    for (int round = 0; round < 20; round++) {
        struct recipe *r = recipe_of("llama", true);
        r->add_space = 0;
        add_random_tokens(r, &random);
        struct tokenizer *t = opened(r);
        for (int i = 0; i < 300; i++) {
            char plain[128], spelled[128];
            int want[128];
            struct token_list ids;
            make_text(&random, plain, spelled);
            size_t n = merge_plainly(r, spelled, want);
            assert_int_equal(tokenizer_encode(t, plain, strlen(plain), 0, &ids, NULL), 0);
            assert_int_equal(ids.count, n);
            for (size_t k = 0; k < n; k++)
                assert_int_equal(ids.ids[k], want[k]);
            token_list_free(&ids);
            check_back(t, plain, strlen(plain));
        }
        tokenizer_close(&t);
        mem_free(r);
    }
}

static void test_unigram_finds_the_best_row(void **state)
{
    (void)state;
    struct random_state random;
    random_seed(&random, 6);
    for (int round = 0; round < 20; round++) {
        struct recipe *r = recipe_of("t5", true);
        r->add_space = 0;
        add_random_tokens(r, &random);
        struct tokenizer *t = opened(r);
        for (int i = 0; i < 300; i++) {
            char plain[128], spelled[128];
            double sum = 0;
            struct token_list ids;
            make_text(&random, plain, spelled);
            assert_int_equal(tokenizer_encode(t, plain, strlen(plain), 0, &ids, NULL), 0);
            for (size_t k = 0; k < ids.count; k++)
                sum += (double)r->scores[ids.ids[k]];
            assert_true(sum == best_sum(r, spelled));
            token_list_free(&ids);
            check_back(t, plain, strlen(plain));
        }
        tokenizer_close(&t);
        mem_free(r);
    }
}

static void test_spaces_and_bytes_are_as_the_file_says(void **state)
{
    (void)state;
    struct recipe *r = recipe_of("llama", true);
    add(r, "a", NORMAL, -9);
    add(r, SPACE, NORMAL, -9);
    add(r, SPACE "a", NORMAL, -1);
    add(r, "<x>", CONTROL, 0);
    add(r, "\xE4\xB8\xAD" "a", NORMAL, -2); /* its first character is no token of its own */
    struct tokenizer *t = opened(r);
    check(r, t, "a", ENCODE_BOS_EOS, "[<s>][" SPACE "a]");
    check(r, t, "a<x>a", ENCODE_SPECIAL, "[" SPACE "a][<x>][" SPACE "a]");
    check(r, t, " a\n", 0, "[" SPACE "][" SPACE "a][<0x0A>]");
    check(r, t, "\xE4\xB8\xAD" "a\xE4\xB8\xAD", 0, "[" SPACE "][\xE4\xB8\xAD" "a][<0xE4>][<0xB8>][<0xAD>]");
    /* What looks like a space in the file is not one in a text. */
    check(r, t, SPACE, 0, "[" SPACE "][<0xE2>][<0x96>][<0x81>]");
    check(r, t, "", ENCODE_SPECIAL, "");
    check_back(t, " a<x> a<x>" SPACE "\xFF\xE4\xB8<0x0A>", 20);
    tokenizer_close(&t);
    r->add_space = 0;
    t = opened(r);
    check(r, t, "aa", 0, "[a][a]");
    tokenizer_close(&t);
    mem_free(r);
}

static void test_unknown_characters_of_a_run_are_one_token(void **state)
{
    (void)state;
    struct recipe *r = recipe_of("t5", false);
    add(r, "a", NORMAL, -2);
    add(r, SPACE, NORMAL, -2);
    r->single_space = 1;
    struct tokenizer *t = opened(r);
    check(r, t, "  a   xyz a  ", ENCODE_BOS_EOS, "[" SPACE "][a][" SPACE "][<unk>][" SPACE "][a][</s>]");
    /* Also where the run is longer than what is kept, and where it comes again. */
    check(r, t, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxyxy", 0, "[" SPACE "][<unk>]");
    tokenizer_close(&t);
    mem_free(r);
}

static void test_a_megabyte_of_one_letter_is_encoded(void **state)
{
    (void)state;
    static const char *const kinds[] = {"llama", "t5"};
    for (size_t i = 0; i < COUNTOF(kinds); i++) {
        struct recipe *r = recipe_of(kinds[i], true);
        r->add_space = 0;
        add(r, "a", NORMAL, -9);
        add(r, "aa", NORMAL, -3);
        add(r, "aaaa", NORMAL, -2);
        add(r, "aaaaaaaa", NORMAL, -1);
        struct tokenizer *t = opened(r);
        struct token_list ids;
        size_t n = 6 << 20;
        char *text = mem_array(n, 1);
        memset(text, 'a', n);
        assert_int_equal(tokenizer_encode(t, text, n, 0, &ids, NULL), 0);
        /* One more cut at most, where a piece ends. */
        assert_true(ids.count >= n / 8 && ids.count <= n / 8 + 8);
        token_list_free(&ids);
        mem_free(text);
        tokenizer_close(&t);
        mem_free(r);
    }
}

static void test_any_scores_are_borne(void **state)
{
    (void)state;
    static const uint32_t odd[] = {0x7FC00000, 0xFFC00000, 0x7F800000, 0xFF800000, 0x80000000};
    struct recipe *r = recipe_of("llama", true);
    struct random_state random;
    random_seed(&random, 7);
    add_random_tokens(r, &random);
    for (size_t i = 0; i < r->n; i++)
        memcpy(&r->scores[i], &odd[i % COUNTOF(odd)], 4);
    struct tokenizer *t = opened(r);
    check_back(t, "abcabc aabbcc", 13);
    tokenizer_close(&t);
    struct error e = {0};
    r->kind = "t5";
    assert_int_equal(open_recipe(r, &t, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "not a number"));
    assert_null(t);
    mem_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merging_by_scores_follows_its_definition),
        cmocka_unit_test(test_unigram_finds_the_best_row),
        cmocka_unit_test(test_spaces_and_bytes_are_as_the_file_says),
        cmocka_unit_test(test_unknown_characters_of_a_run_are_one_token),
        cmocka_unit_test(test_a_megabyte_of_one_letter_is_encoded),
        cmocka_unit_test(test_any_scores_are_borne),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
