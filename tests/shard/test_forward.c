/* test_forward: a shard of the demo model: how rows are cut into steps changes no bit, refused steps change
 * nothing, a step allocates nothing, and what cannot be loaded is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "route.h"

#define DEMO "tests/data/shoal-demo-q8_0.gguf"

enum { TEXT = 150, ROWS = 160 };

/* ---- allocations are counted: the linker sends those of the house here ---- */

static atomic_uint allocations;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t alignment, size_t n);
void *__real_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);

void *__wrap_malloc(size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
    atomic_fetch_add(&allocations, 1);
    return __real_aligned_alloc(alignment, n);
}

void *__wrap_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    atomic_fetch_add(&allocations, 1);
    return __real_mmap(at, n, protection, flags, fd, offset);
}

/* ---- helpers ---- */

static const struct route_options plain = {.path = DEMO, .batch_rows_max = ROWS, .kv_tokens = 1024};

/* Some text in the model's ids. */
static void text(int32_t *tokens, uint32_t n, uint32_t which)
{
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)((i * 37 + which * 101 + i * i % 13) % 2000);
}

static size_t row_bytes(const struct route *r)
{
    return model_hparams(r->model)->n_vocab * sizeof(float);
}

static int step_one(struct route *r, struct step_row row)
{
    struct error e = {0};
    int status = route_step(r, &row, 1, &e);
    assert_true(status == 0 || e.text[0] != '\0');
    return status;
}

/* ---- the same bits however rows are cut ---- */

static void check_chunks(enum kv_type type, const uint32_t *chunks, size_t n_chunks)
{
    struct route_options o = plain;
    int32_t tokens[TEXT];
    struct route r;
    o.kv_type = type;
    text(tokens, TEXT, 0);
    route_open(&r, &o);
    float *whole = route_run(&r, 1, 0, tokens, TEXT, TEXT);
    for (size_t i = 0; i < n_chunks; i++) {
        float *cut = route_run(&r, 2, 0, tokens, TEXT, chunks[i]);
        assert_memory_equal(cut, whole, TEXT * row_bytes(&r));
        mem_free(cut);
    }
    mem_free(whole);
    route_close(&r);
}

static void test_forward_chunks_give_the_same_bits(void **state)
{
    (void)state;
    check_chunks(KV_F32, (const uint32_t[]){1, 7, 64, 149}, 4);
    check_chunks(KV_F16, (const uint32_t[]){3, 63, 65}, 3);
}

/* Sequences of different lengths advance by different numbers of rows in every step. */
static void test_forward_shared_steps_give_the_same_bits(void **state)
{
    (void)state;
    enum { SEQUENCES = 3 };
    const uint32_t pace[SEQUENCES] = {2, 5, 11};
    struct route r;
    int32_t tokens[SEQUENCES][TEXT];
    float *alone[SEQUENCES];
    uint32_t at[SEQUENCES] = {0}, left = 1;
    route_open(&r, &plain);
    for (uint32_t s = 0; s < SEQUENCES; s++) {
        text(tokens[s], TEXT, s + 1);
        alone[s] = route_run(&r, 9, 0, tokens[s], TEXT, TEXT);
    }
    for (uint32_t round = 0; left > 0; round++) {
        struct step_row rows[ROWS];
        const float *expect[ROWS];
        uint32_t n = 0;
        left = 0;
        for (uint32_t k = 0; k < SEQUENCES; k++) {
            uint32_t s = (k + round) % SEQUENCES;
            for (uint32_t i = 0; i < pace[s] && at[s] < TEXT; i++, at[s]++, n++) {
                rows[n] = (struct step_row){s, 0, at[s], tokens[s][at[s]], ROW_LOGITS, 0};
                expect[n] = alone[s] + (size_t)at[s] * model_hparams(r.model)->n_vocab;
            }
            left += TEXT - at[s];
        }
        struct error e = {0};
        assert_int_equal(n == 0 ? 0 : route_step(&r, rows, n, &e), 0);
        for (uint32_t i = 0; i < n; i++)
            assert_memory_equal(route_logits(&r, i), expect[i], row_bytes(&r));
    }
    for (uint32_t s = 0; s < SEQUENCES; s++)
        mem_free(alone[s]);
    route_close(&r);
}

/* Rows whose logits nobody wants are left out behind the last attention: those of the others stay what they are. */
static void test_forward_wanted_rows_do_not_depend_on_the_others(void **state)
{
    (void)state;
    struct route r;
    int32_t tokens[TEXT];
    struct step_row rows[TEXT];
    text(tokens, TEXT, 4);
    route_open(&r, &plain);
    float *all = route_run(&r, 1, 0, tokens, TEXT, TEXT);
    for (uint32_t i = 0; i < TEXT; i++)
        rows[i] = (struct step_row){2, 0, i, tokens[i], i % 40 == 3 ? ROW_SAMPLE : 0, 0};
    assert_int_equal(route_step(&r, rows, TEXT, NULL), 0);
    for (uint32_t i = 3; i < TEXT; i += 40)
        assert_memory_equal(route_logits(&r, i), all + (size_t)i * model_hparams(r.model)->n_vocab, row_bytes(&r));
    for (uint32_t i = 0; i < TEXT; i++) /* none at all: only the KV is made */
        rows[i] = (struct step_row){3, 0, i, tokens[i], 0, 0};
    assert_int_equal(route_step(&r, rows, TEXT - 1, NULL), 0);
    assert_int_equal(step_one(&r, (struct step_row){3, 0, TEXT - 1, tokens[TEXT - 1], ROW_SAMPLE, 0}), 0);
    assert_memory_equal(route_logits(&r, 0), all + (size_t)(TEXT - 1) * model_hparams(r.model)->n_vocab,
                        row_bytes(&r));
    mem_free(all);
    route_close(&r);
}

/* More wanted rows than are computed at a time, asked for backwards. */
static void test_forward_logits_come_in_any_order(void **state)
{
    (void)state;
    struct route r;
    int32_t tokens[TEXT];
    struct step_row rows[TEXT];
    text(tokens, TEXT, 5);
    route_open(&r, &plain);
    float *all = route_run(&r, 1, 0, tokens, TEXT, TEXT);
    for (uint32_t i = 0; i < TEXT; i++)
        rows[i] = (struct step_row){1, 0, i, tokens[i], ROW_LOGITS, 0};
    assert_int_equal(route_step(&r, rows, TEXT, NULL), 0);
    for (uint32_t i = TEXT; i-- > 0;)
        assert_memory_equal(route_logits(&r, i), all + (size_t)i * model_hparams(r.model)->n_vocab, row_bytes(&r));
    mem_free(all);
    route_close(&r);
}

static void test_forward_truncates_to_a_lower_position(void **state)
{
    (void)state;
    struct route r;
    int32_t first[TEXT], second[TEXT];
    text(first, TEXT, 6);
    text(second, TEXT, 7);
    memcpy(second, first, 70 * sizeof(int32_t));
    route_open(&r, &plain);
    float *fresh = route_run(&r, 1, 0, second, TEXT, TEXT);
    mem_free(route_run(&r, 2, 0, first, TEXT, TEXT));
    float *again = route_run(&r, 2, 70, second + 70, TEXT - 70, 13);
    assert_memory_equal(again, fresh + (size_t)70 * model_hparams(r.model)->n_vocab, (TEXT - 70) * row_bytes(&r));
    mem_free(again);
    again = route_run(&r, 2, TEXT - 1, second + TEXT - 1, 1, 1); /* a repeated row */
    assert_memory_equal(again, fresh + (size_t)(TEXT - 1) * model_hparams(r.model)->n_vocab, row_bytes(&r));
    mem_free(again);
    mem_free(fresh);
    route_close(&r);
}

/* ---- refusals ---- */

static void test_forward_refused_steps_change_nothing(void **state)
{
    (void)state;
    struct route_options o = plain;
    struct route r;
    int32_t tokens[TEXT];
    struct step_row rows[ROWS + 1] = {{0}};
    o.kv_tokens = 2 * KV_PAGE_TOKENS;
    o.sequences_max = 2;
    text(tokens, TEXT, 8);
    route_open(&r, &o);
    float *whole = route_run(&r, 1, 0, tokens, 80, 80);
    mem_free(route_run(&r, 1, 0, tokens, 50, 50));
    const struct {
        struct step_row row;
        int status;
    } cases[] = {
        {{1, 1, 50, 5, 0, 0}, ERR_CONFLICT},  /* epoch */
        {{1, 0, 51, 5, 0, 0}, ERR_CONFLICT},  /* gap */
        {{2, 0, 50, 5, 0, 0}, ERR_CONFLICT},  /* unknown, not at 0 */
        {{1, 0, 50, -1, 0, 0}, ERR_INVALID},  /* token */
        {{1, 0, 50, 2048, 0, 0}, ERR_INVALID},
        {{1, 0, 2048, 5, 0, 0}, ERR_LIMIT},   /* context */
    };
    for (size_t i = 0; i < COUNTOF(cases); i++)
        assert_int_equal(step_one(&r, cases[i].row), cases[i].status);
    assert_int_equal(route_step(&r, rows, 0, NULL), ERR_LIMIT);
    assert_int_equal(route_step(&r, rows, ROWS + 1, NULL), ERR_LIMIT);
    for (uint32_t i = 0; i < 100; i++) /* two pages more, and one is free */
        rows[i] = (struct step_row){2, 0, i, 5, 0, 0};
    assert_int_equal(route_step(&r, rows, 100, NULL), ERR_BUSY);
    assert_int_equal(shard_length(r.shards[0], 1), 50);
    assert_int_equal(shard_length(r.shards[0], 2), 0);
    float *rest = route_run(&r, 1, 50, tokens + 50, 30, 30);
    assert_memory_equal(rest, whole + (size_t)50 * model_hparams(r.model)->n_vocab, 30 * row_bytes(&r));
    shard_end(r.shards[0], 1);
    assert_int_equal(step_one(&r, (struct step_row){2, 0, 0, 5, 0, 0}), 0);
    assert_int_equal(step_one(&r, (struct step_row){3, 0, 0, 5, 0, 0}), 0);
    assert_int_equal(step_one(&r, (struct step_row){4, 0, 0, 5, 0, 0}), ERR_BUSY); /* two sequences are all */
    mem_free(rest);
    mem_free(whole);
    route_close(&r);
}

static void test_forward_options_are_checked(void **state)
{
    (void)state;
    struct route r;
    route_open(&r, &plain);
    const struct shard_options ok = {.range = {0, 6, true, true}, .kv_tokens = 64, .sequences_max = 1,
                                     .batch_rows_max = 1};
    struct shard_options bad[10];
    for (size_t i = 0; i < COUNTOF(bad); i++)
        bad[i] = ok;
    bad[0].range.last = 7;
    bad[1].range.first = 6;
    bad[2].range.first = 1; /* the embedding is before layer 0 */
    bad[3].range.last = 5;  /* the head is behind the last */
    bad[4].kv_tokens = 0;
    bad[5].sequences_max = 0;
    bad[6].sequences_max = STEP_SEQUENCES_MAX + 1;
    bad[7].batch_rows_max = 0;
    bad[8].batch_rows_max = STEP_ROWS_MAX + 1;
    bad[9].kv_type = (enum kv_type)7;
    for (size_t i = 0; i < COUNTOF(bad); i++) {
        struct shard *s;
        struct error e = {0};
        assert_int_equal(shard_open(&s, r.device, r.model, &bad[i], &e), ERR_INVALID);
        assert_null(s);
        assert_true(e.text[0] != '\0');
    }
    route_close(&r);
}

static void test_forward_kv_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct route r;
    route_open(&r, &plain);
    struct shard_options o = {.range = {0, 6, true, true}, .kv_tokens = UINT32_MAX, .sequences_max = 1,
                              .batch_rows_max = 1};
    struct shard *s;
    struct error e = {0};
    assert_int_equal(shard_open(&s, r.device, r.model, &o, &e), ERR_MEMORY);
    assert_non_null(strstr(e.text, "KV of 4294967295 tokens"));
    route_close(&r);
}

/* ---- loading ---- */

struct watch {
    int calls, cancel_at; /* cancel_at 0: never */
    uint64_t done, total;
};

static int on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct watch *w = arg;
    assert_true(done >= w->done && done <= total);
    w->done = done;
    w->total = total;
    return ++w->calls == w->cancel_at;
}

static void test_forward_loading_can_be_stopped(void **state)
{
    (void)state;
    struct route r;
    struct watch all = {0};
    struct shard *s;
    route_open(&r, &plain);
    struct shard_options o = {.range = {1, 3, false, false}, .kv_tokens = 64, .sequences_max = 1,
                              .batch_rows_max = 1, .progress = on_progress, .progress_arg = &all};
    assert_int_equal(shard_open(&s, r.device, r.model, &o, NULL), 0);
    assert_true(all.calls > 10 && all.done == all.total && all.total == model_range_bytes(r.model, &o.range));
    struct shard_options facts;
    shard_facts(s, &facts);
    assert_true(facts.range.first == 1 && facts.range.last == 3 && facts.kv_tokens == 64 && !facts.progress);
    shard_close(&s);
    for (int at = 1; at < all.calls; at += 5) {
        struct watch w = {.cancel_at = at};
        o.progress_arg = &w;
        assert_int_equal(shard_open(&s, r.device, r.model, &o, NULL), ERR_CANCELLED);
        assert_null(s);
    }
    route_close(&r);
}

static void test_forward_holds_what_was_predicted(void **state)
{
    (void)state;
    struct route r;
    route_open(&r, &(struct route_options){.path = DEMO, .n = 3, .cuts = {2, 4}, .kv_type = KV_F16});
    for (int i = 0; i < r.n; i++) {
        struct shard_options o;
        struct shard_need need;
        struct shard_stats stats;
        shard_facts(r.shards[i], &o);
        shard_need(r.model, &o, &need);
        shard_stats(r.shards[i], &stats);
        assert_int_equal(stats.bytes_weights, need.weights);
        assert_int_equal(stats.bytes_kv, need.kv);
        assert_true(stats.bytes_scratch > 0 && stats.bytes_scratch <= need.scratch);
        assert_int_equal(stats.pages_total, 8);
    }
    route_close(&r);
}

static void copy_range(FILE *from, FILE *to, uint64_t offset, uint64_t n)
{
    char *bytes = mem_alloc(n);
    assert_int_equal(fseek(from, (long)offset, SEEK_SET), 0);
    assert_int_equal(fseek(to, (long)offset, SEEK_SET), 0);
    assert_int_equal(fread(bytes, 1, n, from), n);
    assert_int_equal(fwrite(bytes, 1, n, to), n);
    mem_free(bytes);
}

/* As a node's cache has it: the header and the range's tensors, elsewhere nothing. */
static void write_part(const struct model *m, const struct layer_range *range, const char *path)
{
    FILE *from = fopen(DEMO, "rb"), *to = fopen(path, "wb");
    assert_non_null(from);
    assert_non_null(to);
    assert_int_equal(ftruncate(fileno(to), (off_t)gguf_file_bytes(model_file(m))), 0);
    copy_range(from, to, 0, gguf_header_bytes(model_file(m)));
    for (size_t i = 0; i < model_tensor_count(m); i++) {
        const struct model_tensor *t = model_tensor_at(m, i);
        if (model_in_range(m, t, range))
            copy_range(from, to, t->info->offset, t->info->bytes);
    }
    assert_int_equal(fclose(to), 0);
    fclose(from);
}

static void test_forward_needs_only_its_own_tensors(void **state)
{
    (void)state;
    char path[] = "/tmp/shoal-test-part-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    struct route r;
    struct step_row row = {.sequence = 1, .token = 5, .flags = ROW_SAMPLE};
    route_open(&r, &(struct route_options){.path = DEMO, .n = 3, .cuts = {2, 4}});
    assert_int_equal(route_step(&r, &row, 1, NULL), 0);
    for (int i = 0; i < r.n; i++) {
        struct shard_options o;
        struct model *m;
        struct shard *s;
        shard_facts(r.shards[i], &o);
        write_part(r.model, &o.range, path);
        assert_int_equal(model_open(&m, path, NULL), 0);
        assert_int_equal(shard_open(&s, r.device, m, &o, NULL), 0);
        assert_int_equal(shard_step(s, &row, 1, i ? shard_rows(r.shards[i - 1]) : NULL, NULL), 0);
        if (o.range.head)
            assert_memory_equal(shard_logits(s, 0), route_logits(&r, 0), row_bytes(&r));
        else
            assert_memory_equal(shard_rows(s), shard_rows(r.shards[i]),
                                model_hparams(m)->n_embd * sizeof(float));
        shard_close(&s);
        model_close(&m);
    }
    unlink(path);
    route_close(&r);
}

/* ---- a device whose memory the host cannot see, and which may run out ---- */

static struct backend far;
static int fail_at, creations;

static void *no_view(struct device *d, struct span s)
{
    (void)d;
    (void)s;
    return NULL;
}

static int create_weight(struct device *d, struct weight **out, const struct weight_desc *w, struct error *e)
{
    *out = NULL;
    return ++creations == fail_at ? error_set(e, ERR_MEMORY, "full")
                                  : backend_at(0)->weight_create(d, out, w, e);
}

static int create_mem(struct device *d, struct devmem **out, size_t bytes, struct error *e)
{
    *out = NULL;
    return ++creations == fail_at ? error_set(e, ERR_MEMORY, "full") : backend_at(0)->mem_create(d, out, bytes, e);
}

static int reserve(struct device *d, const struct reserve_args *a, struct error *e)
{
    return ++creations == fail_at ? error_set(e, ERR_MEMORY, "full") : backend_at(0)->reserve(d, a, e);
}

static void make_far(struct device *d)
{
    far = *d->backend;
    far.host_view = no_view;
    far.weight_create = create_weight;
    far.mem_create = create_mem;
    far.reserve = reserve;
    d->backend = &far;
    fail_at = creations = 0;
}

static void test_forward_device_memory_need_not_be_the_host_s(void **state)
{
    (void)state;
    struct route near, distant;
    int32_t tokens[TEXT];
    struct shard_options o[2];
    text(tokens, TEXT, 9);
    struct route_options options = plain;
    options.n = 2;
    options.cuts[0] = 3;
    route_open(&near, &plain);
    route_open(&distant, &options);
    float *expect = route_run(&near, 1, 0, tokens, TEXT, 50);
    for (int i = 0; i < 2; i++) {
        shard_facts(distant.shards[i], &o[i]);
        shard_close(&distant.shards[i]);
    }
    make_far(distant.device);
    for (int i = 0; i < 2; i++)
        assert_int_equal(shard_open(&distant.shards[i], distant.device, distant.model, &o[i], NULL), 0);
    float *got = route_run(&distant, 1, 0, tokens, TEXT, 50);
    assert_memory_equal(got, expect, TEXT * row_bytes(&near));
    mem_free(got);
    mem_free(expect);
    route_close(&near);
    route_close(&distant);
}

static void test_forward_device_that_runs_out_is_left_clean(void **state)
{
    (void)state;
    struct route r;
    route_open(&r, &plain);
    make_far(r.device);
    struct shard_options o = {.range = {0, 2, true, false}, .kv_tokens = 64, .sequences_max = 1, .batch_rows_max = 4};
    struct shard *s;
    assert_int_equal(shard_open(&s, r.device, r.model, &o, NULL), 0);
    shard_close(&s);
    int all = creations;
    assert_true(all > 20);
    for (int at = 1; at <= all; at++) {
        creations = 0;
        fail_at = at;
        assert_int_equal(shard_open(&s, r.device, r.model, &o, NULL), ERR_MEMORY);
        assert_null(s);
    }
    route_close(&r);
}

/* ---- the token loop ---- */

static void test_forward_steps_allocate_nothing(void **state)
{
    (void)state;
    struct route r;
    int32_t tokens[TEXT];
    struct step_row rows[TEXT];
    text(tokens, TEXT, 10);
    route_open(&r, &(struct route_options){.path = DEMO, .batch_rows_max = ROWS, .n = 2, .cuts = {3}});
    for (uint32_t i = 0; i < TEXT; i++)
        rows[i] = (struct step_row){1, 0, i, tokens[i], ROW_LOGITS, 0};
    assert_int_equal(route_step(&r, rows, TEXT, NULL), 0);
    unsigned before = atomic_load(&allocations);
    mem_free(mem_alloc(1));
    mem_big_free(mem_try_big(1 << 20), 1 << 20);
    assert_int_equal(atomic_load(&allocations), before + 2); /* they are counted */
    for (uint32_t i = 0; i < 100; i++) {
        struct step_row two[] = {{1, 0, TEXT + i, tokens[i], ROW_SAMPLE, 0}, {2, 0, i, tokens[i], ROW_SAMPLE, 0}};
        if (route_step(&r, two, 2, NULL) != 0 || !route_logits(&r, 0) || !route_logits(&r, 1))
            fail();
        rows[i].sequence = 3;
        if (route_step(&r, rows + i, 1, NULL) != 0)
            fail();
    }
    assert_int_equal(atomic_load(&allocations), before + 2);
    struct shard_stats stats;
    shard_stats(r.shards[1], &stats);
    assert_int_equal(stats.steps, 201);
    assert_int_equal(stats.rows, TEXT + 300);
    assert_int_equal(stats.sequences, 3);
    assert_int_equal(stats.pages_used, 4 + 2 + 2);
    route_close(&r);
}

static void test_forward_times_are_kept_when_asked(void **state)
{
    (void)state;
    struct route r;
    struct shard_times t;
    route_open(&r, &plain);
    assert_int_equal(step_one(&r, (struct step_row){1, 0, 0, 5, ROW_SAMPLE, 0}), 0);
    shard_times(r.shards[0], &t);
    assert_int_equal(t.matmul_ns + t.moe_ns + t.head_ns, 0);
    shard_time(r.shards[0], 1);
    assert_int_equal(step_one(&r, (struct step_row){1, 0, 1, 5, ROW_SAMPLE, 0}), 0);
    shard_times(r.shards[0], &t);
    assert_true(t.embed_ns > 0 && t.norm_ns > 0 && t.matmul_ns > 0 && t.rope_ns > 0 && t.attention_ns > 0 &&
                t.moe_ns > 0 && t.head_ns > 0);
    assert_int_equal(t.ffn_ns, 0); /* the demo model is all experts */
    route_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_chunks_give_the_same_bits),
        cmocka_unit_test(test_forward_shared_steps_give_the_same_bits),
        cmocka_unit_test(test_forward_wanted_rows_do_not_depend_on_the_others),
        cmocka_unit_test(test_forward_logits_come_in_any_order),
        cmocka_unit_test(test_forward_truncates_to_a_lower_position),
        cmocka_unit_test(test_forward_refused_steps_change_nothing),
        cmocka_unit_test(test_forward_options_are_checked),
        cmocka_unit_test(test_forward_kv_that_does_not_fit_is_refused),
        cmocka_unit_test(test_forward_loading_can_be_stopped),
        cmocka_unit_test(test_forward_holds_what_was_predicted),
        cmocka_unit_test(test_forward_needs_only_its_own_tensors),
        cmocka_unit_test(test_forward_device_memory_need_not_be_the_host_s),
        cmocka_unit_test(test_forward_device_that_runs_out_is_left_clean),
        cmocka_unit_test(test_forward_steps_allocate_nothing),
        cmocka_unit_test(test_forward_times_are_kept_when_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
