/* source: the facts of a vocabulary, wherever they were written.
 *
 * A reader (source_gguf.c, source_hf.c) checks its file and fills one of these;
 * the tokenizer is built from it alone and does not know where it came from.
 * Texts borrow from the file and live until source_close(); a tokenizer copies
 * what it needs.  Not for other folders.                                     */
#ifndef TEXT_SOURCE_H
#define TEXT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/format/gguf.h"
#include "text/tokenizer.h"

enum source_limits {
    SOURCE_TOKENS_MAX = 1 << 22,
    SOURCE_MERGES_MAX = 1 << 22,
    SOURCE_AROUND_MAX = 8,  /* tokens before a text, and after it */
    SOURCE_ENDS_MAX = 64,
    SOURCE_SPLITS_MAX = 16,
    SOURCE_STEPS_MAX = 16,
    SOURCE_TEMPLATE_MAX = 1 << 20, /* bytes of the chat template */
};

struct source_text {
    const char *text; /* not NUL-terminated */
    size_t len;
};

/* How text becomes tokens. */
enum source_kind {
    SOURCE_NONE,    /* no vocabulary: ids only */
    SOURCE_BYTES,   /* merges of bytes, in an alphabet in which every byte is a visible character */
    SOURCE_CHARS,   /* merges of characters; what has no token falls back to its bytes */
    SOURCE_UNIGRAM, /* the most probable row of tokens */
};

/* Where a space is put before the text. */
enum source_prefix {
    PREFIX_NONE,
    PREFIX_ALWAYS,  /* before every stretch between special tokens */
    PREFIX_MISSING, /* ... that does not begin with one */
    PREFIX_FIRST,   /* ... at the beginning of the whole text only */
    PREFIX_PIECES,  /* before every piece */
};

struct source_token {
    struct source_text text; /* as the file spells it */
    float score;
    uint16_t flags;          /* of text/vocab.h */
};

struct source_merge {
    struct source_text left, right;
};

/* What becomes of the matches of a split. */
enum source_behavior { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT, SPLIT_CONTIGUOUS };

struct source_split {
    struct source_text pattern; /* a regular expression, or the text itself where it is literal */
    enum source_behavior behavior;
    bool literal;
    bool invert; /* what does not match is the match */
};

/* A step of the normaliser. */
enum source_step_kind {
    STEP_NFC, STEP_NFD, STEP_NFKC, STEP_NFKD,
    STEP_REPLACE,     /* every `from` by `to` */
    STEP_TRIM_LEFT,   /* white space at the ends */
    STEP_TRIM_RIGHT,
    STEP_SINGLE_SPACE, /* one for every run of spaces */
    STEP_CHARSMAP,    /* SentencePiece's table of replacements, in `from` */
};

struct source_step {
    enum source_step_kind kind;
    struct source_text from, to;
};

struct source {
    const char *where; /* the file, for sentences */
    enum source_kind kind;

    struct source_token *tokens; /* by id */
    uint32_t n_tokens;
    bool spaces;       /* ordinary tokens spell a space as U+2581 */
    bool by_score;     /* merges follow from the scores and not from a list */
    bool whole_first;  /* a piece that is a token is that token, whatever the merges say */
    bool fuse_unknown; /* one unknown token for a run of unknown characters */
    struct source_merge *merges; /* by rank */
    uint32_t n_merges;

    struct source_text pre; /* a row of the pre-tokenizer; text NULL: the splits count */
    struct source_split splits[SOURCE_SPLITS_MAX];
    size_t n_splits;
    struct source_step steps[SOURCE_STEPS_MAX];
    size_t n_steps;
    enum source_prefix prefix;

    int32_t bos, eos, unknown; /* -1: none */
    int32_t before[SOURCE_AROUND_MAX], after[SOURCE_AROUND_MAX]; /* what the model asks to put around a text */
    size_t n_before, n_after;
    int32_t fim[FIM_PARTS]; /* as the file names them; -1: it does not */
    int32_t ends[SOURCE_ENDS_MAX]; /* end a generation */
    size_t n_ends;
    struct source_text chat_template; /* text NULL: none */
    struct source_text tool_template; /* for conversations with tools; text NULL: the same */

    void *owner; /* what the texts borrow from, where the source owns it */
    void (*owner_close)(void *owner);
};

/* g must outlive the source. */
MUST_USE int source_gguf(struct source *s, const struct gguf *g, struct error *e);
void source_init(struct source *s); /* of no tokens */
void source_close(struct source *s); /* also after a failed open */

#endif
