/* test_hub: sources, listings and choices, without a network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "coordinator/pull/hub.h"
#include "coordinator/pull/pull.h"

/* ---- sources ---- */

static void sources_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *repo, *revision, *quant;
    } good[] = {
        {"hf:Qwen/Qwen3-0.6B-GGUF", "Qwen/Qwen3-0.6B-GGUF", "main", ""},
        {"hf:a/b:Q4_K_M", "a/b", "main", "Q4_K_M"},
        {"HF:a/b@v1.0:Q8_0", "a/b", "v1.0", "Q8_0"},
        {"hf:a/b@refs/pr/7", "a/b", "refs/pr/7", ""},
        {"hf.co/a/b:latest", "a/b", "main", "latest"},
        {"https://huggingface.co/a/b", "a/b", "main", ""},
    };
    for (size_t i = 0; i < COUNTOF(good); i++) {
        struct hub_source s;
        assert_true(hub_is_source(good[i].text));
        assert_int_equal(hub_source_parse(&s, good[i].text, NULL), 0);
        assert_string_equal(s.repo, good[i].repo);
        assert_string_equal(s.revision, good[i].revision);
        assert_string_equal(s.quant, good[i].quant);
    }
}

static void sources_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "hf:", "hf:a", "hf:a/", "hf:/b", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a/b@", "hf:a/b:", "hf:a/b@../x",
        "hf:a/b:../x", "hf:a/b:x/y", "hf:a b/c", "hf:a/b?x", "hf:a/b#x", "hf:a/b@x//y", "hf:a/b%2f", "hf:.a/b",
        "a/b", "",
    };
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct hub_source s;
        assert_int_equal(hub_source_parse(&s, bad[i], NULL), ERR_INVALID);
    }
}

static void names_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a:b", "a/b/c:latest", "Qwen3-0.6B_x:Q4_K_M"};
    static const char *const bad[] = {"", "/a", "a/", "a//b", "a/b/c/d", "..", "a/../b", "a:b:c", "a:", ":a", ".a",
                                      "a/.b:c", "a b", "a\nb", "-a", "a:b/c", "a\\b"};
    for (size_t i = 0; i < COUNTOF(good); i++)
        assert_int_equal(model_name_check(good[i], NULL), 0);
    for (size_t i = 0; i < COUNTOF(bad); i++)
        assert_int_equal(model_name_check(bad[i], NULL), ERR_INVALID);
}

static void layers_are_read(void **state)
{
    (void)state;
    uint32_t a, b;
    assert_int_equal(pull_parse_layers("4:8", &a, &b, NULL), 0);
    assert_int_equal(a, 4);
    assert_int_equal(b, 8);
    static const char *const bad[] = {"", "4", "4:", ":8", "8:4", "4:4", "-1:4", "4:8x", "a:b",
                                      "0:99999999999999999999"};
    for (size_t i = 0; i < COUNTOF(bad); i++)
        assert_int_equal(pull_parse_layers(bad[i], &a, &b, NULL), ERR_INVALID);
}

/* ---- choices ---- */

static void add(struct hub_listing *l, const char *path)
{
    char *text = mem_printf("[{\"type\": \"file\", \"path\": \"%s\", \"size\": 7}]", path);
    assert_int_equal(hub_add_page(l, text, strlen(text), NULL), 0);
    mem_free(text);
}

/* Paths are separated by blanks. */
static struct hub_listing listing(const char *paths, const char *quant)
{
    struct hub_listing l = {.source = {.repo = "a/b"}};
    snprintf(l.source.quant, sizeof(l.source.quant), "%s", quant);
    while (*paths) {
        char path[256];
        size_t n = strcspn(paths, " ");
        snprintf(path, sizeof(path), "%.*s", (int)n, paths);
        add(&l, path);
        paths += n + strspn(paths + n, " ");
    }
    return l;
}

/* The chosen paths, separated by blanks; what was wrong with a '!' before it. */
static char *chosen(const char *paths, const char *quant, const char *index)
{
    struct hub_listing l = listing(paths, quant);
    struct hub_choice c;
    struct error e;
    char *out = mem_strdup("");
    if (hub_choose(&c, &l, index, &e) != 0) {
        mem_free(out);
        out = mem_printf("!%s", e.text);
    }
    for (size_t i = 0; i < c.n; i++) {
        char *longer = mem_printf("%s%s%s", out, i > 0 ? " " : "", l.files[c.files[i]].path);
        mem_free(out);
        out = longer;
    }
    hub_choice_close(&c);
    hub_listing_close(&l);
    return out;
}

static void expect(const char *paths, const char *quant, const char *index, const char *want)
{
    char *got = chosen(paths, quant, index);
    if (want[0] == '!')
        assert_non_null(strstr(got, want + 1));
    else
        assert_string_equal(got, want);
    mem_free(got);
}

static void gguf_files_are_chosen_as_people_write_them(void **state)
{
    (void)state;
    static const char many[] = "README.md m-Q8_0.gguf m-Q4_K_M.gguf m-UD-Q4_K_XL.gguf m-BF16.gguf mmproj-F16.gguf "
                               "m.imatrix.gguf m-Q4_K_S.gguf";
    expect(many, "", NULL, "m-Q4_K_M.gguf");
    expect(many, "q8_0", NULL, "m-Q8_0.gguf");
    expect(many, "bf16", NULL, "m-BF16.gguf");
    expect(many, "UD-Q4_K_XL", NULL, "m-UD-Q4_K_XL.gguf");
    expect(many, "m-Q4_K_S.gguf", NULL, "m-Q4_K_S.gguf");
    expect(many, "Q5_K_M", NULL, "!no GGUF file for \"Q5_K_M\"; there is Q8_0");
    expect("one.gguf", "", NULL, "one.gguf");
    expect("a.gguf b.gguf", "", NULL, "!several GGUF files");
    expect("a.gguf b.gguf", "b", NULL, "b.gguf");
    expect("a-Q4_0.gguf b-Q4_0.gguf", "Q4_0", NULL, "!several files for Q4_0");
    expect("x/m-Q4_0-00001-of-00002.gguf x/m-Q4_0-00002-of-00002.gguf", "", NULL,
           "x/m-Q4_0-00001-of-00002.gguf x/m-Q4_0-00002-of-00002.gguf");
    expect("m-Q4_0-00001-of-00002.gguf", "Q4_0", NULL, "!file 2 of 2");
    expect("UD-IQ1_S/m-00001-of-00001.gguf m-Q8_0.gguf", "ud-iq1_s", NULL, "UD-IQ1_S/m-00001-of-00001.gguf");
    expect("README.md", "", NULL, "!no model");
}

static void folders_are_chosen_with_what_they_need(void **state)
{
    (void)state;
    static const char index[] = "{\"weight_map\": {\"a\": \"m-2.safetensors\", \"b\": \"m-1.safetensors\"}}";
    expect("config.json model.safetensors tokenizer.json x.py sub/config.json", "", NULL,
           "config.json tokenizer.json model.safetensors");
    expect("config.json model.safetensors.index.json m-1.safetensors m-2.safetensors m-3.safetensors", "", index,
           "config.json model.safetensors.index.json m-1.safetensors m-2.safetensors");
    expect("config.json model.safetensors.index.json m-1.safetensors", "", index, "!not in the repository");
    expect("config.json model.safetensors.index.json", "", "{\"weight_map\": {\"a\": \"../m\"}}",
           "!not in the repository");
    expect("config.json model.safetensors.index.json", "", "[", "!no weight_map");
    expect("config.json model.safetensors", "Q4_0", NULL, "!have one type");
}

static void labels_are_found_in_names(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"m-Q4_K_M.gguf", "Q4_K_M"}, {"m.q8_0.gguf", "Q8_0"}, {"Qwen3-8B.gguf", ""}, {"m.gguf", ""},
        {"m-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"}, {"F16/m-00001-of-00009.gguf", "F16"}, {"gpt-oss-20b-mxfp4.gguf", "MXFP4"},
    };
    for (size_t i = 0; i < COUNTOF(pairs); i++) {
        char quant[HUB_QUANT_MAX + 1];
        hub_quant_of(pairs[i][0], quant);
        assert_string_equal(quant, pairs[i][1]);
    }
}

static void listings_that_are_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "{}", "[1]", "[{}]", "[{\"type\": \"file\"}]", "[{\"type\": \"file\", \"path\": \"a\"}]",
        "[{\"type\": \"file\", \"path\": \"a\", \"size\": 1e3}]",
        "[{\"type\": \"file\", \"path\": \".\", \"size\": 1}]",
        "[{\"type\": \"file\", \"path\": \"a/\", \"size\": 1}]", "[{\"type\": \"file\", \"path\": \"\", \"size\": 1}]",
        "[{\"type\": \"file\", \"path\": \"a\\u0000b\", \"size\": 1}]",
        "[{\"type\": \"file\", \"path\": \"a\", \"size\": 1, \"lfs\": {\"oid\": \"x\"}}]",
    };
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct hub_listing l = {.source = {.repo = "a/b"}};
        assert_int_equal(hub_add_page(&l, bad[i], strlen(bad[i]), NULL), ERR_CORRUPT);
        hub_listing_close(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sources_are_read),
        cmocka_unit_test(sources_that_are_none_are_refused),
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(layers_are_read),
        cmocka_unit_test(gguf_files_are_chosen_as_people_write_them),
        cmocka_unit_test(folders_are_chosen_with_what_they_need),
        cmocka_unit_test(labels_are_found_in_names),
        cmocka_unit_test(listings_that_are_none_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
