/* test_export: a folder's tokenizer gives the same ids when it was written as the keys of a GGUF file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "text/export.h"
#include "text/tokenizer.h"

#define VECTORS "tests/data/tokenizers/"
#define DEMO_FOLDER "../shared/demo-model/shoal-demo-hf"
#define DEMO_FILE "tests/data/shoal-demo-q8_0.gguf"

static char made[] = "/tmp/shoal-export-XXXXXX";

static int open_made(void **state)
{
    (void)state;
    int fd = mkstemp(made);
    close(fd);
    return fd < 0 ? -1 : 0;
}

static int close_made(void **state)
{
    (void)state;
    return unlink(made);
}

static int export(const char *folder, uint32_t n_vocab, struct error *e)
{
    struct gguf_writer *w;
    *e = (struct error){0};
    assert_int_equal(gguf_writer_create(&w, made, e), 0);
    int r = tokenizer_export(w, folder, n_vocab, e);
    if (r == 0)
        r = gguf_writer_header(w, e);
    if (r == 0)
        return gguf_writer_finish(&w, e);
    gguf_writer_abort(&w);
    return r;
}

static struct gguf *exported(const char *folder, uint32_t n_vocab)
{
    struct error e;
    struct gguf *g;
    if (export(folder, n_vocab, &e) != 0 || gguf_open(&g, made, &e) != 0)
        fail_msg("%s", e.text);
    return g;
}

/* What GGUF cannot keep of a text: a composed form, the white space flags of <y>. */
static bool comparable(const struct tokenizer *t, const struct token_list *ids, const char *text, size_t len)
{
    struct buffer back;
    buffer_init(&back, 1 << 20);
    tokenizer_decode_list(t, ids->ids, ids->count, true, &back);
    bool same = back.len == len && memcmp(buffer_text(&back), text, len) == 0;
    buffer_close(&back);
    return same && !strstr(text, "<y>");
}

static size_t compare(const struct tokenizer *a, const struct tokenizer *b, const char *text, size_t len)
{
    struct token_list x, y;
    struct error e = {0};
    assert_int_equal(tokenizer_encode(a, text, len, ENCODE_SPECIAL, &x, &e), 0);
    assert_int_equal(tokenizer_encode(b, text, len, ENCODE_SPECIAL, &y, &e), 0);
    bool told = comparable(a, &x, text, len);
    if (told && (x.count != y.count || memcmp(x.ids, y.ids, x.count * sizeof(*x.ids)) != 0))
        fail_msg("other tokens of \"%s\"", text);
    token_list_free(&x);
    token_list_free(&y);
    return told;
}

static size_t random_text(struct random_state *r, char *out)
{
    static const char *const odd[] = {"\n", "\t", "  ", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "<|im_end|>",
                                      "\xFF", "\xE4\xB8", "don't", "1234", "\r\n", "<x>", "the "};
    size_t len = 0, n = random_u64(r) % 40;
    while (n-- > 0) {
        char letter[2] = {(char)(' ' + random_u64(r) % 95), 0};
        const char *part = random_u64(r) % 4 ? letter : odd[random_u64(r) % COUNTOF(odd)];
        memcpy(out + len, part, strlen(part));
        len += strlen(part);
    }
    out[len] = 0;
    return len;
}

static void check_folder(const char *folder)
{
    struct tokenizer *a, *b;
    struct random_state random;
    char text[512];
    size_t told = 0, i;
    assert_int_equal(tokenizer_open_folder(&a, folder, NULL), 0);
    uint32_t n = tokenizer_count(a);
    struct gguf *g = exported(folder, n + 3);
    assert_int_equal(tokenizer_open(&b, g, NULL), 0);
    assert_int_equal(tokenizer_count(b), n + 3);
    assert_int_equal(tokenizer_find(b, "[PAD", 4), -1);
    if (tokenizer_eos(a) >= 0) /* the small ones say nothing about it, and then a kind of GGUF has its own */
        assert_int_equal(tokenizer_eos(a), tokenizer_eos(b));
    for (uint32_t id = 0; id < n; id++) {
        assert_int_equal(tokenizer_is_end(a, (int32_t)id), tokenizer_is_end(b, (int32_t)id));
        assert_int_equal(tokenizer_is_control(a, (int32_t)id), tokenizer_is_control(b, (int32_t)id));
    }
    random_seed(&random, 5);
    for (int round = 0; round < 3000; round++)
        told += compare(a, b, text, random_text(&random, text));
    char *path = mem_printf("%s/vectors.json", folder);
    json_t *all = json_load_file(path, JSON_ALLOW_NUL, NULL), *one;
    json_array_foreach(all, i, one) {
        const json_t *words = json_object_get(one, "text");
        told += compare(a, b, json_string_value(words), json_string_length(words));
    }
    print_message("    %s: %zu texts\n", folder, told);
    assert_true(told > 1000);
    json_decref(all);
    mem_free(path);
    gguf_close(&g);
    tokenizer_close(&a);
    tokenizer_close(&b);
}

static void test_tokens_are_the_folder_s(void **state)
{
    static const char *const folders[] = {VECTORS "byte-level", VECTORS "llama", VECTORS "gemma", DEMO_FOLDER};
    (void)state;
    for (size_t i = 0; i < COUNTOF(folders); i++)
        if (path_exists(folders[i]))
            check_folder(folders[i]);
}

/* The same keys as the converter of the published tools wrote. */
static void test_demo_keys_are_those_of_the_converter(void **state)
{
    static const char *const texts[] = {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.chat_template"};
    static const char *const lists[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"};
    struct gguf *want;
    (void)state;
    if (!path_exists(DEMO_FOLDER)) {
        print_message("no %s: skipped\n", DEMO_FOLDER);
        skip();
    }
    assert_int_equal(gguf_open(&want, DEMO_FILE, NULL), 0);
    struct gguf *g = exported(DEMO_FOLDER, 2048);
    for (size_t i = 0; i < COUNTOF(texts); i++) {
        struct gguf_string a, b;
        assert_true(gguf_get_string(g, texts[i], &a) && gguf_get_string(want, texts[i], &b));
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.text, b.text, a.len);
    }
    for (size_t i = 0; i < COUNTOF(lists); i++) {
        enum gguf_type type;
        uint64_t n, m;
        struct gguf_string a, b;
        assert_true(gguf_array(g, lists[i], &type, &n) && gguf_array(want, lists[i], &type, &m));
        assert_int_equal(n, m);
        for (uint64_t k = 0; k < n; k++) {
            assert_true(gguf_array_string(g, lists[i], k, &a) && gguf_array_string(want, lists[i], k, &b));
            assert_int_equal(a.len, b.len);
            assert_memory_equal(a.text, b.text, a.len);
        }
    }
    for (uint64_t k = 0, x, y; k < 2048; k++) {
        assert_true(gguf_array_u64(g, "tokenizer.ggml.token_type", k, &x));
        assert_true(gguf_array_u64(want, "tokenizer.ggml.token_type", k, &y));
        assert_int_equal(x, y);
    }
    gguf_close(&g);
    gguf_close(&want);
}

/* Where no row treats whole tokens as the file does, but it makes no difference, any will do. */
static void test_whole_tokens_first_may_not_matter(void **state)
{
    char folder[] = "/tmp/shoal-export-XXXXXX";
    struct error e;
    (void)state;
    assert_non_null(mkdtemp(folder));
    char *path = mem_printf("%s/tokenizer.json", folder);
    for (int whole = 0; whole < 2; whole++) {
        json_t *all = json_load_file(VECTORS "byte-level/tokenizer.json", JSON_ALLOW_NUL, NULL);
        json_t *model = json_object_get(all, "model");
        json_object_set_new(model, "ignore_merges", json_true());
        if (whole) /* a token that no merge makes */
            json_object_set_new(json_object_get(model, "vocab"), "xqxqx", json_integer(2000));
        assert_int_equal(json_dump_file(all, path, 0), 0);
        assert_int_equal(export(folder, 5000, &e), whole ? ERR_UNSUPPORTED : 0);
        json_decref(all);
    }
    unlink(path);
    rmdir(folder);
    mem_free(path);
}

static void test_what_gguf_cannot_say_is_refused(void **state)
{
    struct error e;
    (void)state;
    assert_int_equal(export(VECTORS "digits", 5000, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "pre-tokenizer is none of those that have names"));
    assert_int_equal(export(VECTORS "unigram-first", 5000, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.text, "Unigram"));
    assert_int_equal(export(VECTORS "byte-level", 10, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "more than the 10 rows"));
    assert_int_equal(export("tests/data", 10, &e), ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_are_the_folder_s),
        cmocka_unit_test(test_demo_keys_are_those_of_the_converter),
        cmocka_unit_test(test_whole_tokens_first_may_not_matter),
        cmocka_unit_test(test_what_gguf_cannot_say_is_refused),
    };
    return cmocka_run_group_tests(tests, open_made, close_made);
}
