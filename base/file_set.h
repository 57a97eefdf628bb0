/* file_set: the files of one model as one run of bytes.
 *
 * A model is a GGUF file, the splits of one, or a folder as Hugging Face has
 * them.  Whoever opens it says which files there are, in order, and how many
 * bytes of the front of each are its head: what must be there before a tensor
 * can be looked at (all of a config.json, the header of a GGUF or safetensors
 * file).  The run has all heads, in order, and then the rest of every file,
 * in the same order: its first bytes are enough to open the model.  "Offset"
 * alone means in the run.
 *
 * Files may be absent here (splits whose layers are of no use to this node):
 * nothing of them can be read, all others can.  Of a file with a record of what
 * is here (base/spans.h) nothing else can be read either: the rest is a hole.
 *
 * Immutable after open, but for what is written: any thread may read.         */
#ifndef BASE_FILE_SET_H
#define BASE_FILE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"

enum { FILE_SET_MAX = 4096, FILE_SET_NAME_MAX = 255 };
#define FILE_SET_BYTES_MAX ((uint64_t)1 << 60) /* of all files together */

struct file_set;

/* One file. The name has no slash and no control characters, and does not begin with a dot. */
struct file_set_entry {
    char name[FILE_SET_NAME_MAX + 1];
    uint64_t bytes, head_bytes;
};

/* A stretch of one file, and one of the run. */
struct file_stretch {
    size_t file;
    uint64_t offset, bytes;
};
struct file_set_range {
    uint64_t offset, length;
};

/* Names (each once), sizes and heads are right: they may come from a peer. ERR_CORRUPT. */
MUST_USE int file_set_check(const struct file_set_entry *entries, size_t n, struct error *e);
/* Checks the entries. Files of another size than said are ERR_CORRUPT. */
MUST_USE int file_set_open(struct file_set **out, const char *folder, const struct file_set_entry *entries, size_t n,
                           struct error *e);
/* The same, where each file has a path of its own; NULL: it is absent. */
MUST_USE int file_set_open_at(struct file_set **out, const char *const *paths, const struct file_set_entry *entries,
                              size_t n, struct error *e);
/* The same for writing, in a folder that is there: files that are not are made, with their length and no bytes, and
 * those of another length are cut or grown to it. Links are not followed. */
MUST_USE int file_set_create(struct file_set **out, const char *folder, const struct file_set_entry *entries, size_t n,
                             struct error *e);
void file_set_close(struct file_set **s);

size_t file_set_count(const struct file_set *s);
const struct file_set_entry *file_set_at(const struct file_set *s, size_t i);
const char *file_set_path(const struct file_set *s, size_t i); /* NULL where none was given */
bool file_set_has(const struct file_set *s, size_t i);         /* false: absent */
bool file_set_stat(const struct file_set *s, size_t i, struct stat *st); /* as it is now; false: absent */
/* What is here of a file, "layers 4:8"; NULL: all of it, or it is absent. */
const char *file_set_part(const struct file_set *s, size_t i);
/* These bytes of a file are here. */
bool file_set_holds(const struct file_set *s, const struct file_stretch *stretch);
/* ERR_NOT_FOUND with a sentence that names it when a file is absent, or here in part. */
MUST_USE int file_set_whole(const struct file_set *s, struct error *e);
uint64_t file_set_bytes(const struct file_set *s);
uint64_t file_set_head_bytes(const struct file_set *s); /* of all heads */
/* Where a byte of a file lies in the run. */
uint64_t file_set_offset(const struct file_set *s, size_t file, uint64_t offset_in_file);
/* Any stretch of the run, across files. ERR_NOT_FOUND: a file of it is absent, or a hole. ERR_CORRUPT: a file became
 * shorter. */
MUST_USE int file_set_read(const struct file_set *s, uint64_t offset, void *bytes, size_t n, struct error *e);
MUST_USE int file_set_write(struct file_set *s, uint64_t offset, const void *bytes, size_t n, struct error *e);
/* What was written is on the disk. */
MUST_USE int file_set_sync(struct file_set *s, struct error *e);

#endif
