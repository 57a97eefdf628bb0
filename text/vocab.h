/* vocab: the tokens of a vocabulary: bytes, kinds, and the way back from bytes to ids.
 *
 * Files spell ordinary tokens in an alphabet in which every byte is a visible
 * character, or with U+2581 for a space; here they are the bytes themselves, so
 * that a U+2581 of a text is not taken for a space.  Control, user-defined and
 * unused tokens are spelled as they are.  The two live apart in the lookup, so
 * that no merge of ordinary bytes can ever reach a control token; tokens that
 * stand for a single byte, beside the ordinary one of that character, are in
 * neither.  The file is untrusted: the hash is keyed by a secret, so that no
 * file can be written whose tokens all collide.  Not for other folders.      */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct source;

enum vocab_limits {
    VOCAB_BYTES_MAX = 1 << 28, /* of all tokens together */
};

enum vocab_flags {
    VOCAB_PLAIN = 1 << 0,   /* ordinary text: what merges produce */
    VOCAB_CONTROL = 1 << 1, /* control or unknown */
    VOCAB_USER = 1 << 2,    /* user-defined: recognised in any text */
    VOCAB_UNUSED = 1 << 3,
    VOCAB_END = 1 << 4,     /* ends a generation */
    VOCAB_LSTRIP = 1 << 5,  /* takes the white space before it along */
    VOCAB_RSTRIP = 1 << 6,  /* ... after it */
    VOCAB_BYTE = 1 << 7,    /* one byte that no ordinary token has */
    VOCAB_LATE = 1 << 8,    /* recognised in the normalised text, not in the raw one */
};

struct vocab {
    uint32_t count;
    char *text;       /* of all tokens, one after the other */
    uint32_t *starts; /* [count + 1] into text */
    uint16_t *flags;  /* [count] */
    uint32_t *slots;  /* id + 1, 0 empty; open addressing */
    uint32_t slot_mask;
    uint64_t secret;
    int32_t bytes[256]; /* the VOCAB_BYTE token of a byte, -1: none */
    bool alphabet;      /* ordinary tokens are spelled in the byte alphabet */
    bool spaces;        /* ... with U+2581 for a space */
};

MUST_USE int vocab_open(struct vocab *v, const struct source *s, struct error *e);
/* After flags were changed: what was made a control token is no ordinary one any more. */
void vocab_index(struct vocab *v);
void vocab_close(struct vocab *v); /* also after a failed open */

const char *vocab_text(const struct vocab *v, uint32_t id, size_t *len);
/* The id of these bytes among the plain tokens, or among all the others; -1. The lowest id of equal ones. */
int32_t vocab_find(const struct vocab *v, const char *bytes, size_t len, bool plain);
/* The byte that a code point of the alphabet stands for, -1 when it stands for none. */
int vocab_byte_of(uint32_t code_point);
/* The spelling of an ordinary token to the bytes it stands for, into out[len]; false when a character is not of the
 * alphabet. */
bool vocab_unspell(const struct vocab *v, const char *text, size_t len, char *out, size_t *out_len);

uint64_t vocab_hash(uint64_t secret, const char *bytes, size_t len);

#endif
