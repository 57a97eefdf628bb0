/* fuzz: what a fuzz target is made of.
 *
 * A target feeds any bytes to one parser and returns; what it must not do is
 * crash, trip a sanitizer, hang, or give out what the parser's header rules out
 * (FUZZ_CHECK).  It makes its seeds itself, so that none are stale.  The same
 * target is a test (driver.c replays seeds and a bounded number of mutations of
 * them) and, with SHOAL_FUZZ, a libFuzzer program.                           */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The name is libFuzzer's. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every target has one: gives its good inputs, which may go when `give` returns. */
typedef void (*fuzz_give_fn)(void *arg, const void *bytes, size_t n);
void fuzz_seeds(fuzz_give_fn give, void *arg);

/* A false one ends the process as a crash does, also where asserts are off. */
#define FUZZ_CHECK(what) \
    do { \
        if (!(what)) \
            fuzz_fail(#what); \
    } while (0)
void fuzz_fail(const char *what);

/* file.c: the bytes as a file in memory, whose path is good until the next call. */
const char *fuzz_file(const uint8_t *data, size_t size);
/* Gives the file of this path as a seed. */
void fuzz_give_file(const char *path, fuzz_give_fn give, void *arg);

#endif
