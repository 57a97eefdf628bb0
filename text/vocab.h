/* vocab: the tokens of a byte-level vocabulary: bytes, kinds, and the way back from bytes to ids.
 *
 * GGUF spells ordinary tokens in an alphabet in which every byte is a visible
 * character; here they are the bytes themselves.  Control, user-defined and
 * unused tokens are spelled as they are.  The two live apart in the lookup, so
 * that no merge of ordinary bytes can ever reach a control token.  The file is
 * untrusted: the hash is keyed by a secret, so that no file can be written
 * whose tokens all collide.  Immutable after open.  Not for other folders.   */
#ifndef TEXT_VOCAB_H
#define TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "shard/format/gguf.h"

enum vocab_limits {
    VOCAB_TOKENS_MAX = 1 << 22,
    VOCAB_BYTES_MAX = 1 << 28, /* of all tokens together */
};

enum vocab_flags {
    VOCAB_PLAIN = 1 << 0,   /* spelled in the byte alphabet: what merges produce */
    VOCAB_CONTROL = 1 << 1, /* control or unknown */
    VOCAB_USER = 1 << 2,    /* user-defined: recognised in any text */
    VOCAB_UNUSED = 1 << 3,
    VOCAB_END = 1 << 4,     /* ends a generation */
    VOCAB_LSTRIP = 1 << 5,  /* takes the white space before it along */
    VOCAB_RSTRIP = 1 << 6,  /* ... after it */
};

struct vocab {
    uint32_t count;
    char *bytes;
    uint32_t *starts; /* [count + 1] into bytes */
    uint8_t *flags;   /* [count] */
    uint32_t *slots;  /* id + 1, 0 empty; open addressing */
    uint32_t slot_mask;
    uint64_t secret;
};

MUST_USE int vocab_open(struct vocab *v, const struct gguf *g, struct error *e);
void vocab_close(struct vocab *v); /* also after a failed open */

const char *vocab_text(const struct vocab *v, uint32_t id, size_t *len);
/* The id of these bytes among the plain tokens, or among all the others; -1. The lowest id of equal ones. */
int32_t vocab_find(const struct vocab *v, const char *bytes, size_t len, bool plain);
/* The byte that a code point of the alphabet stands for, -1 when it stands for none. */
int vocab_byte_of(uint32_t code_point);
/* A piece of GGUF text in the alphabet to the bytes it stands for, into out[len]; false when a character is not
 * of the alphabet. */
bool vocab_unmap(const char *text, size_t len, char *out, size_t *out_len);

uint64_t vocab_hash(uint64_t secret, const char *bytes, size_t len);

#endif
