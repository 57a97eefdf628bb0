/* spans: a set of bytes of a file as stretches: which came already, which are here.
 *
 * Invariant: sorted, none empty, none touching another.  One thread owns a set.
 *
 * A file that is here only in part (the layers that somebody asked for, the
 * rest of it a hole) has such a set beside it, called like the file with
 * ".shoal-have" behind: base/file_set.h refuses to read what is not in it.     */
#ifndef BASE_SPANS_H
#define BASE_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define SPANS_RECORD ".shoal-have"

enum { SPANS_WORDS_MAX = 63, SPANS_FILE_MAX = 16 << 20 };

struct span {
    uint64_t offset, bytes;
};

struct spans {
    struct span *at;
    size_t n, room;
};

void spans_close(struct spans *s); /* an empty set, that can be used again */
void spans_add(struct spans *s, uint64_t offset, uint64_t bytes);
bool spans_hold(const struct spans *s, uint64_t offset, uint64_t bytes); /* all of them; none: true */
uint64_t spans_bytes(const struct spans *s);
/* The first stretch of [offset, end) that is not in the set, as long as it is; false: there is none. */
bool spans_missing(const struct spans *s, uint64_t offset, uint64_t end, struct span *out);

/* What is here of the file at `path`: *here is false, and nothing else set, where it has no record: then it is whole.
 * `words` say what was asked for, "layers 4:8". */
MUST_USE int spans_read(struct spans *out, char words[static SPANS_WORDS_MAX + 1], bool *here, const char *path,
                        struct error *e);
MUST_USE int spans_write(const struct spans *s, const char *words, const char *path, struct error *e);

#endif
