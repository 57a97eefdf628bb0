/* folder: a test program's own temporary folder. */
#ifndef TESTS_SHARD_FOLDER_H
#define TESTS_SHARD_FOLDER_H

#include <stddef.h>
#include <stdint.h>

/* Group set-up and tear-down of cmocka. */
int folder_open(void **state);
int folder_close(void **state);
/* A path in the folder; valid for the next few calls. */
const char *folder_path(const char *name);
/* Names in the folder. */
size_t folder_files(void);
void folder_write(const char *name, const void *bytes, size_t n);
/* Whole file; the caller frees with free(). */
uint8_t *folder_read(const char *name, size_t *n);

#endif
