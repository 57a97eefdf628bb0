/* masks: what a grammar's token mask costs on a large vocabulary.
 *
 * usage: masks VOCABULARY.gguf ...
 * The tokens of the files together, 150000 at most.  Every line follows one
 * text token by token, as a model would, and gives the time of the masks on the
 * way, the first time (cold), again (warm), and where each is as many tokens
 * before its end as are enough at least (short), which is not remembered.    */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "text/grammar/grammar.h"

enum { TOKENS = 150000 };

struct tokens {
    struct buffer bytes;
    uint32_t *starts;
    uint32_t n;
};

/* The tokens of a file after those of others. */
static int add_tokens(struct tokens *all, const char *path, struct error *e)
{
    struct gguf *file;
    struct tokenizer *k = NULL;
    int r = gguf_open(&file, path, e);
    if (r == 0)
        r = tokenizer_open(&k, file, e);
    if (r != 0)
        return r;
    struct token_trie *t = token_trie_create(k, UINT32_MAX);
    for (uint32_t id = 0; id < t->n_vocab && all->n < TOKENS; id++) {
        buffer_add(&all->bytes, t->bytes + t->starts[id], t->starts[id + 1] - t->starts[id]);
        all->starts[++all->n] = (uint32_t)all->bytes.len;
    }
    token_trie_drop(&t);
    tokenizer_close(&k);
    gguf_close(&file);
    return 0;
}

enum { TIMES_MAX = 256, REPEATS = 7 };

/* The least of several times of each mask on the way: what other work on the machine took is not ours. */
struct times {
    uint32_t n;
    uint64_t least[TIMES_MAX];
};

/* The longest token that the mask allows and the text has here. */
static int32_t next_token(const struct token_trie *t, const uint8_t *bits, const char *text, size_t left)
{
    int32_t best = -1;
    uint32_t best_len = 0;
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        uint32_t len = t->starts[id + 1] - t->starts[id];
        if (len > best_len && len <= left && (bits[id >> 3] >> (id & 7) & 1) &&
            memcmp(t->bytes + t->starts[id], text, len) == 0) {
            best = (int32_t)id;
            best_len = len;
        }
    }
    return best;
}

/* The mask of a place, timed; the one that the text is followed by is the ordinary one. */
static int make_mask(struct matcher *m, bool is_short, uint8_t *bits, uint64_t *took)
{
    uint32_t allowed, enough, left = is_short ? matcher_rest(m) : UINT32_MAX;
    uint64_t before = clock_ns();
    int r = matcher_mask_within(m, left > 0 ? left : 1, bits, &allowed, &enough, NULL);
    *took = clock_ns() - before;
    return is_short && r == 0 ? matcher_mask(m, bits, &allowed, NULL) : r;
}

static void follow(struct grammar *g, const char *text, bool is_short, struct times *times)
{
    const struct token_trie *t = grammar_trie(g);
    uint8_t *bits = mem_array(token_trie_mask_bytes(t), 1);
    struct matcher *m = matcher_create(g);
    size_t at = 0, n = strlen(text);
    for (times->n = 0; times->n < TIMES_MAX;) {
        uint64_t took;
        if (make_mask(m, is_short, bits, &took) != 0)
            break;
        if (took < times->least[times->n])
            times->least[times->n] = took;
        times->n++;
        int32_t token = next_token(t, bits, text + at, n - at);
        if (token < 0 || matcher_accept(m, token, NULL) != 0)
            break;
        at += t->starts[token + 1] - t->starts[token];
    }
    if (at < n)
        printf("stuck at \"%.20s\"\n", text + at);
    matcher_destroy(&m);
    mem_free(bits);
}

static void show(const char *what, const struct times *t)
{
    uint64_t sum = 0, worst = 0;
    uint32_t where = 0;
    for (uint32_t i = 0; i < t->n; i++) {
        sum += t->least[i];
        where = t->least[i] > worst ? i : where;
        worst = t->least[i] > worst ? t->least[i] : worst;
    }
    printf("   %s %7.1f us mean %7.1f worst (%u)", what, (double)sum / t->n / 1e3, (double)worst / 1e3, where);
}

/* regex NULL: any JSON object. */
static void measure(struct token_trie *t, const char *regex, const char *text)
{
    struct times cold, warm, tight;
    memset(&cold, 0xFF, sizeof(cold));
    memset(&warm, 0xFF, sizeof(warm));
    memset(&tight, 0xFF, sizeof(tight));
    uint64_t compile = UINT64_MAX;
    for (int i = 0; i < REPEATS; i++) {
        struct grammar *g;
        struct error e = {0};
        uint64_t before = clock_ns();
        if ((regex ? grammar_regex(&g, t, regex, strlen(regex), &e) : grammar_json(&g, t, &e)) != 0) {
            printf("%s\n", e.text);
            return;
        }
        before = clock_ns() - before;
        compile = before < compile ? before : compile;
        follow(g, text, false, &cold);
        follow(g, text, false, &warm);
        follow(g, text, true, &tight);
        grammar_drop(&g);
    }
    printf("%-18s compiled in %5.0f us, %3u masks", regex ? regex : "any JSON object", (double)compile / 1e3, cold.n);
    show("cold", &cold);
    show("warm", &warm);
    show("short", &tight);
    printf("\n");
}

#define DOCUMENT                                                                                                       \
    "{\"name\": \"A house by the sea, \\\"Sunset\\\"\", \"tags\": [\"warm\", \"old\", \"\xC3\xA9t\xC3\xA9\"],\n"      \
    "    \"rooms\": [{\"n\": 1, \"size\": 12.5}, {\"n\": 2, \"size\": -3e2}], "                                        \
    "\"deep\": [[[[[[{\"a\": [null, true]}]]]]]]}"

static const char long_text[] =
    "The quick brown fox jumps over the lazy dog, and then it runs away into the woods near the river; nobody saw it.";

int main(int argc, char **argv)
{
    struct error e = {0};
    struct tokens all = {.starts = mem_array(TOKENS + 1, sizeof(*all.starts))};
    buffer_init(&all.bytes, 1 << 28);
    for (int i = 1; i < argc; i++) {
        if (add_tokens(&all, argv[i], &e) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], e.text);
            return 1;
        }
    }
    uint64_t before = clock_ns();
    struct token_trie *t = token_trie_from(buffer_text(&all.bytes), all.starts, all.n, NULL, 0);
    printf("%u tokens, %u nodes, %u of ordinary characters, trie made in %.0f ms\n", t->n_tokens, t->n_nodes,
           t->n_ordinary, (double)(clock_ns() - before) / 1e6);
    static const char *const regexes[] = {
        "[^\"\\\\]{0,40000}", "[^\"]{1,120}", ".*", "[^!]*[^%]*", "[\\w ,;.]+",
        "[a-zT ,;.]{1,300}", "(\\w+\\W{0,3})*", "(\\w\\W{0,2})*", "([A-Za-z]{1,3}[ ,;.]{0,2})*",
        "(\\S+\\s{1,2})*[^ ]*", "([a-zA-Z]{2,9}[^a-zA-Z]{1,3})*.{0,20}",
    };
    measure(t, NULL, DOCUMENT);
    for (size_t i = 0; i < COUNTOF(regexes); i++)
        measure(t, regexes[i], long_text);
    token_trie_drop(&t);
    buffer_close(&all.bytes);
    mem_free(all.starts);
    return 0;
}
