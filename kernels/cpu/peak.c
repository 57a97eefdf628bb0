/* peak: the arithmetic ceilings of a CPU: multiply-adds of registers alone, as many at once as hide their latency.
 *
 * A set's int8 figure uses the instructions that its kernels use: VPDPBUSD
 * (avx512), VPMADDUBSW + VPMADDWD + VPADDD (avx2), SDOT (neon).  bf16 is VDPBF16PS
 * where the CPU has it.  The scalar set is what a compiler makes of plain loops
 * without leave to reorder.  A multiply-add counts as two operations.        */
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "base/clock.h"
#include "kernels/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/pool.h"

enum { MEASURE_MS = 60, ROUNDS = 1 << 16, CHAINS = 12, LINE = 64 };

/* Runs ROUNDS rounds of CHAINS independent multiply-adds on what `seed` holds, and returns something of the sums. */
typedef float (*peak_fn)(const uint8_t seed[static LINE]);

struct peak {
    const char *isa;
    enum ceiling of;
    peak_fn run;
    uint32_t operations; /* of one chain's round */
    bool (*usable)(void); /* beyond what the set asks; NULL: nothing */
};

/* The compiler knows nothing of x any more. All sums begin as the same and meet the same: those that it knows to be
 * equal it would compute once. */
#if defined(__x86_64__)
#define HIDE(x) __asm__ volatile("" : "+v"(x));
#elif defined(__aarch64__)
#define HIDE(x) __asm__ volatile("" : "+w"(x));
#else
#define HIDE(x) __asm__ volatile("" : "+m"(x));
#endif

/* Twelve accumulators by name, since those of an array may end up in memory. */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)

static float scalar_f32(const uint8_t seed[static LINE])
{
    float x, s[CHAINS] = {0};
    memcpy(&x, seed, sizeof(x));
    for (int k = 0; k < CHAINS; k++) {
        HIDE(s[k])
    }
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < CHAINS; k++)
            s[k] += x * s[k];
    float sum = 0;
    for (int k = 0; k < CHAINS; k++)
        sum += s[k];
    return sum;
}

#if defined(__x86_64__)

#define START(k)                                                                                                       \
    sum##k = zero;                                                                                                     \
    HIDE(sum##k)
#define ADD(k) + sum_of(sum##k)

#define TARGET_512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define TARGET_2 __attribute__((target("avx2,fma")))
#define NAMES sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7, sum8, sum9, sum10, sum11

TARGET_512 static float avx512_f32(const uint8_t seed[static LINE])
{
    const __m512 zero = _mm512_setzero_ps(), x = _mm512_loadu_ps(seed);
    __m512 NAMES;
#define STEP(k) sum##k = _mm512_fmadd_ps(x, x, sum##k);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of _mm512_reduce_add_ps
    return 0 EACH(ADD);
#undef sum_of
}

TARGET_512 static float avx512_int8(const uint8_t seed[static LINE])
{
    const __m512i zero = _mm512_setzero_si512(), x = _mm512_loadu_si512(seed);
    __m512i NAMES;
#define STEP(k) sum##k = _mm512_dpbusd_epi32(sum##k, x, x);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of (float)_mm512_reduce_add_epi32
    return 0 EACH(ADD);
#undef sum_of
}

TARGET_BF16 static float avx512_bf16(const uint8_t seed[static LINE])
{
    const __m512 zero = _mm512_setzero_ps();
    const __m512bh x = (__m512bh)_mm512_loadu_si512(seed);
    __m512 NAMES;
#define STEP(k) sum##k = _mm512_dpbf16_ps(sum##k, x, x);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of _mm512_reduce_add_ps
    return 0 EACH(ADD);
#undef sum_of
}

TARGET_2 static float avx2_f32(const uint8_t seed[static LINE])
{
    const __m256 zero = _mm256_setzero_ps(), x = _mm256_loadu_ps((const float *)(const void *)seed);
    __m256 NAMES;
#define STEP(k) sum##k = _mm256_fmadd_ps(x, x, sum##k);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of _mm256_cvtss_f32
    return 0 EACH(ADD);
#undef sum_of
}

TARGET_2 static float avx2_int8(const uint8_t seed[static LINE])
{
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi16(1);
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)seed);
    __m256i NAMES, y = x;
    /* y is hidden in every step, else one product would do for all of them. */
#define STEP(k)                                                                                                        \
    HIDE(y)                                                                                                            \
    sum##k = _mm256_add_epi32(sum##k, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), one));
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of (float)_mm256_cvtsi256_si32
    return 0 EACH(ADD);
#undef sum_of
}

static bool has_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16");
}

#elif defined(__aarch64__)

#define NAMES sum0, sum1, sum2, sum3, sum4, sum5, sum6, sum7, sum8, sum9, sum10, sum11
#define START(k)                                                                                                       \
    sum##k = zero;                                                                                                     \
    HIDE(sum##k)
#define ADD(k) + sum_of(sum##k)

static float neon_f32(const uint8_t seed[static LINE])
{
    const float32x4_t zero = vdupq_n_f32(0), x = vreinterpretq_f32_u8(vld1q_u8(seed));
    float32x4_t NAMES;
#define STEP(k) sum##k = vfmaq_f32(sum##k, x, x);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of vaddvq_f32
    return 0 EACH(ADD);
#undef sum_of
}

__attribute__((target("arch=armv8.2-a+dotprod"))) static float neon_int8(const uint8_t seed[static LINE])
{
    const int32x4_t zero = vdupq_n_s32(0);
    const int8x16_t x = vreinterpretq_s8_u8(vld1q_u8(seed));
    int32x4_t NAMES;
#define STEP(k) sum##k = vdotq_s32(sum##k, x, x);
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP)
    }
#undef STEP
#define sum_of (float)vaddvq_s32
    return 0 EACH(ADD);
#undef sum_of
}

#endif

static const struct peak peaks[] = {
#if defined(__x86_64__)
    {"avx512", CEILING_INT8, avx512_int8, 128, NULL},
    {"avx512", CEILING_BF16, avx512_bf16, 64, has_bf16},
    {"avx512", CEILING_F32, avx512_f32, 32, NULL},
    {"avx2", CEILING_INT8, avx2_int8, 64, NULL},
    {"avx2", CEILING_F32, avx2_f32, 16, NULL},
#elif defined(__aarch64__)
    {"neon", CEILING_INT8, neon_int8, 32, NULL},
    {"neon", CEILING_F32, neon_f32, 8, NULL},
#endif
    {"scalar", CEILING_F32, scalar_f32, 2, NULL},
};

static const struct peak *find(const char *isa, enum ceiling of)
{
    for (size_t i = 0; i < COUNTOF(peaks); i++)
        if (peaks[i].of == of && strcmp(peaks[i].isa, isa) == 0 && (!peaks[i].usable || peaks[i].usable()))
            return &peaks[i];
    return NULL;
}

struct working {
    peak_fn run;
    uint8_t seed[LINE];
    volatile float sums[POOL_THREADS_MAX]; /* read by nobody, but it must be computed */
};

static void work(void *arg, int part, int parts)
{
    struct working *w = arg;
    (void)parts;
    w->sums[part] = w->run(w->seed);
}

double backend_ceiling(enum ceiling of, const char *isa, int threads)
{
    const struct isa *set = isa_find(isa);
    const struct peak *p = set ? find(set->name, of) : NULL;
    struct pool *pool;
    if (!p || pool_create(&pool, threads, 0, NULL) != 0)
        return 0;
    struct working w = {.run = p->run};
    double best = 0;
    uint64_t until = clock_ms() + MEASURE_MS;
    do {
        uint64_t t = clock_ns();
        pool_run(pool, work, &w);
        double rate = (double)ROUNDS * CHAINS * p->operations * threads / ((double)(clock_ns() - t) / 1e9);
        best = rate > best ? rate : best;
    } while (clock_ms() < until);
    pool_destroy(&pool);
    return best;
}
