/* quantize: declare every tensor in its new type, then stream them, the threads side by side on pieces of one.
 *
 * Rows hold whole blocks of both types, so a tensor is one stretch of blocks and a
 * piece of any multiple of 256 values is whole in both.                           */
#include "shard/run/quantize.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/progress.h"
#include "kernels/pool.h"
#include "shard/arch/mix.h"
#include "shard/format/gguf.h"
#include "shard/run/journal.h"

enum {
    PIECE = 1 << 15,      /* values that a thread converts at a time */
    ROUND_PIECES = 4,     /* a thread, before what was made is written */
    KEPT_BYTES = 1 << 20, /* of a tensor that stays, written at a time */
    SYNC_BYTES = 16 << 20,
    JOURNAL_HEAD_MAX = 1 << 20,
};

struct job {
    const char *in, *out;
    const struct quantize_options *o;
    const struct mix *mix;
    struct mix_model about;
    struct error *e;
    struct gguf *g;
    struct gguf_writer *w;
    struct pool *pool;
    float *values;        /* a PIECE for each thread */
    uint8_t *blocks;      /* what a round makes */
    size_t n_blocks_max;  /* its bytes */
    uint64_t done, total; /* bytes of the input */
    char *part, *journal_path, *what; /* what: the journal's first lines */
    struct journal *journal;
    uint64_t unsafe;      /* bytes written since the journal's last place */
};

/* One round: n values of a tensor. */
struct round {
    const struct job *job;
    const struct qtype *from, *to;
    const uint8_t *bytes;
    uint64_t n;
    float limit;          /* the largest magnitude that the type can hold */
    atomic_bool odd;      /* a value was no number or larger */
};

static const struct qtype *type_of(const struct job *j, const struct gguf_tensor *t)
{
    return mix_type(j->mix, &j->about, t->name, t->type, t->ne);
}

static float type_limit(const struct qtype *t)
{
    bool wide = t->id == QTYPE_F32 || t->id == QTYPE_BF16 || t->id == QTYPE_MXFP4;
    return wide ? FLT_MAX : 65504;
}

/* Infinity and NaN are above every limit too. */
static bool all_within(const float *x, size_t n, float limit)
{
    int wrong = 0;
    for (size_t i = 0; i < n; i++)
        wrong |= !(fabsf(x[i]) <= limit);
    return !wrong;
}

static void convert_part(void *arg, int part, int parts)
{
    struct round *r = arg;
    float *values = r->job->values + (size_t)part * PIECE;
    size_t first, last;
    pool_slice((r->n + PIECE - 1) / PIECE, 1, part, parts, &first, &last);
    for (size_t i = first; i < last; i++) {
        size_t at = i * PIECE, n = r->n - at < PIECE ? (size_t)(r->n - at) : PIECE;
        r->from->to_f32(r->bytes + at / r->from->block_len * r->from->block_bytes, values, n);
        if (!all_within(values, n, r->limit))
            r->odd = true;
        else
            r->to->from_f32(values, r->job->blocks + at / r->to->block_len * r->to->block_bytes, n);
    }
}

/* The pages of what was read need not stay. */
static void let_go(const uint8_t *bytes, uint64_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)bytes;
    uintptr_t first = (start + page - 1) / page * page, last = (start + n) / page * page;
    if (last > first)
        (void)madvise((void *)first, last - first, MADV_DONTNEED);
}

/* What was written so far is safe, and the journal says so. */
static int make_safe(struct job *j)
{
    struct journal_place place;
    gguf_writer_place(j->w, &place.tensor, &place.in_tensor);
    int r = gguf_writer_sync(j->w, j->e);
    if (r == 0)
        r = journal_add(j->journal, place, j->e);
    j->unsafe = 0;
    return r;
}

static int write_made(struct job *j, const void *bytes, size_t n, const uint8_t *read, uint64_t n_read)
{
    uint64_t most = j->o->sync_bytes ? j->o->sync_bytes : SYNC_BYTES;
    int r = gguf_writer_data(j->w, bytes, n, j->e);
    let_go(read, n_read);
    j->done += n_read;
    j->unsafe += n;
    if (r == 0 && j->unsafe >= most)
        r = make_safe(j);
    if (r == 0 && j->o->progress)
        j->o->progress(j->o->arg, j->done, j->total);
    if (r != 0 || !j->o->stop || !j->o->stop(j->o->arg))
        return r;
    r = make_safe(j);
    return r ? r : error_set(j->e, ERR_CANCELLED, "interrupted at %.0f %%; the same command goes on from there",
                             100.0 * (double)j->done / (double)j->total);
}

/* `from`: bytes of the output tensor that are there already. */
static int write_converted(struct job *j, const struct gguf_tensor *t, const struct qtype *to, uint64_t from)
{
    struct round r = {.job = j, .from = t->type, .to = to, .limit = type_limit(to)};
    uint64_t skip = from / to->block_bytes * to->block_len;
    uint64_t left = t->bytes / t->type->block_bytes * t->type->block_len - skip;
    uint64_t most = (uint64_t)pool_threads(j->pool) * ROUND_PIECES * PIECE;
    int status = 0;
    r.bytes = (const uint8_t *)gguf_tensor_bytes(j->g, t) + skip / t->type->block_len * t->type->block_bytes;
    while (status == 0 && left > 0) {
        r.n = left < most ? left : most;
        uint64_t read = r.n / t->type->block_len * t->type->block_bytes;
        pool_run(j->pool, convert_part, &r);
        if (r.odd)
            return error_set(j->e, ERR_INVALID, "%s: tensor %s holds values that are not numbers or too large for %s",
                             j->in, t->name, to->name);
        status = write_made(j, j->blocks, (size_t)(r.n / to->block_len * to->block_bytes), r.bytes, read);
        r.bytes += read;
        left -= r.n;
    }
    return status;
}

static int write_kept(struct job *j, const struct gguf_tensor *t, uint64_t from)
{
    const uint8_t *bytes = gguf_tensor_bytes(j->g, t);
    int status = 0;
    for (uint64_t at = from; status == 0 && at < t->bytes; at += KEPT_BYTES) {
        size_t n = t->bytes - at < KEPT_BYTES ? (size_t)(t->bytes - at) : KEPT_BYTES;
        status = write_made(j, bytes + at, n, bytes + at, n);
    }
    return status;
}

/* Everything but what says how the input was stored. */
static void copy_keys(struct job *j)
{
    static const char *const own[] = {"general.file_type", "general.quantization_version", "general.alignment",
                                      "split.no", "split.count", "split.tensors.count"};
    for (size_t i = 0; i < gguf_key_count(j->g); i++) {
        struct gguf_string key = gguf_key_at(j->g, i);
        bool keep = true;
        for (size_t k = 0; k < COUNTOF(own); k++)
            keep = keep && !(key.len == strlen(own[k]) && memcmp(key.text, own[k], key.len) == 0);
        if (keep)
            gguf_writer_copy_key(j->w, j->g, i);
    }
    gguf_writer_u32(j->w, "general.file_type", j->mix->file_type);
    gguf_writer_u32(j->w, "general.quantization_version", 2);
}

static void note(const struct job *j, const char *format, ...) PRINTF_LIKE(2, 3);
static void note(const struct job *j, const char *format, ...)
{
    struct error sentence;
    va_list args;
    if (!j->o->note)
        return;
    va_start(args, format);
    (void)error_setv(&sentence, ERR_INVALID, format, args);
    va_end(args);
    j->o->note(j->o->arg, sentence.text);
}

/* Refuses what would change nothing, and says what would lose twice. */
static int check_gain(const struct job *j)
{
    size_t changed = 0, twice = 0;
    const char *was = "";
    for (size_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        const struct qtype *to = type_of(j, t);
        changed += to != t->type;
        if (to == t->type || t->type->block_len == 1 || to->block_len == 1)
            continue;
        was = twice++ == 0 ? t->type->name : was;
    }
    if (changed == 0 && file_set_count(gguf_files(j->g)) == 1)
        return error_set(j->e, ERR_INVALID, "%s: every matrix takes no more than it would as %s already; nothing would "
                         "change", j->in, j->mix->name);
    if (twice > 0)
        note(j, "%zu matrices of %s are quantised already (%s and the like): quantised again they lose twice; take "
                "the original weights where you have them", twice, j->in, was);
    return 0;
}

static void declare(struct job *j)
{
    copy_keys(j);
    for (size_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        gguf_writer_tensor(j->w, t->name, type_of(j, t), t->n_dims, t->ne);
        j->total += t->bytes;
    }
}

/* What the output is made of: another input, type or version makes other bytes. */
static char *describe(const struct job *j)
{
    const struct file_set *files = gguf_files(j->g);
    struct buffer b;
    buffer_init(&b, JOURNAL_HEAD_MAX);
    buffer_printf(&b, "shoal quantize %s\ntype %s\n", SHOAL_VERSION, j->mix->name);
    for (size_t i = 0; i < file_set_count(files); i++) {
        struct stat st = {0};
        (void)file_set_stat(files, i, &st);
        buffer_printf(&b, "input %jd bytes of %jd.%09ld\n", (intmax_t)st.st_size, (intmax_t)st.st_mtim.tv_sec,
                      st.st_mtim.tv_nsec);
    }
    return buffer_take(&b, NULL);
}

/* Before hours are spent: is there room for what is not written yet? */
static int check_room(const struct job *j)
{
    struct stat st = {0};
    struct statvfs disk;
    char need_text[32], free_text[32];
    if (stat(j->part, &st) != 0 || statvfs(j->part, &disk) != 0)
        return 0;
    uint64_t there = (uint64_t)st.st_blocks * 512, all = gguf_writer_bytes(j->w);
    uint64_t need = all > there ? all - there : 0, free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (need <= free_bytes)
        return 0;
    return error_set(j->e, ERR_IO, "%s: needs %s more, and its disk has %s free", j->out,
                     progress_bytes(need, need_text), progress_bytes(free_bytes, free_text));
}

/* Where an earlier run was interrupted, else the beginning. A place inside a tensor is the end of a round. */
static struct journal_place find_place(const struct job *j)
{
    struct journal_place place = journal_find(j->journal_path, j->what);
    if (place.tensor < gguf_tensor_count(j->g)) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, (size_t)place.tensor);
        const struct qtype *to = type_of(j, t);
        uint64_t values = place.in_tensor / to->block_bytes * to->block_len;
        if (place.in_tensor % to->block_bytes != 0 || (to != t->type && values % PIECE != 0))
            place.in_tensor = 0;
    }
    if (gguf_writer_go_on(j->w, place.tensor, place.in_tensor))
        return place;
    return (struct journal_place){0};
}

static void count_done(struct job *j, struct journal_place place)
{
    for (size_t i = 0; i < gguf_tensor_count(j->g) && i <= place.tensor; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        const struct qtype *to = type_of(j, t);
        uint64_t blocks = place.in_tensor / to->block_bytes * to->block_len / t->type->block_len;
        j->done += i < place.tensor ? t->bytes : blocks * t->type->block_bytes;
    }
    if (j->done > 0)
        note(j, "going on with %s, which is %.0f %% done", j->part, 100.0 * (double)j->done / (double)j->total);
    if (j->o->progress)
        j->o->progress(j->o->arg, j->done, j->total);
}

static int begin(struct job *j, struct journal_place *place)
{
    declare(j);
    int r = gguf_writer_header(j->w, j->e);
    if (r != 0)
        return r;
    *place = find_place(j);
    if (place->tensor == 0 && place->in_tensor == 0 && !gguf_writer_go_on(j->w, 0, 0))
        return error_set(j->e, ERR_IO, "%s: cannot be written from its beginning", j->part);
    r = journal_open(&j->journal, j->journal_path, j->what, *place, j->e);
    count_done(j, *place);
    return r == 0 ? check_room(j) : r;
}

/* An input that changed meanwhile would give a mixture of two. */
static int check_input(const struct job *j)
{
    char *now = describe(j);
    int r = strcmp(now, j->what) != 0 ? error_set(j->e, ERR_CORRUPT, "%s: was changed while it was read", j->in) : 0;
    mem_free(now);
    return r;
}

static int write_all(struct job *j)
{
    struct journal_place place;
    int r = begin(j, &place);
    for (uint64_t i = place.tensor; r == 0 && i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, (size_t)i);
        const struct qtype *to = type_of(j, t);
        uint64_t from = i == place.tensor ? place.in_tensor : 0;
        r = to == t->type ? write_kept(j, t, from) : write_converted(j, t, to, from);
    }
    if (r == 0)
        r = check_input(j);
    return r == 0 ? gguf_writer_finish(&j->w, j->e) : r;
}

/* A number of the file's architecture, 0 when it is not there. */
static uint64_t arch_number(const struct gguf *g, const char *what)
{
    struct gguf_string arch;
    char key[GGUF_KEY_MAX + 1];
    uint64_t v = 0;
    if (!gguf_get_string(g, "general.architecture", &arch) || arch.len > GGUF_KEY_MAX)
        return 0;
    int n = snprintf(key, sizeof(key), "%.*s.%s", (int)arch.len, arch.text, what);
    return n > 0 && (size_t)n < sizeof(key) && gguf_get_u64(g, key, &v) ? v : 0;
}

static int check_output(const struct job *j)
{
    const struct file_set *files = gguf_files(j->g);
    struct stat in, out;
    for (size_t i = 0; stat(j->out, &out) == 0 && i < file_set_count(files); i++)
        if (file_set_stat(files, i, &in) && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
            return error_set(j->e, ERR_INVALID, "%s is a file that is read; name another", j->out);
    return 0;
}

static int open_input(struct job *j)
{
    int r = gguf_open(&j->g, j->in, j->e);
    if (r == 0)
        r = file_set_whole(gguf_files(j->g), j->e);
    if (r == 0)
        r = check_output(j);
    if (r != 0)
        return r;
    j->about = (struct mix_model){arch_number(j->g, "block_count"), arch_number(j->g, "expert_count"),
                                  !gguf_tensor_find(j->g, "output.weight")};
    j->what = describe(j);
    return 0;
}

static int open_all(struct job *j)
{
    int threads = j->o->threads > 0 ? j->o->threads : pool_cpu_count();
    j->mix = mix_find(j->o->type);
    if (!j->mix)
        return error_set(j->e, ERR_INVALID, "there is no type \"%s\" to write; there are %s", j->o->type, mix_list());
    int r = open_input(j);
    if (r == 0)
        r = check_gain(j);
    if (r == 0)
        r = pool_create(&j->pool, threads, 0, j->e);
    if (r == 0)
        r = gguf_writer_create_part(&j->w, j->out, j->part, j->e);
    if (r != 0)
        return r;
    threads = pool_threads(j->pool);
    j->n_blocks_max = (size_t)threads * ROUND_PIECES * PIECE * sizeof(float);
    j->values = mem_array((size_t)threads * PIECE, sizeof(*j->values));
    j->blocks = mem_alloc(j->n_blocks_max);
    return 0;
}

/* What is there already stays where going on can help. */
static int end(struct job *j, int status)
{
    char text[sizeof(j->e->text)];
    bool stays = (status == ERR_CANCELLED || status == ERR_IO) && j->done > 0;
    if (j->w && !stays)
        (void)unlink(j->journal_path);
    if (!stays)
        gguf_writer_discard(&j->w);
    if (!stays || status != ERR_IO || !j->e)
        return status;
    snprintf(text, sizeof(text), "%s", j->e->text);
    return error_set(j->e, ERR_IO, "%s; %.0f %% is done and stays: the same command goes on from there", text,
                     100.0 * (double)j->done / (double)j->total);
}

static void close_all(struct job *j)
{
    journal_close(&j->journal);
    gguf_writer_abort(&j->w);
    pool_destroy(&j->pool);
    gguf_close(&j->g);
    mem_free(j->values);
    mem_free(j->blocks);
    mem_free(j->part);
    mem_free(j->journal_path);
    mem_free(j->what);
}

int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *e)
{
    struct job j = {.in = in, .out = out, .o = o, .e = e};
    j.part = mem_printf("%s.shoal-part", out);
    j.journal_path = mem_printf("%s.shoal-journal", out);
    int r = open_all(&j);
    if (r == 0)
        r = write_all(&j);
    if (r == 0)
        (void)unlink(j.journal_path);
    else
        r = end(&j, r);
    close_all(&j);
    return r;
}
