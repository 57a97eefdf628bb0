/* driver: runs a fuzz target without libFuzzer: its seeds, files, and random mutations of them.
 *
 *   fuzz_NAME [-n ROUNDS] [-s SEED] [-w FOLDER] [FILE...]
 *
 * The same seed gives the same mutations.  FILEs join the seeds; -w writes all of them to a folder (a corpus for
 * libFuzzer).  The input at work lies in $SHOAL_FUZZ_LAST, where that is set: what is there after a crash is its
 * cause.                                                                                                       */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/path.h"
#include "base/random.h"
#include "tests/fuzz/fuzz.h"

enum { SEEDS_MAX = 256, INPUT_MAX = 1 << 20, CHANGES_MAX = 6, SPAN_MAX = 64 };

struct corpus {
    struct {
        char *bytes;
        size_t n;
    } seeds[SEEDS_MAX];
    size_t n;
    struct random_state random;
};

static void add(void *arg, const void *bytes, size_t n)
{
    struct corpus *c = arg;
    FUZZ_CHECK(c->n < SEEDS_MAX);
    c->seeds[c->n].bytes = mem_alloc(n + 1);
    memcpy(c->seeds[c->n].bytes, bytes, n);
    c->seeds[c->n++].n = n;
}

static void keep(const char *path, const void *bytes, size_t n)
{
    FILE *f = path ? fopen(path, "wb") : NULL;
    if (!f)
        return;
    FUZZ_CHECK(fwrite(bytes, 1, n, f) == n);
    FUZZ_CHECK(fclose(f) == 0);
}

/* In an allocation of its exact size, so that a sanitizer sees a read past it. */
static void try(const void *bytes, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    FUZZ_CHECK(exact);
    memcpy(exact, bytes, n);
    keep(getenv("SHOAL_FUZZ_LAST"), bytes, n);
    (void)LLVMFuzzerTestOneInput(exact, n);
    free(exact);
}

static size_t below(struct corpus *c, size_t n)
{
    return n ? (size_t)(random_u64(&c->random) % n) : 0;
}

/* A number as lengths and counts are spelled: small, all ones, a power of two, or about them. */
static uint64_t number(struct corpus *c)
{
    switch (below(c, 4)) {
    case 0: return below(c, 16);
    case 1: return UINT64_MAX - below(c, 3);
    case 2: return ((uint64_t)1 << below(c, 64)) - below(c, 2);
    default: return random_u64(&c->random);
    }
}

static void replace(struct buffer *b, size_t at, size_t gone, const void *with, size_t n)
{
    struct buffer tail;
    buffer_init(&tail, INPUT_MAX);
    buffer_add(&tail, b->data + at + gone, b->len - at - gone);
    b->len = at;
    buffer_add(b, with, n);
    buffer_add(b, buffer_text(&tail), tail.len);
    buffer_close(&tail);
}

static void change(struct corpus *c, struct buffer *b)
{
    const size_t other = below(c, c->n), widths[] = {1, 2, 4, 8};
    size_t at = below(c, b->len), left = b->len - at, width = widths[below(c, COUNTOF(widths))];
    size_t span = below(c, (left < SPAN_MAX ? left : SPAN_MAX) + 1);
    uint64_t value = number(c);
    if (b->len == 0)
        return;
    switch (below(c, 7)) {
    case 0: b->data[at] ^= (char)(1 << below(c, 8)); break;
    case 1: b->data[at] = (char)value; break;
    case 2: memcpy(b->data + at, &value, width < left ? width : left); break;
    case 3: replace(b, at, span, "", 0); break;
    case 4: replace(b, at, 0, &value, width); break;
    case 5: b->len = below(c, 4) ? b->len : at; break;
    default: {
        size_t from = below(c, c->seeds[other].n), most = c->seeds[other].n - from;
        replace(b, at, span, c->seeds[other].bytes + from, below(c, (most < SPAN_MAX ? most : SPAN_MAX) + 1));
    }
    }
}

static void mutate(struct corpus *c, unsigned long rounds)
{
    struct buffer b;
    buffer_init(&b, INPUT_MAX);
    for (unsigned long i = 0; i < rounds; i++) {
        size_t seed = below(c, c->n);
        buffer_clear(&b);
        buffer_add(&b, c->seeds[seed].bytes, c->seeds[seed].n);
        for (size_t n = 1 + below(c, CHANGES_MAX); n > 0; n--)
            change(c, &b);
        try(buffer_text(&b), b.len);
    }
    buffer_close(&b);
}

static void write_seeds(const struct corpus *c, const char *folder)
{
    FUZZ_CHECK(path_make_dirs(folder, 0755, NULL) == 0);
    for (size_t i = 0; i < c->n; i++) {
        char *path = mem_printf("%s/seed-%03zu", folder, i);
        FUZZ_CHECK(path_write_atomic(path, c->seeds[i].bytes, c->seeds[i].n, 0644, NULL) == 0);
        mem_free(path);
    }
}

int main(int argc, char **argv)
{
    static struct corpus c;
    const char *folder = NULL;
    unsigned long rounds = 0, seed = 1;
    for (int o; (o = getopt(argc, argv, "n:s:w:")) != -1;) {
        if (o == 'n')
            rounds = strtoul(optarg, NULL, 10);
        else if (o == 's')
            seed = strtoul(optarg, NULL, 10);
        else if (o == 'w')
            folder = optarg;
        else
            return 64;
    }
    random_seed(&c.random, seed);
    fuzz_seeds(add, &c);
    for (int i = optind; i < argc; i++)
        fuzz_give_file(argv[i], add, &c);
    FUZZ_CHECK(c.n > 0);
    if (folder)
        write_seeds(&c, folder);
    for (size_t i = 0; i < c.n; i++)
        try(c.seeds[i].bytes, c.seeds[i].n);
    mutate(&c, rounds);
    printf("%zu seeds, %lu mutations\n", c.n, rounds);
    for (size_t i = 0; i < c.n; i++)
        mem_free(c.seeds[i].bytes);
    return 0;
}
