/* test_residence: a process that loads some layers of a file reads their bytes and no others, and is then as large as
 * was said, also once its KV cache is full.  Each measurement is of a process of its own.  */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "shard/arch/synth.h"
#include "shard/run/shard.h"
#include "tests/shard/folder.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

enum { LAYERS = 16, THREADS = 2, ROWS = 128, KV_TOKENS = 512,
       SLACK = 4 << 20, AHEAD = 16 << 20 /* that a system reads, of a file of 300 MB, past what is asked for */ };

/* What a process says of itself. */
struct measured {
    int status;
    uint64_t before, loaded, peak, full; /* resident */
    uint64_t read;                       /* from the disk, while it loaded */
};

static const char *file;

static int open_all(void **state)
{
    struct error e = {0};
    struct synth_options o = {.family = "llama", .layers = LAYERS, .hidden = 1024, .heads = 16, .kv_heads = 8,
                              .ffn = 4096, .vocab = 8192, .type = "q8_0"};
    if (folder_open(state) != 0)
        return -1;
    file = folder_path("large.gguf");
    return SANITIZED ? 0 : synth_write(file, &o, &e);
}

/* ---- the process that is measured ---- */

/* The number behind "name:" in a file of /proc, 0 when there is none. */
static uint64_t number_of(const char *path, const char *name)
{
    char line[256];
    unsigned long long v = 0;
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':' &&
            sscanf(line + strlen(name) + 1, "%llu", &v) == 1)
            break;
    if (f)
        fclose(f);
    return v;
}

static uint64_t resident(void)
{
    return number_of("/proc/self/status", "VmRSS") * 1024;
}

static struct shard_options options_of(const struct layer_range *range)
{
    return (struct shard_options){.range = *range, .kv_type = KV_F32, .kv_tokens = KV_TOKENS, .sequences_max = 1,
                                  .batch_rows_max = ROWS};
}

static int fill_kv(struct shard *s, const struct layer_range *range, uint32_t width)
{
    struct step_row rows[ROWS];
    float *in = mem_array((size_t)ROWS * width, sizeof(*in));
    int r = 0;
    for (uint32_t at = 0; r == 0 && at < KV_TOKENS; at += ROWS) {
        for (uint32_t i = 0; i < ROWS; i++)
            rows[i] = (struct step_row){.sequence = 1, .position = at + i, .token = 7};
        r = shard_step(s, rows, ROWS, range->embedding ? NULL : in, NULL);
    }
    mem_free(in);
    return r;
}

static void load(const struct layer_range *range, struct measured *out)
{
    struct device *d;
    struct model *m;
    struct shard *s = NULL;
    struct shard_options o = options_of(range);
    out->status = backend_open(&d, "cpu", &(struct device_options){.threads = THREADS}, NULL);
    if (out->status == 0)
        out->status = model_open(&m, file, NULL);
    if (out->status != 0)
        return;
    out->before = resident();
    uint64_t read = number_of("/proc/self/io", "read_bytes");
    out->status = shard_open(&s, d, m, &o, NULL);
    out->loaded = resident();
    out->peak = number_of("/proc/self/status", "VmHWM") * 1024;
    out->read = number_of("/proc/self/io", "read_bytes") - read;
    if (out->status == 0)
        out->status = fill_kv(s, range, model_hparams(m)->n_embd);
    out->full = resident();
}

static struct measured measure(const struct layer_range *range)
{
    struct measured out = {.status = -1};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        load(range, &out);
        _exit(write(ends[1], &out, sizeof(out)) == (ssize_t)sizeof(out) ? 0 : 1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &out, sizeof(out)), sizeof(out));
    close(ends[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(out.status, 0);
    return out;
}

/* ---- the file's pages ---- */

static uint8_t *pages_in_memory(size_t *n)
{
    struct stat st;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    *n = ((size_t)st.st_size + 4095) / 4096;
    uint8_t *pages = mem_alloc(*n);
    assert_int_equal(mincore(map, (size_t)st.st_size, pages), 0);
    munmap(map, (size_t)st.st_size);
    close(fd);
    return pages;
}

static size_t count_pages(void)
{
    size_t n, here = 0;
    uint8_t *pages = pages_in_memory(&n);
    for (size_t i = 0; i < n; i++)
        here += pages[i] & 1;
    mem_free(pages);
    return here;
}

/* False where the file system keeps them. */
static bool drop_pages(void)
{
    int fd = open(file, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fsync(fd), 0);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return count_pages() < 64;
}

static void test_only_the_bytes_of_the_layers_are_read(void **state)
{
    static const struct layer_range ranges[] = {{0, 3, true, false}, {5, 9, false, false}, {14, 16, false, true}};
    (void)state;
    if (SANITIZED || sysconf(_SC_PAGESIZE) != 4096 || !drop_pages()) {
        print_message("    the file's pages cannot be counted here\n");
        skip();
    }
    struct model *m;
    assert_int_equal(model_open(&m, file, NULL), 0);
    for (size_t i = 0; i < COUNTOF(ranges); i++) {
        assert_true(drop_pages() || i > 0); /* the header's pages are mapped by now */
        struct measured got = measure(&ranges[i]);
        uint64_t own = model_range_bytes(m, &ranges[i]) + gguf_header_bytes(model_file(m));
        uint64_t pages = (uint64_t)count_pages() * 4096;
        if (pages > own + AHEAD || got.read > own + AHEAD)
            fail_msg("layers %u-%u of %llu bytes: %llu are in memory, %llu were read", ranges[i].first,
                     ranges[i].last - 1, (unsigned long long)own, (unsigned long long)pages,
                     (unsigned long long)got.read);
    }
    model_close(&m);
}

/* ---- the process's size ---- */

static void expect_near(const char *what, const struct layer_range *r, uint64_t got, uint64_t said)
{
    uint64_t off = got > said ? got - said : said - got;
    if (off > said / 20)
        fail_msg("layers %u-%u, %s: %.1f MB were said, %.1f MB are resident", r->first, r->last - 1, what,
                 (double)said / 1e6, (double)got / 1e6);
}

static void test_a_shard_is_as_large_as_was_said(void **state)
{
    static const struct layer_range ranges[] = {
        {0, 16, true, true}, {0, 8, true, false}, {4, 12, false, false}, {10, 16, false, true}};
    (void)state;
    if (SANITIZED) {
        print_message("    sanitizers take memory of their own\n");
        skip();
    }
    struct model *m;
    assert_int_equal(model_open(&m, file, NULL), 0);
    for (size_t i = 0; i < COUNTOF(ranges); i++) {
        struct shard_options o = options_of(&ranges[i]);
        struct shard_need need;
        shard_need(m, &o, &need);
        need.scratch = model_scratch_bytes(m, &ranges[i], ROWS, THREADS);
        struct measured got = measure(&ranges[i]);
        expect_near("loaded", &ranges[i], got.loaded - got.before, need.weights + need.scratch);
        expect_near("with a full KV cache", &ranges[i], got.full - got.before,
                    need.weights + need.scratch + need.kv);
        /* while it loads, the file's pages of one tensor lie beside the copy */
        assert_true(got.peak <= got.loaded + model_tensor_find(m, ROLE_EMBEDDING, -1)->bytes + SLACK);
    }
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_bytes_of_the_layers_are_read),
        cmocka_unit_test(test_a_shard_is_as_large_as_was_said),
    };
    return cmocka_run_group_tests(tests, open_all, folder_close);
}
