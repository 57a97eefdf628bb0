/* mix: which type each tensor of a file takes when the file is quantised. Not for other folders. */
#ifndef SHARD_RUN_MIX_H
#define SHARD_RUN_MIX_H

#include "shard/format/gguf.h"

struct mix {
    const char *name;
    uint32_t file_type;       /* general.file_type */
    enum qtype_id base, head; /* head: the output matrix, or the embedding that serves as one */
    bool some_better;         /* the value and down projections of some layers, and others, in more bits */
    bool experts_only;        /* where there are experts, the base type is theirs alone; the rest is as the head */
};

/* Any case; NULL when there is none. */
const struct mix *mix_find(const char *name);
/* What the mix makes of tensor t of g: its own type where it stays. */
const struct qtype *mix_type(const struct mix *m, const struct gguf *g, const struct gguf_tensor *t);

#endif
