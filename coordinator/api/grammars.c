/* grammars: a few compiled grammars by their source. A source is compiled outside the lock: two requests at once may
 * both compile it, and the second result is the one that stays. */
#include "coordinator/api/grammars.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct kept {
    char *key;
    struct grammar *grammar; /* NULL: the place is free */
    uint64_t used;
};

struct grammars {
    const struct tokenizer *tokenizer;
    uint32_t n_vocab;
    pthread_mutex_t lock; /* of all that follows */
    struct token_trie *trie;
    struct kept kept[GRAMMARS_KEPT];
    uint64_t clock;
};

struct grammars *grammars_create(const struct tokenizer *t, uint32_t n_vocab)
{
    struct grammars *g = mem_alloc(sizeof(*g));
    g->tokenizer = t;
    g->n_vocab = n_vocab;
    pthread_mutex_init(&g->lock, NULL);
    return g;
}

static void forget(struct kept *k)
{
    mem_free(k->key);
    grammar_drop(&k->grammar);
    k->key = NULL;
}

void grammars_destroy(struct grammars **g_p)
{
    struct grammars *g = *g_p;
    if (g == NULL)
        return;
    for (size_t i = 0; i < GRAMMARS_KEPT; i++)
        forget(&g->kept[i]);
    token_trie_drop(&g->trie);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
    *g_p = NULL;
}

/* Kind and source as text; NULL when it is too long to keep. Caller frees. */
static char *key_of(enum grammar_kind kind, const json_t *source)
{
    char *text = source == NULL ? NULL : json_dumps(source, JSON_COMPACT | JSON_ENCODE_ANY);
    char *key = NULL;
    if (source == NULL || (text != NULL && strlen(text) <= GRAMMARS_KEY_MAX))
        key = mem_printf("%d %s", (int)kind, text == NULL ? "" : text);
    free(text);
    return key;
}

/* The trie, and the grammar when it is kept; both for the caller to drop. */
static struct grammar *look_up(struct grammars *g, const char *key, struct token_trie **trie)
{
    struct grammar *found = NULL;
    pthread_mutex_lock(&g->lock);
    if (g->trie == NULL)
        g->trie = token_trie_create(g->tokenizer, g->n_vocab);
    *trie = token_trie_keep(g->trie);
    for (size_t i = 0; key != NULL && i < GRAMMARS_KEPT; i++) {
        if (g->kept[i].grammar != NULL && strcmp(g->kept[i].key, key) == 0) {
            g->kept[i].used = ++g->clock;
            found = grammar_keep(g->kept[i].grammar);
            break;
        }
    }
    pthread_mutex_unlock(&g->lock);
    return found;
}

/* Takes the key. The one not used for longest makes room. */
static void keep(struct grammars *g, char *key, struct grammar *grammar)
{
    pthread_mutex_lock(&g->lock);
    struct kept *oldest = &g->kept[0];
    for (size_t i = 0; i < GRAMMARS_KEPT; i++) {
        struct kept *k = &g->kept[i];
        if (k->grammar != NULL && strcmp(k->key, key) == 0)
            forget(k);
        if (k->grammar == NULL || (oldest->grammar != NULL && k->used < oldest->used))
            oldest = k;
    }
    forget(oldest);
    *oldest = (struct kept){ key, grammar_keep(grammar), ++g->clock };
    pthread_mutex_unlock(&g->lock);
}

static int compile_choice(struct token_trie *t, const json_t *list, struct grammar **out, struct error *e)
{
    size_t n = json_array_size(list);
    const char **texts = mem_array(n + 1, sizeof(*texts));
    for (size_t i = 0; i < n; i++)
        texts[i] = json_string_value(json_array_get(list, i));
    int rc = grammar_choice(out, t, texts, n, e);
    mem_free(texts);
    return rc;
}

static int compile(struct token_trie *t, enum grammar_kind kind, const json_t *source, struct grammar **out,
                   struct error *e)
{
    switch (kind) {
    case GRAMMAR_SCHEMA: return grammar_schema(out, t, source, e);
    case GRAMMAR_GBNF: return grammar_gbnf(out, t, json_string_value(source), json_string_length(source), e);
    case GRAMMAR_REGEX: return grammar_regex(out, t, json_string_value(source), json_string_length(source), e);
    case GRAMMAR_CHOICE: return compile_choice(t, source, out, e);
    default: return grammar_json(out, t, e);
    }
}

int grammars_get(struct grammars *g, enum grammar_kind kind, const json_t *source, struct grammar **out,
                 struct error *e)
{
    if (!tokenizer_has_vocab(g->tokenizer))
        return error_set(e, ERR_UNSUPPORTED, "the model has no vocabulary: an answer's form cannot be asked for");
    struct token_trie *trie;
    char *key = key_of(kind, source);
    *out = look_up(g, key, &trie);
    int rc = *out != NULL ? 0 : compile(trie, kind, source, out, e);
    if (rc == 0 && key != NULL)
        keep(g, key, *out);
    else
        mem_free(key);
    token_trie_drop(&trie);
    return rc;
}
