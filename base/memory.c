/* memory: small memory aborts when it is not there; capacity memory says so. */
#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { BIG_MAPPED = 64 << 10, BIG_HUGE = 4 << 20 };

static void die(void)
{
    static const char text[] = "shoal: out of memory\n";
    if (write(2, text, sizeof(text) - 1) < 0) {
        /* Nothing left to tell it to. */
    }
    abort();
}

void *mem_alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        die();
    return p;
}

void *mem_array(size_t count, size_t size)
{
    size_t bytes;
    if (!mem_mul(count, size, &bytes))
        die();
    return mem_alloc(bytes);
}

void *mem_resize(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (!mem_mul(count, size, &bytes))
        die();
    void *q = realloc(p, bytes ? bytes : 1);
    if (!q)
        die();
    return q;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

char *mem_strndup(const char *s, size_t n)
{
    char *copy = mem_alloc(n + 1);
    memcpy(copy, s, n);
    return copy;
}

char *mem_printf(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0)
        die();
    char *text = mem_alloc((size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void mem_free(void *p)
{
    free(p);
}

void *mem_try_big(size_t bytes)
{
    if (bytes > SIZE_MAX / 2)
        return NULL;
    if (bytes < BIG_MAPPED) {
        size_t rounded = (bytes + 63) / 64 * 64;
        void *p = aligned_alloc(64, rounded ? rounded : 64);
        if (p)
            memset(p, 0, rounded ? rounded : 64);
        return p;
    }
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    if (bytes >= BIG_HUGE)
        (void)madvise(p, bytes, MADV_HUGEPAGE);
    return p;
}

void mem_big_free(void *p, size_t bytes)
{
    if (!p)
        return;
    if (bytes < BIG_MAPPED)
        free(p);
    else
        munmap(p, bytes);
}

void mem_big_rest(void *p, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)p + page - 1) / page * page, last = ((uintptr_t)p + bytes) / page * page;
    if (p && last > first)
        (void)madvise((void *)first, last - first, MADV_DONTNEED);
}

void mem_mapped_rest(const void *p, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)p / page * page;
    if (p && bytes > 0)
        (void)madvise((void *)start, (size_t)((uintptr_t)p + bytes - start), MADV_DONTNEED);
}

void mem_mapped_fetch(const void *p, size_t bytes)
{
#ifdef MADV_POPULATE_READ
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)p / page * page;
    if (p && bytes > 0)
        (void)madvise((void *)start, (size_t)((uintptr_t)p + bytes - start), MADV_POPULATE_READ);
#else
    (void)p, (void)bytes;
#endif
}

bool mem_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* The number in a one-line file, or `none`. */
static uint64_t number_in(const char *path, uint64_t none)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return none;
    unsigned long long v;
    int got = fscanf(f, "%llu", &v);
    fclose(f);
    return got == 1 ? (uint64_t)v : none;
}

/* The value of "name: N kB" in /proc/meminfo, in bytes, or 0. */
static uint64_t meminfo(const char *name)
{
    FILE *f = fopen("/proc/meminfo", "re");
    if (!f)
        return 0;
    char line[256];
    uint64_t bytes = 0;
    size_t n = strlen(name);
    while (fgets(line, sizeof(line), f)) {
        unsigned long long kb;
        if (strncmp(line, name, n) == 0 && sscanf(line + n, ": %llu", &kb) == 1) {
            bytes = (uint64_t)kb * 1024;
            break;
        }
    }
    fclose(f);
    return bytes;
}

/* What the cgroup of this process leaves: its limit less what it uses (page cache counts as free). */
static uint64_t cgroup_left(void)
{
    static const struct {
        const char *limit, *usage;
    } files[] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    for (size_t i = 0; i < COUNTOF(files); i++) {
        uint64_t limit = number_in(files[i].limit, UINT64_MAX);
        uint64_t usage = number_in(files[i].usage, 0);
        if (limit < UINT64_MAX / 4)
            return limit > usage ? limit - usage : 0;
    }
    return UINT64_MAX;
}

size_t mem_available(void)
{
    uint64_t system = meminfo("MemAvailable");
    uint64_t group = cgroup_left();
    return (size_t)(system < group ? system : group);
}

size_t mem_total(void)
{
    return (size_t)meminfo("MemTotal");
}
