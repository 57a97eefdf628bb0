/* random_answers: answers that a model of no mind would give to JSON schemas.
 *
 * usage: random_answers VOCABULARY.gguf SEED [tight]
 * Reads a schema a line. Writes for each one line: {"answer": TEXT} after a walk
 * over random allowed tokens to the end, or {"refused": WHY}, or {"failed": WHY}.
 * Tight: with as few tokens as are enough, or a few more, and none at the end. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/random.h"
#include "text/grammar/grammar.h"

enum { TOKENS_MAX = 20000, HURRY = 3, SPARE = 24 };

static bool allowed(const uint8_t *bits, uint32_t id)
{
    return bits[id >> 3] >> (id & 7) & 1;
}

/* Does it end or separate something? Taken often, so that texts and lists come to an end. */
static bool closes(const struct token_trie *t, uint32_t id)
{
    uint32_t at = t->starts[id];
    return t->starts[id + 1] == at || strchr("\"]},", t->bytes[at]);
}

static uint32_t pick(const struct token_trie *t, const uint8_t *bits, struct random_state *r)
{
    uint32_t n[2] = {0, 0};
    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (allowed(bits, id))
            n[closes(t, id)]++;
    bool closing = n[1] > 0 && (n[0] == 0 || random_u64(r) % HURRY == 0);
    uint32_t nth = (uint32_t)(random_u64(r) % n[closing]);
    uint32_t id = 0;
    while (!allowed(bits, id) || closes(t, id) != closing || nth-- > 0)
        id++;
    return id;
}

/* How many tokens the answer may have. */
static uint32_t budget(struct matcher *m, struct random_state *r, bool tight)
{
    uint32_t rest = matcher_rest(m);
    if (!tight || rest == GRAMMAR_REST_UNKNOWN)
        return TOKENS_MAX;
    return rest + (uint32_t)(random_u64(r) % 3 == 0 ? 0 : random_u64(r) % SPARE);
}

static int walk(struct grammar *g, struct random_state *r, bool tight, struct buffer *answer, struct error *e)
{
    const struct token_trie *t = grammar_trie(g);
    uint8_t *bits = mem_array(token_trie_mask_bytes(t) + 1, 1);
    struct matcher *m = matcher_create(g);
    int status = 0;
    uint32_t left = budget(m, r, tight);
    bool over = false;
    for (; status == 0 && !over && (left > 0 || !matcher_may_end(m)); left--) {
        uint32_t n = 0, enough;
        status = left == 0 ? error_set(e, ERR_INTERNAL, "it does not end")
                           : matcher_mask_within(m, left, bits, &n, &enough, e);
        if (status == 0 && n == 0)
            status = error_set(e, ERR_INTERNAL, "no token goes on");
        uint32_t id = status == 0 ? pick(t, bits, r) : 0;
        uint32_t len = t->starts[id + 1] - t->starts[id];
        over = len == 0;
        if (status == 0 && !over)
            status = matcher_accept(m, (int32_t)id, e);
        buffer_add(answer, t->bytes + t->starts[id], len);
    }
    matcher_destroy(&m);
    mem_free(bits);
    return status;
}

static json_t *answer_line(struct token_trie *t, const char *line, struct random_state *r, bool tight)
{
    struct grammar *g = NULL;
    struct error e = {0};
    json_t *schema = json_loads(line, JSON_DECODE_ANY, NULL);
    if (!schema)
        return json_pack("{s:s}", "failed", "no JSON");
    int status = grammar_schema(&g, t, schema, &e);
    json_decref(schema);
    if (status != 0)
        return json_pack("{s:s}", "refused", e.text);
    struct buffer answer;
    buffer_init(&answer, 1 << 24);
    status = walk(g, r, tight, &answer, &e);
    json_t *out = status == 0 ? json_pack("{s:s%}", "answer", buffer_text(&answer), answer.len)
                              : json_pack("{s:s}", "failed", e.text);
    if (!out)
        out = json_pack("{s:s}", "failed", "the answer is not UTF-8");
    buffer_close(&answer);
    grammar_drop(&g);
    return out;
}

int main(int argc, char **argv)
{
    struct gguf *file;
    struct tokenizer *k;
    struct random_state r;
    bool tight = argc == 4 && strcmp(argv[3], "tight") == 0;
    if ((argc != 3 && !tight) || gguf_open(&file, argv[1], NULL) != 0 || tokenizer_open(&k, file, NULL) != 0)
        return 64;
    random_seed(&r, strtoull(argv[2], NULL, 10));
    struct token_trie *t = token_trie_create(k, UINT32_MAX);
    tokenizer_close(&k);
    gguf_close(&file);
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        json_t *out = answer_line(t, line, &r, tight);
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(out);
    }
    free(line);
    token_trie_drop(&t);
    return 0;
}
