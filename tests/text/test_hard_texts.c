/* test_hard_texts: every tokenizer there is gives back random bytes, and encodes texts made to be hard in linear time.
 *
 * Eight times the text may take 24 times the processor time; were something quadratic, it would take 64 times.
 * What is compared is this process's own time, so that a busy machine does not count.                       */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "tests/text/goldens.h"
#include "text/tokenizer.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"
#define FOLDERS "tests/data/tokenizers"

enum { TOKENIZERS_MAX = 32, SMALL = 32 << 10, TIMES = 8, BOUND = 24, ROUNDS = 600, TEXT_MAX = 256 };

struct tokenizers {
    struct tokenizer *list[TOKENIZERS_MAX];
    char *names[TOKENIZERS_MAX];
    bool exact[TOKENIZERS_MAX];      /* nothing is normalised away */
    bool lost[TOKENIZERS_MAX][256];  /* bytes that have no token */
    size_t n;
};

static void keep(struct tokenizers *all, struct tokenizer *t, char *name, bool exact)
{
    assert_true(all->n < TOKENIZERS_MAX);
    for (int byte = 0; byte < 256; byte++) {
        char one = (char)byte;
        struct token_list ids;
        assert_int_equal(tokenizer_encode(t, &one, 1, 0, &ids, NULL), 0);
        all->lost[all->n][byte] = ids.count == 0;
        token_list_free(&ids);
    }
    all->list[all->n] = t;
    all->names[all->n] = name;
    all->exact[all->n++] = exact;
}

static void open_file(struct tokenizers *all, const char *path)
{
    struct gguf *g;
    struct tokenizer *t;
    assert_int_equal(gguf_open(&g, path, NULL), 0);
    assert_int_equal(tokenizer_open(&t, g, NULL), 0);
    gguf_close(&g);
    keep(all, t, mem_strdup(path), true);
}

/* What a folder of `dir` opens as: files, or folders. */
static void open_dir(struct tokenizers *all, const char *dir, bool folders)
{
    DIR *d = opendir(dir);
    if (!d)
        print_message("no %s: left out\n", dir);
    for (struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d)) {
        size_t len = strlen(entry->d_name);
        char *path = path_join(dir, entry->d_name), *json = path_join(path, "tokenizer.json");
        struct tokenizer *t;
        if (!folders && len > 5 && strcmp(entry->d_name + len - 5, ".gguf") == 0)
            open_file(all, path);
        if (folders && path_exists(json)) {
            assert_int_equal(tokenizer_open_folder(&t, path, NULL), 0);
            keep(all, t, mem_strdup(path), false);
        }
        mem_free(path);
        mem_free(json);
    }
    if (d)
        closedir(d);
}

static int open_all(void **state)
{
    static struct tokenizers all;
    char *goldens = goldens_dir("tokenizers");
    open_file(&all, DEMO);
    open_dir(&all, goldens, false);
    open_dir(&all, FOLDERS, true);
    mem_free(goldens);
    *state = &all;
    return all.n > 4 ? 0 : -1;
}

static int close_all(void **state)
{
    struct tokenizers *all = *state;
    for (size_t i = 0; i < all->n; i++) {
        tokenizer_close(&all->list[i]);
        mem_free(all->names[i]);
    }
    return 0;
}

/* ---- there and back ---- */

static size_t put_utf8(uint32_t c, char *out)
{
    static const uint8_t heads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; n > 1 && i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 63));
    out[0] = (char)(heads[n == 1 ? 0 : n] | c);
    return n;
}

/* Any characters in two rounds of three, of all lengths of UTF-8; any bytes in the third. */
static size_t random_text(struct random_state *r, int round, char *out)
{
    size_t len = 0, n = random_u64(r) % (TEXT_MAX / 4);
    for (size_t i = 0; i < n; i++) {
        static const uint32_t tops[] = {0x80, 0x80, 0x800, 0x10000, 0x110000};
        uint32_t c = (uint32_t)(random_u64(r) % tops[random_u64(r) % COUNTOF(tops)]);
        if (round % 3 == 2)
            out[len++] = (char)c;
        else if (c < 0xD800 || c > 0xDFFF)
            len += put_utf8(c, out + len);
    }
    return len;
}

static void check_text(const struct tokenizers *all, size_t i, const char *text, size_t len, unsigned flags)
{
    struct token_list ids;
    struct buffer back;
    char want[TEXT_MAX];
    size_t n = 0;
    buffer_init(&back, 1 << 20);
    assert_int_equal(tokenizer_encode(all->list[i], text, len, flags, &ids, NULL), 0);
    tokenizer_decode_list(all->list[i], ids.ids, ids.count, true, &back);
    assert_false(buffer_failed(&back));
    for (size_t k = 0; k < len; k++)
        if (!all->lost[i][(unsigned char)text[k]])
            want[n++] = text[k];
    if (all->exact[i] && (back.len != n || memcmp(buffer_text(&back), want, n) != 0))
        fail_msg("%s: a text of %zu bytes does not come back", all->names[i], len);
    buffer_close(&back);
    token_list_free(&ids);
}

static void test_most_bytes_have_a_token(void **state)
{
    const struct tokenizers *all = *state;
    for (size_t i = 0; i < all->n; i++) {
        int lost = 0;
        for (int byte = 0; byte < 256; byte++)
            lost += all->lost[i][byte];
        print_message("    %s: %d bytes without\n", all->names[i], lost);
        if (all->exact[i])
            assert_true(lost <= 32); /* those that UTF-8 never uses, and some that few scripts do */
    }
}

static void test_any_text_comes_back(void **state)
{
    const struct tokenizers *all = *state;
    struct random_state r;
    random_seed(&r, 31);
    for (int round = 0; round < ROUNDS; round++) {
        char text[TEXT_MAX];
        size_t len = random_text(&r, round, text);
        for (size_t i = 0; i < all->n; i++)
            check_text(all, i, text, len, round % 2 ? ENCODE_SPECIAL : 0);
    }
}

/* ---- hard texts ---- */

static double seconds_of(const struct tokenizer *t, const char *unit, size_t bytes)
{
    struct token_list ids;
    struct timespec a, b;
    size_t n = strlen(unit);
    char *text = mem_array(bytes + 1, 1);
    for (size_t i = 0; i < bytes; i++)
        text[i] = unit[i % n];
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    assert_int_equal(tokenizer_encode(t, text, bytes, ENCODE_SPECIAL, &ids, NULL), 0);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    token_list_free(&ids);
    mem_free(text);
    return (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
}

static void test_hard_texts_take_linear_time(void **state)
{
    static const char *const units[] = {
        "a", "ab", "aA", "1", "12345 ", " ", "\n", " \n", "\t ", "'", "_", "<|", "<", "a1", "\xFF", "\xE4\xB8\xAD",
        "e\xCC\x81", "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7", /* a family */
        "\xE1\x84\x80\xE1\x85\xA1", "\xCC\x81",
    };
    const struct tokenizers *all = *state;
    const double noise = 0.003;
    for (size_t i = 0; i < all->n; i++) {
        for (size_t k = 0; k < COUNTOF(units); k++) {
            double small = seconds_of(all->list[i], units[k], SMALL);
            double large = seconds_of(all->list[i], units[k], SMALL * TIMES);
            small = small < noise ? noise : small;
            if (large > small * BOUND)
                fail_msg("%s: %d times \"%s\" take %.0f ms, an eighth %.1f ms", all->names[i], SMALL * TIMES, units[k],
                         large * 1e3, small * 1e3);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_most_bytes_have_a_token),
        cmocka_unit_test(test_any_text_comes_back),
        cmocka_unit_test(test_hard_texts_take_linear_time),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
