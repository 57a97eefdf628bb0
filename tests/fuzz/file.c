/* file: inputs as files, for parsers that take a path. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/path.h"
#include "tests/fuzz/fuzz.h"

enum { SEED_BYTES_MAX = 1 << 20 };

void fuzz_fail(const char *what)
{
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

const char *fuzz_file(const uint8_t *data, size_t size)
{
    static char path[32];
    static int fd = -1;
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
    FUZZ_CHECK(pwrite(fd, data, size, 0) == (ssize_t)size);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return path;
}

void fuzz_give_file(const char *path, fuzz_give_fn give, void *arg)
{
    char *data;
    size_t len;
    FUZZ_CHECK(path_read(path, SEED_BYTES_MAX, &data, &len, NULL) == 0);
    give(arg, data, len);
    mem_free(data);
}
