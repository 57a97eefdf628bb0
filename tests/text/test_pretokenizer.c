/* test_pretokenizer: the pieces of every kind of row against recorded vectors and against the published expressions,
 * and texts that are hard to split. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <pcre2.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/random.h"
#include "text/pretokenizer.h"

/* Pieces are compared as one text in which each is followed by this byte, which is in no case. */
#define MARK "\x1F"

static void take_piece(void *user, const char *piece, size_t len)
{
    struct buffer *b = user;
    assert_true(len > 0);
    buffer_add(b, piece, len);
    buffer_add_text(b, MARK);
}

static struct pretokenizer *open_row(const char *name)
{
    struct pretokenizer *p;
    struct error e = {0};
    if (pretokenizer_open(&p, name, strlen(name), &e) != 0)
        fail_msg("%s", e.text);
    return p;
}

static void split(const struct pretokenizer *p, const char *text, size_t len, struct buffer *pieces)
{
    struct splitter *s;
    struct error e = {0};
    assert_int_equal(splitter_open(&s, p, len, take_piece, pieces, &e), 0);
    if (splitter_split(s, text, len, &e) != 0)
        fail_msg("%s", e.text);
    splitter_close(&s);
}

/* ---- recorded vectors ---- */

#define T0 "Hello  world\n\n  x1234!"
#define T1 "I'LL don't HelloWorld's"
#define T2 "int main(){\n\treturn 42;\n}\n"
#define T3 "\u4fa1\u683c\u306f2024\u5e7412\u6708\u3001a+b=c..."
#define T4 "\u00e9\u00c0 na\u00efve \u0421\u0421\u0421\u0420\r\n ok   "

/* Rows separated by spaces; pieces separated by '|', which is in none of the texts. */
static const struct {
    const char *rows, *text, *pieces;
} vectors[] = {
    {"llama-bpe gpt-4o deepseek-v3 kimi-k2", T0, "Hello| | world|\n\n| | x|123|4|!"},
    {"qwen2 tekken bailingmoe", T0, "Hello| | world|\n\n| | x|1|2|3|4|!"},
    {"gpt-2", T0, "Hello| | world|\n\n | x|1234|!"},
    {"starcoder", T0, "Hello| | world|\n\n | x|1|2|3|4|!"},
    {"deepseek-llm", T0, "Hello| | world|\n|\n| | x|1234|!"},
    {"llama-bpe qwen2 deepseek-v3 bailingmoe", T1, "I|'LL| don|'t| HelloWorld|'s"},
    {"gpt-4o kimi-k2", T1, "I'LL| don't| Hello|World's"},
    {"tekken", T1, "I|'LL| don|'t| Hello|World|'s"},
    {"gpt-2 starcoder", T1, "I|'|LL| don|'t| HelloWorld|'s"},
    {"deepseek-llm", T1, "I|'|LL| don|'|t| HelloWorld|'|s"},
    {"llama-bpe gpt-4o deepseek-v3 kimi-k2", T2, "int| main|(){\n|\treturn| |42|;\n|}\n"},
    {"qwen2 tekken bailingmoe", T2, "int| main|(){\n|\treturn| |4|2|;\n|}\n"},
    {"gpt-2", T2, "int| main|(){|\n|\t|return| 42|;|\n|}|\n"},
    {"starcoder", T2, "int| main|(){|\n|\t|return| |4|2|;|\n|}|\n"},
    {"deepseek-llm", T2, "int| main|(){|\n|\treturn| |42|;|\n|}|\n"},
    {"llama-bpe gpt-4o", T3, "\u4fa1\u683c\u306f|202|4|\u5e74|12|\u6708|\u3001a|+b|=c|..."},
    {"qwen2 tekken bailingmoe", T3, "\u4fa1\u683c\u306f|2|0|2|4|\u5e74|1|2|\u6708|\u3001a|+b|=c|..."},
    {"gpt-2 deepseek-llm", T3, "\u4fa1\u683c\u306f|2024|\u5e74|12|\u6708|\u3001|a|+|b|=|c|..."},
    {"starcoder", T3, "\u4fa1\u683c\u306f|2|0|2|4|\u5e74|1|2|\u6708|\u3001|a|+|b|=|c|..."},
    {"deepseek-v3", T3, "\u4fa1\u683c\u306f|202|4|\u5e74|12|\u6708|\u3001|a|+b|=c|..."},
    {"kimi-k2", T3, "\u4fa1\u683c|\u306f|202|4|\u5e74|12|\u6708|\u3001a|+b|=c|..."},
    {"llama-bpe qwen2 gpt-2 starcoder deepseek-v3 bailingmoe", T4,
     "\u00e9\u00c0| na\u00efve| \u0421\u0421\u0421\u0420|\r\n| ok|   "},
    {"gpt-4o tekken kimi-k2", T4, "\u00e9|\u00c0| na\u00efve| \u0421\u0421\u0421\u0420|\r\n| ok|   "},
    {"deepseek-llm", T4, "\u00e9\u00c0| na|\u00ef|ve| \u0421\u0421\u0421\u0420|\r|\n| ok|   "},
};

static void check_vector(const char *row, const char *text, const char *pieces)
{
    struct buffer got, want;
    buffer_init(&got, 1 << 16);
    buffer_init(&want, 1 << 16);
    struct pretokenizer *p = open_row(row);
    split(p, text, strlen(text), &got);
    for (const char *at = pieces; *at; at++)
        buffer_add(&want, *at == '|' ? MARK : at, 1);
    buffer_add_text(&want, MARK);
    if (strcmp(buffer_text(&got), buffer_text(&want)) != 0)
        fail_msg("%s: %s\nnot %s", row, buffer_text(&got), buffer_text(&want));
    pretokenizer_close(&p);
    buffer_close(&got);
    buffer_close(&want);
}

static void test_pieces_are_the_recorded_ones(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNTOF(vectors); i++) {
        for (const char *at = vectors[i].rows; *at;) {
            size_t len = strcspn(at, " ");
            char *row = mem_strndup(at, len);
            check_vector(row, vectors[i].text, vectors[i].pieces);
            mem_free(row);
            at += len + (at[len] == ' ');
        }
    }
}

/* ---- the published expressions ---- */

#define CONTR "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define TAIL "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UP "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOW "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define HAN "[\\x{4E00}-\\x{9FFF}]"
#define NOT_HAN(set) "(?:(?!" HAN ")" set ")"

/* As the models' own files have them (Kimi's intersections as lookaheads), for texts without U+180E. */
static const struct {
    const char *row, *splits[5];
} published[] = {
    {"gpt-2", {GPT2}},
    {"llama-bpe", {CONTR "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL}},
    {"qwen2", {CONTR "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL}},
    {"gpt-4o", {"[^\\r\\n\\p{L}\\p{N}]?" UP "*" LOW "+" CONTR "?|[^\\r\\n\\p{L}\\p{N}]?" UP "+" LOW "*" CONTR
                "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL}},
    {"kimi-k2", {HAN "+|[^\\r\\n\\p{L}\\p{N}]?" NOT_HAN(UP) "*" NOT_HAN(LOW) "+" CONTR "?|[^\\r\\n\\p{L}\\p{N}]?"
                 NOT_HAN(UP) "+" NOT_HAN(LOW) "*" CONTR "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL}},
    {"bailingmoe", {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
                    "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {"deepseek-coder", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+",
                        "[\\x{4E00}-\\x{9FA5}\\x{0800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+", "\\p{N}"}},
    {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

/* Split one marked-up list of pieces again, in the plainest way. */
static void split_again(const char *expression, struct buffer *pieces)
{
    int code;
    size_t at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    assert_non_null(re);
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    struct buffer out;
    buffer_init(&out, 1 << 20);
    for (const char *piece = buffer_text(pieces); *piece;) {
        size_t len = strcspn(piece, MARK), done = 0;
        while (done < len && pcre2_match(re, (PCRE2_SPTR)piece, len, done, 0, data, NULL) > 0) {
            const PCRE2_SIZE *found = pcre2_get_ovector_pointer(data);
            if (found[0] > done)
                take_piece(&out, piece + done, found[0] - done);
            take_piece(&out, piece + found[0], found[1] - found[0]);
            done = found[1];
        }
        if (done < len)
            take_piece(&out, piece + done, len - done);
        piece += len + 1;
    }
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    buffer_close(pieces);
    *pieces = out;
}

static const char *const letters[] = {
    "a", "b", "A", "B", "s", "t", "'s", "'LL", "'", "1", "23", " ", " ", "  ", "\n", "\r\n", "\t", "!", "/", "+", "`",
    "$", "_", "\u00e9", "\u00c0", "\u01c5", "\u02b0", "\u0301", "\u3042", "\u4e2d", "\u6587", "\u00a0", "\u3000",
    "\u2028", "\xC2\x85", "\u0660", "\u00bd", "\u20ac", "\U0001F999", "\uac00", "\u0e01",
};

static void test_pieces_are_those_of_the_published_expressions(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 5);
    for (size_t i = 0; i < COUNTOF(published); i++) {
        struct pretokenizer *p = open_row(published[i].row);
        for (int round = 0; round < 400; round++) {
            struct buffer text, got, want;
            buffer_init(&text, 1 << 12);
            buffer_init(&got, 1 << 12);
            buffer_init(&want, 1 << 12);
            for (uint64_t k = 1 + random_u64(&r) % 14; k > 0; k--)
                buffer_add_text(&text, letters[random_u64(&r) % COUNTOF(letters)]);
            take_piece(&want, text.data, text.len);
            for (size_t k = 0; k < COUNTOF(published[i].splits) && published[i].splits[k]; k++)
                split_again(published[i].splits[k], &want);
            split(p, text.data, text.len, &got);
            if (strcmp(buffer_text(&got), buffer_text(&want)) != 0)
                fail_msg("%s: \"%s\" is\n%s\nnot\n%s", published[i].row, text.data, buffer_text(&got),
                         buffer_text(&want));
            buffer_close(&text);
            buffer_close(&got);
            buffer_close(&want);
        }
        pretokenizer_close(&p);
    }
}

/* ---- hard texts ---- */

/* One row of each kind. */
static const char *const kinds[] = {
    "default", "llama-bpe", "qwen2", "qwen35", "gpt-4o", "tekken", "deepseek-v3", "deepseek-llm", "deepseek-coder",
    "kimi-k2", "gpt-2", "starcoder", "falcon", "bailingmoe", "seed-coder", "minicpm5", "bloom", "viking", "laguna",
    "youtu",
};
static const char *const units[] = {
    " ", "a", "A", "\u3042", "\u3042A", "A\u3042", "\u4e2d", "\u4e2da", "1", "\n", " \n", "\n ", "'", "'s", "!",
    "\u0301", "\u00a0", "\x80", "a\xFF", "\xE3\x81", "\u00ef",
};

static void count_bytes(void *user, const char *piece, size_t len)
{
    size_t *left = user;
    assert_non_null(piece);
    assert_true(len <= *left);
    *left -= len;
}

static void check_hard(const struct pretokenizer *p, const char *unit, const char *last, size_t n)
{
    struct splitter *s;
    struct error e = {0};
    struct buffer text;
    buffer_init(&text, n + 16);
    while (text.len < n)
        buffer_add_text(&text, unit);
    buffer_add_text(&text, last);
    size_t left = text.len;
    assert_int_equal(splitter_open(&s, p, text.len, count_bytes, &left, &e), 0);
    if (splitter_split(s, text.data, text.len, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(left, 0);
    splitter_close(&s);
    buffer_close(&text);
}

/* Were one of them quadratic, this would take minutes. */
static void test_no_text_is_too_hard(void **state)
{
    (void)state;
    for (size_t k = 0; k < COUNTOF(kinds); k++) {
        struct pretokenizer *p = open_row(kinds[k]);
        for (size_t u = 0; u < COUNTOF(units); u++) {
            check_hard(p, units[u], "x", 1 << 17);
            check_hard(p, units[u], "", 1 << 10);
        }
        pretokenizer_close(&p);
    }
}

static void test_any_bytes_come_back(void **state)
{
    (void)state;
    struct random_state r;
    random_seed(&r, 9);
    for (size_t k = 0; k < COUNTOF(kinds); k++) {
        struct pretokenizer *p = open_row(kinds[k]);
        for (int round = 0; round < 50; round++) {
            char bytes[64];
            size_t len = random_u64(&r) % sizeof(bytes), n = 0;
            struct buffer pieces;
            buffer_init(&pieces, 1 << 12);
            for (size_t i = 0; i < len; i++) {
                bytes[i] = (char)(random_u64(&r) % (round % 2 ? 256 : 128));
                bytes[i] = bytes[i] == *MARK ? 'm' : bytes[i];
            }
            split(p, bytes, len, &pieces);
            for (size_t i = 0; i < pieces.len; i++)
                if (pieces.data[i] != *MARK)
                    assert_int_equal(pieces.data[i], bytes[n++]);
            assert_int_equal(n, len);
            buffer_close(&pieces);
        }
        pretokenizer_close(&p);
    }
}

static void test_unknown_rows_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"", "gpt", "gpt-22", "no-such-thing", "gemma5"};
    for (size_t i = 0; i < COUNTOF(names); i++) {
        struct pretokenizer *p;
        struct error e = {0};
        assert_int_equal(pretokenizer_open(&p, names[i], strlen(names[i]), &e), ERR_UNSUPPORTED);
        assert_non_null(strstr(e.text, names[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_are_the_recorded_ones),
        cmocka_unit_test(test_pieces_are_those_of_the_published_expressions),
        cmocka_unit_test(test_no_text_is_too_hard),
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_unknown_rows_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
