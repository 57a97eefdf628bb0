/* disk_copy: a copy of a model that is on this machine already, checked against its manifest as far as it is
 * needed.
 *
 * Some of its files may be absent, or be others than the manifest says.  What was
 * read and found right is remembered in the cache folder, under the id of the
 * model and the files' paths, inodes and change times: a node that starts again
 * reads nothing twice.  One thread owns one.                              */
#ifndef NET_DISK_COPY_H
#define NET_DISK_COPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/manifest.h"

struct disk_copy;

/* paths: where each of the manifest's files would be, NULL: nowhere. Files of another size count as absent;
 * ERR_NOT_FOUND when all are. Borrows the manifest. */
MUST_USE int disk_copy_open(struct disk_copy **out, const struct manifest *m, const char *const *paths,
                            const char *cache_dir, struct error *e);
void disk_copy_close(struct disk_copy **d);
const struct file_set *disk_copy_files(const struct disk_copy *d);
/* 0 when every chunk that the ranges touch is here and right. ERR_NOT_FOUND: a file is absent. ERR_CORRUPT: it is
 * another. progress may be NULL; non-zero cancels. */
MUST_USE int disk_copy_check(struct disk_copy *d, const struct file_set_range *ranges, size_t n,
                             int (*progress)(void *arg, uint64_t done, uint64_t total), void *arg, struct error *e);
/* The same for the heads of all files that are here. */
MUST_USE int disk_copy_check_heads(struct disk_copy *d, int (*progress)(void *arg, uint64_t done, uint64_t total),
                                   void *arg, struct error *e);

#endif
