/* talk: what the fuzz targets do with a tokenizer that opened. */
#ifndef TESTS_FUZZ_TALK_H
#define TESTS_FUZZ_TALK_H

#include "text/tokenizer.h"

/* Text to ids to text; every id must be one of the vocabulary. */
void fuzz_talk(const struct tokenizer *t);

#endif
