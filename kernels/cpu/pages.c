/* pages: positions of a KV head side by side: where they lie, how they are stored, and how queries meet them, with
 * what an instruction set has for it. */
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/qtype.h"

uint8_t *cpu_kv_at(const struct kv_layer *kv, struct span s, uint32_t dim, const uint32_t *pages, uint32_t p,
                   uint32_t h)
{
    size_t row = (size_t)pages[p / KV_PAGE_TOKENS] * kv->n_kv_heads * KV_PAGE_TOKENS +
                 (size_t)h * KV_PAGE_TOKENS + p % KV_PAGE_TOKENS;
    return s.mem->bytes + s.offset + row * kv_row_bytes(kv->type, dim);
}

void cpu_kv_store(const struct isa *isa, enum kv_type t, void *to, const float *from, size_t n)
{
    if (t == KV_F16)
        isa->store_f16(to, from, n);
    else
        memcpy(to, from, n * sizeof(float));
}

bool cpu_page_may_widen(const struct isa *isa, enum kv_type t)
{
    return isa->page_widen && t != KV_F32;
}

void cpu_page_widen(const struct isa *isa, struct page_job *job, float *room)
{
    isa->page_widen(job, room);
    job->type = KV_F32;
    job->kv = room;
}

void cpu_page_scores(const struct isa *isa, const struct page_job *job)
{
    if (isa->page_scores) {
        isa->page_scores(job);
        return;
    }
    for (size_t i = 0; i < job->n_q; i++) {
        const float *q = job->q + i * job->dim;
        for (size_t p = 0; p < job->n; p++)
            job->scores[i * KV_PAGE_TOKENS + p] =
                job->type == KV_F16 ? isa->dot_f16(q, (const uint16_t *)job->kv + p * job->dim, job->dim)
                                    : isa->dot_f32(q, (const float *)job->kv + p * job->dim, job->dim);
    }
}

void cpu_page_mix(const struct isa *isa, const struct page_job *job)
{
    if (isa->page_mix) {
        isa->page_mix(job);
        return;
    }
    for (size_t i = 0; i < job->n_q; i++) {
        float *out = job->out + i * job->out_stride;
        for (size_t p = 0; p < job->n; p++) {
            float score = job->scores[i * KV_PAGE_TOKENS + p];
            if (job->type == KV_F16)
                isa->axpy_f16(out, score, (const uint16_t *)job->kv + p * job->dim, job->dim);
            else
                isa->axpy_f32(out, score, (const float *)job->kv + p * job->dim, job->dim);
        }
    }
}
