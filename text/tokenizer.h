/* tokenizer: text to token ids and back, as the model's file describes it.
 *
 * Byte-level BPE with the pre-tokenizers of text/pretokenizer.c, PCRE2 with
 * Unicode properties; BPE of characters that falls back to bytes, by merges or
 * by scores (SentencePiece); Unigram; special and user-defined tokens; a model
 * without a vocabulary has an empty tokenizer (ids only).  Kinds that are not
 * supported are refused by name.  Immutable after open; tokenizer_encode()
 * keeps its working memory in the call, so any thread may use it.  Encoding is
 * near-linear also in the worst case.                                        */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "shard/format/gguf.h"

enum tokenizer_limits {
    TOKENIZER_TEXT_MAX = 64 << 20, /* bytes a call */
    TOKENIZER_TOKEN_MAX = 4096,    /* bytes a token */
};

struct tokenizer;

struct token_list {
    int32_t *ids; /* mem_free() */
    size_t count;
};

/* Copies what it needs; g may be closed afterwards. Of a folder's header: the folder's, where it has one. */
MUST_USE int tokenizer_open(struct tokenizer **out, const struct gguf *g, struct error *e);
/* From tokenizer.json and the files beside it in a Hugging Face folder. */
MUST_USE int tokenizer_open_folder(struct tokenizer **out, const char *folder, struct error *e);
void tokenizer_close(struct tokenizer **t);

uint32_t tokenizer_count(const struct tokenizer *t); /* 0: no vocabulary */
bool tokenizer_has_vocab(const struct tokenizer *t);

enum encode_flags {
    ENCODE_SPECIAL = 1 << 0, /* control tokens are recognised in the text (templates; never user text) */
    ENCODE_BOS_EOS = 1 << 1, /* add BOS / EOS as the model asks */
    ENCODE_BOS = 1 << 2,     /* ... only what is before the text */
};
/* Any bytes, also what is not UTF-8, come back from tokenizer_decode_list() with `special`. Lost is only what the
 * model's file asks to lose: bytes for which it has no token at all (some have none for bytes that UTF-8 never uses),
 * and the differences that its normaliser takes away. */
MUST_USE int tokenizer_encode(const struct tokenizer *t, const char *text, size_t len, unsigned flags,
                              struct token_list *out, struct error *e);
/* The same, of a text that is put together of parts; ENCODE_SPECIAL is for those that are `trusted`. */
struct text_part {
    const char *text;
    size_t len;
    bool trusted;
};
MUST_USE int tokenizer_encode_parts(const struct tokenizer *t, const struct text_part *parts, size_t n, unsigned flags,
                                    struct token_list *out, struct error *e);
void token_list_free(struct token_list *list);

/* Append the bytes of a token; control tokens append nothing unless `special`. Unknown ids append nothing. */
void tokenizer_decode(const struct tokenizer *t, int32_t id, bool special, struct buffer *out);
/* The bytes of a whole text: as above, without the spaces that encoding put before its stretches. */
void tokenizer_decode_list(const struct tokenizer *t, const int32_t *ids, size_t n, bool special, struct buffer *out);

/* Control tokens that open the parts of a text whose middle is wanted, and before them what is known around it. */
enum fim_part { FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FIM_REPO, FIM_FILE, FIM_PARTS };

/* -1 when the model has none. The first three are all there or none is. */
int32_t tokenizer_fim(const struct tokenizer *t, enum fim_part part);
int32_t tokenizer_bos(const struct tokenizer *t);
int32_t tokenizer_eos(const struct tokenizer *t);
bool tokenizer_is_end(const struct tokenizer *t, int32_t id);     /* end of generation */
bool tokenizer_is_control(const struct tokenizer *t, int32_t id);
/* The id whose text is exactly this (control tokens included), or -1. */
int32_t tokenizer_find(const struct tokenizer *t, const char *text, size_t len);
/* The model's chat template source, NULL when it has none. */
const char *tokenizer_chat_template(const struct tokenizer *t);
/* The one for conversations with tools, where the model has one of its own for them; else NULL. */
const char *tokenizer_tool_template(const struct tokenizer *t);

#endif
