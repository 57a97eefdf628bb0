/* source_hf: a Hugging Face folder as a source.  Not for other folders.
 *
 * tokenizer.json has the vocabulary and what is done to text; tokenizer_config.json
 * and generation_config.json, where they are there, the special tokens' places
 * and the chat template, which a chat_template.jinja overrides.              */
#ifndef TEXT_SOURCE_HF_H
#define TEXT_SOURCE_HF_H

#include <jansson.h>

#include "text/source.h"

MUST_USE int source_hf(struct source *s, const char *folder, struct error *e);

/* source_hf_text.c: the normaliser and the pre-tokenizer; may be null. */
MUST_USE int hf_read_normalizer(struct source *s, const json_t *normalizer, struct error *e);
MUST_USE int hf_read_pretokenizer(struct source *s, const json_t *pre, struct error *e);

/* A member that is a string; text NULL where it is none. */
struct source_text hf_text(const json_t *object, const char *key);
bool hf_text_is(struct source_text text, const char *want);

#endif
