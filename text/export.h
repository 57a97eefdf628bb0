/* export: the tokenizer of a Hugging Face folder as the keys of a GGUF file.
 *
 * GGUF says less than tokenizer.json: a pre-tokenizer has to be one of those
 * that it can name, a BPE of characters becomes one by scores, and there is no
 * normaliser.  What would give other tokens is refused; that text is not
 * composed (NFC) is not, because no reader of GGUF does that.               */
#ifndef TEXT_EXPORT_H
#define TEXT_EXPORT_H

#include <stdint.h>

#include "base/error.h"
#include "shard/format/gguf.h"

/* n_vocab: rows of the model's embedding; those past the tokenizer's tokens become unused ones. ERR_UNSUPPORTED: what
 * GGUF cannot say. ERR_NOT_FOUND: the folder has no tokenizer.json; nothing was declared. */
MUST_USE int tokenizer_export(struct gguf_writer *w, const char *folder, uint32_t n_vocab, struct error *e);

#endif
