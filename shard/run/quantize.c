/* quantize: declare every tensor in its new type, then stream them, the threads side by side on pieces of one.
 *
 * Rows hold whole blocks of both types, so a tensor is one stretch of blocks and a
 * piece of any multiple of 256 values is whole in both.                           */
#include "shard/run/quantize.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "kernels/pool.h"
#include "shard/run/mix.h"

enum {
    PIECE = 1 << 15,      /* values that a thread converts at a time */
    ROUND_PIECES = 4,     /* a thread, before what was made is written */
    KEPT_BYTES = 1 << 20, /* of a tensor that stays, written at a time */
};

struct job {
    const char *in;
    const struct quantize_options *o;
    const struct mix *mix;
    struct error *e;
    struct gguf *g;
    struct gguf_writer *w;
    struct pool *pool;
    float *values;        /* a PIECE for each thread */
    uint8_t *blocks;      /* what a round makes */
    size_t n_blocks_max;  /* its bytes */
    uint64_t done, total; /* bytes of the input */
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

static int go_on(struct job *j, const uint8_t *read, uint64_t bytes)
{
    let_go(read, bytes);
    j->done += bytes;
    if (j->o->progress)
        j->o->progress(j->o->arg, j->done, j->total);
    if (j->o->stop && j->o->stop(j->o->arg))
        return error_set(j->e, ERR_CANCELLED, "interrupted; nothing was written");
    return 0;
}

static int write_converted(struct job *j, const struct gguf_tensor *t, const struct qtype *to)
{
    struct round r = {.job = j, .from = t->type, .to = to, .limit = type_limit(to)};
    uint64_t left = t->bytes / t->type->block_bytes * t->type->block_len;
    uint64_t most = (uint64_t)pool_threads(j->pool) * ROUND_PIECES * PIECE;
    int status = 0;
    r.bytes = gguf_tensor_bytes(j->g, t);
    while (status == 0 && left > 0) {
        r.n = left < most ? left : most;
        uint64_t read = r.n / t->type->block_len * t->type->block_bytes;
        pool_run(j->pool, convert_part, &r);
        if (r.odd)
            return error_set(j->e, ERR_INVALID, "%s: tensor %s holds values that are not numbers or too large for %s",
                             j->in, t->name, to->name);
        status = gguf_writer_data(j->w, j->blocks, (size_t)(r.n / to->block_len * to->block_bytes), j->e);
        if (status == 0)
            status = go_on(j, r.bytes, read);
        r.bytes += read;
        left -= r.n;
    }
    return status;
}

static int write_kept(struct job *j, const struct gguf_tensor *t)
{
    const uint8_t *bytes = gguf_tensor_bytes(j->g, t);
    int status = 0;
    for (uint64_t at = 0; status == 0 && at < t->bytes; at += KEPT_BYTES) {
        size_t n = t->bytes - at < KEPT_BYTES ? (size_t)(t->bytes - at) : KEPT_BYTES;
        status = gguf_writer_data(j->w, bytes + at, n, j->e);
        if (status == 0)
            status = go_on(j, bytes + at, n);
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

static int write_all(struct job *j)
{
    copy_keys(j);
    for (size_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        gguf_writer_tensor(j->w, t->name, mix_type(j->mix, j->g, t), t->n_dims, t->ne);
        j->total += t->bytes;
    }
    int r = gguf_writer_header(j->w, j->e);
    for (size_t i = 0; r == 0 && i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        const struct qtype *to = mix_type(j->mix, j->g, t);
        r = to == t->type ? write_kept(j, t) : write_converted(j, t, to);
    }
    return r == 0 ? gguf_writer_finish(&j->w, j->e) : r;
}

static int open_all(struct job *j, const char *out)
{
    struct stat a, b;
    int threads = j->o->threads > 0 ? j->o->threads : pool_cpu_count();
    j->mix = mix_find(j->o->type);
    if (!j->mix)
        return error_set(j->e, ERR_INVALID, "there is no type \"%s\" to write; there are %s", j->o->type,
                         quantize_list());
    int r = gguf_open(&j->g, j->in, j->e);
    if (r == 0 && stat(j->in, &a) == 0 && stat(out, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
        r = error_set(j->e, ERR_INVALID, "%s is the file that is read; name another", out);
    if (r == 0)
        r = pool_create(&j->pool, threads, 0, j->e);
    if (r == 0)
        r = gguf_writer_create(&j->w, out, j->e);
    if (r != 0)
        return r;
    threads = pool_threads(j->pool);
    j->n_blocks_max = (size_t)threads * ROUND_PIECES * PIECE * sizeof(float);
    j->values = mem_array((size_t)threads * PIECE, sizeof(*j->values));
    j->blocks = mem_alloc(j->n_blocks_max);
    return 0;
}

int quantize_write(const char *in, const char *out, const struct quantize_options *o, struct error *e)
{
    struct job j = {.in = in, .o = o, .e = e};
    int r = open_all(&j, out);
    if (r == 0)
        r = write_all(&j);
    gguf_writer_abort(&j.w);
    pool_destroy(&j.pool);
    gguf_close(&j.g);
    mem_free(j.values);
    mem_free(j.blocks);
    return r;
}
