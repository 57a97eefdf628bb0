/* memory: allocation in two kinds.
 *
 * Small control-plane memory (names, tables, requests) aborts the process with
 * a message when it cannot be had: mem_*.  Capacity memory (weights, KV, row
 * buffers) is asked for with mem_try_* and its absence is reported upward.
 * Sizes that derive from outside data go through mem_mul() first.            */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

void *mem_alloc(size_t bytes);                      /* zeroed; never NULL */
void *mem_array(size_t count, size_t size);         /* zeroed; never NULL; aborts on overflow */
void *mem_resize(void *p, size_t count, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
char *mem_printf(const char *format, ...) PRINTF_LIKE(1, 2);
void mem_free(void *p);                             /* NULL is fine */

/* Capacity memory: 64-byte aligned, zeroed, page-backed when large.  NULL when it cannot be had.
 * Free with mem_big_free() and the same size. */
void *mem_try_big(size_t bytes);
void mem_big_free(void *p, size_t bytes);
/* What is in it is of no use any more: its pages go back to the system until they are written again. It may then hold
 * zeros or what it held. */
void mem_big_rest(void *p, size_t bytes);
/* The same of a mapped file's bytes: the pages that hold them need not stay, and are read again when asked for. */
void mem_mapped_rest(const void *p, size_t bytes);
/* The pages of a mapped file that hold `bytes` at p are to be there at once, where the system can do that: it costs
 * less than a fault for every few of them. */
void mem_mapped_fetch(const void *p, size_t bytes);

/* *out = a*b, or false when that does not fit. */
MUST_USE bool mem_mul(size_t a, size_t b, size_t *out);

/* Free physical memory that a new allocation could use, in bytes: the smaller of what the
 * system has available and what a cgroup limit leaves. */
size_t mem_available(void);
size_t mem_total(void);

#endif
