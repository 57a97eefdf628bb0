/* test_tokenizer: ids that other implementations recorded, round trips of any bytes, and what text may not do.
 *
 * Beside the recorded cases, random text is encoded and compared with the
 * plainest possible statement of what merging means.                         */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "tests/text/goldens.h"
#include "text/tokenizer.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"
#define SEPARATOR "\n__ggml_vocab_test__\n"

static struct tokenizer *open_tokenizer(const char *path, int want)
{
    struct gguf *g;
    struct tokenizer *t;
    struct error e = {0};
    if (gguf_open(&g, path, &e) != 0)
        fail_msg("%s", e.text);
    int status = tokenizer_open(&t, g, &e);
    gguf_close(&g);
    if (status != want)
        fail_msg("%s: %s, not %s: %s", path, status_name(status), status_name(want), e.text);
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

static char *decode(const struct tokenizer *t, struct token_list ids, size_t *len)
{
    struct buffer b;
    buffer_init(&b, (size_t)1 << 30);
    tokenizer_decode_list(t, ids.ids, ids.count, true, &b);
    assert_false(buffer_failed(&b));
    return buffer_take(&b, len);
}

static void check_round_trip(const struct tokenizer *t, const char *text, size_t len, struct token_list ids)
{
    size_t back_len;
    char *back = decode(t, ids, &back_len);
    assert_int_equal(back_len, len);
    assert_memory_equal(back, text, len);
    mem_free(back);
}

/* ---- recorded ids ---- */

/* One line of ids against one case. */
static void check_case(const struct tokenizer *t, const char *name, const char *text, size_t len, const char *line)
{
    struct token_list ids = encode(t, text, len, ENCODE_SPECIAL);
    size_t i = 0;
    for (const char *at = line; *at && *at != '\n';) {
        char *end;
        long want = strtol(at, &end, 10);
        if (end == at)
            break;
        if (i >= ids.count || ids.ids[i] != want)
            fail_msg("%s: token %zu of \"%.*s\" is %d, not %ld", name, i, (int)len, text,
                     i < ids.count ? ids.ids[i] : -1, want);
        i++;
        at = end;
    }
    if (i != ids.count)
        fail_msg("%s: %zu tokens of \"%.*s\", not %zu", name, ids.count, (int)len, text, i);
    check_round_trip(t, text, len, ids);
    token_list_free(&ids);
}

/* Every case is followed by the separator. */
static size_t check_cases(const struct tokenizer *t, const char *name, const char *in, const char *out)
{
    size_t n = 0;
    for (; *in; n++) {
        const char *end = strstr(in, SEPARATOR);
        assert_non_null(end);
        assert_non_null(out);
        check_case(t, name, in, (size_t)(end - in), out);
        in = end + strlen(SEPARATOR);
        out = strchr(out, '\n');
        out = out ? out + 1 : NULL;
    }
    return n;
}

static char *read_beside(const char *path, const char *suffix)
{
    struct error e = {0};
    char *data, *full = mem_printf("%s%s", path, suffix);
    size_t len;
    if (path_read(full, 1 << 24, &data, &len, &e) != 0)
        fail_msg("%s", e.text);
    mem_free(full);
    return data;
}

static void check_golden(const char *path)
{
    struct tokenizer *t = open_tokenizer(path, 0);
    char *in = read_beside(path, ".inp"), *out = read_beside(path, ".out");
    assert_true(check_cases(t, path, in, out) > 1);
    mem_free(in);
    mem_free(out);
    tokenizer_close(&t);
    assert_null(t);
}

static void test_goldens_give_the_recorded_ids(void **state)
{
    (void)state;
    char *dir = goldens_dir("tokenizers");
    DIR *d = opendir(dir);
    if (!d) {
        print_message("no %s: skipped\n", dir);
        mem_free(dir);
        skip();
    }
    size_t n = 0;
    for (struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        size_t len = strlen(entry->d_name);
        if (len < 5 || strcmp(entry->d_name + len - 5, ".gguf") != 0)
            continue;
        char *path = path_join(dir, entry->d_name);
        check_golden(path);
        mem_free(path);
        n++;
    }
    closedir(d);
    mem_free(dir);
    assert_true(n > 0);
}

static void check_ids(struct token_list ids, const json_t *want, const char *text)
{
    if (ids.count != json_array_size(want))
        fail_msg("%zu tokens of \"%s\", not %zu", ids.count, text, json_array_size(want));
    for (size_t i = 0; i < ids.count; i++)
        if (ids.ids[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("token %zu of \"%s\" is %d", i, text, ids.ids[i]);
}

static void test_demo_prompts_give_the_recorded_ids(void **state)
{
    const struct tokenizer *t = *state;
    json_t *all = json_load_file("tests/data/answers.json", 0, NULL), *one;
    size_t i;
    assert_true(json_array_size(all) > 0);
    json_array_foreach(all, i, one) {
        const char *prompt = json_string_value(json_object_get(one, "prompt"));
        struct token_list ids = encode(t, prompt, strlen(prompt), ENCODE_SPECIAL);
        check_ids(ids, json_object_get(one, "prompt_tokens"), prompt);
        check_round_trip(t, prompt, strlen(prompt), ids);
        token_list_free(&ids);
    }
    json_decref(all);
}

static void test_any_bytes_come_back(void **state)
{
    const struct tokenizer *t = *state;
    struct random_state r;
    random_seed(&r, 1);
    for (int round = 0; round < 2000; round++) {
        char bytes[96];
        size_t len = random_u64(&r) % sizeof(bytes);
        for (size_t i = 0; i < len; i++)
            bytes[i] = (char)(random_u64(&r) % (round % 3 ? 256 : 100));
        unsigned flags = round % 2 ? ENCODE_SPECIAL : 0;
        struct token_list ids = encode(t, bytes, len, flags);
        check_round_trip(t, bytes, len, ids);
        token_list_free(&ids);
    }
}

static void test_too_much_text_is_refused(void **state)
{
    struct token_list ids;
    struct error e;
    assert_int_equal(tokenizer_encode(*state, "", (size_t)TOKENIZER_TEXT_MAX + 1, 0, &ids, &e), ERR_LIMIT);
    assert_null(ids.ids);
}

static int open_demo(void **state)
{
    *state = open_tokenizer(DEMO, 0);
    return 0;
}

static int close_demo(void **state)
{
    struct tokenizer *t = *state;
    tokenizer_close(&t);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens_give_the_recorded_ids),
        cmocka_unit_test(test_demo_prompts_give_the_recorded_ids),
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_too_much_text_is_refused),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
