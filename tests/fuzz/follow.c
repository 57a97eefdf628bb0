/* follow: masks agree with what is accepted, token by token; forced text is accepted; ends are ends, also when tokens
 * run short. */
#include "tests/fuzz/follow.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

enum { STEPS = 12, SINGLE = 256, BITS_MAX = 64, REST_MAX = 100 };

/* All bytes, and some that are several. */
struct token_trie *follow_trie(void)
{
    static struct token_trie *trie;
    static const char *const longer[] = {
        "\", \"", "{\"", "}}", "ab", "abc", "the", " a", "\xC3\xA9", "\xE4\xBD\xA0", "\xE4\xBD",
        "12", "00", "\n  ", "\\u00", "true", "ull", "-0", "\":", "]]", "a\""};
    if (trie)
        return trie;
    char bytes[SINGLE + 200];
    uint32_t starts[SINGLE + COUNTOF(longer) + 2] = {0}, n = 0, at = 0;
    for (; n < SINGLE; n++) {
        bytes[at++] = (char)n;
        starts[n + 1] = at;
    }
    for (size_t i = 0; i < COUNTOF(longer); i++) {
        memcpy(bytes + at, longer[i], strlen(longer[i]));
        at += (uint32_t)strlen(longer[i]);
        starts[++n] = at;
    }
    starts[n + 1] = at;
    const int32_t end = (int32_t)n;
    trie = token_trie_from(bytes, starts, n + 1, &end, 1);
    return trie;
}

static bool allowed(const uint8_t *bits, uint32_t id)
{
    return bits[id >> 3] >> (id & 7) & 1;
}

static uint32_t pick(const uint8_t *bits, uint32_t nth)
{
    uint32_t id = 0;
    while (!allowed(bits, id) || nth-- > 0)
        id++;
    return id;
}

/* A few tokens, each tried by a matcher of its own. */
static void check_tokens(struct grammar *g, const struct buffer *answer, const uint8_t *bits, uint32_t from)
{
    const struct token_trie *t = grammar_trie(g);
    for (uint32_t i = 0; i < 9; i++) {
        uint32_t id = (from * 31 + i * 37) % (t->n_vocab - 1);
        struct matcher *m = matcher_create(g);
        FUZZ_CHECK(matcher_accept_text(m, buffer_text(answer), answer->len, NULL) == 0);
        int r = matcher_accept(m, (int32_t)id, NULL);
        FUZZ_CHECK(r == ERR_LIMIT || (r == 0) == allowed(bits, id));
        matcher_destroy(&m);
    }
}

static void check_forced(struct matcher *m, struct buffer *forced)
{
    buffer_clear(forced);
    if (matcher_forced(m, forced, NULL) != 0 || forced->len == 0)
        return;
    struct error e = {0};
    FUZZ_CHECK(!matcher_is_done(m));
    FUZZ_CHECK(matcher_accept_text(m, buffer_text(forced), forced->len, &e) == 0 || e.status == ERR_LIMIT);
}

/* The input's byte chooses among what is allowed; false at the end. */
static bool go_on(struct grammar *g, struct matcher *m, struct buffer *answer, uint8_t choice)
{
    const struct token_trie *t = grammar_trie(g);
    uint8_t bits[BITS_MAX];
    uint32_t n = 0;
    FUZZ_CHECK(token_trie_mask_bytes(t) <= sizeof(bits));
    if (matcher_mask(m, bits, &n, NULL) != 0)
        return false;
    FUZZ_CHECK(n > 0); /* every byte is a token, so every grammar can be gone on with */
    FUZZ_CHECK(allowed(bits, t->n_vocab - 1) == matcher_may_end(m));
    check_tokens(g, answer, bits, choice);
    uint32_t id = pick(bits, choice % n);
    if (id == t->n_vocab - 1)
        return false;
    FUZZ_CHECK(!matcher_is_done(m));
    if (matcher_accept(m, (int32_t)id, NULL) != 0)
        return false;
    buffer_add(answer, t->bytes + t->starts[id], t->starts[id + 1] - t->starts[id]);
    return true;
}

/* What is enough is enough, whichever of the allowed tokens come. */
static void check_end(struct matcher *m, const uint8_t *data, size_t size)
{
    uint32_t left = matcher_rest(m);
    for (; left > 0 && left < REST_MAX; left--) {
        uint8_t bits[BITS_MAX];
        uint32_t n, enough;
        if (matcher_mask_within(m, left, bits, &n, &enough, NULL) != 0)
            return;
        FUZZ_CHECK(n > 0);
        uint32_t id = pick(bits, (size > 0 ? data[left % size] : 0) % n);
        if (id == follow_trie()->n_vocab - 1)
            break;
        if (matcher_accept(m, (int32_t)id, NULL) != 0)
            return;
        FUZZ_CHECK(matcher_rest(m) < left || matcher_rest(m) == GRAMMAR_REST_UNKNOWN);
    }
    FUZZ_CHECK(left >= REST_MAX || matcher_may_end(m));
}

void follow(struct grammar *g, const uint8_t *data, size_t size)
{
    struct matcher *m = matcher_create(g);
    struct buffer answer, forced;
    buffer_init(&answer, 1 << 16);
    buffer_init(&forced, 1 << 16);
    for (size_t i = 0; i < STEPS && go_on(g, m, &answer, size > 0 ? data[(i * 7) % size] : 0); i++) {
    }
    check_forced(m, &forced);
    check_end(m, data, size);
    buffer_close(&answer);
    buffer_close(&forced);
    matcher_destroy(&m);
    grammar_drop(&g);
}
