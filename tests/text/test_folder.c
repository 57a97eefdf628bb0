/* test_folder: a tokenizer from tokenizer.json gives the ids of the GGUF of the same model, and those that the
 * `tokenizers` library recorded. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "text/tokenizer.h"

#define VECTORS "tests/data/tokenizers"
#define DEMO_FOLDER "../shared/demo-model/shoal-demo-hf"
#define DEMO_FILE "tests/data/shoal-demo-q8_0.gguf"

static struct tokenizer *open_folder(const char *path)
{
    struct tokenizer *t;
    struct error e = {0};
    if (tokenizer_open_folder(&t, path, &e) != 0)
        fail_msg("%s", e.text);
    return t;
}

static struct token_list encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags)
{
    struct token_list ids;
    struct error e = {0};
    if (tokenizer_encode(t, text, len, flags, &ids, &e) != 0)
        fail_msg("%s", e.text);
    return ids;
}

/* One recorded text: {"text", "ids"}. */
static void check_vector(const struct tokenizer *t, const char *name, const json_t *v)
{
    const json_t *text = json_object_get(v, "text"), *want = json_object_get(v, "ids");
    unsigned flags = ENCODE_SPECIAL | ENCODE_BOS_EOS;
    struct token_list ids = encode(t, json_string_value(text), json_string_length(text), flags);
    for (size_t i = 0; i < ids.count; i++)
        if (ids.ids[i] != json_integer_value(json_array_get(want, i)) || i >= json_array_size(want))
            fail_msg("%s: token %zu of \"%s\" is %d", name, i, json_string_value(text), ids.ids[i]);
    if (ids.count != json_array_size(want))
        fail_msg("%s: %zu tokens of \"%s\"", name, ids.count, json_string_value(text));
    token_list_free(&ids);
}

static void test_recorded_ids_are_given(void **state)
{
    (void)state;
    DIR *d = opendir(VECTORS);
    size_t n = 0, i;
    assert_non_null(d);
    for (struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        char *folder = path_join(VECTORS, entry->d_name), *path = path_join(folder, "vectors.json");
        json_t *all = json_load_file(path, JSON_ALLOW_NUL, NULL), *one;
        if (all) {
            struct tokenizer *t = open_folder(folder);
            assert_true(json_array_size(all) > 10);
            json_array_foreach(all, i, one)
                check_vector(t, entry->d_name, one);
            tokenizer_close(&t);
            json_decref(all);
            n++;
        }
        mem_free(path);
        mem_free(folder);
    }
    closedir(d);
    assert_true(n >= 4);
}

static struct tokenizer *open_file(const char *path)
{
    struct gguf *g;
    struct tokenizer *t;
    assert_int_equal(gguf_open(&g, path, NULL), 0);
    assert_int_equal(tokenizer_open(&t, g, NULL), 0);
    gguf_close(&g);
    return t;
}

/* Printable ASCII, white space and letters of other scripts: all of it in the form that the model normalises to. */
static size_t random_text(struct random_state *r, char *out)
{
    static const char *const odd[] = {"\n", "\t", "  ", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80", "<|im_end|>",
                                      "\xFF", "\xE4\xB8", "don't", "1234", "\r\n"};
    size_t len = 0, n = random_u64(r) % 40;
    while (n-- > 0) {
        char letter[2] = {(char)(' ' + random_u64(r) % 95), 0};
        const char *part = random_u64(r) % 4 ? letter : odd[random_u64(r) % COUNTOF(odd)];
        memcpy(out + len, part, strlen(part));
        len += strlen(part);
    }
    return len;
}

static void test_the_demo_is_the_same_in_both_forms(void **state)
{
    (void)state;
    if (!path_exists(DEMO_FOLDER)) {
        print_message("no %s: skipped\n", DEMO_FOLDER);
        skip();
    }
    struct tokenizer *a = open_folder(DEMO_FOLDER), *b = open_file(DEMO_FILE);
    struct random_state r;
    random_seed(&r, 9);
    assert_int_equal(tokenizer_eos(a), tokenizer_eos(b));
    assert_int_equal(tokenizer_count(a), tokenizer_count(b));
    assert_string_equal(tokenizer_chat_template(a), tokenizer_chat_template(b));
    for (uint32_t id = 0; id < tokenizer_count(a); id++)
        assert_int_equal(tokenizer_is_end(a, (int32_t)id), tokenizer_is_end(b, (int32_t)id));
    for (int i = 0; i < 3000; i++) {
        char text[512];
        size_t len = random_text(&r, text);
        unsigned flags = i % 2 ? ENCODE_SPECIAL | ENCODE_BOS_EOS : 0;
        struct token_list x = encode(a, text, len, flags), y = encode(b, text, len, flags);
        assert_int_equal(x.count, y.count);
        if (x.count)
            assert_memory_equal(x.ids, y.ids, x.count * sizeof(*x.ids));
        token_list_free(&x);
        token_list_free(&y);
    }
    json_t *all = json_load_file("tests/data/answers.json", 0, NULL), *one;
    size_t i;
    json_array_foreach(all, i, one) {
        const char *prompt = json_string_value(json_object_get(one, "prompt"));
        const json_t *want = json_object_get(one, "prompt_tokens");
        struct token_list ids = encode(a, prompt, strlen(prompt), ENCODE_SPECIAL);
        assert_int_equal(ids.count, json_array_size(want));
        for (size_t k = 0; k < ids.count; k++)
            assert_int_equal(ids.ids[k], json_integer_value(json_array_get(want, k)));
        token_list_free(&ids);
    }
    json_decref(all);
    tokenizer_close(&a);
    tokenizer_close(&b);
}

/* ---- what a file may not say ---- */

static int open_text(const char *json, size_t len, struct error *e)
{
    char dir[] = "/tmp/shoal-folder-XXXXXX";
    struct tokenizer *t;
    assert_non_null(mkdtemp(dir));
    char *path = path_join(dir, "tokenizer.json");
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(json, 1, len, f), len);
    fclose(f);
    int status = tokenizer_open_folder(&t, dir, e);
    if (status == 0) {
        struct token_list ids;
        if (tokenizer_encode(t, "a ab\xC3\xA9  <x> b", 14, ENCODE_SPECIAL | ENCODE_BOS_EOS, &ids, NULL) == 0)
            token_list_free(&ids);
    }
    tokenizer_close(&t);
    unlink(path);
    rmdir(dir);
    mem_free(path);
    return status;
}

#define FILE_OF(normalizer, pre, model) \
    "{\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre ",\"model\":" model \
    ",\"added_tokens\":[{\"id\":4,\"content\":\"<x>\",\"special\":true}],\"post_processor\":null}"
#define BPE "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"<0x0A>\":3},\"merges\":[\"a b\"]}"

static void test_wrong_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int status;
        const char *words;
    } cases[] = {
        {FILE_OF("null", "null", BPE), 0, ""},
        {"", ERR_CORRUPT, "tokenizer.json"},
        {"[]", ERR_CORRUPT, "object"},
        {FILE_OF("null", "null", "{\"type\":\"WordPiece\"}"), ERR_UNSUPPORTED, "'WordPiece'"},
        {FILE_OF("{\"type\":\"Lowercase\"}", "null", BPE), ERR_UNSUPPORTED, "'Lowercase'"},
        {FILE_OF("null", "{\"type\":\"BertPreTokenizer\"}", BPE), ERR_UNSUPPORTED, "'BertPreTokenizer'"},
        {FILE_OF("null", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}", BPE),
         ERR_UNSUPPORTED, "expression"},
        {FILE_OF("null", "null", "{\"type\":\"BPE\",\"vocab\":{\"a\":4294967296},\"merges\":[]}"), ERR_CORRUPT, "id"},
        {FILE_OF("null", "null", "{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}"), ERR_CORRUPT, "id"},
        {FILE_OF("null", "null", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"ab\"]}"), ERR_CORRUPT, "merge"},
        {FILE_OF("null", "null", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":7}"), ERR_CORRUPT, "merges"},
        {FILE_OF("null", "null", "{\"type\":\"Unigram\",\"vocab\":[[1,2]]}"), ERR_CORRUPT, "entry 0"},
        {FILE_OF("null", "null", "{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}") "x", ERR_CORRUPT, "tokenizer.json"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", ERR_CORRUPT, "vocabulary is empty"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4194304},\"merges\":[]}}", ERR_CORRUPT, "0 to 4194303"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e9},\"merges\":[]}}", ERR_CORRUPT, "id"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[{\"id\":1}]}",
         ERR_CORRUPT, "added token 0 has no content"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"post_processor\":{\"single\":"
         "[{\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[9]}}}}", ERR_CORRUPT,
         "not in the vocabulary"},
        {FILE_OF("{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}", "null", BPE), ERR_CORRUPT, "damaged"},
    };
    for (size_t i = 0; i < COUNTOF(cases); i++) {
        struct error e = {0};
        assert_int_equal(open_text(cases[i].json, strlen(cases[i].json), &e), cases[i].status);
        if (!strstr(e.text, cases[i].words))
            fail_msg("\"%s\" does not say \"%s\"", e.text, cases[i].words);
    }
}

static int open_with(const char *name, const char *text, size_t len, struct error *e)
{
    static const char json[] = FILE_OF("null", "null", BPE);
    char dir[] = "/tmp/shoal-folder-XXXXXX";
    struct tokenizer *t;
    assert_non_null(mkdtemp(dir));
    char *path = path_join(dir, "tokenizer.json"), *other = path_join(dir, name);
    assert_int_equal(path_write_atomic(path, json, strlen(json), 0600, e), 0);
    assert_int_equal(path_write_atomic(other, text, len, 0600, e), 0);
    int status = tokenizer_open_folder(&t, dir, e);
    tokenizer_close(&t);
    unlink(path);
    unlink(other);
    rmdir(dir);
    mem_free(path);
    mem_free(other);
    return status;
}

/* A list of named templates, and those in files, which go before it. */
static void test_templates_with_names(void **state)
{
    (void)state;
    static const char json[] = FILE_OF("null", "null", BPE);
    static const char list[] = "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"r\"},{\"name\":\"tool_use\","
                               "\"template\":\"t\"},{\"name\":\"default\",\"template\":\"d\"}]}";
    char dir[] = "/tmp/shoal-folder-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *more = path_join(dir, "additional_chat_templates");
    char *paths[] = {path_join(dir, "tokenizer.json"), path_join(dir, "tokenizer_config.json"),
                     path_join(more, "tool_use.jinja")};
    for (size_t i = 0; i < 3; i++) {
        static const char *const texts[] = {json, list, "file"};
        struct tokenizer *t;
        struct error e = {0};
        assert_true(i < 2 || mkdir(more, 0700) == 0);
        assert_int_equal(path_write_atomic(paths[i], texts[i], strlen(texts[i]), 0600, &e), 0);
        assert_int_equal(tokenizer_open_folder(&t, dir, &e), 0);
        if (i == 0)
            assert_null(tokenizer_tool_template(t));
        else {
            assert_string_equal(tokenizer_chat_template(t), "d");
            assert_string_equal(tokenizer_tool_template(t), i == 1 ? "t" : "file");
        }
        tokenizer_close(&t);
    }
    for (size_t i = 0; i < 3; i++) {
        unlink(paths[i]);
        mem_free(paths[i]);
    }
    rmdir(more);
    rmdir(dir);
    mem_free(more);
}

/* The files beside it, and what is too large or too deep. */
static void test_what_lies_beside_is_checked(void **state)
{
    enum { TEMPLATE = 1 << 20, DEEP = 200000 };
    static const char odd_ends[] = "{\"eos_token_id\":[-1,99999999,\"x\",null]}";
    struct error e = {0};
    struct buffer b;
    (void)state;
    buffer_init(&b, 64 << 20);
    assert_int_equal(open_with("tokenizer_config.json", "[", 1, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.text, "tokenizer_config.json"));
    assert_int_equal(open_with("generation_config.json", "7", 1, &e), ERR_CORRUPT);
    assert_int_equal(open_with("generation_config.json", odd_ends, strlen(odd_ends), &e), 0);
    buffer_printf(&b, "{\"chat_template\":\"");
    memset(buffer_grow(&b, TEMPLATE + 1), 'x', TEMPLATE + 1);
    buffer_printf(&b, "\"}");
    assert_int_equal(open_with("tokenizer_config.json", b.data, b.len, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "chat template has more than 1048576 bytes"));
    assert_int_equal(open_with("chat_template.jinja", b.data, b.len, &e), ERR_LIMIT);
    assert_non_null(strstr(e.text, "chat_template.jinja"));
    buffer_clear(&b);
    memset(buffer_grow(&b, DEEP), '[', DEEP);
    assert_int_equal(open_with("tokenizer_config.json", b.data, b.len, &e), ERR_CORRUPT);
    assert_int_equal(open_text(b.data, b.len, &e), ERR_CORRUPT);
    buffer_clear(&b);
    memset(buffer_grow(&b, (16 << 20) + 1), ' ', (16 << 20) + 1);
    assert_int_equal(open_with("tokenizer_config.json", b.data, b.len, &e), ERR_LIMIT);
    buffer_close(&b);
}

static void test_damaged_files_do_no_harm(void **state)
{
    (void)state;
    char json[] = FILE_OF("{\"type\":\"NFC\"}", "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\"}", BPE);
    for (size_t i = 0; i < sizeof(json) - 1; i++) {
        static const char odd[] = {'0', '"', ']', '}', '-'};
        char keep = json[i];
        for (size_t k = 0; k < COUNTOF(odd); k++) {
            struct error e = {0};
            json[i] = odd[k];
            if (open_text(json, sizeof(json) - 1, &e) != 0)
                assert_true(strlen(e.text) > 0);
        }
        json[i] = keep;
        assert_int_not_equal(open_text(json, i, NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded_ids_are_given),
        cmocka_unit_test(test_the_demo_is_the_same_in_both_forms),
        cmocka_unit_test(test_wrong_files_are_refused),
        cmocka_unit_test(test_templates_with_names),
        cmocka_unit_test(test_what_lies_beside_is_checked),
        cmocka_unit_test(test_damaged_files_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
