/* progress: a progress bar on a terminal, a line now and then elsewhere.
 *
 *     loading layers 10-19  [#########-----]  64%  1.2 GB of 1.9 GB  412 MB/s  2 s left
 *
 * Written to standard error.  One thread owns a bar.                        */
#ifndef BASE_PROGRESS_H
#define BASE_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

struct progress;

struct progress *progress_start(const char *what, uint64_t bytes_total);
void progress_skip(struct progress *p, uint64_t bytes_done);   /* was done before: it is no part of the speed */
void progress_update(struct progress *p, uint64_t bytes_done); /* cheap: redraws at most 10 times a second */
void progress_finish(struct progress **p);                     /* NULL is fine */

/* "1.23 GB", "640 kB", "17 B": decimal units, into text; returns text. */
char *progress_bytes(uint64_t bytes, char text[static 32]);
char *progress_count(double count, char text[static 32]); /* "11.2 M", "235 B" */

#endif
