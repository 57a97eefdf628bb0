/* kv: a step is planned as a whole, then taken as a whole.
 *
 * Rows of one sequence form a run.  Planning looks at every run, counts the
 * pages that the step gives back and takes, and changes nothing; taking cannot
 * fail.  Invariant: a page is in the free list or in one sequence's list, and a
 * sequence of length n holds exactly the pages of n positions.              */
#include "shard/run/kv.h"

#include <assert.h>
#include <string.h>

#include "base/memory.h"

enum { NOWHERE = UINT32_MAX };

struct sequence {
    uint64_t id;
    uint32_t epoch;
    uint32_t adapter;
    uint32_t length; /* positions held; 0: the place is free */
    uint32_t n_pages;
    uint32_t held[2]; /* positions that its states know; 0: none */
};

struct run {
    uint32_t first, n;  /* rows */
    uint32_t place;     /* of the sequence, NOWHERE for a new one */
};

struct kv {
    struct kv_limits limits;
    struct sequence *sequences; /* [limits.sequences] */
    struct run *runs;           /* [limits.sequences] */
    struct delta_run *taken;       /* [limits.sequences]: of the last step */
    uint32_t n_taken;
    uint32_t *pages;            /* [limits.sequences][pages_each] */
    uint32_t pages_each;
    uint32_t *free;             /* a stack of free pages */
    uint32_t n_free, n_used;    /* pages; sequences */
    size_t pages_bytes, free_bytes;
};

static uint32_t pages_of(uint32_t positions)
{
    return positions / KV_PAGE_TOKENS + (positions % KV_PAGE_TOKENS != 0);
}

int kv_create(struct kv **out, const struct kv_limits *l, struct error *e)
{
    assert(l->pages > 0 && l->sequences > 0 && l->sequences <= STEP_SEQUENCES_MAX);
    struct kv *kv = mem_alloc(sizeof(*kv));
    *out = NULL;
    kv->limits = *l;
    kv->pages_each = pages_of(l->context) < l->pages ? pages_of(l->context) : l->pages;
    kv->free_bytes = (size_t)l->pages * sizeof(uint32_t);
    kv->pages_bytes = (size_t)kv->pages_each * l->sequences * sizeof(uint32_t);
    kv->sequences = mem_array(l->sequences, sizeof(*kv->sequences));
    kv->runs = mem_array(l->sequences, sizeof(*kv->runs));
    kv->taken = mem_array(l->sequences, sizeof(*kv->taken));
    kv->free = mem_try_big(kv->free_bytes);
    kv->pages = mem_try_big(kv->pages_bytes);
    if (!kv->free || !kv->pages) {
        kv_destroy(&kv);
        return error_set(e, ERR_MEMORY, "no memory for the page lists of %u KV pages", l->pages);
    }
    kv_clear(kv);
    *out = kv;
    return 0;
}

void kv_destroy(struct kv **kv_p)
{
    struct kv *kv = *kv_p;
    if (!kv)
        return;
    mem_big_free(kv->pages, kv->pages_bytes);
    mem_big_free(kv->free, kv->free_bytes);
    mem_free(kv->taken);
    mem_free(kv->runs);
    mem_free(kv->sequences);
    mem_free(kv);
    *kv_p = NULL;
}

static uint32_t find(const struct kv *kv, uint64_t id)
{
    for (uint32_t i = 0; i < kv->limits.sequences; i++)
        if (kv->sequences[i].length > 0 && kv->sequences[i].id == id)
            return i;
    return NOWHERE;
}

/* ---- planning ---- */

/* Rows from `first` on that belong to one sequence. */
static int cut_run(const struct step_row *rows, uint32_t n, uint32_t first, struct run *run, struct error *e)
{
    uint32_t i = first + 1;
    while (i < n && rows[i].sequence == rows[first].sequence) {
        if (rows[i].epoch != rows[first].epoch || rows[i].position == 0 || rows[i].position - 1 != rows[i - 1].position)
            return error_set(e, ERR_INVALID, "the rows of sequence %llu do not ascend by one",
                             (unsigned long long)rows[first].sequence);
        if (rows[i].adapter != rows[first].adapter)
            return error_set(e, ERR_INVALID, "the rows of sequence %llu have several adapters",
                             (unsigned long long)rows[first].sequence);
        i++;
    }
    *run = (struct run){.first = first, .n = i - first};
    return 0;
}

/* May the run's sequence go on at this row? A higher epoch begins the sequence anew, at 0 only. */
static int check_start(const struct kv *kv, const struct run *run, const struct step_row *row, struct error *e)
{
    unsigned long long id = (unsigned long long)row->sequence;
    if ((uint64_t)row->position + run->n > kv->limits.context)
        return error_set(e, ERR_LIMIT, "sequence %llu: position %llu is past the context of %u tokens", id,
                         (unsigned long long)row->position + run->n - 1, kv->limits.context);
    if (run->place == NOWHERE)
        return row->position == 0 ? 0 : error_set(e, ERR_CONFLICT, "sequence %llu is not known here and does not "
                                                  "begin at 0 but at position %u", id, row->position);
    const struct sequence *s = &kv->sequences[run->place];
    if (row->epoch != s->epoch && !(row->epoch > s->epoch && row->position == 0))
        return error_set(e, ERR_CONFLICT, "sequence %llu is of epoch %u here, and the step of epoch %u", id, s->epoch,
                         row->epoch);
    if (row->adapter != s->adapter && row->position != 0)
        return error_set(e, ERR_CONFLICT, "sequence %llu has adapter %u here, and the step has %u", id, s->adapter,
                         row->adapter);
    if (row->position > s->length)
        return error_set(e, ERR_CONFLICT, "sequence %llu: position %u comes next here, and the step has %u", id,
                         s->length, row->position);
    if (kv->limits.states && row->position != 0 && row->position != s->held[0] && row->position != s->held[1])
        return error_set(e, ERR_CONFLICT, "sequence %llu: its state cannot go back to position %u, only to 0 or to "
                                          "where its last step began; send it again from 0", id, row->position);
    return 0;
}

static int check_repeat(const struct kv *kv, uint32_t n_runs, const struct step_row *rows, uint64_t id,
                        struct error *e)
{
    for (uint32_t i = 0; i < n_runs; i++)
        if (rows[kv->runs[i].first].sequence == id)
            return error_set(e, ERR_INVALID, "the rows of sequence %llu are not together", (unsigned long long)id);
    return 0;
}

static int plan(struct kv *kv, const struct step_row *rows, uint32_t n, uint32_t *n_runs, struct error *e)
{
    uint32_t used = kv->n_used;
    uint64_t held = 0, wanted = 0; /* pages of the step's sequences, before and after */
    *n_runs = 0;
    for (uint32_t first = 0; first < n;) {
        if (*n_runs == kv->limits.sequences)
            return error_set(e, ERR_BUSY, "a step of more sequences than the %u that are held here", *n_runs);
        struct run *run = &kv->runs[*n_runs];
        int r = check_repeat(kv, *n_runs, rows, rows[first].sequence, e);
        if (r == 0)
            r = cut_run(rows, n, first, run, e);
        if (r != 0)
            return r;
        run->place = find(kv, rows[first].sequence);
        r = check_start(kv, run, &rows[first], e);
        if (r != 0)
            return r;
        if (run->place == NOWHERE && used++ == kv->limits.sequences)
            return error_set(e, ERR_BUSY, "%u sequences are held here already, which is as many as can be",
                             kv->limits.sequences);
        held += run->place == NOWHERE ? 0 : kv->sequences[run->place].n_pages;
        wanted += pages_of(rows[first].position + run->n);
        first += run->n;
        ++*n_runs;
    }
    if (wanted > held + kv->n_free)
        return error_set(e, ERR_BUSY, "the KV cache is full: %llu more pages are wanted and %u of %u are free",
                         (unsigned long long)(wanted - held), kv->n_free, kv->limits.pages);
    return 0;
}

/* ---- taking ---- */

static uint32_t add_sequence(struct kv *kv, const struct step_row *row)
{
    uint32_t place = 0;
    while (kv->sequences[place].length > 0)
        place++;
    assert(place < kv->limits.sequences);
    kv->sequences[place] = (struct sequence){.id = row->sequence};
    kv->n_used++;
    return place;
}

static void give_back(struct kv *kv, uint32_t place, uint32_t keep)
{
    struct sequence *s = &kv->sequences[place];
    const uint32_t *pages = kv->pages + (size_t)place * kv->pages_each;
    while (s->n_pages > keep)
        kv->free[kv->n_free++] = pages[--s->n_pages];
}

/* What is too long is cut first, so that its pages serve the others. */
static void cut_all(struct kv *kv, const struct step_row *rows, uint32_t n_runs)
{
    for (uint32_t i = 0; i < n_runs; i++) {
        struct run *run = &kv->runs[i];
        if (run->place != NOWHERE)
            give_back(kv, run->place, pages_of(rows[run->first].position + run->n));
    }
}

/* Which of the sequence's two states is read and which is left behind; position 0 reads none. */
static void take_state(struct kv *kv, const struct run *run, struct sequence *s, uint32_t position)
{
    uint32_t base = 2 * run->place, from = position > 0 && s->held[1] == position ? 1 : 0, to = 1 - from;
    kv->taken[kv->n_taken++] = (struct delta_run){.first = run->first, .n = run->n, .to = base + to,
                                               .from = position > 0 ? base + from : DELTA_NOTHING};
    s->held[from] = position;
    s->held[to] = position + run->n;
}

static void lengthen(struct kv *kv, struct run *run, const struct step_row *rows, struct attention_row *out)
{
    const struct step_row *row = &rows[run->first];
    if (run->place == NOWHERE)
        run->place = add_sequence(kv, row);
    struct sequence *s = &kv->sequences[run->place];
    if (kv->limits.states)
        take_state(kv, run, s, row->position);
    uint32_t *pages = kv->pages + (size_t)run->place * kv->pages_each;
    s->epoch = row->epoch;
    s->adapter = row->adapter;
    s->length = row->position + run->n;
    while (s->n_pages < pages_of(s->length)) {
        assert(kv->n_free > 0 && s->n_pages < kv->pages_each);
        pages[s->n_pages++] = kv->free[--kv->n_free];
    }
    for (uint32_t i = 0; i < run->n; i++)
        out[run->first + i] = (struct attention_row){.pages = pages, .position = row->position + i};
}

int kv_take(struct kv *kv, const struct step_row *rows, uint32_t n, struct attention_row *out, struct error *e)
{
    uint32_t n_runs;
    int r = plan(kv, rows, n, &n_runs, e);
    if (r != 0)
        return r;
    cut_all(kv, rows, n_runs);
    kv->n_taken = 0;
    for (uint32_t i = 0; i < n_runs; i++)
        lengthen(kv, &kv->runs[i], rows, out);
    return 0;
}

uint32_t kv_runs(const struct kv *kv, const struct delta_run **out)
{
    *out = kv->taken;
    return kv->n_taken;
}

void kv_end(struct kv *kv, uint64_t sequence)
{
    uint32_t place = find(kv, sequence);
    if (place == NOWHERE)
        return;
    give_back(kv, place, 0);
    kv->sequences[place].length = 0;
    kv->n_used--;
}

void kv_clear(struct kv *kv)
{
    memset(kv->sequences, 0, kv->limits.sequences * sizeof(*kv->sequences));
    kv->n_used = 0;
    kv->n_free = kv->limits.pages;
    for (uint32_t i = 0; i < kv->n_free; i++) /* page 0 is taken first */
        kv->free[i] = kv->n_free - 1 - i;
}

uint32_t kv_length(const struct kv *kv, uint64_t sequence)
{
    uint32_t place = find(kv, sequence);
    return place == NOWHERE ? 0 : kv->sequences[place].length;
}

uint32_t kv_sequences(const struct kv *kv)
{
    return kv->n_used;
}

uint32_t kv_pages_used(const struct kv *kv)
{
    return kv->limits.pages - kv->n_free;
}
