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

enum trie { TRIE_PLAIN, TRIE_MARKED, TRIES };

struct grammars {
    const struct tokenizer *tokenizer;
    uint32_t n_vocab;
    const bool *marks;
    pthread_mutex_t lock; /* of all that follows */
    struct token_trie *tries[TRIES];
    struct kept kept[GRAMMARS_KEPT];
    uint64_t clock;
};

struct grammars *grammars_create(const struct tokenizer *t, uint32_t n_vocab, const bool *marks)
{
    struct grammars *g = mem_alloc(sizeof(*g));
    g->tokenizer = t;
    g->n_vocab = n_vocab;
    g->marks = marks;
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
    for (size_t i = 0; i < TRIES; i++)
        token_trie_drop(&g->tries[i]);
    pthread_mutex_destroy(&g->lock);
    mem_free(g);
    *g_p = NULL;
}

/* A word and a source as text; NULL when it is too long to keep. Caller frees. */
static char *key_of(const char *word, int number, const json_t *source)
{
    char *text = source == NULL ? NULL : json_dumps(source, JSON_COMPACT | JSON_ENCODE_ANY);
    char *key = NULL;
    if (source == NULL || (text != NULL && strlen(text) <= GRAMMARS_KEY_MAX))
        key = mem_printf("%s %d %s", word, number, text == NULL ? "" : text);
    free(text);
    return key;
}

/* The trie, and the grammar where it is kept; both for the caller to drop. */
static struct grammar *look_up(struct grammars *g, const char *key, enum trie which, struct token_trie **trie)
{
    struct grammar *found = NULL;
    pthread_mutex_lock(&g->lock);
    if (g->tries[which] == NULL)
        g->tries[which] = token_trie_create_marked(g->tokenizer, g->n_vocab, which == TRIE_MARKED ? g->marks : NULL);
    *trie = token_trie_keep(g->tries[which]);
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

/* Exactly one of c and source, or neither. */
static int get(struct grammars *g, char *key, enum grammar_kind kind, const json_t *source,
               const struct grammar_calls *c, struct grammar **out, struct error *e)
{
    struct token_trie *trie;
    *out = look_up(g, key, c != NULL ? TRIE_MARKED : TRIE_PLAIN, &trie);
    int rc = 0;
    if (*out == NULL)
        rc = c != NULL ? grammar_calls(out, trie, c, e) : grammar_of(out, trie, kind, source, e);
    if (rc == 0 && key != NULL)
        keep(g, key, *out);
    else
        mem_free(key);
    token_trie_drop(&trie);
    return rc;
}

static int check_vocabulary(const struct grammars *g, struct error *e)
{
    if (tokenizer_has_vocab(g->tokenizer))
        return 0;
    return error_set(e, ERR_UNSUPPORTED, "the model has no vocabulary: an answer's form cannot be asked for");
}

int grammars_get(struct grammars *g, enum grammar_kind kind, const json_t *source, struct grammar **out,
                 struct error *e)
{
    int rc = check_vocabulary(g, e);
    return rc == 0 ? get(g, key_of("form", (int)kind, source), kind, source, NULL, out, e) : rc;
}

int grammars_calls(struct grammars *g, const struct grammar_calls *c, struct grammar **out, struct error *e)
{
    int rc = check_vocabulary(g, e);
    if (rc != 0)
        return rc;
    json_t *parts = json_pack("[O, b, b, o]", c->tools, c->begun, c->many,
                              c->source != NULL ? json_incref((json_t *)(uintptr_t)c->source) : json_null());
    char *key = key_of("calls", (int)c->instead, parts);
    json_decref(parts);
    return get(g, key, GRAMMAR_NONE, NULL, c, out, e);
}
