/* pretokenizer: text to the pieces inside which bytes may be merged.
 *
 * A pre-tokenizer is a row of pretokenizer.c (its name in tokenizer.ggml.pre and
 * a list of regular expressions) or a list of splits that a file gives.  Each
 * splits every piece that is left by the one before it: matches become pieces,
 * and so do the gaps between them, where a split does not say otherwise.
 * Immutable after open; a splitter belongs to one call.  Not for other folders. */
#ifndef TEXT_PRETOKENIZER_H
#define TEXT_PRETOKENIZER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "text/source.h"

struct pretokenizer;

/* ERR_UNSUPPORTED for a name that no row has. */
MUST_USE int pretokenizer_open(struct pretokenizer **out, const char *name, size_t len, struct error *e);
void pretokenizer_close(struct pretokenizer **p);

/* The name of the i-th row that files may say, NULL past the end. */
const char *pretokenizer_name_at(size_t i);

/* Of a file's own splits. What they say is a stranger's: an expression that cannot be compiled is ERR_UNSUPPORTED. */
MUST_USE int pretokenizer_open_splits(struct pretokenizer **out, const struct source_split *list, size_t n,
                                      struct error *e);

/* What the row of this name says; false for a name that no row has. */
bool pretokenizer_adds_bos(const char *name, size_t len);    /* where the file does not say */
bool pretokenizer_whole_first(const char *name, size_t len); /* see struct bpe */

/* The working memory of one call of tokenizer_encode(), for texts of `len` bytes together. */
struct splitter;
typedef void (*piece_fn)(void *user, const char *piece, size_t len);

MUST_USE int splitter_open(struct splitter **out, const struct pretokenizer *p, size_t len, piece_fn take, void *user,
                           struct error *e);
void splitter_close(struct splitter **s);
/* Give the pieces of any bytes, in order and without a gap. What is not UTF-8 becomes pieces of its own.
 * ERR_LIMIT when a match would take more than its share of time or memory. */
MUST_USE int splitter_split(struct splitter *s, const char *text, size_t len, struct error *e);

#endif
